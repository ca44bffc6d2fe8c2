"""How results look: a table for people; JSON, JSON Lines and CSV for programs. A format is a function in a table."""

from __future__ import annotations

import csv
import json
import logging
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, TextIO, TypeVar

from rich.console import Console, Group
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Table
from rich.text import Text

from ..errors import ResultsError
from ..results.records import Failure, Jsonable, Record, RunHeader
from ..results.run_file import open_locked
from ..text import clock, pace
from ..text import printable as printable

# A spreadsheet computes cells that begin with these; an apostrophe before them makes it show the text.
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\n")

CSV_FIELDS = ("video", "status", "start_seconds", "end_seconds", "rank", "label", "score", "logit", "error")
BAR_WIDTH = 24
LABEL_WIDTH = 28  # at least, where there is room

T = TypeVar("T")

R = TypeVar("R")

Format = Callable[[Iterable[R], TextIO, RunHeader | None], None]


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


def write_table(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """A small table a video, with bars."""
    console, blocks = Console(file=out, highlight=False), has_blocks(out)
    for number, record in enumerate(records):
        if number:
            console.print()
        console.print(format_record(record, blocks, console.width))


def has_blocks(out: TextIO) -> bool:
    """Whether block characters can be written."""
    return (out.encoding or "").lower().replace("-", "").startswith("utf")


def format_record(record: Record, blocks: bool = True, width: int = 80) -> Group:
    """One record for people, ``width`` characters wide at most: the video, then rank, label, bar and score. ``blocks``
    False draws in ASCII."""
    heading = Text(printable(record.video), style="bold", overflow="fold")
    if isinstance(record, Failure):
        return Group(heading, format_failure(record))
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(justify="right", style="dim")
    table.add_column(overflow="fold", min_width=min(LABEL_WIDTH, width // 3))  # so that bars of most videos align
    bar_width = min(BAR_WIDTH, width // 3)
    table.add_column(width=bar_width, no_wrap=True, style="green")
    table.add_column(justify="right", no_wrap=True)
    for rank, ranked in enumerate(record.predictions, start=1):
        label = Text(printable(ranked.label), style="bold" if rank == 1 else "")
        table.add_row(str(rank), label, bar(ranked.score, bar_width, blocks), f"{ranked.score:.3f}")
    notes = [] if record.predictions else [Text("no label is sure enough", style="yellow")]
    return Group(heading, table, *notes, *format_warnings(record.warnings))


def format_failure(failure: Failure) -> Text:
    """Why a video failed."""
    return Text(f"failed: {printable(failure.message)}", style="red")


def format_warnings(warnings: Iterable[str]) -> list[Text]:
    """A line each."""
    return [Text(f"warning: {printable(warning)}", style="yellow") for warning in warnings]


def print_models(rows: list[dict[str, Any]]) -> None:
    """Models as a table, as wide as it needs to be where stdout is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=200)
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    numbers = ("frames", "px", "patch", "MB", "GMAC")
    for heading in ("name", *numbers, "cached", "trained on", "accuracy (top-1 / top-5, %)"):
        table.add_column(heading, justify="right" if heading in numbers else "left")
    for row in rows:
        table.add_row(
            row["name"].removeprefix("microsoft/xclip-"),
            *(str(row[key]) for key in ("num_frames", "image_size", "patch_size", "megabytes")),
            f"{row['gmac']:.1f}",
            "yes" if row["cached"] else "no",
            row["trained_on"],
            f"{row['accuracy']}, {row['protocol']}",
        )
    console.print(table)


def format_fields(values: dict[str, Any], indent: str = "") -> str:
    """Nested values, a line each."""
    lines = []
    for name, value in values.items():
        key = printable(str(name))
        if isinstance(value, dict):
            lines += [f"{indent}{key}:", format_fields(value, indent + "  ")]
        elif isinstance(value, list):
            lines += [f"{indent}{key}: {printable(str(item))}" for item in value]
        elif isinstance(value, bool):
            lines.append(f"{indent}{key}: {'yes' if value else 'no'}")
        elif isinstance(value, int):
            lines.append(f"{indent}{key}: {value:,}")
        elif value is not None:
            lines.append(f"{indent}{key}: {printable(str(value))}")
    return "\n".join(lines)


def bar(share: float, width: int, blocks: bool = True) -> str:
    """A bar of ``share`` (0 to 1) of ``width`` characters, to an eighth of a character where blocks can be shown."""
    if not blocks:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


WITH_PARTS = ("json", "jsonl")  # formats that show each part of a video, such as a window, as it comes

FORMATS: dict[str, Format[Record]] = {"table": write_table, "json": write_json, "jsonl": write_jsonl, "csv": write_csv}


def format_of(path: Path) -> str | None:
    """The format that a file name asks for by its suffix."""
    suffixes = {".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".txt": "table"}
    suffixes |= {".srt": "srt", ".vtt": "vtt"}
    return suffixes.get(path.suffix.lower())


def is_terminal(output: Path | None) -> bool:
    """Whether results go to a terminal."""
    return output is None and sys.stdout is not None and sys.stdout.isatty()


def check_output(path: Path, force: bool, inputs: Iterable[str]) -> None:
    """Refuse a file for results that would destroy something, before any work is done. Raises ResultsError."""
    try:
        if path.is_dir():
            raise ResultsError(f"{path} is a folder: give a file for the results")
        if not path.parent.is_dir():
            raise ResultsError(f"the folder {path.parent} of the output does not exist")
        if not path.exists():
            return
        for given in inputs:
            with suppress(OSError):  # it cannot be reached, so it cannot be destroyed
                if path.samefile(given):
                    raise ResultsError(f"{path} is one of the inputs: give another file for the results")
        if path.is_file() and not force:  # a device or a pipe is written to, and loses nothing
            raise ResultsError(f"{path} exists: pass --force to replace it, --resume to go on, or give another file")
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror}") from error


def write(
    form: Format[R],
    records: Iterable[R],
    path: Path | None,
    header: RunHeader | None,
    force: bool = False,
) -> None:
    """Write records in a format, to a file or to stdout. Raises ResultsError where the file cannot be written.

    A file appears only when it is whole; a device or a pipe is written to as it is.
    """
    if path is None:
        _write_stdout(form, records, header)
        return
    # Undecodable bytes of file names become escapes in tables and CSV; JSON escapes them itself.
    with _whole_file(path, force, errors="backslashreplace") as out:
        form(records, out, header)


def replace_file(path: Path, text: str) -> None:
    """Write a text file that appears only when it is whole. Raises ResultsError."""
    with _whole_file(path, force=True) as out:
        out.write(text)


@contextmanager
def _whole_file(path: Path, force: bool, errors: str = "strict") -> Iterator[TextIO]:
    """A text file that appears at ``path`` when it is whole, and that no other run writes meanwhile; a device or a pipe
    is written to as it is. Raises ResultsError."""
    try:
        if is_special(path):
            with open(path, "w", encoding="utf-8", errors=errors, newline="") as out:  # noqa: PTH123
                yield out
            return
        part = path.with_name(f".xclip-{zlib.crc32(os.fsencode(path.name)):08x}.part")
        with open_locked(part, path) as file:
            try:
                file.truncate()  # a run that was killed may have left something
                text = TextIOWrapper(file, "utf-8", errors, newline="")
                yield text
                text.flush()
                if not force and path.exists():
                    rescued = path.with_name(f"{path.stem}.{os.getpid()}{path.suffix}")
                    part.replace(rescued)
                    raise ResultsError(f"{path} was made by another program meanwhile: these results are in {rescued}")
                part.replace(path)
                text.detach()
            except BaseException:
                part.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror or error}") from error


def is_special(path: Path) -> bool:
    """Whether there is a device or a pipe, which is written to as it is."""
    return path.exists() and not path.is_file()


def _write_stdout(form: Format[R], records: Iterable[R], header: RunHeader | None) -> None:
    if sys.stdout is None:
        raise ResultsError("stdout is closed: pass -o FILE")
    try:
        form(records, sys.stdout, header)
        sys.stdout.flush()
    except OSError as error:
        # What is left in Python's buffer would fail again at exit: send it nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise ResultsError(f"cannot write to stdout: {error.strerror or error}") from error


@dataclass(frozen=True)
class Step:
    """How far a record brings its video."""

    share: float  # of the video that is done; 1 is all of it
    seconds: float | None = None  # where in the video that is


class Notes:
    """What a run says on stderr, and its progress there."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False)
        if not quiet:
            handler = _Handler(self)
            logger = logging.getLogger(__package__)
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(logging.INFO)

    def say(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            self._console.print(printable(text), markup=False, soft_wrap=True)

    def progress(
        self, records: Iterator[R], total: int, step: Callable[[R], Step] | None = None, pause: bool = False
    ) -> Iterator[R]:
        """The records, with a progress bar where stderr is a terminal, and each failure said as it comes.

        ``step``: where records are parts of videos, how far one is. ``pause``: the bar goes for as long as the last
        record of a video is looked at, which may be shown on the same terminal.
        """
        texts = (TextColumn("{task.fields[at]}"), TextColumn("{task.fields[rate]}", style="dim"))
        columns = (TextColumn("classifying"), BarColumn(None), MofNCompleteColumn(), *texts, TimeRemainingColumn())
        hidden = (total < 2 and step is None) or self._quiet or not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, expand=True, disable=hidden) as progress:
            task = progress.add_task("", total=total, at="", rate="")
            videos, parts, began = 0, 0, None
            for record in records:
                if pause:
                    progress.start()
                if isinstance(record, Failure):
                    self.say(f"failed: {record.video}: {record.message}")
                reached = Step(1) if step is None else step(record)
                videos += reached.share == 1
                parts += step is None or reached.share < 1
                began = began or time.monotonic()  # start-up is no part of the rate, nor is what came first
                rate = pace(parts - 1, time.monotonic() - began, "video" if step is None else "window")
                progress.update(
                    task,
                    completed=videos + reached.share % 1,
                    at="" if reached.seconds is None else f"at {clock(reached.seconds)}",
                    rate=rate if parts > 1 else "",
                )
                if pause and reached.share == 1:
                    progress.stop()
                yield record

    def steps(self, items: Iterable[T], total: int, doing: str) -> Iterator[T]:
        """The items, with a progress bar where stderr is a terminal."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hidden = self._quiet or not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=hidden) as progress:
            yield from progress.track(items, total=total, description=doing)

    def bar(self) -> type:
        """A tqdm class, which the hub library reports downloads to: a rich bar on a terminal, nothing elsewhere."""
        return rich_bar(self._console, hidden=self._quiet or not self._console.is_terminal)


def rich_bar(console: Console, hidden: bool) -> type:
    """A tqdm class that rich draws."""
    from huggingface_hub import utils

    base: Any = utils.tqdm  # type: ignore[attr-defined]
    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn()
    progress = Progress(*columns, TimeRemainingColumn(), console=console, transient=True)

    class RichBar(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**kwargs, "disable": hidden})
            if not hidden:
                progress.start()
                self._task = progress.add_task(kwargs.get("desc") or "", total=kwargs.get("total"))

        def display(self, msg: str | None = None, pos: int | None = None) -> None:
            if hasattr(self, "_task"):
                progress.update(self._task, completed=self.n, total=self.total, description=self.desc or "")

        def close(self) -> None:
            super().close()
            if hasattr(self, "_task") and self._task in progress.task_ids:
                progress.remove_task(self._task)
                if not progress.task_ids:
                    progress.stop()

    return RichBar


class _Handler(logging.Handler):
    """Shows what the library logs, such as a download."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.say(self.format(record))
