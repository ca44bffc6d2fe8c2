from __future__ import annotations

import csv
import io
import json
import os
import re
import stat
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from xclip_cli.errors import ResultsError, VideoError
from xclip_cli.output.notes import (
    FORMATS,
    Notes,
    Step,
    bar,
    check_output,
    csv_text,
    format_fields,
    format_of,
    format_record,
    write,
    write_csv,
    write_table,
)
from xclip_cli.results.records import Failure, Frames, Prediction, RankedLabel, RunHeader
from xclip_cli.results.run_file import RunFile

FRAMES = Frames(8, 8, 0, 0, (0.5, 1.5))
GOOD = Prediction(
    "a.mp4",
    "m",
    None,
    0.0,
    10.0,
    FRAMES,
    (RankedLabel("a cat", 0.75, 20.5), RankedLabel("a, dog", 0.25, 19.4)),
    ("careful",),
)
BAD = Failure.of("b\udce9.mp4", VideoError("no such file", "missing"))
HEADER = RunHeader("0", "m", None, "sha256:0", 2, "0", 8, "1x1", "hf", None, None, None, "float32", 5)


def test_json_is_an_array_of_records(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write(FORMATS["json"], iter([GOOD, BAD]), path, HEADER)
    good, bad = json.loads(path.read_text("utf-8"))
    assert good == {
        "schema": 1,
        "video": "a.mp4",
        "status": "ok",
        "model": "m",
        "revision": None,
        "start_seconds": 0.0,
        "end_seconds": 10.0,
        "frames": {"requested": 8, "decoded": 8, "repeated": 0, "errors": 0, "times_seconds": [0.5, 1.5]},
        "predictions": [
            {"label": "a cat", "score": 0.75, "logit": 20.5},
            {"label": "a, dog", "score": 0.25, "logit": 19.4},
        ],
        "warnings": ["careful"],
    }
    assert bad == {
        "schema": 1,
        "video": "b\udce9.mp4",
        "status": "error",
        "error": {"type": "VideoError", "code": "missing", "message": "no such file"},
        "warnings": [],
    }


def test_jsonl_grows_record_by_record_behind_its_header(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    with RunFile(path) as run_file:
        run_file.begin(HEADER)
        for number, record in enumerate((GOOD, BAD), start=2):
            run_file.add(record)
            assert len(path.read_text("utf-8").splitlines()) == number
    header, *lines = map(json.loads, path.read_text("utf-8").splitlines())
    assert header["kind"] == "run"
    assert "video" not in header
    assert lines == [
        GOOD.to_json()
        | {"predictions": lines[0]["predictions"], "warnings": ["careful"], "frames": lines[0]["frames"]},
        BAD.to_json(),
    ]


def test_csv_has_a_row_a_label() -> None:
    out = io.StringIO(newline="")
    write_csv([GOOD, BAD], out, None)
    rows = list(csv.DictReader(io.StringIO(out.getvalue(), newline="")))
    assert [(row["video"], row["rank"], row["label"], row["error"]) for row in rows] == [
        ("a.mp4", "1", "a cat", ""),
        ("a.mp4", "2", "a, dog", ""),
        ("b\udce9.mp4", "", "", "no such file"),
    ]
    assert out.getvalue().splitlines()[0] == "video,status,start_seconds,end_seconds,rank,label,score,logit,error"


HOSTILE = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\n=1"]


@pytest.mark.parametrize("text", HOSTILE)
def test_csv_texts_are_no_formulas(text: str) -> None:
    """But numbers stay numbers, negative logits above all."""
    good = Prediction(text, "m", None, -1.5, 10.0, FRAMES, (RankedLabel(text, 0.75, -20.5),))
    bad = Failure(text, "missing", text)
    out = io.StringIO(newline="")
    write_csv([good, bad], out, None)
    first, second = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert (first["video"], first["label"]) == (f"'{text}", f"'{text}")
    assert (first["start_seconds"], first["score"], first["logit"]) == ("-1.5", "0.75", "-20.5")
    assert (second["video"], second["error"]) == (f"'{text}", f"'{text}")


@pytest.mark.parametrize("text", ["a = b", "a-b", "1-2", "'quoted'", "", " =1", "日本", "two\nlines"])
def test_other_csv_texts_are_as_they_are(text: str) -> None:
    out = io.StringIO(newline="")
    write_csv([Failure(text, "missing", csv_text(text))], out, None)
    (row,) = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert (row["video"], row["error"]) == (text, text)


def test_a_carriage_return_ends_no_row_of_csv() -> None:
    out = io.StringIO(newline="")
    write_csv([Failure("\r=1\r", "missing", "no")], out, None)
    (row,) = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert row["video"] == r"\r=1\r"


def test_csv_on_a_terminal_cannot_steer_it() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    record = Prediction("\x1b[2J.mp4", "m", None, 0.0, 10.0, FRAMES, (RankedLabel("a\x9bb", 0.75, 1.0),))
    out, elsewhere = Terminal(newline=""), io.StringIO(newline="")
    write_csv([record], out, None)
    write_csv([record], elsewhere, None)
    assert "\\x1b[2J.mp4" in out.getvalue()
    assert "a\\x9bb" in out.getvalue()
    assert "\x1b[2J.mp4" in elsewhere.getvalue()  # data is as it is


def test_lone_surrogates_survive_into_json_and_csv(tmp_path: Path) -> None:
    """Bytes of file names that are not UTF-8."""
    record = Failure("caf\udce9 \x1b.mp4", "missing", "no such file")
    for name in ("json", "jsonl", "csv"):
        write(FORMATS[name], iter([record]), tmp_path / f"out.{name}", None)
    (line,) = (tmp_path / "out.jsonl").read_text("ascii").splitlines()
    (whole,) = json.loads((tmp_path / "out.json").read_text("ascii"))
    assert json.loads(line)["video"] == whole["video"] == "caf\udce9 \x1b.mp4"
    assert os.fsencode(whole["video"]) == b"caf\xe9 \x1b.mp4"
    assert r"caf\udce9" in (tmp_path / "out.csv").read_text("utf-8")


def test_fields_of_strangers_cannot_steer_a_terminal() -> None:
    assert not set("\x1b\x9b\x07") & set(format_fields({"a\x1b": {"b\n": ["\x1b[2J"], "c\x9b": "\x07"}}))


def shown(record: Prediction | Failure, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(format_record(record))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_shows_ranks_bars_and_warnings() -> None:
    text = shown(GOOD)
    assert text.splitlines()[0].strip() == "a.mp4"
    assert "1  a cat " in text
    assert "0.750" in text
    assert "█" * 18 in text
    assert "warning: careful" in text
    assert "failed: no such file" in shown(BAD)
    assert "b\\udce9.mp4" in shown(BAD)


def progress(records: list[Any], width: int = 80, quiet: bool = False, terminal: bool = True, **how: Any) -> str:
    notes, out = Notes(quiet), io.StringIO()
    notes._console = Console(file=out, force_terminal=terminal, width=width, color_system=None)
    assert list(notes.progress(iter(records), how.pop("total", 1), **how)) == records
    return out.getvalue()


def test_progress_within_a_long_video(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    steps = [Step(0.25, 2700.0), Step(0.5, 5400.0)]
    text = progress(steps, step=lambda step: step)
    assert re.search(r"classifying ━+╸ +0/1 at 1:30:00 \d\.\d windows/s \d:\d\d:\d\d", text)
    assert progress(steps, step=lambda step: step, terminal=False) == ""
    assert progress(steps, step=lambda step: step, quiet=True) == ""
    assert "3/9" in progress([GOOD] * 3, total=9)
    assert re.search(r"\d\.\d s/video", progress([GOOD] * 3, total=9))  # this clock goes fast
    assert progress([GOOD]) == ""


def test_the_progress_of_a_narrow_terminal_keeps_within_it() -> None:
    for width in (40, 80):
        text = progress([Step(0.5, 5400.0)] * 3, width, total=10_000, step=lambda step: step)
        lines = re.split(r"[\r\n]", re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text))
        assert max(map(len, lines)) <= width


def test_hostile_text_stays_text() -> None:
    label = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] \u202egnp"
    hostile = Prediction("\x1b[2J.mp4", "m", None, 0, 1, FRAMES, (RankedLabel(label, 1.0, 1.0),))
    text = shown(hostile, 200)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[bold]x[/bold]" in text


def test_the_table_fits_where_blocks_cannot_be_shown() -> None:
    class Ascii(io.StringIO):
        encoding = "ascii"

    out = Ascii()
    write_table([GOOD], out, None)
    assert out.getvalue().isascii()
    assert "#" * 18 in out.getvalue()


@pytest.mark.parametrize(("share", "drawn"), [(0, ""), (1, "████"), (0.5, "██"), (1 / 32, "▏"), (0.99999, "████")])
def test_bars(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.json", "json"), ("a.JSONL", "jsonl"), ("a.ndjson", "jsonl"), ("a.csv", "csv"), ("a", None)],
)
def test_formats_by_suffix(name: str, expected: str | None) -> None:
    assert format_of(Path(name)) == expected


def test_outputs_that_would_destroy_something_are_refused(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text("{}")
    with pytest.raises(ResultsError, match="exists: pass --force to replace it"):
        check_output(there, False, [])
    check_output(there, True, [])
    with pytest.raises(ResultsError, match="is one of the inputs"):
        check_output(there, True, [str(there)])
    with pytest.raises(ResultsError, match="is a folder"):
        check_output(tmp_path, True, [])
    with pytest.raises(ResultsError, match="of the output does not exist"):
        check_output(tmp_path / "no" / "out.json", True, [])


def test_a_run_that_breaks_leaves_earlier_results_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("earlier")

    def breaking():
        yield GOOD
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        write(FORMATS["json"], breaking(), path, None)
    assert path.read_text() == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]


def test_devices_and_pipes_are_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_output(pipe, False, [])
    write(FORMATS["csv"], iter([GOOD]), pipe, None)
    assert os.read(reader, 100_000).startswith(b"video,status,")
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"

    def records():
        path.write_text("another run's")
        yield GOOD

    with pytest.raises(ResultsError, match="was made by another program meanwhile: these results are in"):
        write(FORMATS["csv"], records(), path, None)
    assert path.read_text() == "another run's"
    assert len(list(tmp_path.glob("out.*.csv"))) == 1


def test_a_long_name_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".csv")
    write(FORMATS["csv"], iter([GOOD]), path, None)
    assert path.read_text().startswith("video,")


def test_narrow_tables_keep_their_labels() -> None:
    console = Console(file=io.StringIO(), width=40)
    console.print(format_record(GOOD, width=40))
    assert "a cat" in console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, console.file.getvalue().splitlines())) <= 40  # type: ignore[attr-defined]


def test_the_bars_of_videos_align() -> None:
    out = io.StringIO()
    short = replace(GOOD, predictions=(RankedLabel("x", 0.9, 20.0),))
    write_table([GOOD, short], out, None)
    assert len({line.index("#") for line in out.getvalue().splitlines() if "#" in line}) == 1


@pytest.mark.parametrize("name", ["out.json", "out.csv", "out.txt"])
def test_one_run_at_a_time_writes_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    form = format_of(path)
    assert form

    def records():
        yield GOOD
        with pytest.raises(ResultsError, match=f"{name} is being written by another run"):
            write(FORMATS[form], [BAD], path, None, force=True)

    write(FORMATS[form], records(), path, None)
    assert path.read_text("utf-8")
    assert os.listdir(tmp_path) == [name]
    write(FORMATS[form], [BAD], path, None, force=True)
    assert "no such file" in path.read_text("utf-8")


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write(write_csv, [GOOD], path, None)
    whole = path.read_bytes()

    def records():
        (part,) = (entry for entry in tmp_path.iterdir() if entry.name != "out.csv")
        left.append(part)
        yield GOOD

    left: list[Path] = []
    write(write_csv, records(), path, None, force=True)
    left[0].write_bytes(b"x" * 10_000)
    write(write_csv, [GOOD], path, None, force=True)
    assert path.read_bytes() == whole


def test_a_link_in_the_way_of_the_new_file_is_not_followed(tmp_path: Path) -> None:
    """Where others may write, too, they may have put a link to a file of ours."""
    path, precious = tmp_path / "out.csv", tmp_path / "precious"
    precious.write_text("precious")

    def records():
        (part,) = (entry for entry in tmp_path.iterdir() if entry.name not in ("out.csv", "precious"))
        parts.append(part)
        yield GOOD

    parts: list[Path] = []
    write(write_csv, records(), path, None)
    parts[0].symlink_to(precious)
    with pytest.raises(ResultsError, match=r"cannot write \S*out.csv: "):
        write(write_csv, [BAD], path, None, force=True)
    assert precious.read_text() == "precious"
    assert "a cat" in path.read_text("utf-8")


def test_a_failure_half_way_leaves_earlier_results(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("earlier")

    def records():
        yield GOOD
        raise OSError(28, "No space left on device")

    with pytest.raises(ResultsError, match="cannot write .*out.csv: No space left on device"):
        write(write_csv, records(), path, None, force=True)
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["out.csv"]
