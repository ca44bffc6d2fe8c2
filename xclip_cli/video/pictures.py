"""Frames → upright RGB pictures."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..errors import VideoError

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from .sampling import Picture

MOST_GARBAGE = 1 << 26  # bytes of pictures after which frames are freed


class Converter:
    """Makes pictures of the frames of one video, and frees those frames now and then."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()
        self._garbage = 0  # bytes of the pictures made since frames were freed

    def picture(self, frame: VideoFrame) -> tuple[Picture, list[str]]:
        """A frame as RGB, upright, and warnings about it. Raises VideoError where it cannot be converted.

        FFmpeg's default conversion honours the colour tags; untagged is BT.601.
        """
        try:
            picture = cast("Picture", self._reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"cannot convert {frame.format.name} frames to RGB: {error}", "unsupported") from error
        turn = TURNS.get(_orientation(frame))
        self._free_frames(picture.nbytes)
        if turn is None:
            return picture, ["the rotation in the file is not a multiple of 90 degrees and was ignored"]
        return turn(picture), []

    def _free_frames(self, size: int) -> None:
        """Free the frames of earlier pictures, if this one, of ``size`` bytes, is one too many."""
        self._garbage += size
        if self._garbage > MOST_GARBAGE:
            gc.collect()  # frames refer to themselves once their side data was read: Python would leave hundreds
            self._garbage = 0


# The eight turns and flips, by the signs of a display matrix: x' = a x + c y, y' = b x + d y, y pointing down.
TURNS: dict[tuple[int, ...], Callable[[Picture], Picture]] = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, 1, -1, 0): lambda p: p.swapaxes(0, 1)[:, ::-1],
    (0, -1, 1, 0): lambda p: p.swapaxes(0, 1)[::-1],
    (0, -1, -1, 0): lambda p: p.swapaxes(0, 1)[::-1, ::-1],
}
_BY_ANGLE = {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), -90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), -180: (-1, 0, 0, -1)}


def _orientation(frame: VideoFrame) -> tuple[int, ...]:
    """A frame's display matrix as a key of TURNS; of no key where it is none of the eight."""
    try:
        values = np.frombuffer(bytes(cast("Any", frame).side_data["DISPLAYMATRIX"]), "<i4")
    except KeyError:
        return _BY_ANGLE[0]
    except ValueError:  # PyAV fails on kinds of side data that are newer than it; the angle lacks only flips
        return _BY_ANGLE.get(frame.rotation, ())
    a, b, c, d = (int(values[i]) for i in (0, 1, 3, 4))
    scale = max(map(abs, (a, b, c, d)))
    turns = scale > 0 and {abs(a), abs(b), abs(c), abs(d)} == {0, scale}
    return tuple(v // scale for v in (a, b, c, d)) if turns else ()
