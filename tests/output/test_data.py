from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from samples import BAD, FRAMES, GOOD, HEADER, answer, made

from xclip_cli.output.data import csv_text, write_csv
from xclip_cli.output.files import write
from xclip_cli.output.tables import FORMATS
from xclip_cli.results.records import Error, Failure, Prediction, RankedLabel, SegmentsRecord
from xclip_cli.results.run_file import RunFile
from xclip_cli.segments import Segment


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
        (r"b\udce9.mp4", "", "", "no such file"),
    ]
    assert out.getvalue().splitlines()[0] == "video,status,start_seconds,end_seconds,rank,label,score,logit,error"


HOSTILE = {  # text: how it is written
    **{text: f"'{text}" for text in ("=1+1", "+1", "-1", "@SUM(A1)", "＝1+1", "＋1", "－1", "＠SUM(A1)")},  # noqa: RUF001
    # what another separator than the comma, or the end of a line, makes the start of a cell
    "\t=1": "'\t'=1",
    "\n=1": "'\n'=1",
    "x;=1+1;y": "x;'=1+1;y",
    "x\t+1": "x\t'+1",
    "x\n＝1|-2": "x\n'＝1|'-2",  # noqa: RUF001
}


@pytest.mark.parametrize(("text", "shown"), HOSTILE.items())
def test_csv_texts_are_no_formulas(text: str, shown: str) -> None:
    """But numbers stay numbers, negative logits above all."""
    good = Prediction(text, "m", None, -1.5, 10.0, FRAMES, (RankedLabel(text, 0.75, -20.5),))
    bad = Failure(text, "missing", text)
    out = io.StringIO(newline="")
    write_csv([good, bad], out, None)
    first, second = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert (first["video"], first["label"]) == (shown, shown)
    assert (first["start_seconds"], first["score"], first["logit"]) == ("-1.5", "0.75", "-20.5")
    assert (second["video"], second["error"]) == (shown, shown)


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


def test_csv_has_a_row_a_segment() -> None:
    assert SegmentsRecord("a.mp4", (Segment(0, 2, "a", 0.5),), 1).rows() == [
        {"video": "a.mp4", "status": "ok", "rank": 1, "start_seconds": 0, "end_seconds": 2, "label": "a", "score": 0.5}
    ]


def test_csv_rows_are_of_videos_not_of_their_windows() -> None:
    broken = SegmentsRecord("a.mp4", (Segment(0, 2, "a", 0.5),), 1, error=Error("crashed", "the decoder crashed"))
    empty = SegmentsRecord("b.mp4", (), 1)
    out = io.StringIO(newline="")
    write_csv([*made(answer(0, "a"))[:1], broken, empty], out, None)
    rows = csv.DictReader(io.StringIO(out.getvalue(), newline=""))
    assert [(row["video"], row["status"], row["label"], row["error"]) for row in rows] == [
        ("a.mp4", "ok", "a", ""),
        ("a.mp4", "error", "", "the decoder crashed"),
        ("b.mp4", "ok", "", ""),
    ]
