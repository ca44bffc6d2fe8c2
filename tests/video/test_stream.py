from __future__ import annotations

import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import Pictures, number_of, numbered, read_pictures, textured, write_audio, write_clip, write_two_streams
from hypothesis import given, settings
from hypothesis import strategies as st

from xclip_cli.errors import VideoError
from xclip_cli.video.clips import read_clips
from xclip_cli.video.sampling import ClipInfo, ClipRequest

TESTS = Path(__file__).parent.parent


def read(path: Path | str, count: int = 8, start: Any = None, end: Any = None) -> tuple[list[np.ndarray], ClipInfo]:
    """A clip's frames, one for each place."""
    window = [None if time is None else Fraction(time) for time in (start, end)]
    info, pictures = read_pictures(ClipRequest(str(path), count, 1, *window))
    assert info.decoded == len(pictures)
    return [pictures[place] for place in info.places], info


def numbers(path: Path, *args: Any) -> list[int]:
    return [number_of(picture) for picture in read(path, *args)[0]]


def paper_indices(frames: int, count: int) -> list[int]:
    return [int(i * frames / count + frames / (2 * count)) for i in range(count)]


ENCODINGS = {
    "h264.mp4": {},
    "b-frames.mp4": {"options": {"bf": "3", "g": "250"}},
    "open-gop.mkv": {"options": {"x264-params": "open-gop=1:keyint=10:bframes=2"}},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "raw.h264": {},
    "vp8.webm": {"codec": "libvpx"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "mpeg4-b-frames.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "mjpeg.avi": {"codec": "mjpeg"},
    "mpeg2.ts": {"codec": "mpeg2video"},
    "mpeg1.mpg": {"codec": "mpeg1video"},
    "flv.flv": {"codec": "flv"},
    "wmv2.wmv": {"codec": "wmv2"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "mpeg2.mxf": {"codec": "mpeg2video"},
    "vp8.ivf": {"codec": "libvpx"},
    "lossless.mkv": {"codec": "ffv1"},
    "animation.gif": {"codec": "gif"},
    "animation.apng": {"codec": "apng"},
}


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("frames", [30, 83])
def test_constant_rate_gives_the_papers_frames(tmp_path: Path, name: str, frames: int) -> None:
    path = write_clip(tmp_path / name, frames, **ENCODINGS[name])
    assert numbers(path) == paper_indices(frames, 8)
    assert read(path)[1].end_seconds == pytest.approx(frames / 25, abs=1e-3 if name.endswith("flv") else 1e-6)


@pytest.mark.parametrize("name", ["b-frames.mp4", "vp9.webm", "mpeg4-b-frames.avi", "mpeg2.ts"])
def test_frames_are_those_of_a_full_decode(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, 40, **ENCODINGS[name])
    with av.open(str(path)) as container:
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    for count in (1, 8, 16, 32):
        pictures, _ = read(path, count)
        for picture, index in zip(pictures, paper_indices(40, count), strict=True):
            np.testing.assert_array_equal(picture, decoded[index])


def test_variable_rate_counts_time_not_frames(tmp_path: Path) -> None:
    # Ten frames in the first second, then two more; the file says that a frame lasts 40 ms.
    pts = [*range(0, 1000, 100), 1000, 5500]
    path = write_clip(tmp_path / "vfr.mkv", 12, pts=pts, time_base=Fraction(1, 1000), codec="ffv1")
    frames, info = read(path, 10)
    assert info.end_seconds == 5.54
    assert [number_of(frame) for frame in frames] == [2, 8, *[10] * 8]
    assert info.times_seconds[:3] == (0.2, 0.8, 1.0)
    assert (info.decoded, len(info.places)) == (3, 10)


def test_a_centre_on_a_frames_start_belongs_to_that_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "edge.mkv", 4, codec="ffv1", rate=1)
    # Two segments of [0, 4) have their centres at 1 and 3 exactly.
    assert numbers(path, 2) == [1, 3]
    assert numbers(path, 1) == [2]


@pytest.mark.parametrize(("start", "end", "expected"), [(1, 3, [31, 43, 56, 68]), ("0.5", None, None)])
def test_windows(tmp_path: Path, start: Any, end: Any, expected: list[int] | None) -> None:
    path = write_clip(tmp_path / "clip.mp4", 100, rate=25)
    frames, info = read(path, 4, start, end)
    first, last = float(start), float(end or 4)
    centres = [first + (last - first) * (2 * i + 1) / 8 for i in range(4)]
    assert [number_of(f) for f in frames] == (expected or [int(c * 25) for c in centres])
    assert (info.start_seconds, info.end_seconds) == (first, last)


def test_a_window_past_the_end_is_cut(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 50)
    assert read(path, 8, 1, 99)[1].end_seconds == 2.0
    with pytest.raises(VideoError, match=r"the window starts at 2 s, the video ends at 2 s") as caught:
        read(path, 8, 2)
    assert caught.value.code == "window"


@pytest.mark.parametrize("first", [-500, 1000, 60_000_000])
def test_time_zero_is_the_first_frame(tmp_path: Path, first: int) -> None:
    pts = [first + 40 * i for i in range(30)]
    suffix = "mkv" if first > 0 else "mp4"
    path = write_clip(tmp_path / f"shifted.{suffix}", 30, pts=pts, time_base=Fraction(1, 1000))
    frames, info = read(path)
    if first > 0:
        assert [number_of(frame) for frame in frames] == paper_indices(30, 8)
        assert info.times_seconds[0] == pytest.approx(0.04)
    assert info.start_seconds == 0.0
    assert 0 <= info.times_seconds[0] < info.times_seconds[-1] < info.end_seconds


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_short_videos_repeat_frames_and_say_so(tmp_path: Path, frames: int) -> None:
    path = write_clip(tmp_path / "short.mp4", frames)
    pictures, info = read(path)
    assert [number_of(picture) for picture in pictures] == paper_indices(frames, 8)
    assert info.decoded == len(set(paper_indices(frames, 8)))


@pytest.mark.parametrize("name", ["clip.webm", "clip.mkv"])
def test_a_single_frame_that_says_no_duration_has_none(tmp_path: Path, name: str) -> None:
    """After a seek FFmpeg would make one up, of one unit of time."""
    path = write_clip(tmp_path / name, 1, codec="libvpx")
    data = path.read_bytes()
    at = data.index(bytes.fromhex("23e38384"))  # DefaultDuration, which becomes a Void of its length
    path.write_bytes(data[:at] + bytes.fromhex("ec86") + bytes(6) + data[at + 8 :])
    assert read(path)[1].end_seconds == 0


def test_a_still_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "still.png", 1, codec="png", container_format="image2pipe")
    pictures, info = read(path)
    assert [number_of(picture) for picture in pictures] == [0] * 8
    assert info.decoded == 1


def turned(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A display matrix applied pixel by pixel: x' = a x + c y, y' = b x + d y."""
    a, b, c, d = matrix
    height, width = picture.shape[:2]
    ys, xs = np.mgrid[:height, :width]
    new_x, new_y = a * xs + c * ys, b * xs + d * ys
    new_x, new_y = new_x - new_x.min(), new_y - new_y.min()
    out = np.zeros((new_y.max() + 1, new_x.max() + 1, 3), np.uint8)
    out[new_y, new_x] = picture
    return out


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (-1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, 1, -1, 0),
        (0, -1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_display_matrices(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    corner = numbered(5, 64, 32)
    corner[:8, :8] = (250, 20, 20)
    a, b, c, d = (v << 16 for v in matrix)
    plain = write_clip(tmp_path / "plain.mp4", pictures=[corner] * 3)
    path = write_clip(tmp_path / "turned.mp4", pictures=[corner] * 3, matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    np.testing.assert_array_equal(read(path, 1)[0][0], turned(read(plain, 1)[0][0], matrix))


def test_a_crooked_display_matrix_is_ignored_and_said(tmp_path: Path) -> None:
    matrix = [46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30]
    path = write_clip(tmp_path / "crooked.mp4", 3, matrix=matrix)
    pictures, info = read(path)
    assert pictures[0].shape == numbered(0).shape
    assert info.warnings == ("the rotation in the file is not a multiple of 90 degrees and was ignored",)


def test_the_default_stream_is_looked_at(tmp_path: Path) -> None:
    path = write_two_streams(tmp_path / "two.mkv", widths=(160, 320), default=0)
    assert numbers(path, 1) == [2]


@pytest.mark.parametrize("pixel_format", ["yuv444p", "gray", "yuv420p10le", "yuv422p"])
def test_pixel_formats(tmp_path: Path, pixel_format: str) -> None:
    path = write_clip(tmp_path / "clip.mkv", 10, codec="ffv1", pix_fmt=pixel_format)
    assert numbers(path) == paper_indices(10, 8)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (2, 4096), (4096, 2)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = np.full((size[1], size[0], 3), 90, np.uint8)
    path = write_clip(tmp_path / "odd.mkv", codec="ffv1", pix_fmt="yuv444p", pictures=[picture] * 2)
    assert read(path, 2)[0][0].shape == picture.shape


def test_damage_is_skipped_and_counted(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", 60, codec="ffv1", options={"slicecrc": "1"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = os.urandom(3000)
    path.write_bytes(bytes(data))
    _, info = read(path)
    assert info.errors > 0
    assert len(info.times_seconds) == 8


def test_a_file_cut_short_says_so(tmp_path: Path) -> None:
    options = {"movflags": "faststart"}
    path = tmp_path / "cut.mp4"
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for i in range(100):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(i), format="rgb24")))
        container.mux(stream.encode(None))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 3 // 4])
    frames, info = read(path)
    assert 0 < number_of(frames[-1]) < 99
    assert info.errors > 0


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda p: None, "missing", "no such file"),
        (lambda p: p.mkdir(), "not_a_file", "not a regular file"),
        (lambda p: os.mkfifo(p), "not_a_file", "not a regular file"),
        (lambda p: p.write_bytes(b""), "empty", "the file is empty"),
        (lambda p: p.write_bytes(os.urandom(4096)), "unsupported", "not a video that can be read"),
        (lambda p: p.write_text("a cat\na dog\n" * 50), "unsupported", "not a video that can be read"),
        (lambda p: p.write_text("ffconcat version 1.0\nfile other.mp4\n"), "unsupported", "not a video"),
        (lambda p: p.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/seg.ts\n"), "unsupported", "not a video"),
    ],
)
def test_what_is_no_video(tmp_path: Path, make: Any, code: str, message: str) -> None:
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(VideoError, match=message) as caught:
        read(path)
    assert caught.value.code == code


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no video stream: the file holds only audio") as caught:
        read(write_audio(tmp_path / "sound.m4a"))
    assert caught.value.code == "no_video"


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "song.m4a"
    with av.open(str(path), "w", format="mp4") as container:
        sound = container.add_stream("aac", rate=44100)
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
        container.mux(cover.encode(picture))
        container.mux(cover.encode(None))
        for i in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, i * 1024
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    with pytest.raises(VideoError, match="the file holds only audio and a cover picture"):
        read(path)


def test_an_unknown_codec_is_said(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match="no decoder for the video stream") as caught:
        read(path)
    assert caught.value.code == "unsupported"


def insert(data: bytes, at: int, piece: bytes, *parents: bytes) -> bytes:
    """An MP4 with a piece put in, and the sizes of the boxes that it is in."""
    changed = bytearray(data)
    for kind in parents:
        start = data.index(kind) - 4
        changed[start : start + 4] = (int.from_bytes(data[start : start + 4]) + len(piece)).to_bytes(4)
    changed[at:at] = piece
    return bytes(changed)


STSD = (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd")


def encv(data: bytes, entry: bytes, end: int) -> bytes:
    return data.replace(b"avc1\0", b"encv\0")


def a_second_description(data: bytes, entry: bytes, end: int) -> bytes:
    """As where the start of a video is clear and the rest is not."""
    data = insert(data, end, entry.replace(b"avc1", b"encv"), *STSD)
    count = data.index(b"stsd") + 8
    return data[:count] + (2).to_bytes(4) + data[count + 4 :]


def a_protected_codec(data: bytes, entry: bytes, end: int) -> bytes:
    return insert(data, end, struct.pack(">I4sI4s4s", 20, b"sinf", 12, b"frma", b"avc1"), *STSD, b"avc1\0")


@pytest.mark.parametrize("change", [encv, a_second_description, a_protected_codec])
def test_encrypted_videos_are_refused(tmp_path: Path, change: Any) -> None:
    path = write_clip(tmp_path / "clip.mp4", 5)
    read(path)
    data = path.read_bytes()
    start = data.index(b"avc1\0") - 4
    end = start + int.from_bytes(data[start : start + 4])
    path.write_bytes(change(data, data[start:end], end))
    with pytest.raises(VideoError, match="the video is encrypted") as caught:
        read(path)
    assert caught.value.code == "encrypted"


@pytest.mark.parametrize("piece", [b"hdlr\0\0\0\0\0\0\0\0vide", b"\xff\xff\xff\xffstsd" + bytes(8) + b"\0\0\0\x08free"])
def test_a_description_that_repeats_itself_is_read_once(tmp_path: Path, piece: bytes) -> None:
    """Read once from each repetition on, it would take hours."""
    path = write_clip(tmp_path / "clip.mp4", 5)
    filling = piece * (2_000_000 // len(piece))
    box = struct.pack(">I4s", len(filling) + 8, b"free") + filling
    data = path.read_bytes()
    path.write_bytes(insert(data, data.index(b"moov") + 4, box, b"moov"))
    assert len(read(path)[0]) == 8


def test_encrypted_matroska_is_refused(tmp_path: Path) -> None:
    """The name of the track gives way to the elements that say what its contents are encoded with (RFC 9559)."""

    def element(number: str, *inner: bytes) -> bytes:
        content = b"".join(inner)
        return bytes.fromhex(number) + bytes([0x80 | len(content)]) + content

    path, name = tmp_path / "clip.mkv", b"x" * 100
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libvpx", rate=25)
        stream.width, stream.height, stream.metadata["title"] = 160, 96, name.decode()
        for frame in (av.VideoFrame.from_ndarray(numbered(1), format="rgb24"), None):
            container.mux(stream.encode(frame))
    read(path)
    encryption = element("5035", element("47e1", b"\5"), element("47e2", bytes(range(16))))
    encodings = element("6d80", element("6240", element("5033", b"\1"), encryption))
    given = element("536e", name)
    filled = encodings + element("ec", bytes(len(given) - len(encodings) - 2))
    data = path.read_bytes()
    assert data.count(given) == 1
    path.write_bytes(data.replace(given, filled))
    with pytest.raises(VideoError, match="the video is encrypted") as caught:
        read(path)
    assert caught.value.code == "encrypted"


def test_encrypted_sound_is_no_matter(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with av.open(str(path), "w") as container:
        sound, pictures = container.add_stream("aac", rate=44100), container.add_stream("libx264", rate=25)
        pictures.width, pictures.height = 160, 96
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 44100
        for stream, first in ((sound, frame), (pictures, av.VideoFrame.from_ndarray(numbered(1), format="rgb24"))):
            container.mux(stream.encode(first))
            container.mux(stream.encode(None))
    data = path.read_bytes()
    moov = data.index(b"moov")
    assert data.index(b"soun", moov) < data.index(b"vide", moov)
    path.write_bytes(data.replace(b"mp4a\0", b"enca\0").replace(b"esds", b"sinf"))
    assert read(path, 1)[1].errors == 0


@pytest.mark.parametrize(
    "name",
    [
        "2024-01-01T12:30:00.mp4",
        "cam:1.mp4",
        "-dash.mp4",
        "per%dcent.mp4",
        "new\nline.mp4",
        "sp ace.mp4",
        "caf\udce9.mp4",
    ],
)
def test_no_name_means_anything(tmp_path: Path, name: str) -> None:
    source = write_clip(tmp_path / "plain.mp4", 8)
    path = os.path.join(tmp_path, name)
    os.rename(source, path)
    assert len(read(path)[0]) == 8
    code = "import sys; sys.path[:0] = sys.argv[2:]; from test_stream import read; read(sys.argv[1])"
    command = [sys.executable, "-c", code, name, str(Path(__file__).parent), str(TESTS)]
    relative = subprocess.run(command, cwd=tmp_path, check=False)
    assert relative.returncode == 0


def test_the_module_never_imports_torch() -> None:
    code = "import sys, xclip_cli.video.clips; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
    frames, info = read(path)
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


def read_windows(path: Path, length: str, stride: str, clips: int = 1) -> list[tuple[ClipInfo, list[np.ndarray]]]:
    """The clips of windows over a whole video, each with its frames, one for each place."""
    pictures = Pictures()
    request = ClipRequest(str(path), 8, clips, length=Fraction(length), stride=Fraction(stride))
    found = [(info, [pictures[place] for place in info.places]) for info in read_clips(request, pictures, 1)]
    assert pictures.restarts == 0
    return found


@pytest.mark.parametrize("name", ENCODINGS)
def test_the_frames_of_windows_are_those_of_each_window_alone(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, 83, **ENCODINGS[name])
    windows = read_windows(path, "1.3", "0.55")
    assert [info.following for info, _ in windows] == list(range(len(windows)))[::-1]
    assert len(windows) == 5
    end = Fraction(windows[-1][0].end_seconds).limit_denominator(10_000)
    for i, (info, frames) in enumerate(windows):
        start = min(i * Fraction("0.55"), end - Fraction("1.3"))
        expected, alone = read(path, 8, start, start + Fraction("1.3"))
        assert info.times_seconds == alone.times_seconds
        assert (info.start_seconds, info.end_seconds) == pytest.approx((alone.start_seconds, alone.end_seconds))
        assert (info.errors, info.warnings) == (alone.errors, alone.warnings)
        for ours, theirs in zip(frames, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_windows_with_several_clips_and_gaps(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 100)
    for i, (info, frames) in enumerate(read_windows(path, "0.5", "1.5", clips=3)):
        start = min(i * Fraction("1.5"), Fraction("3.5"))
        alone, pictures = read_pictures(ClipRequest(str(path), 8, 3, start, start + Fraction("0.5")))
        assert info.times_seconds == alone.times_seconds
        assert [number_of(frame) for frame in frames] == [number_of(pictures[place]) for place in alone.places]


def test_windows_of_a_damaged_video_say_what_each_alone_says(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "cut.ts", 100, codec="mpeg2video", options={"g": "10"})
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = os.urandom(3000)
    path.write_bytes(data)
    windows = read_windows(path, "1", "0.5")
    assert windows[-1][0].errors or windows[-1][0].warnings or len({info.errors for info, _ in windows}) == 1
    for i, (info, frames) in enumerate(windows[:-1]):
        expected, alone = read(path, 8, i * Fraction(1, 2), i * Fraction(1, 2) + 1)
        assert (info.times_seconds, info.errors, info.warnings) == (alone.times_seconds, alone.errors, alone.warnings)
        for ours, theirs in zip(frames, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("content", ["missing", "empty", "audio"])
def test_windows_of_what_is_no_video(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.mp4"
    if content == "empty":
        path.touch()
    elif content == "audio":
        write_audio(path)
    with pytest.raises(VideoError) as alone:
        read(path)
    with pytest.raises(VideoError) as windows:
        read_windows(path, "1", "1")
    assert (windows.value.code, str(windows.value)) == (alone.value.code, str(alone.value))
