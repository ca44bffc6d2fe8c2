"""xclip embed and index, and classify and timeline of what they made, as a user runs them."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from clips import write_clip, write_two_streams
from conftest import Run
from records import assert_same

from xclip_cli import Classifier
from xclip_cli.results.index import Index

LABELS = [argument for label in ("abseiling", "air drumming", "a cat", "a dog") for argument in ("--label", label)]
FLOAT = ["--dtype", "float32", "--threads", "1"]


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name, count in (("a.mp4", 40), ("b.avi", 20), ("d.mkv", 5)):
        write_clip(folder / name, count, {"b.avi": "mpeg4", "d.mkv": "ffv1"}.get(name, "libx264"))
    (folder / "c.mp4").write_bytes(b"no video")
    return folder


def embed(xclip: Run, checkpoint: Path, videos: Path, index: Path, *more: str) -> str:
    done = xclip("embed", videos, "-o", index, "--model", checkpoint, *FLOAT, *more)
    assert done.returncode in (0, 3), done.stderr
    assert done.stdout == ""
    return done.stderr


def assert_alike(ours: str, theirs: str, exactly: bool = False) -> None:
    a, b = records(ours), records(theirs)
    assert len(a) == len(b) > 1
    for mine, other in zip(a, b, strict=True):
        if exactly:
            assert {**mine, "seconds": 0} == {**other, "seconds": 0}
        else:
            assert_same({"predictions": [], **mine}, {"predictions": [], **other})


@pytest.mark.parametrize("views", ["1x1", "2x3"])
def test_classify_says_of_an_index_what_it_says_of_files(
    xclip: Run, checkpoint: Path, videos: Path, tmp_path: Path, views: str
) -> None:
    index = tmp_path / "i"
    said = embed(xclip, checkpoint, videos, index, "--views", views)
    assert "3 of 4 videos embedded, 1 failed in" in said
    assert f"failed: {videos / 'c.mp4'}: not a video, or a damaged one" in said
    assert f"{index}: 4 videos, 3 windows, " in said
    for more in ([], ["--multi-label"], ["--none-of-these", "--threshold", "0.2", "--template", "a video of {}"]):
        ours = xclip("classify", index, *LABELS, "--threads", "1", *more)
        theirs = xclip("classify", videos, *LABELS, "--model", checkpoint, *FLOAT, "--views", views, *more)
        assert (ours.returncode, theirs.returncode) == (3, 3), ours.stderr
        assert_alike(ours.stdout, theirs.stdout, exactly=True)


@pytest.mark.parametrize("compact", [False, True])
def test_timeline_says_of_an_index_what_it_says_of_files(
    xclip: Run, checkpoint: Path, videos: Path, tmp_path: Path, compact: bool
) -> None:
    index = tmp_path / "i"
    windows = ["--window", "0.5", "--stride", "0.3"]
    embed(xclip, checkpoint, videos, index, *windows, *(["--compact"] if compact else []))
    ours = xclip("timeline", index, *LABELS, "--threads", "1")
    theirs = xclip("timeline", videos, *LABELS, "--model", checkpoint, *FLOAT, *windows)
    assert (ours.returncode, theirs.returncode) == (3, 3), ours.stderr
    if not compact:
        assert_alike(ours.stdout, theirs.stdout)
        for form in ("csv", "json", "table"):
            texts = [
                xclip("timeline", path, *LABELS, "--threads", "1", "-f", form, *more).stdout
                for path, more in ((index, []), (videos, ["--model", checkpoint, "--dtype", "float32", *windows]))
            ]
            assert len(texts[0].splitlines()) == len(texts[1].splitlines()) > 1
        return
    logits = [[p["logit"] for r in records(o.stdout) for p in r.get("predictions", [])] for o in (ours, theirs)]
    assert sorted(logits[0]) == pytest.approx(sorted(logits[1]), abs=0.05)


def test_indexes_and_files_mixed_keep_their_order(xclip: Run, checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    index = tmp_path / "i"
    embed(xclip, checkpoint, videos, index)
    other = write_clip(tmp_path / "e.mp4", 10)
    mixed = xclip("classify", other, index, "missing.mp4", *LABELS, "--only", "[ad].m*", "--top-k", "1")
    assert [Path(record["video"]).name for record in records(mixed.stdout)] == [
        "e.mp4",
        "a.mp4",
        "d.mkv",
        "missing.mp4",
    ]
    assert mixed.returncode == 3
    out = tmp_path / "out.jsonl"
    assert xclip("classify", index, *LABELS, "-o", out).returncode == 3
    resumed = xclip("classify", index, *LABELS, "-o", out, "--resume")
    assert (resumed.returncode, "4 of 4 videos are recorded already" in resumed.stderr) == (3, True)


def test_an_index_is_of_one_stream(xclip: Run, checkpoint: Path, tmp_path: Path) -> None:
    video, index = write_two_streams(tmp_path / "two.mkv", [64, 64], 0), tmp_path / "i"
    embed(xclip, checkpoint, video, index, "--stream", "1")
    ours = xclip("classify", index, *LABELS, "--threads", "1")
    theirs = xclip("classify", video, *LABELS, "--model", checkpoint, *FLOAT, "--stream", "1")
    assert records(ours.stdout)[0]["predictions"] == records(theirs.stdout)[0]["predictions"]
    of_main = xclip("classify", video, *LABELS, "--model", checkpoint, *FLOAT)
    assert records(ours.stdout)[0]["predictions"] != records(of_main.stdout)[0]["predictions"]


REFUSED = [
    (["classify", "--start", "1"], "--start and --end select a part to decode, but an index is not decoded"),
    (["classify", "--save-frames", "x"], "--save-frames saves decoded frames"),
    (["classify", "--views", "4x1"], "--views 4x1 does not match the index, which was made with views 1x1"),
    (
        ["classify", "--preprocess", "paper"],
        "--preprocess paper does not match the index, which was made with preprocess hf",
    ),
    (["classify", "--model", "bundled"], "not bundled"),
    (["classify", "--only", "*.xyz"], "matches '*.xyz'"),
    (["classify", "--stream", "1"], "--stream 1 does not match the index, which was made from the main stream"),
    (["timeline"], "contains whole videos, not windows: embed them again with --window SECONDS"),
]


@pytest.fixture(scope="module")
def whole(checkpoint: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from xclip_cli.embedding import Embedding, index_settings
    from xclip_cli.engine.encoder import Encoder

    folder = tmp_path_factory.mktemp("whole") / "i"
    encoder = Encoder(checkpoint, dtype="float32", device="cpu")
    task = Embedding(encoder, folder, index_settings(encoder))
    assert len(list(task.records([str(videos / "a.mp4")]))) == 1
    task.close()
    return folder


@pytest.mark.parametrize(("arguments", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_what_an_index_cannot_answer_is_refused(xclip: Run, whole: Path, arguments: list[str], message: str) -> None:
    done = xclip(arguments[0], whole, *LABELS, *arguments[1:])
    assert done.returncode in (1, 2)
    assert message in done.stderr


def test_the_library_reads_it(whole: Path, checkpoint: Path, videos: Path) -> None:
    with (
        Index.open(whole) as index,
        Classifier(checkpoint, labels=["a cat", "a dog"], dtype="float32", cache=False) as classifier,
    ):
        (record,) = classifier.classify_all(index)
        assert_same(record, classifier.classify(videos / "a.mp4"))
        (video,) = index
        assert video.features.shape[:2] == (1, 1)


def test_unchanged_moved_changed_and_failed_videos(xclip: Run, checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    folder, index = tmp_path / "v", tmp_path / "i"
    shutil.copytree(videos, folder)
    embed(xclip, checkpoint, folder, index)
    before = records(xclip("classify", index, *LABELS).stdout)
    assert "4 of 4 videos are already in the index, 1 of them as failed (--retry-failed" in embed(
        xclip, checkpoint, folder, index
    )
    os.rename(folder / "a.mp4", folder / "e.mp4")
    shutil.copy(folder / "b.avi", folder / "f.avi")
    os.utime(folder / "d.mkv", (1, 1))
    said = embed(xclip, checkpoint, folder, index)
    assert "5 of 5 videos are already in the index, 2 of them under another path, 1 of them as failed" in said
    after = {Path(record["video"]).name: record for record in records(xclip("classify", index, *LABELS).stdout)}
    assert sorted(after) == ["b.avi", "c.mp4", "d.mkv", "e.mp4", "f.avi"]
    assert after["e.mp4"]["predictions"] == before[0]["predictions"]
    assert after["f.avi"]["predictions"] == after["b.avi"]["predictions"]
    write_clip(folder / "e.mp4", 12)
    write_clip(folder / "c.mp4", 12)
    os.remove(folder / "f.avi")
    assert "2 of 2 videos embedded" in embed(xclip, checkpoint, folder, index)
    pruned = xclip("index", "prune", index)
    assert pruned.stdout.splitlines()[0] == f"dropped {folder / 'f.avi'}"
    assert f"{index}: 4 videos, 1 dropped" in pruned.stdout
    assert xclip("index", "check", index).stdout == f"{index} is intact: 4 videos, 4 windows\n"
    found = json.loads(xclip("index", "info", index, "--json").stdout)
    assert (found["videos"], found["failed"], found["windows"]) == (4, 0, 4)
    shutil.rmtree(folder)
    refused = xclip("index", "prune", index)
    assert (refused.returncode, "none of the 4 videos" in refused.stderr) == (1, True)


def test_other_settings_are_refused(xclip: Run, checkpoint: Path, videos: Path, whole: Path) -> None:
    for more, message in (
        (["--window", "1"], "window none, not 1; stride none, not 1/2"),
        (["--views", "2x1"], "views 1x1, not 2x1"),
        (["--compact"], "compact False, not True"),
        (["--model", "bundled"], "not bundled"),
        (["--stream", "0"], "stream none, not 0"),
    ):
        done = xclip("embed", videos / "a.mp4", "-o", whole, *more)
        assert done.returncode == 1
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert xclip("embed", videos / "a.mp4", "-o", whole, "-q").returncode == 0  # auto is what it was made with


def test_a_plan(xclip: Run, checkpoint: Path, videos: Path, tmp_path: Path) -> None:
    done = xclip("embed", videos, "-o", tmp_path / "i", "--model", checkpoint, "--dry-run")
    assert "videos: 4" in done.stdout
    assert not (tmp_path / "i").exists()
