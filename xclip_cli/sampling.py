"""Which frames of a video: plain data and exact arithmetic, no decoding."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any, Self

# What a folder expands to. Stills are classified too, but only when named.
VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".flv", ".gif", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)

DECODE_TIMEOUT = 120.0  # seconds without a new packet or picture after which decoding counts as hanging
MEGABYTE = 1 << 20
LEAST_MEMORY = 1024 * MEGABYTE  # of a decode worker, which takes some 400 MB of address space before it decodes

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


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
                f"{text!r} is no number of views: give CLIPSxCROPS, 1 to 99 clips of 1 or 3 crops, such as 4x3"
            )
        return cls(int(found[1]), int(found[2]))


ONE_VIEW = Views()


@dataclass(frozen=True)
class Limits:
    """What a single video may cost. Beyond, it is an error of code ``limit``."""

    pixels: int = 8192 * 4320  # of one frame
    frames: int = 2_500_000  # decoded for a window: 24 hours at 25 frames a second, where a file cannot be sought in
    memory: int = 4096 * MEGABYTE  # bytes of address space of the process that decodes, where the system can limit it


DEFAULT_LIMITS = Limits()


@dataclass(frozen=True)
class ClipRequest:
    """Which frames of which video."""

    path: str
    num_frames: int  # of a clip
    clips: int = 1  # which share the window
    start: Fraction | None = None  # seconds; None: the video's start
    end: Fraction | None = None  # seconds; None: the video's end

    def to_json(self) -> dict[str, Any]:
        """The plain form that crosses to a decode worker: times as exact ratios."""
        times = {key: None if time is None else str(time) for key, time in (("start", self.start), ("end", self.end))}
        return {**asdict(self), **times}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Back from the plain form."""
        times = {key: None if values[key] is None else Fraction(values[key]) for key in ("start", "end")}
        return cls(**{**values, **times})


@dataclass(frozen=True)
class ClipInfo:
    """A clip without its pictures."""

    start_seconds: float  # the window, half-open
    end_seconds: float
    times_seconds: tuple[float, ...]  # of the frames, clip after clip
    places: tuple[int, ...]  # for each of the frames, which of the decoded pictures it is
    errors: int  # packets and frames that were skipped as damaged
    warnings: tuple[str, ...]

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


def parse_time(text: str) -> Fraction:
    """Seconds, or ``HH:MM:SS.mmm`` with hours optional → exact seconds. Raises ValueError."""
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        return Fraction(text)
    raise ValueError(f"{text!r} is not a time: give seconds, such as 12.5, or HH:MM:SS.mmm, such as 1:02:03.5")
