"""What comes out of a run, line by line, and its one JSON form, to write and to read (schema 1; fields are only added).

A record knows itself: which video it is of, whether it completes that video, how much of it is done, what went wrong.
Nobody asks for a record's type.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import Any, ClassVar, Protocol, Self

from ..errors import VideoError
from ..segments import Segment, Timeline
from .fields import read, read_field

SCHEMA = 1

NOT_IN_JSON = {"json": False}  # of a field's metadata

_EXACT = re.compile(r"\d{1,15}(\.\d{1,15}|/[1-9]\d{0,14})?")  # a time in a header, as str(Fraction) writes it


@dataclass(frozen=True)
class RankedLabel:
    """One label's place in a prediction."""

    label: str
    score: float  # softmax over all the labels given, or as --none-of-these and --multi-label say; not calibrated
    logit: float  # cosine similarity times the model's logit scale


@dataclass(frozen=True)
class Frames:
    """What was looked at."""

    requested: int  # frames of a clip
    decoded: int  # different pictures among them
    repeated: int  # places filled by a picture that was there already: the video has fewer frames
    errors: int  # packets and frames skipped as damaged
    times_seconds: tuple[float, ...]  # since the video's first frame


@dataclass(frozen=True)
class Seconds:
    """What a video, or window, took; of a batch an even share."""

    decode: float
    model: float


@dataclass(frozen=True)
class Error:
    """Why there is no result."""

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
    """One line of a run's results, of one video."""

    video: str  # the path as given
    warnings: tuple[str, ...]
    completes: ClassVar[bool] = True  # the video: no more records of it follow
    share: float = 1.0  # of the video that is done with this record

    # Of a timeline; other records have neither.
    segments: tuple[Segment, ...] = ()
    timeline: Timeline | None = None

    @property
    def error(self) -> Error | None:
        """Why the video, or this part of it, has no result; None where it has one."""
        return None

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        raise NotImplementedError


@dataclass(frozen=True)
class Prediction(Record):
    """One video's ranked labels."""

    video: str
    model: str
    revision: str | None  # the commit of a model from the hub
    start_seconds: float
    end_seconds: float
    frames: Frames
    predictions: tuple[RankedLabel, ...]  # best first
    warnings: tuple[str, ...] = ()
    withheld: int | None = None  # labels under the threshold or their lowest logit; None: there are no such limits
    seconds: Seconds | None = field(default=None, compare=False)

    def top(self, count: int) -> Prediction:
        """The ``count`` best labels alone; 0 keeps all."""
        return dataclasses.replace(self, predictions=self.predictions[:count]) if count else self

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        values = asdict(self)
        for optional in ("withheld", "seconds"):
            if values[optional] is None:
                del values[optional]
        return {"schema": SCHEMA, "video": values.pop("video"), "status": "ok", **values}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        return read(cls, values, "the record")


@dataclass(frozen=True)
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
    def error(self) -> Error:
        """Why."""
        return Error(self.code, self.message, self.type)

    def top(self, count: int) -> Failure:
        """A failure has no labels to cut."""
        return self

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        window = {"start_seconds": self.start_seconds, "end_seconds": self.end_seconds}
        return {
            "schema": SCHEMA,
            "video": self.video,
            "status": "error",
            **({} if self.start_seconds is None else window),
            "error": self.error.to_json(),
            "warnings": list(self.warnings),
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        error = read_field(Error, values, "error", "the record")
        return read(cls, {**values, **asdict(error)}, "the record")


@dataclass(frozen=True)
class WindowRecord(Record):
    """One window of a video: its ranked labels, or why it is lost."""

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
    def error(self) -> Error | None:
        """Why the window is lost, if it is."""
        return self.result.error

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is to be said of the window: its warnings, and that it is lost if it is."""
        lost = (f"lost to an error ({self.error.code})",) if self.error else ()
        return (*self.warnings, *lost)

    @property
    def start_seconds(self) -> float:
        """Where the window begins."""
        return self.result.start_seconds or 0.0

    @property
    def end_seconds(self) -> float:
        """Where it ends, half-open."""
        return self.result.end_seconds or 0.0

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        return {**self.result.to_json(), "kind": "window"}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        result = _by_status(Prediction, values).from_json(values)
        for key in ("start_seconds", "end_seconds"):
            if getattr(result, key) is None:
                raise ValueError(f"the record has no {key}")
        return cls(result)


@dataclass(frozen=True)
class SegmentsRecord(Record):
    """What all windows of a video make: the record that completes its timeline, or ends it in an error."""

    video: str
    segments: tuple[Segment, ...] = field()  # here it must be given
    num_windows: int
    window_seconds: float | None = None  # these four: what the segments were made with
    stride_seconds: float | None = None
    min_score: float | None = None
    min_duration: float | None = None
    warnings: tuple[str, ...] = ()  # of its windows, and of its error
    error: Error | None = None  # which comes after the windows there are
    timeline: Timeline | None = field(default=None, compare=False, repr=False, metadata=NOT_IN_JSON)

    def to_json(self) -> dict[str, Any]:
        """The record as JSON values."""
        settings = ("window_seconds", "stride_seconds", "min_score", "min_duration")
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
        failed = _by_status(cls, values) is Failure
        error = read_field(Error, values, "error", "the record") if failed else None
        return dataclasses.replace(read(cls, {**values, "error": None}, "the record"), error=error)


@dataclass(frozen=True)
class RunHeader:
    """The first line of a JSONL file: what every record in it was made with. It has no ``video``.

    None where it does not apply, or an earlier version did not write it.
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

    def to_json(self) -> dict[str, Any]:
        """The header line."""
        return {"schema": SCHEMA, "kind": "run", **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Back from JSON values. Raises ValueError."""
        if any(values.get(key) is not None and not _EXACT.fullmatch(str(values[key])) for key in ("start", "end")):
            raise ValueError("start or end is no time")
        return read(cls, values, "the header")

    @property
    def stretch(self) -> tuple[Fraction | None, Fraction | None]:
        """The part of each video that was looked at: from, to; None for where the video starts or ends."""
        start, end = (None if time is None else Fraction(time) for time in (self.start, self.end))
        return start, end


KINDS: dict[str | None, type[Prediction | WindowRecord | SegmentsRecord | RunHeader]] = {
    None: Prediction,
    "window": WindowRecord,
    "segments": SegmentsRecord,
    "run": RunHeader,
}


def from_json(values: Any) -> Record | RunHeader | None:
    """A record, or a run's header, from its JSON values; None for a kind that this version does not know.

    Raises ValueError that says what is wrong.
    """
    if not isinstance(values, dict):
        raise ValueError("the record is no object")
    schema = values.get("schema")
    if not isinstance(schema, int) or isinstance(schema, bool):
        raise ValueError("schema is no number" if "schema" in values else "the record has no schema")
    if schema > SCHEMA:
        raise ValueError(f"schema {schema} is newer than this version of xclip knows ({SCHEMA})")
    kind = values.get("kind")
    if kind is not None and (not isinstance(kind, str) or kind not in KINDS):
        return None
    found = KINDS[kind]
    return (_by_status(found, values) if found is Prediction else found).from_json(values)


def _by_status(good: type[Any], values: Mapping[str, Any]) -> type[Any]:
    """The class of a record by its status: ``good``, or Failure. Raises ValueError."""
    status = values.get("status")
    if status not in ("ok", "error"):
        raise ValueError("status is not 'ok'" if "status" in values else "the record has no status")
    return good if status == "ok" else Failure
