"""Logits and right labels → a temperature that makes scores probabilities, and a lowest logit for each label.

What is reported is cross-validated: fitted to some of the videos, and measured on the others.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ResultsError
from ..labels import Labels
from . import metrics
from .outcomes import Evaluation

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Flags = npt.NDArray[np.bool_]

FOLDS = 5
LEAST_EXAMPLES = 5  # of a label, for a threshold
TEMPERATURES = (math.exp(-4), math.exp(4))
STEPS = 40  # of the search for the best one


@dataclass(frozen=True)
class Goal:
    """What thresholds are for: a precision or a recall of ``value``, or the best F1."""

    kind: str  # precision, recall, f1
    value: float = 0.0


@dataclass(frozen=True)
class Calibration:
    """What was fitted, and how well that does on videos that it was not fitted to."""

    temperature: float | None  # None where videos have several labels
    min_logits: dict[str, float]  # of the labels whose examples allow one
    without: dict[str, str]  # the other labels, and why
    figures: dict[str, Any]  # cross-validated


def calibrate(found: Evaluation, goal: Goal | None = None) -> Calibration:
    """Fit a temperature, and thresholds where there is a goal, to records with all logits. Raises ResultsError."""
    if found.logits is None:
        raise ResultsError("cannot fit thresholds: the records lack labels (cut by --top-k or --threshold)")
    there = ~found.failed
    if not there.any():
        raise ResultsError("cannot fit thresholds: no video was classified")
    logits = found.logits[there].astype(np.float64)
    right = found.right[there]
    wanted = right[:, None] == np.arange(len(found.labels)) if found.wanted is None else found.wanted[there]
    folds = folds_of(right)
    figures: dict[str, Any] = {"videos": int(there.sum()), "folds": int(folds.max()) + 1 if len(folds) else 0}
    temperature = None
    if not found.several:
        temperature, said = _temperature(logits, right, folds)
        figures |= said
    floors, without = dict[str, float](), dict[str, str]()
    if goal is not None:
        for k, label in enumerate(found.labels):
            fitted = threshold(goal, logits[:, k], wanted[:, k])
            if isinstance(fitted, str):
                without[label] = fitted
            else:
                floors[label] = fitted
        figures |= _validated(goal, logits, wanted, folds)
    return Calibration(temperature, floors, without, figures)


def folds_of(right: npt.NDArray[Any]) -> npt.NDArray[np.intp]:
    """[N]: the part of the data that a video is in; each label's videos are shared out evenly."""
    folds = np.zeros(len(right), np.intp)
    order = np.random.default_rng(0).permutation(len(right))
    for label in np.unique(right):
        own = order[right[order] == label]
        folds[own] = (np.arange(len(own)) + int(label)) % FOLDS
    return folds


def best_temperature(logits: Floats, right: npt.NDArray[Any]) -> float:
    """The temperature with the least log loss, with a weak belief in 1: a golden-section search over its logarithm, of
    which the loss is a function with one valley."""

    def loss(power: float) -> float:
        return nll(logits / math.exp(power), right) + power * power / (2 * max(len(right), 1))

    low, high = (math.log(limit) for limit in TEMPERATURES)
    ratio = (math.sqrt(5) - 1) / 2
    lower, upper = high - ratio * (high - low), low + ratio * (high - low)
    of_lower, of_upper = loss(lower), loss(upper)
    for _ in range(STEPS):
        if of_lower < of_upper:
            high, upper, of_upper = upper, lower, of_lower
            lower = high - ratio * (high - low)
            of_lower = loss(lower)
        else:
            low, lower, of_lower = lower, upper, of_upper
            upper = low + ratio * (high - low)
            of_upper = loss(upper)
    return math.exp((low + high) / 2)


def probabilities(logits: Floats) -> Floats:
    """Softmax over labels [N, K]."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Floats = powers / powers.sum(axis=1, keepdims=True)
    return shares


def nll(logits: Floats, right: npt.NDArray[Any]) -> float:
    """Log loss of softmax."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return float((np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(right)), right]).mean())


def _temperature(logits: Floats, right: npt.NDArray[Any], folds: npt.NDArray[Any]) -> tuple[float, dict[str, Any]]:
    """The temperature, 1 where another does not help on held-out videos; and loss and calibration error before and
    after, of those."""
    scaled = logits.copy()
    for fold in np.unique(folds):
        held = folds == fold
        if (~held).any():
            scaled[held] /= best_temperature(logits[~held], right[~held])
    before, after = nll(logits, right), nll(scaled, right)
    helps = after < before
    kept = scaled if helps else logits
    return best_temperature(logits, right) if helps else 1.0, {
        "log_loss": {"before": before, "after": min(before, after)},
        "calibration_error": {"before": _error(logits, right), "after": _error(kept, right)},
    }


def _error(logits: Floats, right: npt.NDArray[Any]) -> float:
    shares = probabilities(logits)
    return metrics.reliability(shares.max(axis=1), shares.argmax(axis=1) == right).error


def threshold(goal: Goal, logits: Floats, wanted: Flags) -> float | str:
    """The logit from which on a label counts as given; or why there is none. Midway between two videos' logits.

    A precision is estimated with one more right and one more wrong video (the rule of succession): a handful of right
    ones does not prove it.
    """
    positives = int(wanted.sum())
    if positives < LEAST_EXAMPLES:
        return f"too few examples: {positives}, at least {LEAST_EXAMPLES} are needed"
    values, hits, taken = metrics.steps(wanted, logits)
    if goal.kind == "precision":
        good = np.flatnonzero((hits + 1) / (taken + 2) >= goal.value)
        if not len(good):
            needed = math.ceil((2 * goal.value - 1) / max(1 - goal.value, 1e-9) - 1e-6)
            few = f"too few examples: {positives}, at least {needed} are needed" if positives < needed else ""
            return few or f"no threshold has a precision of {goal.value:g}"
        place = int(good[-1])
    elif goal.kind == "recall":
        place = int(np.flatnonzero(hits >= goal.value * positives)[0])
    else:
        place = int(np.argmax(2 * hits / (taken + positives)))
    below = values[place + 1] if place + 1 < len(values) else values[place] - 1.0
    return float((values[place] + below) / 2)


def _validated(goal: Goal, logits: Floats, wanted: Flags, folds: npt.NDArray[Any]) -> dict[str, Any]:
    """Precision and recall of decisions about videos that thresholds were not fitted to, of labels that have one."""
    counts = np.zeros(3, int)  # right, given, wanted
    for fold in np.unique(folds):
        held = folds == fold
        for k in range(logits.shape[1]):
            fitted = threshold(goal, logits[~held, k], wanted[~held, k])
            if not isinstance(fitted, str):
                given = logits[held, k] >= fitted
                counts += [(given & wanted[held, k]).sum(), given.sum(), wanted[held, k].sum()]
    right, given, asked = map(int, counts)
    shares = {"precision": metrics.proportion(right, given), "recall": metrics.proportion(right, asked)}
    return {name: share.to_json() for name, share in shares.items()}


def label_file(labels: Labels, fitted: Calibration, model: str) -> str:
    """The content of a label file that ``--labels`` takes: for this model alone."""
    entries = {
        name: {"texts": list(texts)} | ({"min_logit": fitted.min_logits[name]} if name in fitted.min_logits else {})
        for name, texts in zip(labels.names, labels.texts, strict=True)
    }
    values = {"labels": entries, "temperature": fitted.temperature, "model": model}
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
