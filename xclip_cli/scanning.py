"""The scan of an index on a cluster: its machines take pieces of it, the driver ranks what they find.

The index is in a folder that all machines share. What is scanned, and how, is what ``Search.scan_here`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import ResultsError
from .results.index import Index, StoredVideo
from .results.records import Failure
from .text import printable

if TYPE_CHECKING:
    from .cluster import Source
    from .search import Chosen, Numbers, Scan, Search

PIECE = 20_000  # windows that a machine scans at once, at least


class Piece(NamedTuple):
    """Some videos of an index, which a machine of a cluster scans at once."""

    folder: Path
    videos: list[str]
    windows: int
    chosen: Chosen | None


class Scanner:
    """What a machine of a cluster holds: it scans pieces of indexes that all machines share."""

    def __init__(self, search: Search) -> None:
        self._search = search
        self._indexes: dict[Path, Index] = {}
        self.header, self.description = search.header, search.classifier.description

    def records(self, pieces: Iterable[Piece]) -> Iterator[Numbers]:
        """The logits of each [K, chosen windows], or the cosines. Raises ModelError, ResultsError."""
        for _ in self._search.look([], []):  # loads what it takes
            pass
        return map(self._scanned, pieces)

    def _scanned(self, piece: Piece) -> Numbers:
        index = self._indexes.get(piece.folder)
        if index is None:
            index = self._indexes[piece.folder] = Index.open(piece.folder)
        videos = [index[video] for video in piece.videos if video in index]
        if sum(video.num_windows for video in videos) != piece.windows:
            raise ResultsError(f"{printable(str(piece.folder))} is not the same on all machines, or was written to")
        return self._search.scan_here(videos, piece.chosen)


def shared(cluster: Source[Numbers | Failure]) -> Scan:
    """A scan whose pieces the machines of a cluster do."""

    def scan(videos: Sequence[StoredVideo], chosen: Chosen | None) -> Numbers:
        pieces = _pieces(videos, chosen)
        found: list[Numbers] = []
        for each in cluster.records(pieces):
            if isinstance(each, Failure):
                folder = printable(str(videos[0].index.folder))
                raise ResultsError(f"cannot scan {folder}: the processes that did so died, twice")
            found.append(each)
        return np.concatenate(found, axis=1)

    return scan


def _pieces(videos: Sequence[StoredVideo], chosen: Chosen | None) -> Iterator[Piece]:
    folder, waiting, first, count = videos[0].index.folder, list[str](), 0, 0
    for number, video in enumerate(videos, start=1):
        waiting.append(video.video)
        count += video.num_windows
        if count >= PIECE or number == len(videos):
            yield Piece(folder, waiting, count, None if chosen is None else chosen[first : first + count])
            waiting, first, count = [], first + count, 0
