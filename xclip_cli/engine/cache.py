"""What was computed before, kept in the user's cache folder: the text features of labels. Never imports torch."""

from __future__ import annotations

import hashlib
import io
import logging
import math
import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

LIMIT_BYTES = 1 << 30  # of all entries together
SUFFIX = ".features"
MOST_HEADER = 1 << 14  # bytes of an entry beside its numbers

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where xclip keeps what it can compute again: ``XCLIP_CACHE``, or ``xclip`` in the system's folder for caches."""
    if given := os.environ.get("XCLIP_CACHE"):
        return Path(given)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "xclip"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "xclip" / "cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xclip"


def _digest(name: str, content: bytes) -> bytes:
    """Of an entry; with its name, so that none takes the place of another."""
    return hashlib.sha256(name.encode() + content).digest()


def _array(name: str, data: bytes) -> npt.NDArray[np.float32]:
    """The array in the bytes of an entry. Raises ValueError."""
    digest, content = data[:32], data[32:]
    if _digest(name, content) != digest:
        raise ValueError("its bytes have changed")
    file = io.BytesIO(content)
    np.lib.format.read_magic(file)
    shape, by_columns, dtype = np.lib.format.read_array_header_1_0(file)
    if dtype != np.float32 or by_columns or math.prod(shape) * 4 != len(content) - file.tell():
        raise ValueError(f"it is of {dtype}, or cut off")
    array = np.frombuffer(content, np.float32, offset=file.tell()).reshape(shape).copy()
    if not np.isfinite(array).all():
        raise ValueError("not all of its numbers are finite")
    return array


class FeatureCache:
    """Arrays by a key, on disk: written whole or not at all, checked when read, the longest unused deleted first.

    Others may write to the folder too: what is another user's, or is not what is expected, is not used. A folder that
    cannot be read or written costs a message and the time it would have saved.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT_BYTES) -> None:
        self.folder = cache_folder() / "text-features" if folder is None else folder
        self.limit = limit  # bytes

    def get(self, key: str, shape: tuple[int, ...] | None = None) -> npt.NDArray[np.float32] | None:
        """The array stored under ``key``; None where there is none, or what is there is damaged or of another
        ``shape``, if one is given."""
        path = self._path(key)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode) or found.st_uid not in (0, os.geteuid()):
                    raise ValueError("it is another user's, or not a file")
                data = file.read(self.limit + MOST_HEADER)
                array = _array(path.name, data)
                if shape not in (None, array.shape):
                    raise ValueError(f"it is of shape {array.shape}")
                with suppress(OSError):
                    os.utime(file.fileno())  # so that it counts as used
            return array
        except OSError:
            return None
        except (ValueError, RecursionError) as error:
            _log.info("ignored a damaged entry of the cache: %s: %s", path, error)
            return None

    def put(self, key: str, array: npt.NDArray[np.float32]) -> None:
        """Store an array, unless it is larger than the whole cache may be."""
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        content = buffer.getvalue()
        if len(content) > self.limit:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, part = tempfile.mkstemp(dir=self.folder)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_digest(self._path(key).name, content) + content)
                Path(part).replace(self._path(key))
            except OSError:
                Path(part).unlink(missing_ok=True)
                raise
            self._shrink()
        except OSError as error:
            _log.info("the text features cannot be kept in %s: %s", self.folder, error.strerror or error)

    def entries(self) -> list[Path]:
        """The files of the cache, the longest unused first."""
        found = [(stat.st_mtime_ns, path) for path, stat in self._files()]
        return [path for _, path in sorted(found)]

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(stat.st_size for _, stat in self._files())

    def clear(self) -> int:
        """Delete all entries, and what killed runs left behind → how many."""
        paths = [path for path, _ in self._files(everything=True)]
        for path in paths:
            path.unlink(missing_ok=True)
        return len(paths)

    def _path(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}{SUFFIX}"

    def _shrink(self) -> None:
        excess = self.size() - self.limit
        for path in self.entries():
            if excess <= 0:
                return
            with suppress(OSError):  # another run was faster
                excess -= path.stat().st_size
                path.unlink()

    def _files(self, everything: bool = False) -> Iterator[tuple[Path, os.stat_result]]:
        if not self.folder.is_dir():
            return
        for path in self.folder.iterdir():
            if everything or path.suffix == SUFFIX:
                with suppress(OSError):  # another run has deleted it
                    yield path, path.stat()
