"""Pictures as PNG, and a folder of the frames that the model saw: for when a result surprises."""

from __future__ import annotations

import hashlib
import os
import re
import struct
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import ResultsError

if TYPE_CHECKING:
    import numpy.typing as npt

NAME_LENGTH = 40  # characters of a video's name in that of its pictures


class FrameFolder:
    """A folder for pictures, made if it is not there. Raises ResultsError if it cannot be written to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error) from error

    def save(self, video: str, seconds: float, crops: npt.NDArray[np.uint8]) -> None:
        """Write the crops [crops, 3, H, W] of one frame. Raises ResultsError."""
        for number, crop in enumerate(crops, start=1):
            name = frame_name(video, seconds, number if len(crops) > 1 else None)
            try:
                path = self._folder / name
                path.unlink(missing_ok=True)  # of an earlier run, or what somebody put there for us to write through
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(path, flags, 0o666), "wb") as file:
                    file.write(png(np.moveaxis(crop, 0, -1)))
            except OSError as error:
                raise self._error(error) from error

    def _error(self, error: OSError) -> ResultsError:
        return ResultsError(
            f"cannot write frames to {self._folder}: {error.strerror or error}: give another --save-frames folder"
        )


def frame_name(video: str, seconds: float, crop: int | None = None) -> str:
    """The file of a frame: its video's name, a mark that differs for videos of one name in different folders, and the
    time in seconds, so that names sort by time."""
    name = re.sub(r"[^\w.-]", "_", os.path.basename(video))[:NAME_LENGTH] or "frames"  # noqa: PTH119 - any name
    mark = hashlib.sha256(os.fsencode(video)).hexdigest()[:8]
    return f"{name}-{mark}-{seconds:013.6f}s{f'-crop{crop}' if crop else ''}.png"


def png(pixels: npt.NDArray[np.uint8], level: int = -1) -> bytes:
    """Pixels [H, W, 3], or [H, W, 4] with opacity, as PNG; ``level`` of compression, 0 to 9, or -1 for zlib's usual."""
    height, width, channels = pixels.shape
    colours = {3: 2, 4: 6}[channels]  # PNG's numbers for red, green, blue; and those with opacity
    header = struct.pack(">IIBBBBB", width, height, 8, colours, 0, 0, 0)  # 8 bits each
    rows = np.zeros((height, 1 + width * channels), np.uint8)  # each row begins with its filter: 0, none
    rows[:, 1:] = pixels.reshape(height, -1)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes(), level)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
