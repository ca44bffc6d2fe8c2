"""xclip search as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from urllib.parse import unquote, urlparse

import av
import pytest
from conftest import Run

from xclip_cli.bundled.generator import write_samples


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd, name=1")
    write_samples(folder)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture
def index(xclip: Run, videos: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "i"
    done = xclip("embed", videos, "-o", folder, "--model", "bundled", "--window", "1", "--dtype", "float32")
    assert done.returncode == 3
    return folder


def test_every_format_says_the_same(xclip: Run, index: Path, videos: Path, tmp_path: Path) -> None:
    command = ["search", "color bars", index, "--text", "a black screen", "--top-k", "2"]
    done = xclip(*command)
    assert done.returncode == 0
    moments = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(m["kind"], m["query"], m["rank"]) for m in moments] == [
        ("moment", query, rank) for query in ("color bars", "a black screen") for rank in (1, 2)
    ]
    assert [Path(moments[i]["video"]).name for i in (0, 2)] == ["color-bars.mp4", "black-screen.avi"]
    assert json.loads(xclip(*command, "-f", "json").stdout) == moments
    rows = list(csv.DictReader(io.StringIO(xclip(*command, "-f", "csv").stdout)))
    assert [(row["video"], float(row["score"])) for row in rows] == [(m["video"], m["score"]) for m in moments]
    table = xclip(*command, "-f", "table", env={"COLUMNS": "200"}).stdout
    assert all(m["video"] in table and f"{m['score']:.3f}" in table for m in moments)
    entries = [line for line in xclip(*command, "-f", "m3u").stdout.splitlines() if not line.startswith("#")]
    assert [unquote(urlparse(entry).path) for entry in entries] == [m["video"] for m in moments]
    first = xclip(*command, "-f", "edl").stdout.splitlines()[1]
    _, length, rest = first.split("%", 2)
    assert rest[: int(length)] == moments[0]["video"]
    start, seconds = map(float, rest[int(length) + 1 :].split(","))
    assert (start, start + seconds) == pytest.approx((moments[0]["start_seconds"], moments[0]["end_seconds"]), abs=0.01)
    page = tmp_path / "found.html"
    assert xclip(*command, "-o", page).returncode == 0
    assert page.read_text().count("<img") >= len({(m["video"], m["start_seconds"]) for m in moments})
    out = tmp_path / "found.jsonl"
    assert xclip(*command, "-o", out).returncode == 0
    assert json.loads(out.read_text().splitlines()[0])["kind"] == "run"
    assert xclip("report", out, "-o", tmp_path / "again.html").returncode == 0
    assert "color bars" in (tmp_path / "again.html").read_text()


def test_files_and_an_index_mixed(xclip: Run, index: Path, videos: Path, tmp_path: Path) -> None:
    broken = tmp_path / "other.mp4"
    broken.write_bytes(b"no video")
    done = xclip("search", "color bars", index, broken, videos / "fade-in.mp4", "--only", "[!f]*")
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert Path(records[0]["video"]).name == "color-bars.mp4"
    assert {Path(r["video"]).name for r in records if r.get("kind") == "moment"} >= {"fade-in.mp4", "blurry.mov"}
    assert [Path(r["video"]).name for r in records if r.get("status") == "error"] == ["other.mp4"]
    assert done.returncode == 3


def test_nothing_found_is_no_error(xclip: Run, index: Path) -> None:
    done = xclip("search", "color bars", index, "--threshold", "0.999999")
    assert (done.returncode, done.stdout) == (0, "")
    assert "nothing was found above the threshold" in done.stderr


def test_like_and_clips_of_what_is_found(xclip: Run, index: Path, videos: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    command = ["search", "--like", videos / "color-bars.mp4", index, "-k", "1", "--save-clips", folder]
    done = xclip(*command)
    (moment,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (moment["video"], "logit" in moment) == (str(videos / "color-bars.mp4"), False)
    assert moment["score"] > 0.95
    (name,) = os.listdir(folder)
    with av.open(str(folder / name)) as container:
        assert len(list(container.decode(video=0))) > 10
    content = (folder / name).read_bytes()
    assert "exists and is left as it is" in xclip(*command).stderr
    assert (folder / name).read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "give at least one video or folder"),
        ([], 'give a text and where to search'),
        (["a", "v.mp4", "--like", "b", "--text", "c"], "--like and --text do not go together"),
        (["a", "v.mp4", "-f", "html"], "a page is a file: pass -o FILE.html"),
        (["a", "v.mp4", "-o", "x.xyz"], "has no suffix that names a format"),
    ],
)  # fmt: skip
def test_wrong_usage(xclip: Run, arguments: list[str], message: str) -> None:
    done = xclip("search", *arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())


def test_windows_of_an_index(xclip: Run, index: Path) -> None:
    done = xclip("search", "color bars", index, "--window", "3")
    assert "the index has windows of 1 s every 0.5 s" in " ".join(done.stderr.replace("│", " ").split())
