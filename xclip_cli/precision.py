"""Precisions of a model beside float32: how far its logits are off, whether its answers stay, how fast it is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .classifier import Classifier
from .engine.devices import AUTO, check_precision
from .errors import XClipError
from .labels import Labels
from .model.checkpoint.find import Checkpoint
from .results.records import Prediction

EXACT, USUAL = "float32", "bfloat16"
MOST_DIFFERENCE = 1.5  # times bfloat16's
LEAST_AGREEMENT = 0.995  # of the best labels
ROUNDS = 5  # that a rate is the median of


@dataclass(frozen=True)
class Measured:
    """A precision on some videos; agreements are shares of them."""

    dtype: str
    largest_difference: float  # of a logit, from float32's
    median_difference: float
    top_1: float  # the best label is the same
    top_5: float  # the five best are the same, in any order
    clips_per_second: float  # of the model, without decoding; of a CPU, on one core
    failed: int = 0  # videos that it gives no finite numbers for


@dataclass(frozen=True)
class Comparison:
    """Precisions, float32 first, on so many videos and labels, and which to use."""

    device: str
    videos: int
    labels: int
    precisions: tuple[Measured, ...]

    @property
    def advised(self) -> Measured:
        """The fastest that keeps to float32: nearly all its best labels, and logits not much further off than those of
        bfloat16."""
        usual = next(one for one in self.precisions if one.dtype == USUAL)
        fitting = [
            one
            for one in self.precisions
            if one.top_1 >= LEAST_AGREEMENT
            and not one.failed
            and one.largest_difference <= MOST_DIFFERENCE * usual.largest_difference
            and one.median_difference <= MOST_DIFFERENCE * usual.median_difference
        ]
        return max(fitting, key=lambda one: one.clips_per_second)  # float32 itself is always among them

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "device": self.device,
            "videos": self.videos,
            "labels": self.labels,
            "precisions": [vars(one) for one in self.precisions],
            "advised": self.advised.dtype,
        }


def compare(
    checkpoint: Checkpoint, labels: Labels, videos: Iterable[str], dtypes: Sequence[str], device: str = AUTO
) -> Comparison:
    """Measure ``dtypes``, and bfloat16 in any case, against float32 on the videos that can be read.

    Raises XClipError if none can, or the device lacks a precision, ModelError and LabelsError.
    """
    paths = list(videos)
    made = {
        dtype: Classifier(checkpoint, labels=labels, dtype=dtype, device=device)
        for dtype in dict.fromkeys((EXACT, USUAL, *dtypes))
    }
    for dtype, classifier in made.items():
        check_precision(dtype, classifier.encoder.devices)  # before anything is computed
    found = {dtype: dict(_logits(classifier, paths)) for dtype, classifier in made.items()}
    exact = found[EXACT]
    if not exact:
        raise XClipError(f"none of the {len(paths)} videos can be read: `xclip classify` says why")
    rates = _rates(made)
    precisions = tuple(_measured(dtype, exact, found[dtype], rates[dtype]) for dtype in made)
    return Comparison(str(made[EXACT].encoder.device), len(exact), len(labels.names), precisions)


def _logits(classifier: Classifier, paths: Sequence[str]) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Of each video that has any, in the order of the labels."""
    names = classifier.labels.names
    with classifier:
        for record in classifier.classify_all(paths):
            if isinstance(record, Prediction):
                logits = {ranked.label: ranked.logit for ranked in record.predictions}
                yield record.video, np.array([logits[name] for name in names])


def _measured(
    dtype: str, exact: dict[str, npt.NDArray[np.float64]], found: dict[str, npt.NDArray[np.float64]], rate: float
) -> Measured:
    both = [video for video in exact if video in found]
    differences = np.concatenate([np.abs(exact[video] - found[video]) for video in both] or [np.zeros(0)])
    return Measured(
        dtype=dtype,
        largest_difference=float(differences.max(initial=0.0)),
        median_difference=float(np.median(differences)) if len(differences) else 0.0,
        top_1=_agreement(exact, found, 1),
        top_5=_agreement(exact, found, 5),
        clips_per_second=rate,
        failed=len(exact) - len(both),
    )


def _agreement(
    exact: dict[str, npt.NDArray[np.float64]], found: dict[str, npt.NDArray[np.float64]], count: int
) -> float:
    """The share of videos with the same ``count`` best labels; one that is not ``found`` has others."""
    same = sum(
        set(np.argsort(-logits, kind="stable")[:count]) == set(np.argsort(-found[video], kind="stable")[:count])
        for video, logits in exact.items()
        if video in found
    )
    return same / len(exact)


def _rates(classifiers: dict[str, Classifier]) -> dict[str, float]:
    """Clips per second, in batches as large as a long run's. They take turns: what else the machine does weighs on all
    alike."""
    import torch

    encoder = next(iter(classifiers.values())).encoder
    vision = encoder.config.vision_config
    shape = (encoder.clips_at_once, vision.num_frames, vision.num_channels, vision.image_size, vision.image_size)
    clips = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seconds: dict[str, list[float]] = {dtype: [] for dtype in classifiers}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a run, which has a batch on each core
    try:
        for _ in range(1 + ROUNDS):  # the first warms up
            for dtype, classifier in classifiers.items():
                classifier.encoder.pack()
                began = time.perf_counter()
                classifier.logits(clips).cpu()  # waits for the device
                seconds[dtype].append(time.perf_counter() - began)
    finally:
        torch.set_num_threads(threads)
    return {dtype: len(clips) / statistics.median(taken[1:]) for dtype, taken in seconds.items()}
