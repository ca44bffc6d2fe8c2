"""What the inputs of a command stand for: paths, folders, lists of paths; in order, each once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TypeVar

from .errors import ResultsError, VideoError
from .results.records import Failure, Record

R = TypeVar("R", bound=Record)

# What a folder expands to. Stills are classified too, but only when named.
VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".flv", ".gif", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)

MAX_LIST = 1 << 28  # bytes of a list of paths

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


@dataclass
class Inputs:
    """What is to be classified: paths, and failures that are known without decoding, in the order given."""

    items: list[str | Failure] = field(default_factory=list)
    ignored: int = 0  # files of folders that are no videos
    repeated: list[str] = field(default_factory=list)  # paths given more than once

    @property
    def paths(self) -> list[str]:
        """What there is to decode."""
        return [item for item in self.items if isinstance(item, str)]

    @property
    def names(self) -> list[str]:
        """Of all of them."""
        return [item if isinstance(item, str) else item.video for item in self.items]

    def without(self, videos: set[str]) -> Inputs:
        """The same, less some videos."""
        items = [item for item, name in zip(self.items, self.names, strict=True) if name not in videos]
        return replace(self, items=items)

    def in_order(self, records: Iterator[R]) -> Iterator[R | Failure]:
        """Failures known beforehand, between the ``records`` of all other items, which may end early."""
        for item in self.items:
            if isinstance(item, Failure):
                yield item
                continue
            for record in records:
                yield record
                if record.completes:
                    break
            else:
                return

    def notices(self) -> list[str]:
        """What a user should know of the inputs."""
        notices = [f"given more than once, classified once: {path}" for path in self.repeated]
        if self.ignored:
            notices.append(f"ignored {self.ignored} files in folders that are no videos by their suffix")
        return notices


def expand_inputs(given: Iterable[str], recursive: bool = False) -> Inputs:
    """Folders become the videos in them, sorted; every other input stands for itself, once."""
    inputs, seen = Inputs(), set()
    for path in given:
        if _URL.match(path) and not _is(Path.exists, path):
            message = "a URL: xclip reads files only; download it first, for example with curl or yt-dlp"
            found: Sequence[str | Failure] = [Failure.of(path, VideoError(message, "url"))]
        elif path and _is(Path.is_dir, path):
            found = _videos_in(path, recursive, inputs)
        else:
            found = [path]
        for item in found:
            name = item if isinstance(item, str) else item.video
            key = os.path.abspath(name)  # noqa: PTH100 - pathlib's would follow links
            if key in seen:
                inputs.repeated.append(name)
            else:
                seen.add(key)
                inputs.items.append(item)
    return inputs


def _is(test: Callable[[Path], bool], path: str) -> bool:
    """A question about a path that may be too long, or in a folder that may not be searched: then no."""
    try:
        return test(Path(path))
    except (OSError, ValueError):
        return False


def _videos_in(folder: str, recursive: bool, inputs: Inputs) -> Sequence[str | Failure]:
    """The videos of a folder, sorted by path; hidden files and folders are left out."""
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
        below = "" if recursive else " (pass --recursive to look into its folders)"
        return [Failure.of(folder, VideoError(f"the folder holds no videos{below}", "empty_folder"))]
    return sorted([*videos, *failures], key=lambda item: item if isinstance(item, str) else item.video)


def _walk(folder: str, recursive: bool, refuse: Callable[[OSError], None]) -> Iterator[tuple[str, list[str]]]:
    """A folder and those below it, each with the names of its files. Links to folders are not followed.

    Python 3.11's own walk calls itself a folder a level, and ends at 1,000.
    """
    waiting = [folder]
    while waiting:
        for parent, folders, files in islice(os.walk(waiting.pop(), onerror=refuse), 1):
            yield parent, files
            below = [Path(parent, name) for name in folders if recursive and not name.startswith(".")]
            waiting += [str(path) for path in below if not path.is_symlink()]


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
        raise ResultsError(f"the list of videos {source} is larger than {MAX_LIST >> 20} MB: give it in parts")
    parts = data.split(b"\0") if nul else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(part) for part in parts if part]
