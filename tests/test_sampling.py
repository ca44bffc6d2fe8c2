from __future__ import annotations

from fractions import Fraction

import pytest

from xclip_cli.sampling import ClipInfo, ClipRequest, frame_times, parse_time


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


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", Fraction(0)),
        ("12.5", Fraction(25, 2)),
        (".1", Fraction(1, 10)),
        ("1:02", Fraction(62)),
        ("01:02:03.5", Fraction(7447, 2)),
        ("100:00:00", Fraction(360000)),
    ],
)
def test_times(text: str, seconds: Fraction) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "-1", "1e3", "abc", "1:2:3:4", "1/3", "nan", "1:", "12s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time: give seconds"):
        parse_time(text)


def test_requests_and_clips_cross_to_a_worker_unchanged() -> None:
    request = ClipRequest("caf\udce9.mp4", 8, Fraction(1, 3), None)
    assert ClipRequest.from_json(request.to_json()) == request
    clip = ClipInfo(0.0, 1.5, (0.1, 0.2), (0, 0), 1, ("a",))
    values = {"start_seconds": 0.0, "end_seconds": 1.5, "times_seconds": [0.1, 0.2], "places": [0, 0]}
    assert ClipInfo.from_json({**values, "errors": 1, "warnings": ["a"]}) == clip
    assert clip.decoded == 1
