"""A results file, read back: JSON Lines of records (schema 1), as ``-o FILE.jsonl`` writes them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from ..errors import ResultsError
from .records import SCHEMA

Json = dict[str, Any]

# What must be in a record: a type, a list of one shape, or keys with shapes; a key with ? may be missing or null. float
# stands for any number. More fields than these may always be there.
_FAILED = {"status": "error", "error": {"code": str, "message": str}, "warnings": [str]}
_LOST = {**_FAILED, "start_seconds": float, "end_seconds": float}  # a window
_CLASSIFIED = {
    "status": "ok",
    "model": str,
    "start_seconds": float,
    "end_seconds": float,
    "frames": {"requested": int, "decoded": int, "repeated": int, "errors": int, "times_seconds": [float]},
    "predictions": [{"label": str, "score": float, "logit": float}],
    "warnings": [str],
    "seconds?": {"decode": float, "model": float},  # what the video took
}
_SEGMENTS = {
    "status": "ok",
    "num_windows": int,
    "segments": [{"start_seconds": float, "end_seconds": float, "label": str, "score": float}],
    "warnings?": [str],
}
_BROKEN_OFF = {**_SEGMENTS, **_FAILED}  # a timeline that ends in an error
_HEADER = {"labels?": int, "num_frames?": int, "views?": str, "preprocess?": str, "dtype?": str, "xclip?": str}
_LARGEST = 1e12  # of any number in a record


@dataclass
class VideoResult:
    """All that a results file says of one video."""

    video: str
    record: Json | None = None  # classify's, or a failure
    windows: list[Json] = field(default_factory=list)
    segments: Json | None = None  # the record that completes a timeline, or ends it in an error

    @property
    def looked_at(self) -> bool:
        """Whether there is more to show of it than an error."""
        return not self.error or bool(self.windows)

    @property
    def error(self) -> Json | None:
        """Why the video failed, if it did: ``code`` and ``message``."""
        error: Json | None = self.record["error"] if self.record and self.record["status"] == "error" else None
        return error


@dataclass
class Results:
    """A run's header and its videos, in the order of their first records."""

    header: Json | None = None
    videos: list[VideoResult] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)  # what a user should know of the file

    def window(self, record: Json) -> tuple[Fraction | None, Fraction | None]:
        """Where a record's video was to be looked at: from, to, in exact seconds; None for where the video starts or
        ends. Without a header it is what floats say, which is exact for all but the finest time bases."""
        if self.header is not None:
            return _exact(self.header.get("start")), _exact(self.header.get("end"))
        return exactly(record["start_seconds"]), exactly(record["end_seconds"])

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Results:
        """Sort checked records by video. A second record of a video replaces the first, a timeline a failure."""
        results, videos, replaced, unknown = cls(), dict[str, VideoResult](), 0, 0
        for record in map(dict, records):
            kind = record.get("kind")
            if kind == "run":
                results.header = record
                continue
            if kind not in (None, "window", "segments"):
                unknown += 1
                continue
            video = videos.setdefault(record["video"], VideoResult(record["video"]))
            timed = kind == "window" or (kind == "segments" and record["status"] == "ok")
            if video.error or not timed:
                replaced += video.record is not None
                video.record = None if timed else record
            if kind == "segments":
                video.segments = record
            elif kind == "window":
                video.windows.append(record)
        results.videos = list(videos.values())
        if replaced:
            results.notices.append(f"{replaced} records were replaced by later ones of the same video")
        if unknown:
            results.notices.append(f"{unknown} records are of a kind that this version does not know, and are left out")
        return results


def exactly(seconds: float) -> Fraction:
    """The time that a float stands for: time bases are rarely finer than a microsecond."""
    return Fraction(seconds).limit_denominator(1_000_000)


def read_results(path: Path) -> Results:
    """A JSON Lines file of results. A last line that was cut off is left out, with a notice. Raises ResultsError."""
    notices: list[str] = []
    try:
        with path.open("rb") as lines:
            results = Results.of(_records(path, lines, notices))
    except OSError as error:
        raise ResultsError(f"cannot read the results {path}: {error.strerror}") from error
    if not results.videos:
        raise ResultsError(f"{path} holds no results: give a JSON Lines file that xclip wrote with -o FILE.jsonl")
    results.notices[:0] = notices
    return results


def _records(path: Path, lines: Iterable[bytes], notices: list[str]) -> Iterator[Json]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            if not line.endswith(b"\n"):
                notices.append(f"line {number}, the last, was cut off and is left out")
                return
            hint = " (JSON Lines are needed, as -o FILE.jsonl writes them)" if number == 1 else ""
            raise ResultsError(f"{path}, line {number}: not JSON: {error}{hint}") from error
        if fault := _fault(record):
            raise ResultsError(f"{path}, line {number}: not a record of xclip's results: {fault}")
        yield record


def _fault(record: Any) -> str | None:
    """What is wrong with a record, if anything is."""
    if fault := _misfit(record, {"schema": int}, "the record"):
        return fault
    if record["schema"] > SCHEMA:
        return f"schema {record['schema']} is newer than this version of xclip knows ({SCHEMA})"
    kind = record.get("kind")
    if kind == "run":
        return _misfit(record, _HEADER, "the header") or _window_misfit(record)
    if kind not in (None, "window", "segments"):
        return None
    if fault := _misfit(record, {"video": str}, "the record"):
        return fault
    good, bad = {"window": (_CLASSIFIED, _LOST), "segments": (_SEGMENTS, _BROKEN_OFF), None: (_CLASSIFIED, _FAILED)}[
        kind
    ]
    return _misfit(record, bad if record.get("status") == "error" else good, "the record")


def _window_misfit(header: Json) -> str | None:
    try:
        for key in ("start", "end"):
            _exact(header.get(key))
    except (TypeError, ValueError, ZeroDivisionError):
        return "start or end is no time"
    return None


def _exact(time: str | None) -> Fraction | None:
    """A header's time."""
    return None if time is None else Fraction(time)


def _misfit(value: Any, shape: Any, name: str) -> str | None:
    """Where ``value`` differs from ``shape``, if it does."""
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return f"{name} is no object"
        for key, inner in shape.items():
            plain = key.removesuffix("?")
            if plain != key and value.get(plain) is None:
                continue
            if plain not in value:
                return f"{name} has no {key}"
            if fault := _misfit(value[plain], inner, plain):
                return fault
        return None
    if isinstance(shape, list):
        if not isinstance(value, list):
            return f"{name} is no list"
        return next((fault for item in value if (fault := _misfit(item, shape[0], f"an entry of {name}"))), None)
    if isinstance(shape, str):
        return None if value == shape else f"{name} is not {shape!r}"
    fits = isinstance(value, int if shape is int else (int, float) if shape is float else shape)
    if shape is not str:
        fits = fits and not isinstance(value, bool) and abs(value) <= _LARGEST  # nor NaN
    return None if fits else f"{name} is no {'text' if shape is str else 'number'}"
