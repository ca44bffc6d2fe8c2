"""What a run says on stderr: lines, and how far it is. Warnings about a video are its record's (``video.clips``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.table import Column

from ..results.records import Record
from ..text import clock, pace, printable

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class Notes:
    """What a run says on stderr, and its progress there."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = Console(stderr=True, highlight=False, emoji=False)  # a name is no emoji
        if not quiet:
            handler = _Handler(self)
            logger = logging.getLogger("xclip_cli")
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(logging.INFO)

    def say(self, text: str) -> None:
        """One line."""
        if not self._quiet:
            self._console.print(printable(text), markup=False, soft_wrap=True)

    def progress(
        self,
        records: Iterator[R],
        total: int,
        part: str | None = None,
        pause: bool = False,
        doing: str = "classifying",
    ) -> Iterator[R]:
        """The records of ``total`` videos, with a progress bar where stderr is a terminal, and each failure said as it
        comes.

        ``part``: what a record stands for that does not complete its video, such as "window"; None where each completes
        one. ``pause``: the bar goes for as long as a record that completes a video is looked at, which may be shown on
        the same terminal. ``doing``: what is done with them.
        """
        with self._progress_bar(hidden=total < 2 and part is None) as progress:
            task = progress.add_task(doing, total=total, count=_count(0, total), at="", rate="")
            videos, parts, began = 0, 0, None
            for record in records:
                if pause:
                    progress.start()
                if record.completes and record.error:
                    self.say(f"failed: {record.video}: {record.error.message}")
                videos += record.completes
                parts += part is None or not record.completes
                began = began or time.monotonic()  # start-up is no part of the rate, nor is what came first
                rate = pace(parts - 1, time.monotonic() - began, part or "video")
                progress.update(
                    task,
                    completed=videos + (0 if record.completes else record.share),
                    count=_count(videos, total),
                    at="" if record.completes else f"at {clock(record.end_seconds or 0)}",
                    rate=rate if parts > 1 else "",
                )
                if pause and record.completes:
                    progress.stop()
                yield record

    def _progress_bar(self, hidden: bool) -> Progress:
        """A bar, with how many videos are done, where in one of them the run is, and how fast it goes."""
        count = TextColumn("{task.fields[count]}", style="progress.download", table_column=Column())
        texts = (TextColumn("{task.fields[at]}"), TextColumn("{task.fields[rate]}", style="dim"))
        columns = (TextColumn("{task.description}"), BarColumn(None), count, *texts, TimeRemainingColumn())
        hidden = hidden or self._quiet or not self._console.is_terminal
        return Progress(*columns, console=self._console, transient=True, expand=True, disable=hidden)

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


def _count(done: int, total: int) -> str:
    """How many of ``total``, in the same width however many that is."""
    return f"{done:{len(str(total))}}/{total}"


class _Handler(logging.Handler):
    """Shows what the library logs, such as a download."""

    def __init__(self, notes: Notes) -> None:
        super().__init__()
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.say(self.format(record))
