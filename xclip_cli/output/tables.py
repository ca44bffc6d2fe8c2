"""Results for people: a small table a video; models and fields as text. A format is a function in a table."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TextIO

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..results.records import Record, RunHeader
from ..text import counted, one_line, printable
from .data import write_csv, write_json, write_jsonl
from .files import Format
from .parquet import write_parquet

BAR_WIDTH = 24
LABEL_WIDTH = 28  # at least, where there is room
ROOM_FOR_BARS = 40  # characters: where there are fewer, labels and scores need them all
LEAST_WIDTH = 20  # characters: a terminal with fewer wraps the lines that are made for this


def write_table(records: Iterable[Record], out: TextIO, header: RunHeader | None) -> None:
    """A small table a video, with bars."""
    write_each(records, out, format_record)


def write_each(records: Iterable[Record], out: TextIO, form: Callable[[Record, bool, int], RenderableType]) -> None:
    """Records with an empty line between them. ``form`` draws one; it is given whether block characters can be written,
    and how many characters wide the terminal is."""
    # Colours are for stdout alone, whatever the environment says of it: in a file they would be characters.
    console = Console(file=out, highlight=False, force_terminal=None if out is sys.stdout else False)
    if console.width < LEAST_WIDTH:
        console.width = LEAST_WIDTH
    blocks = has_blocks(out)
    for number, record in enumerate(records):
        if number:
            console.print()
        console.print(form(record, blocks, console.width))


def has_blocks(out: TextIO) -> bool:
    """Whether block characters can be written."""
    return (out.encoding or "").lower().replace("-", "").startswith("utf")


def format_record(record: Record, blocks: bool = True, width: int = 80) -> Group:
    """One record for people, ``width`` characters wide at most: the video, then rank, label, bar and score. ``blocks``
    False draws in ASCII."""
    heading = format_heading(record.video)
    if record.error:
        return Group(heading, format_failure(record.error.message))
    table = Table(box=None, padding=(0, 1), show_header=False)
    table.add_column(justify="right", no_wrap=True, style="dim")
    bar_width = min(BAR_WIDTH, width // 3) if width >= ROOM_FOR_BARS else 0
    # so that bars of most videos align
    table.add_column(overflow="fold", min_width=min(LABEL_WIDTH, width // 3) if bar_width else None)
    if bar_width:
        table.add_column(width=bar_width, no_wrap=True, style="green")
    table.add_column(justify="right", no_wrap=True)
    predictions = record.prediction.predictions if record.prediction else ()
    for rank, ranked in enumerate(predictions, start=1):
        label = Text(printable(ranked.label), style="bold" if rank == 1 else "")
        bars = [bar(ranked.score, bar_width, blocks)] if bar_width else []
        table.add_row(str(rank), label, *bars, f"{ranked.score:.3f}")
    notes = [] if predictions else [Text("no label passed its threshold", style="yellow")]
    return Group(heading, table, *notes, *format_warnings(record.warnings))


def format_heading(video: str) -> Text:
    """A video's name."""
    return Text(printable(video), style="bold", overflow="fold")


def format_failure(message: str) -> Text:
    """Why a video failed."""
    return Text(f"failed: {printable(message)}", style="red")


def format_warnings(warnings: Iterable[str]) -> list[Text]:
    """A line each."""
    return [Text(f"warning: {printable(warning)}", style="yellow") for warning in warnings]


def print_models(rows: list[dict[str, Any]]) -> None:
    """Models as a table of at most 80 columns."""
    console = Console(highlight=False, width=max(80, Console().width))
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    numbers = ("frames", "px", "MB", "GMAC")
    for heading in ("name", *numbers, "cached", "top-1, %"):
        table.add_column(heading, justify="right" if heading in numbers else "left", no_wrap=True)
    for row in rows:
        accuracies = re.findall(r"([\d.]+)(?: / [\d.]+)? on ", row["accuracy"])
        table.add_row(
            row["name"].removeprefix("microsoft/xclip-"),
            *(str(row[key]) for key in ("num_frames", "image_size", "megabytes")),
            f"{row['gmac']:.0f}" if row["gmac"] >= 10 else f"{row['gmac']:.1f}",
            "yes" if row["cached"] else "no",
            ", ".join(accuracies) or row["accuracy"],
        )
    console.print(table)
    console.print(
        "\ntop-1: as published, on the dataset in the name, or Kinetics-400; zero-shot: on\n"
        "HMDB-51, UCF-101, Kinetics-600, all unseen. GMAC: billion multiplications per\n"
        "clip. More: `xclip models info NAME`"
    )


def print_precisions(compared: dict[str, Any]) -> None:
    """What was measured of precisions as a table, and the advice that follows."""
    console = Console(highlight=False)
    table = Table(box=None, padding=(0, 1), pad_edge=False)
    table.add_column("precision")
    for heading in ("largest logit error", "median", "same top-1", "same top-5", "clips/s"):
        table.add_column(heading, justify="right")
    for one in compared["precisions"]:
        table.add_row(
            one["dtype"],
            f"{one['largest_difference']:.4f}",
            f"{one['median_difference']:.4f}",
            f"{one['top_1']:.1%}",
            f"{one['top_5']:.1%}",
            f"{one['clips_per_second']:.3g}",
        )
    console.print(table)
    on = f"{counted(compared['videos'], 'video')} and {counted(compared['labels'], 'label')} on {compared['device']}"
    console.print(f"advice: --dtype {compared['advised']}, from {on}", soft_wrap=True)
    for one in compared["precisions"]:
        if one["failed"]:
            console.print(f"{one['dtype']} gives non-finite numbers for {one['failed']} videos", soft_wrap=True)


def format_fields(values: dict[str, Any], indent: str = "") -> str:
    """Nested values, a line each, with their names as words."""
    lines = []
    for name, value in values.items():
        key = printable(str(name)).replace("_", " ")
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


def shares(amounts: Sequence[tuple[str, float]], form: Callable[[float], str], blocks: bool = True) -> list[str]:
    """Names and how much each has of the whole, as ``form`` writes it, a line each with a bar."""
    shown = [(one_line(name, LABEL_WIDTH), form(amount)) for name, amount in amounts]
    widths = [max(map(cell_len, texts), default=0) for texts in zip(*shown, strict=True)]
    whole = sum(amount for _, amount in amounts) or 1
    return [
        f"  {name}{' ' * (widths[0] - cell_len(name))}  {text:>{widths[1]}}  {bar(amount / whole, BAR_WIDTH, blocks)}"
        for (name, text), (_, amount) in zip(shown, amounts, strict=True)
    ]


def bar(share: float, width: int, blocks: bool = True) -> str:
    """A bar of ``share`` (0 to 1) of ``width`` characters, to an eighth of a character where blocks can be shown."""
    if not blocks:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


FORMATS: dict[str, Format] = {
    "table": write_table,
    "json": write_json,
    "jsonl": write_jsonl,
    "csv": write_csv,
    "parquet": write_parquet,
}
