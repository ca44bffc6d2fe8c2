"""Writing an index: rows into parts, lines about videos after the parts that hold their rows.

A part appears when it is whole, and a line is written when all parts that it names have appeared: whoever kills the
writer loses the part that is being filled. A video whose windows are still coming has a line that says how far they
came (less often where they take more bytes to tell of than to keep), and is continued. One writer at a time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from io import BufferedRandom
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from ..errors import ResultsError, VideoError
from ..text import clock, printable
from .lines import (
    LINES_NAME,
    MAX_LINE,
    PARTS_NAME,
    SETTINGS_NAME,
    Entry,
    IndexSettings,
    Span,
    StoredWindow,
    VideoLine,
    is_index,
    read_entries,
    read_settings,
    read_windows,
)
from .parts import PART_BYTES, SUFFIX, PartWriter, Rows, check_part, map_part, part_rows
from .records import Error, Failure
from .writing import Part, open_locked

if TYPE_CHECKING:
    from .index import Index, StoredVideo

FLUSH_SECONDS = 30.0  # rows are in no part for so long at most
SMALL_PART = PART_BYTES // 2  # bytes: smaller ones are joined
HASHED = 1 << 20  # bytes, of each of three places of a video
COPIED_AT_ONCE = 256  # rows
MANY_WINDOWS = 100_000  # of fewer, a line has room
SAID_OF_ROWS = 4  # times the bytes of a line about an unfinished video
CHUNKS = ".xclip-chunks-"  # folders of indexes that the machines of a cluster make, to be copied into this one
UNFINISHED = "unfinished"  # the code of the error of such a video


class IndexWriter:
    """An index that videos are added to; it is made if it is not there. Close it: that joins small parts.

    Raises ResultsError where the folder holds something else, was made with other settings, is written by another run,
    or cannot be written.
    """

    def __init__(self, folder: Path, settings: IndexSettings | None = None) -> None:
        """``settings`` None: those of an index that is there."""
        self.folder = folder
        self._check_folder(settings)
        self._parts = folder / PARTS_NAME
        try:
            self._parts.mkdir(parents=True, exist_ok=True)
            self._file, _ = open_locked(folder / LINES_NAME)
        except OSError as error:
            raise self._error(error) from error
        try:
            self.settings = self._begin(settings)
            self.views = self.settings.views_of.count
            self.entries, self._end = read_entries(self._file, folder, self.settings)
            self._file.truncate(self._end)
            self._part: PartWriter | None = None
            self._part_began = 0.0
            self._spans: list[Span] = []  # of the video whose rows are being added
            self._told = 0  # of its rows, those that a line names already
            self._pending: list[tuple[VideoLine, Sequence[StoredWindow]]] = []  # lines whose rows are in no part yet
            self._changed = self._broken = False
            self.damaged = self._forget_damaged()
            self._clean()
        except OSError as error:
            self._file.close()
            raise self._error(error) from error
        except BaseException:
            self._file.close()
            raise

    def add(self, rows: Rows) -> bool:
        """Some rows of the next video, in the order of its windows; ``finish`` follows → whether all so far are safe,
        as ``so_far`` may say then."""
        self._spans += self._append(rows)
        if self._part is not None and time.monotonic() - self._part_began >= FLUSH_SECONDS:
            self.flush()
        return self._part is None

    def finish(self, line: VideoLine, windows: Sequence[StoredWindow] = ()) -> None:
        """The video whose rows were added: its line is written once they are safe. Raises VideoError where it has more
        windows than a line can tell of."""
        spans, self._spans, self._told = self._spans, [], 0
        line = replace(line, rows=tuple(_continued(spans)))
        if len(windows) > MANY_WINDOWS and len(_line_bytes(line, [w.to_json() for w in windows])) >= MAX_LINE:
            raise VideoError(
                f"it has {len(windows):,} windows, more than an index holds: embed it with a longer --stride", "limit"
            )
        self.record(line, windows)

    def so_far(self, line: VideoLine, windows: Sequence[StoredWindow]) -> None:
        """Say of the video whose rows are being added that it has these windows, as one that is unfinished. All of its
        rows are safe. Not said as long as that took more bytes than a quarter of the rows that are new."""
        count = sum(window.lost is None for window in windows) * self.views
        at = clock(windows[-1].end_seconds)
        error = Error(UNFINISHED, f"embedding was stopped at {at}: the same `xclip embed` goes on from there")
        line = replace(line, rows=tuple(_first_rows(_continued(self._spans), count)), error=error)
        size = len(_line_bytes(line, [window.to_json() for window in windows]))
        new = (count - self._told) * self.settings.layout.row_bytes
        if not self._broken and size < MAX_LINE and SAID_OF_ROWS * size <= new:
            self._told = count
            self._write([(line, windows)])

    def resume(self, video: str) -> list[StoredWindow]:
        """Go on with a video that is unfinished → the windows that it has. Raises ResultsError."""
        entry = self.entries[video]
        self._spans = list(entry.line.rows)
        self._told = sum(span.count for span in self._spans)
        return self.windows_of(entry)

    def record(self, line: VideoLine, windows: Sequence[StoredWindow] = ()) -> None:
        """A line about a video whose rows, if it has any, are in parts already, or in that being filled."""
        self._pending.append((line, windows))
        if self._part is None:
            self.flush()

    def forget(self, videos: Iterable[str]) -> None:
        """Drop videos from the index."""
        self.flush()
        self._write((VideoLine(video, gone=True), ()) for video in list(videos))

    def forget_parts(self, names: Iterable[str]) -> list[str]:
        """Drop the videos with rows in these parts, so that the next run embeds them again → which they are."""
        wanted = set(names)
        videos = [v for v, entry in self.entries.items() if wanted & {span.part for span in entry.line.rows}]
        self.forget(videos)
        return videos

    def windows_of(self, entry: Entry) -> list[StoredWindow]:
        """The windows of a video of the index. Raises ResultsError."""
        return list(read_windows(self._file.fileno(), entry, self.folder))

    def take(self, other: Index) -> tuple[int, int]:
        """Copy the videos of another index that this one has not, or only as failed → how many, and how many not.

        Raises ResultsError where the other was made with other settings.
        """
        known = self.entries
        lacking = [v for v in other if v.video not in known or (known[v.video].line.error and not v.failure)]
        self._copy(other, lacking)
        self.flush()
        return len(lacking), len(other) - len(lacking)

    def replace(self, other: Index) -> None:
        """Copy the videos of another index, which was made later, also over those that this one has. They are safe when
        this is flushed. Raises ResultsError where the other was made with other settings."""
        self._copy(other, [video for video in other if not self.keeps(other.entries[video.video].line)])

    def keeps(self, line: VideoLine) -> bool:
        """Whether what it holds of a video stays, as the line says that the file is gone."""
        known = self.entries.get(line.video)
        return known is not None and known.line.error is None and line.error is not None and not line.size

    def _copy(self, other: Index, videos: Iterable[StoredVideo]) -> None:
        self._refuse_other(other.settings, other.folder)
        for video in videos:
            for first in range(0, video.num_windows, COPIED_AT_ONCE):
                self.add(video.rows(first, min(COPIED_AT_ONCE, video.num_windows - first)))
            self.finish(other.entries[video.video].line, video.windows)

    def flush(self) -> None:
        """Have all rows in parts, and all lines that wait for that in the file."""
        part, self._part = self._part, None
        if part is not None:
            try:
                part.finish()
            except OSError as error:
                part.abandon()
                self._break()
                raise self._error(error) from error
        pending, self._pending = self._pending, []
        if pending:
            self._write(pending)

    def tidy(self, wasteful: bool = False) -> None:
        """Join small parts; with ``wasteful`` also write anew those that hold rows of no video."""
        self.flush()
        sizes, live = self._sizes(), self._live()
        small = {name for name in live if sizes[name] < SMALL_PART}
        names = small if len(small) > 1 else set[str]()
        if wasteful:
            names |= {n for n, rows in live.items() if rows < part_rows(self._parts / n, self.settings.layout)}
        if names or wasteful:
            self._rewrite(names)
        self._clean()

    def close(self) -> None:
        """Flush, join small parts if anything was added, and let others write."""
        if self._file.closed:
            return
        try:
            if not self._broken:
                self.flush()
                if self._changed:
                    with suppress(ResultsError):  # no room for joining: what there is stays as it is
                        self.tidy()
        finally:
            if self._part is not None:
                self._part.abandon()
            with suppress(OSError):
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_folder(self, settings: IndexSettings | None) -> None:
        """Raises ResultsError, also where the index of a stranger would have us write, or delete, elsewhere."""
        for name, is_own in ((LINES_NAME, Path.is_file), (PARTS_NAME, Path.is_dir)):
            path = self.folder / name
            if path.is_symlink() or (path.exists() and not is_own(path)):
                raise ResultsError(
                    f"{printable(str(path))} is a link, or not what an index has there: it is read, but not written"
                )
        if is_index(self.folder):
            return
        own = {LINES_NAME, PARTS_NAME}  # of a run that was killed before it had begun
        if settings is None or (self.folder.exists() and not (self.folder.is_dir() and self._holds_only(own))):
            raise ResultsError(f"{printable(str(self.folder))} is no index: give one, or a folder that does not exist")

    def _holds_only(self, names: set[str]) -> bool:
        return all(path.name in names or path.name.startswith(".xclip-") for path in self.folder.iterdir())

    def _refuse_other(self, settings: IndexSettings, folder: Path) -> None:
        if differing := self.settings.differences(settings):
            raise ResultsError(
                f"{printable(str(folder))} and {printable(str(self.folder))} do not belong together: the latter has "
                + "; ".join(differing)
            )

    def _begin(self, settings: IndexSettings | None) -> IndexSettings:
        """The settings in the file, which is made from ``settings`` if it is not there, or no video is in the index
        yet. Raises ResultsError where others are."""
        if is_index(self.folder) or settings is None:
            found = read_settings(self.folder)
            if settings is None or not (differing := found.differences(settings)):
                return found
            entries, _ = read_entries(self._file, self.folder, found)
            if any(entry.line.error is None for entry in entries.values()):
                raise ResultsError(
                    f"{printable(str(self.folder))} was made with different settings: {'; '.join(differing)}: give the "
                    "flags that it was made with, or another folder"
                )
            self._file.truncate(0)
            self._file.seek(0)
        part = Part(self.folder / SETTINGS_NAME, alone=True)
        try:
            part.file.write(json.dumps(settings.to_json(), indent=2).encode() + b"\n")
            part.file.flush()
            part.publish(force=True)
        except BaseException:
            part.delete()
            raise
        part.file.close()
        return settings

    def _append(self, rows: Rows) -> Iterator[Span]:
        """Put rows into parts → where they are."""
        while len(rows.features):
            try:
                if self._part is None:
                    self._part = PartWriter(self._parts, self.settings.layout)
                    self._part_began = time.monotonic()
                part = self._part
                taken = min(max(1, PART_BYTES // self.settings.layout.row_bytes - part.rows), len(rows.features))
                part.add(rows.part(0, taken))
            except BaseException as error:  # also Ctrl-C: nobody knows what of the rows was written
                self._break()
                if isinstance(error, OSError):
                    raise self._error(error) from error
                raise
            yield Span(part.name, part.rows - taken, taken)
            if part.is_full:
                self.flush()
            rows = rows.part(taken, len(rows.features))

    def _write(self, lines: Iterable[tuple[VideoLine, Sequence[StoredWindow]]]) -> None:
        """Append lines, each whole or not at all."""
        self._changed = True
        for line, windows in lines:
            data = _line_bytes(line, [window.to_json() for window in windows])
            try:
                _write_at(self._file.fileno(), data, self._end)
                if line.gone:
                    self.entries.pop(line.video, None)
                else:
                    usable = sum(window.lost is None for window in windows)
                    self.entries[line.video] = Entry(line, usable, self._end, len(data))
                self._end += len(data)
            except BaseException as error:  # also Ctrl-C
                self._break()
                if isinstance(error, OSError):
                    raise self._error(error) from error
                raise

    def _break(self) -> None:
        """After an error nothing more is written, and half a line or part is taken away."""
        self._broken, self._pending = True, []
        if self._part is not None:
            self._part.abandon()
            self._part = None
        with suppress(OSError):
            os.ftruncate(self._file.fileno(), self._end)

    def _error(self, error: OSError) -> ResultsError:
        return ResultsError(
            f"cannot write the index {printable(str(self.folder))}: {error.strerror or error}; what it held before is "
            "safe: the same command goes on from there"
        )

    def _sizes(self) -> dict[str, int]:
        return {p.name: p.stat().st_size for p in self._parts.iterdir() if p.suffix == SUFFIX and p.name[0] != "."}

    def _live(self) -> dict[str, int]:
        """The parts that lines name, and how many of their rows."""
        spans = {span for entry in self.entries.values() for span in entry.line.rows}
        rows: dict[str, int] = {}
        for span in spans:
            rows[span.part] = rows.get(span.part, 0) + span.count
        return rows

    def _forget_damaged(self) -> dict[str, list[str]]:
        """Drop the videos with rows in parts that are missing or cut off → by part."""
        found = {}
        for name in self._live():
            try:
                part_rows(self._parts / name, self.settings.layout)
            except ResultsError:
                found[name] = self.forget_parts([name])
        return found

    def _clean(self) -> None:
        """Delete what no line names, unless somebody reads who may have read other lines."""
        for path in self._parts.iterdir():
            if path.name.startswith(".xclip-"):
                path.unlink(missing_ok=True)  # of a writer that was killed: this is the only one
        for path in self.folder.glob(f"{CHUNKS}*"):  # of a run on a cluster that was
            shutil.rmtree(path, ignore_errors=True)
        unused = self._sizes().keys() - self._live().keys()
        with (self.folder / SETTINGS_NAME).open("rb") as file, suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for name in unused:
                (self._parts / name).unlink(missing_ok=True)

    def _rewrite(self, names: set[str]) -> None:
        """Copy the rows of parts that lines name into new ones, and write all lines anew, in one step."""
        moved: dict[Span, tuple[Span, ...]] = {}
        for entry in self.entries.values():
            for span in entry.line.rows:
                if span.part in names and span not in moved:
                    moved[span] = tuple(_continued(self._copied(span)))
        self.flush()
        beside = self.folder / f".xclip-{LINES_NAME}"
        beside.unlink(missing_ok=True)  # of a writer that was killed
        file, _ = open_locked(beside, new=True)
        try:
            entries, end = self._copy_lines(file, moved)
            file.flush()
            os.fsync(file.fileno())
            beside.replace(self.folder / LINES_NAME)
        except OSError as error:
            beside.unlink(missing_ok=True)
            file.close()
            raise self._error(error) from error
        self._file.close()
        self._file, self.entries, self._end = file, entries, end

    def _copied(self, span: Span) -> Iterator[Span]:
        rows = map_part(self._parts / span.part, self.settings.layout)
        for first in range(span.first, span.first + span.count, COPIED_AT_ONCE):
            yield from self._append(rows.part(first, min(COPIED_AT_ONCE, span.first + span.count - first)))

    def _copy_lines(self, file: BufferedRandom, moved: dict[Span, tuple[Span, ...]]) -> tuple[dict[str, Entry], int]:
        """Write the lines of all videos, with their rows where they are now."""
        entries, end = dict[str, Entry](), 0
        file.truncate()
        for video, entry in self.entries.items():
            spans = _continued(new for span in entry.line.rows for new in moved.get(span, (span,)))
            line = replace(entry.line, rows=tuple(spans))
            values = json.loads(os.pread(self._file.fileno(), entry.length, entry.offset))
            data = _line_bytes(line, values.get("windows", []))
            file.write(data)
            entries[video] = Entry(line, entry.windows, end, len(data))
            end += len(data)
        return entries, end


def check_index(index: Index) -> dict[str, str]:
    """The parts of an index that are not what was written, each with what is wrong. All of them are read."""
    found = {}
    for name in index.parts:
        try:
            check_part(index.folder / PARTS_NAME / name, index.settings.layout)
        except ResultsError as error:
            found[name] = str(error)
    return found


def content_hash(path: str, size: int) -> str:
    """What tells a video's content from others without reading all: its size, and three places. Raises OSError."""
    digest = hashlib.sha256(str(size).encode())
    with Path(path).open("rb") as file:
        for place in dict.fromkeys((0, max(0, (size - HASHED) // 2), max(0, size - HASHED))):
            file.seek(place)
            digest.update(file.read(HASHED))
    return digest.hexdigest()


def line_of(failure: Failure, known: VideoLine) -> VideoLine:
    """The line of a video that failed; ``known`` says which file it is."""
    return replace(known, error=failure.error, warnings=failure.warnings)


def is_unfinished(entry: Entry) -> bool:
    """Whether the run that was embedding a video was stopped, and the next one goes on with it."""
    return entry.line.error is not None and entry.line.error.code == UNFINISHED


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    """Write all of it, or raise OSError. Not through a buffer: what found no room would be written when that is closed,
    behind a gap."""
    rest = memoryview(data)
    while rest:
        count = os.pwrite(descriptor, rest, offset)
        rest, offset = rest[count:], offset + count


def _first_rows(spans: Iterable[Span], count: int) -> Iterator[Span]:
    """The first ``count`` rows of spans."""
    for span in spans:
        if count:
            taken = min(count, span.count)
            yield replace(span, count=taken)
            count -= taken


def _line_bytes(line: VideoLine, windows: list[Any]) -> bytes:
    values = {key: value for key, value in asdict(line).items() if value or key == "video"}
    if windows:
        values["windows"] = windows
    return json.dumps(values, separators=(",", ":")).encode() + b"\n"


def _continued(spans: Iterable[Span]) -> Iterator[Span]:
    """Spans, those that continue each other as one."""
    last: Span | None = None
    for span in spans:
        if last is not None and span.part == last.part and span.first == last.first + last.count:
            last = replace(last, count=last.count + span.count)
            continue
        if last is not None:
            yield last
        last = span
    if last is not None:
        yield last
