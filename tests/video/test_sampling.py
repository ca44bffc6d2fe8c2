from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xclip_cli.video.sampling import ClipInfo, ClipRequest, Windows, check_windows, frame_times


@pytest.mark.parametrize("frames", [1, 5, 8, 30, 299, 300, 1001])
@pytest.mark.parametrize("count", [8, 16, 32])
def test_centres_are_the_papers_test_sampling(frames: int, count: int) -> None:
    shown = [int(centre) for centre in frame_times(Fraction(0), Fraction(frames), count)]
    assert shown == [int(i * frames / count + frames / (2 * count)) for i in range(count)]


def test_centres_known_by_heart() -> None:
    # the values that the authors' code gives for 300 frames
    centres = frame_times(Fraction(0), Fraction(300), 8)
    assert [int(centre) for centre in centres] == [18, 56, 93, 131, 168, 206, 243, 281]
    assert [int(centre) for centre in frame_times(Fraction(0), Fraction(5), 8)] == [0, 0, 1, 2, 2, 3, 4, 4]


def test_requests_and_clips_cross_to_a_worker_unchanged() -> None:
    request = ClipRequest("caf\udce9.mp4", 8, start=Fraction(1, 3), stride=Fraction(1, 7))
    assert ClipRequest.from_json(request.to_json()) == request
    clip = ClipInfo(0.0, 1.5, (0.1, 0.2), (0, 0), 1, ("a",))
    values = {"start_seconds": 0.0, "end_seconds": 1.5, "times_seconds": [0.1, 0.2], "places": [0, 0]}
    assert ClipInfo.from_json({**values, "errors": 1, "warnings": ["a"]}) == clip
    assert clip.decoded == 1


def times(text: str) -> list[tuple[Fraction, Fraction]]:
    """``0-2 1-3`` → pairs."""
    return [tuple(map(Fraction, pair.split("-"))) for pair in text.split()]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("end", "length", "stride", "expected"),
    [
        ("6", "2", "2", "0-2 2-4 4-6"),
        ("4", "2", "1", "0-2 1-3 2-4"),
        ("5", "2", "2", "0-2 2-4 3-5"),  # the last one ends where the video does
        ("5", "2", "4", "0-2 3-5"),  # a stride longer than the window leaves gaps
        ("2", "2", "1", "0-2"),
        ("1.5", "2", "1", "0-1.5"),  # shorter than a window
        ("0.3", "0.1", "0.1", "0-0.1 0.1-0.2 0.2-0.3"),  # no rounding: floats would make a fourth
        ("1001/300", "1", "1", "0-1 1-2 2-3 701/300-1001/300"),
    ],
)
def test_windows(end: str, length: str, stride: str, expected: str) -> None:
    assert list(Windows(Fraction(0), Fraction(end), Fraction(length), Fraction(stride))) == times(expected)


def test_windows_from_a_start() -> None:
    assert list(Windows(Fraction(3), Fraction(7), Fraction(2), Fraction(2))) == times("3-5 5-7")


def test_an_empty_stretch_is_one_window() -> None:
    assert list(Windows(Fraction(1), Fraction(1), Fraction(2), Fraction(1))) == [(1, 1)]
    assert list(ClipRequest("a", 8).windows(Fraction(1), Fraction(1))) == [(1, 1)]


@pytest.mark.parametrize(("length", "stride"), [(0, 1), (1, 0), (-1, 1), (65, 1)])
def test_windows_that_make_no_sense(length: int, stride: int) -> None:
    with pytest.raises(ValueError, match="longer than 0 s|give a stride of at least 1.01562 s"):
        check_windows(Fraction(length), Fraction(stride))
    check_windows(Fraction(64), Fraction(1))


positive = st.fractions(Fraction(1, 100), 20, max_denominator=1000)


@given(st.fractions(0, 5, max_denominator=100), positive, positive, positive)
def test_windows_cover_a_stretch(start: Fraction, duration: Fraction, length: Fraction, stride: Fraction) -> None:
    end = start + duration
    windows = list(Windows(start, end, length, stride))
    assert len(windows) == Windows(start, end, length, stride).count
    assert windows[0][0] == start
    assert windows[-1][1] == end
    assert all(last - first == min(length, duration) for first, last in windows)
    steps = [second[0] - first[0] for first, second in pairwise(windows)]
    assert all(step == stride for step in steps[:-1])
    assert all(0 < step <= stride for step in steps[-1:])
