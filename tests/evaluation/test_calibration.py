from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn import encoded_clips
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from xclip_cli.errors import LabelsError, ResultsError
from xclip_cli.evaluation import Evaluation, Truth, evaluate
from xclip_cli.evaluation.calibration import (
    FOLDS,
    Goal,
    best_temperature,
    calibrate,
    folds_of,
    label_file,
    nll,
    probabilities,
    threshold,
)
from xclip_cli.evaluation.metrics import proportion, reliability
from xclip_cli.labels import Labels, load_labels
from xclip_cli.results.records import Failure, Frames, Prediction, RankedLabel, Record

FRAMES = Frames(8, 8, 0, 0, (0.5,))


def drawn(seed: int, count: int = 400, labels: int = 6, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose softmax is right at the scale 1, and right labels drawn from it."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, labels)) * 2
    right = np.array([rng.choice(labels, p=p) for p in probabilities(logits)])
    return logits * scale, right


def evaluation(logits: np.ndarray, right: Iterable[Any], names: list[str] | None = None, keep: int = 0) -> Evaluation:
    names = names or [f"label {k}" for k in range(logits.shape[1])]
    records: list[Record] = [Failure("failed.mp4", "missing", "no such file")]
    for i, row in enumerate(logits):
        scores = probabilities(row[None])[0]
        ranked = [RankedLabel(names[k], float(scores[k]), float(row[k])) for k in np.argsort(-row)]
        records.append(Prediction(f"{i}.mp4", "m", None, 0.0, 1.0, FRAMES, tuple(ranked[: keep or None])))
    truth = {f"{i}.mp4": names[k] for i, k in enumerate(right)} | {"failed.mp4": names[0]}
    return evaluate(records, Truth.of(truth), keep_scores=True)


@pytest.mark.parametrize("scale", [0.3, 1.0, 3.0])
def test_the_best_temperature_is_that_of_scipy(scale: float) -> None:
    logits, right = drawn(0, scale=scale)
    assert nll(logits, right) == pytest.approx(log_loss(right, probabilities(logits), labels=range(6)))
    belief = 2 * len(right)
    theirs = minimize_scalar(lambda power: nll(logits / np.exp(power), right) + power**2 / belief, bracket=(-1, 1))
    assert best_temperature(logits, right) == pytest.approx(np.exp(theirs.x), rel=1e-4)
    assert best_temperature(logits, right) == pytest.approx(scale, rel=0.2)


@pytest.mark.parametrize("seed", range(5))
def test_log_loss_never_rises_and_wrong_scales_are_mended(seed: int) -> None:
    for scale in (1.0, 3.0):
        fitted = calibrate(evaluation(*drawn(seed, scale=scale))).figures
        assert fitted["log_loss"]["after"] <= fitted["log_loss"]["before"]
    assert fitted["calibration_error"]["after"] <= fitted["calibration_error"]["before"] / 2


def test_a_temperature_that_does_not_help_is_1() -> None:
    """Few videos, whose right labels have nothing to do with the logits that were fitted in part."""
    right = np.arange(6) % 3
    logits = np.eye(3)[right] * np.array([5, 5, 5, 5, -9, 5])[:, None]
    fitted = calibrate(evaluation(logits, right))
    figures = fitted.figures
    assert figures["log_loss"]["after"] <= figures["log_loss"]["before"]


def test_folds_share_out_every_label() -> None:
    right = np.array([0] * 10 + [1] * 5 + [2] * 3)
    folds = folds_of(right)
    assert (folds == folds_of(right)).all()
    assert [np.bincount(folds[right == k], minlength=FOLDS).max() for k in range(3)] == [2, 1, 1]
    assert set(folds) == set(range(FOLDS))


def test_thresholds_by_hand() -> None:
    logits = np.array([9.0, 8, 7, 6, 5, 4, 3, 2, 1, 0])
    wanted = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0], bool)
    assert threshold(Goal("recall", 0.8), logits, wanted) == 4.5
    assert threshold(Goal("recall", 1.0), logits, wanted) == 3.5
    assert threshold(Goal("f1"), logits, wanted) == 3.5
    # (5 + 1) / (6 + 2) = 0.75; one more right video would be needed for more
    assert threshold(Goal("precision", 0.75), logits, wanted) == 3.5
    assert threshold(Goal("precision", 0.8), logits, wanted) == 6.5
    assert threshold(Goal("precision", 0.9), logits, wanted) == "too few examples: 5, at least 8 are needed"
    assert threshold(Goal("f1"), logits, wanted & (logits > 6)) == "too few examples: 3, at least 5 are needed"
    many = np.tile([True, False], 50)
    assert "no threshold has a precision of" in str(threshold(Goal("precision", 0.9), np.zeros(100), many))


def test_equal_logits_are_on_one_side() -> None:
    logits = np.array([2.0] * 6 + [1.0] * 6)
    wanted = np.array([True] * 5 + [False] + [True] + [False] * 5)
    assert threshold(Goal("recall", 0.5), logits, wanted) == 1.5
    assert threshold(Goal("recall", 1.0), logits, wanted) == 0.5


@pytest.mark.parametrize("kind", ["precision", "recall"])
def test_held_out_videos_reach_the_goal(kind: str) -> None:
    logits, right = drawn(2, 3000)
    goal = Goal(kind, 0.6)
    figures = calibrate(evaluation(logits[:2000], right[:2000]), goal).figures
    assert figures[kind]["high"] >= 0.6
    assert figures[kind]["value"] == pytest.approx(0.6, abs=0.08)


def test_records_that_were_cut_are_refused() -> None:
    logits, right = drawn(0, 50)
    with pytest.raises(ResultsError, match="cannot fit thresholds"):
        calibrate(evaluation(logits, right, keep=3))


def test_nothing_is_fitted_to_failures() -> None:
    found = evaluate([Failure("a.mp4", "missing", "no such file")], Truth.of({"a.mp4": "x"}), keep_scores=True)
    with pytest.raises(ResultsError, match="cannot fit thresholds: no video was classified"):
        calibrate(found)


def test_the_label_file_goes_round(tmp_path: Path) -> None:
    logits, right = drawn(1)
    fitted = calibrate(evaluation(logits, right), Goal("recall", 0.5))
    labels = Labels.of([f"label {k}" for k in range(6)], ["a video of {}", "{}"])
    path = tmp_path / "calibrated.json"
    path.write_text(label_file(labels, fitted, "sha256:abc"))
    loaded = load_labels([str(path)])
    assert (loaded.names, loaded.texts, loaded.model) == (labels.names, labels.texts, "sha256:abc")
    assert loaded.temperature == fitted.temperature
    assert loaded.min_logits == tuple(fitted.min_logits[name] for name in labels.names)
    for more in ({"names": ["x"]}, {"templates": ["a {}"]}, {"sources": [str(path), "camera"]}):
        with pytest.raises(LabelsError, match="is calibrated for its own labels and texts"):
            load_labels(**{"sources": [str(path)], **more})


@pytest.mark.parametrize(
    ("values", "names"),
    [
        ({"labels": ["a", "b"], "temperature": ["hot"], "model": "toy"}, ("labels", "temperature", "model")),
        ({"labels": {"texts": ["a"]}, "model": ["x"]}, ("labels", "model")),
    ],
)
def test_old_forms_stay(values: dict[str, Any], names: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    path.write_text(json.dumps(values))
    assert load_labels([str(path)]).names == names
    assert load_labels([str(path)]).temperature is None


@pytest.mark.parametrize(
    "change",
    [*({"temperature": t} for t in (-1, 0, 1e-320, 1e7, True)), {"model": 3}, {"labels": []}, {"x": 1}],
)
def test_files_that_make_no_sense(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "l.json"
    path.write_text(json.dumps({"labels": {"a": ["a"]}, "temperature": 2, "model": "sha256:abc"} | change))
    with pytest.raises(LabelsError, match="calibrated labels are"):
        load_labels([str(path)])


@pytest.mark.slow
def test_clips_that_the_model_sees() -> None:
    """Thresholds and a temperature fitted to half of generated clips, on the other half."""
    names = list(load_labels(["picture-state"]).names)
    clips = encoded_clips(names, 100)
    half = np.arange(len(clips.right)) % 2 == 0
    for scale in (1.0, 3.0):
        logits = clips.logits.astype(np.float64) * scale
        fitted = calibrate(evaluation(logits[half], clips.right[half], names), Goal("precision", 0.9))
        floors = np.array([fitted.min_logits.get(name, np.inf) for name in names])
        given = logits[~half] >= floors
        wanted = clips.right[~half][:, None] == np.arange(len(names))
        assert len(fitted.min_logits) > len(names) / 2
        assert proportion(int((given & wanted).sum()), int(given.sum())).high >= 0.9
        held, right = logits[~half], clips.right[~half]
        mended = held / (fitted.temperature or 1)
        assert nll(mended, right) <= nll(held, right)
    before, after = (
        reliability(shares.max(axis=1), shares.argmax(axis=1) == right).error
        for shares in (probabilities(held), probabilities(mended))
    )
    assert after <= before / 2
