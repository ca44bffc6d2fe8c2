"""The formats of timelines: JSON and JSON Lines hold windows and segments, the others segments alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TextIO

from rich.console import Group

from ..errors import ResultsError
from ..results.records import Record, RunHeader
from .data import write_csv, write_json_by_video, write_jsonl
from .drawing import Drawing
from .edits import format_edl, format_otio
from .files import Format
from .parquet import write_parquet
from .subtitles import format_srt, format_vtt
from .tables import format_failure, format_heading, format_warnings, write_each


def write_table(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """Each timeline drawn over the width of the terminal."""
    write_each((record for record in records if record.completes), out, format_timeline)


def format_timeline(record: Record, blocks: bool = True, width: int = 80) -> Group:
    """A video's timeline for people, up to its error if it has one; it is as wide as the console that prints it."""
    if record.timeline is None:
        reason = record.error.message if record.error else "the video has no duration, so there is no timeline"
        return Group(format_heading(record.video), format_failure(reason))
    drawing = Drawing(record.video, record.timeline, record.segments, blocks)
    failed = [format_failure(record.error.message)] if record.error else []
    return Group(drawing, *format_warnings(record.warnings), *failed)


def _of_segments(form: Callable[[Record], str]) -> Format:
    """The segments of one video as text, up to its error if it has one."""

    def write(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
        """Raises ResultsError if the video has an error and no timeline: then there is nothing to write."""
        for record in records:
            if not record.completes:
                continue
            if record.error and not record.has_segments:
                raise ResultsError(f"no segments for {record.video}: {record.error.message}")
            out.write(form(record))

    return write


FORMATS: dict[str, Format] = {
    "table": write_table,
    "json": write_json_by_video,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
    "srt": _of_segments(lambda record: format_srt(record.segments)),
    "vtt": _of_segments(lambda record: format_vtt(record.segments)),
    "edl": _of_segments(format_edl),
    "otio": _of_segments(format_otio),
}
WITH_PARTS = ("json", "jsonl")  # formats that show each window as it comes
ONE_VIDEO = ("srt", "vtt", "edl", "otio")  # formats that hold one video
