"""Text for people."""

from __future__ import annotations

import sys
from fractions import Fraction

import pytest

from xclip_cli.text import clock, listed, one_line, other_encoding, pace, parse_time, printable, quoted, sized


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


@pytest.mark.parametrize("text", ["1" * 41, "9" * 400, "0." + "1" * 5000])
def test_absurd_times(text: str) -> None:
    with pytest.raises(ValueError, match=r"'[\d.]+\.\.\.'|is longer than any time: give at most 40 characters"):
        parse_time(text)


@pytest.mark.parametrize("text", ["", "-1", "1e3", "abc", "1:2:3:4", "1/3", "nan", "1:", "12s"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time: give seconds"):
        parse_time(text)


STEERING = [*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029]
BIDI_CONTROLS = [0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # Unicode's Bidi_Control


def test_only_what_steers_or_turns_around_is_escaped() -> None:
    escaped = {c for c in range(sys.maxunicode + 1) if printable(chr(c)) != chr(c)}
    assert escaped == {*STEERING, *BIDI_CONTROLS, *range(0xD800, 0xE000)}


@pytest.mark.parametrize(
    "text", ["می\u200cشود", "👩\u200d💻", "カラー\u3000バー", "café\u00a0noir", "5\u202fkm", "a\u00adb"]
)
def test_what_belongs_to_scripts_is_shown_as_it_is(text: str) -> None:
    assert printable(text) == one_line(text) == text
    assert quoted(text) == f"'{text}'"


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        ("a cat".encode("utf-16"), "UTF-16"),
        ("a cat".encode("utf-16-be"), "UTF-16BE"),
        ("a cat".encode("utf-32"), "UTF-32"),
        (b"\xef\xbb\xbfa cat", None),
        (b"caf\xe9", None),
        (b"", None),
    ],
)
def test_other_encodings(data: bytes, encoding: str | None) -> None:
    assert other_encoding(data) == encoding


def test_printable() -> None:
    assert printable("a\x1b[2J\udce9é") == r"a\x1b[2J\udce9é"
    assert printable("abc", 3) == "abc"
    assert printable("a\nbc", 2) == r"a\n…"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a\n  b\tc ", "a b c"),
        ("a\x1b[2Jb", "a?[2Jb"),
        (ValueError(), "ValueError"),
        (KeyError("k"), "'k'"),
        ("x" * 200, "x" * 200),
        ("x" * 201, "x" * 197 + "..."),
    ],
)
def test_what_files_and_errors_say_is_one_line(said: object, expected: str) -> None:
    assert one_line(said) == expected


def test_one_line_of_a_given_length() -> None:
    assert one_line("abcdefgh", 6) == "abc..."


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a\nb", r"'a\nb'"), (None, "None"), ("x" * 78, f"'{'x' * 78}'"), ("x" * 79, f"'{'x' * 75}...'")],
)
def test_quoted(name: object, expected: str) -> None:
    assert quoted(name) == expected
    assert len(quoted(name)) <= 80


def test_listed() -> None:
    assert listed([]) == ""
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"
    assert listed([1, "b"], show=quoted) == "1, 'b'"


def test_sizes() -> None:
    assert [sized(number) for number in (0, 45_600, 12_345_678)] == ["0.0 kB", "45.6 kB", "12.3 MB"]
