"""xclip evaluate as a user runs it."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from layouts import FORMS, spread, write_text

from xclip_cli.bundled.generator import write_samples
from xclip_cli.evaluation.truth import class_key


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips in folders of classes, one of them under a wrong name, and a file that is no video."""
    folder, samples = tmp_path_factory.mktemp("dataset"), tmp_path_factory.mktemp("samples")
    for path, label in write_samples(samples):
        place = folder / label.replace(" ", "_")
        place.mkdir(exist_ok=True)
        shutil.copy(path, place)
    (folder / "color_bars" / "broken.mp4").write_bytes(b"no video")
    shutil.move(folder / "flashing_lights" / "flashing-lights.mp4", folder / "a_black_screen")
    return folder


@pytest.mark.slow
def test_every_form_of_a_dataset(xclip: Run, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """As the plain CSV, whatever files and classes are called, with the classes as labels."""
    clips = [path for path, _ in write_samples(tmp_path_factory.mktemp("samples"))]
    found = {}
    for form, (write, places) in FORMS.items():
        folder = tmp_path / form
        for clip, place in zip(clips, places.values(), strict=False):
            spread(folder / "videos", clip, {clip.name: place})
        (folder / "lists").mkdir()
        command = ["evaluate", folder / "videos", "--truth", write(folder / "lists"), "-o", folder / "r.jsonl"]
        done = xclip(*command, "--model", "bundled", "--dtype", "float32")
        assert done.returncode == 0, done.stderr
        values = json.loads(done.stdout)
        classes = sorted((class_key(each["label"]), each["videos"], each["correct"]) for each in values["classes"])
        found[form] = (
            classes,
            *(values[name] for name in ("videos", "missing", "labels", "top1")),
            round(values["log_loss"], 4),
        )
    assert found["csv"][1:4] == (6, 0, 3)
    assert {form: each for form, each in found.items() if each != found["csv"]} == {}


COMMON = ["--labels", "picture-state", "--dtype", "float32"]


def test_a_folder_a_class(xclip: Run, dataset: Path, tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    done = xclip("evaluate", dataset, *COMMON, "-o", records)
    assert done.returncode == 3  # a video failed
    assert "a folder per class: 7 videos, 5 labels" in done.stderr
    values = json.loads(done.stdout)
    assert (values["videos"], values["failed"], values["labels"]) == (7, 1, 14)
    top = values["top1"]
    assert (top["value"], top["of_classified"]["value"]) == pytest.approx((5 / 7, 5 / 6))
    assert top["low"] < top["value"] < top["high"]
    assert {"right": "a black screen", "answered": "flashing lights", "videos": 1} in values["confusions"]
    lines = [json.loads(line) for line in records.read_text().splitlines()]
    assert [len(line.get("predictions", [])) for line in lines[1:]].count(14) == 6
    # the same without the model, in every form
    again = xclip("evaluate", records, "--truth", dataset)
    assert (again.returncode, json.loads(again.stdout)) == (0, values)
    rows = {
        (r["kind"], r["name"]): r
        for r in csv.DictReader(io.StringIO(xclip("evaluate", records, "--truth", dataset, "-f", "csv").stdout))
    }
    assert float(rows["figure", "top1"]["value"]) == pytest.approx(5 / 7)
    assert float(rows["class", "color bars"]["value"]) == 0.5
    table = xclip("evaluate", records, "--truth", dataset, "-f", "table", env={"COLUMNS": "120"}).stdout
    assert "7 videos, 14 labels, 1 of them failed and count as wrong" in table
    assert "top-1                71.4" in table
    assert "a black screen → flashing lights" in table
    assert "+0.0 points" in xclip("evaluate", records, "--truth", dataset, "-f", "table", "--against", records).stdout


def test_a_run_goes_on(xclip: Run, dataset: Path, tmp_path: Path) -> None:
    records = tmp_path / "r.jsonl"
    values = json.loads(xclip("evaluate", dataset, *COMMON, "-o", records).stdout)
    lines = records.read_text().splitlines(keepends=True)
    records.write_text("".join(lines[:3]))
    again = xclip("evaluate", dataset, *COMMON, "-o", records)
    assert "exists: pass --force" in again.stderr
    done = xclip("evaluate", dataset, *COMMON, "-o", records, "--resume")
    assert "2 of 7 videos are recorded already" in done.stderr
    assert json.loads(done.stdout) == values


def test_a_page(xclip: Run, dataset: Path, tmp_path: Path) -> None:
    records, page = tmp_path / "r.jsonl", tmp_path / "page.html"
    assert xclip("evaluate", dataset, *COMMON, "-o", records, "--summary", page).returncode == 3
    text = page.read_text()
    assert "flashing-lights.mp4" in text
    assert text.count("data:image/jpeg") == 4
    (link,) = re.findall('href="([^"]*flashing-lights.mp4)"', text)
    assert (tmp_path / link).is_file()
    assert "xclip evaluate " in text
    # a stranger's records do not choose which of our videos are shown
    done = xclip("evaluate", records, "--truth", dataset, "--summary", page, "--force")
    assert (done.returncode, f"wrote {page}" in done.stderr) == (0, True)
    assert "flashing-lights.mp4</a>" not in page.read_text()
    assert "No thumbnails: without --root, only relative paths below the folder" in page.read_text()


def test_calibrated_labels(xclip: Run, dataset: Path, checkpoint: Path, tmp_path: Path) -> None:
    records, labels, clip = tmp_path / "r.jsonl", tmp_path / "c.json", dataset / "color_bars" / "color-bars.mp4"
    command = ["evaluate", records, "--truth", dataset, "--write-labels", labels, "--precision", "0.9"]
    xclip("evaluate", dataset, *COMMON, "-o", records)
    done = xclip(*command)
    assert done.returncode == 2
    assert "the records were made with different labels or texts: pass the --labels of that run" in done.stderr
    values = json.loads(xclip(*command, *COMMON[:2]).stdout)["calibration"]
    assert values["without"]["color bars"] == "too few examples: 1, at least 5 are needed"
    assert values["log_loss"]["after"] <= values["log_loss"]["before"]
    again = xclip(*command, *COMMON[:2])
    assert "exists: pass --force" in again.stderr
    table = xclip(*command, *COMMON[:2], "--force", "-f", "table", env={"COLUMNS": "120"}).stdout
    assert "the figures are for held-out videos (" in " ".join(table.split())
    content = json.loads(labels.read_text())
    content["temperature"] = 4.0
    labels.write_text(json.dumps(content))
    common = ["classify", clip, "--model", "bundled", "--dtype", "float32", "-k", "0"]
    plain, fitted = (json.loads(xclip(*common, "--labels", each).stdout) for each in ("picture-state", labels))
    assert "calibrated" not in plain
    assert fitted["calibrated"] is True
    logits = np.array([each["logit"] for each in plain["predictions"]]) / 4
    expected = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert [each["score"] for each in fitted["predictions"]] == pytest.approx(expected, abs=1e-5)
    done = xclip("classify", clip, "--labels", labels, "--model", checkpoint)
    assert done.returncode == 2
    assert "the labels were calibrated for another model or head" in done.stderr
    done = xclip(*common, "--labels", labels, "--none-of-these")
    assert "calibrated" not in json.loads(done.stdout)
    assert "the temperature of the labels is not used" in done.stderr


def test_several_labels_a_video(xclip: Run, dataset: Path, tmp_path: Path) -> None:
    rows = [{"path": "color-bars.mp4", "labels": ["color bars"]}, {"path": "blurry.mov", "labels": []}]
    rows += [{"path": "flashing-lights.mp4", "labels": ["flashing lights", "a black screen"]}]
    truth = write_text(tmp_path / "t.jsonl", [json.dumps(row) for row in rows])
    command = ["evaluate", dataset, "--truth", truth, *COMMON, "--multi-label", "--model", "bundled", "-o", "r.jsonl"]
    done = xclip(*command, "--threshold", "0.4")
    values = json.loads(done.stdout)
    assert (values["videos"], values["f1"]["threshold"], values["log_loss"]) == (3, 0.4, None)
    assert 0 < values["mean_average_precision"] <= 1
    assert values["unavailable"].keys() == {"calibration_error"}


def test_an_index_and_a_list(xclip: Run, dataset: Path, tmp_path: Path) -> None:
    """Videos outside the truth are not looked at, and classes are the labels where none are given."""
    index = tmp_path / "i"
    xclip("embed", dataset, "-r", "-o", index, "--model", "bundled", "--dtype", "float32")
    listed = ["color-bars.mp4,color_bars", "fade-in.mp4,a_fade_in_from_black", "gone.mp4,color_bars"]
    truth = write_text(tmp_path / "t.csv", ["path,label", *listed, listed[0]])
    done = xclip("evaluate", index, "--truth", truth, "-o", tmp_path / "r.jsonl")
    assert done.returncode == 0
    said = " ".join(done.stderr.split())
    assert "1 videos are listed more than once: color-bars.mp4" in said
    assert "1 videos of the ground truth are not among the inputs and not counted: gone.mp4" in said
    values = json.loads(done.stdout)
    assert (values["videos"], values["missing"], values["labels"], values["top1"]["value"]) == (2, 1, 2, 1.0)
    assert "xclip evaluate" not in said


def test_the_published_figure_stands_beside(xclip: Run, dataset: Path, tmp_path: Path) -> None:
    truth = write_text(tmp_path / "t.csv", ["path,label", "color-bars.mp4,ApplyEyeMakeup", "fade-in.mp4,Archery"])
    done = xclip("evaluate", dataset, "--truth", truth, "--protocol", "ucf-101", "--model", "bundled", "-o", "r.jsonl")
    values = json.loads(done.stdout)
    assert (values["labels"], values["preprocess"], values["views"]) == (101, "paper", "1x1")
    assert values["protocol"]["published"] is None
    said = "Nothing to compare with: the protocol ucf-101 has no published figure for bundled"
    assert values["protocol"]["said"] == said
    records = tmp_path / "cwd" / "r.jsonl"
    records.write_text(records.read_text().replace('"bundled"', '"microsoft/xclip-base-patch16-zero-shot"'))
    values = json.loads(xclip("evaluate", records, "--truth", truth, "--protocol", "ucf-101").stdout)
    assert values["protocol"]["published"] == "72.0 ± 2.3 (top-1)"
    done = xclip("evaluate", records, "--truth", truth, "--protocol", "kinetics-600")
    assert "no video of the ground truth has one of the 231 labels" in done.stderr
    records.write_text(records.read_text().replace("patch16-zero-shot", "patch16-kinetics-600"))
    values = json.loads(xclip("evaluate", records, "--truth", truth, "--protocol", "kinetics-600").stdout)
    assert values["protocol"]["published"] == "85.3 / 97.1 (top-1 / top-5)"
    assert "these records were made with views 1x1" in values["protocol"]["said"]
    done = xclip("evaluate", dataset, "--truth", truth, "--protocol", "ucf-101", "--views", "4x3", "-o", "s.jsonl")
    assert "the protocol ucf-101, which uses 1x1: omit the flag" in done.stderr


def test_draws_of_unseen_classes(xclip: Run, dataset: Path, tmp_path: Path) -> None:
    lines = ["color-bars.mp4,abseiling", "fade-in.mp4,using a wrench", "blurry.mov,alligator wrestling"]
    truth = write_text(tmp_path / "t.csv", ["path,label", *lines])
    command = ["--truth", truth, "--protocol", "kinetics-600", "--labels", tmp_path / "unseen.txt"]
    model = ["--model", "bundled", "--dtype", "float32"]
    known = xclip("labels", "show", "kinetics-400").stdout.splitlines()
    unseen = [name for name in xclip("labels", "show", "kinetics-600").stdout.splitlines() if name not in known]
    unseen = [name for name in unseen if len(name) < 25]  # the bundled model reads no longer texts
    labels = write_text(tmp_path / "unseen.txt", unseen)
    lost = write_text(tmp_path / "u.csv", ["path,label", *lines[1:]])
    records = tmp_path / "r.jsonl"
    done = xclip(
        "evaluate", dataset, "--truth", lost, "--labels", labels, *model, "--preprocess", "paper", "-o", records
    )
    assert done.returncode == 0, done.stderr
    records.write_text(records.read_text().replace('"bundled"', '"microsoft/xclip-base-patch16-zero-shot"'))
    done = xclip("evaluate", records, *command)
    assert f"of these, 2 videos have one of the {len(unseen)} labels" in done.stderr
    values = json.loads(done.stdout)
    assert (values["videos"], values["labels"]) == (2, len(unseen))
    assert values["protocol"]["published"] == "65.2 ± 0.4 / 86.1 ± 0.8 (top-1 / top-5)"
    assert (values["draws"]["classes"], values["draws"]["of"]) == (160, len(unseen))
    assert json.loads(xclip("evaluate", records, *command).stdout) == values
    table = xclip("evaluate", records, *command, "-f", "table", env={"COLUMNS": "300"}).stdout
    assert f"draws of 160 of these {len(unseen)} labels: top-1 " in " ".join(table.split())
    assert "which xclip does not have: pass yours as --labels" in " ".join(table.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["v.mp4"], "pass --truth FILE with the right labels"),
        (["DATASET"], "pass -o FILE.jsonl"),
        (["nothing.jsonl", "--truth", "TRUTH"], "there is no results file nothing.jsonl"),
        (["DATASET", "-o", "x.csv"], "pass -o FILE.jsonl"),
        (["DATASET", "--split", "dev", "-o", "x.jsonl"], "there is no split 'dev'"),
        (
            ["DATASET", "--label", "a cat", "-o", "x.jsonl"],
            "5 labels of the ground truth (7 videos) are not among the labels",
        ),
        (["DATASET", "-f", "html"], "--format html writes a file: pass --summary FILE.html"),
        (["DATASET", "--summary", "x.xyz"], "has no suffix that names a format"),
        (["DATASET", "--truth", "TRUTH", "-o", "x.jsonl"], "none of the 7 videos is one of the 1 of the ground truth"),
        (["RESULTS", "--truth", "TRUTH", "-o", "x.jsonl"], "-o writes new records"),
        (["RESULTS", "RESULTS", "--truth", "TRUTH"], "pass it alone"),
        (
            ["RESULTS", "--truth", "TRUTH", "--f1"],
            "pass only one of --precision, --recall and --f1, together with --write-labels",
        ),
        (["RESULTS", "--truth", "TRUTH", "--write-labels", "l.json", "--summary", "l.json"], "must be different files"),
        (["DATASET", "-o", "x.jsonl", "--summary", "./x.jsonl", "-f", "json"], "must be different files"),
        (["RESULTS", "--truth", "TRUTH", "--summary", "RESULTS", "-f", "json", "--force"], "is one of the inputs"),
        (["RESULTS", "--truth", "TRUTH", "--summary", "TRUTH", "--force"], "is one of the inputs"),
        (
            ["RESULTS", "--truth", "TRUTH", "--write-labels", "l.txt"],
            "a label file with thresholds must be a .json file",
        ),
    ],
)
def test_wrong_usage(xclip: Run, dataset: Path, tmp_path: Path, arguments: list[str], message: str) -> None:
    truth = write_text(tmp_path / "t.csv", ["path,label", "z.mp4,color bars"])
    names = {"DATASET": dataset, "TRUTH": truth, "RESULTS": write_text(tmp_path / "r.jsonl", [])}
    done = xclip("evaluate", *(names.get(each, each) for each in arguments))
    assert done.returncode == 2
    assert message in done.stderr
