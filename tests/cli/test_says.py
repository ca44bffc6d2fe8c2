"""What a run says: each thing once, and no more than it takes."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
from conftest import Run, on_terminal
from samples import BAD, GOOD

from xclip_cli.cli.tally import FAILURES_LISTED, Tally
from xclip_cli.output.notes import Notes
from xclip_cli.output.tables import shares
from xclip_cli.results.records import Failure

LABELS = ["--label", "a cat", "--label", "a dog"]


@pytest.fixture
def folder(tmp_path: Path, clip: Path) -> Path:
    folder = tmp_path / "cwd"
    folder.mkdir()
    for i in range(3):
        shutil.copy(clip, folder / f"{i}.mp4")
    (folder / "broken.mp4").write_text("no video")
    return folder


def test_auto_says_once_which_model_it_chose(xclip: Run, folder: Path) -> None:
    done = xclip("classify", "0.mp4", "--label", "a black screen", "--label", "color bars")
    assert (done.returncode, done.stderr) == (
        0, "model bundled: it was trained to tell these labels apart (--model chooses another)\n",
    )  # fmt: skip
    for name in ("bundled", str(folder)):
        assert "model bundled:" not in xclip("classify", "0.mp4", *LABELS, "--model", name).stderr
    many = [word for i in range(9) for word in ("--label", f"thing {i}")]
    for command in (["classify", "0.mp4", *many], ["embed", "0.mp4", "-o", "out.index"], ["search", "x", "0.mp4"]):
        *_, notice, error = xclip(*command).stderr.splitlines()
        assert notice.startswith("model microsoft/xclip-base-patch16-zero-shot: ")
        assert len(notice) < 150
        assert error.startswith("error: ")
    program = Path(sys.executable).with_name("xclip")
    command = [program, "classify", folder / "0.mp4", "--labels", "picture-state"]
    _, _, errors = on_terminal(command, {"COLUMNS": "200"})
    assert errors.count("model") == 2  # of the one notice: model bundled … --model


@pytest.mark.parametrize("command", ["classify", "timeline"])
def test_a_warning_about_all_videos_is_said_once(checkpoint: Path, folder: Path, command: str) -> None:
    program = Path(sys.executable).with_name("xclip")
    words = [program, command, folder / "0.mp4", folder / "1.mp4", "--label", "a cat", "--model", checkpoint]
    said, environment = re.compile("only one label: its score is 1"), {"COLUMNS": "200", "HF_HUB_OFFLINE": "1"}
    status, shown, _ = on_terminal(words, environment, errors_too=True)
    assert (status, len(said.findall(shown))) == (0, 1)
    for more, errors_too in (["-q"], True), ([], False):  # where the terminal is not told of it, its table tells
        _, shown, _ = on_terminal([*words, *more], environment, errors_too)
        assert len(said.findall(shown)) == 2


def test_failures_are_said_once(xclip: Run, checkpoint: Path, folder: Path) -> None:
    command = ["classify", "broken.mp4", "0.mp4", *LABELS, "--model", checkpoint]
    summary, failure = xclip(*command).stderr.splitlines()
    assert summary.startswith("1 of 2 videos classified, 1 failed in ")
    assert failure.startswith("  failed: broken.mp4: not a video, or a damaged one")
    model, failure, summary = xclip(*command, "-v").stderr.splitlines()
    assert (model.startswith("model "), failure.startswith("failed: broken.mp4: not a video, or a damaged one")) == (
        True,
        True,
    )
    assert summary.startswith("1 of 2 videos classified, 1 failed in ")
    (failure,) = xclip("classify", "broken.mp4", *LABELS, "--model", checkpoint).stderr.splitlines()
    assert failure.startswith("failed: broken.mp4: not a video, or a damaged one")
    program = Path(sys.executable).with_name("xclip")
    known = ["classify", folder / "broken.mp4", folder / "0.mp4", *LABELS, "--model", checkpoint]
    _, text, errors = on_terminal([program, *known], {"COLUMNS": "200"})
    assert (text.count("failed: not a video, or a damaged one"), "failed: " in errors) == (1, False)


def test_quiet_keeps_the_number_of_failures(xclip: Run, checkpoint: Path, folder: Path) -> None:
    command = ["classify", "0.mp4", *LABELS, "--model", checkpoint, "--quiet"]
    assert xclip(*command).stderr == ""
    for more in ([], ["-o", "out.jsonl"], ["--output-dir", "out"]):
        done = xclip(*command, "broken.mp4", "gone.mp4", *more)
        assert (done.returncode, done.stderr) == (3, "2 of 3 videos failed\n")
    done = xclip("embed", "0.mp4", "broken.mp4", "-o", "out.index", "--model", checkpoint, "-q")
    assert (done.returncode, done.stderr) == (3, "1 of 2 videos failed\n")
    done = xclip("search", "a cat", "0.mp4", "broken.mp4", "--model", checkpoint, "-q")
    assert (done.returncode, done.stderr) == (3, "1 of 2 videos failed\n")
    assert xclip("classify", "0.mp4", "-q", "-l", "gone.txt").stderr.startswith("error: there is no label file")


def test_a_file_is_told_of_with_counts(xclip: Run, checkpoint: Path, folder: Path) -> None:
    command = ["classify", "0.mp4", "1.mp4", "broken.mp4", *LABELS, "--model", checkpoint]
    for flag, name in (("-o", "out.jsonl"), ("-o", "out.csv"), ("--output-dir", "out")):
        wrote, failure = xclip(*command, flag, name).stderr.splitlines()
        assert re.match(rf"wrote {name}: 2 of 3 videos classified, 1 failed in \d", wrote)
        assert failure.startswith("  failed: broken.mp4")
    (wrote,) = xclip("classify", "0.mp4", *LABELS, "--model", checkpoint, "-o", "one.json").stderr.splitlines()
    assert wrote.startswith("wrote one.json: 1 of 1 video classified in ")
    *_, wrote = xclip("search", "a cat", "0.mp4", "--model", checkpoint, "-o", "found.csv").stderr.splitlines()
    assert re.fullmatch(r"wrote found.csv: \d+ moments? of 1 video", wrote)


def test_a_terminal_is_shown_how_labels_are_distributed(checkpoint: Path, folder: Path) -> None:
    program = Path(sys.executable).with_name("xclip")
    for command, unit in (("classify", r"3"), ("timeline", r"0:\d\d")):
        out = folder / f"{command}.jsonl"
        given = [program, command, *(folder / f"{i}.mp4" for i in range(3)), *LABELS, "--model", checkpoint, "-o", out]
        status, text, _ = on_terminal(given, {"COLUMNS": "200"}, errors_too=True)
        assert status == 0
        lines = re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text).replace("\r", "\n").splitlines()
        wrote = next(i for i, line in enumerate(lines) if line.startswith(f"wrote {out}: "))
        shown = [line for line in lines[wrote + 1 :] if line]
        assert 1 <= len(shown) <= 2
        assert re.fullmatch(rf"  a (cat|dog)  +{unit}  █+[▏▎▍▌▋▊▉]?", shown[0])


def test_a_distribution_has_five_lines() -> None:
    counts = Tally()
    for i in range(9):
        for _ in range(9 - i):
            counts.count(made(f"label {i}"))
    *first, last = counts.distribution()
    assert [line.split()[:3] for line in first] == [["label", str(i), str(9 - i)] for i in range(4)]
    assert last.split()[:4] == ["5", "other", "labels", "15"]
    assert shares([("a", 3.0), ("an emoji 🐈", 1.0)], str, blocks=False) == [
        "  a            3.0  " + "#" * 18, "  an emoji 🐈  1.0  " + "#" * 6,
    ]  # fmt: skip


def made(label: str) -> object:
    from dataclasses import replace

    from xclip_cli.results.records import RankedLabel

    return replace(GOOD, predictions=(RankedLabel(label, 1.0, 1.0),))


def test_of_many_failures_the_first_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    counts = Tally()
    counts.expect(52, [BAD], Notes())
    for failure in [BAD, *(Failure(f"{i}.mp4", "damaged", "broken") for i in range(50)), GOOD]:
        counts.count(failure)
    counts.tell(Notes(), Path("out.jsonl"), Path("out.jsonl"))
    known, summary, *listed, more = capsys.readouterr().err.splitlines()
    assert known.startswith("failed: ")
    assert summary.startswith("wrote out.jsonl: 1 of 52 videos classified, 51 failed in ")
    assert listed == [f"  failed: {i}.mp4: broken" for i in range(FAILURES_LISTED)]
    assert more == "  and 30 more in out.jsonl"


def test_of_many_inputs_that_are_none_the_first_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    Tally().expect(60, [Failure(f"{i}.mp4", "missing", "no such file") for i in range(50)], Notes())
    *listed, more = capsys.readouterr().err.splitlines()
    assert (len(listed), more) == (FAILURES_LISTED, "and 30 more inputs that are no videos")
