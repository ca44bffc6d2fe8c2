"""Pictures that scenes are made of."""

from __future__ import annotations

import zipfile
from pathlib import Path

import av
import numpy as np
import pytest

from xclip_cli.bundled import pictures


def unpacked(picture: pictures.Picture) -> np.ndarray:
    """[S, S, 3] of bytes."""
    return picture.view(np.uint8).reshape(*picture.shape, 4)[..., :3]


@pytest.mark.parametrize("kind", [draw for draw, _, _ in pictures.KINDS])
def test_every_kind_is_drawn_by_its_seed(kind: object) -> None:
    assert callable(kind)
    one, same, other = (kind(np.random.default_rng(seed), 64) for seed in (1, 1, 2))
    assert one.shape == (64, 64, 3)
    assert np.isfinite(one).all()
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_shares_of_the_kinds() -> None:
    assert sum(share for _, share, _ in pictures.KINDS) == pytest.approx(1)


def test_a_picture_goes_on_beyond_its_edges() -> None:
    for seed in range(20):
        picture = unpacked(pictures.make_picture(np.random.default_rng(seed), 64)).astype(int)
        assert picture.shape == (64, 64, 3)
        inside = np.abs(np.diff(picture, axis=0)).mean((1, 2))
        assert np.abs(picture[0] - picture[-1]).mean() <= inside.max() + 1


@pytest.mark.parametrize("shape", [(90, 140, 3), (300, 200, 3)])
def test_a_photograph_is_cropped_and_mirrored(shape: tuple[int, int, int]) -> None:
    photograph = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    one, same = (unpacked(pictures.photograph_picture(np.random.default_rng(1), photograph, 64)) for _ in range(2))
    assert one.shape == (64, 64, 3)
    assert np.array_equal(one, same)
    assert np.array_equal(one, one[::-1])
    assert np.array_equal(one, one[:, ::-1])


def test_a_grey_photograph_gets_colors() -> None:
    grey = np.linspace(0, 255, 100).astype(np.uint8)[:, None, None].repeat(100, 1).repeat(3, 2)
    colored = unpacked(pictures.photograph_picture(np.random.default_rng(0), grey, 64))
    assert np.ptp(colored.astype(int), axis=-1).mean() > 3


def test_photographs_are_read_from_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image = np.full((16, 24, 3), (200, 30, 60), np.uint8)
    with av.open(str(tmp_path / "red.png"), "w", format="image2") as container:
        stream = container.add_stream("png", rate=1)
        stream.height, stream.width, stream.pix_fmt = 16, 24, "rgb24"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
        container.mux(stream.encode())
    with zipfile.ZipFile(tmp_path / "some_pictures-1.0-py3-none-any.whl", "w") as wheel:
        wheel.write(tmp_path / "red.png", "some/place/red.png")
    monkeypatch.setattr(pictures, "PHOTOGRAPHS", {"Some-pictures==1.0": {"some/place": "red.png"}})
    pictures.photographs.cache_clear()
    (read,) = pictures.photographs(tmp_path)
    assert np.array_equal(read, image)
    monkeypatch.setattr(pictures, "PHOTOGRAPHS", {"Some-pictures==1.1": {"some/place": "red.png"}})
    pictures.photographs.cache_clear()
    with pytest.raises(
        FileNotFoundError, match=r"no wheel of Some-pictures==1\.1.*python -m xclip_cli\.bundled\.pictures"
    ):
        pictures.photographs(tmp_path)


@pytest.mark.slow
def test_all_photographs_are_where_they_are_said_to_be(tmp_path: Path) -> None:
    pictures.download(tmp_path)
    found = pictures.photographs(tmp_path)
    assert len(found) == sum(
        len(names.split()) for folders in pictures.PHOTOGRAPHS.values() for names in folders.values()
    )
    assert all(min(photograph.shape[:2]) >= 250 for photograph in found)
