"""A file a video: --output-dir."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pandas
import pysrt
import pytest
import webvtt
from clips import write_clip
from conftest import Run
from records import assert_same
from samples import GOOD

from xclip_cli.cli.flags import OutputFlags
from xclip_cli.cli.sinks import open_sink
from xclip_cli.errors import ResultsError
from xclip_cli.inputs import Inputs
from xclip_cli.output.notes import Notes
from xclip_cli.results.records import Failure, Record, RunHeader

LABELS = ["a cat", "a dog", "a bird"]


@pytest.fixture(scope="module")
def common(checkpoint: Path) -> list[str | Path]:
    return [*(a for label in LABELS for a in ("--label", label)), "--model", checkpoint, "--dtype", "float32"]


@pytest.fixture
def tree(tmp_path: Path, clip: Path) -> Path:
    """Videos of one name, one that is none, and one in a folder below."""
    folder = tmp_path / "cwd" / "clips"
    (folder / "below").mkdir(parents=True)
    for name in ("a.mp4", "a.mov", "below/a.mp4"):
        shutil.copy(clip, folder / name)
    (folder / "broken.mp4").write_bytes(b"no video")
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


NAMES = ["a.mov", "a.mp4", "below/a.mp4", "broken.mp4"]


def test_classify_writes_a_file_a_video(xclip: Run, common: list[str], tree: Path) -> None:
    out = tree.parent / "out"
    done = xclip("classify", "clips", "-r", *common, "--output-dir", "out")
    assert (done.returncode, done.stdout) == (3, ""), done.stderr
    assert files(out) == sorted([*(f"{name}.json" for name in NAMES), "results.jsonl"])
    header, *records = map(json.loads, (out / "results.jsonl").read_text().splitlines())
    assert header["kind"] == "run"
    for record in records:
        found = json.loads((out / (record["video"].removeprefix("clips/") + ".json")).read_text())
        assert found == record
    done = xclip("classify", "clips", "-r", *common, "--output-dir", "tables", "--format", "csv")
    assert done.returncode == 3
    frame = pandas.read_csv(tree.parent / "tables" / "below" / "a.mp4.csv")
    assert sorted(frame["label"]) == sorted(LABELS)
    rows = list(csv.DictReader((tree.parent / "tables" / "broken.mp4.csv").read_text().splitlines()))
    assert [(row["status"], row["label"]) for row in rows] == [("error", "")]
    assert xclip("report", "out/results.jsonl", "-o", "page.html").returncode == 0


def test_subtitles_of_many_videos(xclip: Run, common: list[str], tree: Path) -> None:
    window = ["--window", "0.5"]
    for form in ("srt", "vtt", "json"):
        done = xclip("timeline", "clips", "-r", *common, *window, "--output-dir", form, "--format", form)
        assert done.returncode == 3, done.stderr
        failed = ["broken.mp4"] if form == "json" else []
        assert files(tree.parent / form) == sorted(
            [*(f"{name}.{form}" for name in NAMES if name not in {"broken.mp4"} - set(failed)), "results.jsonl"]
        )
    segments = json.loads((tree.parent / "json" / "a.mov.json").read_text())["segments"]
    cues = pysrt.open(str(tree.parent / "srt" / "a.mov.srt"))
    captions = webvtt.read(str(tree.parent / "vtt" / "below" / "a.mp4.vtt"))
    for shown in (cues, captions):
        assert [cue.text.rpartition(" (")[0] for cue in shown] == [segment["label"] for segment in segments]
    assert [cue.end.ordinal for cue in cues] == [round(1000 * segment["end_seconds"]) for segment in segments]


def test_a_run_goes_on_and_writes_what_is_missing(xclip: Run, common: list[str], tree: Path) -> None:
    command = ["timeline", "clips", "-r", *common, "--window", "0.5", "--output-dir", "out"]
    assert xclip(*command).returncode == 3
    out = tree.parent / "out"
    whole = {name: (out / name).read_bytes() for name in files(out)}
    done = xclip(*command)
    assert done.returncode == 2
    assert "pass --force to replace it, --resume to continue it" in done.stderr
    (out / "a.mov.json").unlink()
    shutil.rmtree(out / "below")
    written = (out / "a.mp4.json").stat().st_mtime_ns
    done = xclip(*command, "--resume", env={"CUDA_VISIBLE_DEVICES": ""})
    assert "4 of 4 videos are recorded already" in done.stderr
    assert {name: (out / name).read_bytes() for name in files(out)} == whole
    assert (out / "a.mp4.json").stat().st_mtime_ns == written
    # another format, of what is recorded
    assert xclip(*command, "--resume", "--format", "vtt").returncode == 3
    assert len(list(out.rglob("*.vtt"))) == 3
    done = xclip(*command, "--resume", "--min-score", "0.5")
    assert "cannot resume out/results.jsonl" in done.stderr
    shutil.copy(tree / "a.mp4", tree / "broken.mp4")
    done = xclip(*command, "--resume", "--retry-failed")
    assert done.returncode == 0, done.stderr
    assert json.loads((out / "broken.mp4.json").read_text())["status"] == "ok"
    assert xclip(*command, "--force").returncode == 0


def test_files_of_others_are_not_replaced(xclip: Run, common: list[str], tree: Path) -> None:
    (tree / "a.mp4.json").write_text("mine")
    (tree / "notes.json").write_text("mine")
    command = ["classify", "clips/a.mp4", "clips/a.mov", *common, "--output-dir", "clips"]
    done = xclip(*command)
    assert done.returncode == 2
    assert "clips/a.mp4.json exists: pass --force to replace it" in done.stderr
    assert (tree / "a.mp4.json").read_text() == "mine"
    assert not (tree / "results.jsonl").exists()
    assert "clips/a.mp4.json exists: move it away" in " ".join(
        xclip(*command, "--resume").stderr.replace("│", "").split()
    )
    assert xclip(*command, "--force").returncode == 0
    assert json.loads((tree / "a.mp4.json").read_text())["status"] == "ok"
    assert (tree / "notes.json").read_text() == "mine"
    shutil.copy(tree / "a.mov", tree / "a.mov.csv")  # a video that has the name of another's file
    done = xclip("classify", "clips/a.mov", "clips/a.mov.csv", *common, "--output-dir", "clips", "-f", "csv", "--force")
    assert "clips/a.mov.csv is one of the inputs" in done.stderr


def test_what_the_run_reads_is_not_replaced(xclip: Run, common: list[str], tree: Path, tmp_path: Path) -> None:
    """Labels, templates and lists of videos in the place of a video's file, by any spelling, also under --force."""
    (tree / "a.mp4.csv").write_text("name\na cat\na dog\n")
    (tree / "a.mov.csv").write_text("a video of {}\n")
    (tree / "below" / "a.mp4.csv").write_text("clips/a.mp4\n")
    (tree.parent / "link.csv").symlink_to(tree / "a.mp4.csv")
    before = {path: path.read_text() for path in tree.rglob("*.csv")}
    model = ["--model", common[-3], "--output-dir", "clips", "--format", "csv"]
    for arguments in (
        ["clips/a.mp4", "--labels", "clips/a.mp4.csv"],
        ["clips/a.mp4", "--labels", "link.csv"],
        ["clips/a.mp4", "--labels", "clips/../clips/a.mp4.csv", "--force"],
        ["clips/a.mov", "clips/a.mp4", "--label", "x", "--template", "clips/a.mov.csv"],
        ["clips/below/a.mp4", "clips/a.mov", "--label", "x", "--from-file", "clips/below/a.mp4.csv"],
    ):
        for force in ([], ["--force"]):
            done = xclip("classify", *arguments, *model, *force)
            said = done.stderr
            assert (done.returncode, "is one of the inputs: give another folder with --output-dir" in said) == (2, True)
    assert {path: path.read_text() for path in tree.rglob("*.csv")} == before
    (tree / "below" / "a.mp4.json").mkdir()
    done = xclip("classify", "clips", "-r", *common, "--output-dir", "clips", "--force")
    assert (done.returncode, "a.mp4.json is a folder: give another folder" in done.stderr) == (2, True), done.stderr


class KilledError(Exception):
    """Stands for the end of a run at that moment."""


@pytest.mark.parametrize("how", ["force", "retry_failed"])
def test_a_run_that_ended_while_it_replaced_files_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What it had not come to yet is not recorded any more: no file of the run before is in the way."""
    monkeypatch.chdir(tmp_path)
    inputs, ok = Inputs(["a.mp4", "b.mp4", "c.mp4"]), [replace(GOOD, video=f"{name}.mp4") for name in "abc"]
    failed = [ok[0], *(Failure(record.video, "crashed", "the decoder crashed") for record in ok[1:])]

    def run(records: list[Record], model: str = "m", end: bool = False, **how: bool) -> list[str]:
        def made() -> Iterator[Record]:
            yield from (record for record in records if record.video in todo.names)
            if end:
                raise KilledError

        output = OutputFlags(output_dir=Path("out"), **how)
        with open_sink(output, "json", {}, Notes(quiet=True)) as sink:
            todo, _ = sink.rest(inputs)
            sink.take(made(), lambda: RunHeader(model=model), todo)
        return [json.loads(Path("out", f"{name}.mp4.json").read_text())["status"] for name in "abc"]

    assert run(failed) == ["ok", "error", "error"]
    with pytest.raises(ResultsError, match="different settings"):
        run(ok, "other", resume=True, retry_failed=True)
    assert files(Path("out")) == ["a.mp4.json", "b.mp4.json", "c.mp4.json", "results.jsonl"]
    with pytest.raises(KilledError):
        run(ok[:2], end=True, **({"force": True} if how == "force" else {"resume": True, "retry_failed": True}))
    assert files(Path("out")) == ["a.mp4.json", "b.mp4.json", "results.jsonl"]
    assert run(ok, resume=True) == ["ok", "ok", "ok"]


def test_names_stay_inside(xclip: Run, common: list[str], tree: Path) -> None:
    odd = "\x1b]0;PWNED\x07\u202e\n.mp4"
    shutil.copy(tree / "a.mp4", tree / odd)
    shutil.copy(tree / "a.mp4", tree.parent / "up.mp4")
    videos = ["clips/../up.mp4", "../cwd/clips/a.mp4", f"clips/{odd}", "http://example.org/../../x.mp4"]
    done = xclip("classify", *videos, *common, "--output-dir", "out/deep")
    assert done.returncode == 3, done.stderr
    names = files(tree.parent / "out")
    assert len(names) == 5
    assert all(name.startswith("deep/") for name in names)
    assert not {"\x1b", "\x07", "\u202e", "\n"} & set("".join(names) + done.stderr.replace("\n", ""))
    assert sorted(os.listdir(tree.parent)) == ["clips", "out", "up.mp4"]


def test_no_file_is_written_through_a_link(xclip: Run, common: list[str], tree: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tree.parent / "out").mkdir()
    (tree.parent / "out" / "below").symlink_to(tmp_path / "elsewhere")
    done = xclip("classify", "clips", "-r", *common, "--output-dir", "out")
    assert done.returncode == 1
    assert "out/below is a link: give another folder with --output-dir" in done.stderr
    assert os.listdir(tmp_path / "elsewhere") == []
    (tmp_path / "elsewhere" / "a.mp4.json").write_text("mine")
    done = xclip("classify", "clips", "-r", *common, "--output-dir", "out", "--force")
    assert (done.returncode, "out/below is a link" in done.stderr) == (1, True), done.stderr
    assert (tmp_path / "elsewhere" / "a.mp4.json").read_text() == "mine"
    (tmp_path / "elsewhere" / "a.mp4.json").unlink()
    (tree.parent / "linked").mkdir()
    (tree.parent / "linked" / "a.mp4.json").symlink_to(tmp_path / "elsewhere" / "new")
    done = xclip("classify", "clips/a.mp4", *common, "--output-dir", "linked")
    assert "exists" in done.stderr
    assert os.listdir(tmp_path / "elsewhere") == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "table"], "--output-dir takes --format json, csv, srt, vtt, edl or otio, not table"),
        (["--format", "jsonl"], "--output-dir takes --format json, csv, srt, vtt, edl or otio, not jsonl"),
        (["-o", "a.jsonl"], "--output-dir cannot be combined with -o"),
        (["--resume", "--force"], "--resume continues a results file"),
    ],
)
def test_wrong_usage(xclip: Run, arguments: list[str], message: str) -> None:
    done = xclip("timeline", "a.mp4", "--label", "x", "--output-dir", "out", *arguments)
    assert done.returncode == 2
    assert message in done.stderr


def test_shards_agree_on_names(xclip: Run, common: list[str], tree: Path) -> None:
    shutil.copytree(tree, tree.parent / "more")
    command = ["classify", "clips", "more", *common]
    for i in (1, 2):
        xclip(*command, "--shard", f"{i}/2", "--output-dir", f"part-{i}")
    xclip(*command, "--output-dir", "all")
    parts = [{*files(tree.parent / f"part-{i}")} - {"results.jsonl"} for i in (1, 2)]
    assert not parts[0] & parts[1]
    assert parts[0] | parts[1] == {*files(tree.parent / "all")} - {"results.jsonl"}


@pytest.mark.slow
def test_a_kill_leaves_whole_files_only(common: list[str], tmp_path: Path) -> None:
    """Killed at any moment, again and again, until it is through: what is there is whole each time."""
    video = write_clip(tmp_path / "v" / "0.mp4", 300) if (tmp_path / "v").mkdir() is None else tmp_path
    for i in range(1, 12):
        shutil.copy(video, tmp_path / "v" / f"{i}.mp4")
    out = tmp_path / "out"
    program = Path(sys.executable).with_name("xclip")
    command = [program, "timeline", tmp_path / "v", *common, "--window", "0.3", "--output-dir", out]
    kills = 0
    while True:
        process = subprocess.Popen([*command, *(["--resume"] if kills else [])], stderr=subprocess.PIPE, text=True)
        began = len(list(out.glob("*.json")))
        while process.poll() is None and len(list(out.glob("*.json"))) == began:
            time.sleep(0.001)
        time.sleep(0.01 * kills)
        process.send_signal(signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        for path in out.rglob("*.json"):
            found = json.loads(path.read_text())
            assert (found["status"], len(found["windows"])) == ("ok", found["num_windows"])
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, errors
        kills += 1
    assert kills > 1
    assert len(list(out.glob("*.json"))) == 12
    done = subprocess.run([*command, "--resume"], capture_output=True, text=True, check=True)
    assert "12 of 12 videos are recorded already" in done.stderr
    assert not list(out.rglob("*.part"))
    one, other = (json.loads((out / f"{i}.mp4.json").read_text())["windows"] for i in (0, 11))
    for a, b in zip(one, other, strict=True):
        assert_same({**a, "video": ""}, {**b, "video": ""})
