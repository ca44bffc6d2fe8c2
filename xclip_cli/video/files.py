"""Files that cross between the parent and its decode workers: strangers' videos, and memory without a name."""

from __future__ import annotations

import fcntl
import os
import stat

from ..errors import VideoError


def open_file(path: str | int) -> int:
    """Open a video for reading → its descriptor, at the start. An open descriptor is duplicated.

    Raises VideoError if there is no file, or nothing in it.
    """
    if isinstance(path, int):  # it shares its position with the duplicate: one reader at a time
        os.lseek(path, 0, os.SEEK_SET)
        return fcntl.fcntl(path, fcntl.F_DUPFD_CLOEXEC, 3)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise VideoError("no such file", "missing") from error
    except PermissionError as error:
        raise VideoError("no permission to read the file", "permission") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"cannot open the file: {getattr(error, 'strerror', None) or error}", "not_a_file") from error
    status = os.fstat(descriptor)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        return descriptor
    os.close(descriptor)
    if stat.S_ISREG(status.st_mode):
        raise VideoError("the file is empty", "empty")
    raise VideoError("not a regular file", "not_a_file")


def anonymous_file(size: int | None = None) -> int:
    """A file without a name, which no crash can leave behind → its descriptor. It is in memory where the system has
    that and lets us, else in the folder for temporary files. Raises OSError.

    With a ``size`` it keeps that size where the system can promise it: memory that is mapped from a file which shrinks
    is a crash to touch.
    """
    in_memory = True
    try:
        descriptor = os.memfd_create("xclip", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except (AttributeError, OSError):  # another system, or one that was told to refuse it
        import tempfile  # which takes longer to import than all else of a worker's own

        in_memory = False
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    # Where stdin or stdout is closed its number is free, and the worker's pipes would take it.
    above = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    if size is not None:
        os.ftruncate(above, size)
        if in_memory:
            fcntl.fcntl(above, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return above
