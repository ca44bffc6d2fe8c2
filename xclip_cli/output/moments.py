"""The formats of what a search found: tables, data, and playlists that play the moments one after the other."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TextIO

from rich.console import Console, RenderableType
from rich.style import Style
from rich.table import Table
from rich.text import Text

from ..results.records import Moment, Record, RunHeader
from ..text import clock, printable
from .data import csv_text, write_json, write_jsonl
from .files import Format
from .tables import bar, format_heading, has_blocks

BAR_WIDTH = 12
RANKED = "ranked by logit; scores compare the text with neutral texts in each moment"
CSV_FIELDS = ("query", "rank", "video", "start_seconds", "end_seconds", "score", "logit", "error")


def write_table(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """A table a query: rank, bar, score, when, and the video, which terminals that know links open."""
    console, blocks = Console(file=out, highlight=False), has_blocks(out)
    for number, (query, moments) in enumerate(groupby(_moments(records), lambda moment: moment.query)):
        if number:
            console.print()
        console.print(format_heading(query), *format_moments([*moments], blocks), sep="\n")


def format_moments(moments: Sequence[Moment], blocks: bool = True) -> list[RenderableType]:
    """The moments of a query for people, and why the scores do not fall, where they do not."""
    table = Table(box=None, padding=(0, 1), show_header=False)
    for style, right in (("dim", True), ("green", False), ("", True), ("", True)):
        table.add_column(style=style, justify="right" if right else "left", no_wrap=True)
    table.add_column(overflow="fold")
    for moment in moments:
        name = Text(printable(moment.video), style=Style(link=_uri(moment.video)))
        share = min(max(moment.score, 0.0), 1.0)
        when = f"{clock(moment.start_seconds, 1)}–{clock(moment.end_seconds, 1)}"  # noqa: RUF001 - a range
        when = when if blocks else when.replace("–", "-")  # noqa: RUF001
        table.add_row(str(moment.rank), bar(share, BAR_WIDTH, blocks), f"{moment.score:.3f}", when, name)
    scores = [moment.score for moment in moments]
    return [table] if scores == sorted(scores, reverse=True) else [table, Text(RANKED, style="dim")]


def write_csv(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """A row per moment, and one per failed video."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    shown = printable if out.isatty() else str
    for record in records:
        values = {"error": record.error.message, "video": record.video} if record.error else record.to_json()
        cells = [values.get(name) for name in CSV_FIELDS]
        writer.writerow([shown(csv_text(cell)) if isinstance(cell, str) else cell for cell in cells])


def write_m3u(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """A playlist for VLC, with start and stop times."""
    out.write("#EXTM3U\n")
    for moment in _moments(records):
        start, end = moment.start_seconds, moment.end_seconds
        out.write(f"#EXTINF:{max(round(end - start), 1)},{printable(moment.query)} ({moment.score:.3f})\n")
        out.write(f"#EXTVLCOPT:start-time={start:.3f}\n#EXTVLCOPT:stop-time={end:.3f}\n{_uri(moment.video)}\n")


def write_edl(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """mpv's edit list: names with their lengths in bytes before them, so that any character may be in them."""
    out.write("# mpv EDL v0\n")
    for moment in _moments(records):
        path = os.path.abspath(moment.video)  # noqa: PTH100 - pathlib's would follow links
        length = len(os.fsencode(path))
        out.write(f"%{length}%{path},{moment.start_seconds:.3f},{moment.end_seconds - moment.start_seconds:.3f}\n")


def _moments(records: Iterable[Record]) -> Iterator[Moment]:
    return (record for record in records if isinstance(record, Moment))


def _uri(video: str) -> str:
    return Path(os.path.abspath(video)).as_uri()  # noqa: PTH100 - pathlib's would follow links


FORMATS: dict[str, Format] = {
    "table": write_table,
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "m3u": write_m3u,
    "edl": write_edl,
}
