"""Requests → clips: windows, clips and where they lie in a video."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import ENCODINGS, Pictures, number_of, paper_indices, read_frames, read_pictures, write_audio, write_clip

from xclip_cli.errors import VideoError
from xclip_cli.video.clips import read_clips
from xclip_cli.video.sampling import ClipInfo, ClipRequest


@pytest.mark.parametrize(("start", "end", "expected"), [(1, 3, [31, 43, 56, 68]), ("0.5", None, None)])
def test_windows(tmp_path: Path, start: Any, end: Any, expected: list[int] | None) -> None:
    path = write_clip(tmp_path / "clip.mp4", 100, rate=25)
    frames, info = read_frames(path, 4, start, end)
    first, last = float(start), float(end or 4)
    centres = [first + (last - first) * (2 * i + 1) / 8 for i in range(4)]
    assert [number_of(f) for f in frames] == (expected or [int(c * 25) for c in centres])
    assert (info.start_seconds, info.end_seconds) == (first, last)


def test_a_window_past_the_end_is_cut(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4", 50)
    assert read_frames(path, 8, 1, 99)[1].end_seconds == 2.0
    with pytest.raises(VideoError, match=r"the part to analyse starts at 2 s, but the video ends at 2 s") as caught:
        read_frames(path, 8, 2)
    assert caught.value.code == "window"


@pytest.mark.parametrize("frames", [1, 2, 7])
def test_short_videos_repeat_frames_and_say_so(tmp_path: Path, frames: int) -> None:
    path = write_clip(tmp_path / "short.mp4", frames)
    pictures, info = read_frames(path)
    assert [number_of(picture) for picture in pictures] == paper_indices(frames, 8)
    assert info.decoded == len(set(paper_indices(frames, 8)))


def test_a_still_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "still.png", 1, codec="png", container_format="image2pipe")
    pictures, info = read_frames(path)
    assert [number_of(picture) for picture in pictures] == [0] * 8
    assert info.decoded == 1


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
        expected, alone = read_frames(path, 8, start, start + Fraction("1.3"))
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
        expected, alone = read_frames(path, 8, i * Fraction(1, 2), i * Fraction(1, 2) + 1)
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
        read_frames(path)
    with pytest.raises(VideoError) as windows:
        read_windows(path, "1", "1")
    assert (windows.value.code, str(windows.value)) == (alone.value.code, str(alone.value))
