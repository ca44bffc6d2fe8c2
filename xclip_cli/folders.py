"""The user's folders, as the system names them."""

from __future__ import annotations

import os
import sys
from pathlib import Path


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
