"""The index: a folder of encodings of many videos, read without decoding any (format 1).

``index.json`` says what all encodings were made with, ``videos.jsonl`` has a line a video (a later one replaces an
earlier one), ``parts/*.safetensors`` hold the rows that lines name. An index may come from a stranger: whatever is
wrong with it is a ResultsError of one line. ``index_writer`` makes them.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, fields
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import ResultsError
from ..text import one_line, printable
from ..video.sampling import ClipInfo, Views, check_windows
from .fields import read
from .parts import KINDS, MAX_NUMBERS, Layout, Rows, damaged, map_part
from .records import Error, Failure

if TYPE_CHECKING:
    import numpy.typing as npt

    from .index_writer import IndexWriter

FORMAT = 1
KIND = "xclip index"
FAMILY = "x-clip"
SETTINGS_NAME, LINES_NAME, PARTS_NAME = "index.json", "videos.jsonl", "parts"

MAX_SETTINGS = 1 << 16  # bytes of index.json
MAX_LINE = 1 << 28  # bytes of a video's line: that of a day in windows a second apart has some 30 MB
MAX_VIDEOS = 5_000_000  # of one index
MAPPED_PARTS = 32  # at a time

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
    compact: bool = False  # tokens are int8 with a scale a token
    preprocess: str = "hf"
    views: str = "1x1"
    heads: int | None = None  # of MIT and prompt generator, where they are not the checkpoint's
    start: str | None = None  # of the part of each video that was looked at, in exact seconds
    end: str | None = None
    window: str | None = None  # in exact seconds; None: each video is one window
    stride: str | None = None
    family: str = FAMILY  # of models
    xclip: str | None = None  # version that made the index
    kind: str = KIND
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"its format is {self.format}, this version of xclip reads {FORMAT}")
        if self.family != FAMILY:
            raise ValueError(f"its encodings are those of {one_line(self.family, 40)}, not of {FAMILY}")
        if self.dtype not in KINDS or self.dtype == "int8":
            raise ValueError("its dtype is not float32, bfloat16 or float16")
        if min(self.num_frames, self.tokens, self.width) < 1 or self.tokens * self.width > MAX_NUMBERS:
            raise ValueError("the sizes of its encodings are not those of a model")
        Views.parse(self.views)
        for time in (self.start, self.end, self.window, self.stride):
            if time is not None and not re.fullmatch(r"\d{1,20}(/[1-9]\d{0,20})?", time, re.ASCII):
                raise ValueError("one of its times is no time")
        if (self.window is None) != (self.stride is None):
            raise ValueError("it has a window without a stride")
        if self.window is not None and self.stride is not None:
            check_windows(Fraction(self.window), Fraction(self.stride))

    @property
    def layout(self) -> Layout:
        """Of a row."""
        return Layout(self.tokens, self.width, "int8" if self.compact else self.dtype)

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
                found.append(f"{name} {printable(str(ours), 80)}, not {printable(str(theirs), 80)}")
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

    @property
    def info(self) -> ClipInfo:
        """As it came from decoding."""
        return ClipInfo(
            self.start_seconds, self.end_seconds, self.times_seconds, self.places, self.errors, self.warnings
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


class StoredVideo:
    """A video of an index. Its encodings are read when they are asked for."""

    def __init__(self, index: Index, entry: Entry) -> None:
        self._index = index
        self._entry = entry

    @property
    def video(self) -> str:
        """The path as it was given."""
        return self._entry.line.video

    @property
    def index(self) -> Index:
        """Where it is."""
        return self._index

    @property
    def failure(self) -> Failure | None:
        """Why the video has no encodings, or not to its end."""
        line = self._entry.line
        if line.error is None:
            return None
        return Failure(line.video, line.error.code, line.error.message, line.error.type, line.warnings)

    @property
    def num_windows(self) -> int:
        """Windows that have encodings."""
        return self._entry.windows

    @cached_property
    def windows(self) -> tuple[StoredWindow, ...]:
        """All windows in order, those that are lost included. Raises ResultsError."""
        return self._index.windows(self._entry)

    def rows(self, first: int = 0, count: int | None = None) -> Rows:
        """The encodings as they lie in the parts, a row a view: of ``count`` windows, from the window ``first`` on, of
        those that have any. Raises ResultsError."""
        views = self._index.views
        count = self._entry.windows - first if count is None else count
        return self._index.rows(self._entry.line.rows, first * views, count * views)

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """[windows, views, P], of those that have encodings; mapped where they lie in one part."""
        found = self.rows().features
        return found.reshape(-1, self._index.views, found.shape[1])

    @property
    def tokens(self) -> npt.NDArray[np.float32]:
        """[windows, views, n, P], in float32."""
        tokens = decoded_tokens(self.rows(), self._index.settings.dtype)
        return tokens.reshape(-1, self._index.views, *tokens.shape[1:])


def decoded_tokens(rows: Rows, dtype: str) -> npt.NDArray[np.float32]:
    """Tokens [N, n, P] in float32."""
    if rows.scales is not None:
        return rows.tokens * rows.scales[..., None]
    if dtype == "bfloat16":
        return (rows.tokens.astype(np.uint32) << 16).view(np.float32)
    return rows.tokens.astype(np.float32, copy=False)


class Index:
    """A folder of encodings, to be read: an iterable of its videos. Others may add to it meanwhile.

    Raises ResultsError where the folder is no index.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        self.views = self.settings.views_of.count
        self._mapped: OrderedDict[str, Rows] = OrderedDict()
        self._reading = _lock_for_reading(self.folder)
        try:
            self._lines = (self.folder / LINES_NAME).open("rb")
        except OSError as error:
            self._reading.close()
            raise ResultsError(f"{printable(str(folder))} is no index: {LINES_NAME}: {error.strerror}") from error
        try:
            self.entries, _ = read_entries(self._lines, self.folder, self.views)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """The index in a folder."""
        return cls(folder)

    @classmethod
    def create(cls, folder: str | Path, settings: IndexSettings) -> IndexWriter:
        """Make an index, or go on with one that was made with the same settings."""
        from .index_writer import IndexWriter

        return IndexWriter(Path(folder), settings)

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[StoredVideo]:
        return (StoredVideo(self, entry) for entry in self.entries.values())

    def __getitem__(self, video: str) -> StoredVideo:
        return StoredVideo(self, self.entries[video])

    def __contains__(self, video: object) -> bool:
        return video in self.entries

    @property
    def num_windows(self) -> int:
        """Of all videos, those that have encodings."""
        return sum(entry.windows for entry in self.entries.values())

    def windows(self, entry: Entry) -> tuple[StoredWindow, ...]:
        """The windows of a video. Raises ResultsError."""
        return read_windows(self._lines.fileno(), entry, self.folder)

    def rows(self, spans: Iterable[Span], first: int, count: int) -> Rows:
        """Rows of spans, from the row ``first`` of them on. Raises ResultsError."""
        found: list[Rows] = []
        for span in spans:
            if first < span.count and count:
                taken = min(span.count - first, count)
                found.append(self.part(span.part, span.first + span.count).part(span.first + first, taken))
                first, count = 0, count - taken
            else:
                first -= min(first, span.count)
        return Rows.joined(found or [empty_rows(self.settings.layout)])

    def blocks(self, videos: Iterable[StoredVideo], most: int) -> Iterator[Rows]:
        """All rows of the videos, in order, up to ``most`` at a time: what lies together comes together."""
        layout, pending, waiting = self.settings.layout, list[Rows](), 0
        for part, first, count in _joined(span for video in videos for span in video._entry.line.rows):
            rows = self.part(part, first + count)
            for at in range(first, first + count, most):
                taken = min(most, first + count - at)
                if waiting + taken > most and pending:
                    yield Rows.joined(pending)
                    pending, waiting = [], 0
                pending.append(rows.part(at, taken))
                waiting += taken
        yield Rows.joined(pending or [empty_rows(layout)])

    def part(self, name: str, rows: int) -> Rows:
        """A part by its name, which has at least so many rows. Raises ResultsError."""
        if name not in self._mapped:
            self._mapped[name] = map_part(self.folder / PARTS_NAME / name, self.settings.layout)
            while len(self._mapped) > MAPPED_PARTS:
                self._mapped.popitem(last=False)
        self._mapped.move_to_end(name)
        found = self._mapped[name]
        if len(found.features) < rows:
            error = ValueError(f"it has {len(found.features)} rows, {rows} are named")
            raise damaged(self.folder / PARTS_NAME / name, error)
        return found

    def close(self) -> None:
        """Let the index be tidied."""
        self._mapped.clear()
        self._lines.close()
        self._reading.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def empty_rows(layout: Layout) -> Rows:
    """No rows of a layout."""
    return Rows(**{name: np.empty(shape, kind) for name, (_, kind, shape) in layout.arrays(0).items()})


def _joined(spans: Iterable[Span]) -> Iterator[tuple[str, int, int]]:
    """Spans, those that continue each other as one: part, first row, rows."""
    part, first, count = "", 0, 0
    for span in spans:
        if span.part == part and span.first == first + count:
            count += span.count
            continue
        if count:
            yield part, first, count
        part, first, count = span.part, span.first, span.count
    if count:
        yield part, first, count


def is_index(path: str | Path) -> bool:
    """Whether a folder's ``index.json`` says that it is an index."""
    try:
        with (Path(path) / SETTINGS_NAME).open("rb") as file:
            values = json.loads(file.read(MAX_SETTINGS))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(values, dict) and values.get("kind") == KIND


def read_settings(folder: Path) -> IndexSettings:
    """``index.json``. Raises ResultsError."""
    try:
        with (folder / SETTINGS_NAME).open("rb") as file:
            data = file.read(MAX_SETTINGS + 1)
        if len(data) > MAX_SETTINGS:
            raise ValueError(f"{SETTINGS_NAME} has more than {MAX_SETTINGS:,} bytes")
        values = json.loads(data)
        if not isinstance(values, dict) or values.get("kind") != KIND:
            raise ValueError(f"{SETTINGS_NAME} is not that of an index")
        return read(IndexSettings, values, SETTINGS_NAME)
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else one_line(error)
        raise ResultsError(f"{printable(str(folder))} is no index that can be used: {reason}") from error


def read_entries(lines: IO[bytes], folder: Path, views: int) -> tuple[dict[str, Entry], int]:
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
            line, windows = _read_line(data, views)
        except (ValueError, RecursionError) as error:
            reason = one_line(error)
            raise ResultsError(f"{printable(str(folder / LINES_NAME))}, line {number}: {reason}") from error
        if line.gone:
            entries.pop(line.video, None)
        else:
            entries[line.video] = Entry(line, windows, offset, len(data))
        if len(entries) > MAX_VIDEOS:
            raise ResultsError(f"{printable(str(folder))} has more than {MAX_VIDEOS:,} videos: make several indexes")
        offset += len(data)
    return entries, offset


def _read_line(data: bytes, views: int) -> tuple[VideoLine, int]:
    """A line, and how many of its windows have encodings. Raises ValueError."""
    values = json.loads(data)
    line = read(VideoLine, values, "the line")
    windows = values.get("windows", [])
    if not isinstance(windows, list) or not all(isinstance(window, dict) for window in windows):
        raise ValueError("windows is no list of objects")
    usable = sum(window.get("lost") is None for window in windows)
    rows = sum(span.count for span in line.rows)
    if rows != usable * views:
        raise ValueError(f"{usable} windows of {views} views have {rows} rows")
    if not line.gone and not windows and line.error is None:
        raise ValueError("it has neither windows nor an error")
    return line, usable


def read_windows(descriptor: int, entry: Entry, folder: Path) -> tuple[StoredWindow, ...]:
    """The windows of a line of an open file. Raises ResultsError."""
    try:
        values = json.loads(os.pread(descriptor, entry.length, entry.offset))
        return tuple(read(StoredWindow, window, "a window") for window in values.get("windows", []))
    except (OSError, ValueError, RecursionError) as error:
        video = printable(entry.line.video, 200)
        raise ResultsError(f"{printable(str(folder / LINES_NAME))}, the line of {video}: {one_line(error)}") from error


def _lock_for_reading(folder: Path) -> IO[bytes]:
    """While this is open, nobody deletes a part that lines of now may name. Raises ResultsError."""
    try:
        file = (folder / SETTINGS_NAME).open("rb")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        return file
    except OSError as error:
        raise ResultsError(f"cannot read {printable(str(folder / SETTINGS_NAME))}: {error.strerror}") from error
