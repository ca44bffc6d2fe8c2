"""A precision beside float32: what is measured, and what follows from it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip
from conftest import Run

from xclip_cli import Classifier, XClipError
from xclip_cli.labels import Labels
from xclip_cli.model.checkpoint.find import find_checkpoint
from xclip_cli.precision import Comparison, Measured, compare

EXACT = Measured("float32", 0.0, 0.0, 1.0, 1.0, 10.0)
USUAL = Measured("bfloat16", 0.1, 0.01, 1.0, 1.0, 20.0)
LABELS = ["a cat", "a dog", "a car", "a house", "a tree", "a street", "a river"]


def advice(*precisions: Measured) -> str:
    return Comparison("cpu", 300, 5, precisions).advised.dtype


@pytest.mark.parametrize(
    ("measured", "expected"),
    [
        (Measured("int8", 0.14, 0.014, 0.997, 0.9, 30.0), "int8"),
        (Measured("int8", 0.14, 0.014, 0.997, 0.9, 15.0), "bfloat16"),  # slower
        (Measured("int8", 0.16, 0.014, 1.0, 1.0, 30.0), "bfloat16"),  # too far off
        (Measured("int8", 0.14, 0.016, 1.0, 1.0, 30.0), "bfloat16"),
        (Measured("int8", 0.14, 0.014, 0.99, 1.0, 30.0), "bfloat16"),  # other answers
        (Measured("int8", 0.0, 0.0, 1.0, 1.0, 30.0, failed=1), "bfloat16"),
    ],
)
def test_the_fastest_that_keeps_to_float32_is_advised(measured: Measured, expected: str) -> None:
    assert advice(EXACT, USUAL, measured) == expected


def test_where_none_keeps_to_it_float32_is_advised() -> None:
    assert advice(EXACT, Measured("bfloat16", 9.0, 1.0, 0.9, 0.9, 20.0)) == "float32"


def test_differences_and_agreement_are_those_of_the_records(checkpoint: Path, tmp_path: Path) -> None:
    """A video that cannot be read is none of them."""
    videos = [str(write_clip(tmp_path / f"{count}.mp4", count)) for count in (8, 20, 45)]
    labels = Labels.of(LABELS)
    found = compare(find_checkpoint(str(checkpoint)), labels, [*videos, "missing.mp4"], ["bfloat16"], "cpu")
    assert (found.videos, found.labels, found.device) == (3, 7, "cpu")
    assert [one.dtype for one in found.precisions] == ["float32", "bfloat16"]
    logits = {}
    for dtype in ("float32", "bfloat16"):
        with Classifier(checkpoint, labels=LABELS, dtype=dtype, device="cpu") as classifier:
            records = list(classifier.classify_all(videos))
        logits[dtype] = np.array(
            [[next(r.logit for r in p.predictions if r.label == x) for x in LABELS] for p in records]
        )
    differences = np.abs(logits["float32"] - logits["bfloat16"])
    exact, usual = found.precisions
    assert (exact.largest_difference, exact.median_difference, exact.top_1, exact.top_5) == (0.0, 0.0, 1.0, 1.0)
    assert usual.largest_difference == pytest.approx(differences.max())
    assert usual.median_difference == pytest.approx(np.median(differences))
    best = {dtype: np.argsort(-values, axis=1) for dtype, values in logits.items()}
    assert usual.top_1 == np.mean(best["float32"][:, 0] == best["bfloat16"][:, 0])
    pairs = zip(best["float32"], best["bfloat16"], strict=True)
    assert usual.top_5 == np.mean([set(a[:5]) == set(b[:5]) for a, b in pairs])
    assert min(exact.clips_per_second, usual.clips_per_second) > 0


def test_without_a_video_that_can_be_read_nothing_is_measured(checkpoint: Path) -> None:
    with pytest.raises(XClipError, match="none of the 1 videos can be read"):
        compare(find_checkpoint(str(checkpoint)), Labels.of(LABELS), ["missing.mp4"], ["bfloat16"], "cpu")


def test_verify_measures_on_the_demos_videos_or_ones_own(xclip: Run, clip: Path) -> None:
    done = xclip("models", "verify", "bundled", "--dtype", "bfloat16", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    checks, table = done.stdout.splitlines()[:3], done.stdout.splitlines()[3:]
    assert all(line.startswith("ok") for line in checks)
    assert [line.split()[0] for line in table] == ["precision", "float32", "bfloat16", "advice:"]
    assert "from 6 videos and 14 labels on cpu" in table[-1]
    more = ["--dtype", "bfloat16", "--device", "cpu", "-l", "picture-state", "--json"]
    done = xclip("models", "verify", "bundled", clip, *more)
    found = json.loads(done.stdout)
    assert all(check["passed"] for check in found["checks"])
    assert found["precision"]["videos"] == 1
    assert found["precision"]["advised"] in ("float32", "bfloat16")


def test_verify_takes_videos_only_where_it_measures(xclip: Run, clip: Path) -> None:
    done = xclip("models", "verify", "bundled", clip)
    assert done.returncode == 2
    assert "require --dtype" in done.stderr
    assert "checks" in json.loads(xclip("models", "verify", "bundled", "--json").stdout)
