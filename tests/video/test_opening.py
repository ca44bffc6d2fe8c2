"""What may be opened: strangers' files, and which of their streams is looked at."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import number_of, numbered, read_frames, read_pictures, write_audio, write_clip, write_two_streams
from conftest import Run

from xclip_cli.errors import VideoError
from xclip_cli.video.sampling import ClipRequest

TESTS = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("make", "code", "message"),
    [
        (lambda p: None, "missing", "no such file"),
        (lambda p: p.mkdir(), "not_a_file", "not a regular file"),
        (lambda p: os.mkfifo(p), "not_a_file", "not a regular file"),
        (lambda p: p.write_bytes(b""), "empty", "the file is empty"),
        (lambda p: p.write_bytes(os.urandom(4096)), "unsupported", "not a video, or a damaged one"),
        (lambda p: p.write_text("a cat\na dog\n" * 50), "unsupported", "not a video, or a damaged one"),
        (
            lambda p: p.write_text("ffconcat version 1.0\nfile other.mp4\n"),
            "unsupported",
            "not a video, or a damaged one",
        ),
        (lambda p: p.write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/seg.ts\n"), "unsupported", "not a video, or"),
    ],
)
def test_what_is_no_video(tmp_path: Path, make: Any, code: str, message: str) -> None:
    path = tmp_path / "clip.mp4"
    make(path)
    with pytest.raises(VideoError, match=message) as caught:
        read_frames(path)
    assert caught.value.code == code


def test_sound_alone_is_no_video(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no video stream: the file contains only audio") as caught:
        read_frames(write_audio(tmp_path / "sound.m4a"))
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
    with pytest.raises(VideoError, match="the file contains only audio and a cover picture"):
        read_frames(path)


def test_the_default_stream_is_looked_at(tmp_path: Path) -> None:
    path = write_two_streams(tmp_path / "two.mkv", widths=(160, 320), default=0)
    assert [number_of(picture) for picture in read_frames(path, 1)[0]] == [2]


def test_an_unknown_codec_is_said(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 5)
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzzz"))
    with pytest.raises(VideoError, match="no decoder for the video stream") as caught:
        read_frames(path)
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
    read_frames(path)
    data = path.read_bytes()
    start = data.index(b"avc1\0") - 4
    end = start + int.from_bytes(data[start : start + 4])
    path.write_bytes(change(data, data[start:end], end))
    with pytest.raises(VideoError, match="the video is encrypted") as caught:
        read_frames(path)
    assert caught.value.code == "encrypted"


@pytest.mark.parametrize("piece", [b"hdlr\0\0\0\0\0\0\0\0vide", b"\xff\xff\xff\xffstsd" + bytes(8) + b"\0\0\0\x08free"])
def test_a_description_that_repeats_itself_is_read_once(tmp_path: Path, piece: bytes) -> None:
    """Read once from each repetition on, it would take hours."""
    path = write_clip(tmp_path / "clip.mp4", 5)
    filling = piece * (2_000_000 // len(piece))
    box = struct.pack(">I4s", len(filling) + 8, b"free") + filling
    data = path.read_bytes()
    path.write_bytes(insert(data, data.index(b"moov") + 4, box, b"moov"))
    assert len(read_frames(path)[0]) == 8


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
    read_frames(path)
    encryption = element("5035", element("47e1", b"\5"), element("47e2", bytes(range(16))))
    encodings = element("6d80", element("6240", element("5033", b"\1"), encryption))
    given = element("536e", name)
    filled = encodings + element("ec", bytes(len(given) - len(encodings) - 2))
    data = path.read_bytes()
    assert data.count(given) == 1
    path.write_bytes(data.replace(given, filled))
    with pytest.raises(VideoError, match="the video is encrypted") as caught:
        read_frames(path)
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
    assert read_frames(path, 1)[1].errors == 0


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
    assert len(read_frames(path)[0]) == 8
    code = "import sys; sys.path[:0] = sys.argv[2:]; from clips import read_frames; read_frames(sys.argv[1])"
    command = [sys.executable, "-c", code, name, str(TESTS)]
    relative = subprocess.run(command, cwd=tmp_path, check=False)
    assert relative.returncode == 0


def test_which_of_several_streams_was_taken_is_said(tmp_path: Path) -> None:
    path = write_two_streams(tmp_path / "two.mkv", widths=(160, 320), default=0)
    frames, info = read_frames(path, 1)
    assert number_of(frames[0]) == 2
    assert info.warnings == ("the file has 2 video streams (160x96, 320x96): using number 0 (--stream)",)
    for number, shown in ((0, 2), (1, 102)):
        info, pictures = read_pictures(ClipRequest(str(path), 1, stream=number))
        assert (number_of(pictures[0]), info.warnings) == (shown, ())
    with pytest.raises(VideoError, match="there is no video stream 2: the file has 2, counted from 0") as caught:
        read_pictures(ClipRequest(str(path), 1, stream=2))
    assert caught.value.code == "no_video"


def test_the_stream_that_was_chosen_is_the_one_in_the_record(xclip: Run, tmp_path: Path) -> None:
    path = write_two_streams(tmp_path / "two.mkv", widths=(160, 320), default=0)
    common = ["classify", path, "--labels", "picture-state", "--model", "bundled", "-f", "jsonl", "-q"]
    chosen, taken = (json.loads(xclip(*common, *more).stdout) for more in (["--stream", "1"], []))
    assert chosen["warnings"] == [w for w in taken["warnings"] if "--stream" not in w]
    assert chosen["predictions"] != taken["predictions"]
    out = tmp_path / "out.jsonl"
    assert xclip(*common, "--stream", "1", "-o", out).returncode == 0
    assert json.loads(out.read_text().splitlines()[0])["stream"] == 1
    assert xclip(*common, "-o", out, "--resume").returncode == 1


def test_an_mp4_that_is_still_being_written_says_so(tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "clip.mp4", 40).read_bytes()
    path = tmp_path / "begun.mp4"
    for size in (len(whole) // 2, whole.index(b"moov") - 4):
        path.write_bytes(whole[:size])
        with pytest.raises(VideoError, match="the file is incomplete, or still being written") as caught:
            read_frames(path)
        assert caught.value.code == "unsupported"
    path.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(12) + b"\0\0\0\1" + os.urandom(99))
    with pytest.raises(VideoError, match="not a video, or a damaged one"):
        read_frames(path)


def test_a_crop_in_matroska_is_applied(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", 3, options={"x264-params": "sar=16/11"})
    whole = read_frames(path)[0][0]
    data = path.read_bytes()
    assert data.count(bytes.fromhex("54b28104")) == 1  # DisplayUnit becomes PixelCropTop (RFC 9559): 20 rows
    path.write_bytes(data.replace(bytes.fromhex("54b28104"), bytes.fromhex("54bb8114")))
    np.testing.assert_array_equal(read_frames(path)[0][0], whole[20:])


def test_a_clean_aperture_of_mp4_is_applied(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 3)
    whole = read_frames(path)[0][0]
    data = path.read_bytes()
    # ISO/IEC 14496-12: width, height, and how far the centre is to the right and down, each a ratio.
    box = struct.pack(">I4s8i", 40, b"clap", 100, 1, 48, 1, 10, 1, -4, 2)
    start = data.index(b"avc1\0") - 4
    path.write_bytes(insert(data, start + int.from_bytes(data[start : start + 4]), box, *STSD, b"avc1\0"))
    np.testing.assert_array_equal(read_frames(path)[0][0], whole[22:70, 40:140])
