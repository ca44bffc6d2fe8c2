"""Embedding: the task of keeping what a model sees of videos in an index. Videos that it holds already cost nothing."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from . import __version__
from .engine.encoder import Encoder
from .engine.encodings import Encodings
from .engine.pipeline import Outcome
from .errors import ResultsError, VideoError
from .results.index import Index
from .results.index_writer import CHUNKS, IndexWriter, content_hash, is_unfinished, line_of
from .results.lines import IndexSettings, StoredWindow, VideoLine
from .results.parts import Rows
from .results.records import Failure, RunHeader, Seen, SeenWindow
from .text import printable
from .video.sampling import ClipRequest


@dataclass(frozen=True)
class Kept:
    """One window, ready for the index."""

    video: str
    window: StoredWindow
    rows: Rows


def index_settings(
    encoder: Encoder,
    compact: bool = False,
    start: Fraction | None = None,
    end: Fraction | None = None,
    window: Fraction | None = None,
    stride: Fraction | None = None,
) -> IndexSettings:
    """What an index of an encoder's encodings is made with. ``window`` None: each video is one, from start to end."""
    config, checkpoint = encoder.config, encoder.checkpoint
    times = [None if time is None else str(time) for time in (start, end, window, stride)]
    return IndexSettings(
        model=checkpoint.name,
        identity=checkpoint.identity,
        revision=checkpoint.revision,
        num_frames=config.vision_config.num_frames,
        tokens=config.vision_config.num_patches,
        width=config.projection_dim,
        dtype=encoder.precision,
        compact=compact,
        preprocess=encoder.preprocess,
        views=str(encoder.views),
        heads=encoder.heads,
        stream=encoder.stream,
        start=times[0],
        end=times[1],
        window=times[2],
        stride=times[3],
        xclip=__version__,
    )


@dataclass(frozen=True)
class Chunked:
    """A record of a video that a machine of a cluster has embedded, and the index that it is in."""

    record: Seen | SeenWindow | Failure
    folder: Path


class ChunkEmbedding:
    """What a machine of a cluster makes of videos: each chunk is an index, in a folder that all machines share.

    Raises ResultsError if the folder is not there, or encodings would not be those of ``wanted``.
    """

    def __init__(self, encoder: Encoder, settings: IndexSettings, wanted: IndexSettings, folder: Path) -> None:
        if differing := wanted.differences(settings):
            raise ResultsError(f"its encodings would differ: {'; '.join(differing)}")
        if not folder.is_dir():
            raise ResultsError(
                f"it lacks {printable(str(folder.parent))}: give an index in a folder that all machines share"
            )
        self._encoder, self._settings, self._folder = encoder, settings, folder

    def header(self) -> RunHeader:
        """What the encodings are made by."""
        return RunHeader(__version__, self._settings.model, dtype=self._settings.dtype)

    def description(self) -> str:
        """The model and how it runs, in a line."""
        return self._encoder.description()

    def records(self, paths: Iterable[str]) -> Iterator[Chunked]:
        """Embed a chunk, into an index that is complete when the last record has come."""
        folder = self._folder / secrets.token_hex(8)
        task = Embedding(self._encoder, folder, self._settings)
        try:
            for record in task.records(paths):
                yield Chunked(record, folder)
        finally:
            task.writer.close()


class Embedding:
    """The task of adding videos to an index. Raises ResultsError if that cannot be."""

    def __init__(self, encoder: Encoder, folder: Path, settings: IndexSettings, retry_failed: bool = False) -> None:
        self.encoder = encoder
        self.writer = IndexWriter(folder, settings)
        self.moved = 0  # videos that were recognised under another path
        self._settings = settings
        self._retry_failed = retry_failed
        self._known: dict[str, VideoLine] = {}  # of videos on their way: which files they are
        self._continued: set[str] = set()  # those of them that an earlier run began
        self._begun: tuple[str, list[StoredWindow]] | None = (
            None  # the video whose windows are coming, and those so far
        )
        self._chunks: Path | None = None
        self._by_size: dict[int, list[str]] = {}
        for video, entry in self.writer.entries.items():
            self._by_size.setdefault(entry.line.size, []).append(video)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know of the model and, once it is loaded, how it runs."""
        return self.encoder.warnings

    def description(self) -> str:
        """The model and how it runs, in a line."""
        return self.encoder.description()

    def done(self, paths: Iterable[str]) -> set[str]:
        """The videos that need not be looked at: the index holds them, and under this path from now on."""
        return {path for path in paths if self._is_done(path)}

    def _is_done(self, path: str) -> bool:
        file = _file_of(path)
        if file is None:
            return False
        entry = self.writer.entries.get(path)
        if entry is not None and _is_same(entry.line, file):
            return entry.line.error is None or not (self._retry_failed or is_unfinished(entry))
        same_size = [v for v in self._by_size.get(file.size, ()) if v in self.writer.entries]
        if not same_size:
            return False
        try:
            found = content_hash(path, file.size)
        except OSError:
            return False
        for video in same_size:
            twin = self.writer.entries[video]
            if twin.line.hash == found and twin.line.error is None:
                self.writer.record(replace(twin.line, video=path, modified=file.modified), self.writer.windows_of(twin))
                if not os.path.isfile(video):  # noqa: PTH113 - no name is an error
                    self.writer.forget([video])
                self.moved += video != path
                return True
        return False

    def records(self, paths: Iterable[str]) -> Iterator[Seen | SeenWindow | Failure]:
        """Add videos, in order: a record each, and before it one for each window that others follow. The first videos
        decode while torch and the weights are loaded, which is done when this returns. Raises ModelError, ResultsError.
        """
        requests = (self._request(path) for path in paths)
        outcomes = self.encoder.run(requests, self._kept, windows=self._settings.window is not None)
        self.encoder.load()
        return self._written(outcomes)

    def _request(self, path: str) -> ClipRequest:
        """The windows of a video, those left out that a run which was stopped has put into the index already."""
        made, file = self._settings, _file_of(path) or VideoLine(path)
        start, end, window, stride = (
            None if t is None else Fraction(t) for t in (made.start, made.end, made.window, made.stride)
        )
        self._known[path], entry = file, self.writer.entries.get(path)
        if stride is not None and entry is not None and is_unfinished(entry) and _is_same(entry.line, file):
            self._continued.add(path)
            start = (start or 0) + len(self.writer.windows_of(entry)) * stride
        return self.encoder.request(path, start, end, window, stride)

    def chunks(self) -> Path:
        """A new folder for what the machines of a cluster make, which ``gather`` takes. Raises ResultsError."""
        self._chunks = self.writer.folder / f"{CHUNKS}{secrets.token_hex(8)}"
        try:
            self._chunks.mkdir()
        except OSError as error:
            folder = printable(str(self.writer.folder))
            raise ResultsError(f"cannot write the index {folder}: {error.strerror}") from error
        return self._chunks

    def gather(self, made: Iterable[Chunked | Failure]) -> Iterator[Seen | SeenWindow | Failure]:
        """Take over what a cluster has made of videos, in order, and the failures of those that ended its actors."""
        last: Path | None = None
        for each in made:
            if isinstance(each, Failure):
                self._known[each.video] = _file_of(each.video) or VideoLine(each.video)
                self._fail(each, ())
                yield each
                continue
            if each.folder != last:
                last = each.folder
                with Index.open(last) as index:
                    self.writer.replace(index)
                shutil.rmtree(last, ignore_errors=True)
            yield each.record

    def close(self) -> None:
        """Have all that was embedded in the index, and end the decode workers."""
        self.encoder.close()
        if self._chunks is not None:
            shutil.rmtree(self._chunks, ignore_errors=True)
        try:
            if self._begun is not None:
                self.writer.flush()
                self._say_how_far(*self._begun)
        finally:
            self.writer.close()

    def _kept(self, encoded: Sequence[Encodings]) -> list[Kept | Failure]:
        """Encodings as arrays, in the thread that computed them."""
        from .engine.stored import to_arrays

        found: list[Kept | Failure] = []
        for each in encoded:
            info, rows = each.info, Rows(*to_arrays(each.features, each.tokens, self._settings.compact))
            if not (each.features.isfinite().all() and each.tokens.isfinite().all()):
                found.append(self._not_finite(each))
                continue
            window = StoredWindow(
                info.start_seconds,
                info.end_seconds,
                info.times_seconds,
                info.places,
                info.errors,
                info.warnings,
                each.short_side,
                rate=info.rate,
            )
            found.append(Kept(each.video, window, rows))
        return found

    def _not_finite(self, encodings: Encodings) -> Failure:
        message = f"the model gives no finite encoding in {self._settings.dtype}: try --dtype float32"
        start, end = encodings.info.start_seconds, encodings.info.end_seconds
        return Failure(encodings.video, "not_finite", message, start_seconds=start, end_seconds=end)

    def _written(self, outcomes: Iterable[Outcome[Kept | Failure]]) -> Iterator[Seen | SeenWindow | Failure]:
        for result, following in outcomes:
            video = result.video
            if self._begun is None:
                self._begun = video, self.writer.resume(video) if video in self._continued else []
            windows = self._begun[1]
            if isinstance(result, Kept):
                are_safe = self.writer.add(result.rows)
                windows.append(result.window)
                if following and are_safe:
                    self._say_how_far(video, windows)
            elif self._settings.window is not None and result.start_seconds is not None:
                windows.append(_lost(result))
            if following:
                yield SeenWindow(video, windows[-1].end_seconds, len(windows) / (len(windows) + following))
                continue
            self._begun = None
            yield self._finished(result, windows)

    def _finished(self, last: Kept | Failure, windows: Sequence[StoredWindow]) -> Seen | Failure:
        """The record of a video all of whose windows have come, which the index has from now on."""
        ends_it = isinstance(last, Failure) and (last.start_seconds is None or self._settings.window is None)
        failure = last if ends_it and isinstance(last, Failure) else None
        if failure is None and all(window.lost is not None for window in windows):
            failure = windows[0].failure(last.video).of_all(len(windows))
        if failure is None:
            try:
                self.writer.finish(self._line(last.video), windows)
                return Seen(last.video)
            except VideoError as error:
                failure, windows = Failure.of(last.video, error), ()
                self._known[last.video] = _file_of(last.video) or VideoLine(last.video)
        self._fail(failure, windows)
        return failure

    def _say_how_far(self, video: str, windows: Sequence[StoredWindow]) -> None:
        """Have the index say that it has a video up to here: the run that follows one which is killed goes on there.
        The last window is not said to be there, so that what is left is longer than one: of less, one window would be
        made that ends as it does, and not where the video ends."""
        if len(windows) > 1:
            self.writer.so_far(self._known[video], windows[:-1])

    def _fail(self, failure: Failure, windows: Sequence[StoredWindow]) -> None:
        """Record why a video is not in the index, or not to its end. What the index holds of a file that is gone, it
        keeps."""
        line = line_of(failure, self._line(failure.video))
        if not self.writer.keeps(line):
            self.writer.finish(line, windows)

    def _line(self, video: str) -> VideoLine:
        """Which file a video on its way is."""
        line = self._known.pop(video)
        try:
            return replace(line, hash=content_hash(video, line.size) if line.size else "")
        except OSError:  # gone or out of reach meanwhile
            return line


def _file_of(path: str) -> VideoLine | None:
    """Which file is at a path now; None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - pathlib's may raise for a name
    except (OSError, ValueError):
        return None
    return VideoLine(path, found.st_size, found.st_mtime) if stat.S_ISREG(found.st_mode) else None


def _is_same(line: VideoLine, file: VideoLine) -> bool:
    """Whether a line is about this very file, as it is now."""
    return (line.size, line.modified) == (file.size, file.modified)


def _lost(failure: Failure) -> StoredWindow:
    """A window without encodings."""
    start, end = failure.start_seconds or 0.0, failure.end_seconds or 0.0
    return StoredWindow(start, end, warnings=failure.warnings, lost=failure.message, code=failure.code)
