"""What a video may cost: files made to cost too much end in an error that names the limit and its flag."""

from __future__ import annotations

import re
import signal
import struct
import sys
import time
import zlib
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import pytest
from clips import number_of, write_clip
from conftest import Run

from xclip_cli.errors import VideoError
from xclip_cli.video import pool
from xclip_cli.video.limits import DEFAULT_LIMITS, MEGABYTE, Limits
from xclip_cli.video.pool import Decoders
from xclip_cli.video.protocol import NOTE_BYTES
from xclip_cli.video.sampling import ClipRequest

PEAK = 400  # MB of memory that a refused file may take; a worker takes 70 before it decodes

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is measured in /proc")


def resident(decoders: Decoders[object]) -> int:
    """The most megabytes of memory that the worker ever had."""
    (worker,) = decoders._workers
    found = re.search(r"VmHWM:\s*(\d+) kB", Path(f"/proc/{worker._process.pid}/status").read_text())
    assert found
    return int(found[1]) // 1024


def refusal(path: Path, limits: Limits = DEFAULT_LIMITS, count: int = 8) -> VideoError:
    """The error that a file ends in; the worker goes on with the next file."""
    with Decoders(number_of, limits=limits) as decoders:
        decoders.submit(ClipRequest(str(path), count))
        with pytest.raises(VideoError) as caught:
            decoders.collect()
        if Path("/proc").exists() and decoders._workers:
            assert resident(decoders) < PEAK
        decoders.submit(ClipRequest(str(write_clip(path.parent / "good.mp4", 8)), 8))
        assert decoders.collect()
    return caught.value


def decoded(path: Path, limits: Limits = DEFAULT_LIMITS) -> list[tuple[int, ...]]:
    """The sizes of a file's pictures."""
    with Decoders(lambda picture: picture.shape[:2], limits=limits) as decoders:
        decoders.submit(ClipRequest(str(path), 8))
        collected = decoders.collect()
        assert collected
        return collected[1]


def blank(width: int, height: int, pixel_format: str = "yuv420p") -> av.VideoFrame:
    frame = av.VideoFrame(width, height, pixel_format)
    for plane in frame.planes:
        plane.update(bytes([60]) * plane.buffer_size)
    return frame


def write_blank(
    path: Path, size: tuple[int, int], count: int, codec: str, pixel_format: str = "yuv420p", **options: str
) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *size, pixel_format
        frame = blank(*size, pixel_format)
        for i in range(count):
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def png(path: Path, width: int, height: int) -> Path:
    """A grey picture of very few bytes a pixel."""
    packer = zlib.compressobj(9)
    row = bytes(width + 1)
    data = b"".join(packer.compress(row) for _ in range(height)) + packer.flush()
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", data), (b"IEND", b"")]
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_frames_over_the_limit_are_refused(tmp_path: Path) -> None:
    path = write_blank(tmp_path / "huge.mp4", (8192, 8192), 1, "libx264", preset="ultrafast")
    error = refusal(path)
    assert error.code == "limit"
    message = "frames of 8192x8192 pixels are larger than the limit of 35389440 pixels (--max-pixels)"
    assert str(error) == message
    assert decoded(path, Limits(pixels=8192 * 8192)) == [(8192, 8192)]


def test_the_largest_frames_pass(tmp_path: Path) -> None:
    path = write_blank(tmp_path / "large.mp4", (8192, 4320), 2, "libx264", preset="ultrafast")
    assert decoded(path) == [(4320, 8192)] * 2


@pytest.mark.parametrize(("width", "height"), [(8192, 8192), (30000, 30000)])
def test_stills_over_the_limit_are_refused(tmp_path: Path, width: int, height: int) -> None:
    error = refusal(png(tmp_path / "huge.png", width, height))
    assert (error.code, "--max-pixels" in str(error)) == ("limit", True)
    assert f"{width}x{height}" in str(error)


CHANGING = {
    "h264.h264": ("libx264", {"preset": "ultrafast"}),
    "hevc.hevc": ("libx265", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "mpeg2.mpg": ("mpeg2video", {}),
    "vp8.ivf": ("libvpx", {"deadline": "realtime", "cpu-used": "8"}),
    "vp9.ivf": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    "av1.obu": ("libsvtav1", {"preset": "12"}),
    "mjpeg.mjpeg": ("mjpeg", {}),
}


@pytest.mark.parametrize("name", CHANGING)
def test_a_size_that_changes_on_the_way_is_refused(tmp_path: Path, name: str) -> None:
    codec, options = CHANGING[name]
    pixel_format = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    parts = []
    for i, size in enumerate([(320, 192), (1024, 512)]):
        path = tmp_path / f"{i}-{name}"
        parts.append(write_blank(path, size, 10, codec, pixel_format, **options).read_bytes())
    if name.endswith("ivf"):  # a header of 32 bytes, then of each frame its size (4) and its time (8)
        second, at = bytearray(parts[1][32:]), 0
        while at < len(second):
            size, time = struct.unpack_from("<IQ", second, at)
            struct.pack_into("<Q", second, at + 4, time + 10)
            at += 12 + size
        parts[1] = bytes(second)
    path = tmp_path / name
    path.write_bytes(b"".join(parts))
    assert {(192, 320), (512, 1024)} == set(decoded(path))
    error = refusal(path, Limits(pixels=400 * 400))
    assert (error.code, "--max-pixels" in str(error)) == ("limit", True)


@pytest.mark.parametrize("name", ["clip.ts", "clip.mp4"])
def test_more_frames_than_the_limit_are_refused(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, 200, options={"g": "1000"})
    error = refusal(path, Limits(frames=100))
    assert error.code == "limit"
    assert "more than 100 frames would have to be decoded (--max-frames)" in str(error)
    with Decoders(number_of, limits=Limits(frames=100)) as decoders:  # a stretch of it is near enough
        decoders.submit(ClipRequest(str(path), 4, end=2))
        collected = decoders.collect()
    assert collected
    assert collected[1] == [6, 18, 31, 43]


def test_large_frames_count_as_several(tmp_path: Path) -> None:
    path = write_blank(tmp_path / "large.ts", (3840, 2160), 6, "libx264", preset="ultrafast")
    assert decoded(path, Limits(frames=24))  # each as 3.97
    error = refusal(path, Limits(frames=20))
    assert (error.code, "more than 20 frames would have to be decoded (--max-frames)" in str(error)) == ("limit", True)
    assert Limits().weight(1920 * 1080) == Limits().weight(64 * 64) == 1


SLOW = (
    "import time, xclip_cli.video.stream as v; packets = v._packets\n"
    "v._packets = lambda *args: (time.sleep(0.05) or packet for packet in packets(*args))\n"
)


def test_time_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packets that come in time, each, and take too long in all."""
    monkeypatch.setattr(pool, "_BOOT", pool._BOOT.replace("; serve(", f"\n{SLOW}serve("))
    path = write_clip(tmp_path / "clip.ts", 60)
    with Decoders(number_of, limits=Limits(seconds=1.5)) as decoders:
        decoders.submit(ClipRequest(str(path), 8))
        with pytest.raises(
            VideoError, match=r"decoding takes longer than the limit of 1.5 s \(--max-seconds\)"
        ) as caught:
            decoders.collect()
    assert caught.value.code == "limit"


def test_the_usual_time_grows_with_the_windows_that_are_done() -> None:
    assert Limits().most_seconds(0) == 6 * 3600
    assert Limits().most_seconds(17_000) - Limits().most_seconds(0) == 17_000
    assert Limits(seconds=60).most_seconds(17_000) == 60


def test_time_in_which_nobody_listens_does_not_count(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mkv", 300, codec="mpeg4")
    with Decoders(number_of, timeout=1, limits=Limits(seconds=2)) as decoders:
        decoders.submit(ClipRequest(str(path), 8, length=Fraction(1), stride=Fraction(1, 2)))
        for i in range(23):
            assert decoders.collect()
            time.sleep(0.2 if i % 2 else 0.1)
        assert not decoders.pending


@pytest.mark.skipif(sys.platform != "linux", reason="the memory of a file without a name is limited on Linux")
def test_messages_are_bounded_as_they_come(tmp_path: Path) -> None:
    """A file whose every byte FFmpeg has something to say of, in a single call."""
    head = write_clip(tmp_path / "clip.mkv", 8, codec="mpeg4").read_bytes()
    path = tmp_path / "flood.mkv"
    path.write_bytes(head + b"\x1a\x45\xdf\xa3\x80" * 400_000)
    with Decoders(number_of) as decoders:
        decoders.submit(ClipRequest(str(path), 8))
        with suppress(VideoError):
            decoders.collect()
        (worker,) = decoders._workers
        files = Path(f"/proc/{worker._process.pid}/fd").iterdir()
        sizes = [file.stat().st_size for file in files if "memfd" in str(file.readlink())]
    assert sorted(sizes)[0] <= 1 << 16
    assert len(sizes) >= 2


def test_a_wrong_timestamp_makes_no_endless_timeline(tmp_path: Path) -> None:
    """Ten frames, of which the last is said to come after months, and the others last for days."""
    times = [*range(0, 9 * 10**9, 10**9), 10**10]
    path = write_clip(tmp_path / "clip.mkv", 10, pts=times, time_base=Fraction(1, 1000), codec="ffv1")
    assert decoded(path)
    with Decoders(number_of) as decoders:
        for length in (200, 800):
            decoders.submit(ClipRequest(str(path), 2, length=Fraction(length), stride=Fraction(length)))
        with pytest.raises(VideoError, match=r"^50001 windows for 10 frames, .* 1e\+07 s: .*--stride.*--end") as caught:
            decoders.collect()
        assert caught.value.code == "limit"
        first = decoders.collect()
        assert first
        assert first[0].following == 12_500


def test_times_that_no_video_has_are_damage(tmp_path: Path) -> None:
    times = [*range(0, 9 * 10**12, 10**12), 10**13]
    path = write_clip(tmp_path / "clip.mkv", 10, pts=times, time_base=Fraction(1, 1000), codec="ffv1")
    error = refusal(path)
    assert (error.code, str(error)) == (
        "damaged",
        "the frames' timestamps are damaged: by them the video lasts 1e+10 s",
    )


def test_frames_that_are_reached_by_seeking_do_not_count(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 800, options={"g": "20", "keyint_min": "20"})
    with Decoders(number_of, limits=Limits(frames=200)) as decoders:
        decoders.submit(ClipRequest(str(path), 4))
        collected = decoders.collect()
    assert collected
    assert collected[1] == [100, 300, 500, 700]


@needs_proc
def test_memory_over_the_limit_is_refused(tmp_path: Path) -> None:
    """A video within every other limit, whose decoder must keep 16 frames of 24 MB."""
    options = {"preset": "ultrafast", "x264-params": "ref=16:bframes=0"}
    path = write_blank(tmp_path / "many.mp4", (4096, 2048), 24, "libx264", "yuv444p", **options)
    error = refusal(path, Limits(memory=500 * MEGABYTE))
    assert (error.code, str(error)) == (
        "limit",
        "decoding needs more memory than the limit of 500 MB (--max-memory)",
    )
    assert decoded(path) == [(2048, 4096)] * 8


@needs_proc
def test_a_worker_near_its_limit_hands_what_it_was_given_to_another(tmp_path: Path) -> None:
    options = {"preset": "ultrafast", "x264-params": "ref=16:bframes=0"}
    many = write_blank(tmp_path / "many.mp4", (4096, 2048), 24, "libx264", "yuv444p", **options)
    good = write_clip(tmp_path / "good.mp4", 50)
    with Decoders(number_of, limits=Limits(memory=500 * MEGABYTE)) as decoders:
        for path in (many, good):
            decoders.submit(ClipRequest(str(path), 2, length=Fraction(1, 2), stride=Fraction(1, 2)))
        first = decoders._workers[0]
        with pytest.raises(VideoError, match="--max-memory"):
            list(iter(decoders.collect, None))
        found = [decoders.collect() for _ in range(4)]
        assert [clip[0].following for clip in found if clip] == [3, 2, 1, 0]
        assert first not in decoders._workers
        assert not decoders.pending


@needs_proc
@pytest.mark.parametrize(("had", "code"), [(3073, "limit"), (3071, "crashed")])
def test_a_crash_near_the_limit_names_it(tmp_path: Path, had: int, code: str) -> None:
    """A decoder that is refused memory may crash; how much it had it wrote down while it lived."""
    path = write_clip(tmp_path / "clip.mp4", 8)
    with Decoders(number_of) as decoders:
        decoders.submit(ClipRequest(str(path), 8))
        decoders.collect()
        (worker,) = decoders._workers
        noted = int.from_bytes(worker._ring[-NOTE_BYTES:], sys.byteorder)
        assert 100 * MEGABYTE < noted < 1000 * MEGABYTE
        worker._process.send_signal(signal.SIGSTOP)
        worker._ring[-NOTE_BYTES:] = (had * MEGABYTE).to_bytes(NOTE_BYTES, sys.byteorder)
        for _ in range(2):
            decoders.submit(ClipRequest(str(path), 8))
        for number in (signal.SIGSEGV, signal.SIGCONT):
            worker._process.send_signal(number)
        with pytest.raises(VideoError, match=r"the decoder crashed \(SIGSEGV\)") as caught:
            decoders.collect()
        assert caught.value.code == code
        named = "with 3073 MB of memory, near the limit of 4096 MB (--max-memory)"
        assert (named in str(caught.value)) is (code == "limit")
        assert decoders.collect()


@needs_proc
def test_damage_far_from_the_limit_is_damage(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mov", 60, codec="prores_ks", pix_fmt="yuv422p10le")
    data = bytearray(path.read_bytes())
    start, end = data.index(b"mdat") + 4, data.index(b"moov") - 4
    data[start + (end - start) // 4 : end] = bytes(end - start - (end - start) // 4)
    path.write_bytes(data)
    error = refusal(path)
    assert error.code == "damaged"
    assert "too damaged: 44 packets or frames were skipped, 6 of the 8 frames needed" in str(error)


@needs_proc
def test_an_index_of_very_many_samples_is_bounded(tmp_path: Path) -> None:
    """An MP4 of 13 kB that says it holds 10**9 samples, all of one size."""
    path = write_clip(tmp_path / "clip.mp4", 30)
    data = bytearray(path.read_bytes())
    at = data.index(b"stsz") + 8
    data[at : at + 8] = struct.pack(">II", 1, 10**9)
    path.write_bytes(data)
    error = refusal(path)
    assert error.code in {"limit", "damaged", "no_frames", "unsupported"}


@needs_proc
def test_a_worker_keeps_no_pictures_of_earlier_videos(tmp_path: Path) -> None:
    path = write_blank(tmp_path / "large.mp4", (3840, 2160), 12, "libx264", preset="ultrafast")
    with Decoders(lambda picture: None) as decoders:
        peaks = []
        for _ in range(6):
            decoders.submit(ClipRequest(str(path), 8))
            decoders.collect()
            peaks.append(resident(decoders))
    assert peaks[-1] < peaks[0] * 1.1


@pytest.mark.parametrize("command", ["classify", "timeline"])
def test_the_flags(xclip: Run, clip: Path, command: str) -> None:
    common = [command, clip, "--labels", "picture-state", "--model", "bundled"]
    assert (
        xclip(
            *common, "--max-pixels", 160 * 96, "--max-frames", 100, "--max-memory", 1024, "--max-seconds", 60
        ).returncode
        == 0
    )
    for flag, value in (("--max-pixels", 160 * 96 - 1), ("--max-frames", 7)):
        done = xclip(*common, flag, value)
        assert (done.returncode, '"code": "limit"' in done.stdout, flag in done.stdout) == (1, True, True)
    done = xclip(*common, "--max-memory", 100)
    assert done.returncode == 2
    assert "1024" in done.stderr
