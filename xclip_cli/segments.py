"""When in a video: the scores of windows over it, combined, and the segments they merge into. Arithmetic alone.

1. *Windows* (``video.sampling.Windows``) all have the same length and begin a stride apart; the last one ends where the
   video ends.
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
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]

ROWS = 12  # labels that a drawing shows


@dataclass(frozen=True)
class WindowScores:
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


def combine(windows: Sequence[WindowScores]) -> Timeline:
    """Windows as cells with scores. The windows begin and end in order of time. Raises ValueError."""
    if all(window.scores is None for window in windows):
        raise ValueError("there are no windows")
    labels = tuple(dict.fromkeys(label for window in windows for label in window.scores or ()))
    return timeline_of(
        labels,
        np.array([window.start_seconds for window in windows]),
        np.array([window.end_seconds for window in windows]),
        np.array([row_of(window.scores, labels) for window in windows], np.float64),
    )


def row_of(scores: Mapping[str, float] | None, labels: tuple[str, ...]) -> list[float]:
    """A window's scores in the order of ``labels``; NaN where it is lost."""
    return [np.nan if scores is None else scores.get(label, 0.0) for label in labels]


def timeline_of(labels: tuple[str, ...], starts: Floats, ends: Floats, scores: Floats) -> Timeline:
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
