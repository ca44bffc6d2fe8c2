"""Procedural clips with their labels: training data, test videos and the demo's samples.

Everything is drawn from a seeded `numpy.random.Generator`: same seed, same clip. Lengths are in units of the frame's
short side, the origin is the frame's centre, time runs from 0 to 1 over the clip: the same clip can be drawn at any
size and with any number of frames. A clip is labelled by what its *sampled* frames show, the ones that X-CLIP gets: a
flash whose period equals the sampling step is no flash to eight frames, so such a draw is thrown away and drawn again.

Three families of labels: `PICTURE_STATES`, `CAMERA`, `MOVING_SHAPES`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from av import VideoStream

Item = TypeVar("Item")
Frames = NDArray[np.uint8]  # [T, H, W, 3], RGB
Picture = NDArray[np.uint32]  # [S, S], four bytes a pixel (R, G, B, unused); S is a power of two, opposite edges join
Floats = NDArray[np.float32]
Rng = np.random.Generator

NUM_FRAMES = 8
PICTURE_SPAN = 2.5  # a picture's side in short sides of the frame; beyond it the picture repeats

PICTURE_STATES = (
    "a black screen",
    "a white screen",
    "color bars",
    "television static",
    "a frozen picture",
    "flashing lights",
    "a fade in from black",
    "a fade out to black",
    "a cut to another scene",
    "a blurry picture",
    "a black-and-white picture",
    "blocky compression damage",
    "a letterboxed picture",
    "a normal picture",
)
CAMERA = ("a static shot", "a moving camera", "a shaky camera")

COLORS = {
    "red": (215, 30, 35),
    "orange": (250, 135, 15),
    "yellow": (245, 230, 40),
    "green": (35, 160, 50),
    "blue": (35, 70, 220),
    "purple": (135, 40, 160),
    "white": (248, 248, 248),
    "black": (10, 10, 10),
}
SHAPES = ("circle", "square", "triangle", "cross")
MOTIONS = (
    "moving left",
    "moving right",
    "moving up",
    "moving down",
    "standing still",
    "growing",
    "shrinking",
    "blinking",
)
# label → (color, shape, motion)
MOVING_SHAPES = {f"a {c} {s} {m}": (c, s, m) for c in COLORS for s in SHAPES for m in MOTIONS}
# One combination in six, spread so that every pair of color, shape and motion also occurs in training.
HELD_OUT_SHAPES = frozenset(
    f"a {color} {shape} {motion}"
    for c, color in enumerate(COLORS)
    for s, shape in enumerate(SHAPES)
    for m, motion in enumerate(MOTIONS)
    if (c + s + 5 * m) % 6 == 0
)


@dataclass(frozen=True)
class Clip:
    """A clip and what it shows."""

    frames: Frames
    labels: tuple[str, ...]  # what the sampled frames show, at most one label a family; the first is the one asked for
    # Of the eight sampled frames: how far the view moved from one to another, 0: not at all, 1: half a short side or
    # more, [8, 8]; and x, y, radius and visibility of the shape of MOVING_SHAPES, zeros where there is none, [8, 4].
    distances: Floats
    track: Floats


def pick(rng: Rng, items: Sequence[Item]) -> Item:
    """One of `items`, each as likely."""
    return items[int(rng.integers(len(items)))]


# ---- time ------------------------------------------------------------------------------------------------------------


def frame_times(count: int) -> Floats:
    """The middles of `count` equal stretches of the clip's time, [count] in 0..1."""
    return ((np.arange(count) + 0.5) / count).astype(np.float32)


def sampled_frames(count: int) -> NDArray[np.intp]:
    """Which of a video's `count` frames X-CLIP gets: the one shown at the centre of each of eight equal segments."""
    return np.array([int(Fraction(2 * i + 1, 2 * NUM_FRAMES) * count) for i in range(NUM_FRAMES)])


# ---- pictures: what scenes are made of -------------------------------------------------------------------------------


def pack(rgb: NDArray[np.floating] | Frames) -> Picture:
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


def make_picture(rng: Rng, size: int = 256) -> Picture:
    """A picture without edges whose statistics resemble photographs': overlapping leaves of all sizes ("dead leaves"),
    coloured 1/f noise, gradients, stripes and writing."""
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
    return pack(picture)


def write_lines(rng: Rng, picture: Floats) -> None:
    """Draws a few lines of made-up writing onto `picture` [S, S, 3]."""
    size = len(picture)
    color = random_color(rng, 0.5)
    for _ in range(rng.integers(1, 6)):
        height = int(size * rng.uniform(0.02, 0.06))
        letters = rng.random((5, rng.integers(20, 80))) < 0.5
        letters[:, ::4] = False
        stamp = letters.repeat(max(1, height // 5), 0).repeat(max(1, height // 5), 1)[:, :size]
        row, column = rng.integers(size - stamp.shape[0]), rng.integers(size - stamp.shape[1] + 1)
        picture[row : row + stamp.shape[0], column : column + stamp.shape[1]][stamp] = color


# ---- camera ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CameraPath:
    """Where the camera looks in each frame, all [T]."""

    x: Floats
    y: Floats
    zoom: Floats  # 1: a short side of the frame is 1 long
    roll: Floats  # radians


def view_distances(path: CameraPath) -> Floats:
    """How far apart the views of two sampled frames are, [8, 8]: 0 the same, 1 half a short side or more."""
    place = np.stack([path.x, path.y, np.log(path.zoom), path.roll], -1)[sampled_frames(len(path.x))]
    between = np.linalg.norm(place[:, None] - place[None, :], axis=-1)
    return np.asarray(np.minimum(2 * between, 1.0), np.float32)


def smooth_ramp(rng: Rng, times: Floats) -> Floats:
    """From 0 to 1 over the clip at a nearly constant rate."""
    bend = rng.uniform(-0.3, 0.3)
    return times + bend * times * (1 - times)


def shake(rng: Rng, times: Floats, amplitude: float) -> Floats:
    """Irregular jitter of about `amplitude` that the sampled frames show: it differs from any smooth move, [T]."""
    sampled = sampled_frames(len(times))
    while True:
        knots = rng.standard_normal(rng.integers(20, 48)) * amplitude
        jitter = np.interp(times * (len(knots) - 1), np.arange(len(knots)), knots).astype(np.float32)
        seen, when = jitter[sampled], times[sampled]
        if np.std(seen - np.polyval(np.polyfit(when, seen, 2), when)) > 0.6 * amplitude:
            return jitter


def camera_path(rng: Rng, move: str, times: Floats) -> CameraPath:
    """A path that is one of `CAMERA` beyond doubt."""
    x, y, roll = np.zeros_like(times), np.zeros_like(times), np.zeros_like(times)
    log_zoom = np.zeros_like(times)
    if move == "a moving camera" or (move == "a shaky camera" and rng.random() < 0.3):
        strength = 1.0 if move == "a moving camera" else 0.15
        kinds = rng.random(3) < (0.7, 0.35, 0.2)
        if not kinds.any():
            kinds[rng.choice(3, p=(0.5, 0.35, 0.15))] = True
        if kinds[0]:
            direction, distance = (
                rng.uniform(0, 2 * math.pi),
                strength * math.exp(rng.uniform(math.log(0.5), math.log(2.0))),
            )
            x += distance * math.cos(direction) * smooth_ramp(rng, times)
            y += distance * math.sin(direction) * smooth_ramp(rng, times)
        if kinds[1]:
            log_zoom += strength * rng.choice([-1, 1]) * rng.uniform(0.6, 1.1) * (smooth_ramp(rng, times) - 0.5)
        if kinds[2]:
            roll += strength * rng.choice([-1, 1]) * rng.uniform(0.6, 1.2) * smooth_ramp(rng, times)
    if move == "a shaky camera":
        amplitude = math.exp(rng.uniform(math.log(0.05), math.log(0.13)))
        x += shake(rng, times, amplitude)
        y += shake(rng, times, amplitude * rng.uniform(0.5, 1.2))
        if rng.random() < 0.5:
            roll += shake(rng, times, amplitude)
    start = rng.uniform(0, PICTURE_SPAN, 2)
    zoom = np.exp(log_zoom) * rng.uniform(0.75, 1.4)
    tilt = rng.uniform(-0.15, 0.15)
    return CameraPath(
        x + np.float32(start[0]), y + np.float32(start[1]), zoom.astype(np.float32), roll + np.float32(tilt)
    )


# ---- scenes ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sprite:
    """A shape over the background. Arrays are [T]."""

    shape: str  # one of SHAPES
    x: Floats
    y: Floats
    radius: Floats
    visible: NDArray[np.bool_]
    angle: float
    aspect: float  # width over height
    paint: Picture  # one color [1, 1] or a picture that moves with the shape


def shape_mask(shape: str, x: Floats, y: Floats) -> NDArray[np.bool_]:
    """Where (x, y), in radii from the shape's centre, lies inside it; y points down."""
    if shape == "circle":
        return x**2 + y**2 < 1
    if shape == "square":
        return np.maximum(abs(x), abs(y)) < 0.88
    if shape == "triangle":
        return (y < 0.75) & (abs(x) < (y + 1.05) * 0.6)
    x, y = abs(x), abs(y)
    return (np.minimum(x, y) < 0.34) & (np.maximum(x, y) < 1)  # cross


def draw_scene(
    picture: Picture, path: CameraPath, sprites: Sequence[Sprite], height: int, width: int, *, supersample: int
) -> Frames:
    """The background through the camera, sprites on top, [T, height, width, 3].

    Sprites keep their place in the frame: they are what moves in front of the camera. With `supersample` each pixel is
    the mean of that many squared samples.
    """
    short, s = min(height, width), supersample
    v = (((np.arange(height * s) + 0.5) / s - height / 2) / short).astype(np.float32)[:, None]
    u = (((np.arange(width * s) + 0.5) / s - width / 2) / short).astype(np.float32)[None, :]
    still = not sprites and all(np.ptp(values) == 0 for values in (path.x, path.y, path.zoom, path.roll))
    pixels_per_unit = len(picture) / PICTURE_SPAN
    last = len(picture) - 1
    drawn = []
    for t in range(1 if still else len(path.x)):
        scale = pixels_per_unit / path.zoom[t]
        c, n = np.float32(math.cos(path.roll[t]) * scale), np.float32(math.sin(path.roll[t]) * scale)
        column = (c * u - n * v + (path.x[t] + 64 * PICTURE_SPAN) * pixels_per_unit).astype(np.int32) & last
        row = (n * u + c * v + (path.y[t] + 64 * PICTURE_SPAN) * pixels_per_unit).astype(np.int32) & last
        frame = picture.ravel().take(row * len(picture) + column)
        for sprite in sprites:
            if sprite.visible[t]:
                paint_sprite(frame, sprite, t, u, v)
        drawn.append(frame)
    samples = np.stack(drawn).view(np.uint8).reshape(len(drawn), height, s, width, s, 4)[..., :3]
    sums = np.zeros((len(drawn), height, width, 3), np.uint16)
    for i in range(s * s):
        sums += samples[:, :, i // s, :, i % s]
    frames = (sums // s**2).astype(np.uint8)
    return frames.repeat(len(path.x), 0) if still else frames


def paint_sprite(frame: Picture, sprite: Sprite, t: int, u: Floats, v: Floats) -> None:
    """Draws the sprite's frame `t` onto `frame` in place, looking only at the box it can reach."""
    reach = 1.5 * sprite.radius[t] * max(1, sprite.aspect)
    rows = slice(*np.searchsorted(v[:, 0], (sprite.y[t] - reach, sprite.y[t] + reach)))
    columns = slice(*np.searchsorted(u[0], (sprite.x[t] - reach, sprite.x[t] + reach)))
    x, y = u[:, columns] - sprite.x[t], v[rows] - sprite.y[t]
    c, n = math.cos(sprite.angle), math.sin(sprite.angle)
    x, y = (c * x + n * y) / (sprite.radius[t] * sprite.aspect), (c * y - n * x) / sprite.radius[t]
    size = len(sprite.paint)
    color = sprite.paint[(y * 0.12 * size).astype(np.int32) % size, (x * 0.12 * size).astype(np.int32) % size]
    box = frame[rows, columns]
    box[...] = np.where(shape_mask(sprite.shape, x, y), color, box)


def passers_by(rng: Rng, pictures: Sequence[Picture], times: Floats) -> list[Sprite]:
    """Things that move about in front of the camera on their own."""
    sprites = []
    for _ in range(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))):
        direction, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0, 1.2)
        along = smooth_ramp(rng, times) - 0.5
        sway = rng.uniform(0, 0.03) * np.sin(times * rng.uniform(5, 40))
        sprites.append(
            Sprite(
                shape=str(rng.choice(["circle", "circle", "square", "triangle"])),
                x=(rng.uniform(-0.6, 0.6) + distance * math.cos(direction) * along + sway).astype(np.float32),
                y=(rng.uniform(-0.4, 0.4) + 0.4 * distance * math.sin(direction) * along + sway).astype(np.float32),
                radius=(rng.uniform(0.06, 0.3) * np.exp(rng.uniform(-0.4, 0.4) * along)).astype(np.float32),
                visible=np.ones(len(times), np.bool_),
                angle=rng.uniform(-0.5, 0.5),
                aspect=rng.uniform(0.4, 1.2),
                paint=pick(rng, pictures),
            )
        )
    return sprites


LEAST_COLOR = 14  # grey levels from a pixel's largest to its smallest channel, on average; less could pass for none


def film(rng: Rng, frames: Frames, noise: float | None = None) -> Frames:
    """What a camera does to a picture: exposure, contrast, tint, and sensor noise of `noise` grey levels.

    Nothing gets so dark, bright or flat that a viewer would call it black, white or blurred.
    """
    levels = 255 * (np.arange(256) / 255) ** math.exp(rng.normal(0, 0.25))
    first = levels[frames[0]]
    middle, spread = first.mean(), first.std()
    contrast = min(max(rng.uniform(0.7, 1.2), 28 / (spread + 1)), 4.0)
    brightness = min(max(middle + rng.uniform(-20, 20), 60), 195)
    tint = 1 + rng.choice([0.03, 0.15]) * rng.standard_normal(3)  # of the light, more than of the things
    table = np.clip(((levels[:, None] - middle) * contrast + brightness) * tint, 0, 255)
    exposed = np.stack([table[:, channel].astype(np.uint8)[frames[..., channel]] for channel in range(3)], -1)
    exposed = set_colorfulness(exposed, math.exp(rng.uniform(math.log(LEAST_COLOR), math.log(90))))
    if rng.random() < 0.3:  # a lens is never perfect
        exposed = blur(exposed, min(exposed.shape[1:3]) * rng.uniform(0.005, 0.012))
    if noise is None:
        noise = rng.choice([0.0, 0.0, 1.5, 4.0, 8.0]) * rng.uniform(0.5, 1.5)
    return add_noise(rng, exposed, noise)


def set_colorfulness(frames: Frames, wanted: float) -> Frames:
    """Brings the mean difference between a pixel's largest and smallest channel to about `wanted` grey levels."""
    first = frames[0].astype(np.float32)
    present = float(np.ptp(first, axis=-1).mean())
    share = min(wanted / max(present, 1.0), 1.0 if present > wanted else 6.0)
    grey = luma(frames)[..., None]
    return to_bytes(grey + np.float32(share) * (frames - grey))


def luma(frames: Frames) -> Floats:
    """Brightness of each pixel, [T, H, W] in 0..255."""
    return np.asarray(frames @ np.array((0.299, 0.587, 0.114), np.float32))


def to_bytes(values: NDArray[np.floating] | Frames) -> Frames:
    """Grey levels, cut off at 0 and 255."""
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def add_noise(rng: Rng, frames: Frames, amplitude: float, channels: int = 3) -> Frames:
    """Gaussian noise of `amplitude` grey levels, new in every frame; with one channel it has no color."""
    if not amplitude:
        return frames
    grain = rng.standard_normal((*frames.shape[:-1], channels), np.float32) * np.float32(amplitude)
    return to_bytes(frames + grain)


# ---- picture states --------------------------------------------------------------------------------------------------


def color_bars(rng: Rng, height: int, width: int) -> Frames:
    """Test bars of one of several standards, [1, height, width, 3]. A square frame shows the middle of a wider one."""
    whole = int(height * rng.choice([1, 4 / 3, 16 / 9])) if height == width else width
    level = rng.choice([191, 191, 255])
    grey, yellow, cyan, green, magenta, red, blue, black = (
        np.array([level * bit for bit in bits], np.uint8)
        for bits in ((1, 1, 1), (1, 1, 0), (0, 1, 1), (0, 1, 0), (1, 0, 1), (1, 0, 0), (0, 0, 1), (0, 0, 0))
    )
    seven = [grey, yellow, cyan, green, magenta, red, blue]
    white = np.full(3, 255, np.uint8)
    dark_blue, purple = np.array((0, 33, 76), np.uint8), np.array((50, 0, 106), np.uint8)
    side = np.full(3, 102, np.uint8)
    # rows as (share of the height, colors from left to right)
    standards = {
        "ebu": [(1.0, [white, *seven[1:], black])],
        "ebu over red": [(0.67, [white, *seven[1:], black]), (0.33, [red])],
        "seven": [(1.0, seven)],
        "smpte": [
            (0.67, seven),
            (0.08, [blue, black, magenta, black, cyan, black, grey]),
            (0.25, [dark_blue, white, purple, black, black, black]),
        ],
        "arib": [
            (0.58, [side, *seven, side]),
            (0.09, [cyan, white, *[grey] * 6, blue]),
            (0.08, [yellow, purple, *[side] * 6, red]),
            (0.25, [side, black, black, white, white, black, black, side, side]),
        ],
    }
    frame = np.zeros((height, whole, 3), np.uint8)
    top = 0.0
    for share, colors in standards[str(rng.choice(list(standards)))]:
        rows = slice(round(top * height), round((top + share) * height))
        frame[rows] = np.stack(colors)[np.arange(whole) * len(colors) // whole]
        top += share
    left = (whole - width) // 2
    return frame[None, :, left : left + width]


def television_static(rng: Rng, count: int, height: int, width: int) -> Frames:
    """Snow: grain that is new in every frame."""
    short = min(height, width)
    grain = short * math.exp(rng.uniform(math.log(1 / 140), math.log(1 / 22)))  # in pixels; finer grain fades to grey
    across = grain * rng.choice([1, 1, 2, 4])
    channels = 3 if rng.random() < 0.3 else 1
    rows, columns = math.ceil(height / max(grain, 1)) + 1, math.ceil(width / max(across, 1)) + 1
    snow = rng.standard_normal((count, rows, columns, channels), np.float32)
    if rng.random() < 0.4:
        snow = np.sign(snow)  # pure black and white
    row = (np.arange(height) / max(grain, 1)).astype(int)
    column = (np.arange(width) / max(across, 1)).astype(int)
    strength = rng.uniform(35, 110) * min(1.0, grain) * min(1.0, across)
    frames = rng.uniform(70, 150) + strength * snow[:, row][:, :, column]
    return np.broadcast_to(np.clip(frames, 0, 255), (count, height, width, 3)).astype(np.uint8)


def flash_pattern(rng: Rng, times: Floats) -> NDArray[np.bool_]:
    """On and off, regular or not, so that the sampled frames show at least three changes, [T]."""
    sampled = sampled_frames(len(times))
    while True:
        if rng.random() < 0.5:
            on = (times * rng.uniform(2, 20) + rng.random()) % 1 < rng.uniform(0.25, 0.75)
        else:
            on = (rng.random(64) < rng.uniform(0.3, 0.7))[(times * rng.integers(8, 40)).astype(int)]
        if np.count_nonzero(np.diff(on[sampled])) >= 3:
            return np.asarray(on)


def flashing_lights(rng: Rng, frames: Frames, times: Floats) -> Frames:
    """Strobes, flashes and colored lights over the footage."""
    on = flash_pattern(rng, times)[:, None, None, None]
    kind = rng.integers(4)
    if kind == 0:  # the picture brightens
        return to_bytes(np.where(on, frames * rng.uniform(1.5, 2.5) + rng.uniform(40, 120), frames))
    if kind == 1:  # the picture is there only in the light
        return to_bytes(np.where(on, frames, frames * rng.uniform(0, 0.3)))
    light, dark = 255 * (rng.random((2, 3)) < 0.5) if kind == 2 else np.array([[250] * 3, [5] * 3])
    if (light == dark).all():
        light, dark = np.full(3, 255), np.zeros(3)
    share = rng.uniform(0.4, 1.0)
    return to_bytes(np.where(on, light, dark) * share + frames * (1 - share))


def fade_levels(rng: Rng, times: Floats) -> Floats:
    """Brightness over a fade in, from 0 to 1, [T, 1, 1, 1]."""
    start, end = rng.uniform(0.0, 0.3), rng.uniform(0.5, 1.0)
    return np.asarray(np.clip((times - start) / (end - start), 0, 1), np.float32)[:, None, None, None]


def blur(frames: Frames, sigma: float) -> Frames:
    """Gaussian blur of `sigma` pixels, edges repeated."""

    def weights(size: int) -> Floats:
        reach = np.arange(-3 * size, 4 * size)
        kernel = np.exp(-0.5 * ((reach[None, :] - np.arange(size)[:, None]) / sigma) ** 2)
        # what lies beyond the edge counts as the edge
        before, after = kernel[:, : 3 * size + 1].sum(1), kernel[:, 4 * size - 1 :].sum(1)
        folded = np.column_stack([before, kernel[:, 3 * size + 1 : 4 * size - 1], after])
        return np.asarray(folded / folded.sum(1, keepdims=True), np.float32)

    _, height, width, _ = frames.shape
    planes = frames.astype(np.float32).transpose(0, 3, 1, 2)  # [T, 3, H, W]
    blurred = weights(height) @ planes @ weights(width).T
    return blurred.transpose(0, 2, 3, 1).astype(np.uint8)


def block_means(frames: Frames, side: int) -> Frames:
    """Every block of `side` pixels in its mean color."""
    _, height, width, _ = frames.shape
    tops, lefts = np.arange(0, height, side), np.arange(0, width, side)
    sums = np.add.reduceat(np.add.reduceat(frames.astype(np.float32), tops, axis=1), lefts, axis=2)
    areas = np.diff(tops, append=height)[:, None] * np.diff(lefts, append=width)
    means = (sums / areas[..., None]).astype(np.uint8)
    return np.asarray(means[:, np.arange(height) // side][:, :, np.arange(width) // side])


def compression_damage(rng: Rng, frames: Frames) -> Frames:
    """Coarse blocks over the whole picture, or blocks lost, shifted and stuck."""
    count, height, width, _ = frames.shape
    side = max(4, round(min(height, width) * rng.uniform(0.1, 0.18)))
    row, column = np.arange(height) // side, np.arange(width) // side
    coarse = block_means(frames, side)
    if rng.random() < 0.5:
        share = rng.uniform(0.75, 1.0)
        step = int(rng.choice([1, 1, 24, 40]))
        return to_bytes(coarse * share + frames * (1 - share)) // step * step
    # damage stays for a while: one draw a stretch of frames, a share of the blocks
    stretch = (frame_times(count) * rng.integers(1, NUM_FRAMES + 1)).astype(int)
    lost = rng.random((stretch[-1] + 1, row[-1] + 1, column[-1] + 1)) < rng.uniform(0.35, 0.7)
    lost = lost[stretch][:, row][:, :, column][..., None]
    kind = rng.integers(3)
    if kind == 0:
        return to_bytes(np.where(lost, coarse, frames))
    if kind == 1:
        shifted = np.roll(frames, (side * int(rng.integers(1, 4)), side * int(rng.integers(1, 4))), (1, 2))
        return to_bytes(np.where(lost, shifted, frames))
    color = np.array([(128, 128, 128), (0, 135, 0), (255, 0, 200)][rng.integers(3)], np.uint8)
    return to_bytes(np.where(lost, coarse // 2 + color // 2, frames))


def apply_state(rng: Rng, state: str, frames: Frames, other: Frames) -> Frames:
    """`frames` in one of `PICTURE_STATES`.

    For "a frozen picture" the footage must move, so that it can stop; `other` is what a cut goes to.

    Raises:
        ValueError: there is no such state.
    """
    count, height, width, _ = frames.shape
    times = frame_times(count)
    if state == "a black screen":
        return np.full_like(frames, rng.integers(0, 14))
    if state == "a white screen":
        return np.full_like(frames, rng.integers(238, 256))
    if state == "color bars":
        return color_bars(rng, height, width).repeat(count, 0)
    if state == "television static":
        return television_static(rng, count, height, width)
    if state == "a frozen picture":
        stop = sampled_frames(count)[rng.integers(2, 5)]
        return np.asarray(frames[np.minimum(np.arange(count), stop)])
    if state == "flashing lights":
        return flashing_lights(rng, frames, times)
    if state == "a fade in from black":
        return to_bytes(frames * fade_levels(rng, times))
    if state == "a fade out to black":
        return to_bytes(frames * fade_levels(rng, 1 - times))
    if state == "a cut to another scene":
        after = sampled_frames(count)[rng.integers(2, NUM_FRAMES - 1)]  # two sampled frames at least on each side
        return np.concatenate([frames[:after], other[after:]])
    if state == "a blurry picture":
        return blur(frames, min(height, width) * rng.uniform(0.04, 0.08))
    if state == "a black-and-white picture":
        return to_bytes(luma(frames))[..., None].repeat(3, -1)
    if state == "blocky compression damage":
        return compression_damage(rng, frames)
    if state == "a letterboxed picture":
        v = abs((np.arange(height) + 0.5 - height / 2) / min(height, width))
        return np.where((v < 0.5 - rng.uniform(0.09, 0.22))[None, :, None, None], frames, np.uint8(0))
    if state == "a normal picture":
        return frames
    raise ValueError(f"unknown picture state {state!r}; known are {', '.join(PICTURE_STATES)}")


# ---- what can be seen ------------------------------------------------------------------------------------------------

SEEN_SIDE = 40  # about as many pixels a side as a small model looks at


def as_seen(frames: Frames) -> Floats:
    """The sampled frames about as a small model sees them: the middle square, shrunk, [8, S, S, 3], S >= SEEN_SIDE."""
    _, height, width, _ = frames.shape
    cell = max(1, min(height, width) // SEEN_SIDE)
    count = min(height, width) // cell
    top, left = (height - count * cell) // 2, (width - count * cell) // 2
    middle = frames[sampled_frames(len(frames)), top : top + count * cell, left : left + count * cell]
    cells = middle.reshape(NUM_FRAMES, count, cell, count, cell, 3)
    return np.asarray(cells.mean((2, 4), np.float32))


def steps_between(seen: Floats) -> Floats:
    """Mean difference in grey levels from each frame of `as_seen` to the next, [7]."""
    return np.asarray(np.abs(np.diff(seen, axis=0)).mean((1, 2, 3)))


def in_doubt(state: str, footage: Frames, changed: Frames) -> bool:
    """Whether `changed`, the footage in `state`, could pass for something else: a cut between scenes that look alike,
    blocks on an even picture, a picture that hardly moved before it froze."""
    seen = as_seen(changed)
    if state == "a frozen picture":
        return bool(steps_between(seen)[:2].min() < 6)
    if state == "a cut to another scene":
        *_, second, largest = np.sort(steps_between(seen))
        return bool(largest < max(25, 1.4 * second))
    return state == "blocky compression damage" and bool(np.abs(seen - as_seen(footage)).mean() < 8)


# ---- clips -----------------------------------------------------------------------------------------------------------

WITHOUT_FOOTAGE = ("a black screen", "a white screen", "color bars", "television static")
NO_TRACK = np.zeros((NUM_FRAMES, 4), np.float32)
MOVES = (0.4, 0.3, 0.3)  # how often footage in some state is filmed by each of CAMERA
CAMERA_SHOWS_IN = ("a normal picture", "a black-and-white picture", "a letterboxed picture")


def footage(
    rng: Rng, pictures: Sequence[Picture], move: str, count: int, height: int, width: int, *, supersample: int = 1
) -> tuple[Frames, Floats]:
    """A scene as filmed by one of `CAMERA`, and how far apart the views of its frames are (see `Clip.distances`)."""
    times = frame_times(count)
    picture = pick(rng, pictures)
    path = camera_path(rng, move, times)
    scene = draw_scene(picture, path, passers_by(rng, pictures, times), height, width, supersample=supersample)
    return film(rng, scene), view_distances(path)


def state_clip(
    rng: Rng, state: str, pictures: Sequence[Picture], count: int, height: int, width: int, supersample: int
) -> Clip:
    """A clip of `PICTURE_STATES`; where the camera's move can still be seen, the labels say it too."""
    while True:
        move = str(rng.choice(CAMERA, p=MOVES)) if state != "a frozen picture" else "a moving camera"
        if state in WITHOUT_FOOTAGE:
            frames, distances = np.zeros((count, height, width, 3), np.uint8), np.zeros((NUM_FRAMES,) * 2, np.float32)
        else:
            frames, distances = footage(rng, pictures, move, count, height, width, supersample=supersample)
        other = frames
        if state == "a cut to another scene":
            if rng.random() < 0.25:  # the same colors and light in another place
                other = frames[:, ::-1, ::-1]
            else:
                next_move = str(rng.choice(CAMERA, p=MOVES))
                other, _ = footage(rng, pictures, next_move, count, height, width, supersample=supersample)
        changed = apply_state(rng, state, frames, other)
        if not in_doubt(state, frames, changed):
            break
    sampled = sampled_frames(count)
    if state == "a frozen picture":
        distances[[[(one == two).all() for two in changed[sampled]] for one in changed[sampled]]] = 0
    if state == "a cut to another scene":
        after = (changed[sampled] != frames[sampled]).any((1, 2, 3))
        distances[after[:, None] != after[None, :]] = 1
    noise = rng.choice([0.0, 0.7, 2.0])
    changed = add_noise(rng, changed, noise, channels=1 if state == "a black-and-white picture" else 3)
    return Clip(changed, (state, move) if state in CAMERA_SHOWS_IN else (state,), distances, NO_TRACK)


def shape_tracks(rng: Rng, motion: str, times: Floats) -> tuple[Floats, Floats, Floats, NDArray[np.bool_]]:
    """x, y, radius and visibility of a shape that is always whole within the frame's central square, each [T]."""
    radius = np.full_like(times, rng.uniform(0.18, 0.26))
    if motion in ("growing", "shrinking"):
        small, large = rng.uniform(0.11, 0.14), rng.uniform(0.26, 0.36)
        rate = smooth_ramp(rng, times) if motion == "growing" else smooth_ramp(rng, 1 - times)
        radius = small + (large - small) * rate
    room = 0.48 - radius.max()
    x, y = np.full_like(times, rng.uniform(-room, room)), np.full_like(times, rng.uniform(-room, room))
    if motion.startswith("moving"):
        distance = rng.uniform(max(0.3, room), 2 * room)
        start = rng.uniform(-room, room - distance)
        along = start + distance * smooth_ramp(rng, times)
        if motion in ("moving left", "moving right"):
            x = along if motion == "moving right" else -along
        else:
            y = along if motion == "moving down" else -along
    visible = flash_pattern(rng, times) if motion == "blinking" else np.ones(len(times), np.bool_)
    return x.astype(np.float32), y.astype(np.float32), radius.astype(np.float32), visible


def shape_clip(
    rng: Rng, label: str, pictures: Sequence[Picture], count: int, height: int, width: int, supersample: int
) -> Clip:
    """A clip of `MOVING_SHAPES` before a plain or a textured background of another color."""
    color, shape, motion = MOVING_SHAPES[label]
    times = frame_times(count)
    paint = np.clip(np.array(COLORS[color]) + rng.uniform(-12, 12, 3), 0, 255)
    while True:
        ground = random_color(rng, 1.0)
        if np.abs(ground - paint).max() > 90 and np.abs(ground - paint).sum() > 150:
            break
    picture = pick(rng, pictures)
    textured = rng.random() < 0.6
    if textured:  # the picture's structure, fainter and around `ground`
        pixels = picture.view(np.uint8).reshape(*picture.shape, 4)[..., :3]
        table = ground - 127 * (strength := rng.uniform(0.1, 0.45)) + np.arange(256)[:, None] * strength
        picture = pack(np.stack([table[:, i].astype(np.float32)[pixels[..., i]] for i in range(3)], -1))
    else:
        picture = pack(ground.reshape(1, 1, 3))
    x, y, radius, visible = shape_tracks(rng, motion, times)
    sprite = Sprite(
        shape, x, y, radius, visible, angle=rng.uniform(-0.2, 0.2), aspect=1.0, paint=pack(paint.reshape(1, 1, 3))
    )
    frames = draw_scene(
        picture, camera_path(rng, "a static shot", times), [sprite], height, width, supersample=supersample
    )
    frames = add_noise(rng, frames, rng.choice([0.0, 1.5, 4.0]))
    # The camera stands still in all of them; saying so only at times keeps the camera's three labels in balance.
    labels = (label, "a static shot") if textured and rng.random() < 0.3 else (label,)
    track = np.stack([x, y, radius, visible.astype(np.float32)], -1)[sampled_frames(count)]
    return Clip(frames, labels, np.zeros((NUM_FRAMES,) * 2, np.float32), track)


def make_clip(
    rng: Rng,
    label: str,
    pictures: Sequence[Picture],
    *,
    count: int = NUM_FRAMES,
    height: int,
    width: int,
    supersample: int = 1,
) -> Clip:
    """A clip that shows `label`, of `count` frames, made from `pictures` (see `make_picture`).

    Raises:
        ValueError: the label is of none of the three families.
    """
    if label in MOVING_SHAPES:
        return shape_clip(rng, label, pictures, count, height, width, supersample)
    if label in PICTURE_STATES:
        return state_clip(rng, label, pictures, count, height, width, supersample)
    if label in CAMERA:
        frames, distances = footage(rng, pictures, label, count, height, width, supersample=supersample)
        return Clip(frames, (label,), distances, NO_TRACK)
    raise ValueError(f"no clip can be made of {label!r}: labels are PICTURE_STATES, CAMERA and MOVING_SHAPES")


# ---- files -----------------------------------------------------------------------------------------------------------

# file suffix → FFmpeg's encoder, pixel format, options
ENCODERS: dict[str, tuple[str, str, dict[str, str]]] = {
    ".mp4": ("libx264", "yuv420p", {"preset": "veryfast", "crf": "23"}),
    ".webm": ("libvpx-vp9", "yuv420p", {"crf": "33", "b": "0", "deadline": "realtime", "cpu-used": "8"}),
    ".avi": ("mpeg4", "yuv420p", {"q": "4"}),
    ".mov": ("mjpeg", "yuvj420p", {"q": "4"}),
    ".mpg": ("mpeg2video", "yuv420p", {"q": "4"}),
    ".mkv": ("ffv1", "bgr0", {}),
}


def write_video(path: Path, frames: Frames, *, frames_per_second: int = 24) -> None:
    """Encodes `frames` [T, H, W, 3] to `path`; the suffix chooses container and codec (see `ENCODERS`).

    Height and width must be even: most codecs store color at half the size.
    """
    import av  # only here: nothing else in this file needs it

    codec, pixel_format, options = ENCODERS[path.suffix]
    with av.open(str(path), "w") as container:
        stream = cast("VideoStream", container.add_stream(codec, rate=frames_per_second, options=options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())


SAMPLES = (
    ("color-bars.mp4", "color bars", (240, 320)),
    ("television-static.webm", "television static", (240, 320)),
    ("black-screen.avi", "a black screen", (240, 320)),
    ("fade-in.mp4", "a fade in from black", (180, 320)),
    ("flashing-lights.mp4", "flashing lights", (240, 320)),
    ("blurry.mov", "a blurry picture", (320, 180)),
)


def write_samples(folder: Path, *, seed: int = 0) -> list[tuple[Path, str]]:
    """Writes a few two-second videos with known labels into `folder`, for the demo; returns (path, label) of each."""
    rng = np.random.default_rng(seed)
    pictures = [make_picture(rng, 512) for _ in range(4)]
    written = []
    for name, label, (height, width) in SAMPLES:
        clip = make_clip(rng, label, pictures, count=48, height=height, width=width)
        write_video(folder / name, clip.frames)
        written.append((folder / name, label))
    return written
