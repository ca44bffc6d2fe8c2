"""A model's name to its folder, its weight files to parameters: with files that transformers and torch wrote."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
import transformers
from hub import COMMIT, Hub, serving
from huggingface_hub import constants
from reference import one_thread  # noqa: F401
from safetensors.torch import load_file, save_file
from torch import Tensor

from xclip_cli.errors import ModelError
from xclip_cli.model import XCLIPModel, XCLIPProcessor, XCLIPTextModel, XCLIPVisionModel
from xclip_cli.model.checkpoint import find, saving
from xclip_cli.model.checkpoint.find import (
    Checkpoint,
    choose_model,
    find_checkpoint,
    find_folder,
    find_weight_files,
    name_of,
)

TOWERS: dict[str, Any] = {"text_model": XCLIPTextModel, "vision_model": XCLIPVisionModel}
PREPROCESSOR = {"size": 32, "resample": 2}


@pytest.fixture(scope="module")
def theirs() -> Any:
    return reference.model(reference.config())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as transformers writes it."""
    return reference.checkpoint(tmp_path_factory.mktemp("checkpoint"), reference.config())


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A checkpoint to change."""
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def assert_weights(model: torch.nn.Module, expected: dict[str, Tensor]) -> None:
    """The model holds exactly these tensors, as float32 on the processor."""
    state = model.state_dict()
    assert state.keys() == expected.keys()
    for name, tensor in state.items():
        assert tensor.dtype == torch.float32
        assert tensor.equal(expected[name].float()), name


# Formats


def as_sharded_safetensors(folder: Path, state: dict[str, Tensor]) -> None:
    reference.model(reference.config()).save_pretrained(folder, max_shard_size="40KB")
    assert len(list(folder.glob("model-*-of-*.safetensors"))) > 3


def as_sharded_bin(folder: Path, state: dict[str, Tensor]) -> None:
    places = {name: f"pytorch_model-0000{1 + i % 2}-of-00002.bin" for i, name in enumerate(state)}
    for file in set(places.values()):
        torch.save({name: state[name] for name in state if places[name] == file}, folder / file)
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}), "utf-8")


FORMATS: dict[str, Any] = {
    "safetensors": lambda folder, state: save_file(state, folder / "model.safetensors"),
    "sharded safetensors": as_sharded_safetensors,
    "bin": lambda folder, state: torch.save(state, folder / "pytorch_model.bin"),
    "bin of before torch 1.6": lambda folder, state: torch.save(
        state, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False
    ),
    "sharded bin": as_sharded_bin,
}


@pytest.fixture(params=FORMATS)
def stored(request: pytest.FixtureRequest, copy: Path, theirs: Any) -> Path:
    """A checkpoint folder in each of the formats."""
    (copy / "model.safetensors").unlink()
    FORMATS[request.param](copy, dict(theirs.state_dict()))
    return copy


def test_every_format_gives_the_same_weights(stored: Path, theirs: Any) -> None:
    model = XCLIPModel.from_pretrained(stored)
    assert_weights(model, theirs.state_dict())
    assert not model.training
    assert model.device.type == "cpu"


@pytest.mark.parametrize("tower", TOWERS)
def test_towers_load_from_a_whole_models_files(stored: Path, theirs: Any, tower: str) -> None:
    """From shards too, of which some hold nothing of the tower."""
    model = TOWERS[tower].from_pretrained(stored)
    assert_weights(getattr(model, tower), getattr(theirs, tower).state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_weights_are_converted(folder: Path, theirs: Any, dtype: torch.dtype) -> None:
    model = XCLIPModel.from_pretrained(folder, dtype=dtype)
    assert model.dtype == dtype
    for name, tensor in model.state_dict().items():
        assert tensor.equal(theirs.state_dict()[name].to(dtype)), name


def test_half_precision_files_are_read_as_float32(copy: Path) -> None:
    state = {name: tensor.half() for name, tensor in load_file(copy / "model.safetensors").items()}
    save_file(state, copy / "model.safetensors")
    assert_weights(XCLIPModel.from_pretrained(copy), state)


def test_safetensors_come_before_bin(copy: Path, theirs: Any) -> None:
    torch.save({"nothing": torch.zeros(1)}, copy / "pytorch_model.bin")
    assert_weights(XCLIPModel.from_pretrained(copy), theirs.state_dict())


def test_old_position_ids_are_ignored(copy: Path, theirs: Any) -> None:
    buffers = {"text_model.embeddings.position_ids": torch.arange(77)[None]}
    buffers["vision_model.embeddings.position_ids"] = torch.arange(5)[None]
    save_file({**theirs.state_dict(), **buffers}, copy / "model.safetensors")
    assert_weights(XCLIPModel.from_pretrained(copy), theirs.state_dict())
    assert_weights(XCLIPTextModel.from_pretrained(copy).text_model, theirs.text_model.state_dict())


def test_nothing_is_initialised_and_weights_are_mapped(folder: Path) -> None:
    before = torch.get_rng_state()
    model = XCLIPModel.from_pretrained(folder)
    assert torch.get_rng_state().equal(before)
    assert not any(tensor.is_meta for tensor in [*model.parameters(), *model.buffers()])
    maps = Path("/proc/self/maps")
    if maps.exists():
        ranges = [
            [int(end, 16) for end in line.split()[0].split("-")]
            for line in maps.read_text("utf-8").splitlines()
            if line.endswith(str(folder / "model.safetensors"))
        ]
        for name, parameter in model.named_parameters():
            assert any(start <= parameter.data_ptr() < end for start, end in ranges), name


# Weights that do not fit


def changed(copy: Path, **changes: Tensor | None) -> Path:
    """The checkpoint with tensors replaced, added or (None) removed."""
    state = load_file(copy / "model.safetensors")
    for name, tensor in changes.items():
        if tensor is None:
            del state[name]
        else:
            state[name] = tensor
    save_file(state, copy / "model.safetensors")
    return copy


def test_all_that_does_not_fit_is_named_in_one_error(copy: Path) -> None:
    changed(
        copy,
        **{"text_projection.weight": None, "mit.position_embedding": None},
        **{"head.weight": torch.zeros(2), "logit_scale": torch.zeros(1)},
        **{"visual_projection.weight": torch.zeros(3, 4)},
    )
    with pytest.raises(ModelError) as caught:
        XCLIPModel.from_pretrained(copy)
    message = str(caught.value)
    assert message.startswith(f"the weights in {copy} do not fit their config.json: ")
    assert "missing mit.position_embedding, text_projection.weight; " in message
    assert "unexpected head.weight; " in message
    assert "wrong shape: logit_scale is [1], config.json says [], visual_projection.weight is [3, 4], " in message
    assert message.endswith("config.json says [32, 36]")
    assert "\n" not in message


def test_many_names_are_counted(copy: Path) -> None:
    changed(copy, **{f"extra.{i}": torch.zeros(1) for i in range(9)})
    with pytest.raises(ModelError, match=r"unexpected extra\.0, extra\.1, extra\.2, extra\.3 and 5 more$"):
        XCLIPModel.from_pretrained(copy)


def test_a_config_of_another_size(copy: Path) -> None:
    reference.config(vision={"num_frames": 16}).save_pretrained(copy)
    with pytest.raises(
        ModelError, match=r"wrong shape: mit\.position_embedding is \[1, 8, 32\], config.json says \[1, 16, 32\]$"
    ):
        XCLIPModel.from_pretrained(copy)


def test_towers_must_fit_too(copy: Path) -> None:
    changed(copy, **{"text_model.final_layer_norm.bias": None, "text_model.head": torch.zeros(1)})
    with pytest.raises(ModelError, match=r"missing text_model\.final_layer_norm\.bias; unexpected text_model\.head$"):
        XCLIPTextModel.from_pretrained(copy)
    XCLIPVisionModel.from_pretrained(copy)  # not its business


def test_a_whole_model_does_not_load_from_a_tower(theirs: Any, tmp_path: Path) -> None:
    theirs.text_model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="of model_type 'xclip_text_model', not 'xclip'"):
        XCLIPModel.from_pretrained(tmp_path)
    with pytest.raises(ModelError, match="of model_type 'xclip_text_model', not 'xclip_vision_model'"):
        XCLIPVisionModel.from_pretrained(tmp_path)


def damage(contents: bytes | Any, name: str = "model.safetensors") -> Any:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").unlink(missing_ok=True)
        if isinstance(contents, bytes):
            (folder / name).write_bytes(contents)
        else:
            torch.save(contents, folder / name)

    return write


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


class Harmful:
    """Unpickled, it would make a folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


DAMAGED = {
    "empty": (damage(b""), "is not a safetensors file, or it is cut off: it has only 0 bytes"),
    "text": (damage(b"version https://git-lfs.github.com/spec/v1\n"), "is not a safetensors file, or it is cut off"),
    "cut": (cut, "cannot read the weights in"),
    "empty bin": (damage(b"", "pytorch_model.bin"), "is not a file that torch saved, or it is damaged: cannot mmap"),
    "text as bin": (damage(b"version https://git-lfs", "pytorch_model.bin"), "is not a file that torch saved"),
    "list": (damage([torch.zeros(1)], "pytorch_model.bin"), "not a state dict: it must hold tensors by name"),
    "nested": (damage({"model": {"a": torch.zeros(1)}}, "pytorch_model.bin"), "not a state dict: it must hold tensors"),
}


@pytest.mark.parametrize(("write", "message"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_files(copy: Path, write: Any, message: str) -> None:
    write(copy)
    with pytest.raises(ModelError, match=message) as caught:
        XCLIPModel.from_pretrained(copy)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("modern", [True, False], ids=["zip", "of before torch 1.6"])
def test_pickles_are_never_run(copy: Path, tmp_path: Path, theirs: Any, modern: bool) -> None:
    victim = tmp_path / "made by the pickle"
    (copy / "model.safetensors").unlink()
    state = {**theirs.state_dict(), "logit_scale": Harmful(victim)}
    torch.save(state, copy / "pytorch_model.bin", _use_new_zipfile_serialization=modern)
    with pytest.raises(ModelError, match=r"it asks for (os|posix)\.mkdir, which weights do not need"):
        XCLIPModel.from_pretrained(copy)
    assert not victim.exists()
    torch.load(copy / "pytorch_model.bin", weights_only=False)
    assert victim.exists()  # the file was harmful indeed


# Saving


def test_transformers_loads_what_we_save(folder: Path, theirs: Any, tmp_path: Path) -> None:
    XCLIPModel.from_pretrained(folder).save_pretrained(tmp_path / "new" / "folder")
    again, report = transformers.AutoModel.from_pretrained(tmp_path / "new" / "folder", output_loading_info=True)
    assert isinstance(again, transformers.XCLIPModel)
    assert not any(report.values()), report
    assert_weights(again, theirs.state_dict())
    assert again.config.architectures == ["XCLIPModel"]


@pytest.mark.parametrize("tower", TOWERS)
def test_towers_go_both_ways(theirs: Any, tower: str, tmp_path: Path) -> None:
    original = getattr(theirs, tower)
    original.save_pretrained(tmp_path / "theirs")
    model = TOWERS[tower].from_pretrained(tmp_path / "theirs")
    assert_weights(getattr(model, tower), original.state_dict())
    model.save_pretrained(tmp_path / "ours")
    again, report = type(original).from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["mismatched_keys"]
    assert_weights(again, original.state_dict())
    names = original.state_dict().keys()
    both = {*names, *(f"{tower}.{name}" for name in names)}  # of version 5, and of version 4
    assert load_file(tmp_path / "ours" / "model.safetensors").keys() == both
    assert_weights(getattr(TOWERS[tower].from_pretrained(tmp_path / "ours"), tower), original.state_dict())


@pytest.mark.parametrize("tower", TOWERS)
def test_towers_with_the_names_of_version_4(theirs: Any, tower: str, tmp_path: Path) -> None:
    original = getattr(theirs, tower)
    original.config.save_pretrained(tmp_path)
    state = {f"{tower}.{name}": tensor for name, tensor in original.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")
    assert_weights(getattr(TOWERS[tower].from_pretrained(tmp_path), tower), original.state_dict())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_saved_as_such(folder: Path, dtype: torch.dtype, tmp_path: Path) -> None:
    XCLIPModel.from_pretrained(folder, dtype=dtype).save_pretrained(tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {dtype}
    assert transformers.XCLIPModel.from_pretrained(tmp_path).dtype == dtype


def test_saving_over_the_folder_it_came_from(copy: Path, theirs: Any) -> None:
    """Its own memory is that very file."""
    model = XCLIPModel.from_pretrained(copy)
    model.save_pretrained(copy)
    assert_weights(model, theirs.state_dict())
    with torch.no_grad():
        model.logit_scale.add_(1)
    model.save_pretrained(copy)
    again = XCLIPModel.from_pretrained(copy)
    assert again.logit_scale.item() == pytest.approx(3.5)
    assert_weights(again, model.state_dict())
    assert {path.name for path in copy.iterdir()} == {
        *("config.json", "model.safetensors"),
        *("processor_config.json", "tokenizer.json", "tokenizer_config.json"),
    }


def test_a_save_that_fails_leaves_the_old_file(copy: Path, theirs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(state: Any, path: Path, metadata: Any) -> None:
        path.write_bytes(b"half of it")
        raise OSError("no space left on device")

    model = XCLIPModel.from_pretrained(copy)
    names = {path.name for path in copy.iterdir()}
    monkeypatch.setattr(saving, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        model.save_pretrained(copy)
    assert {path.name for path in copy.iterdir()} == names
    assert_weights(XCLIPModel.from_pretrained(copy), theirs.state_dict())


def test_a_whole_folder_goes_both_ways(folder: Path, tmp_path: Path) -> None:
    """Model and processor in one folder, and the logits come out the same."""
    XCLIPModel.from_pretrained(folder).save_pretrained(tmp_path)
    XCLIPProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    video = torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    texts = ["playing sports", "eating spaghetti", "go shopping"]
    theirs = transformers.XCLIPModel.from_pretrained(tmp_path, attn_implementation="eager")
    expected = reference.processor(32)(text=texts, videos=list(video.numpy()), return_tensors="pt", padding=True)
    for source in (folder, tmp_path):
        inputs = XCLIPProcessor.from_pretrained(source)(texts, list(video.numpy()), "pt", padding=True)
        with torch.no_grad():
            logits = XCLIPModel.from_pretrained(source)(**inputs).logits_per_video
            reference.assert_agree(logits, theirs(**expected).logits_per_video, "logits")


# Names


def test_folders_by_any_spelling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("HOME", str(folder.parent))
    for name in (str(folder), f"{folder}/", f"./{folder.name}", folder.name, f"~/{folder.name}"):
        found = find_checkpoint(name)
        assert found.name == name
        assert found.folder.resolve() == folder.resolve()
        assert find_folder(name).resolve() == folder.resolve()


def test_a_folder_wins_over_the_hub(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    Path("owner").mkdir()
    copy.rename("owner/model")
    assert find_checkpoint("owner/model").folder == Path("owner/model")


@pytest.mark.parametrize(
    "name", ["base-patch32", "microsoft/xclip-base-patch32", "xclip-base-patch32", "base-patch32@main", "auto"]
)
def test_public_names_are_no_folders(copy: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Whoever packed the current folder would decide what answers to a name that everybody knows."""
    monkeypatch.chdir(copy.parent)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    shutil.copytree(copy, name)
    with pytest.raises(ModelError, match="is not downloaded, or only partly|there is no model 'auto'"):
        find_checkpoint(name)
    with pytest.raises(ModelError):
        find_folder(name)
    assert find_checkpoint(f"./{name}").name == f"./{name}"
    assert name_of(Path(f"./{name}")) == f"./{name}"  # of which pathlib makes the bare name
    assert name_of(Path.cwd() / name) == str(Path.cwd() / name)
    assert name_of(name) == name


def test_the_bundled_model(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "BUNDLED_FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    Path("bundled").mkdir()  # a folder of that name changes nothing
    assert find_checkpoint("bundled") == Checkpoint("bundled", folder)
    assert find_folder("bundled") == folder
    monkeypatch.setattr(find, "BUNDLED_FOLDER", tmp_path / "nowhere")
    with pytest.raises(ModelError, match=r"the bundled model is missing from this installation .*: reinstall xclip"):
        find_checkpoint("bundled")


NO_NAMES = [
    "nothing",
    "./owner/model",
    "../owner/model",
    "/owner/model",
    "a/b/c",
    "a b/c",
    " owner/model",
    "a/b\n",
    "\0/a",
]


@pytest.mark.parametrize("name", NO_NAMES, ids=repr)
def test_names_that_cannot_be_models(name: str) -> None:
    with pytest.raises(ModelError, match="there is no model .*: give an existing checkpoint folder, a hub id such as"):
        find_checkpoint(name)


@pytest.mark.parametrize("name", ["a--b/c", "a/b.git", "-a/b", "a/.."])
def test_names_that_the_hub_does_not_allow(name: str) -> None:
    with pytest.raises(ModelError, match=f"^{name} is neither a folder nor a hub id: "):
        find_checkpoint(name)


@pytest.mark.parametrize("name", ["~nobody-of-this-name/model", "a" * 5000], ids=["home of nobody", "too long"])
def test_names_that_the_system_does_not_allow(name: str) -> None:
    with pytest.raises(ModelError, match=f"^cannot read {name[:20]}"):
        find_checkpoint(name)


def test_a_file_is_not_a_model(folder: Path) -> None:
    with pytest.raises(
        ModelError, match=r"model\.safetensors is a file, not a model: give a checkpoint folder, a hub id, "
    ):
        find_checkpoint(str(folder / "model.safetensors"))


def test_folders_that_are_not_checkpoints(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(
        ModelError, match=r"no weights in .*: it needs one of model\.safetensors, .*, pytorch_model\.bin"
    ):
        find_checkpoint(str(copy))
    (copy / "config.json").unlink()
    with pytest.raises(ModelError, match=r"copy is not a checkpoint folder: it has no config\.json"):
        find_checkpoint(str(copy))


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (
            {"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}},
            r"lists shards that are missing: mo",
        ),
        ({"weight_map": {"a": "../model.safetensors"}}, r"names a shard outside its folder: '\.\./model\.safetensors'"),
        ({"weight_map": {"a": "/etc/passwd"}}, "names a shard outside its folder: '/etc/passwd'"),
        ({"weight_map": {"a": 5}}, "names a shard outside its folder: 5"),
        ({"weight_map": {"a": 5, "b": "c"}}, "is not an index of weight shards"),
        ({"weight_map": ["a"]}, "is not an index of weight shards"),
        ({"weights": {}}, "is not an index of weight shards: KeyError"),
        ([], "index.json holds list, not a JSON object"),
        ("{", "cannot read .*index.json: "),
        ({"weight_map": {}}, "names 0 shards, but the limits are 1 to 500"),
        (
            {"weight_map": {str(i): f"{i}.safetensors" for i in range(501)}},
            "names 501 shards, but the limits are 1 to 500",
        ),
        (
            {"weight_map": {"a": "model.safetensors.index.json"}},
            r"names a shard that is not a .safetensors file: 'model.saf",
        ),
        (
            {"weight_map": {"a": "pytorch_model.bin"}},
            "names a shard that is not a .safetensors file: 'pytorch_model.bin'",
        ),
        ({"weight_map": {"a": "..", "b": "."}}, r"names a shard outside its folder: '\.'"),
        ({"weight_map": {"a": "..\n"}}, r"names a shard that is not a .safetensors file: '\.\.\\n'"),
        ({"weight_map": {"a": "\0.safetensors"}}, "lists shards that are missing: "),
    ],
    ids=str,
)
def test_wrong_indexes(copy: Path, index: Any, message: str) -> None:
    (copy / "model.safetensors").unlink()
    text = index if isinstance(index, str) else json.dumps(index)
    (copy / "model.safetensors.index.json").write_text(text, "utf-8")
    with pytest.raises(ModelError, match=message):
        find_weight_files(copy)


# What tells checkpoints apart, and what a checkpoint knows


def test_identity_is_of_the_contents(copy: Path, tmp_path: Path) -> None:
    again = Path(shutil.copytree(copy, tmp_path / "again"))
    identity = find_checkpoint(str(copy)).identity
    assert identity.startswith("sha256:")
    assert find_checkpoint(str(again)).identity == identity
    (again / "README.md").write_text("unimportant", "utf-8")
    assert find_checkpoint(str(again)).identity == identity


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "processor_config.json", "merges.txt"])
def test_identity_changes_with_the_texts(copy: Path, name: str) -> None:
    identity = find_checkpoint(str(copy)).identity
    with (copy / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert find_checkpoint(str(copy)).identity != identity


@pytest.mark.parametrize("format_name", FORMATS)
def test_identity_changes_with_the_weights(copy: Path, theirs: Any, format_name: str) -> None:
    before = find_checkpoint(str(copy)).identity
    (copy / "model.safetensors").unlink()
    FORMATS[format_name](copy, {name: tensor.double() for name, tensor in theirs.state_dict().items()})
    assert find_checkpoint(str(copy)).identity != before


PHRASES = {
    "templates": ["{}", "a video of {}"],
    "families": {
        "state": {"patterns": ["{}"], "parts": [["a black screen", "color bars"]]},
        "shape": {"patterns": ["a {} {}", "the {} is {}"], "parts": [["circle", "cross"], ["growing"]]},
    },
}


def test_phrases(copy: Path) -> None:
    assert find_checkpoint(str(copy)).phrases is None
    assert find_checkpoint(str(copy)).why_a_guess(["anything at all"]) is None
    (copy / "phrases.json").write_text(json.dumps(PHRASES), "utf-8")
    checkpoint = find_checkpoint(str(copy))
    known = ["Black screen", "a video of the color bars", "A VIDEO OF A BLACK SCREEN."]
    assert checkpoint.why_a_guess(known) is None
    assert checkpoint.why_a_guess(["the cross is growing", "a circle growing"]) is None
    assert checkpoint.why_a_guess([]) is None
    assert checkpoint.why_a_guess([*known, "black", "bars 2"]) == "was not trained on 'black', 'bars 2'"
    mixed = checkpoint.why_a_guess([*known, "a cross growing"])
    assert mixed == "was not trained to tell labels of different sets apart (shape, state)"


def test_the_model_that_auto_stands_for(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "phrases.json").write_text(json.dumps(PHRASES), "utf-8")
    monkeypatch.setattr(find, "BUNDLED_FOLDER", copy)
    assert choose_model("auto", ["black screen"]) == ("bundled", "it was trained to tell these labels apart")
    name, reason = choose_model("auto", ["black screen", "dog"])
    assert name == "microsoft/xclip-base-patch16-zero-shot"
    assert reason == "the bundled model was not trained on 'dog'"
    assert choose_model("a/model", ["black screen"]) == ("a/model", None)


# The hub


FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json")
REPOSITORIES: dict[str, tuple[str, ...]] = {
    "owner/good": (*FILES, "pytorch_model.bin", "README.md", ".gitattributes", "tf_model.h5"),
    "owner/old": (*FILES[2:], "config.json", "pytorch_model.bin", "flax_model.msgpack"),
    "owner/sharded": (
        *("config.json", "model.safetensors.index.json", "tokenizer.json", "preprocessor_config.json"),
        *(f"model-0000{i}-of-00002.safetensors" for i in (1, 2)),
        "model-other.safetensors",
    ),
    "owner/gated": FILES,
    "owner/dataset": ("README.md", "train.csv"),
    "owner/broken": FILES,
}


@pytest.fixture(scope="module")
def hub(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """A hub with ``REPOSITORIES``."""
    made, root = Hub(), tmp_path_factory.mktemp("hub")
    files = Path(shutil.copytree(folder, root / "files"))
    (files / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR), "utf-8")
    state = load_file(files / "model.safetensors")
    torch.save(state, files / "pytorch_model.bin")
    places = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(state)}
    for file in set(places.values()):
        save_file({name: state[name] for name in state if places[name] == file}, files / file)
    (files / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}), "utf-8")
    for repository, names in REPOSITORIES.items():
        made.repositories[repository] = root / repository.replace("/", "-")
        made.repositories[repository].mkdir()
        for name in names:
            data = (files / name).read_bytes() if (files / name).exists() else b"{}"
            (made.repositories[repository] / name).write_bytes(data)
    made.refuse = {"owner/gated": [403], "owner/broken": [500]}
    with serving(made) as served:
        yield served


LOOK_UP = """
import json, sys
from xclip_cli.model.checkpoint.find import find_checkpoint
from xclip_cli.errors import ModelError
found = []
for name, revision in json.loads(sys.argv[1]):
    try:
        found.append(str(find_checkpoint(name, revision=revision).folder))
    except ModelError as error:
        found.append(f"ModelError: {error}")
assert "torch" not in sys.modules
print(json.dumps(found))
"""


def look_up(names: list[tuple[str, str | None]], cache: Path, address: str, offline: bool = False) -> list[str]:
    """What ``find_checkpoint`` makes of each name in a new process: the hub library reads its settings once."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment |= {"HF_ENDPOINT": address, "HF_HOME": str(cache), "NO_PROXY": "*"}
    environment |= {"HF_HUB_OFFLINE": "1" if offline else "0", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    command = [sys.executable, "-W", "error", "-c", LOOK_UP, json.dumps(names)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def downloaded(hub: Hub, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The cache after every name was looked up once, and what came of it."""
    cache = tmp_path_factory.mktemp("cache")
    names = [(name, None) for name in (*REPOSITORIES, "owner/missing")]
    found = look_up([*names, ("owner/good", "v9")], cache, hub.address)
    return cache, dict(zip([*(name for name, _ in names), "owner/good at v9"], found, strict=True))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("owner/good", FILES),
        ("owner/old", (*FILES[2:], "config.json", "pytorch_model.bin")),
        ("owner/sharded", REPOSITORIES["owner/sharded"][:-1]),
    ],
)
def test_the_needed_files_are_downloaded(downloaded: Any, name: str, expected: tuple[str, ...], theirs: Any) -> None:
    """Weights in one format, and no word of the rest."""
    folder = Path(downloaded[1][name])
    assert {path.name for path in folder.iterdir()} == set(expected)
    assert_weights(XCLIPModel.from_pretrained(folder), theirs.state_dict())
    assert XCLIPProcessor.from_pretrained(folder).image_processor.size == {"shortest_edge": PREPROCESSOR["size"]}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "owner/missing",
            "the hub has no model owner/missing, or it is private: check the name, or log in with `hf auth",
        ),
        (
            "owner/gated",
            "owner/gated is gated: accept its terms on its hub page, then log in with `hf auth login`",
        ),
        ("owner/dataset", "owner/dataset on the hub is not a checkpoint: it lacks config.json or weights"),
        ("owner/broken", "cannot download owner/broken from the hub (Server error '500 Internal Server Error'"),
        ("owner/good at v9", "owner/good has no revision 'v9' on the hub"),
    ],
)
def test_what_the_hub_cannot_give(downloaded: Any, name: str, message: str) -> None:
    assert downloaded[1][name].startswith(f"ModelError: {message}")
    assert "\n" not in downloaded[1][name]


NAMES: list[tuple[str, str | None]] = [("owner/good", None), ("owner/old", "main"), ("owner/sharded", COMMIT)]


def test_the_cache_needs_no_hub(hub: Hub, downloaded: Any) -> None:
    """What was downloaded once is not asked for again, online or not."""
    cache, folders = downloaded
    before = len(hub.asked)
    expected = [folders[name] for name, _ in NAMES]
    assert look_up(NAMES, cache, hub.address) == expected
    assert len(hub.asked) == before
    missing = look_up([*NAMES, ("owner/missing", None)], cache, hub.address, offline=True)
    assert missing[:-1] == expected
    assert missing[-1].startswith("ModelError: owner/missing is not downloaded, or only partly (")
    assert "run `xclip models pull owner/missing` with them enabled, or give the path of a copy" in missing[-1]
    assert "bundled" not in missing[-1]
    assert len(hub.asked) == before


@pytest.mark.parametrize("absent", ["config.json", "model.safetensors", "tokenizer.json", "preprocessor_config.json"])
def test_what_the_cache_lacks_is_fetched(hub: Hub, downloaded: Any, tmp_path: Path, absent: str) -> None:
    """A download broke off, or another program needed less of the model."""
    cache, folders = downloaded
    shutil.copytree(cache, tmp_path, dirs_exist_ok=True, symlinks=True)
    folder = tmp_path / Path(folders["owner/good"]).relative_to(cache)
    (folder / absent).unlink()
    assert look_up([("owner/good", None)], tmp_path, hub.address) == [str(folder)]
    assert {path.name for path in folder.iterdir()} == set(FILES)


def test_a_hub_that_cannot_be_reached(tmp_path: Path) -> None:
    (message,) = look_up([("owner/good", None)], tmp_path, "http://127.0.0.1:9")
    assert message.startswith("ModelError: cannot download owner/good from the hub (")
    assert "check the network and try again, set HF_ENDPOINT to a mirror, or give the path of a copy" in message
    assert "bundled" not in message


@pytest.mark.parametrize("below", [True, False], ids=["in the cache", "elsewhere"])
def test_identity_of_a_cached_checkpoint_is_the_hubs(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, below: bool
) -> None:
    """The cache names files by the hub's hash: other weights of the same size and shape are another checkpoint.

    Elsewhere anybody may name files as the cache does: there the contents count."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path if below else tmp_path / "cache"))

    def cached(hash_of_weights: str) -> str:
        snapshot = tmp_path / hash_of_weights / "snapshots" / COMMIT
        blobs = tmp_path / hash_of_weights / "blobs"
        shutil.copytree(folder, snapshot)
        blobs.mkdir()
        (snapshot / "model.safetensors").rename(blobs / hash_of_weights)
        (snapshot / "model.safetensors").symlink_to(blobs / hash_of_weights)
        return find_checkpoint(str(snapshot)).identity

    assert (cached("aaaa") != cached("bbbb")) == below


def test_the_cache_is_read_through_the_librarys_own_settings(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process too, and for every class."""
    snapshot = tmp_path / "models--owner--model" / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    (tmp_path / "models--owner--model" / "refs").mkdir()
    (tmp_path / "models--owner--model" / "refs" / "main").write_text(COMMIT, "utf-8")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find_checkpoint("owner/model") == Checkpoint("owner/model", snapshot, COMMIT)
    assert find_checkpoint("owner/model", revision=COMMIT).folder == snapshot
    assert XCLIPModel.from_pretrained("owner/model").config.projection_dim == 32
    assert XCLIPProcessor.from_pretrained("owner/model", revision="main").image_processor.crop_size == {
        "height": 32,
        "width": 32,
    }
    with pytest.raises(ModelError, match="owner/model is not downloaded, or only partly"):
        find_checkpoint("owner/model", revision="v2")
