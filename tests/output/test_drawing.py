from __future__ import annotations

import io

import pytest
from rich.cells import cell_len
from rich.console import Console

from xclip_cli.output.drawing import Drawing
from xclip_cli.segments import Timeline, WindowScores, combine, segments_of


def drawn(timeline: Timeline, width: int = 80, blocks: bool = True, video: str = "a.mp4") -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(Drawing(video, timeline, segments_of(timeline), blocks))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


LONG = combine(
    [WindowScores(i * 60, i * 60 + 60, {"a cat": float(i < 30), "a dog": float(i >= 30)}) for i in range(120)]
)


def test_the_drawing_fills_the_width() -> None:
    lines = drawn(LONG, 46)
    assert lines[0] == "a.mp4"
    assert lines[1] == "a cat " + "█" * 10 + " " * 30
    assert lines[2] == "a dog " + " " * 10 + "█" * 30
    assert lines[3].split() == ["0:00", "30:00", "1:00:00", "1:30:00"]
    assert drawn(LONG, 80)[3].split() == ["0:00", "30:00", "1:00:00", "1:30:00", "2:00:00"]
    assert [line.split() for line in lines[4:]] == [
        ["0:00.0", "30:00.0", "a", "cat", "1.000"],
        ["30:00.0", "2:00:00.0", "a", "dog", "1.000"],
    ]
    assert all(len(line) <= 46 for line in lines)


def test_wide_labels_are_whole_and_their_rows_align() -> None:
    names = ("雪景色の山", "カラーバー", "می\u200cشود")
    timeline = combine([WindowScores(i, i + 1, dict.fromkeys(names, 1 / 3)) for i in range(4)])
    lines = drawn(timeline, 80)
    rows = {name: next(line for line in lines if line.startswith(name)) for name in names}
    assert {cell_len(row.rstrip()) for row in rows.values()} == {80}
    assert {cell_len(row.partition("░")[0]) for row in rows.values()} == {11}


@pytest.mark.parametrize("width", [20, 30, 39])
def test_narrow_drawings_keep_times_and_scores(width: int) -> None:
    text = " ".join(drawn(LONG, width)[4:])
    assert "30:00.0 2:00:00.0 a dog 1.000" in " ".join(text.split())


def test_the_drawing_in_ascii() -> None:
    text = "\n".join(drawn(LONG, blocks=False))
    assert text.isascii()
    assert "#" * 18 in text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_drawing_fits(width: int) -> None:
    names = [f"a rather long label with the number {i}" for i in range(20)]
    timeline = combine(
        [WindowScores(i, i + 1, {name: (i == k) * 1.0 for k, name in enumerate(names)}) for i in range(5)]
    )
    lines = drawn(timeline, width)
    assert all(len(line) <= width for line in lines)
    assert "and 15 labels with lower scores" in " ".join("\n".join(lines).split())


def test_a_drawing_without_segments_says_so() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(Drawing("a.mp4", LONG, []))
    assert "no segment passed the thresholds" in console.file.getvalue()  # type: ignore[attr-defined]


def test_hostile_text_cannot_steer_the_terminal() -> None:
    timeline = combine([WindowScores(0, 1, {"\x1b[31mred [bold]x[/bold]": 1.0})])
    text = "\n".join(drawn(timeline, 200, video="\x1b[2J.mp4"))
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text
