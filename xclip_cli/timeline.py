"""Timelines: the windows of each video, looked at one after another and put together into segments.

How windows become segments is the arithmetic of ``segments``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .output.subtitles import format_srt, format_vtt
from .results.index import StoredVideo
from .results.records import Failure, Prediction, RunHeader, SegmentsRecord, WindowRecord
from .segments import row_of, segments_of, timeline_of
from .text import Remarks, clock
from .video.sampling import check_windows

if TYPE_CHECKING:
    import numpy.typing as npt

    from .classifier import Classifier

TimelineRecord = WindowRecord | SegmentsRecord | Failure


@dataclass(frozen=True)
class Rules:
    """What windows there are, and which segments they make. Times in seconds. Raises ValueError for odd windows."""

    window: Fraction
    stride: Fraction
    min_score: float = 0.0
    min_duration: float = 0.0

    def __post_init__(self) -> None:
        check_windows(self.window, self.stride)

    @classmethod
    def of(
        cls,
        usual_window: Fraction,
        window: Fraction | None = None,
        stride: Fraction | None = None,
        min_score: float = 0.0,
        min_duration: float = 0.0,
    ) -> Rules:
        """With the model's usual window, and a stride of half a window, where none is given. Raises ValueError."""
        window = usual_window if window is None else window
        return cls(window, window / 2 if stride is None else stride, min_score, min_duration)


@dataclass(frozen=True, repr=False)
class VideoTimeline(SegmentsRecord):
    """One video's windows, and the segments that they form: ``error`` says what ended it early, if anything did.

    ``timeline`` has the scores of all labels over time, as arrays.
    """

    windows: tuple[WindowRecord, ...] = field(default=(), compare=False)

    def to_srt(self) -> str:
        """The segments as SubRip subtitles."""
        return format_srt(self.segments)

    def to_vtt(self) -> str:
        """The segments as WebVTT subtitles."""
        return format_vtt(self.segments)

    def to_json(self) -> dict[str, Any]:
        """The segments as JSON values, and the windows."""
        return {**super().to_json(), "windows": [window.to_json() for window in self.windows]}

    @classmethod
    def of(cls, made: SegmentsRecord, windows: Iterable[WindowRecord]) -> Self:
        """The segments and the windows that they are made of."""
        return cls(**{one.name: getattr(made, one.name) for one in fields(SegmentsRecord)}, windows=tuple(windows))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        windows = values.get("windows", [])
        if not isinstance(windows, list) or not all(isinstance(window, dict) for window in windows):
            raise ValueError("windows is no list of records")
        return cls.of(SegmentsRecord.from_json(values), map(WindowRecord.from_json, windows))


def whole_timelines(records: Iterable[TimelineRecord]) -> Iterator[VideoTimeline | Failure]:
    """One record per video, of those of its windows and its segments."""
    windows: list[WindowRecord] = []
    for record in records:
        if isinstance(record, WindowRecord):
            windows.append(record)
        elif isinstance(record, Failure):
            yield record
            windows = []
        else:
            yield VideoTimeline.of(record, windows)
            windows = []


class Timelines:
    """The task of finding out when in videos which label fits best."""

    def __init__(
        self,
        classifier: Classifier,
        rules: Rules,
        start: Fraction | None = None,
        end: Fraction | None = None,
        top_k: int = 0,
    ) -> None:
        self.classifier = classifier
        self.rules = rules
        self.start, self.end, self.top_k = start, end, top_k

    def header(self) -> RunHeader:
        """What the records are made with."""
        return replace(
            self.classifier.run_header(self.start, self.end, self.top_k),
            window=str(self.rules.window),
            stride=str(self.rules.stride),
            min_score=self.rules.min_score,
            min_duration=self.rules.min_duration,
        )

    def records(self, paths: Iterable[str]) -> Iterator[TimelineRecord]:
        """The records of the windows of each video, in order, and behind them that of its segments; or a Failure.

        The first videos decode while torch and the weights are loaded, which is done when this returns. Raises
        ModelError.
        """
        rules = self.rules
        requests = (self.classifier.request(path, self.start, self.end, rules.window, rules.stride) for path in paths)
        outcomes = self.classifier.classify_windows(requests)
        self.classifier.load()
        return assemble(outcomes, self.classifier.choices, rules, self.top_k)

    def stored(self, videos: Iterable[StoredVideo]) -> Iterator[TimelineRecord]:
        """The same, of videos of indexes."""
        outcomes = self.classifier.classify_stored(videos, windows=True)
        return assemble(outcomes, self.classifier.choices, self.rules, self.top_k)

    def description(self) -> str:
        """The model and how it runs, in a line."""
        return self.classifier.description()


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
        self._rate: str | None = None
        self._usable = False  # whether a window is not lost

    def add(self, window: WindowRecord) -> None:
        """The next window, with the scores of all labels, or lost."""
        self._starts.append(window.start_seconds)
        self._ends.append(window.end_seconds)
        self._remarks.add(window.remarks)
        if isinstance(window.result, Failure):
            self._first_lost = self._first_lost or window.result
            scores = None
        else:
            self._usable = True
            self._rate = window.result.frames.rate
            scores = {ranked.label: ranked.score for ranked in window.result.predictions}
        self._scores.append(np.array(row_of(scores, self._labels), np.float32))

    def finished(self, video: str) -> SegmentsRecord | Failure:
        """What all windows make; a Failure where all are lost."""
        if self._usable or self._first_lost is None:
            return self._segments(video)
        return self._first_lost.of_all(len(self._scores))

    def broken_off(self, failure: Failure) -> SegmentsRecord | Failure:
        """What the windows before a video's error make, and the error."""
        if not self._usable:
            return failure
        made = self._segments(failure.video)
        where = f"its timeline ends at {clock(self._ends[-1], 1)}, after {made.num_windows:,} windows"
        error = replace(failure.error, message=f"{failure.message}; {where}")
        return replace(made, error=error, warnings=(*failure.warnings, *made.warnings))

    def _segments(self, video: str) -> SegmentsRecord:
        timeline, segments = None, []
        if self._ends[-1] > self._starts[0]:
            starts, ends = np.array(self._starts), np.array(self._ends)
            timeline = timeline_of(self._labels, starts, ends, np.array(self._scores))
            segments = segments_of(timeline, self._rules.min_score, self._rules.min_duration)
        return SegmentsRecord(
            video=video,
            segments=tuple(segments),
            num_windows=len(self._scores),
            window_seconds=float(self._rules.window),
            stride_seconds=float(self._rules.stride),
            min_score=self._rules.min_score,
            min_duration=self._rules.min_duration,
            warnings=tuple(self._remarks.texts()),
            rate=self._rate,
            timeline=timeline,
        )


def assemble(
    results: Iterable[tuple[Prediction | Failure, int]], labels: tuple[str, ...], rules: Rules, top_k: int = 0
) -> Iterator[TimelineRecord]:
    """Windows, each with how many of the same video follow → their records, and behind each video's its segments.

    A failure with a start is of that window, any other ends its video. ``top_k`` labels of each window are passed on; 0
    for all.
    """
    assembly, seen = Assembly(labels, rules), 0
    for result, following in results:
        if isinstance(result, Failure) and result.start_seconds is None:
            yield assembly.broken_off(result)
        else:
            seen += 1
            assembly.add(WindowRecord(result))
            yield WindowRecord(result.top(top_k), seen / (seen + following))
            if not following:
                yield assembly.finished(result.video)
        if not following:
            assembly, seen = Assembly(labels, rules), 0
