"""Results for programs: JSON, JSON Lines and CSV."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import TextIO

from ..results.records import Failure, Jsonable, Record, RunHeader
from ..text import printable

# A spreadsheet computes cells that begin with these; an apostrophe before them makes it show the text.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\n")

CSV_FIELDS = ("video", "status", "start_seconds", "end_seconds", "rank", "label", "score", "logit", "error")


def write_jsonl(records: Iterable[Jsonable], out: TextIO, header: RunHeader | None) -> None:
    """One record a line, each written as soon as it is there; the header first where there is one."""
    if header:
        out.write(json.dumps(header.to_json()) + "\n")
    for record in records:
        out.write(json.dumps(record.to_json()) + "\n")
        out.flush()


def write_json(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """One array of records."""
    json.dump([record.to_json() for record in records], out, indent=2)
    out.write("\n")


def write_csv(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """One row a label, one row a failure. Texts are no formulas of a spreadsheet, and on a terminal steer nothing."""
    write_rows(map(csv_rows, records), out)


def write_rows(groups: Iterable[Iterable[dict[str, object]]], out: TextIO) -> None:
    """Rows of CSV_FIELDS, a group at a time."""
    writer = csv.DictWriter(out, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    shown = printable if out.isatty() else str
    for group in groups:
        for row in group:
            writer.writerow(
                {key: shown(csv_text(cell)) if isinstance(cell, str) else cell for key, cell in row.items()}
            )
        out.flush()


def csv_text(text: str) -> str:
    """A text that no spreadsheet takes for a formula, and no reader for the end of a row."""
    text = text.replace("\r", "\\r")  # Python's writer leaves it without quotes
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def csv_rows(record: Record) -> Iterator[dict[str, object]]:
    """A record as rows."""
    if isinstance(record, Failure):
        yield {"video": record.video, "status": "error", "error": record.message}
        return
    if not record.predictions:
        yield {"video": record.video, "status": "ok"}
    for rank, ranked in enumerate(record.predictions, start=1):
        yield {
            "video": record.video,
            "status": "ok",
            "start_seconds": record.start_seconds,
            "end_seconds": record.end_seconds,
            "rank": rank,
            "label": ranked.label,
            "score": ranked.score,
            "logit": ranked.logit,
        }
