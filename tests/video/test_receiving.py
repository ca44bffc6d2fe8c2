"""Pictures of several workers are received at the same time, each worker's in order, and no more than are wanted."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import takeover
from clips import number_of, numbered, write_clip

from xclip_cli.video import pool
from xclip_cli.video.limits import Limits
from xclip_cli.video.pool import Decoders
from xclip_cli.video.sampling import ClipRequest

# In a worker's place: pictures and clips without end, and no look at what the parent says.
FLOOD = "clip['following'] = 1 << 30\nwhile True: pic(); say({'clip': clip}); clip['following'] -= 1"


@pytest.fixture
def wake() -> Iterator[int]:
    """What is readable all the time, so that ``collect`` returns after each thing that happens."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    yield reader
    os.close(reader)
    os.close(writer)


@pytest.fixture(autouse=True)
def two_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "usable_cores", lambda: 2)


def request(path: Path) -> ClipRequest:
    return ClipRequest(str(path), 8)


def test_pictures_come_in_order_and_whole_however_long_receiving_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "RING_BYTES", int(2.5 * numbered(0).nbytes))  # the worker is eager to write the next
    lengths = [random.Random(1).randrange(8, 40) for _ in range(12)]
    paths = [write_clip(tmp_path / f"{i}.mp4", length) for i, length in enumerate(lengths)]

    def receive(picture: np.ndarray) -> tuple[int, int]:
        before = number_of(picture)
        time.sleep(random.uniform(0, 0.01))
        return before, number_of(picture)

    with Decoders(receive, 3, limits=Limits(pixels=160 * 96)) as decoder:
        for path in paths:
            decoder.submit(request(path))
        for length in lengths:
            collected = decoder.collect()
            assert collected is not None
            assert collected[1] == [(n, n) for n in (int(i * length / 8 + length / 16) for i in range(8))]


def test_slow_pictures_of_one_worker_do_not_hold_up_those_of_another(tmp_path: Path) -> None:
    """Those of the first are received once all of the second are."""
    slow, fast = write_clip(tmp_path / "slow.mp4", 8), write_clip(tmp_path / "fast.mp4", 400)
    others, all_there = [], threading.Event()

    def receive(picture: np.ndarray) -> bool:
        if number_of(picture) < 8:
            return all_there.wait(30)
        others.append(picture)
        if len(others) == 8:
            all_there.set()
        return True

    with Decoders(receive, 2) as decoder:
        decoder.submit(request(slow))
        decoder.submit(request(fast))
        for _ in range(2):
            collected = decoder.collect()
            assert collected is not None
            assert collected[1] == [True] * 8
        others.clear()


def test_what_receiving_raises_is_raised_by_collecting(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    broken = True

    def receive(picture: np.ndarray) -> int:
        if broken and number_of(picture) == 3:
            raise ZeroDivisionError("of the caller's own")
        return number_of(picture)

    with Decoders(receive, 2) as decoder:
        decoder.submit(request(path))
        with pytest.raises(ZeroDivisionError, match="of the caller's own"):
            decoder.collect()
        broken = False
        decoder.cancel()
        decoder.submit(request(path))
        collected = decoder.collect()
    assert collected is not None
    assert collected[1] == list(range(8))


@pytest.mark.parametrize("end", ["cancel", "close"])
def test_nothing_is_received_after_the_end(tmp_path: Path, wake: int, end: str) -> None:
    """Of three workers two have pictures in the threads and one waits for them."""
    path = write_clip(tmp_path / "clip.mp4", 8)
    running, most, calls, over, slow = 0, 0, 0, False, True

    def receive(picture: np.ndarray) -> int:
        nonlocal running, most, calls
        assert not over
        running, calls = running + 1, calls + 1
        most = max(most, running)
        if slow:
            time.sleep(0.1)
        running -= 1
        return number_of(picture)

    gc.collect()  # the traceback of another test may hold a picture, and that a ring
    before = len(os.listdir("/dev/fd"))
    decoder = Decoders(receive, 3)
    for _ in range(6):
        decoder.submit(request(path))
    while sum(worker._receiving is not None for worker in decoder._workers) < 3:
        assert decoder.collect(wake) is None
    getattr(decoder, end)()
    assert not running
    over, before_over = True, calls
    time.sleep(0.3)
    assert calls == before_over
    assert most == 2
    if end == "cancel":
        over = slow = False
        decoder.submit(request(path))
        collected = decoder.collect()
        assert collected is not None
        assert collected[1] == list(range(8))
        decoder.close()
    assert len(os.listdir("/dev/fd")) == before
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("xclip-receive")]


def test_workers_that_never_stop_are_not_read_while_their_pictures_are_received(
    monkeypatch: pytest.MonkeyPatch, clip: Path, wake: int
) -> None:
    monkeypatch.setattr(pool, "_BOOT", takeover.boot(FLOOD))
    go_on, running, most = threading.Event(), 0, 0

    def receive(picture: np.ndarray) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        go_on.wait(30)
        running -= 1

    with Decoders(receive, 4, timeout=2) as decoder:
        for _ in range(8):
            decoder.submit(ClipRequest(str(clip), 8, length=Fraction(1), stride=Fraction(1)))
        while sum(worker._receiving is not None for worker in decoder._workers) < 4:
            decoder.collect(wake)
        held = [sum(map(len, worker._lines)) for worker in decoder._workers]
        until = time.monotonic() + 2.5  # longer than the timeout: it is the parent that they wait for
        while time.monotonic() < until:
            assert decoder.collect(wake) is None
            time.sleep(0.01)
        assert [sum(map(len, worker._lines)) for worker in decoder._workers] == held
        assert max(held) <= 1 << 16
        assert most == 2
        go_on.set()
        for _ in range(20):
            assert decoder.collect() is not None
        assert most == 2
        assert all(len(worker.pending[0].pictures) <= 8 * 5 for worker in decoder._workers)


def test_no_thread_keeps_the_program_alive(tmp_path: Path) -> None:
    """The decoders are left open, idle or with pictures that are being received."""
    path = write_clip(tmp_path / "clip.mp4", 8)
    code = f"""
        import gc, sys, time
        from xclip_cli.video.pool import Decoders
        from xclip_cli.video.sampling import ClipRequest
        kept = []
        for _ in range(2):
            decoder = Decoders(lambda picture: time.sleep(0.02), 2)
            decoder.itself = decoder
            kept.append(decoder)
            for _ in range(4):
                decoder.submit(ClipRequest({str(path)!r}, 8))
            decoder.collect()
        kept.pop()
        del decoder
        gc.collect()
        sys.exit(7)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, stderr=subprocess.PIPE, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (7, b"")
