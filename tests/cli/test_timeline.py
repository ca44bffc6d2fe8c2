"""xclip timeline as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import av
import pytest
import webvtt
from clips import write_clip
from conftest import Run, on_terminal
from records import assert_all_same, assert_same

from xclip_cli.segments import WindowScores, combine, merge, segments_of


def windows_of(windows: list[dict[str, Any]]) -> list[WindowScores]:
    """What window records say of their windows."""
    return [
        WindowScores(w["start_seconds"], w["end_seconds"], {p["label"]: p["score"] for p in w["predictions"]})
        for w in windows
    ]


LABELS = ["abseiling", "air drumming", "answering questions", "a cat", "a dog", "a bird"]
ARGUMENTS = [argument for label in LABELS for argument in ("--label", label)]


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def common(checkpoint: Path) -> list[str | Path]:
    return [*ARGUMENTS, "--model", checkpoint, "--dtype", "float32", "--window", "1", "--stride", "0.5", "--top-k", "0"]


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("long") / "long.mp4", 90)


@pytest.mark.parametrize("name", ["a.mp4", "a.avi"])
def test_windows_are_what_classify_says_of_each(
    xclip: Run, common: list[str], checkpoint: Path, tmp_path: Path, name: str
) -> None:
    codec = {"a.mp4": "libx264", "a.avi": "mpeg4"}[name]
    path = write_clip(tmp_path / name, 60, codec)
    done = xclip("timeline", path, *common)
    assert (done.returncode, done.stderr) == (0, "")
    *windows, segments = records(done.stdout)
    assert [(w["start_seconds"], w["end_seconds"]) for w in windows] == [
        (0, 1), (0.5, 1.5), (1, 2), (1.4, 2.4),
    ]  # fmt: skip
    for window in windows[1:2]:
        start, end = str(window["start_seconds"]), str(window["end_seconds"])
        arguments = [argument for argument in common if argument not in ("--window", "--stride")]
        del arguments[arguments.index("1") : arguments.index("1") + 2]
        alone = records(xclip("classify", path, *arguments, "--start", start, "--end", end).stdout)
        assert_same({**window, "kind": None}, {**alone[0], "kind": None})
    assert segments == {
        "schema": 1,
        "kind": "segments",
        "video": str(path),
        "status": "ok",
        "num_windows": 4,
        "window_seconds": 1.0,
        "stride_seconds": 0.5,
        "min_score": 0.0,
        "min_duration": 0.0,
        "rate": "25",
        "segments": segments["segments"],
        "warnings": [],
    }
    expected = segments_of(combine(windows_of(windows)))
    assert [(s["start_seconds"], s["end_seconds"], s["label"]) for s in segments["segments"]] == [
        (s.start_seconds, s.end_seconds, s.label) for s in expected
    ]
    assert [s["score"] for s in segments["segments"]] == pytest.approx([s.score for s in expected], abs=1e-6)


def test_every_format_says_the_same(xclip: Run, common: list[str], long: Path) -> None:
    command = ["timeline", long, *common]
    *windows, segments = records(xclip(*command).stdout)
    (video,) = json.loads(xclip(*command, "--format", "json").stdout)
    assert_all_same(video["windows"], [{k: v for k, v in w.items() if k != "kind"} for w in windows])
    assert video["segments"] == segments["segments"]
    assert len(video["segments"]) >= 1
    rows = list(csv.DictReader(io.StringIO(xclip(*command, "--format", "csv").stdout)))
    assert [(row["label"], float(row["start_seconds"])) for row in rows] == [
        (s["label"], s["start_seconds"]) for s in segments["segments"]
    ]
    table = xclip(*command, "--format", "table").stdout
    assert all(s["label"] in table for s in segments["segments"])
    assert max(map(len, table.splitlines())) <= 80


def test_subtitles_are_read_by_others(xclip: Run, common: list[str], long: Path, tmp_path: Path) -> None:
    segments = records(xclip("timeline", long, *common).stdout)[-1]["segments"]
    for name in ("a.srt", "a.vtt"):
        assert xclip("timeline", long, *common, "-o", name).returncode == 0
    folder = tmp_path / "cwd"
    captions = list(webvtt.read(str(folder / "a.vtt")))
    assert [(c.start_in_seconds, c.text.rpartition(" (")[0]) for c in captions] == [
        (int(s["start_seconds"]), s["label"]) for s in segments
    ]
    with av.open(str(folder / "a.srt")) as container:
        packets = [packet for packet in container.demux(subtitles=0) if packet.size]
        assert [bytes(packet).decode().rpartition(" (")[0] for packet in packets] == [s["label"] for s in segments]
        assert [float(packet.pts * packet.time_base) for packet in packets] == pytest.approx(
            [s["start_seconds"] for s in segments], abs=0.001
        )


def test_limits_of_segments(xclip: Run, common: list[str], long: Path) -> None:
    *windows, segments = records(xclip("timeline", long, *common, "--min-score", "0.99").stdout)
    assert (segments["min_score"], segments["segments"]) == (0.99, [])
    assert len(windows) == segments["num_windows"]
    rows = list(csv.DictReader(io.StringIO(xclip("timeline", long, *common, "--min-score", "1", "-f", "csv").stdout)))
    assert [(row["status"], row["label"]) for row in rows] == [("ok", "")]
    *windows, segments = records(xclip("timeline", long, *common, "--min-duration", "1.2").stdout)
    expected = merge(segments_of(combine(windows_of(windows))), 1.2)
    assert [s["label"] for s in segments["segments"]] == [s.label for s in expected]


def test_top_k_cuts_records_and_not_segments(xclip: Run, common: list[str], long: Path) -> None:
    every = records(xclip("timeline", long, *common).stdout)
    best = records(xclip("timeline", long, *common, "--top-k", "1").stdout)
    assert [len(window["predictions"]) for window in best[:-1]] == [1] * (len(every) - 1)
    assert best[-1]["segments"] == every[-1]["segments"]


def test_a_part_of_a_video(xclip: Run, common: list[str], long: Path) -> None:
    *windows, _ = records(xclip("timeline", long, *common, "--start", "1", "--end", "2.2").stdout)
    assert [(w["start_seconds"], w["end_seconds"]) for w in windows] == [(1, 2), (1.2, 2.2)]


def test_failures_are_records(xclip: Run, common: list[str], long: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(long.read_bytes()[:-2000][::-1])
    done = xclip("timeline", "missing.mp4", long, broken, "http://example.org/a.mp4", *common)
    assert done.returncode == 3
    found = records(done.stdout)
    assert [(r.get("kind"), r["status"]) for r in found if r.get("kind") != "window"] == [
        (None, "error"), ("segments", "ok"), (None, "error"), (None, "error"),
    ]  # fmt: skip
    assert "1 of 4 videos classified, 3 failed" in done.stderr
    done = xclip("timeline", "missing.mp4", long, *common, "--format", "json")
    failed, good = json.loads(done.stdout)
    assert (failed["error"]["code"], len(good["windows"])) == ("missing", 7)
    done = xclip("timeline", "missing.mp4", long, *common, "--format", "table")
    assert "failed: no such file" in done.stdout
    done = xclip("timeline", "missing.mp4", *common, "-o", "a.srt")
    assert (done.returncode, done.stderr) == (1, "failed: missing.mp4: no such file\n")
    done = xclip("timeline", broken, *common, "-o", "a.srt")
    assert done.returncode == 1
    assert f"error: no segments for {broken}: not a video, or a damaged one" in done.stderr
    assert list((tmp_path / "cwd").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.mp4", "--window", "0"], "window and stride must be longer than 0 s"),
        (["a.mp4", "--window", "10", "--stride", "0.1"], "give a stride of at least 0.15625 s"),
        (["a.mp4", "--window", "soon"], "is not a time"),
        (["a.mp4", "--min-score", "2"], "must be 1 or less"),
        (["a.mp4", "b.mp4", "--format", "srt"], "srt holds one video, but 2 were given"),
        (["a.mp4", "-o", "a.xyz"], "has no suffix that names a format"),
    ],
)
def test_wrong_usage(xclip: Run, tmp_path: Path, common: list[str], arguments: list[str], message: str) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "a.mp4").touch()  # a missing one is told of first
    without = [*common[: common.index("--window")]]
    done = xclip("timeline", *arguments, *without)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_classify_writes_no_subtitles(xclip: Run) -> None:
    done = xclip("classify", "a.mp4", "--label", "x", "-o", "a.srt")
    assert done.returncode == 2
    assert "has no suffix that names a format" in " ".join(done.stderr.split())


def test_the_usual_window_is_the_models(xclip: Run, long: Path) -> None:
    *windows, segments = records(xclip("timeline", long, "--labels", "picture-state", "--model", "bundled").stdout)
    assert (segments["window_seconds"], segments["stride_seconds"]) == (2, 1)
    assert [w["start_seconds"] for w in windows] == pytest.approx([0, 1, 1.6])


def test_resuming_drops_what_is_not_complete(xclip: Run, common: list[str], long: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        shutil.copy(long, folder / name)
    command = ["timeline", "a.mp4", "b.mp4", "c.mp4", *common, "-o", "out.jsonl"]
    assert xclip(*command).returncode == 0
    whole = (folder / "out.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    assert [json.loads(line).get("kind") for line in lines] == ["run", *(["window"] * 7 + ["segments"]) * 3]
    for cut in (9, 12):  # behind a's segments, in b's windows
        (folder / "out.jsonl").write_text("".join(lines[:cut]) + lines[cut][:20])
        done = xclip(*command, "--resume")
        assert done.returncode == 0, done.stderr
        resumed = records((folder / "out.jsonl").read_text())
        assert resumed[0] == json.loads(lines[0])
        assert_all_same(resumed[1:], [json.loads(line) for line in lines[1:]])
        assert ("not finished: they are begun again" in done.stderr) == (cut == 12)
    done = xclip(*command, "--resume", "--min-score", "0.5")
    assert done.returncode == 1
    assert "cannot resume out.jsonl: it was written with different settings: min_score was 0.0, now 0.5" in done.stderr
    done = xclip(
        "classify", "a.mp4", *ARGUMENTS, "--model", common[common.index("--model") + 1], *command[-2:], "--resume"
    )
    assert "window was '1', now None" in done.stderr
    assert xclip("report", "out.jsonl", "-o", "out.html").returncode == 0
    assert (folder / "out.html").read_text().count('class="heat"') == 3


def test_ctrl_c_twice_ends_at_once_and_can_be_resumed(common: list[str], tmp_path: Path) -> None:
    path = write_clip(tmp_path / "long.mkv", 2000, codec="mpeg4")
    out = tmp_path / "out.jsonl"
    program = Path(sys.executable).with_name("xclip")
    slow = ["--views", "4x3"]  # so that the signal comes long before the end
    command = [program, "timeline", path, *common, *slow, "-o", out]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (out.exists() and len(out.read_text().splitlines()) > 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "segments" not in {record.get("kind") for record in records(out.read_text()[: out.read_text().rindex("\n")])}
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True)
    assert "1 videos of" in done.stderr
    header, *windows, segments = records(out.read_text())
    assert (header["window"], header["stride"]) == ("1", "1/2")
    assert len(windows) == segments["num_windows"] == 159


def test_a_drawing_on_a_terminal(common: list[str], long: Path) -> None:
    program = Path(sys.executable).with_name("xclip")
    environment = {"COLUMNS": "60", "TERM": "xterm", "NO_COLOR": "1"}
    status, text, _ = on_terminal([program, "timeline", long, *common], environment, errors_too=True)
    assert status == 0, text
    assert "classifying ━" in text  # the progress, which is gone before the drawing
    drawing = text.rpartition("\x1b[2K")[2]
    assert "0:00.0" in drawing
    assert "classifying" not in drawing
    assert "1 of 1 video classified in" in drawing
