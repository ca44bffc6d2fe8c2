"""How a run goes: its videos counted as their records pass, Ctrl-C, and what is said in the end."""

from __future__ import annotations

import itertools
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeVar

from ..text import clock, counted, pace
from .exits import FAILURE, INTERRUPTED, SOME_FAILED
from .interrupt import end, on_interrupt

if TYPE_CHECKING:
    from pathlib import Path

    from ..output.notes import Notes
    from ..results.records import Failure, Record

FAILURES_LISTED = 20
LABELS_LISTED = 5

R = TypeVar("R", bound="Record")


class Tally:
    """Counts a run's records as they pass, and ends it in good order on Ctrl-C.

    ``verb``: what is done with videos, in the past. ``resumption``: how an interrupted run is continued.
    """

    def __init__(self, fail_fast: bool = False, verb: str = "classified", resumption: str = "") -> None:
        self.fail_fast = fail_fast
        self.verb = verb
        self.resumption = resumption
        self.total = 0  # videos that there are to be done
        self.earlier = 0, 0  # how many that was done with, and how many failed, in a run that this one goes on with
        self.succeeded = 0
        self.failed = 0
        self._told = set[str]()  # videos of which it was said that they fail
        self._failures: list[str] = []  # the first others, a line each
        self._untold = 0  # how many others there are
        self._labels = defaultdict[str, float](int)  # of how many videos, or seconds of them, each is the best label
        self._in_seconds = False
        self.stop = threading.Event()  # set where no more videos should be begun
        self.interrupted = False
        self.given_up = False  # by a second Ctrl-C
        self._began = time.monotonic()

    def expect(self, total: int, known: Collection[Failure], notes: Notes) -> None:
        """So many videos, of which these are known to fail: that is said at once, before anything takes long."""
        self.total, self._told = total, {failure.video for failure in known}
        for failure in itertools.islice(known, FAILURES_LISTED):
            notes.say(f"failed: {failure.video}: {failure.message}")
        if len(known) > FAILURES_LISTED:
            notes.say(f"and {len(known) - FAILURES_LISTED} more inputs that are no videos")

    def of_failures(self, known: Collection[Failure], notes: Notes) -> int:
        """The end of a run of failures alone → its exit code."""
        for failure in known:
            self.count(failure)
        self.tell(notes)
        return self.exit_code

    def counted(self, records: Iterator[R], say: Callable[[str], None] = lambda text: None) -> Iterator[R]:
        """The records. Ctrl-C lets those in flight finish, a second one ends at once; with ``fail_fast`` the first
        failure does."""
        presses = itertools.count(1)

        def interrupt() -> None:
            press = next(presses)
            if press > 2:
                end()
            if press == 2:
                self.given_up = True
                raise KeyboardInterrupt
            self.interrupted = True
            self.stop.set()
            with suppress(RuntimeError):  # in the middle of another line
                say("interrupted: finishing the videos in progress; press Ctrl-C again to stop now")

        with on_interrupt(interrupt), self.excused():
            for record in records:
                self.count(record)
                yield record
                if self.fail_fast and self.failed:
                    return

    @contextmanager
    def excused(self) -> Iterator[None]:
        """What breaks because of a second Ctrl-C is no error."""
        try:
            yield
        except KeyboardInterrupt:
            self.interrupted = True
        except Exception:
            if not self.given_up:
                raise

    def count(self, record: Record) -> None:
        """One more record."""
        for segment in record.segments:
            self._in_seconds = True
            self._labels[segment.label] += segment.end_seconds - segment.start_seconds
        if not record.completes:
            return
        if (error := record.error) is None:
            self.succeeded += 1
            if record.label is not None:
                self._labels[record.label] += 1
            return
        self.failed += 1
        if record.video in self._told:
            return
        self._untold += 1
        if self._untold <= FAILURES_LISTED:
            self._failures.append(f"  failed: {record.video}: {error.message}")

    @property
    def exit_code(self) -> int:
        """The run's (see ``exits``): success, or INTERRUPTED, or FAILURE where no video succeeded, else SOME_FAILED."""
        if self.interrupted:
            return INTERRUPTED
        if not self.failed + self.earlier[1]:
            return 0
        return SOME_FAILED if self.succeeded + self.earlier[0] else FAILURE

    def tell(self, notes: Notes, wrote: Path | None = None, where: Path | None = None, shown: bool = False) -> None:
        """Say how the run went. ``wrote``: what has its results now, ``where``: what has the failures; None: nothing.
        ``shown``: the results are on the terminal, and tell of them."""
        if not self.total:
            notes.say("nothing left to do: all videos are done")
            return
        if summed_up := wrote is not None or shown or self.total > 1:
            notes.say(("" if wrote is None else f"wrote {wrote}: ") + self.summary(self.total))
        if wrote is not None and notes.on_terminal:
            for line in self.distribution():
                notes.say(line)
        for line in self.failures(where) if not (shown or notes.verbose) else ():
            notes.say(line if summed_up else line.strip())
        if self.failed and notes.quiet:
            notes.insist(f"{self.failed} of {counted(self.total, 'video')} failed")
        if self.interrupted:
            notes.say(self.left())

    def left(self) -> str:
        """How many videos an interrupted run has left, and how it is continued."""
        remain = self.total - self.succeeded - self.failed
        if not remain:
            return "interrupted: no videos remain"
        how = f"; {self.resumption}" if self.resumption else ""
        return f"interrupted: {remain:,} of {counted(self.total, 'video')} remain{how}"

    def failures(self, where: Path | None = None) -> Iterator[str]:
        """What failed, a line each, of which nothing was said yet, and how many more did, which are in ``where``."""
        yield from self._failures
        if more := self._untold - len(self._failures):
            yield f"  and {more} more" + ("" if where is None else f" in {where}")

    def distribution(self) -> Iterator[str]:
        """Of how many videos, or how much of them, each label is the best, in a few lines."""
        from ..output.tables import has_blocks, shares

        ranked = sorted(self._labels.items(), key=lambda item: -item[1])
        if len(ranked) > LABELS_LISTED:
            rest = ranked[LABELS_LISTED - 1 :]
            ranked = [*ranked[: LABELS_LISTED - 1], (f"{len(rest)} other labels", sum(count for _, count in rest))]
        yield from shares(ranked, clock if self._in_seconds else str, has_blocks(sys.stderr))

    def summary(self, total: int) -> str:
        """One line. ``total``: videos that there were to be done."""
        seconds = time.monotonic() - self._began
        failed = f", {self.failed} failed" if self.failed else ""
        speed = f" ({pace(self.succeeded + self.failed, seconds, 'video')})" if self.succeeded else ""
        return f"{self.succeeded} of {counted(total, 'video')} {self.verb}{failed} in {seconds:.1f} s{speed}"
