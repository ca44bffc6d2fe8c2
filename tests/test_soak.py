"""A short soak among the slow tests; ``python -m tests.soak`` is the long one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are watched in /proc")
def test_memory_and_descriptors_stay_flat() -> None:
    command = [sys.executable, "-m", "tests.soak", "--count", "1000", "--kills", "5"]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    found = json.loads(done.stdout)
    assert found["broken"] == []
    assert found["kills"] >= 3
    assert found["embed"]["kills"] >= 3
