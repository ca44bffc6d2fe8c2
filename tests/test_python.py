"""The library as a notebook uses it: folders, timelines, records that show themselves, data frames, progress."""

from __future__ import annotations

import doctest
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path

import pandas
import pysrt
import pytest
import webvtt
from clips import write_clip
from conftest import on_terminal
from hub import Hub, serving
from records import assert_all_same
from samples import BAD, GOOD, answer, made

from xclip_cli import Classifier, Failure, Labels, LabelsError, Prediction, VideoError, VideoTimeline
from xclip_cli.results.lines import KIND
from xclip_cli.results.records import Error, Moment, Record, SegmentsRecord, from_json
from xclip_cli.segments import Segment
from xclip_cli.timeline import Rules, Timelines, whole_timelines

LABELS = ["abseiling", "air drumming", "a cat"]


def make(checkpoint: Path, **settings: object) -> Classifier:
    return Classifier(checkpoint, labels=LABELS, dtype="float32", device="cpu", **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two videos, what is no video, and a third one in a folder below."""
    folder = tmp_path_factory.mktemp("folder")
    for name in ("b.mp4", "a.mp4", "below/c.mp4"):
        (folder / name).parent.mkdir(exist_ok=True)
        write_clip(folder / name, 20)
    (folder / "notes.txt").touch()
    return folder


def names(records: Iterator[Prediction | Failure]) -> list[str]:
    return [Path(record.video).name for record in records]


def test_folders_and_generators(checkpoint: Path, folder: Path, tmp_path: Path) -> None:
    with make(checkpoint) as classifier:
        assert names(classifier.classify_all(folder)) == ["a.mp4", "b.mp4"]
        assert names(classifier.classify_all(str(folder), recursive=True)) == ["a.mp4", "b.mp4", "c.mp4"]
        mixed = (path for path in [folder / "b.mp4", tmp_path / "none", tmp_path, folder, folder / "below" / "c.mp4"])
        records = list(classifier.classify_all(mixed))
        assert names(iter(records)) == ["b.mp4", "none", tmp_path.name, "a.mp4", "b.mp4", "c.mp4"]
        assert [getattr(record, "code", "ok") for record in records] == ["ok", "missing", "empty_folder"] + ["ok"] * 3
        assert names(classifier.classify_all([tmp_path, tmp_path])) == [tmp_path.name] * 2
        assert list(classifier.classify_all(path for path in ())) == []
        with pytest.raises(TypeError, match="videos must be a list of paths, or a folder"):
            classifier.classify_all(folder / "a.mp4")


def test_a_generator_is_read_as_videos_are_decoded(checkpoint: Path, clip: Path) -> None:
    taken = 0

    def paths() -> Iterator[Path]:
        nonlocal taken
        for _ in range(200):
            taken += 1
            yield clip

    with make(checkpoint, workers=1) as classifier:
        records = classifier.classify_all(paths())
        next(records)
        assert taken < 100
        records.close()  # type: ignore[attr-defined]
        assert isinstance(classifier.classify(clip), Prediction)  # nothing is in the way


def test_the_folder_of_an_index_says_what_to_do(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "index.json").write_text(json.dumps({"kind": KIND}))
    with make(checkpoint) as classifier:
        record, _ = classifier.classify_all([tmp_path / "index", clip])
    assert (record.code, "Index.open" in record.message) == ("index", True)


def test_timelines_are_those_of_the_command(checkpoint: Path, clip: Path) -> None:
    with make(checkpoint) as classifier:
        found = classifier.timeline(clip, window="0.6", stride=0.3, start=0.1, end="0:01.5", top_k=2)
        rules = Rules.of(classifier.encoder.usual_window)
        assert (rules.window, rules.stride) == (10, 5)
        again = classifier.timeline(str(clip), window=0.6, stride=0.3, start=0.1, end=1.5)
        (usual,) = whole_timelines(Timelines(classifier, rules).records([str(clip)]))
        assert classifier.timeline(clip).segments == pytest.approx(usual.segments)
        with pytest.raises(VideoError, match=r"^missing\.mp4: no such file"):
            classifier.timeline("missing.mp4")
        with pytest.raises(VideoError, match=r"^missing\.mp4: no such file"):
            classifier.classify("missing.mp4")
        with pytest.raises(ValueError, match="give a stride of at least"):
            classifier.timeline(clip, window=10, stride=0.01)
    assert isinstance(found, VideoTimeline)
    assert [w.start_seconds for w in found.windows] == pytest.approx([0.1, 0.4, 0.7, 0.9])
    assert [w.end_seconds for w in found.windows] == pytest.approx([0.7, 1.0, 1.3, 1.5])
    assert {len(window.prediction.predictions) for window in found.windows if window.prediction} == {2}
    assert (found.segments[0].start_seconds, found.segments[-1].end_seconds) == (0.1, 1.5)
    assert found.timeline is not None
    assert found.timeline.scores.shape == (4, 3)
    assert [s.label for s in again.segments] == [s.label for s in found.segments]
    assert [line.text.rpartition(" (")[0] for line in pysrt.from_string(found.to_srt())] == [
        s.label for s in found.segments
    ]
    captions = webvtt.from_buffer(io.StringIO(found.to_vtt())).captions
    assert [c.text.rpartition(" (")[0] for c in captions] == [s.label for s in found.segments]
    values = json.loads(found.to_json_string())
    assert values == json.loads(json.dumps(found.to_dict()))
    windows = [from_json(window) for window in values.pop("windows")]
    assert_all_same(windows, found.windows)
    assert from_json(values) == SegmentsRecord(**{one.name: getattr(found, one.name) for one in fields(SegmentsRecord)})


def test_a_timeline_that_ends_early_keeps_what_was_made() -> None:
    failed = Failure("a.mp4", "crashed", "the decoder crashed")
    (found,) = whole_timelines(made(answer(0, "a"), answer(1, "b"), failed))
    assert isinstance(found, VideoTimeline)
    assert (len(found.windows), found.error.code if found.error else "") == (2, "crashed")
    first, second = whole_timelines([failed, *made(answer(0, "a"))])
    assert (first, len(getattr(second, "windows", ()))) == (failed, 1)


def test_a_timeline_comes_back_from_its_json() -> None:
    (found,) = whole_timelines(made(answer(0, "a"), answer(1, None)))
    assert isinstance(found, VideoTimeline)
    again = VideoTimeline.from_json(json.loads(found.to_json_string()))
    assert (again, again.windows) == (found, found.windows)
    for windows in ({}, [1], [{"status": "ok"}]):
        with pytest.raises(ValueError, match=r"windows is no list|has no"):
            VideoTimeline.from_json({**found.to_json(), "windows": windows})


def test_the_best_label(checkpoint: Path, clip: Path) -> None:
    with make(checkpoint) as classifier:
        prediction = classifier.classify(clip)
        assert (prediction.label, prediction.score) == (
            prediction.predictions[0].label,
            prediction.predictions[0].score,
        )
        assert prediction.top(1).label == prediction.label
    with make(checkpoint, threshold=1.0) as classifier:
        nothing = classifier.classify(clip)
        assert (nothing.label, nothing.score, nothing.predictions) == (None, None, ())
    window, lost, segments = made(answer(0, "a"), answer(1, None))
    assert (window.label, window.score) == ("a", 0.75)
    assert {(record.label, record.score) for record in (lost, segments, BAD)} == {(None, None)}


def test_empty_labels_are_an_error_about_labels(checkpoint: Path) -> None:
    for labels in (list, lambda: Labels((), ()), lambda: (name for name in ())):
        with pytest.raises(LabelsError, match="^there are no labels: give at least one$"):
            Classifier(checkpoint, labels=labels())


HOSTILE = '\x1b[2J<script>alert(1)</script>\u202e"'


class Tags(HTMLParser):
    """The tags of a page, its texts and the widths of its bars."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.texts, self.widths = list[str](), list[str](), list[str]()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.widths += [(value or "").rpartition("width:")[2] for key, value in attrs if "background" in (value or "")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_how_records_show_themselves() -> None:
    assert repr(GOOD) == "Prediction('a.mp4': a cat 0.750, a, dog 0.250)"
    assert repr(BAD) == "Failure('b\\udce9.mp4': failed: no such file)"
    window, segments = made(answer(61, "a"))
    assert repr(window) == "WindowRecord('a.mp4': 1:01.0-1:02.0 a 0.750)"
    assert repr(segments) == "SegmentsRecord('a.mp4': 1:01.0-1:02.0 a 0.750)"
    moment = Moment("a dog", 1, "a.mp4", 1.0, 2.0, 0.5)
    assert repr(moment) == "Moment('a.mp4': 0:01.0-0:02.0 a dog 0.500)"
    many = SegmentsRecord("a.mp4", tuple(Segment(i, i + 1, "x", 0.5) for i in range(30)), 30)
    assert repr(many).endswith("and 27 more)")
    assert repr(SegmentsRecord("a.mp4", (), 1)) == "SegmentsRecord('a.mp4': nothing)"
    page = Tags(GOOD._repr_html_())
    assert (page.widths, page.texts) == (["75.0%", "25.0%"], ["a.mp4", "a cat", "0.750", "a, dog", "0.250", "careful"])
    assert "and 10 more" in Tags(many._repr_html_()).texts
    hostile = SegmentsRecord(HOSTILE, (Segment(0, 1, HOSTILE, 0.5),), 1, warnings=(HOSTILE,), error=Error("x", HOSTILE))
    assert not {"\x1b", "\u202e"} & {*repr(hostile), *hostile._repr_html_()}
    assert set(Tags(hostile._repr_html_()).tags) == {"div", "strong", "table", "tr", "td", "em"}


def test_records_as_values(checkpoint: Path) -> None:
    for record in (GOOD, BAD, *made(answer(0, "a"))):
        assert record.to_dict() == record.to_json() == from_json(json.loads(record.to_json_string())).to_json()
        assert "\n" not in record.to_json_string()


def test_records_as_a_data_frame() -> None:
    records: list[Record] = [GOOD, BAD, made(answer(0, "a"))[-1], Moment("a dog", 1, "c.mp4", 1.0, 2.0, 0.5)]
    frame = pandas.DataFrame(row for record in records for row in record.rows())
    assert list(frame["video"]) == ["a.mp4", "a.mp4", r"b\udce9.mp4", "a.mp4", "c.mp4"]
    assert frame["status"].tolist() == ["ok", "ok", "error", "ok", "ok"]
    assert frame["score"].dtype == float
    assert frame.groupby("label")["score"].max().to_dict() == {"a cat": 0.75, "a, dog": 0.25, "a": 0.75}


PROGRAM = """
import sys, xclip_cli
if __name__ == "__main__":
    _, checkpoint, folder, how = sys.argv
    with xclip_cli.Classifier(checkpoint, labels=["a", "b"], dtype="float32", progress=how != "off") as classifier:
        videos = [folder] if how == "list" else (path for path in [folder])
        print(len(list(classifier.classify_all(videos))), len(classifier.timeline(folder + "/a.mp4").windows))
"""


@pytest.mark.parametrize("how", ["list", "generator", "off"])
def test_progress_is_drawn_on_a_terminal(checkpoint: Path, folder: Path, how: str) -> None:
    command = [sys.executable, "-c", PROGRAM, checkpoint, folder, how]
    environment = {"COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    status, text, _ = on_terminal(command, environment, errors_too=True)
    assert (status, text.splitlines()[-1].rpartition("\x1b[2K")[2].strip()) == (0, "2 1"), text
    assert ("2/2" in text, "1/1" in text, "━" in text) == (how == "list", how != "off", how != "off")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("2 1\n", "")


DOWNLOAD = """
import sys, xclip_cli
with xclip_cli.Classifier("owner/name", labels=["a", "b"], progress=sys.argv[1] == "on") as classifier:
    print(classifier.checkpoint.name)
"""


def test_a_download_is_drawn_by_the_library_of_the_hub(checkpoint: Path, tmp_path: Path) -> None:
    made = Hub()
    made.repositories["owner/name"] = checkpoint
    with serving(made) as served:
        for progress, hidden in (("on", "0"), ("off", "0"), ("on", "1")):
            hub = {"HF_ENDPOINT": served.address, "HF_HOME": str(tmp_path / (progress + hidden)), "HF_HUB_OFFLINE": "0"}
            environment = {**os.environ, **hub, "HF_HUB_DISABLE_PROGRESS_BARS": hidden}
            command = [sys.executable, "-c", DOWNLOAD, progress]
            done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
            assert (done.stdout, "Fetching" in done.stderr) == ("owner/name\n", hidden == "0")


@pytest.mark.parametrize("module", ["classifier", "evaluation.outcomes", "results.records"])
def test_examples_of_docstrings(module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run([Path(sys.executable).with_name("xclip"), "demo", "clips"], check=True, capture_output=True)
    result = doctest.testmod(import_module(f"xclip_cli.{module}"), optionflags=doctest.ELLIPSIS)
    assert (result.failed, result.attempted > 0) == (0, True)
