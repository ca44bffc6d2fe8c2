"""What an index says besides its rows: its settings, and a line per video. Read with care: they may be a stranger's."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

from ..errors import ResultsError
from ..text import one_line, printable
from ..video.sampling import MOST_OVERLAP, ClipInfo, Views, check_windows
from .fields import read
from .parts import KINDS, MAX_NUMBERS, Layout, open_regular
from .records import Error, Failure

FORMAT = 1
KIND = "xclip index"
FAMILY = "x-clip"
SETTINGS_NAME, LINES_NAME, PARTS_NAME = "index.json", "videos.jsonl", "parts"

MAX_SETTINGS = 1 << 16  # bytes of index.json
MAX_LINE = 1 << 28  # bytes of a video's line: that of a day in windows a second apart has some 30 MB
MAX_VIDEOS = 5_000_000  # of one index
LONGEST_NAME = 5000  # characters of a model's: a path, at most

_PART = re.compile(r"[A-Za-z0-9_-]{1,64}\.safetensors", re.ASCII)


@dataclass(frozen=True)
class IndexSettings:
    """What all encodings of an index are made with: ``index.json``. Raises ValueError for what cannot be."""

    model: str  # the checkpoint's name
    identity: str  # what tells it from others, the same on every machine
    num_frames: int
    tokens: int  # n, visual tokens of a view
    width: int  # P, of features and tokens
    dtype: str  # what the model computed in
    revision: str | None = None  # the commit of a model from the hub
    compact: bool = False  # tokens are int8 with a scale per token
    preprocess: str = "hf"
    views: str = "1x1"
    heads: int | None = None  # of MIT and prompt generator, where they are not the checkpoint's
    start: str | None = None  # of the part of each video that was looked at, in exact seconds
    end: str | None = None
    window: str | None = None  # in exact seconds; None: each video is one window
    stride: str | None = None
    stream: int | None = None  # of each file's video streams, from 0; None: the best
    family: str = FAMILY  # of models
    xclip: str | None = None  # version that made the index
    kind: str = KIND
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"its format is {self.format}, but this version of xclip reads {FORMAT}")
        if self.family != FAMILY:
            raise ValueError(f"its encodings are those of {one_line(self.family, 40)}, not of {FAMILY}")
        if self.dtype not in KINDS:
            raise ValueError(f"its dtype is not {', '.join(KINDS)}")
        if self.stream is not None and self.stream < 0:
            raise ValueError("its stream is not a stream number")
        if min(self.num_frames, self.tokens, self.width) < 1 or self.tokens * self.width > MAX_NUMBERS:
            raise ValueError("its encodings have impossible sizes")
        if not re.fullmatch(r"[a-z0-9]{1,20}", self.preprocess, re.ASCII) or len(self.model) > LONGEST_NAME:
            raise ValueError("its model or preprocessing has an impossible name")
        Views.parse(self.views)
        for time in (self.start, self.end, self.window, self.stride):
            if time is not None and not re.fullmatch(r"\d{1,20}(/[1-9]\d{0,20})?", time, re.ASCII):
                raise ValueError("one of its times is not a time")
        if (self.window is None) != (self.stride is None):
            raise ValueError("it has a window without a stride")
        if self.window is not None and self.stride is not None:
            check_windows(Fraction(self.window), Fraction(self.stride))

    @property
    def model_name(self) -> str:
        """What loads the model, at its revision."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"

    @property
    def layout(self) -> Layout:
        """Of a row."""
        given = "bfloat16" if self.dtype == "int8" else self.dtype  # by a model that computes in int8
        return Layout(self.tokens, self.width, "int8" if self.compact else given)

    @property
    def views_of(self) -> Views:
        """How many rows a window has."""
        return Views.parse(self.views)

    def to_json(self) -> dict[str, Any]:
        """As it stands in the file."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def differences(self, other: IndexSettings) -> list[str]:
        """What ``other`` has different, so that encodings of the two do not belong together: "views 1x1, not 4x3"."""
        ignored = {"model", "revision", "xclip", "identity"}
        named = [one.name for one in fields(self) if one.name not in ignored]
        found = [] if self.identity == other.identity else [f"model {_model(self)}, not {_model(other)}"]
        for name in named:
            ours, theirs = getattr(self, name), getattr(other, name)
            if ours != theirs:
                shown = ("none" if value is None else printable(str(value), 80) for value in (ours, theirs))
                found.append(f"{name} {', not '.join(shown)}")
        return found


def _model(settings: IndexSettings) -> str:
    return f"{printable(settings.model, 200)} ({printable(settings.identity, 17)})"


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive rows of a part."""

    part: str
    first: int
    count: int

    def __post_init__(self) -> None:
        if not _PART.fullmatch(self.part):
            raise ValueError(f"{one_line(repr(self.part))} is not the name of a part")
        if self.first < 0 or self.count < 1:
            raise ValueError("a span of rows is empty or begins before the part")


@dataclass(frozen=True)
class StoredWindow:
    """What is known of one window of a video besides its encodings."""

    start_seconds: float
    end_seconds: float
    times_seconds: tuple[float, ...] = ()  # of the frames, clip after clip
    places: tuple[int, ...] = ()  # for each of the frames, which of the decoded pictures it is
    errors: int = 0
    warnings: tuple[str, ...] = ()
    short_side: int = 0  # pixels, of the smallest picture
    lost: str | None = None  # why there are no encodings of this window
    code: str = "damaged"  # of that error
    rate: str | None = None  # frames per second of the video, as an exact ratio

    @property
    def info(self) -> ClipInfo:
        """As it came from decoding."""
        return ClipInfo(
            self.start_seconds,
            self.end_seconds,
            self.times_seconds,
            self.places,
            self.errors,
            self.warnings,
            rate=self.rate,
        )

    def failure(self, video: str) -> Failure:
        """The record of a window that is lost."""
        return Failure(
            video,
            self.code,
            self.lost or "",
            warnings=self.warnings,
            start_seconds=self.start_seconds,
            end_seconds=self.end_seconds,
        )

    def to_json(self) -> dict[str, Any]:
        """As it stands in a line."""
        return {
            one.name: getattr(self, one.name)
            for one in fields(self)
            if one.name in ("start_seconds", "end_seconds") or getattr(self, one.name) != one.default
        }


@dataclass(frozen=True)
class VideoLine:
    """A line of ``videos.jsonl``, less its windows."""

    video: str  # the path as given
    size: int = 0  # bytes
    modified: float = 0.0  # seconds since 1970
    hash: str = ""  # of size, first, middle and last MiB
    rows: tuple[Span, ...] = ()
    error: Error | None = None  # why the video has no encodings, or not to its end
    warnings: tuple[str, ...] = ()  # of the error
    gone: bool = False  # the index holds nothing of the video any more


@dataclass(slots=True)
class Entry:
    """What is kept in memory of a video's line."""

    line: VideoLine
    windows: int  # with encodings
    offset: int = field(repr=False)  # of the line in the file
    length: int = field(repr=False)


def is_index(path: str | Path) -> bool:
    """Whether a folder's ``index.json`` says that it is an index."""
    try:
        with open_regular(Path(path) / SETTINGS_NAME) as file:
            values = json.loads(file.read(MAX_SETTINGS))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("kind") == KIND


def read_settings(folder: Path) -> IndexSettings:
    """``index.json``. Raises ResultsError."""
    try:
        with open_regular(folder / SETTINGS_NAME) as file:
            data = file.read(MAX_SETTINGS + 1)
        if len(data) > MAX_SETTINGS:
            raise ValueError(f"{SETTINGS_NAME} has more than {MAX_SETTINGS:,} bytes")
        values = json.loads(data)
        if not isinstance(values, dict) or values.get("kind") != KIND:
            raise ValueError(f"{SETTINGS_NAME} does not describe an index")
        return read(IndexSettings, values, SETTINGS_NAME)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise ResultsError(f"{printable(str(folder))} is not a usable index: {reason}") from error


def read_entries(lines: IO[bytes], folder: Path, made: IndexSettings) -> tuple[dict[str, Entry], int]:
    """The videos that lines tell of, and where the last whole line ends. Raises ResultsError."""
    entries: dict[str, Entry] = {}
    offset, number = 0, 0
    while data := lines.readline(MAX_LINE):
        number += 1
        if not data.endswith(b"\n"):
            if len(data) < MAX_LINE:
                break  # it is being written, or was when its writer was killed
            raise ResultsError(f"{printable(str(folder / LINES_NAME))}, line {number}: longer than {MAX_LINE:,} bytes")
        try:
            line, windows = _read_line(data, made)
        except (ValueError, RecursionError) as error:
            reason = one_line(error)
            raise ResultsError(f"{printable(str(folder / LINES_NAME))}, line {number}: {reason}") from error
        if line.gone:
            entries.pop(line.video, None)
        else:
            entries[line.video] = Entry(line, windows, offset, len(data))
        if len(entries) > MAX_VIDEOS:
            raise ResultsError(
                f"{printable(str(folder))} has more than {MAX_VIDEOS:,} videos: split it into several indexes"
            )
        offset += len(data)
    return entries, offset


def _read_line(data: bytes, made: IndexSettings) -> tuple[VideoLine, int]:
    """A line, and how many of its windows have encodings. Raises ValueError."""
    values = json.loads(data)
    line = read(VideoLine, values, "the line")
    windows = values.get("windows", [])
    if not isinstance(windows, list) or not all(isinstance(window, dict) for window in windows):
        raise ValueError("windows is not a list of objects")
    usable = sum(window.get("lost") is None for window in windows)
    rows, views = sum(span.count for span in line.rows), made.views_of.count
    if rows != usable * views:
        raise ValueError(f"{usable} windows of {views} views have {rows} rows")
    if not line.gone and not windows and line.error is None:
        raise ValueError("it has neither windows nor an error")
    if made.window is None and (usable < len(windows) or len(windows) + (line.error is not None) > 1):
        raise ValueError("a video that was encoded whole has more than one window, or a window and an error")
    return line, usable


def read_windows(descriptor: int, entry: Entry, folder: Path) -> tuple[StoredWindow, ...]:
    """The windows of a line of an open file. Raises ResultsError."""
    try:
        values = json.loads(os.pread(descriptor, entry.length, entry.offset))
        windows = tuple(read(StoredWindow, window, "a window") for window in values.get("windows", []))
        if not _are_in_order(windows):
            raise ValueError("its windows are empty, out of order, or overlap too much")
        return windows
    except (OSError, ValueError, RecursionError) as error:
        video = printable(entry.line.video, 200)
        raise ResultsError(f"{printable(str(folder / LINES_NAME))}, the line of {video}: {one_line(error)}") from error


def _are_in_order(windows: Sequence[StoredWindow]) -> bool:
    """Whether these may be a video's, as ``check_windows`` allows them: a timeline of others might take for ever. One
    alone may be empty, as its video."""
    starts, ends = ([getattr(window, f"{side}_seconds") for window in windows] for side in ("start", "end"))
    apart = MOST_OVERLAP + 2  # one more ends where the video does, and times are rounded
    return (
        all(start <= end if len(windows) == 1 else start < end for start, end in zip(starts, ends, strict=True))
        and all(earlier < later for times in (starts, ends) for earlier, later in pairwise(times))
        and all(end <= start for end, start in zip(ends, starts[apart:], strict=False))
    )
