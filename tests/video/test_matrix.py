"""Cousins of each kind of odd timestamps, in every container that can hold them: what went in is what comes out."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Pictures, number_of, numbered, read_frames, write_clip

from xclip_cli.video.clips import read_clip, read_clips
from xclip_cli.video.sampling import ClipInfo, ClipRequest

RATE, COUNT = 25, 40
APPENDED = "another recording is appended to this file: only the first one is read"
APPENDED_FRAGMENTS = "another recording is appended to this file: parts of it may be missing"
JUMP = "the timestamps jump in one place, as in joined recordings: the parts were put end to end"

# Containers, and what write_clip wants for each.
WRITTEN: dict[str, dict[str, Any]] = {
    "h264.ts": {"options": {"bf": "2", "g": "20"}},
    "mpeg2.ts": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "mpeg2.vob": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "h264.mkv": {"options": {"bf": "2", "g": "20"}},
    "live.mkv": {"options": {"bf": "2", "g": "20"}, "container_options": {"live": "1"}},
    "vp8.webm": {"codec": "libvpx", "options": {"g": "20"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"g": "20"}},
    "vp8.ogv": {"codec": "libvpx", "options": {"g": "20"}},
    "raw.h264": {"options": {"bf": "2"}},
    "mjpeg.avi": {"codec": "mjpeg"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "h264.flv": {"options": {"bf": "2", "g": "20"}},
    "h264.mp4": {"options": {"bf": "2", "g": "20"}},
    "h264.mov": {"options": {"bf": "2", "g": "20"}},
    "fragments.mp4": {
        "options": {"g": "20"},
        "container_options": {"movflags": "frag_keyframe+empty_moov+default_base_moof"},
    },
    "wmv2.asf": {"codec": "wmv2"},
    "vp8.ivf": {"codec": "libvpx"},
    "raw.y4m": {"codec": "rawvideo", "container_format": "yuv4mpegpipe"},
    "vp8.nut": {"codec": "libvpx"},
}


def write(path: Path, first: int = 0, jump: int = 0, at: int = 0) -> bytes:
    """A clip of COUNT numbers from ``first`` on; from the one at ``at`` on all times are ``jump`` seconds later."""
    settings = WRITTEN[path.name.split("-")[-1]]
    pictures = [numbered(first + i) for i in range(COUNT)]
    if not jump:
        return write_clip(path, pictures=pictures, rate=RATE, **settings).read_bytes()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(settings.get("codec", "libx264"), rate=RATE, options=settings.get("options", {}))
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        packets = []
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = i
            if i == at:
                frame.pict_type = av.video.frame.PictureType.I
            packets += stream.encode(frame)
        packets += stream.encode(None)
        begins = next(number for number, packet in enumerate(packets) if packet.pts == at)
        for packet in packets[begins:]:
            packet.pts, packet.dts = packet.pts + jump * RATE, packet.dts + jump * RATE
        container.mux(packets)
    return path.read_bytes()


def numbers_of_all(path: Path) -> tuple[list[int], ClipInfo]:
    """What each of twice COUNT moments shows."""
    frames, info = read_frames(path, 2 * COUNT)
    return [number_of(frame) for frame in frames], info


def assert_seeking_agrees(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips of a file are the same, whether frames are sought or decoding goes straight through."""
    length = Fraction(read_clip(ClipRequest(str(path), 1), Pictures()).end_seconds)
    for request in (
        ClipRequest(str(path), 8),
        ClipRequest(str(path), 3, 2, length / 5, length * 4 / 5),
        ClipRequest(str(path), 2, start=length * 3 / 4),
    ):
        sought, through = Pictures(), Pictures()
        ours = read_clip(request, sought, 1)
        with monkeypatch.context() as patch:
            patch.setattr("xclip_cli.video.clips.has_index", lambda video: False)
            theirs = read_clip(request, through, 1)
        assert ours == theirs
        assert len(sought) == len(through)
        assert all(map(np.array_equal, sought, through))


BOTH = [*range(COUNT), *range(100, 100 + COUNT)]
PROGRAMS = ["h264.ts", "mpeg2.ts", "mpeg1.mpg", "mpeg2.vob"]
READ_ON = [*PROGRAMS, "h264.mkv", "live.mkv", "vp8.webm", "vp9.webm", "vp8.ogv"]
COUNTED = ["raw.h264", "mjpeg.avi", "mpeg4.avi"]


@pytest.mark.parametrize("name", [*READ_ON, *COUNTED])
def test_joined_recordings_follow_each_other(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"joined-{name}"
    path.write_bytes(write(tmp_path / name) + write(tmp_path / f"second-{name}", 100))
    shown, info = numbers_of_all(path)
    assert shown == BOTH
    assert info.end_seconds == pytest.approx(2 * COUNT / RATE, abs=0.002)
    assert (info.errors, info.warnings) == (0, () if name in COUNTED else (JUMP,))
    assert_seeking_agrees(path, monkeypatch)
    halves = [number_of(picture) for picture in windows(path, Fraction(COUNT, RATE))]
    assert halves == [10, 30, 110, 130]


def windows(path: Path, length: Fraction) -> list[np.ndarray]:
    """The pictures of windows, two a window."""
    pictures = Pictures()
    request = ClipRequest(str(path), 2, length=length, stride=length)
    clips = list(read_clips(request, pictures, 1))
    assert all(clip.lost is None for clip in clips)
    return [pictures[place] for clip in clips[:2] for place in clip.places]


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mov", "h264.flv", "wmv2.asf", "vp8.ivf", "raw.y4m"])
def test_what_is_appended_and_not_read_is_said(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / f"joined-{name}"
    path.write_bytes(write(tmp_path / name) + write(tmp_path / f"second-{name}", 100))
    frames, info = read_frames(path)
    assert APPENDED in info.warnings
    assert {number_of(frame) for frame in frames} <= set(range(COUNT))
    assert APPENDED not in read_frames(tmp_path / name)[1].warnings
    assert_seeking_agrees(path, monkeypatch)


JUMPING = ["h264.ts", "mpeg2.ts", "mpeg1.mpg", "h264.mkv", "vp8.webm", "h264.flv", "vp8.nut"]


@pytest.mark.parametrize("name", JUMPING)
def test_a_clock_that_jumps_ahead(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    write(path, jump=3600, at=20)
    frames, info = read_frames(path, COUNT)
    assert [number_of(frame) for frame in frames] == list(range(COUNT))
    assert info.end_seconds == pytest.approx(COUNT / RATE, abs=0.002)
    assert (info.errors, info.warnings) == (0, (JUMP,))
    assert_seeking_agrees(path, monkeypatch)


@pytest.mark.parametrize("name", ["h264.mkv", "vp8.webm", "h264.mp4", "h264.flv"])
def test_a_picture_that_is_shown_for_long_is_no_jump(tmp_path: Path, name: str) -> None:
    """As where nothing changes in a recording of a screen."""
    path = tmp_path / name
    write(path, jump=100, at=20)
    frames, info = read_frames(path, 4)
    assert [number_of(frame) for frame in frames] == [19] * 4
    assert info.end_seconds == pytest.approx(101.6, abs=0.05)
    assert info.warnings == ()


def without_times(data: bytes, keep: int) -> bytes:
    """MPEG-TS or -PS without the times of its video packets (ISO/IEC 13818-1), but those of every ``keep``-th."""
    changed = bytearray(data)
    for number, found in enumerate(re.finditer(rb"\x00\x00\x01\xe0..[\x80-\xbf]", data, re.DOTALL)):
        if not keep or number % keep:
            changed[found.end()] = 0
    return bytes(changed)


@pytest.mark.parametrize("name", ["h264.ts", "mpeg2.ts", "mpeg2.vob"])
@pytest.mark.parametrize("keep", [0, 5])
def test_missing_and_rare_times(tmp_path: Path, name: str, keep: int) -> None:
    path = tmp_path / name
    path.write_bytes(without_times(write(path), keep))
    frames, info = read_frames(path, COUNT)
    assert [number_of(frame) for frame in frames] == list(range(COUNT))
    assert info.end_seconds == pytest.approx(COUNT / RATE, abs=0.01)
    assert info.errors == 0
    assert all("frames were counted instead, 25 per second" in warning for warning in info.warnings)


@pytest.mark.parametrize("name", ["mjpeg.avi", "mpeg4.avi", "raw.avi"])
def test_null_chunks_take_time(tmp_path: Path, name: str) -> None:
    """Pictures at 0-9 and 30-39, and then eight more units of time without one."""
    codec = {"mjpeg.avi": "mjpeg", "mpeg4.avi": "mpeg4", "raw.avi": "rawvideo"}[name]
    pts = [*range(10), *range(30, 40), 49]
    path = tmp_path / name
    write_clip(path, codec=codec, pictures=[numbered(i) for i in pts], pts=pts, time_base=Fraction(1, RATE), rate=RATE)
    shown = [number_of(frame) for frame in read_frames(path, 50)[0]]
    assert shown == [*range(10), *[9] * 20, *range(30, 40), *[39] * 9, 49]
    info = read_frames(path)[1]
    assert (info.end_seconds, info.errors, info.warnings) == (2.0, 0, ())
    data = bytearray(path.read_bytes())  # the last picture becomes null, and takes its time all the same
    at = data.rindex(b"idx1") + 8 + 16 * 49
    offset = data.index(b"movi") + int.from_bytes(data[at + 8 : at + 12], "little")
    assert data[offset : offset + 3] == b"00d"
    size = int.from_bytes(data[offset + 4 : offset + 8], "little")
    data[offset : offset + 8] = b"JUNK" + struct.pack("<I", size)
    data[at + 12 : at + 16] = bytes(4)
    path.write_bytes(data)
    assert read_frames(path)[1].end_seconds == 2.0


@pytest.mark.parametrize("name", ["mjpeg.nut"])
def test_empty_packets_show_the_picture_again(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=RATE)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        for i in range(COUNT):
            packets = []
            if i % 4 == 0:
                frame = av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
                frame.pts, frame.time_base = i, Fraction(1, RATE)
                packets = stream.encode(frame)
            empty = av.Packet(b"")
            empty.stream, empty.pts, empty.dts, empty.duration, empty.time_base = stream, i, i, 1, Fraction(1, RATE)
            container.mux(packets or [empty])
        container.mux(stream.encode(None))
    frames, info = read_frames(path, COUNT)
    assert [number_of(frame) for frame in frames] == [i // 4 * 4 for i in range(COUNT)]
    assert info.end_seconds == pytest.approx(COUNT / RATE, abs=0.002)
    assert (info.errors, info.warnings) == (0, ())
    assert_seeking_agrees(path, monkeypatch)


RATES = [Fraction(24000, 1001), Fraction(24), Fraction(30000, 1001), Fraction(50), Fraction(60)]
SAYING = {"raw.h264": "libx264", "raw.hevc": "libx265", "raw.m2v": "mpeg2video", "raw.m4v": "mpeg4"}


@pytest.mark.parametrize("name", [*SAYING, "mjpeg.avi", "raw.y4m", "vp8.ivf"])
@pytest.mark.parametrize("rate", RATES)
def test_streams_that_are_counted_say_their_rate(tmp_path: Path, name: str, rate: Fraction) -> None:
    codec = {**SAYING, "mjpeg.avi": "mjpeg", "raw.y4m": "rawvideo", "vp8.ivf": "libvpx"}[name]
    options = {"x265-params": "log-level=none"} if codec == "libx265" else {}
    formats = {"m4v": "m4v", "m2v": "mpeg2video", "y4m": "yuv4mpegpipe"}
    path = tmp_path / name
    write_clip(path, COUNT, codec, rate, options=options, container_format=formats.get(name[-3:]))
    frames, info = read_frames(path, COUNT)
    assert [number_of(frame) for frame in frames] == list(range(COUNT))
    assert info.end_seconds == pytest.approx(float(COUNT / rate), abs=1e-6)
    assert (info.errors, info.warnings) == (0, ())


def type_1(frames: list[bytes], rate: Fraction) -> bytes:
    """DV in an AVI as cameras write it: sound and pictures in one stream, called iavs."""

    def chunk(kind: bytes, *content: bytes) -> bytes:
        inside = b"".join(content)
        return kind + struct.pack("<I", len(inside)) + inside + bytes(len(inside) % 2)

    scale, per = rate.denominator, rate.numerator
    main = struct.pack("<14I", int(1e6 / rate), 0, 0, 0x10, len(frames), 0, 1, 0, 720, 576, 0, 0, 0, 0)
    stream = struct.pack("<4s4s10I4H", b"iavs", b"dvsd", 0, 0, 0, scale, per, 0, len(frames), 0, 0, 0, 0, 0, 720, 576)
    streams = chunk(b"LIST", b"strl", chunk(b"strh", stream), chunk(b"strf", bytes(32)))
    header = chunk(b"LIST", b"hdrl", chunk(b"avih", main), streams)
    pieces, index, at = [], [], 4
    for frame in frames:
        pieces.append(chunk(b"00__", frame))
        index.append(struct.pack("<4s3I", b"00__", 0x10, at, len(frame)))
        at += len(pieces[-1])
    return chunk(b"RIFF", b"AVI ", header, chunk(b"LIST", b"movi", *pieces), chunk(b"idx1", *index))


@pytest.mark.parametrize("name", ["raw.dv", "type-2.avi", "type-1.avi"])
@pytest.mark.parametrize(("rate", "height"), [(Fraction(25), 576), (Fraction(30000, 1001), 480)])
def test_dv_says_its_rate(tmp_path: Path, name: str, rate: Fraction, height: int) -> None:
    path = tmp_path / name
    pixel_format = "yuv420p" if height == 576 else "yuv411p"
    pictures = [numbered(i, 720, height) for i in range(20)]
    raw = tmp_path / "own.dv"
    if name != "type-2.avi":
        with av.open(str(raw), "w", format="rawvideo") as container:
            stream = container.add_stream("dvvideo", rate=rate)
            stream.width, stream.height, stream.pix_fmt = 720, height, pixel_format
            packets = [p for i in pictures for p in stream.encode(av.VideoFrame.from_ndarray(i, format="rgb24"))]
            frames = [bytes(packet) for packet in packets]
        path.write_bytes(b"".join(frames) if name == "raw.dv" else type_1(frames, rate))
    else:
        write_clip(path, codec="dvvideo", rate=rate, pictures=pictures, pix_fmt=pixel_format)
    shown, info = read_frames(path, 20)
    assert [number_of(frame) for frame in shown] == list(range(20))
    assert info.end_seconds == pytest.approx(float(20 / rate), abs=1e-6)
    assert (info.errors, info.warnings) == (0, ())


@pytest.mark.parametrize(("name", "codec"), [("fast.mkv", "libx264"), ("fast.webm", "libvpx"), ("fast.flv", "flv")])
def test_equal_times_are_no_damage(tmp_path: Path, name: str, codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """2,000 frames a second, in containers that count milliseconds."""
    path = write_fast(tmp_path / name, codec)
    frames, info = read_frames(path)
    assert (info.errors, info.warnings) == (0, ())
    assert info.end_seconds == pytest.approx(0.1, abs=0.02)
    shown = [number_of(frame) for frame in frames]
    assert shown == sorted(shown)
    assert len(set(shown)) == 8
    assert_seeking_agrees(path, monkeypatch)


def write_fast(path: Path, codec: str) -> Path:
    options = {"bf": "0"} if codec == "libx264" else {}
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=50, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in [*range(200), None]:
            frame = None if i is None else av.VideoFrame.from_ndarray(numbered(i), format="rgb24")
            if frame is not None:
                frame.pts = i
            for packet in stream.encode(frame):
                packet.pts = packet.dts = packet.pts // 2
                packet.time_base, packet.duration = Fraction(1, 1000), 0
                container.mux(packet)
    return path


def ffmpeg_times(path: Path) -> list[Fraction]:
    """When the ffmpeg command shows each frame of a file, from the first."""
    command = ["ffmpeg", "-v", "error", "-i", path, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framecrc", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    unit = Fraction(re.search(r"#tb 0: (\S+)", done.stdout)[1])  # type: ignore[index]
    times = [int(line.split(",")[2]) * unit for line in done.stdout.splitlines() if not line.startswith("#")]
    return [time - times[0] for time in times]


@pytest.mark.slow
@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("gap", [0, 3600])
def test_jumps_are_mended_as_the_ffmpeg_command_mends_them(tmp_path: Path, name: str, gap: int) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("there is no ffmpeg command")
    path = tmp_path / f"joined-{name}"
    path.write_bytes(write(tmp_path / name) + write(tmp_path / f"second-{name}", 100, jump=gap))
    times = ffmpeg_times(path)
    info = numbers_of_all(path)[1]
    assert len(times) == 2 * COUNT
    # ffmpeg goes by when packets are decoded, which may be a few frames off where a part begins.
    for ours, theirs in zip(info.times_seconds, times, strict=True):
        assert ours == pytest.approx(float(theirs), abs=3 / RATE)
