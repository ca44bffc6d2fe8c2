"""Files that were written before records could be read back are read, resumed and reported.

``xclip classify`` and ``xclip timeline --window 0.3 --stride 0.3 --start 0.1 --min-score 0.2 --top-k 2``, both with
``--max-pixels 100000``, made them of seven small files: two good ones, one with a name that is not UTF-8, one of three
frames, one with damage in the middle, one that begins with small frames and continues with large ones, one that is not
a video and one that is missing.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xclip_cli.errors import ResultsError
from xclip_cli.report.entries import Thumbnails
from xclip_cli.report.page import render
from xclip_cli.results.reading import read_results
from xclip_cli.results.records import Failure, RunHeader, from_json
from xclip_cli.results.run_file import RunFile

FOLDER = Path(__file__).with_name("written_before")
BOTH = ("classify", "timeline")
VIDEOS = ["broken.mp4", "caf\udce9.mp4", "damaged.mov", "grows.ts", "plain.mp4", "three frames.mp4", "missing.mp4"]
FAILED = {"classify": {"broken.mp4", "missing.mp4"}, "timeline": {"broken.mp4", "grows.ts", "missing.mp4"}}


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(params=BOTH)
def name(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


@pytest.fixture
def file(name: str, tmp_path: Path) -> Path:
    return Path(shutil.copy(FOLDER / f"{name}.jsonl", tmp_path / "out.jsonl"))


def header_of(path: Path) -> RunHeader:
    header = read_results(path).header
    assert header is not None
    return header


@pytest.mark.parametrize("which", BOTH)
def test_records_are_written_as_they_were(which: str) -> None:
    for line in (FOLDER / f"{which}.jsonl").read_text("utf-8").splitlines():
        found = from_json(json.loads(line))
        assert found is not None
        later = {
            "stream",
            "head",
            "began",
            "command",
            "versions",
        }  # fields that were added since: None where they were not written
        values = {key: value for key, value in found.to_json().items() if key not in later or value is not None}
        assert json.dumps(values) == line


def test_they_are_read(name: str, file: Path) -> None:
    results = read_results(file)
    assert results.notices == []
    assert results.header is not None
    assert (results.header.xclip, results.header.labels, results.header.num_frames) == ("0.1.0", 3, 8)
    assert [video.video for video in results.videos] == [f"clips/{video}" for video in VIDEOS]
    assert {video.video for video in results.videos if video.error} == {f"clips/{video}" for video in FAILED[name]}


def test_what_a_timeline_says_is_read() -> None:
    videos = {Path(video.video).name: video for video in read_results(FOLDER / "timeline.jsonl").videos}
    assert {name: len(video.windows) for name, video in videos.items() if video.windows} == {
        "caf\udce9.mp4": 8, "damaged.mov": 5, "grows.ts": 4, "plain.mp4": 8, "three frames.mp4": 1,
    }  # fmt: skip
    lost = [window.error.code for window in videos["damaged.mov"].windows if window.error]
    assert lost == ["damaged"]
    grows = videos["grows.ts"]
    assert grows.segments is not None
    assert (grows.segments.error, grows.segments.num_windows, len(grows.segments.segments)) == (grows.error, 4, 2)
    assert videos["plain.mp4"].segments is not None
    assert videos["plain.mp4"].segments.min_score == 0.2


def test_they_are_resumed(name: str, file: Path) -> None:
    before = file.read_bytes()
    with RunFile(file, resume=True) as run_file:
        assert run_file.done() == {f"clips/{video}" for video in VIDEOS}
        assert run_file.done() - run_file.done(retry_failed=True) == {f"clips/{video}" for video in FAILED[name]}
        assert (run_file.unfinished, run_file.torn) == (set(), False)
        run_file.begin(header_of(file))
        assert file.read_bytes() == before
        run_file.add(Failure("new.mp4", "missing", "no such file"))
    assert file.read_bytes().startswith(before)
    assert len(read_results(file).videos) == 8


def test_failures_in_them_are_tried_again(name: str, file: Path) -> None:
    before = lines(file)
    failed = {f"clips/{video}" for video in FAILED[name]}
    with RunFile(file, resume=True) as run_file:
        run_file.begin(header_of(file), retried=failed)
    assert lines(file) == [line for line in before if line.get("video") not in failed]


def test_a_timeline_that_was_cut_off_is_begun_again(tmp_path: Path) -> None:
    file = tmp_path / "out.jsonl"
    whole = (FOLDER / "timeline.jsonl").read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(whole[:14]) + whole[14][:100])
    with RunFile(file, resume=True) as run_file:
        assert (run_file.torn, run_file.unfinished) == (True, {"clips/damaged.mov"})
        run_file.begin(header_of(file))
    assert file.read_bytes() == b"".join(whole[:11])


def test_fields_that_a_header_lacks_are_none(name: str, file: Path) -> None:
    """Versions before this one knew fewer of them."""
    header, *rest = lines(file)
    old = {key: value for key, value in header.items() if value is not None}
    assert len(old) < len(header)
    file.write_text("".join(json.dumps(line) + "\n" for line in (old, *rest)), "utf-8")
    ours = RunHeader.from_json(header)
    with (
        pytest.raises(ResultsError, match="multi_label was None, now True; use"),
        RunFile(file, resume=True) as run_file,
    ):
        run_file.begin(replace(ours, multi_label=True))
    with RunFile(file, resume=True) as run_file:
        run_file.begin(ours)


def test_they_are_reported(name: str, file: Path) -> None:
    page = render(read_results(file), Thumbnails(), "before")
    assert f"<dt>failed</dt><dd>{len(FAILED[name])}</dd>" in page
    assert page.count('<details class="card"') == {"classify": 5, "timeline": 5}[name]
    assert "bundled · 3 labels · 8 frames per clip · 1x1 views · hf preprocessing · float32 · xclip 0.1.0" in page
    assert "caf\\udce9.mp4" in page
    if name == "timeline":
        assert page.count('class="heat"') == 5
        assert "lost to an error (damaged) (in 1 of 5 windows)" in page
        assert "its timeline ends at 0:01.3, behind 4 windows" in page
    else:
        assert "5 of them repeated" in page
