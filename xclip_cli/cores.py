"""How many processor cores there are for this process."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

CORES_VARIABLE = "XCLIP_CORES"  # of the environment: this process's share of the cores, where it has others beside it


def usable_cores() -> int:
    """The processor cores that this process may use: those that it may run on, or as many as its groups' quotas of
    processor time (cgroups, by which containers are limited) are worth, or its share of them."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *_share(), *_quotas(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])))


def _share() -> Iterator[int]:
    with suppress(KeyError, ValueError):  # it has no share, or it is no number
        yield int(os.environ[CORES_VARIABLE])


def _quotas(membership: Path, root: Path) -> Iterator[float]:
    """The quotas of the control groups that the process is in, in cores; both versions of the files."""
    with suppress(OSError, ValueError):  # another system, or none is set
        for line in membership.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = root / "cpu" if controllers else root
            inside = top / group.lstrip("/")
            for folder in (inside, *inside.parents):
                if folder.is_relative_to(top):
                    yield from _quota(folder)


def _quota(group: Path) -> Iterator[float]:
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text().split()
        yield int(quota) / int(period)  # which may be "max"
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = ((group / f"cpu.cfs_{of}_us").read_text() for of in ("quota", "period"))
        if int(quota) > 0:  # -1: there is none
            yield int(quota) / int(period)
