from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import write_clip
from conftest import Run
from PIL import Image

from xclip_cli.output.images import FrameFolder, frame_name, png

NAMES = ["a/clip.mp4", "b/clip.mp4", "caf\udce9.mp4", "\x1b[2J.mp4", "x" * 300, "映画" * 100, "", ".."]


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (224, 224)])
@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_are_read_by_others(shape: tuple[int, int], channels: int) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*shape, channels), np.uint8)
    for level in (-1, 9):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(picture, level)))), picture)


def test_every_frame_has_a_name_of_its_own(tmp_path: Path) -> None:
    crops = np.zeros((3, 3, 4, 4), np.uint8)
    folder = FrameFolder(tmp_path / "new" / "frames")
    for video in NAMES:
        for seconds in (0.0, 0.000001, 3599.96, 359_999.0):
            folder.save(video, seconds, crops)
            folder.save(video, seconds, crops[:1])
    files = sorted(path.name for path in (tmp_path / "new" / "frames").iterdir())
    assert len(files) == len(NAMES) * 4 * 4
    assert all(name.isprintable() and len(name.encode()) < 255 for name in files)
    times = [frame_name("a.mp4", seconds) for seconds in (0.5, 9.5, 10.5, 3600.5)]
    assert times == sorted(times)


@pytest.mark.parametrize("plant", [os.symlink, os.link])
def test_frames_are_not_written_through_links(tmp_path: Path, plant: Any) -> None:
    """The names of pictures can be known before."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    plant(precious, tmp_path / frame_name("a.mp4", 0.5))
    FrameFolder(tmp_path).save("a.mp4", 0.5, np.zeros((1, 3, 4, 4), np.uint8))
    assert precious.read_text() == "precious"
    with Image.open(tmp_path / frame_name("a.mp4", 0.5)) as picture:
        assert picture.size == (4, 4)


def test_the_frames_that_were_seen_are_saved(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / clip.name, 8)
    common = ["--label", "a cat", "--label", "a dog", "--model", checkpoint, "--save-frames", "frames"]
    assert xclip("classify", clip, other, *common).returncode == 0
    files = sorted((tmp_path / "cwd" / "frames").iterdir())
    assert len(files) == 16
    pictures = [np.asarray(Image.open(path)) for path in files if path.name in {
        frame_name(str(clip), float(number) / 25) for number in range(40)
    }]  # fmt: skip
    assert len(pictures) == 8
    assert all(picture.shape == (32, 32, 3) for picture in pictures)
    assert xclip("timeline", clip, *common, "--window", "0.8").returncode == 0
    assert len(list((tmp_path / "cwd" / "frames").iterdir())) > 16


def test_frames_that_cannot_be_written_are_one_line(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "file").touch()
    common = ["classify", clip, "--label", "a cat", "--label", "a dog", "--model", checkpoint, "--save-frames"]
    done = xclip(*common, "file/frames")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write frames to file/frames: Not a directory: give another")
    assert len(done.stderr.splitlines()) == 1
    done = xclip(*common, "/proc/self")
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot write frames to /proc/self: ")
    assert len(done.stderr.splitlines()) == 1
