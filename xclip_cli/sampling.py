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

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


@dataclass(frozen=True)
class ClipRequest:
    """Which frames of which video."""

    path: str
    num_frames: int
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
    times_seconds: tuple[float, ...]  # of the T frames
    places: tuple[int, ...]  # for each of the T frames, which of the decoded pictures it is
    errors: int  # packets and frames that were skipped as damaged
    warnings: tuple[str, ...]

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Back from the plain form that crosses from a decode worker."""
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**{**values, **lists})

    @property
    def decoded(self) -> int:
        """Different pictures among the T frames."""
        return len(set(self.places))


def segment_centres(start: Fraction, end: Fraction, count: int) -> list[Fraction]:
    """The centres of ``count`` equal segments of [start, end)."""
    return [start + (end - start) * (2 * i + 1) / (2 * count) for i in range(count)]


def parse_time(text: str) -> Fraction:
    """Seconds, or ``HH:MM:SS.mmm`` with hours optional → exact seconds. Raises ValueError."""
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        return Fraction(text)
    raise ValueError(f"{text!r} is not a time: give seconds, such as 12.5, or HH:MM:SS.mmm, such as 1:02:03.5")
