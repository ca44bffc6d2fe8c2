"""A run: its records counted, and ended in good order."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from ..results.records import Failure
from ..text import pace
from ..timeline import WindowRecord

FAILURES_LISTED = 20  # at the end of a run

R = TypeVar("R")


class Run:
    """Counts a run's records as they pass, and ends it in good order on Ctrl-C.

    ``earlier``: how many videos were classified, and how many failed, in the run that this one goes on with.
    """

    def __init__(self, fail_fast: bool = False, earlier: tuple[int, int] = (0, 0)) -> None:
        self.fail_fast = fail_fast
        self.earlier = earlier
        self.succeeded = 0
        self.failed = 0
        self._failures: list[Failure] = []  # the first ones
        self.stop = threading.Event()  # set where no more videos should be begun
        self.interrupted = False
        self._began = time.monotonic()

    def counted(self, records: Iterator[R], say: Callable[[str], None] = lambda text: None) -> Iterator[R]:
        """The records. Ctrl-C lets those in flight finish, a second one ends at once; with ``fail_fast`` the first
        failure does."""

        def interrupt(*_: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            self.stop.set()
            say("interrupted: finishing what is in flight; Ctrl-C again stops at once")

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            for record in records:
                if isinstance(record, Failure):
                    self.failed += 1
                    self._failures += [record] if self.failed <= FAILURES_LISTED else []
                elif not isinstance(record, WindowRecord):
                    self.succeeded += 1
                yield record
                if self.fail_fast and self.failed:
                    return
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            signal.signal(signal.SIGINT, before)

    @property
    def exit_code(self) -> int:
        """0 all classified, 1 none, 3 some."""
        if not self.failed + self.earlier[1]:
            return 0
        return 3 if self.succeeded + self.earlier[0] else 1

    def failures(self) -> Iterator[str]:
        """What failed, a line each, and how many more did."""
        for failure in self._failures:
            yield f"  failed: {failure.video}: {failure.message}"
        if self.failed > len(self._failures):
            yield f"  and {self.failed - len(self._failures)} more"

    def summary(self) -> str:
        """One line."""
        seconds = time.monotonic() - self._began
        total = self.succeeded + self.failed
        failed = f", {self.failed} failed" if self.failed else ""
        speed = pace(total, seconds, "video")
        return f"{self.succeeded} of {total} videos classified{failed} in {seconds:.1f} s ({speed})"
