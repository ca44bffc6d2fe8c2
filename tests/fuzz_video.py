"""A mutation fuzzer over real encoded clips: ``python -m tests.fuzz_video --count N --seed S``.

Clips of every codec and container that PyAV can write here are damaged in every way that files are, and decoded as a
run decodes them. Each mutant must end in a clip or a VideoError: no death of this process, no hang, memory and files
bounded, and a good clip decodes the same afterwards. A mutant is a function of seed and number: ``--only NUMBER`` makes
one again, ``--keep FOLDER`` keeps those that fail.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import re
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from xclip_cli.errors import VideoError
from xclip_cli.video.pool import Decoders
from xclip_cli.video.sampling import ClipRequest

from .clips import numbered, write_clip

NUM_FRAMES = 8
HANG_SECONDS = 60.0
MAX_WORKER = 1500  # MB of memory: a worker at rest has 60
MAX_PIXELS = 8192 * 4320
GOOD_EVERY = 25  # mutants between two looks at a good clip

QUIET = {"x265-params": "log-level=none"}
os.environ["SVT_LOG"] = "0"  # nor shall SVT-AV1 say more than errors

# codec, suffix, and what else write_clip wants
SEEDS: list[tuple[str, str, dict[str, Any]]] = [
    ("libx264", ".mp4", {}),
    ("libx264", ".mp4", {"options": {"bf": "3", "g": "10"}, "matrix": (0, 1, 0, -1, 0, 0, 0, 0, 1)}),
    ("libx264", ".mov", {}),
    ("libx264", ".mkv", {}),
    ("libx264", ".ts", {}),
    ("libx264", ".flv", {}),
    ("libx264", ".avi", {}),
    ("libx264", ".h264", {"container_format": "h264"}),
    ("libx264", ".mxf", {}),
    ("libx265", ".mp4", {"options": QUIET}),
    ("libx265", ".mkv", {"options": QUIET}),
    ("libx265", ".hevc", {"container_format": "hevc", "options": QUIET}),
    ("libvpx", ".webm", {}),
    ("libvpx", ".ivf", {}),
    ("libvpx-vp9", ".webm", {}),
    ("libvpx-vp9", ".mp4", {}),
    ("libsvtav1", ".mp4", {}),
    ("libsvtav1", ".mkv", {}),
    ("mpeg4", ".avi", {}),
    ("mpeg4", ".mp4", {}),
    ("mpeg4", ".m4v", {"container_format": "m4v"}),
    ("mpeg2video", ".mpg", {}),
    ("mpeg2video", ".ts", {}),
    ("mpeg1video", ".mpg", {}),
    ("mjpeg", ".mov", {}),
    ("mjpeg", ".avi", {}),
    ("ffv1", ".mkv", {}),
    ("ffv1", ".avi", {}),
    ("huffyuv", ".avi", {"pix_fmt": "yuv422p"}),
    ("prores", ".mov", {"pix_fmt": "yuv422p10le"}),
    ("flv", ".flv", {}),
    ("wmv2", ".wmv", {}),
    ("h263p", ".avi", {}),
    ("rawvideo", ".nut", {}),
    ("rawvideo", ".y4m", {"container_format": "yuv4mpegpipe"}),
    ("gif", ".gif", {}),
    ("apng", ".apng", {}),
    ("libx264rgb", ".mkv", {"pix_fmt": "rgb24"}),
    ("qtrle", ".mov", {"pix_fmt": "rgb24"}),
    ("png", ".mov", {}),
]
STILLS = ("png", "mjpeg", "bmp", "tiff", "libwebp", "jpeg2000")
NUMBERS = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, (1 << 63) - 1, 1 << 63)
NESTED = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"edts", b"dinf", b"udta", b"mvex", b"moof", b"traf", b"stsd"}
MASTERS = {0x18538067, 0x1654AE6B, 0xAE, 0xE0, 0x1F43B675, 0x1C53BB6B, 0xBB, 0xB7, 0x114D9B74, 0x1549A966, 0xA0}


@dataclass(frozen=True)
class Piece:
    """A box, or an EBML element: where it lies in a file, and where its size is written."""

    start: int
    end: int
    size_at: int
    size_length: int


def write_seeds(folder: Path) -> tuple[list[Path], list[str]]:
    """The clips to damage, and what this build of FFmpeg could not write."""
    written, missing = [], []
    pictures = [numbered(i, 160, 96) for i in range(20)]
    for number, (codec, suffix, settings) in enumerate(SEEDS):
        path = folder / f"{number:02}-{codec}{suffix}"
        try:
            written.append(write_clip(path, codec=codec, pictures=pictures, **settings))
        except (av.error.FFmpegError, ValueError, LookupError) as error:
            missing.append(f"{path.name}: {error}")
            path.unlink(missing_ok=True)
    for codec in STILLS:
        path = folder / f"still-{codec}"
        try:
            encoder: Any = av.CodecContext.create(codec, "w")
            encoder.width, encoder.height, encoder.time_base = 160, 96, Fraction(1, 25)
            encoder.pix_fmt = {"mjpeg": "yuvj420p", "libwebp": "yuv420p", "bmp": "bgr24"}.get(codec, "rgb24")
            frame = av.VideoFrame.from_ndarray(pictures[5], format="rgb24").reformat(format=encoder.pix_fmt)
            path.write_bytes(b"".join(bytes(p) for f in (frame, None) for p in encoder.encode(f)))
            written.append(path)
        except (av.error.FFmpegError, ValueError, LookupError) as error:
            missing.append(f"{path.name}: {error}")
    return written, missing


# Mutations


def boxes(data: bytes, start: int, end: int) -> Iterator[Piece]:
    """The boxes of an MP4 (ISO/IEC 14496-12), parents before children."""
    while start + 8 <= end:
        size, kind = struct.unpack_from(">I4s", data, start)
        wide = size == 1 and start + 16 <= end
        length = struct.unpack_from(">Q", data, start + 8)[0] if wide else size or end - start
        if length < 8 or start + length > end:
            return
        yield Piece(start, start + length, start + 8 if wide else start, 8 if wide else 4)
        if kind in NESTED:
            yield from boxes(data, start + (16 if kind == b"stsd" else 8), start + length)
        start += length


def elements(data: bytes, start: int, end: int) -> Iterator[Piece]:
    """The elements of a Matroska file (RFC 8794), parents before children."""
    while start < end and data[start]:
        id_length = 9 - data[start].bit_length()
        size_at = start + id_length
        if size_at >= end or not data[size_at]:
            return
        size_length = 9 - data[size_at].bit_length()
        content = size_at + size_length
        size = int.from_bytes(data[size_at:content], "big") & ((1 << 7 * size_length) - 1)
        stop = min(content + size, end)  # of unknown size, to the end
        yield Piece(start, stop, size_at, size_length)
        if int.from_bytes(data[start:size_at], "big") in MASTERS:
            yield from elements(data, content, stop)
        start = stop


def pieces(data: bytes) -> list[Piece]:
    """The parts that a file says it is made of."""
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return list(elements(data, 0, len(data)))
    return list(boxes(data, 0, len(data))) if data[4:8] in (b"ftyp", b"wide", b"moov", b"free") else []


def place(rng: random.Random, data: bytes) -> int:
    """Somewhere in a file; half of the time near its start, where its headers are."""
    return rng.randrange(min(len(data), 1024) if rng.random() < 0.5 else len(data)) if data else 0


def flip(rng: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 2, 8, 64))):
        changed[place(rng, data)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def number(rng: random.Random, data: bytes, other: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 3))):
        width, at = rng.choice((1, 2, 4, 8)), place(rng, data)
        value = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
        changed[at : at + width] = value.to_bytes(width, rng.choice(("big", "little")))
    return bytes(changed)


def truncate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: place(rng, data)]


def behead(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[place(rng, data) :]


def splice(rng: random.Random, data: bytes, other: bytes) -> bytes:
    return data[: place(rng, data)] + other[place(rng, other) :]


def append(rng: random.Random, data: bytes, other: bytes) -> bytes:
    garbage = rng.choice((rng.randbytes(rng.randrange(1, 5000)), bytes(5000), other, data))
    return data + garbage


def erase(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at, length = place(rng, data), rng.choice((1, 16, 200, 5000))
    return data[:at] + rng.choice((b"", bytes(length), b"\xff" * length, rng.randbytes(length))) + data[at + length :]


def repeat(rng: random.Random, data: bytes, other: bytes) -> bytes:
    at, length = place(rng, data), rng.choice((1, 16, 200, 5000))
    return data[: at + length] + data[at : at + length] * rng.choice((1, 2, 50)) + data[at + length :]


def operate(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Surgery on boxes and elements; on other files, on numbers."""
    found = pieces(data)
    if not found:
        return number(rng, data, other)
    piece, second = rng.choice(found), rng.choice(found)
    body = data[piece.start : piece.end]
    kind = rng.randrange(6)
    if kind == 0:  # another size
        size = piece.end - piece.start
        value = rng.choice((*NUMBERS, size - 1, size + 1, size * 2, size + 8)) & ((1 << 8 * piece.size_length) - 1)
        written = value.to_bytes(piece.size_length, "big")
        return data[: piece.size_at] + written + data[piece.size_at + piece.size_length :]
    if kind == 1:
        return data[: piece.end] + body * rng.choice((1, 3, 100)) + data[piece.end :]
    if kind == 2:
        return data[: piece.start] + data[piece.end :]
    if kind == 3:  # moved elsewhere
        rest = data[: piece.start] + data[piece.end :]
        return rest[: second.start] + body + rest[second.start :]
    if kind == 4:  # another's contents
        return data[: piece.start] + data[second.start : second.end] + data[piece.end :]
    at = piece.start + rng.randrange(min(len(body), 64))  # a number inside
    value = rng.choice(NUMBERS) & 0xFFFFFFFF
    return data[:at] + value.to_bytes(4, "big") + data[at + 4 :]


# Where times of frames are written: in MPEG-TS and -PS, blocks and clusters of Matroska, FLV, IVF, tables of MP4.
PES = re.compile(rb"\x00\x00\x01[\xe0-\xef]..[\x80-\xbf][\x40-\xff].", re.DOTALL)
TABLES = re.compile(rb"stts|ctts|elst|tfdt|trun|mdhd|stss")


def times_at(data: bytes) -> list[tuple[int, int]]:
    """Where times are written in a file, and how many bytes each has."""
    if data[:4] == b"\x1a\x45\xdf\xa3":
        return [
            (p.size_at + p.size_length + (data[p.start] != 0xE7), 2)
            for p in elements(data, 0, len(data))
            if data[p.start] in {0xA3, 0xA1, 0xE7}
        ]
    if data[:3] == b"FLV":
        found, at = [], 13
        while at + 11 < len(data):
            found.append((at + 4, 3))
            at += 15 + int.from_bytes(data[at + 1 : at + 4])
        return found
    if data[:4] == b"DKIF":
        found, at = [], 32
        while at + 12 < len(data):
            found.append((at + 4, 8))
            at += 12 + int.from_bytes(data[at : at + 4], "little")
        return found
    if data[4:8] in (b"ftyp", b"wide", b"moov", b"free"):
        return [(t.end() + 4 * i, 4) for t in TABLES.finditer(data) for i in range(12)]
    return [(t.end() + shift, 5) for t in PES.finditer(data) for shift in (0, 5)]


def retime(rng: random.Random, data: bytes, other: bytes) -> bytes:
    """Times jump, vanish, repeat and lose their order: a few of them, or all from one place on."""
    places = times_at(data)
    if not places:
        return number(rng, data, other)
    changed, kind = bytearray(data), rng.randrange(5)
    first = rng.randrange(len(places))
    count = rng.choice((1, 2, 8, len(places)))
    shift = rng.choice((1, 2, 40, 1000, 90_000, 3_600_000)) * rng.choice((1, -1))
    copied = data[places[first][0] : places[first][0] + places[first][1]]
    for at, length in places[first : first + count]:
        most = (1 << 8 * length) - 1
        own = data[at : at + length]
        changed[at : at + length] = (
            ((int.from_bytes(own) + shift) & most).to_bytes(length),
            bytes(length),
            copied[:length].rjust(length, b"\0"),
            rng.randbytes(length),
            most.to_bytes(length),
        )[kind]
    return bytes(changed)


MUTATIONS: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (
    *(flip, number, truncate, behead, splice, append, erase, repeat),
    *(operate, operate, operate, operate),
    *(retime, retime, retime),
)


def mutant(seeds: list[bytes], seed: int, index: int) -> tuple[bytes, str]:
    """The mutant of this number, and how it was made."""
    rng = random.Random(f"{seed}/{index}")
    chosen = rng.randrange(len(seeds))
    data, names = seeds[chosen], []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        mutation = rng.choice(MUTATIONS)
        if data:
            data = mutation(rng, data, rng.choice(seeds))[: 1 << 22]
            names.append(mutation.__name__)
    return data, f"seed clip {chosen}, {' + '.join(names)}"


# The path that is driven


def receive(picture: Any) -> bytes:
    """What is kept of a picture: its hash."""
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert 0 < picture.shape[0] * picture.shape[1] <= MAX_PIXELS
    return hashlib.sha256(picture).digest()


def asked(index: int, path: Path) -> ClipRequest:
    """What is wanted of a mutant: most often a clip, now and then a stretch by several clips, or windows."""
    if index % 4 == 1:
        return ClipRequest(str(path), NUM_FRAMES, clips=2, start=Fraction(1, 5), end=Fraction(3, 5))
    if index % 4 == 3:
        return ClipRequest(str(path), NUM_FRAMES, length=Fraction(1, 3), stride=Fraction(1, 5))
    return ClipRequest(str(path), NUM_FRAMES)


def decode(decoders: Decoders[bytes], request: ClipRequest) -> tuple[str, str]:
    """A file as a run decodes it → ``ok`` or an error's code, and a hash of its pictures or the error's message."""
    decoders.submit(request)
    seen, following = hashlib.sha256(), 1
    try:
        while following:
            collected = decoders.collect()
            assert collected is not None
            clip, pictures = collected
            assert len(clip.times_seconds) == len(clip.places) == NUM_FRAMES * request.clips
            assert clip.decoded == len(pictures)
            assert following == 1 or clip.following == following - 1
            following = clip.following
            seen.update(b"".join(pictures))
    except VideoError as error:
        assert error.code
        assert str(error)
        # FFmpeg may crash the worker; an exception that nobody foresaw is a bug of this project.
        assert "the decoder failed on this file" not in str(error), str(error)
        return error.code, str(error)
    except BaseException:
        decoders.cancel()
        raise
    return "ok", seen.hexdigest()


class HangError(Exception):
    """The watchdog's."""


@contextmanager
def watchdog(seconds: float) -> Iterator[None]:
    """Raises HangError after so long, whatever the process waits for."""

    def bark(*_: object) -> None:
        raise HangError(f"nothing after {seconds} s")

    before = signal.signal(signal.SIGALRM, bark)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(numbers: range, seed: int, keep: Path | None) -> dict[str, Any]:
    """Decode mutants → what came of them; ``escapes`` are those that broke a promise."""
    outcomes: Counter[str] = Counter()
    escapes: list[str] = []
    stalls: list[int] = []
    began, slowest = time.monotonic(), 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths, missing = write_seeds(folder)
        seeds = [path.read_bytes() for path in paths]
        with Decoders(receive) as decoder:
            good_clip = ClipRequest(str(paths[0]), NUM_FRAMES)
            good = decode(decoder, good_clip)
            assert good[0] == "ok", good
            files = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
            for index in numbers:
                data, how = mutant(seeds, seed, index)
                path = folder / "mutant"
                path.write_bytes(data)
                started = time.monotonic()
                try:
                    try:
                        with watchdog(HANG_SECONDS):
                            outcome, said = decode(decoder, asked(index, path))
                    except HangError:  # the machine may have stood still: a file that hangs does it again
                        stalls.append(index)
                        with watchdog(HANG_SECONDS):
                            outcome, said = decode(decoder, asked(index, path))
                    outcomes[outcome] += 1
                    if outcome == "crashed":
                        print(f"mutant {index} ({how}): {said}", file=sys.stderr)
                    if index % GOOD_EVERY == 0 or index == numbers[-1]:
                        with watchdog(HANG_SECONDS):
                            assert decode(decoder, good_clip) == good, "a good clip decodes to something else"
                except Exception as error:  # whatever it is, it was promised not to be
                    escapes.append(f"mutant {index} of seed {seed} ({how}): {type(error).__name__}: {error}")
                    print(escapes[-1], file=sys.stderr)
                    if keep is not None:
                        keep.mkdir(parents=True, exist_ok=True)
                        (keep / f"{seed}-{index}").write_bytes(data)
                slowest = max(slowest, time.monotonic() - started)
            if files and len(os.listdir("/proc/self/fd")) > files + 3:  # a worker's pipes, if it was replaced
                escapes.append(f"{len(os.listdir('/proc/self/fd'))} open files, {files} at the start")
    worker = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // (1024 if sys.platform == "linux" else 1 << 20)
    if worker > MAX_WORKER:
        escapes.append(f"a worker took {worker} MB, the limit is {MAX_WORKER} MB")
    return {
        "mutants": len(numbers),
        "seed": seed,
        "seed_clips": len(seeds),
        "not_written": missing,
        "outcomes": dict(outcomes.most_common()),
        "escapes": escapes,
        "stalls": stalls,
        "worker_megabytes": worker,
        "slowest_seconds": round(slowest, 2),
        "seconds": round(time.monotonic() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz_video", description=__doc__)
    parser.add_argument("--count", type=int, default=300, help="mutants")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="this mutant alone")
    parser.add_argument("--keep", type=Path, help="a folder for mutants that fail")
    given = parser.parse_args()
    numbers = range(given.count) if given.only is None else range(given.only, given.only + 1)
    found = run(numbers, given.seed, given.keep)
    print(json.dumps(found, indent=2))
    sys.exit(bool(found["escapes"]))


if __name__ == "__main__":
    main()
