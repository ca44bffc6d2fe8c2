from __future__ import annotations

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from xclip_cli.errors import ResultsError, VideoError
from xclip_cli.results.reading import Results, read_results
from xclip_cli.results.records import (
    Error,
    Failure,
    Frames,
    Prediction,
    RankedLabel,
    RunHeader,
    SegmentsRecord,
    WindowRecord,
)
from xclip_cli.segments import Segment

FRAMES = Frames(8, 8, 0, 0, (0.5, 1.5))
PREDICTION = Prediction("a.mp4", "m", None, 0.0, 10.0, FRAMES, (RankedLabel("a cat", 0.75, 20.5),), ("careful",))
RUN = RunHeader("0", "m", None, "sha256:0", 2, "0", 8, "1x1", "hf", None, None, None, "float32", 5)
ALL_WINDOWS = SegmentsRecord("c.mp4", (Segment(0, 10, "a cat", 0.75),), 1)
GOOD = PREDICTION.to_json()
BAD = Failure.of("b.mp4", VideoError("no such file", "missing")).to_json()
HEADER = RUN.to_json()
WINDOW = WindowRecord(PREDICTION).to_json() | {"video": "c.mp4"}
SEGMENTS = ALL_WINDOWS.to_json()


def write(path: Path, *records: Any, end: str = "\n") -> Path:
    path.write_text("\n".join(json.dumps(record) for record in records) + end, "utf-8")
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "r.jsonl", HEADER, GOOD, BAD, WINDOW, SEGMENTS))
    good, bad, timeline = results.videos
    assert results.header == RUN
    assert good.record == good.prediction == PREDICTION
    assert (good.error, bad.error) == (None, Error("missing", "no such file", "VideoError"))
    assert (timeline.video, timeline.record, len(timeline.windows)) == ("c.mp4", None, 1)
    assert timeline.segments == ALL_WINDOWS
    assert results.notices == []


def test_what_may_be_missing_may_be_null(tmp_path: Path) -> None:
    results = read_results(
        write(tmp_path / "r.jsonl", {**HEADER, "dtype": None}, {**GOOD, "seconds": None, "error": 1})
    )
    assert results.videos[0].error is None


def test_json_that_is_not_lines_gets_a_hint(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(json.dumps([GOOD], indent=2))
    with pytest.raises(ResultsError, match="line 1: not JSON: .* [(]expected JSON Lines, as -o FILE.jsonl writes"):
        read_results(path)


def test_a_header_is_not_needed() -> None:
    assert Results.of([PREDICTION]).header is None


def test_a_second_record_of_a_video_replaces_the_first(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "r.jsonl", BAD, GOOD, {**GOOD, "video": "b.mp4"}))
    assert [(video.video, video.error) for video in results.videos] == [("b.mp4", None), ("a.mp4", None)]
    assert results.notices == ["1 records were replaced by later ones for the same video"]


def test_a_timeline_replaces_a_failure_and_the_other_way_round(tmp_path: Path) -> None:
    failed = {**BAD, "video": "c.mp4"}
    (video,) = read_results(write(tmp_path / "r.jsonl", failed, WINDOW, SEGMENTS)).videos
    assert (video.error, len(video.windows), video.segments is None) == (None, 1, False)
    (video,) = read_results(write(tmp_path / "r.jsonl", WINDOW, failed)).videos
    assert video.error is not None


def test_what_a_timeline_that_failed_left_is_read(tmp_path: Path) -> None:
    lost = {**BAD, "kind": "window", "video": "c.mp4", "start_seconds": 10.0, "end_seconds": 20.0}
    (video,) = read_results(write(tmp_path / "r.jsonl", WINDOW, lost, SEGMENTS)).videos
    assert (video.error, len(video.windows), video.looked_at) == (None, 2, True)
    broken_off = {**SEGMENTS, **BAD, "video": "c.mp4"}
    (video,) = read_results(write(tmp_path / "r.jsonl", WINDOW, lost, broken_off)).videos
    assert (video.error, len(video.windows), video.looked_at) == (Error(**BAD["error"]), 2, True)
    assert video.segments is not None
    (video,) = read_results(write(tmp_path / "r.jsonl", BAD)).videos
    assert not video.looked_at


def test_stretches_are_exact() -> None:
    prediction = replace(PREDICTION, start_seconds=1 / 3, end_seconds=1001 / 30000 * 299)
    assert Results().stretch(prediction) == (Fraction(1, 3), Fraction(1001 * 299, 30000))
    assert Results(RunHeader(start=None, end=None)).stretch(prediction) == (None, None)
    assert Results(RunHeader(start="1/7", end="12.5")).stretch(prediction) == (Fraction(1, 7), Fraction(25, 2))


def test_fields_and_kinds_of_later_versions_are_no_fault(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "r.jsonl", {**GOOD, "new": [1]}, {"schema": 1, "kind": "new"}))
    assert len(results.videos) == 1
    assert "1 records are of a kind that this version does not know" in results.notices[0]


@pytest.mark.parametrize("torn", ['{"schema": 1, "video": "b', '{"schema": 1, "video": "\xe9'])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: str) -> None:
    path = write(tmp_path / "r.jsonl", HEADER, GOOD)
    with path.open("ab") as file:
        file.write(torn.encode("latin-1"))
    results = read_results(path)
    assert [video.video for video in results.videos] == ["a.mp4"]
    assert results.notices == ["the last line, 3, was cut off and was left out"]


def test_a_whole_last_line_needs_no_newline(tmp_path: Path) -> None:
    results = read_results(write(tmp_path / "r.jsonl", GOOD, BAD, end=""))
    assert (len(results.videos), results.notices) == (2, [])


def changed(record: dict[str, Any], **fields: Any) -> str:
    return json.dumps({**record, **fields})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "the record is not an object"),
        ("{}", "the record has no schema"),
        (changed(GOOD, schema=2), "schema 2 is newer than this version of xclip reads"),
        (changed(GOOD, schema=True), "schema is not a number"),
        (changed(GOOD, video=1), "video is not a string"),
        (changed(GOOD, status="fine"), "status is neither 'ok'"),
        (changed(GOOD, end_seconds=float("inf")), "end_seconds is not a number"),
        (changed(GOOD, end_seconds=float("nan")), "end_seconds is not a number"),
        (changed(GOOD, end_seconds=10**400), "end_seconds is not a number"),
        (changed(GOOD, predictions={}), "predictions is not a list"),
        (changed(GOOD, predictions=[{"label": "a", "score": "1"}]), "score is not a number"),
        (changed(GOOD, predictions=[{"label": "a", "score": 1}]), "an entry of predictions has no logit"),
        (changed(GOOD, warnings=[1]), "an entry of warnings is not a string"),
        (changed(GOOD, seconds={"decode": 1}), "seconds has no model"),
        (changed(BAD, error="no"), "error is not an object"),
        (changed(WINDOW, frames=None), "frames is not an object"),
        (changed(SEGMENTS, warnings=1), "warnings is not a list"),
        (changed(BAD, kind="window"), "the record has no start_seconds"),
        (changed(BAD, kind="segments"), "the record has no segments"),
        (changed(BAD, kind="segments", segments=[]), "the record has no num_windows"),
        (changed(HEADER, views=[]), "views is not a string"),
        (changed(HEADER, start="1/0"), "start or end is not a time"),
        (changed(HEADER, end=[]), "start or end is not a time"),
        (changed(SEGMENTS, segments=[[]]), "an entry of segments is not an object"),
    ],
)
def test_malformed_lines_are_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "r.jsonl", HEADER, GOOD)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(ResultsError) as caught:
        read_results(path)
    assert str(caught.value).startswith(f"{path}, line 3: not ")
    assert message in str(caught.value)


@pytest.mark.parametrize("records", [(), (HEADER,)])
def test_files_without_results(tmp_path: Path, records: tuple[Any, ...]) -> None:
    with pytest.raises(ResultsError, match="contains no results: pass a JSON Lines file"):
        read_results(write(tmp_path / "r.jsonl", *records))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot read the results .*: No such file or directory"):
        read_results(tmp_path / "no.jsonl")
    with pytest.raises(ResultsError, match="cannot read the results .*: Is a directory"):
        read_results(tmp_path)
