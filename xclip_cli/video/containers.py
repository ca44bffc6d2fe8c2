"""What PyAV does not say of a file: read from the boxes of MP4, the elements of Matroska and the chunks of AVI.

Everything here reads a stranger's bytes: whatever is not as it should be is left out, nothing is read twice, and no
more is read than the limits say. Which demuxers there are, and how they differ, is said in ``opening``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

MOST_BYTES = 1 << 26  # of a file's description that are looked at
MOST_BOXES = 1 << 20  # at the top of a file

_PICTURES = re.compile(rb"hdlr.{8}vide", re.DOTALL)  # in an MP4: that a track is of pictures


@dataclass(frozen=True)
class Crop:
    """Rows and columns at the edges of each picture that are not to be shown."""

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0


# MP4 (ISO/IEC 14496-12): boxes of size and type.


@dataclass(frozen=True)
class Box:
    """A box at the top of an MP4."""

    kind: bytes
    start: int
    size: int  # with its header


def top_boxes(descriptor: int) -> Iterator[Box]:
    """The boxes of an MP4 that are in no other, up to the first that makes no sense."""
    offset, end = 0, os.fstat(descriptor).st_size
    for _ in range(MOST_BOXES):
        header = os.pread(descriptor, 16, offset)
        if len(header) < 8:
            return
        size, kind = int.from_bytes(header[:4]), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16])
        elif size == 0:
            size = end - offset
        if size < 8:
            return
        yield Box(kind, offset, size)
        offset += size
        if offset >= end:
            return


def inner_boxes(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The types and contents of boxes that follow each other."""
    at = 0
    while len(header := content[at : at + 8]) == 8 and (size := int.from_bytes(header[:4])) >= 8:
        yield header[4:], content[at + 8 : at + size]
        at += size


def descriptions(descriptor: int) -> Iterator[bytes]:
    """What an MP4 says of its pictures: there may be several entries, as of a clear start and what follows it.

    A track's kind is in moov/trak/mdia/hdlr, what its samples are in moov/trak/mdia/minf/stbl/stsd.
    """
    found = next((box for box in top_boxes(descriptor) if box.kind == b"moov"), None)
    if found is None:
        return
    moov = os.pread(descriptor, min(found.size, MOST_BYTES), found.start)
    track = 0  # where it begins; nothing is looked at twice, however often a stranger's file says stsd
    while (box := moov.find(b"stsd", track)) >= 0:
        at, end = box + 12, box - 4 + int.from_bytes(moov[max(0, box - 4) : box])
        if _PICTURES.search(moov, track, box):
            while at < end and (length := int.from_bytes(moov[at : at + 4])) >= 8:
                yield moov[at : at + length]
                at += length
        track = at


def is_unfinished(descriptor: int) -> bool:
    """Whether a file is an MP4 whose description, which is written last, is not there."""
    boxes = list(top_boxes(descriptor))
    kinds = {box.kind for box in boxes}
    reaches_end = bool(boxes) and boxes[-1].start + boxes[-1].size >= os.fstat(descriptor).st_size
    is_mp4 = bool(boxes) and boxes[0].kind in {b"ftyp", b"mdat", b"wide", b"free", b"skip"}
    return is_mp4 and b"mdat" in kinds and not {b"moov", b"meta"} & kinds and reaches_end


def clean_aperture(entry: bytes, width: int, height: int) -> Crop:
    """The crop of a sample entry's ``clap`` box: width, height and how far the centre is off, each a ratio."""
    at = entry.find(b"clap")
    values = entry[at + 4 : at + 36]
    if at < 0 or len(values) < 32:
        return Crop()
    numbers = [int.from_bytes(values[i : i + 4], signed=i >= 16 and i % 8 == 0) for i in range(0, 32, 4)]
    if 0 in numbers[1::2]:
        return Crop()
    inner_width, inner_height, right, down = (numbers[i] / numbers[i + 1] for i in range(0, 8, 2))
    left, top = round((width - inner_width) / 2 + right), round((height - inner_height) / 2 + down)
    return Crop(top, height - top - round(inner_height), left, width - left - round(inner_width))


# Matroska (RFC 9559): elements of number, size and content.

_SEGMENT, _CLUSTER, _TRACKS, _TRACK, _TYPE, _VIDEO = 0x18538067, 0x1F43B675, 0x1654AE6B, 0xAE, 0x83, 0xE0
_CROPS = {0x54BB: "top", 0x54AA: "bottom", 0x54CC: "left", 0x54DD: "right"}


@dataclass(frozen=True)
class Element:
    """An element of a Matroska file."""

    number: int
    content: int  # where it begins
    end: int | None  # None: it does not say


def _elements(data: bytes, at: int, end: int) -> Iterator[Element]:
    while at < min(end, len(data)) and data[at]:
        size_at = at + 9 - data[at].bit_length()
        if size_at >= len(data) or not data[size_at]:
            return
        content = size_at + 9 - data[size_at].bit_length()
        ones = (1 << 7 * (content - size_at)) - 1
        size = int.from_bytes(data[size_at:content]) & ones
        number = int.from_bytes(data[at:size_at])
        yield Element(number, content, None if size == ones else content + size)
        if size == ones:
            return
        at = content + size


def segment_end(descriptor: int) -> int | None:
    """Where a Matroska file's first segment says it ends; None if it does not."""
    head = os.pread(descriptor, 1 << 16, 0)
    return next((element.end for element in _elements(head, 0, len(head)) if element.number == _SEGMENT), None)


def pixel_crops(descriptor: int) -> list[Crop]:
    """The crop of each track of pictures of a Matroska file."""
    head = os.pread(descriptor, 1 << 20, 0)
    size, crops = len(head), list[Crop]()
    for segment in _elements(head, 0, size):
        if segment.number != _SEGMENT:
            continue
        for tracks in _elements(head, segment.content, segment.end or size):
            if tracks.number == _CLUSTER:
                return crops
            if tracks.number != _TRACKS:
                continue
            for track in _elements(head, tracks.content, tracks.end or size):
                inner = list(_elements(head, track.content, track.end or size)) if track.number == _TRACK else []
                if not any(e.number == _TYPE and head[e.content : e.end] == b"\1" for e in inner):
                    continue
                values = [v for e in inner if e.number == _VIDEO for v in _elements(head, e.content, e.end or size)]
                cut = {_CROPS[v.number]: int.from_bytes(head[v.content : v.end]) for v in values if v.number in _CROPS}
                crops.append(Crop(**cut))
    return crops


# AVI: chunks of type and size; its index lists the chunks without a picture, too.


def avi_units(descriptor: int, stream: int) -> int:
    """How many chunks of a stream the index of an AVI lists, each of which lasts for one unit of time."""
    offset, end = 12, os.fstat(descriptor).st_size
    while offset < end and len(header := os.pread(descriptor, 8, offset)) == 8:
        size = int.from_bytes(header[4:], "little")
        if header[:4] == b"idx1":
            index = os.pread(descriptor, min(size, MOST_BYTES), offset + 8)
            own = b"%02d" % stream
            return sum(index[i : i + 2] == own and index[i + 2 : i + 4] in {b"dc", b"db"} for i in range(0, size, 16))
        offset += 8 + size + size % 2
    return 0


# Any container.


def is_animated_webp(descriptor: int) -> bool:
    """Whether a file is a WebP that says it moves (RFC 9649, section 2.7)."""
    head = os.pread(descriptor, 21, 0)
    return head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X" and len(head) == 21 and bool(head[20] & 2)


def is_appended(descriptor: int, end: int) -> bool:
    """Whether behind ``end``, where reading ended, a file begins anew: with the bytes that it begins with."""
    magic = os.pread(descriptor, 12, 0)
    at = slice(4, 8) if magic[4:8] == b"ftyp" else slice(0, 8 if magic[:4] == b"YUV4" else 4)
    length = os.fstat(descriptor).st_size - end
    if length < len(magic) or magic[at].count(0) > 1 or len(set(magic[at])) < 3:
        return False
    return magic[at] in os.pread(descriptor, min(length, MOST_BYTES), end)
