from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from clips import number_of, numbered, read_pictures, write_clip
from hypothesis import given
from hypothesis import strategies as st

from xclip_cli import decoding
from xclip_cli.decoding import Decoders, _Server
from xclip_cli.errors import VideoError
from xclip_cli.sampling import ClipRequest, Limits


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
    monkeypatch.setattr(decoding, "RING_BYTES", int(2.5 * frame))
    path = write_clip(tmp_path / "clip.mp4", 40)
    with Decoders(number_of, limits=Limits(pixels=160 * 96)) as decoder:
        for _ in range(3):
            decoder.submit(ClipRequest(str(path), 32))
            time.sleep(0.2)
        for _ in range(3):
            assert collect(decoder) == [int(i * 40 / 32 + 40 / 64) for i in range(32)]


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3)), max_size=60))
def test_pictures_in_the_ring_never_overlap(steps: list[tuple[int, int]]) -> None:
    server = _Server(bytearray(100), io.BytesIO(), io.BytesIO(), guard=None)
    held: deque[tuple[int, int]] = server._held
    for size, frees in steps:
        while (offset := server._room(size)) is None:
            held.popleft()  # what waiting for the parent does; the ring empties in the end
        assert offset + size <= 100
        assert all(offset + size <= start or offset >= end for start, end in held)
        held.append((offset, offset + size))
        for _ in range(min(frees, len(held))):
            held.popleft()


def test_the_worker_ends_with_its_parent(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    code = f"""
        import os, time
        from xclip_cli.decoding import Decoders
        from xclip_cli.sampling import ClipRequest
        decoder = Decoders(lambda picture: None)
        decoder.submit(ClipRequest({str(path)!r}, 8))
        decoder.collect()
        print(decoder._workers[0]._process.pid, flush=True)
        os.kill(os.getpid(), 9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True, check=False, timeout=60
    )
    pid = int(done.stdout)
    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.05)
    else:
        pytest.fail("the worker outlived its parent")


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
        from xclip_cli.decoding import Decoders
        from xclip_cli.sampling import ClipRequest
        with Decoders(lambda picture: None) as decoder:
            decoder.submit(ClipRequest({str(path)!r}, 8))
            assert len(decoder.collect()[0].places) == 8
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(code)]
    assert subprocess.run(command, cwd=tmp_path, check=False).returncode == 0


def test_the_parent_imports_neither_torch_nor_av() -> None:
    code = "import sys, xclip_cli.decoding; sys.exit(bool({'torch', 'av'} & sys.modules.keys()))"
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
