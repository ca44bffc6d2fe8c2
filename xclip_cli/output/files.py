"""Where results go: files that appear only when they are whole, and stdout."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO, TextIO

from ..errors import ResultsError
from ..results.records import Record, RunHeader
from ..results.run_file import failures_alone
from ..results.writing import Part

Format = Callable[[Iterable[Record], TextIO, RunHeader | None], None]  # it writes the records, as they come

SUFFIXES = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
    ".txt": "table",
    ".srt": "srt",
    ".vtt": "vtt",
    ".html": "html",
    ".m3u": "m3u",
    ".m3u8": "m3u",
    ".edl": "edl",
    ".otio": "otio",
}


def format_of(path: Path) -> str | None:
    """The format that a file name asks for by its suffix."""
    return SUFFIXES.get(path.suffix.lower())


def is_terminal(output: Path | None) -> bool:
    """Whether results go to a terminal."""
    return output is None and sys.stdout is not None and sys.stdout.isatty()


def check_output(path: Path, force: bool, inputs: Iterable[str], continuable: bool = False) -> None:
    """Refuse a file for results that would destroy something, before any work is done. ``continuable``: it is a results
    file that runs go on with, and is replaced where it holds no video's result. Raises ResultsError."""
    try:
        if path.is_dir():
            raise ResultsError(f"{path} is a folder: give a file for the results")
        if not path.parent.is_dir():
            raise ResultsError(f"the folder {path.parent} of the output does not exist")
        if not path.exists():
            if path.is_symlink():
                raise ResultsError(f"{path} is a link to nothing: give another file")
            return
        for given in inputs:
            with suppress(OSError, ValueError):  # it cannot be reached, so it cannot be destroyed
                if path.samefile(given):
                    raise ResultsError(f"{path} is one of the inputs: give another file for the results")
        if not path.is_file() or force:  # a device or a pipe is written to, and loses nothing
            return
        if not continuable:
            raise ResultsError(f"{path} exists: pass --force to replace it, or give another file")
        if failures_alone(path) is None:
            raise ResultsError(f"{path} exists: pass --force to replace it, --resume to go on, or give another file")
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror}") from error


def write(
    form: Format,
    records: Iterable[Record],
    path: Path | None,
    header: RunHeader | None,
    force: bool = False,
) -> None:
    """Write records in a format, to a file or to stdout. Raises ResultsError where the file cannot be written.

    A file appears only when it is whole; a device or a pipe is written to as it is.
    """
    if path is None:
        _write_stdout(form, records, header)
        return
    with _whole_file(path, force) as out:
        # Undecodable bytes of file names become escapes in tables and CSV; JSON escapes them itself.
        text = TextIOWrapper(out, "utf-8", "backslashreplace", newline="")
        form(records, text, header)
        text.detach()


def replace_file(path: Path, content: str | bytes) -> None:
    """Write a file that appears only when it is whole. Raises ResultsError where it cannot be written."""
    with _whole_file(path, force=True) as out:
        out.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def _whole_file(path: Path, force: bool) -> Iterator[BinaryIO]:
    """A file that appears at ``path`` when it is whole, and that no other run writes meanwhile; a device or a pipe is
    written to as it is. Raises ResultsError."""
    try:
        if is_special(path):
            with path.open("wb") as out:
                yield out
            return
        part = Part(path, alone=True)
        try:
            yield part.file
            part.file.flush()
            part.publish(force)
        except BaseException:
            part.delete()
            raise
        part.file.close()
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror or error}") from error


def is_special(path: Path) -> bool:
    """Whether there is a device or a pipe, which is written to as it is."""
    return path.exists() and not path.is_file()


def _write_stdout(form: Format, records: Iterable[Record], header: RunHeader | None) -> None:
    if sys.stdout is None:
        raise ResultsError("stdout is closed: pass -o FILE")
    try:
        form(records, sys.stdout, header)
        sys.stdout.flush()
    except OSError as error:
        # What is left in Python's buffer would fail again at exit: send it nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise  # its reader has what it wants
        raise ResultsError(f"cannot write to stdout: {error.strerror or error}") from error
