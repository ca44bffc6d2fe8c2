"""Which frame is shown at a time: in every container and codec, by seeking as by decoding it all."""

from __future__ import annotations

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import (
    ENCODINGS,
    Pictures,
    number_of,
    paper_indices,
    read_frames,
    read_pictures,
    textured,
    write_clip,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from xclip_cli.video.sampling import ClipRequest


def numbers(path: Path, count: int = 8) -> list[int]:
    """What the frames of a clip show."""
    return [number_of(picture) for picture in read_frames(path, count)[0]]


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("frames", [30, 83])
def test_constant_rate_gives_the_papers_frames(tmp_path: Path, name: str, frames: int) -> None:
    path = write_clip(tmp_path / name, frames, **ENCODINGS[name])
    assert numbers(path) == paper_indices(frames, 8)
    assert read_frames(path)[1].end_seconds == pytest.approx(frames / 25, abs=1e-3 if name.endswith("flv") else 1e-6)


@pytest.mark.parametrize("name", ["b-frames.mp4", "vp9.webm", "mpeg4-b-frames.avi", "mpeg2.ts"])
def test_frames_are_those_of_a_full_decode(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, 40, **ENCODINGS[name])
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for count in (1, 8, 16, 32):
        pictures, _ = read_frames(path, count)
        for picture, index in zip(pictures, paper_indices(40, count), strict=True):
            np.testing.assert_array_equal(picture, decoded[index])


def test_variable_rate_counts_time_not_frames(tmp_path: Path) -> None:
    # Ten frames in the first second, then two more; the file says that a frame lasts 40 ms.
    pts = [*range(0, 1000, 100), 1000, 5500]
    path = write_clip(tmp_path / "vfr.mkv", 12, pts=pts, time_base=Fraction(1, 1000), codec="ffv1")
    frames, info = read_frames(path, 10)
    assert info.end_seconds == 5.54
    assert [number_of(frame) for frame in frames] == [2, 8, *[10] * 8]
    assert info.times_seconds[:3] == (0.2, 0.8, 1.0)
    assert (info.decoded, len(info.places)) == (3, 10)


def test_a_centre_on_a_frames_start_belongs_to_that_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "edge.mkv", 4, codec="ffv1", rate=1)
    # Two segments of [0, 4) have their centres at 1 and 3 exactly.
    assert numbers(path, 2) == [1, 3]
    assert numbers(path, 1) == [2]


@pytest.mark.parametrize("first", [-500, 1000, 60_000_000])
def test_time_zero_is_the_first_frame(tmp_path: Path, first: int) -> None:
    pts = [first + 40 * i for i in range(30)]
    suffix = "mkv" if first > 0 else "mp4"
    path = write_clip(tmp_path / f"shifted.{suffix}", 30, pts=pts, time_base=Fraction(1, 1000))
    frames, info = read_frames(path)
    if first > 0:
        assert [number_of(frame) for frame in frames] == paper_indices(30, 8)
        assert info.times_seconds[0] == pytest.approx(0.04)
    assert info.start_seconds == 0.0
    assert 0 <= info.times_seconds[0] < info.times_seconds[-1] < info.end_seconds


@pytest.mark.parametrize("name", ["clip.webm", "clip.mkv"])
def test_a_single_frame_that_says_no_duration_has_none(tmp_path: Path, name: str) -> None:
    """After a seek FFmpeg would make one up, of one unit of time."""
    path = write_clip(tmp_path / name, 1, codec="libvpx")
    data = path.read_bytes()
    at = data.index(bytes.fromhex("23e38384"))  # DefaultDuration, which becomes a Void of its length
    path.write_bytes(data[:at] + bytes.fromhex("ec86") + bytes(6) + data[at + 8 :])
    assert read_frames(path)[1].end_seconds == 0


Decoded = tuple[list[tuple[Fraction, np.ndarray]], Fraction]


def full_decode(path: Path) -> Decoded:
    """All frames of a video and when they are shown, in seconds from the first, and when the last ends."""
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size and p.pts is not None and not p.is_discard]
        unit = container.streams.video[0].time_base
    stamps = sorted({packet.pts for packet in packets})
    duration = next(p.duration for p in packets if p.pts == stamps[-1]) or stamps[-1] - stamps[-2]
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    first = frames[0].pts
    shown = [((frame.pts - first) * unit, frame.to_ndarray(format="rgb24")) for frame in frames]
    return shown, (stamps[-1] + duration - first) * unit


def assert_as_decoded(
    path: Path, decoded: Decoded, count: int = 8, clips: int = 1, start: Any = None, end: Any = None
) -> Pictures:
    """A clip is what the rule gives on a full decode → its pictures, which say how they were come by."""
    frames, length = decoded
    first, last = (None if time is None else Fraction(time) for time in (start, end))
    info, pictures = read_pictures(ClipRequest(str(path), count, clips, first, last))
    first, last = first or Fraction(0), length if last is None else min(last, length)
    assert (info.start_seconds, info.end_seconds) == (float(first), float(last))
    assert len(info.places) == count * clips
    for i, place in enumerate(info.places):
        clip, segment = divmod(i, count)
        wanted = first + (segment + Fraction(2 * clip + 1, 2 * clips)) * (last - first) / count
        time, expected = [frame for frame in frames if frame[0] <= wanted][-1]
        assert info.times_seconds[i] == float(time)
        np.testing.assert_array_equal(pictures[place], expected)
    return pictures


LENGTH = 160  # frames
VARIABLE = [i * 40 + 700 * (i // 50) - (i % 3) for i in range(LENGTH)]  # milliseconds: uneven, with gaps
QUIET = "log-level=none"
# Name → how it is written, and whether frames are found by seeking (False: the video is decoded straight through).
SEEKABLE: dict[str, tuple[dict[str, Any], bool]] = {
    "gop-250.mp4": ({"options": {"g": "250", "bf": "3"}}, True),
    "gop-10.mp4": ({"options": {"g": "10", "bf": "3"}}, True),
    "no-b-frames.mp4": ({"options": {"g": "50", "bf": "0"}}, True),
    "pyramid.mp4": ({"options": {"x264-params": "keyint=60:bframes=5:b-pyramid=normal:b-adapt=0:ref=6"}}, True),
    "open-gop.mp4": ({"options": {"x264-params": "open-gop=1:keyint=24:bframes=3:b-adapt=0:scenecut=0"}}, True),
    "open-gop.mkv": ({"options": {"x264-params": "open-gop=1:keyint=24:bframes=3:b-adapt=0:scenecut=0"}}, True),
    "open-gop-hevc.mp4": (
        {"codec": "libx265", "options": {"x265-params": f"{QUIET}:open-gop=1:keyint=24:bframes=3:b-adapt=0"}},
        True,
    ),
    "closed-gop-hevc.mkv": (
        {"codec": "libx265", "options": {"x265-params": f"{QUIET}:open-gop=0:keyint=24:bframes=3"}},
        True,
    ),
    "intra-refresh.mp4": ({"options": {"x264-params": "intra-refresh=1:keyint=30:bframes=0"}}, False),
    "variable.mp4": ({"options": {"g": "24"}, "pts": VARIABLE, "time_base": Fraction(1, 1000)}, True),
    "variable.mkv": ({"options": {"g": "24"}, "pts": VARIABLE, "time_base": Fraction(1, 1000)}, True),
    "delayed.mp4": ({"options": {"g": "24"}, "pts": range(77, 77 + LENGTH)}, True),
    # the first frames shown come in the middle of a group: only a decoder that began with it knows them
    "discarded.mp4": ({"options": {"g": "24"}, "pts": range(-37, LENGTH - 37)}, False),
    "fragments.mp4": ({"options": {"g": "24"}, "container_options": {"movflags": "frag_keyframe+empty_moov"}}, True),
    "delay-moov.mp4": ({"options": {"g": "24"}, "container_options": {"movflags": "frag_keyframe+delay_moov"}}, True),
    "dash.mp4": ({"options": {"g": "24"}, "container_options": {"movflags": "frag_keyframe+dash"}}, True),
    "faststart.mp4": ({"options": {"g": "24"}, "container_options": {"movflags": "faststart"}}, True),
    "cues.mkv": ({"options": {"g": "24"}}, True),
    "cues-first.mkv": ({"options": {"g": "24"}, "container_options": {"cues_to_front": "1"}}, True),
    "no-cues.mkv": ({"options": {"g": "24"}, "container_options": {"live": "1"}}, True),
    "vp9.webm": ({"codec": "libvpx-vp9", "options": {"g": "24", "deadline": "realtime", "cpu-used": "8"}}, True),
    "vp9-alt-ref.webm": ({"codec": "libvpx-vp9", "options": {"g": "40", "cpu-used": "5", "lag-in-frames": "16"}}, True),
    "av1.mp4": ({"codec": "libsvtav1", "options": {"g": "24", "preset": "12"}}, True),
    "av1.mkv": ({"codec": "libsvtav1", "options": {"g": "24", "preset": "12"}}, True),
    "mpeg4.mp4": ({"codec": "mpeg4", "options": {"g": "24", "bf": "2"}}, True),
    "mpeg2.mov": ({"codec": "mpeg2video", "options": {"g": "12", "bf": "2"}}, True),
    "prores.mov": ({"codec": "prores_ks", "pix_fmt": "yuv422p10le"}, True),
    "mjpeg.mov": ({"codec": "mjpeg"}, True),
}


@pytest.mark.parametrize("name", SEEKABLE)
def test_seeking_finds_the_frames_of_a_full_decode(tmp_path: Path, name: str) -> None:
    encoding, seeks = SEEKABLE[name]
    path = write_clip(tmp_path / name, pictures=map(textured, range(LENGTH)), **encoding)
    decoded = full_decode(path)
    assert assert_as_decoded(path, decoded).restarts == (not seeks)
    assert_as_decoded(path, decoded, 5, clips=4)
    assert_as_decoded(path, decoded, 4, 1, "2.3", "5.71")
    assert_as_decoded(path, decoded, 1, 1, "3.999", "4")


def boxes(data: bytes, *path: bytes) -> tuple[int, int]:
    """Where the box along ``path`` lies in an MP4: its start and its end."""
    start, end = 0, len(data)
    for kind in path:
        while data[start + 4 : start + 8] != kind:
            start += int.from_bytes(data[start : start + 4])
            assert start < end, f"no {kind.decode()}"
        end = start + int.from_bytes(data[start : start + 4])
        if kind != path[-1]:
            start += 8
    return start, end


TABLE = (b"moov", b"trak", b"mdia", b"minf", b"stbl")


def test_wrong_keyframe_flags_are_noticed(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "clip.mp4", pictures=map(textured, range(300)), options={"g": "100", "bf": "0", "sc_threshold": "0"}
    )
    decoded = full_decode(path)
    assert assert_as_decoded(path, decoded, 3, 1, 5, 7).restarts == 0
    data = bytearray(path.read_bytes())
    start, end = boxes(data, *TABLE, b"stss")
    assert struct.unpack(">4I", data[start + 12 : end]) == (3, 1, 101, 201)
    data[start + 20 : start + 24] = struct.pack(">I", 131)  # the 131st frame is no keyframe
    path.write_bytes(bytes(data))
    assert assert_as_decoded(path, decoded, 3, 1, 5, 7).restarts == 1


def test_a_list_of_edits_is_kept_to(tmp_path: Path) -> None:
    """A stretch of an MP4 left out, another shown before an earlier one, and it all begins late."""
    path = write_clip(tmp_path / "clip.mp4", pictures=map(textured, range(300)), options={"g": "24"})
    data = bytearray(path.read_bytes())
    per_second = int.from_bytes(data[(at := boxes(data, b"moov", b"mvhd")[0] + 20) : at + 4])
    units = int.from_bytes(data[(at := boxes(data, b"moov", b"trak", b"mdia", b"mdhd")[0] + 20) : at + 4])
    start, end = boxes(data, b"moov", b"trak", b"edts", b"elst")
    zero = int.from_bytes(data[start + 20 : start + 24])  # where the first frame is shown
    edits = [(0.5, -1), (2, zero + 1.4 * units), (3, zero + 7 * units)]  # seconds long, from there on; -1: nothing
    entries = [struct.pack(">IiI", int(length * per_second), int(begin), 1 << 16) for length, begin in edits]
    table = struct.pack(">II", 0, len(entries)) + b"".join(entries)
    data[start:end] = struct.pack(">I", 8 + len(table)) + b"elst" + table
    for box in ((b"moov",), (b"moov", b"trak"), (b"moov", b"trak", b"edts")):
        at = boxes(data, *box)[0] if box != (b"moov",) else data.index(b"moov") - 4
        size = int.from_bytes(data[at : at + 4])
        data[at : at + 4] = struct.pack(">I", size + 8 + len(table) - (end - start))
    path.write_bytes(bytes(data))
    decoded = full_decode(path)
    shown = [number_of(picture) for _, picture in decoded[0]]
    assert shown == [*range(35, 85), *range(175, 250)]
    for clips in (1, 4):
        assert_as_decoded(path, decoded, 8, clips)
    assert_as_decoded(path, decoded, 4, 1, "1.5", "2.5")


def test_before_a_cut_frames_are_those_of_the_whole_file(tmp_path: Path) -> None:
    options = {"movflags": "faststart"}
    path = write_clip(
        tmp_path / "cut.mp4", pictures=map(textured, range(300)), options={"g": "50"}, container_options=options
    )
    whole = full_decode(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    assert_as_decoded(path, whole, 4, 1, 1, 5)
    frames, info = read_frames(path)
    there = round(info.end_seconds * 25)  # frames: the video ends where the file does
    assert 150 < there < 290
    assert [number_of(frame) for frame in frames[:7]] == paper_indices(there, 8)[:7]


@pytest.mark.parametrize("name", ["long.mp4", "long.mkv", "long.webm"])
def test_a_long_video_is_hardly_decoded(tmp_path: Path, name: str) -> None:
    codec = {"codec": "libvpx", "options": {"g": "50", "deadline": "realtime"}} if name.endswith("webm") else {}
    path = write_clip(tmp_path / name, 1000, **{"options": {"g": "50"}, **codec})
    pictures = assert_as_decoded(path, full_decode(path), 4)
    assert pictures.restarts == 0
    # At most a group of frames for each picture, what is read ahead, and the last group for where the video ends.
    assert pictures.packets < 5 * 50 + 40


def test_reaching_a_near_frame_by_decoding_beats_seeking(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 100, options={"g": "4"})
    pictures = assert_as_decoded(path, full_decode(path), 32)
    assert pictures.restarts == 0
    assert pictures.packets < 100 + 20  # nothing is decoded twice


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_clip_of_any_video_is_as_decoded(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    draw = data.draw
    frames = draw(st.integers(1, 90), label="frames")
    rate = draw(st.sampled_from([Fraction(25), Fraction(30000, 1001), Fraction(12), Fraction(60)]), label="rate")
    gop, b_frames = draw(st.integers(1, 60), label="gop"), draw(st.integers(0, 3), label="b-frames")
    open_gop, suffix = draw(st.integers(0, 1), label="open"), draw(st.sampled_from(["mp4", "mkv"]), label="suffix")
    params = f"keyint={gop}:min-keyint=1:bframes={b_frames}:open-gop={open_gop}:b-adapt=0"
    path = tmp_path_factory.mktemp("drawn") / f"clip.{suffix}"
    write_clip(path, rate=rate, pictures=map(textured, range(frames)), options={"x264-params": params})
    decoded = full_decode(path)
    length = decoded[1]
    start = draw(st.sampled_from([None, length / 7, length / 2, length * 9 / 10]), label="start")
    end = draw(st.sampled_from([None, length * 19 / 20, length + 1, (start or 0) + Fraction(1, 1000)]), label="end")
    count, clips = draw(st.sampled_from([1, 2, 8, 13]), label="count"), draw(st.integers(1, 4), label="clips")
    assert_as_decoded(path, decoded, count, clips, start, end)
