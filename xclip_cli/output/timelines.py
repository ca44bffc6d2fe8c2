"""How timelines look: JSON and JSON Lines hold windows and segments; the table, CSV and subtitles show segments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TextIO

from rich.console import Console, Group, RenderableType

from ..errors import ResultsError
from ..results.records import Failure, RunHeader
from ..timeline import BrokenOff, Drawing, Segment, TimelineRecord, VideoTimeline, WindowRecord, format_srt, format_vtt
from ..timeline import csv_rows as segment_rows
from .notes import Format, csv_rows, format_failure, format_record, format_warnings, has_blocks, write_jsonl, write_rows


def write_json(records: Iterable[TimelineRecord], out: TextIO, header: RunHeader | None) -> None:
    """One array with an object a video: its windows, written as they come, and its segments, or its error."""
    separator, unfinished = "[\n", None
    for record in records:
        if not isinstance(record, WindowRecord):
            out.write(_rest(record) if unfinished else separator + _object(record))
            separator, unfinished = ",\n", None
        elif unfinished:
            out.write(",\n " + _object(record))
        else:
            out.write(separator + '{"windows": [\n ' + _object(record))
            unfinished = record.record.video
        out.flush()
    if unfinished:
        out.write(_rest(Failure(unfinished, "interrupted", "the run ended before the video did")))
        separator = ",\n"
    out.write("\n]\n" if separator != "[\n" else "[]\n")


def _object(record: TimelineRecord) -> str:
    return json.dumps({key: value for key, value in record.to_json().items() if key != "kind"})


def _rest(record: VideoTimeline | Failure) -> str:
    """An object's rest behind its windows."""
    return "\n], " + _object(record).removeprefix("{")


def write_csv(records: Iterable[TimelineRecord], out: TextIO, header: RunHeader | None) -> None:
    """A row a segment, a row a failure, and a row for a video that has no segment."""
    write_rows(map(_rows, _videos(records)), out)


def _rows(record: VideoTimeline | Failure) -> Iterator[dict[str, object]]:
    if segments := _segments(record):
        yield from segment_rows(record.video, segments)
    if isinstance(record, Failure):
        yield from csv_rows(record)
    elif not segments:
        yield {"video": record.video, "status": "ok"}


def _segments(record: VideoTimeline | Failure) -> Sequence[Segment]:
    if isinstance(record, BrokenOff):
        return record.timeline.segments
    return () if isinstance(record, Failure) else record.segments


def write_table(records: Iterable[TimelineRecord], out: TextIO, header: RunHeader | None) -> None:
    """Each timeline drawn over the width of the terminal."""
    console, blocks = Console(file=out, highlight=False), has_blocks(out)
    for number, record in enumerate(_videos(records)):
        if number:
            console.print()
        console.print(_shown(record, blocks))


def _shown(record: VideoTimeline | Failure, blocks: bool) -> RenderableType:
    if isinstance(record, BrokenOff):
        return Group(_shown(record.timeline, blocks), format_failure(record))
    if isinstance(record, Failure):
        return format_record(record)
    if record.timeline is None:
        return format_record(Failure(record.video, "no_frames", "it has no length, so there is no timeline"))
    drawing = Drawing(record.video, record.timeline, record.segments, blocks)
    return Group(drawing, *format_warnings(record.warnings))


def _subtitles(form: Callable[[Iterable[Segment]], str]) -> Format[TimelineRecord]:
    """The segments of one video as subtitles, up to where it fails. Raises ResultsError where that is its start: then
    there is nothing to write."""

    def write(records: Iterable[TimelineRecord], out: TextIO, header: RunHeader | None) -> None:
        for record in _videos(records):
            if isinstance(record, Failure) and not isinstance(record, BrokenOff):
                raise ResultsError(f"there are no subtitles for {record.video}: {record.message}")
            out.write(form(_segments(record)))

    return write


def _videos(records: Iterable[TimelineRecord]) -> Iterator[VideoTimeline | Failure]:
    return (record for record in records if not isinstance(record, WindowRecord))


FORMATS: dict[str, Format[TimelineRecord]] = {
    "table": write_table,
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "srt": _subtitles(format_srt),
    "vtt": _subtitles(format_vtt),
}
ONE_VIDEO = ("srt", "vtt")  # formats that hold one video
