"""Opening a stranger's file: all of its security, and the choice of its video stream.

A file is opened by descriptor, so that no part of its name means anything to FFmpeg, by one protocol and the demuxers
named here; whatever names other files, or opens them, is not among these. Encrypted videos are refused.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import av

from ..errors import VideoError
from .limits import Limits

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

# Real containers and pictures only: no playlists, no network, nothing that opens other files.
DEMUXERS = (
    "mov,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,mjpeg,h261,h263,h264,hevc,vvc,av1,obu,ivf,vc1,flv,asf,ogg,mxf,gxf,"
    "nut,rm,dv,wtv,yuv4mpegpipe,gif,apng,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,j2k_pipe,qoi_pipe"
)
# Those of DEMUXERS that give no usable timestamps: their frames are counted instead.
COUNTED_DEMUXERS = "avi,h261,h263,h264,hevc,vvc,av1,obu,m4v,mpegvideo,mjpeg,vc1,dv"

MAX_MOOV = 1 << 26  # bytes of an MP4's description that are looked at
MOST_PADDING = 64 * 65536  # pixels by which FFmpeg may overrate a frame: it counts its lines in steps of 64

_PICTURES = re.compile(rb"hdlr.{8}vide", re.DOTALL)  # in an MP4: that a track is of pictures


@contextmanager
def open_video(path: str, threads: int, limits: Limits) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and choose its video stream; both are closed at the end of the ``with`` block.

    ``threads`` of the decoder; 0 leaves the number to FFmpeg. Raises VideoError where the file cannot be read, is no
    video, is encrypted, or has frames over the limit.
    """
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
            stream = _choose_stream(container, limits)
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


def _choose_stream(container: InputContainer, limits: Limits) -> VideoStream:
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
    if stream.width * stream.height > limits.pixels:
        raise limits.too_many_pixels(stream.width, stream.height)
    return stream
