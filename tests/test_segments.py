from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xclip_cli.segments import Segment, Timeline, WindowScores, combine, leading, merge, resample, segments_of
from xclip_cli.video.sampling import Windows


def test_scores_of_overlapping_windows_are_means() -> None:
    windows = [WindowScores(0, 2, {"a": 1.0}), WindowScores(1, 3, {"b": 1.0}), WindowScores(2, 4, {"a": 0.5, "b": 0.5})]
    timeline = combine(windows)
    assert timeline.labels == ("a", "b")
    assert timeline.edges.tolist() == [0, 1.5, 2.5, 4]  # midway between the centres 1, 2 and 3
    assert timeline.scores.tolist() == [
        [pytest.approx((2 * 1 + 1 * 0) / 3), pytest.approx((2 * 0 + 1 * 1) / 3)],
        [pytest.approx((1 * 1 + 2 * 0 + 1 * 0.5) / 4), pytest.approx((1 * 0 + 2 * 1 + 1 * 0.5) / 4)],
        [pytest.approx((1 * 0 + 2 * 0.5) / 3), pytest.approx((1 * 1 + 2 * 0.5) / 3)],
    ]


def test_windows_that_do_not_overlap_keep_their_scores() -> None:
    timeline = combine([WindowScores(0, 2, {"a": 0.9}), WindowScores(2, 4, {"a": 0.2}), WindowScores(6, 8, {"a": 0.4})])
    assert timeline.scores[:, 0].tolist() == pytest.approx([0.9, 0.2, 0.4])
    assert timeline.edges.tolist() == [0, 2, 5, 8]


@pytest.mark.parametrize(
    "windows",
    [
        [],
        [WindowScores(1, 1, {"a": 1})],
        [WindowScores(1, 2, {"a": 1}), WindowScores(0, 1, {"a": 1})],
        [WindowScores(0, 1, {}), WindowScores(0, 1, {})],
    ],
)
def test_windows_that_are_no_timeline(windows: list[WindowScores]) -> None:
    with pytest.raises(ValueError, match="no windows|must not be empty"):
        combine(windows)


def segments(text: str) -> list[Segment]:
    """``a 0 2`` or ``a 0 2 0.5`` → a segment, separated by commas."""
    rows = [part.split() for part in text.split(",") if part.strip()]
    return [Segment(float(row[1]), float(row[2]), row[0], float(row[3]) if len(row) > 3 else 1.0) for row in rows]


@pytest.mark.parametrize(
    ("given_segments", "min_duration", "expected"),
    [
        ("", 1, ""),
        ("a 0 1, a 1 2, b 2 3", 0, "a 0 2, b 2 3"),
        ("a 0 1, a 2 3", 0, "a 0 1, a 2 3"),  # a gap lies between
        ("a 0 3 0.5, a 3 4 0.9", 0, "a 0 4 0.6"),  # weighted by duration
        ("a 0 2, b 2 3, a 3 5", 2, "a 0 5"),  # a flicker
        ("a 0 2 0.4, b 2 3 0.9, a 3 5 0.8", 2, "a 0 5 0.6"),  # its own seconds alone count
        ("a 0 2, b 2 3, c 3 5", 2, "a 0 2, c 3 5"),  # not one: the time has no label
        ("a 0 2, b 3 4, a 4 6", 2, "a 0 2, a 4 6"),  # it does not touch both
        ("a 0 1, b 1 1.5, a 1.5 2.5", 2, "a 0 2.5"),  # the shortest goes first, which makes the others long enough
        ("a 0 1, b 1 2, a 2 3", 2, ""),  # of equals the first: nothing touches on both sides
        ("b 0 1", 2, ""),
        ("b 0 2", 2, "b 0 2"),
    ],
)
def test_merging(given_segments: str, min_duration: float, expected: str) -> None:
    found, wanted = merge(segments(given_segments), min_duration), segments(expected)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == [
        (s.label, s.start_seconds, s.end_seconds) for s in wanted
    ]
    assert [s.score for s in found] == pytest.approx([s.score for s in wanted])


def merged_slowly(parts: list[Segment], min_duration: float) -> list[tuple[str, float, float]]:
    """The same rules, spelled out: look for the shortest anew each time."""
    rows = [(s.label, s.start_seconds, s.end_seconds) for s in parts]

    def join(i: int, j: int) -> bool:
        return rows[i][0] == rows[j][0]

    i = 0
    while i + 1 < len(rows):
        if join(i, i + 1) and rows[i][2] == rows[i + 1][1]:
            rows[i : i + 2] = [(rows[i][0], rows[i][1], rows[i + 1][2])]
        else:
            i += 1
    while rows:
        seconds, i = min((row[2] - row[1], i) for i, row in enumerate(rows))
        if seconds >= min_duration:
            break
        inner = 0 < i < len(rows) - 1
        if inner and join(i - 1, i + 1) and rows[i - 1][2] == rows[i][1] and rows[i][2] == rows[i + 1][1]:
            rows[i - 1 : i + 2] = [(rows[i - 1][0], rows[i - 1][1], rows[i + 1][2])]
        else:
            del rows[i]
    return rows


@st.composite
def parts(draw: st.DrawFn) -> list[Segment]:
    """Segments in order of time, with and without gaps."""
    found, end = [], 0.0
    for _ in range(draw(st.integers(0, 12))):
        start = end + draw(st.sampled_from([0, 0, 0, 0.5]))
        end = start + draw(st.integers(1, 6)) / 4
        found.append(Segment(start, end, draw(st.sampled_from("abc")), draw(st.floats(0.1, 1))))
    return found


@given(parts(), st.sampled_from([0, 0.5, 1, 2]))
def test_merged_segments(given_parts: list[Segment], min_duration: float) -> None:
    found = merge(given_parts, min_duration)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == merged_slowly(given_parts, min_duration)
    assert all(s.seconds >= min_duration for s in found)
    lowest = min((s.score for s in given_parts), default=0)
    assert all(s.score >= lowest - 1e-9 for s in found)
    for first, second in pairwise(found):
        assert first.end_seconds <= second.start_seconds
        assert first.end_seconds < second.start_seconds or first.label != second.label
    assert merge(found, min_duration) == found


def test_ten_thousand_segments_merge_at_once() -> None:
    alternating = [Segment(i, i + 1 + i % 3 / 10, "ab"[i % 2], 1.0) for i in range(10_000)]
    assert merge(alternating, 2) == []


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    stride, length = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (1, 3)]))
    bounds = Windows(Fraction(0), Fraction(draw(st.integers(1, 60)), 4), Fraction(length), Fraction(stride))
    share = st.floats(0, 1)
    return combine(
        [WindowScores(float(a), float(b), {"a": draw(share), "b": draw(share), "c": 0.4}) for a, b in bounds]
    )


@given(timelines())
def test_segments_without_limits_cover_everything_once(timeline: Timeline) -> None:
    found = segments_of(timeline)
    assert found[0].start_seconds == timeline.edges[0]
    assert found[-1].end_seconds == timeline.edges[-1]
    for first, second in pairwise(found):
        assert first.end_seconds == second.start_seconds
        assert first.label != second.label


@given(timelines(), st.floats(0, 1), st.sampled_from([0, 1, 3]))
def test_limits_hold(timeline: Timeline, min_score: float, min_duration: float) -> None:
    for segment in segments_of(timeline, min_score, min_duration):
        assert segment.score >= min_score - 1e-9
        assert segment.seconds >= min_duration


def test_a_boundary_lies_midway_between_the_centres_of_windows_that_differ() -> None:
    windows = [
        WindowScores(0, 4, {"a": 0.9, "b": 0.1}),
        WindowScores(2, 6, {"a": 0.8, "b": 0.2}),
        WindowScores(8, 12, {"a": 0, "b": 1}),
    ]
    found = segments_of(combine(windows))
    assert [(s.start_seconds, s.end_seconds, s.label) for s in found] == [(0, 7, "a"), (7, 12, "b")]


def test_lost_windows_have_no_weight() -> None:
    good, bad = {"a": 1.0}, {"b": 1.0}
    around = [
        WindowScores(0, 2, good),
        WindowScores(1, 3, None),
        WindowScores(2, 4, bad),
        WindowScores(4, 6, None),
        WindowScores(6, 8, bad),
    ]
    timeline = combine(around)
    assert timeline.scores.tolist() == [[1, 0], [0.5, 0.5], [0, 1], [0, 0], [0, 1]]
    assert [(s.start_seconds, s.end_seconds, s.label) for s in segments_of(timeline)] == [
        (0, 2.5, "a"),
        (2.5, 4, "b"),
        (6, 8, "b"),
    ]
    with pytest.raises(ValueError, match="no windows"):
        combine([WindowScores(0, 2, None)])


@given(timelines(), st.integers(1, 50))
def test_resampling_keeps_the_mean(timeline: Timeline, columns: int) -> None:
    found = resample(timeline, columns)
    assert found.shape == (columns, len(timeline.labels))
    durations = np.diff(timeline.edges)
    expected = durations @ timeline.scores / durations.sum()
    assert found.mean(axis=0) == pytest.approx(expected, abs=1e-9)


def test_resampling() -> None:
    timeline = Timeline(("a",), np.array([0.0, 1.0, 4.0]), np.array([[1.0], [0.0]]))
    assert resample(timeline, 2)[:, 0].tolist() == pytest.approx([0.5, 0])
    assert resample(timeline, 4)[:, 0].tolist() == pytest.approx([1, 0, 0, 0])


def test_the_leading_labels_are_those_with_the_highest_peaks_in_order_of_time() -> None:
    timeline = combine(
        [WindowScores(0, 1, {"a": 0.2, "b": 0.5, "c": 0.3}), WindowScores(1, 2, {"a": 0.9, "b": 0.0, "c": 0.1})]
    )
    assert leading(timeline, 2) == [1, 0]
