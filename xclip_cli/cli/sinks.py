"""Where a run's records go: stdout or one file, a results file that a run can go on with, or a file a video."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ..errors import ResultsError
from .options import usage_errors

if TYPE_CHECKING:
    from ..inputs import Inputs
    from ..output.files import Format
    from ..output.notes import Notes
    from ..output.sidecars import Sidecars
    from ..results.records import Record, RunHeader
    from .flags import OutputFlags


class Sink(Protocol):
    """Where records go."""

    def rest(self, todo: Inputs) -> tuple[Inputs, tuple[int, int]]:
        """What is left to do, and how many videos are classified, and failed, already."""

    def take(self, records: Iterator[Record], header: Callable[[], RunHeader], todo: Inputs) -> bool:
        """Write the records of ``todo``, as they come → whether a file has them now. Raises ResultsError."""


def open_sink(
    output: OutputFlags, form: str, formats: Mapping[str, Format], notes: Notes, read: Collection[str] = ()
) -> AbstractContextManager[Sink]:
    """Where the flags say. ``read``: files beside the videos that the run reads, and must not replace. Raises
    ResultsError."""
    from ..output.files import is_special

    if output.output_dir is not None:
        from ..output.sidecars import Sidecars

        return _Beside(output, notes, Sidecars(output.output_dir, form), read)
    if output.path is None or form != "jsonl" or is_special(output.path):
        return nullcontext(_Whole(output, formats[form]))
    return _Continued(output, notes)


class _Whole:
    """One output, of any format."""

    def __init__(self, output: OutputFlags, form: Format) -> None:
        self._output, self._form = output, form

    def rest(self, todo: Inputs) -> tuple[Inputs, tuple[int, int]]:
        return todo, (0, 0)

    def take(self, records: Iterator[Record], header: Callable[[], RunHeader], todo: Inputs) -> bool:
        from ..output.files import is_special, write

        path = self._output.path
        if path is None or is_special(path):
            write(self._form, records, path, None if path is None else header(), self._output.force)
            return False
        try:
            write(self._form, _some(records), path, header(), self._output.force)
        except _NothingError:
            return False
        return True


class _NothingError(Exception):
    """No video has a result: a file of that would only be in the way of the next try."""


def _some(records: Iterator[Record]) -> Iterator[Record]:
    found = False
    for record in records:
        found = found or (record.completes and record.error is None)
        yield record
    if not found:
        raise _NothingError


class _Continued(AbstractContextManager["_Continued"]):
    """The file that records are written to one by one, and that a later run can go on with."""

    def __init__(self, output: OutputFlags, notes: Notes) -> None:
        from ..results.run_file import RunFile

        assert output.results_file is not None
        self._output, self._notes = output, notes
        self._file = RunFile(output.results_file, output.resume, new=not output.may_exist)

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def rest(self, todo: Inputs) -> tuple[Inputs, tuple[int, int]]:
        file, say = self._file, self._notes.say
        if file.torn:
            say(f"the last record of {file.path} was cut off: its video is classified again")
        if file.unfinished:
            say(f"{len(file.unfinished)} videos of {file.path} were not finished: they are begun again")
        todo = todo.spelled_as(file.videos)
        rest = todo.without(file.done(self._output.retry_failed))
        earlier = file.counts(set(todo.names) - set(rest.names))
        if sum(earlier):
            say(f"{sum(earlier):,} of {len(todo.items):,} videos are recorded already")
        return rest, earlier

    def take(self, records: Iterator[Record], header: Callable[[], RunHeader], todo: Inputs) -> bool:
        self._begin(header, todo)
        for record in records:
            self._file.add(record)
        return True

    def _begin(self, header: Callable[[], RunHeader], todo: Inputs) -> None:
        self._file.begin(header(), retried=todo.names if self._output.retry_failed else ())


class _Beside(_Continued):
    """That file, in a folder, and in the same folder a file a video, which is made of the records: those that are
    missing in a run that goes on are made again without the model."""

    def __init__(self, output: OutputFlags, notes: Notes, sidecars: Sidecars, read: Collection[str]) -> None:
        try:
            sidecars.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ResultsError(f"cannot make the folder {sidecars.folder}: {error.strerror}") from error
        super().__init__(output, notes)
        self._sidecars, self._read = sidecars, read
        self._recorded = self._file.done() | self._file.replaced
        self._places: dict[str, str] = {}  # by what a video's path names

    def rest(self, todo: Inputs) -> tuple[Inputs, tuple[int, int]]:
        from ..inputs import entry_of
        from ..output.sidecars import places

        every = todo.whole or todo.names
        found = places(every, todo.folders, self._sidecars.suffix)
        self._places = {entry_of(video): place for video, place in zip(every, found, strict=True)}
        with usage_errors(ResultsError):
            self._check(todo.spelled_as(self._file.videos).names)
        return super().rest(todo)

    def _path(self, video: str) -> Path:
        from ..inputs import entry_of

        return self._sidecars.folder / self._places[entry_of(video)]

    def _check(self, videos: Collection[str]) -> None:
        """Raises ResultsError where a file is there that no earlier run with this folder wrote, or that is read."""
        from ..inputs import entry_of

        others = [file for file in self._read if os.path.exists(file)]  # noqa: PTH110 - it may be a text
        read = {*map(entry_of, [*videos, *others]), *map(os.path.realpath, others)}
        for video in videos:
            path = self._path(video)
            if entry_of(str(path)) in read:
                raise ResultsError(f"{path} is one of the inputs: give another folder with --output-dir")
            if path.is_dir() and not path.is_symlink():
                raise ResultsError(f"{path} is a folder: give another folder with --output-dir")
            if os.path.lexists(path) and video not in self._recorded and not self._output.force:
                how = "move it away" if self._output.resume else "pass --force to replace it"
                raise ResultsError(f"{path} exists: {how}, or give another folder with --output-dir")

    def take(self, records: Iterator[Record], header: Callable[[], RunHeader], todo: Inputs) -> bool:
        from ..output.data import by_video

        self._file.check(header())
        for video in todo.names:  # a run that continues this one must not find what is not recorded any more
            if self._output.force or video in self._recorded:
                self._sidecars.remove(self._path(video))
        self._begin(header, todo)
        self._write_missing(set(todo.names))
        for of_video in by_video(records):
            self._write(self._added(of_video))
        return True

    def _write_missing(self, to_come: set[str]) -> None:
        """The files of videos that are recorded, and have none: it was deleted, or the run ended before it was there,
        or had another format."""
        from ..inputs import entry_of
        from ..output.data import by_video
        from ..results.reading import iter_results
        from ..results.records import Record

        recorded = {video for video in self._recorded - to_come if entry_of(video) in self._places}
        missing = {video for video in recorded if not self._path(video).exists()}
        if missing:
            found = (one for one in iter_results(self._file.path) if isinstance(one, Record) and one.video in missing)
            for of_video in by_video(found):
                self._write(of_video)

    def _write(self, records: Iterator[Record]) -> None:
        from ..output.edits import NoTimecodeError

        first = next(records)
        replace = self._output.force or first.video in self._recorded
        try:
            self._sidecars.write(chain([first], records), self._path(first.video), replace)
        except NoTimecodeError as error:  # of this video alone
            self._notes.say(f"no file for {first.video}: {error}")

    def _added(self, records: Iterator[Record]) -> Iterator[Record]:
        for record in records:
            self._file.add(record)
            yield record
