"""Text for people."""

from __future__ import annotations

from fractions import Fraction

import pytest

from xclip_cli.text import clock, pace, parse_time


@pytest.mark.parametrize(
    ("count", "seconds", "expected"),
    [(34, 10, "3.4 videos/s"), (2, 41.1, "20.6 s/video"), (1, 1, "1.0 videos/s"), (0, 3, "no video yet")],
)
def test_pace(count: int, seconds: float, expected: str) -> None:
    assert pace(count, seconds, "video") == expected


@pytest.mark.parametrize(
    ("seconds", "decimals", "expected"), [(59.96, 1, "1:00.0"), (59.94, 1, "0:59.9"), (3661.5, 0, "1:01:02")]
)
def test_clock(seconds: float, decimals: int, expected: str) -> None:
    assert clock(seconds, decimals) == expected


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
