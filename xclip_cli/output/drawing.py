"""A timeline drawn for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from ..segments import Segment, Timeline, leading, resample
from ..text import clock, printable

ROOM_FOR_LIST = 40  # characters: where there are fewer, segments are lines and not a table
SHADES, ASCII_SHADES = " ░▒▓█", " .:*#"


@dataclass(frozen=True)
class Drawing:
    """A timeline for a terminal: a row per label, shaded by score over the terminal's width, then the segments."""

    video: str
    timeline: Timeline
    segments: Sequence[Segment]
    blocks: bool = True  # False draws in ASCII

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Drawn for the width that there is."""
        chosen = self._visible()
        names = [printable(self.timeline.labels[k]) for k in chosen]
        room = options.max_width
        margin = min(max(map(cell_len, names)), room // 3)
        columns = max(room - margin - 1, 1)
        shares = resample(self.timeline, columns)
        shades = SHADES if self.blocks else ASCII_SHADES
        yield Text(printable(self.video), style="bold", overflow="fold")
        rows = Table.grid(padding=(0, 1))
        rows.add_column(width=margin, no_wrap=True, overflow="ellipsis" if self.blocks else "crop")
        rows.add_column(width=columns, no_wrap=True)
        for name, k in zip(names, chosen, strict=True):
            drawn = "".join(shades[round(share * (len(shades) - 1))] for share in shares[:, k].tolist())
            rows.add_row(Text(name), Text(drawn, style="green"))
        rows.add_row("", Text(self._axis(columns), style="dim"))
        yield rows
        if hidden := len(self.timeline.labels) - len(chosen):
            yield Text(f"and {hidden} labels with lower scores", style="dim")
        yield self._list(room)

    def _visible(self) -> list[int]:
        """The labels that get a shade somewhere; where none does, the one with the highest score."""
        peaks = self.timeline.scores.max(axis=0)
        visible = [k for k in leading(self.timeline) if peaks[k] * (len(SHADES) - 1) >= 0.5]
        return visible or [int(peaks.argmax())]

    def _axis(self, columns: int) -> str:
        """The start, the quarters and the end, each under its cell, as many as there is room for."""
        first, last = self.timeline.edges[0], self.timeline.edges[-1]
        line = [" "] * columns
        free = 0
        for part in range(5):
            text = self._clock(first + (last - first) * part / 4)
            place = columns * part // 4 if part < 4 else columns - len(text)
            if free <= place <= columns - len(text):
                line[place : place + len(text)] = text
                free = place + len(text) + 1
        return "".join(line)

    def _clock(self, seconds: float) -> str:
        return clock(seconds, decimals=0 if self.timeline.edges[-1] - self.timeline.edges[0] >= 60 else 1)

    def _list(self, room: int) -> Group | Table:
        if not self.segments:
            return Group(Text("no segment passed the thresholds", style="yellow"))
        rows = [
            (clock(segment.start_seconds, 1), clock(segment.end_seconds, 1), segment.label, f"{segment.score:.3f}")
            for segment in self.segments
        ]
        if room < ROOM_FOR_LIST:
            return Group(*(Text(printable(" ".join(row)), overflow="fold") for row in rows))
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(overflow="fold")
        table.add_column(justify="right", no_wrap=True)
        for start, end, label, score in rows:
            table.add_row(start, end, Text(printable(label)), score)
        return table
