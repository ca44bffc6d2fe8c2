"""The parts of an index: safetensors files of rows, written row by row, mapped into memory to be read.

A part holds ``tokens [N, n, P]``, of an index that is compact ``scales [N, n]``, and ``features [N, P]``. It appears
under its name only when it is whole, and its header says the SHA-256 of what follows.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import ResultsError
from ..text import one_line

if TYPE_CHECKING:
    import numpy.typing as npt

PART_BYTES = 256 << 20  # a part is closed when it has so many
HEADER_BYTES = 4096  # before the rows: what is mapped begins at a page of memory
MAX_HEADER = 1 << 16  # bytes, of a header from elsewhere
MAX_NUMBERS = 1 << 26  # of the tokens of one row: the largest public model has 442,368
SUFFIX = ".safetensors"
CHECKED_AT_ONCE = 1 << 22  # bytes

# What tokens are kept as: the name in safetensors, and NumPy's; it has no bfloat16, so that those are its bits.
KINDS = {"float32": ("F32", "<f4"), "float16": ("F16", "<f2"), "bfloat16": ("BF16", "<u2"), "int8": ("I8", "i1")}


class Rows(NamedTuple):
    """Encodings as they lie in a part."""

    features: npt.NDArray[np.float32]  # [N, P]
    tokens: npt.NDArray[Any]  # [N, n, P]; bfloat16 as its bits, uint16
    scales: npt.NDArray[np.float32] | None = None  # [N, n], of tokens that are int8

    def part(self, first: int, count: int) -> Rows:
        """``count`` rows from the row ``first`` on."""
        rows = slice(first, first + count)
        return Rows(self.features[rows], self.tokens[rows], None if self.scales is None else self.scales[rows])

    @classmethod
    def joined(cls, parts: list[Rows]) -> Rows:
        """One after the other; a single one is not copied."""
        if len(parts) == 1:
            return parts[0]
        features, tokens = (np.concatenate([getattr(part, name) for part in parts]) for name in cls._fields[:2])
        scales = [part.scales for part in parts if part.scales is not None]
        return cls(features, tokens, np.concatenate(scales) if scales else None)


@dataclass(frozen=True)
class Layout:
    """The shape of one row."""

    tokens: int  # n, visual tokens of a view
    width: int  # P
    dtype: str  # of the tokens, one of KINDS

    def arrays(self, rows: int) -> dict[str, tuple[str, str, tuple[int, ...]]]:
        """What a part of so many rows holds, in order: safetensors' dtype, NumPy's, the shape."""
        wide = {"tokens": (*KINDS[self.dtype], (rows, self.tokens, self.width))}
        scales = {"scales": ("F32", "<f4", (rows, self.tokens))} if self.dtype == "int8" else {}
        return {**wide, **scales, "features": ("F32", "<f4", (rows, self.width))}

    @property
    def row_bytes(self) -> int:
        """Of one row."""
        return sum(_size(kind, shape) for _, kind, shape in self.arrays(1).values())

    def header(self, rows: int) -> dict[str, dict[str, Any]]:
        """The tensors of a part's header."""
        entries, at = {}, 0
        for name, (dtype, kind, shape) in self.arrays(rows).items():
            end = at + _size(kind, shape)
            entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
            at = end
        return entries


def _size(kind: str, shape: tuple[int, ...]) -> int:
    return int(np.dtype(kind).itemsize * np.prod(shape, dtype=np.int64))


class PartWriter:
    """A part on its way: tokens go to the disk at once, what is small follows them at the end. Raises OSError."""

    def __init__(self, folder: Path, layout: Layout) -> None:
        self.name = f"{secrets.token_hex(8)}{SUFFIX}"  # never one that a reader may still know
        self.rows = 0
        self._layout = layout
        self._path = folder / self.name
        self._beside = folder / f".xclip-{self.name}"
        self._behind: dict[str, list[bytes]] = {name: [] for name in layout.arrays(0) if name != "tokens"}
        self._digest = hashlib.sha256()
        self._file = self._beside.open("xb")
        self._file.seek(HEADER_BYTES)

    @property
    def is_full(self) -> bool:
        """Whether another row may make it too large."""
        return (self.rows + 1) * self._layout.row_bytes > PART_BYTES

    def add(self, rows: Rows) -> None:
        """Some rows, all of which belong into this part."""
        self._write(np.ascontiguousarray(rows.tokens))
        for name, written in self._behind.items():
            written.append(np.ascontiguousarray(getattr(rows, name)).tobytes())
        self.rows += len(rows.features)

    def finish(self) -> None:
        """Give it its name: from now on it is whole, whatever happens."""
        for written in self._behind.values():
            for data in written:
                self._write(data)
        header = {"__metadata__": {"sha256": self._digest.hexdigest()}, **self._layout.header(self.rows)}
        text = json.dumps(header).encode().ljust(HEADER_BYTES - 8)
        self._file.seek(0)
        self._file.write(len(text).to_bytes(8, "little") + text)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._beside.replace(self._path)

    def abandon(self) -> None:
        """Leave nothing behind."""
        try:
            self._file.close()
        except OSError:  # what it had not written yet finds no room either
            pass
        finally:
            self._beside.unlink(missing_ok=True)

    def _write(self, data: Any) -> None:
        self._file.write(data)
        self._digest.update(data)


def open_regular(path: Path) -> IO[bytes]:
    """A file of an index, to be read. A stranger may have put a pipe there, at which we would wait for ever, or a
    device. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(descriptor, "rb")


def map_part(path: Path, layout: Layout) -> Rows:
    """A part, mapped: nothing of its rows is read yet. Raises ResultsError if it is not of this layout.

    The mapping is private and can be written to, which nobody does: torch warns of arrays that cannot.
    """
    try:
        start, rows, _ = _read_header(path, layout)
        arrays, at = {}, start
        for name, (_, kind, shape) in layout.arrays(rows).items():
            arrays[name] = np.memmap(path, kind, "c", at, shape).view(np.ndarray)
            at += _size(kind, shape)
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
    return Rows(**arrays)


def check_part(path: Path, layout: Layout) -> None:
    """Read a part to its end. Raises ResultsError if it is not what was written."""
    try:
        start, _, expected = _read_header(path, layout)
        digest = hashlib.sha256()
        with open_regular(path) as file:
            file.seek(start)
            while data := file.read(CHECKED_AT_ONCE):
                digest.update(data)
        if digest.hexdigest() != expected:
            raise ValueError("its checksum is wrong")
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error


def damaged(path: Path, error: Exception) -> ResultsError:
    """What is said of a part that cannot be used."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(error)
    return ResultsError(f"the part {one_line(path)} is damaged: {reason}; `xclip index check` drops the videos in it")


def _read_header(path: Path, layout: Layout) -> tuple[int, int, str]:
    """Where a part's rows begin, how many there are, and their checksum. Raises OSError, ValueError."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= MAX_HEADER:
            raise ValueError("it does not begin with the header of a part")
        text = file.read(length)
    try:
        header = json.loads(text)
        metadata = header.pop("__metadata__")
        rows, expected = header["features"]["shape"][0], metadata["sha256"]
    except (ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise ValueError("its header cannot be read") from error
    if type(rows) is not int or not 0 < rows <= size or header != layout.header(rows):
        raise ValueError("its header is not that of a part of this index")
    if size != 8 + length + rows * layout.row_bytes:
        raise ValueError(f"it has {size:,} bytes, its header says {8 + length + rows * layout.row_bytes:,}")
    return 8 + length, rows, str(expected)


def part_rows(path: Path, layout: Layout) -> int:
    """How many rows a part has. Raises ResultsError if its header or its size is wrong."""
    try:
        return _read_header(path, layout)[1]
    except (OSError, ValueError) as error:
        raise damaged(path, error) from error
