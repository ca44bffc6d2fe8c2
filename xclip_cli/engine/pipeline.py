"""Many videos: decoded ahead by workers, computed in batches by lanes, given back in the order they were asked for.

A lane is a thread that computes one batch at a time. Several lanes of one core each finish more than one lane of all
cores: its threads would have to wait for each other after each operation, and for the decoders that they share the
cores with. Which videos share a batch depends on their order alone, never on what is ready first.
"""

from __future__ import annotations

import operator
import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar

from ..errors import VideoError
from ..results.records import Failure
from ..video.pool import Decoders
from ..video.sampling import ClipInfo, ClipRequest

T = TypeVar("T")
R = TypeVar("R")


@dataclass
class Decoded(Generic[T]):
    """A video's clips as they come from the decoders."""

    video: str
    info: ClipInfo
    pictures: list[T]  # the different ones; ``info.places`` says which goes where
    repeats: bool = False  # it has the frames of the window before it, and shares its ``encoding``
    encoding: Future[tuple[Any, Any]] = field(
        default_factory=Future, repr=False
    )  # features and tokens, once they are computed

    def followed_by(self, info: ClipInfo, pictures: list[T]) -> Decoded[T]:
        """The next window of the same video, whose frames may be the same."""
        same = len(pictures) == len(self.pictures) and all(map(operator.is_, pictures, self.pictures))
        if same and info.places == self.info.places:
            return Decoded(self.video, info, pictures, True, self.encoding)
        return Decoded(self.video, info, pictures)


class Outcome(NamedTuple, Generic[R]):
    """What became of one window of a video."""

    result: R | Failure
    following: int  # outcomes of the same video that come after this one, one a window


@dataclass
class _Slot(Generic[R]):
    """An outcome on its way: its place in the order."""

    video: str
    following: int
    result: R | Failure | None = None


class Pipeline(Generic[T, R]):
    """Requests in, one outcome for each of their windows out, in order: a Failure where decoding fails.

    Those ``submitted`` to the decoders already come first: as many as keep the decoders busy, or all. ``compute`` makes
    the results of a batch, in a lane; ``prepare`` is called in each lane before. What is held at a time is bounded,
    however many requests there are.
    """

    def __init__(
        self,
        submitted: Sequence[ClipRequest],
        requests: Iterator[ClipRequest],
        decoders: Decoders[T],
        *,
        compute: Callable[[Sequence[Decoded[T]]], list[R]],
        prepare: Callable[[], None],
        lanes: int,
        batch_size: int,
    ) -> None:
        self._requests = requests
        self._decoders = decoders
        self._compute = compute
        self._prepare = prepare
        self._lanes = lanes
        self._batch_size = batch_size
        self._limit = batch_size * (lanes + 1) + len(submitted)  # clips and requests on their way
        self._more = True
        self._decoding = deque(request.path for request in submitted)  # what the decoders have
        self._slots: deque[_Slot[R]] = deque()  # of what they had
        self._batch: list[tuple[_Slot[R], Decoded[T]]] = []  # decoded, waiting for a full batch
        self._latest: Decoded[T] | None = None  # of the video that is being taken
        self._running: dict[Future[list[R]], list[_Slot[R]]] = {}

    def _fill(self) -> None:
        """Have as many videos decoded as may be on their way."""
        while self._more and len(self._slots) + len(self._decoding) < self._limit:
            request = next(self._requests, None)
            if request is None:
                self._more = False
                return
            self._decoders.submit(request)
            self._decoding.append(request.path)

    def outcomes(self) -> Generator[Outcome[R], None, None]:
        """The outcomes. What is not finished when the iterator is closed is given up."""
        woken, wake = os.pipe()
        os.set_blocking(wake, False)
        executor = ThreadPoolExecutor(self._lanes, "xclip-lane", initializer=self._prepare)
        try:
            self._fill()
            while True:
                while self._slots and (result := self._slots[0].result) is not None:
                    following = self._slots.popleft().following
                    self._fill()
                    yield Outcome(result, following)
                if not self._slots and not self._decoding:
                    return
                # A video may have any number of windows: there is not always room for the next one.
                taking = bool(self._decoding) and len(self._slots) < self._limit
                if taking:
                    self._take_decoded(woken)
                # Behind an unfinished batch there may be no room for more: then it goes as it is.
                room = len(self._slots) < self._limit
                idle = not self._running and not (self._decoding and room)
                last = idle or not (self._decoding or self._more)
                if self._batch and (last or len(self._batch) == self._batch_size):
                    self._start_batch(executor, wake)
                elif not taking:
                    wait(self._running, return_when=FIRST_COMPLETED)
                self._take_computed()
        finally:
            executor.shutdown(cancel_futures=True)
            self._decoders.cancel()
            os.close(woken)
            os.close(wake)

    def _take_decoded(self, woken: int) -> None:
        """Wait for the next decoded video or computed batch."""
        try:
            decoded = self._decoders.collect(woken)
        except VideoError as error:
            video = self._decoding.popleft()
            self._latest = None
            self._slots.append(_Slot(video, 0, Failure.of(video, error)))
            return
        if decoded is None:
            os.read(woken, 1 << 12)
            return
        video, following = self._decoding[0], decoded[0].following
        if not following:
            self._decoding.popleft()
        slot: _Slot[R] = _Slot(video, following)
        self._slots.append(slot)
        info, _ = decoded
        if info.lost is None:
            self._latest = self._latest.followed_by(*decoded) if self._latest else Decoded(video, *decoded)
            self._batch.append((slot, self._latest))
        else:
            slot.result = Failure(
                video,
                "damaged",
                info.lost,
                warnings=info.warnings,
                start_seconds=info.start_seconds,
                end_seconds=info.end_seconds,
            )
        if not following:
            self._latest = None

    def _start_batch(self, executor: ThreadPoolExecutor, wake: int) -> None:
        future = executor.submit(self._compute, [decoded for _, decoded in self._batch])
        self._running[future] = [slot for slot, _ in self._batch]
        self._batch = []
        future.add_done_callback(lambda _: _write(wake))

    def _take_computed(self) -> None:
        for future in [future for future in self._running if future.done()]:
            for slot, result in zip(self._running.pop(future), future.result(), strict=True):
                slot.result = result


def _write(descriptor: int) -> None:
    with suppress(OSError):  # full: it is readable already; or closed: nobody waits any more
        os.write(descriptor, b"x")
