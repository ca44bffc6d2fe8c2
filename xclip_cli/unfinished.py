"""Files and folders that mean nothing yet. Who ends the process at once, as Ctrl-C does, deletes them first."""

from __future__ import annotations

import shutil
from contextlib import suppress
from pathlib import Path

_paths: set[Path] = set()


def begun(path: Path) -> None:
    """A file or folder is there that means nothing until ``ended`` is told of it."""
    _paths.add(path)


def ended(path: Path) -> None:
    """It means something by now, or it is gone."""
    _paths.discard(path)


def delete_all() -> None:
    """Delete those that are there."""
    for path in list(_paths):
        with suppress(OSError):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
