"""A file of results a video: where each goes, below one folder, whatever the videos are called.

The tree below a folder that was given is mirrored; other videos are mirrored from the folder that holds them all. A
file's name is its video's, whole, and the format's suffix, so that ``a.mp4`` and ``a.mov`` have two. A name that cannot
stand like that (it would steer a terminal, or is too long, or another video has it) gets a mark of the video's path.
Files that are missing, or wanted in another format, are made again of the run's results, without the model.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ..errors import ResultsError
from ..results.records import Record
from ..text import printable
from . import timelines
from .data import write_csv, write_json_object
from .files import Format, write

JOURNAL = "results.jsonl"  # of the run, in the folder
FORMATS: dict[str, Format] = {  # those that one video's records can be written as
    "json": write_json_object,
    "csv": write_csv,
    **{name: timelines.FORMATS[name] for name in timelines.ONE_VIDEO},
}
LONGEST_NAME = 200  # bytes; file systems take 255, a mark and a suffix included
LONGEST_PATH = 2000  # bytes; systems take 4,096, the folder included


class _UnfinishedError(Exception):
    """The run ended before the video did."""


def places(videos: Sequence[str], folders: Iterable[str], suffix: str) -> list[str]:
    """Of each video, the path of its file below the folder. ``folders``: those that were given, in which some of the
    videos were found. No two videos have one path, also where a file system takes A for a."""
    below = _mirrored(videos, sorted({str(Path(folder)) for folder in folders}, key=_depth))
    named = [_safe(path, suffix) for path in below]
    counts, taken = Counter(_as_one(path) for path, _ in named), set[str]()
    found = []
    for video, (path, kept) in zip(videos, named, strict=True):
        mark = hashlib.sha256(os.fsencode(video)).hexdigest()
        if not kept or counts[_as_one(path)] > 1:
            path = f"{path}-{mark[:8]}"
        if _as_one(path) in taken:  # somebody gave a video the name that another gets by its mark
            path = f"{path}-{mark[8:24]}"
        taken.add(_as_one(path))
        found.append(path + suffix)
    return found


def _mirrored(videos: Sequence[str], trees: Sequence[str]) -> list[str]:
    """Each video's path below the first of the trees that it is in, or else below the folder that holds all others."""
    below = [next(filter(None, (_below(video, tree) for tree in trees)), None) or _alone(video) for video in videos]
    others = {video: os.path.abspath(video) for video, path in zip(videos, below, strict=True) if not path}  # noqa: PTH100
    holder = os.path.commonpath([os.path.dirname(path) for path in others.values()]) if others else ""  # noqa: PTH120
    return [path or os.path.relpath(others[video], holder) for video, path in zip(videos, below, strict=True)]


def _depth(folder: str) -> int:
    return len(Path(folder).parts)  # of "." none: it holds any other of one letter


def _below(video: str, tree: str) -> str | None:
    """A video's path below a folder in which it was found, as that spells it; None where it was not."""
    if tree == ".":
        return None if video.startswith(("/", "../")) else video
    prefix = tree.rstrip("/") + "/"
    return video[len(prefix) :] if video.startswith(prefix) else None


def _alone(video: str) -> str | None:
    """The name of what is no file: a URL, or stdin; None for any other."""
    return os.path.basename(video) or "_" if video == "-" or "://" in video else None  # noqa: PTH119 - any name


def _safe(path: str, suffix: str) -> tuple[str, bool]:
    """A path none of whose names climbs, steers a terminal or is too long, and whether it is as it was."""
    parts = [name for name in path.split("/") if name not in ("", ".")] or ["_"]
    *folders, name = map(_safe_name, parts)
    # no folder has the name of a file that is written
    folders = [folder + "_" if folder.lower().endswith((suffix, ".jsonl")) else folder for folder in folders]
    if len(os.fsencode("/".join(parts))) > LONGEST_PATH:
        folders = []
    return "/".join([*folders, name]), [*folders, name] == parts


def _safe_name(name: str) -> str:
    name = "".join("_" if printable(sign) != sign else sign for sign in name)
    name = os.fsencode(name)[:LONGEST_NAME].decode("utf-8", "ignore")
    return "_" if name in ("", ".", "..") else name


def _as_one(path: str) -> str:
    """What a file system that ignores case and composition takes paths for."""
    return unicodedata.normalize("NFC", path).casefold()


class Sidecars:
    """The files of a run's videos, in a format."""

    def __init__(self, folder: Path, form: str) -> None:
        self.folder = folder
        self.suffix = f".{form}"
        self._form = FORMATS[form]
        self._of_segments = form in timelines.ONE_VIDEO  # and not of failures

    def write(self, records: Iterable[Record], path: Path, replace: bool) -> None:
        """Write a video's file, if its records complete it, and there is anything to write. Raises ResultsError."""
        if self._of_segments:
            records = [record for record in records if record.completes and record.has_segments]
            if not records:
                return
        self._make_folders(path)
        try:
            write(self._form, _complete(records), path, None, replace)
        except _UnfinishedError:
            return

    def remove(self, path: Path) -> None:
        """Delete a video's file, if there is one. Raises ResultsError."""
        if os.path.lexists(path):
            self._make_folders(path)  # none of which is a link
            try:
                path.unlink()
            except OSError as error:
                raise ResultsError(f"cannot replace {path}: {error.strerror}") from error

    def _make_folders(self, path: Path) -> None:
        """Make the folders on the way to a file, none of them through a link. Raises ResultsError."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for folder in reversed(path.relative_to(self.folder).parents[:-1]):
                (self.folder / folder).mkdir(exist_ok=True)
                if (self.folder / folder).is_symlink():
                    raise ResultsError(f"{self.folder / folder} is a link: give another folder with --output-dir")
        except OSError as error:
            raise ResultsError(f"cannot write {path}: {error.strerror}") from error


def _complete(records: Iterable[Record]) -> Iterator[Record]:
    for record in records:
        yield record
        if record.completes:
            return
    raise _UnfinishedError
