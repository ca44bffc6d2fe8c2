"""Ctrl-C at any moment ends a run without a traceback, and says how it is continued."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from interrupts import check

from xclip_cli.cli.interrupt import same_command

LABELS = ["--labels", "a cat, a dog"]
PROGRAM = [sys.executable, "-m", "xclip_cli"]


def copies(clip: Path, folder: Path, count: int) -> list[str]:
    names = [f"it's {i}.mp4" for i in range(count)]
    for name in names:
        shutil.copy(clip, folder / name)
    return names


def stopped(command: list[str | Path], folder: Path, when: Path, lines: int, presses: int = 1) -> tuple[int, str]:
    """A run that is interrupted once so many lines are in a file."""
    process = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (when.exists() and when.read_text().count("\n") >= lines):
        time.sleep(0.01)
    for _ in range(presses):
        process.send_signal(signal.SIGINT)
        time.sleep(0.02)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return process.returncode, errors


@pytest.mark.parametrize("presses", [1, 2])
def test_the_command_that_is_told_continues_the_run(checkpoint: Path, clip: Path, tmp_path: Path, presses: int) -> None:
    names, out = copies(clip, tmp_path, 200), tmp_path / "the results.jsonl"
    out.write_text("of an earlier run\n")
    command = ["classify", "--model", checkpoint, *LABELS, "-o", out.name, "--force", "--", "."]
    code, errors = stopped([*PROGRAM, *command], tmp_path, out, 4, presses)
    assert code == 130
    done = out.read_text().count('"status": "ok"')
    ((remain, told),) = re.findall(
        r"^interrupted: (\d+) of 200 videos remain; to continue: (.*)$", errors, re.MULTILINE
    )
    assert int(remain) == 200 - done > 0
    assert shlex.split(told) == [
        *PROGRAM, "classify", "--resume", *[str(word) for word in command[1:] if word != "--force"],
    ]  # fmt: skip
    resumed = subprocess.run(["sh", "-c", told], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert f"{done} of 200 videos are recorded already" in resumed.stderr
    _, *records = map(json.loads, out.read_text().splitlines())
    assert sorted(record["video"] for record in records) == sorted(names)


def test_before_anything_is_done(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    copies(clip, tmp_path, 3)
    out = tmp_path / "out.jsonl"
    code, errors = stopped(
        [*PROGRAM, "classify", ".", "--model", checkpoint, *LABELS, "-o", out.name], tmp_path, out, 0
    )
    assert (code, out.exists()) == (130, False)
    assert "interrupted: 3 of 3 videos remain; to continue: " in errors


def test_an_index_is_continued_by_the_same_command(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    copies(clip, tmp_path, 200)
    command = [*PROGRAM, "embed", ".", "--model", checkpoint, "-o", "out.index"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(tmp_path.glob("out.index/parts/.xclip-*")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    (told,) = re.findall(r"^interrupted: \d+ of 200 videos remain; to continue: (.*)$", errors, re.MULTILINE)
    assert shlex.split(told) == list(map(str, command))
    resumed = subprocess.run(["sh", "-c", told], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert "out.index: 200 videos" in resumed.stderr


def test_what_is_no_results_file_cannot_be_continued(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    copies(clip, tmp_path, 200)
    with (tmp_path / "stdout").open("w") as out:
        process = subprocess.Popen(
            [*PROGRAM, "classify", ".", "--model", checkpoint, *LABELS],
            cwd=tmp_path,
            stdout=out,
            stderr=subprocess.PIPE,
        )
        while process.poll() is None and not (tmp_path / "stdout").stat().st_size:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search(rb"interrupted: \d+ of 200 videos remain; only -o FILE.jsonl and --output-dir can be", errors)


@pytest.mark.parametrize("words", [["models", "list"], ["labels", "show", "kinetics-400"], ["classify"]], ids=" ".join)
def test_who_reads_the_first_line_alone(checkpoint: Path, clip: Path, tmp_path: Path, words: list[str]) -> None:
    given = [*copies(clip, tmp_path, 30), *LABELS, "-q", "--model", str(checkpoint)] if words == ["classify"] else []
    pipe = f"{shlex.join([*PROGRAM, *words, *given])} | head -1"
    done = subprocess.run(["sh", "-c", pipe], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.stdout.count("\n"), done.stderr) == (1, "")


def test_a_command_is_told_by_the_name_that_calls_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bin", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "xclip").touch(0o755)
    script = tmp_path / "bin" / "xclip"
    monkeypatch.setattr(sys, "argv", [str(script), "classify", "--force", "--", "a b.mp4"])
    for folder, called in (("bin", "xclip"), ("other", str(script))):  # the latter may be the clipboard's
        monkeypatch.setenv("PATH", str(tmp_path / folder))
        assert same_command("--resume", {"--force"}) == f"{called} classify --resume -- 'a b.mp4'"
    assert same_command() == f"{script} classify --force -- 'a b.mp4'"
    for word in ("a\nb.mp4", "x" * 2000):
        monkeypatch.setattr(sys, "argv", [str(script), "classify", word])
        assert same_command() is None


@pytest.mark.slow
def test_random_moments(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    names = copies(clip, tmp_path, 60)
    seen = check(tmp_path, names, ["--model", checkpoint, *LABELS], 24, seed=os.getpid())
    assert sum(seen.values()) == 24
