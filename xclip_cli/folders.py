"""The user's folders, as the system names them, and what is beside a file that is not there."""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path

MOST_NEIGHBOURS = 10_000  # files of a folder that are compared with a name that is not among them


def cache_folder() -> Path | None:
    """Where xclip keeps what it can compute again: ``XCLIP_CACHE``, or ``xclip`` in the system's folder for caches.

    None where the user has no home.
    """
    if given := os.environ.get("XCLIP_CACHE"):
        return Path(given)
    return _folder("XDG_CACHE_HOME", ".cache", "Library/Caches")


def config_folder() -> Path | None:
    """Where a user's settings of xclip are: ``xclip`` in the system's folder for them; None if the user has no
    home."""
    return _folder("XDG_CONFIG_HOME", ".config", "Library/Application Support")


def _folder(variable: str, usual: str, on_macos: str) -> Path | None:
    """Relative folders of the system's are none, by its rules: whoever made the current folder would choose what is in
    them."""
    folder = Path(os.environ.get(variable) or "")
    if sys.platform == "darwin" or not folder.is_absolute():
        try:
            folder = Path.home() / (on_macos if sys.platform == "darwin" else usual)
        except RuntimeError:  # not even an entry of the user in the system's list
            return None
    return folder / "xclip" if folder.is_absolute() else None


def neighbours(path: Path, suffixes: tuple[str, ...] = ("",)) -> list[str]:
    """What ends in one of the suffixes in the folder of a file that is not there, as the file was spelled."""
    try:
        with os.scandir(path.parent) as found:
            names = [entry.name for entry in islice(found, MOST_NEIGHBOURS)]
    except (OSError, ValueError):
        return []
    return [str(path.with_name(name)) for name in names if name.lower().endswith(suffixes)]
