"""Every record is read as it was written, and whatever else is read is a record or a ValueError."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xclip_cli.results.fields import LARGEST
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
    from_json,
)
from xclip_cli.segments import Segment

# Any text, surrogates too: names of files may hold bytes that are no UTF-8. JSON knows no pair of them but as the one
# character that they stand for.
ODD_TEXTS = st.sampled_from(["", "\0", "\n\x1b[2J", "\udce9", "\ud800", "\U00010000", "\u202e"])
TEXTS = ODD_TEXTS | st.text(st.characters(), max_size=8).map(lambda text: json.loads(json.dumps(text)))
NUMBERS = st.floats(-LARGEST, LARGEST) | st.integers(-int(LARGEST), int(LARGEST))
COUNTS = st.integers(0, int(LARGEST))
MOMENTS = st.floats(0, 1e6)


def lists(entries: st.SearchStrategy[Any], most: int = 4) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(entries, max_size=most).map(tuple)


WARNINGS = lists(TEXTS)
ERRORS = st.builds(Error, TEXTS, TEXTS, TEXTS)
PREDICTIONS = st.builds(
    Prediction,
    video=TEXTS,
    model=TEXTS,
    revision=st.none() | TEXTS,
    start_seconds=NUMBERS,
    end_seconds=NUMBERS,
    frames=st.builds(Frames, COUNTS, COUNTS, COUNTS, COUNTS, lists(NUMBERS)),
    predictions=lists(st.builds(RankedLabel, TEXTS, NUMBERS, NUMBERS)),
    warnings=WARNINGS,
    withheld=st.none() | COUNTS,
    seconds=st.none() | st.builds(Seconds, NUMBERS, NUMBERS),
)
FAILURES = st.builds(Failure, TEXTS, TEXTS, TEXTS, TEXTS, WARNINGS, st.none() | MOMENTS, st.none() | MOMENTS)
LOST = st.builds(Failure, TEXTS, TEXTS, TEXTS, TEXTS, WARNINGS, MOMENTS, MOMENTS)
WINDOWS = st.builds(WindowRecord, PREDICTIONS | LOST, st.floats(0, 1))
SEGMENTS = st.builds(
    SegmentsRecord,
    video=TEXTS,
    segments=lists(st.builds(Segment, NUMBERS, NUMBERS, TEXTS, NUMBERS)),
    num_windows=COUNTS,
    window_seconds=st.none() | NUMBERS,
    stride_seconds=st.none() | NUMBERS,
    min_score=st.none() | NUMBERS,
    min_duration=st.none() | NUMBERS,
    warnings=WARNINGS,
    error=st.none() | ERRORS,
)
TIMES = st.fractions(0, int(LARGEST)).map(str) | st.decimals(0, 10**9, places=40).map(lambda time: f"{time:f}")
OF_HEADERS = {"int": COUNTS, "float": NUMBERS, "bool": st.booleans(), "str": TEXTS}
HEADERS = st.builds(
    RunHeader,
    **{
        field.name: st.none()
        | (TIMES if field.name in ("start", "end") else OF_HEADERS[str(field.type).removesuffix(" | None")])
        for field in dataclasses.fields(RunHeader)
    },
)
RECORDS: st.SearchStrategy[Record] = PREDICTIONS | FAILURES | WINDOWS | SEGMENTS
LINES: st.SearchStrategy[Any] = RECORDS | HEADERS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


many = settings(max_examples=400, deadline=None)


def through_json(values: Any) -> Any:
    return json.loads(json.dumps(values))


def error_of(values: Any) -> str | None:
    """Why values are no record, if they are none; the test fails where anything but a ValueError says so."""
    try:
        found = from_json(values)
    except ValueError as error:
        return str(error)
    assert found is None or isinstance(found, Record | RunHeader)
    return None


@many
@given(LINES)
def test_what_was_written_is_read(line: Record | RunHeader) -> None:
    values = through_json(line.to_json())
    read = from_json(values)
    assert type(read) is type(line)
    assert read == line
    assert through_json(read.to_json()) == values
    assert from_json(line.to_json()) == line  # without JSON's text between


@many
@given(PREDICTIONS)
def test_what_a_video_took_is_read(prediction: Prediction) -> None:
    """Two predictions are equal whatever they took, so that is compared by itself."""
    read = from_json(through_json(prediction.to_json()))
    assert isinstance(read, Prediction)
    assert read.seconds == prediction.seconds


@many
@given(RECORDS)
def test_a_record_knows_itself(record: Record) -> None:
    values = record.to_json()
    read = from_json(through_json(values))
    assert isinstance(read, Record)
    for each in (record, read):
        assert each.video == values["video"]
        assert each.completes == (values.get("kind") != "window")
        assert each.error == (Error(**values["error"]) if values["status"] == "error" else None)
        assert list(each.warnings) == list(values["warnings"])
        assert (each.prediction is None) == ("predictions" not in values)
        assert len(each.segments) == len(values.get("segments", ()))
        assert 0 <= each.share <= 1
        assert each.share == 1 or not each.completes


@many
@given(LINES, st.dictionaries(TEXTS.map("new {}".format), JSON, max_size=3))
def test_unknown_fields_are_ignored(line: Record | RunHeader, more: dict[str, Any]) -> None:
    values = through_json(line.to_json())
    assert from_json({**more, **values}) == from_json(values) == line


OPTIONAL: dict[type, dict[str, Any]] = {
    Prediction: {"revision": None, "warnings": (), "withheld": None, "seconds": None},
    Failure: {"warnings": (), "start_seconds": None, "end_seconds": None},
    SegmentsRecord: {
        **dict.fromkeys(("window_seconds", "stride_seconds", "min_score", "min_duration")),
        "warnings": (),
    },
    RunHeader: {field.name: None for field in dataclasses.fields(RunHeader)},
}


@pytest.mark.parametrize("null", [False, True])
@many
@given(data=st.data(), line=PREDICTIONS | FAILURES | SEGMENTS | HEADERS)
def test_optional_fields_that_are_missing_or_null_take_their_defaults(
    null: bool, data: st.DataObject, line: Any
) -> None:
    defaults = OPTIONAL[type(line)]
    gone = data.draw(st.sets(st.sampled_from(sorted(defaults))))
    values = through_json(line.to_json())
    for key in gone:
        if null:
            values[key] = None
        else:
            values.pop(key, None)
    assert from_json(values) == dataclasses.replace(line, **{key: defaults[key] for key in gone})


def test_an_error_without_a_type_is_one_of_a_video() -> None:
    values = Failure("a", "missing", "no such file", type="Other").to_json()
    del values["error"]["type"]
    assert from_json(values) == Failure("a", "missing", "no such file")


@many
@given(JSON)
def test_any_value_is_a_record_or_an_error(values: Any) -> None:
    error_of(values)


@many
@given(st.data(), LINES)
def test_a_record_that_was_changed_anywhere_is_a_record_or_an_error(
    data: st.DataObject, line: Record | RunHeader
) -> None:
    values = place = through_json(line.to_json())
    while True:
        keys = range(len(place)) if isinstance(place, list) else sorted(place)
        if not keys:
            break
        key = data.draw(st.sampled_from(keys))
        if isinstance(place[key], list | dict) and data.draw(st.booleans()):
            place = place[key]
        else:
            place[key] = data.draw(JSON)
            break
    error_of(values)


@many
@given(st.data(), LINES)
def test_without_any_one_field_it_is_a_record_or_an_error_that_names_it(
    data: st.DataObject, line: Record | RunHeader
) -> None:
    values = through_json(line.to_json())
    gone = data.draw(st.sampled_from(sorted(values.keys() - {"kind"})))
    del values[gone]
    assert error_of(values) in (None, f"the record has no {gone}", "the record has no status")


@pytest.mark.parametrize(
    "time",
    ["-1", "1/0", "1e9", "0x1", " 1", "1_000", "\u0661", ".5", "1.", "1" * 1001, "10000000000000", "", 1, True, {}],
)
@pytest.mark.parametrize("key", ["start", "end"])
def test_times_of_headers_are_exact_and_bounded(key: str, time: Any) -> None:
    assert error_of({**RunHeader().to_json(), key: time}) == "start or end is not a time"


@pytest.mark.parametrize("kind", ["new", "", [], {}, 1, True])
def test_kinds_of_later_versions_are_none(kind: Any) -> None:
    assert from_json({"schema": 1, "kind": kind}) is None
