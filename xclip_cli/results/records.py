"""What comes out of a run, and its one JSON form (schema 1; fields are only ever added)."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

from ..errors import VideoError

SCHEMA = 1


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
class Prediction:
    """One video's ranked labels."""

    video: str  # the path as given
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
        """The record."""
        values = asdict(self)
        for optional in ("withheld", "seconds"):
            if values[optional] is None:
                del values[optional]
        return {"schema": SCHEMA, "video": values.pop("video"), "status": "ok", **values}


@dataclass(frozen=True)
class Failure:
    """One video's error."""

    video: str
    code: str  # stable, see VideoError
    message: str
    type: str = VideoError.__name__
    warnings: tuple[str, ...] = ()
    start_seconds: float | None = None  # of the one window of a timeline that is lost; None: it is the video
    end_seconds: float | None = None

    def top(self, count: int) -> Failure:
        """A failure has no labels to cut."""
        return self

    @classmethod
    def of(cls, video: str, error: VideoError) -> Failure:
        """The record of an error."""
        return cls(video, error.code, str(error))

    def to_json(self) -> dict[str, Any]:
        """The record."""
        window = {"start_seconds": self.start_seconds, "end_seconds": self.end_seconds}
        return {
            "schema": SCHEMA,
            "video": self.video,
            "status": "error",
            **({} if self.start_seconds is None else window),
            "error": {"type": self.type, "code": self.code, "message": self.message},
            "warnings": list(self.warnings),
        }


Record = Prediction | Failure


class Jsonable(Protocol):
    """Whatever is a line of a results file."""

    def to_json(self) -> dict[str, Any]:
        """The record."""


@dataclass(frozen=True)
class RunHeader:
    """The first line of a JSONL file: what every record in it was made with. It has no ``video``."""

    xclip: str  # version
    model: str
    revision: str | None
    model_identity: str
    labels: int
    labels_sha256: str  # of names and texts, in order
    num_frames: int
    views: str
    preprocess: str
    heads: int | None  # of MIT and prompt generator, where they are not the checkpoint's
    start: str | None  # of the window, in exact seconds; None: the video's start
    end: str | None
    dtype: str
    top_k: int
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
