"""Runs shared out by --shard, and their results joined by xclip merge."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from records import assert_all_same

from xclip_cli.results.records import NOT_SETTINGS

LABELS = ("--label", "a cat", "--label", "a dog", "--device", "cpu", "--dtype", "float32")


@pytest.fixture
def videos(tmp_path: Path, clip: Path) -> list[str]:
    """Names of a folder's videos, one of which is no video."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    for name in "edcba":
        shutil.copy(clip, folder / f"{name}.mp4")
    (folder / "f.mp4").write_bytes(b"no video")
    return [f"{name}.mp4" for name in "fedcba"]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("command", [("classify",), ("timeline", "--window", "0.5")])
def test_shards_make_what_one_run_makes(
    xclip: Run, checkpoint: Path, videos: list[str], tmp_path: Path, command: tuple[str, ...]
) -> None:
    folder = tmp_path / "cwd"
    (folder / "list.txt").write_text("\n".join(videos))
    given = (*command, "--from-file", "list.txt", "-m", str(checkpoint), *LABELS)
    assert xclip(*given, "-o", "whole.jsonl").returncode == 3
    for number in (1, 2, 3):
        assert xclip(*given, "--shard", f"{number}/3", "-o", f"{number}.jsonl").returncode in (0, 1, 3)
    done = xclip("merge", "3.jsonl", "1.jsonl", "2.jsonl", "--from-file", "list.txt", "-o", "all.jsonl")
    assert (done.returncode, done.stdout) == (0, "")
    assert "all.jsonl: 6 videos, 1 of them failed" in done.stderr
    (header, *records), (whole, *expected) = lines(folder / "all.jsonl"), lines(folder / "whole.jsonl")
    assert header == whole | dict.fromkeys(NOT_SETTINGS)
    assert_all_same(records, expected)
    again = xclip(*given, "--resume", "-o", "all.jsonl")  # a merged file is a results file like any other
    assert "6 of 6 videos are recorded already" in again.stderr


def test_an_empty_shard_is_a_file_that_can_be_merged(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        done = xclip("classify", clip, "-m", checkpoint, *LABELS, "--shard", f"{number}/2", "-o", f"{number}.jsonl")
        assert done.returncode == 0, done.stderr
    assert xclip("merge", "1.jsonl", "2.jsonl", "-o", "all.csv").returncode == 0
    assert len((tmp_path / "cwd/all.csv").read_text().splitlines()) == 3


def header(folder: Path, name: str, *records: dict[str, Any], **settings: Any) -> Path:
    path = folder / name
    path.write_text("\n".join(json.dumps(line) for line in ({"schema": 1, "kind": "run", **settings}, *records)) + "\n")
    return path


def failure(video: str) -> dict[str, Any]:
    return {"schema": 1, "video": video, "status": "error", "error": {"code": "x", "message": "x"}, "warnings": []}


def test_the_order_of_a_list_and_what_is_missing(xclip: Run, tmp_path: Path) -> None:
    header(tmp_path, "a.jsonl", failure("b"), failure("unlisted"), failure("a"))
    listed = b"./a\0missing\0b\0a\0"
    done = xclip("merge", tmp_path / "a.jsonl", "--from-file", "-", "-0", "-o", "all.jsonl", stdin=listed)
    assert done.returncode == 3
    assert "1 videos of - have no result: missing" in done.stderr
    assert [record.get("video") for record in lines(tmp_path / "cwd/all.jsonl")] == [None, "a", "b", "unlisted"]


def test_unfinished_videos_are_told(xclip: Run, tmp_path: Path) -> None:
    window = {**failure("w"), "kind": "window", "start_seconds": 0, "end_seconds": 1}
    header(tmp_path, "a.jsonl", failure("a"), window)
    done = xclip("merge", tmp_path / "a.jsonl", "-o", "all.jsonl")
    assert done.returncode == 3
    assert "1 videos are unfinished (--resume continues them): w" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.jsonl", "b.jsonl", "-o", "x.jsonl"], 1, "made with different settings: model is 'm' and 'n'"),
        (["a.jsonl", "-o", "a.jsonl"], 2, "a.jsonl is one of the inputs"),
        (["a.jsonl", "-o", "a.jsonl", "--force"], 2, "a.jsonl is one of the inputs"),
        (["a.jsonl", "-o", "c.jsonl"], 2, "c.jsonl exists"),
        (["a.jsonl", "-o", "x.html"], 2, "x.html has no suffix that names a format"),
        (["gone.jsonl", "-o", "x.jsonl"], 1, "cannot read the results gone.jsonl: No such file or directory"),
    ],
)
def test_mistakes_are_one_line(xclip: Run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    header(folder, "a.jsonl", model="m")
    header(folder, "b.jsonl", model="n")
    before = header(folder, "c.jsonl").read_bytes()
    done = xclip("merge", *arguments, env={"COLUMNS": "200"})
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(folder.glob("x.*"))
    assert (folder / "c.jsonl").read_bytes() == before


def test_force_replaces(xclip: Run, tmp_path: Path) -> None:
    header(tmp_path, "a.jsonl", failure("a"))
    for force in ([], ["--force"]):
        assert xclip("merge", tmp_path / "a.jsonl", "-o", "all.jsonl", *force).returncode == 0
    assert len(lines(tmp_path / "cwd/all.jsonl")) == 2


@pytest.mark.parametrize("shard", ["0/3", "4/3", "1", "1/0", "-1/3", "a/b", "1/3/5", "", "²/3", "9" * 30 + "/1"])
def test_what_is_no_shard(xclip: Run, shard: str) -> None:
    done = xclip("classify", "a.mp4", "--label", "a", f"--shard={shard}", env={"COLUMNS": "200"})
    assert done.returncode == 2
    assert "is not a shard: give I/N with I from 1 to N" in done.stderr
