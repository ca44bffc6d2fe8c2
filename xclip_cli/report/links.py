"""Where the names of videos on a page lead: to their files, by addresses relative to the page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from urllib.parse import quote

from ..inputs import VIDEO_SUFFIXES

# Other files do not become links: a stranger's results file may name a web page, which a browser would run.
SUFFIXES = {*VIDEO_SUFFIXES, ".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}


def links(videos: Iterable[str], place: Callable[[str], str | None], page: Path) -> dict[str, str]:
    """Video → its address on ``page``, for those that the page may show and that have a file.

    ``place`` says where a video's file is; None: that is not to be looked at.
    """
    folder = os.path.abspath(page.parent)  # noqa: PTH100 - a browser does not follow links in an address either
    placed = ((video, place(video)) for video in videos)
    return {video: _address(path, folder) for video, path in placed if path is not None and _leads_there(path)}


def _address(path: str, folder: str) -> str:
    return quote(os.fsencode(os.path.relpath(path, folder)))


def _leads_there(path: str) -> bool:
    """Whether it is a file that an address may name: a browser takes ``link/..`` for nothing, the system does not."""
    if PurePath(path).suffix.lower() not in SUFFIXES:
        return False
    try:
        return os.path.isfile(path) and os.path.samefile(path, os.path.abspath(path))  # noqa: PTH100, PTH113, PTH121 - no name is an error
    except OSError:
        return False
