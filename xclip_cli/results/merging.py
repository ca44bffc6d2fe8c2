"""Results files joined into one, such as those of several machines: one record per video, or one timeline.

The files are read twice, a line at a time: first to check all lines and find out where each video's are, then to pass
on those that count. Memory grows with the number of videos alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from ..errors import ResultsError
from .parts import open_regular
from .reading import read_lines
from .records import Moment, Record, RunHeader
from .run_file import differences

OPEN_FILES = 32  # at a time


@dataclass
class _Found:
    """The records of a video in a file, up to one that completes it."""

    file: int
    spans: list[tuple[int, int]] = field(default_factory=list)  # of the file: from, to, in bytes
    ok: bool = False

    def add(self, begin: int, end: int) -> None:
        """The next line."""
        if self.spans and self.spans[-1][1] == begin:
            self.spans[-1] = self.spans[-1][0], end
        else:
            self.spans.append((begin, end))


class Merge:
    """What counts of some results files, all made in the same way.

    Of each video that is the last success; where there is none, the last failure. A video that nothing completes is
    left out. ``header``: that of all files. ``notices``: what a user should know. Raises ResultsError for a file that
    is no results file of a run, or was made in another way than the first.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.notices: list[str] = []
        self.superseded = 0  # records of videos, or timelines, in whose place another one counts
        self.unfinished: list[str] = []
        self._found: dict[str, _Found] = {}
        self._header: tuple[Path, RunHeader] | None = None
        unfinished = dict[str, None]()
        for file in range(len(paths)):
            unfinished |= dict.fromkeys(self._read(file))
        self.unfinished = [video for video in unfinished if video not in self._found]

    @property
    def header(self) -> RunHeader | None:
        """That of all files; None if there are none."""
        return self._header[1] if self._header else None

    @property
    def videos(self) -> list[str]:
        """In the order of the files, and in them of their lines."""
        return list(self._found)

    @property
    def failed(self) -> int:
        """How many videos there is only a failure of."""
        return sum(not found.ok for found in self._found.values())

    def records(self, videos: Iterable[str]) -> Iterator[Record]:
        """Those of each of the videos, which must be some of ``self.videos``, the last of which completes it. Raises
        ResultsError for a file that has changed meanwhile."""
        opened: OrderedDict[int, IO[bytes]] = OrderedDict()
        try:
            for video in videos:
                found = self._found[video]
                if found.file not in opened:
                    opened[found.file] = _open(self.paths[found.file])
                    while len(opened) > OPEN_FILES:
                        opened.popitem(last=False)[1].close()
                opened.move_to_end(found.file)
                yield from self._records_of(video, found, opened[found.file])
        finally:
            for file in opened.values():
                file.close()

    def _records_of(self, video: str, found: _Found, file: IO[bytes]) -> Iterator[Record]:
        path = self.paths[found.file]
        for begin, end in found.spans:
            file.seek(begin)
            for _, record in read_lines(path, _lines(file, end - begin), []):
                if not isinstance(record, Record) or record.video != video:
                    raise ResultsError(f"{path} changed while it was read: merge again when no run is writing it")
                yield record

    def _read(self, file: int) -> Iterable[str]:
        """Sort in a file → the videos in it that nothing completes."""
        path, notices, unknown, begin = self.paths[file], list[str](), 0, 0
        pending, unfinished = dict[str, _Found](), dict[str, None]()
        with _open(path) as lines:
            has_header = False
            for end, record in read_lines(path, lines, notices):
                if isinstance(record, RunHeader):
                    self._compare(path, record)
                    has_header = True
                    unfinished |= dict.fromkeys(pending)  # of a file that is two, one behind the other
                    pending.clear()
                elif not has_header:
                    raise ResultsError(
                        f"{path} does not begin with the header of a run: pass files that xclip wrote "
                        "with -o FILE.jsonl"
                    )
                elif isinstance(record, Moment):
                    raise ResultsError(
                        f"{path} contains moments of a search, which are ranked among all videos: "
                        "combine the indexes with `xclip index merge`, and search once"
                    )
                elif record is None:
                    unknown += 1
                else:
                    found = pending.setdefault(record.video, _Found(file))
                    found.add(begin, end)
                    if record.completes:
                        found.ok = record.error is None
                        self._settle(record.video, pending.pop(record.video))
                begin = end
        if not has_header:
            raise ResultsError(f"{path} is empty: it lacks the header of a run")
        if unknown:
            notices.append(f"{unknown} records are of a kind that this version does not know and were left out")
        self.notices += [f"{path}: {notice}" for notice in notices]
        return [*unfinished, *pending]

    def _compare(self, path: Path, header: RunHeader) -> None:
        if self._header is None:
            self._header = path, header
        first, expected = self._header
        if (expected.window is None) != (header.window is None):
            whole, windows = (first, path) if expected.window is None else (path, first)
            raise ResultsError(f"{whole} is of whole videos and {windows} of windows: merge results of one kind")
        if shown := differences(expected.to_json(), header.to_json(), "{} is {} and {}"):
            raise ResultsError(f"{first} and {path} were made with different settings: {shown}")
        if header != expected:  # of several runs, which have no date or command in common
            self._header = first, replace(expected, began=None, command=None, versions=None)

    def _settle(self, video: str, found: _Found) -> None:
        known = self._found.get(video)
        if known is not None:
            self.superseded += 1
        if known is None or found.ok or not known.ok:
            self._found[video] = found


def _open(path: Path) -> IO[bytes]:
    try:
        return open_regular(path)
    except OSError as error:
        raise ResultsError(f"cannot read the results {path}: {error.strerror}") from error


def _lines(file: IO[bytes], length: int) -> Iterator[bytes]:
    """The lines of the next ``length`` bytes."""
    while length > 0 and (line := file.readline()):
        length -= len(line)
        yield line
