"""The lines of a run's results, and their one JSON form, written and read (schema 1; fields are only ever added).

A record knows itself: which video it is of, whether it completes that video, what share of it is done, what went wrong.
Code that uses any kind of records asks them, not for their type; only what is of one kind alone does that.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Protocol, Self

from ..errors import VideoError
from ..segments import Segment, Timeline
from ..text import encodable
from . import notebook
from .fields import is_time, read, read_field

SCHEMA = 1

NOT_IN_JSON = {"json": False}  # metadata of a field
NOT_SETTINGS = ("began", "command", "versions")  # fields of a header


@dataclass(frozen=True, slots=True)
class RankedLabel:
    """One label of a prediction, with its score and logit."""

    label: str
    score: float  # softmax over all the labels given, or as --none-of-these and --multi-label say
    logit: float  # cosine similarity times the model's logit scale


@dataclass(frozen=True, slots=True)
class Frames:
    """What was looked at."""

    requested: int  # frames of a clip
    decoded: int  # different pictures among them
    repeated: int  # places filled by a picture that was there already: the video has fewer frames
    errors: int  # packets and frames skipped as damaged
    times_seconds: tuple[float, ...]  # since the video's first frame
    rate: str | None = None  # frames per second of the video, a mean where it varies, as an exact ratio


@dataclass(frozen=True, slots=True)
class Seconds:
    """What a video, or window, took; of a batch an even share."""

    decode: float
    model: float


@dataclass(frozen=True)
class Error:
    """Why a video has no result."""

    code: str  # stable, see VideoError
    message: str
    type: str = VideoError.__name__

    def to_json(self) -> dict[str, Any]:
        """As it stands in a record."""
        return {"type": self.type, "code": self.code, "message": self.message}


class Jsonable(Protocol):
    """Whatever is a line of a results file."""

    def to_json(self) -> dict[str, Any]:
        """The line."""


class Record:
    """One line of a run's results, about one video."""

    video: str  # the path as given
    warnings: tuple[str, ...]
    error: Error | None = None  # why the video, or this window of it, has no result
    completes: ClassVar[bool] = True  # the video, in a run that has one answer a video
    share: float = 1.0  # of the video that is done with this record, 0 to 1
    end_seconds: float | None = None  # of the part of the video that the record is about, if it knows
    has_segments: ClassVar[bool] = False  # whether it says which there are, possibly none
    segments: tuple[Segment, ...] = ()
    timeline: Timeline | None = None
    label: str | None = None  # the best one, and its score, if the record ranks labels and none was withheld
    score: float | None = None

    @property
    def prediction(self) -> Prediction | None:
        """The ranked labels of the video, or of this window of it, if the record holds any."""
        return None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """The same: a dict of plain JSON values."""
        return self.to_json()

    def to_json_string(self) -> str:
        """The record as one line of JSON."""
        return json.dumps(self.to_json())

    def rows(self) -> list[dict[str, Any]]:
        """Flat rows, for a data frame or CSV: one per label or segment, and one for an error; if there are none, one
        with only the video."""
        found: dict[str, Any] = {"video": encodable(self.video), "status": "ok"}
        rows = [{**found, "rank": 1, **asdict(segment)} for segment in self.segments]
        if prediction := self.prediction:
            window = {"start_seconds": prediction.start_seconds, "end_seconds": prediction.end_seconds}
            for rank, ranked in enumerate(prediction.predictions, start=1):
                rows.append({**found, **window, "rank": rank, **asdict(ranked)})
        if self.error:
            rows.append({**found, "status": "error", "error": encodable(self.error.message)})
        return rows or [found]

    def _shown(self) -> list[tuple[str, str, float]]:
        """What a notebook shows: when (or ""), which label, its score."""
        shown = [(notebook.stretch(s.start_seconds, s.end_seconds), s.label, s.score) for s in self.segments]
        if found := self.prediction:
            when = "" if self.completes else notebook.stretch(found.start_seconds, found.end_seconds)
            shown += [(when, ranked.label, ranked.score) for ranked in found.predictions]
        return shown

    def __repr__(self) -> str:
        return notebook.one_line(type(self).__name__, self.video, self._shown(), self._failed())

    def _repr_html_(self) -> str:
        return notebook.table(self.video, self._shown(), [*self._failed(), *self.warnings])

    def _failed(self) -> list[str]:
        return [f"failed: {self.error.message}"] if self.error else []


@dataclass(frozen=True, repr=False)
class Prediction(Record):
    """One video's ranked labels.

    >>> ranked = RankedLabel("a cat", 0.75, 20.5), RankedLabel("a dog", 0.25, 19.4)
    >>> found = Prediction("a.mp4", "bundled", None, 0.0, 10.0, Frames(8, 8, 0, 0, (0.5, 1.5)), ranked)
    >>> found
    Prediction('a.mp4': a cat 0.750, a dog 0.250)
    >>> found.label, found.score, found.top(1).predictions
    ('a cat', 0.75, (RankedLabel(label='a cat', score=0.75, logit=20.5),))
    >>> [row["label"] for row in found.rows()]
    ['a cat', 'a dog']
    """

    video: str
    model: str
    revision: str | None  # the commit of a model from the hub
    start_seconds: float
    end_seconds: float = field()  # required: Record's default is not this field's
    frames: Frames
    predictions: tuple[RankedLabel, ...]  # best first
    warnings: tuple[str, ...] = ()
    withheld: int | None = None  # labels under the threshold or their lowest logit; None: there are no such limits
    seconds: Seconds | None = field(default=None, compare=False)
    calibrated: bool | None = None  # whether scores are fitted to be probabilities; None: they are not

    @property
    def prediction(self) -> Prediction:
        """The record itself."""
        return self

    @property
    def label(self) -> str | None:  # type: ignore[override]
        """The best label; None if all are withheld."""
        return self.predictions[0].label if self.predictions else None

    @property
    def score(self) -> float | None:  # type: ignore[override]
        """The best label's; None if all are withheld."""
        return self.predictions[0].score if self.predictions else None

    def top(self, count: int) -> Prediction:
        """Only the ``count`` best labels; 0 keeps all."""
        return dataclasses.replace(self, predictions=self.predictions[:count]) if count else self

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        values = asdict(self)
        for optional in ("withheld", "seconds", "calibrated"):
            if values[optional] is None:
                del values[optional]
        if self.frames.rate is None:
            del values["frames"]["rate"]
        return {"schema": SCHEMA, "video": values.pop("video"), "status": "ok", **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        return read(cls, values, "the record")


@dataclass(frozen=True, repr=False)
class Failure(Record):
    """One video's error."""

    video: str
    code: str  # stable, see VideoError
    message: str
    type: str = VideoError.__name__
    warnings: tuple[str, ...] = ()
    start_seconds: float | None = None  # of the one window of a timeline that is lost; None: it is the video
    end_seconds: float | None = None

    @classmethod
    def of(cls, video: str, error: VideoError) -> Failure:
        """The record of an error."""
        return cls(video, error.code, str(error))

    @property
    def error(self) -> Error:  # type: ignore[override]
        """What went wrong."""
        return Error(self.code, self.message, self.type)

    def top(self, count: int) -> Failure:
        """A failure has no labels to cut."""
        return self

    def of_all(self, windows: int) -> Failure:
        """That of a video all of whose windows are lost, the first of which to this."""
        message = f"all {windows:,} windows are lost; the first: {self.message}"
        return dataclasses.replace(self, message=message, start_seconds=None, end_seconds=None)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        window = {"start_seconds": self.start_seconds, "end_seconds": self.end_seconds}
        return {
            "schema": SCHEMA,
            "video": self.video,
            "status": "error",
            **{key: value for key, value in window.items() if value is not None},
            "error": self.error.to_json(),
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        error = read_field(Error, values, "error", "the record")
        return read(cls, {**values, **asdict(error)}, "the record")


@dataclass(frozen=True, repr=False)
class WindowRecord(Record):
    """One window of a video: its ranked labels, or why it was lost."""

    result: Prediction | Failure
    share: float = field(default=0.0, compare=False)  # of the video's windows, those up to this one
    completes: ClassVar[bool] = False

    @property
    def video(self) -> str:  # type: ignore[override]
        """The path as given."""
        return self.result.video

    @property
    def warnings(self) -> tuple[str, ...]:  # type: ignore[override]
        """Of the window."""
        return self.result.warnings

    @property
    def error(self) -> Error | None:  # type: ignore[override]
        """Why the window is lost, if it is."""
        return self.result.error

    @property
    def prediction(self) -> Prediction | None:
        """The window's ranked labels; None if it is lost."""
        return self.result.prediction

    @property
    def label(self) -> str | None:  # type: ignore[override]
        """The best label; None if all are withheld, or the window is lost."""
        return self.result.label

    @property
    def score(self) -> float | None:  # type: ignore[override]
        """The best label's."""
        return self.result.score

    @property
    def remarks(self) -> tuple[str, ...]:
        """The window's warnings, and a note if it is lost."""
        lost = (f"lost to an error ({self.error.code})",) if self.error else ()
        return (*self.warnings, *lost)

    @property
    def start_seconds(self) -> float:
        """Where the window begins."""
        return self.result.start_seconds or 0.0

    @property
    def end_seconds(self) -> float:  # type: ignore[override]
        """Where it ends, half-open."""
        return self.result.end_seconds or 0.0

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**self.result.to_json(), "kind": "window"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        result = _result_from_json(values)
        for key in ("start_seconds", "end_seconds"):
            if getattr(result, key) is None:
                raise ValueError(f"the record has no {key}")
        return cls(result)


@dataclass(frozen=True, repr=False)
class SegmentsRecord(Record):
    """The segments that a video's windows form: this completes its timeline, or ends it early with an error."""

    video: str
    segments: tuple[Segment, ...] = field()  # required: Record's default is not this field's
    num_windows: int
    window_seconds: float | None = None  # these four: what the segments were made with
    stride_seconds: float | None = None
    min_score: float | None = None
    min_duration: float | None = None
    warnings: tuple[str, ...] = ()  # of its windows and its error
    error: Error | None = None  # what ended the timeline early, after num_windows windows
    rate: str | None = None  # frames per second of the video, as its windows say
    timeline: Timeline | None = field(default=None, compare=False, repr=False, metadata=NOT_IN_JSON)
    has_segments: ClassVar[bool] = True

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        settings = ("window_seconds", "stride_seconds", "min_score", "min_duration", "rate")
        return {
            "schema": SCHEMA,
            "kind": "segments",
            "video": self.video,
            "status": "error" if self.error else "ok",
            "num_windows": self.num_windows,
            **{key: getattr(self, key) for key in settings if getattr(self, key) is not None},
            "segments": [asdict(segment) for segment in self.segments],
            "warnings": list(self.warnings),
            **({"error": self.error.to_json()} if self.error else {}),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        error = read_field(Error, values, "error", "the record") if _failed(values) else None
        return dataclasses.replace(read(cls, {**values, "error": None}, "the record"), error=error)


@dataclass(frozen=True, repr=False)
class Moment(Record):
    """A part of a video that matches a query. A video may have any number of them."""

    query: str  # the text, or the path of the clip that it is like
    rank: int  # among the answers to this query, from 1
    video: str
    start_seconds: float
    end_seconds: float = field()  # required: Record's default is not this field's
    score: float = field()  # of its best window: how the text does against the neutral texts; of a clip the cosine
    logit: float | None = None  # what it is ranked by, of a text
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        values = {key: value for key, value in asdict(self).items() if value is not None and value != ()}
        return {"schema": SCHEMA, "kind": "moment", **values}

    def rows(self) -> list[dict[str, Any]]:
        """One row."""
        return [{**asdict(self), "video": encodable(self.video), "status": "ok"}]

    def _shown(self) -> list[tuple[str, str, float]]:
        return [(notebook.stretch(self.start_seconds, self.end_seconds), self.query, self.score)]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        return read(cls, values, "the record")


@dataclass(frozen=True)
class Seen(Record):
    """A video that the model has seen, where that has no record of its own: for counts and progress alone."""

    video: str


@dataclass(frozen=True)
class SeenWindow(Record):
    """A window that it has, of a video of which more follow."""

    video: str
    end_seconds: float = field()  # required: Record's default is not this field's
    share: float = 1.0
    completes: ClassVar[bool] = False


@dataclass(frozen=True)
class RunHeader:
    """The first line of a JSONL file: the settings that all its records were made with. It has no ``video``.

    A field is None where it does not apply, or where an earlier version did not write it.
    """

    xclip: str | None = None  # version
    model: str | None = None
    revision: str | None = None
    model_identity: str | None = None
    labels: int | None = None
    labels_sha256: str | None = None  # of names and texts, in order
    num_frames: int | None = None
    views: str | None = None
    preprocess: str | None = None
    heads: int | None = None  # of MIT and prompt generator, where they are not the checkpoint's
    start: str | None = None  # of the window, in exact seconds; None: the video's start
    end: str | None = None
    dtype: str | None = None
    top_k: int | None = None
    window: str | None = None  # of a timeline, in exact seconds; None: each video is one window
    stride: str | None = None
    none_of_these: bool | None = None  # whether that may be the answer; None: no
    multi_label: bool | None = None  # whether each label is scored on its own; None: no
    threshold: float | None = None  # labels with lower scores are withheld
    min_score: float | None = None  # of its segments
    min_duration: float | None = None  # seconds
    head: str | None = None  # SHA-256 of learned corrections; None: there are none
    stream: int | None = None  # of each file's video streams, from 0; None: the best
    began: str | None = None  # when, in ISO 8601; this and what follows are no settings: runs may differ in them
    command: str | None = None
    versions: str | None = None  # of the libraries that scores depend on

    def to_json(self) -> dict[str, Any]:
        """The header line."""
        return {"schema": SCHEMA, "kind": "run", **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        if not all(is_time(values.get(key)) for key in ("start", "end")):
            raise ValueError("start or end is not a time")
        return read(cls, values, "the header")

    @property
    def stretch(self) -> tuple[Fraction | None, Fraction | None]:
        """The part of each video that was looked at: from, to; None for where the video starts or ends."""
        start, end = (None if time is None else Fraction(time) for time in (self.start, self.end))
        return start, end


def from_json(values: Any) -> Record | RunHeader | None:
    """A record, or a run's header, from its JSON values; None for a kind that this version does not know.

    Raises ValueError that says what is wrong.
    """
    schema = read(_Schema, values, "the record").schema
    if schema > SCHEMA:
        raise ValueError(f"schema {schema} is newer than this version of xclip reads ({SCHEMA}): update xclip")
    kind = values.get("kind")
    if kind is not None and not isinstance(kind, str):
        return None
    reader = _READERS.get(kind)
    return None if reader is None else reader(values)


@dataclass(frozen=True)
class _Schema:
    schema: int


def _result_from_json(values: Mapping[str, Any]) -> Prediction | Failure:
    return Failure.from_json(values) if _failed(values) else Prediction.from_json(values)


def _failed(values: Mapping[str, Any]) -> bool:
    """Whether a record's status is an error. Raises ValueError if it has no known status."""
    status = values.get("status")
    if status not in ("ok", "error"):
        raise ValueError("status is neither 'ok' nor 'error'" if "status" in values else "the record has no status")
    return bool(status == "error")


_READERS: dict[str | None, Callable[[Mapping[str, Any]], Record | RunHeader]] = {  # by kind
    None: _result_from_json,
    "window": WindowRecord.from_json,
    "segments": SegmentsRecord.from_json,
    "moment": Moment.from_json,
    "run": RunHeader.from_json,
}
