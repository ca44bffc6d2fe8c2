"""A video on stdin."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Run

LABELS = ["--labels", "picture-state", "--model", "bundled", "-f", "jsonl", "-q"]
PROGRAM = Path(sys.executable).with_name("xclip")


def records(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    """What a run said of its videos, but their names and how long they took."""
    return [
        {key: value for key, value in json.loads(line).items() if key not in {"video", "seconds"}}
        for line in done.stdout.splitlines()
    ]


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_video_from_a_pipe_is_one_like_any_other(xclip: Run, clip: Path, name: str) -> None:
    piped = xclip("classify", name, *LABELS, stdin=clip.read_bytes())
    assert records(piped) == records(xclip("classify", clip, *LABELS))
    assert json.loads(piped.stdout)["video"] == name


def test_stdin_may_be_one_of_many(xclip: Run, clip: Path) -> None:
    done = xclip("classify", clip, "-", "missing.mp4", *LABELS, stdin=clip.read_bytes())
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(record["video"], record["status"]) for record in found] == [
        (str(clip), "ok"),
        ("-", "ok"),
        ("missing.mp4", "error"),
    ]


def test_a_timeline_of_stdin(xclip: Run, clip: Path) -> None:
    more = [*LABELS, "--window", "0.5"]
    piped = records(xclip("timeline", "-", *more, stdin=clip.read_bytes()))
    assert len(piped) > 4
    assert piped == records(xclip("timeline", clip, *more))


@pytest.mark.parametrize(
    ("stdin", "code", "message"), [(b"", "empty", "stdin is empty"), (b"text", "unsupported", "not")]
)
def test_what_is_no_video_on_stdin(xclip: Run, stdin: bytes, code: str, message: str) -> None:
    record = json.loads(xclip("classify", "-", *LABELS, stdin=stdin).stdout)
    assert record["error"]["code"] == code
    assert message in record["error"]["message"]


def test_a_closed_stdin(tmp_path: Path) -> None:
    command = f"exec {PROGRAM} classify - {' '.join(LABELS)} <&-"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert json.loads(done.stdout)["error"]["message"] == "stdin is closed: there is no video in it"


def test_nothing_is_left_of_it(xclip: Run, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "temporary"
    folder.mkdir()
    assert xclip("classify", "-", *LABELS, stdin=clip.read_bytes(), env={"TMPDIR": str(folder)}).returncode == 0
    assert list(folder.iterdir()) == []


def test_it_may_not_be_endless(clip: Path, tmp_path: Path) -> None:
    code = "from xclip_cli.video import spool; spool.MOST_SPOOLED = 1 << 21; from xclip_cli.cli.app import main; main()"
    command = [sys.executable, "-c", code, "classify", "-", *LABELS]
    done = subprocess.run(command, input=bytes(1 << 22), capture_output=True, check=False, cwd=tmp_path)
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["message"]) == ("limit", "the video on stdin is larger than 2 MB: save it to a file")
