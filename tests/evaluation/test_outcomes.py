from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from layouts import CLASSES, FORMS
from sklearn import metrics as theirs

from xclip_cli.errors import LabelsError, ResultsError
from xclip_cli.evaluation import Evaluation, Truth, evaluate, read_truth
from xclip_cli.evaluation.summary import figures
from xclip_cli.results.reading import iter_results
from xclip_cli.results.records import Failure, Frames, Prediction, RankedLabel, Record, RunHeader

FRAMES = Frames(8, 8, 0, 0, (0.5,))
LABELS = [f"class {k}" for k in range(8)]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_dataset_gives_the_same_figures(form: str, tmp_path: Path) -> None:
    """Those of the plain CSV, whatever videos are called and labels are spelled in it."""

    def found(form: str) -> dict[str, Any]:
        write, places = FORMS[form]
        rng = np.random.default_rng(0)
        records = [
            prediction(f"/data/{place}", dict(zip(CLASSES, rng.dirichlet(np.ones(3)).tolist(), strict=True)))
            for place in places.values()
        ]
        records[2:3] = [Failure(records[2].video, "missing", "no such file")]
        values = figures(evaluate(records, read_truth(write(tmp_path / form))))
        return {key: value for key, value in values.items() if key not in ("splits", "over_splits")}

    expected, values = found("csv"), found(form)
    for name in ("classes", "confusions"):
        ours, theirs = (sorted(json.dumps(each) for each in each[name]) for each in (values, expected))
        assert ours == theirs
    assert values | {"classes": 0, "confusions": 0} == expected | {"classes": 0, "confusions": 0}


def prediction(video: str, scores: dict[str, float], keep: int = 0) -> Prediction:
    ranked = sorted(scores.items(), key=lambda each: -each[1])  # of equal ones the first label comes first
    kept = tuple(RankedLabel(label, score, 10 * score) for label, score in ranked[: keep or None])
    return Prediction(video, "m", None, 0.0, 1.0, FRAMES, kept)


class Random:
    """Random answers with ties, failures, a class without videos and labels that are no class."""

    def __init__(self, seed: int, count: int = 120) -> None:
        rng = np.random.default_rng(seed)
        scores = rng.integers(0, 6, (count, len(LABELS))) + 0.5
        self.scores = scores / scores.sum(axis=1, keepdims=True)
        self.right = rng.integers(0, 5, count)  # classes 5 to 7 have no video
        self.failed = rng.random(count) < 0.1
        self.truth = Truth.of({f"{i}.mp4": LABELS[k].upper().replace(" ", "_") for i, k in enumerate(self.right)})

    def records(self, keep: int = 0) -> Iterator[Record]:
        for i, scores in enumerate(self.scores):
            if self.failed[i]:
                yield Failure(f"x/{i}.mp4", "missing", "no such file")
            else:
                yield prediction(f"x/{i}.mp4", dict(zip(LABELS, scores.tolist(), strict=True)), keep)


@pytest.mark.parametrize("seed", range(5))
def test_accuracies_are_those_of_scikit_learn(seed: int) -> None:
    data = Random(seed)
    found = evaluate(data.records(), data.truth)
    there = ~data.failed
    # of equal scores scikit-learn takes the last label first, the records the first one
    places, backwards = np.arange(len(LABELS))[::-1], data.scores[there][:, ::-1]
    for k in (1, 5):
        share = theirs.top_k_accuracy_score(places[data.right[there]], backwards, k=k, labels=range(len(LABELS)))
        of_classified, of_all = found.part(there).top(k), found.top(k)
        assert of_classified
        assert of_all
        assert of_classified.value == pytest.approx(share)
        assert of_all.value == pytest.approx(share * there.sum() / len(there))
    answers = np.where(there, data.scores.argmax(axis=1), -1)
    recall = theirs.recall_score(data.right, answers, labels=np.unique(data.right), average="macro")
    mean = found.mean_class_accuracy
    assert mean
    assert mean.value == pytest.approx(recall)
    loss = theirs.log_loss(data.right[there], data.scores[there], labels=range(len(LABELS)))
    assert found.log_loss == pytest.approx(loss)
    assert len(found) == 120
    assert found.failed.sum() == data.failed.sum()


@pytest.mark.parametrize("seed", range(3))
def test_several_labels_a_video(seed: int) -> None:
    data, rng = Random(seed), np.random.default_rng(seed)
    wanted = rng.random(data.scores.shape) < 0.25
    wanted[:, 7] = False
    truth = Truth.of({f"{i}.mp4": [LABELS[k] for k in np.flatnonzero(row)] for i, row in enumerate(wanted)})
    found = evaluate(data.records(), truth, threshold=0.2)
    scores = np.where(data.failed[:, None], -1, data.scores)  # those that failed come last
    columns = [LABELS.index(label) for label in found.labels]
    each = [theirs.average_precision_score(wanted[:, k], scores[:, k]) for k in columns if wanted[:, k].any()]
    assert found.mean_average_precision == pytest.approx(np.mean(each))
    kept = [k for k in columns if wanted[:, k].any()]
    micro = theirs.f1_score(wanted, scores >= 0.2, average="micro", zero_division=0)
    macro = theirs.f1_score(wanted[:, kept], (scores >= 0.2)[:, kept], average="macro", zero_division=0)
    assert found.f1 == pytest.approx((micro, macro))
    assert figures(found)["mean_class_accuracy"] is None


@pytest.mark.parametrize("keep", [1, 3, 5, 7])
def test_what_records_that_were_cut_cannot_say(keep: int) -> None:
    data = Random(0)
    whole, cut = evaluate(data.records(), data.truth), evaluate(data.records(keep), data.truth)
    assert cut.cut
    assert cut.top(1) == whole.top(1)
    assert cut.top(5) == (whole.top(5) if keep >= 5 else None)
    assert cut.mean_class_accuracy == whole.mean_class_accuracy
    assert (cut.log_loss, cut.scores) == (None, None)
    assert set(figures(cut)["unavailable"]) == ({"log_loss"} if keep >= 5 else {"log_loss", "top5"})
    assert "unavailable" in figures(cut)
    several = Truth.of({video: [label[0]] for video, label in data.truth.videos.items()})
    values = figures(evaluate(data.records(keep), several))
    assert {"mean_average_precision", "f1"} <= values["unavailable"].keys()
    assert values["mean_average_precision"] is None


def test_a_header_says_how_many_labels_there_were() -> None:
    """All records are as short as the shortest, and no label is seen that would show it."""
    records = [prediction("0.mp4", {"a": 0.5, "b": 0.3}), prediction("1.mp4", {"b": 0.6, "a": 0.1})]
    truth = Truth.of({"0.mp4": "a", "1.mp4": "b"})
    assert not evaluate(records, truth).cut
    assert evaluate([RunHeader(labels=3), *records], truth).cut
    own = evaluate([RunHeader(labels=2, multi_label=True), *records], truth)
    assert (own.log_loss, own.reliability) == (None, None)


def test_the_last_record_of_a_video_counts() -> None:
    truth = Truth.of({"0.mp4": "a"})
    found = evaluate([Failure("0.mp4", "x", "x"), prediction("0.mp4", {"a": 0.9, "b": 0.1})], truth)
    assert (len(found), found.failed.tolist(), found.correct.tolist()) == (1, [False], [True])


def test_videos_outside_and_missing() -> None:
    truth = Truth.of({"0.mp4": "a", "2.mp4": "b", "3.mp4": "b"})
    found = evaluate([prediction(f"{i}.mp4", {"a": 0.9, "b": 0.1}) for i in range(3)], truth)
    assert (found.videos, found.missing, found.strange) == (("0.mp4", "2.mp4"), ("3.mp4",), 1)
    with pytest.raises(ResultsError, match="none of 1 records is about one of the 3 videos"):
        evaluate([prediction("9.mp4", {"a": 1.0})], truth)
    with pytest.raises(LabelsError, match="1 labels of the ground truth [(]2 videos[)] are not among the labels: 'b'"):
        evaluate([prediction("0.mp4", {"a": 0.9, "c": 0.1})], truth)


def test_a_video_without_an_answer_is_wrong() -> None:
    found = evaluate([prediction("0.mp4", {}), prediction("1.mp4", {"a": 0.9})], Truth.of({"0.mp4": "a", "1.mp4": "a"}))
    top = found.top(1)
    assert top
    assert top.value == 0.5
    assert found.confusion.tolist() == [[1, 1]]


def test_splits_have_a_mean_and_a_spread() -> None:
    data = Random(3)
    videos = list(data.truth.videos)
    splits = {"test1": tuple(videos[:60]), "test2": tuple(videos[40:]), "train": tuple(videos[:1])}
    truth = Truth(data.truth.classes, data.truth.videos, splits=splits)
    values = figures(evaluate(data.records(), truth))
    each = [evaluate(data.records(), truth, splits=[name]).top(1) for name in ("test1", "test2")]
    shares = [share.value for share in each if share]
    assert [values["splits"][name]["top1"]["value"] for name in ("test1", "test2")] == pytest.approx(shares)
    assert values["over_splits"]["top1"] == pytest.approx(
        {"mean": np.mean(shares), "sd": np.std(shares, ddof=1), "splits": 2}
    )
    assert values["videos"] == 120


def test_the_surest_mistakes_and_the_most_frequent_ones() -> None:
    answers = [("a", 0.9), ("b", 0.6), ("b", 0.99), ("a", 0.7), ("b", 0.8)]
    records = [prediction(f"{i}.mp4", {"a": 0.0, "b": 0.0, "c": 0.0} | {x: s}) for i, (x, s) in enumerate(answers)]
    found = evaluate(records, Truth.of({f"{i}.mp4": "a" if i < 3 else "c" for i in range(5)}))
    assert found.mistakes(10) == [2, 4, 3, 1]
    assert found.confusions() == [("a", "b", 2), ("c", "a", 1), ("c", "b", 1)]


def test_fewer_labels_to_choose_from() -> None:
    """As records of those labels alone give it."""
    data, chosen = Random(1), np.array([0, 2, 3, 6])
    names = [LABELS[k] for k in chosen]
    found = evaluate(data.records(), data.truth, keep_scores=True)
    drawn = found.among(np.array([found.labels.index(name) for name in names]))
    videos = {f"{i}.mp4": LABELS[k] for i, k in enumerate(data.right) if k in chosen}
    records = [
        record
        if isinstance(record, Failure)
        else replace(record, predictions=tuple(p for p in record.predictions if p.label in names))
        for record in data.records()
    ]
    alone = evaluate(records, Truth.of(videos))
    assert drawn is not None
    assert len(drawn) == len(alone)
    assert drawn.top(3) == alone.top(3)
    assert evaluate(data.records(), data.truth).among(chosen) is None


def test_two_runs_are_compared_on_the_videos_of_both() -> None:
    data, other = Random(1), Random(2)
    other.truth = data.truth
    first, second = evaluate(data.records(), data.truth), evaluate(list(other.records())[:100], data.truth)
    compared, count = first.against(second)
    assert count == 100
    assert compared.difference.value == pytest.approx((first.correct[:100].sum() - second.correct.sum()) / 100)


def write_records(path: Path, count: int, labels: int) -> Truth:
    """Records of many videos, with all labels."""
    rng = np.random.default_rng(0)
    names = [f"a label with the number {k}" for k in range(labels)]
    with path.open("w") as file:
        file.write(json.dumps(RunHeader(labels=labels).to_json()) + "\n")
        for i in range(count):
            scores = rng.dirichlet(np.ones(labels)).tolist()
            file.write(json.dumps(prediction(f"v/{i}.mp4", dict(zip(names, scores, strict=True))).to_json()) + "\n")
    return Truth.of({f"v/{i}.mp4": names[i % labels] for i in range(count)})


def peak_of(path: Path, truth: Truth) -> tuple[Evaluation, int]:
    truth.find("v/0.mp4")  # what grows with the truth is there already
    tracemalloc.start()
    found = evaluate(iter_results(path), truth)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found, peak


def test_memory_does_not_grow_with_records(tmp_path: Path) -> None:
    """A record of 101 labels is some 30 kB of objects: of it some hundred bytes are kept."""
    peaks = []
    for count in (100, 1100):
        truth = write_records(tmp_path / "r.jsonl", count, 101)
        peaks.append(peak_of(tmp_path / "r.jsonl", truth)[1])
    assert (peaks[1] - peaks[0]) / 1000 < 500


@pytest.mark.slow
def test_twenty_thousand_records_in_ten_seconds(tmp_path: Path) -> None:
    truth = write_records(tmp_path / "r.jsonl", 20_000, 101)
    began = time.process_time()
    found = evaluate(iter_results(tmp_path / "r.jsonl"), truth)
    assert figures(found)["videos"] == 20_000
    assert time.process_time() - began < 10
