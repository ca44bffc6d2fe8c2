"""xclip search as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from urllib.parse import unquote, urlparse

import av
import pytest
from conftest import Run

from xclip_cli.bundled.generator import write_samples
from xclip_cli.embedding import Embedding, index_settings
from xclip_cli.engine.encoder import Encoder
from xclip_cli.results.index import Index
from xclip_cli.results.lines import IndexSettings


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
    command = ["search", "color bars", index, "--text", "television static", "--top-k", "2"]
    done = xclip(*command)
    assert done.returncode == 0
    moments = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(m["kind"], m["query"], m["rank"]) for m in moments] == [
        ("moment", query, rank) for query in ("color bars", "television static") for rank in (1, 2)
    ]
    assert [Path(moments[i]["video"]).name for i in (0, 2)] == ["color-bars.mp4", "television-static.webm"]
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
    assert xclip(*command, "-o", page, "--root", "/").returncode == 0
    assert page.read_text().count("<img") >= len({(m["video"], m["start_seconds"]) for m in moments})
    assert '<pre class="command" tabindex="0">xclip search ' in page.read_text()
    assert {unquote(link) for link in re.findall('href="(?!data:|#)([^"]*)"', page.read_text())} == {
        os.path.relpath(m["video"], tmp_path) for m in moments
    }
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


def test_an_index_does_not_choose_which_pictures_a_page_shows(xclip: Run, videos: Path, tmp_path: Path) -> None:
    """It may be a stranger's: without --root only what lies beside it is shown, and files that the user names."""
    home, page = tmp_path / "home", tmp_path / "page.html"
    (home / "below").mkdir(parents=True)
    for name in ("secret.mp4", "below/film.mp4"):
        shutil.copy(videos / "color-bars.mp4", home / name)
    made = Index.create(home / "below" / "i", settings_of(videos / "color-bars.mp4", tmp_path / "donor"))
    with made as writer, Index.open(tmp_path / "donor") as donor:
        (video,) = donor
        for name in (str(home / "secret.mp4"), "../secret.mp4", "film.mp4", "link.mp4"):
            writer.add(video.rows())
            writer.finish(replace(donor.entries[video.video].line, video=name), video.windows)
    (home / "below" / "link.mp4").symlink_to(home / "secret.mp4")
    command = ["search", "color bars", home / "below" / "i", "-o", page, "--force"]
    done = xclip(*command)
    assert (done.returncode, page.read_text().count("<img")) == (0, 1)
    assert (
        "no thumbnails for 3 videos: the page says why (--root DIR shows videos outside the folder of the results)"
        in done.stderr
    )
    assert xclip(*command, "--root", "/").returncode == 0
    assert page.read_text().count("<img") == 1  # the absolute path
    assert xclip(*command, "--root", home / "below").returncode == 0
    assert page.read_text().count("<img") == 2  # the film, and what the user's folder leads to
    assert xclip("search", "color bars", home / "secret.mp4", "-m", "bundled", "-o", page, "--force").returncode == 0
    assert page.read_text().count("<img") == 1  # named by the user


def settings_of(video: Path, folder: Path) -> IndexSettings:
    """What an index of one video by the bundled model is made with; it is left in ``folder``."""
    encoder = Encoder("bundled", dtype="float32", device="cpu")
    task = Embedding(encoder, folder, index_settings(encoder, window=Fraction(1), stride=Fraction(1, 2)))
    assert [record.error for record in task.records([str(video)]) if record.completes] == [None]
    task.close()
    return task.writer.settings


def test_a_plan(xclip: Run, index: Path, videos: Path) -> None:
    done = xclip("search", "color bars", index, videos / "broken.mp4", "missing.mp4", "--dry-run", "--only", "*.mp4")
    assert done.returncode == 0
    assert "missing.mp4: no such file" in done.stdout
    assert "labels: 1, 7 texts" in done.stdout
    assert '"kind": "moment"' not in done.stdout


def test_one_of_several_indexes_has_what_is_wanted(xclip: Run, index: Path, videos: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    film = shutil.copy(videos / "color-bars.mp4", tmp_path / "film.mp4")
    assert (
        xclip("embed", film, "-o", other, "--model", "bundled", "--window", "1", "--dtype", "float32").returncode == 0
    )
    done = xclip("search", "color bars", index, other, "--only", "film*", env={"XCLIP_MODEL": "base-patch32"})
    assert {json.loads(line)["video"] for line in done.stdout.splitlines()} == {str(film)}
    done = xclip("search", "color bars", index, other, "--only", "x*")
    assert f"no video of the indexes {index} and {other} matches 'x*'" in done.stderr


def test_the_first_failure_ends_it_if_asked_for(xclip: Run, videos: Path, index: Path) -> None:
    done = xclip("search", "color bars", videos / "broken.mp4", videos, "--model", "bundled", "--fail-fast")
    assert (done.returncode, len(done.stdout.splitlines())) == (1, 1)
    said = xclip("search", "color bars", index).stderr
    assert "1 videos of the index failed when they were embedded" in said


def test_nothing_found_is_no_error(xclip: Run, index: Path) -> None:
    done = xclip("search", "color bars", index, "--threshold", "0.999999")
    assert (done.returncode, done.stdout) == (0, "")
    assert "no moments found above the threshold" in done.stderr


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
    assert "already exists and was not overwritten" in xclip(*command).stderr
    assert (folder / name).read_bytes() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "pass a text and where to search"),
        (["--like", "x"], "no inputs: pass at least one video or folder"),
        ([], 'pass a text and where to search'),
        (["a", "v.mp4", "--like", "b", "--text", "c"], "--like and --text cannot be combined"),
        (["a", "v.mp4", "--ray"], "--ray distributes the search of indexes, not of files: embed the files first"),
        (["a", "v.mp4", "-f", "html"], "--format html writes a file: pass -o FILE.html"),
        (["a", "v.mp4", "-o", "x.xyz"], "has no suffix that names a format"),
    ],
)  # fmt: skip
def test_wrong_usage(xclip: Run, arguments: list[str], message: str) -> None:
    done = xclip("search", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_windows_of_an_index(xclip: Run, index: Path) -> None:
    done = xclip("search", "color bars", index, "--window", "3")
    assert "the index has windows of 1 s every 0.5 s" in done.stderr
