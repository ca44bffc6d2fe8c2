"""How a notebook shows a record: one line as text, a table with bars as HTML. Every text is escaped."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..text import clock, printable

Row = tuple[str, str, float]  # when, or ""; which label; its score
SHOWN = 3  # labels or segments of a line
ROWS = 20  # of a table
_BAR = "background:#4c8b5a;height:0.7em;width:{:.1f}%"
_CELL = "text-align:left;padding:0 0.6em"


def one_line(kind: str, video: str, rows: Sequence[Row], notes: Iterable[str]) -> str:
    """``Prediction('a.mp4': a cat 0.993, a dog 0.004, and 3 more)``."""
    said = [*notes, *(" ".join(filter(None, (when, label, f"{score:.3f}"))) for when, label, score in rows)]
    more = [f"and {len(said) - SHOWN} more"] if len(said) > SHOWN else []
    return f"{kind}({printable(repr(video))}: {', '.join([*map(printable, said[:SHOWN]), *more]) or 'nothing'})"


def stretch(start: float | None, end: float | None) -> str:
    """From when to when, or "" where that is not known."""
    return "" if start is None or end is None else f"{clock(start, 1)}-{clock(end, 1)}"


def table(video: str, rows: Sequence[Row], notes: Iterable[str]) -> str:
    """A video's name, a row per label (when, which, its score as a bar), and notes."""
    shown = "".join(
        f'<tr><td style="{_CELL}">{_text(when)}</td><td style="{_CELL}">{_text(label)}</td>'
        f'<td style="{_CELL};width:12em"><div style="{_BAR.format(100 * min(max(score, 0.0), 1.0))}"></div></td>'
        f'<td style="{_CELL}">{score:.3f}</td></tr>'
        for when, label, score in rows[:ROWS]
    )
    more = [f"and {len(rows) - ROWS} more"] if len(rows) > ROWS else []
    said = "".join(f"<div><em>{_text(note)}</em></div>" for note in [*more, *notes])
    return f"<div><strong>{_text(video)}</strong><table>{shown}</table>{said}</div>"


def _text(text: str) -> str:
    from html import escape  # whose table of entities no run needs

    return escape(printable(text))
