"""Results files from strangers: whatever a line holds, a report or a resumed run takes it, or ends in one line."""

from __future__ import annotations

import copy
import json
import resource
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xclip_cli.errors import ResultsError, XClipError
from xclip_cli.output.files import check_output
from xclip_cli.report.entries import MOST_LABELS, Entry
from xclip_cli.report.links import links
from xclip_cli.report.page import render
from xclip_cli.report.thumbnails import Gallery, beside, located
from xclip_cli.results.reading import VideoResult, read_results
from xclip_cli.results.records import Frames, Prediction, RankedLabel, RunHeader, WindowRecord
from xclip_cli.results.run_file import RunFile

HEADER = RunHeader(
    *("1", "m"), labels=2, start="1/3", end="12.5", window="1", stride="1/2", began="2026-11-26T20:15:02+00:00"
).to_json()
FRAMES = {"requested": 8, "decoded": 8, "repeated": 0, "errors": 0, "times_seconds": [0.5, 1.5]}
SEEN: dict[str, Any] = {
    "schema": 1,
    "video": "a.mp4",
    "status": "ok",
    "model": "m",
    "revision": None,
    "start_seconds": 0.0,
    "end_seconds": 2.0,
    "frames": FRAMES,
    "predictions": [{"label": "l", "score": 0.5, "logit": 1.0}],
    "warnings": ["w"],
    "withheld": 1,
    "seconds": {"decode": 0.1, "model": 0.2},
}
ERROR = {"type": "VideoError", "code": "missing", "message": "m"}
LINES: list[dict[str, Any]] = [
    SEEN,
    {"schema": 1, "video": "b.mp4", "status": "error", "error": ERROR, "warnings": []},
    {**SEEN, "video": "c.mp4", "kind": "window"},
    {**SEEN, "video": "c.mp4", "kind": "window", "start_seconds": 1.0, "end_seconds": 3.0},
    {
        "schema": 1,
        "kind": "segments",
        "video": "c.mp4",
        "status": "ok",
        "num_windows": 2,
        "window_seconds": 2.0,
        "stride_seconds": 1.0,
        "min_score": 0.0,
        "min_duration": 0.0,
        "warnings": [],
        "segments": [{"start_seconds": 0.0, "end_seconds": 3.0, "label": "l", "score": 0.5}],
    },
]


def places(value: Any, so_far: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [so_far, *(place for key, each in inner for place in places(each, (*so_far, key)))]


WAYS = [place for place in places([HEADER, *LINES]) if place]
TEXTS = st.sampled_from(
    [
        "",
        "\0",
        "\ud800",
        "\udce9",
        "a/" * 3000,
        "x" * 70_000,
        "../../etc/passwd",
        "/dev/zero",
        "1e1000000000",
        "1/0",
        "9" * 900,
    ]
)
NUMBERS = st.sampled_from(
    [-1, 0, 1, 2**63, 10**11, -(10**12), 10**13, 10**400, 1e-320, 1e308, float("nan"), float("inf")]
)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | TEXTS | NUMBERS
VALUES = st.recursive(
    SCALARS | st.sampled_from([ERROR, FRAMES, SEEN, [SEEN] * 3, [0.5] * 20_000, ["w"] * 5_000]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["label", "a", "\ud800"]), inner, max_size=3)
    ),
    max_leaves=4,
)
CHANGES = st.lists(st.tuples(st.sampled_from(WAYS), VALUES | st.just(KeyError)), min_size=1, max_size=4)


def changed(changes: list[tuple[tuple[Any, ...], Any]]) -> list[Any]:
    """The lines with some values replaced, or removed; a change to what is no longer there is none."""
    lines: Any = copy.deepcopy([HEADER, *LINES])
    for (*way, last), value in changes:
        inner = lines
        try:
            for key in way:
                inner = inner[key]
            if value is KeyError:
                del inner[last]
            else:
                inner[last] = copy.deepcopy(value)  # no change to it may reach the next example
        except (TypeError, KeyError, IndexError):
            continue
    return list(lines)


def use(path: Path) -> None:
    """All that is done with a results file, but decoding."""
    found = read_results(path)
    for place in (partial(beside, folder=path.parent), partial(located, root=path.parent)):
        gallery = Gallery(found, 100, place)
        leading = links((video.video for video in found.videos), gallery.place, path.with_suffix(".html"))
        check_output(path.with_suffix(".html"), True, [request.clip.path for request in gallery.requests])
        for request in gallery.requests:
            json.dumps(request.clip.to_json())
        page = render(found, replace(gallery.thumbnails, links=leading), path.name)
        assert len(page.encode()) < 25_000_000


def resume(path: Path) -> None:
    with RunFile(path, resume=True) as file:
        file.counts(file.done(retry_failed=True))
        file.begin(RunHeader.from_json(HEADER), retried=["b.mp4"])


def attempt(action: Any, path: Path) -> None:
    began = time.process_time()
    try:
        action(path)
    except XClipError as error:
        assert len(str(error)) < 3000 + len(str(path))
    assert time.process_time() - began < 5


def results_files(tmp_path: Path, changes: list[tuple[tuple[Any, ...], Any]]) -> None:
    path = tmp_path / "r.jsonl"
    path.with_suffix(".html").touch()
    path.write_text("".join(json.dumps(line) + "\n" for line in changed(changes)), "utf-8")
    attempt(use, path)
    attempt(resume, path)


FUZZING = {"deadline": None, "suppress_health_check": list(HealthCheck)}
GROWTH = 200  # MB


@settings(max_examples=300, **FUZZING)
@given(changes=CHANGES)
def test_any_value_in_any_field(tmp_path_factory: pytest.TempPathFactory, changes: list[Any]) -> None:
    results_files(tmp_path_factory.getbasetemp(), changes)


@pytest.mark.slow
def test_twenty_thousand_results_files(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    @settings(max_examples=20_000, **FUZZING)
    @given(changes=CHANGES)
    def fuzz(changes: list[Any]) -> None:
        results_files(tmp_path, changes)

    fuzz()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH << 10


def windows(count: int, labels: int, stride: float = 1.0, length: float = 1.0) -> list[WindowRecord]:
    """Windows of which each has labels of its own."""
    frames = Frames(1, 1, 0, 0, (0.5,))
    return [
        WindowRecord(
            Prediction(
                *("a.mp4", "m", None, i * stride, i * stride + length, frames),
                tuple(RankedLabel(f"{i} {k}", (i + 1) / count, 1.0) for k in range(labels)),
            )
        )
        for i in range(count)
    ]


def test_a_timeline_of_many_labels_takes_memory_in_proportion() -> None:
    """Windows times labels would be 3 GB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    entry = Entry(VideoResult("a.mp4", windows=windows(10_000, 4)))
    assert entry.timeline is not None
    assert (len(entry.timeline.labels), len(entry.labels)) == (MOST_LABELS, 40_000)
    assert entry.timeline.scores.max() == 1  # those with the highest scores are the ones shown
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < GROWTH << 10


def test_a_timeline_whose_windows_all_overlap_is_not_drawn() -> None:
    began = time.process_time()
    entry = Entry(VideoResult("a.mp4", windows=windows(10_000, 4, stride=0.001, length=1000)))
    assert entry.timeline is None
    assert any("overlap too much" in warning for warning in entry.warnings)
    assert time.process_time() - began < 5


def test_a_strangers_header_is_compared_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    strange = {f"\x1b{i}": ["y" * 1000] for i in range(1000)} | {"model": "x" * 100_000}
    error = {"type": "VideoError", "code": "missing", "message": "no such file"}
    record = {"schema": 1, "video": "a.mp4", "status": "error", "error": error, "warnings": []}
    path.write_text(f"{json.dumps({**HEADER, **strange})}\n{json.dumps(record)}\n")
    with (
        RunFile(path, resume=True) as file,
        pytest.raises(ResultsError, match=r"written with different settings: .* and \d+ more") as caught,
    ):
        file.begin(RunHeader.from_json(HEADER))
    assert len(str(caught.value)) < 2000
    assert str(caught.value).isprintable()
