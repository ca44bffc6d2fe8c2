"""Hazards of videos from strangers and of long runs, by the names they have in our catalogue: a test for each."""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import number_of, numbered, read_frames, write_audio, write_clip, write_two_streams
from conftest import Run
from records import assert_all_same

from xclip_cli.errors import VideoError
from xclip_cli.video.pool import Decoders
from xclip_cli.video.sampling import ClipRequest

TESTS = Path(__file__).parent.parent

LABELS = ["--labels", "picture-state", "--model", "bundled"]
PROGRAM = Path(sys.executable).with_name("xclip")

# Each hazard and the tests that show what becomes of it.
HAZARDS = {
    # security: what a file may reach, what it may cost, what it may show
    "S1 a playlist that names a network segment": ["video/test_hazards::test_nothing_but_the_file_is_opened"],
    "S2 a playlist of playlists": ["video/test_hazards::test_nothing_but_the_file_is_opened"],
    "S3 a playlist under a video's name": ["video/test_hazards::test_nothing_but_the_file_is_opened"],
    "S4 a playlist that names a local file": ["video/test_hazards::test_nothing_but_the_file_is_opened"],
    "S5 a concat script": ["video/test_hazards::test_nothing_but_the_file_is_opened"],
    "S6 a concat script that leaves its folder": ["video/test_hazards::test_nothing_but_the_file_is_opened"],
    "S7 protocols given as paths": ["video/test_hazards::test_names_are_never_protocols"],
    "S8 text that FFmpeg would draw": ["video/test_hazards::test_nothing_but_the_file_is_opened"],
    "S9 filter graphs, devices and image sequences": [
        "video/test_hazards::test_nothing_but_the_file_is_opened",
        "video/test_hazards::test_names_are_never_protocols",
    ],
    "S10 pictures that are too large": [
        "video/test_limits::test_frames_over_the_limit_are_refused",
        "video/test_limits::test_stills_over_the_limit_are_refused",
        "video/test_limits::test_a_size_that_changes_on_the_way_is_refused",
    ],
    "S11 a million frames, and headers that claim hours": [
        "video/test_limits::test_more_frames_than_the_limit_are_refused",
        "video/test_limits::test_an_index_of_very_many_samples_is_bounded",
        "video/test_limits::test_a_wrong_timestamp_makes_no_endless_timeline",
        "video/test_limits::test_times_that_no_video_has_are_damage",
        "video/test_hazards::test_a_duration_in_the_header_means_nothing",
    ],
    "S12 sources that stall": [
        "video/test_hazards::test_pipes_and_devices_are_never_read",
        "video/test_hazards::test_a_worker_that_hangs_costs_one_video",
    ],
    "S13 labels that steer": [
        "output/test_data::test_csv_texts_are_no_formulas",
        "output/test_tables::test_hostile_text_stays_text",
        "report/test_page::test_hostile_text_stays_text",
        "cli/test_classify::test_nothing_that_is_shown_steers_the_terminal",
    ],
    "S14 outputs that would destroy": [
        "output/test_files::test_outputs_that_would_destroy_something_are_refused",
        "output/test_files::test_a_link_in_the_way_of_the_new_file_is_not_followed",
        "video/test_hazards::test_an_output_that_is_a_link_to_an_input_is_refused",
    ],
    # reliability: what is odd or broken
    "R1 no file, no video": [
        "video/test_opening::test_what_is_no_video",
        "video/test_hazards::test_a_file_without_permission",
    ],
    "R2 an MP4 without its description": ["video/test_hazards::test_an_mp4_without_its_description"],
    "R3 a file that is cut off": ["video/test_damage::test_a_file_cut_short_says_so"],
    "R4 an unknown codec, a decoder that crashes": [
        "video/test_opening::test_an_unknown_codec_is_said",
        "video/test_pool::test_a_crash_costs_one_video",
    ],
    "R5 damaged packets": [
        "video/test_damage::test_the_frame_before_stands_for_what_is_lost",
        "video/test_damage::test_half_of_the_frames_may_be_lost_and_no_more",
        "video/test_damage::test_decoding_ends_after_many_bad_packets_in_a_row",
    ],
    "R6 headers without counts and durations": ["video/test_stream::test_constant_rate_gives_the_papers_frames"],
    "R7 a rate that varies": [
        "video/test_stream::test_variable_rate_counts_time_not_frames",
        "video/test_hazards::test_a_rate_that_swings_is_sampled_by_time",
    ],
    "R8 frames out of order, times far from zero": [
        "video/test_stream::test_frames_are_those_of_a_full_decode",
        "video/test_stream::test_time_zero_is_the_first_frame",
    ],
    "R9 few frames": ["video/test_clips::test_short_videos_repeat_frames_and_say_so"],
    "R10 rotation": [
        "video/test_pictures::test_display_matrices",
        "video/test_pictures::test_a_crooked_display_matrix_is_ignored_and_said",
        "video/test_hazards::test_a_garbage_display_matrix_is_ignored_and_said",
    ],
    "R11 depths and colours": [
        "video/test_pictures::test_pixel_formats",
        "video/test_hazards::test_deep_colours_become_bytes",
    ],
    "R12 odd sizes": ["video/test_pictures::test_odd_sizes", "video/test_hazards::test_pixels_are_taken_as_square"],
    "R13 a size that changes on the way": ["video/test_limits::test_a_size_that_changes_on_the_way_is_refused"],
    "R14 sound, covers, stills": [
        "video/test_opening::test_sound_alone_is_no_video",
        "video/test_opening::test_a_cover_picture_is_no_video",
        "video/test_clips::test_a_still_picture_is_a_video_of_one_frame",
        "video/test_hazards::test_a_wave_file_is_no_video",
    ],
    "R15 several streams": [
        "video/test_opening::test_the_default_stream_is_looked_at",
        "video/test_hazards::test_the_default_stream_may_be_the_second",
    ],
    "R16 decoding that stops early": ["video/test_hazards::test_stopping_early_never_hangs"],
    "R17 what ends a run": [
        "video/test_pool::test_a_crash_costs_one_video",
        "video/test_limits::test_a_crash_near_the_limit_names_it",
        "cli/test_classify::test_ctrl_c_is_exit_130_and_keeps_what_is_there",
        "cli/test_classify::test_a_stdout_that_takes_nothing",
        "video/test_hazards::test_no_process_is_left",
        "video/test_hazards::test_a_disk_that_fills_up_leaves_whole_lines",
        "video/test_hazards::test_a_read_only_folder_is_one_line",
    ],
    "R18 ten thousand files": ["test_soak::test_memory_and_descriptors_stay_flat"],
    "R19 names": [
        "video/test_opening::test_no_name_means_anything",
        "cli/test_classify::test_names_survive_into_valid_json",
        "video/test_hazards::test_long_and_strange_names",
    ],
    "R20 the same answer on every path": [
        "test_classifier::test_all_videos_have_a_record_in_order",
        "test_classifier::test_how_fast_changes_no_record",
        "test_classifier::test_stored_features_save_reading_the_text_tower",
        "results/test_run_file::test_a_run_that_goes_on_ends_as_one_that_went_straight",
        "video/test_hazards::test_files_are_as_in_their_folder",
        "test_classifier::test_half_precision_ranks_alike",
        "test_classifier::test_ties_keep_the_order_of_the_labels",
    ],
}


def test_every_hazard_has_its_tests() -> None:
    numbers = [hazard.split()[0] for hazard in HAZARDS]
    assert numbers == [f"S{i}" for i in range(1, 15)] + [f"R{i}" for i in range(1, 21)]
    for hazard, tests in HAZARDS.items():
        assert tests, hazard
        for name in tests:
            module, _, function = name.partition("::")
            tree = ast.parse((TESTS / f"{module}.py").read_text("utf-8"))
            assert function in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, name


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


# Security


@contextmanager
def listener() -> Iterator[tuple[int, list[object]]]:
    """A server on this machine → its port, and whoever connected."""
    accepted: list[object] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.05)
        done = threading.Event()

        def serve() -> None:
            while not done.is_set():
                try:
                    connection, address = server.accept()
                except TimeoutError:
                    continue
                accepted.append(address)
                connection.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1], accepted
            time.sleep(0.2)
        finally:
            done.set()
            thread.join()


def playlists(port: int, secret: Path) -> dict[str, str]:
    """What a file may hold that names others, by what it is."""
    url = f"http://127.0.0.1:{port}"
    media = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
    return {
        "hls": media.format(f"{url}/seg.ts"),
        "hls-master": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}/child.m3u8\n",
        "hls-local": media.format(secret),
        "hls-concat": media.format(f"concat:{secret}|{url}/x"),
        "hls-key": f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}/key"\n#EXTINF:1,\nclip.mp4\n',
        "concat": "ffconcat version 1.0\nfile clip.mp4\n",
        "concat-away": f"ffconcat version 1.0\nfile ../../etc/passwd\nfile {url}/a.mp4\n",
        "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        f'<Representation id="1" bandwidth="1" mimeType="video/mp4"><BaseURL>{url}/a.mp4</BaseURL></Representation>'
        "</AdaptationSet></Period></MPD>",
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
        "rtsp": f"[Reference]\nRef1=rtsp://127.0.0.1:{port}/a\n",
        "pls": f"[playlist]\nFile1={url}/a.mp4\nNumberOfEntries=1\n",
        "ism": '<?xml version="1.0"?><SmoothStreamingMedia MajorVersion="2"></SmoothStreamingMedia>',
        "imf": f"<AssetMap><Id>x</Id><Path>{url}/a.mxf</Path></AssetMap>",
        "lavfi": "testsrc=size=64x64:rate=5",
        "tty": "a cat\na dog\n\x1b[31mred\n" * 50,
        "subtitles": "WEBVTT\n\n00:00.000 --> 00:01.000\nhello\n",
        "metadata": ";FFMETADATA1\ntitle=x\n",
        "vapoursynth": f"import urllib.request; urllib.request.urlopen('{url}')\n",
        "avisynth": f'DirectShowSource("{url}/a.avi")\n',
    }


SUFFIXES = (".mp4", ".m3u8", ".mkv", ".txt", ".ffconcat", ".ts", ".avi", ".mpd", ".sdp", ".png", "")


def test_nothing_but_the_file_is_opened(tmp_path: Path) -> None:
    """Every content under every suffix, and next to what it would open."""
    write_clip(tmp_path / "clip.mp4", 8)
    secret = tmp_path / "secret.txt"
    secret.write_text("secret\n")
    with listener() as (port, accepted), Decoders(number_of, timeout=20) as decoders:
        for kind, content in playlists(port, secret).items():
            for suffix in SUFFIXES:
                path = tmp_path / f"{kind}{suffix}"
                path.write_text(content)
                decoders.submit(ClipRequest(str(path), 8))
                with pytest.raises(VideoError) as caught:
                    decoders.collect()
                assert caught.value.code in {"unsupported", "no_video"}, path.name
    assert accepted == []


def test_the_listener_hears() -> None:
    with listener() as (port, accepted), socket.create_connection(("127.0.0.1", port)):
        time.sleep(0.2)
    assert len(accepted) == 1


def test_names_are_never_protocols(tmp_path: Path, xclip: Run) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    for i in range(3):
        write_clip(folder / f"frame{i:03d}.png", 1, codec="png", container_format="image2pipe")
    write_clip(folder / "clip.mp4", 8)
    with listener() as (port, accepted):
        url = f"//127.0.0.1:{port}/a.mp4"
        names = [
            *(f"http:{url}", f"https:{url}", f"tcp:{url}", f"rtmp:{url}", f"hls+http:{url}", f"tls:{url}"),
            *("concat:clip.mp4|clip.mp4", "subfile,,start,0,end,0,,:clip.mp4", "file:clip.mp4", "async:clip.mp4"),
            *("cache:clip.mp4", "crypto:clip.mp4", "pipe:0", "fd:0", "data:video/mp4;base64,AAAA", "md5:clip.mp4"),
            *(
                "testsrc",
                "lavfi:testsrc",
                "color=red",
                "/dev/video0",
                ":0.0",
                "frame%03d.png",
                "frame*.png",
                "frame%d.png",
            ),
            *(
                f"ffrtmphttp:{url}",
                f"udp:{url}",
                f"srtp:{url}",
                f"gopher:{url}",
                f"ftp:{url}",
                "tee:a|b",
                "unix:clip.mp4",
            ),
        ]
        done = xclip("classify", *LABELS, "--", *names)
    found = records(done.stdout)
    assert [record["video"] for record in found] == names
    assert {record["status"] for record in found} == {"error"}
    assert {record["error"]["code"] for record in found} <= {"missing", "url", "not_a_file"}
    assert accepted == []


def test_a_duration_in_the_header_means_nothing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 40)
    data = bytearray(path.read_bytes())
    for box, offset in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
        at = data.index(box) + offset
        data[at : at + 4] = struct.pack(">I", 36_000_000)
    path.write_bytes(data)
    pictures, info = read_frames(path)
    assert [number_of(picture) for picture in pictures] == [2, 7, 12, 17, 22, 27, 32, 37]
    assert info.end_seconds == 1.6


def test_pipes_and_devices_are_never_read(tmp_path: Path, xclip: Run) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.mp4"))
        names = [str(tmp_path / name) for name in ("pipe.mp4", "socket.mp4")] + ["/dev/zero", "/dev/null", "/dev/tty"]
        found = records(xclip("classify", *names, *LABELS).stdout)
    assert [record["video"] for record in found] == names
    assert {record["error"]["code"] for record in found} == {"not_a_file"}


def test_a_worker_that_hangs_costs_one_video(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    with Decoders(number_of, timeout=60.0) as decoders:  # it may take its time to start
        decoders.submit(ClipRequest(str(path), 8))
        decoders.collect()
        decoders._timeout = 1.0
        (worker,) = decoders._workers
        worker._process.send_signal(signal.SIGSTOP)
        decoders.submit(ClipRequest(str(path), 8))
        decoders.submit(ClipRequest(str(path), 8))
        with pytest.raises(VideoError, match=r"no progress for 1 s \(--timeout\)") as caught:
            decoders.collect()
        assert caught.value.code == "timeout"
        assert worker._process.returncode == -signal.SIGKILL
        decoders._timeout = 60.0  # and so may its successor
        collected = decoders.collect()
    assert collected
    assert collected[1] == list(range(8))


def test_an_output_that_is_a_link_to_an_input_is_refused(xclip: Run, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    before = clip.read_bytes()
    os.symlink(clip, folder / "out.csv")
    os.link(clip, folder / "out.jsonl")
    for name in ("out.csv", "out.jsonl"):
        done = xclip("classify", clip, *LABELS, "-o", name, "--force")
        assert done.returncode == 2
        assert "is one of the inputs" in done.stderr
    assert clip.read_bytes() == before


# What is odd or broken


@contextmanager
def without_privileges() -> Iterator[None]:
    """As a user who may not read everything."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_without_permission(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 8)
    path.chmod(0)
    with without_privileges(), pytest.raises(VideoError, match="no permission to read the file") as caught:
        read_frames(path)
    assert caught.value.code == "permission"


def test_an_mp4_without_its_description(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 40)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(VideoError, match=r"without its index \(moov\).* incomplete, or still being written") as caught:
        read_frames(path)
    assert caught.value.code == "unsupported"


def test_a_segment_of_a_stream_needs_its_header(tmp_path: Path) -> None:
    flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
    path = write_clip(tmp_path / "whole.mp4", 40, options={"g": "10"}, container_options=flags)
    data = path.read_bytes()
    first = data.index(b"moof") - 4
    segment = data[first : data.index(b"moof", first + 8) - 4]
    path.write_bytes(segment)
    with pytest.raises(VideoError, match=r"a segment of a stream .* without its header \(moov\): join them") as caught:
        read_frames(path)
    assert caught.value.code == "unsupported"
    path.write_bytes(data[:first] + segment)
    assert [number_of(picture) for picture in read_frames(path, 2)[0]] == [2, 7]


def test_a_rate_that_swings_is_sampled_by_time(tmp_path: Path) -> None:
    """Five seconds at 1 frame a second, one at 60, five at 1: every second gets its frame."""
    pts = [*range(0, 5000, 1000), *(5000 + i * 1000 // 60 for i in range(60)), *range(6000, 11000, 1000)]
    path = write_clip(tmp_path / "swing.mkv", 70, pts=pts, time_base=Fraction(1, 1000), codec="ffv1")
    pictures, info = read_frames(path, 11)
    shown = [number_of(picture) for picture in pictures]
    assert shown[:5] == [0, 1, 2, 3, 4]
    centres = [info.end_seconds * (i + 0.5) / 11 * 1000 for i in range(11)]
    assert shown == [max(i for i, time in enumerate(pts) if time <= centre) for centre in centres]


@pytest.mark.parametrize("value", [-(1 << 31), (1 << 31) - 1, 0, 3])
def test_a_garbage_display_matrix_is_ignored_and_said(tmp_path: Path, value: int) -> None:
    path = write_clip(tmp_path / "garbage.mp4", 3, matrix=[value] * 9)
    pictures, info = read_frames(path)
    assert pictures[0].shape == numbered(0).shape
    assert info.warnings == ("the rotation in the file is not a multiple of 90 degrees and was ignored",)


DEEP = {
    "hevc-10.mp4": ("libx265", "yuv420p10le", {"x265-params": "log-level=none"}),
    "hevc-12.mp4": ("libx265", "yuv420p12le", {"x265-params": "log-level=none"}),
    "h264-10.mp4": ("libx264", "yuv420p10le", {}),
    "av1-10.mkv": ("libsvtav1", "yuv420p10le", {"preset": "12"}),
    "full-range.mkv": ("mjpeg", "yuvj420p", {}),
    "alpha.mkv": ("ffv1", "yuva420p", {}),
    "grey-16.mkv": ("ffv1", "gray16le", {}),
    "planes.avi": ("utvideo", "gbrp", {}),
    "planes-12.mkv": ("ffv1", "gbrp12le", {}),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_colours_become_bytes(tmp_path: Path, name: str) -> None:
    codec, pixel_format, options = DEEP[name]
    pictures, info = read_frames(write_clip(tmp_path / name, 16, codec=codec, pix_fmt=pixel_format, options=options))
    assert [number_of(picture) for picture in pictures] == [1, 3, 5, 7, 9, 11, 13, 15]
    assert pictures[0].dtype == np.uint8
    assert abs(pictures[0].astype(int) - numbered(1)).mean() < 8
    assert (info.errors, info.warnings) == (0, ())


def test_pixels_are_taken_as_square(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "wide.mkv", 3, options={"x264-params": "sar=16/11"})
    with av.open(str(path)) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(16, 11)
    assert read_frames(path)[0][0].shape == (96, 160, 3)


def test_a_wave_file_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(VideoError) as caught:
        read_frames(path)
    assert caught.value.code in {"unsupported", "no_video"}
    with pytest.raises(VideoError) as caught:
        read_frames(write_audio(tmp_path / "sound.mka", codec="libmp3lame"))
    assert caught.value.code == "no_video"


def test_the_default_stream_may_be_the_second(tmp_path: Path) -> None:
    path = write_two_streams(tmp_path / "two.mkv", widths=(320, 160), default=1)
    (picture,), _ = read_frames(path, 1)
    assert (number_of(picture), picture.shape[1]) == (102, 160)


def test_stopping_early_never_hangs(tmp_path: Path) -> None:
    """200 times the first frames alone, with several threads, of codecs that can decode frames in threads."""
    paths = [
        write_clip(tmp_path / "a.mp4", 60, options={"bf": "3"}),
        write_clip(tmp_path / "b.mp4", 60, "libx265", options={"x265-params": "log-level=none"}),
    ]
    code = """
        import sys, torch
        from fractions import Fraction
        sys.path.insert(0, sys.argv[1])
        from clips import read_pictures
        from xclip_cli.video.sampling import ClipRequest
        for i in range(200):
            info, _ = read_pictures(ClipRequest(sys.argv[2 + i % 2], 2, end=Fraction(1, 5)), threads=4)
            assert len(info.places) == 2
    """
    lines = "\n".join(
        line.strip() if not line.startswith("            ") else "    " + line.strip() for line in code.splitlines()
    )
    command = [sys.executable, "-c", lines, str(TESTS), *map(str, paths)]
    assert subprocess.run(command, check=False, timeout=300).returncode == 0


@pytest.mark.parametrize("name", ["x" * 251 + ".mp4", "\U0001f3ac é.mp4", "  .mp4", "a\\b'\"$`*?.mp4", "\x1b[31m.mp4"])
def test_long_and_strange_names(xclip: Run, clip: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / name).write_bytes(clip.read_bytes())
    done = xclip("classify", *LABELS, "--from-file", "-", "-0", stdin=os.fsencode(name))
    (record,) = records(done.stdout)
    assert (record["video"], record["status"]) == (name, "ok")


# What ends a run


def children(pid: int) -> list[int]:
    """Processes that a process started."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def alive(pid: int) -> bool:
    """Whether there is such a process, even one that only waits to be fetched."""
    return Path(f"/proc/{pid}").exists()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("none", 0),
        ("interrupt", 130),
        ("interrupt twice", 130),
        ("terminate", 143),
        ("kill", -signal.SIGKILL),
        ("hang up", -signal.SIGHUP),
    ],
)
def test_no_process_is_left(clip: Path, tmp_path: Path, end: str, code: int) -> None:
    count = 60 if end == "none" else 6000  # so many that the signal comes long before the last
    names = [str(tmp_path / f"{i}.mp4") for i in range(count)]
    for name in names:
        os.link(clip, name)
    out = tmp_path / "out.jsonl"
    command = [PROGRAM, "classify", *names, *LABELS, "--workers", "4", "-o", out]
    said = tmp_path / "stderr"  # a file: workers that live on would keep a pipe open
    with said.open("w") as stderr:
        process = subprocess.Popen(command, stderr=stderr)
    workers: set[int] = set()
    while process.poll() is None and (len(workers) < 4 or not out.exists() or out.stat().st_size < 5000):
        workers |= set(children(process.pid))
        time.sleep(0.01)
    if end == "interrupt twice":  # a worker that stands still keeps the run from finishing what is in flight
        for pid in children(process.pid):
            os.kill(pid, signal.SIGSTOP)
        written = -1
        while out.stat().st_size != written:  # what they had decoded is classified, and they are given more
            written = out.stat().st_size
            time.sleep(1)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
    sent = {"terminate": signal.SIGTERM, "kill": signal.SIGKILL, "hang up": signal.SIGHUP}
    if end != "none":
        process.send_signal(sent.get(end, signal.SIGINT))
    ended = process.wait(timeout=100)
    errors = said.read_text()
    assert ended == code, errors
    assert "Traceback" not in errors
    assert len(workers) >= 4
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not [pid for pid in workers if alive(pid)]
    lines = out.read_bytes().split(b"\n")
    found = [json.loads(line) for line in lines[:-1]][1:]
    assert [record["video"] for record in found] == names[: len(found)]
    assert len(found) == count if end == "none" else 0 < len(found) < count


def test_a_disk_that_fills_up_leaves_whole_lines(clip: Path, tmp_path: Path) -> None:
    names = [str(tmp_path / f"{i}.mp4") for i in range(40)]
    for name in names:
        os.link(clip, name)
    # The limit on the size of files stands for the end of the disk; it comes when the memory for pictures is there.
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "from xclip_cli.cli import app; from xclip_cli.output import files; from xclip_cli.results import run_file;"
        "fill = lambda function: lambda *a, **k: "
        "(resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000)), function(*a, **k))[1];"
        "run_file.RunFile.begin = fill(run_file.RunFile.begin); files.write = fill(files.write); app.main()"
    )
    for suffix in ("jsonl", "csv"):
        out = tmp_path / f"out.{suffix}"
        if suffix == "csv":
            out.write_text("earlier\n")
        command = [sys.executable, "-c", code, "classify", *names, *LABELS, "--no-cache", "-k", "0", "-o", str(out)]
        done = subprocess.run(
            [*command, "-q", *["--force"] * (suffix == "csv")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 1, done.stderr
        assert re.fullmatch(rf"error: cannot write \S*out\.{suffix}: File too large\n", done.stderr)
    assert (tmp_path / "out.csv").read_text() == "earlier\n"
    assert sorted(path.suffix for path in tmp_path.iterdir() if path.suffix != ".mp4") == [".csv", ".jsonl"]
    out = tmp_path / "out.jsonl"
    whole = out.read_bytes().rpartition(b"\n")[0].splitlines()
    assert 2 < len(whole) < 40
    assert [json.loads(line)["video"] for line in whole[1:]] == names[: len(whole) - 1]
    done = subprocess.run([PROGRAM, "classify", *names, *LABELS, "-k", "0", "-o", out, "--resume", "-q"], check=False)
    assert done.returncode == 0
    assert [record["video"] for record in records(out.read_text())[1:]] == names


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv"])
def test_a_read_only_folder_is_one_line(xclip: Run, clip: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):  # root may write everywhere but here
        folder = Path("/sys")
    done = xclip("classify", clip, *LABELS, "-q", "-o", folder / name)
    assert done.returncode == 1
    assert re.fullmatch(
        rf"error: cannot write {folder / name}: (Permission denied|Read-only file system)\n", done.stderr
    )


def test_files_are_as_in_their_folder(xclip: Run, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    names = {"a.mp4": "libx264", "b.webm": "libvpx", "c.avi": "mpeg4"}
    paths = [write_clip(folder / name, 10 + i, codec=codec) for i, (name, codec) in enumerate(names.items())]
    common = ["classify", *LABELS, "--dtype", "float32"]
    together = records(xclip(*common, folder).stdout)
    assert_all_same(records(xclip(*common, *paths[::-1]).stdout), together[::-1])
    assert_all_same(records(xclip(*common, paths[1]).stdout), together[1:2])
