"""Clips whose frames show their own number, so that a test can read which frames it got."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from xclip_cli.video.clips import read_clip
from xclip_cli.video.sampling import ClipInfo, ClipRequest

BITS = 10
SIDE = 16  # pixels of one bit
WIDTH, HEIGHT = BITS * SIDE, 96

# A file of every container and codec, and what write_clip wants for it.
ENCODINGS = {
    "h264.mp4": {},
    "b-frames.mp4": {"options": {"bf": "3", "g": "250"}},
    "open-gop.mkv": {"options": {"x264-params": "open-gop=1:keyint=10:bframes=2"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "raw.h264": {},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4-b-frames.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mjpeg.avi": {"codec": "mjpeg"},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "flv.flv": {"codec": "flv"},
    "wmv2.wmv": {"codec": "wmv2"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "mpeg2.mxf": {"codec": "mpeg2video"},
    "vp8.ivf": {"codec": "libvpx"},
    "lossless.mkv": {"codec": "ffv1"},
    "animation.gif": {"codec": "gif"},
    "animation.apng": {"codec": "apng"},
}


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """A picture of a number: one grey bar a bit, bright for 1, over a marker that tells up from down."""
    picture = np.full((height, width, 3), 40, np.uint8)
    for bit in range(BITS):
        if number >> bit & 1:
            picture[:, bit * width // BITS : (bit + 1) * width // BITS] = 210
    return picture


def textured(number: int) -> np.ndarray:
    """A picture of a number with noise of its own: decoded from a wrong reference, it comes out different."""
    noise = np.random.default_rng(number).integers(-12, 13, (HEIGHT // 8, WIDTH // 8, 1)).repeat(8, 0).repeat(8, 1)
    return (numbered(number) + noise).astype(np.uint8)


def number_of(picture: np.ndarray) -> int:
    """The number that a picture shows."""
    width = picture.shape[1]
    bars = [picture[:, bit * width // BITS : (bit + 1) * width // BITS].mean() for bit in range(BITS)]
    return sum(1 << bit for bit, mean in enumerate(bars) if mean > 125)


@contextmanager
def encoder_for(path: Path, **settings: Any) -> Iterator[av.container.OutputContainer]:
    """A container to encode into. SVT-AV1 gives the thread that encodes, where it may, a real-time priority: it and
    the processes that it starts from then on would take the cores from all others."""
    try:
        with av.open(str(path), "w", **settings) as container:
            yield container
    finally:
        if hasattr(os, "sched_setscheduler"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def write_clip(
    path: Path,
    count: int = 30,
    codec: str = "libx264",
    rate: Fraction | int = 25,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: dict[str, str] | None = None,
    pix_fmt: str | None = None,
    container_format: str | None = None,
    matrix: Sequence[int] | None = None,
    pictures: Iterable[np.ndarray] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encode ``count`` numbered pictures (or those given) at a constant rate, or at the times ``pts``."""
    frames = list(pictures) if pictures is not None else [numbered(i) for i in range(count)]
    height, width = frames[0].shape[:2]
    formats = {"gif": "rgb8", "png": "rgb24", "apng": "rgb24", "mjpeg": "yuvj420p", "ffv1": "yuv420p"}
    with encoder_for(path, format=container_format, options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height = width, height
        stream.pix_fmt = pix_fmt or formats.get(codec, "yuv420p")
        if time_base is not None:
            stream.codec_context.time_base = time_base
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i if pts is None else pts[i]
            frame.time_base = time_base or 1 / Fraction(rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_two_streams(path: Path, widths: Sequence[int], default: int) -> Path:
    """A clip of two videos, of which one is marked as the default; the second one's numbers begin at 100."""
    with av.open(str(path), "w") as container:
        streams = []
        for width in widths:
            stream = container.add_stream("ffv1", rate=25)
            stream.width, stream.height, stream.pix_fmt = width, HEIGHT, "yuv420p"
            streams.append(stream)
        for place, stream in enumerate(streams):
            stream.disposition = av.stream.Disposition.default if place == default else av.stream.Disposition(0)
        for i in range(5):
            for stream, shift in zip(streams, (0, 100), strict=True):
                frame = av.VideoFrame.from_ndarray(numbered(i + shift, stream.width), format="rgb24")
                frame.pts = i
                container.mux(stream.encode(frame))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


class Pictures(list[np.ndarray]):
    """A sink for `read_clip` that keeps what it is given."""

    restarts = 0
    packets = 0  # that were read, in all passes

    def put(self, picture: np.ndarray) -> None:
        self.append(picture)

    def restart(self) -> None:
        self.clear()
        self.restarts += 1

    def progress(self) -> None:
        self.packets += 1

    def skipped(self, error: Exception) -> None:
        pass


def read_pictures(request: ClipRequest, threads: int = 1) -> tuple[ClipInfo, Pictures]:
    """A clip, decoded in this process, and its different pictures."""
    pictures = Pictures()
    return read_clip(request, pictures, threads), pictures


def read_frames(
    path: Path | str, count: int = 8, start: Any = None, end: Any = None
) -> tuple[list[np.ndarray], ClipInfo]:
    """A clip's frames, one for each place."""
    window = [None if time is None else Fraction(time) for time in (start, end)]
    info, pictures = read_pictures(ClipRequest(str(path), count, 1, *window))
    assert info.decoded == len(pictures)
    return [pictures[place] for place in info.places], info


def paper_indices(frames: int, count: int) -> list[int]:
    """Which frames of a video the paper takes."""
    return [int(i * frames / count + frames / (2 * count)) for i in range(count)]


def write_audio(path: Path, seconds: int = 1, codec: str = "aac") -> Path:
    """A file with sound and nothing else."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=44100)
        for i in range(seconds * 44100 // 1024):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, i * 1024
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
