"""A results file, read back: JSON Lines of records, as ``-o FILE.jsonl`` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from ..errors import ResultsError
from .records import Error, Moment, Prediction, Record, RunHeader, SegmentsRecord, WindowRecord, from_json


@dataclass
class VideoResult:
    """All that a results file says about one video."""

    video: str
    record: Record | None = None  # a prediction, or why the video failed; None: it has a timeline
    windows: list[WindowRecord] = field(default_factory=list)
    segments: SegmentsRecord | None = None
    moments: list[Moment] = field(default_factory=list)  # that answer queries

    def add(self, record: Record) -> bool:
        """Sort in the next record of the video. Returns whether it replaces an earlier one: a second record of the
        whole video replaces the first, and a timeline replaces a failure."""
        if isinstance(record, Moment):
            self.moments.append(record)
            return False
        of_timeline = isinstance(record, WindowRecord) or (isinstance(record, SegmentsRecord) and not record.error)
        replaces = self.record is not None and (self.error is not None or not of_timeline)
        if self.error or not of_timeline:
            self.record = None if of_timeline else record
        if isinstance(record, WindowRecord):
            self.windows.append(record)
        elif isinstance(record, SegmentsRecord):
            self.segments = record
        return replaces

    @property
    def prediction(self) -> Prediction | None:
        """The video's ranked labels, if it was classified as a whole."""
        return self.record.prediction if self.record else None

    @property
    def error(self) -> Error | None:
        """Why the video failed, if it did."""
        return self.record.error if self.record else None

    @property
    def looked_at(self) -> bool:
        """Whether there is more to show than an error."""
        return not self.error or bool(self.windows) or bool(self.moments)


@dataclass
class Results:
    """A run's header and its videos, in the order of their first records."""

    header: RunHeader | None = None
    videos: list[VideoResult] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)  # what a user should know about the file

    def stretch(self, prediction: Prediction) -> tuple[Fraction | None, Fraction | None]:
        """The part of a video that a prediction is about: from, to, in exact seconds; None: the video's start or end.

        Without a header these are the times in the record, which are exact for all but the finest time bases.
        """
        if self.header is not None:
            return self.header.stretch
        return exactly(prediction.start_seconds), exactly(prediction.end_seconds)

    @classmethod
    def of(cls, records: Iterable[Record | RunHeader | None]) -> Results:
        """Sort records by video. None stands for a record of a kind that this version does not know."""
        results, videos, replaced, unknown = cls(), dict[str, VideoResult](), 0, 0
        for record in records:
            if record is None:
                unknown += 1
            elif isinstance(record, RunHeader):
                results.header = record
            else:
                video = videos.setdefault(record.video, VideoResult(record.video))
                replaced += video.add(record)
        results.videos = list(videos.values())
        if replaced:
            results.notices.append(f"{replaced} records were replaced by later ones for the same video")
        if unknown:
            results.notices.append(f"{unknown} records are of a kind that this version does not know and were left out")
        return results


def exactly(seconds: float) -> Fraction:
    """The time that a float stands for: time bases are rarely finer than a microsecond."""
    return Fraction(seconds).limit_denominator(1_000_000)


def read_results(path: Path) -> Results:
    """A JSON Lines file of results. A last line that was cut off is left out, with a notice. Raises ResultsError."""
    notices: list[str] = []
    try:
        with path.open("rb") as lines:
            results = Results.of(record for _, record in read_lines(path, lines, notices))
    except OSError as error:
        raise _unreadable(path, error) from error
    if not results.videos:
        raise ResultsError(f"{path} contains no results: pass a JSON Lines file that xclip wrote with -o FILE.jsonl")
    results.notices[:0] = notices
    return results


def iter_results(path: Path) -> Iterator[Record | RunHeader | None]:
    """The header and the records of a file, one by one, as ``read_results`` takes them in. Raises ResultsError."""
    try:
        with path.open("rb") as lines:
            yield from (record for _, record in read_lines(path, lines, []))
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> ResultsError:
    return ResultsError(f"cannot read the results {path}: {error.strerror}")


def read_lines(
    path: Path, lines: Iterable[bytes], notices: list[str]
) -> Iterator[tuple[int, Record | RunHeader | None]]:
    """The records of the lines of ``path``, each with where its line ends, in bytes; None for a kind that this version
    does not know. Raises ResultsError. A last line that was cut off becomes a notice."""
    end = 0
    for number, line in enumerate(lines, start=1):
        end += len(line)
        if not line.strip():
            continue
        try:
            values = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            if not line.endswith(b"\n"):
                notices.append(f"the last line, {number}, was cut off and was left out")
                return
            hint = " (expected JSON Lines, as -o FILE.jsonl writes them)" if number == 1 else ""
            raise ResultsError(f"{path}, line {number}: not JSON: {error}{hint}") from error
        try:
            record = from_json(values)
        except ValueError as error:
            raise ResultsError(f"{path}, line {number}: not an xclip record: {error}") from error
        yield end, record
