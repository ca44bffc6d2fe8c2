"""What a report shows: what is worked out of a video's records, and the pictures that go with it."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..results.reading import VideoResult
from ..results.records import Moment, Prediction, Seconds, WindowRecord
from ..segments import Segment, Timeline, WindowScores, combine
from ..text import Remarks

# Of a timeline, whose work and memory grow with windows times labels, and with the pairs of windows that overlap.
MOST_LABELS = 100
MOST_PAIRS = 5_000_000


@dataclass
class Thumbnails:
    """What a page shows of the videos' files."""

    pictures: Mapping[str, Mapping[float, bytes]] = field(default_factory=dict)  # video → time in seconds → JPEG
    missing: Mapping[str, str] = field(default_factory=dict)  # video → why it has none
    caption: str = "No thumbnails: none were requested."  # which frames are shown
    links: Mapping[str, str] = field(default_factory=dict)  # video → the address of its file


@dataclass(frozen=True)
class Best:
    """A video in a line: its best label."""

    label: str
    score: float


class Entry:
    """A video of the report."""

    def __init__(self, result: VideoResult) -> None:
        self.video = result.video
        self.error = result.error
        self.prediction = result.prediction
        self.windows = result.windows
        self.moments = result.moments
        self.num_windows = result.segments.num_windows if result.segments else None  # None: the run ended before
        self.segments = result.segments.segments if result.segments else ()
        self.labels = _labels(self.windows)
        self.timeline = _timeline(self.windows, self.labels[:MOST_LABELS])
        self.best = _best_label(self.prediction, self.segments) or _best_moment(self.moments)
        self.warnings = self._warnings()
        self.spent = _spent(self.predictions)

    @property
    def predictions(self) -> list[Prediction]:
        """That of the video, or those of its windows."""
        found = [self.prediction, *(window.prediction for window in self.windows)]
        return [prediction for prediction in found if prediction]

    @property
    def seconds(self) -> float | None:
        """What the video took in all, if that is known."""
        return None if self.spent is None else self.spent.decode + self.spent.model

    def _warnings(self) -> list[str]:
        """All warnings, each once."""
        warnings = [f"failed: {self.error.message}"] if self.error else []
        warnings += self.prediction.warnings if self.prediction else ()
        remarks = Remarks()
        for window in self.windows:
            remarks.add(window.remarks)
        warnings += remarks.texts()
        there = len(self.windows)
        if there and self.num_windows is None:
            warnings.append(f"the timeline is incomplete: the run ended after {there:,} of its windows")
        elif self.num_windows is not None and self.num_windows != there:
            warnings.append(f"the timeline is incomplete: it has {there:,} of {self.num_windows:,} windows")
        if self.windows and self.timeline is None:
            warnings.append("its windows do not form a timeline: they are out of order, or overlap too much")
        return list(dict.fromkeys(warnings))


def _labels(windows: Iterable[WindowRecord]) -> list[str]:
    """All labels of a video's windows: those with the highest scores first."""
    peaks: dict[str, float] = {}
    for window in windows:
        for each in window.prediction.predictions if window.prediction else ():
            peaks[each.label] = max(each.score, peaks.get(each.label, each.score))
    return sorted(peaks, key=lambda label: -peaks[label])


def _timeline(windows: Iterable[WindowRecord], labels: Iterable[str]) -> Timeline | None:
    """The timeline of a video's windows, for some labels; None if they make none.

    Of two records of a window, the last counts.
    """
    shown = set(labels)
    latest = {scores.centre: scores for scores in (_scores(window, shown) for window in windows)}
    ordered = [latest[centre] for centre in sorted(latest)]
    ends = [window.end_seconds for window in ordered]
    try:
        if (
            sum(bisect(ends, window.end_seconds) - bisect(ends, window.start_seconds) for window in ordered)
            > MOST_PAIRS
        ):
            return None
        return combine(ordered)
    except ValueError:
        return None


def _scores(window: WindowRecord, shown: set[str]) -> WindowScores:
    ranked = window.prediction.predictions if window.prediction else None
    scores = None if ranked is None else {each.label: each.score for each in ranked if each.label in shown}
    return WindowScores(window.start_seconds, window.end_seconds, scores)


def _best_label(prediction: Prediction | None, segments: Iterable[Segment]) -> Best | None:
    """The best label of a video, or of a timeline the one that lasts longest."""
    if prediction and prediction.predictions:
        first = prediction.predictions[0]
        return Best(first.label, first.score)
    seconds: dict[str, float] = {}
    weighted: dict[str, float] = {}
    for segment in segments:
        seconds[segment.label] = seconds.get(segment.label, 0) + segment.seconds
        weighted[segment.label] = weighted.get(segment.label, 0) + segment.seconds * segment.score
    if not any(seconds.values()):
        return None
    label = max(seconds, key=lambda label: seconds[label])
    return Best(label, weighted[label] / seconds[label])


def _best_moment(moments: Iterable[Moment]) -> Best | None:
    """What a video answers best."""
    best = min(moments, key=lambda moment: moment.rank, default=None)
    return None if best is None else Best(best.query, best.score)


def _spent(predictions: Iterable[Prediction]) -> Seconds | None:
    """What predictions took together, in seconds; None if that is not known."""
    known = [prediction.seconds for prediction in predictions if prediction.seconds]
    if not known:
        return None
    return Seconds(sum(seconds.decode for seconds in known), sum(seconds.model for seconds in known))
