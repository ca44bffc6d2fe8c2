from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from layouts import CLASSES, FORMS, PLACES, VIDEOS, camel, snake, write_text

from xclip_cli.errors import LabelsError
from xclip_cli.evaluation import Truth, read_truth
from xclip_cli.evaluation.truth import Names, class_key, spoken


def found(truth: Truth, places: dict[str, str], root: str) -> dict[str, str]:
    """What the truth says of each video, as one class spelled in one way."""
    right = {}
    for name, place in places.items():
        video = truth.find(f"{root}/{place}")
        assert video is not None, place
        (label,) = truth.videos[video]
        right[name] = label
    return right


@pytest.mark.parametrize("form", FORMS)
def test_every_form_says_the_same(form: str, tmp_path: Path) -> None:
    write, places = FORMS[form]
    truth = read_truth(write(tmp_path))
    truth = truth.only(truth.split_names())
    assert len(truth.videos) == len(VIDEOS)
    right = found(truth, places, "/somewhere/else")
    assert {name: class_key(label) for name, label in right.items()} == {n: class_key(a) for n, a in VIDEOS.items()}
    assert sorted(map(class_key, truth.classes)) == sorted(map(class_key, CLASSES))
    truth.check_labels(CLASSES)


@pytest.mark.parametrize(("form", "said"), [("ucf", "UCF-101's lists"), ("hmdb", "HMDB-51's"), ("kinetics", "Kinetics"),
    ("videox", "names from labels.csv"), ("mmaction2", "names from label_map"), ("jsonl", "JSON Lines"),
    ("csv", "CSV of paths")])  # fmt: skip
def test_the_form_is_said(form: str, said: str, tmp_path: Path) -> None:
    assert said in read_truth(FORMS[form][0](tmp_path)).form


@pytest.mark.parametrize("form", ["ucf", "hmdb"])
def test_official_splits(form: str, tmp_path: Path) -> None:
    truth = read_truth(FORMS[form][0](tmp_path))
    assert set(truth.splits) == {"test1", "test2", "train1", "train2"}
    assert truth.split_names() == ("test1", "test2")
    assert len(truth.only(["train1"]).videos) == 3
    assert set(truth.splits["test1"]).isdisjoint(truth.splits["train1"])
    with pytest.raises(LabelsError, match="no split 'dev': the ground truth has test1, test2, train1, train2"):
        truth.split_names(["dev"])
    if form == "ucf":
        assert len(read_truth(tmp_path / "testlist01.txt").videos) == 3


@pytest.mark.parametrize("splits", [[""], ["train", "val", "test"]])
def test_a_folder_a_class(splits: list[str], tmp_path: Path) -> None:
    for split in splits:
        for name, label in VIDEOS.items():
            path = tmp_path / split / camel(label) / f"{split}{name}.avi"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (tmp_path / "notes.txt").touch()
    truth = read_truth(tmp_path)
    assert truth.split_names() == (("",) if splits == [""] else ("test",))
    assert len(truth.videos) == len(VIDEOS) * len(splits)
    tested = truth.only(truth.split_names())
    name, label = next(iter(VIDEOS.items()))
    video = tested.find(f"elsewhere/{splits[-1]}/{camel(label)}/{splits[-1]}{name}.avi")
    assert tested.videos[video or ""] == (camel(label),)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_metadata_beside_videos(kind: str, tmp_path: Path) -> None:
    rows = [("a b.mp4", "a cat"), ("c.mp4", "a dog")]
    for split in ("train", "test"):
        lines = ["file_name,label", *(f"{a},{b}" for a, b in rows)] if kind == "csv" else [
            json.dumps({"file_name": a, "label": b, "more": 1}) for a, b in rows
        ]  # fmt: skip
        write_text(tmp_path / split / f"metadata.{kind}", lines)
    truth = read_truth(tmp_path)
    assert truth.split_names() == ("test",)
    assert truth.only(["test"]).videos == {"test/a b.mp4": ("a cat",), "test/c.mp4": ("a dog",)}


def test_numbers_count_in_the_labels_where_no_file_names_them(tmp_path: Path) -> None:
    path = write_text(tmp_path / "val.txt", ["a b.mp4 1", "c.mp4\t0"])
    with pytest.raises(LabelsError, match="no file next to it names them"):
        read_truth(path)
    assert read_truth(path, ["x", "y"]).videos == {"a b.mp4": ("y",), "c.mp4": ("x",)}


def test_several_labels(tmp_path: Path) -> None:
    lines = [json.dumps({"path": "a.mp4", "labels": ["x", "y"]}), json.dumps({"path": "b.mp4", "labels": []})]
    truth = read_truth(write_text(tmp_path / "t.jsonl", lines))
    assert truth.several
    assert truth.videos == {"a.mp4": ("x", "y"), "b.mp4": ()}
    truth = read_truth(write_text(tmp_path / "t.csv", ["path,labels", "a.mp4,x|y", "b.mp4,y"]))
    assert truth.several
    assert truth.videos["a.mp4"] == ("x", "y")
    lines = [json.dumps({"path": "a.mp4", "label": "x"}), json.dumps({"path": "b.mp4", "label": ["x", "y"]})]
    assert read_truth(write_text(tmp_path / "mixed.jsonl", lines)).several


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("t.csv", ["path,label", "a.mp4,x", "a.mp4,y"], "t.csv:3: 'a.mp4' is 'y' here, but 'x' before"),
        ("t.csv", ["name,label", "a.mp4,x"], "expected a field path, file_name"),
        ("t.csv", ["path,label", "a.mp4,x,y"], "t.csv:2: has 3 fields, but its header has 2"),
        ("t.csv", ["path,label", "a.mp4,"], "t.csv:2: '' is not a label"),
        ("t.csv", ["path,label"], "there are no videos in"),
        ("t.jsonl", ["{"], "t.jsonl:1: not JSON"),
        ("t.jsonl", ["[]"], "must be an object"),
        ("t.csv", ["label,youtube_id,time_start,time_end", "x,abc,soon,17"], "time_start and time_end must be seconds"),
        (
            "t.csv",
            ["label,youtube_id,time_start,time_end", "x,abc,1e999,17"],
            "time_start and time_end must be seconds",
        ),
        ("t.csv", ["youtube_id,time_start,time_end", "abc,7,17"], "the label or the youtube_id is missing"),
        ("testlist01.txt", ["v_a_g01_c01.avi"], "is not a class in classInd.txt"),
        ("brush_hair_test_split1.txt", ["a.avi 1"], "one class of HMDB-51: give the folder"),
    ],
)
def test_faults(name: str, lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(LabelsError, match=message):
        read_truth(write_text(tmp_path / name, lines))


def test_faults_of_lists(tmp_path: Path) -> None:
    for lines, message in (
        (["a.mp4"], "expected a path and a number"),
        (["a.mp4 7"], "the class 7 has no name"),
        (["a.mp4 " + "9" * 5000], "a path and a number"),
    ):
        with pytest.raises(LabelsError, match=message):
            read_truth(write_text(tmp_path / "v.txt", lines), ["x"])
    for name in ("a.csv", "b.csv"):
        write_text(tmp_path / name, ["id,name", "0,x"])
    with pytest.raises(LabelsError, match="could each name the classes"):
        read_truth(write_text(tmp_path / "v.txt", ["a.mp4 0"]))
    shutil.rmtree(tmp_path)
    write_text(tmp_path / "run_test_split1.txt", ["a.avi 3"])
    with pytest.raises(LabelsError, match="expected a file name and 0, 1"):
        read_truth(tmp_path)


def test_stray_videos_of_class_folders(tmp_path: Path) -> None:
    for place in ("a.mp4", "x/b.mp4"):
        write_text(tmp_path / place, [])
    with pytest.raises(LabelsError, match="1 videos of .* are not in a class folder, such as"):
        read_truth(tmp_path)


def test_repeated_and_unknown(tmp_path: Path) -> None:
    truth = read_truth(
        write_text(tmp_path / "t.csv", ["path,label", "a.mp4,Brush_Hair", "b.mp4,sit", "a.mp4,Brush_Hair"])
    )
    assert truth.repeated == ("a.mp4",)
    with pytest.raises(
        LabelsError, match="1 labels of the ground truth [(]1 videos[)] are not among the labels: 'sit'"
    ):
        truth.check_labels(["brush hair"])


def test_spellings_of_a_class() -> None:
    names = Names(["ApplyEyeMakeup", "C", "C++", "brush hair", "ÜBEN"])
    assert [names.find(n) for n in ("apply_eye_makeup", "Apply Eye Makeup", "Brush_Hair", "u\u0308ben")] == [0, 0, 3, 4]
    assert [names.find(n) for n in ("C", "C++", "c")] == [1, 2, None]  # the last may be either
    assert names.find("sit") is None


def test_classes_are_texts_with_blanks() -> None:
    names = ("ApplyEyeMakeup", "apply_eye_makeup", "YoYo", "TV on", "iPhone", "CPR")
    assert [spoken(n) for n in names] == ["Apply Eye Makeup", "apply eye makeup", "Yo Yo", "TV on", "iPhone", "CPR"]


def test_videos_are_found_by_the_ends_of_their_paths() -> None:
    truth = Truth.of({"a/x.mp4": "1", "b/x.mp4": "2", "y.mp4": "3", "/data/c/z.mp4": "4", "id_000001_000011": "5"})
    found = [truth.find(p) for p in ("/m/b/x.mp4", "./y.mp4", "c/z.mp4", "k/id_000001_000011.webm", "c/x.mp4", "q.mp4")]
    assert found == ["b/x.mp4", "y.mp4", "/data/c/z.mp4", "id_000001_000011", None, None]
    with pytest.raises(LabelsError, match=r"'x.mp4' could be 'a/x.mp4', 'b/x.mp4' of the ground truth"):
        truth.find("x.mp4")


def test_ids_of_kinetics_may_be_several_clips(tmp_path: Path) -> None:
    lines = ["label,youtube_id,time_start,time_end,split", "x,abc,1,11,validate", "y,abc,20,30,validate"]
    truth = read_truth(write_text(tmp_path / "val.csv", [*lines, "z,def,1,11,train"]))
    assert truth.split_names() == ("validate",)
    assert truth.find("k/abc_000020_000030.mp4") == "abc_000020_000030"
    assert truth.find("k/def.webm") == "def_000001_000011"
    with pytest.raises(
        LabelsError, match="'abc.mp4' could be 'abc_000001_000011', 'abc_000020_000030' of the ground truth"
    ):
        truth.find("abc.mp4")
    named = Truth.of({"abc_000001_000011.mp4": "x"})  # only the names of Kinetics have times
    assert named.find("abc.mp4") is None


def test_places_are_those_of_the_csv() -> None:
    assert {snake(label) for label in CLASSES} == {Path(place).parent.name for place in PLACES.values()}
