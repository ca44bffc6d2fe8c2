"""Text for people."""

from __future__ import annotations

import pytest

from xclip_cli.text import clock, pace


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
