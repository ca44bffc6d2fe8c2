"""Figures of a run on a cluster: `python -m tests.benchmarks --only cluster`. The cluster is this machine."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from xclip_cli import Classifier
from xclip_cli.classification import Classification
from xclip_cli.cluster import Cluster, Wanted
from xclip_cli.results.records import Frames, Prediction, RankedLabel, RunHeader, Seconds

from .inputs import LABELS, Inputs
from .rows import Row

WARM_UP = 16  # videos: decode workers start with the first
RANKED = 5  # labels of a simulated record
ROOM = 1.1  # of memory


class Ready:
    """A task whose records cost nothing."""

    def header(self) -> RunHeader:
        return RunHeader("0", "m")

    def description(self) -> str:
        return ""

    def records(self, paths: Iterable[str]) -> Iterator[Prediction]:
        for path in paths:
            ranked = tuple(RankedLabel(f"label {k}", 0.2, 1.5) for k in range(RANKED))
            frames = Frames(8, 8, 0, 0, tuple(map(float, range(8))))
            yield Prediction(path, "m", None, 0.0, 10.0, frames, ranked, seconds=Seconds(0.1, 0.1))


def rows(inputs: Inputs, clips: int, records: int) -> Iterator[Row]:
    """The cost of a cluster, and of its driver."""
    paths = [str(path) for path in islice(cycle(inputs.short_clips), clips)]
    alone, shared = _seconds_alone(inputs, paths), _seconds_shared(inputs, paths)
    what = f"--ray, {clips} clips, after start-up: time"
    yield Row(what, "without, as many cores", shared / alone, "≤ 1.1", f"{shared:.1f} s / {alone:.1f} s")
    yield from _driver(records)


def _task(checkpoint: Path) -> Classification:
    return Classification(Classifier(checkpoint, labels=LABELS))


def _seconds_alone(inputs: Inputs, paths: Sequence[str]) -> float:
    task = _task(inputs.checkpoint)
    with task.classifier:
        list(task.records(paths[:WARM_UP]))
        began = time.perf_counter()
        list(task.records(paths))
        return time.perf_counter() - began


def _seconds_shared(inputs: Inputs, paths: Sequence[str]) -> float:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    cluster = Cluster(partial(_task, inputs.checkpoint), Wanted("local"), [*paths[:WARM_UP], *paths], print)
    try:
        list(cluster.records(paths[:WARM_UP]))
        began = time.perf_counter()
        list(cluster.records(paths))
        return time.perf_counter() - began
    finally:
        cluster.close()


def _driver(records: int) -> Iterator[Row]:
    """Records come as fast as the driver takes them: what rate that is, and what it keeps of them."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    paths, early = [f"videos/{number:08}.mp4" for number in range(records)], records // 5
    cluster = Cluster(Ready, Wanted("local"), paths, print)
    try:
        began = time.process_time()
        sizes = [_resident() for number, _ in enumerate(cluster.records(paths), start=1) if number % early == 0]
        each = (time.process_time() - began) / records
    finally:
        cluster.close()
    detail = f"{max(sizes[1:]):.0f} MB / {sizes[0]:.0f} MB"
    yield Row(
        f"memory of the driver over {records:,} simulated records",
        f"{early:,}",
        max(sizes[1:]) / sizes[0],
        f"≤ {ROOM}",
        detail,
    )
    what = f"the driver's own time a record: at most {1 / each:,.0f} records a second"
    yield Row(what, "ms", each * 1000, "≤ 1", f"{each * 1000:.3f} ms")


def _resident() -> float:
    """Megabytes of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024
