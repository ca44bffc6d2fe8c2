"""Parquet, read back by pyarrow."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import Run, on_terminal
from records import assert_same
from typer.testing import CliRunner

from xclip_cli.cli.app import app
from xclip_cli.errors import VideoError
from xclip_cli.output import parquet
from xclip_cli.results.records import (
    Error,
    Failure,
    Frames,
    Prediction,
    RankedLabel,
    Record,
    RunHeader,
    Seconds,
    SegmentsRecord,
    WindowRecord,
)
from xclip_cli.segments import Segment

RANKED = (RankedLabel("a cat", 0.75, 20.5), RankedLabel("Ünï", 0.25, 10.1234567890123))
PREDICTION = Prediction(
    "a.mp4", "m", "abc", 0.0, 10.0, Frames(8, 7, 1, 2, (0.5, 1.5), "25"), RANKED, ("careful",), 3, Seconds(0.5, 0.25)
)
BARE = Prediction("b.mp4", "m", None, 0.0, 10.0, Frames(8, 8, 0, 0, ()), ())
LOST = Failure("c.mp4", "damaged", "lost", start_seconds=1.0, end_seconds=2.0)
SEGMENTS = SegmentsRecord("c.mp4", (Segment(0, 10, "a cat", 0.75),), 1, 2.0, 1.0, 0.5, 0.0, (), Error("x", "y"), "25")
RECORDS: list[Record] = [
    PREDICTION,
    BARE,
    Failure.of("d.mp4", VideoError("broken", "damaged")),
    WindowRecord(PREDICTION),
    WindowRecord(LOST),
    SEGMENTS,
    SegmentsRecord("e.mp4", (), 0),
]
RUN = RunHeader("0", "m", labels=2, threshold=0.5)


def written(records: Any, header: RunHeader | None = None) -> pq.ParquetFile:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    parquet.write_parquet(records, out, header)
    return pq.ParquetFile(out.detach())


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_nulls(each) for key, each in value.items() if each is not None}
    return [without_nulls(each) for each in value] if isinstance(value, list | tuple) else value


def test_rows_are_the_records() -> None:
    rows = written(RECORDS).read().to_pylist()
    assert [without_nulls(row) for row in rows] == [without_nulls(record.to_json()) for record in RECORDS]


def test_every_field_of_every_kind_has_a_column() -> None:
    columns = parquet.schema().names
    assert {key for record in RECORDS for key in record.to_json()} == set(columns)


def test_columns_are_typed_whatever_the_records() -> None:
    for records in ([], RECORDS):
        file = written(records)
        assert file.schema_arrow == parquet.schema()
        assert str(file.schema_arrow.field("predictions").type) == (
            "list<element: struct<label: string, score: double, logit: double>>"
        )


def test_the_header_is_metadata() -> None:
    assert json.loads(written([], RUN).schema_arrow.metadata[b"xclip"]) == RUN.to_json()
    assert b"xclip" not in (written([]).schema_arrow.metadata or {})


def test_names_that_have_no_encoding_are_escaped() -> None:
    row = written([replace(BARE, video="caf\udce9.mp4")]).read(["video"]).to_pylist()[0]
    assert row == {"video": "caf\\udce9.mp4"}


def test_row_groups_are_written_as_records_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "GROUP_BYTES", 100_000)
    raw, sizes = io.BytesIO(), []

    def records() -> Iterator[Record]:
        for number in range(5000):
            sizes.append(raw.tell())
            yield replace(PREDICTION, video=f"{number}.mp4")

    out = io.TextIOWrapper(raw, "utf-8")
    parquet.write_parquet(records(), out, None)
    file = pq.ParquetFile(out.detach())
    assert file.num_row_groups > 5
    assert len(set(sizes)) >= file.num_row_groups
    assert [row["video"] for row in file.read(["video"]).to_pylist()] == [f"{i}.mp4" for i in range(5000)]


def test_the_commands_write_it(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    given = (clip, "missing.mp4", "-m", checkpoint, "--label", "a", "--label", "b", "--dtype", "float32")
    assert xclip("timeline", *given, "--window", "0.5", "-o", "r.jsonl").returncode == 3
    assert xclip("timeline", *given, "--window", "0.5", "-o", "r.parquet").returncode == 3
    assert xclip("merge", "r.jsonl", "-o", "merged.parquet").returncode == 0
    header, *lines = map(json.loads, (tmp_path / "cwd/r.jsonl").read_text().splitlines())
    for name in ("r.parquet", "merged.parquet"):
        file = pq.ParquetFile(tmp_path / "cwd" / name)
        assert_same(json.loads(file.schema_arrow.metadata[b"xclip"]), header)
        rows = file.read().to_pylist()
        assert [row["predictions"] is None for row in rows] == ["predictions" not in line for line in lines]
        if name == "merged.parquet":
            assert [without_nulls(row) for row in rows] == [without_nulls(line) for line in lines]


def test_without_pyarrow_one_line_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(parquet, "find_spec", lambda name: None)
    monkeypatch.chdir(tmp_path)
    Path("r.jsonl").touch()
    for command in (["classify", "a.mp4", "--label", "a"], ["timeline", "a.mp4", "--label", "a"], ["merge", "r.jsonl"]):
        done = CliRunner(env={"COLUMNS": "200"}).invoke(app, [*command, "-o", "r.parquet"])
        assert done.exit_code == 2
        assert "Parquet needs pyarrow: pip install 'xclip-cli[parquet]'" in done.stderr
    assert not Path("r.parquet").exists()


def test_not_to_a_terminal(checkpoint: Path) -> None:
    import sys

    program = Path(sys.executable).with_name("xclip")
    command = [program, "classify", "a.mp4", "--label", "a", "-f", "parquet"]
    code, shown, errors = on_terminal(command, {"COLUMNS": "200"})
    assert (code, shown) == (2, "")
    assert "Parquet is a binary format: pass -o FILE.parquet" in errors
