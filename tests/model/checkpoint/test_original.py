"""The authors' own files: what a writer of their format puts in comes out, and nothing in them is ever executed."""

from __future__ import annotations

import os
import pickle
import random
import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
import transformers
from original import TRAINING, original_names, write_original
from reference import assert_agree, one_thread  # noqa: F401
from torch import Tensor

from xclip_cli.errors import ModelError
from xclip_cli.model import XCLIPConfig, XCLIPModel
from xclip_cli.model.checkpoint.find import Checkpoint
from xclip_cli.model.checkpoint.original import (
    RENAMED,
    OriginalWeights,
    _Origin,
    infer_config,
    training_config,
)
from xclip_cli.model.formats import OriginalFile

# Widths are 64 times the heads; they, the inner widths, layers and frames are what no default is, and differ.
SOURCE = reference.config(
    text={"hidden_size": 128, "num_attention_heads": 2, "intermediate_size": 72, "max_position_embeddings": 21},
    vision={"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 3, "num_frames": 5}
    | {"mit_num_hidden_layers": 2, "mit_num_attention_heads": 3, "patch_size": 8},
    projection_dim=192,
    prompt_num_attention_heads=3,
    prompt_layers=1,
)


def rewrite(path: Path, change: Callable[[str, bytes], bytes | None], compression: int = zipfile.ZIP_STORED) -> Path:
    """The archive with its members changed (None: left out), by a program that does not align them as torch does."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            if (changed := change(name.split("/", 1)[1], data)) is not None:
                archive.writestr(name, changed)
    return path


@pytest.fixture(scope="module")
def source() -> Any:
    """A model of transformers with every weight random."""
    return reference.model(SOURCE)


@pytest.fixture
def weights(source: Any) -> OrderedDict[str, Tensor]:
    """Its weights, as the authors have them."""
    return original_names(source.state_dict())


@pytest.fixture(scope="module")
def written(source: Any, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Its checkpoint, as the authors save it."""
    path = tmp_path_factory.mktemp("original") / "k400_8_5.pth"
    return write_original(path, original_names(source.state_dict())).read_bytes()


@pytest.fixture
def pth(written: bytes, tmp_path: Path) -> Path:
    """A copy of it, to be changed at will."""
    path = tmp_path / "k400_8_5.pth"
    path.write_bytes(written)
    return path


def read_original(path: Path, heads: int | None = None) -> tuple[XCLIPConfig, dict[str, Tensor]]:
    """The config that a file tells, and the weights of a model of it."""
    weights = OriginalWeights(path)
    config = weights.config(heads)
    with torch.device("meta"):
        wanted = XCLIPModel(config).state_dict()
    return config, weights.tensors({name: tuple(tensor.shape) for name, tensor in wanted.items()})


def load(path: Path, heads: int | None = None) -> XCLIPModel:
    config, state = read_original(path, heads)
    with torch.device("meta"):
        model = XCLIPModel(config)
    model.load_state_dict(state, assign=True, strict=True)
    return model.eval()


@torch.inference_mode()
def logits(model: Any) -> Tensor:
    ids, _ = reference.token_ids(SOURCE, (6, 4, 9))
    result: Tensor = model(input_ids=ids, pixel_values=reference.clips(SOURCE, 2)).logits_per_video
    return result


def refused(path: Path, heads: int | None = None) -> str:
    """The one line that says why a file does not load."""
    with pytest.raises(ModelError) as raised:
        read_original(path, heads)
    message = str(raised.value)
    assert str(path) in message
    assert message.isprintable()
    return message.replace(str(path), "FILE")


# --- round trip ---------------------------------------------------------------------------------------------------


def test_the_file_has_the_shape_of_the_authors_and_torch_alone_refuses_it(pth: Path) -> None:
    assert "yacs" not in sys.modules
    with pytest.raises(pickle.UnpicklingError, match=r"yacs\.config\.CfgNode|partial|numpy"):
        torch.load(pth, weights_only=True)


def test_same_weights_and_logits_as_the_source(pth: Path, source: Any) -> None:
    _, state = read_original(pth)
    expected = source.state_dict()
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name])] == []
    assert_agree(logits(load(pth)), logits(source), "logits")


def test_every_size_is_read_off_the_shapes(pth: Path) -> None:
    config, _ = read_original(pth)
    assert_same_sizes(config, SOURCE)


@pytest.mark.parametrize(
    "kind", ["bare state dict", "legacy", "legacy bare", "parameters", "half", "rewritten", "cuda"]
)
def test_kinds_of_files(kind: str, pth: Path, weights: OrderedDict[str, Tensor], source: Any) -> None:
    dtype = torch.float16 if kind == "half" else torch.float32
    if kind == "bare state dict":
        torch.save(weights, pth)
    elif kind == "legacy":
        write_original(pth, weights, _use_new_zipfile_serialization=False)
        assert not zipfile.is_zipfile(pth)
    elif kind == "legacy bare":
        torch.save(weights, pth, _use_new_zipfile_serialization=False)
    elif kind == "parameters":
        torch.save({"model": {name: torch.nn.Parameter(value) for name, value in weights.items()}}, pth)
    elif kind == "half":
        write_original(pth, OrderedDict((name, value.half()) for name, value in weights.items()))
    elif kind == "rewritten":
        rewrite(pth, lambda _, data: data)
    elif kind == "cuda":
        location = b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:0"
        rewrite(pth, lambda name, data: data.replace(*location) if name == "data.pkl" else data)
    _, state = read_original(pth)
    expected = source.state_dict()
    assert state.keys() == expected.keys()
    assert [name for name in state if not torch.equal(state[name], expected[name].to(dtype))] == []


def test_views_of_one_storage(weights: OrderedDict[str, Tensor], tmp_path: Path, source: Any) -> None:
    """An offset, and strides that are not those of a whole tensor."""
    whole = torch.cat([torch.zeros(7), weights["ln_final.weight"]])
    weights["ln_final.weight"] = whole[7:]
    weights["visual.proj"] = weights["visual.proj"].T.contiguous().T
    torch.save({"model": weights}, tmp_path / "views.pth")
    assert_agree(logits(load(tmp_path / "views.pth")), logits(source), "logits")


def test_thirds_are_those_of_torchs_own_attention(weights: OrderedDict[str, Tensor], pth: Path) -> None:
    theirs = torch.nn.MultiheadAttention(128, 2, batch_first=True)
    prefix = "transformer.resblocks.1.attn."
    theirs.load_state_dict({n.removeprefix(prefix): weights[n] for n in weights if n.startswith(prefix)})
    x = torch.randn(2, 5, 128, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        ours, _ = load(pth).text_model.encoder.layers[1].self_attn(x)
        assert_agree(ours, theirs(x, x, x, need_weights=False)[0], "attention")


def test_what_is_written_to_the_weights_never_reaches_the_file(pth: Path) -> None:
    before = pth.read_bytes()
    model = load(pth)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    del model
    assert pth.read_bytes() == before


def test_it_saves_as_a_checkpoint_folder(pth: Path, tmp_path: Path, source: Any) -> None:
    load(pth).save_pretrained(tmp_path / "folder")
    theirs = transformers.XCLIPModel.from_pretrained(tmp_path / "folder").eval()
    assert_agree(logits(XCLIPModel.from_pretrained(tmp_path / "folder")), logits(source), "logits")
    assert_agree(logits(theirs), logits(source), "theirs")


def test_no_name_is_renamed_twice_alike(source: Any) -> None:
    origins = [_Origin.of(name) for name in source.state_dict()]
    assert len({(origin.name, origin.third) for origin in origins}) == len(origins)
    for ours, _ in RENAMED:
        assert any(ours in name for name in source.state_dict()), f"{ours} is in no name"


# --- sizes, heads, settings ---------------------------------------------------------------------------------------


def assert_same_sizes(ours: XCLIPConfig, theirs: Any) -> None:
    """Of what shapes and heads determine; ``theirs`` is a config of transformers."""
    initial = {"prompt_alpha", "logit_scale_init_value"}
    for part, expected in (
        (ours, theirs),
        (ours.text_config, theirs.text_config),
        (ours.vision_config, theirs.vision_config),
    ):
        values = {name: value for name, value in vars(part).items() if isinstance(value, int | float | str)}
        assert {n: v for n, v in values.items() if v != getattr(expected, n, v) and n not in initial} == {}


LARGE = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
LARGE |= {"mit_intermediate_size": 3072, "mit_num_attention_heads": 12, "patch_size": 14}
LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
RELEASED = {
    f"base-patch{patch}, {frames} frames": transformers.XCLIPConfig(
        vision_config={"patch_size": patch, "num_frames": frames}
    )
    for patch, frames in ((32, 8), (32, 16), (16, 8), (16, 16), (16, 32))
} | {
    f"large-patch14, {size} pixels": transformers.XCLIPConfig(
        text_config=LARGE_TEXT,
        vision_config=LARGE | {"image_size": size, "num_frames": frames, "mit_hidden_size": 768},
        projection_dim=768,
        prompt_num_attention_heads=12,
    )
    for size, frames in ((224, 8), (336, 16))
}


@pytest.mark.parametrize("name", RELEASED)
def test_the_released_sizes(name: str) -> None:
    expected = RELEASED[name]
    with torch.device("meta"):
        state = XCLIPModel(XCLIPConfig.from_dict(expected.to_dict())).state_dict()
    assert len(state) == (927 if "large" in name else 591)
    shapes = {key: tuple(value.shape) for key, value in original_names(state).items()}
    assert_same_sizes(infer_config(shapes), expected)


def test_heads_can_be_those_of_the_hubs_conversion(pth: Path) -> None:
    """Of the MIT and the prompt generator; the encoders' stay."""
    config, _ = read_original(pth, heads=2)
    assert (config.vision_config.mit_num_attention_heads, config.prompt_num_attention_heads) == (2, 2)
    assert (config.vision_config.num_attention_heads, config.text_config.num_attention_heads) == (1, 2)
    values = SOURCE.to_dict() | {"prompt_num_attention_heads": 2}
    values["vision_config"]["mit_num_attention_heads"] = 2
    other = reference.model(transformers.XCLIPConfig.from_dict(values))
    assert_agree(logits(load(pth, heads=2)), logits(other), "logits")
    assert (logits(load(pth)) - logits(other)).abs().max() > 1e-3


def test_heads_that_do_not_divide_the_width(pth: Path) -> None:
    assert "192 does not divide into mit_num_attention_heads 5" in refused(pth, heads=5)
    assert "mit_num_attention_heads is 0" in refused(pth, heads=0)


def test_training_config_is_plain(pth: Path, weights: OrderedDict[str, Tensor]) -> None:
    assert training_config(pth) == TRAINING
    torch.save(weights, pth)
    assert training_config(pth) == {}


def test_training_config_ends(pth: Path) -> None:
    """A dict inside itself, one that is in two places, one of very many levels."""
    shared = {"ARCH": "ViT-B/32", "OTHER": {1, 2}, 5: "five", "MIXED": [1, {"a": 2}, "b"]}
    endless: dict[str, Any] = {"A": shared, "B": shared}
    endless["ITSELF"] = endless
    torch.save({"model": {}, "config": endless}, pth)
    assert training_config(pth) == {"A": {"ARCH": "ViT-B/32", "MIXED": [1, "b"]}}
    levels = 100_000
    deep = b"\x80\x02}" + text("config") + (b"}" + text("k")) * levels + b"N" + b"s" * levels + b"s."
    rewrite(pth, lambda name, data: deep if name == "data.pkl" else data)
    with pytest.raises(ModelError, match="nested too deep"):
        training_config(pth)


def test_image_processor_of_the_released_checkpoints(pth: Path) -> None:
    processor = OriginalFile(Checkpoint(str(pth), pth)).image_processor(read_original(pth)[0])
    assert (processor.size, processor.crop_size, processor.resample) == (
        {"shortest_edge": 32},
        {"height": 32, "width": 32},
        2,
    )
    assert (processor.image_mean, processor.image_std) == (reference.IMAGENET_MEAN, reference.IMAGENET_STD)
    frame = torch.randint(0, 256, (40, 70, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    theirs = reference.image_processor(32)([[frame.numpy()]], return_tensors="pt")["pixel_values"]
    assert_agree(processor([[frame]], "pt").pixel_values, theirs, "pixels", tolerance=0.01)


# --- hostile files ------------------------------------------------------------------------------------------------


def text(value: str) -> bytes:
    """The opcode of a string."""
    return b"X" + len(value.encode()).to_bytes(4, "little") + value.encode()


def named(module: str, name: str) -> bytes:
    """The opcodes of a class or function; ordinary unpicklers follow dots in ``name``."""
    return text(module) + text(name) + b"\x93"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def item(container: bytes, key: str) -> bytes:
    return call(named("operator", "getitem"), container, text(key))


def program(opcodes: bytes) -> bytes:
    return b"\x80\x04" + opcodes + b"."


class Runs:
    """An object whose pickle runs a command."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def torch_file_inside(command: str, path: Path) -> bytes:
    torch.save(Runs(command), path)
    without_check = named("functools", "partial") + named("torch", "load") + b"\x85}" + text("weights_only") + b"\x89s"
    return call(without_check + b"\x92", text(str(path)))


SYSTEM = named("os", "system")
BUILTINS = item(named("torch._utils", "_rebuild_tensor_v2.__globals__"), "__builtins__")

# What makes an ordinary unpickler run a command. ``c`` is the command as opcodes, ``s`` as a string.
ATTACKS: dict[str, Callable[[bytes, str, Path], bytes]] = {
    "reduce": lambda c, s, _: call(SYSTEM, c),
    "posix": lambda c, s, _: call(named("posix", "system"), c),
    "protocol 0": lambda c, s, _: f"cos\nsystem\n(S{s!r}\ntR".encode(),
    "instance": lambda c, s, _: f"(S{s!r}\nios\nsystem\n".encode(),
    "object": lambda c, s, _: b"(" + SYSTEM + c + b"o",
    "eval": lambda c, s, _: call(named("builtins", "eval"), text(f"__import__('os').system({s!r})")),
    "exec": lambda c, s, _: call(named("builtins", "exec"), text(f"import os; os.system({s!r})")),
    "Popen": lambda c, s, _: call(named("subprocess", "check_call"), b"](" + b"".join(map(text, s.split())) + b"e"),
    "getattr": lambda c, s, _: call(
        call(named("builtins", "getattr"), call(named("importlib", "import_module"), text("os")), text("system")), c
    ),
    "partial": lambda c, s, _: call(call(named("functools", "partial"), SYSTEM, c)),
    "map": lambda c, s, _: call(named("builtins", "list"), call(named("builtins", "map"), SYSTEM, b"]" + c + b"a")),
    "dotted name": lambda c, s, _: call(named("torch", "serialization.os.system"), c),
    "dotted globals": lambda c, s, _: call(item(BUILTINS, "eval"), text(f"__import__('os').system({s!r})")),
    "pickle in it": lambda c, s, _: call(
        named("pickle", "loads"), b"B" + len(p := program(call(SYSTEM, c))).to_bytes(4, "little") + p
    ),
    "torch file in it": lambda c, s, folder: torch_file_inside(s, folder / "inner.pth"),
    "in state": lambda c, s, _: call(named("builtins", "Exception")) + b"}" + text("x") + call(SYSTEM, c) + b"sb",
    "in a key": lambda c, s, _: b"}" + call(SYSTEM, c) + b"Ns",
    "in an append": lambda c, s, _: call(named("collections", "deque")) + call(SYSTEM, c) + b"a",
    "in a persistent id": lambda c, s, _: b"(" + text("storage") + call(SYSTEM, c) + text("0cpu") * 2 + b"K\x01tQ",
}

# Where it is put: beside the weights, which load; as a tensor's hooks, ignored; instead of a tensor; instead of all.
PLACES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "beside": lambda state, attack: b"}(" + text("model") + state + text("config") + attack + b"u",
    "hooks": lambda state, attack: (
        b"}"
        + text("model")
        + state
        + text("logit_scale")
        + call(
            named("torch._utils", "_rebuild_tensor_v2"),
            b"(" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x01tQ",
            b"K\x00))\x89",
            attack,
        )
        + b"ss"
    ),
    "tensor": lambda state, attack: b"}" + text("model") + state + text("logit_scale") + attack + b"ss",
    "all": lambda state, attack: attack,
}


def plant(pth: Path, weights: dict[str, Tensor], opcodes: Callable[[bytes], bytes]) -> Path:
    """A file of ``weights`` whose pickle is what ``opcodes`` makes of theirs."""
    torch.save(weights, pth)
    return rewrite(pth, lambda name, data: program(opcodes(data[2:-1])) if name == "data.pkl" else data)


@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_executed(name: str, pth: Path, weights: OrderedDict[str, Tensor], tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    command = f"touch {marker}"
    attack = ATTACKS[name](text(command), command, tmp_path)
    with suppress(Exception):
        pickle.loads(program(attack))
    assert marker.exists(), "this attack would not harm an ordinary unpickler: it tests nothing"
    marker.unlink()
    for place, opcodes in PLACES.items():
        plant(pth, weights, partial(opcodes, attack=attack))
        if place in ("beside", "hooks") and name != "in a persistent id":
            assert read_original(pth)[1]["logit_scale"].shape == ()
            assert training_config(pth) == {}
        else:
            refused(pth)
            with suppress(ModelError):
                training_config(pth)
        assert not marker.exists(), place


def test_nothing_is_imported(pth: Path, weights: OrderedDict[str, Tensor], tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    plant(pth, weights, partial(PLACES["beside"], attack=call(named("evil_module", "thing"))))
    read_original(pth)
    assert "evil_module" not in sys.modules


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("torch._utils", "_rebuild_tensor_v2"),
        ("torch", "FloatStorage"),
        ("collections", "OrderedDict"),
        ("xclip_cli.model.checkpoint.pickles", "Inert"),
        ("xclip_cli.model.checkpoint.original", "training_config"),
    ],
)
def test_nothing_is_changed(module: str, name: str, pth: Path, weights: OrderedDict[str, Tensor]) -> None:
    """State given to a class or function: ordinary unpicklers set it as attributes."""
    state = b"N}" + text("poisoned") + b"I1\ns\x86"
    for called in (b"", b")R"):
        plant(pth, weights, partial(PLACES["beside"], attack=named(module, name) + called + state + b"b"))
        read_original(pth)
        assert not hasattr(getattr(sys.modules[module], name), "poisoned")
    assert not hasattr(training_config, "poisoned")


def test_state_of_a_storage_is_refused(pth: Path, weights: OrderedDict[str, Tensor]) -> None:
    storage = b"(" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + b"K\x01tQ"
    for state in (b"}" + text("key") + b"]s", b"N}" + text("key") + b"]s\x86"):
        plant(pth, weights, partial(PLACES["beside"], attack=storage + state + b"b"))
        assert "damaged" in refused(pth)


@pytest.mark.parametrize(
    "identity",
    [
        b"(" + text("module") + named("collections", "OrderedDict") + text("setup.py") + text("source") + b"tQ",
        b"(" + text("storage") + b"NNNNtQ",
        b"(" + text("storage") + named("torch", "FloatStorage") + b"]" + text("cpu") + b"K\x01tQ",
        b"NQ",
        b"P0\n",
    ],
)
def test_other_persistent_ids_are_refused(identity: bytes, pth: Path, weights: OrderedDict[str, Tensor]) -> None:
    plant(pth, weights, partial(PLACES["beside"], attack=identity))
    assert "not a tensor's storage" in refused(pth)


def test_a_script_in_an_archive_is_not_run(pth: Path, weights: OrderedDict[str, Tensor]) -> None:
    """What makes ``torch.load`` take a file for TorchScript."""
    torch.save(weights, pth)
    with zipfile.ZipFile(pth, "a") as archive:
        archive.writestr(archive.namelist()[0].split("/")[0] + "/constants.pkl", b"\x80\x02).")
    read_original(pth)


# --- files that are damaged, or something else --------------------------------------------------------------------

NO_CHECKPOINT = {
    "empty": b"",
    "text": b"this is not a checkpoint\n" * 40,
    "zeros": bytes(4096),
    "web page": b"<!DOCTYPE html><html><body>Sign in</body></html>",
    "pickle": pickle.dumps({"model": {}}),
    "zip start": b"PK\x03\x04" + bytes(500),
    "legacy start": pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2) + b"rest",
    "legacy version": b"".join(pickle.dumps(x, protocol=2) for x in (0x1950A86A20F9469CFC6C, 1002, {})),
}


@pytest.mark.parametrize("name", NO_CHECKPOINT)
def test_files_of_other_kinds(name: str, tmp_path: Path) -> None:
    path = tmp_path / "k400.pth"
    path.write_bytes(NO_CHECKPOINT[name])
    assert refused(path).startswith("FILE is not a file that torch saved, or it is damaged: ")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.pth") == "there is no file FILE"
    os.mkfifo(tmp_path / "pipe.pth")
    assert refused(tmp_path / "pipe.pth") == "there is no file FILE"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_files_that_may_not_be_read(pth: Path) -> None:
    pth.chmod(0)
    assert refused(pth) == "cannot read FILE: Permission denied"


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.999])
def test_truncated(share: float, legacy: bool, pth: Path, weights: OrderedDict[str, Tensor]) -> None:
    write_original(pth, weights, _use_new_zipfile_serialization=not legacy)
    pth.write_bytes(pth.read_bytes()[: int(share * pth.stat().st_size)])
    assert "damaged" in refused(pth)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_bytes_are_refused_in_a_line_or_do_not_matter(seed: int, pth: Path) -> None:
    whole, generator = pth.read_bytes(), random.Random(seed)
    start = whole.index(b"\x80\x02}")  # of the pickle
    for _ in range(15):
        damaged = bytearray(whole)
        for _ in range(generator.choice((1, 2, 5))):
            damaged[start + generator.randrange(20_000)] = generator.randrange(256)
        pth.write_bytes(damaged)
        try:
            read_original(pth)
        except ModelError as error:
            assert str(error).isprintable()


def test_a_message_cannot_steer_the_terminal(pth: Path, weights: OrderedDict[str, Tensor]) -> None:
    plant(pth, weights, lambda _: b"F\x1b[2J\n")
    assert r"could not convert string to float: b'\x1b[2J'" in refused(pth)


def test_a_storage_shorter_than_its_tensors(pth: Path) -> None:
    rewrite(pth, lambda name, data: data[:-4] if name == "data/3" else data)
    message = refused(pth)
    assert re.search(r": [\w.]+ of shape \[.+\] needs \d+ bytes, the file holds \d+ of it$", message), message


def test_a_missing_storage(pth: Path) -> None:
    assert "the file holds 0 of it" in refused(rewrite(pth, lambda name, data: None if name == "data/3" else data))


def test_archives_that_torch_did_not_write(pth: Path, weights: OrderedDict[str, Tensor]) -> None:
    refusals = {
        "without the data.pkl": lambda name, data: None if name == "data.pkl" else data,
        "big-endian": lambda name, data: b"big" if name == "byteorder" else data,
        "damaged": lambda name, data: data[: len(data) // 2] if name == "data.pkl" else data,
    }
    for reason, change in refusals.items():
        assert reason in refused(rewrite(write_original(pth, weights), change))
    assert "is compressed" in refused(rewrite(write_original(pth, weights), lambda _, data: data, zipfile.ZIP_DEFLATED))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda w: w.pop("visual.ln_pre.bias"), "missing visual.ln_pre.bias"),
        (lambda w: w.pop("mit.positional_embedding"), "missing mit.positional_embedding; it holds ln_final.bias, "),
        (lambda w: [w.pop(n) for n in list(w) if "in_proj_w" in n], "missing mit.resblocks.0.attn.in_proj_weight, "),
        (
            lambda w: [w.pop(n) for n in list(w) if n.startswith("visual.transformer.resblocks.1.")],
            "missing visual.transformer.resblocks.1.attn.in_proj_bias, ",
        ),
        (lambda w: w.update({"visual.head": torch.ones(2)}), "unexpected visual.head"),
        (lambda w: w.update({"visual.proj": torch.ones(64, 9)}), "visual.proj is [64, 9], expected [64, 192]"),
        (
            lambda w: w.update({"transformer.resblocks.1.attn.in_proj_weight": torch.ones(128, 128)}),
            "transformer.resblocks.1.attn.in_proj_weight is [128, 128], expected [384, 128]",
        ),
        (lambda w: w.update({"visual.positional_embedding": torch.ones(16, 64)}), "16 rows, expected 1 more"),
        (lambda w: w.update({"positional_embedding": torch.ones(5)}), "is [5], expected 2 dimensions"),
        (lambda w: w.update({"mit.positional_embedding": torch.ones(1, 8, 48)}), "with width // 64 heads"),
        (lambda w: w.update({"logit_scale": 4.6}), "logit_scale is of type float, expected a tensor"),
        (lambda w: w.update({"logit_scale": np.float32(4.6)}), "numpy"),
        (lambda w: w.update({"logit_scale": torch.tensor(4)}), "expected floating-point numbers"),
        (lambda w: w.update({"logit_scale": torch.ones(0)}), "logit_scale is of shape [0]"),
        (lambda w: w.update({"logit_scale": torch.ones(3).to_sparse()}), "expected a plain tensor"),
        (lambda w: w.update({"a\nb": torch.ones(1)}), "a tensor is called 'a\\nb', expected a name"),
        (lambda w: w.update({7: torch.ones(1)}), "a tensor is called 7, expected a name"),
        (
            lambda w: w.update({"token_embedding.weight": torch.ones(1).expand(10**9, 128)}),
            "token_embedding.weight of shape [1000000000, 128] needs 512000000000 bytes, the file holds 4 of it",
        ),
    ],
)  # fmt: skip
def test_weights_that_make_no_model(
    change: Callable[[Any], Any], reason: str, pth: Path, weights: OrderedDict[str, Tensor]
) -> None:
    change(weights)
    torch.save({"model": weights}, pth)
    message = refused(pth)
    assert message.startswith("FILE is not an X-CLIP of the authors' code: ")
    assert reason in message


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"state_dict": {}, "epoch": 3}, "found 'state_dict', 'epoch'"),
        ({}, "found no dict"),
        ([1, 2], "found no dict"),
        ({"model": None}, "it holds no tensors"),
        ({"model": torch.nn.Linear(2, 2)}, "it holds no tensors"),
        ({"model": torch.nn.Linear(2, 2).state_dict()}, "it holds bias, weight"),
    ],
)
def test_files_without_weights(value: Any, found: str, tmp_path: Path) -> None:
    torch.save(value, tmp_path / "k400.pth")
    assert found in refused(tmp_path / "k400.pth")


def test_a_hugging_face_state_dict_is_named(source: Any, tmp_path: Path) -> None:
    torch.save(source.state_dict(), tmp_path / "pytorch_model.bin")
    assert "it holds logit_scale, mit.encoder.layers.0" in refused(tmp_path / "pytorch_model.bin")
