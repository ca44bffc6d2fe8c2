"""Segments as edit lists: CMX 3600 EDL, and OpenTimelineIO (an extra). Times are frames of the video, counted from its
first one, at the rate that its record says.

Timecode counts whole frames per second. At 30000/1001 and 60000/1001 frames per second it drops numbers (SMPTE 12M:
two or four at the start of each minute but every tenth), so that it stays with the clock; at no other rate.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import ResultsError
from ..results.fields import is_time
from ..results.records import Record
from ..segments import Segment
from ..text import printable

MOST_FRAMES = 100  # a second, which two digits count
NTSC = Fraction(1000, 1001)
CLOSE = Fraction(1, 10_000)  # as rates are that were measured in milliseconds, or cut to 29.97
LONGEST_TITLE = 70  # characters
MINUTES_A_DAY = 24 * 60


class NoTimecodeError(ResultsError):
    """A video has no rate, or one that the format cannot count."""


@dataclass(frozen=True)
class Timecode:
    """How frames are numbered at a rate."""

    rate: Fraction  # exactly
    base: int  # frames that a second of timecode has
    drop: bool

    @classmethod
    def at(cls, rate: Fraction) -> Timecode:
        """At a rate, in frames per second."""
        base = max(round(rate), 1)
        for exact in (Fraction(base), base * NTSC):
            if abs(rate - exact) < exact * CLOSE:
                rate = exact
        return cls(rate, base, rate == base * NTSC and base % 30 == 0)

    def frame(self, seconds: float) -> int:
        """The number of the frame nearest to a time, from 0."""
        return round(Fraction(seconds) * self.rate)

    def text(self, frame: int) -> str:
        """HH:MM:SS:FF, or HH:MM:SS;FF where numbers are dropped. After a day it begins again."""
        if self.drop:
            a_minute = 2 * self.base // 30
            tens, rest = divmod(frame, 600 * self.base - 9 * a_minute)
            frame += 9 * a_minute * tens + a_minute * max(0, (rest - a_minute) // (60 * self.base - a_minute))
        seconds, number = divmod(frame, self.base)
        hours, minutes = divmod(seconds // 60 % MINUTES_A_DAY, 60)
        return f"{hours:02}:{minutes:02}:{seconds % 60:02}{';' if self.drop else ':'}{number:02}"


def format_edl(record: Record) -> str:
    """A video's segments as CMX 3600: an event each, at its place in the video, with the label as a comment. Raises
    NoTimecodeError."""
    code = _timecode(record)
    if code.base >= MOST_FRAMES:
        raise NoTimecodeError(
            f"an EDL takes fewer than {MOST_FRAMES} frames per second, {record.video} has {code.base}: use otio"
        )
    name = printable(os.path.basename(record.video))  # noqa: PTH119 - any name
    lines = [f"TITLE: {name[:LONGEST_TITLE]}", f"FCM: {'' if code.drop else 'NON-'}DROP FRAME", ""]
    for number, (start, end, segment) in enumerate(_events(record, code), start=1):
        at = f"{code.text(start)} {code.text(end)}"
        lines.append(f"{number:03}  AX       V     C        {at} {at}")
        lines.append(f"* FROM CLIP NAME: {name}")
        lines.append(f"* COMMENT: {printable(segment.label)} ({segment.score:.2f})")
    return "\n".join(lines) + "\n"


def format_otio(record: Record) -> str:
    """A video's segments as an OpenTimelineIO timeline: a clip each, named by its label, and gaps between them. Raises
    NoTimecodeError."""
    import opentimelineio as otio

    code = _timecode(record)

    def span(start: int, end: int) -> Any:
        rate = float(code.rate)
        return otio.opentime.TimeRange(
            otio.opentime.RationalTime(start, rate), otio.opentime.RationalTime(end - start, rate)
        )

    name = printable(os.path.basename(record.video))  # noqa: PTH119 - any name
    uri = Path(os.path.abspath(record.video)).as_uri()  # noqa: PTH100 - pathlib's would follow links
    track, reached = otio.schema.Track("segments", kind=otio.schema.TrackKind.Video), 0
    for start, end, segment in _events(record, code):
        if start > reached:
            track.append(otio.schema.Gap(source_range=span(0, start - reached)))
        said = {"xclip": {"label": printable(segment.label), "score": segment.score}}
        media = otio.schema.ExternalReference(uri)
        media.name = name
        track.append(otio.schema.Clip(printable(segment.label), media, span(start, end), metadata=said))
        reached = end
    timeline = otio.schema.Timeline(name)
    timeline.tracks.append(track)
    return str(timeline.to_json_string()) + "\n"


def check_otio(form: str) -> None:
    """Raises ResultsError if the format is OpenTimelineIO and its library is not installed."""
    if form == "otio" and find_spec("opentimelineio") is None:
        raise ResultsError("otio needs OpenTimelineIO: pip install 'xclip-cli[otio]', or choose another --format")


def _timecode(record: Record) -> Timecode:
    rate = getattr(record, "rate", None)
    if rate is None or not is_time(rate) or not Fraction(rate):
        raise NoTimecodeError(
            f"the frame rate of {record.video} is unknown, so its segments have no timecode: use another --format, or "
            "decode the file again if an older index or results file lacks it"
        )
    return Timecode.at(Fraction(rate))


def _events(record: Record, code: Timecode) -> Iterator[tuple[int, int, Segment]]:
    """Each segment with its first frame and the one after its last: never empty, never over the one before."""
    free = 0
    for segment in record.segments:
        start = max(code.frame(segment.start_seconds), free)
        free = max(code.frame(segment.end_seconds), start + 1)
        yield start, free, segment
