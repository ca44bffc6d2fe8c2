"""300 mutants of real clips in every run of the tests; ``python -m tests.fuzz_video`` makes any number."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

COUNT, SEED = 300, 1


def test_no_mutant_escapes() -> None:
    command = [sys.executable, "-m", "tests.fuzz_video", "--count", str(COUNT), "--seed", str(SEED)]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["escapes"] == []
    assert sum(found["outcomes"].values()) == COUNT
    assert found["seed_clips"] >= 30, found["not_written"]
    # It fuzzes: some are read in spite of all, and many are not.
    assert COUNT / 10 < found["outcomes"]["ok"] < COUNT * 9 / 10
