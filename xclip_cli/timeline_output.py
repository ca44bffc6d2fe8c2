"""How timelines look: JSON and JSON Lines hold windows and segments; the table, CSV and subtitles show segments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO

from rich.console import Console

from .errors import ResultsError
from .output import Format, csv_rows, format_record, has_blocks, write_jsonl, write_rows
from .results import Failure, RunHeader
from .timeline import (
    Drawing,
    Segment,
    TimelineRecord,
    VideoTimeline,
    WindowPrediction,
    format_srt,
    format_vtt,
    video_object,
)
from .timeline import csv_rows as segment_rows


def write_json(records: Iterable[TimelineRecord], out: TextIO, header: RunHeader | None) -> None:
    """One array with an object a video, which holds its windows and segments; a failure is its record."""
    separator = "[\n"
    for video in _objects(records):
        out.write(separator + json.dumps(video, indent=2))
        separator = ",\n"
    out.write("\n]\n" if separator != "[\n" else "[]\n")


def _objects(records: Iterable[TimelineRecord]) -> Iterator[dict[str, object]]:
    windows: list[dict[str, object]] = []
    for record in records:
        if isinstance(record, WindowPrediction):
            windows.append(record.to_json())
            continue
        yield record.to_json() if isinstance(record, Failure) else video_object(windows, record.to_json())
        windows = []


def write_csv(records: Iterable[TimelineRecord], out: TextIO, header: RunHeader | None) -> None:
    """A row a segment, a row a failure, and a row for a video that has no segment."""
    write_rows(map(_rows, _videos(records)), out)


def _rows(record: VideoTimeline | Failure) -> Iterator[dict[str, object]]:
    if isinstance(record, Failure):
        yield from csv_rows(record)
    elif record.segments:
        yield from segment_rows(record.video, record.segments)
    else:
        yield {"video": record.video, "status": "ok"}


def write_table(records: Iterable[TimelineRecord], out: TextIO, header: RunHeader | None) -> None:
    """Each timeline drawn over the width of the terminal."""
    console, blocks = Console(file=out, highlight=False), has_blocks(out)
    for number, record in enumerate(_videos(records)):
        if number:
            console.print()
        if isinstance(record, Failure) or record.timeline is None:
            console.print(format_record(_without_length(record)))
        else:
            console.print(Drawing(record.video, record.timeline, record.segments, blocks))


def _without_length(record: VideoTimeline | Failure) -> Failure:
    if isinstance(record, Failure):
        return record
    return Failure(record.video, "no_frames", "it has no length, so there is no timeline")


def _subtitles(form: Callable[[Iterable[Segment]], str]) -> Format[TimelineRecord]:
    """The segments of one video as subtitles. Raises ResultsError where it failed: then there is nothing to write."""

    def write(records: Iterable[TimelineRecord], out: TextIO, header: RunHeader | None) -> None:
        for record in _videos(records):
            if isinstance(record, Failure):
                raise ResultsError(f"there are no subtitles for {record.video}: {record.message}")
            out.write(form(record.segments))

    return write


def _videos(records: Iterable[TimelineRecord]) -> Iterator[VideoTimeline | Failure]:
    return (record for record in records if not isinstance(record, WindowPrediction))


FORMATS: dict[str, Format[TimelineRecord]] = {
    "table": write_table,
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "srt": _subtitles(format_srt),
    "vtt": _subtitles(format_vtt),
}
ONE_VIDEO = ("srt", "vtt")  # formats that hold one video
