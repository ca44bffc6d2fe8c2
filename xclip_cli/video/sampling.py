"""Which frames of a video: plain data and exact arithmetic, no decoding."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]  # [height, width, 3], red green blue

STDIN = ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")  # the paths that stand for a video on stdin
MOST_OVERLAP = 64  # windows that may look at one moment: their frames are held at once


@dataclass(frozen=True)
class Views:
    """How many views of a video there are: clips, and crops of each. Their scores are averaged (the paper's 4.1)."""

    clips: int = 1
    crops: int = 1  # 1: the centre; 3: both ends of the long side and the middle

    @property
    def count(self) -> int:
        """Of all views."""
        return self.clips * self.crops

    def __str__(self) -> str:
        return f"{self.clips}x{self.crops}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """From the form CLIPSxCROPS. Raises ValueError."""
        found = re.fullmatch(r"([1-9]\d?)x([13])", text)
        if not found:
            raise ValueError(
                f"{text!r} is not a number of views: give CLIPSxCROPS, 1 to 99 clips and 1 or 3 crops, such as 4x3"
            )
        return cls(int(found[1]), int(found[2]))


ONE_VIEW = Views()


@dataclass(frozen=True)
class ClipRequest:
    """Which frames of which video."""

    path: str
    num_frames: int  # of a clip
    clips: int = 1  # which share the window
    start: Fraction | None = None  # seconds; None: the video's start
    end: Fraction | None = None  # seconds; None: the video's end
    length: Fraction | None = None  # seconds of each window; None: one window, all from start to end
    stride: Fraction | None = None  # seconds from the start of a window to that of the next
    stream: int | None = None  # which of the file's video streams, from 0; None: the best
    descriptor: int | None = None  # of the file, where it is open, as it is in decode workers

    @property
    def file(self) -> str | int:
        """What to open."""
        return self.path if self.descriptor is None else self.descriptor

    def to_json(self) -> dict[str, Any]:
        """The plain form that crosses to a decode worker: times as exact ratios."""
        return {key: str(value) if isinstance(value, Fraction) else value for key, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Back from the plain form."""
        times = {key: values.get(key) for key in ("start", "end", "length", "stride")}
        return cls(**{**values, **{key: None if time is None else Fraction(time) for key, time in times.items()}})

    @property
    def frames(self) -> int:
        """Of each window."""
        return self.num_frames * self.clips

    @property
    def most_pictures(self) -> int:
        """That are in use at a time: of a window, and of those that begin in it or before and share time with it."""
        windows = 1 if self.length is None or self.stride is None else 2 * math.ceil(self.length / self.stride) + 3
        return windows * self.frames

    def windows(self, start: Fraction, end: Fraction) -> Windows:
        """The windows over the stretch [start, end) of the video, in seconds."""
        if self.length is None or self.stride is None:
            return Windows(start, end, end - start, end - start)
        return Windows(start, end, self.length, self.stride)


@dataclass(frozen=True)
class Windows:
    """Windows of one length over the stretch [start, end) of a video, in exact seconds.

    One begins every ``stride`` as long as it ends within the stretch; if time is left behind them, one more ends where
    the stretch ends. A stretch that is shorter than a window, or empty, is one window.
    """

    start: Fraction
    end: Fraction
    length: Fraction
    stride: Fraction

    @property
    def _strides(self) -> int:
        """How many windows begin behind the first, a stride apart."""
        room = self.end - self.start - self.length
        return room // self.stride if room > 0 else 0

    @property
    def count(self) -> int:
        """How many there are; where a file lies about its times, more than ``len`` can say."""
        strides = self._strides
        return strides + 1 + (self.start + strides * self.stride + self.length < self.end)

    def __iter__(self) -> Iterator[tuple[Fraction, Fraction]]:
        if self.end - self.start < self.length:
            yield self.start, self.end
            return
        strides = self._strides
        for i in range(strides + 1):
            yield self.start + i * self.stride, self.start + i * self.stride + self.length
        if self.start + strides * self.stride + self.length < self.end:
            yield self.end - self.length, self.end


def check_windows(length: Fraction, stride: Fraction) -> None:
    """Raises ValueError if windows of this length, this far apart, cannot be looked at."""
    if length <= 0 or stride <= 0:
        raise ValueError(f"window and stride must be longer than 0 s, got {float(length):g} s and {float(stride):g} s")
    if length > MOST_OVERLAP * stride:
        raise ValueError(
            f"windows of {float(length):g} s that start every {float(stride):g} s overlap more than {MOST_OVERLAP} "
            f"times: give a stride of at least {float(length / MOST_OVERLAP):g} s"
        )


@dataclass(frozen=True)
class ClipInfo:
    """A clip without its pictures."""

    start_seconds: float  # the window, half-open
    end_seconds: float
    times_seconds: tuple[float, ...]  # of the frames, clip after clip
    places: tuple[int, ...]  # for each of the frames, which of the decoded pictures it is
    errors: int  # packets and frames that were skipped as damaged
    warnings: tuple[str, ...]
    following: int = 0  # clips of the same request that come after this one, one a window
    rate: str | None = None  # frames per second of the video, by its headers, as an exact ratio; None: they do not say
    lost: str | None = None  # of one window of many: why it cannot be looked at, too damaged as it is
    seconds: float = field(default=0.0, compare=False)  # that decoding took

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Back from the plain form that crosses from a decode worker."""
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})

    @property
    def decoded(self) -> int:
        """Different pictures among the frames."""
        return len(set(self.places))


def frame_times(start: Fraction, end: Fraction, count: int, clips: int = 1) -> list[Fraction]:
    """When the frames of clips are shown, clip after clip: [start, end) is cut into ``count`` equal segments.

    A single clip takes the centre of each segment (the paper's test sampling); of several, each takes its own place in
    every segment, evenly spread.
    """
    return [
        start + (end - start) * (i + Fraction(2 * clip + 1, 2 * clips)) / count
        for clip in range(clips)
        for i in range(count)
    ]
