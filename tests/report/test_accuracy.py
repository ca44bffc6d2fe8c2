from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from browser import Browser
from PIL import Image

from xclip_cli.evaluation import Evaluation, Truth, evaluate
from xclip_cli.evaluation.summary import figures
from xclip_cli.output.evaluations import remarks
from xclip_cli.report.accuracy import class_order, matrix_picture, render
from xclip_cli.report.entries import Thumbnails
from xclip_cli.report.thumbnails import jpeg
from xclip_cli.results.records import Failure, Frames, Prediction, RankedLabel, Record, RunHeader

FRAMES = Frames(8, 8, 0, 0, (0.5,))
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x1b[2J</style>"


def evaluated(classes: int, videos: int, several: bool = False, names: str = "class number {}") -> Evaluation:
    """Labels of which two neighbours each, far apart in the truth's order, are taken for each other."""
    rng = np.random.default_rng(0)
    labels = [names.format(k) for k in range(classes)]
    records: list[Record | RunHeader] = [
        RunHeader(model="the-model", labels=classes, views="1x1", preprocess="hf", command=f"xclip classify {names}")
    ]
    right = {}
    for i in range(videos):
        k = i % classes
        answer = (k + classes // 2) % classes if rng.random() < 0.3 else int(rng.choice([k, rng.integers(classes)]))
        top = float(rng.uniform(0.4, 1))
        ranked = [RankedLabel(labels[answer], top, 20.0)]
        ranked += [RankedLabel(label, (1 - top) / classes, 10.0) for j, label in enumerate(labels) if j != answer]
        video = f"folder/{i}.mp4"
        records.append(Prediction(video, "the-model", None, 0.0, 1.0, FRAMES, tuple(ranked)))
        right[video] = labels[k]
    records.append(Failure("folder/f.mp4", "missing", "no such file"))
    right["folder/f.mp4"] = labels[0]
    return evaluate(records, Truth.of({video: [label] for video, label in right.items()} if several else right))


def page(found: Evaluation) -> str:
    pictures = {found.paths[i]: {0.5: jpeg(np.full((90, 160, 3), 90, np.uint8), 192)} for i in found.mistakes(5)}
    missing = {found.paths[i]: "it is elsewhere" for i in found.mistakes(6)[5:]}
    return render(found, figures(found), Thumbnails(pictures, missing, "Pictures: some."), "results.jsonl")


def test_the_page_says_what_the_figures_say() -> None:
    found = evaluated(6, 60)
    html, top = page(found), found.top(1)
    assert top
    assert '<pre class="command" tabindex="0">xclip classify class number {}</pre>' in html
    for text in (f"<dd>{top.value * 100:.1f}</dd>", "1 failed, and count as wrong", "61 videos", "the-model"):
        assert text in html
    assert html.count('class="panel mistake"') == min(24, len(found.mistakes(100)))
    assert "<script" not in html
    assert html.count('text-anchor="end">class number') == 6  # rows of a small matrix have names


def test_the_page_says_what_stands_beside_the_figures() -> None:
    found = evaluated(4, 20)
    difference = {"value": 0.1, "low": -0.02, "high": 0.22}
    against = {"model": "<b>", "videos": 9, "difference": difference, "only_this": 2, "only_other": 1, "p_value": 0.5}
    spread = {"mean": 0.447, "sd": 0.052, "splits": 3}
    pair = {"before": 2.0, "after": 1.0}
    fitted = {"file": "c.json", "folds": 5, "temperature": 1.5, "log_loss": pair, "calibration_error": pair}
    values = figures(found) | {"against": against, "over_splits": {"top1": spread}, "calibration": fitted}
    said = [line for lines in remarks(values) for line in lines]
    html = render(found, values, Thumbnails({}, {}, ""), "r.jsonl", said)
    assert "top-1, mean ± sd of splits: 44.7 ± 5.2" in html
    assert "Against &lt;b&gt;, on 9 videos in both: +10.0 points" in html
    assert "temperature 1.5: log loss 2.000 → 1.000" in html


def test_the_picture_of_the_matrix() -> None:
    counts = np.array([[9, 0, 7], [0, 0, 0], [4, 0, 0]])
    with Image.open(io.BytesIO(matrix_picture(counts, [0, 2]))) as image:
        pixels = np.asarray(image)
    assert pixels.shape == (2, 2, 4)
    expected = (0.3 + 0.7 * np.sqrt(np.array([[9 / 16, 7 / 16], [4 / 4, 0]]))) * 255
    expected[1, 1] = 0
    assert pixels[..., 3] == pytest.approx(expected, abs=0.51)
    assert (pixels[0, 0, :3] != pixels[1, 0, :3]).any()


def test_labels_that_are_confused_lie_side_by_side() -> None:
    order = class_order(evaluated(40, 4000))
    places = {k: i for i, k in enumerate(order)}
    assert sorted(order) == list(range(40))
    assert np.median([abs(places[k] - places[k + 20]) for k in range(20)]) <= 2


def test_texts_from_outside_are_texts() -> None:
    html = page(evaluated(3, 30, names=HOSTILE + "{}"))
    assert "<script" not in html
    assert "<img src=x" not in html
    assert "\u202e" not in html


def test_a_page_of_several_labels_a_video_and_one_of_nothing_wrong() -> None:
    html = page(evaluated(4, 40, several=True))
    assert "mean average precision" in html
    assert 'id="matrix"' not in html
    found = evaluated(4, 40)
    assert 'id="mistakes"' not in page(found.part(found.correct))


@pytest.mark.slow
def test_a_page_of_ten_thousand_labels_stays_small() -> None:
    found = evaluated(3000, 3000)
    html = page(found)
    assert len(html) < 25_000_000
    assert "2,400 labels without videos, or with fewer mistakes, are left out" in html


@pytest.mark.parametrize("width", [390, 1280])
def test_in_a_browser(tmp_path: Path, width: int) -> None:
    (tmp_path / "page.html").write_text(page(evaluated(400, 2000)))
    with Browser(tmp_path / "profile", script=False) as browser:
        browser.view(width)
        browser.open(tmp_path / "page.html")
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        cell = browser.evaluate("document.querySelector('#matrix image').getBoundingClientRect().width / 400")
        assert cell >= 2
        row = "document.querySelectorAll('#matrix rect:has(title)')[100]"
        browser.evaluate(f"{row}.scrollIntoView({{block: 'center'}})")
        place = f"{row}.getBoundingClientRect()"
        pointed = browser.evaluate(f"document.elementFromPoint({place}.x + 5, {place}.y + 1).textContent")
        assert pointed.startswith("class number")  # a row that is too low for its name says it
        browser.screenshot(tmp_path / f"{width}.png", whole=True)
        assert (browser.said, [url for url in browser.requested if not url.startswith("file:")]) == ([], [])
    assert re.search("content=\"default-src 'none'", (tmp_path / "page.html").read_text())
