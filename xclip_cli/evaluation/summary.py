"""An evaluation's figures as JSON values, which all other forms of it are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .metrics import Interval, finite
from .outcomes import TOP, Evaluation
from .protocols import DRAWS
from .truth import class_key

if TYPE_CHECKING:
    from .protocols import Protocol

SCHEMA = 1
MISSING_LISTED = 20
CUT = "records lack labels (cut by --top-k, --threshold or a minimum logit): run again with all labels"
INDEPENDENT = "scores of --multi-label do not add up to 1"


def figures(found: Evaluation, against: Evaluation | None = None, protocol: Protocol | None = None) -> dict[str, Any]:
    """All figures. What cannot be known is null, and ``unavailable`` says why."""
    header = found.header
    values: dict[str, Any] = {
        "schema": SCHEMA,
        "kind": "evaluation",
        "model": header.model if header else None,
        "views": header.views if header else None,
        "preprocess": header.preprocess if header else None,
        "labels": len(found.labels),
        **_accuracies(found),
        "missing": len(found.missing),
        "missing_videos": list(found.missing[:MISSING_LISTED]),
        "not_in_truth": found.strange,
        "log_loss": finite(found.log_loss),
        "calibration_error": finite(found.reliability.error if found.reliability else None),
    }
    if found.several:
        micro, macro = found.f1 or (None, None)
        values["mean_average_precision"] = finite(found.mean_average_precision)
        values["f1"] = {"micro": finite(micro), "macro": finite(macro), "threshold": found.threshold}
    values["unavailable"] = _unavailable(found)
    if found.splits:
        parts = {name: found.part(numbers) for name, numbers in found.splits.items()}
        values["splits"] = {name: _accuracies(part) for name, part in parts.items()}
        values["over_splits"] = {
            name: _spread([split[name]["value"] for split in values["splits"].values() if split[name]])
            for name in ("top1", f"top{TOP}", "mean_class_accuracy")
        }
    if protocol is not None:
        values["protocol"] = protocol.to_json(header)
        if protocol.drawn:
            values["draws"] = _draws(found, protocol.drawn)
    if against is not None:
        values["against"] = _comparison(found, against)
    values["classes"] = _classes(found)
    values["confusions"] = [{"right": a, "answered": b, "videos": n} for a, b, n in found.confusions()]
    return values


def _accuracies(found: Evaluation) -> dict[str, Any]:
    """Videos, those that failed, and the shares of right ones: of all, where failed is wrong, and of the others."""
    classified = found.classified
    return {
        "videos": len(found),
        "failed": int(found.failed.sum()),
        "top1": _share(found.top(1), classified.top(1)),
        f"top{TOP}": _share(found.top(TOP), classified.top(TOP)),
        "mean_class_accuracy": _share(found.mean_class_accuracy, classified.mean_class_accuracy),
    }


def _share(of_all: Interval | None, of_classified: Interval | None) -> dict[str, Any] | None:
    if of_all is None or of_classified is None:
        return None
    return {**of_all.to_json(), "of_classified": of_classified.to_json()}


def _draws(found: Evaluation, size: int) -> dict[str, Any] | None:
    """Mean and standard deviation over random draws of labels, which the labels' names alone decide."""
    order = np.array(sorted(range(len(found.labels)), key=lambda k: class_key(found.labels[k])), np.intp)
    if len(order) < size:
        return None
    parts = [found.among(np.random.default_rng(seed).choice(order, size, replace=False)) for seed in range(DRAWS)]
    drawn = [_accuracies(part) for part in parts if part]
    if not drawn:
        return None
    spreads = {name: _spread([each[name]["value"] for each in drawn]) for name in ("top1", f"top{TOP}")}
    return {"classes": size, "of": len(order), **spreads}


def _spread(values: Sequence[float | None]) -> dict[str, Any] | None:
    """Mean and standard deviation (of a sample) over splits."""
    known = [value for value in values if value is not None]
    if len(known) < 2:
        return None
    return {"mean": float(np.mean(known)), "sd": float(np.std(known, ddof=1)), "splits": len(known)}


def _unavailable(found: Evaluation) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if found.top(TOP) is None:
        reasons[f"top{TOP}"] = CUT
    if not found.several and found.log_loss is None:
        reasons["log_loss"] = CUT if found.cut else INDEPENDENT
    if found.reliability is None:
        reasons["calibration_error"] = INDEPENDENT
    if found.several and found.scores is None:
        reasons |= {"mean_average_precision": CUT, "f1": CUT}
    return reasons


def _classes(found: Evaluation) -> list[dict[str, Any]]:
    if found.several:
        return []
    counts = found.confusion
    return [
        {"label": found.labels[k], "videos": int(counts[k].sum()), "correct": int(counts[k, k]), **accuracy.to_json()}
        for k, accuracy in enumerate(found.class_accuracies)
        if accuracy is not None
    ]


def _comparison(found: Evaluation, other: Evaluation) -> dict[str, Any]:
    compared, videos = found.against(other)
    return {
        "model": other.header.model if other.header else None,
        "videos": videos,
        "difference": compared.difference.to_json(),
        "only_this": compared.only_first,
        "only_other": compared.only_second,
        "p_value": finite(compared.p_value),
    }
