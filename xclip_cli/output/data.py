"""Results for programs: JSON, JSON Lines and CSV."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from typing import TextIO

from ..results.records import Failure, Jsonable, Record, RunHeader
from ..text import printable

# A spreadsheet computes cells that begin with these signs, of full width too; an apostrophe before them makes it show
# the text. Where it takes other signs than commas for the ends of cells, these end there as well.
_FORMULA = re.compile(r"(\A|[;|\t\n])(?=[=+\-@＝＋－＠\t\n])")  # noqa: RUF001

CSV_FIELDS = ("video", "status", "start_seconds", "end_seconds", "rank", "label", "score", "logit", "error")


def write_jsonl(records: Iterable[Jsonable], out: TextIO, header: RunHeader | None) -> None:
    """One record a line, each written as soon as it is there; the header first where there is one."""
    if header:
        out.write(json.dumps(header.to_json()) + "\n")
    for record in records:
        out.write(json.dumps(record.to_json()) + "\n")
        out.flush()


def write_json(records: Iterable[Jsonable], out: TextIO, header: RunHeader | None) -> None:
    """One array of records."""
    json.dump([record.to_json() for record in records], out, indent=2)
    out.write("\n")


def write_json_by_video(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """One array with an object a video: its windows, if it has any, written as they come; then what completes it."""
    before, open_windows = "[\n", False
    for record in _until_complete(records):
        members = _members(record)
        if record.completes:
            out.write("\n], " if open_windows else before + "{")
            out.write(members + "}")
        else:
            out.write(",\n " if open_windows else before + '{"windows": [\n ')
            out.write("{" + members + "}")
        before, open_windows = ",\n", not record.completes
        out.flush()
    out.write("[]\n" if before == "[\n" else "\n]\n")


def _until_complete(records: Iterable[Record]) -> Iterator[Record]:
    """The records, and an error for the last video where none of them completes it."""
    last = None
    for last in records:
        yield last
    if last is not None and not last.completes:
        yield Failure(last.video, "interrupted", "the run ended before the video did")


def _members(record: Record) -> str:
    """The inside of a record's JSON object. Its place in the array says what kind it is."""
    values = {key: value for key, value in record.to_json().items() if key != "kind"}
    return ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in values.items())


def write_csv(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """The rows of each video. No spreadsheet takes a text for a formula, and on a terminal none can steer it."""
    writer = csv.DictWriter(out, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    shown = printable if out.isatty() else str
    for record in records:
        if not record.completes:
            continue
        for row in record.rows():
            writer.writerow(
                {key: shown(csv_text(cell)) if isinstance(cell, str) else cell for key, cell in row.items()}
            )
        out.flush()


def csv_text(text: str) -> str:
    """A text that no spreadsheet takes for a formula, and no reader for the end of a row."""
    text = text.replace("\r", "\\r")  # Python's writer leaves it without quotes
    return _FORMULA.sub(r"\1'", text)
