from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from xclip_cli.errors import ResultsError, VideoError
from xclip_cli.results.merging import Merge
from xclip_cli.results.records import (
    Error,
    Failure,
    Frames,
    Moment,
    Prediction,
    RankedLabel,
    Record,
    RunHeader,
    SegmentsRecord,
    WindowRecord,
)
from xclip_cli.segments import Segment

RUN = RunHeader("0", "m", None, "sha256:0", 2, "0", 8, "1x1", "hf", dtype="float32", top_k=5)


def good(video: str, score: float = 0.75) -> Prediction:
    return Prediction(video, "m", None, 0.0, 10.0, Frames(8, 8, 0, 0, (0.5,)), (RankedLabel("a cat", score, 20.5),))


def bad(video: str, code: str = "missing") -> Failure:
    return Failure.of(video, VideoError("no such file", code))


def windows(video: str, count: int = 2, score: float = 0.75) -> list[Record]:
    return [WindowRecord(replace(good(video, score), start_seconds=float(i))) for i in range(count)]


def segments(video: str, error: Error | None = None) -> SegmentsRecord:
    return SegmentsRecord(video, (Segment(0, 10, "a cat", 0.75),), 2, error=error)


def write(path: Path, *records: Any, end: str = "\n") -> Path:
    lines = [record if isinstance(record, str) else json.dumps(record.to_json()) for record in records]
    path.write_text("\n".join(lines) + end, "utf-8")
    return path


@pytest.fixture
def merged(tmp_path: Path) -> Any:
    def merge(*files: list[Any]) -> tuple[Merge, list[Record]]:
        found = Merge([write(tmp_path / f"{number}.jsonl", *records) for number, records in enumerate(files)])
        return found, list(found.records(found.videos))

    return merge


def test_files_are_joined_in_their_order(merged: Any) -> None:
    found, records = merged([RUN, good("b"), bad("a")], [RUN], [RUN, good("c")])
    assert records == [good("b"), bad("a"), good("c")]
    assert (found.header, found.failed, found.superseded, found.notices) == (RUN, 1, 0, [])


def test_date_and_command_are_kept_of_one_run_and_not_of_several(merged: Any) -> None:
    first = replace(RUN, began="1", command="xclip classify a --shard 1/2", versions="PyTorch 2")
    second = replace(RUN, began="2", command="xclip classify a --shard 2/2", versions="PyTorch 2")
    assert merged([first, good("a")], [first, good("b")])[0].header == first
    assert merged([first, good("a")], [second, good("b")], [first, good("c")])[0].header == RUN


@pytest.mark.parametrize(
    ("results", "counts"),
    [
        ([bad("a"), good("a")], good("a")),
        ([good("a"), bad("a")], good("a")),
        ([good("a", 0.5), good("a", 0.25)], good("a", 0.25)),
        ([bad("a"), bad("a", "damaged")], bad("a", "damaged")),
        ([good("a", 0.5), bad("a"), good("a", 0.25), bad("a")], good("a", 0.25)),
    ],
)
def test_the_last_success_counts_else_the_last_failure(merged: Any, results: list[Record], counts: Record) -> None:
    for files in ([[RUN, result] for result in results], [[RUN, *results]]):
        found, records = merged(*files)
        assert records == [counts]
        assert found.superseded == len(results) - 1


def test_a_timeline_stays_together(merged: Any) -> None:
    early = segments("a", Error("damaged", "no more"))
    first = [RUN, *windows("a", 1, 0.5), early, *windows("b"), segments("b")]
    second = [RUN, *windows("a", 1), *windows("c", 1), *windows("a", 1), segments("a"), segments("c")]
    found, records = merged(first, second)
    assert records == [
        *[*windows("a", 1), *windows("a", 1), segments("a")],
        *[*windows("b"), segments("b")],
        *[*windows("c", 1), segments("c")],
    ]
    assert found.superseded == 1


def test_what_is_unfinished_is_left_out_unless_another_file_has_it(merged: Any) -> None:
    found, records = merged([RUN, *windows("a"), *windows("b")], [RUN, *windows("a"), segments("a")])
    assert records == [*windows("a"), segments("a")]
    assert found.unfinished == ["b"]


def test_a_file_that_is_two(merged: Any) -> None:
    found, records = merged([RUN, *windows("a"), RUN, *windows("a"), segments("a"), RUN, *windows("b")])
    assert records == [*windows("a"), segments("a")]
    assert found.unfinished == ["b"]


def test_a_last_line_that_was_cut_off(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", RUN, good("a"), json.dumps(good("b").to_json())[:40], end="")
    found = Merge([path])
    assert found.videos == ["a"]
    assert found.notices == [f"{path}: the last line, 3, was cut off and was left out"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (
            [replace(RUN, top_k=0, model="n")],
            "0.jsonl and {1} were made with different settings: model is 'm' and 'n', top_k is 5 and 0",
        ),
        ([replace(RUN, window="1")], "0.jsonl is of whole videos and {1} of windows: merge results of one kind"),
        ([replace(RUN, labels_sha256="1")], "made with different settings: the labels or their texts differ"),
        ([replace(RUN, labels=3, labels_sha256="1")], "made with different settings: labels is 2 and 3"),
        ([good("a")], "{1} does not begin with the header of a run"),
        ([], "{1} is empty"),
        ([RUN, Moment("a dog", 1, "a", 0.0, 1.0, 0.5)], "{1} contains moments of a search"),
        (
            [RUN, '{"schema": 1, "video": "a"}'],
            "{1}, line 2: not an xclip record: the record has no status",
        ),
        ([RUN, '{"schema": 2}'], "{1}, line 2: not an xclip record"),
        ([RUN, "nonsense"], "{1}, line 2: not JSON"),
        ([RUN, "[" * 100_000], "{1}, line 2: not JSON"),
    ],
)
def test_what_does_not_go_together(merged: Any, tmp_path: Path, second: list[Any], message: str) -> None:
    with pytest.raises(ResultsError) as raised:
        merged([RUN, good("a")], second)
    assert message.format(0, str(tmp_path / "1.jsonl")) in str(raised.value)
    assert "\n" not in str(raised.value)


def test_kinds_of_later_versions_are_left_out_with_a_notice(merged: Any) -> None:
    found, records = merged([RUN, good("a"), '{"schema": 1, "kind": "dream"}', good("b")])
    assert records == [good("a"), good("b")]
    assert "1 records are of a kind" in found.notices[0]


def test_pipes_are_refused(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.jsonl")
    with pytest.raises(ResultsError, match="it is not a regular file"):
        Merge([tmp_path / "pipe.jsonl"])


def test_more_files_than_may_be_open(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{i}.jsonl", RUN, good(f"a{i}"), good(f"b{i}")) for i in range(100)]
    found = Merge(paths)
    order = sorted(found.videos)
    assert [record.video for record in found.records(order)] == order


def test_a_file_that_changes_meanwhile(tmp_path: Path) -> None:
    found = Merge([write(tmp_path / "a.jsonl", RUN, good("a"))])
    write(tmp_path / "a.jsonl", RUN, good("b"))
    with pytest.raises(ResultsError, match="changed while it was read"):
        list(found.records(found.videos))
