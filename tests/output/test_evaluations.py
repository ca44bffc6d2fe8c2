from __future__ import annotations

import csv
import io
from typing import Any

import pytest

from xclip_cli.output.evaluations import write_csv, write_table

SHARE = {"value": 0.5, "low": 0.25, "high": 0.75, "of_classified": {"value": 0.6, "low": 0.3, "high": 0.8}}
SPREAD = {"mean": 0.447, "sd": 0.052, "splits": 3}
VALUES: dict[str, Any] = {
    "model": "the-model",
    "videos": 12,
    "failed": 2,
    "missing": 3,
    "labels": 25,
    "top1": SHARE,
    "top5": None,
    "mean_class_accuracy": SHARE,
    "log_loss": None,
    "calibration_error": 0.125,
    "unavailable": {"top5": "records lack labels"},
    "splits": {"test1": {}, "test2": {}, "test3": {}},
    "over_splits": {"top1": SPREAD, "top5": None, "mean_class_accuracy": SPREAD},
    "classes": [
        {"label": f"label {k}", "videos": 4, "correct": k % 5, "value": k % 5 / 4, "low": 0.0, "high": 1.0}
        for k in range(25)
    ],
    "confusions": [{"right": "=1+1", "answered": "b\x1b[2J", "videos": 3}],
}


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def table(**changes: Any) -> str:
    out = io.TextIOWrapper(io.BytesIO(), "utf-8")
    write_table(VALUES | changes, out)
    out.seek(0)
    return " ".join(out.read().split())


def test_a_table() -> None:
    text = table()
    for said in (
        "the-model: 12 videos, 25 labels, 2 of them failed and count as wrong; 3 of the ground truth have no record",
        "of the 10 classified mean ± sd of test1, test2, test3",
        "top-1 50.0 25.0 to 75.0 60.0 30.0 to 80.0 44.7 ± 5.2",
        "top-5 unavailable",
        "log loss unavailable calibration error 0.125",
        "top5 is unavailable: records lack labels",
        "and 5 others",
        "3x =1+1 → b\\x1b[2J",
    ):
        assert said in text, said
    assert "\x1b" not in text


def test_the_first_five_of_five_labels_say_nothing() -> None:
    assert "top-5" in table(labels=6)
    assert "top-5" not in table(labels=5, unavailable={})


def test_several_labels_a_video() -> None:
    text = table(
        mean_average_precision=0.75, f1={"micro": 0.5, "macro": None, "threshold": 0.25}, confusions=[], classes=[]
    )
    assert "mean average precision 0.750 F1 at threshold 0.25 0.500 F1, mean over labels unavailable" in text
    assert "log loss" not in text


def test_another_run_and_a_calibration() -> None:
    difference = {"value": 0.1, "low": -0.02, "high": 0.22}
    against = {"model": None, "videos": 9, "difference": difference, "only_this": 2, "only_other": 1, "p_value": 0.5}
    pair = {"before": 2.0, "after": 1.0}
    fitted = {"file": "c.json", "folds": 5, "temperature": 1.5, "log_loss": pair, "calibration_error": pair}
    fitted |= {"precision": SHARE, "recall": SHARE, "min_logits": 1, "without": {"a": "too few examples"}}
    text = table(against=against, calibration=fitted, protocol={"said": "Published for x: 44.6"})
    for said in (
        "Published for x: 44.6",
        "Against the other run, on 9 videos in both: +10.0 points (-2.0 to +22.0); only this run is right on 2, only",
        "temperature 1.5: log loss 2.000 → 1.000, calibration error 2.000 → 1.000",
        "1 label has a minimum logit: precision 50.0% (25.0 to 75.0), recall 50.0% (25.0 to 75.0)",
        "none for a: too few examples",
    ):
        assert said in text, said
    unknown = {"value": None, "low": None, "high": None}
    none = table(calibration=fitted | {"min_logits": 0, "precision": unknown, "recall": unknown})
    assert "no label got a minimum logit: none for a: too few examples" in none
    few = table(calibration=fitted | {"precision": unknown, "recall": unknown})
    assert "1 label has a minimum logit: precision unavailable, recall unavailable none" in few
    nothing = dict.fromkeys(difference)
    assert "The other run has none of these videos" in table(against=against | {"difference": nothing})


def test_rows_for_a_spreadsheet() -> None:
    out = io.StringIO()
    difference = {"value": 0.1, "low": -0.02, "high": 0.22}
    f1 = {"micro": 0.5, "macro": None, "threshold": 0.25}
    write_csv(VALUES | {"against": {"difference": difference, "videos": 9}, "f1": f1}, out)
    rows = list(csv.DictReader(io.StringIO(out.getvalue())))
    by_name = {(row["kind"], row["name"]): row for row in rows}
    assert (by_name["difference", "top1"]["low"], by_name["difference", "top1"]["videos"]) == ("-0.02", "9")
    assert (by_name["mean over splits", "top1"]["value"], by_name["mean over splits", "top1"]["sd"]) == (
        "0.447",
        "0.052",
    )
    assert [by_name["figure", f"f1_{kind}"]["value"] for kind in ("micro", "macro")] == ["0.5", "unavailable"]
    assert {row["name"]: row["value"] for row in rows[:3]} == {
        "top1": "0.5",
        "top5": "unavailable",
        "mean_class_accuracy": "0.5",
    }
    assert rows[-1]["name"] == "'=1+1"
    assert len(rows) == 5 + 2 + 2 + 1 + 2 + 25 + 1  # figures, counts, splits, difference, F1, classes, confusion
