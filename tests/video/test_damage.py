"""Damage: what is skipped is counted and said; a clip of which too much is lost is refused."""

from __future__ import annotations

import gc
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import Pictures, number_of, numbered, read_frames, write_clip

from xclip_cli.errors import VideoError
from xclip_cli.video.clips import read_clips
from xclip_cli.video.sampling import ClipInfo, ClipRequest

COUNT = 40


def damaged(path: Path, *stretches: tuple[int, int]) -> Path:
    """A clip of keyframes alone whose packets in [first, last) of each stretch hold nothing that can be decoded."""
    write_clip(path, COUNT, codec="prores_ks", pix_fmt="yuv422p10le")
    with av.open(str(path)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    assert len(places) == COUNT
    for first, last in stretches:
        for at, size in places[first:last]:
            data[at : at + size] = bytes(size)
    path.write_bytes(data)
    return path


def read(path: Path, count: int = 8) -> tuple[list[int], ClipInfo]:
    """The numbers that a clip's frames show."""
    frames, info = read_frames(path, count)
    return [number_of(frame) for frame in frames], info


def test_damage_between_the_frames_wanted_is_said(tmp_path: Path) -> None:
    numbers, info = read(damaged(tmp_path / "clip.mov", (3, 6)))
    assert numbers == [2, 7, 12, 17, 22, 27, 32, 37]
    assert (info.errors, info.warnings) == (3, ("the video is damaged: 3 packets or frames were skipped",))


def test_the_frame_before_stands_for_what_is_lost(tmp_path: Path) -> None:
    numbers, info = read(damaged(tmp_path / "clip.mov", (10, 15), (20, 30)))
    assert numbers == [2, 7, 9, 17, 19, 19, 32, 37]
    assert info.errors == 15
    assert info.warnings == (
        "the video is damaged: 15 packets or frames were skipped",
        "3 of 8 frames could not be decoded: the preceding frames were used instead",
    )


def test_half_of_the_frames_may_be_lost_and_no_more(tmp_path: Path) -> None:
    assert read(damaged(tmp_path / "half.mov", (20, 40)))[0] == [2, 7, 12, 17, 19, 19, 19, 19]
    with pytest.raises(VideoError, match="too damaged: 25 packets .* 5 of the 8 frames needed") as caught:
        read(damaged(tmp_path / "more.mov", (15, 40)))
    assert caught.value.code == "damaged"


def test_a_lost_start_counts(tmp_path: Path) -> None:
    numbers, info = read(damaged(tmp_path / "start.mov", (0, 10)), 6)
    assert numbers[0] == 12
    assert "the first 0.400 s could not be decoded: time 0 is the first frame after them" in info.warnings
    with pytest.raises(VideoError, match=r"the first 1\.000 s are lost"):
        read(damaged(tmp_path / "more.mov", (0, 25)))


def test_decoding_ends_after_many_bad_packets_in_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xclip_cli.video.clips.MOST_SKIPPED", 5)
    path = damaged(tmp_path / "clip.mov", (22, 26), (28, 34))
    numbers, info = read(path)
    assert numbers == [2, 7, 12, 17, 21, 27, 27, 27]  # what comes after five in a row is not looked at
    assert info.errors == 9


def test_of_a_video_that_cannot_be_decoded_all_is_lost(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="none of 40 prores packets could be decoded") as caught:
        read(damaged(tmp_path / "clip.mov", (0, COUNT)))
    assert caught.value.code == "damaged"


def windows(path: Path) -> ClipRequest:
    """Four windows of ten frames, of which every other one is wanted."""
    return ClipRequest(str(path), 5, length=Fraction("0.4"), stride=Fraction("0.4"))


def test_each_window_says_what_it_lost(tmp_path: Path) -> None:
    pictures = Pictures()
    path = damaged(tmp_path / "clip.mov", (13, 16))
    clips = list(read_clips(windows(path), pictures))
    numbers = [number_of(picture) for picture in pictures]
    assert [[numbers[place] for place in clip.places] for clip in clips] == [
        [1, 3, 5, 7, 9],
        [11, 12, 12, 17, 19],
        [21, 23, 25, 27, 29],
        [31, 33, 35, 37, 39],
    ]
    said = "the video is damaged: 3 packets or frames were skipped"
    lost = "2 of 5 frames could not be decoded: the preceding frames were used instead"
    assert [clip.warnings for clip in clips] == [(), (said, lost), (), ()]
    assert [clip.errors for clip in clips] == [0, 3, 0, 0]


def test_a_window_that_is_lost_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xclip_cli.video.clips.MOST_SKIPPED", 5)  # a clip's; windows go on behind any number
    pictures = Pictures()
    first, lost, *others = read_clips(windows(damaged(tmp_path / "clip.mov", (12, 19))), pictures)
    assert (first.lost, first.warnings) == (None, ())
    assert (lost.start_seconds, lost.end_seconds, lost.following, lost.errors) == (0.4, 0.8, 2, 7)
    assert lost.lost is not None
    assert lost.lost.startswith("too damaged: 7 packets or frames were skipped, 3 of the 5 frames needed")
    numbers = [number_of(picture) for picture in pictures]
    assert [[numbers[place] for place in clip.places] for clip in others] == [
        [21, 23, 25, 27, 29],
        [31, 33, 35, 37, 39],
    ]
    assert [(clip.lost, clip.warnings, clip.errors) for clip in others] == [(None, (), 0)] * 2


def test_frames_are_freed_while_a_long_video_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And so are the threads that convert them, which take address space."""
    monkeypatch.setattr("xclip_cli.video.pictures.MOST_GARBAGE", 1 << 20)
    path = write_clip(tmp_path / "clip.mp4", 120)
    alive: list[int] = []

    class Counting(Pictures):
        taken = 0

        def put(self, picture: np.ndarray) -> None:
            self.taken += 1
            if self.taken % 40 == 0:
                alive.append(sum(type(each) is av.VideoFrame for each in gc.get_objects()))

    gc.collect()
    gc.disable()
    try:
        request = ClipRequest(str(path), 10, length=Fraction("0.4"), stride=Fraction("0.4"))
        assert len(list(read_clips(request, Counting()))) == 12
    finally:
        gc.enable()
    assert len(alive) == 3
    assert max(alive) < 40


def test_a_last_packet_without_a_picture_is_no_damage(tmp_path: Path) -> None:
    """As in some GIFs, which end in a block of no picture."""
    path = write_clip(tmp_path / "clip.gif", 10, codec="gif", rate=10)
    data = path.read_bytes()
    assert data[-1:] == b";"
    control = b"\x21\xf9\x04\x04\x0a\x00\x00\x00"
    path.write_bytes(data[:-1] + control + b";")
    _, info = read(path)
    assert (info.errors, info.warnings) == (0, ())


def test_a_whole_clip_has_no_warnings(tmp_path: Path) -> None:
    info = read(damaged(tmp_path / "clip.mov"))[1]
    assert (info.errors, info.warnings) == (0, ())


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
    numbers, info = read(path)
    assert 0 < numbers[-1] < 99
    assert info.errors > 0
