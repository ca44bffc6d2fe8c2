"""A video on stdin: copied to a private file, because decoding goes back and forth in it."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import IO

from ..errors import VideoError
from .limits import MEGABYTE

MOST_SPOOLED = 16384 * MEGABYTE  # bytes
PIECE = MEGABYTE
HAS_PROC = Path("/proc/self/fd").exists()  # then another process reaches a file without a name


class Spool:
    """What stdin held, in a file of this process alone, which goes with it."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None

    def path(self) -> str:
        """Where the video lies; stdin is read the first time. Raises VideoError if it holds none."""
        if self._file is None:
            self._file = _spooled()
        unnamed = f"/proc/{os.getpid()}/fd/{self._file.fileno()}"
        return unnamed if HAS_PROC else self._file.name

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _spooled() -> IO[bytes]:
    if sys.stdin is None or sys.stdin.closed:
        raise VideoError("stdin is closed: there is no video in it", "not_a_file")
    if sys.stdin.isatty():
        raise VideoError("stdin is a terminal: pipe a video into it, or name a file", "not_a_file")
    try:
        file: IO[bytes] = (tempfile.TemporaryFile if HAS_PROC else tempfile.NamedTemporaryFile)()
        try:
            size = 0
            while piece := sys.stdin.buffer.read(PIECE):
                size += len(piece)
                if size > MOST_SPOOLED:
                    message = f"the video on stdin is larger than {MOST_SPOOLED // MEGABYTE} MB: save it to a file"
                    raise VideoError(message, "limit")
                file.write(piece)
            file.flush()
        except BaseException:
            file.close()
            raise
    except OSError as error:
        raise VideoError(f"cannot save the video on stdin to a temporary file: {error.strerror}", "limit") from error
    if not size:
        raise VideoError("stdin is empty: there is no video in it", "empty")
    return file
