"""The checkpoints that X-CLIP's authors published on the hub, as ``public.json`` has them. Never imports torch."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

PREFIX = "microsoft/xclip-"
OPEN_LABELS_MODEL = f"{PREFIX}base-patch16-zero-shot"  # what its authors recommend for labels of one's own

# What the published probabilities were made with: dataset, its clip for each number of frames, and the texts.
PUBLISHED_DATASET = "hf-internal-testing/spaghetti-video"
PUBLISHED_CLIPS = {8: "eating_spaghetti_8_frames.npy", 16: "eating_spaghetti.npy", 32: "eating_spaghetti_32_frames.npy"}
PUBLISHED_TEXTS = ("playing sports", "eating spaghetti", "go shopping")
PUBLISHED_LOGITS = {"microsoft/xclip-base-patch32": (14.0181, 20.2771, 14.4776)}
PUBLISHED_TOLERANCE = 1e-3  # of probabilities and logits, as in the sources of these figures


@dataclass(frozen=True)
class PublicCheckpoint:
    """One of them. Accuracies are top-1, or top-1 / top-5, in percent, as published."""

    name: str  # the hub id
    patch_size: int
    num_frames: int
    image_size: int
    trained_on: str
    accuracy: str
    protocol: str  # views a video that the accuracy was measured with
    original: str | None  # the authors' own file, where it has a name
    megabytes: int  # of the weights, in float32
    gmac: float  # billions of multiplications a clip, texts not counted
    cpu_seconds: float  # a clip, of model alone: measured on 2 cores that compute bfloat16 natively
    published_probabilities: tuple[float, ...]  # of PUBLISHED_TEXTS

    @property
    def short_name(self) -> str:
        """What is enough to type."""
        return self.name.removeprefix(PREFIX)


@cache
def public_checkpoints() -> dict[str, PublicCheckpoint]:
    """All of them, by hub id."""
    rows = json.loads((Path(__file__).with_name("public.json")).read_text(encoding="utf-8"))
    return {
        row["name"]: PublicCheckpoint(**{**row, "published_probabilities": tuple(row["published_probabilities"])})
        for row in rows
    }


def nearest(name: str) -> str:
    """A hint at the public checkpoints whose names are nearest, or nothing."""
    known = [*public_checkpoints(), *(public.short_name for public in public_checkpoints().values())]
    near = [] if name in known else difflib.get_close_matches(name, known, 3)
    return f"did you mean {', '.join([*near[:-2], ' or '.join(near[-2:])])}? " if near else ""


def full_name(name: str) -> str:
    """A public checkpoint's hub id from its short name; any other name as it is."""
    for candidate in (PREFIX + name, "microsoft/" + name):
        if candidate in public_checkpoints():
            return candidate
    return name
