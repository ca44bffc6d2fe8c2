"""The checkpoints of X-CLIP's authors (``.pth`` files of microsoft/VideoX) → our config and weights.

Such a file is a pickle of a training run: the weights under ``model``, beside the optimizer's state and a yacs config.
A pickle is a program, and this one is read without running any of it, which is why ``torch.load`` has no part in it:

- A pickle reaches code only through ``find_class`` (and a registry of short numbers for classes, empty unless a program
  fills it). Ours looks nothing up and imports nothing: every name, torch's own and OrderedDict included, becomes an
  inert record that remembers the arguments it is called with.
- So unpickling yields plain containers and records, and no tensor. Which records describe tensors is decided after;
  where their bytes lie is checked against the file; and only the model's are then mapped from it.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn

from ...errors import ModelError
from ...text import listed, one_line
from ..config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from .pickles import (
    LEGACY_START,
    MAX_NAMES,
    MAX_PICKLE,
    PARAMETER,
    TENSORS,
    ZIP_START,
    scan,
    translated_errors,
    zip_span,
)
from .weights import SHOWN_NAMES, STRICT, LoadingInfo, Shapes, converted, misfits

HEAD_WIDTH = 64  # of every attention in the authors' code; the files do not say

LEGACY_VERSION = 1001
WRAPPED = "module."

STORAGES = {
    "torch.DoubleStorage": torch.float64,
    "torch.FloatStorage": torch.float32,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.LongStorage": torch.int64,
    "torch.IntStorage": torch.int32,
    "torch.ShortStorage": torch.int16,
    "torch.CharStorage": torch.int8,
    "torch.ByteStorage": torch.uint8,
    "torch.BoolStorage": torch.bool,
}

SIZING = {  # the tensors that all sizes are read from, and their dimensions
    "token_embedding.weight": 2,
    "positional_embedding": 2,
    "transformer.resblocks.0.mlp.c_fc.weight": 2,
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "visual.transformer.resblocks.0.mlp.c_fc.weight": 2,
    "mit.positional_embedding": 3,
    "mit.resblocks.0.mlp.c_fc.weight": 2,
}
RENAMED = (  # parts of our names → theirs, applied in this order
    ("text_model.embeddings.token_embedding", "token_embedding"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.encoder.layers", "transformer.resblocks"),
    ("text_model.final_layer_norm", "ln_final"),
    ("text_projection.weight", "text_projection"),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding", "visual.conv1"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.encoder.layers", "visual.transformer.resblocks"),
    ("vision_model.pre_layernorm", "visual.ln_pre"),
    ("vision_model.post_layernorm", "visual.ln_post"),
    ("visual_projection.weight", "visual.proj"),
    ("prompts_visual_projection", "prompts_visual_proj"),
    ("prompts_visual_layernorm", "prompts_visual_ln"),
    ("prompts_generator.layernorm", "prompts_generator.norm"),
    ("mit.position_embedding", "mit.positional_embedding"),
    ("mit.encoder.layers", "mit.resblocks"),
    ("self_attn", "attn"),
    ("layer_norm", "ln_"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
)
TRANSPOSED = ("text_projection", "visual.proj")  # but not prompts_visual_proj
PACKED = re.compile(r"(.+\.(?:attn|message_attn)\.)([qkv])_proj\.(weight|bias)")  # theirs: one in_proj of q, k and v

LARGEST = 1 << 62  # number that torch takes as a size


class OriginalWeights:
    """The weights of a ``.pth`` of the authors' code: names and shapes are known, none is read yet.

    Tensors are private maps of the file; some are views that overlap in no element.
    """

    def __init__(self, path: Path) -> None:
        """Raises ModelError where the file cannot be read, or holds something else."""
        self.path = path
        file = _File.open(path)
        self._mapped = file.mapped
        with _translated_misfits(path):
            entries = _state_dict(file.value).items()
            stored = {_name(key): _stored_tensor(file, key, value) for key, value in entries}
        # torch's DistributedDataParallel calls the model that it wraps so
        wrapped = all(name.startswith(WRAPPED) for name in stored)
        self._stored = {name.removeprefix(WRAPPED) if wrapped else name: tensor for name, tensor in stored.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By the authors' names."""
        return {name: tensor.shape for name, tensor in self._stored.items()}

    def config(self, heads: int | None = None) -> XCLIPConfig:
        """The config that the shapes tell. Heads are the authors', width // 64 everywhere.

        ``heads`` sets those of the MIT and of the prompt generator instead: the conversions of the large models on the
        hub have 8 there, these files mean 12. Raises ModelError.
        """
        with _translated_misfits(self.path):
            return infer_config(self.shapes, heads)

    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(iter(self._stored.values())).dtype

    def tensors(self, shapes: Shapes) -> dict[str, Tensor]:
        """The weights of a model whose tensors have these names and shapes, of the file's dtype. Raises ModelError."""
        origins = {name: _Origin.of(name) for name in shapes}
        with _translated_misfits(self.path):
            wanted = {origin.name: origin.shape(shapes[name]) for name, origin in origins.items()}
            if faults := misfits(wanted, self.shapes, "wrong shape by the other tensors", "expected"):
                raise ValueError(faults)
            theirs = {name: tensor.map(self._mapped) for name, tensor in self._stored.items()}
            return {name: origin.take(theirs[origin.name]) for name, origin in origins.items()}

    def load(
        self,
        model: nn.Module,
        dtype: torch.dtype,
        device: torch.device,
        wanted: Callable[[str], bool] = lambda name: True,
        tolerated: frozenset[str] = STRICT,
    ) -> LoadingInfo:
        """Give a model of this file's config these weights; it is best built on the meta device.

        Parameters whose names are not ``wanted`` stay as they are, and theirs are never read. Raises ModelError that
        names what is missing (unless that is ``tolerated``), unexpected, of another shape or no finite number; the
        model is then as it was.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: shape for name, shape in shapes.items() if _Origin.of(name).name in self._stored}
        if "missing" in tolerated:
            info = LoadingInfo.of(shapes, found)
            shapes = found
        else:
            info = LoadingInfo()
        stored = self.tensors(shapes)
        state = {
            name: converted(self.path, name, tensor, dtype, device) for name, tensor in stored.items() if wanted(name)
        }
        model.load_state_dict(state, assign=True, strict=False)  # those not wanted are missing
        return info


@contextmanager
def _translated_misfits(path: Path) -> Iterator[None]:
    """What contradicts an X-CLIP, as a ModelError."""
    try:
        yield
    except (ValueError, RuntimeError) as error:  # torch's own where sizes overflow
        raise ModelError(f"{path} is not an X-CLIP of the authors' code: {one_line(error)}") from error


def infer_config(shapes: Shapes, heads: int | None = None) -> XCLIPConfig:
    """The config of a model whose tensors, by the authors' names, have these shapes. Raises ValueError.

    ``heads`` sets the heads of the MIT and of the prompt generator.
    """
    if missing := [name for name in SIZING if name not in shapes]:
        held = listed(sorted(shapes), SHOWN_NAMES, one_line)
        raise ValueError(f"missing {listed(missing, SHOWN_NAMES)}; it holds {held or 'no tensors'}")
    for name, dimensions in SIZING.items():
        if len(shapes[name]) != dimensions:
            raise ValueError(f"{name} is {list(shapes[name])}, expected {dimensions} dimensions")
    vocabulary, text_width = shapes["token_embedding.weight"]
    vision_width, channels, patch, _ = shapes["visual.conv1.weight"]
    _, frames, width = shapes["mit.positional_embedding"]
    positions = shapes["visual.positional_embedding"][0]
    grid = math.isqrt(positions - 1)  # patches a side, beside the class token
    if grid * grid != positions - 1:
        raise ValueError(f"visual.positional_embedding has {positions} rows, expected 1 more than a square")
    heads = width // HEAD_WIDTH if heads is None else heads
    try:
        return XCLIPConfig(
            text_config=XCLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=text_width,
                intermediate_size=shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
                num_hidden_layers=_count(shapes, "transformer.resblocks"),
                num_attention_heads=text_width // HEAD_WIDTH,
                max_position_embeddings=shapes["positional_embedding"][0],
            ),
            vision_config=XCLIPVisionConfig(
                hidden_size=vision_width,
                intermediate_size=shapes["visual.transformer.resblocks.0.mlp.c_fc.weight"][0],
                num_hidden_layers=_count(shapes, "visual.transformer.resblocks"),
                num_attention_heads=vision_width // HEAD_WIDTH,
                mit_hidden_size=width,
                mit_intermediate_size=shapes["mit.resblocks.0.mlp.c_fc.weight"][0],
                mit_num_hidden_layers=_count(shapes, "mit.resblocks"),
                mit_num_attention_heads=heads,
                num_channels=channels,
                image_size=patch * grid,
                patch_size=patch,
                num_frames=frames,
            ),
            projection_dim=width,
            prompt_layers=_count(shapes, "prompts_generator.decoder"),
            prompt_num_attention_heads=heads,
        )
    except ValueError as error:
        raise ValueError(f"its sizes make no model, where heads are width // {HEAD_WIDTH} or given: {error}") from error


def training_config(path: Path) -> dict[str, Any]:
    """What a ``.pth`` says of its training, such as ``{"MODEL": {"ARCH": "ViT-B/32"}}``; empty where it says nothing.

    Plain values only: nested dicts, lists, strings, numbers, None. Raises ModelError.
    """
    recorded = _entries(_entries(_File.open(path).value).get("config"))
    try:
        return _plain(recorded, set())
    except RecursionError as error:
        raise ModelError(f"the training config in {path} is nested too deep") from error


class _Inert:
    """What a pickle's classes and functions become: may be called, filled and given state, and does nothing."""

    name: ClassVar[str] = ""
    args: tuple[Any, ...]
    entries: dict[Any, Any]  # of what was a kind of dict

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        record = super().__new__(cls)
        record.args = args
        record.entries = {}
        return record

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def __call__(self, *args: Any, **kwargs: Any) -> _Inert:
        return _Inert()

    def _ignore(self, *args: Any) -> None:
        """Without this ``__setstate__``, a pickle could set attributes."""

    __setstate__ = append = extend = add = _ignore


class _Storage(NamedTuple):
    """Where a tensor's elements are: a pickle cannot change it, as it could an object with attributes."""

    kind: str
    key: str


class _Unpickler(pickle.Unpickler):
    """Builds plain containers and inert records, whatever the pickle asks for."""

    def __init__(self, file: BinaryIO) -> None:
        start = file.tell()
        scan(file)
        file.seek(start)
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, str] = {}  # key → kind, of all that the pickle mentions
        self._classes: dict[str, type[_Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in self._classes and len(self._classes) < MAX_NAMES:
            self._classes[full_name] = type("Record", (_Inert,), {"name": full_name})
        return self._classes[full_name]

    def persistent_load(self, identity: Any) -> _Storage:
        match identity:
            case ("storage", type() as kind, str() as key, _, _, *views) if issubclass(kind, _Inert) and not any(views):
                self.storages[key] = kind.name
                return _Storage(kind.name, key)
        raise pickle.UnpicklingError("it refers to something that is not a tensor's storage")


@dataclass(frozen=True)
class _File:
    """A file of torch.save, unpickled into inert records."""

    value: Any
    storages: dict[str, tuple[int, int]]  # key → start and end of its bytes in the file
    mapped: mmap.mmap  # private: what is written to it never reaches the file

    @classmethod
    def open(cls, path: Path) -> Self:
        """Raises ModelError, whatever is wrong with the file."""
        if not path.is_file():
            raise ModelError(f"there is no file {path}")
        with translated_errors(path), path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            if mapped[: len(ZIP_START)] == ZIP_START:
                return cls(*_read_zip(file, mapped), mapped)
            if mapped[: len(LEGACY_START)] == LEGACY_START:
                return cls(*_read_legacy(file, mapped), mapped)
            raise ValueError("it does not start as one")


def _read_zip(file: BinaryIO, mapped: mmap.mmap) -> tuple[Any, dict[str, tuple[int, int]]]:
    """torch's format since 1.6: ``NAME/data.pkl``, and each storage as ``NAME/data/KEY``, all uncompressed."""
    with zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist()}
    roots = [name.removesuffix("data.pkl") for name in members if re.fullmatch(r"[^/]+/data\.pkl", name)]
    if len(roots) != 1:
        raise ValueError("a zip archive without the data.pkl that torch writes")
    spans = {name.removeprefix(roots[0]): zip_span(info, mapped)[1:] for name, info in members.items()}
    order = mapped[slice(*spans["byteorder"])].decode() if "byteorder" in spans else "little"
    if order != sys.byteorder:
        raise ValueError(f"its numbers are {order}-endian, this machine's are {sys.byteorder}-endian")
    start, end = spans["data.pkl"]
    value = _Unpickler(io.BytesIO(mapped[start : min(end, start + MAX_PICKLE)])).load()
    return value, {name.removeprefix("data/"): span for name, span in spans.items() if name.startswith("data/")}


def _read_legacy(file: BinaryIO, mapped: mmap.mmap) -> tuple[Any, dict[str, tuple[int, int]]]:
    """torch's older format: five pickles, of which the fourth is the value, then each storage behind its length."""
    _Unpickler(file).load()  # the mark that has been recognised
    if (version := _Unpickler(file).load()) != LEGACY_VERSION:
        raise ValueError(f"its format is of version {version!r}, expected {LEGACY_VERSION}")
    if (_Unpickler(file).load()["little_endian"]) != (sys.byteorder == "little"):
        raise ValueError("its numbers are of the other byte order than this machine's")
    unpickler = _Unpickler(file)
    value = unpickler.load()
    keys = _Unpickler(file).load()
    spans, position = {}, file.tell()
    for key in keys:
        start = position + 8
        (count,) = struct.unpack_from("<q" if sys.byteorder == "little" else ">q", mapped, position)
        position = start + count * STORAGES[unpickler.storages[key]].itemsize
        if not start <= position <= len(mapped):
            raise ValueError(f"storage {key} is of {count} elements, more than the file holds")
        spans[key] = (start, position)
    return value, spans


@dataclass(frozen=True)
class _StoredTensor:
    """A tensor that lies wholly inside its storage in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int  # of its first element, in bytes from the start of the file

    @property
    def extent(self) -> int:
        """Elements from its first to its last."""
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    def map(self, mapped: mmap.mmap) -> Tensor:
        """The tensor, whose pages are read when used."""
        flat = torch.frombuffer(mapped, dtype=self.dtype, count=self.extent, offset=self.start)
        if self.start % self.dtype.itemsize:
            flat = flat.clone()  # archives written anew by other programs need not be aligned
        return flat.as_strided(self.shape, self.strides)


def _stored_tensor(file: _File, name: str, value: Any) -> _StoredTensor:
    """The tensor of a state dict's entry. Raises ValueError where it is none, or reaches beyond its storage."""
    if isinstance(value, _Inert) and value.name == PARAMETER and value.args:
        value = value.args[0]
    match value:
        case _Inert(args=(_Storage(kind, key), int(offset), tuple(shape), tuple(strides), *_)) if value.name in TENSORS:
            pass
        case _Inert():
            raise ValueError(f"{name} is {value.name!a}, expected a plain tensor")
        case _:
            raise ValueError(f"{name} is of type {type(value).__name__}, expected a tensor")
    whole = all(isinstance(number, int) and 0 <= number < LARGEST for number in (offset, *shape, *strides))
    if not whole or 0 in shape or len(shape) != len(strides):
        raise ValueError(f"{name} is of shape {list(shape)!a}, expected whole numbers of at least 1 and their strides")
    dtype = STORAGES.get(kind)
    if dtype is None or not dtype.is_floating_point:
        raise ValueError(f"{name} is of {kind!a}, expected floating-point numbers")
    first, end = file.storages.get(key, (0, 0))
    tensor = _StoredTensor(dtype, shape, strides, first + offset * dtype.itemsize)
    needed = max(tensor.extent, math.prod(shape)) * dtype.itemsize
    if tensor.start + needed > end:
        raise ValueError(f"{name} of shape {list(shape)} needs {needed} bytes, the file holds {end - first} of it")
    return tensor


def _state_dict(value: Any) -> dict[Any, Any]:
    """The weights in what was saved: under ``model``, or all there is. Raises ValueError."""
    entries = _entries(value)
    if "model" in entries:
        return _entries(entries["model"])
    if entries and all(isinstance(entry, _Inert) and not entry.entries for entry in entries.values()):
        return entries
    found = listed([key for key in entries if isinstance(key, str)], SHOWN_NAMES, lambda key: one_line(ascii(key)))
    raise ValueError(f"expected weights under 'model', found {found or 'no dict'}")


def _entries(value: Any) -> dict[Any, Any]:
    """The entries of what is, or was, a kind of dict."""
    if isinstance(value, _Inert):
        return value.entries
    return value if isinstance(value, dict) else {}


def _plain(entries: dict[Any, Any], seen: set[int]) -> dict[str, Any]:
    """The plain values among ``entries``. What is in itself, or in two places, is in one only."""
    seen.add(id(entries))
    plain: dict[str, Any] = {}
    for key, value in entries.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, list | tuple):
            plain[key] = [item for item in value if _is_scalar(item)]
        elif _is_scalar(value):
            plain[key] = value
        elif (inner := _entries(value)) and id(inner) not in seen:
            plain[key] = _plain(inner, seen)
    return plain


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


@dataclass(frozen=True)
class _Origin:
    """What one of our tensors is made from."""

    name: str  # of the authors' tensor
    third: int | None  # of its rows, where it packs the projections to queries, keys and values
    transposed: bool

    @classmethod
    def of(cls, name: str) -> Self:
        """For our tensor of this name."""
        for ours, theirs in RENAMED:
            name = name.replace(ours, theirs)
        if packed := PACKED.fullmatch(name):
            return cls(f"{packed[1]}in_proj_{packed[3]}", "qkv".index(packed[2]), transposed=False)
        return cls(name, None, transposed=name in TRANSPOSED)

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The authors' tensor's, from that of ours."""
        if self.third is not None:
            return (3 * ours[0], *ours[1:])
        return ours[::-1] if self.transposed else ours

    def take(self, theirs: Tensor) -> Tensor:
        """Our tensor, a view of the authors'."""
        if self.third is not None:
            return theirs.chunk(3)[self.third]
        return theirs.T if self.transposed else theirs


def _count(shapes: Shapes, stack: str) -> int:
    """Layers of a stack, by their numbers in the names."""
    layer = re.compile(rf"{re.escape(stack)}\.(\d+)\.")
    return len({match[1] for name in shapes if (match := layer.match(name))})


def _name(key: Any) -> str:
    if isinstance(key, str) and key.isprintable():
        return key
    raise ValueError(f"a tensor is called {key!a}, expected a name")
