"""The results file of a run: a header, then the records of each video, each whole on disk before the next is begun.

A run that was killed continues from its file: the videos that are recorded are done. A video of a timeline has window
records first; a segments record or a failure completes it. The records of a video that nothing completes are removed,
and the video is begun again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from ..errors import ResultsError
from ..text import listed, one_line, quoted
from ..unfinished import begun, ended
from .records import NOT_SETTINGS, Jsonable, Record, RunHeader, from_json
from .writing import Part, open_locked

LONGEST_HEADER = 1 << 16  # bytes
_BEGINNING = json.dumps(RunHeader().to_json())[:20].encode()  # of a results file
SETTINGS_SHOWN = 8  # that a run does not share with the file it would continue


@dataclass(frozen=True)
class _Line:
    """Where a record is in the file, and what a run must know about it."""

    offset: int
    length: int
    video: str
    ok: bool
    completes: bool  # its video


class RunFile:
    """A JSON Lines file that one run at a time may write.

    With ``resume`` an existing file is continued, otherwise it is written anew; ``new``: it must not exist, or hold the
    result of no video. Raises ResultsError if the file is in use, cannot be written, or is to be continued and is not a
    results file.
    """

    def __init__(self, path: Path, resume: bool = False, new: bool = False) -> None:
        self.path = path
        tried = new and failures_alone(path) is not None
        self._file, self._is_new = open_locked(path, new and not tried)
        self._header: dict[str, Any] | None = None  # of the file as it was found, with fields of other versions
        self._recorded: list[_Line] = []  # the file's records as they were found
        self._end = 0  # of the last whole line
        self.torn = False  # whether the last record was cut off: it is dropped
        self.replaced: set[str] = set()  # videos that a file is about which this takes the place of: all failed
        if self._is_new:
            begun(path)
        try:
            if resume:
                self._read()
            if tried:
                if (failed := failures_alone(path)) is None:
                    raise ResultsError(f"{path} was made by another program meanwhile: give another file")
                self.replaced = failed
        except BaseException:
            self.close()
            raise

    def done(self, retry_failed: bool = False) -> set[str]:
        """The videos that are recorded; with ``retry_failed``, without those that failed."""
        return {line.video for line in self._recorded if line.completes and (line.ok or not retry_failed)}

    @property
    def videos(self) -> set[str]:
        """All that the file has records of."""
        return {line.video for line in self._recorded}

    @property
    def unfinished(self) -> set[str]:
        """The videos that have windows, and no record that completes them."""
        return self.videos - self.done()

    def counts(self, videos: set[str]) -> tuple[int, int]:
        """How many of ``videos`` are recorded as classified, and how many as failed."""
        ok = [line.ok for line in self._recorded if line.completes and line.video in videos]
        return sum(ok), len(ok) - sum(ok)

    def check(self, header: RunHeader) -> None:
        """Raises ResultsError if the file has results that were written with different settings."""
        if self.done() and self._header and (shown := differences(self._header, header.to_json(), "{} was {}, now {}")):
            raise ResultsError(
                f"cannot resume {self.path}: it was written with different settings: {shown}; "
                "use the same settings, or give another file"
            )

    def begin(self, header: RunHeader, retried: Iterable[str] = ()) -> None:
        """Make the file ready for more records: check that it was made the same way, or write the header.

        Earlier records of the videos to be ``retried``, and of unfinished ones, are removed. Raises ResultsError if the
        header differs, and the file has more than it.
        """
        self.check(header)
        if not self.done():
            self._file.seek(0)
            self._file.truncate()
            self._write(header.to_json())
            return
        if again := set(retried) & self.videos | self.unfinished:
            self._remove(again)
        else:
            self._file.seek(self._end)
            self._file.truncate()

    def add(self, record: Jsonable) -> None:
        """Write a record. When this returns, the operating system has it."""
        self._write(record.to_json())

    def close(self) -> None:
        """Let others use the file. A new file that nothing was written to is deleted."""
        if not self._file.closed:
            if self._is_new and not os.fstat(self._file.fileno()).st_size:
                self.path.unlink(missing_ok=True)
            ended(self.path)
            with suppress(OSError):  # data that could not be written: that was reported at the time
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write(self, values: dict[str, Any]) -> None:
        try:
            self._file.write(json.dumps(values).encode() + b"\n")
            ended(self.path)
            self._file.flush()
        except OSError as error:
            raise ResultsError(f"cannot write {self.path}: {error.strerror}") from error

    def _read(self) -> None:
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                self.torn = True
                return
            try:
                self._sort_in(json.loads(line), len(line))
            except (ValueError, RecursionError) as error:
                expected = "the header of a run" if number == 1 else "a record"
                raise ResultsError(
                    f"cannot resume {self.path}: line {number} is not {expected}; was it written by xclip with -o?"
                ) from error
            self._end += len(line)

    def _sort_in(self, values: Any, length: int) -> None:
        """Take in the next line, of ``length`` bytes. Raises ValueError if it has no place there."""
        found = from_json(values)
        if self._header is None:
            if not isinstance(found, RunHeader):
                raise ValueError("the file does not begin with a run header")
            self._header = values
        elif isinstance(found, Record):
            self._recorded.append(_Line(self._end, length, found.video, found.error is None, found.completes))
        else:
            raise ValueError("not a record of a video")

    def _remove(self, videos: set[str]) -> None:
        """Replace the file, in one step where the system can, by one without the records of ``videos``."""
        part = Part(self.path)
        try:
            self._file.seek(0)
            part.file.write(self._file.readline())  # the header
            for line in self._recorded:
                if line.video not in videos:
                    self._file.seek(line.offset)
                    part.file.write(self._file.read(line.length))
            part.file.flush()
            replaced = part.publish(force=True)
        except BaseException as error:
            part.delete()
            if isinstance(error, OSError):
                raise ResultsError(f"cannot write {self.path}: {error.strerror}") from error
            raise
        if replaced:
            self._file.close()
            self._file = part.file
        else:
            self._file.seek(0, os.SEEK_END)


def failures_alone(path: Path) -> set[str] | None:
    """The videos of a results file that tells of failures, or of nothing yet: a run that writes it anew loses no
    result. None where there is no such file, or it holds anything else. Raises OSError."""
    if not path.is_file():
        return None
    failed = set()
    with path.open("rb") as file:
        header = file.readline(LONGEST_HEADER)
        if header and not header.startswith(_BEGINNING):
            return None
        for line in file if header.endswith(b"\n") else ():  # else the header itself was cut off
            try:
                found = from_json(json.loads(line))
            except (ValueError, RecursionError):
                if line.endswith(b"\n"):
                    return None
                break
            if not isinstance(found, Record) or (found.completes and found.error is None):
                return None
            if found.completes:
                failed.add(found.video)
    return failed


def differences(one: dict[str, Any], other: dict[str, Any], said: str) -> str:
    """The settings that two headers do not share; "" where they are the same. ``said`` has places for a field and its
    two values."""
    # None: a field that the version that wrote the file did not know
    differing = [key for key in {**one, **other} if key not in NOT_SETTINGS and one.get(key) != other.get(key)]
    if "labels" in differing:  # which says it in a way that people can read
        differing = [key for key in differing if key != "labels_sha256"]

    def show(key: str) -> str:
        if key == "labels_sha256":
            return "the labels or their texts differ"
        return said.format(one_line(key, 40), _shown(one.get(key)), _shown(other.get(key)))

    return listed(differing, SETTINGS_SHOWN, show)


def _shown(value: Any) -> str:
    """A value of a header, which may be a stranger's."""
    return f"a {type(value).__name__}" if isinstance(value, list | dict) else quoted(value)
