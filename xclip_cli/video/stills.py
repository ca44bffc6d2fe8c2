"""Stills made of tiles, as phones' HEIC photos and large AVIFs are: FFmpeg gives each tile as a stream of its own.

What belongs together is in the boxes of the file's ``meta`` (ISO/IEC 23008-12): the primary item, of type ``grid``,
refers to its tiles, and says how many rows and columns of them there are.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

import av
import numpy as np

from ..errors import VideoError
from .containers import MOST_BYTES, inner_boxes, top_boxes
from .times import TimeLine

if TYPE_CHECKING:
    from .opening import OpenVideo
    from .pictures import Converter
    from .sampling import Picture


@dataclass(frozen=True)
class Grid:
    """A still of tiles."""

    rows: int
    columns: int
    width: int  # pixels, of the whole picture before it is turned
    height: int
    items: tuple[int, ...]  # the tiles, row after row; numbers of items, which FFmpeg has as those of streams
    turns: int = 0  # by 90 degrees, anticlockwise
    mirror: int | None = None  # 0: left and right change places, 1: top and bottom do; after the turn


def grid_of(descriptor: int) -> Grid | None:
    """The grid that a file's primary item is; None if it is another kind of picture."""
    found = next((box for box in top_boxes(descriptor) if box.kind == b"meta"), None)
    if found is None:
        return None
    meta = os.pread(descriptor, min(found.size, MOST_BYTES), found.start)
    try:
        return _grid(dict(inner_boxes(meta[12:])), descriptor)
    except (IndexError, KeyError, StopIteration):  # a stranger's file: what it lacks was not there to be found
        return None


def _grid(meta: dict[bytes, bytes], descriptor: int) -> Grid | None:
    """Of the contents of the boxes in a ``meta``, each beginning with its version."""
    wide = meta[b"pitm"][0] > 0
    primary = int.from_bytes(meta[b"pitm"][4 : 8 if wide else 6])
    entries = meta[b"iinf"][8 if meta[b"iinf"][0] else 6 :]
    if _types(entries).get(primary) != b"grid":
        return None
    size = 4 if meta[b"iref"][0] else 2
    references = (content for kind, content in inner_boxes(meta[b"iref"][4:]) if kind == b"dimg")
    tiles = next(content for content in references if int.from_bytes(content[:size]) == primary)
    count = int.from_bytes(tiles[size : size + 2])
    items = tuple(int.from_bytes(tiles[at : at + size]) for at in range(size + 2, size + 2 + count * size, size))
    data = _item_data(meta, primary, descriptor)
    length = 4 if data[1] & 1 else 2
    width, height = int.from_bytes(data[4 : 4 + length]), int.from_bytes(data[4 + length : 4 + 2 * length])
    turns, mirror = 0, None
    for kind, content in _properties(meta[b"iprp"], primary):
        if kind == b"irot":
            turns = content[0] & 3
        elif kind == b"imir":
            mirror = content[0] & 1
    grid = Grid(data[2] + 1, data[3] + 1, width, height, items, turns, mirror)
    return grid if len(items) == grid.rows * grid.columns else None


def _types(entries: bytes) -> dict[int, bytes]:
    """What kind of thing each item is, by the entries of an ``iinf``."""
    types = {}
    for kind, content in inner_boxes(entries):
        if kind == b"infe" and content[0] >= 2:
            size = 2 if content[0] == 2 else 4
            types[int.from_bytes(content[4 : 4 + size])] = content[6 + size : 10 + size]
    return types


def _item_data(meta: dict[bytes, bytes], item: int, descriptor: int) -> bytes:
    """The first bytes of an item, which lie where an ``iloc`` says."""
    table = meta[b"iloc"]
    version = table[0]
    offset_size, length_size = table[4] >> 4, table[4] & 15
    base_size, index_size = table[5] >> 4, table[5] & 15 if version else 0
    id_size = 4 if version == 2 else 2
    at = 6 + id_size

    def number(size: int) -> int:
        nonlocal at
        at += size
        if at > len(table):
            raise IndexError
        return int.from_bytes(table[at - size : at])

    for _ in range(int.from_bytes(table[6 : 6 + id_size])):
        own = number(id_size)
        method = number(2) & 15 if version else 0
        number(2)
        base = number(base_size)
        extents = [(number(index_size), number(offset_size), number(length_size)) for _ in range(number(2))]
        if own == item:
            start = base + extents[0][1]
            return meta[b"idat"][start : start + 12] if method == 1 else os.pread(descriptor, 12, start)
    raise KeyError(item)


def _properties(iprp: bytes, item: int) -> Iterator[tuple[bytes, bytes]]:
    """The properties of an item, in the order in which they are to be applied."""
    boxes = list(inner_boxes(iprp))
    shared = list(inner_boxes(next(content for kind, content in boxes if kind == b"ipco")))
    for kind, content in boxes:
        if kind != b"ipma":
            continue
        id_size, size, at = 4 if content[0] else 2, 2 if content[3] & 1 else 1, 8
        for _ in range(int.from_bytes(content[4:8])):
            own, count = int.from_bytes(content[at : at + id_size]), content[at + id_size]
            at += id_size + 1
            for i in range(at, at + count * size, size):
                place = int.from_bytes(content[i : i + size]) & ((1 << 8 * size - 1) - 1)
                if own == item and 0 < place <= len(shared):
                    yield shared[place - 1]
            at += count * size


class Mosaic:
    """The one frame of a still of tiles: it is a FrameStream of that."""

    at_end = True
    errors = 0
    notes: tuple[str, ...] = ()

    def __init__(self, video: OpenVideo, grid: Grid, converter: Converter) -> None:
        self.line = TimeLine(1, (0,), 1, Fraction(video.stream.time_base or 1))
        self._picture = _put_together(video, grid, converter)

    def shown_at(self, time: Fraction) -> tuple[int, Picture]:
        """The picture, which is shown from the start."""
        return 0, self._picture


def _put_together(video: OpenVideo, grid: Grid, converter: Converter) -> Picture:
    """The whole picture. Raises VideoError if a tile is missing."""
    streams = {s.id: s for s in video.container.streams.video if s.codec_context and s.id in grid.items}
    tiles: dict[int, Picture] = {}
    try:
        for packet in video.container.demux(list(streams.values())):
            for frame in packet.decode():
                tiles[packet.stream.id] = converter.picture(frame)[0]  # type: ignore[arg-type]
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"a tile of the picture cannot be decoded: {error}", "damaged") from error
    missing = [item for item in grid.items if item not in tiles]
    shapes = {tile.shape for tile in tiles.values()}
    if missing or len(shapes) != 1:
        message = f"a picture of {len(grid.items)} tiles that FFmpeg cannot put together: save it as JPEG or PNG"
        raise VideoError(message, "unsupported")
    rows = [
        np.concatenate([tiles[item] for item in grid.items[i : i + grid.columns]], axis=1)
        for i in range(0, len(grid.items), grid.columns)
    ]
    picture = np.concatenate(rows)[: grid.height, : grid.width]
    picture = np.rot90(picture, grid.turns)
    if grid.mirror is not None:
        picture = np.flip(picture, 1 - grid.mirror)
    return np.ascontiguousarray(picture)
