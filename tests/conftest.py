from __future__ import annotations

import contextlib
import os
import pty
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
import reference
from clips import write_clip

# Nothing in a user's environment may change what the tests see; no test but those marked network may reach the hub.
for name in ("XCLIP_MODEL", "XCLIP_DEBUG", "FORCE_COLOR", "GITHUB_ACTIONS"):
    os.environ.pop(name, None)

# The user's cache is none of the tests' business.
_cache = tempfile.TemporaryDirectory()
os.environ["XCLIP_CACHE"] = _cache.name
os.environ["XDG_CONFIG_HOME"] = str(Path(_cache.name, "no-config"))


def program(*names: str) -> str:
    """The first of some programs that is installed. Without one the test is skipped; on CI it fails."""
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        (pytest.fail if "CI" in os.environ else pytest.skip)(f"{' or '.join(names)} is not installed")
    return found


def on_terminal(
    command: Sequence[str | Path], environment: Mapping[str, str], errors_too: bool = False
) -> tuple[int, str, str]:
    """What a command writes to a terminal that is its standard output (and its standard error, if these too).

    Its status, that text and what it wrote to a standard error of its own.

    It is read while the command runs, until the terminal's other end is closed: a terminal's buffer is small.
    """
    reader, writer = pty.openpty()
    stderr = writer if errors_too else subprocess.PIPE
    process = subprocess.Popen(command, stdout=writer, stderr=stderr, text=True, env={**os.environ, **environment})
    os.close(writer)
    parts = []
    with contextlib.suppress(OSError):  # EIO: nobody can write to it any more
        while part := os.read(reader, 65_536):
            parts.append(part)
    os.close(reader)
    _, errors = process.communicate(timeout=60)
    return process.returncode, b"".join(parts).decode(), errors or ""


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _ordinary_priority() -> Iterator[None]:
    """No test leaves a real-time thread behind: with the processes that it starts it would starve the others."""
    yield
    if hasattr(os, "sched_getscheduler"):
        assert os.sched_getscheduler(0) != os.SCHED_FIFO


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small X-CLIP with random weights, written by transformers."""
    return reference.checkpoint(tmp_path_factory.mktemp("checkpoint"), reference.config())


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of 40 numbered frames."""
    return write_clip(tmp_path_factory.mktemp("videos") / "clip.mp4", 40)


@pytest.fixture
def xclip(tmp_path: Path) -> Run:
    """Run the installed program in an empty folder."""

    def run(
        *arguments: str | Path, stdin: bytes = b"", env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        folder = tmp_path / "cwd"
        folder.mkdir(exist_ok=True)
        program = Path(sys.executable).with_name("xclip")
        done = subprocess.run(
            [program, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            cwd=folder,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "COLUMNS": "80", **(env or {})},
            check=False,
            timeout=120,
        )
        return subprocess.CompletedProcess(
            done.args, done.returncode, done.stdout.decode(), done.stderr.decode(errors="surrogateescape")
        )

    return run
