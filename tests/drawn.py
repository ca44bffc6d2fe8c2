"""Clips that the bundled model's generator draws, as the model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xclip_cli.bundled.generator import make_clip
from xclip_cli.bundled.pictures import make_picture
from xclip_cli.classifier import Classifier


@dataclass(frozen=True)
class Encoded:
    """Of N clips, whose labels are right."""

    labels: tuple[str, ...]
    right: np.ndarray[Any, Any]  # [N]
    features: np.ndarray[Any, Any]  # [N, P]
    logits: np.ndarray[Any, Any]  # [N, K]
    scale: float  # of logits over cosines


def encoded_clips(labels: Sequence[str], count: int, seed: int = 0) -> Encoded:
    """``count`` clips of each label, drawn and looked at."""
    rng = np.random.default_rng(seed)
    pictures = [make_picture(rng, 256) for _ in range(6)]
    right, features, logits = [], [], []
    with Classifier("bundled", labels=labels, dtype="float32") as classifier:
        classifier.load()
        encoder = classifier.encoder
        for k, label in enumerate(labels):
            clips = [make_clip(rng, label, pictures, height=56, width=56).frames for _ in range(count)]
            found = encoder.compute([encoder.decoded_frames(list(clip)) for clip in clips], list)
            for each in found:
                right.append(k)
                features.append(each.features[0].numpy())
                logits.append(encoder.similarity(classifier.text_features, each.features, each.tokens)[0].numpy())
        scale = float(encoder.model.logit_scale.detach().exp())
    return Encoded(tuple(labels), np.array(right), np.array(features), np.array(logits), scale)
