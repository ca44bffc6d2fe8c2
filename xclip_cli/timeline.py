"""When in a video: windows over it, their scores combined, and the segments they merge into. Arithmetic alone.

1. *Windows* (``sampling.Windows``) all have the same length and begin a stride apart; the last one ends where the video
   ends.
2. Each window speaks for a *cell*: the time that is nearer to its centre than to any other window's. So cells never
   overlap, and a boundary lies midway between the centres of two windows. A cell's score for a label is the mean over
   all windows that overlap its own, weighted by how long they do (``combine``): windows that do not overlap keep their
   scores, and a stride of half a window weighs a window and its two neighbours 1/2, 1/4 and 1/4. A window that is lost
   (its stretch of the video is damaged) has no weight; a cell that only lost windows overlap has no label.
3. Neighbouring cells with the same best label become a *segment* (``segments_of``). Cells whose best score is under
   ``min_score`` have no label. Then, as long as the shortest segment is shorter than ``min_duration``, it goes: where
   both its neighbours touch it and have the same label they become one over its time, else that time has no label.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.table import Table
from rich.text import Text

from .results.records import SCHEMA, Failure, Prediction, RunHeader
from .text import clock, printable

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

SHADES, ASCII_SHADES = " ░▒▓█", " .:*#"
ROWS = 12  # labels that a drawing shows
WARNINGS_LISTED = 10  # of the different ones that a video's windows have

VTT_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}  # in this order
# SubRip has no escapes. Players take <…> and {…} for markup, and may look for an arrow: an invisible word joiner keeps
# them from it, but for braces, which FFmpeg hides whatever is in them.
SRT_STAND_INS = {
    "<": "<\N{WORD JOINER}",
    "--": "--\N{WORD JOINER}",
    "{": "\N{FULLWIDTH LEFT CURLY BRACKET}",
    "}": "\N{FULLWIDTH RIGHT CURLY BRACKET}",
}


@dataclass(frozen=True)
class Window:
    """What a model says of one stretch of a video."""

    start_seconds: float
    end_seconds: float  # half-open
    scores: Mapping[str, float] | None  # of all labels; one that is missing counts as 0. None: the window is lost

    @property
    def centre(self) -> float:
        """The middle, in seconds."""
        return (self.start_seconds + self.end_seconds) / 2


@dataclass(frozen=True)
class Timeline:
    """Scores over time: cell ``i`` lasts from ``edges[i]`` to ``edges[i + 1]``."""

    labels: tuple[str, ...]
    edges: Floats  # [cells + 1], in seconds, increasing
    scores: Floats  # [cells, labels]


@dataclass(frozen=True)
class Segment:
    """A stretch of a video with one label."""

    start_seconds: float
    end_seconds: float  # half-open
    label: str
    score: float  # the label's mean over the time at which it is the best one

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return self.end_seconds - self.start_seconds


@dataclass(frozen=True)
class Rules:
    """What windows there are, and which segments they make. Times in seconds; see above."""

    window: Fraction
    stride: Fraction
    min_score: float = 0.0
    min_duration: float = 0.0

    def header(self, header: RunHeader) -> RunHeader:
        """The header of a run with these rules."""
        return replace(
            header,
            window=str(self.window),
            stride=str(self.stride),
            min_score=self.min_score,
            min_duration=self.min_duration,
        )

    def to_json(self) -> dict[str, float]:
        """As fields of a segments record."""
        return {
            "window_seconds": float(self.window),
            "stride_seconds": float(self.stride),
            "min_score": self.min_score,
            "min_duration": self.min_duration,
        }


@dataclass(frozen=True)
class WindowRecord:
    """One window's ranked labels, or why it is lost."""

    record: Prediction | Failure
    share: float  # of the video's windows, those up to this one

    def to_json(self) -> dict[str, Any]:
        """The record."""
        return window_record(self.record.to_json())


@dataclass(frozen=True)
class VideoTimeline:
    """A video's timeline, all its windows looked at."""

    video: str
    timeline: Timeline | None  # None where the video has no length
    segments: Sequence[Segment]
    num_windows: int
    rules: Rules
    warnings: Sequence[str] = ()  # of its windows

    def to_json(self) -> dict[str, Any]:
        """The record."""
        return segments_record(self.video, self.segments, self.num_windows, self.warnings, **self.rules.to_json())


@dataclass(frozen=True, kw_only=True)
class BrokenOff(Failure):
    """A video's error behind some of its windows."""

    timeline: VideoTimeline  # up to there

    def to_json(self) -> dict[str, Any]:
        """The record: what was made, and the error."""
        return {**self.timeline.to_json(), **super().to_json()}


TimelineRecord = WindowRecord | VideoTimeline | Failure


class Remarks:
    """What the windows of a video warn of: each text once, with how many of them it is said of."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._windows = 0

    def add(self, warnings: Iterable[str]) -> None:
        """The next window's."""
        self._windows += 1
        self._counts.update(dict.fromkeys(warnings, 1))

    def texts(self) -> list[str]:
        """The most frequent ones, and how many there are besides."""
        texts = [
            text if count == self._windows else f"{text} (in {count:,} of {self._windows:,} windows)"
            for text, count in self._counts.most_common(WARNINGS_LISTED)
        ]
        hidden = len(self._counts) - len(texts)
        return texts + ([f"and {hidden:,} other warnings of windows"] if hidden else [])


class Assembly:
    """The windows of one video, as they come, and what they make: of each window only its scores are kept."""

    def __init__(self, labels: tuple[str, ...], rules: Rules) -> None:
        self._labels = labels
        self._rules = rules
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._scores: list[npt.NDArray[np.float32]] = []
        self._remarks = Remarks()
        self._first_lost: Failure | None = None
        self._usable = False  # whether a window is not lost

    def add(self, record: Prediction | Failure) -> None:
        """The next window, with the scores of all labels, or lost."""
        assert record.start_seconds is not None
        assert record.end_seconds is not None
        self._starts.append(record.start_seconds)
        self._ends.append(record.end_seconds)
        if isinstance(record, Failure):
            self._first_lost = self._first_lost or record
            scores = None
            self._remarks.add([*record.warnings, lost(record.code)])
        else:
            self._usable = True
            scores = {ranked.label: ranked.score for ranked in record.predictions}
            self._remarks.add(record.warnings)
        self._scores.append(np.array(_row(scores, self._labels), np.float32))

    def finished(self, video: str) -> VideoTimeline | Failure:
        """What all windows make; a Failure where all are lost."""
        if self._usable or self._first_lost is None:
            return self._timeline(video)
        message = f"all {len(self._scores):,} windows are lost, the first: {self._first_lost.message}"
        return replace(self._first_lost, message=message, start_seconds=None, end_seconds=None)

    def broken_off(self, failure: Failure) -> Failure:
        """What the windows before a video's error make."""
        if not self._usable:
            return failure
        timeline = self._timeline(failure.video)
        where = f"its timeline ends at {clock(self._ends[-1], 1)}, behind {timeline.num_windows:,} windows"
        return BrokenOff(
            failure.video,
            failure.code,
            f"{failure.message}; {where}",
            warnings=(*failure.warnings, *timeline.warnings),
            timeline=timeline,
        )

    def _timeline(self, video: str) -> VideoTimeline:
        timeline, segments = None, list[Segment]()
        if self._ends[-1] > self._starts[0]:
            starts, ends = np.array(self._starts), np.array(self._ends)
            timeline = combined(self._labels, starts, ends, np.array(self._scores))
            segments = segments_of(timeline, self._rules.min_score, self._rules.min_duration)
        return VideoTimeline(video, timeline, segments, len(self._scores), self._rules, self._remarks.texts())


def assemble(
    answers: Iterable[tuple[Prediction | Failure, int]], labels: tuple[str, ...], rules: Rules, top_k: int = 0
) -> Iterator[TimelineRecord]:
    """Windows, each with how many of the same video follow → their records, and behind each video's its segments.

    A failure with a start is of that window, any other ends its video. ``top_k`` labels of each window are passed on; 0
    for all.
    """
    assembly, seen = Assembly(labels, rules), 0
    for record, following in answers:
        if isinstance(record, Failure) and record.start_seconds is None:
            yield assembly.broken_off(record)
        else:
            seen += 1
            assembly.add(record)
            yield WindowRecord(record.top(top_k), seen / (seen + following))
            if not following:
                yield assembly.finished(record.video)
        if not following:
            assembly, seen = Assembly(labels, rules), 0


def lost(code: str) -> str:
    """What is said of a window that is lost."""
    return f"lost to an error ({code})"


def window_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a window, from that of a video of which only the window was looked at."""
    return {**record, "kind": "window"}


def segments_record(
    video: str, segments: Iterable[Segment], num_windows: int, warnings: Sequence[str] = (), **settings: float
) -> dict[str, Any]:
    """The record behind a video's window records: its segments, and the mark that all its windows are there.

    ``settings`` are what the segments were made with.
    """
    return {
        "schema": SCHEMA,
        "kind": "segments",
        "video": video,
        "status": "ok",
        "num_windows": num_windows,
        **settings,
        "segments": [asdict(segment) for segment in segments],
        "warnings": list(warnings),
    }


def windows_of(records: Iterable[Mapping[str, Any]]) -> list[Window]:
    """The windows of one video's window records, in order of time. The last record of a window counts."""
    windows = [
        Window(
            record["start_seconds"],
            record["end_seconds"],
            {ranked["label"]: ranked["score"] for ranked in record["predictions"]}
            if record["status"] == "ok"
            else None,
        )
        for record in records
    ]
    return sorted({window.centre: window for window in windows}.values(), key=lambda window: window.centre)


def combine(windows: Sequence[Window]) -> Timeline:
    """Windows as cells with scores. The windows begin and end in order of time. Raises ValueError."""
    if all(window.scores is None for window in windows):
        raise ValueError("there are no windows")
    labels = tuple(dict.fromkeys(label for window in windows for label in window.scores or ()))
    return combined(
        labels,
        np.array([window.start_seconds for window in windows]),
        np.array([window.end_seconds for window in windows]),
        np.array([_row(window.scores, labels) for window in windows], np.float64),
    )


def _row(scores: Mapping[str, float] | None, labels: tuple[str, ...]) -> list[float]:
    """A window's scores in the order of ``labels``; NaN where it is lost."""
    return [np.nan if scores is None else scores.get(label, 0.0) for label in labels]


def combined(labels: tuple[str, ...], starts: Floats, ends: Floats, scores: Floats) -> Timeline:
    """Windows [windows], of scores [windows, labels], as cells with scores. Those of lost windows are NaN, and are set
    to 0. Raises ValueError."""
    centres = (starts + ends) / 2
    if not ((starts < ends).all() and (np.diff(starts) > 0).all() and (np.diff(ends) > 0).all()):
        raise ValueError("windows must not be empty, and must begin and end in order of time")
    edges = np.concatenate([starts[:1], (centres[:-1] + centres[1:]) / 2, ends[-1:]])
    there = np.isfinite(scores.sum(axis=1))
    scores[~there] = 0
    means = np.zeros_like(scores)
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        # the windows that overlap this one, weighted by how long they do
        near = slice(np.searchsorted(ends, start, "right"), np.searchsorted(starts, end, "left"))
        weights = (np.minimum(ends[near], end) - np.maximum(starts[near], start)) * there[near]
        if weights.any():
            means[i] = weights @ scores[near] / weights.sum()
    return Timeline(labels, edges, means)


def segments_of(timeline: Timeline, min_score: float = 0.0, min_duration: float = 0.0) -> list[Segment]:
    """The stretches with one best label, in order of time; ``min_duration`` in seconds."""
    best = timeline.scores.argmax(axis=1)
    edges = timeline.edges.tolist()
    cells = [
        Segment(edges[i], edges[i + 1], timeline.labels[k], float(timeline.scores[i, k])) for i, k in enumerate(best)
    ]
    # A score of 0 is a label that was withheld.
    return merge((cell for cell in cells if cell.score > 0 and cell.score >= min_score), min_duration)


@dataclass(frozen=True)
class _Run:
    """A segment in the making."""

    segment: Segment
    agreeing: float  # seconds at which its label is the best one

    def joined(self, other: _Run) -> _Run:
        """One run over both and what lies between them."""
        agreeing = self.agreeing + other.agreeing
        score = (self.segment.score * self.agreeing + other.segment.score * other.agreeing) / agreeing
        mine, theirs = self.segment, other.segment
        return _Run(Segment(mine.start_seconds, theirs.end_seconds, mine.label, score), agreeing)


def merge(segments: Iterable[Segment], min_duration: float = 0.0) -> list[Segment]:
    """Join segments that touch and have the same label, then remove those shorter than ``min_duration`` seconds,
    shortest first. The segments given are in order of time and do not overlap; so are those returned."""
    runs: list[_Run] = []
    for segment in segments:
        run = _Run(segment, segment.seconds)
        if runs and _touch(runs[-1].segment, segment) and runs[-1].segment.label == segment.label:
            runs[-1] = runs[-1].joined(run)
        else:
            runs.append(run)
    alive = dict(enumerate(runs))  # by place
    before = {i: i - 1 for i in alive}
    after = {i: i + 1 for i in alive}
    queue = [(run.segment.seconds, i) for i, run in alive.items()]
    heapq.heapify(queue)
    while queue and queue[0][0] < min_duration:
        seconds, i = heapq.heappop(queue)
        if i not in alive or alive[i].segment.seconds != seconds:
            continue  # it was joined with another since
        gone = alive.pop(i).segment
        left, right = before[i], after[i]
        if left in alive and right in alive and _flicker(alive[left].segment, gone, alive[right].segment):
            alive[left] = alive[left].joined(alive.pop(right))
            right = after[right]
            heapq.heappush(queue, (alive[left].segment.seconds, left))
        after[left], before[right] = right, left
    return [alive[i].segment for i in sorted(alive)]


def _touch(first: Segment, second: Segment) -> bool:
    return first.end_seconds == second.start_seconds


def _flicker(left: Segment, middle: Segment, right: Segment) -> bool:
    return left.label == right.label and _touch(left, middle) and _touch(middle, right)


def format_srt(segments: Iterable[Segment]) -> str:
    """Segments as SubRip subtitles."""
    cues = []
    for number, (start, end, segment) in enumerate(_cues(segments), start=1):
        text = printable(f"{segment.label} ({segment.score:.2f})")
        for sign, shown in SRT_STAND_INS.items():
            text = text.replace(sign, shown)
        cues.append(f"{number}\n{_timestamp(start, ',')} --> {_timestamp(end, ',')}\n{text}\n")
    return "\n".join(cues)


def format_vtt(segments: Iterable[Segment]) -> str:
    """Segments as WebVTT subtitles."""
    cues = ["WEBVTT\n"]
    for start, end, segment in _cues(segments):
        text = printable(f"{segment.label} ({segment.score:.2f})")
        for sign, shown in VTT_ESCAPES.items():
            text = text.replace(sign, shown)
        cues.append(f"{_timestamp(start, '.')} --> {_timestamp(end, '.')}\n{text}\n")
    return "\n".join(cues)


def _cues(segments: Iterable[Segment]) -> Iterator[tuple[int, int, Segment]]:
    """Each segment with its start and end in milliseconds: never empty, never over the one before."""
    free = 0
    for segment in segments:
        start = max(round(segment.start_seconds * 1000), free)
        free = max(round(segment.end_seconds * 1000), start + 1)
        yield start, free, segment


def _timestamp(milliseconds: int, point: str) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def csv_rows(video: str, segments: Iterable[Segment]) -> Iterator[dict[str, object]]:
    """A row a segment, of the fields of classify's CSV."""
    for segment in segments:
        yield {"video": video, "status": "ok", "rank": 1, **asdict(segment)}


def leading(timeline: Timeline, count: int = ROWS) -> list[int]:
    """Which labels to draw: those that reach the highest scores, in the order in which they do."""
    peaks = timeline.scores.max(axis=0)
    chosen = np.argsort(-peaks, kind="stable")[:count].tolist()
    return sorted(chosen, key=lambda k: int(timeline.scores[:, k].argmax()))


def resample(timeline: Timeline, columns: int) -> Floats:
    """[columns, labels]: the mean scores in that many equal parts of the timeline."""
    edges = timeline.edges
    areas = np.concatenate([np.zeros((1, len(timeline.labels))), np.cumsum(timeline.scores.T * np.diff(edges), 1).T])
    grid = np.linspace(edges[0], edges[-1], columns + 1)
    reached = np.stack([np.interp(grid, edges, column) for column in areas.T], axis=1)
    means: Floats = np.diff(reached, axis=0) / ((edges[-1] - edges[0]) / columns)
    return means.clip(0, 1)


@dataclass(frozen=True)
class Drawing:
    """A timeline for a terminal: a row a label, shaded by score over the terminal's width, then the segments."""

    video: str
    timeline: Timeline
    segments: Sequence[Segment]
    blocks: bool = True  # False draws in ASCII

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Drawn for the width that there is."""
        chosen = self._visible()
        names = [printable(self.timeline.labels[k]) for k in chosen]
        room = options.max_width
        margin = min(max(map(len, names)), room // 3)
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
        yield self._list()

    def _visible(self) -> list[int]:
        """The labels that get a shade somewhere; where none does, the one with the highest score."""
        peaks = self.timeline.scores.max(axis=0)
        visible = [k for k in leading(self.timeline) if peaks[k] * (len(SHADES) - 1) >= 0.5]
        return visible or [int(peaks.argmax())]

    def _axis(self, columns: int) -> str:
        """Times under the cells, as many as there is room for."""
        first, last = self.timeline.edges[0], self.timeline.edges[-1]
        line = [" "] * columns
        free = 0
        for tick in range(0, columns, max(columns // 4, 1)):
            text = self._clock(first + (last - first) * tick / columns)
            if tick >= free and tick + len(text) <= columns:
                line[tick : tick + len(text)] = text
                free = tick + len(text) + 1
        return "".join(line)

    def _clock(self, seconds: float) -> str:
        return clock(seconds, decimals=0 if self.timeline.edges[-1] - self.timeline.edges[0] >= 60 else 1)

    def _list(self) -> Group | Table:
        if not self.segments:
            return Group(Text("no segment is long and sure enough", style="yellow"))
        table = Table.grid(padding=(0, 2))
        table.add_column(justify="right")
        table.add_column(justify="right")
        table.add_column(overflow="fold")
        table.add_column(justify="right")
        for segment in self.segments:
            start, end = clock(segment.start_seconds, 1), clock(segment.end_seconds, 1)
            table.add_row(start, end, Text(printable(segment.label)), f"{segment.score:.3f}")
        return table
