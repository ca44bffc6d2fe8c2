"""Pictures come out upright, in every pixel format and size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from clips import number_of, numbered, paper_indices, read_frames, write_clip


def numbers(path: Path, count: int = 8) -> list[int]:
    """What the frames of a clip show."""
    return [number_of(picture) for picture in read_frames(path, count)[0]]


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
    np.testing.assert_array_equal(read_frames(path, 1)[0][0], turned(read_frames(plain, 1)[0][0], matrix))


def test_a_crooked_display_matrix_is_ignored_and_said(tmp_path: Path) -> None:
    matrix = [46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30]
    path = write_clip(tmp_path / "crooked.mp4", 3, matrix=matrix)
    pictures, info = read_frames(path)
    assert pictures[0].shape == numbered(0).shape
    assert info.warnings == ("the rotation in the file is not a multiple of 90 degrees and was ignored",)


@pytest.mark.parametrize("pixel_format", ["yuv444p", "gray", "yuv420p10le", "yuv422p"])
def test_pixel_formats(tmp_path: Path, pixel_format: str) -> None:
    path = write_clip(tmp_path / "clip.mkv", 10, codec="ffv1", pix_fmt=pixel_format)
    assert numbers(path) == paper_indices(10, 8)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (2, 4096), (4096, 2)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = np.full((size[1], size[0], 3), 90, np.uint8)
    path = write_clip(tmp_path / "odd.mkv", codec="ffv1", pix_fmt="yuv444p", pictures=[picture] * 2)
    assert read_frames(path, 2)[0][0].shape == picture.shape
