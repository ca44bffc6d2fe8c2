"""Ctrl-C. It ends a command at once, wherever that is: nothing is raised, which an import, a destructor or a library
would lose, or make another error of. Only the records of a run are finished in good order (``run.Tally``)."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from ..unfinished import delete_all
from .exits import INTERRUPTED

LONGEST_COMMAND = 1000  # characters of one that is shown
_SHOW_CURSOR = "\r\x1b[K\x1b[?25h"  # and take away the bar that hid it


@contextmanager
def on_interrupt(handle: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C calls this meanwhile, in the main thread."""
    before = signal.signal(signal.SIGINT, lambda *_: handle())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def end(said: str = "") -> NoReturn:
    """End the process, which may be anywhere, and delete what is unfinished. ``said``: a line for the user."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with suppress(OSError):  # not through Python's stream, which may be in the middle of a line
        screen = _SHOW_CURSOR if os.isatty(2) else ""
        os.write(2, (screen + (f"{said}\n" if said else "")).encode("utf-8", "backslashreplace"))
    delete_all()
    os._exit(INTERRUPTED)


def same_command(more: str = "", less: Collection[str] = ()) -> str | None:
    """What to type, or paste, to run this process's command again, with the flag ``more`` and without those of
    ``less``; None where that is too long to be read, or holds what no terminal takes."""
    from ..text import printable

    given = [word for word in sys.argv[1:] if word not in less]
    flags = [more] if more and more not in given else []
    found = shlex.join([*_program(), *given[:1], *flags, *given[1:]])  # there may be a -- before the videos
    return found if len(found) <= LONGEST_COMMAND and printable(found) == found else None


def _program() -> list[str]:
    """How to call this program: by its name, if that is not another program's here."""
    path = Path(sys.argv[0])
    if path.name == "__main__.py":
        return [sys.executable, "-m", __package__.partition(".")[0]]
    found = shutil.which(path.name)
    return [path.name if found is not None and path.exists() and path.samefile(found) else str(path)]
