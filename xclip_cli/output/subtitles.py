"""Segments as subtitles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..segments import Segment
from ..text import printable

VTT_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # in this order
# SubRip has no escapes. Players take <…> and {…} for markup, and may look for an arrow: an invisible word joiner keeps
# them from it, but for braces, which FFmpeg hides whatever is in them.
SRT_STAND_INS = {
    "<": "<\N{WORD JOINER}",
    "--": "--\N{WORD JOINER}",
    "{": "\N{FULLWIDTH LEFT CURLY BRACKET}",
    "}": "\N{FULLWIDTH RIGHT CURLY BRACKET}",
}


def format_srt(segments: Iterable[Segment]) -> str:
    """Segments as SubRip subtitles."""
    cues = []
    for number, (start, end, segment) in enumerate(_cues(segments), start=1):
        text = printable(f"{segment.label} ({segment.score:.2f})")
        for sign, shown in SRT_STAND_INS.items():
            text = text.replace(sign, shown)
        cues.append(f"{number}\n{_timestamp(start, ',')} --> {_timestamp(end, ',')}\n{text}\n")
    return "\n".join(cues)


def format_vtt(segments: Iterable[Segment]) -> str:
    """Segments as WebVTT subtitles."""
    cues = ["WEBVTT\n"]
    for start, end, segment in _cues(segments):
        text = printable(f"{segment.label} ({segment.score:.2f})")
        for sign, shown in VTT_ESCAPES.items():
            text = text.replace(sign, shown)
        cues.append(f"{_timestamp(start, '.')} --> {_timestamp(end, '.')}\n{text}\n")
    return "\n".join(cues)


def _cues(segments: Iterable[Segment]) -> Iterator[tuple[int, int, Segment]]:
    """Each segment with its start and end in milliseconds: never empty, never over the one before."""
    free = 0
    for segment in segments:
        start = max(round(segment.start_seconds * 1000), free)
        free = max(round(segment.end_seconds * 1000), start + 1)
        yield start, free, segment


def _timestamp(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"
