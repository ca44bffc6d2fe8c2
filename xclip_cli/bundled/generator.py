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
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from .pictures import Floats, Picture, Rng, make_picture, noise_field, pack, pick, random_color, write_lines

if TYPE_CHECKING:
    from av import VideoStream

Frames = NDArray[np.uint8]  # [T, H, W, 3], RGB

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
    labels: tuple[str, ...]  # what the sampled frames show, perhaps two picture states; the first is the one asked for
    # Of the eight sampled frames: how far the view moved from one to another, 0: not at all, 1: half a short side or
    # more, [8, 8]; and x, y, radius and visibility of the shape of MOVING_SHAPES, zeros where there is none, [8, 4].
    distances: Floats
    track: Floats


# ---- time ------------------------------------------------------------------------------------------------------------


def frame_times(count: int) -> Floats:
    """The middles of `count` equal stretches of the clip's time, [count] in 0..1."""
    return ((np.arange(count) + 0.5) / count).astype(np.float32)


def sampled_frames(count: int) -> NDArray[np.intp]:
    """Which of a video's `count` frames X-CLIP gets: the one shown at the centre of each of eight equal segments."""
    return np.array([int(Fraction(2 * i + 1, 2 * NUM_FRAMES) * count) for i in range(NUM_FRAMES)])


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


def through(knots: NDArray[np.floating], times: Floats) -> Floats:
    """From one of `knots` to the next, in straight lines and equal times, over the clip, [T]."""
    return np.asarray(np.interp(times * (len(knots) - 1), np.arange(len(knots)), knots), np.float32)


def shake(rng: Rng, times: Floats, amplitude: float) -> Floats:
    """Irregular jitter of about `amplitude` that the sampled frames show: it differs from any smooth move, [T]."""
    sampled = sampled_frames(len(times))
    while True:
        knots = rng.standard_normal(rng.integers(20, 48)) * amplitude
        jitter = through(knots, times)
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


def settle(rng: Rng, path: CameraPath, times: Floats) -> CameraPath:
    """`path` gone sooner and then held by hand: it hardly moves, and yet no two frames are the same."""
    when = np.minimum(times * rng.uniform(1.5, 5), 1)
    tremble = rng.uniform(0.008, 0.03) * rng.standard_normal((2, len(times)), np.float32)

    def at(values: Floats) -> Floats:
        return np.asarray(np.interp(when, times, values), np.float32)

    return CameraPath(at(path.x) + tremble[0], at(path.y) + tremble[1], at(path.zoom), at(path.roll))


def wander(rng: Rng, times: Floats) -> CameraPath:
    """Goes far and in no one direction, now fast, now slow, as in long footage: from one of eight sampled frames to the
    next the view hardly changes, or all but leaves what it showed."""
    knots = int(rng.integers(4, NUM_FRAMES + 1))
    direction = rng.uniform(0, 2 * math.pi) + np.cumsum(rng.normal(0, 0.8, knots))
    lengths = rng.choice([0.0, 0.15, 0.35, 0.65], knots) * rng.uniform(0.6, 1.0, knots)

    def along(steps: NDArray[np.floating]) -> Floats:
        return through(np.cumsum(steps), times)

    start = rng.uniform(0, PICTURE_SPAN, 2)
    return CameraPath(
        along(lengths * np.cos(direction)) + np.float32(start[0]),
        along(lengths * np.sin(direction)) + np.float32(start[1]),
        np.exp(np.clip(along(rng.normal(0, 0.2, knots)), -0.7, 0.7)),
        along(rng.normal(0, 0.08, knots)),
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
    """Things and people that move about in front of the camera on their own, come and go."""
    if rng.random() < 0.15:
        return slides(rng, pictures, times)
    if rng.random() < 0.15:  # all comes to rest
        times = np.minimum(times * np.float32(rng.uniform(1.3, 5)), np.float32(1))
    sprites = []
    for _ in range(rng.choice(4, p=(0.4, 0.3, 0.2, 0.1))):
        direction, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0, 1.2)
        along = smooth_ramp(rng, times)
        if rng.random() < 0.3:  # for a part of the time only
            along = np.clip((along - rng.uniform(0, 0.5)) * rng.uniform(1, 6), 0, 1)
        sway = rng.uniform(0, 0.03) * np.sin(times * rng.uniform(5, 40))
        visible = np.ones(len(times), np.bool_)
        if rng.random() < 0.2:
            visible = (times > rng.random()) == (rng.random() < 0.5)
        thing = Sprite(
            shape=str(rng.choice(["circle", "circle", "square", "triangle"])),
            x=(rng.uniform(-0.6, 0.6) + distance * math.cos(direction) * (along - 0.5) + sway).astype(np.float32),
            y=(rng.uniform(-0.4, 0.4) + 0.4 * distance * math.sin(direction) * (along - 0.5) + sway).astype(np.float32),
            radius=(
                rng.uniform(0.06, 0.3) * np.exp(rng.choice([0.4, 0.4, 1.5]) * rng.uniform(-1, 1) * (along - 0.5))
            ).astype(np.float32),
            visible=visible,
            angle=rng.uniform(-0.5, 0.5),
            aspect=rng.uniform(0.4, 1.2),
            paint=pick(rng, pictures),
        )
        sprites += person(rng, thing, times) if rng.random() < 0.4 else [thing]
    return sprites


def slides(rng: Rng, pictures: Sequence[Picture], times: Floats) -> list[Sprite]:
    """Things that stand for a while in one place, then others: titles, icons, what is put on a table."""
    still, sprites = np.zeros_like(times), []
    for _ in range(rng.integers(1, 6)):
        begin, end = rng.uniform(-0.4, 0.9), rng.uniform(0.15, 1.2)
        plain = pack(random_color(rng, 1.2).reshape(1, 1, 3))
        sprites.append(
            Sprite(
                shape=str(rng.choice(SHAPES)),
                x=still + np.float32(rng.uniform(-0.4, 0.4)),
                y=still + np.float32(rng.uniform(-0.4, 0.4)),
                radius=still + np.float32(rng.uniform(0.06, 0.3)),
                visible=(times > begin) & (times < begin + end),
                angle=0.0,
                aspect=rng.uniform(0.5, 2.0),
                paint=pick(rng, pictures) if rng.random() < 0.6 else plain,
            )
        )
    return sprites


def person(rng: Rng, body: Sprite, times: Floats) -> list[Sprite]:
    """Head, trunk, legs and hands in the place of `body`, in clothes of one color or a pattern; the hands move."""
    skin = np.array((225, 175, 145), np.float32) * rng.uniform(0.3, 1.1)

    def part(shape: str, x: float, y: float, radius: float, aspect: float, paint: Picture, swing: float) -> Sprite:
        arc = swing * np.sin(times * rng.uniform(3, 30) + rng.uniform(0, 6)).astype(np.float32)
        size = np.float32(radius) * body.radius
        return replace(
            body,
            shape=shape,
            x=body.x + (np.float32(x) + arc) * body.radius,
            y=body.y + (np.float32(y) + arc) * body.radius,
            radius=size,
            angle=0.0,
            aspect=aspect,
            paint=paint,
        )

    def cloth() -> Picture:
        return body.paint if rng.random() < 0.3 else pack(random_color(rng, 0.7).reshape(1, 1, 3))

    bare, hair = pack(skin.reshape(1, 1, 3)), pack((random_color(rng, 0.2) * 0.4).reshape(1, 1, 3))
    return [
        part("square", 0, 2.2, 1.3, 0.5, cloth(), 0.05),
        part("circle", 0, 0.5, 1.3, 0.75, cloth(), 0.03),
        part("circle", 0, -1.25, 0.62, 0.8, hair, 0.03),
        part("circle", 0, -1.1, 0.52, 0.75, bare, 0.03),
        part("circle", -0.9, 0.6, 0.25, 1.0, bare, rng.uniform(0, 0.8)),
        part("circle", 0.9, 0.6, 0.25, 1.0, bare, rng.uniform(0, 0.8)),
    ]


LEAST_COLOR = 5  # grey levels from a pixel's largest to its smallest channel, on average: pale, and yet not grey


def film(rng: Rng, frames: Frames, noise: float | None = None) -> Frames:
    """What a camera does to a picture: exposure, contrast, tint, and sensor noise of `noise` grey levels.

    Nothing gets so dark, bright or flat that a viewer would call it black, white or blurred; what is lit before black
    stays so.
    """
    levels = 255 * (np.arange(256) / 255) ** math.exp(rng.normal(0, 0.25))
    first = levels[frames[0]]
    middle, spread = first.mean(), first.std()
    contrast = min(max(rng.uniform(0.6, 1.2), rng.uniform(10, 22) / (spread + 1)), 4.0)
    lit = np.ptp(np.percentile(first, (0.5, 99.5))) > 90
    darkest, brightest = (3, 252) if lit else (rng.uniform(15, 45), rng.uniform(215, 232))
    brightness = min(max(middle + rng.uniform(-20, 20), darkest), brightest)
    tint = 1 + rng.choice([0.03, 0.15]) * rng.standard_normal(3)  # of the light, more than of the things
    table = np.clip(((levels[:, None] - middle) * contrast + brightness) * tint, 0, 255)
    exposed = np.stack([table[:, channel].astype(np.uint8)[frames[..., channel]] for channel in range(3)], -1)
    exposed = set_colorfulness(exposed, math.exp(rng.uniform(math.log(LEAST_COLOR), math.log(160))))
    if rng.random() < 0.3:  # a lens is never perfect
        exposed = blur(exposed, min(exposed.shape[1:3]) * rng.uniform(0.005, 0.018))
    if rng.random() < 0.15:  # the light, or the camera's answer to it, is not quite steady
        times = frame_times(len(exposed))
        unsteady = rng.normal(1, rng.uniform(0.005, 0.025), len(times)) + rng.uniform(-0.1, 0.1) * times
        exposed = to_bytes(exposed * unsteady.astype(np.float32)[:, None, None, None])
    if rng.random() < 0.18:
        exposed = overlay(rng, exposed)
    if noise is None:
        noise = rng.choice([0.0, 0.0, 1.5, 4.0, 8.0, 12.0]) * rng.uniform(0.5, 1.5)
    return add_noise(rng, exposed, noise)


def overlay(rng: Rng, frames: Frames) -> Frames:
    """The same captions, clock or station's mark over all frames."""
    _, height, width, _ = frames.shape
    drawn = np.full((64, 64, 3), -1, np.float32)
    if rng.random() < 0.3:
        drawn[rng.integers(40, 56) :] = rng.choice([0, 0, 40, 255])  # a band to write on
    write_lines(rng, drawn, np.full(3, rng.choice([250, 250, 15]), np.float32))
    if rng.random() < 0.5:
        top, left = rng.choice([2, 52]), rng.choice([2, 52])
        drawn[top : top + 8, left : left + 8] = random_color(rng, 1.5)
    if rng.random() < 0.7:
        drawn[8:50] = -1  # only near the edges
    if rng.random() < 0.15:
        drawn[:, : rng.integers(2, 14)] = drawn[:, -rng.integers(2, 14) :] = 0  # bars at the sides
    if rng.random() < 0.25:  # heads, plants, a roof before the light: dark as a letterbox's bars, but ragged
        edge = rng.uniform(4, 16) + rng.uniform(1.5, 5) * noise_field(rng, 64, 1.2)
        place = np.arange(64)[:, None]
        drawn[(place > 64 - edge[0]) | ((place < edge[1]) & (rng.random() < 0.4))] = rng.uniform(0, 20)
    if rng.random() < 0.4:  # a band above, not below
        drawn = drawn[::-1]
    shown = drawn[np.arange(height) * 64 // height][:, np.arange(width) * 64 // width]
    return np.where(shown >= 0, shown, frames).astype(np.uint8)


def compressed(rng: Rng, frames: Frames) -> Frames:
    """As a strong lossy compression leaves it: the coefficients of small blocks rounded coarsely. A person sees no
    damage in it."""
    count, height, width, _ = frames.shape
    side = max(2, round(min(height, width) * rng.uniform(0.02, 0.055)))
    place = np.arange(side)
    wave = np.cos(math.pi * (place[None, :] + 0.5) * place[:, None] / side) * np.sqrt(2 / side)
    wave[0] /= math.sqrt(2)
    wave = wave.astype(np.float32)
    rows, columns = -(-height // side), -(-width // side)
    padded = np.pad(frames, ((0, 0), (0, rows * side - height), (0, columns * side - width), (0, 0)), "edge")
    blocks = padded.reshape(count, rows, side, columns, side, 3).transpose(0, 1, 3, 5, 2, 4).astype(np.float32)
    step = np.float32(rng.uniform(4, 28)) * (1 + place[:, None] + place).astype(np.float32)
    step[0, 0] = min(step[0, 0], 8.0)
    rounded = np.rint(wave @ blocks @ wave.T / step) * step
    blocks = wave.T @ rounded @ wave
    return to_bytes(blocks.transpose(0, 1, 4, 2, 5, 3).reshape(padded.shape)[:, :height, :width])


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
    size = math.prod(frames.shape[1:-1]) * channels
    drawn = rng.standard_normal(2 * size, np.float32) * np.float32(amplitude)
    starts = rng.integers(size, size=len(frames))  # a frame's grain is a part of it: drawing is slow
    grain = np.stack([drawn[start : start + size] for start in starts])
    return to_bytes(frames + grain.reshape(*frames.shape[:-1], channels))


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
    steps = [np.full(3, step, np.uint8) for step in np.linspace(0, 255, rng.integers(5, 9))]
    below = [[black, white, black], [white, black] * 4, steps, [side], [yellow, red, yellow]]
    heights = rng.dirichlet(np.full(4, 5.0)) * 0.5
    standards["card"] = [
        (0.5, seven),
        *((share, below[row]) for share, row in zip(heights, rng.permutation(5)[:4], strict=True)),
    ]
    standards["any order"] = [(1.0, [*rng.permutation(np.stack([*seven, black, white])[: rng.integers(6, 10)])])]
    frame = np.zeros((height, whole, 3), np.uint8)
    top = 0.0
    for share, colors in standards[str(rng.choice(list(standards)))]:
        rows = slice(round(top * height), round((top + share) * height))
        frame[rows] = np.stack(colors)[np.arange(whole) * len(colors) // whole]
        top += share
    left = (whole - width) // 2
    return frame[None, :, left : left + width]


def test_pattern(rng: Rng, count: int, height: int, width: int) -> Frames:
    """`color_bars` as broadcasters and programs show them: still, or with a clock, boxes, lines, a circle, a ramp."""
    frames = color_bars(rng, height, width).repeat(count, 0)
    if rng.random() < 0.15:
        frames = frames.transpose(0, 2, 1, 3)[:, :: max(1, width // height)]
        frames = frames[:, np.arange(height) * frames.shape[1] // height][:, :, np.arange(width) * height // width]
        frames = to_bytes(frames * np.linspace(rng.uniform(0, 1), 1, width)[:, None])
    if rng.random() < 0.6:
        return frames
    short = min(height, width)
    v = ((np.arange(height) + 0.5 - height / 2) / short)[:, None]
    u = ((np.arange(width) + 0.5 - width / 2) / short)[None, :]
    frames = frames.copy()
    if rng.random() < 0.4:  # only within a circle
        outside = u**2 + v**2 > rng.uniform(0.3, 0.55) ** 2
        frames[:, outside] = rng.choice([0, 255, 110])
        if rng.random() < 0.5:  # a grid
            lines = ((abs(u) * 12) % 1 < 0.15) | ((abs(v) * 12) % 1 < 0.15)
            frames[:, outside & lines] = rng.choice([0, 180, 255])
    if rng.random() < 0.4:  # a ramp of grey, or of all colors
        ramp = np.linspace(0, 255, width)[:, None] if rng.random() < 0.6 else 255 * abs(np.sin(u.T * (3, 4, 5)))
        top = int(height * rng.uniform(0.6, 0.85))
        frames[:, top : top + max(2, int(height * rng.uniform(0.08, 0.2)))] = ramp.astype(np.uint8)
    for _ in range(rng.integers(0, 4)):  # boxes that stand or wander, and what they say
        half, wide = rng.uniform(0.04, 0.14), rng.choice([1.0, 1.0, 3.0])
        x, y, dx, dy = rng.uniform(-0.4, 0.4, 4) * (1, 1, rng.integers(2), rng.integers(2))
        color, ink = rng.choice([0, 128, 255], 2, replace=False)
        for t in range(count):
            inside = (abs(v - y - dy * t / count) < half) & (abs(u - x - dx * t / count) < half * wide)
            frames[t][inside] = color
            frames[t][inside & (rng.random((height, width)) < 0.3)] = ink
    return frames


def television_static(rng: Rng, count: int, height: int, width: int) -> Frames:
    """Snow: grain that is new in every frame."""
    short = min(height, width)
    grain = short * math.exp(rng.uniform(math.log(1 / 140), math.log(1 / 22)))  # in pixels; finer grain fades to grey
    across = grain * rng.choice([1, 1, 2, 4])
    channels = 3 if rng.random() < 0.5 else 1
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
    start = rng.uniform(-0.05, 0.5)
    end = start + rng.uniform(0.15, min(1.0, 1.05 - start))
    return np.asarray(np.clip((times - start) / (end - start), 0, 1), np.float32)[:, None, None, None]


LEAST_BLUR = 0.045  # of the short side: Gaussian blur from which on a picture is out of focus


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
    if rng.random() < 0.4:  # slices: rows of blocks, from somewhere on
        first = rng.integers(-column[-1] - 1, column[-1] + 1, (*lost.shape[:2], 1))
        lost = np.arange(column[-1] + 1) >= first
    lost = lost[stretch][:, row][:, :, column][..., None]
    kind = rng.integers(3)
    if kind == 0:
        return to_bytes(np.where(lost, coarse, frames))
    if kind == 1:
        shifted = np.roll(frames, (side * int(rng.integers(1, 4)), side * int(rng.integers(1, 4))), (1, 2))
        return to_bytes(np.where(lost, shifted, frames))
    color = np.array([(128, 128, 128), (0, 135, 0), (255, 0, 200)][rng.integers(3)], np.uint8)
    return to_bytes(np.where(lost, coarse // 2 + color // 2, frames))


def scenes_between(rng: Rng, frames: Frames, other: Frames, cuts: list[int]) -> list[Frames]:
    """The parts of a clip with these cuts: from one scene to the other and back, to either turned, mirrored, close."""
    height, width = frames.shape[1] // 2, frames.shape[2] // 2
    scenes = [frames, other]
    for scene in (frames, other):
        near = scene[:, height // 2 : height // 2 + height, width // 2 : width // 2 + width]
        scenes += [scene[:, ::-1, ::-1], scene[:, :, ::-1]]
        scenes.append(near[:, np.arange(2 * height) // 2][:, :, np.arange(2 * width) // 2])
    parts, last = [], -1
    for start, end in zip([0, *cuts], [*cuts, len(frames)], strict=True):
        last = pick(rng, [i for i in range(len(scenes)) if i != last and scenes[i].shape == frames.shape])
        parts.append(scenes[last][start:end])
    return parts


def apply_state(rng: Rng, state: str, frames: Frames, other: Frames) -> Frames:
    """`frames` in one of `PICTURE_STATES`.

    For "a frozen picture" the footage must move, so that it can stop; `other` is what a cut goes to.

    Raises:
        ValueError: there is no such state.
    """
    count, height, width, _ = frames.shape
    times = frame_times(count)
    if state in ("a black screen", "a white screen"):
        level = rng.uniform(0, 14) if state == "a black screen" else rng.uniform(238, 256)
        tint = rng.choice([0.0, 3.0]) * rng.standard_normal(3)
        return np.full_like(frames, to_bytes(level + tint))
    if state == "color bars":
        return test_pattern(rng, count, height, width)
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
        if rng.random() < 0.5:  # two sampled frames at least on each side
            after = sampled_frames(count)[rng.integers(2, NUM_FRAMES - 1)]
            return np.concatenate([frames[:after], other[after:]])
        cuts = np.sort(rng.choice(np.arange(1, NUM_FRAMES), rng.integers(2, 6), replace=False))
        return np.concatenate(scenes_between(rng, frames, other, [int(sampled_frames(count)[cut]) for cut in cuts]))
    if state == "a blurry picture":
        return blur(frames, min(height, width) * rng.uniform(LEAST_BLUR, 0.09))
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
    sums = np.zeros((NUM_FRAMES, count, count, 3), np.float32)
    for i in range(cell * cell):  # several times as fast as a mean over two axes
        sums += middle[:, i // cell :: cell, i % cell :: cell]
    return np.asarray(sums / np.float32(cell**2), np.float32)


def steps_between(seen: Floats) -> Floats:
    """Mean difference in grey levels from each frame of `as_seen` to the next, [7]."""
    return np.asarray(np.abs(np.diff(seen, axis=0)).mean((1, 2, 3)))


def in_doubt(state: str, footage: Frames, changed: Frames) -> bool:
    """Whether `changed`, the footage in `state`, could pass for something else: a cut between scenes that look alike,
    blocks on an even picture, a picture that hardly moved before it froze, black bars on black."""
    seen, before = as_seen(changed), as_seen(footage)
    steps = steps_between(seen)
    if state == "a frozen picture":
        return bool(steps[:2].min() < 6)
    if state == "a cut to another scene":
        ordered, cuts = np.sort(steps), np.count_nonzero(steps >= 25)
        return bool(cuts == 0 or ordered[-1] < 1.4 * ordered[-2 if cuts == 1 else 1])
    if state == "flashing lights":
        return bool(np.sort(steps)[-3] < 15)
    if state in ("a fade in from black", "a fade out to black"):
        light = seen.mean((1, 2, 3)) if state == "a fade in from black" else seen.mean((1, 2, 3))[::-1]
        return bool(light[0] > 0.35 * light[-1] or light[-1] < 25)
    if state == "a blurry picture":
        return bool(np.abs(seen - before).mean() < 4)
    if state == "a letterboxed picture":
        bars = seen.max((0, 2, 3)) < 10
        return bool(before[:, bars].mean() < 25 or seen[:, ~bars].mean((0, 2, 3))[[0, -1]].min() < 20)
    if state == "a normal picture":  # without a color, or even
        color = np.ptp(seen, axis=-1)
        return bool((color.mean() < 4 and np.percentile(color, 98) < 25) or seen[0].std() < 8)
    return state == "blocky compression damage" and bool(np.abs(seen - before).mean() < 12)


def shows_move(move: str, frames: Frames) -> bool:
    """Whether it can be seen that the camera makes `move`: before black or an even wall it cannot."""
    return move == "a static shot" or bool(steps_between(as_seen(frames)).mean() >= 4)


# ---- clips -----------------------------------------------------------------------------------------------------------

WITHOUT_FOOTAGE = ("a black screen", "a white screen", "color bars", "television static")
NO_TRACK = np.zeros((NUM_FRAMES, 4), np.float32)
MOVES = (0.4, 0.3, 0.3)  # how often footage in some state is filmed by each of CAMERA
CAMERA_SHOWS_IN = ("a normal picture", "a black-and-white picture", "a letterboxed picture")


def footage(
    rng: Rng,
    pictures: Sequence[Picture],
    move: str,
    count: int,
    height: int,
    width: int,
    *,
    supersample: int = 1,
    path: CameraPath | None = None,
) -> tuple[Frames, Floats]:
    """A scene as filmed by one of `CAMERA`, or on the given path, and how far apart the views of its frames are (see
    `Clip.distances`)."""
    times = frame_times(count)
    picture = pick(rng, pictures)
    path = camera_path(rng, move, times) if path is None else path
    scene = draw_scene(picture, path, passers_by(rng, pictures, times), height, width, supersample=supersample)
    return film(rng, scene), view_distances(path)


ALSO = {  # what a clip in a state may also be in
    "a letterboxed picture": (*(2 * ("a cut to another scene",)), "a black-and-white picture", "a fade in from black"),
    "a black-and-white picture": ("a cut to another scene", "a cut to another scene", "a fade out to black"),
    "blocky compression damage": ("a cut to another scene",),
    "a fade out to black": ("a cut to another scene",),
    "a fade in from black": ("a cut to another scene",),
}


def state_clip(
    rng: Rng, state: str, pictures: Sequence[Picture], count: int, height: int, width: int, supersample: int
) -> Clip:
    """A clip of `PICTURE_STATES`, at times in two of them; where the camera's move can still be seen, the labels say
    it too."""
    states: tuple[str, ...] = (state,)
    if state in ALSO and rng.random() < 0.35:
        states = (state, pick(rng, ALSO[state]))
    while True:
        move = str(rng.choice(CAMERA, p=MOVES)) if state != "a frozen picture" else "a moving camera"
        path = None
        if state in WITHOUT_FOOTAGE:
            frames, distances = np.zeros((count, height, width, 3), np.uint8), np.zeros((NUM_FRAMES,) * 2, np.float32)
        else:
            path = unruly_path(rng, state, move, frame_times(count))
            frames, distances = footage(rng, pictures, move, count, height, width, supersample=supersample, path=path)
        changed, doubtful = frames, False
        for applied in reversed(states):
            before, other = changed, changed
            if applied == "a cut to another scene":
                if rng.random() < 0.25:  # the same colors and light in another place
                    other = frames[:, ::-1, ::-1]
                else:
                    next_move = str(rng.choice(CAMERA, p=MOVES))
                    other, _ = footage(rng, pictures, next_move, count, height, width, supersample=supersample)
            changed = apply_state(rng, applied, before, other)
            doubtful = doubtful or in_doubt(applied, before, changed)
        if "a cut to another scene" in states:  # it must not be lost in bars or a fade
            doubtful = doubtful or in_doubt("a cut to another scene", changed, changed)
        if not doubtful:
            break
    sampled = sampled_frames(count)
    if state == "a frozen picture":
        distances[[[(one == two).all() for two in changed[sampled]] for one in changed[sampled]]] = 0
    if "a cut to another scene" in states:
        distances = cut_distances(as_seen(changed), distances)
    grey = "a black-and-white picture" in states
    if rng.random() < 0.35:
        changed = compressed(rng, changed)
        changed = to_bytes(luma(changed))[..., None].repeat(3, -1) if grey else changed
    # In a file the frames of a freeze differ, too, by what its encoder leaves.
    noise = rng.choice([0.0, 0.5, 1.0] if state == "a frozen picture" else [0.0, 0.7, 2.0])
    changed = add_noise(rng, changed, noise, channels=1 if grey else 3)
    shows_camera = state in CAMERA_SHOWS_IN and len(states) == 1 and path is None and shows_move(move, frames)
    return Clip(changed, (*states, move) if shows_camera else states, distances, NO_TRACK)


MAY_WANDER = ("a normal picture", "a blurry picture", "a black-and-white picture", "a letterboxed picture")


def unruly_path(rng: Rng, state: str, move: str, times: Floats) -> CameraPath | None:
    """At times, for a moving camera: one that settles, or wanders."""
    if move != "a moving camera" or state not in MAY_WANDER:
        return None
    chance = rng.random()
    if chance < 0.35:
        return wander(rng, times)
    if chance < 0.5 and state == "a normal picture":
        return settle(rng, camera_path(rng, move, times), times)
    return None


def cut_distances(seen: Floats, distances: Floats) -> Floats:
    """`distances` of a clip with cuts, from `as_seen`: frames of different scenes are as far apart as can be."""
    scene = np.concatenate([[0], np.cumsum(steps_between(seen) >= 25)])
    return np.where(scene[:, None] != scene[None, :], np.float32(1), distances)


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
        while True:
            frames, distances = footage(rng, pictures, label, count, height, width, supersample=supersample)
            if shows_move(label, frames):
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


# What an encoder of `ENCODERS` is told where it is to save on bits until it shows; the others know no `crf`.
STRONGLY = {"libx264": {"crf": "40"}, "libvpx-vp9": {"crf": "60"}}
COARSELY = {"qmin": "24", "qmax": "31"}


def write_video(path: Path, frames: Frames, *, frames_per_second: int = 24, strongly: bool = False) -> None:
    """Encodes `frames` [T, H, W, 3] to `path`; the suffix chooses container and codec (see `ENCODERS`). `strongly`
    compresses so much that it shows.

    Height and width must be even: most codecs store color at half the size.
    """
    import av  # only here: nothing else in this file needs it

    codec, pixel_format, options = ENCODERS[path.suffix]
    if strongly:
        options = {**options, **STRONGLY.get(codec, COARSELY)}
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
