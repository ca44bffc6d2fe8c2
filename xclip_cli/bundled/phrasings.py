"""How the labels of `generator` are put into words: phrasings to train on, others kept for testing.

The kept phrasings use words of the trained ones in new orders: words never seen cannot be known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from .generator import CAMERA, COLORS, HELD_OUT_SHAPES, MOTIONS, MOVING_SHAPES, PICTURE_STATES, SHAPES

TEMPLATES = ("{}", "a video of {}", "footage of {}", "this is {}", "a clip that shows {}", "a recording with {}")

# label → other phrasings of it seen in training
TRAINED = {
    "a black screen": ("black screen", "the screen is black", "a completely black picture", "all black", "only black"),
    "a white screen": ("white screen", "the screen is white", "a completely white picture", "all white", "only white"),
    "color bars": ("colored bars", "a test pattern of color bars", "a television test pattern", "a test card", "bars"),
    "television static": ("static", "noise", "snow on the screen", "white noise on a television", "no signal, noise"),
    "a frozen picture": ("a freeze", "the picture freezes", "a frozen video", "a video that stops", "a stuck picture"),
    "flashing lights": ("flashes", "a flashing light", "strobe lights", "the picture flashes", "a strobe"),
    "a fade in from black": ("a fade in", "the picture fades in", "black, then the picture appears", "fading in"),
    "a fade out to black": ("a fade out", "the picture fades out", "the picture turns to black", "fading out"),
    "a cut to another scene": (
        "a cut",
        "a scene change",
        "the scene changes",
        "two scenes",
        "a sudden change of scene",
    ),
    "a blurry picture": ("blur", "the picture is blurry", "an out of focus picture", "a blurred video", "out of focus"),
    "a black-and-white picture": (
        "black and white",
        "a picture without color",
        "a grey picture",
        "a black-and-white movie",
        "the picture has no color",
    ),
    "blocky compression damage": (
        "compression blocks",
        "a blocky picture",
        "a damaged picture",
        "the picture is full of blocks",
        "a damaged recording",
    ),
    "a letterboxed picture": (
        "a letterbox",
        "black bars above and below the picture",
        "letterboxed video",
        "a wide picture between black bars",
    ),
    "a normal picture": ("normal", "a picture without faults", "nothing is wrong", "a good picture", "normal video"),
    "a static shot": (
        "a static camera",
        "the camera is still",
        "a camera on a tripod",
        "the camera does not move",
        "a still shot",
        "the camera is static",
        "the shot does not move",
    ),
    "a moving camera": (
        "a moving shot",
        "the camera moves",
        "the camera is moving",
        "a smooth camera move",
        "a shot that moves",
        "the shot moves",
        "a camera that is moving",
    ),
    "a shaky camera": (
        "shaky",
        "the camera shakes",
        "a shaking camera",
        "a shaky handheld shot",
        "camera shake",
        "a shaky shot",
        "the camera is shaky",
        "a shot that shakes",
        "a handheld camera",
    ),
}

# label → phrasings never seen in training
HELD_OUT = {
    "a black screen": ("a picture that is all black", "only a black screen"),
    "a white screen": ("a picture that is all white", "only a white screen"),
    "color bars": ("a test card of colored bars", "a color test pattern"),
    "television static": ("static on the television", "snow and noise"),
    "a frozen picture": ("the video freezes", "a stuck video"),
    "flashing lights": ("a flashing strobe", "flashing lights on the screen"),
    "a fade in from black": ("the video fades in from black", "a picture that fades in"),
    "a fade out to black": ("the video fades out to black", "a picture that fades out"),
    "a cut to another scene": ("a sudden cut", "the scene changes to another"),
    "a blurry picture": ("the video is out of focus", "a blurry video"),
    "a black-and-white picture": ("a movie without color", "the picture is black and white"),
    "blocky compression damage": ("the video is blocky and damaged", "damage and blocks"),
    "a letterboxed picture": ("the picture has black bars above and below", "a letterboxed movie"),
    "a normal picture": ("a normal video without faults", "nothing wrong with the picture"),
    "a static shot": ("a still camera", "the shot is static"),
    "a moving camera": ("the shot is moving", "a camera that moves"),
    "a shaky camera": ("a handheld camera that shakes", "the shot is shaky"),
}

SHAPE_PATTERNS = ("a {} {} {}", "{} {} {}", "the {} {} is {}", "a {} {} that is {}", "one {} {}, {}")
HELD_OUT_SHAPE_PATTERNS = ("the {} {} {}", "one {} {} is {}")
MOTION_WORDS = {
    "moving left": ("moving left", "moving to the left", "going left"),
    "moving right": ("moving right", "moving to the right", "going right"),
    "moving up": ("moving up", "moving upwards", "going up"),
    "moving down": ("moving down", "moving downwards", "going down"),
    "standing still": ("standing still", "not moving", "staying in place"),
    "growing": ("growing", "getting larger", "becoming larger"),
    "shrinking": ("shrinking", "getting smaller", "becoming smaller"),
    "blinking": ("blinking", "blinking on and off", "appearing again and again"),
}
# What a clip of MOVING_SHAPES shows by halves: it teaches that a label is made of parts.
COLOR_LABELS = {f"something {color}": color for color in COLORS}
SHAPE_LABELS = {f"a {shape}": shape for shape in SHAPES}
MOTION_LABELS = {f"something {motion}": motion for motion in MOTIONS}


def trained_phrasings(label: str) -> list[str]:
    """Every phrasing of `label` that training uses, the label itself first, without templates."""
    if label in MOVING_SHAPES:
        color, shape, motion = MOVING_SHAPES[label]
        return [pattern.format(color, shape, words) for pattern in SHAPE_PATTERNS for words in MOTION_WORDS[motion]]
    if label in MOTION_LABELS:
        return [f"something {words}" for words in MOTION_WORDS[MOTION_LABELS[label]]]
    return [label, *TRAINED.get(label, ())]


def held_out_phrasings(label: str) -> list[str]:
    """Phrasings of `label` that training never uses."""
    if label in MOVING_SHAPES:
        return [pattern.format(*MOVING_SHAPES[label]) for pattern in HELD_OUT_SHAPE_PATTERNS]
    return list(HELD_OUT[label])


def random_text(rng: np.random.Generator, label: str) -> str:
    """A text to train on for `label`: itself half of the time, else any phrasing in any template."""
    if rng.random() < 0.5:
        return label
    phrasings = trained_phrasings(label)
    return str(rng.choice(TEMPLATES)).format(phrasings[rng.integers(len(phrasings))])


def training_texts() -> list[str]:
    """Every text that training can draw, templates as texts of their own."""
    shapes = [label for label in MOVING_SHAPES if label not in HELD_OUT_SHAPES]
    labels = [*TRAINED, *shapes, *COLOR_LABELS, *SHAPE_LABELS, *MOTION_LABELS]
    return [text for label in labels for text in trained_phrasings(label)] + [t.format("") for t in TEMPLATES]


def families() -> dict[str, dict[str, list[list[str]] | list[str]]]:
    """What the model is trained to tell apart, by label set: every phrasing, as all choices of parts in patterns."""
    sets = {"picture-state": PICTURE_STATES, "camera": CAMERA}
    plain = {name: [words for label in labels for words in trained_phrasings(label)] for name, labels in sets.items()}
    motions = [words for phrasings in MOTION_WORDS.values() for words in phrasings]
    return {
        **{name: {"patterns": ["{}"], "parts": [phrasings]} for name, phrasings in plain.items()},
        "moving-shapes": {"patterns": list(SHAPE_PATTERNS), "parts": [list(COLORS), list(SHAPES), motions]},
    }


def words(texts: Iterable[str]) -> list[str]:
    """The different words of `texts`, lower case, sorted."""
    return sorted({word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower())})
