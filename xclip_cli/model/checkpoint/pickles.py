"""Files of torch.save, read without running any of them: plain containers, inert records, and where tensors lie.

A pickle is a program for a small machine, which is why ``torch.load`` has no part in it:

- A pickle reaches code only through ``find_class`` (and a registry of short numbers for classes, empty unless a program
  fills it). Ours looks nothing up and imports nothing: every name, torch's own and OrderedDict included, becomes an
  inert record that remembers the arguments it is called with.
- So unpickling yields plain containers and records, and no tensor. Which records describe tensors is decided after;
  where their bytes lie is checked against the file; and only those wanted are then mapped from it.
- A pickle that runs no code can still take any amount of memory in a few bytes: by a high number in the machine's
  memory, or by a compressed archive. So its opcodes are read first.
- An archive is read by one parser, this one: another might find another pickle in it.
"""

from __future__ import annotations

import io
import math
import mmap
import pickle
import pickletools
import re
import struct
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from ...errors import ModelError
from ...text import one_line

ZIP_START = b"PK\x03\x04"
LEGACY_START = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)  # torch's format of before 1.6

MAX_OPCODES = 2_000_000  # of one pickle: a whole training run of the largest X-CLIP has 0.1 million
MAX_NAMES = 1_000  # of classes and functions that one pickle asks for
MAX_PICKLE = 1 << 26  # bytes of one pickle

TENSORS = ("torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2")
PARAMETER = "torch._utils._rebuild_parameter"
LEGACY_VERSION = 1001
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
STATE_DICT_NAMES = {*TENSORS, PARAMETER, *STORAGES, "collections.OrderedDict"}  # all that plain weights need

MAX_DIMENSIONS = 16  # of a tensor
LARGEST = 1 << 62  # number that torch takes as a size


def scan(file: BinaryIO | mmap.mmap) -> set[str]:
    """The names that the pickle at the file's position asks for; the position is behind it afterwards.

    Raises ValueError if loading it would cost out of proportion.
    """
    names: set[str] = set()
    start = file.tell()
    data = io.BytesIO(file.read(MAX_PICKLE))
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if count > MAX_OPCODES or len(names) > MAX_NAMES:
            raise ValueError("its pickle is larger than any checkpoint's")
        # A pickle numbers what it remembers from 0 on: a higher number would only make room for nothing.
        if opcode.name.endswith("PUT") and int(argument or 0) > count:
            raise ValueError(f"its pickle asks for room for {argument} objects")
        if opcode.name in ("GLOBAL", "INST"):
            names.add(str(argument).replace(" ", "."))
        elif opcode.name in ("STACK_GLOBAL", "EXT1", "EXT2", "EXT4"):
            names.add(opcode.name)  # what it is is not known before it runs
    file.seek(start + data.tell())
    return names


def zip_span(info: zipfile.ZipInfo, data: mmap.mmap) -> tuple[str, int, int]:
    """An archive's member: its name, and where its bytes start and end in the file. Raises ValueError."""
    header = info.header_offset
    name_length, extra_length = struct.unpack_from("<HH", data, header + 26)
    start = header + 30 + name_length + extra_length
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename!a} is compressed, which torch does not do")
    if header < 0 or data[header : header + 4] != ZIP_START or start + info.file_size > len(data):
        raise ValueError(f"the archive's table of contents does not match it at {info.filename!a}")
    return info.filename, start, start + info.file_size


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Whatever is wrong with a file, as a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or one_line(error)}") from error
    except Exception as error:  # what damaged pickles and archives raise is documented as open
        raise ModelError(f"{path} is not a file that torch saved, or it is damaged: {one_line(error)}") from error


def entries_of(value: Any) -> dict[Any, Any]:
    """The entries of what is, or was, a kind of dict."""
    if isinstance(value, Inert):
        return value.entries
    return value if isinstance(value, dict) else {}


class Inert:
    """What a pickle's classes and functions become: may be called, filled and given state, and does nothing."""

    name: ClassVar[str] = ""
    args: tuple[Any, ...]
    entries: dict[Any, Any]  # of what was a kind of dict

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:  # noqa: D102 - the pickle's, not ours
        record = super().__new__(cls)
        record.args = args
        record.entries = {}
        return record

    def __setitem__(self, key: Any, value: Any) -> None:
        self.entries[key] = value

    def __call__(self, *args: Any, **kwargs: Any) -> Inert:  # noqa: D102
        return Inert()

    def _ignore(self, *args: Any) -> None:
        """Without this ``__setstate__``, a pickle could set attributes."""

    __setstate__ = append = extend = add = _ignore


class _Storage(NamedTuple):
    """Where a tensor's elements are: a pickle cannot change it, as it could an object with attributes."""

    kind: str
    key: str


class _Tuple(tuple[Any, ...]):
    """A tuple of tuples is no key: its hash would take for ever, or all of the stack, where a few bytes nest it."""

    __slots__ = ()

    def __hash__(self) -> int:
        if any(isinstance(entry, tuple) for entry in self):
            raise TypeError("its pickle has a tuple of tuples as a key")
        return tuple.__hash__(self)


def _own_tuple(load: Callable[[Any], None]) -> Callable[[Any], None]:
    def load_own_tuple(unpickler: Any) -> None:
        load(unpickler)
        unpickler.stack[-1] = _Tuple(unpickler.stack[-1])

    return load_own_tuple


class _Unpickler(pickle._Unpickler):  # the one in Python: that in C makes tuples
    """Builds plain containers and inert records, whatever the pickle asks for."""

    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = pickle._Unpickler.dispatch | {
        opcode[0]: _own_tuple(pickle._Unpickler.dispatch[opcode[0]])
        for opcode in (pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3)
    }

    def __init__(self, file: BinaryIO) -> None:
        start = file.tell()
        self.names = scan(file)
        file.seek(start)
        super().__init__(file, encoding="utf-8")
        self.storages: dict[str, str] = {}  # key → kind, of all that the pickle mentions
        self._classes: dict[str, type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        full_name = f"{module}.{name}"
        if full_name not in self._classes and len(self._classes) < MAX_NAMES:
            self._classes[full_name] = type("Record", (Inert,), {"name": full_name})
        return self._classes[full_name]

    def persistent_load(self, identity: Any) -> _Storage:
        match identity:
            case ("storage", type() as kind, str() as key, _, _, *views) if issubclass(kind, Inert) and not any(views):
                self.storages[key] = kind.name
                return _Storage(kind.name, key)
        raise pickle.UnpicklingError("it refers to something that is not a tensor's storage")


@dataclass(frozen=True)
class TorchFile:
    """A file of torch.save, unpickled into inert records."""

    value: Any
    names: set[str]  # that its pickles ask for
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


def _read_zip(file: BinaryIO, mapped: mmap.mmap) -> tuple[Any, set[str], dict[str, tuple[int, int]]]:
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
    unpickler = _Unpickler(io.BytesIO(mapped[start : min(end, start + MAX_PICKLE)]))
    storages = {name.removeprefix("data/"): span for name, span in spans.items() if name.startswith("data/")}
    return unpickler.load(), unpickler.names, storages


def _read_legacy(file: BinaryIO, mapped: mmap.mmap) -> tuple[Any, set[str], dict[str, tuple[int, int]]]:
    """torch's older format: five pickles, of which the fourth is the value, then each storage behind its length."""
    _Unpickler(file).load()  # the mark that has been recognised
    if _Unpickler(file).load() != LEGACY_VERSION:
        raise ValueError(f"its format is not of version {LEGACY_VERSION}")
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
    return value, unpickler.names, spans


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that lies wholly inside its storage in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    start: int  # of its first element, in bytes from the start of the file

    @property
    def nbytes(self) -> int:
        """What it takes, once it is read."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def extent(self) -> int:
        """Elements from its first to its last."""
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))

    def map(self, mapped: mmap.mmap) -> Tensor:
        """The tensor, whose pages are read when used."""
        size = self.dtype.itemsize
        if self.start % size:  # archives written anew by other programs need not be aligned
            strides = [stride * size for stride in self.strides]
            copied = np.ndarray(self.shape, f"i{size}", mapped, self.start, strides).copy()
            return torch.from_numpy(copied).view(self.dtype)
        flat = torch.frombuffer(mapped, dtype=self.dtype, count=self.extent, offset=self.start)
        return flat.as_strided(self.shape, self.strides)


def stored_tensors(file: TorchFile, entries: Mapping[Any, Any]) -> dict[str, StoredTensor]:
    """The tensors of a state dict, which together claim no more bytes than the file has. Raises ValueError."""
    stored = {_name(key): _stored_tensor(file, key, value) for key, value in entries.items()}
    # A tensor may claim any shape over few numbers, and many tensors the same numbers.
    claimed, there = sum(tensor.nbytes for tensor in stored.values()), len(file.mapped)
    if claimed > there:
        raise ValueError(f"it holds tensors of {claimed} bytes in a file of {there}")
    return stored


def _stored_tensor(file: TorchFile, name: str, value: Any) -> StoredTensor:
    """The tensor of a state dict's entry. Raises ValueError if it is none, or reaches beyond its storage."""
    if isinstance(value, Inert) and value.name == PARAMETER and value.args:
        value = value.args[0]
    match value:
        case Inert(args=(_Storage(kind, key), int(offset), tuple(shape), tuple(strides), *_)) if value.name in TENSORS:
            pass
        case Inert():
            raise ValueError(f"{name} is {value.name!a}, expected a plain tensor")
        case _:
            raise ValueError(f"{name} is of type {type(value).__name__}, expected a tensor")
    if not len(shape) == len(strides) <= MAX_DIMENSIONS:
        raise ValueError(f"{name} has {len(shape)} dimensions and {len(strides)} strides")
    whole = all(isinstance(number, int) and 0 <= number < LARGEST for number in (offset, *shape, *strides))
    if not whole or 0 in shape:
        shown = [number if isinstance(number, int) else type(number).__name__ for number in shape]
        raise ValueError(f"{name} is of shape {shown!a}, expected whole numbers of at least 1")
    if kind not in STORAGES:
        raise ValueError(f"{name} is of {kind!a}, expected one of {', '.join(STORAGES)}")
    dtype = STORAGES[kind]
    first, end = file.storages.get(key, (0, 0))
    tensor = StoredTensor(dtype, shape, strides, first + offset * dtype.itemsize)
    needed = max(tensor.extent * dtype.itemsize, tensor.nbytes)
    if tensor.start + needed > end:
        raise ValueError(f"{name} of shape {list(shape)} needs {needed} bytes, the file holds {end - first} of it")
    return tensor


def _name(key: Any) -> str:
    if isinstance(key, str) and key.isprintable():
        return key
    shown = ascii(key) if isinstance(key, str | int) else type(key).__name__  # a tuple may hold a text many times over
    raise ValueError(f"a tensor is called {shown}, expected a name")
