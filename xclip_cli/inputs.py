"""What the inputs of a command stand for: paths, folders, lists of paths; in order, each once."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeVar

from .errors import ResultsError, VideoError
from .folders import neighbours
from .results.index import Index, StoredVideo
from .results.lines import is_index
from .results.records import Failure, Record
from .text import counted, other_encoding, printable, quoted
from .video.sampling import STDIN, ClipRequest

R = TypeVar("R", bound=Record)

# What a folder expands to. Stills are classified too, but only when named.
VIDEO_SUFFIXES = (
    *(".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".gxf", ".h264"),
    *(".h265", ".hevc", ".insv", ".ivf", ".lrv", ".m1v", ".m2t", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg"),
    *(".mk3d", ".mkv", ".mov", ".mp4", ".mpe", ".mpeg", ".mpg", ".mts", ".mxf", ".nut", ".obu", ".ogm", ".ogv"),
    *(".qt", ".rm", ".rmvb", ".trp", ".ts", ".vob", ".webm", ".wmv", ".wtv", ".xvid", ".y4m"),
)

MAX_LIST = 1 << 28  # bytes of a list of paths
MOST_SUGGESTED = 5  # missing paths that the nearest name is looked for

_SHARD = re.compile(r"(\d{1,9})/(\d{1,9})", re.ASCII)
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


@dataclass
class Inputs:
    """What is to be classified: paths, videos of indexes, and failures that are known without decoding, in the order
    given."""

    items: list[str | StoredVideo | Failure] = field(default_factory=list)
    indexes: list[Index] = field(default_factory=list)
    ignored: int = 0  # files of folders that are no videos
    repeated: list[str] = field(default_factory=list)  # paths given more than once
    folders: list[str] = field(default_factory=list)  # that were given, and are no indexes
    missing: list[str] = field(default_factory=list)  # paths given that were not there
    whole: list[str] = field(default_factory=list)  # the names of all, where this is a shard of them

    @property
    def paths(self) -> list[str]:
        """What there is to decode."""
        return [item for item in self.items if isinstance(item, str)]

    @property
    def stored(self) -> list[StoredVideo]:
        """What indexes hold of it."""
        return [item for item in self.items if isinstance(item, StoredVideo)]

    @property
    def known_failures(self) -> list[Failure]:
        """What is known to fail before anything is decoded, in order."""
        missing = set(self.missing)
        found = (_missing(item) if isinstance(item, str) and item in missing else item for item in self.items)
        return [item for item in found if isinstance(item, Failure)]

    @property
    def names(self) -> list[str]:
        """Of all of them."""
        return [item if isinstance(item, str) else item.video for item in self.items]

    def without(self, videos: set[str]) -> Inputs:
        """The same, less some videos."""
        items = [item for item, name in zip(self.items, self.names, strict=True) if name not in videos]
        return replace(self, items=items)

    def sharded(self, shard: Shard) -> Inputs:
        """The same, only what a shard has of them."""
        return replace(self.without({name for name in self.names if name not in shard}), whole=self.names)

    def spelled_as(self, videos: Iterable[str]) -> Inputs:
        """The same, those that ``videos`` name, too, by the spelling that they have there."""
        known = {entry_of(video): video for video in videos}
        items: list[str | StoredVideo | Failure] = []
        for item in self.items:
            name = item if isinstance(item, str) else item.video
            spelling = known.get(entry_of(name), name)
            if isinstance(item, str):
                items.append(spelling)
            else:  # an index's video keeps the spelling that it was embedded by
                items.append(item if isinstance(item, StoredVideo) else replace(item, video=spelling))
        return replace(self, items=items, missing=[known.get(entry_of(path), path) for path in self.missing])

    def in_order(self, records: Iterator[R], stored: Iterator[R]) -> Iterator[R | Failure]:
        """The ``records`` of paths and those of videos of indexes, which may end early, and failures known
        beforehand."""
        for item in self.items:
            if isinstance(item, Failure):
                yield item
                continue
            for record in records if isinstance(item, str) else stored:
                yield record
                if record.completes:
                    break
            else:
                return

    def notices(self) -> list[str]:
        """What a user should know of the inputs."""
        notices = [f"given more than once, processed once: {path}" for path in self.repeated]
        if self.ignored:
            notices.append(f"ignored {counted(self.ignored, 'file')} without a video suffix")
        for path in self.missing[:MOST_SUGGESTED]:
            if near := get_close_matches(str(Path(path)), neighbours(Path(path)), 1):
                notices.append(f"there is no {path}: did you mean {near[0]}?")
        return notices


@dataclass(frozen=True)
class Shard:
    """One of ``count`` parts of all inputs, the ``number``-th from 1. Which part an input is in depends on its path as
    given alone: it is the same in every run, on every machine, whatever else is given."""

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """``I/N`` → the shard. Raises ValueError."""
        found = _SHARD.fullmatch(text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(
                f"{quoted(text)} is not a shard: give I/N with I from 1 to N, such as 1/8 for the first of 8"
            )
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def __contains__(self, path: str) -> bool:
        digest = hashlib.sha256(os.fsencode(path)).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.number - 1


def expand_inputs(given: Iterable[str], recursive: bool = False, only: str | None = None) -> Inputs:
    """Folders become the videos in them, sorted, and indexes the videos that they hold; every other input stands for
    itself, once. ``only``: a pattern of the videos that are wanted of indexes. Raises ResultsError for a bad index.
    """
    inputs, seen = Inputs(), set()
    for path in given:
        if _URL.match(path) and not _is(Path.exists, path):
            message = "a URL, but xclip reads only files: download it first, or: yt-dlp -o - URL | xclip classify - …"
            found: Sequence[str | StoredVideo | Failure] = [Failure.of(path, VideoError(message, "url"))]
        elif path and is_index(path):
            found = _videos_of(Index.open(path), only, inputs)
        elif path and _is(Path.is_dir, path):
            inputs.folders.append(path)
            found = _videos_in(path, recursive, inputs)
        else:
            found = [path]
            if path not in STDIN and is_missing(path):
                inputs.missing.append(path)
        for item in found:
            name = item if isinstance(item, str) else item.video
            key = entry_of(name)
            if key in seen:
                inputs.repeated.append(name)
            else:
                seen.add(key)
                inputs.items.append(item)
    if only is not None and inputs.indexes and not inputs.stored:
        raise ResultsError(f"no video of {_named(inputs.indexes)} matches {only!r}")
    return inputs


def with_folders(
    videos: Iterable[str | os.PathLike[str] | ClipRequest] | str | os.PathLike[str], recursive: bool = False
) -> Iterator[str | ClipRequest | Failure]:
    """Videos as they are given, one at a time, and in the place of each folder the videos in it, sorted. Raises
    TypeError for one video alone."""
    if isinstance(videos, str | os.PathLike):
        if not _is(Path.is_dir, os.fspath(videos)):
            raise TypeError(f"videos must be a list of paths, or a folder, got {videos!r}: classify takes one video")
        videos = [videos]
    return (found for video in videos for found in _found(video, recursive))


def _found(video: str | os.PathLike[str] | ClipRequest, recursive: bool) -> Sequence[str | ClipRequest | Failure]:
    if isinstance(video, ClipRequest):
        return [video]
    path = os.fspath(video)
    if not _is(Path.is_dir, path):
        return [path]
    if is_index(path):
        return [Failure.of(path, VideoError("it is an index: pass Index.open(…) instead of the list", "index"))]
    return _videos_in(path, recursive, Inputs())


def interleaved(
    items: Iterable[str | ClipRequest | Failure], run: Callable[[Iterator[str | ClipRequest]], Iterator[R]]
) -> Iterator[R | Failure]:
    """What ``run`` makes of the items, a record each, and those that are failures already, in order."""
    taken = deque[Failure | None]()  # None: it was passed on

    def passed_on() -> Iterator[str | ClipRequest]:
        for item in items:
            taken.append(item if isinstance(item, Failure) else None)
            if not isinstance(item, Failure):
                yield item

    def merged(records: Iterator[R]) -> Iterator[R | Failure]:
        for record in records:
            while (failure := taken.popleft()) is not None:
                yield failure
            yield record
        yield from filter(None, taken)

    return merged(run(passed_on()))  # which begins at once


def entry_of(path: str) -> str:
    """What a path names, however it is spelled: an entry of a folder. A link is an entry of its own; those on the way
    to the folder are followed, as the system does."""
    parent, name = os.path.split(path)
    try:
        return os.path.join(_real(str(Path.cwd() / parent)), name)  # noqa: PTH118 - which may be empty
    except (OSError, ValueError):  # a NUL byte, or the current folder was deleted
        return path


@lru_cache
def _real(folder: str) -> str:
    return os.path.realpath(folder)


def _videos_of(index: Index, only: str | None, inputs: Inputs) -> Sequence[StoredVideo]:
    """The videos of an index, in the order in which they were embedded."""
    inputs.indexes.append(index)
    if not len(index):
        raise ResultsError(f"{_named([index])} contains no videos")
    return [v for v in index if only is None or any(fnmatchcase(name, only) for name in _names_of(v.video))]


def _named(indexes: Sequence[Index]) -> str:
    names = [printable(str(index.folder)) for index in indexes]
    return f"the index{'es' if len(names) > 1 else ''} {' and '.join(names)}"


def _names_of(video: str) -> tuple[str, str]:
    return video, os.path.basename(video)  # noqa: PTH119 - any name


def _is(test: Callable[[Path], bool], path: str) -> bool:
    """A question about a path that may be too long, or in a folder that may not be searched: then no."""
    try:
        return test(Path(path))
    except (OSError, ValueError):
        return False


def is_missing(path: str) -> bool:
    """Whether there is nothing at a path."""
    try:
        Path(path).stat()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):  # whoever opens it says what is wrong
        return False
    return False


def _missing(path: str) -> Failure:
    """As the decoder says it."""
    return Failure.of(path, VideoError("no such file", "missing"))


def _videos_in(folder: str, recursive: bool, inputs: Inputs) -> Sequence[str | Failure]:
    """The videos of a folder, sorted by path; hidden files and folders are left out.

    Every folder is entered once, however many links lead to it: there may be loops of them.
    """
    videos: list[str] = []
    failures: list[Failure] = []

    def refuse(error: OSError) -> None:
        message = f"the folder cannot be read: {error.strerror}"
        failures.append(Failure.of(str(error.filename), VideoError(message, "permission")))

    for parent, files in _walk(folder, recursive, refuse):
        visible = [name for name in files if not name.startswith(".")]
        matching = [name for name in visible if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        inputs.ignored += len(visible) - len(matching)
        videos += [str(Path(parent, name)) for name in matching]
    if not videos and not failures:
        below = "" if recursive else " (pass --recursive to include its sub-folders)"
        return [Failure.of(folder, VideoError(f"the folder contains no videos{below}", "empty_folder"))]
    return sorted([*videos, *failures], key=lambda item: item if isinstance(item, str) else item.video)


def _walk(folder: str, recursive: bool, refuse: Callable[[OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """The folder and, where ``recursive``, those in it, with the names of their files; links after what is no link.

    Each folder is walked on its own: Python 3.11's walk calls itself a folder a level, and ends at 1,000.
    """
    entered, links = set[tuple[int, int]](), [folder]
    while links:
        waiting = [links.pop(0)]
        while waiting:
            for parent, folders, files in islice(os.walk(waiting.pop(), onerror=refuse), 1):
                try:
                    status = Path(parent).stat()
                except OSError as error:
                    refuse(error)
                    continue
                if (status.st_dev, status.st_ino) in entered:
                    continue
                entered.add((status.st_dev, status.st_ino))
                for name in sorted(folders) if recursive else ():
                    if not name.startswith("."):
                        path = Path(parent, name)
                        (links if path.is_symlink() else waiting).append(str(path))
                yield parent, files


def read_path_list(source: str, nul: bool = False) -> list[str]:
    """Paths from a file, or from stdin for ``-``: one a line, or separated by NUL bytes. Raises ResultsError."""
    if source == "-" and sys.stdin is None:
        raise ResultsError("stdin is closed: there is no list of videos to read")
    try:
        with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as file:
            data = file.read(MAX_LIST + 1)
    except OSError as error:
        raise ResultsError(f"cannot read the list of videos {source}: {error.strerror}") from error
    if len(data) > MAX_LIST:
        raise ResultsError(f"the list of videos {source} is larger than {MAX_LIST >> 20} MB: split it")
    encoding = None if nul else other_encoding(data)
    if encoding is not None:
        raise ResultsError(
            f"the list of videos {source} is {encoding}: save it as UTF-8, for example with `iconv -f {encoding} -t "
            "UTF-8 OLD > NEW`"
        )
    data = data.removeprefix(codecs.BOM_UTF8)
    parts = data.split(b"\0") if nul else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(part) for part in parts if part]
