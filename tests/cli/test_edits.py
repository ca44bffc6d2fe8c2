"""Timelines as edit lists and as clips, as a user makes them."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import av
import pycmx
import pytest
from clips import write_clip
from conftest import Run

otio = pytest.importorskip("opentimelineio")
ARGUMENTS = ["--label", "a cat", "--label", "a dog", "--dtype", "float32", "--window", "0.4"]


@pytest.fixture(scope="module")
def ntsc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("ntsc") / "ntsc.mp4", 90, rate=Fraction(30000, 1001))


def segments_of(text: str) -> list[dict[str, float]]:
    return json.loads(text.splitlines()[-1])["segments"]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.avi"])
def test_records_say_the_rate(xclip: Run, checkpoint: Path, tmp_path: Path, name: str) -> None:
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    path = write_clip(tmp_path / name, 40, codec, rate=Fraction(30000, 1001))
    *windows, last = map(json.loads, xclip("timeline", path, *ARGUMENTS, "-m", checkpoint).stdout.splitlines())
    assert {window["frames"]["rate"] for window in windows} == {last["rate"]} == {"30000/1001"}


def test_edit_lists(xclip: Run, checkpoint: Path, ntsc: Path, tmp_path: Path) -> None:
    command = ["timeline", ntsc, *ARGUMENTS, "-m", checkpoint]
    segments = segments_of(xclip(*command).stdout)
    for name in ("a.edl", "a.otio"):
        assert xclip(*command, "-o", name).returncode == 0
    frames = [(round(s["start_seconds"] * 30000 / 1001), round(s["end_seconds"] * 30000 / 1001)) for s in segments]
    with (tmp_path / "cwd" / "a.edl").open() as file:
        text = file.read()
        file.seek(0)
        events = list(pycmx.parse_cmx3600(file).events)
    assert "FCM: DROP FRAME" in text
    assert [event.edits[0].source_in for event in events] == [
        otio.opentime.to_timecode(otio.opentime.RationalTime(start, 30000 / 1001), 30000 / 1001, drop_frame=True)
        for start, _ in frames
    ]
    clips = list(otio.adapters.read_from_file(str(tmp_path / "cwd" / "a.otio")).find_clips())
    assert [clip.source_range.start_time.value for clip in clips] == [start for start, _ in frames]
    assert clips[0].media_reference.target_url == ntsc.as_uri()
    done = xclip(*command, "missing.mp4", "--output-dir", "edits", "--format", "edl")
    assert done.returncode == 3, done.stderr
    assert [path.name for path in (tmp_path / "cwd" / "edits").rglob("*.edl")] == ["ntsc.mp4.edl"]


def test_segments_of_an_index_have_the_rate_too(xclip: Run, checkpoint: Path, ntsc: Path, tmp_path: Path) -> None:
    model = ["-m", checkpoint, "--dtype", "float32"]
    assert xclip("embed", ntsc, *model, "--window", "0.4", "-o", "i.index").returncode == 0
    labels = ["--label", "a cat", "--label", "a dog"]
    assert xclip("timeline", "i.index", *labels, "--dtype", "float32", "-o", "stored.edl").returncode == 0
    assert xclip("timeline", ntsc, *labels, *model, "--window", "0.4", "-o", "file.edl").returncode == 0
    assert (tmp_path / "cwd" / "stored.edl").read_text() == (tmp_path / "cwd" / "file.edl").read_text()


def test_segments_are_saved_as_files(xclip: Run, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    path = write_clip(tmp_path / "cwd" / "a.mp4", 75, options={"g": "1"})  # every frame is a keyframe
    command = ["timeline", "a.mp4", *ARGUMENTS, "-m", checkpoint, "--save-clips", "cut"]
    done = xclip(*command)
    assert (done.returncode, done.stderr) == (0, "")
    segments = segments_of(done.stdout)
    saved = sorted((tmp_path / "cwd" / "cut").iterdir())
    assert len(saved) == len(segments) > 0
    for clip, segment in zip(saved, segments, strict=True):
        assert clip.stem.endswith(f"-{segment['label'].replace(' ', '_')}")
        with av.open(str(clip)) as container:
            frames = sum(1 for _ in container.decode(video=0))
        assert frames / 25 == pytest.approx(segment["end_seconds"] - segment["start_seconds"], abs=0.09)
    before = {clip: clip.read_bytes() for clip in saved}
    done = xclip(*command)
    assert done.stderr.count("already exists and was not overwritten") == len(saved)
    assert {clip: clip.read_bytes() for clip in saved} == before
    done = xclip("timeline", "a.mp4", *ARGUMENTS, "-m", checkpoint, "--save-clips", path)
    assert done.returncode == 2


def test_names_and_labels_of_many_bytes(xclip: Run, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    video = write_clip(tmp_path / "cwd" / f"{'𠀀' * 60}.mp4", 10)
    labels = ["--label", "𠀁" * 18, "--label", "𠀁" * 17]
    done = xclip("timeline", video.name, *labels, "-m", checkpoint, "--save-clips", "cut")
    assert (done.returncode, done.stderr) == (0, "")
    (saved,) = (tmp_path / "cwd" / "cut").iterdir()
    assert saved.stem.endswith(f"-{'𠀁' * 10}")


@pytest.mark.parametrize("video", ["-", "/dev/stdin"])
def test_stdin_has_no_clips_to_cut(xclip: Run, checkpoint: Path, ntsc: Path, tmp_path: Path, video: str) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "-").write_bytes(ntsc.read_bytes())  # which is another video
    for command in (["timeline", video, *ARGUMENTS], ["search", "a cat", video, "--window", "0.4"]):
        done = xclip(*command, "-m", checkpoint, "--save-clips", "cut", stdin=ntsc.read_bytes())
        said = done.stderr
        assert (done.returncode, "a video on stdin is none: save it to a file first" in said) == (2, True), done.stderr
    assert not (tmp_path / "cwd" / "cut").exists()


def test_a_video_without_timecode_ends_no_run(xclip: Run, checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "cwd" / "v").mkdir(parents=True)
    for name, rate in (("fast.mp4", 120), ("usual.mp4", 25)):
        write_clip(tmp_path / "cwd" / "v" / name, 60, rate=rate)
    command = ["timeline", "v", *ARGUMENTS, "-m", checkpoint, "--format", "edl"]
    done = xclip(*command, "--output-dir", "out")
    assert done.returncode == 0, done.stderr
    assert "no file for v/fast.mp4: an EDL takes fewer than 100 frames per second" in done.stderr
    assert [path.name for path in (tmp_path / "cwd" / "out").glob("*.edl")] == ["usual.mp4.edl"]
    done = xclip(*command[:1], "v/fast.mp4", *command[2:])
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: an EDL takes fewer than 100" in done.stderr
