"""Stills of tiles are put together; what FFmpeg cannot decode is said."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import encoder_for, number_of, numbered, read_frames, write_clip

from xclip_cli.errors import VideoError
from xclip_cli.video.clips import read_clips
from xclip_cli.video.limits import Limits
from xclip_cli.video.sampling import ClipRequest

SIDE = 64


def box(kind: bytes, *content: bytes) -> bytes:
    inside = b"".join(content)
    return struct.pack(">I4s", 8 + len(inside), kind) + inside


def tile(path: Path, picture: np.ndarray) -> bytes:
    """A picture as AVIF → the packet in it."""
    with encoder_for(path, format="avif") as container:
        stream = container.add_stream("libsvtav1", rate=1, options={"preset": "10", "crf": "10"})
        stream.height, stream.width, stream.pix_fmt = *picture.shape[:2], "yuv420p"
        for frame in (av.VideoFrame.from_ndarray(picture, format="rgb24"), None):
            container.mux(stream.encode(frame))
    return path.read_bytes()[path.read_bytes().index(b"mdat") + 4 :]


def grid(
    path: Path, colours: list[int], columns: int, size: tuple[int, int], *, turn: int = 0, in_file: bool = False
) -> Path:
    """A still of tiles of these greys, as phones write them (ISO/IEC 23008-12); the grid's own data in idat or mdat."""
    tiles = [tile(path.with_suffix(f".{i}.avif"), np.full((SIDE, SIDE, 3), c, np.uint8)) for i, c in enumerate(colours)]
    count, rows = len(tiles), len(tiles) // columns
    own = struct.pack(">4B2H", 0, 0, rows - 1, columns - 1, *size)
    single = path.with_suffix(".0.avif").read_bytes()
    config = single[single.index(b"av1C") - 4 : single.index(b"colr") - 4]
    entries = [(1, b"grid"), *((i + 2, b"av01") for i in range(count))]
    infos = [box(b"infe", struct.pack(">4B2H4s", 2, 0, 0, 0, i, 0, kind), b"\0") for i, kind in entries]
    references = box(b"dimg", struct.pack(f">{2 + count}H", 1, count, *range(2, 2 + count)))
    shared = [
        box(b"ispe", struct.pack(">3I", 0, *size)),
        box(b"irot", bytes([turn])),
        box(b"ispe", struct.pack(">3I", 0, SIDE, SIDE)),
        config,
    ]
    links = [(1, (1, 2)), *((i + 2, (3, 4)) for i in range(count))]
    tables = b"".join(struct.pack(f">HB{len(own_)}B", i, len(own_), *own_) for i, own_ in links)
    properties = box(b"iprp", box(b"ipco", *shared), box(b"ipma", struct.pack(">2I", 0, len(links)), tables))

    def meta(start: int) -> bytes:
        pieces = [own, *tiles] if in_file else tiles
        starts = [start + sum(map(len, pieces[:i])) for i in range(len(pieces))]
        first = (0, starts.pop(0)) if in_file else (1, 0)
        places = [(1, *first, len(own)), *((i + 2, 0, at, len(tiles[i])) for i, at in enumerate(starts))]
        located = b"".join(struct.pack(">4H2I", i, method, 0, 1, at, size) for i, method, at, size in places)
        return box(
            b"meta",
            bytes(4),
            box(b"hdlr", bytes(8), b"pict", bytes(13)),
            box(b"pitm", struct.pack(">IH", 0, 1)),
            box(b"iloc", struct.pack(">I2BH", 1 << 24, 0x44, 0, len(places)), located),
            box(b"iinf", struct.pack(">IH", 0, len(infos)), *infos),
            box(b"iref", bytes(4), references),
            properties,
            box(b"idat", own),
        )

    head = box(b"ftyp", b"avif", bytes(4), b"avifmif1miaf")
    data = b"".join([own, *tiles] if in_file else tiles)
    path.write_bytes(head + meta(len(head) + len(meta(0)) + 8) + box(b"mdat", data))
    return path


GREYS = [40, 80, 120, 160, 200, 240]


@pytest.mark.parametrize("in_file", [False, True])
def test_a_still_of_tiles_is_put_together(tmp_path: Path, in_file: bool) -> None:
    path = grid(tmp_path / "photo.avif", GREYS, 3, (170, 110), in_file=in_file)
    frames, info = read_frames(path)
    assert frames[0].shape == (110, 170, 3)
    assert (info.errors, info.warnings, info.decoded) == (0, (), 1)
    seen = [int(frames[0][y, x].mean()) for y in (20, 90) for x in (20, 90, 150)]
    assert seen == pytest.approx(GREYS, abs=3)
    (clip,) = read_clips(ClipRequest(str(path), 8, length=Fraction(2), stride=Fraction(1)), Sink())
    assert clip.decoded == 1


class Sink:
    """Takes anything."""

    def put(self, picture: np.ndarray) -> None:
        pass

    restart = progress = lambda self: None

    def skipped(self, error: Exception) -> None:
        pass


@pytest.mark.parametrize("turn", [1, 2, 3])
def test_a_still_of_tiles_is_turned(tmp_path: Path, turn: int) -> None:
    upright = read_frames(grid(tmp_path / "upright.avif", GREYS, 3, (170, 110)))[0][0]
    turned = read_frames(grid(tmp_path / "turned.avif", GREYS, 3, (170, 110), turn=turn))[0][0]
    np.testing.assert_array_equal(turned, np.rot90(upright, turn))


def test_a_still_of_tiles_over_the_limit_is_refused(tmp_path: Path) -> None:
    path = grid(tmp_path / "photo.avif", GREYS, 3, (170, 110))
    with pytest.raises(VideoError, match="frames of 170x110 pixels are larger than the limit") as caught:
        list(read_clips(ClipRequest(str(path), 8), Sink(), limits=Limits(pixels=100 * 100)))
    assert caught.value.code == "limit"


def test_a_tile_alone_can_be_asked_for(tmp_path: Path) -> None:
    path = grid(tmp_path / "photo.avif", GREYS, 3, (170, 110))
    (clip,) = read_clips(ClipRequest(str(path), 1, stream=4), sink := Keeping())
    assert clip.decoded == 1
    assert sink.pictures[0].shape == (SIDE, SIDE, 3)
    assert int(sink.pictures[0].mean()) == pytest.approx(GREYS[4], abs=3)


class Keeping(Sink):
    """Keeps what it takes."""

    def __init__(self) -> None:
        self.pictures: list[np.ndarray] = []

    def put(self, picture: np.ndarray) -> None:
        self.pictures.append(picture)


@pytest.mark.parametrize("cut", [b"pitm", b"iref", b"iloc", b"ipma", b"dimg"])
def test_a_grid_that_lacks_something_is_no_grid(tmp_path: Path, cut: bytes) -> None:
    path = grid(tmp_path / "photo.avif", GREYS, 3, (170, 110))
    path.write_bytes(path.read_bytes().replace(cut, b"free"))
    try:
        frames, info = read_frames(path)
    except VideoError as error:
        assert error.code in {"unsupported", "no_video", "damaged"}
    else:
        assert frames[0].shape == (SIDE, SIDE, 3) or info.warnings == ()


def test_an_animated_webp_is_unsupported(tmp_path: Path) -> None:
    path = tmp_path / "moving.webp"
    still = write_clip(path, 1, codec="libwebp", container_format="webp").read_bytes()
    frame = box_le(b"ANMF", bytes(16), still[12:])
    canvas = b"\2\0\0\0" + struct.pack("<I", 159)[:3] + struct.pack("<I", 95)[:3]
    moving = b"WEBP" + box_le(b"VP8X", canvas) + box_le(b"ANIM", bytes(6)) + frame + frame
    path.write_bytes(b"RIFF" + struct.pack("<I", len(moving)) + moving)
    with pytest.raises(
        VideoError, match="an animated WebP, which FFmpeg cannot decode: save it as GIF or MP4"
    ) as caught:
        read_frames(path)
    assert caught.value.code == "unsupported"
    path.write_bytes(still)
    assert number_of(read_frames(path)[0][0]) == number_of(numbered(0))


def box_le(kind: bytes, *content: bytes) -> bytes:
    inside = b"".join(content)
    return kind + struct.pack("<I", len(inside)) + inside
