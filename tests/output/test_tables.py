from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console
from samples import BAD, FRAMES, GOOD

from xclip_cli.output.tables import bar, format_fields, format_record, write_table
from xclip_cli.results.records import Failure, Prediction, RankedLabel


def test_fields_of_strangers_cannot_steer_a_terminal() -> None:
    assert not set("\x1b\x9b\x07") & set(format_fields({"a\x1b": {"b\n": ["\x1b[2J"], "c\x9b": "\x07"}}))


def shown(record: Prediction | Failure, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(format_record(record))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_table_shows_ranks_bars_and_warnings() -> None:
    text = shown(GOOD)
    assert text.splitlines()[0].strip() == "a.mp4"
    assert "1  a cat " in text
    assert "0.750" in text
    assert "█" * 18 in text
    assert "warning: careful" in text
    assert "failed: no such file" in shown(BAD)
    assert "b\\udce9.mp4" in shown(BAD)


def test_hostile_text_stays_text() -> None:
    label = "\x1b[31mred\x1b]0;title\x07 [bold]x[/bold] \u202egnp"
    hostile = Prediction("\x1b[2J.mp4", "m", None, 0, 1, FRAMES, (RankedLabel(label, 1.0, 1.0),))
    text = shown(hostile, 200)
    assert "\x1b" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert "[bold]x[/bold]" in text


def test_the_table_fits_where_blocks_cannot_be_shown() -> None:
    class Ascii(io.StringIO):
        encoding = "ascii"

    out = Ascii()
    write_table([GOOD], out, None)
    assert out.getvalue().isascii()
    assert "#" * 18 in out.getvalue()


@pytest.mark.parametrize(("share", "drawn"), [(0, ""), (1, "████"), (0.5, "██"), (1 / 32, "▏"), (0.99999, "████")])
def test_bars(share: float, drawn: str) -> None:
    assert bar(share, 4) == drawn


@pytest.mark.parametrize("width", [20, 39])
def test_narrow_tables_keep_their_scores(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    console.print(format_record(GOOD, width=width))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert all(len(line) <= width for line in text.splitlines())
    assert ("0.750" in text, "0.250" in text) == (True, True)


def test_narrow_tables_keep_their_labels() -> None:
    console = Console(file=io.StringIO(), width=40)
    console.print(format_record(GOOD, width=40))
    assert "a cat" in console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, console.file.getvalue().splitlines())) <= 40  # type: ignore[attr-defined]


def test_the_bars_of_videos_align() -> None:
    out = io.StringIO()
    short = replace(GOOD, predictions=(RankedLabel("x", 0.9, 20.0),))
    write_table([GOOD, short], out, None)
    assert len({line.index("#") for line in out.getvalue().splitlines() if "#" in line}) == 1
