"""The way in: what a new user types first, and mistypes, is answered by what to type."""

from __future__ import annotations

import fcntl
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from conftest import Run
from records import assert_same

import xclip_cli
from xclip_cli import Classifier
from xclip_cli.errors import ResultsError
from xclip_cli.results.run_file import RunFile

LABELS = ["--label", "a cat", "--label", "a dog"]
INLINE = "using 2 labels given inline: 'a cat', 'a dog'"


def said(done: subprocess.CompletedProcess[str]) -> str:
    assert "Traceback" not in done.stderr
    return done.stderr


@pytest.fixture
def folder(tmp_path: Path, clip: Path) -> Path:
    """Where the program runs, with a video."""
    folder = tmp_path / "cwd"
    folder.mkdir()
    shutil.copy(clip, folder / "a video.mp4")
    return folder


@pytest.mark.parametrize("words", [["-V"], ["--version"], ["version"]])
def test_the_version(xclip: Run, words: list[str]) -> None:
    assert xclip(*words).stdout == f"xclip {xclip_cli.__version__}\n"


@pytest.mark.parametrize("words", [[], ["classify"], ["models"], ["models", "pull"]])
def test_help_as_a_word(xclip: Run, words: list[str]) -> None:
    help_ = xclip("help", *words)
    assert (help_.stdout, help_.returncode) == (xclip(*words, "--help").stdout, 0)
    assert help_.stdout.splitlines()[-1].startswith(" Documentation: ")
    if words in ([], ["models"]):
        assert (xclip(*words).stdout, xclip(*words).returncode) == (help_.stdout, 2)


@pytest.mark.parametrize(
    "given",
    [
        ["a video.mp4", "--model", "bundled", "--labels", "a cat, a dog"],
        ["a video.mp4", "--model", "bundled"],
        ["--labels", "a cat, a dog", "-m", "bundled", "a video.mp4"],
        [".", "-m", "bundled"],
    ],
)
def test_a_video_without_a_command_is_told_what_to_type(xclip: Run, folder: Path, given: list[str]) -> None:
    done = xclip(*given)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    told, _, command = line.partition(", type: ")
    yours = "" if "--labels" in given else " with labels of your own"
    assert told == f"error: no command given: to classify videos{yours}"
    name, *words = shlex.split(command)
    assert (name, words[: len(given) + 1]) == ("xclip", ["classify", *given])
    assert xclip(*words).returncode == 0


def test_a_mistyped_command_is_no_video(xclip: Run, folder: Path) -> None:
    done = xclip("clasify", "a video.mp4", *LABELS)
    assert (done.returncode, done.stdout) == (2, "")
    assert "no such command 'clasify': did you mean 'classify'?" in said(done)
    assert "no such command 'x': see `xclip --help`" in said(xclip("x"))
    assert "no such option: -q: see `xclip --help`" in said(xclip("-q", "classify", "a video.mp4"))


@pytest.mark.parametrize("flag", ["--labels", "-l"])
def test_labels_in_the_place_of_a_file(xclip: Run, checkpoint: Path, folder: Path, flag: str) -> None:
    for command in ("classify", "timeline"):
        done = xclip(command, "a video.mp4", flag, "a cat, a dog", "--model", checkpoint)
        assert (done.returncode, INLINE in done.stderr) == (0, True)
        record = json.loads(done.stdout.splitlines()[0])
        assert sorted(p["label"] for p in record["predictions"]) == ["a cat", "a dog"]
    done = xclip("classify", "a video.mp4", flag, "a cat", flag, "a dog", "--model", checkpoint, "-q")
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(p["label"] for p in json.loads(done.stdout)["predictions"]) == ["a cat", "a dog"]


def test_labels_in_the_place_of_a_file_everywhere(xclip: Run, checkpoint: Path, folder: Path) -> None:
    (folder / "xclip.toml").write_text('labels = "a cat, a dog"\n')
    done = xclip("classify", "a video.mp4", "--model", checkpoint, "--config", "xclip.toml")
    assert (done.returncode, INLINE in done.stderr) == (0, True)
    many = ", ".join(f"label {i}" for i in range(100))  # longer than a name may be
    done = xclip("labels", "check", many)
    assert (done.returncode, done.stdout) == (0, "100 labels, 100 texts: no problems\n")
    assert "'label 4' and 95 more" in done.stderr
    for i, name in enumerate(["a cat", "a dog"]):
        (folder / "truth" / name).mkdir(parents=True)
        shutil.copy(folder / "a video.mp4", folder / "truth" / name / f"{i}.mp4")
    done = xclip("evaluate", "truth", "-l", "a cat, a dog", "--model", checkpoint, "-o", "out.jsonl", "-f", "json")
    assert (done.returncode, INLINE in done.stderr) == (0, True)


def test_what_is_there_is_a_file(xclip: Run, folder: Path) -> None:
    (folder / "my labels").write_text("a bird\na fish\na cow\n")
    done = xclip("labels", "check", "my labels")
    assert (done.stdout, done.stderr) == ("3 labels, 3 texts: no problems\n", "")
    (folder / "a folder").mkdir()
    assert "a folder is not a file" in said(xclip("labels", "check", "a folder"))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "cat",
            "there is no label file or built-in set 'cat': for one label pass --label cat; `xclip labels list` shows",
        ),
        ("label.txt", "there is no label file or built-in set 'label.txt': did you mean labels.txt? `xclip"),
        ("my label.txt", "there is no label file or built-in set 'my label.txt': did you mean my labels.txt?"),
        ("sets/lables.csv", "did you mean sets/labels.csv?"),
        ("a.txt, b.txt", "there is no label file or built-in set 'a.txt, b.txt'"),
        (
            "kinetics-40",
            "'kinetics-40': did you mean kinetics-400? for one label pass --label kinetics-40; "
            "`xclip labels list` shows the sets",
        ),
        (
            "camera,picture-state",
            "'camera' and 'picture-state' are label sets or files, not labels: pass --labels once",
        ),
        (
            "camera, a phone",
            "'camera' is a label set or file, not labels: pass --labels once for each set, --label for",
        ),
        ("labels.txt, a cat", "'labels.txt' is a label set or file"),
    ],
)
def test_labels_that_are_not_there(xclip: Run, folder: Path, given: str, message: str) -> None:
    (folder / "sets").mkdir()
    for name in ("labels.txt", "my labels.txt", "sets/labels.csv", "notes.md"):
        (folder / name).write_text("name\na cat\n")
    done = xclip("classify", "a video.mp4", "-l", given)
    assert done.returncode == 2
    assert message in said(done)


UNAVAILABLE = ["--model", "no/such"]  # and the hub cannot be reached


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["classify", "nope.mp4", *LABELS], "failed: nope.mp4: no such file"),
        (["timeline", "nope.mp4", *LABELS, "-o", "a.csv"], "failed: nope.mp4: no such file"),
        (["classify", "nope.mp4", *LABELS, "--output-dir", "out"], "failed: nope.mp4: no such file"),
        (["embed", "nope.mp4", "-o", "out.index"], "failed: nope.mp4: no such file"),
        (["search", "a cat", "nope.mp4"], "failed: nope.mp4: no such file"),
    ],
)
def test_missing_inputs_need_no_model(xclip: Run, folder: Path, arguments: list[str], message: str) -> None:
    before = sorted(folder.iterdir())
    done = xclip(*arguments, *UNAVAILABLE)
    assert (done.returncode, done.stderr) == (1, f"{message}\n")
    assert [path for path in sorted(folder.rglob("*")) if path.is_file()] == before
    if "-o" not in arguments and "classify" in arguments and "--output-dir" not in arguments:
        (expected,) = Classifier("bundled", labels=["a cat", "a dog"]).classify_all(["nope.mp4"])
        assert json.loads(done.stdout) == expected.to_json()


@pytest.mark.parametrize(
    ("given", "near"),
    [
        ("a vidoe.mp4", "a video.mp4"),
        ("./a video.mp", "a video.mp4"),
        ("clps", "clips"),
        ("clips/b.mp4", "clips/bb.mp4"),
    ],
)
def test_a_mistyped_input_is_told_the_nearest(xclip: Run, folder: Path, given: str, near: str) -> None:
    (folder / "clips").mkdir()
    (folder / "clips" / "bb.mp4").touch()
    for command in (["classify", given, *LABELS], ["embed", given, "-o", "i"], ["search", "a cat", given]):
        done = xclip(*command, *UNAVAILABLE)
        assert done.stderr.splitlines()[0] == f"there is no {given}: did you mean {near}?"
        assert "no such file" in done.stderr
    assert "did you mean" not in xclip("classify", "other/nope.mp4", *LABELS, *UNAVAILABLE).stderr


def test_words_in_the_wrong_places(xclip: Run, folder: Path) -> None:
    done = xclip("search", "a video.mp4", "a cat")
    assert (done.returncode, done.stderr) == (2, "error: the text comes first: xclip search 'a cat' 'a video.mp4'\n")
    unknown = "error: there is no built-in set 'x': `xclip labels list` shows the sets\n"
    assert said(xclip("labels", "show", "x")) == unknown
    (folder / "Other.csv").touch()
    done = xclip("classify", "a video.mp4", *LABELS, "-o", "Other.csv")
    assert said(done) == "error: Other.csv exists: pass --force to replace it, or give another file\n"
    assert said(xclip("evaluate", "gone")).startswith("error: there is no gone: pass --truth FILE with")


def test_a_missing_input_is_told_of_before_the_model_is_asked_for(xclip: Run, folder: Path) -> None:
    for arguments in (["classify", *LABELS, "-o", "a.jsonl"], ["embed", "-o", "out.index"], ["search", "a cat"]):
        command, *rest = arguments
        videos = ["a video.mp4", "nope.mp4"]
        given = [*rest, *videos] if command == "search" else [*videos, *rest]
        done = xclip(command, *given, *UNAVAILABLE)
        assert done.returncode == 4
        first, last = done.stderr.splitlines()
        assert first == "failed: nope.mp4: no such file"
        assert last.startswith("error: no/such is not downloaded, or only partly")
    done = xclip("search", "--like", "nope.mp4", "a video.mp4", *UNAVAILABLE)
    assert (done.returncode, "--like nope.mp4: no such file" in said(done)) == (2, True)
    done = xclip("models", "verify", "no/such", "--dtype", "bfloat16", "nope.mp4")
    assert (done.returncode, "nope.mp4: no such file" in said(done)) == (2, True)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("xclip classify --labels k", ["kinetics-400", "kinetics-600", "kitchen.csv"]),
        ("xclip classify -l ucf", ["ucf-101"]),
        ("xclip labels check hm", ["hmdb-51"]),
        ("xclip labels show act", ["actions"]),
        ("xclip timeline --template act", ["actions"]),
        ("xclip classify --model base-patch16-k", ["base-patch16-kinetics-600", "base-patch16-kinetics-600-16-frames"]),
        ("xclip classify -m bun", ["bundled"]),
        ("xclip classify -m my", ["my-model"]),
        ("xclip models pull microsoft/xclip-large-patch14-k", ["microsoft/xclip-large-patch14-kinetics-600"]),
        ("xclip classify --format js", ["json", "jsonl"]),
        ("xclip timeline -f v", ["vtt"]),
        ("xclip cl", ["classify"]),
    ],
)
def test_completion(xclip: Run, tmp_path: Path, line: str, offered: list[str]) -> None:
    folder = tmp_path / "cwd"
    (folder / "my-model").mkdir(parents=True)
    (folder / "my-model" / "config.json").touch()
    (folder / "kitchen.csv").touch()
    (folder / "kittens.mp4").touch()
    asked = {"_XCLIP_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = xclip(env=asked)
    assert (done.stdout.split(), done.stderr) == (offered, "")


HEADER = '{"schema": 1, "kind": "run", "xclip": "0.1.0", "model": "other"}\n'
FAILED = json.dumps(
    {"schema": 1, "video": "x.mp4", "status": "error", "error": {"code": "damaged", "message": "x"}, "warnings": []}
)


@pytest.mark.parametrize("before", ["", HEADER[:50], HEADER, f"{HEADER}{FAILED}\n", f"{HEADER}{FAILED}\n{FAILED[:9]}"])
def test_a_try_without_results_is_in_nobodys_way(xclip: Run, checkpoint: Path, folder: Path, before: str) -> None:
    (folder / "out.jsonl").write_text(before)
    command = ["classify", "a video.mp4", *LABELS, "--model", checkpoint, "-o", "out.jsonl"]
    done = xclip(*command)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    header, record = map(json.loads, (folder / "out.jsonl").read_text().splitlines())
    assert (header["model"], record["status"]) == (str(checkpoint), "ok")
    done = xclip(*command)
    assert done.returncode == 2
    assert "out.jsonl exists: pass --force to replace it, --resume to continue it, or give another file" in said(done)


@pytest.mark.parametrize("before", ["mine\n", "[]\n", '{"a": 1}\n', f"{FAILED}\n", '{"schema": 1}'])
def test_files_of_others_stay(xclip: Run, checkpoint: Path, folder: Path, before: str) -> None:
    (folder / "out.jsonl").write_text(before)
    done = xclip("classify", "a video.mp4", *LABELS, "--model", checkpoint, "-o", "out.jsonl")
    assert (done.returncode, "out.jsonl exists" in said(done)) == (2, True)
    assert (folder / "out.jsonl").read_text() == before


def test_a_run_that_is_going_is_not_replaced(xclip: Run, checkpoint: Path, folder: Path) -> None:
    (folder / "out.jsonl").write_text(HEADER)
    with (folder / "out.jsonl").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = xclip("classify", "a video.mp4", *LABELS, "--model", checkpoint, "-o", "out.jsonl")
    assert (done.returncode, "out.jsonl is being written by another run" in said(done)) == (1, True)
    assert (folder / "out.jsonl").read_text() == HEADER


def test_a_run_that_came_between_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a result by the time that the file is ours alone."""
    from xclip_cli.results import run_file

    path, looked = tmp_path / "out.jsonl", []
    path.write_text(HEADER)
    monkeypatch.setattr(run_file, "failures_alone", lambda _: None if looked else looked.append(1) or set())
    with pytest.raises(ResultsError, match="was made by another program meanwhile"):
        RunFile(path, new=True)
    assert path.read_text() == HEADER


@pytest.mark.parametrize("suffix", ["json", "csv", "txt", "parquet"])
def test_a_failed_try_leaves_no_file(xclip: Run, checkpoint: Path, folder: Path, suffix: str) -> None:
    (folder / "broken.mp4").write_text("no video")
    command = ["classify", *LABELS, "--model", checkpoint, "-o", f"out.{suffix}"]
    done = xclip(*command, "broken.mp4")
    assert (done.returncode, "failed: broken.mp4: " in done.stderr) == (1, True)
    assert {path.name for path in folder.iterdir()} == {"a video.mp4", "broken.mp4"}
    assert xclip(*command, "broken.mp4", "a video.mp4").returncode == 3
    assert (folder / f"out.{suffix}").exists()


def test_a_failed_try_with_a_file_a_video(xclip: Run, checkpoint: Path, folder: Path) -> None:
    whole = (folder / "a video.mp4").read_bytes()
    (folder / "a video.mp4").write_text("no video")
    command = ["classify", "a video.mp4", *LABELS, "--model", checkpoint, "--output-dir", "out"]
    assert xclip(*command).returncode == 1
    assert json.loads((folder / "out" / "a video.mp4.json").read_text())["status"] == "error"
    (folder / "a video.mp4").write_bytes(whole)
    done = xclip(*command)
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "out" / "a video.mp4.json").read_text())["status"] == "ok"


def test_an_index_without_videos_is_in_nobodys_way(xclip: Run, checkpoint: Path, folder: Path) -> None:
    (folder / "broken.mp4").write_text("no video")
    command = ["embed", "--model", checkpoint, "-o", "out.index"]
    assert xclip(*command, "broken.mp4", "--window", "1").returncode == 1
    done = xclip(*command, "a video.mp4")
    assert done.returncode == 0, done.stderr
    assert "out.index: 1 video, 1 window" in done.stderr
    (record,) = map(json.loads, xclip("classify", "out.index", *LABELS).stdout.splitlines())
    (same,) = map(json.loads, xclip("classify", "a video.mp4", *LABELS, "--model", checkpoint).stdout.splitlines())
    assert_same(record, same)
    done = xclip(*command, "a video.mp4", "--window", "1")
    assert (done.returncode, "was made with different settings" in said(done)) == (1, True)


def test_a_failed_evaluation_leaves_no_summary(xclip: Run, checkpoint: Path, folder: Path) -> None:
    for i, name in enumerate(["a cat", "a dog"]):
        (folder / "truth" / name).mkdir(parents=True)
        (folder / "truth" / name / f"{i}.mp4").write_text("no video")
    command = ["evaluate", "truth", "--model", checkpoint, "-o", "out.jsonl", "--summary", "out.json"]
    assert xclip(*command).returncode == 1
    assert not (folder / "out.json").exists()
    for path in folder.glob("truth/*/*"):
        shutil.copy(folder / "a video.mp4", path)
    done = xclip(*command)
    assert done.returncode == 0, done.stderr
    assert (folder / "out.json").exists()


def test_whole_files_are_replaced_by_force_alone(xclip: Run, checkpoint: Path, folder: Path) -> None:
    (folder / "out.html").touch()
    (folder / "in.jsonl").write_text(f"{HEADER}{FAILED}\n")
    for command in (
        ["report", "in.jsonl", "-o", "out.html"],
        ["search", "a cat", "a video.mp4", "--model", checkpoint, "-o", "out.html"],
    ):
        done = xclip(*command)
        assert done.returncode == 2
        assert "out.html exists: pass --force to replace it, or give another file" in said(done)


def test_the_path_of_a_model_that_is_not_there(xclip: Run) -> None:
    done = xclip("models", "path", "base-patch32")
    assert (done.returncode, done.stdout) == (4, "")
    assert (
        done.stderr
        == "error: base-patch32 is not downloaded, or only partly: `xclip models pull base-patch32` downloads it\n"
    )


@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_list_of_models_is_whole_in_80_columns(xclip: Run, columns: str) -> None:
    text = xclip("models", "list", env={"COLUMNS": columns}).stdout
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text
    names = [
        row["name"].removeprefix("microsoft/xclip-") for row in json.loads(xclip("models", "list", "--json").stdout)
    ]
    rows = {line.split()[0]: line for line in text.splitlines() if line.strip()}
    assert rows.keys() >= {*names}
    assert rows["base-patch16-zero-shot"].rstrip().endswith("44.6, 72.0, 65.2")
