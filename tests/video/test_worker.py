"""A decode worker: its ring, its signs of life, its memory, its end."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import textwrap
import time
from collections import deque
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import number_of, write_clip
from hypothesis import given
from hypothesis import strategies as st

from xclip_cli.video import pool
from xclip_cli.video.pool import Decoders
from xclip_cli.video.protocol import NOTE_BYTES, TOGETHER_BYTES
from xclip_cli.video.sampling import ClipRequest
from xclip_cli.video.worker import _Server


def test_a_worker_never_imports_torch() -> None:
    code = "import sys, xclip_cli.video.worker; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.lists(st.tuples(st.integers(1, 60), st.integers(0, 3)), max_size=60))
def test_pictures_in_the_ring_never_overlap(steps: list[tuple[int, int]]) -> None:
    server = _Server(bytearray(100), io.BytesIO(), io.BytesIO(), guard=None, files=None)
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
        from xclip_cli.video.pool import Decoders
        from xclip_cli.video.sampling import ClipRequest
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


def test_slow_progress_is_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A packet now and then, for longer than the timeout in all."""
    slow = (
        "import time, xclip_cli.video.worker as d, xclip_cli.video.stream as v\n"
        "d.ALIVE_SECONDS, packets = 0.1, v._packets\n"
        "v._packets = lambda *args: (time.sleep(0.09) or packet for packet in packets(*args))\n"
        "d.serve("
    )
    monkeypatch.setattr(pool, "_BOOT", pool._BOOT.replace("from xclip_cli.video.worker import serve; serve(", slow))
    path = write_clip(tmp_path / "clip.mp4", 20)
    with Decoders(number_of, 1, timeout=2) as decoder:
        decoder.submit(ClipRequest(str(path), 8))
        began = time.monotonic()
        collected = decoder.collect()
        assert collected is not None
        assert collected[1] == [int(i * 20 / 8 + 20 / 16) for i in range(8)]
        assert time.monotonic() - began > 2


def test_the_memory_of_a_long_video_is_that_of_a_short_one(tmp_path: Path) -> None:
    """Half an hour at 2 frames a second."""
    pictures = (np.full((48, 64, 3), i % 256, np.uint8) for i in range(3600))
    path = write_clip(
        tmp_path / "long.mp4", codec="libx264", rate=2, pictures=pictures, options={"preset": "ultrafast"}
    )
    with Decoders(lambda picture: picture.copy(), 1) as decoder:
        decoder.submit(ClipRequest(str(path), 8, length=Fraction(10), stride=Fraction(5)))
        sizes = []
        while (collected := decoder.collect()) is not None:
            if collected[0].following in (250, 0):
                status = Path(f"/proc/{decoder._workers[0]._process.pid}/status").read_text()
                sizes.append(int(re.search(r"RssAnon:\s+(\d+) kB", status)[1]))  # type: ignore[index]
            if not collected[0].following:
                break
    assert sizes[1] - sizes[0] < 12_000, sizes  # kilobytes; all its frames would be 33,000


def test_small_pictures_share_a_line_and_an_ack() -> None:
    said, heard, side = io.BytesIO(), io.BytesIO(b"ack\n" * 2), 1024
    server = _Server(bytearray(3 * TOGETHER_BYTES + NOTE_BYTES), heard, said, guard=None, files=None)
    small, large = np.zeros((side // 8, side // 4, 3), np.uint8), np.zeros((side, side, 3), np.uint8)

    def lines() -> list[dict[str, Any]]:
        found = [json.loads(text) for text in said.getvalue().splitlines()]
        said.seek(0)
        said.truncate()
        return found

    for _ in range(3):
        server.put(small)
    assert lines() == []
    server.reply({"alive": True})  # nothing overtakes them
    places = [[i * small.nbytes, side // 8, side // 4] for i in range(3)]
    assert lines() == [{"pictures": places}, {"alive": True}]
    server.put(small)
    server.put(large)  # which is received while the next is decoded
    behind = [[3 * small.nbytes, *small.shape[:2]], [4 * small.nbytes, *large.shape[:2]]]
    assert lines() == [{"pictures": behind}]
    server.put(small)
    server.put(large)  # for which there is no room before both lines are free: the parent hears of what it has to free
    last = [4 * small.nbytes + large.nbytes, *small.shape[:2]]
    assert lines() == [{"pictures": [last]}, {"pictures": [[0, *large.shape[:2]]]}]
    assert list(server._told) == [1, 1]
