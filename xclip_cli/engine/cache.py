"""What was computed before, kept in the user's cache folder: the text features of labels. Never imports torch."""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
import stat
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..folders import cache_folder

if TYPE_CHECKING:
    import numpy.typing as npt

LIMIT_BYTES = 1 << 30  # of all entries together
SUFFIX = ".features"
SHAPE = struct.Struct("<II")  # rows and columns, before the float32 values

_log = logging.getLogger(__name__)


def _digest(path: Path, content: bytes) -> bytes:
    """Of an entry; with its name, so that none can take the place of another."""
    return hashlib.sha256(path.name.encode() + content).digest()


class FeatureCache:
    """Arrays by a key, on disk: written whole or not at all, checked when read, the longest unused deleted first.

    A folder that cannot be read or written costs a message and the time it would have saved.
    """

    def __init__(self, folder: Path | None = None, limit: int = LIMIT_BYTES) -> None:
        found = cache_folder() if folder is None else None
        self.folder = found / "text-features" if found else folder  # None: there is no home to keep anything in
        self.limit = limit  # bytes

    def get(self, key: str) -> npt.NDArray[np.float32] | None:
        """The array stored under ``key``; None if there is none, or what is there is damaged."""
        if self.folder is None:
            return None
        path = self._path(self.folder, key)
        try:
            # Others may share the folder: a pipe of theirs must not be waited for, nor a link followed.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                found, trusted = os.fstat(descriptor), (0, os.geteuid(), self.folder.stat().st_uid)
                usable = stat.S_ISREG(found.st_mode) and found.st_uid in trusted
                data = file.read(self.limit) if usable else b""
        except OSError:
            return None
        digest, content = data[:32], data[32:]
        rows, columns = SHAPE.unpack(content[: SHAPE.size].ljust(SHAPE.size, b"\0"))
        if _digest(path, content) != digest or len(content) != SHAPE.size + 4 * rows * columns:
            _log.info("ignored a damaged cache entry: %s", path)
            return None
        with suppress(OSError):
            os.utime(path)  # so that it counts as used
        return np.frombuffer(content, np.dtype("<f4"), offset=SHAPE.size).reshape(rows, columns).astype(np.float32)

    def put(self, key: str, array: npt.NDArray[np.float32]) -> None:
        """Store an array [rows, columns], unless it is larger than the whole cache may be."""
        content = SHAPE.pack(*array.shape) + array.astype("<f4").tobytes()
        if len(content) > self.limit:
            return
        if self.folder is None:
            _log.info("cannot cache the text features: there is no home folder; set XCLIP_CACHE to a folder")
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self._path(self.folder, key)
            part = self.folder / f"{secrets.token_hex(8)}.part"
            # readable to whom the user's umask lets read: a cache may be shared
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(_digest(path, content) + content)
                part.replace(path)
            except OSError:
                part.unlink(missing_ok=True)
                raise
            self._shrink()
        except OSError as error:
            _log.info("cannot cache the text features in %s: %s", self.folder, error.strerror or error)

    def entries(self) -> list[Path]:
        """The files of the cache, the longest unused first."""
        found = [(stat.st_mtime_ns, path) for path, stat in self._files()]
        return [path for _, path in sorted(found)]

    def size(self) -> int:
        """Bytes of all entries."""
        return sum(stat.st_size for _, stat in self._files())

    def clear(self) -> int:
        """Delete all entries, and what killed runs left behind → how many. Those of other users may stay."""
        deleted = 0
        for path, _ in self._files(everything=True):
            with suppress(OSError):
                path.unlink()
                deleted += 1
        return deleted

    @staticmethod
    def _path(folder: Path, key: str) -> Path:
        return folder / f"{hashlib.sha256(key.encode()).hexdigest()}{SUFFIX}"

    def _shrink(self) -> None:
        excess = self.size() - self.limit
        for path in self.entries():
            if excess <= 0:
                return
            with suppress(OSError):  # another run was faster
                excess -= path.stat().st_size
                path.unlink()

    def _files(self, everything: bool = False) -> Iterator[tuple[Path, os.stat_result]]:
        try:
            paths = list(self.folder.iterdir()) if self.folder else []
        except OSError:  # it does not exist, or may not be read
            paths = []
        for path in paths:
            if everything or path.suffix == SUFFIX:
                with suppress(OSError):  # another run has deleted it
                    yield path, path.stat()
