"""The arithmetic of evaluation: arrays in, numbers out.

Of N videos and K labels: ``right`` [N] and ``answered`` [N] are labels by their numbers, -1 where there is none: a
video that failed has no answer, and no answer is a wrong one. Where nothing can be computed the value is nan.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.floating[Any]]
    Numbers = npt.NDArray[np.integer[Any]]
    Flags = npt.NDArray[np.bool_]

NORMAL_95 = 1.959963984540054  # standard deviations on either side that hold 95 % of a normal distribution
LEAST_PROBABILITY = float(np.finfo(np.float64).eps)  # a score of 0 for the right label would be an infinite loss
BINS = 15  # of confidence


def finite(value: float | None) -> float | None:
    """A number for JSON, which has no nan: None in its place."""
    return None if value is None or not math.isfinite(value) else float(value)


class Interval(NamedTuple):
    """A value and its 95 % interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, float | None]:
        """As JSON values; JSON has no nan."""
        return {name: finite(value) for name, value in self._asdict().items()}


def proportion(count: int, total: int) -> Interval:
    """``count`` of ``total``, with Wilson's interval."""
    if not total:
        return Interval(math.nan, math.nan, math.nan)
    share, z = count / total, NORMAL_95
    centre = (share + z * z / (2 * total)) / (1 + z * z / total)
    spread = z / (1 + z * z / total) * math.sqrt(share * (1 - share) / total + z * z / (4 * total * total))
    low, high = max(centre - spread, 0.0), min(centre + spread, 1.0)
    return Interval(share, 0.0 if count == 0 else low, 1.0 if count == total else high)


def mean_of(parts: Sequence[Interval]) -> Interval:
    """The mean of independent proportions; its interval is made of theirs (MOVER, Zou and Donner 2008)."""
    if not parts:
        return Interval(math.nan, math.nan, math.nan)
    value = sum(part.value for part in parts) / len(parts)
    below = math.sqrt(sum((part.value - part.low) ** 2 for part in parts)) / len(parts)
    above = math.sqrt(sum((part.high - part.value) ** 2 for part in parts)) / len(parts)
    return Interval(value, max(value - below, 0.0), min(value + above, 1.0))


def confusion_matrix(right: Numbers, answered: Numbers, labels: int) -> Numbers:
    """[K, K + 1]: of the videos of each label, how many were called what; in the last column those without an
    answer."""
    known = right >= 0
    cells = right[known] * (labels + 1) + np.where(answered[known] < 0, labels, answered[known])
    return np.bincount(cells, minlength=labels * (labels + 1)).reshape(labels, labels + 1)


def class_accuracies(confusion: Numbers) -> list[Interval | None]:
    """Of each label, the share of its videos that are right; None if it has no video."""
    totals = confusion.sum(axis=1)
    return [proportion(int(confusion[k, k]), int(n)) if n else None for k, n in enumerate(totals)]


def log_loss(probabilities: Floats) -> float:
    """The mean of -ln p, of the scores [N] that the right labels have."""
    if not len(probabilities):
        return math.nan
    clipped = np.clip(np.asarray(probabilities, np.float64), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    return float(-np.log(clipped).mean())


class Reliability(NamedTuple):
    """What answers of about the same confidence are worth, a bin each; empty bins are nan."""

    counts: Numbers
    confidence: Floats  # the mean
    accuracy: Floats

    @property
    def error(self) -> float:
        """The expected calibration error: the mean gap between confidence and accuracy, weighted by counts."""
        filled = self.counts > 0
        if not filled.any():
            return math.nan
        gaps = np.abs(self.confidence[filled] - self.accuracy[filled])
        return float((gaps * self.counts[filled]).sum() / self.counts.sum())


def reliability(confidence: Floats, correct: Flags, bins: int = BINS) -> Reliability:
    """Bins of equal width of the best labels' scores [N], open below and closed above."""
    places = np.clip(np.ceil(np.asarray(confidence, np.float64) * bins).astype(int) - 1, 0, bins - 1)
    counts = np.bincount(places, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(places, values, minlength=bins) / counts for values in (confidence, correct)]
    return Reliability(counts, means[0], means[1])


def steps(wanted: Flags, scores: Floats) -> tuple[Floats, Numbers, Floats]:
    """One label's scores [N], best first, equal ones once → each, how many that are wanted have it or a higher one, and
    how many in all."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    last_of_equal = np.append(ranked[1:] != ranked[:-1], True)
    taken = (np.flatnonzero(last_of_equal) + 1).astype(np.float64)
    return ranked[last_of_equal], np.cumsum(wanted[order])[last_of_equal], taken


def average_precision(wanted: Flags, scores: Floats) -> float:
    """The area under one label's precision-recall curve, in steps: equal scores [N] are one step."""
    positives = int(wanted.sum())
    if not positives:
        return math.nan
    _, hits, taken = steps(wanted, scores)
    return float((np.diff(hits, prepend=0) * (hits / taken)).sum() / positives)


def f1(wanted: Flags, given: Flags) -> tuple[float, float]:
    """F1 of decisions [N, K]: over all of them together, and the mean of the labels that any video has."""
    both = (wanted & given).sum(axis=0)
    either = wanted.sum(axis=0) + given.sum(axis=0)
    with np.errstate(invalid="ignore"):
        each = np.where(either > 0, 2 * both / either, 0.0)[wanted.any(axis=0)]
        total = 2 * both.sum() / either.sum() if either.sum() else math.nan
    return float(total), float(each.mean()) if len(each) else math.nan


class Comparison(NamedTuple):
    """Two runs on the same videos."""

    difference: Interval  # of accuracies, first minus second
    only_first: int  # videos that only the first run has right
    only_second: int
    p_value: float  # McNemar's exact test, two-sided


def compare(first: Flags, second: Flags) -> Comparison:
    """Which of two runs is right [N] more often. The interval is that of Bonett and Price (2012), which is McNemar's
    with one pair added to each kind of disagreement, so that few pairs do not look certain."""
    count, b, c = len(first), int((first & ~second).sum()), int((second & ~first).sum())
    if not count:
        return Comparison(Interval(math.nan, math.nan, math.nan), 0, 0, math.nan)
    p, q = (b + 1) / (count + 2), (c + 1) / (count + 2)
    spread = NORMAL_95 * math.sqrt((p + q - (p - q) ** 2) / (count + 2))
    interval = Interval((b - c) / count, max(p - q - spread, -1.0), min(p - q + spread, 1.0))
    return Comparison(interval, b, c, _binomial_test(min(b, c), b + c))


def _binomial_test(fewer: int, total: int) -> float:
    """How likely a fair coin is to split ``total`` throws at least as unevenly as ``fewer`` to the rest."""
    if not total:
        return 1.0
    terms = [_log_binomial(total, k) for k in range(fewer + 1)]
    most = max(terms)
    return min(1.0, 2 * math.exp(most) * sum(math.exp(term - most) for term in terms))


def _log_binomial(total: int, k: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1) - total * math.log(2)
