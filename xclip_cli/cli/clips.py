"""--save-clips: stretches of videos as files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from ..errors import ResultsError, VideoError
from ..video.sampling import STDIN

if TYPE_CHECKING:
    from ..output.notes import Notes
    from ..results.records import Record
    from .flags import DecodeFlags

LABEL_LENGTH = 40  # bytes of a label in a file's name: systems take 255, that of the video included


def check_clips(folder: Path | None, videos: Iterable[str]) -> None:
    """Raises typer.BadParameter where a video that clips are to be cut from is on stdin."""
    if folder is not None and not {*STDIN}.isdisjoint(videos):
        raise typer.BadParameter("--save-clips cuts files, and a video on stdin is none: save it to a file first")


class Clips:
    """A folder of stretches of videos, cut out as ``decoding`` allows."""

    def __init__(self, folder: Path, decoding: DecodeFlags, notes: Notes) -> None:
        self._folder, self._decoding, self._notes = folder, decoding, notes

    def save(self, video: str, start: float, end: float, label: str | None = None) -> None:
        """Write a stretch as a file; one that is there already is left as it is. Raises ResultsError."""
        from ..output.images import frame_name
        from ..video.cutting import cut, suffix_for

        said = "" if label is None else "-" + _start_of(re.sub(r"[^\w.-]", "_", label))
        name = frame_name(video, start).removesuffix(".png")
        target = self._folder / f"{name}-{end:.3f}{said}{suffix_for(video)}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            cut(video, start, end, target, self._decoding.limits(), self._decoding.timeout)
        except FileExistsError:
            self._notes.say(f"{target} already exists and was not overwritten")
        except VideoError as error:
            self._notes.say(f"failed: {video}: {error}")
        except OSError as error:
            raise ResultsError(f"cannot write clips to {self._folder}: {error.strerror or error}") from error

    def save_segments(self, record: Record) -> None:
        """Write the segments of a record, if it has any. Raises ResultsError."""
        for segment in record.segments:
            self.save(record.video, segment.start_seconds, segment.end_seconds, segment.label)


def _start_of(label: str) -> str:
    return os.fsencode(label)[:LABEL_LENGTH].decode("utf-8", "ignore")
