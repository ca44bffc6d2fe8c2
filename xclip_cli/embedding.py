"""Embedding: the task of keeping what a model sees of videos in an index. Videos that it holds already cost nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import ClassVar

from . import __version__
from .engine.devices import dtype_name
from .engine.encoder import Encoder, Encodings
from .engine.pipeline import Outcome
from .results.index_writer import IndexWriter, content_hash, line_of
from .results.lines import IndexSettings, StoredWindow, VideoLine
from .results.parts import Rows
from .results.records import Failure, Record
from .video.sampling import ClipRequest


@dataclass(frozen=True)
class Embedded(Record):
    """A video that is in the index now."""

    video: str
    num_windows: int


@dataclass(frozen=True)
class EmbeddedWindow(Record):
    """A window that is, of a video of which more follow."""

    video: str
    end_seconds: float = field()  # required: Record's default is not this field's
    share: float = 1.0
    completes: ClassVar[bool] = False


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
        dtype=dtype_name(encoder.dtype),
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


class Embedding:
    """The task of adding videos to an index. Raises ResultsError where that cannot be."""

    def __init__(self, encoder: Encoder, folder: Path, settings: IndexSettings, retry_failed: bool = False) -> None:
        self.encoder = encoder
        self.writer = IndexWriter(folder, settings)
        self.moved = 0  # videos that were recognised under another path
        self._settings = settings
        self._retry_failed = retry_failed
        self._known: dict[str, VideoLine] = {}  # of videos on their way: which files they are
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
        if entry is not None and (entry.line.size, entry.line.modified) == (file.size, file.modified):
            return entry.line.error is None or not self._retry_failed
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

    def records(self, paths: Iterable[str]) -> Iterator[Embedded | EmbeddedWindow | Failure]:
        """Add videos, in order: a record each, and before it one for each window that others follow. The first videos
        decode while torch and the weights are loaded, which is done when this returns. Raises ModelError, ResultsError.
        """
        made = self._settings
        times = [None if t is None else Fraction(t) for t in (made.start, made.end, made.window, made.stride)]

        def requests() -> Iterator[ClipRequest]:
            for path in paths:
                self._known[path] = _file_of(path) or VideoLine(path)
                yield self.encoder.request(path, *times)

        outcomes = self.encoder.run(requests(), self._kept, windows=made.window is not None)
        self.encoder.load()
        return self._written(outcomes)

    def close(self) -> None:
        """Have all that was embedded in the index, and end the decode workers."""
        self.encoder.close()
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
            )
            found.append(Kept(each.video, window, rows))
        return found

    def _not_finite(self, encodings: Encodings) -> Failure:
        message = f"the model gives no finite encoding in {self._settings.dtype}: try --dtype float32"
        start, end = encodings.info.start_seconds, encodings.info.end_seconds
        return Failure(encodings.video, "not_finite", message, start_seconds=start, end_seconds=end)

    def _written(self, outcomes: Iterable[Outcome[Kept | Failure]]) -> Iterator[Embedded | EmbeddedWindow | Failure]:
        windows: list[StoredWindow] = []
        for result, following in outcomes:
            if isinstance(result, Kept):
                self.writer.add(result.rows)
                windows.append(result.window)
            elif self._settings.window is not None and result.start_seconds is not None:
                windows.append(_lost(result))
            else:
                self._fail(result, windows)
                yield result
                windows = []
                continue
            if following:
                yield EmbeddedWindow(result.video, windows[-1].end_seconds, len(windows) / (len(windows) + following))
            else:
                self.writer.finish(self._line(result.video), windows)
                yield Embedded(result.video, len(windows))
                windows = []

    def _fail(self, failure: Failure, windows: Sequence[StoredWindow]) -> None:
        """Record why a video is not in the index, or not to its end. What the index holds of a file that is gone, it
        keeps."""
        entry = self.writer.entries.get(failure.video)
        line = self._line(failure.video)
        if entry is None or entry.line.error is not None or line.size:
            self.writer.finish(line_of(failure, line), windows)

    def _line(self, video: str) -> VideoLine:
        """Which file a video on its way is."""
        line = self._known.pop(video)
        try:
            return replace(line, hash=content_hash(video, line.size) if line.size else "")
        except OSError:  # gone or out of reach meanwhile
            return line


def _file_of(path: str) -> VideoLine | None:
    """Which file is at a path now; None where there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - pathlib's may raise for a name
    except (OSError, ValueError):
        return None
    return VideoLine(path, found.st_size, found.st_mtime) if stat.S_ISREG(found.st_mode) else None


def _lost(failure: Failure) -> StoredWindow:
    """A window without encodings."""
    start, end = failure.start_seconds or 0.0, failure.end_seconds or 0.0
    return StoredWindow(start, end, warnings=failure.warnings, lost=failure.message, code=failure.code)
