"""Ctrl-C at random moments, once and twice, at the program's whole process group, as a terminal sends it: no traceback,
nothing unfinished left behind, and the command that is told continues the run.

    python tests/interrupts.py FOLDER-OF-VIDEOS 200
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LONGEST = 3.0  # seconds


def start_up() -> float:
    """Seconds until the first line of ours can run, on this machine now: before, Ctrl-C is Python's own to answer."""
    began = time.monotonic()
    for _ in range(5):
        subprocess.run([sys.executable, "-c", "import runpy, xclip_cli.cli.exits"], check=True)
    return (time.monotonic() - began) / 5


def interrupted(command: Sequence[str | Path], moments: Sequence[float], cwd: Path) -> tuple[int, str]:
    """The exit code and what was said of a command that is interrupted after so many seconds each."""
    process = subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True
    )
    for moment in moments:
        time.sleep(moment)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.decode()


def check(folder: Path, videos: Sequence[str], options: Sequence[str | Path], count: int, seed: int) -> dict[str, int]:
    """Interrupt runs at ``count`` moments → how often each way to end was seen. Raises AssertionError."""
    draw, seen, first = random.Random(seed), dict[str, int](), 2 * start_up()
    program = [sys.executable, "-m", "xclip_cli"]
    for i in range(count):
        out = folder / f"out-{i}.{'jsonl' if i % 4 else 'csv'}"
        command = [*program, "classify", *videos, *options, "-o", out.name]
        moments = [draw.uniform(first, LONGEST)] + ([draw.choice([0.0, draw.uniform(0, 0.5)])] if i % 2 else [])
        code, errors = interrupted(command, moments, folder)
        where = f"after {moments} s: {errors}"
        assert "Traceback" not in errors, where
        assert "Exception ignored" not in errors, where
        assert code in (0, 130), where
        assert not list(folder.glob(".xclip-*")), where
        told = "interrupted: " in errors
        kind = f"{code}{' told' if told else ''}"
        if (found := re.search("; to continue: (.*)", errors)) and seen.get(f"{kind} continued", 0) < 3:
            kind += " continued"
            done = subprocess.run(["sh", "-c", found[1]], cwd=folder, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (found[1], done.stderr)
            _, *records = map(json.loads, out.read_text().splitlines())
            assert [record["video"] for record in records] == list(videos)
        seen[kind] = seen.get(kind, 0) + 1
        out.unlink(missing_ok=True)
    return seen


if __name__ == "__main__":
    where, number = Path(sys.argv[1]), int(sys.argv[2])
    names = sorted(path.name for path in where.glob("*.mp4"))
    print(check(where, names, ["--labels", "picture-state"], number, seed=int(time.time())))
