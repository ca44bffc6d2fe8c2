"""Stretches of videos as files: what they show, and what they leave alone."""

from __future__ import annotations

import os
from pathlib import Path

import av
import pytest
from clips import number_of, write_clip

from xclip_cli.errors import VideoError
from xclip_cli.video.cutting import cut, suffix_for
from xclip_cli.video.limits import Limits


def numbers(path: Path) -> list[int]:
    with av.open(str(path)) as container:
        return [number_of(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"g": "10", "bf": "0"}),
        ("b.mp4", "libx264", {"g": "10", "bf": "3"}),
        ("c.mkv", "libx264", {"g": "10"}),
        ("d.webm", "libvpx", {"g": "10"}),
        ("e.avi", "mpeg4", {"g": "10"}),
        ("f.ts", "mpeg2video", {"g": "10"}),
    ],
)
def test_a_stretch_from_the_keyframe_before(tmp_path: Path, name: str, codec: str, options: dict[str, str]) -> None:
    video = write_clip(tmp_path / name, 100, codec, options=options)
    target = tmp_path / f"cut{suffix_for(name)}"
    cut(str(video), 1.0, 2.0, target)
    found = numbers(target)
    assert set(range(25, 50)) <= set(found)
    assert 14 <= found[0] <= 25
    assert found[-1] <= 53
    with av.open(str(target)) as container:
        times = [packet.pts * packet.time_base for packet in container.demux(video=0) if packet.pts is not None]
        assert 0 <= min(times) < 0.25
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    video, target = write_clip(tmp_path / "a.mp4", 50), tmp_path / "there.mp4"
    target.write_bytes(b"mine")
    with pytest.raises(FileExistsError):
        cut(str(video), 0, 1, target)
    assert target.read_bytes() == b"mine"


def test_what_a_killed_run_left_is_not_in_the_way(tmp_path: Path) -> None:
    """Process numbers come back, above all in containers, where every run may have the same."""
    video, target = write_clip(tmp_path / "a.mp4", 50), tmp_path / "out.mp4"
    (tmp_path / f".xclip-{os.getpid()}.mp4").write_bytes(b"half a clip")
    cut(str(video), 0, 1, target)
    assert len(numbers(target)) >= 25


def test_what_cannot_be_cut_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "no.mp4").write_bytes(b"no video at all")
    video = write_clip(tmp_path / "a.mp4", 50)
    for path, limits, code in (
        (tmp_path / "no.mp4", Limits(), "unsupported"),
        (tmp_path / "none.mp4", Limits(), "missing"),
        (video, Limits(pixels=10), "limit"),
    ):
        with pytest.raises(VideoError) as raised:
            cut(str(path), 0, 1, tmp_path / "out.mp4", limits)
        assert raised.value.code == code
    with pytest.raises(VideoError, match="took longer than"):
        cut(str(video), 0, 1, tmp_path / "out.mp4", timeout=0.001)
    assert sorted(os.listdir(tmp_path)) == ["a.mp4", "no.mp4"]
