"""Checkpoints from strangers: each fault is one ModelError of one line, in little memory, whatever the files say."""

from __future__ import annotations

import json
import pickle
import re
import resource
import shutil
import struct
import subprocess
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import Run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from xclip_cli.errors import ModelError
from xclip_cli.model import XCLIPConfig, XCLIPModel, XCLIPTextConfig, XCLIPVisionConfig
from xclip_cli.model.checkpoint.find import find_checkpoint
from xclip_cli.model.processor import XCLIPImageProcessor

LIMIT = 4 << 30  # bytes of address space: torch alone maps 1.5 GB
GROWTH = 400  # MB of memory that no case may add to those before it

Change = Callable[[Path], Any]


def text(name: str, content: str | bytes) -> Change:
    return lambda folder: (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def edited(name: str, edit: Callable[[Any], Any]) -> Change:
    """A JSON file, changed in place or for what ``edit`` returns."""

    def change(folder: Path) -> None:
        values = json.loads((folder / name).read_text("utf-8"))
        result = edit(values)
        (folder / name).write_text(json.dumps(values if result is None else result), "utf-8")

    return change


def config(part: str | None = None, **values: Any) -> Change:
    return edited("config.json", lambda c: (c if part is None else c[part]).update(values))


def large(name: str, megabytes: int, start: bytes = b"") -> Change:
    """A file without content, which takes no disk."""

    def change(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.write(start)
            file.truncate(megabytes << 20)

    return change


# safetensors


def raw(header: bytes, body: bytes = b"", length: int | None = None) -> Change:
    return text("model.safetensors", struct.pack("<Q", len(header) if length is None else length) + header + body)


def header(edit: Callable[[dict[str, Any]], Any]) -> Change:
    """The true file with another header."""

    def change(folder: Path) -> None:
        data = (folder / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        values = json.loads(data[8 : 8 + length])
        found = edit(values)
        raw(json.dumps(values).encode() if found is None else found, data[8 + length :])(folder)

    return change


def tensors(edit: Callable[[dict[str, Any]], Any]) -> Change:
    def change(folder: Path) -> None:
        state = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
        edit(state)
        save_file(state, folder / "model.safetensors")

    return change


BIAS = "text_model.final_layer_norm.bias"


def twice(values: dict[str, Any]) -> bytes:
    plain = json.dumps(values)
    return (plain[:-1] + f', "{BIAS}": {json.dumps(values[BIAS])}' + "}").encode()


def many_layers(state: dict[str, Any]) -> None:
    for i in range(2000):
        state[f"text_model.encoder.layers.{i}.layer_norm1.bias"] = torch.zeros(1)


SAFETENSORS: dict[str, tuple[Change, str]] = {
    "empty": (text("model.safetensors", b""), "has only 0 bytes"),
    "five bytes": (text("model.safetensors", b"12345"), "has only 5 bytes"),
    "header beyond the file": (raw(b"{}", length=1000), "is not a safetensors file, or it is cut off"),
    "header of 2**63": (raw(b"{}", length=1 << 63), "is not a safetensors file, or it is cut off"),
    "header of 120 MB": (large("model.safetensors", 130, struct.pack("<Q", 120 << 20)), "the limit is 10000000"),
    "header of 9 MB of lists": (raw(b'{"a":[' + b"[]," * 3_000_000 + b"[]]}"), "its header cannot be read"),
    "header not JSON": (raw(b"nothing!"), "its header cannot be read"),
    "header a list": (raw(b"[]      "), "its header cannot be read"),
    "header not UTF-8": (raw(b'{"\xff":1}'), "its header cannot be read"),
    "no tensors": (raw(b"{}"), "missing logit_scale, "),
    "offsets beyond the file": (
        header(lambda h: h[BIAS].update(data_offsets=[0, 1 << 50])),
        "cannot read the weights in",
    ),
    "offsets that overlap": (
        header(lambda h: h[BIAS].update(data_offsets=h["logit_scale"]["data_offsets"])),
        "cannot read the weights in",
    ),
    "offsets backwards": (
        header(lambda h: h[BIAS].update(data_offsets=h[BIAS]["data_offsets"][::-1])),
        "cannot read the weights in",
    ),
    "offsets below 0": (header(lambda h: h[BIAS].update(data_offsets=[-4, 0])), "cannot read the weights in"),
    "shape beyond the bytes": (header(lambda h: h[BIAS].update(shape=[1 << 40])), "cannot read the weights in"),
    "shape that overflows": (header(lambda h: h[BIAS].update(shape=[1 << 33] * 4)), "cannot read the weights in"),
    "dtype of another size": (header(lambda h: h[BIAS].update(dtype="F64")), "cannot read the weights in"),
    "unknown dtype": (header(lambda h: h[BIAS].update(dtype="F128")), "cannot read the weights in"),
    "no dtype": (header(lambda h: h[BIAS].pop("dtype") and None), "its header cannot be read"),
    "the same name twice": (header(twice), "its header cannot be read: it contains a name twice"),
    "cut off": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-9]),
        "cannot read the weights in",
    ),
    "a hole before the end": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes() + b"123"),
        "cannot read the weights in",
    ),
    "NaN": (tensors(lambda s: s[BIAS].view(-1)[3].fill_(float("nan"))), f"{BIAS} has values that are not finite"),
    "infinity": (tensors(lambda s: s[BIAS].view(-1)[3].fill_(float("-inf"))), f"{BIAS} has values that are not fin"),
    "whole numbers": (tensors(lambda s: s.update({BIAS: s[BIAS].long()})), f"{BIAS} is of torch.int64"),
    "numbers beyond float32": (
        tensors(lambda s: s.update({BIAS: s[BIAS].double() * 1e300})),
        f"do not fit into torch.float32: {BIAS} has larger numbers",
    ),
    "a name that steers terminals": (tensors(lambda s: s.update({"\x1b[2J\n" * 999: torch.zeros(1)})), r"\?\[2J \?"),
    "layers that the config lacks": (tensors(many_layers), "text_model.encoder.layers are 2000 layers, config.json s"),
}

# Pickles


class Called:
    """Unpickled, it calls something."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def pickled(edit: Callable[[dict[str, Any]], Any], **options: Any) -> Change:
    """A ``.bin`` as torch.save makes it, of changed weights."""

    def change(folder: Path) -> None:
        state: Any = OrderedDict(load_file(folder / "model.safetensors"))
        state = edit(state) or state
        (folder / "model.safetensors").unlink()
        torch.save(state, folder / "pytorch_model.bin", **options)

    return change


def with_pickle(data: bytes, compression: int = zipfile.ZIP_STORED) -> Change:
    """A ``.bin`` whose pickle is not what torch.save wrote."""

    def change(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        with zipfile.ZipFile(folder / "pytorch_model.bin", "w", compression) as archive:
            archive.writestr("archive/data.pkl", data)
            archive.writestr("archive/version", b"3\n")

    return change


def shared(state: dict[str, Any], count: int) -> None:
    """So many tensors of 4 MB, of the same numbers."""
    state.update({f"x{i}": tensor for i, tensor in enumerate([torch.zeros(1 << 20)] * count)})


def second_pickle(folder: Path) -> None:
    """A ``.bin`` of which torch's own reader, for which capitals are the same, reads another pickle: 2 KB as 6 GB."""
    pickled(lambda s: {"a": torch.zeros(3)})(folder)
    bomb = b"\x80\x02c__builtin__\nbytearray\n\x8a\x08" + struct.pack("<q", 6 << 30) + b"\x85R."
    with zipfile.ZipFile(folder / "pytorch_model.bin", "a") as archive:
        archive.writestr(archive.namelist()[0].split("/")[0] + "/DATA.PKL", bomb)


def cut_bin(folder: Path) -> None:
    pickled(lambda s: None)(folder)
    path = folder / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-2000])


ROOM = b"\x80\x02}r" + struct.pack("<I", (1 << 31) - 1) + b"."  # LONG_BINPUT: room for 2**32 objects in pickle's C code

WIDE = b"".join(b"q%ch%c\x86" % (i, i) for i in range(64))  # each a tuple of the one before it, twice

PICKLES: dict[str, tuple[Change, str]] = {
    "empty": (pickled(lambda s: None) and (lambda f: (cut_bin(f), text("pytorch_model.bin", b"")(f))), "cannot mmap"),
    "cut off": (cut_bin, "is not a file that torch saved, or it is damaged"),
    "runs code": (pickled(lambda s: s.update(a=Called(exec, "raise SystemExit"))), "it asks for .*exec"),
    "runs code, legacy": (
        pickled(lambda s: s.update(a=Called(exec, "raise SystemExit")), _use_new_zipfile_serialization=False),
        "it asks for .*exec",
    ),
    "8 GB of bytearray": (pickled(lambda s: s.update(a=Called(bytearray, 8 << 30))), "it asks for .*bytearray"),
    "room for 2**32 objects": (with_pickle(ROOM), "asks for room for 2147483647 objects"),
    "a name made on the stack": (with_pickle(b"\x80\x04\x8c\x02os\x8c\x06system\x93."), "it asks for STACK_GLOBAL"),
    "3 million opcodes": (with_pickle(b"\x80\x02" + b"}0" * 1_500_000 + b"}."), "larger than any checkpoint's"),
    "a compressed pickle": (with_pickle(b"N" * (50 << 20), zipfile.ZIP_DEFLATED), "compressed, which torch does not"),
    "a name of 200 MB": (with_pickle(b"\x80\x02X" + struct.pack("<I", 200 << 20) + bytes(200 << 20) + b"."), "damaged"),
    "a name of 100 GB": (with_pickle(b"\x80\x04\x8d" + struct.pack("<Q", 100 << 30) + b"."), "damaged"),
    "no end": (with_pickle(b"\x80\x02}"), "is not a file that torch saved, or it is damaged"),
    "not a pickle": (with_pickle(b"\xff" * 100), "is not a file that torch saved, or it is damaged"),
    "one number as 4 GB": (
        pickled(lambda s: s.update({BIAS: torch.zeros(1).expand(1 << 15, 1 << 15)})),
        f"{BIAS} of shape .* needs 4294967296 bytes, the file holds 4 of it",
    ),
    "4 MB as 4 GB": (pickled(lambda s: shared(s, 1000)), "holds tensors of 4[0-9]* bytes in a file of 4"),
    "4 MB as 4 GB, legacy": (
        pickled(lambda s: shared(s, 1000), _use_new_zipfile_serialization=False),
        "holds tensors of 4[0-9]* bytes in a file of 4",
    ),
    "many dimensions": (pickled(lambda s: s.update({BIAS: torch.zeros([1] * 50)})), f"{BIAS} has 50 dimensions"),
    "a key that nests 2**64 tuples": (with_pickle(b"\x80\x02})" + WIDE + b"Ns."), "tuple of tuples"),
    "a key of a million brackets": (with_pickle(b"\x80\x02})" + b"\x85" * 1_900_000 + b"Ns."), "tuple of tuples"),
    "a second pickle in capitals": (second_pickle, "missing logit_scale"),
    "numbers as names": (pickled(lambda s: {1: torch.zeros(1)}), "is not a state dict"),
    "NaN": (pickled(lambda s: s[BIAS].view(-1)[3].fill_(float("nan")) and None), f"{BIAS} has values that are not f"),
    "a list": (pickled(lambda s: [torch.zeros(1)]), "is not a state dict"),
}


# Configs


def nested(depth: int) -> str:
    return '{"model_type": "xclip", "a": ' + "[" * depth + "]" * depth + "}"


CONFIGS: dict[str, tuple[Change, str]] = {
    "a width of a billion": (config("text_config", hidden_size=10**9), "hidden_size is 1000000000, it must be a whole"),
    "a width of a million": (
        config("text_config", hidden_size=999_999),
        r"wrong shape: .* config.json says \[999999",
    ),
    "a million layers": (config("vision_config", num_hidden_layers=10**6), "num_hidden_layers is 1000000"),
    "a thousand layers": (
        config("vision_config", num_hidden_layers=1000),
        "vision_model.encoder.layers are 2 layers, config.json says 1000",
    ),
    "a thousand prompt layers": (config(prompt_layers=1000), "prompts_generator.decoder are 2 layers"),
    "a billion frames": (config("vision_config", num_frames=10**9), "num_frames is 1000000000"),
    "a thousand frames": (config("vision_config", num_frames=1000), r"mit.position_embedding is \[1, 8, 32\]"),
    "pictures of a billion": (config("vision_config", image_size=10**9), "image_size is 1000000000"),
    "pictures of 2048": (config("vision_config", image_size=2048), "wrong shape: vision_model.embeddings.position_emb"),
    "a clip too large": (
        config("vision_config", image_size=2048, num_frames=1000),
        "more than 33554432 pixels per clip",
    ),
    "patches of one pixel": (
        config("vision_config", image_size=1024, patch_size=1),
        "more than 262144 patches of patch_size 1 per clip",
    ),
    "a billion channels": (config("vision_config", num_channels=10**9), "num_channels is 1000000000"),
    "one channel": (config("vision_config", num_channels=1), "cannot take videos|wrong shape"),
    "a billion words": (config("text_config", vocab_size=10**9), "vocab_size is 1000000000"),
    "a million words": (config("text_config", vocab_size=10**6), "wrong shape: text_model.embeddings.token_embedding"),
    "few words": (config("text_config", vocab_size=5), "has ids up to .*, but its model has only 5 tokens"),
    "a huge integer": (config("text_config", hidden_size=10**4000), "hidden_size is 1000"),
    "an integer of 10,000 digits": (text("config.json", '{"a": ' + "1" * 10_000 + "}"), "cannot read .*config.json"),
    "nothing of a width": (config("text_config", hidden_size=0), "hidden_size is 0"),
    "NaN": (config("text_config", layer_norm_eps=float("nan")), "layer_norm_eps is nan"),
    "infinity": (config(logit_scale_init_value=float("inf")), "logit_scale_init_value is inf"),
    "deep": (text("config.json", nested(100_000)), "cannot read .*config.json: it is nested too deep"),
    "1 GB": (large("config.json", 1024), "larger than 16 MB"),
    "15 MB of lists": (text("config.json", '{"a":[' + "[]," * 5_000_000 + "[]]}"), "model_type None"),
    "a megabyte for a type": (edited("config.json", lambda c: {"model_type": "x" * (1 << 20)}), "of model_type 'xxx"),
    "not UTF-8": (text("config.json", b'{"\xff": 1}'), "cannot read .*config.json: 'utf-8' codec"),
    "UTF-16": (text("config.json", "{}".encode("utf-16")), "cannot read .*config.json: 'utf-8' codec"),
    "empty": (text("config.json", ""), "cannot read .*config.json"),
    "a tower as pairs": (config(text_config=[["hidden_size", 24]]), "an encoder's config is"),
}


# Tokenizers, preprocessors, other files


def deep() -> Any:
    """What the library reads, and cannot show."""
    value: Any = []
    for _ in range(900):
        value = [value]
    return value


REPLACING = {"type": "Replace", "pattern": {"String": "a"}, "content": "a" * 1000}
SLOW = {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Removed", "invert": True}


def tokenizer(edit: Callable[[Any], Any]) -> Change:
    return edited("tokenizer.json", edit)


def vocabulary_files(vocabulary: Any, merges: bytes) -> Change:
    def change(folder: Path) -> None:
        whole = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
        (folder / "tokenizer.json").unlink()
        content = vocabulary if isinstance(vocabulary, bytes) else json.dumps({**whole, **vocabulary}).encode()
        (folder / "vocab.json").write_bytes(content)
        (folder / "merges.txt").write_bytes(merges)

    return change


TEXTS: dict[str, tuple[Change, str]] = {
    "tokenizer of 1 GB": (large("tokenizer.json", 1024), "tokenizer.json is larger than 16 MB"),
    "tokenizer that is a list": (text("tokenizer.json", "[]"), "tokenizer.json holds list"),
    "tokenizer with a slow pattern": (
        tokenizer(lambda t: t["pre_tokenizer"].update(pretokenizers=[SLOW, t["pre_tokenizer"]["pretokenizers"][1]])),
        "its pre_tokenizer splits texts differently",
    ),
    "tokenizer that splits bytes otherwise": (
        tokenizer(lambda t: t["pre_tokenizer"]["pretokenizers"][1].update(use_regex=False)),
        "its pre_tokenizer splits texts differently",
    ),
    "tokenizer that makes gigabytes": (
        tokenizer(lambda t: t.update(normalizer={"type": "Sequence", "normalizers": [REPLACING] * 4})),
        "its normalizer changes texts differently",
    ),
    "tokenizer that would panic": (
        tokenizer(lambda t: t.update(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})),
        "its normalizer changes texts differently",
    ),
    "tokenizer that gives dice a say": (tokenizer(lambda t: t["model"].update(dropout=0.5)), "not a plain byte-pair"),
    "tokenizer of another kind": (tokenizer(lambda t: t["model"].update(type="Unigram")), "not a plain byte-pair"),
    "tokenizer without a model": (tokenizer(lambda t: t.pop("model") and None), "not a plain byte-pair"),
    "tokenizer of other words": (tokenizer(lambda t: t["model"].update(end_of_word_suffix="")), "do not end in </w>"),
    "tokenizer with more tokens": (
        tokenizer(lambda t: t.update(added_tokens=[{"id": 9999, "content": "new"}])),
        "it adds the token .*, which its vocabulary lacks",
    ),
    "ids that are twice there": (tokenizer(lambda t: t["model"]["vocab"].update({"!": 1, '"': 1})), "the same id"),
    "an id of a billion": (tokenizer(lambda t: t["model"]["vocab"].update({"!": 10**9})), "'!' has the id 1000000000"),
    "an id below 0": (tokenizer(lambda t: t["model"]["vocab"].update({"!": -1})), "'!' has the id -1"),
    "an id that is none": (tokenizer(lambda t: t["model"]["vocab"].update({"!": None})), "'!' has the id None"),
    "half a character": (tokenizer(lambda t: t["model"]["vocab"].update({"\ud800": 9998})), "has the id 9998"),
    "merges of nothing": (tokenizer(lambda t: t["model"].update(merges=[["qq", "zz"]])), r"the merge \['qq', 'zz'\]"),
    "merges of three": (tokenizer(lambda t: t["model"].update(merges=["a b c"])), "the merge .* is not of two"),
    "merges that are none": (tokenizer(lambda t: t["model"].update(merges=[5])), "the merge 5 is not of two"),
    "vocabulary that is a list": (tokenizer(lambda t: t["model"].update(vocab=[])), "it needs a vocabulary"),
    "added tokens that are a number": (tokenizer(lambda t: t.update(added_tokens=5)), "it adds the token 5"),
    "an added token that is deep": (
        tokenizer(lambda t: t.update(added_tokens=[deep()])),
        "cannot read .*tokenizer.json: it is nested too deep",
    ),
    "a merge that is deep": (tokenizer(lambda t: t["model"].update(merges=[deep()])), "it is nested too deep"),
    "a padding token of half a character": (
        edited("tokenizer_config.json", lambda c: {"pad_token": "\ud800"}),
        "lacks the token",
    ),
    "padding token": (edited("tokenizer_config.json", lambda c: {"pad_token": "\x1b[2J\n" * 99}), "lacks the token"),
    "padding token that is a list": (edited("tokenizer_config.json", lambda c: {"pad_token": [1]}), "lacks the token"),
    "vocab.json not JSON": (vocabulary_files(b"{", b""), "cannot read .*vocab.json"),
    "vocab.json of 1 GB": (
        lambda f: (vocabulary_files({}, b"")(f), large("vocab.json", 1024)(f)),
        "vocab.json is larger than 16 MB",
    ),
    "vocab.json of floats": (vocabulary_files({"!": 0.5}, b""), "'!' has the id 0.5"),
    "merges.txt of 1 GB": (
        lambda f: (vocabulary_files({}, b"")(f), large("merges.txt", 1024)(f)),
        "merges.txt is larger than 16 MB",
    ),
    "merges.txt not UTF-8": (vocabulary_files({}, b"a \xff\n"), "cannot read .*merges.txt: 'utf-8' codec"),
    "merges.txt of one word": (vocabulary_files({}, b"#version: 0.2\none\n"), r"the merge \['one'\] is not of two"),
    "phrases that are no text": (text("phrases.json", b"\xff\xfe"), "cannot read .*phrases.json"),
    "phrases of 1 GB": (large("phrases.json", 1024), "phrases.json is larger than 16 MB"),
    **{
        f"phrases: {content}": (text("phrases.json", content.encode()), f"phrases.json does not list phrases: {said}")
        for content, said in {
            "[": "JSONDecodeError",
            "[]": "TypeError",
            '{"families": {"a": {"patterns": ["{}"], "parts": [[1]]}}, "templates": []}': "TypeError",
            '{"families": {"a": {"patterns": ["{0:>9}"], "parts": [["b"]]}}, "templates": []}': "ValueError",
            '{"families": {"a": {"patterns": ["{}{}"], "parts": [%s, %s]}}, "templates": []}'
            % ((json.dumps(["b"] * 1000),) * 2): "ValueError: a family of more than 100000 phrases",
        }.items()
    },
    "identity of an endless file": (
        lambda f: (large("special_tokens_map.json", 300)(f), config(prompt_layers=3)(f)),
        "prompts_generator.decoder are 2 layers",
    ),
    **{
        f"preprocessor: {json.dumps(values)}": (
            lambda f, values=values: (
                (f / "processor_config.json").unlink(),
                text("preprocessor_config.json", json.dumps({"size": 32} | values))(f),
            ),
            "the image processor's settings in .* are unusable: |cannot take videos",
        )
        for values in (
            {"size": 10**9},
            {"size": -1},
            {"size": True},
            {"size": "32"},
            {"size": {"shortest_edge": 10**9}},
            {"size": {"a": [1]}},
            {"resample": 99},
            {"resample": [2]},
            {"resample": 2.0},
            {"image_std": [0, 0, 0]},
            {"image_std": [1, 1, float("nan")]},
            {"image_std": [1]},
            {"image_std": 0},
            {"image_mean": ["a", "b", "c"]},
            {"image_mean": [1e300, 0, 0]},
            {"rescale_factor": float("inf")},
            {"rescale_factor": "1/255"},
            {"do_center_crop": False},
            {"do_resize": "no"},
        )
    },
    "preprocessor: []": (
        lambda f: (text("preprocessor_config.json", "[]")(f),),
        "preprocessor_config.json holds list",
    ),
    "processor without an image processor": (
        text("processor_config.json", '{"image_processor": [1]}'),
        "no image processor in",
    ),
}

# Shards


def sharded(names: list[str], more: Change = lambda _: None) -> Change:
    def change(folder: Path) -> None:
        shutil.copy(folder / "model.safetensors", folder / "one.safetensors")
        (folder / "model.safetensors").unlink()
        more(folder)
        index = {"weight_map": {str(i): name for i, name in enumerate(names)}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")

    return change


SHARDS: dict[str, tuple[Change, str]] = {
    "a folder above": (sharded(["../model.safetensors"]), "names a shard outside its folder"),
    "a folder below": (sharded(["a/model.safetensors"]), "names a shard outside its folder"),
    "absolute": (sharded(["/etc/passwd"]), "names a shard outside its folder"),
    "missing": (sharded(["one.safetensors", "two.safetensors"]), "lists shards that are missing: two.safetensors"),
    "itself": (sharded(["model.safetensors.index.json"]), "names a shard that is not a .safetensors file"),
    "too many": (sharded([f"{i}.safetensors" for i in range(10_000)]), "names 10000 shards"),
    "a tensor in two": (
        sharded(
            ["one.safetensors", "two.safetensors"],
            lambda f: shutil.copy(f / "one.safetensors", f / "two.safetensors"),
        ),
        "hold a tensor in more than one file",
    ),
    "1 GB of index": (
        lambda f: ((f / "model.safetensors").unlink(), large("model.safetensors.index.json", 1024)(f)),
        "index.json is larger than 16 MB",
    ),
    "a folder as weights": (
        lambda f: ((f / "model.safetensors").unlink(), (f / "model.safetensors").mkdir()),
        "no weights in",
    ),
}

CASES = {
    f"{kind}: {name}": case
    for kind, cases in (
        ("safetensors", SAFETENSORS),
        ("bin", PICKLES),
        ("config", CONFIGS),
        ("texts", TEXTS),
        ("shards", SHARDS),
    )
    for name, case in cases.items()
}

# Every folder in one process: what each says, and how much memory the process has taken at most, in MB.
LOAD = """
import json, resource, sys
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
import torch
from xclip_cli import Classifier
from xclip_cli.errors import ModelError
from xclip_cli.model.describe import describe

def attempt(call):
    try:
        call()
        return None
    except ModelError as error:
        return str(error)
    except BaseException as error:
        return f"{type(error)}: {error}"

def use(folder):
    with Classifier(folder, labels=["a cat", "a dog"], device="cpu", dtype="float32") as classifier:
        _ = classifier.checkpoint.identity, classifier.encoder.image_processor, classifier.load()

peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
use(sys.argv[2])
for folder in sys.argv[3:]:
    before = peak()
    said, described = attempt(lambda: use(folder)), attempt(lambda: describe(folder))
    print(json.dumps([said, described, peak() - before]), flush=True)
"""


@pytest.fixture(scope="module")
def outcomes(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Any]]:
    """Of every case: what loading it says, what describing it says, and the memory it took."""
    parent = tmp_path_factory.mktemp("strangers")
    folders = []
    for i, (change, _) in enumerate(CASES.values()):
        folders.append(Path(shutil.copytree(checkpoint, parent / str(i))))
        change(folders[-1])
    command = [sys.executable, "-c", LOAD, str(LIMIT), str(checkpoint), *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "panicked" not in done.stderr
    return dict(zip(CASES, map(json.loads, done.stdout.splitlines()), strict=True))


@pytest.mark.parametrize("name", CASES)
def test_each_fault_is_one_clear_line_in_little_memory(outcomes: dict[str, list[Any]], name: str) -> None:
    said, described, growth = outcomes[name]
    assert said is not None, "it loads"
    assert re.search(CASES[name][1], said), said
    for line in (said, described or ""):
        assert not line.startswith("<class"), line
        assert line.isprintable()
        assert len(line) < 1500
    assert growth < GROWTH


SAMPLE = ["safetensors: NaN", "bin: runs code", "config: a width of a billion", "texts: tokenizer that is a list"]


@pytest.mark.parametrize("name", [*SAMPLE, "shards: absolute"])
def test_the_program_ends_with_4_and_one_line(
    xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path, name: str
) -> None:
    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    CASES[name][0](folder)
    done = xclip("classify", clip, "--label", "a cat", "--label", "a dog", "--model", folder)
    assert (done.returncode, done.stdout) == (4, "")
    assert re.fullmatch(rf"error: .*{CASES[name][1]}.*\n", done.stderr), done.stderr


def test_a_load_that_fails_leaves_the_model_as_it_was(checkpoint: Path, tmp_path: Path) -> None:
    """The last tensor of all is the bad one."""
    from xclip_cli.model.checkpoint.weights import StoredWeights

    folder = Path(shutil.copytree(checkpoint, tmp_path / "copy"))
    model = XCLIPModel.from_pretrained(folder)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    last = list(before)[-1]
    tensors(lambda s: [tensor.add_(1) for tensor in s.values()] and s[last].view(-1)[-1].fill_(float("nan")))(folder)
    with pytest.raises(ModelError, match=re.escape(last)):
        StoredWeights(folder).load(model, torch.float32, torch.device("cpu"))
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def test_an_authors_file_cannot_fill_the_memory(tmp_path: Path) -> None:
    from xclip_cli.model.checkpoint.original import OriginalWeights

    path = tmp_path / "k400.pth"
    names = b"".join(b"cm%d\nn\n0" % i for i in range(5000))
    faults = {
        ROOM: "asks for room for 2147483647 objects",
        b"\x80\x02X" + struct.pack("<I", 200 << 20) + bytes(200 << 20) + b".": "is not a file that torch saved",
        b"\x80\x02" + names + b"}.": "larger than any checkpoint's",
        pickle.dumps({"model": Called(bytearray, 8 << 30)}, 2): "expected weights under 'model'|is not an X-CLIP",
    }
    for data, message in faults.items():
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(ModelError, match=message):
            OriginalWeights(path).config()
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH << 10


@pytest.mark.parametrize("aligned", [True, False])
def test_an_authors_files_tensors_cannot_share_their_numbers(tmp_path: Path, aligned: bool) -> None:
    from xclip_cli.model.checkpoint.original import OriginalWeights

    state: dict[str, Any] = {}
    shared(state, 1000)
    torch.save({"model": state}, tmp_path / "k400.pth")
    if not aligned:  # an archive that was written by something else
        with zipfile.ZipFile(tmp_path / "k400.pth") as archive, zipfile.ZipFile(tmp_path / "new.pth", "w") as new:
            for name in archive.namelist():
                new.writestr(name, archive.read(name))
        (tmp_path / "new.pth").replace(tmp_path / "k400.pth")
    with pytest.raises(ModelError, match="it holds tensors of 4[0-9]* bytes in a file of 4"):
        OriginalWeights(tmp_path / "k400.pth")


def test_links_are_followed_to_files_and_nothing_else(checkpoint: Path, tmp_path: Path) -> None:
    """The hub's cache is made of links, and so are many folders of datasets; a link to a device or a pipe is none."""
    folder, away = Path(shutil.copytree(checkpoint, tmp_path / "copy")), tmp_path / "away"
    away.mkdir()
    for name in ("model.safetensors", "config.json", "tokenizer.json"):
        (folder / name).rename(away / name)
        (folder / name).symlink_to(Path("..", "away", name))
    XCLIPModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("/dev/zero")
    with pytest.raises(ModelError, match="no weights in"):
        find_checkpoint(str(folder))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("model.safetensors")  # to itself
    with pytest.raises(ModelError, match="no weights in"):
        find_checkpoint(str(folder))


@pytest.mark.parametrize("shape", [(2, 400_000, 3), (400_000, 1, 3)])
def test_a_strip_of_a_picture_cannot_fill_the_memory(shape: tuple[int, ...]) -> None:
    """Resized whole it would take 134 GB."""
    picture = torch.arange(shape[0] * shape[1] * 3, dtype=torch.int64).remainder(251).to(torch.uint8).view(shape)
    assert XCLIPImageProcessor().resize_and_crop(picture).shape == (3, 224, 224)


# Any value in any field

JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-1, max_value=2000)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**9, 10**18, 10**40, "quick_gelu", "gelu", 0.0, 24, 32, "24", [32, 32], [16, 16, 16]]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
TEXT_FIELDS = sorted(XCLIPTextConfig().to_dict().keys() - {"model_type", "return_dict"})
VISION_FIELDS = sorted(XCLIPVisionConfig().to_dict().keys() - {"model_type", "return_dict"})
TOP_FIELDS = sorted(XCLIPConfig().to_dict().keys() - {"model_type", "return_dict"})
FIELDS = [
    *((None, name) for name in TOP_FIELDS),
    *(("text_config", name) for name in TEXT_FIELDS),
    *(("vision_config", name) for name in VISION_FIELDS),
]


NOT_THEIRS = {"text_config", "vision_config", "dropout"}  # read by themselves, or known to us alone


def reading(config: Any, names: list[str]) -> dict[str, Any]:
    """The values of a config's fields; ours are numbers where theirs may be [n, n]."""
    values = {name: getattr(config, name) for name in names if name not in NOT_THEIRS}
    return {name: value[0] if isinstance(value, list | tuple) else value for name, value in values.items()}


@pytest.fixture(scope="module")
def stranger(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = Path(shutil.copytree(checkpoint, tmp_path_factory.mktemp("configs") / "copy"))
    return folder, json.loads((folder / "config.json").read_text("utf-8"))


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(field=st.sampled_from(FIELDS), value=JSON_VALUES)
def test_any_value_is_read_as_transformers_does_or_refused(
    stranger: tuple[Path, dict[str, Any]], field: tuple[str | None, str], value: Any
) -> None:
    folder, valid = stranger
    part, name = field
    values = deepcopy(valid)
    (values if part is None else values[part])[name] = value
    (folder / "config.json").write_text(json.dumps(values), "utf-8")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        ours = XCLIPConfig.from_folder(folder)
    except ModelError as error:
        assert str(error).isprintable()
    else:
        if isinstance(value, int) and isinstance((valid if part is None else valid[part]).get(name), float):
            (values if part is None else values[part])[name] = float(value)  # theirs wants 0.0 for 0
            (folder / "config.json").write_text(json.dumps(values), "utf-8")
        theirs = transformers.XCLIPConfig.from_pretrained(folder)
        assert reading(ours, TOP_FIELDS) == reading(theirs, TOP_FIELDS)
        assert reading(ours.text_config, TEXT_FIELDS) == reading(theirs.text_config, TEXT_FIELDS)
        assert reading(ours.vision_config, VISION_FIELDS) == reading(theirs.vision_config, VISION_FIELDS)
        try:
            XCLIPModel.from_pretrained(folder)
        except ModelError as error:
            assert str(error).isprintable()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH << 10
