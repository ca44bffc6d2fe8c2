"""Frames → upright RGB pictures."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..errors import VideoError
from .containers import Crop
from .tonemap import BT2020, HLG, PQ, tone_mapped

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

    from .sampling import Picture

MOST_GARBAGE = 1 << 26  # bytes of pictures after which frames are freed


# Colour matrices (ITU-T H.273) that swscale knows.
KNOWN_MATRICES = {0, 1, 2, 4, 5, 6, 7, 9}
# And those that it does not, by name, with the nearest one that it knows; None: by the primaries.
OTHER_MATRICES: dict[int, tuple[str, int | None]] = {
    8: ("YCgCo", None),
    10: ("BT.2020 constant luminance", 9),
    11: ("SMPTE ST 2085", 9),
    12: ("chromaticity-derived", None),
    13: ("chromaticity-derived constant luminance", None),
    14: ("ICtCp", 9),
    15: ("IPT-C2", 9),
    16: ("YCgCo-Re", None),
    17: ("YCgCo-Ro", None),
}
UNSPECIFIED, BT709 = 2, 1
NO_CROP = Crop()


class Converter:
    """Makes pictures of the frames of one video, and frees those frames now and then."""

    def __init__(self, crop: Crop = NO_CROP) -> None:
        """``crop``: what the container says is to be cut off."""
        self._crop = crop
        self._reformatter = VideoReformatter()
        self._garbage = 0  # bytes of the pictures made since frames were freed

    def picture(self, frame: VideoFrame | Picture) -> tuple[Picture, list[str]]:
        """A frame as RGB, cropped and upright, and warnings about it. Raises VideoError if it cannot be converted.

        FFmpeg's default conversion honours the colour tags; untagged is BT.601. HDR becomes SDR (``tonemap``).
        """
        if isinstance(frame, np.ndarray):  # put together of several
            return frame, []
        warnings = _with_known_matrix(frame)
        transfer = int(frame.color_trc)
        is_hdr = transfer in {PQ, HLG}
        try:
            converted = self._reformatter.reformat(frame, format="rgb48le" if is_hdr else "rgb24", threads=1)
            picture = cast("Picture", converted.to_ndarray())
        except (av.error.FFmpegError, ValueError) as error:
            raise VideoError(f"cannot convert {frame.format.name} frames to RGB: {error}", "unsupported") from error
        if is_hdr:
            picture = tone_mapped(cast("Any", picture), transfer, int(frame.color_primaries))
            warnings.append(f"HDR ({'PQ' if transfer == PQ else 'HLG'}) was converted to SDR")
        turn = TURNS.get(_orientation(frame))
        self._free_frames(picture.nbytes)
        if turn is None:
            warnings.append("the rotation in the file is not a multiple of 90 degrees and was ignored")
            turn = TURNS[_BY_ANGLE[0]]
        return turn(self._cropped(picture)), warnings

    def _cropped(self, picture: Picture) -> Picture:
        crop, (height, width) = self._crop, picture.shape[:2]
        sides = (crop.top, crop.bottom, crop.left, crop.right)
        if not any(sides) or min(sides) < 0 or crop.top + crop.bottom >= height or crop.left + crop.right >= width:
            return picture
        return picture[crop.top : height - crop.bottom, crop.left : width - crop.right]

    def _free_frames(self, size: int) -> None:
        """Free the frames of earlier pictures, if this one, of ``size`` bytes, is one too many."""
        self._garbage += size
        if self._garbage > MOST_GARBAGE:
            gc.collect()  # frames refer to themselves once their side data was read: Python would leave hundreds
            self._garbage = 0


def _with_known_matrix(frame: VideoFrame) -> list[str]:
    """Have a frame converted by the nearest colour matrix that swscale knows → warnings."""
    matrix, primaries = int(frame.colorspace), int(frame.color_primaries)
    if matrix in KNOWN_MATRICES or frame.format.is_rgb:
        return []
    name, nearest = OTHER_MATRICES.get(matrix, (f"the unknown matrix {matrix}", UNSPECIFIED))
    if nearest is None:
        nearest = primaries if primaries in {BT709, BT2020} else UNSPECIFIED
    frame.colorspace = nearest
    taken = {BT709: "BT.709", BT2020: "BT.2020"}.get(nearest, "BT.601")
    return [f"the colours are stored as {name}, which was read as {taken}: they may be off"]


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
