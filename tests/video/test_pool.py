from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import textwrap
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import number_of, numbered, read_pictures, write_clip

from xclip_cli.errors import VideoError, XClipError
from xclip_cli.video import pool
from xclip_cli.video.limits import Limits
from xclip_cli.video.pool import Decoders
from xclip_cli.video.processes import RunningClock
from xclip_cli.video.sampling import ClipRequest


def request(path: Path | str) -> ClipRequest:
    return ClipRequest(str(path), 8)


def decoders(workers: int = 1, timeout: float = 60) -> Decoders[int]:
    """A pool that keeps of each picture the number it shows."""
    return Decoders(number_of, workers, timeout)


def collect(decoder: Decoders[int]) -> list[int]:
    collected = decoder.collect()
    assert collected is not None
    return collected[1]


def test_clips_come_in_the_order_of_their_requests(tmp_path: Path) -> None:
    paths = [write_clip(tmp_path / f"{i}.mp4", 8 + i) for i in range(4)]
    with decoders() as decoder:
        for path in paths:
            decoder.submit(request(path))
        assert [collect(decoder) for _ in paths] == [[int(i * n / 8 + n / 16) for i in range(8)] for n in range(8, 12)]
        assert not decoder.pending


def test_an_error_costs_one_video(tmp_path: Path) -> None:
    with decoders() as decoder:
        decoder.submit(request(tmp_path / "missing.mp4"))
        decoder.submit(request(write_clip(tmp_path / "clip.mp4", 8)))
        with pytest.raises(VideoError, match="no such file"):
            collect(decoder)
        assert collect(decoder) == list(range(8))


def test_a_crash_costs_one_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    with decoders() as decoder:
        decoder.submit(request(path))
        collect(decoder)
        (worker,) = decoder._workers
        worker._process.send_signal(signal.SIGSTOP)  # so that it has answered nothing when it is killed
        decoder.submit(request(path))
        decoder.submit(request(path))
        worker._process.kill()
        with pytest.raises(VideoError, match=r"the decoder crashed \(SIGKILL\) on this file") as caught:
            collect(decoder)
        assert caught.value.code == "crashed"
        assert collect(decoder) == list(range(8))


def test_more_pictures_than_the_ring_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frame = numbered(0).nbytes
    monkeypatch.setattr(pool, "RING_BYTES", int(2.5 * frame))
    path = write_clip(tmp_path / "clip.mp4", 40)
    with Decoders(number_of, limits=Limits(pixels=160 * 96)) as decoder:
        for _ in range(3):
            decoder.submit(ClipRequest(str(path), 32))
            time.sleep(0.2)
        for _ in range(3):
            assert collect(decoder) == [int(i * 40 / 32 + 40 / 64) for i in range(32)]


def test_close_leaves_no_process_and_no_descriptor(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else 0
    with decoders() as decoder:
        decoder.submit(request(path))
        collect(decoder)
        (worker,) = decoder._workers
    assert worker._process.poll() is not None
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def test_modules_in_the_current_folder_are_not_imported(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    for name in ("av", "json", "numpy"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported from the current folder')")
    code = f"""
        import sys
        sys.path = [p for p in sys.path if p]
        from xclip_cli.video.pool import Decoders
        from xclip_cli.video.sampling import ClipRequest
        with Decoders(lambda picture: None) as decoder:
            decoder.submit(ClipRequest({str(path)!r}, 8))
            assert len(decoder.collect()[0].places) == 8
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(code)]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0


def test_the_parent_imports_neither_torch_nor_av() -> None:
    code = "import sys, xclip_cli.video.pool; sys.exit(bool({'torch', 'av'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_pictures_are_whole(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", 8, codec="ffv1", pix_fmt="yuv444p")
    with Decoders(lambda picture: picture.copy()) as decoder:
        decoder.submit(request(path))
        collected = decoder.collect()
    assert collected is not None
    _, alone = read_pictures(request(path))
    for ours, theirs in zip(collected[1], alone, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def descriptors() -> int:
    return len(os.listdir("/dev/fd"))


def stop(decoder: Decoders[int], index: int = 0) -> subprocess.Popen[bytes]:
    """Make a worker stand still."""
    process = decoder._workers[index]._process
    process.send_signal(signal.SIGSTOP)
    return process


def test_several_workers_give_clips_in_the_order_of_their_requests(tmp_path: Path) -> None:
    # the first videos are by far the longest: later ones are ready before them
    lengths = [400, 300, *range(8, 16)]
    paths = [write_clip(tmp_path / f"{i}.mp4", n, options={"g": "500"}) for i, n in enumerate(lengths)]
    with decoders(workers=3) as decoder:
        for path in paths:
            decoder.submit(request(path))
        assert len(decoder._workers) == 3
        assert [collect(decoder) for _ in paths] == [[int(i * n / 8 + n / 16) for i in range(8)] for n in lengths]


def test_workers_start_only_for_work(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    with decoders(workers=4) as decoder:
        assert decoder._workers == []
        for _ in range(3):
            decoder.submit(request(path))
            collect(decoder)
        assert len(decoder._workers) == 1


def test_of_several_workers_one_that_dies_costs_one_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    with decoders(workers=2) as decoder:
        for _ in range(2):
            decoder.submit(request(path))
        for _ in range(2):
            collect(decoder)
        stop(decoder, 0)
        stop(decoder, 1)
        for _ in range(8):
            decoder.submit(request(path))
        first, second = (worker._process for worker in decoder._workers)
        first.kill()
        second.send_signal(signal.SIGCONT)
        outcomes: list[object] = []
        for _ in range(8):
            try:
                outcomes.append(collect(decoder))
            except VideoError as error:
                outcomes.append(error.code)
        assert outcomes == ["crashed", *[list(range(8))] * 7]
        assert first.poll() is not None


def test_a_worker_that_stands_still_costs_one_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    with decoders(workers=2, timeout=3) as decoder:
        for _ in range(2):
            decoder.submit(request(path))
        for _ in range(2):
            collect(decoder)
        stopped = stop(decoder)
        for _ in range(6):
            decoder.submit(request(path))
        with pytest.raises(VideoError, match=r"no progress for 3 s \(--timeout\) and was stopped") as caught:
            collect(decoder)
        assert caught.value.code == "timeout"
        assert [collect(decoder) for _ in range(5)] == [list(range(8))] * 5
        assert stopped.poll() == -signal.SIGKILL  # and waited for: no zombie


def test_a_worker_that_cannot_be_killed_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that reads from a file system that does not answer."""
    monkeypatch.setattr(pool, "KILL_SECONDS", 0.1)
    path = write_clip(tmp_path / "clip.mp4", 8)
    with decoders() as decoder:
        decoder.submit(request(path))
        collect(decoder)
        process = stop(decoder)
        kill, lifeline = process.kill, os.dup(decoder._workers[0]._lifeline)  # which would end it, too
        try:
            monkeypatch.setattr(process, "kill", lambda: None)
            for _ in range(2):
                decoder.submit(request(path))
            with monkeypatch.context() as patch:
                patch.setattr(decoder, "_timeout", 1.0)
                with pytest.raises(VideoError, match="made no progress"):
                    collect(decoder)
            assert collect(decoder) == list(range(8))
            assert process.poll() is None
        finally:
            kill()
            process.wait()
            os.close(lifeline)


def test_a_parent_that_is_slow_to_collect_stops_no_worker(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    with decoders(timeout=2) as decoder:
        decoder.submit(request(path))
        collect(decoder)
        decoder.submit(request(path))
        decoder.submit(request(path))
        time.sleep(2.5)
        assert collect(decoder) == collect(decoder) == list(range(8))


def test_waiting_ends_when_something_else_is_ready(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    reader, writer = os.pipe()
    try:
        with decoders() as decoder:
            decoder.submit(request(path))
            collect(decoder)
            process = stop(decoder)
            decoder.submit(request(path))
            os.write(writer, b"x")
            assert decoder.collect(reader) is None
            assert decoder.pending == 1
            os.read(reader, 1)
            process.send_signal(signal.SIGCONT)
            assert decoder.collect(reader) is not None
    finally:
        os.close(reader)
        os.close(writer)


@pytest.mark.parametrize("timeout", [float("inf"), 1e300])
def test_a_timeout_may_be_endless(tmp_path: Path, timeout: float) -> None:
    with decoders(timeout=timeout) as decoder:
        decoder.submit(request(write_clip(tmp_path / "clip.mp4", 8)))
        assert collect(decoder) == list(range(8))


def test_nothing_submitted_is_said() -> None:
    with decoders() as decoder, pytest.raises(RuntimeError, match="nothing was submitted"):
        decoder.collect()
    with pytest.raises(RuntimeError, match="the decoders are closed"):
        decoder.submit(request("a.mp4"))


def test_cancelled_requests_leave_nothing_to_later_ones(tmp_path: Path) -> None:
    long = write_clip(tmp_path / "long.mp4", 200)
    short = write_clip(tmp_path / "short.mp4", 8)
    with decoders(workers=2) as decoder:
        for _ in range(7):
            decoder.submit(request(long))
        collect(decoder)
        decoder.cancel()
        assert not decoder.pending
        decoder.submit(request(short))
        assert collect(decoder) == list(range(8))


def test_a_worker_that_cannot_be_used_at_all_costs_each_video_and_never_hangs(
    monkeypatch: pytest.MonkeyPatch, clip: Path
) -> None:
    monkeypatch.setattr(pool, "_BOOT", "raise SystemExit(7)")
    with decoders(workers=2) as decoder:
        for _ in range(5):
            decoder.submit(request(clip))
        for _ in range(5):
            with pytest.raises(VideoError, match=r"the decoder ended early \(status 7\) on this file"):
                collect(decoder)


def test_crashes_and_closing_leak_neither_descriptors_nor_processes(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    before = descriptors()
    processes = []
    with decoders(workers=3) as decoder:
        for _ in range(4):
            for _ in range(6):
                decoder.submit(request(path))
            processes += [worker._process for worker in decoder._workers]
            decoder._workers[0]._process.kill()
            for _ in range(6):
                try:
                    collect(decoder)
                except VideoError as error:
                    assert error.code == "crashed"
        # a selector and two ends of a socket; of each worker three pipes, a socket, a ring and its mapping
        assert descriptors() <= before + 3 + 3 * 6
    assert descriptors() == before
    assert all(process.poll() is not None for process in processes)
    decoder.close()  # a second time is nothing


def windows(path: Path, stride: str = "0.5") -> ClipRequest:
    return ClipRequest(str(path), 8, length=Fraction(1), stride=Fraction(stride))


def test_windows_come_one_by_one_and_hold_back_the_worker(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mkv", 2000, codec="mpeg4")
    alive, most = 0, 0

    class Counted:
        def __init__(self, picture: np.ndarray) -> None:
            nonlocal alive, most
            self.number = number_of(picture)
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    with Decoders(Counted, 1) as decoder:
        decoder.submit(windows(path))
        decoder.submit(windows(path, "1"))
        found = []
        for stride in (Fraction(1, 2), Fraction(1)):
            for i in itertools.count():
                collected = decoder.collect()
                assert collected is not None
                info, pictures = collected
                start = i * stride
                expected = [int((start + Fraction(2 * j + 1, 16)) * 25) % 1024 for j in range(8)]
                assert [pictures[place].number for place in info.places] == expected
                found.append(info.following)
                time.sleep(0.002)
                if not info.following:
                    break
        assert found == [*range(159)][::-1] + [*range(80)][::-1]
        assert not decoder.pending
        del info, pictures, collected
    # the clips that wait, the one in the making, and one that is being used, of 8 frames each
    assert most <= 8 * (pool.CLIPS_AHEAD + 3)
    assert alive == 0


def test_a_crash_in_the_middle_of_a_video_keeps_the_windows_before_it(tmp_path: Path) -> None:
    path, other = write_clip(tmp_path / "long.mkv", 6000, codec="mpeg4"), write_clip(tmp_path / "other.mp4", 8)
    with decoders() as decoder:
        decoder.submit(windows(path))
        decoder.submit(request(other))
        for _ in range(5):
            assert decoder.collect() is not None
        decoder._workers[0]._process.kill()
        with pytest.raises(VideoError, match="crashed"):
            list(iter(decoder.collect, None))
        assert collect(decoder) == list(range(8))
        assert not decoder.pending


def test_a_worker_that_is_held_back_does_not_hang(tmp_path: Path) -> None:
    path, other = write_clip(tmp_path / "long.mkv", 1000, codec="mpeg4"), write_clip(tmp_path / "other.mkv", 1000)
    with decoders(workers=2, timeout=4) as decoder:
        decoder.submit(windows(path))
        decoder.submit(windows(other))
        began, counts = time.monotonic(), [0, 0]
        for i in range(2):
            while (collected := decoder.collect()) is not None:
                counts[i] += 1
                if time.monotonic() - began < 6:  # meanwhile the other is ready, and waits longer than the timeout
                    time.sleep(0.2)
                if not collected[0].following:
                    break
        assert counts == [79, 79]


def test_as_many_workers_as_the_system_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = subprocess.Popen
    few = iter([started])

    def limited(*arguments: Any, **settings: Any) -> Any:
        if (start := next(few, None)) is None:
            raise BlockingIOError(11, "Resource temporarily unavailable")
        return start(*arguments, **settings)

    monkeypatch.setattr(subprocess, "Popen", limited)
    path = write_clip(tmp_path / "a.mp4", 8)
    with Decoders(lambda picture: picture.mean(), workers=4) as decoders:
        for _ in range(6):
            decoders.submit(ClipRequest(str(path), 2))
        assert [decoders.collect() is not None for _ in range(6)] == [True] * 6
    with Decoders(lambda picture: picture.mean()) as decoders:
        with pytest.raises(XClipError, match=r"cannot start a decode worker \(Resource temporarily unavailable\)"):
            decoders.submit(ClipRequest(str(path), 2))


def test_a_clock_that_stands_still_with_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    clock = RunningClock(1.0)
    seen = []
    for elapsed in (0.5, 1.0, 3600.0, 0.5):  # in the third, the laptop was shut
        now += elapsed
        seen.append(clock.now())
    assert seen == [0.5, 1.5, 3.5, 4.0]


def test_a_run_that_is_stopped_and_continued_times_no_video_out(tmp_path: Path) -> None:
    """As by Ctrl-Z, or in a container that is paused: the program and its workers stand still together."""
    path = write_clip(tmp_path / "long.mkv", 3000, codec="ffv1")
    code = f"""
        import sys
        from fractions import Fraction
        from xclip_cli.video.pool import Decoders
        from xclip_cli.video.sampling import ClipRequest
        with Decoders(lambda picture: None, timeout=2.0) as decoders:
            decoders.submit(ClipRequest({str(path)!r}, 8))
            decoders.collect()
            for _ in range(3):
                decoders.submit(ClipRequest({str(path)!r}, 2, length=Fraction(1, 5), stride=Fraction(1, 5)))
            print("begun", flush=True)
            while decoders.pending:
                decoders.collect()
        print("done")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        for _ in range(3):
            os.killpg(process.pid, signal.SIGSTOP)
            time.sleep(3)
            os.killpg(process.pid, signal.SIGCONT)
            time.sleep(0.3)
        assert process.stdout.read() == "done\n"
    assert process.returncode == 0
