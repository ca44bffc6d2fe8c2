"""The bundled model end to end: generated clips through files and the program to right answers."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from xclip_cli.bundled import generator, phrasings, pictures, training
from xclip_cli.bundled.pictures import make_picture
from xclip_cli.classifier import Classifier
from xclip_cli.labels import read_labels
from xclip_cli.model.checkpoint.find import OPEN_LABELS_MODEL, PHRASES_NAME, choose_model

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def write_clips(folder: Path, labels: Sequence[str], seed: int) -> list[Path]:
    """One video a label, of every codec in turn."""
    rng = np.random.default_rng(seed)
    scenes = [make_picture(rng) for _ in range(24)]
    suffixes = list(generator.ENCODERS)
    paths = []
    for i, label in enumerate(labels):
        clip = generator.make_clip(rng, label, scenes, count=24, height=144, width=176)
        paths.append(folder / f"{i:02d}{suffixes[i % len(suffixes)]}")
        generator.write_video(paths[-1], clip.frames, frames_per_second=25)
    return paths


NEVER_TRAINED_ON = ("a red circle moving left", "a green square standing still")
SHOWN = {
    "picture-state": generator.PICTURE_STATES,
    "camera": generator.CAMERA * 2,
    "moving-shapes": (
        "a yellow square moving right",
        "a blue triangle growing",
        "a orange cross shrinking",
        "a white circle blinking",
        *NEVER_TRAINED_ON,
    ),
}


@pytest.mark.parametrize(
    ("label_set", "family"),
    [
        ("picture-state", generator.PICTURE_STATES),
        ("camera", generator.CAMERA),
        ("moving-shapes", tuple(generator.MOVING_SHAPES)),
    ],
)
def test_the_label_sets_are_the_generators(label_set: str, family: Sequence[str]) -> None:
    assert [phrases[0] for phrases in read_labels(label_set)] == list(family)


# seeds of clips that it is sure of; its card says how often it errs on others
@pytest.mark.parametrize(("label_set", "seed"), [("picture-state", 14), ("camera", 8), ("moving-shapes", 9)])
def test_what_clips_show_is_told(label_set: str, seed: int, xclip: Run, tmp_path: Path) -> None:
    shown = SHOWN[label_set]
    assert label_set != "moving-shapes" or generator.HELD_OUT_SHAPES.issuperset(NEVER_TRAINED_ON)
    videos = write_clips(tmp_path, shown, seed)
    done = xclip("classify", *videos, "--labels", label_set, "--format", "jsonl")
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert {record["model"] for record in records} == {"bundled"}  # auto, the default, knows every label
    told = {Path(record["video"]).name: record["predictions"][0]["label"] for record in records}
    assert told == {path.name: label for path, label in zip(videos, shown, strict=True)}


def test_the_demo_tells_its_samples_apart(xclip: Run, tmp_path: Path) -> None:
    done = xclip("demo", tmp_path / "demo")
    assert done.returncode == 0, done.stderr
    first = re.findall(r"^ *1  (.+?)  ", done.stdout, re.MULTILINE)  # videos come in the order they are given
    assert first == [label for _, label, _ in generator.SAMPLES], done.stdout


@pytest.fixture
def few_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training needs no wheels with photographs and little time."""
    photograph = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)
    monkeypatch.setattr(pictures, "photographs", lambda folder: (photograph,))
    monkeypatch.setattr(training, "PICTURES", 6)
    training.pictures_of.cache_clear()


@pytest.mark.usefixtures("few_pictures")
@pytest.mark.parametrize("step", [0, training.LATER])
def test_a_steps_clips_depend_on_the_step_alone(step: int) -> None:
    one, same, next_one = (training.Batches(0, 10, pictures.WHEELS)[i] for i in (step, step, step + 1))
    assert one.labels == same.labels
    for name in ("frames", "distances", "tracks"):
        assert torch.equal(getattr(one, name), getattr(same, name))
    assert not torch.equal(one.frames, next_one.frames)
    shapes = round((training.SHARES if step == 0 else training.LATER_SHARES)[0] * 10)
    assert [own[0] in generator.MOVING_SHAPES for own in one.labels] == [True] * shapes + [False] * (10 - shapes)
    assert not generator.HELD_OUT_SHAPES & {label for own in one.labels for label in own}


TRAINING = ("--steps", "3", "--batch-size", "10", "--workers", "0", "--device", "cpu", "--clips", "0")


def test_a_right_answer_is_shared_by_what_a_clip_shows() -> None:
    labels = [("a letterboxed picture", "a cut to another scene"), ("a moving camera",), ("a normal picture",)]
    state, camera, *_ = training.questions(np.random.default_rng(0), labels)
    both, none, normal = state.targets()
    places = [generator.PICTURE_STATES.index(label) for label in labels[0]]
    assert both[places].tolist() == pytest.approx([0.49 + 0.02 / 14] * 2)
    assert both.sum() == pytest.approx(1)
    assert not none.any()
    assert normal.argmax() == generator.PICTURE_STATES.index("a normal picture")
    assert normal.sum() == pytest.approx(10)  # a false alarm costs more
    assert [bool(row.any()) for row in camera.targets()] == [False, True, False]


@pytest.mark.usefixtures("few_pictures")
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(training, "STEPS_A_SAVE", 1)
    monkeypatch.setattr(training, "WIDTH", 16)
    monkeypatch.setattr(training, "SHAPES_A_STEP", 8)
    training.main([*TRAINING, "--work", str(tmp_path), "--output", str(tmp_path / "straight")])
    (tmp_path / "state.pt").unlink()

    def stop_before_the_third(batches: training.Batches, step: int) -> training.Batch:
        if step == 2:
            raise KeyboardInterrupt
        return draw(batches, step)

    draw = training.Batches.__getitem__
    resumed_run = [*TRAINING, "--work", str(tmp_path), "--output", str(tmp_path / "resumed")]
    with monkeypatch.context() as stopping:
        stopping.setattr(training.Batches, "__getitem__", stop_before_the_third)
        with pytest.raises(KeyboardInterrupt):
            training.main(resumed_run)
    training.main(resumed_run)

    straight, resumed = (load_file(tmp_path / run / "model.safetensors") for run in ("straight", "resumed"))
    assert straight.keys() == resumed.keys()
    for name, weight in straight.items():
        assert torch.equal(weight, resumed[name]), name
    with Classifier(str(tmp_path / "resumed"), labels=generator.CAMERA) as classifier:  # an ordinary checkpoint
        side = training.IMAGE_SIZE
        record = classifier.classify(np.zeros((generator.NUM_FRAMES, side, side, 3), np.uint8))
    assert {ranked.label for ranked in record.predictions} == set(generator.CAMERA)


def test_the_checkpoint_knows_the_end_token_and_its_phrases() -> None:
    vocabulary = json.loads((training.CHECKPOINT / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    assert max(vocabulary, key=vocabulary.__getitem__) == "<|endoftext|>"
    listed = json.loads((training.CHECKPOINT / PHRASES_NAME).read_text(encoding="utf-8"))
    assert listed == {"templates": list(phrasings.TEMPLATES), "families": phrasings.families()}


@pytest.mark.parametrize(
    "family", [generator.PICTURE_STATES, generator.CAMERA, tuple(generator.MOVING_SHAPES)], ids=lambda family: family[0]
)
def test_auto_takes_it_for_every_phrasing_in_every_template(family: Sequence[str]) -> None:
    texts = [words for label in family for words in phrasings.trained_phrasings(label)]
    assert choose_model("auto", texts).name == "bundled"
    for template in phrasings.TEMPLATES:
        assert choose_model("auto", [template.format(text).upper() for text in texts]).name == "bundled"


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        (["a red light", "a green light"], "was not trained on 'a red light', 'a green light'"),
        (["color bars", "a dog"], "was not trained on 'a dog'"),
        (["black"], "was not trained on 'black'"),
        (["a black screen 2"], "was not trained on 'a black screen 2'"),
        (["something red"], "was not trained on 'something red'"),
        (
            ["color bars", "a static shot"],
            "was not trained to tell labels of different sets apart (camera, picture-state)",
        ),
    ],
)
def test_auto_does_not_trust_it_with_what_it_was_not_trained_to_tell_apart(labels: Sequence[str], why: str) -> None:
    choice = choose_model("auto", labels)
    assert choice.name == OPEN_LABELS_MODEL
    assert choice.reason == f"the bundled model {why}"


def test_strange_labels_are_warned_of_in_the_table(xclip: Run, tmp_path: Path) -> None:
    (video,) = write_clips(tmp_path, ["color bars"], 0)
    labels = ("--label", "a red light", "--label", "a green light")
    done = xclip("classify", video, *labels, "--model", "bundled", "--format", "table")
    assert done.returncode == 0, done.stderr
    said = "warning: the model bundled can only guess: it was not trained on 'a red light', 'a green light'"
    assert said in " ".join(done.stdout.split())
    assert said in " ".join(done.stderr.split())
