"""Results for programs: JSON, JSON Lines and CSV."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from typing import TextIO, TypeVar

from ..results.records import Failure, Jsonable, Record, RunHeader
from ..text import printable

R = TypeVar("R", bound=Record)

# A spreadsheet computes cells that begin with these signs, of full width too; an apostrophe before them makes it show
# the text. Where it takes other signs than commas for the ends of cells, these end there as well.
_FORMULA = re.compile(r"(\A|[;|\t\n])(?=[=+\-@＝＋－＠\t\n])")  # noqa: RUF001

CSV_FIELDS = ("video", "status", "start_seconds", "end_seconds", "rank", "label", "score", "logit", "error")


def write_jsonl(records: Iterable[Jsonable], out: TextIO, header: RunHeader | None) -> None:
    """One record per line, each written as soon as it is there; the header first where there is one."""
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
    """One array with an object per video."""
    before = "[\n"
    for of_video in by_video(records):
        out.write(before)
        _write_object(of_video, out)
        before = ",\n"
    out.write("[]\n" if before == "[\n" else "\n]\n")


def write_json_object(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """The object of one video alone."""
    _write_object(records, out)
    out.write("\n")


def _write_object(records: Iterable[Record], out: TextIO) -> None:
    """A video's windows, if it has any, written as they come; then what completes it, an error where nothing does."""
    before = '{"windows": [\n '
    for record in records:
        if record.completes:
            out.write((before[0] if before[0] == "{" else "\n], ") + _members(record) + "}")
            return
        out.write(before + "{" + _members(record) + "}")
        out.flush()
        before = ",\n "
    out.write(
        "\n], " + _members(Failure(record.video, "interrupted", "the run ended before this video was finished")) + "}"
    )


def by_video(records: Iterable[R]) -> Iterator[Iterator[R]]:
    """The records of each video, which must be taken before the next video's: the last completes it, unless they end
    early."""
    rest = iter(records)
    for first in rest:
        yield _up_to_complete(first, rest)


def _up_to_complete(record: R, rest: Iterator[R]) -> Iterator[R]:
    yield record
    while not record.completes:
        following = next(rest, None)
        if following is None:
            return
        record = following
        yield record


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
