from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import Run
from drawn import Encoded, encoded_clips
from safetensors.numpy import save_file
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from xclip_cli import Classifier, Index
from xclip_cli.adaptation import LEAST_PENALTY, Head, HeadSettings, fit
from xclip_cli.bundled.generator import make_clip, write_video
from xclip_cli.bundled.pictures import make_picture
from xclip_cli.errors import LabelsError, ModelError, ResultsError
from xclip_cli.evaluation import Truth
from xclip_cli.labels import Labels
from xclip_cli.search import search

LABELS = (
    "a red circle moving left",
    "a green square moving right",
    "a blue triangle growing",
    "a white cross blinking",
)
SHAPES = (
    *LABELS,
    *("a yellow circle moving up", "a purple square shrinking", "a black triangle moving down", "a red cross growing"),
    *("a green circle shrinking", "a blue square moving up", "a white triangle moving left", "a yellow cross blinking"),
    *("a purple circle growing", "a black square moving right", "a red triangle blinking", "a green cross moving down"),
)
SWAPPED = (0, 3, 5, 8, 11, 14)  # whose names go round


def drawn(seed: int, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    right = np.arange(count) % 4
    centres = rng.normal(size=(4, 10))
    features = (centres[right] + 0.7 * rng.normal(size=(count, 10))).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    return features, rng.normal(size=(count, 5)).astype(np.float32) * 2, right


def objective(deltas: np.ndarray, features: np.ndarray, logits: np.ndarray, right: np.ndarray, scale: float) -> float:
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    sure = [shares[right == k, k].mean() if (right == k).any() else 0 for k in range(logits.shape[1])]
    corrected = logits + scale * features @ deltas.T
    loss = np.log(np.exp(corrected).sum(axis=1)) - corrected[np.arange(len(right)), right]
    return float(loss.mean() + (np.maximum(sure, LEAST_PENALTY) * (deltas**2).sum(axis=1)).mean())


def test_the_fit_is_the_least_of_its_objective() -> None:
    features, logits, right = (np.asarray(part, np.float64) for part in drawn(0))
    right = right.astype(int)
    deltas, penalties = fit(features.astype(np.float32), logits.astype(np.float32), right, 5.0)
    assert not deltas[4].any()  # it has no examples
    assert penalties.min() >= LEAST_PENALTY

    def of_seen(values: np.ndarray) -> float:
        return objective(np.vstack([values.reshape(4, -1), np.zeros(10)]), features, logits, right, 5.0)

    theirs = minimize(of_seen, np.zeros(40), method="L-BFGS-B", options={"maxiter": 500})
    assert of_seen(deltas[:4].astype(float)) <= theirs.fun + 1e-4


def settings(labels: Labels, **changes: Any) -> HeadSettings:
    zeros = (0,) * len(labels.names)
    return replace(HeadSettings("bundled", "sha256:x", labels.names, zeros, tuple(map(float, zeros))), **changes)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four clips of each label, in folders of classes under a name that is not theirs."""
    folder, rng = tmp_path_factory.mktemp("shapes"), np.random.default_rng(0)
    pictures = [make_picture(rng, 256) for _ in range(3)]
    for k, label in enumerate(LABELS):
        place = folder / LABELS[(k + 1) % 4].replace(" ", "_")
        place.mkdir()
        for i in range(4):
            write_video(place / f"{i}.mp4", make_clip(rng, label, pictures, count=16, height=64, width=64).frames)
    return folder


@pytest.fixture(scope="module")
def index(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Index]:
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("index") / "i"
    program = Path(sys.executable).with_name("xclip")
    command = [program, "embed", clips, "-r", "-o", folder, "--model", "bundled", "--dtype", "float32"]
    subprocess.run(command, check=True, capture_output=True)
    with Index.open(folder) as opened:
        yield opened


def truth_of(index: Index) -> Truth:
    return Truth.of({video.video: Path(video.video).parent.name for video in index})


def test_a_head_learns_other_names(index: Index, tmp_path: Path) -> None:
    head = Head.fit(index, truth_of(index), LABELS)
    assert head.settings.shots == (4, 4, 4, 4)
    head.save(tmp_path / "h.safetensors")
    with Classifier("bundled", labels=LABELS, dtype="float32") as plain:
        before = [record.predictions for record in plain.classify_all(index)]  # type: ignore[union-attr]
    with Classifier("bundled", head=tmp_path / "h.safetensors", dtype="float32") as adapted:
        after = [record.predictions for record in adapted.classify_all(index)]  # type: ignore[union-attr]
        assert adapted.run_header(None, None, 0).head == head.sha256
    right = [Path(video.video).parent.name.replace("_", " ") for video in index]
    share = [np.mean([p[0].label == r for p, r in zip(each, right, strict=True)]) for each in (before, after)]
    assert share == [0.0, 1.0]
    # the logits are the zero-shot ones and the correction
    scale = plain.encoder.scale
    for video, first, second in zip(index, before, after, strict=True):
        v = video.features[0, 0] / np.linalg.norm(video.features[0, 0])
        expected = {p.label: p.logit + scale * float(v @ head.deltas[LABELS.index(p.label)]) for p in first}
        assert {p.label: p.logit for p in second} == pytest.approx(expected, abs=1e-4)


def test_a_head_of_nothing_changes_nothing(index: Index) -> None:
    labels = Labels.of(LABELS)
    with Classifier("bundled", labels=labels, dtype="float32") as plain:
        before = list(plain.classify_all(index))
        identity = plain.checkpoint.identity
        head = Head(
            settings(labels, identity=identity), labels, np.zeros((4, plain.encoder.config.projection_dim), np.float32)
        )
    with Classifier("bundled", head=head, dtype="float32") as adapted:
        assert list(adapted.classify_all(index)) == before


def test_the_order_of_labels_does_not_matter_and_others_are_refused(index: Index) -> None:
    head = Head.fit(index, truth_of(index), LABELS)
    with Classifier("bundled", labels=LABELS[::-1], head=head, dtype="float32") as turned:
        assert (turned._deltas == head.deltas[::-1]).all()
    with pytest.raises(LabelsError, match="the head is for 4 other labels or texts: 'a cat'"):
        Classifier("bundled", labels=[*LABELS, "a cat"], head=head)
    with pytest.raises(LabelsError, match="other labels or texts"):
        Classifier("bundled", labels=Labels.of(LABELS, ["a video of {}"]), head=head)
    with pytest.raises(ModelError, match=r"the head was fitted to the model other \(sha256:other\), not bundled"):
        Classifier(
            "bundled", head=replace(head, settings=replace(head.settings, model="other", identity="sha256:other"))
        )
    with pytest.raises(ModelError, match="the head was fitted to preprocess hf, not paper"):
        Classifier("bundled", head=head, preprocess="paper")


def test_what_a_head_has_learned_is_no_guess(index: Index) -> None:
    labels = Labels.of([*LABELS, "a cat"])
    head = Head.fit(index, truth_of(index), labels)
    assert head.unlearned(labels) == ["a cat"]
    with Classifier("bundled", head=head) as classifier:
        assert classifier.warnings == ("the model bundled can only guess: it was not trained on 'a cat'",)


def test_calibrated_labels_are_for_one_head(index: Index) -> None:
    head = Head.fit(index, truth_of(index), LABELS)
    with Classifier("bundled", head=head) as classifier:
        labels = replace(head.labels, temperature=2.0, model=classifier.identity)
    Classifier("bundled", labels=labels, head=head).close()
    with pytest.raises(LabelsError, match="for another model or head than bundled without a head"):
        Classifier("bundled", labels=labels)


def test_search_corrects_only_texts_that_the_head_has(index: Index) -> None:
    head = Head.fit(index, truth_of(index), LABELS)
    found: dict[bool, dict[tuple[str, str], float]] = {}
    for learned in (False, True):
        labels = Labels.of([LABELS[0], "a red cross"]).with_background()
        with Classifier(
            "bundled", labels=labels, multi_label=True, dtype="float32", head=head.among(labels) if learned else None
        ) as asked:
            moments = search(index, [LABELS[0], "a red cross"], top_k=0, classifier=asked)
        found[learned] = {(m.query, m.video): m.logit or 0.0 for m in moments}
    for (query, video), logit in found[True].items():
        features = index[video].features[0, 0]
        wanted = 0.0 if query == "a red cross" else float(features / np.linalg.norm(features) @ head.deltas[0])
        assert logit == pytest.approx(found[False][query, video] + asked.encoder.scale * wanted, abs=1e-3)


def test_windows_are_no_examples(index: Index) -> None:
    index.settings = replace(made := index.settings, window="1", stride="1")
    try:
        with pytest.raises(ResultsError, match="contains windows, not whole videos"):
            Head.fit(index, truth_of(index), LABELS)
    finally:
        index.settings = made


def spoiled(head: Head, path: Path, tensors: dict[str, np.ndarray] | None = None, **changes: Any) -> Path:
    values = json.loads(json.dumps({**vars(head.settings), "texts": head.labels.texts} | changes))
    save_file({"deltas": head.deltas} if tensors is None else tensors, path, {"xclip head": json.dumps(values)})
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": ["x"]}, "zip"),
        ({"labels": ["x"] * 4}, "do not match"),
        ({"texts": [["a"], ["b"], [], ["d"]]}, "is empty or has an empty text"),
        ({"shots": [1]}, "do not match"),
        ({"format": 2}, "its format is 2"),
        ({"model": 3}, "model is not a string"),
        ({"texts": 7}, ""),
    ],
)
def test_a_strangers_head(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    labels = Labels.of(LABELS)
    head = Head(settings(labels), labels, np.zeros((4, 8), np.float32))
    assert Head.load(spoiled(head, tmp_path / "good.safetensors")).labels == labels
    with pytest.raises(ModelError, match=f"is not a head that `xclip adapt` wrote: .*{message}"):
        Head.load(spoiled(head, tmp_path / "h.safetensors", **changes))


def test_a_strangers_tensors(tmp_path: Path) -> None:
    labels = Labels.of(LABELS)
    head = Head(settings(labels), labels, np.zeros((4, 8), np.float32))
    for tensors in (
        {"deltas": np.zeros((3, 8), np.float32)},
        {"deltas": np.full((4, 8), np.nan, np.float32)},
        {"deltas": np.zeros((4, 8))},
        {"other": np.zeros((4, 8), np.float32)},
    ):
        with pytest.raises(ModelError, match="is not a head"):
            Head.load(spoiled(head, tmp_path / "h.safetensors", tensors))
    for content in (b"", b"\xff" * 100, b"{}"):
        (tmp_path / "h.safetensors").write_bytes(content)
        with pytest.raises(ModelError, match="h.safetensors is not a"):
            Head.load(tmp_path / "h.safetensors")
    with pytest.raises(ModelError, match="is not a head"):
        Head.load(tmp_path / "missing.safetensors")


def test_the_commands(xclip: Run, clips: Path, index: Index, tmp_path: Path) -> None:
    head, model = tmp_path / "h.safetensors", ["--model", "bundled", "--dtype", "float32"]
    done = xclip("adapt", clips, *model, "-o", head)
    assert done.returncode == 0
    assert "accuracy on held-out examples: 100.0%, without the head 0.0%: +100.0 points" in done.stdout
    assert "16 examples for 4 of 4 labels" in done.stderr
    again = xclip("adapt", clips, *model, "-o", head)
    assert "no such option: --multi-label" in xclip("adapt", clips, *model, "-o", head, "--multi-label").stderr
    assert "exists: pass --force" in again.stderr
    wrong = xclip("adapt", clips, *model, "-o", clips / "labels.csv", "--force")
    assert "labels.csv: a head must be a .safetensors file" in wrong.stderr
    video = next(iter(index)).video
    record = json.loads(xclip("classify", video, "--head", head, "--dtype", "float32").stdout)
    assert record["predictions"][0]["label"] == Path(video).parent.name.replace("_", " ")
    assert record["model"] == "bundled"
    values = json.loads(xclip("evaluate", index.folder, "--truth", clips, "--head", head, "-o", "r.jsonl").stdout)
    assert values["top1"]["value"] == 1.0
    done = xclip("timeline", video, "--head", head, "--dtype", "float32")
    assert json.loads(done.stdout.splitlines()[-1])["segments"][0]["label"] == record["predictions"][0]["label"]
    done = xclip("search", LABELS[0], video, "--head", head, "--dtype", "float32", "-k", "1")
    assert (done.returncode, json.loads(done.stdout)["query"]) == (0, LABELS[0])
    done = xclip("classify", video, "--head", head, "--label", "a cat")
    assert done.returncode == 2
    assert "omit --labels to use the head's own" in " ".join(done.stderr.split())


@pytest.mark.parametrize(("name", "value"), [("views", "9x9x9"), ("preprocess", "nope")])
def test_a_head_with_settings_that_do_not_exist(xclip: Run, name: str, value: str, tmp_path: Path) -> None:
    labels = Labels.of(LABELS)
    head = Head(settings(labels), labels, np.zeros((4, 8), np.float32))
    done = xclip("classify", "v.mp4", "--head", spoiled(head, tmp_path / "h.safetensors", **{name: value}))
    assert done.returncode == 2
    assert f"'{value}' is no" in done.stderr


def test_a_head_that_is_no_better_is_not_written(xclip: Run, clips: Path, tmp_path: Path) -> None:
    """One example a label leaves nothing to measure with."""
    head, lines = tmp_path / "h.safetensors", ["path,label"]
    lines += [f"{folder.name}/0.mp4,{folder.name}" for folder in sorted(clips.iterdir())]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    command = ["adapt", clips, "--truth", tmp_path / "t.csv", "--model", "bundled", "-o", head]
    done = xclip(*command)
    assert done.returncode == 1
    assert "none can be held out to measure accuracy" in done.stdout
    assert "(--force writes it)" in done.stderr
    assert not head.exists()
    assert xclip(*command, "--force").returncode == 0
    assert Head.load(head).settings.shots == (1, 1, 1, 1)
    first = head.stat().st_ino
    assert xclip(*command, "--force").returncode == 0
    assert head.stat().st_ino != first  # a whole file took its place: a full disk costs no head


@pytest.fixture(scope="module")
def shapes() -> Encoded:
    """Sixteen labels, six of them with names that go round: the logit of a label is that of another."""
    found = encoded_clips(SHAPES, 36)
    places = np.arange(16)
    places[list(SWAPPED)] = np.roll(SWAPPED, 1)
    return replace(found, logits=np.ascontiguousarray(found.logits[:, places]))


def nearest_mean(features: np.ndarray, right: np.ndarray, tested: np.ndarray) -> np.ndarray:
    means = np.stack([features[right == k].mean(axis=0) for k in range(16)])
    return (tested @ (means / np.linalg.norm(means, axis=1, keepdims=True)).T).argmax(axis=1)


def shots_of(shapes: Encoded, shots: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which clips are examples, and which are tested."""
    rng = np.random.default_rng(seed)
    chosen = [rng.permutation(np.flatnonzero(shapes.right == k))[:shots] for k in range(16)]
    examples = np.concatenate(chosen)
    return examples, np.setdiff1d(np.arange(len(shapes.right)), examples)


@pytest.mark.slow
@pytest.mark.parametrize(("shots", "least"), [(1, 0.9), (4, 0.9), (16, 0.98)])
def test_shots(shapes: Encoded, shots: int, least: float) -> None:
    features = shapes.features / np.linalg.norm(shapes.features, axis=1, keepdims=True)
    rows = []
    for seed in range(5):
        examples, tested = shots_of(shapes, shots, seed)
        deltas, _ = fit(features[examples], shapes.logits[examples], shapes.right[examples], shapes.scale)
        adapted = shapes.logits[tested] + shapes.scale * features[tested] @ deltas.T
        probe = LogisticRegression(max_iter=1000, C=100).fit(features[examples], shapes.right[examples])
        answers = {
            "zero-shot": shapes.logits[tested].argmax(axis=1),
            "adapted": adapted.argmax(axis=1),
            "probe": probe.predict(features[tested]),
            "nearest mean": nearest_mean(features[examples], shapes.right[examples], features[tested]),
        }
        rows.append({name: float((each == shapes.right[tested]).mean()) for name, each in answers.items()})
        assert rows[-1]["adapted"] >= rows[-1]["zero-shot"]
    means = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    print(shots, {name: f"{100 * mean:.1f}" for name, mean in means.items()})
    assert 0.55 < means["zero-shot"] < 0.65
    assert means["adapted"] >= least


@pytest.mark.slow
def test_labels_without_examples_keep_working(shapes: Encoded) -> None:
    """Of the sixteen labels four that keep their names have no example."""
    features = shapes.features / np.linalg.norm(shapes.features, axis=1, keepdims=True)
    left_out = [1, 4, 10, 13]
    for seed in range(5):
        examples, tested = shots_of(shapes, 8, seed)
        examples = examples[~np.isin(shapes.right[examples], left_out)]
        deltas, _ = fit(features[examples], shapes.logits[examples], shapes.right[examples], shapes.scale)
        tested = tested[np.isin(shapes.right[tested], left_out)]
        adapted = shapes.logits[tested] + shapes.scale * features[tested] @ deltas.T
        share = [(each.argmax(axis=1) == shapes.right[tested]).mean() for each in (shapes.logits[tested], adapted)]
        assert share[1] >= share[0] - 0.01


def test_seconds_for_many_labels() -> None:
    """Four examples of each of 100 labels, of the public models' size."""
    rng, right = np.random.default_rng(0), np.arange(400) % 100
    features = rng.normal(size=(400, 512)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    deltas, _ = fit(features, rng.normal(size=(400, 100)).astype(np.float32), right, 50.0)
    assert torch.isfinite(torch.from_numpy(deltas)).all()
