"""The frames of a video stream, by the time they are shown at: packets, decoding, seeking, and where it ends.

Times are in the unit of the stream's time line (``times``). A video ends where its last frame ends, by its packets: the
container's own duration counts audio and is often wrong. Packets that cannot be decoded are skipped and counted; empty
ones show the picture before again.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

import av

from ..errors import VideoError
from .containers import avi_units, is_appended, segment_end
from .limits import Limits
from .opening import APPENDED, CLOCK_MAY_BE_SET, COUNTED_DEMUXERS, STOPS_EARLY, OpenVideo
from .times import AHEAD, LONG_AHEAD, Mender, TimeLine, Tracer

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

SEEK_COST = 8  # frames: what a seek costs, in decoding
MADE_UP = Fraction(1, 1000)  # seconds: no frame is shown so briefly, but FFmpeg may say so of one without a duration
LATEST = 1 << 60  # later than every frame
FEW, MANY = 20, 3  # one frame of so many may be out of order, and fewer than so many, and nothing is said
OGG_VP8 = b"OVP80"  # what headers of VP8 in Ogg begin with
USUAL_RATE = 25  # frames per second, where nothing says


class Observer(Protocol):
    """Who is told what happens to the packets of a stream."""

    def progress(self) -> None:
        """Called for each packet."""

    def skipped(self, error: Exception) -> None:
        """Called where something could not be decoded. Raises VideoError if that is no damage."""


class SeekingFailedError(Exception):
    """Seeking gave something that straight decoding might not give."""


class FrameStream:
    """A stream's frames by the time they are shown at, for times that never decrease.

    With ``line``, the stream is decoded straight through. Without, frames are reached by seeking where the index says
    that it saves decoding, and whatever is odd about the result raises SeekingFailedError.
    """

    def __init__(
        self, video: OpenVideo, observer: Observer, limits: Limits, most_skipped: float, line: TimeLine | None = None
    ) -> None:
        self._video = video
        self._seeks = line is None
        self._keyframes = keyframes(video.stream) if self._seeks else []
        self._decoding = _Decoding(video, observer, limits, most_skipped, line)
        self._frames: Iterator[tuple[int, VideoFrame]] = iter(())
        self._shown: tuple[int, VideoFrame] | None = None
        self._following: tuple[int, VideoFrame] | None = None
        self._seek_cost = SEEK_COST / frame_rate(video.stream) / time_unit(video.stream)  # in the stream's units

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
        if self._shown is None or (self._seeks and (self.errors or self._decoding.unsorted)):
            raise SeekingFailedError
        return self._shown

    @property
    def at_end(self) -> bool:
        """Whether no more frames can be decoded."""
        return self._following is None

    @property
    def errors(self) -> int:
        """Packets that were skipped as damaged."""
        return self._decoding.errors

    @property
    def undecodable(self) -> str | None:
        """What FFmpeg says it has not learned to decode."""
        return self._decoding.undecodable

    @property
    def notes(self) -> list[str]:
        """What was mended, for people; a few frames are out of order in many good files."""
        unsorted = self._decoding.unsorted
        if unsorted < MANY or unsorted * FEW <= self._decoding.frames_decoded:
            return []
        return [f"the timestamps of {unsorted} frames are out of order: each is shown after the one before"]

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
            self._video.container.seek(time, stream=self._video.stream)
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
        self, video: OpenVideo, observer: Observer, limits: Limits, most_skipped: float, line: TimeLine | None
    ) -> None:
        self._video = video
        self._observer = observer
        self._limits = limits
        self._most_skipped = most_skipped
        self._line = line
        self.frames_decoded = 0
        self._counted = 0.0  # large ones count as several
        self._silent = 0  # packets that gave no picture, of decoders that give each at once
        self.errors = 0  # packets that were skipped
        self.unsorted = 0  # frames whose times are none, or not in order
        self.undecodable: str | None = None  # what FFmpeg says that it cannot decode yet
        self.mender: Mender | None = None  # of the latest pass
        self.first_packet: int | None = None  # when the packet that the latest pass began with is shown

    def frames(self) -> Iterator[tuple[int, VideoFrame]]:
        """Each frame from here on and its time, never decreasing."""
        last: int | None = None
        line = self._line or TimeLine(0)
        for number, frame in enumerate(self._decoded()):
            ranked = line.ranked(number + self.errors + self._silent)
            time = ranked if line.is_ranked else frame.pts
            if time is None or (last is not None and time < last):
                self.unsorted += 1
                time = ranked if last is None else max(last, ranked)
            last = time
            yield time, frame

    def _decoded(self) -> Iterator[VideoFrame]:
        at_start, in_a_row = True, 0  # in_a_row: packets skipped since the last frame
        gives_at_once = not self._video.stream.codec_context.codec.delay
        for packet in self._mended():
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
                if isinstance(error, av.error.PatchWelcomeError | av.error.NotImplementedError):
                    self.undecodable = error.strerror
                if in_a_row == self._most_skipped:
                    return
                continue
            if frames:
                in_a_row = 0
            elif gives_at_once and packet.size:
                self._silent += 1
            for frame in frames:
                self._count(frame)
                yield frame

    def _mended(self) -> Iterator[Any]:
        """The packets that decoders are to see, with times that do not jump."""
        video = self._video
        line = self._line
        self.mender = mender = None if line and (line.is_plain or line.is_ranked) else _mender(video)
        is_ogg, made_up = "ogg" in _formats(video), _makes_up_dts(video)
        for packet in _packets(video, self._observer):
            if packet is not None and not packet.size and packet.pts is not None:
                continue  # the same picture again
            if packet is not None and is_ogg and _is_header(packet):
                with suppress(av.error.FFmpegError):
                    packet.decode()
                continue
            if packet is not None and mender is not None and not packet.is_discard:
                dts = None if made_up else packet.dts
                packet.pts = mender.time(packet.pts, dts, packet.duration or 0, packet.is_keyframe)
                packet.dts = None if packet.dts is None else packet.dts + mender.offset
                if mender.parts > 1 and line is None:
                    raise SeekingFailedError
            yield packet

    def _count(self, frame: VideoFrame) -> None:
        """Raises VideoError if a frame is one too many, or too large."""
        self.frames_decoded += 1
        self._counted += self._limits.weight(frame.width * frame.height)
        if frame.width * frame.height > self._limits.pixels:
            raise self._limits.too_many_pixels(frame.width, frame.height)
        if self._counted > self._limits.frames:
            raise VideoError(
                f"more than {self._limits.frames} frames would have to be decoded (--max-frames): "
                "raise the limit, or analyse a part of the video with --start and --end",
                "limit",
            )


def _packets(video: OpenVideo, observer: Observer) -> Iterator[Any]:
    """The stream's packets, None for one that cannot be read, the empty one that flushes the decoder last."""
    packets = video.container.demux(video.stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except (av.error.FFmpegError, ValueError, IndexError) as error:  # PyAV does not know streams that begin later
            observer.skipped(error)
            yield None
            yield _flush_packet(video.stream)
            return
        observer.progress()
        yield packet


def _makes_up_dts(video: OpenVideo) -> bool:
    """Whether when packets are decoded is FFmpeg's guess, because the container does not say."""
    return bool({"matroska", "nut"} & _formats(video))


def _is_header(packet: Any) -> bool:
    """Whether a packet in an Ogg file is one of the headers that each of several joined files begins with."""
    codec = packet.stream.codec_context.name
    if codec == "theora":
        return packet.size > 0 and memoryview(packet)[0] >= 0x80
    return codec == "vp8" and packet.size > len(OGG_VP8) and bytes(memoryview(packet)[: len(OGG_VP8)]) == OGG_VP8


def _flush_packet(stream: VideoStream) -> Any:
    """The empty packet that makes a decoder give its last frames."""
    packet: Any = av.Packet()
    packet.stream = stream
    return packet


def scan(video: OpenVideo, observer: Observer, mender: Mender | None = None) -> TimeLine:
    """Read all packets from here on, decode none; ``mender`` knows those before."""
    stream, formats, made_up = video.stream, _formats(video), _makes_up_dts(video)
    tracer = Tracer(time_unit(stream), mender or _mender(video), frame_rate(stream))
    before = read = None  # where in the file the latest packets end; the last one may be made of what is appended
    for packet in _packets(video, observer):
        if packet is None or packet.is_discard or not (packet.size or packet.pts is not None):
            continue
        if "ogg" in formats and _is_header(packet):
            continue
        if packet.pos is not None:
            before, read = read, packet.pos + packet.size
        dts = None if made_up else packet.dts
        tracer.add(packet.pts, dts, packet.duration or 0, packet.is_keyframe, packet.size > 0)
    if "avi" in formats:
        return tracer.decoded(avi_units(video.descriptor, stream.index))
    if formats & set(COUNTED_DEMUXERS.split(",")):
        return tracer.counted()
    line = tracer.line()
    if before and formats & STOPS_EARLY and is_appended(video.descriptor, before):
        line = replace(line, notes=(*line.notes, APPENDED))
    return line


def _mender(video: OpenVideo) -> Mender:
    formats = _formats(video)
    ahead: Fraction | None = AHEAD if formats & CLOCK_MAY_BE_SET else LONG_AHEAD
    if "avi" in formats or ("mp4" in formats and video.stream.frames):
        ahead = None  # a list of frames in the header: their times cannot jump
    return Mender(time_unit(video.stream), ahead, reorders=video.stream.codec_context.codec.reorder)


def first_time(video: OpenVideo, observer: Observer, limits: Limits, most_skipped: float) -> tuple[int, Mender]:
    """The time of the first frame, for a container that was just opened, and what mends the times of the packets after
    those that were read. Raises SeekingFailedError if it does not decode at once."""
    decoding = _Decoding(video, observer, limits, most_skipped, None)
    first = next(decoding.frames(), None)
    if first is None or decoding.errors or decoding.unsorted or decoding.mender is None:
        raise SeekingFailedError
    return first[0], decoding.mender


def find_extent(video: OpenVideo, observer: Observer, mender: Mender) -> TimeLine:
    """Where a stream ends, of a container that has an index; its times are those of what was read for it. Raises
    SeekingFailedError where timestamps need mending."""
    line = _extent_at_end(video, observer) if _index_proves_plain(video) else scan(video, observer, mender)
    if not line.is_plain:
        raise SeekingFailedError
    return line


def _index_proves_plain(video: OpenVideo) -> bool:
    """Whether no timestamps jump, by the index: that of an MP4 is made so; a Matroska file may be several, joined."""
    if "mp4" in _formats(video):
        return bool(video.stream.frames)  # none in its header: it is fragmented, and indexed as it is read
    end = segment_end(video.descriptor)
    if end is None or end < video.size:
        return False
    entries, unit = list(video.stream.index_entries), time_unit(video.stream)
    pairs = itertools.pairwise(entries)
    return all(a.pos < b.pos and (b.timestamp - a.timestamp) * unit < LONG_AHEAD for a, b in pairs)


def _extent_at_end(video: OpenVideo, observer: Observer) -> TimeLine:
    """The extent by the packets from the last keyframe on: whatever comes before it is also shown before it."""
    try:
        video.container.seek(LATEST, stream=video.stream)
    except av.error.FFmpegError as error:
        raise SeekingFailedError from error
    line = scan(video, observer)
    if (line.end - line.last) * line.unit <= MADE_UP:  # a single packet that does not say
        raise SeekingFailedError
    return line


def has_index(video: OpenVideo) -> bool:
    """Whether the container can seek to keyframes by exact times."""
    return bool({"mp4", "matroska"} & _formats(video))


def keyframes(stream: VideoStream) -> list[int]:
    """When the keyframes of the index are decoded (MP4) or shown (Matroska), sorted."""
    return sorted(entry.timestamp for entry in stream.index_entries if entry.is_keyframe)


def time_unit(stream: VideoStream) -> Fraction:
    """The unit of timestamps, in seconds."""
    return Fraction(stream.time_base or Fraction(1, 1000))


def stated_rate(stream: VideoStream) -> str | None:
    """Frames per second, the mean of a variable rate, as an exact ratio; None if nothing says it."""
    rate = stream.average_rate or stream.guessed_rate
    return str(Fraction(rate)) if rate else None


def frame_rate(stream: VideoStream) -> Fraction:
    """Frames per second, by what the stream itself says rather than its container."""
    return Fraction(stream.guessed_rate or stream.average_rate or USUAL_RATE)


def _formats(video: OpenVideo) -> set[str]:
    return set(video.container.format.name.split(","))
