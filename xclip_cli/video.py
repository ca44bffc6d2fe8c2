"""Video files → the frames of a clip, with PyAV. Runs in decode workers; never imports torch.

Times are seconds from the video's first frame. A video ends where its last frame ends, by the timestamps of its
packets: the container's own duration counts audio and is often wrong. A clip cuts its window into T equal segments
and takes, of each, the frame shown at the centre (the paper's sparse test sampling), in exact arithmetic.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, cast

import av
import numpy as np

from .errors import VideoError
from .sampling import ClipInfo, ClipRequest, segment_centres

if TYPE_CHECKING:
    import numpy.typing as npt
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    Picture = npt.NDArray[np.uint8]  # [height, width, 3], red green blue

MAX_PIXELS = 8192 * 4320  # of one frame
MAX_MOOV = 1 << 26  # bytes of an MP4's description that are looked at

# Real containers and pictures only: no playlists, no network, nothing that opens other files.
DEMUXERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,mjpeg,h261,h263,h264,hevc,vvc,av1,obu,ivf,vc1,flv,asf,ogg,mxf,gxf,"
    "nut,rm,dv,wtv,yuv4mpegpipe,gif,apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,j2k_pipe,qoi_pipe"
)
# These have no usable timestamps: their frames are counted instead.
COUNTED_DEMUXERS = "avi,h261,h263,h264,hevc,vvc,av1,obu,m4v,mpegvideo,mjpeg,vc1,dv"


@dataclass(frozen=True)
class Extent:
    """Where a stream ends, in its time base, by its packets."""

    packets: int
    last: int = 0  # the last frame's time; 0 where no packet has a timestamp
    end: int = 0  # where the last frame ends


def read_clip(request: ClipRequest, emit: Callable[[Picture], None]) -> ClipInfo:
    """Decode a clip. Each different picture goes to ``emit`` once, in order, as soon as it is decoded.

    Raises VideoError where the file is no readable video or the window lies outside it.
    """
    with _open(request.path) as (container, stream):
        extent = _scan(container, stream)
    with _open(request.path) as (container, stream):
        return _read(request, stream, extent, _Decoding(container, stream), emit)


def _read(
    request: ClipRequest, stream: VideoStream, extent: Extent, decoding: _Decoding, emit: Callable[[Picture], None]
) -> ClipInfo:
    unit = _time_unit(stream)
    clip = _Clip(emit)
    frames = decoding.frames()
    first = next(frames, None)
    if first is None:
        raise _no_frames(stream, extent, decoding.errors)
    start, end = _window(request, max(extent.end, first[0]) - first[0], unit)
    centres = segment_centres(first[0] + start / unit, first[0] + end / unit, request.num_frames)
    shown = first
    for following in frames:
        while len(clip.times) < len(centres) and following[0] > centres[len(clip.times)]:
            clip.take(shown)
        if len(clip.times) == len(centres):
            break
        shown = following
    missing = len(centres) - len(clip.times)
    if missing and extent.last > shown[0]:
        clip.warnings.append(
            f"the last {missing} of {len(centres)} frames could not be decoded: "
            f"the frame at {float((shown[0] - first[0]) * unit):.3f} s stands for them"
        )
    for _ in range(missing):
        clip.take(shown)
    return ClipInfo(
        start_seconds=float(start),
        end_seconds=float(end),
        times_seconds=tuple(float((time - first[0]) * unit) for time in clip.times),
        places=tuple(clip.places),
        errors=decoding.errors,
        warnings=tuple(dict.fromkeys(clip.warnings)),
    )


class _Clip:
    """The frames taken so far: each different picture is converted and emitted once."""

    def __init__(self, emit: Callable[[Picture], None]) -> None:
        self._emit = emit
        self.times: list[int] = []
        self.places: list[int] = []
        self.warnings: list[str] = []

    def take(self, shown: tuple[int, VideoFrame]) -> None:
        time, frame = shown
        if not self.times or time != self.times[-1]:
            self._emit(_picture(frame, self.warnings))
        self.times.append(time)
        self.places.append(len(set(self.times)) - 1)


class _Decoding:
    """A pass through a stream's frames that counts what it has to skip."""

    def __init__(self, container: InputContainer, stream: VideoStream) -> None:
        self._container = container
        self._stream = stream
        self._counted = _is_counted(container)
        self.errors = 0

    def frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """Each frame and its time in the stream's time base (or its number), strictly increasing."""
        last: int | None = None
        for number, frame in enumerate(self._decoded()):
            time = number if self._counted else frame.pts
            if time is None or (last is not None and time <= last):
                self.errors += 1
                continue
            last = time
            yield time, frame

    def _decoded(self) -> Iterator[VideoFrame]:
        for packet in _packets(self._container, self._stream):
            if packet is None:
                self.errors += 1
                continue
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError):
                self.errors += 1
                continue
            yield from frames


def _packets(container: InputContainer, stream: VideoStream) -> Iterator[Any]:
    """The stream's packets, None for one that cannot be read, the empty one that flushes the decoder last."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, ValueError):
            yield None
            yield _flush_packet(stream)
            return
        yield packet


def _flush_packet(stream: VideoStream) -> Any:
    """The empty packet that makes a decoder give its last frames."""
    packet: Any = av.Packet()
    packet.stream = stream
    return packet


def _scan(container: InputContainer, stream: VideoStream) -> Extent:
    """Read all packets, decode none."""
    count, last, before, duration = 0, None, None, 0
    for packet in _packets(container, stream):
        if packet is None or not packet.size or packet.is_discard:
            continue
        count += 1
        if packet.pts is None:
            continue
        if last is None or packet.pts > last:
            before, last, duration = last, packet.pts, packet.duration or 0
        elif packet.pts < last and (before is None or packet.pts > before):
            before = packet.pts
    if _is_counted(container):
        return Extent(count, count - 1, count)
    if last is None:
        return Extent(count)
    return Extent(count, last, last + (duration or (last - before if before is not None else 0)))


def _time_unit(stream: VideoStream) -> Fraction:
    """The unit of frame times, in seconds: the stream's time base, or one frame where frames are counted."""
    if _is_counted(stream.container):
        return 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
    return Fraction(stream.time_base or Fraction(1, 1000))


def _window(request: ClipRequest, length: int, unit: Fraction) -> tuple[Fraction, Fraction]:
    """The window in seconds, cut to the video, which is ``length`` units long."""
    end = length * unit
    start = request.start or Fraction(0)
    if start and start >= end:
        raise VideoError(f"the window starts at {float(start):g} s, the video ends at {float(end):g} s", "window")
    return start, end if request.end is None else min(request.end, end)


def _no_frames(stream: VideoStream, extent: Extent, errors: int) -> VideoError:
    if errors:
        codec = stream.codec_context.name
        return VideoError(f"none of {extent.packets} {codec} packets could be decoded: damaged or encrypted", "damaged")
    return VideoError("the video stream is empty: it holds no frames", "no_frames")


@contextmanager
def _open(path: str) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file by descriptor, so that no part of its name means anything to FFmpeg, and choose its stream."""
    descriptor = _open_file(path)
    try:
        options = {"fd": str(descriptor), "protocol_whitelist": "fd", "format_whitelist": DEMUXERS}
        try:
            container = av.open("fd:", options=options, metadata_errors="ignore")
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise VideoError(f"not a video that can be read: {reason}", "unsupported") from error
        with container:
            if "mp4" in container.format.name.split(",") and _is_encrypted(descriptor):
                raise VideoError("the video is encrypted: it decodes to noise without its key", "encrypted")
            yield container, _choose_stream(container)
    finally:
        os.close(descriptor)


def _open_file(path: str) -> int:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise VideoError("no such file", "missing") from error
    except PermissionError as error:
        raise VideoError("no permission to read the file", "permission") from error
    except (OSError, ValueError) as error:
        raise VideoError(f"cannot open the file: {error}", "not_a_file") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise VideoError("not a regular file", "not_a_file")
    if os.fstat(descriptor).st_size == 0:
        os.close(descriptor)
        raise VideoError("the file is empty", "empty")
    return descriptor


def _is_encrypted(descriptor: int) -> bool:
    """Whether an MP4 describes its pictures as ``encv``; FFmpeg shows the codec beneath and decodes noise.

    ISO/IEC 14496-12: boxes of size and type, the sample descriptions in moov/trak/mdia/minf/stbl/stsd.
    """
    offset = 0
    while len(header := os.pread(descriptor, 16, offset)) >= 8:
        size, kind = int.from_bytes(header[:4]), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16])
        if kind == b"moov":
            moov = os.pread(descriptor, min(size or MAX_MOOV, MAX_MOOV), offset)
            return re.search(rb"stsd.{12}encv", moov, re.DOTALL) is not None
        if size < 8:
            return False
        offset += size
    return False


def _choose_stream(container: InputContainer) -> VideoStream:
    """The video stream to look at: the default one, else the largest. Cover pictures are none."""
    pictures = [s for s in container.streams.video if s.disposition & av.stream.Disposition.attached_pic]
    streams = [s for s in container.streams.video if s not in pictures]
    if not streams:
        kinds = sorted({s.type for s in container.streams if s not in pictures})
        found = "only " + ", ".join(kinds) if kinds else "no streams"
        cover = " and a cover picture" if pictures else ""
        raise VideoError(f"no video stream: the file holds {found}{cover}", "no_video")
    usable = [s for s in streams if s.codec_context is not None]
    if not usable:
        raise VideoError("no decoder for the video stream: its codec is unknown or not built in", "unsupported")
    default = av.stream.Disposition.default
    stream = max(usable, key=lambda s: (bool(s.disposition & default), s.width * s.height, -s.index))
    if stream.width * stream.height > MAX_PIXELS:
        raise VideoError(
            f"frames of {stream.width}x{stream.height} pixels are larger than the limit of {MAX_PIXELS} pixels", "limit"
        )
    # Slices, never frames: frame threading can deadlock when decoding stops before the end.
    stream.thread_type = "SLICE"
    stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def _is_counted(container: Any) -> bool:
    return bool(set(COUNTED_DEMUXERS.split(",")) & set(container.format.name.split(",")))


def _picture(frame: VideoFrame, warnings: list[str]) -> Picture:
    """A frame as RGB, upright. FFmpeg's default conversion honours the colour tags; untagged is BT.601."""
    try:
        picture = cast("Picture", frame.to_ndarray(format="rgb24"))
    except (av.error.FFmpegError, ValueError) as error:
        raise VideoError(f"cannot convert {frame.format.name} frames to RGB: {error}", "unsupported") from error
    turn = TURNS.get(_orientation(frame))
    if turn is None:
        warnings.append("the rotation in the file is not a multiple of 90 degrees and was ignored")
        return picture
    return turn(picture)


# The eight turns and flips, by the signs of a display matrix: x' = a x + c y, y' = b x + d y, y pointing down.
TURNS: dict[tuple[int, ...], Callable[[Picture], Picture]] = {
    (1, 0, 0, 1): lambda p: p,
    (-1, 0, 0, 1): lambda p: p[:, ::-1],
    (1, 0, 0, -1): lambda p: p[::-1],
    (-1, 0, 0, -1): lambda p: p[::-1, ::-1],
    (0, 1, 1, 0): lambda p: p.swapaxes(0, 1),
    (0, 1, -1, 0): lambda p: p.swapaxes(0, 1)[:, ::-1],
    (0, -1, 1, 0): lambda p: p.swapaxes(0, 1)[::-1],
    (0, -1, -1, 0): lambda p: p.swapaxes(0, 1)[::-1, ::-1],
}
_BY_ANGLE = {0: (1, 0, 0, 1), 90: (0, -1, 1, 0), -90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), -180: (-1, 0, 0, -1)}


def _orientation(frame: VideoFrame) -> tuple[int, ...]:
    """A frame's display matrix as a key of TURNS; of no key where it is none of the eight."""
    try:
        values = np.frombuffer(bytes(cast("Any", frame).side_data["DISPLAYMATRIX"]), "<i4")
    except KeyError:
        return _BY_ANGLE[0]
    except ValueError:  # PyAV fails on kinds of side data that are newer than it; the angle lacks only flips
        return _BY_ANGLE.get(frame.rotation, ())
    a, b, c, d = (int(values[i]) for i in (0, 1, 3, 4))
    scale = max(map(abs, (a, b, c, d)))
    return tuple(v // scale for v in (a, b, c, d)) if {abs(a), abs(b), abs(c), abs(d)} == {0, scale} else ()
