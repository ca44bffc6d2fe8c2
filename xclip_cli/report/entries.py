"""What a report shows: what is worked out of a video's records, and the pictures that go with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from ..results.reading import VideoResult
from ..results.records import Moment, Prediction, Seconds, WindowRecord
from ..segments import Segment, Timeline, WindowScores, combine
from ..text import Remarks


@dataclass
class Thumbnails:
    """The pictures of a report."""

    pictures: Mapping[str, Mapping[float, bytes]] = field(default_factory=dict)  # video → time in seconds → JPEG
    missing: Mapping[str, str] = field(default_factory=dict)  # video → why it has none
    caption: str = "There are no pictures: they were not asked for."  # which frames are shown


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
        self.timeline = _timeline(self.windows)
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
            warnings.append(f"the timeline is not complete: the run ended after {there:,} of its windows")
        elif self.num_windows is not None and self.num_windows != there:
            warnings.append(f"the timeline is not complete: {there:,} of {self.num_windows:,} windows are there")
        if self.windows and self.timeline is None:
            warnings.append("its windows make no timeline: they do not begin and end in order of time")
        return list(dict.fromkeys(warnings))


def _timeline(windows: Iterable[WindowRecord]) -> Timeline | None:
    """The timeline of a video's windows; None if they make none. Of two records of a window, the last counts."""
    latest = {scores.centre: scores for scores in map(_scores, windows)}
    try:
        return combine([latest[centre] for centre in sorted(latest)])
    except ValueError:
        return None


def _scores(window: WindowRecord) -> WindowScores:
    ranked = window.prediction.predictions if window.prediction else None
    scores = None if ranked is None else {each.label: each.score for each in ranked}
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
