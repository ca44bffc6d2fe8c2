from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics as theirs
from sklearn.calibration import calibration_curve

from xclip_cli.evaluation import metrics
from xclip_cli.evaluation.metrics import Interval

# What statsmodels 0.15 says: proportion_confint(method="wilson"), mcnemar(exact=True).
WILSON = {
    (0, 10): (0.0, 0.27753279986288926),
    (1, 10): (0.017876213095072924, 0.40415002679523854),
    (5, 10): (0.23659309051256394, 0.7634069094874361),
    (10, 10): (0.7224672001371106, 1.0),
    (81, 263): (0.2552885198782742, 0.36620957698280004),
    (1500, 2000): (0.7305556107841923, 0.7684858655751813),
    (1, 1): (0.2065493143772374, 1.0),
}
MCNEMAR = {(1, 7): 0.0703125, (10, 10): 1.0, (0, 3): 0.25, (30, 12): 0.007915897334896727, (0, 0): 1.0}
MCNEMAR[200, 150] = 0.008720036530555947


@pytest.mark.parametrize(("count", "total"), WILSON)
def test_intervals_of_shares(count: int, total: int) -> None:
    assert metrics.proportion(count, total) == pytest.approx((count / total, *WILSON[count, total]), abs=1e-12)


def test_the_interval_of_a_mean_of_one_share_is_that_share() -> None:
    only = metrics.proportion(3, 7)
    assert metrics.mean_of([only]) == pytest.approx(only)


def test_the_interval_of_a_mean_by_hand() -> None:
    # 1 of 10 and 5 of 10: the distances to their limits, squared, added, and the root halved
    below = math.hypot(0.1 - 0.017876213095072924, 0.5 - 0.23659309051256394) / 2
    above = math.hypot(0.40415002679523854 - 0.1, 0.7634069094874361 - 0.5) / 2
    found = metrics.mean_of([metrics.proportion(1, 10), metrics.proportion(5, 10)])
    assert found == pytest.approx((0.3, 0.3 - below, 0.3 + above), abs=1e-12)


def test_intervals_of_means_hold_the_truth() -> None:
    """In about 95 of 100 draws, with few videos a class and very different classes."""
    rng = np.random.default_rng(0)
    shares, counts = rng.uniform(0.05, 1, 20), rng.integers(3, 30, 20)
    held = []
    for _ in range(1000):
        parts = [metrics.proportion(int(rng.binomial(n, p)), int(n)) for n, p in zip(counts, shares, strict=True)]
        _, low, high = metrics.mean_of(parts)
        held.append(low <= shares.mean() <= high)
    assert 0.93 <= np.mean(held) <= 0.995


def test_nothing_is_known_of_nothing() -> None:
    for found in (metrics.proportion(0, 0), metrics.mean_of([])):
        assert all(math.isnan(value) for value in found)
    assert math.isnan(metrics.log_loss(np.array([])))
    assert math.isnan(metrics.reliability(np.array([]), np.array([], bool)).error)


@pytest.mark.parametrize("seed", range(5))
def test_confusion_and_mean_class_accuracy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    right, answered = rng.integers(0, 7, 60), rng.integers(-1, 9, 60)  # classes 7 and 8 have no video; -1 is no answer
    counts = metrics.confusion_matrix(right, answered, 9)
    expected = theirs.confusion_matrix(right, np.where(answered < 0, 9, answered), labels=range(10))
    assert (counts == expected[:9]).all()
    each = [accuracy for accuracy in metrics.class_accuracies(counts) if accuracy is not None]
    recall = theirs.recall_score(right, answered, labels=np.unique(right), average="macro")
    assert metrics.mean_of(each).value == pytest.approx(recall)
    assert len(each) == len(np.unique(right))


@pytest.mark.parametrize("seed", range(5))
def test_average_precision_and_f1(seed: int) -> None:
    rng = np.random.default_rng(seed)
    wanted = rng.random((50, 6)) < 0.3
    scores = rng.integers(0, 8, (50, 6)) / 8  # many are equal
    for k in range(6):
        expected = theirs.average_precision_score(wanted[:, k], scores[:, k])
        assert metrics.average_precision(wanted[:, k], scores[:, k]) == pytest.approx(expected)
    given = scores >= 0.5
    expected = [theirs.f1_score(wanted, given, average=average) for average in ("micro", "macro")]
    assert metrics.f1(wanted, given) == pytest.approx(expected)


def test_labels_without_videos() -> None:
    assert math.isnan(metrics.average_precision(np.zeros(3, bool), np.arange(3.0)))
    assert metrics.f1(np.array([[True, False]]), np.array([[True, True]])) == pytest.approx((2 / 3, 1.0))


def test_log_loss_and_calibration() -> None:
    rng = np.random.default_rng(1)
    logits = rng.normal(size=(400, 5)) * 4
    scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    scores[0] = [0, 1, 0, 0, 0]  # sure, and wrong
    right = rng.integers(0, 5, 400)
    right[0] = 0
    ours = metrics.log_loss(scores[np.arange(400), right])
    assert ours == pytest.approx(theirs.log_loss(right, scores, labels=range(5)))
    best, correct = scores.max(axis=1), scores.argmax(axis=1) == right
    found = metrics.reliability(best, correct)
    accuracy, confidence = calibration_curve(correct, best, n_bins=metrics.BINS)
    filled = found.counts > 0
    assert found.accuracy[filled] == pytest.approx(accuracy)
    assert found.confidence[filled] == pytest.approx(confidence)
    gaps = abs(accuracy - confidence)
    assert found.error == pytest.approx((gaps * found.counts[filled]).sum() / 400)


@pytest.mark.parametrize(("b", "c"), MCNEMAR)
def test_two_runs(b: int, c: int) -> None:
    first = np.array([True] * b + [False] * c + [True] * 5 + [False] * 5)
    second = np.array([False] * b + [True] * c + [True] * 5 + [False] * 5)
    found = metrics.compare(first, second)
    assert (found.only_first, found.only_second) == (b, c)
    assert found.p_value == pytest.approx(MCNEMAR[b, c])
    assert found.difference.value == pytest.approx((b - c) / len(first))
    assert found.difference.low < found.difference.high


def test_the_interval_of_a_difference_by_hand() -> None:
    # Bonett and Price: 2 and 8 of 23 pairs in place of 1 and 7 of 21
    first = np.array([True] * 1 + [False] * 7 + [True] * 1 + [False] * 12)
    second = np.array([False] * 1 + [True] * 7 + [True] * 1 + [False] * 12)
    spread = metrics.NORMAL_95 * math.sqrt((10 / 23 - (6 / 23) ** 2) / 23)
    expected = Interval(-6 / 21, -6 / 23 - spread, -6 / 23 + spread)
    assert metrics.compare(first, second).difference == pytest.approx(expected)


def test_no_pair_is_no_difference() -> None:
    assert math.isnan(metrics.compare(np.array([], bool), np.array([], bool)).difference.value)
