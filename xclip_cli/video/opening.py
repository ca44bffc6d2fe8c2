"""Opening a stranger's file: all of its security, and the choice of its video stream.

A file is opened by descriptor, so that no part of its name means anything to FFmpeg, by one protocol and the demuxers
named here; whatever names other files, or opens them, is not among these. Encrypted videos are refused.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import av
import av.subtitles.codeccontext
import av.subtitles.stream  # PyAV's own import of them, at the first file, is too late for workers

from ..errors import VideoError
from .containers import (
    Crop,
    clean_aperture,
    descriptions,
    is_animated_webp,
    is_unfinished,
    pixel_crops,
    top_boxes,
)
from .files import open_file
from .limits import Limits
from .stills import Grid, grid_of

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Real containers and pictures only: no playlists, no network, nothing that opens other files.
DEMUXERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,mjpeg,h261,h263,h264,hevc,vvc,av1,obu,ivf,vc1,flv,asf,ogg,mxf,gxf,"
    "nut,rm,dv,wtv,yuv4mpegpipe,gif,apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,j2k_pipe,qoi_pipe"
)
# Those of DEMUXERS for files without timestamps: their frames are counted.
COUNTED_DEMUXERS = "h261,h263,h264,hevc,vvc,av1,obu,m4v,mpegvideo,mjpeg,vc1,dv"
STOPS_EARLY = {"flv", "asf", "ivf", "yuv4mpegpipe"}  # those that do not read on behind the end of a first recording
CLOCK_MAY_BE_SET = {"mpegts", "mpeg", "ogg"}  # those of DEMUXERS whose timestamps may begin anew in good files

APPENDED = "another recording is appended to this file: only the first one is read"
APPENDED_FRAGMENTS = "another recording is appended to this file: parts of it may be missing"
MOST_PADDING = 64 * 65536  # pixels by which FFmpeg may overrate a frame: it counts its lines in steps of 64


@dataclass(frozen=True)
class OpenVideo:
    """A file that was opened, and what is to be known of it."""

    container: InputContainer
    stream: VideoStream  # the one to look at
    descriptor: int
    crop: Crop
    grid: Grid | None  # that the whole picture is made of
    notes: tuple[str, ...]  # for people

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self.descriptor).st_size


@contextmanager
def open_video(path: str | int, threads: int, limits: Limits, number: int | None = None) -> Iterator[OpenVideo]:
    """Open a file (or one that is open, by its descriptor) and choose its video stream; all is closed at the end of the
    ``with`` block.

    ``threads`` of the decoder; 0 leaves the number to FFmpeg. ``number`` of the stream, from 0 among the file's video
    streams; None chooses. Raises VideoError if the file cannot be read, is not a video, is encrypted, or has frames
    over the limit.
    """
    descriptor = open_file(path)
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
            raise _unreadable(descriptor, error) from error
        with container:
            if _is_encrypted(container, descriptor):
                raise VideoError("the video is encrypted: it decodes to noise without its key", "encrypted")
            if is_animated_webp(descriptor):
                raise VideoError("an animated WebP, which FFmpeg cannot decode: save it as GIF or MP4", "unsupported")
            stream, notes = _choose_stream(container, limits, number)
            grid = _grid(container, descriptor, limits) if number is None and stream.frames == 1 else None
            # Slices, never frames: frame threading can deadlock when decoding stops before the end.
            stream.thread_type = "SLICE"
            stream.codec_context.thread_count = threads
            stream.codec_context.options = {"max_pixels": max_pixels}
            if note := _of_appended(container, descriptor):
                notes.append(note)
            crop = _crop(container, stream, descriptor)
            yield OpenVideo(container, stream, descriptor, crop, grid, () if grid else tuple(notes))
    finally:
        os.close(descriptor)


def _is_encrypted(container: InputContainer, descriptor: int) -> bool:
    """Whether a file says that its pictures are encrypted; FFmpeg shows the codec beneath and decodes noise."""
    formats = container.format.name.split(",")
    if "matroska" in formats:
        # FFmpeg's name for the ContentEncKeyID of RFC 9559
        return any("enc_key_id" in stream.metadata for stream in container.streams.video)
    return "mp4" in formats and any(entry[4:8] == b"encv" or b"sinf" in entry for entry in descriptions(descriptor))


def _unreadable(descriptor: int, error: Exception) -> VideoError:
    """What is to be said of a file that FFmpeg does not open."""
    kinds = {box.kind for box in top_boxes(descriptor)}
    if b"moof" in kinds and b"moov" not in kinds:
        message = (
            "a segment of a stream (DASH, HLS) without its header (moov): join them, as in `cat init.mp4 segment.mp4 > "
            "whole.mp4`"
        )
        return VideoError(message, "unsupported")
    if is_unfinished(descriptor):
        message = (
            "an MP4 without its index (moov), which is written last: the file is incomplete, or still being written; "
            "wait until it is finished, or repair it with a tool such as untrunc"
        )
        return VideoError(message, "unsupported")
    reason = getattr(error, "strerror", None) or str(error)
    return VideoError(f"not a video, or a damaged one: {reason}", "unsupported")


def _of_appended(container: InputContainer, descriptor: int) -> str | None:
    """What is to be said of an MP4 with a second description, which FFmpeg skips."""
    if "mp4" not in container.format.name.split(","):
        return None
    kinds = [box.kind for box in top_boxes(descriptor)]
    if kinds.count(b"moov") < 2:
        return None
    return APPENDED_FRAGMENTS if b"moof" in kinds else APPENDED


def _grid(container: InputContainer, descriptor: int, limits: Limits) -> Grid | None:
    """The grid of tiles that a still is, if it is."""
    grid = grid_of(descriptor) if "mp4" in container.format.name.split(",") else None
    if grid is not None and grid.width * grid.height > limits.pixels:
        raise limits.too_many_pixels(grid.width, grid.height)
    return grid


def _crop(container: InputContainer, stream: VideoStream, descriptor: int) -> Crop:
    """What the container says is to be cut off the pictures of a stream."""
    formats, place = container.format.name.split(","), _pictures(container).index(stream)
    if "matroska" in formats:
        crops = pixel_crops(descriptor)
    elif "mp4" in formats:
        crops = [clean_aperture(entry, stream.width, stream.height) for entry in descriptions(descriptor)]
    else:
        return Crop()
    return crops[place] if place < len(crops) else Crop()


def _pictures(container: InputContainer) -> list[VideoStream]:
    """The streams of pictures, less cover pictures."""
    return [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]


def _choose_stream(container: InputContainer, limits: Limits, number: int | None) -> tuple[VideoStream, list[str]]:
    """The video stream to look at, and what is to be said of the choice: the one of this ``number``, else an animation
    before a still, the default one, the largest. Cover pictures are none."""
    streams = _pictures(container)
    if not streams:
        covers = list(container.streams.video)
        kinds = sorted({s.type for s in container.streams if s not in covers})
        found = "only " + ", ".join(kinds).replace("subtitle", "subtitles") if kinds else "no streams"
        cover = " and a cover picture" if covers else ""
        raise VideoError(f"no video stream: the file contains {found}{cover}", "no_video")
    if number is not None and number >= len(streams):
        raise VideoError(f"there is no video stream {number}: the file has {len(streams)}, counted from 0", "no_video")
    usable = [s for s in (streams if number is None else [streams[number]]) if s.codec_context is not None]
    if not usable:
        raise VideoError("no decoder for the video stream: its codec is unknown or not supported", "unsupported")
    default = av.stream.Disposition.default

    def rank(s: VideoStream) -> tuple[bool, bool, int, int]:
        return s.frames != 1, bool(s.disposition & default), s.width * s.height, -s.index

    stream = max(usable, key=rank)
    if stream.width * stream.height > limits.pixels:
        raise limits.too_many_pixels(stream.width, stream.height)
    if number is not None or len(streams) == 1:
        return stream, []
    sizes = ", ".join(f"{s.width}x{s.height}" if s.codec_context else "unknown" for s in streams)
    chosen = streams.index(stream)
    return stream, [f"the file has {len(streams)} video streams ({sizes}): using number {chosen} (--stream)"]
