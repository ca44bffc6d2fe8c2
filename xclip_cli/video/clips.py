"""Requests → clips: the windows of a video, the frames taken for each, and what of them is damaged.

Runs in decode workers; never imports torch. Times are seconds from the video's first frame. A clip cuts its window into
T equal segments and takes, of each, the frame shown at the centre (the paper's sparse test sampling), in exact
arithmetic.

What is damaged: packets that cannot be decoded are skipped and counted, and the frame before stands for what is lost.
Decoding ends after MOST_SKIPPED of them in a row. A clip is refused as damaged where frames stand in at more than half
of its times, or where more than half of the video is lost before its first frame; what is lost is judged by the
timestamps of the packets that are there, never by the header. Of any other damage a warning says how much it is.
Of several windows each is judged, and counts its damage, on its own; one that is refused ends none of the others, and
neither does any number of packets.
"""

from __future__ import annotations

import heapq
import math
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Protocol

from ..errors import VideoError
from .limits import DEFAULT_LIMITS, Limits
from .opening import OpenVideo, open_video
from .pictures import Converter
from .sampling import ClipInfo, ClipRequest, Windows, frame_times
from .stills import Mosaic
from .stream import FrameStream, Observer, SeekingFailedError, find_extent, first_time, has_index, scan, stated_rate
from .times import TimeLine

if TYPE_CHECKING:
    from .sampling import Picture

MOST_SKIPPED = 300  # packets in a row: more than common encoders leave between keyframes, where damage ends
LONGEST = 1_000_000_000  # seconds, 31 years
MOST_EMPTY_WINDOWS = 20_000  # of a video, beyond its frames: a single wrong timestamp can make it last for years


class Sink(Observer, Protocol):
    """Where the pictures of a clip go. It also observes the stream that they come from."""

    def put(self, picture: Picture) -> None:
        """Take the next different picture of the clip."""

    def restart(self) -> None:
        """Forget the pictures so far: they come anew."""


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
    keep. Raises VideoError if the file is no readable video, or the window lies outside it, or a limit is met.
    """
    line = None
    with open_video(request.file, threads, limits, request.stream) as video:
        if has_index(video) and video.grid is None:
            with suppress(SeekingFailedError):
                return _read_by_seeking(request, video, sink, limits)
            sink.restart()
        elif video.grid is None:
            line = scan(video, sink)
    (clip,) = _read_through(request, sink, threads, limits, line)
    return clip


def _read_through(
    request: ClipRequest, sink: Sink, threads: int, limits: Limits, line: TimeLine | None = None
) -> Iterator[ClipInfo]:
    """Decode a video from its start up to the last frame that is wanted; ``line`` None is not known yet."""
    if line is None:
        with open_video(request.file, threads, limits, request.stream) as video:
            if video.grid is not None:
                mosaic = Mosaic(video, video.grid, Converter(video.crop))
                yield from _take(request, _Span(mosaic.line, 0), video, mosaic, sink)
                return
            line = scan(video, sink)
    with open_video(request.file, threads, limits, request.stream) as video:
        most_skipped = MOST_SKIPPED if request.length is None else math.inf
        frames = FrameStream(video, sink, limits, most_skipped, line)
        first = frames.start()
        if first is None:
            raise _no_frames(video, line, frames)
        yield from _take(request, _Span(line, first), video, frames, sink)


def _read_by_seeking(request: ClipRequest, video: OpenVideo, sink: Sink, limits: Limits) -> ClipInfo:
    """Decode a clip of a video with an index. Raises SeekingFailedError if decoding straight through may differ."""
    first, mender = first_time(video, sink, limits, MOST_SKIPPED)
    line = find_extent(video, sink, mender)
    frames = FrameStream(video, sink, limits, MOST_SKIPPED)
    (clip,) = _take(request, _Span(line, first), video, frames, sink)
    return clip


@dataclass(frozen=True)
class _Span:
    """Where a video lies in the times of its stream."""

    line: TimeLine
    first: int  # the time of its first frame

    @property
    def unit(self) -> Fraction:
        """Of times, in seconds."""
        return self.line.unit

    def seconds(self, time: int) -> float:
        """From the first frame."""
        return float((time - self.first) * self.unit)

    def stretch(self, request: ClipRequest) -> tuple[Fraction, Fraction]:
        """The part of the video that a request asks for, in seconds. Raises VideoError if there is none."""
        end = (max(self.line.end, self.first) - self.first) * self.unit
        if end > LONGEST:
            raise VideoError(f"the frames' timestamps are damaged: by them the video lasts {float(end):g} s", "damaged")
        start = request.start or Fraction(0)
        if start and start >= end:
            raise VideoError(
                f"the part to analyse starts at {float(start):g} s, but the video ends at {float(end):g} s", "window"
            )
        return start, end if request.end is None else min(request.end, end)

    def windows(self, request: ClipRequest) -> Windows:
        """The windows over that part. Raises VideoError if there are far too many."""
        windows = request.windows(*self.stretch(request))
        if windows.count > self.line.packets + MOST_EMPTY_WINDOWS:
            raise VideoError(
                f"{windows.count} windows for {self.line.packets} frames, which the file says last "
                f"{float(windows.end - windows.start):g} s: use a longer --stride, or a part of the video (--start, "
                "--end)",
                "limit",
            )
        return windows


@dataclass
class _PartialClip:
    """The clip of a window while its frames are being taken."""

    start: Fraction  # of the window, in seconds
    end: Fraction
    wanted: list[Fraction]  # the times of its frames, clip after clip, in the stream's units
    following: int  # windows after this one
    times: dict[int, int] = field(default_factory=dict)  # of each of ``wanted``, when the frame shown there begins
    places: dict[int, int] = field(default_factory=dict)  # and which picture it is
    warnings: list[str] = field(default_factory=list)
    skipped_before: int = 0  # packets and frames that were skipped before it

    @property
    def is_whole(self) -> bool:
        """Whether all its frames were taken."""
        return len(self.places) == len(self.wanted)

    @property
    def shown(self) -> list[int]:
        """The times of the frames that were taken for those ``wanted``."""
        return [self.times[i] for i in range(len(self.wanted))]


def _take(
    request: ClipRequest, span: _Span, video: OpenVideo, frames: FrameStream | Mosaic, sink: Sink
) -> Iterator[ClipInfo]:
    """Take the frames of all windows in order of time."""
    pictures, shown, warnings = 0, None, list[str]()  # how many there were; of the last one, its time and its faults
    converter = Converter(video.crop)
    notes = [*video.notes, *span.line.notes]
    for clip, i in _in_order_of_time(span.windows(request), request, span):
        if pictures and not clip.places:
            clip.skipped_before = frames.errors
        time, frame = frames.shown_at(clip.wanted[i])
        if time != shown:
            picture, warnings = converter.picture(frame)
            sink.put(picture)
            pictures, shown = pictures + 1, time
        clip.times[i], clip.places[i] = time, pictures - 1
        clip.warnings += warnings
        if clip.is_whole:
            clip.warnings[:0] = [*notes, *frames.notes]
            yield _finished(
                clip, span, frames, None if video.grid else stated_rate(video.stream), alone=request.length is None
            )


def _in_order_of_time(windows: Windows, request: ClipRequest, span: _Span) -> Iterator[tuple[_PartialClip, int]]:
    """The frames that are wanted: whose they are, and which of its frames."""
    following = windows.count
    pending: list[tuple[Fraction, int, int, _PartialClip]] = []  # the frames of the windows that have begun
    for start, end in windows:
        begins = span.first + start / span.unit
        while pending and pending[0][0] < begins:
            _, _, i, clip = heapq.heappop(pending)
            yield clip, i
        following -= 1
        times = frame_times(start, end, request.num_frames, request.clips)
        clip = _PartialClip(start, end, [span.first + time / span.unit for time in times], following)
        for i, time in enumerate(clip.wanted):
            heapq.heappush(pending, (time, -following, i, clip))
    while pending:
        _, _, i, clip = heapq.heappop(pending)
        yield clip, i


def _finished(
    clip: _PartialClip, span: _Span, frames: FrameStream | Mosaic, rate: str | None, *, alone: bool
) -> ClipInfo:
    """A clip that is whole. Too damaged, it is lost; but where it is ``alone``, that raises VideoError."""
    errors, lost = frames.errors - clip.skipped_before, None
    try:
        clip.warnings += _damage(clip, span, errors, frames.at_end)
    except VideoError as error:
        if alone:
            raise
        lost = str(error)
    return ClipInfo(
        start_seconds=float(clip.start),
        end_seconds=float(clip.end),
        times_seconds=tuple(map(span.seconds, clip.shown)),
        places=tuple(clip.places[i] for i in range(len(clip.wanted))),
        errors=errors,
        warnings=tuple(dict.fromkeys(clip.warnings)),
        following=clip.following,
        rate=rate,
        lost=lost,
    )


def _damage(clip: _PartialClip, span: _Span, errors: int, at_end: bool) -> Iterator[str]:
    """What is to be said of a clip's damage. Raises VideoError if too much of the clip is lost.

    ``errors``: packets and frames that were skipped for it; ``at_end``: no more can be decoded.
    """
    line, first, shown, count = span.line, span.first, clip.shown, len(clip.wanted)
    if not errors and not (at_end and line.later(max(shown)) > 1):
        return  # a last packet without a picture, as GIFs may have, is no damage
    if errors:
        yield f"the video is damaged: {errors} packets or frames were skipped"
    start = line.times[0] if line.times and errors else first
    missing = f"{float((first - start) * span.unit):.3f} s"  # of the video, before its first frame
    if first > start:
        yield f"the first {missing} could not be decoded: time 0 is the first frame after them"
    replaced = sum(
        bisect_right(line.times, time) > bisect_right(line.times, at)
        for time, at in zip(clip.wanted, shown, strict=True)
    )
    if replaced:
        yield f"{replaced} of {count} frames could not be decoded: the preceding frames were used instead"
    if replaced * 2 > count or (first - start) * 2 > line.end - start:
        raise VideoError(
            f"too damaged: {errors} packets or frames were skipped, {replaced} of the {count} frames needed "
            f"and the first {missing} are lost",
            "damaged",
        )


def _no_frames(video: OpenVideo, line: TimeLine, frames: FrameStream) -> VideoError:
    """The error of a video without any frame."""
    codec = video.stream.codec_context.name
    if frames.undecodable:
        return VideoError(f"FFmpeg cannot decode this kind of {codec}: {frames.undecodable}", "unsupported")
    if frames.errors:
        return VideoError(
            f"none of {line.packets} {codec} packets could be decoded: they are damaged or encrypted", "damaged"
        )
    return VideoError("the video stream is empty: it contains no frames", "no_frames")
