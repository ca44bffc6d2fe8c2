"""Encodings that are there already, computed in batches by lanes: threads that each have a share of the cores, since
all cores on one batch would wait for each other (see ``pipeline``, which also decodes)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from ..results.records import Failure
from .encoder import Encoder
from .encodings import Encodings
from .pipeline import Outcome

B = TypeVar("B")
R = TypeVar("R")

Slots = list[tuple[Encodings | Failure, int]]


def in_lanes(encoder: Encoder, compute: Callable[[B], R], batches: Iterable[B]) -> Iterator[R]:
    """What ``compute`` makes of each batch, in order; a few batches are held at a time."""
    import torch

    from .lanes import MOST_LANES

    threads = torch.get_num_threads()
    lanes = min(threads, MOST_LANES) if encoder.device.type == "cpu" else 1
    running: deque[Future[R]] = deque()

    def inferred(batch: B) -> R:
        with torch.inference_mode():
            return compute(batch)

    try:
        with ThreadPoolExecutor(lanes, initializer=lambda: torch.set_num_threads(threads // lanes)) as executor:
            for batch in batches:
                running.append(executor.submit(inferred, batch))
                if len(running) > 2 * lanes:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
    finally:
        torch.set_num_threads(threads)


def outcomes_of(
    encoder: Encoder,
    slots: Iterable[tuple[Encodings | Failure, int]],
    finish: Callable[[Sequence[Encodings]], list[R]],
) -> Generator[Outcome[R], None, None]:
    """What ``Encoder.run`` gives, of encodings that are there already, each with how many of the same video follow."""

    def finished(batch: Slots) -> list[Outcome[R]]:
        encoded = [found for found, _ in batch if not isinstance(found, Failure)]
        results = iter(finish(encoded) if encoded else [])
        return [
            Outcome(found if isinstance(found, Failure) else next(results), following) for found, following in batch
        ]

    for outcomes in in_lanes(encoder, finished, _batches(slots, encoder.batch_size)):
        yield from outcomes


def _batches(slots: Iterable[tuple[Encodings | Failure, int]], size: int) -> Iterator[Slots]:
    """Up to ``size`` encodings, and the failures between them."""
    waiting: Slots = []
    count = 0
    for slot in slots:
        waiting.append(slot)
        count += not isinstance(slot[0], Failure)
        if count in (0, size):
            yield waiting
            waiting, count = [], 0
    if waiting:
        yield waiting
