"""Stretches of videos as files of their own: packets copied from the keyframe before, nothing decoded or encoded.

Each is cut in a process of its own, as confined as a decode worker: it gets both files as open descriptors. What it
writes appears under its name when it is whole, and replaces nothing.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import VideoError
from ..unfinished import begun, ended
from .files import anonymous_file, open_file
from .limits import DECODE_TIMEOUT, DEFAULT_LIMITS, MEGABYTE, Limits
from .processes import boot, start
from .protocol import LONGEST_TEXT, BrokenWorkerError, read_error

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

    from .opening import OpenVideo

_BOOT = boot("xclip_cli.video.cutting.serve", 3)
MP4_SUFFIXES = (".mp4", ".m4v", ".mov", ".3gp", ".3g2")  # of videos whose packets go into MP4; others into Matroska
MOST_HELD = 1 << 28  # bytes of packets since a keyframe
MOST_SAID = 1 << 13  # bytes of an answer
MOST_ADDED = 64 * MEGABYTE  # that a file which is cut out takes beyond twice the whole


def suffix_for(video: str) -> str:
    """What a file cut from a video is called at the end, by the video's own name."""
    return ".mp4" if Path(video).suffix.lower() in MP4_SUFFIXES else ".mkv"


def cut(
    video: str,
    start: float,
    end: float,
    target: Path,
    limits: Limits = DEFAULT_LIMITS,
    timeout: float = DECODE_TIMEOUT,
) -> None:
    """Copy [start, end) seconds of a video into a file that is not there yet. Raises VideoError, FileExistsError and
    other OSErrors."""
    if target.exists():
        raise FileExistsError(target)
    beside = target.with_name(f".xclip-{secrets.token_hex(8)}{target.suffix}")
    descriptor = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    begun(beside)
    try:
        asked = {"start": start, "end": end, "mp4": target.suffix == ".mp4", "limits": asdict(limits)}
        _run(asked, video, descriptor, timeout)
        os.link(beside, target)  # unlike a rename it fails where somebody else made the file meanwhile
    finally:
        os.close(descriptor)
        beside.unlink(missing_ok=True)
        ended(beside)


def _run(asked: dict[str, Any], video: str, target: int, timeout: float) -> None:
    with ExitStack() as files:
        source = open_file(video)
        files.callback(os.close, source)
        answer = anonymous_file(MOST_SAID)
        files.callback(os.close, answer)
        process, lifeline = start(_BOOT, [source, target, answer])
        files.callback(os.close, lifeline)
        status = _finish(process, json.dumps(asked).encode(), timeout)
        said = os.pread(answer, MOST_SAID, 0).rstrip(b"\0")
    if said or status:
        try:
            raise read_error(said)
        except BrokenWorkerError as error:
            raise VideoError(f"cutting crashed on this file (status {status})", "crashed") from error


def _finish(process: subprocess.Popen[bytes], asked: bytes, timeout: float) -> int:
    """Ask, and wait for the process's end → its status. Raises VideoError where that takes too long."""
    assert process.stdout
    process.stdout.close()  # what a library prints there is no answer
    try:
        process.communicate(asked, timeout)
    except BaseException as error:
        process.kill()
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            message = f"cutting was not done after {timeout:g} s (--timeout) and was stopped"
            raise VideoError(message, "timeout") from error
        raise
    return process.returncode


def serve(source: int, target: int, answer: int) -> None:
    """The process's side: one request from stdin, of files that are open; only an error is an answer."""
    from . import opening, stream  # noqa: F401 - while files may still be opened
    from .confinement import confine
    from .guard import Guard

    asked = json.loads(sys.stdin.buffer.read())
    guard, limits = Guard(anonymous_file()), Limits(**asked["limits"])
    guard.begin(limits)
    confine(2 * os.fstat(source).st_size + MOST_ADDED)
    try:
        _copy(asked, source, target, limits)
    except Exception as error:  # a bug, or a library's surprise, too
        found = guard.cause(error) or error
        code = found.code if isinstance(found, VideoError) else "damaged"
        message = str(found) if isinstance(found, VideoError) else f"it cannot be cut: {found}"
        os.pwrite(answer, json.dumps({"code": code, "message": message[:LONGEST_TEXT]}).encode(), 0)


def _copy(asked: dict[str, Any], source: int, target: int, limits: Limits) -> None:
    import av

    from .opening import open_video

    with (
        open_video(source, 1, limits) as video,
        os.fdopen(target, "r+b", closefd=False) as out,
        av.open(out, "w", "mp4" if asked["mp4"] else "matroska") as container,
    ):
        _copy_packets(video, container, Fraction(asked["start"]), Fraction(asked["end"]))


def _copy_packets(video: OpenVideo, target: OutputContainer, start: Fraction, end: Fraction) -> None:
    """Packets from the last keyframe up to ``start`` until ``end``, with the sound, if there is any; times from 0."""
    container, stream = video.container, video.stream
    sounds = [sound for sound in container.streams.audio if sound.codec_context is not None][:1]
    from .stream import has_index

    copies: dict[int, Any] = {}
    for one in (stream, *sounds):
        copies[one.index] = target.add_stream_from_template(one)
    base = stream.time_base or Fraction(1, 1000)
    zero = (stream.start_time or 0) * base
    if start > 0 and has_index(video):  # any other file is read up to there
        container.seek(int((zero + start) / base), stream=stream, backward=True)
    held: list[Packet[Any]] = []  # since the last keyframe before the start
    begun, size, copying = None, 0, False
    for packet in _with_times(container.demux(stream, *sounds), stream):
        if packet.dts is None or packet.time_base is None:
            continue
        time = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base - zero
        if packet.stream is stream and packet.is_keyframe and time <= start and not copying:
            held, size = [], 0
            begun = packet.dts * packet.time_base
        if begun is None:
            continue
        if packet.stream is stream and packet.dts * packet.time_base - zero >= end:
            break
        held.append(packet)
        size += packet.size
        if size > MOST_HELD:
            raise VideoError("more than 256 MB lie between two of its keyframes", "limit")
        copying = copying or (packet.stream is stream and time >= start)
        if copying:
            _mux(held, begun, copies, target)
            held, size = [], 0
    _mux(held, begun or Fraction(0), copies, target)
    if begun is None:
        raise VideoError("no keyframe comes before the moment", "damaged")


def _with_times(packets: Iterable[Packet[Any]], stream: VideoStream) -> Iterator[Packet[Any]]:
    """Packets, those of the video that have no time of decoding, as after a seek in Matroska, with one before that of
    the first which has it."""
    waiting: list[Packet[Any]] = []
    for packet in packets:
        waiting.append(packet)
        if packet.stream is not stream or packet.dts is None:
            continue
        at, step = packet.dts, packet.duration or 1
        for earlier in reversed(waiting):
            if earlier.stream is stream and earlier.dts is None and earlier.pts is not None:
                at = min(at - step, earlier.pts)
                earlier.dts = at
        yield from waiting
        waiting = []
    yield from waiting


def _mux(packets: list[Packet[Any]], begun: Fraction, copies: dict[int, Any], target: OutputContainer) -> None:
    for packet in packets:
        shift = int(begun / (packet.time_base or 1))
        if packet.dts is None or packet.dts < shift:
            continue  # sound from before the picture
        packet.dts -= shift
        if packet.pts is not None:
            packet.pts -= shift
        packet.stream = copies[packet.stream.index]
        target.mux(packet)
