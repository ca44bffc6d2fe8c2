"""The pipeline on its own: decoders and computing are stand-ins whose timing the tests choose."""

from __future__ import annotations

import os
import random
import selectors
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import chain

import pytest

from xclip_cli.engine.pipeline import Decoded, Pipeline
from xclip_cli.errors import VideoError
from xclip_cli.results.records import Failure, Frames, Prediction
from xclip_cli.video.sampling import ClipInfo, ClipRequest

INFO = ClipInfo(0.0, 1.0, (0.5,), (0,), 0, ())


class InstantDecoders:
    """Decoders whose clips are ready at once, unless computing is first to be waited for; those named bad fail."""

    def __init__(self, wait: Callable[[], float] = lambda: 0.0) -> None:
        self.jobs: deque[ClipRequest] = deque()
        self.most = 0
        self._wait = wait

    def submit(self, request: ClipRequest) -> None:
        self.jobs.append(request)
        self.most = max(self.most, len(self.jobs))

    def collect(self, wake: int | None = None) -> tuple[ClipInfo, list[str]] | None:
        with selectors.DefaultSelector() as selector:
            selector.register(wake, selectors.EVENT_READ)
            if (seconds := self._wait()) and selector.select(seconds):
                return None
        request = self.jobs.popleft()
        if "bad" in request.path:
            raise VideoError("it is bad", "damaged")
        return INFO, [request.path]

    def cancel(self) -> None:
        self.jobs.clear()


def prediction(video: str) -> Prediction:
    return Prediction(video, "m", None, 0, 1, Frames(1, 1, 0, 0, (0.5,)), ())


class Computing:
    """Makes records of batches, remembers which, and takes as long as ``wait`` says."""

    def __init__(self, wait: Callable[[], float] = lambda: 0.0) -> None:
        self.batches: list[list[str]] = []
        self.begun = 0
        self._wait = wait
        self._lock = threading.Lock()

    def __call__(self, batch: Sequence[Decoded[str]]) -> list[Prediction]:
        with self._lock:
            self.begun += len(batch)
        time.sleep(self._wait())
        with self._lock:
            self.batches.append([decoded.video for decoded in batch])
        assert all(decoded.pictures == [decoded.video] for decoded in batch)
        return [prediction(decoded.video) for decoded in batch]


def pipeline(
    videos: Sequence[str] | Iterator[str],
    decoders: InstantDecoders,
    compute: Callable[[Sequence[Decoded[str]]], list[Prediction]],
    lanes: int = 2,
    batch_size: int = 4,
    submitted: Sequence[str] = (),
    prepare: Callable[[], None] = lambda: None,
) -> Pipeline[str, Prediction]:
    first = [ClipRequest(video, 1) for video in submitted]
    for request in first:
        decoders.submit(request)
    requests = (ClipRequest(video, 1) for video in videos)
    return Pipeline(  # type: ignore[arg-type]
        first, requests, decoders, compute=compute, prepare=prepare, lanes=lanes, batch_size=batch_size
    )


def records_of(run: Pipeline[str, Prediction]) -> Iterator[Prediction | Failure]:
    with closing(run.outcomes()) as outcomes:
        for outcome in outcomes:
            yield outcome.result


def lane_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("xclip-lane")]


def names(count: int, bad: Callable[[int], bool] = lambda i: False) -> list[str]:
    return [f"{'bad' if bad(i) else 'good'}-{i}" for i in range(count)]


@pytest.mark.parametrize("lanes", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 3, 8])
@pytest.mark.parametrize("submitted", [0, 2, 9])
def test_records_come_in_order_however_long_each_takes(lanes: int, batch_size: int, submitted: int) -> None:
    videos = names(41, bad=lambda i: i % 7 == 3)
    chance = random.Random(lanes * 100 + batch_size)
    decoders = InstantDecoders(lambda: chance.choice([0, 0, 0.001]))
    computing = Computing(lambda: chance.choice([0, 0.002]))
    run = pipeline(videos[submitted:], decoders, computing, lanes, batch_size, videos[:submitted])
    records = list(records_of(run))
    assert [record.video for record in records] == videos
    assert [isinstance(record, Failure) for record in records] == ["bad" in video for video in videos]
    assert sorted(chain(*computing.batches)) == sorted(video for video in videos if "good" in video)
    assert not lane_threads()


def test_who_shares_a_batch_depends_on_the_order_alone() -> None:
    videos = names(37, bad=lambda i: i in (0, 5, 6, 30))
    seen = set()
    for seed in range(6):
        chance = random.Random(seed)
        computing = Computing(lambda: chance.choice([0, 0, 0.004]))  # noqa: B023
        decoders = InstantDecoders(lambda: chance.choice([0, 0.002]))  # noqa: B023
        list(records_of(pipeline(videos, decoders, computing)))
        seen.add(tuple(sorted(map(tuple, computing.batches), key=lambda batch: videos.index(batch[0]))))
    assert len(seen) == 1
    good = [video for video in videos if "good" in video]
    assert list(seen.pop()) == [tuple(good[i : i + 4]) for i in range(0, len(good), 4)]


def test_what_is_held_at_a_time_is_bounded() -> None:
    lanes, batch_size = 2, 4
    taken = 0

    def videos() -> Iterator[str]:
        nonlocal taken
        for video in names(5000, bad=lambda i: i % 3 == 0):
            taken += 1
            yield video

    decoders, computing = InstantDecoders(), Computing()
    most = 0
    for number, _ in enumerate(records_of(pipeline(videos(), decoders, computing, lanes, batch_size))):
        most = max(most, taken - number)
    assert number == 4999
    assert most <= batch_size * (lanes + 1) + 1
    assert decoders.most <= batch_size * (lanes + 1)


def test_a_slow_reader_holds_it_up() -> None:
    decoders, computing = InstantDecoders(), Computing()
    records = records_of(pipeline(names(1000), decoders, computing))
    next(records)
    time.sleep(0.05)
    assert computing.begun <= 4 * 3
    records.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5])
def test_fewer_videos_than_a_batch_holds(count: int) -> None:
    computing = Computing()
    records = list(records_of(pipeline(names(count), InstantDecoders(), computing, lanes=3, batch_size=4)))
    assert [record.video for record in records] == names(count)
    assert [len(batch) for batch in sorted(computing.batches, key=len, reverse=True)] == [
        size for size in (min(count, 4), count - 4) if size > 0
    ]


def test_nothing_but_failures_computes_nothing() -> None:
    computing = Computing()
    records = list(records_of(pipeline(names(50, bad=lambda i: True), InstantDecoders(), computing)))
    assert [(type(record), record.video) for record in records] == [(Failure, f"bad-{i}") for i in range(50)]
    assert computing.begun == 0


def test_each_lane_is_prepared_before_it_computes() -> None:
    prepared: list[str] = []

    def compute(batch: Sequence[Decoded[str]]) -> list[Prediction]:
        assert threading.current_thread().name in prepared
        return [prediction(decoded.video) for decoded in batch]

    run = pipeline(
        names(30), InstantDecoders(), compute, prepare=lambda: prepared.append(threading.current_thread().name)
    )
    assert len(list(records_of(run))) == 30
    assert 1 <= len(prepared) <= 2


def test_an_error_in_computing_reaches_the_caller_and_leaves_nothing() -> None:
    def compute(batch: Sequence[Decoded[str]]) -> list[Prediction]:
        if batch[0].video == "good-8":
            raise MemoryError("no room")
        return [prediction(decoded.video) for decoded in batch]

    descriptors = os.listdir("/dev/fd")
    decoders = InstantDecoders()
    seen: list[str] = []
    with pytest.raises(MemoryError, match="no room"):
        seen.extend(record.video for record in records_of(pipeline(names(100), decoders, compute)))
    assert seen == names(len(seen))
    assert len(seen) <= 8
    assert not decoders.jobs
    assert not lane_threads()
    assert len(os.listdir("/dev/fd")) == len(descriptors)


@pytest.mark.parametrize("taken", [1, 5])
def test_closing_early_leaves_nothing(taken: int) -> None:
    descriptors = os.listdir("/dev/fd")
    decoders, computing = InstantDecoders(), Computing(lambda: 0.005)
    records = records_of(pipeline(names(100), decoders, computing))
    assert [next(records).video for _ in range(taken)] == names(taken)
    records.close()  # type: ignore[attr-defined]
    assert computing.begun < 30
    assert not decoders.jobs
    assert not lane_threads()
    assert len(os.listdir("/dev/fd")) == len(descriptors)


@pytest.mark.parametrize("batch_size", [3, 4, 8])
def test_failures_behind_many_windows_hold_nothing_up(batch_size: int) -> None:
    """An unfinished batch of one video's windows, and behind it as many failures as there is room for."""

    class Windows(InstantDecoders):
        left = batch_size - 1

        def collect(self, wake: int | None = None) -> tuple[ClipInfo, list[str]] | None:
            if self.jobs[0].path == "windows" and self.left > 1:
                self.left -= 1
                return replace(INFO, following=self.left), ["windows"]
            return super().collect(wake)

    videos = ["windows", *names(100, bad=lambda i: True)]
    records = list(records_of(pipeline(videos, Windows(), Computing(), lanes=1, batch_size=batch_size)))
    assert [record.video for record in records] == ["windows"] * (batch_size - 1) + videos[1:]
