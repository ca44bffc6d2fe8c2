from __future__ import annotations

import pytest

from xclip_cli.text import clock, printable


def test_printable() -> None:
    assert printable("café 日本 😀") == "café 日本 😀"
    assert printable("a\nb\tc\x00\u2028\udc80") == "a\\nb\\tc\\x00\\u2028\\udc80"


@pytest.mark.parametrize(
    ("seconds", "decimals", "expected"),
    [
        (0, 0, "0:00"),
        (0, 1, "0:00.0"),
        (59.94, 1, "0:59.9"),
        (59.95001, 1, "1:00.0"),  # rounded once, then split
        (59.6, 0, "1:00"),
        (3599.96, 1, "1:00:00.0"),
        (3723.5, 1, "1:02:03.5"),
        (360_000, 0, "100:00:00"),
    ],
)
def test_clock(seconds: float, decimals: int, expected: str) -> None:
    assert clock(seconds, decimals) == expected
