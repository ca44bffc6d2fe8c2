"""What a run says on stderr: lines, and how far it is. Warnings about a video are its record's (``video.clips``)."""

from __future__ import annotations

import logging
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

from ..results.records import Record
from ..text import printable
from .progress import follow

T = TypeVar("T")
R = TypeVar("R", bound=Record)


class Notes:
    """What a run says on stderr, and its progress there."""

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._console = Console(stderr=True, highlight=False, emoji=False)  # a name is no emoji
        if not quiet:
            handler = _Handler(self)
            logger = logging.getLogger("xclip_cli")
            logger.handlers, logger.propagate = [handler], False
            logger.setLevel(logging.INFO)

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            self.insist(text)

    def insist(self, text: str) -> None:
        """One line, also to who wants no others."""
        self._console.print(printable(text), markup=False, soft_wrap=True)

    @property
    def on_terminal(self) -> bool:
        """Whether a person may be reading it."""
        return self._console.is_terminal

    def progress(
        self,
        records: Iterator[R],
        total: int,
        part: str | None = None,
        pause: bool = False,
        doing: str = "classifying",
    ) -> Iterator[R]:
        """The records, followed as ``progress.follow`` says, to who wants to read more with each failure; a single one
        of one part has no bar."""
        hidden, more = self.quiet or (total < 2 and part is None), {"say": self.say} if self.verbose else {}
        return follow(records, total, self._console, part=part, pause=pause, doing=doing, hidden=hidden, **more)

    def steps(self, items: Iterable[T], total: int, doing: str) -> Iterator[T]:
        """The items, with a progress bar where stderr is a terminal."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        hidden = self.quiet or not self._console.is_terminal
        with Progress(*columns, console=self._console, transient=True, disable=hidden) as progress:
            yield from progress.track(items, total=total, description=doing)

    def bar(self) -> type:
        """A tqdm class, which the hub library reports downloads to: a rich bar on a terminal, nothing elsewhere."""
        return rich_bar(self._console, hidden=self.quiet or not self._console.is_terminal)


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
