"""How far a run is, drawn on stderr where that is a terminal or a notebook."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from ..results.records import Record
from ..text import clock, pace

EVERY = 10  # seconds between lines of progress where there is no bar

R = TypeVar("R", bound=Record)


def follow(
    records: Iterator[R],
    total: int | None,
    console: Console | None = None,
    *,
    part: str | None = None,
    pause: bool = False,
    doing: str = "classifying",
    hidden: bool = False,
    say: Callable[[str], None] = lambda text: None,
) -> Iterator[R]:
    """The records of ``total`` videos, as they come, with a bar on ``console``, or else on stderr.

    ``total`` None: nobody knows how many. ``part``: what a record stands for that does not complete its video, such as
    "window"; None if each completes one. ``pause``: the bar goes for as long as a record that completes a video is
    looked at, which may be shown on the same terminal. ``doing``: what is done with them. ``say``: what is told of each
    failure, as it comes, and of how far the run is every ``EVERY`` seconds where a bar cannot be drawn.
    """
    console = console or Console(stderr=True)
    lines, told = not (hidden or _draws(console)), time.monotonic()
    with _bar(console, hidden) as progress:
        task = progress.add_task(doing, total=total, count=_count(0, total), at="", rate="")
        videos, parts, began = 0, 0, None
        for record in records:
            if pause:
                progress.start()
            if record.completes and record.error:
                say(f"failed: {record.video}: {record.error.message}")
            videos += record.completes
            parts += part is None or not record.completes
            now = time.monotonic()
            began = began or now  # start-up is no part of the rate, nor is what came first
            rate = pace(parts - 1, now - began, part or "video")
            shown: dict[str, Any] = {
                "count": _count(videos, total),
                "at": "" if record.completes else f"at {clock(record.end_seconds or 0)}",
                "rate": rate if parts > 1 else "",
            }
            progress.update(task, completed=videos + (0 if record.completes else record.share), **shown)
            if lines and now - told >= EVERY:
                say(" ".join([doing, *filter(None, shown.values())]))
                told = now
            if pause and record.completes:
                progress.stop()
            yield record


def _bar(console: Console, hidden: bool) -> Progress:
    """A bar, with how many videos are done, where in one of them the run is, and how fast it goes."""
    count = TextColumn("{task.fields[count]}", style="progress.download", table_column=Column())
    texts = (TextColumn("{task.fields[at]}"), TextColumn("{task.fields[rate]}", style="dim"))
    columns = (TextColumn("{task.description}"), BarColumn(None), count, *texts, TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, expand=True, disable=hidden or not _draws(console))


def _draws(console: Console) -> bool:
    """Whether a bar can be drawn."""
    return console.is_terminal or console.is_jupyter


def _count(done: int, total: int | None) -> str:
    """How many of ``total``, in the same width however many that is."""
    return str(done) if total is None else f"{done:{len(str(total))}}/{total}"
