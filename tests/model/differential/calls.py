"""Calls that users of X-CLIP make, to be run with either library: ``python calls.py LIBRARY FOLDER OUT``.

Runs in any environment that has the library, NumPy, torch and Pillow; imports nothing of the tests. OUT becomes a
pickle: for each call, by its name, ("ok", what it gave, as plain values) or ("error", what was raised).
"""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image

TEXTS = ["a photo of a cat", "playing sports", "It's 2 o'clock: go!", "", "Naïve café — 東京 👍🏽"]
CALLS: dict[str, Callable[[Any], Any]] = {}


def library(name: str, folder: Path, tmp: Path) -> Any:
    """The library's classes, a checkpoint folder, a folder to write to, and inputs."""
    lib = importlib.import_module(name)
    names = [
        *("XCLIPModel", "XCLIPTextModel", "XCLIPVisionModel", "XCLIPConfig", "XCLIPTextConfig", "XCLIPVisionConfig"),
        *("XCLIPProcessor", "AutoModel", "AutoProcessor", "AutoTokenizer", "CLIPTokenizer", "AutoConfig"),
        *("CLIPTokenizerFast", "VideoMAEImageProcessor", "VideoMAEFeatureExtractor", "AutoImageProcessor"),
    ]
    found = {each: getattr(lib, each, None) for each in names}
    if name == "transformers":
        lib.utils.logging.set_verbosity_error()
        if int(lib.__version__.split(".")[0]) >= 5:  # there the image processor of this name wants torchvision
            pil = importlib.import_module("transformers.models.videomae.image_processing_pil_videomae")
            found["VideoMAEImageProcessor"] = pil.VideoMAEImageProcessorPil
        else:  # there the tokenizer of this name is the slow one
            found["CLIPTokenizer"] = found["CLIPTokenizerFast"]
    eager = name == "transformers" and int(lib.__version__.split(".")[0]) >= 5  # else it gives no attentions
    x = SimpleNamespace(**found, folder=folder, tmp=tmp)
    generator = torch.Generator().manual_seed(5)
    x.pixels = torch.randn(3, 8, 3, 32, 32, generator=generator)
    x.frames = np.random.default_rng(3).integers(0, 256, (8, 40, 52, 3), dtype=np.uint8)
    x.exact = np.random.default_rng(4).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)  # of the size to resize to
    x.ids = torch.tensor([[812, 30, 40, 813, 813], [812, 7, 813, 813, 813], [812, 9, 11, 300, 813]])
    x.mask = torch.tensor([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    made: dict[str, Any] = {}

    def once(kind: str) -> Any:
        if kind not in made:
            options = {"attn_implementation": "eager"} if eager and kind == "XCLIPModel" else {}
            made[kind] = getattr(x, kind).from_pretrained(folder, **options)
        return made[kind]

    x.once = once
    return x


def call(name: str, function: Callable[[Any], Any]) -> None:
    assert name not in CALLS, name
    CALLS[name] = function


def plain(value: Any) -> Any:
    """Values that do not need the library to be read."""
    if isinstance(value, torch.Tensor):
        return value.detach().float().numpy() if value.dtype == torch.bfloat16 else value.detach().numpy()
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if hasattr(value, "data") and isinstance(getattr(value, "data", None), dict):
        return plain(value.data)
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if hasattr(value, "__dataclass_fields__"):  # sizes, in version 5
        return {
            name: plain(getattr(value, name)) for name in value.__dataclass_fields__ if getattr(value, name) is not None
        }
    if isinstance(value, int) and not isinstance(value, bool):
        return int(value)
    return value if isinstance(value, (str, int, float, bool, type(None), np.ndarray)) else f"<{type(value).__name__}>"


def features(value: Any) -> torch.Tensor:
    """Version 5 gives an object where the documentation has a tensor."""
    return value if isinstance(value, torch.Tensor) else value.pooler_output


# Configs

TEXT = {"vocab_size": 99, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3}
VISION = {
    "hidden_size": 36,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_frames": 4,
    "mit_hidden_size": 32,
    "mit_num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
}
NAMES = {
    "XCLIPTextConfig": [
        *("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
        *("max_position_embeddings", "hidden_act", "layer_norm_eps", "attention_dropout", "initializer_range"),
        *("initializer_factor", "pad_token_id", "bos_token_id", "eos_token_id"),
    ],
    "XCLIPVisionConfig": [
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "mit_hidden_size"),
        *("mit_intermediate_size", "mit_num_hidden_layers", "mit_num_attention_heads", "num_channels", "image_size"),
        *("patch_size", "num_frames", "hidden_act", "layer_norm_eps", "attention_dropout", "initializer_range"),
        *("initializer_factor", "drop_path_rate"),
    ],
    "XCLIPConfig": [
        *("projection_dim", "prompt_layers", "prompt_alpha", "prompt_hidden_act", "prompt_num_attention_heads"),
        *("prompt_attention_dropout", "prompt_projection_dropout", "logit_scale_init_value", "initializer_factor"),
    ],
}
GIVEN = {
    "XCLIPTextConfig": TEXT,
    "XCLIPVisionConfig": VISION,
    "XCLIPConfig": {"projection_dim": 512, "prompt_layers": 1},
}
INHERITED = [
    *("output_attentions", "output_hidden_states", "use_return_dict", "num_labels", "id2label", "label2id"),
    *("architectures", "is_encoder_decoder", "problem_type", "model_type", "name_or_path"),
]


def _values(config: Any, names: list[str]) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


for kind, names in NAMES.items():
    for key in names:
        call(f"{kind}().{key}", lambda x, k=kind, n=key: getattr(getattr(x, k)(), n))
    for key in INHERITED:
        call(f"{kind}().{key}", lambda x, k=kind, n=key: getattr(getattr(x, k)(), n))
    given = GIVEN[kind]
    call(f"{kind}(**given)", lambda x, k=kind, g=given, n=names: _values(getattr(x, k)(**g), n))
    call(f"{kind}.from_dict", lambda x, k=kind, g=given, n=names: _values(getattr(x, k).from_dict(dict(g)), n))
    call(f"{kind}(unknown keyword)", lambda x, k=kind: getattr(x, k)(my_note=[1, 2]).my_note)
    call(f"{kind}(unknown).to_dict", lambda x, k=kind: getattr(x, k)(my_note=3).to_dict()["my_note"])
    call(f"{kind}(num_labels=4)", lambda x, k=kind: _values(getattr(x, k)(num_labels=4), ["num_labels", "id2label"]))
    call(f"{kind}.set unknown", lambda x, k=kind: _set(getattr(x, k)(), "later", 7).to_dict()["later"])
    call(f"{kind}.update", lambda x, k=kind: _updated(getattr(x, k)(), {"initializer_factor": 2.0, "own": 1}))
    call(f"{kind}.to_dict", lambda x, k=kind, n=names: {key: getattr(x, k)().to_dict()[key] for key in n})
    call(f"{kind}.to_diff_dict", lambda x, k=kind, g=given: _without(getattr(x, k)(**g).to_diff_dict()))
    call(f"{kind}.to_json_string", lambda x, k=kind, g=given: _without(json.loads(getattr(x, k)(**g).to_json_string())))
    call(
        f"{kind}.to_json_string(use_diff=False)",
        lambda x, k=kind, g=given, n=names: {
            key: json.loads(getattr(x, k)(**g).to_json_string(use_diff=False))[key] for key in n
        },
    )
    call(f"{kind}.to_json_file", lambda x, k=kind, g=given: _json_file(getattr(x, k)(**g), x.tmp / f"{k}.json"))
    call(
        f"{kind}.save, load",
        lambda x, k=kind, g=given, n=names: _values(_reloaded(x, getattr(x, k)(**g, own=5)), [*n, "own"]),
    )
    call(f"{kind}.from_pretrained", lambda x, k=kind, n=names: _values(getattr(x, k).from_pretrained(x.folder), n))
    call(
        f"{kind}.from_pretrained(override)",
        lambda x, k=kind: getattr(x, k).from_pretrained(x.folder, initializer_factor=3.0).initializer_factor,
    )
    call(
        f"{kind}.from_pretrained(return_unused_kwargs)",
        lambda x, k=kind: getattr(x, k).from_pretrained(
            x.folder, return_unused_kwargs=True, output_attentions=True, other=1
        )[1],
    )
    call(
        f"{kind}.get_config_dict",
        lambda x, k=kind: sorted({*getattr(x, k).get_config_dict(x.folder)[0]} - {"_commit_hash"}),
    )
    call(f"{kind}(return_dict=False)", lambda x, k=kind: getattr(x, k)(return_dict=False).use_return_dict)
    call(f"{kind} ==", lambda x, k=kind, g=given: getattr(x, k)(**g).to_dict() == getattr(x, k)(**g).to_dict())
    call(f"{kind}.missing attribute", lambda x, k=kind: getattr(x, k)().num_framse)

call(
    "XCLIPTextConfig(positional)",
    lambda x: x.XCLIPTextConfig(99, 24, 40, 2, 3, 17, "gelu", 1e-3, 0.1).to_dict()["attention_dropout"],
)
call(
    "XCLIPVisionConfig(positional)",
    lambda x: x.XCLIPVisionConfig(36, 56, 2, 6, 32, 44, 1, 2, 3, 32, 16, 4, "gelu", 1e-3, 0.1).attention_dropout,
)
call(
    "XCLIPConfig(positional)", lambda x: x.XCLIPConfig(TEXT, {**VISION, "mit_hidden_size": 64}, 64, 3, 0.2).prompt_alpha
)
call("XCLIPConfig(positional) text", lambda x: x.XCLIPConfig(dict(TEXT)).text_config.hidden_size)
call(
    "XCLIPConfig(dicts)",
    lambda x: x.XCLIPConfig(text_config=dict(TEXT), vision_config={"num_frames": 4}).vision_config.num_frames,
)
call("XCLIPConfig(text_config_dict)", lambda x: x.XCLIPConfig(text_config_dict=dict(TEXT)).text_config.hidden_size)
call(
    "XCLIPConfig(vision_config_dict)",
    lambda x: x.XCLIPConfig(vision_config_dict={"num_frames": 2}).vision_config.num_frames,
)
call(
    "XCLIPConfig.from_text_vision_configs",
    lambda x: x.XCLIPConfig.from_text_vision_configs(
        x.XCLIPTextConfig(**TEXT), x.XCLIPVisionConfig(num_frames=4), prompt_layers=3
    ).to_dict()["prompt_layers"],
)
call("AutoConfig", lambda x: type(x.AutoConfig.from_pretrained(x.folder)).__name__)
call("AutoConfig(override)", lambda x: x.AutoConfig.from_pretrained(x.folder, prompt_alpha=0.5).prompt_alpha)


def _set(thing: Any, name: str, value: Any) -> Any:
    setattr(thing, name, value)
    return thing


def _updated(config: Any, values: dict[str, Any]) -> Any:
    config.update(values)
    return {name: getattr(config, name) for name in values}


def _without(values: dict[str, Any]) -> dict[str, Any]:
    """Less the version, and what only one version writes."""
    left_out = ("transformers_version", "text_config", "vision_config")
    return {key: value for key, value in values.items() if key not in left_out}


def _json_file(config: Any, path: Path) -> Any:
    config.to_json_file(path)
    return _without(json.loads(path.read_text("utf-8")))


def _reloaded(x: Any, config: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        return type(config).from_pretrained(folder)


# Tokenizer

for padding in (False, True, "longest", "max_length", "do_not_pad"):
    for truncation in (None, False, True, "longest_first"):
        for length in (None, 6, 12):
            call(
                f"tokenizer(padding={padding}, truncation={truncation}, max_length={length})",
                lambda x, p=padding, t=truncation, n=length: x.once("CLIPTokenizer")(
                    TEXTS, padding=p, max_length=n, **({} if t is None else {"truncation": t})
                ),
            )
_T: dict[str, Callable[[Any], Any]] = {
    "a string": lambda t: t("a cat"),
    "a list of one": lambda t: t(["a cat"]),
    "no text at all": lambda t: t([]),
    "pt of a string": lambda t: t("a cat", return_tensors="pt"),
    "np of a string": lambda t: t("a cat", return_tensors="np"),
    "pt padded": lambda t: t(TEXTS, padding=True, return_tensors="pt"),
    "np padded": lambda t: t(TEXTS, padding=True, return_tensors="np"),
    "pt not padded": lambda t: t(TEXTS, return_tensors="pt"),
    "unknown tensors": lambda t: t("a", return_tensors="xx"),
    "unknown padding": lambda t: t("a", padding="yes"),
    "unknown truncation": lambda t: t("a", truncation="yes"),
    "a number": lambda t: t(3),
    "a number in a list": lambda t: t(["a", 3]),
    "None in a list": lambda t: t(["a", None]),
    "no special tokens": lambda t: t(TEXTS, add_special_tokens=False),
    "no special tokens, cut": lambda t: t(TEXTS, add_special_tokens=False, truncation=True, max_length=3),
    "no mask": lambda t: t(TEXTS, return_attention_mask=False),
    "with a mask": lambda t: t(TEXTS, return_attention_mask=True),
    "multiple of 8": lambda t: t(TEXTS, padding=True, pad_to_multiple_of=8),
    "multiple of 5, pt": lambda t: t(TEXTS, padding="longest", pad_to_multiple_of=5, return_tensors="pt"),
    "multiple without padding": lambda t: t(TEXTS, pad_to_multiple_of=8),
    "multiple that contradicts": lambda t: t(TEXTS, padding=True, truncation=True, max_length=9, pad_to_multiple_of=4),
    "special tokens mask": lambda t: t(TEXTS, return_special_tokens_mask=True),
    "special tokens mask, padded": lambda t: t(TEXTS, padding=True, return_special_tokens_mask=True),
    "length": lambda t: t(TEXTS, return_length=True),
    "words": lambda t: t([["a", "cat"], ["go", "shopping"]], is_split_into_words=True),
    "words of one": lambda t: t(["a", "cat"], is_split_into_words=True),
    "a tuple": lambda t: t(("a cat", "a dog")),
    "attributes": lambda t: [t("a cat").input_ids, t("a cat").attention_mask],
    "keys": lambda t: sorted(t("a cat").keys()),
    "to": lambda t: t("a cat", return_tensors="pt").to("cpu"),
    "in": lambda t: "input_ids" in t("a cat"),
    "missing attribute": lambda t: t("a cat").pixel_values,
    "encode": lambda t: t.encode("a cat"),
    "encode without": lambda t: t.encode("a cat", add_special_tokens=False),
    "encode pt": lambda t: t.encode("a cat", return_tensors="pt"),
    "encode padded": lambda t: t.encode("a cat", padding="max_length", max_length=9),
    "encode cut": lambda t: t.encode("a cat on a very long mat", truncation=True, max_length=5),
    "tokenize": lambda t: t.tokenize("It's a photo of 12 cats"),
    "tokenize with": lambda t: t.tokenize("a cat", add_special_tokens=True),
    "tokens to ids": lambda t: t.convert_tokens_to_ids(t.tokenize("a photo")),
    "token to id": lambda t: t.convert_tokens_to_ids("<|endoftext|>"),
    "unknown token to id": lambda t: t.convert_tokens_to_ids("zzzzzz"),
    "ids to tokens": lambda t: t.convert_ids_to_tokens(t.encode("a photo")),
    "ids to tokens, skip": lambda t: t.convert_ids_to_tokens(t.encode("a photo"), skip_special_tokens=True),
    "id to token": lambda t: t.convert_ids_to_tokens(813),
    "tokens to string": lambda t: t.convert_tokens_to_string(t.tokenize("a photo of it")),
    "decode": lambda t: t.decode(t.encode("a photo of a cat")),
    "decode skip": lambda t: t.decode(t.encode("a photo of a cat"), skip_special_tokens=True),
    "decode keywords": lambda t: t.decode(
        token_ids=t.encode("it 's a cat , or not ?"), skip_special_tokens=True, clean_up_tokenization_spaces=True
    ),
    "decode uncleaned": lambda t: t.decode(t.encode("a cat , or not ?"), clean_up_tokenization_spaces=False),
    "decode default": lambda t: t.decode(t.encode("a cat , or not ?"), skip_special_tokens=True),
    "decode a tensor": lambda t: t.decode(torch.tensor(t.encode("a photo"))),
    "decode an array": lambda t: t.decode(np.array(t.encode("a photo"))),
    "decode one id": lambda t: t.decode(813),
    "batch_decode": lambda t: t.batch_decode(t(TEXTS)["input_ids"]),
    "batch_decode keywords": lambda t: t.batch_decode(sequences=t(TEXTS)["input_ids"], skip_special_tokens=True),
    "batch_decode a tensor": lambda t: t.batch_decode(t(TEXTS, padding=True, return_tensors="pt").input_ids),
    "pad": lambda t: t.pad(t(TEXTS)),
    "pad, pt": lambda t: t.pad(t(TEXTS), return_tensors="pt"),
    "pad a list": lambda t: t.pad([t("a cat"), t("a photo of a cat")], return_tensors="np"),
    "pad to length": lambda t: t.pad(t(["a cat"]), padding="max_length", max_length=9),
    "pad one": lambda t: t.pad(t("a cat"), padding="max_length", max_length=9),
    "pad multiple": lambda t: t.pad(t(TEXTS), pad_to_multiple_of=8),
    "pad ids alone": lambda t: t.pad({"input_ids": [[1, 2], [3]]}),
    "pad no mask": lambda t: t.pad({"input_ids": [[1, 2], [3]]}, return_attention_mask=False),
    "len": lambda t: len(t),
    **{
        name: lambda t, n=name: getattr(t, n)
        for name in (
            *("vocab_size", "bos_token", "eos_token", "pad_token", "unk_token", "bos_token_id", "eos_token_id"),
            *("pad_token_id", "unk_token_id", "model_max_length", "padding_side", "truncation_side", "is_fast"),
            *("model_input_names", "all_special_ids", "all_special_tokens", "special_tokens_map"),
        )
    },
    "get_vocab": lambda t: t.get_vocab(),
}
for key, function in _T.items():
    call(f"tokenizer: {key}", lambda x, f=function: f(x.once("CLIPTokenizer")))
call("AutoTokenizer", lambda x: x.AutoTokenizer.from_pretrained(x.folder)(TEXTS, padding=True, return_tensors="pt"))
call("CLIPTokenizerFast", lambda x: x.CLIPTokenizerFast.from_pretrained(x.folder)(TEXTS))
for key, value in {"padding_side": "left", "truncation_side": "left", "model_max_length": 7, "pad_token": "!"}.items():
    call(
        f"tokenizer({key}={value!r})",
        lambda x, k=key, v=value: x.CLIPTokenizer.from_pretrained(x.folder, **{k: v})(
            TEXTS, padding=True, truncation=True, **({} if k == "model_max_length" else {"max_length": 7})
        ),
    )
call(
    "tokenizer.padding_side =",
    lambda x: _set(x.CLIPTokenizer.from_pretrained(x.folder), "padding_side", "left")(TEXTS, padding=True),
)
call("tokenizer save, load", lambda x: _again(x, x.CLIPTokenizer.from_pretrained(x.folder))(TEXTS))
call("tokenizer files", lambda x: _saved_files(x.CLIPTokenizer.from_pretrained(x.folder)))


def _again(x: Any, thing: Any, **kwargs: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        thing.save_pretrained(folder)
        return type(thing).from_pretrained(folder, **kwargs)


def _saved_files(thing: Any, **kwargs: Any) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        thing.save_pretrained(folder, **kwargs)
        return sorted(path.name for path in Path(folder).iterdir())


# Image processor. Where pixels are resampled, implementations differ by a grey level: names with "~".

_I: dict[str, Callable[[Any, Any], Any]] = {
    "defaults": lambda p, x: {
        name: getattr(type(p)(), name)
        for name in ("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor")
    },
    "default mean": lambda p, x: [list(type(p)().image_mean), list(type(p)().image_std)],
    **{
        name: lambda p, x, n=name: getattr(p, n)
        for name in (
            *("do_resize", "size", "resample", "do_center_crop", "crop_size", "do_rescale", "rescale_factor"),
            *("do_normalize", "image_mean", "image_std", "model_input_names"),
        )
    },
    "a list": lambda p, x: p(list(x.exact), return_tensors="pt"),
    "preprocess": lambda p, x: p.preprocess(list(x.exact), return_tensors="pt"),
    "videos=": lambda p, x: p(videos=list(x.exact), return_tensors="np"),
    "lists": lambda p, x: p(list(x.exact)),
    "a batch": lambda p, x: p([list(x.exact), list(255 - x.exact)], return_tensors="pt"),
    "Pillow": lambda p, x: p([Image.fromarray(f) for f in x.exact], return_tensors="pt"),
    "Pillow still": lambda p, x: p(Image.fromarray(x.exact[0]), return_tensors="pt"),
    "torch": lambda p, x: p([torch.from_numpy(f) for f in x.exact], return_tensors="pt"),
    "torch, channels first": lambda p, x: p(
        [torch.from_numpy(f).permute(2, 0, 1) for f in x.exact], return_tensors="pt"
    ),
    "channels first": lambda p, x: p(list(x.exact.transpose(0, 3, 1, 2)), return_tensors="pt"),
    "input_data_format": lambda p, x: p(list(x.exact), return_tensors="pt", input_data_format="channels_last"),
    "data_format last": lambda p, x: p(list(x.exact), return_tensors="np", data_format="channels_last"),
    "no rescale": lambda p, x: p(list(x.exact), return_tensors="np", do_rescale=False),
    "no normalise": lambda p, x: p(list(x.exact), return_tensors="np", do_normalize=False),
    "neither": lambda p, x: p(list(x.exact), return_tensors="np", do_normalize=False, do_rescale=False),
    "no crop": lambda p, x: p(list(x.exact), return_tensors="np", do_center_crop=False),
    "no resize": lambda p, x: p(list(x.frames), return_tensors="np", do_resize=False),
    "nothing": lambda p, x: p(
        list(x.frames), return_tensors="np", do_resize=False, do_center_crop=False, do_normalize=False, do_rescale=False
    ),
    "crop_size": lambda p, x: p(list(x.exact), return_tensors="np", crop_size={"height": 20, "width": 24}),
    "crop_size of a number": lambda p, x: p(list(x.exact), return_tensors="np", crop_size=20),
    "crop larger": lambda p, x: p(list(x.exact), return_tensors="np", crop_size=40),
    "rescale_factor": lambda p, x: p(list(x.exact), return_tensors="np", rescale_factor=1 / 127.5),
    "mean and std": lambda p, x: p(
        list(x.exact), return_tensors="np", image_mean=[0.1, 0.2, 0.3], image_std=[1.0, 2.0, 3.0]
    ),
    "mean of one number": lambda p, x: p(list(x.exact), return_tensors="np", image_mean=0.5, image_std=0.25),
    "floats 0-255": lambda p, x: p(list(x.exact.astype(np.float32)), return_tensors="np"),
    "floats 0-1": lambda p, x: p(list(x.exact.astype(np.float32) / 255), return_tensors="np", do_rescale=False),
    "floats 0-1 rescaled": lambda p, x: p(list(x.exact.astype(np.float32) / 255), return_tensors="np"),
    "floats beyond": lambda p, x: p(list(x.exact.astype(np.float32) * 1.37), return_tensors="np"),
    "~ size": lambda p, x: p(list(x.frames), return_tensors="np", size={"shortest_edge": 36}),
    "~ size of a number": lambda p, x: p(list(x.frames), return_tensors="np", size=36),
    "~ size, both sides": lambda p, x: p(list(x.frames), return_tensors="np", size={"height": 36, "width": 44}),
    "~ a list": lambda p, x: p(list(x.frames), return_tensors="pt"),
    "~ bicubic": lambda p, x: p(list(x.frames), return_tensors="pt", resample=3),
    "~ bicubic by name": lambda p, x: p(list(x.frames), return_tensors="pt", resample=Image.Resampling.BICUBIC),
    "nearest": lambda p, x: p(list(x.frames), return_tensors="pt", resample=0, size=20, do_center_crop=False),
    "unknown keyword": lambda p, x: p(list(x.exact), return_tensors="pt", do_flip=True),
    "unknown tensors": lambda p, x: p(list(x.exact), return_tensors="xx"),
    "a name": lambda p, x: p("video.mp4", return_tensors="pt"),
    "save, load": lambda p, x: _values(_again(x, p), ["size", "crop_size", "image_mean", "image_std", "resample"]),
    "save files": lambda p, x: _saved_files(p),
    "to_dict": lambda p, x: {k: p.to_dict()[k] for k in ("size", "crop_size", "do_resize", "image_mean")},
}
for key, function2 in _I.items():
    call(f"image processor: {key}", lambda x, f=function2: f(x.once("VideoMAEImageProcessor"), x))
call(
    "image processor(override)",
    lambda x: x.VideoMAEImageProcessor.from_pretrained(x.folder, do_rescale=False).do_rescale,
)
call("image processor(size=64)", lambda x: x.VideoMAEImageProcessor(size={"shortest_edge": 64}).size)
call("image processor(64)", lambda x: x.VideoMAEImageProcessor(size=64, crop_size=48).crop_size)


# Processor

_P: dict[str, Callable[[Any, Any], Any]] = {
    "texts": lambda p, x: p(text=TEXTS, padding=True, return_tensors="pt"),
    "a text": lambda p, x: p(text="a cat", return_tensors="pt"),
    "a text, lists": lambda p, x: p(text="a cat"),
    "videos": lambda p, x: p(videos=list(x.exact), return_tensors="pt"),
    "images=": lambda p, x: p(images=list(x.exact), return_tensors="pt"),
    "a still": lambda p, x: p(images=Image.fromarray(x.exact[0]), return_tensors="pt"),
    "both": lambda p, x: p(text=TEXTS, videos=list(x.exact), return_tensors="pt", padding=True),
    "both, np": lambda p, x: p(text=TEXTS, videos=list(x.exact), return_tensors="np", padding=True),
    "positions": lambda p, x: p(TEXTS, list(x.exact), "pt", padding=True),
    "max_length": lambda p, x: p(text=TEXTS, return_tensors="pt", padding="max_length", max_length=9, truncation=True),
    "neither": lambda p, x: p(return_tensors="pt"),
    "not padded": lambda p, x: p(text=TEXTS, return_tensors="pt"),
    "do_rescale": lambda p, x: p(videos=list(x.exact), return_tensors="pt", do_rescale=False),
    "do_normalize": lambda p, x: p(videos=list(x.exact), return_tensors="np", do_normalize=False),
    "decode": lambda p, x: p.decode(p(text="a cat")["input_ids"]),
    "batch_decode": lambda p, x: p.batch_decode(p(text=TEXTS)["input_ids"], skip_special_tokens=True),
    "attributes": lambda p, x: [hasattr(p, name) for name in ("image_processor", "tokenizer")],
    "to": lambda p, x: p(text=TEXTS, videos=list(x.exact), return_tensors="pt", padding=True).to("cpu"),
    "keys": lambda p, x: sorted(p(text=TEXTS, videos=list(x.exact), return_tensors="pt", padding=True).keys()),
    "save, load": lambda p, x: _again(x, p)(text=TEXTS, videos=list(x.exact), return_tensors="pt", padding=True),
    "by name": lambda p, x: type(p)(image_processor=p.image_processor, tokenizer=p.tokenizer)(text="a"),
    "by position": lambda p, x: type(p)(p.image_processor, p.tokenizer)(text="a"),
    "by older name": lambda p, x: type(p)(feature_extractor=p.image_processor, tokenizer=p.tokenizer)(text="a"),
    "no tokenizer": lambda p, x: type(p)(p.image_processor),
    "no image processor": lambda p, x: type(p)(tokenizer=p.tokenizer),
}
for key, function2 in _P.items():
    call(f"processor: {key}", lambda x, f=function2: f(x.once("XCLIPProcessor"), x))
call(
    "AutoProcessor", lambda x: x.AutoProcessor.from_pretrained(x.folder)(text=TEXTS, padding=True, return_tensors="pt")
)
call("AutoImageProcessor", lambda x: x.AutoImageProcessor.from_pretrained(x.folder)(list(x.exact), return_tensors="pt"))


# Models

ALL = {"output_attentions": True, "output_hidden_states": True, "return_loss": True}
_M: dict[str, Callable[[Any, Any], Any]] = {
    "keywords": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels, attention_mask=x.mask),
    "positions": lambda m, x: m(x.ids, x.pixels, x.mask),
    "no mask": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels),
    "loss": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels, return_loss=True).loss,
    "loss, unequal": lambda m, x: m(input_ids=x.ids[:2], pixel_values=x.pixels, return_loss=True).loss,
    "position_ids": lambda m, x: m(
        input_ids=x.ids, pixel_values=x.pixels, position_ids=torch.tensor([[4, 3, 2, 1, 0]])
    ),
    "hidden states": lambda m, x: (
        m(input_ids=x.ids, pixel_values=x.pixels, output_hidden_states=True).text_model_output
    ),
    "vision hidden states": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels, output_hidden_states=True)[
        "vision_model_output"
    ],
    "attentions": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels, output_attentions=True).text_model_output,
    "tuple": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels, return_dict=False),
    "tuple, loss": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels, return_dict=False, return_loss=True),
    "tuple, positions": lambda m, x: len(m(x.ids, x.pixels, x.mask, None, True, False, False, False)),
    "keys": lambda m, x: sorted(m(input_ids=x.ids, pixel_values=x.pixels).keys()),
    "iterating": lambda m, x: sorted(m(input_ids=x.ids, pixel_values=x.pixels)),
    "items": lambda m, x: sorted(name for name, _ in m(input_ids=x.ids, pixel_values=x.pixels).items()),
    "len": lambda m, x: len(m(input_ids=x.ids, pixel_values=x.pixels)),
    "len(values)": lambda m, x: len(list(m(input_ids=x.ids, pixel_values=x.pixels).values())),
    "get": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels).get("loss", "none"),
    "**output": lambda m, x: sorted(dict(**m(input_ids=x.ids, pixel_values=x.pixels))),
    "to_tuple": lambda m, x: len(m(input_ids=x.ids, pixel_values=x.pixels).to_tuple()),
    "missing key": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels)["loss"],
    "no ids": lambda m, x: m(pixel_values=x.pixels),
    "no pixels": lambda m, x: m(input_ids=x.ids),
    "nothing": lambda m, x: m(),
    "wrong frames": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels[:, :7]),
    "wrong size": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels[..., :16]),
    "four dimensions": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels[0]),
    "unknown keyword": lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels, output_everything=True),
    "text features": lambda m, x: features(m.get_text_features(x.ids, x.mask)),
    "text features, keywords": lambda m, x: features(
        m.get_text_features(input_ids=x.ids, attention_mask=x.mask, output_attentions=False, output_hidden_states=False)
    ),
    "text features, return_dict": lambda m, x: features(m.get_text_features(input_ids=x.ids, return_dict=True)),
    "text features, position_ids": lambda m, x: features(
        m.get_text_features(x.ids, None, torch.tensor([[4, 3, 2, 1, 0]]))
    ),
    "text features of nothing": lambda m, x: features(m.get_text_features()),
    "video features": lambda m, x: features(m.get_video_features(x.pixels)),
    "video features, keywords": lambda m, x: features(
        m.get_video_features(pixel_values=x.pixels, output_attentions=True, output_hidden_states=True)
    ),
    "video features of nothing": lambda m, x: features(m.get_video_features()),
    "text_model": lambda m, x: m.text_model(x.ids),
    "text_model, return_dict": lambda m, x: m.text_model(x.ids, attention_mask=x.mask, return_dict=True),
    "text_model, tuple": lambda m, x: m.text_model(x.ids, return_dict=False),
    "text_model, all": lambda m, x: m.text_model(x.ids, output_hidden_states=True, output_attentions=True),
    "text_model[0]": lambda m, x: m.text_model(x.ids)[0],
    "vision_model": lambda m, x: m.vision_model(x.pixels.flatten(0, 1)),
    "vision_model, return_dict": lambda m, x: m.vision_model(pixel_values=x.pixels.flatten(0, 1), return_dict=True),
    "vision_model, tuple": lambda m, x: m.vision_model(x.pixels.flatten(0, 1), return_dict=False),
    "vision_model, all": lambda m, x: m.vision_model(
        x.pixels.flatten(0, 1), output_hidden_states=True, output_attentions=True
    ),
    "vision_model of nothing": lambda m, x: m.vision_model(),
    "mit": lambda m, x: m.mit(torch.ones(2, 8, 32)),
    "visual_projection": lambda m, x: m.visual_projection(torch.ones(2, 36)),
    "text_projection": lambda m, x: m.text_projection(torch.ones(2, 24)),
    "logit_scale": lambda m, x: m.logit_scale,
    "parameters": lambda m, x: {name: list(p.shape) for name, p in m.named_parameters()},
    "state_dict": lambda m, x: sorted(name for name in m.state_dict() if "position_ids" not in name),
    "num_parameters": lambda m, x: m.num_parameters(),
    "num_parameters, trainable": lambda m, x: m.num_parameters(only_trainable=True),
    "dtype": lambda m, x: m.dtype,
    "device": lambda m, x: str(m.device),
    "config": lambda m, x: type(m.config).__name__,
    "training": lambda m, x: m.training,
    "main_input_name": lambda m, x: m.main_input_name,
    "is_gradient_checkpointing": lambda m, x: m.is_gradient_checkpointing,
    "text embeddings": lambda m, x: list(m.text_model.embeddings.token_embedding.weight.shape),
    "config.use_return_dict": lambda m, x: m.config.use_return_dict,
}
for key, function2 in _M.items():
    call(f"model: {key}", lambda x, f=function2: _calm(f, x.once("XCLIPModel"), x))
call(
    "AutoModel",
    lambda x: _calm(
        lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels)["logits_per_video"],
        x.AutoModel.from_pretrained(x.folder),
        x,
    ),
)
call("model: from a config", lambda x: _small(x).num_parameters())
call("model: AutoModel.from_config", lambda x: x.AutoModel.from_config(_small_config(x)).num_parameters())
call(
    "model: half",
    lambda x: _calm(
        lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels).text_model_output[0].dtype,
        x.XCLIPModel.from_pretrained(x.folder).half(),
        x,
    ),
)
call(
    "model: double",
    lambda x: _calm(
        lambda m, x: m(input_ids=x.ids, pixel_values=x.pixels.double()).logits_per_video,
        x.XCLIPModel.from_pretrained(x.folder).double(),
        x,
    ),
)
call("model: freeze", lambda x: _frozen(x.XCLIPModel.from_pretrained(x.folder)))
call("model: checkpointing", lambda x: _checkpointed(x.XCLIPModel.from_pretrained(x.folder), x))
call("model: gradients", lambda x: _gradients(x.XCLIPModel.from_pretrained(x.folder), x))
call(
    "text tower: embeddings",
    lambda x: list(x.XCLIPTextModel(_small_config(x).text_config).get_input_embeddings().weight.shape),
)
call(
    "vision tower: embeddings",
    lambda x: list(x.XCLIPVisionModel(_small_config(x).vision_config).get_input_embeddings().weight.shape),
)
call(
    "text tower: resize",
    lambda x: list(x.XCLIPTextModel(_small_config(x).text_config).resize_token_embeddings(120).weight.shape),
)
call(
    "text tower: forward",
    lambda x: list(
        x.XCLIPTextModel(_small_config(x).text_config)(torch.ones(2, 4, dtype=torch.long)).pooler_output.shape
    ),
)
call(
    "vision tower: forward",
    lambda x: list(x.XCLIPVisionModel(_small_config(x).vision_config)(torch.ones(8, 3, 32, 32)).pooler_output.shape),
)
call(
    "vision tower: tuple",
    lambda x: len(x.XCLIPVisionModel(_small_config(x).vision_config)(torch.ones(8, 3, 32, 32), return_dict=False)),
)


def _calm(function: Callable[[Any, Any], Any], model: Any, x: Any) -> Any:
    with torch.no_grad():
        return function(model.eval(), x)


def _small_config(x: Any) -> Any:
    return x.XCLIPConfig(
        text_config=dict(TEXT), vision_config=dict(VISION), projection_dim=32, prompt_num_attention_heads=4
    )


def _small(x: Any) -> Any:
    return x.XCLIPModel(_small_config(x))


def _frozen(model: Any) -> Any:
    for parameter in model.text_model.parameters():
        parameter.requires_grad = False
    return model.num_parameters(only_trainable=True)


def _checkpointed(model: Any, x: Any) -> Any:
    model.train().gradient_checkpointing_enable()
    enabled = model.is_gradient_checkpointing
    model(input_ids=x.ids, pixel_values=x.pixels, return_loss=True).loss.backward()
    model.gradient_checkpointing_disable()
    return [enabled, model.is_gradient_checkpointing, model.text_projection.weight.grad]


def _gradients(model: Any, x: Any) -> Any:
    model.train()(input_ids=x.ids, pixel_values=x.pixels, return_loss=True).loss.backward()
    return {
        name: p.grad.abs().max().item() > 0
        for name, p in model.named_parameters()
        if "k_proj.bias" not in name and "message" not in name
    }


# Loading and saving

_L: dict[str, dict[str, Any]] = {
    "nothing": {},
    "torch_dtype": {"torch_dtype": torch.float16},
    "torch_dtype, a string": {"torch_dtype": "float16"},
    "torch_dtype, auto": {"torch_dtype": "auto"},
    "torch_dtype, unknown": {"torch_dtype": "float17"},
    "revision": {"revision": "main"},
    "local_files_only": {"local_files_only": True},
    "force_download": {"force_download": False},
    "token": {"token": None},
    "low_cpu_mem_usage": {"low_cpu_mem_usage": False},
    "output_attentions": {"output_attentions": True},
    "output_hidden_states": {"output_hidden_states": True},
    "use_safetensors": {"use_safetensors": True},
    "use_safetensors=False": {"use_safetensors": False},
    "ignore_mismatched_sizes": {"ignore_mismatched_sizes": True},
    "trust_remote_code=False": {"trust_remote_code": False},
    "unknown": {"no_such_keyword": 1},
}
for key, keywords in _L.items():
    call(f"load: {key}", lambda x, k=keywords: _loaded(x.XCLIPModel.from_pretrained(x.folder, **k)))
call("load: cache_dir", lambda x: _loaded(x.XCLIPModel.from_pretrained(x.folder, cache_dir=x.tmp)))
call("load: a string", lambda x: _loaded(x.XCLIPModel.from_pretrained(str(x.folder))))
call("load: by name", lambda x: _loaded(x.XCLIPModel.from_pretrained(pretrained_model_name_or_path=x.folder)))
call(
    "load: config",
    lambda x: _loaded(x.XCLIPModel.from_pretrained(x.folder, config=x.XCLIPConfig.from_pretrained(x.folder))),
)
call("load: config folder", lambda x: _loaded(x.XCLIPModel.from_pretrained(x.folder, config=x.folder)))
call(
    "load: info",
    lambda x: {
        k: len(v)
        for k, v in x.XCLIPModel.from_pretrained(x.folder, output_loading_info=True)[1].items()
        if k != "error_msgs"
    },
)
call("load: missing folder", lambda x: _expect(OSError, lambda: x.XCLIPModel.from_pretrained(str(x.tmp / "none"))))
call("load: no weights", lambda x: _expect(OSError, lambda: x.XCLIPModel.from_pretrained(_config_only(x))))
call(
    "load: another size",
    lambda x: (
        x.XCLIPModel.from_pretrained(x.folder, ignore_mismatched_sizes=True, logit_scale_init_value=1.0).logit_scale
    ),
)
call("load: mismatched", lambda x: list(_mismatched(x).text_model.embeddings.position_embedding.weight.shape))
call("load: with a head", lambda x: _with_head(x))
for key, options in {
    "safetensors": {},
    "pickled": {"safe_serialization": False},
    "shards": {"max_shard_size": "60KB"},
    "shards of bytes": {"max_shard_size": 60000},
    "pickled shards": {"max_shard_size": "60KB", "safe_serialization": False},
    "not the main process": {"is_main_process": False},
}.items():
    call(f"save: {key}", lambda x, o=options: _model_files(x, **o))
    if key != "not the main process":
        call(f"save: {key}, load", lambda x, o=options: _saved_logits(x, **o))
call(
    "save: state_dict",
    lambda x: _saved_logits(x, state_dict={k: v * 0.5 for k, v in x.once("XCLIPModel").state_dict().items()}),
)
call("save: config", lambda x: _saved_config(x))
for tower in ("XCLIPTextModel", "XCLIPVisionModel"):
    call(f"save: {tower}, load", lambda x, t=tower: _tower_again(x, t))


def _loaded(model: Any) -> Any:
    return [model.dtype, model.training, model.config.output_attentions, model.config.output_hidden_states]


def _expect(kind: type[Exception], function: Callable[[], Any]) -> str:
    try:
        function()
    except kind:
        return f"an {kind.__name__}"
    return "nothing raised"


def _config_only(x: Any) -> Path:
    folder = x.tmp / "config only"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text((x.folder / "config.json").read_text("utf-8"), "utf-8")
    return folder


def _mismatched(x: Any) -> Any:
    config = x.XCLIPConfig.from_pretrained(x.folder)
    config.text_config.max_position_embeddings = 50
    return x.XCLIPModel.from_pretrained(x.folder, config=config, ignore_mismatched_sizes=True)


def _with_head(x: Any) -> Any:
    class Classifier(x.XCLIPModel):  # type: ignore[name-defined, misc]
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.head = torch.nn.Linear(config.projection_dim, config.num_labels)
            self.post_init()

    model, info = Classifier.from_pretrained(x.folder, num_labels=5, output_loading_info=True)
    return [sorted(info["missing_keys"]), list(model.head.weight.shape), bool(model.head.weight.isfinite().all())]


def _model_files(x: Any, **options: Any) -> list[str]:
    return [name for name in _saved_files(x.once("XCLIPModel"), **options) if name != "generation_config.json"]


def _saved_logits(x: Any, **options: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        x.once("XCLIPModel").save_pretrained(folder, **options)
        return _calm(lambda m, x: m(x.ids, x.pixels).logits_per_video, x.XCLIPModel.from_pretrained(folder), x)


def _saved_config(x: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        x.XCLIPModel.from_pretrained(x.folder).save_pretrained(folder)
        values = json.loads((Path(folder) / "config.json").read_text("utf-8"))
    return {key: values.get(key) for key in ("architectures", "model_type", "projection_dim", "prompt_alpha")}


def _tower_again(x: Any, tower: str) -> Any:
    whole = x.XCLIPModel.from_pretrained(x.folder)
    part = "text" if "Text" in tower else "vision"
    model = getattr(x, tower)(getattr(whole.config, f"{part}_config"))
    inner = getattr(whole, f"{part}_model")
    getattr(model, f"{part}_model", model).load_state_dict(inner.state_dict())
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = getattr(x, tower).from_pretrained(folder)
    given = x.ids if part == "text" else x.pixels.flatten(0, 1)
    return _calm(lambda m, x: m(given).pooler_output, again, x)


def run(name: str, folder: Path) -> dict[str, tuple[str, Any]]:
    """Every call's outcome."""
    torch.set_num_threads(1)
    results: dict[str, tuple[str, Any]] = {}
    with tempfile.TemporaryDirectory() as tmp, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x = library(name, folder, Path(tmp))
        for key, function in CALLS.items():
            torch.manual_seed(0)
            try:
                results[key] = ("ok", plain(function(x)))
            except Exception as error:
                results[key] = ("error", f"{type(error).__name__}: {error}"[:300])
    return results


if __name__ == "__main__":
    outcome = run(sys.argv[1], Path(sys.argv[2]))
    Path(sys.argv[3]).write_bytes(pickle.dumps(outcome))
