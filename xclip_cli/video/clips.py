"""Video files → the frames of a clip, with PyAV. Runs in decode workers; never imports torch.

Times are seconds from the video's first frame. A video ends where its last frame ends, by the timestamps of its
packets: the container's own duration counts audio and is often wrong. A clip cuts its window into T equal segments
and takes, of each, the frame shown at the centre (the paper's sparse test sampling), in exact arithmetic.

What is damaged: packets that cannot be decoded are skipped and counted, and the frame before stands for what is lost.
Decoding ends after MOST_SKIPPED of them in a row. A clip is refused as damaged where frames stand in at more than half
of its times, or where more than half of the video is lost before its first frame; what is lost is judged by the
timestamps of the packets that are there, never by the header. Of any other damage a warning says how much it is.
Of several windows each is judged, and counts its damage, on its own; one that is refused ends none of the others, and
neither does any number of packets.
"""

from __future__ import annotations

import gc
import heapq
import math
import os
import re
import stat
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol, cast

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from ..errors import VideoError
from .limits import DEFAULT_LIMITS, Limits
from .sampling import ClipInfo, ClipRequest, Windows, frame_times

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from .sampling import Picture

MOST_SKIPPED = 300  # packets in a row: more than common encoders leave between keyframes, where damage ends
MAX_MOOV = 1 << 26  # bytes of an MP4's description that are looked at
LONGEST = 1_000_000_000  # seconds, 31 years
MOST_EMPTY_WINDOWS = 20_000  # of a video, beyond its frames: a single wrong timestamp can make it last for years
MOST_PADDING = 64 * 65536  # pixels by which FFmpeg may overrate a frame: it counts its lines in steps of 64
SEEK_COST = 8  # frames: what a seek costs, in decoding
MADE_UP = Fraction(1, 1000)  # seconds: no frame is shown so briefly, but FFmpeg may say so of one without a duration
LATEST = 1 << 60  # later than every frame
MOST_GARBAGE = 1 << 26  # bytes of pictures after which frames are freed

_PICTURES = re.compile(rb"hdlr.{8}vide", re.DOTALL)  # in an MP4: that a track is of pictures

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
    times: Sequence[int] = field(default=(), repr=False)  # when the packets that were read are shown, sorted


class Sink(Protocol):
    """Where the pictures of a clip go."""

    def put(self, picture: Picture) -> None:
        """Take the next different picture of the clip."""

    def restart(self) -> None:
        """Forget the pictures so far: they come anew."""

    def progress(self) -> None:
        """Called for each packet."""

    def skipped(self, error: Exception) -> None:
        """Called where something could not be decoded. Raises VideoError where that is no damage."""


def read_clips(
    request: ClipRequest, sink: Sink, threads: int = 0, limits: Limits = DEFAULT_LIMITS
) -> Iterator[ClipInfo]:
    """The clips of all windows of a request, each as soon as its frames are decoded; all in one pass where there are
    several. ``places`` count the different pictures that ``sink`` was given for the request. Of several windows, one
    that is too damaged is ``lost``. Raises VideoError."""
    if request.length is None:
        yield read_clip(request, sink, threads, limits)
    else:  # a scan of all packets comes first: the damage of each window is judged by them
        yield from _read_through(request, sink, threads, limits)


def read_clip(request: ClipRequest, sink: Sink, threads: int = 0, limits: Limits = DEFAULT_LIMITS) -> ClipInfo:
    """Decode a clip. Each different picture goes to ``sink`` once, in order, as soon as it is decoded.

    Frames are reached by seeking where the file's index allows that and it saves decoding; where anything about a seek
    looks wrong, the pictures so far are void and the video is decoded straight through. Either way the frames are the
    same. ``threads`` of the decoder; 0 leaves the number to FFmpeg. ``limits``: those on memory are its process's to
    keep. Raises VideoError where the file is no readable video, or the window lies outside it, or a limit is met.
    """
    extent = None
    with _open(request.path, threads, limits) as (container, stream):
        if _has_index(container):
            with suppress(_SeekingFailedError):
                return _read_by_seeking(request, container, stream, sink, limits)
            sink.restart()
        else:
            extent = _scan(container, stream, sink)
    (clip,) = _read_through(request, sink, threads, limits, extent)
    return clip


def _read_through(
    request: ClipRequest, sink: Sink, threads: int, limits: Limits, extent: Extent | None = None
) -> Iterator[ClipInfo]:
    """Decode a video from its start up to the last frame that is wanted; ``extent`` None is not known yet."""
    if extent is None:
        with _open(request.path, threads, limits) as (container, stream):
            extent = _scan(container, stream, sink)
    with _open(request.path, threads, limits) as (container, stream):
        most_skipped = MOST_SKIPPED if request.length is None else math.inf
        frames = _Frames(container, stream, sink, limits, most_skipped)
        first = frames.start()
        if first is None:
            raise _no_frames(stream, extent, frames.errors)
        yield from _read(request, stream, extent, first, frames, sink)


def _read_by_seeking(
    request: ClipRequest, container: InputContainer, stream: VideoStream, sink: Sink, limits: Limits
) -> ClipInfo:
    decoding = _Decoding(container, stream, sink, limits, MOST_SKIPPED)
    first = next(decoding.frames(), None)
    if first is None or decoding.errors:
        raise _SeekingFailedError
    # A fragmented MP4 (no frames in its header) is indexed as it is read: then read it all.
    fragmented = "mp4" in container.format.name and not stream.frames
    extent = _scan(container, stream, sink) if fragmented else _extent_at_end(container, stream, sink)
    frames = _Frames(container, stream, sink, limits, MOST_SKIPPED, _keyframes(stream))
    (clip,) = _read(request, stream, extent, first[0], frames, sink)
    return clip


@dataclass
class _Open:
    """A window whose frames are not all there yet."""

    start: Fraction
    end: Fraction
    wanted: list[Fraction]  # the times of its frames, clip after clip, in the stream's units
    following: int
    times: dict[int, int] = field(default_factory=dict)  # of each of ``wanted``, when the frame shown there begins
    places: dict[int, int] = field(default_factory=dict)  # and which picture it is
    warnings: list[str] = field(default_factory=list)
    skipped_before: int = 0  # packets and frames that were skipped before it


def _read(
    request: ClipRequest, stream: VideoStream, extent: Extent, first: int, frames: _Frames, sink: Sink
) -> Iterator[ClipInfo]:
    """Take the frames of the windows, in order of time; ``first`` is the time of the video's first frame."""
    unit = _time_unit(stream)
    pictures, shown, warnings = 0, None, list[str]()  # how many there were; of the last one, its time and its faults
    windows = request.windows(*_window(request, max(extent.end, first) - first, unit))
    if windows.count > extent.packets + MOST_EMPTY_WINDOWS:
        raise VideoError(
            f"{windows.count} windows for {extent.packets} frames, which the file says last for "
            f"{float(windows.end - windows.start):g} s: look less often (--stride), or at a stretch (--start, --end)",
            "limit",
        )
    reformatter, garbage = VideoReformatter(), 0
    for window, i in _in_order_of_time(windows, request, first, unit):
        if pictures and not window.places:
            window.skipped_before = frames.errors
        time, frame = frames.shown_at(window.wanted[i])
        if time != shown:
            pictures, shown, warnings = pictures + 1, time, []
            picture = _picture(frame, reformatter, warnings)
            sink.put(picture)
            # PyAV's frames refer to themselves once their side data was looked at: Python would leave hundreds of them.
            garbage += picture.nbytes
            if garbage > MOST_GARBAGE:
                gc.collect()
                garbage = 0
        window.times[i], window.places[i] = time, pictures - 1
        window.warnings += warnings
        if len(window.places) < len(window.wanted):
            continue
        times = [window.times[i] for i in range(len(window.wanted))]
        errors, lost = frames.errors - window.skipped_before, None
        try:
            window.warnings += _damage(extent, first, window.wanted, times, errors, frames.at_end, unit)
        except VideoError as error:
            if request.length is None:
                raise
            lost = str(error)
        yield ClipInfo(
            start_seconds=float(window.start),
            end_seconds=float(window.end),
            times_seconds=tuple(float((time - first) * unit) for time in times),
            places=tuple(window.places[i] for i in range(len(window.wanted))),
            errors=errors,
            warnings=tuple(dict.fromkeys(window.warnings)),
            following=window.following,
            lost=lost,
        )


def _in_order_of_time(
    windows: Windows, request: ClipRequest, first: int, unit: Fraction
) -> Iterator[tuple[_Open, int]]:
    """The frames that are wanted: a window, and which of its frames it is."""
    following = windows.count
    pending: list[tuple[Fraction, int, int, _Open]] = []  # the frames of the windows that have begun
    for window_start, window_end in windows:
        begins = first + window_start / unit
        while pending and pending[0][0] < begins:
            _, _, i, window = heapq.heappop(pending)
            yield window, i
        following -= 1
        times = frame_times(window_start, window_end, request.num_frames, request.clips)
        window = _Open(window_start, window_end, [first + time / unit for time in times], following)
        for i, time in enumerate(window.wanted):
            heapq.heappush(pending, (time, -following, i, window))
    while pending:
        _, _, i, window = heapq.heappop(pending)
        yield window, i


def _damage(
    extent: Extent,
    first: int,
    wanted: Sequence[Fraction],
    shown: Sequence[int],
    errors: int,
    at_end: bool,
    unit: Fraction,
) -> Iterator[str]:
    """What is to be said of a clip's damage. Raises VideoError where too much of the clip is lost.

    ``shown`` are the times of the frames that were taken for those ``wanted``; ``at_end``: no more can be decoded.
    """
    if not errors and not (at_end and _behind(extent.times, max(shown)) > 1):
        return  # a last packet without a picture, as GIFs may have, is no damage
    if errors:
        yield f"the video is damaged: {errors} packets or frames were skipped"
    start = extent.times[0] if extent.times and errors else first
    if first > start:
        yield f"the first {float((first - start) * unit):.3f} s could not be decoded: time 0 is the frame after them"
    lost = sum(
        bisect_right(extent.times, time) > bisect_right(extent.times, at)
        for time, at in zip(wanted, shown, strict=True)
    )
    if lost:
        yield f"{lost} of {len(wanted)} frames could not be decoded: those before them stand for them"
    if lost * 2 > len(wanted) or (first - start) * 2 > extent.end - start:
        raise VideoError(
            f"too damaged: {errors} packets or frames were skipped, {lost} of the {len(wanted)} frames wanted "
            f"and the first {float((first - start) * unit):.3f} s are lost",
            "damaged",
        )


def _behind(times: Sequence[int], time: int) -> int:
    """How many of sorted ``times`` are later."""
    return len(times) - bisect_right(times, time)


class _SeekingFailedError(Exception):
    """Seeking gave something that straight decoding might not give."""


class _Frames:
    """A stream's frames by the time they are shown at, for times that never decrease.

    With ``keyframes``, times of the index, frames are reached by seeking where that saves decoding, and whatever is
    odd about the result raises _SeekingFailedError.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        sink: Sink,
        limits: Limits,
        most_skipped: float,
        keyframes: Sequence[int] | None = None,
    ) -> None:
        self._container = container
        self._stream = stream
        self._keyframes = keyframes or ()
        self._seeks = keyframes is not None
        self._decoding = _Decoding(container, stream, sink, limits, most_skipped)
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._shown: tuple[int, VideoFrame] | None = None
        self._following: tuple[int, VideoFrame] | None = None
        rate = stream.average_rate or stream.guessed_rate or 25
        self._seek_cost = SEEK_COST / Fraction(rate) / _time_unit(stream)  # as a time in the stream's units

    def start(self) -> int | None:
        """Begin at the start of a container that was just opened → the time of the first frame; None: there is none."""
        self._frames = self._decoding.frames()
        self._shown, self._following = next(self._frames, None), next(self._frames, None)
        return self._shown and self._shown[0]

    def shown_at(self, time: Fraction) -> tuple[int, VideoFrame]:
        """The last frame that begins at or before ``time``, and when it begins; the first frame, if none does."""
        if self._seeks and (self._shown is None or self._saves_decoding(time)):
            self._seek(math.floor(time))
        while self._following is not None and self._following[0] <= time:
            self._shown, self._following = self._following, next(self._frames, None)
        if self._shown is None or (self._seeks and self.errors):
            raise _SeekingFailedError
        return self._shown

    @property
    def at_end(self) -> bool:
        """Whether no more frames can be decoded."""
        return self._following is None

    @property
    def errors(self) -> int:
        """Packets and frames that were skipped as damaged."""
        return self._decoding.errors

    def _saves_decoding(self, time: Fraction) -> bool:
        """Whether there is a keyframe between where decoding is and ``time``, far enough ahead."""
        if self._following is None:
            return False
        before = bisect_right(self._keyframes, time) - 1
        return before >= 0 and self._keyframes[before] > self._following[0] + self._seek_cost

    def _seek(self, time: int) -> None:
        """Begin again at the keyframe before ``time``."""
        before = bisect_right(self._keyframes, time) - 1
        # The index of an MP4 says when keyframes are decoded: that of an open group may be shown after ``time``.
        for target in (time, self._keyframes[before - 1]) if before > 0 else (time,):
            frame = self._land(target)
            if frame[0] <= time:
                self._shown, self._following = frame, next(self._frames, None)
                return
        raise _SeekingFailedError

    def _land(self, time: int) -> tuple[int, VideoFrame]:
        """Have the demuxer seek, and make sure that where it goes on is a keyframe and decodes as one → that frame."""
        try:
            self._container.seek(time, stream=self._stream)
        except av.error.FFmpegError as error:
            raise _SeekingFailedError from error
        self._frames = self._decoding.frames()
        frame = next(self._frames, None)
        landed = self._decoding.first_packet
        # Behind a keyframe of an open group come frames that are shown before it and cannot be decoded from here.
        while frame is not None and landed is not None and frame[0] < landed:
            frame = next(self._frames, None)
        if frame is None or frame[0] != landed or not frame[1].key_frame or frame[1].is_corrupt:
            raise _SeekingFailedError
        return frame


class _Decoding:
    """Passes through a stream's frames; counts what they have to skip, and ends at ``most_skipped`` in a row."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, sink: Sink, limits: Limits, most_skipped: float
    ) -> None:
        self._container = container
        self._stream = stream
        self._sink = sink
        self._limits = limits
        self._most_skipped = most_skipped
        self._counted = _is_counted(container)
        self._decoded_frames = 0
        self.errors = 0
        self.first_packet: int | None = None  # when the packet that the latest pass began with is shown

    def frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """Each frame from here on and its time in the stream's time base (or its number), strictly increasing."""
        last: int | None = None
        for number, frame in enumerate(self._decoded()):
            time = number if self._counted else frame.pts
            if time is None or (last is not None and time <= last):
                self.errors += 1
                continue
            last = time
            yield time, frame

    def _decoded(self) -> Iterator[VideoFrame]:
        at_start, in_a_row = True, 0  # in_a_row: packets skipped since the last frame
        for packet in _packets(self._container, self._stream, self._sink):
            if packet is None:
                self.errors += 1
                continue
            if at_start:
                self.first_packet, at_start = packet.pts, False
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                self._sink.skipped(error)
                self.errors += 1
                in_a_row += 1
                if in_a_row == self._most_skipped:
                    return
                continue
            if frames:
                in_a_row = 0
            for frame in frames:
                self._decoded_frames += 1
                if frame.width * frame.height > self._limits.pixels:
                    raise too_many_pixels(f"{frame.width}x{frame.height} pixels", self._limits.pixels)
                if self._decoded_frames > self._limits.frames:
                    raise VideoError(
                        f"more than {self._limits.frames} frames would have to be decoded (--max-frames): "
                        "raise the limit, or look at a stretch of the video with --start and --end",
                        "limit",
                    )
                yield frame


def _packets(container: InputContainer, stream: VideoStream, sink: Sink) -> Iterator[Any]:
    """The stream's packets, None for one that cannot be read, the empty one that flushes the decoder last."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, ValueError, IndexError) as error:  # PyAV does not know streams that begin later
            sink.skipped(error)
            yield None
            yield _flush_packet(stream)
            return
        sink.progress()
        yield packet


def _flush_packet(stream: VideoStream) -> Any:
    """The empty packet that makes a decoder give its last frames."""
    packet: Any = av.Packet()
    packet.stream = stream
    return packet


def _scan(container: InputContainer, stream: VideoStream, sink: Sink) -> Extent:
    """Read all packets from here on, decode none."""
    count, last, before, duration = 0, None, None, 0
    times = array("q")
    for packet in _packets(container, stream, sink):
        if packet is None or not packet.size or packet.is_discard:
            continue
        count += 1
        if packet.pts is None:
            continue
        times.append(packet.pts)
        if last is None or packet.pts > last:
            before, last, duration = last, packet.pts, packet.duration or 0
        elif packet.pts < last and (before is None or packet.pts > before):
            before = packet.pts
    if _is_counted(container):
        return Extent(count, count - 1, count, range(count))
    if last is None:
        return Extent(count)
    end = last + (duration or (last - before if before is not None else 0))
    return Extent(count, last, end, array("q", sorted(times)))


def _extent_at_end(container: InputContainer, stream: VideoStream, sink: Sink) -> Extent:
    """The extent by the packets from the last keyframe on: whatever comes before it is also shown before it."""
    try:
        container.seek(LATEST, stream=stream)
    except av.error.FFmpegError as error:
        raise _SeekingFailedError from error
    extent = _scan(container, stream, sink)
    if (extent.end - extent.last) * Fraction(stream.time_base or 1) <= MADE_UP:  # a single packet that does not say
        raise _SeekingFailedError
    return extent


def _has_index(container: InputContainer) -> bool:
    """Whether the container can seek to keyframes by exact times."""
    return bool({"mp4", "matroska"} & set(container.format.name.split(",")))


def _keyframes(stream: VideoStream) -> list[int]:
    """When the keyframes of the index are decoded (MP4) or shown (Matroska), sorted."""
    return sorted(entry.timestamp for entry in stream.index_entries if entry.is_keyframe)


def _time_unit(stream: VideoStream) -> Fraction:
    """The unit of frame times, in seconds: the stream's time base, or one frame where frames are counted."""
    if _is_counted(stream.container):
        return 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
    return Fraction(stream.time_base or Fraction(1, 1000))


def _window(request: ClipRequest, length: int, unit: Fraction) -> tuple[Fraction, Fraction]:
    """The window in seconds, cut to the video, which is ``length`` units long."""
    end = length * unit
    if end > LONGEST:
        raise VideoError(f"the frames' times are damaged: by them the video lasts {float(end):g} s", "damaged")
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
def _open(path: str, threads: int, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file by descriptor, so that no part of its name means anything to FFmpeg, and choose its stream."""
    descriptor = _open_file(path)
    max_pixels = str(limits.pixels + MOST_PADDING)
    try:
        options = {
            "fd": str(descriptor),
            "protocol_whitelist": "fd",
            "format_whitelist": DEMUXERS,
            "max_pixels": max_pixels,  # of pictures that are decoded to find out what they are
        }
        try:
            container = av.open("fd:", options=options, metadata_errors="ignore")
        except (av.error.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise VideoError(f"not a video that can be read: {reason}", "unsupported") from error
        with container:
            if _is_encrypted(container, descriptor):
                raise VideoError("the video is encrypted: it decodes to noise without its key", "encrypted")
            stream = _choose_stream(container, limits.pixels)
            # Slices, never frames: frame threading can deadlock when decoding stops before the end.
            stream.thread_type = "SLICE"
            stream.codec_context.thread_count = threads
            stream.codec_context.options = {"max_pixels": max_pixels}
            yield container, stream
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


def _is_encrypted(container: InputContainer, descriptor: int) -> bool:
    """Whether a file says that its pictures are encrypted; FFmpeg shows the codec beneath and decodes noise."""
    formats = container.format.name.split(",")
    if "matroska" in formats:
        # FFmpeg's name for the ContentEncKeyID of RFC 9559
        return any("enc_key_id" in stream.metadata for stream in container.streams.video)
    return "mp4" in formats and any(entry[4:8] == b"encv" or b"sinf" in entry for entry in _descriptions(descriptor))


def _descriptions(descriptor: int) -> Iterator[bytes]:
    """The descriptions of an MP4's pictures: there may be several, such as of a clear start and what follows it.

    ISO/IEC 14496-12: boxes of size and type, a track's kind in moov/trak/mdia/hdlr and what its samples are in
    moov/trak/mdia/minf/stbl/stsd.
    """
    offset = 0
    while len(header := os.pread(descriptor, 16, offset)) >= 8:
        size, kind = int.from_bytes(header[:4]), header[4:8]
        if size == 1:
            size = int.from_bytes(header[8:16])
        if kind == b"moov":
            moov = os.pread(descriptor, min(size or MAX_MOOV, MAX_MOOV), offset)
            track = 0  # where it begins; nothing is looked at twice, however often a stranger's file says stsd
            while (box := moov.find(b"stsd", track)) >= 0:
                at, end = box + 12, box - 4 + int.from_bytes(moov[max(0, box - 4) : box])
                if _PICTURES.search(moov, track, box):
                    while at < end and (length := int.from_bytes(moov[at : at + 4])) >= 8:
                        yield moov[at : at + length]
                        at += length
                track = at
            return
        if size < 8:
            return
        offset += size


def _choose_stream(container: InputContainer, max_pixels: int) -> VideoStream:
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
    if stream.width * stream.height > max_pixels:
        raise too_many_pixels(f"{stream.width}x{stream.height} pixels", max_pixels)
    return stream


def too_many_pixels(size: str, max_pixels: int) -> VideoError:
    """What is said of frames over the limit."""
    return VideoError(f"frames of {size} are larger than the limit of {max_pixels} pixels (--max-pixels)", "limit")


def _is_counted(container: Any) -> bool:
    return bool(set(COUNTED_DEMUXERS.split(",")) & set(container.format.name.split(",")))


def _picture(frame: VideoFrame, reformatter: VideoReformatter, warnings: list[str]) -> Picture:
    """A frame as RGB, upright. FFmpeg's default conversion honours the colour tags; untagged is BT.601."""
    try:
        picture = cast("Picture", reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray())
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
    turns = scale > 0 and {abs(a), abs(b), abs(c), abs(d)} == {0, scale}
    return tuple(v // scale for v in (a, b, c, d)) if turns else ()
