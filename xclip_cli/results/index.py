"""The index: a folder of encodings of many videos, read without decoding any (format 1).

``index.json`` says what all encodings were made with, ``videos.jsonl`` has a line per video (a later one replaces an
earlier one), ``parts/*.safetensors`` hold the rows that lines name. An index may come from a stranger: whatever is
wrong with it is a ResultsError of one line. ``index_writer`` makes them.
"""

from __future__ import annotations

import fcntl
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

import numpy as np

from ..errors import ResultsError
from ..text import printable
from .lines import (
    LINES_NAME,
    PARTS_NAME,
    SETTINGS_NAME,
    Entry,
    IndexSettings,
    Span,
    StoredWindow,
    read_entries,
    read_settings,
    read_windows,
)
from .parts import Layout, Rows, damaged, map_part, open_regular
from .records import Failure

if TYPE_CHECKING:
    import numpy.typing as npt

    from .index_writer import IndexWriter

MAPPED_PARTS = 32  # at a time


class StoredVideo:
    """A video of an index. Its encodings are read on demand."""

    def __init__(self, index: Index, entry: Entry) -> None:
        self._index = index
        self._entry = entry

    @property
    def video(self) -> str:
        """The path, as it was given."""
        return self._entry.line.video

    @property
    def index(self) -> Index:
        """The index that holds it."""
        return self._index

    @property
    def failure(self) -> Failure | None:
        """Why the video has no encodings, or only up to some time; None if it is complete."""
        line = self._entry.line
        if line.error is None:
            return None
        return Failure(line.video, line.error.code, line.error.message, line.error.type, line.warnings)

    @property
    def num_windows(self) -> int:
        """The number of windows that have encodings."""
        return self._entry.windows

    @cached_property
    def windows(self) -> tuple[StoredWindow, ...]:
        """All windows in order, including lost ones. Raises ResultsError."""
        return self._index.windows(self._entry)

    def rows(self, first: int = 0, count: int | None = None) -> Rows:
        """The encodings as they lie in the parts, a row a view: of ``count`` windows, from the window ``first`` on, of
        those that have any. Raises ResultsError."""
        views = self._index.views
        count = self._entry.windows - first if count is None else count
        return self._index.rows(self._entry.line.rows, first * views, count * views)

    @property
    def features(self) -> npt.NDArray[np.float32]:
        """[windows, views, P], of the windows that have encodings; memory-mapped if they are in one part."""
        found = self.rows().features
        return found.reshape(-1, self._index.views, found.shape[1])

    @property
    def tokens(self) -> npt.NDArray[np.float32]:
        """[windows, views, n, P], in float32."""
        tokens = decoded_tokens(self.rows(), self._index.settings.layout.dtype)
        return tokens.reshape(-1, self._index.views, *tokens.shape[1:])


def decoded_tokens(rows: Rows, dtype: str) -> npt.NDArray[np.float32]:
    """Tokens [N, n, P] in float32."""
    if rows.scales is not None:
        return rows.tokens * rows.scales[..., None]
    if dtype == "bfloat16":
        return (rows.tokens.astype(np.uint32) << 16).view(np.float32)
    return rows.tokens.astype(np.float32, copy=False)


class Index:
    """A folder of encodings, open for reading: an iterable of its videos. Others may add to it in the meantime.

    A video has ``features`` [windows, views, P] and ``tokens`` as arrays mapped from the files, for models of your own.

    Raises ResultsError if the folder is not an index.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.settings = read_settings(self.folder)
        self.views = self.settings.views_of.count
        self._mapped: OrderedDict[str, Rows] = OrderedDict()
        self._reading = _lock_for_reading(self.folder)
        try:
            self._lines = open_regular(self.folder / LINES_NAME)
        except OSError as error:
            self._reading.close()
            raise ResultsError(f"{printable(str(folder))} is not an index: {LINES_NAME}: {error.strerror}") from error
        try:
            self.entries, _ = read_entries(self._lines, self.folder, self.settings)
        except BaseException:
            self.close()
            raise

    @classmethod
    def open(cls, folder: str | Path) -> Self:
        """Open the index in a folder."""
        return cls(folder)

    @classmethod
    def create(cls, folder: str | Path, settings: IndexSettings) -> IndexWriter:
        """Create an index, or continue one that was made with the same settings."""
        from .index_writer import IndexWriter  # readers do without

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

    @property
    def parts(self) -> list[str]:
        """The names of those that hold its rows."""
        return list(dict.fromkeys(span.part for entry in self.entries.values() for span in entry.line.rows))

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
            error = ValueError(f"it has {len(found.features)} rows, but the index names {rows}")
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


def _lock_for_reading(folder: Path) -> IO[bytes]:
    """While this is open, nobody deletes a part that lines of now may name. Raises ResultsError."""
    try:
        file = open_regular(folder / SETTINGS_NAME)
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_SH)
        return file
    except OSError as error:
        raise ResultsError(f"cannot read {printable(str(folder / SETTINGS_NAME))}: {error.strerror}") from error
