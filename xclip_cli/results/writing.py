"""Files for results: one run at a time writes one, none is made through a link, none is lost once whole."""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import stat
import tempfile
import zlib
from contextlib import suppress
from io import BufferedRandom
from pathlib import Path

from ..errors import ResultsError
from ..unfinished import begun, ended

_log = logging.getLogger(__name__)


def open_locked(path: Path, new: bool = False) -> tuple[BufferedRandom, bool]:
    """Open a file for reading and writing that nobody else has open like this → it, and whether it was created.

    ``new``: it must not exist. Raises ResultsError.
    """
    try:
        created = new or not path.exists()
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if created else 0), 0o666)
    except FileExistsError as error:
        how = "is a link to nothing" if path.is_symlink() else "was made by another program meanwhile"
        raise ResultsError(f"{path} {how}: give another file") from error
    except OSError as error:
        raise ResultsError(f"cannot write {path}: {error.strerror}") from error
    file = os.fdopen(descriptor, "r+b")
    _lock(file, path, path)
    return file, created


class Part:
    """A new file that takes the place of ``target`` when it is whole. Raises ResultsError where it cannot be made.

    It stands beside the target under a name that nobody can know before; where no file can be made there, but the
    target be written, in the folder for temporary files. ``alone``: no other part of this target may be written
    meanwhile, and what killed runs left of theirs is deleted.
    """

    def __init__(self, target: Path, alone: bool = False) -> None:
        self._target, self._is_kept = target, False
        family = f".xclip-{zlib.crc32(os.fsencode(target.name)):08x}-" if alone else ".xclip-"
        name = f"{family}{secrets.token_hex(8)}.part"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            self._path, mode = target.with_name(name), 0o666
            try:
                descriptor = os.open(self._path, flags, mode)
            except OSError:
                if not os.access(target, os.W_OK):
                    raise
                self._path, mode = Path(tempfile.gettempdir(), name), 0o600
                descriptor = os.open(self._path, flags, mode)
        except OSError as error:
            raise ResultsError(f"cannot write {target}: {error.strerror}") from error
        begun(self._path)
        self.file = os.fdopen(descriptor, "r+b")
        try:
            _lock(self.file, self._path, target)
            if alone:
                self._clear(family)
        except BaseException:
            self.delete()
            raise

    def publish(self, force: bool) -> bool:
        """Put the file, which is whole and flushed, in the target's place → False where its content was copied there.

        ``force`` replaces what is there. Raises ResultsError, which says where the file is now.
        """
        try:
            if force:
                self._path.replace(self._target)
            else:
                os.link(self._path, self._target)  # which replaces nothing
                self._path.unlink()
        except FileExistsError as error:
            raise self._kept(f"{self._target} was made by another program meanwhile") from error
        except OSError:  # the target is a mounted file, or the file system has no links
            self._copy(os.O_TRUNC if force else os.O_EXCL)
            self.delete()
            return False
        ended(self._path)
        return True

    def delete(self) -> None:
        """Close the file, and delete it unless it is the only place of whole results."""
        if not self._is_kept:
            self._path.unlink(missing_ok=True)
        ended(self._path)
        with suppress(OSError):  # data that could not be written: that was reported at the time
            self.file.close()

    def _copy(self, how: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | how
        try:
            with self._path.open("rb") as whole, os.fdopen(os.open(self._target, flags, 0o666), "wb") as out:
                shutil.copyfileobj(whole, out)
                out.flush()
                os.fsync(out.fileno())
        except FileExistsError as error:
            raise self._kept(f"{self._target} was made by another program meanwhile") from error
        except OSError as error:
            raise self._kept(f"cannot write {self._target}: {error.strerror}") from error

    def _kept(self, what: str) -> ResultsError:
        """Keep the file, by a name that can be seen if it can get one."""
        seen = self._target.with_name(f"{self._target.stem}.{secrets.token_hex(4)}{self._target.suffix}")
        try:
            self._path.rename(seen)
        except OSError:
            seen = self._path
        self._is_kept = True
        ended(self._path)
        return ResultsError(f"{what}: these results are in {seen}")

    def _clear(self, family: str) -> None:
        """Delete parts of this target that killed runs left. Raises ResultsError where one is being written."""
        for rest in self._path.parent.glob(f"{family}*.part"):
            if rest == self._path:
                continue
            with suppress(OSError):  # somebody else's, or there are no locks to tell by
                descriptor = os.open(rest, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    status = os.fstat(descriptor)
                    if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid():
                        rest.unlink()
                except BlockingIOError as error:
                    raise _in_use(self._target) from error
                finally:
                    os.close(descriptor)


def _lock(file: BufferedRandom, path: Path, shown: Path) -> None:
    """Lock a file that was opened at ``path``, until it is closed; where the system has no locks that is said.

    Raises ResultsError, which names ``shown``, and closes the file where it is in use.
    """
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            _log.info("no lock for %s (%s): make sure that no other run writes it", shown, error.strerror)
        # Another run may have replaced or deleted the file between our opening and locking it.
        in_use = not os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        in_use = True
    if in_use:
        file.close()
        raise _in_use(shown)


def _in_use(path: Path) -> ResultsError:
    return ResultsError(f"{path} is being written by another run: give another file, or wait for it to end")
