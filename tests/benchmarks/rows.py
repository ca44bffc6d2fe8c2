"""The lines of the table, and how busy the machine was while one was measured."""

from __future__ import annotations

import os
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

BUSY = 0.05  # of the cores, taken by others: figures from then on are marked
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    against: str
    ratio: float
    goal: str
    detail: str  # what the ratio was made of


def ratio_row(what: str, against: str, goal: str, ours: list[float], theirs: list[float]) -> Row:
    """The ratio of the medians of two rows of seconds."""
    a, b = statistics.median(ours), statistics.median(theirs)
    return Row(what, against, a / b, goal, f"{a:.3g} s / {b:.3g} s")


@dataclass(frozen=True)
class Ticks:
    """Processor time since the machine started, in seconds: of everybody, of this process and its ended children, and
    what the host of a virtual machine took."""

    moment: float
    everybody: float
    ours: float
    stolen: float

    @classmethod
    def now(cls) -> Ticks | None:
        """None where the system does not say."""
        try:
            fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        except OSError:
            return None
        user, nice, system, _, _, irq, softirq, steal, *_ = (int(field) / TICKS for field in fields)
        return cls(time.monotonic(), user + nice + system + irq + softirq, sum(os.times()[:4]), steal)


def busyness(before: Ticks | None, after: Ticks | None) -> str:
    """What others took of the cores between two moments, if it was too much for a figure to be trusted; else nothing.

    Children that still run are others: give them an end before the second moment.
    """
    if before is None or after is None:
        return ""
    cores = (after.moment - before.moment) * (os.cpu_count() or 1)
    others = (after.everybody - before.everybody - (after.ours - before.ours)) / cores
    stolen = (after.stolen - before.stolen) / cores
    if max(others, stolen) < BUSY:
        return ""
    return f"busy: others {max(others, 0):.0%} of the cores, stolen {stolen:.0%}"


def load() -> str:
    """How busy the machine is before the start."""
    return f"load {os.getloadavg()[0]:.2f} on {os.cpu_count()} cores before the start"
