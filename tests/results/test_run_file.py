"""The results file of a run, on its own and as `-o FILE.jsonl --resume` of the program."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from clips import numbered, write_clip
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from records import assert_all_same

from xclip_cli.errors import ResultsError, VideoError
from xclip_cli.results.reading import read_results
from xclip_cli.results.records import NOT_SETTINGS, Failure, Frames, Prediction, RankedLabel, Record, RunHeader
from xclip_cli.results.run_file import RunFile

HEADER = RunHeader("1", "m", None, "id", 2, "hash", 8, "1x1", "hf", None, None, None, "float32", 5)
PROGRAM = Path(sys.executable).with_name("xclip")


def ok(video: str) -> Prediction:
    labels = (RankedLabel("a cat", 0.75, 2.5), RankedLabel("a dog", 0.25, 1.25))
    return Prediction(video, "m", None, 0, 1, Frames(8, 8, 0, 0, (0.5,)), labels)


def bad(video: str) -> Failure:
    return Failure.of(video, VideoError("broken", "damaged"))


def lines(path: Path) -> list[dict[str, Any]]:
    data = path.read_text("utf-8")
    assert data.endswith("\n")
    return [json.loads(line) for line in data.splitlines()]


def written(*records: Record, header: RunHeader = HEADER) -> list[dict[str, Any]]:
    """The lines of a file with these records."""
    return [json.loads(json.dumps(record.to_json())) for record in (header, *records)]


def write(path: Path, records: Sequence[Record]) -> None:
    with RunFile(path) as run_file:
        run_file.begin(HEADER)
        for record in records:
            run_file.add(record)


def test_a_header_and_then_each_record_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with RunFile(path) as run_file:
        run_file.begin(HEADER)
        for count, record in enumerate([ok("a"), bad("b"), ok("new\nline \udce9")], start=1):
            run_file.add(record)
            assert len(lines(path)) == 1 + count  # on disk before the next
    assert lines(path) == written(ok("a"), bad("b"), ok("new\nline \udce9"))


def test_without_resume_it_is_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("something longer than what comes\n" * 100)
    write(path, [ok("a")])
    assert [line.get("video") for line in lines(path)] == [None, "a"]


def test_going_on(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [ok("a"), bad("b"), ok("c")])
    with RunFile(path, resume=True) as run_file:
        assert (run_file.torn, run_file.done(), run_file.done(retry_failed=True)) == (False, {*"abc"}, {*"ac"})
        assert run_file.counts({*"abcd"}) == (2, 1)
        assert run_file.counts({"b", "d"}) == (0, 1)
        run_file.begin(HEADER)
        run_file.add(ok("d"))
    assert [line.get("video") for line in lines(path)] == [None, *"abcd"]


@pytest.mark.parametrize("cut", range(1, 60, 6))
def test_a_torn_last_line_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [ok("a"), ok("b")])
    path.write_bytes(path.read_bytes()[:-cut])
    with RunFile(path, resume=True) as run_file:
        assert run_file.torn
        assert run_file.done() == {"a"}
        run_file.begin(HEADER)
        run_file.add(ok("b"))
    assert lines(path) == written(ok("a"), ok("b"))


@pytest.mark.parametrize("data", [b"", b'{"schema": 1, "kind": "ru'])
def test_a_file_without_a_whole_header_is_begun_anew(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with RunFile(path, resume=True) as run_file:
        assert run_file.done() == set()
        run_file.begin(HEADER)
    assert lines(path) == written()


SETTINGS = [field.name for field in dataclasses.fields(RunHeader) if field.name not in NOT_SETTINGS]


def test_a_file_is_continued_by_another_command_and_keeps_its_own(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    first = dataclasses.replace(HEADER, began="yesterday", command="xclip classify a b", versions="old")
    with RunFile(path) as run_file:
        run_file.begin(first)
        run_file.add(ok("a"))
    with RunFile(path, resume=True) as run_file:
        run_file.begin(dataclasses.replace(HEADER, began="today", command="xclip classify a b --resume"))
        run_file.add(ok("b"))
    assert lines(path) == written(ok("a"), ok("b"), header=first)


def test_a_file_without_a_result_is_begun_anew_by_who_makes_others(tmp_path: Path) -> None:
    path, other = tmp_path / "a.jsonl", dataclasses.replace(HEADER, model="another")
    write(path, [])
    with RunFile(path, resume=True) as run_file:
        run_file.begin(other)
    assert lines(path) == [other.to_json()]


@pytest.mark.parametrize("change", SETTINGS)
def test_a_file_that_was_made_in_another_way_is_refused_by_name(tmp_path: Path, change: str) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [ok("a")])
    before = path.read_bytes()
    other = dataclasses.replace(HEADER, **{change: "something else"})
    was = f"{change} was .*, now 'something else'"
    was = "the labels or their texts differ" if change == "labels_sha256" else was
    expected = f"cannot resume .*a.jsonl: it was written with different settings: {was}; use the same settings, or "
    with pytest.raises(ResultsError, match=expected), RunFile(path, resume=True) as run_file:
        run_file.begin(other)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a cat\na dog\n", "line 1 is not the header of a run"),
        (b"[1]\n", "line 1 is not the header of a run"),
        (b"\xff\xfe\n", "line 1 is not the header of a run"),
        (json.dumps(ok("a").to_json()).encode() + b"\n", "line 1 is not the header of a run"),
        (json.dumps(HEADER.to_json()).encode() + b"\n{}\n", "line 2 is not a record"),
        (json.dumps(HEADER.to_json()).encode() + b"\n" + b"[" * 100_000 + b"\n", "line 2 is not a record"),
        (json.dumps(HEADER.to_json()).encode() + b"\n" + b"9" * 5000 + b"\n", "line 2 is not a record"),
        (json.dumps(HEADER.to_json()).encode() + b"\n[]\n" + b"{}\n", "line 2 is not a record"),
        (json.dumps(HEADER.to_json()).encode() + b"\nnonsense\n{}\n", "line 2 is not a record"),
    ],
)
def test_what_is_no_results_file_is_left_as_it_is(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    with pytest.raises(ResultsError, match=f"{message}; was it written by xclip with -o"):
        RunFile(path, resume=True)
    assert path.read_bytes() == data


# What is nearly a results file: lines of one, with other values and without some, and lines that are none.
VALUES = st.none() | st.booleans() | st.integers(-2, 2) | st.floats() | st.text(max_size=3) | st.just([]) | st.just({})
LINES = st.builds(
    lambda record, changes, less: json.dumps(
        {k: v for k, v in {**record, **changes}.items() if k not in less}
    ).encode(),
    st.sampled_from(written(ok("a"), bad("b"), ok("a"))),
    st.dictionaries(st.sampled_from(["schema", "kind", "video", "status", "error", "predictions", "x"]), VALUES),
    st.sets(st.sampled_from(["kind", "video", "status", "warnings"])),
) | st.sampled_from([b"", b"{}", b"\xff", b"\0", b'"a', b"NaN"])


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.lists(LINES, max_size=5), st.booleans())
def test_any_file_is_gone_on_with_or_left_as_it_is(
    tmp_path_factory: pytest.TempPathFactory, headed: bool, given_lines: list[bytes], torn: bool
) -> None:
    path = tmp_path_factory.mktemp("run") / "a.jsonl"
    header = [json.dumps(HEADER.to_json()).encode()] if headed else []
    data = b"".join(line + b"\n" for line in header + given_lines)[: -1 if torn else None]
    path.write_bytes(data)
    try:
        with RunFile(path, resume=True) as run_file:
            done = run_file.done()
            run_file.begin(HEADER, retried=["b"])
            run_file.add(ok("new"))
    except ResultsError as error:
        assert str(error).isprintable()
        assert path.read_bytes() == data
    else:
        assert lines(path)[-1]["video"] == "new"
        with RunFile(path, resume=True) as run_file:
            assert run_file.done() == (done - {"b"}) | {"new"}
    with suppress(ResultsError):  # a report asks for more of each record
        assert read_results(path).videos


@pytest.mark.parametrize("renames", [True, False])
def test_a_file_that_cannot_be_renamed_is_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: bool
) -> None:
    """A mounted file is one; the file stays locked, and keeps what is written after."""

    def busy(*_: object) -> None:
        raise OSError(16, "Device or resource busy")

    path = tmp_path / "a.jsonl"
    write(path, [bad("a"), ok("b")])
    if not renames:
        monkeypatch.setattr(os, "replace", busy)
    with RunFile(path, resume=True) as run_file:
        run_file.begin(HEADER, retried=["a"])
        with pytest.raises(ResultsError, match="is being written by another run"):
            RunFile(path, resume=True)
        run_file.add(ok("a"))
    assert lines(path) == written(ok("b"), ok("a"))
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_a_new_file_takes_no_others_place(tmp_path: Path) -> None:
    path, nothing = tmp_path / "a.jsonl", tmp_path / "nothing"
    path.write_text("another's")
    with pytest.raises(ResultsError, match="a.jsonl was just created by another program: give another file"):
        RunFile(path, new=True)
    assert path.read_text() == "another's"
    path.unlink()
    path.symlink_to(nothing)
    for new in (True, False):
        with pytest.raises(ResultsError, match="a.jsonl is a broken link: give another file"):
            RunFile(path, new=new)
    assert not nothing.exists()


def test_failures_are_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [bad("a"), ok("b"), bad("c"), bad("d")])
    with RunFile(path, resume=True) as run_file:
        assert run_file.done(retry_failed=True) == {"b"}
        run_file.begin(HEADER, retried=["a", "c", "new"])
        with pytest.raises(ResultsError, match="is being written by another run"):
            RunFile(path, resume=True)  # the new file is locked like the old
        for record in (ok("a"), bad("c"), ok("new")):
            run_file.add(record)
    assert lines(path) == written(ok("b"), bad("d"), ok("a"), bad("c"), ok("new"))
    assert os.listdir(tmp_path) == ["a.jsonl"]


def test_failures_are_replaced_in_a_torn_file(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    write(path, [bad("a"), ok("b"), ok("c")])
    path.write_bytes(path.read_bytes()[:-9])
    with RunFile(path, resume=True) as run_file:
        run_file.begin(HEADER, retried=["a", "c"])
        run_file.add(ok("a"))
        run_file.add(ok("c"))
    assert lines(path) == written(ok("b"), ok("a"), ok("c"))


def test_one_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    message = "a.jsonl is being written by another run: give another file, or wait for it to end"
    with RunFile(path) as run_file:
        run_file.begin(HEADER)
        for resume in (True, False):
            with pytest.raises(ResultsError, match=message):
                RunFile(path, resume)
        run_file.add(ok("a"))
    assert len(lines(path)) == 2
    RunFile(path, resume=True).close()
    assert len(lines(path)) == 2


def test_a_new_file_that_nothing_was_written_to_disappears(tmp_path: Path) -> None:
    new, old = tmp_path / "new.jsonl", tmp_path / "old.jsonl"
    old.touch()
    for path in (new, old):
        RunFile(path).close()
    assert os.listdir(tmp_path) == ["old.jsonl"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot write .*No such file or directory"):
        RunFile(tmp_path / "no" / "a.jsonl")
    with pytest.raises(ResultsError, match="cannot write .*Is a directory"):
        RunFile(tmp_path)


# Through the program


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty small videos, two of which are broken."""
    folder = tmp_path_factory.mktemp("inputs")
    for i in range(30):
        write_clip(folder / f"{i:02}.mp4", pictures=[numbered(i * 30 + j) for j in range(8 + i % 3)])
    for name in ("07.mp4", "20.mp4"):
        (folder / name).write_bytes(b"no video")
    return folder


def command(folder: Path, out: Path, *more: str) -> list[str | Path]:
    labels = ["--label", "a black screen", "--label", "a white screen", "--label", "noise"]
    exact = ["--dtype", "float32", "--quiet"]
    return ["classify", folder, *labels, "--model", "bundled", *exact, "-o", out, *more]


@pytest.fixture(scope="module")
def straight(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The lines of a run that nothing disturbs."""
    out = tmp_path_factory.mktemp("straight") / "out.jsonl"
    assert subprocess.run([PROGRAM, *command(folder, out)], check=False).returncode == 3
    found = lines(out)
    assert [line.get("video") for line in found] == [None, *(str(folder / f"{i:02}.mp4") for i in range(30))]
    return found


def test_a_run_that_goes_on_ends_as_one_that_went_straight(
    xclip: Run, folder: Path, straight: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    whole = [json.dumps(line) + "\n" for line in straight]
    out.write_text("".join(whole[:12]) + whole[12][:40])
    labels = command(folder, out, "--resume")
    labels.remove("--quiet")
    done = xclip(*labels)
    assert done.returncode == 3
    said = " ".join(done.stderr.split())
    assert "the last record of" in said
    assert "was cut off: its video is classified again" in said
    assert "11 of 30 videos are recorded already" in said
    header, *records = lines(out)
    assert header == straight[0]
    assert_all_same(records, straight[1:])
    # and once more: there is nothing to do, and nothing changes
    before = out.read_bytes()
    assert xclip(*command(folder, out, "--resume")).returncode == 3
    assert out.read_bytes() == before


def test_a_video_is_known_by_what_its_path_names(
    xclip: Run, folder: Path, straight: list[dict[str, Any]], tmp_path: Path
) -> None:
    """Recorded by one spelling and given by another, it is done, and keeps the spelling that it has in the file."""
    out, link = tmp_path / "out.jsonl", tmp_path / "link"
    link.symlink_to(folder)
    out.write_text("".join(json.dumps(line) + "\n" for line in straight[:-2]))
    for spelling in (folder / ".." / folder.name, link):
        arguments = ["--resume", "--retry-failed"]
        assert xclip(*command(spelling, out, *arguments)).returncode == 3
        assert [line["video"] for line in lines(out)[1:]].count(str(folder / "07.mp4")) == 1
    names = [line["video"] for line in lines(out)[1:]]
    assert len(names) == len({Path(name).name for name in names}) == 30


def test_failures_are_tried_again_on_demand(
    xclip: Run, folder: Path, straight: list[dict[str, Any]], tmp_path: Path
) -> None:
    copies = shutil.copytree(folder, tmp_path / "copies")
    out = tmp_path / "out.jsonl"
    moved = [{**line, "video": str(copies / Path(line["video"]).name)} for line in straight[1:]]
    out.write_text("".join(json.dumps(line) + "\n" for line in [straight[0], *moved]))
    shutil.copy(folder / "00.mp4", copies / "07.mp4")
    assert xclip(*command(copies, out, "--resume", "--retry-failed")).returncode == 3
    header, *records = lines(out)
    assert header == straight[0]
    names = [Path(record["video"]).name for record in records]
    assert names == [f"{i:02}.mp4" for i in range(30) if i not in (7, 20)] + ["07.mp4", "20.mp4"]
    kept = [line for line in moved if line["status"] == "ok"]
    assert records[:-2] == kept
    assert_all_same(records[-2:], [{**moved[0], "video": str(copies / "07.mp4")}, moved[20]])


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (
            ["--label", "another", "--start", "0.1"],
            ["labels was 3, now 4", "start was None, now '1"],
        ),
        (
            ["--template", "this is {}", "--dtype", "bfloat16", "--views", "2x1", "--top-k", "2"],
            [
                "the labels or their texts differ",
                "dtype was 'float32', now 'bfloat16'",
                "views was '1x1', now '2x1'",
                "top_k was 5, now 2",
            ],
        ),
    ],
)
def test_another_way_of_making_it_is_named(
    xclip: Run, folder: Path, straight: list[dict[str, Any]], tmp_path: Path, arguments: list[str], named: list[str]
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("".join(json.dumps(line) + "\n" for line in straight[:5]))
    before = out.read_bytes()
    done = xclip(*command(folder, out, "--resume", *arguments))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: cannot resume {out}: it was written with different settings: ")
    assert all(name in done.stderr for name in named)
    assert len(done.stderr.splitlines()) == 1
    assert out.read_bytes() == before


def test_a_model_that_cannot_be_had_leaves_no_file(xclip: Run, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert xclip("classify", clip, "--label", "x", "--model", "./no", "-o", out).returncode == 4
    assert not out.exists()


def test_a_device_is_written_as_it_is(xclip: Run, checkpoint: Path, clip: Path) -> None:
    arguments = ["classify", clip, "--label", "x", "--label", "y", "--model", checkpoint, "--format", "jsonl"]
    done = xclip(*arguments, "-o", "/dev/null")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    done = xclip(*arguments, "-o", "/dev/stdout")
    header, record = map(json.loads, done.stdout.splitlines())
    assert (header["kind"], record["video"]) == ("run", str(clip))


def wait_for(out: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until a file has so many lines, or the process that writes it has ended."""
    while process.poll() is None and not (out.exists() and out.read_bytes().count(b"\n") >= count):
        time.sleep(0.005)


def test_a_file_in_use_is_refused(xclip: Run, folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    first = subprocess.Popen([PROGRAM, *command(folder, out)], text=True)
    wait_for(out, 0, first)
    first.send_signal(signal.SIGSTOP)
    try:
        for more in (["--resume"], ["--force"]):
            done = xclip(*command(folder, out, *more))
            assert done.returncode == 1
            assert "is being written by another run" in done.stderr
    finally:
        first.send_signal(signal.SIGCONT)
    assert first.wait(timeout=60) == 3
    assert len(lines(out)) == 31


@pytest.mark.slow
def test_killed_at_any_moment_nothing_is_lost_or_doubled(
    folder: Path, straight: list[dict[str, Any]], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    chance = random.Random(7)
    seen = 0
    for _ in range(8):
        process = subprocess.Popen([PROGRAM, *command(folder, out, "--resume")], text=True)
        wait_for(out, seen + chance.choice([0, 1, 2, 4]), process)
        time.sleep(chance.random() * 0.02)
        process.kill()
        process.wait()
        seen = out.read_bytes().count(b"\n") if out.exists() else 0
    assert subprocess.run([PROGRAM, *command(folder, out, "--resume")], check=False).returncode == 3
    assert_all_same(lines(out), straight)


def test_ctrl_c_twice_ends_at_once(folder: Path, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for i in range(400):
        os.link(folder / "00.mp4", many / f"{i:03}.mp4")
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen([PROGRAM, *command(many, out)], stderr=subprocess.PIPE, text=True)
    wait_for(out, 3, process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (130, "")
    header, *records = lines(out)
    assert header["kind"] == "run"
    assert [Path(record["video"]).name for record in records] == [f"{i:03}.mp4" for i in range(len(records))]
    assert 2 <= len(records) < 400
