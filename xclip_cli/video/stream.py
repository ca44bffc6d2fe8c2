"""The frames of a video stream, by the time they are shown at: packets, decoding, seeking, and where it ends.

Times are in the stream's unit (``time_unit``): its time base, or one frame where frames are counted. A video ends where
its last frame ends, by the timestamps of its packets: the container's own duration counts audio and is often wrong.
Packets that cannot be decoded are skipped and counted.
"""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import av

from ..errors import VideoError
from .limits import Limits
from .opening import COUNTED_DEMUXERS

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SEEK_COST = 8  # frames: what a seek costs, in decoding
MADE_UP = Fraction(1, 1000)  # seconds: no frame is shown so briefly, but FFmpeg may say so of one without a duration
LATEST = 1 << 60  # later than every frame


@dataclass(frozen=True)
class Extent:
    """Where a stream ends, in its time base, by its packets."""

    packets: int
    last: int = 0  # the last frame's time; 0 where no packet has a timestamp
    end: int = 0  # where the last frame ends
    times: Sequence[int] = field(default=(), repr=False)  # when the packets that were read are shown, sorted


class Observer(Protocol):
    """Who is told what happens to the packets of a stream."""

    def progress(self) -> None:
        """Called for each packet."""

    def skipped(self, error: Exception) -> None:
        """Called where something could not be decoded. Raises VideoError where that is no damage."""


class SeekingFailedError(Exception):
    """Seeking gave something that straight decoding might not give."""


class FrameStream:
    """A stream's frames by the time they are shown at, for times that never decrease.

    With ``keyframes``, times of the index, frames are reached by seeking where that saves decoding, and whatever is
    odd about the result raises SeekingFailedError.
    """

    def __init__(
        self,
        container: InputContainer,
        stream: VideoStream,
        observer: Observer,
        limits: Limits,
        most_skipped: float,
        keyframes: Sequence[int] | None = None,
    ) -> None:
        self._container = container
        self._stream = stream
        self._keyframes = keyframes or ()
        self._seeks = keyframes is not None
        self._decoding = _Decoding(container, stream, observer, limits, most_skipped)
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._shown: tuple[int, VideoFrame] | None = None
        self._following: tuple[int, VideoFrame] | None = None
        rate = stream.average_rate or stream.guessed_rate or 25
        self._seek_cost = SEEK_COST / Fraction(rate) / time_unit(stream)  # as a time in the stream's units

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
            raise SeekingFailedError
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
        raise SeekingFailedError

    def _land(self, time: int) -> tuple[int, VideoFrame]:
        """Have the demuxer seek, and make sure that where it goes on is a keyframe and decodes as one → that frame."""
        try:
            self._container.seek(time, stream=self._stream)
        except av.error.FFmpegError as error:
            raise SeekingFailedError from error
        self._frames = self._decoding.frames()
        frame = next(self._frames, None)
        landed = self._decoding.first_packet
        # Behind a keyframe of an open group come frames that are shown before it and cannot be decoded from here.
        while frame is not None and landed is not None and frame[0] < landed:
            frame = next(self._frames, None)
        if frame is None or frame[0] != landed or not frame[1].key_frame or frame[1].is_corrupt:
            raise SeekingFailedError
        return frame


class _Decoding:
    """Passes through a stream's frames; counts what they have to skip, and ends at ``most_skipped`` in a row."""

    def __init__(
        self, container: InputContainer, stream: VideoStream, observer: Observer, limits: Limits, most_skipped: float
    ) -> None:
        self._container = container
        self._stream = stream
        self._observer = observer
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
        for packet in _packets(self._container, self._stream, self._observer):
            if packet is None:
                self.errors += 1
                continue
            if at_start:
                self.first_packet, at_start = packet.pts, False
            try:
                frames = packet.decode()
            except (av.error.FFmpegError, ValueError) as error:
                self._observer.skipped(error)
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
                    raise self._limits.too_many_pixels(frame.width, frame.height)
                if self._decoded_frames > self._limits.frames:
                    raise VideoError(
                        f"more than {self._limits.frames} frames would have to be decoded (--max-frames): "
                        "raise the limit, or look at a stretch of the video with --start and --end",
                        "limit",
                    )
                yield frame


def _packets(container: InputContainer, stream: VideoStream, observer: Observer) -> Iterator[Any]:
    """The stream's packets, None for one that cannot be read, the empty one that flushes the decoder last."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, ValueError, IndexError) as error:  # PyAV does not know streams that begin later
            observer.skipped(error)
            yield None
            yield _flush_packet(stream)
            return
        observer.progress()
        yield packet


def _flush_packet(stream: VideoStream) -> Any:
    """The empty packet that makes a decoder give its last frames."""
    packet: Any = av.Packet()
    packet.stream = stream
    return packet


def scan(container: InputContainer, stream: VideoStream, observer: Observer) -> Extent:
    """Read all packets from here on, decode none."""
    count, last, before, duration = 0, None, None, 0
    times = array("q")
    for packet in _packets(container, stream, observer):
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


def first_time(
    container: InputContainer, stream: VideoStream, observer: Observer, limits: Limits, most_skipped: float
) -> int:
    """The time of the first frame, for a container that was just opened. Raises SeekingFailedError where it does not
    decode at once."""
    decoding = _Decoding(container, stream, observer, limits, most_skipped)
    first = next(decoding.frames(), None)
    if first is None or decoding.errors:
        raise SeekingFailedError
    return first[0]


def find_extent(container: InputContainer, stream: VideoStream, observer: Observer) -> Extent:
    """Where a stream ends, of a container that has an index. Raises SeekingFailedError."""
    # A fragmented MP4 (no frames in its header) is indexed as it is read: then read it all.
    fragmented = "mp4" in container.format.name and not stream.frames
    return scan(container, stream, observer) if fragmented else _extent_at_end(container, stream, observer)


def _extent_at_end(container: InputContainer, stream: VideoStream, observer: Observer) -> Extent:
    """The extent by the packets from the last keyframe on: whatever comes before it is also shown before it."""
    try:
        container.seek(LATEST, stream=stream)
    except av.error.FFmpegError as error:
        raise SeekingFailedError from error
    extent = scan(container, stream, observer)
    if (extent.end - extent.last) * Fraction(stream.time_base or 1) <= MADE_UP:  # a single packet that does not say
        raise SeekingFailedError
    return extent


def has_index(container: InputContainer) -> bool:
    """Whether the container can seek to keyframes by exact times."""
    return bool({"mp4", "matroska"} & set(container.format.name.split(",")))


def keyframes(stream: VideoStream) -> list[int]:
    """When the keyframes of the index are decoded (MP4) or shown (Matroska), sorted."""
    return sorted(entry.timestamp for entry in stream.index_entries if entry.is_keyframe)


def time_unit(stream: VideoStream) -> Fraction:
    """The unit of frame times, in seconds: the stream's time base, or one frame where frames are counted."""
    if _is_counted(stream.container):
        return 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
    return Fraction(stream.time_base or Fraction(1, 1000))


def _is_counted(container: Any) -> bool:
    return bool(set(COUNTED_DEMUXERS.split(",")) & set(container.format.name.split(",")))
