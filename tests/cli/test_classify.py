"""The program as a user runs it: its real entry point, in a process of its own, in an empty folder."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from clips import write_clip
from conftest import Run, on_terminal
from records import assert_all_same, assert_same

import xclip_cli

LABELS = ["abseiling", "air drumming", "answering questions", "a cat", "a dog", "a bird"]
ARGUMENTS = [argument for label in LABELS for argument in ("--label", label)]


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def test_one_video(xclip: Run, checkpoint: Path, clip: Path) -> None:
    done = xclip("classify", clip, *ARGUMENTS, "--model", checkpoint)
    assert (done.returncode, done.stderr) == (0, "")
    (record,) = records(done.stdout)
    assert (record["video"], record["status"], record["model"]) == (str(clip), "ok", str(checkpoint))
    assert len(record["predictions"]) == 5
    assert all(record["seconds"][part] > 0 for part in ("decode", "model"))
    assert sum(p["score"] for p in record["predictions"]) < 1


def test_many_videos_in_order_with_failures(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    names = ["missing.mp4", str(clip), "http://example.org/a.mp4", str(write_clip(tmp_path / "b.webm", 9, "libvpx"))]
    done = xclip("classify", *names, *ARGUMENTS, "--model", checkpoint, "--top-k", "0")
    assert done.returncode == 3
    found = records(done.stdout)
    assert [record["video"] for record in found] == names
    assert [record.get("error", {}).get("code") for record in found] == ["missing", None, "url", None]
    assert [len(record.get("predictions", [])) for record in found] == [0, 6, 0, 6]
    *failures, summary = done.stderr.splitlines()
    assert "2 of 4 videos classified, 2 failed in " in summary
    assert failures == [  # each once, and before the model is loaded
        "failed: missing.mp4: no such file",
        "failed: http://example.org/a.mp4: a URL, but xclip reads only files: download it first, or: yt-dlp -o - "
        "URL | xclip classify - …",
    ]


def test_the_same_answer_in_every_format(xclip: Run, checkpoint: Path, clip: Path) -> None:
    common = ["classify", clip, *ARGUMENTS, "--model", checkpoint, "--dtype", "float32"]
    expected = records(xclip(*common, "--format", "jsonl").stdout)[0]["predictions"]
    assert json.loads(xclip(*common, "--format", "json").stdout)[0]["predictions"] == expected
    rows = list(csv.DictReader(io.StringIO(xclip(*common, "--format", "csv").stdout)))
    assert [(row["label"], float(row["score"])) for row in rows] == [(p["label"], p["score"]) for p in expected]
    table = xclip(*common, "--format", "table").stdout
    assert [line.split("  ")[1].strip() for line in table.splitlines()[-5:]] == [p["label"] for p in expected]
    assert "\x1b" not in table


def test_output_files(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    common = ["classify", clip, *ARGUMENTS, "--model", checkpoint]
    for name in ("out.json", "out.jsonl", "out.csv"):
        done = xclip(*common, "-o", name)
        assert (done.returncode, done.stdout) == (0, "")
    folder = tmp_path / "cwd"
    header, record = records((folder / "out.jsonl").read_text())
    assert (header["kind"], header["xclip"]) == ("run", xclip_cli.__version__)
    assert header["command"] == shlex.join(["xclip", *map(str, common), "-o", "out.jsonl"])
    assert abs(datetime.now(UTC) - datetime.fromisoformat(header["began"])) < timedelta(minutes=5)
    assert f"torch {version('torch')}, av {version('av')}, " in header["versions"]
    (same,) = json.loads((folder / "out.json").read_text())
    assert_same(same, record)
    before = (folder / "out.csv").read_text()
    done = xclip(*common, "-o", "out.csv")
    assert done.returncode == 2
    assert "out.csv exists: pass --force to replace it" in " ".join(done.stderr.split())
    assert (folder / "out.csv").read_text() == before
    assert xclip(*common, "-o", "out.csv", "--force").returncode == 0
    assert sorted(path.name for path in folder.iterdir()) == ["out.csv", "out.json", "out.jsonl"]
    done = xclip(*common, "-o", "out.xyz")
    assert done.returncode == 2
    assert "has no suffix that names a format: use .json, .jsonl" in " ".join(done.stderr.split())


def test_inputs_from_folders_and_lists(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cwd" / "clips"
    (folder / "deep").mkdir(parents=True)
    for name in ("b.mp4", "a.mp4", "deep/c.mp4", "-d.mp4"):
        shutil.copy(clip, folder / name)
    (folder / "notes.txt").touch()
    common = ["classify", *ARGUMENTS, "--model", checkpoint]
    done = xclip(*common, "clips", "--recursive")
    assert [record["video"] for record in records(done.stdout)] == [
        f"clips/{name}" for name in ("-d.mp4", "a.mp4", "b.mp4", "deep/c.mp4")
    ]
    assert "ignored 1 file without a video suffix" in done.stderr
    done = xclip(*common, "--from-file", "-", "-0", stdin=b"clips/b.mp4\0clips/a.mp4\0clips/b.mp4\0")
    assert [record["video"] for record in records(done.stdout)] == ["clips/b.mp4", "clips/a.mp4"]
    assert "given more than once, processed once: clips/b.mp4" in done.stderr


def test_windows(xclip: Run, checkpoint: Path, clip: Path) -> None:
    common = ["classify", clip, *ARGUMENTS, "--model", checkpoint]
    (record,) = records(xclip(*common, "--start", "0:00.5", "--end", "1.25").stdout)
    assert (record["start_seconds"], record["end_seconds"]) == (0.5, 1.25)
    assert record["frames"]["times_seconds"][0] == pytest.approx(0.52)
    done = xclip(*common, "--start", "99")
    assert done.returncode == 1
    assert records(done.stdout)[0]["error"]["code"] == "window"
    assert xclip(*common, "--start", "2", "--end", "1").returncode == 2
    assert xclip(*common, "--start", "soon").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["a.mp4"], 2, "no labels given: pass --labels FILE, --labels NAME (see `xclip labels list`) or --label TEXT"),
        (["a.mp4", "--labels", "kinetics-40"], 2, "did you mean kinetics-400?"),
        (["a.mp4", "--label", "x", "--template", "y"], 2, "no template file or built-in set 'y', and it has no {} for"),
        (["--label", "x"], 2, "no inputs: pass at least one video or folder"),
        (["a.mp4", "--label", "x", "--dtype", "int4"], 2, "int4"),
        (["a.mp4", "--label", "x", "--top-k", "-1"], 2, "must be 0 or more"),
        (["a.mp4", "--label", "x", "--model", "./nowhere"], 4, "there is no model './nowhere'"),
        (["a.mp4", "--label", "x", "--model", "no/such"], 4, "no/such is not downloaded, or only partly"),
        (["a.mp4", "--label", "x", "--from-file", "no"], 2, "cannot read the list of videos no"),
        (["a.mp4", "--label", "x", "--nonsense"], 2, "no such option: --nonsense: see `xclip classify --help`"),
        (["a.mp4", "--labls", "x"], 2, "no such option: --labls: did you mean --labels? see `xclip classify --help`"),
        (["a.mp4", "--label", "x", "--workers", "0"], 2, "'--workers': '0' must be 1 or more"),
        (["a.mp4", "--label", "x", "--workers", "many"], 2, "'--workers': 'many' must be a whole number"),
        (
            ["a.mp4", "--label", "x", "--batch-size", "0"],
            2,
            "'--batch-size': '0' must be 1 or more",
        ),
        (["a.mp4", "--label", "x", "--threads", "0"], 2, "'--threads': '0' must be 1 or more"),
        (["a.mp4", "--label", "x", "--timeout", "0"], 2, "'--timeout': '0' must be 0.1 or more"),
        (["a.mp4", "--label", "x", "--timeout", "nan"], 2, "'--timeout': 'nan' must be 0.1 or more"),
        (["a.mp4", "--label", "x", "--views", "3"], 2, "'3' is not a number of views: give CLIPSxCROPS"),
        (["a.mp4", "--label", "x", "--views", "4x2"], 2, "'4x2' is not a number of views"),
        (["a.mp4", "--label", "x", "--views", "0x1"], 2, "'0x1' is not a number of views"),
        (["a.mp4", "--label", "x", "--resume"], 2, "--resume continues a results file: pass it as -o FILE.jsonl"),
        (["a.mp4", "--label", "x", "--resume", "-o", "a.csv"], 2, "--resume continues a results file"),
        (["a.mp4", "--label", "x", "--resume", "-o", "a.jsonl", "--force"], 2, "without --force"),
        (["a.mp4", "--label", "x", "--retry-failed", "-o", "a.jsonl"], 2, "--retry-failed requires --resume"),
        (["a.mp4", "--label", "x", "--device", "mps"], 2, "'mps' is not auto, cpu, cuda, cuda:N"),
        (["a.mp4", "--label", "x", "--end", "0"], 2, "must be before --end (0 s)"),
        (["a.mp4", "--labels", ""], 2, "an empty name is not a label file"),
        (["a.mp4", "--label", "x", "--model", "k400_32_8.pth"], 4, "there is no file k400_32_8.pth"),
    ],
)
def test_errors_are_one_clear_message(
    xclip: Run, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "cwd").mkdir()
    (tmp_path / "cwd" / "a.mp4").touch()  # a missing one is an error of its own
    done = xclip("classify", *arguments)
    assert done.returncode == code
    assert done.stdout == ""
    *_, line = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert message in line


STEERING = "\x1b[2J\x9b\x07"


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", f"{STEERING}.mp4", *ARGUMENTS, "--model", "bundled"],
        ["classify", f"{STEERING}.mp4", *ARGUMENTS, "--model", "bundled", "--format", "table"],
        ["classify", f"{STEERING}.mp4", *ARGUMENTS, "--model", "bundled", "--dry-run"],
        ["classify", f"http://{STEERING}", *ARGUMENTS, "--model", "bundled", "--dry-run"],
        ["classify", "a.mp4", "b.mp4", *ARGUMENTS, "--label", STEERING, "--label", STEERING, "--model", "bundled"],
        ["classify", "a.mp4", "--labels", STEERING],
        ["classify", "a.mp4", *ARGUMENTS, "--model", STEERING],
        ["classify", "a.mp4", *ARGUMENTS, "--template", f"{{}} {STEERING}", "--model", f"./{STEERING}"],
        ["classify", "a.mp4", *ARGUMENTS, "-o", STEERING],
        ["classify", "a.mp4", *ARGUMENTS, "-o", f"{STEERING}/a.csv"],
        ["classify", "a.mp4", *ARGUMENTS, "--from-file", STEERING],
        ["classify", "a.mp4", *ARGUMENTS, "--start", STEERING],
        ["classify", f"--{STEERING}"],
        ["labels", "check", STEERING],
        ["labels", "show", STEERING],
        ["models", "info", STEERING],
        ["models", "path", STEERING],
        ["models", STEERING],
    ],
    ids=lambda arguments: " ".join(arguments)[:40].encode("unicode_escape").decode(),
)
def test_nothing_that_is_shown_steers_the_terminal(xclip: Run, arguments: list[str]) -> None:
    done = xclip(*arguments)
    assert not set("\x1b\x9b\x07") & set(done.stdout + done.stderr)
    assert "Traceback" not in done.stderr


def test_debug_shows_tracebacks(xclip: Run) -> None:
    done = xclip("classify", "a.mp4", env={"XCLIP_DEBUG": "1"})
    assert "Traceback" in done.stderr


def test_nothing_classified_is_exit_1(xclip: Run, checkpoint: Path) -> None:
    done = xclip("classify", "no.mp4", *ARGUMENTS, "--model", checkpoint)
    assert done.returncode == 1
    assert records(done.stdout)[0]["error"]["code"] == "missing"


def test_fail_fast(xclip: Run, checkpoint: Path, clip: Path) -> None:
    done = xclip("classify", clip, "no.mp4", "never.mp4", *ARGUMENTS, "--model", checkpoint, "--fail-fast")
    assert done.returncode == 3
    assert [record["video"] for record in records(done.stdout)] == [str(clip), "no.mp4"]


def test_quiet_and_verbose(xclip: Run, checkpoint: Path, clip: Path) -> None:
    common = ["classify", clip, clip, *ARGUMENTS, "--label", "a cat", "--model", checkpoint]
    assert "used once: 'a cat'" in xclip(*common).stderr
    assert xclip(*common, "--quiet").stderr == ""
    assert f"model {checkpoint} on cpu, " in " ".join(
        xclip(*common, "--verbose", env={"COLUMNS": "999"}).stderr.split()
    )


def test_names_survive_into_valid_json(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    name = b"new\nline caf\xe9 %d:1.mp4"
    shutil.copy(clip, os.path.join(os.fsencode(folder), name))
    done = xclip("classify", *ARGUMENTS, "--model", checkpoint, "--from-file", "-", "-0", stdin=name)
    assert done.returncode == 0
    assert os.fsencode(records(done.stdout)[0]["video"]) == name


def test_the_model_may_come_from_the_environment(xclip: Run, checkpoint: Path, clip: Path) -> None:
    done = xclip("classify", clip, *ARGUMENTS, env={"XCLIP_MODEL": str(checkpoint)})
    assert records(done.stdout)[0]["model"] == str(checkpoint)


@pytest.mark.parametrize(
    ("target", "said"),
    [("> /dev/full", "error: cannot write to stdout: No space left on device\n1\n"), ("| true", "141\n")],
)
def test_a_stdout_that_takes_nothing(checkpoint: Path, clip: Path, target: str, said: str) -> None:
    program = Path(sys.executable).with_name("xclip")
    labels = " ".join(f"'{argument}'" for argument in ARGUMENTS)
    command = f"{{ {program} classify {clip} {labels} --model {checkpoint}; echo $? >&2; }} {target}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == said


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- 2>&-"])
def test_closed_streams_change_nothing(checkpoint: Path, clip: Path, closed: str) -> None:
    program = Path(sys.executable).with_name("xclip")
    labels = " ".join(f"'{argument}'" for argument in ARGUMENTS)
    command = f"{program} classify {clip} {labels} --model {checkpoint} {closed}"
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0
    assert records(done.stdout)[0]["status"] == "ok"


def test_a_closed_stdout_is_said(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("xclip")
    labels = " ".join(f"'{argument}'" for argument in ARGUMENTS)
    command = f"{program} classify {clip} {labels} --model {checkpoint}"
    done = subprocess.run(["sh", "-c", f"{command} >&-"], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "error: stdout is closed: pass -o FILE\n")
    out = tmp_path / "out.csv"
    assert subprocess.run(["sh", "-c", f"{command} -o {out} >&-"], check=False).returncode == 0
    assert out.exists()


def test_the_systems_errors_are_one_line(xclip: Run, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    for arguments in (["demo", blocked], ["models", "convert", "bundled", blocked / "new"]):
        done = xclip(*arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1


def test_sigterm_leaves_nothing_behind(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    copies = [str(shutil.copy(clip, tmp_path / f"{i}.mp4")) for i in range(300)]
    folder = tmp_path / "out"
    folder.mkdir()
    program = Path(sys.executable).with_name("xclip")
    command = [program, "classify", *copies, *ARGUMENTS, "--model", checkpoint, "-o", folder / "out.csv"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list(folder.iterdir()):
        time.sleep(0.01)
    process.terminate()
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    assert "Traceback" not in errors
    assert list(folder.iterdir()) == []


def test_a_table_on_a_terminal(checkpoint: Path, clip: Path) -> None:
    program = Path(sys.executable).with_name("xclip")
    status, text, errors = on_terminal(
        [program, "classify", clip, *ARGUMENTS, "--model", checkpoint], {"COLUMNS": "80"}
    )
    assert status == 0, errors
    (line,) = errors.splitlines()
    assert re.fullmatch(r"1 of 1 video classified in .*", line)
    assert "abseiling" in text or "a cat" in text
    assert not text.startswith("{")


@pytest.mark.parametrize("program", ["xclip", "xclip-cli"])
def test_both_names_are_the_same_program(program: str) -> None:
    command = [Path(sys.executable).with_name(program), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"xclip {xclip_cli.__version__}\n"


def test_label_sets(xclip: Run, tmp_path: Path) -> None:
    listed = xclip("labels", "list").stdout
    assert "kinetics-400      400 labels" in listed
    assert "actions            16 template" in listed
    assert len(xclip("labels", "show", "kinetics-400").stdout.splitlines()) == 400
    assert "a video of {}" in xclip("labels", "show", "actions").stdout.lower()
    assert "Label sets (--labels NAME)" in listed.splitlines()
    assert "1 template\n" in listed
    done = xclip("labels", "show", "picture-stat")
    assert done.returncode == 2
    assert done.stderr == (
        "error: there is no built-in set 'picture-stat': did you mean picture-state? `xclip labels list` shows the "
        "sets\n"
    )
    (tmp_path / "notes.mp4").touch()
    assert xclip("demo", tmp_path / "notes.mp4").stderr == f"error: {tmp_path / 'notes.mp4'} is a file: give a folder\n"


def test_checking_labels(xclip: Run, tmp_path: Path, checkpoint: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("a cat\na dog\na cat\n")
    done = xclip("labels", "check", path)
    assert (done.returncode, done.stdout) == (0, "2 labels, 2 texts: 1 warning\n")
    assert "used once: 'a cat'" in done.stderr
    path.write_text("a cat\n" + "word " * 100)
    done = xclip("labels", "check", path, "--model", checkpoint)
    assert done.returncode == 2
    assert "the model" in done.stderr
    assert "takes at most 77" in done.stderr


def test_ctrl_c_is_exit_130_and_keeps_what_is_there(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    copies = [str(shutil.copy(clip, tmp_path / f"{i}.mp4")) for i in range(300)]
    program = Path(sys.executable).with_name("xclip")
    out = tmp_path / "out.jsonl"
    command = [program, "classify", *copies, *ARGUMENTS, "--model", checkpoint, "-o", out]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not (out.exists() and len(out.read_text().splitlines()) > 3):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    header, *found = records(out.read_text())
    assert header["kind"] == "run"
    assert 3 <= len(found) < 300
    assert [record["video"] for record in found] == copies[: len(found)]


@pytest.mark.slow
def test_help_starts_in_a_quarter_of_torchs_import() -> None:
    """Medians of interleaved runs: a busy machine slows both."""
    program = [str(Path(sys.executable).with_name("xclip")), "--help"]
    ours, torchs = [], []
    for _ in range(5):
        for command, times in ((program, ours), ([sys.executable, "-c", "import torch"], torchs)):
            began = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter() - began)
    assert statistics.median(ours) < statistics.median(torchs) / 4


def test_a_report_of_a_run(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    moved = tmp_path / "cwd" / "moved"
    moved.mkdir(parents=True)
    for name in ("a.mp4", "b.mp4"):
        shutil.copy(clip, tmp_path / "cwd" / name)
    done = xclip("classify", "a.mp4", "b.mp4", clip, "no.mp4", *ARGUMENTS, "--model", checkpoint, "-o", "results.jsonl")
    assert done.returncode == 3
    done = xclip("report", "results.jsonl", "-o", "report.html")
    elsewhere = (
        "no thumbnails for 1 video: the page says why (--root DIR shows videos outside the folder of the results)\n"
        "wrote report.html\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", elsewhere)
    page = tmp_path / "cwd" / "report.html"
    assert page.read_text().count("data:image/jpeg") == 16
    links = re.findall('href="(?!data:|#)([^"]*)"', page.read_text())
    assert (links[:2], sorted(links[2:])) == (["a.mp4", "b.mp4"], ["a.mp4", "b.mp4"])  # of cards, and of the slowest
    assert '<pre class="command" tabindex="0">xclip classify a.mp4 b.mp4 ' in page.read_text()
    done = xclip("report", "results.jsonl", "-o", "report.html")
    assert done.returncode == 2
    assert "report.html exists: pass --force to replace it" in " ".join(done.stderr.split())
    assert "only relative paths below the folder of the results file" in page.read_text()
    assert xclip("report", "results.jsonl", "-o", "report.html", "--force", "--root", "/").returncode == 0
    assert page.read_text().count("data:image/jpeg") == 8  # of the one with an absolute path
    (tmp_path / "cwd" / "a.mp4").rename(moved / "a.mp4")
    done = xclip("report", "results.jsonl", "-o", "report.html", "--force")
    assert (done.returncode, page.read_text().count("data:image/jpeg")) == (0, 8)
    assert "no thumbnails for 2 videos: the page says why" in done.stderr
    done = xclip("report", "results.jsonl", "-o", "report.html", "--force", "--root", "moved", "--thumbnails", "3")
    assert page.read_text().count("data:image/jpeg") == 1
    assert 'href="moved/a.mp4"' in page.read_text()
    assert "no such file" in page.read_text()
    done = xclip("report", "results.jsonl", "-o", "report.html", "--force", "--thumbnails", "0", "--quiet")
    assert (done.returncode, done.stderr, page.read_text().count("data:image/jpeg")) == (0, "", 0)
    assert sorted(path.name for path in page.parent.iterdir()) == ["b.mp4", "moved", "report.html", "results.jsonl"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["no.jsonl", "-o", "a.html"], 1, "error: cannot read the results no.jsonl: No such file or directory"),
        (["bad.jsonl", "-o", "a.html"], 1, "error: bad.jsonl, line 1: not JSON"),
        (["good.jsonl", "-o", "no/a.html"], 2, "the output folder no does not exist: create it"),
        (["good.jsonl", "-o", "good.jsonl", "--force"], 2, "is one of the inputs"),
        (["good.jsonl"], 2, "missing option '--output'"),
        (["good.jsonl", "-o", "a.html", "--root", "no"], 2, "does not exist"),
    ],
)
def test_errors_of_reports(xclip: Run, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    folder = tmp_path / "cwd"
    folder.mkdir()
    (folder / "bad.jsonl").write_text("no\nno\n")
    failed = {"schema": 1, "video": "b", "status": "error", "error": {"code": "x", "message": "x"}, "warnings": []}
    (folder / "good.jsonl").write_text(json.dumps(failed) + "\n")
    done = xclip("report", *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_every_setting_of_speed_at_once(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    copies = [shutil.copy(clip, tmp_path / f"{i}.mp4") for i in range(5)]
    common = ["classify", *copies, *ARGUMENTS, "--model", checkpoint, "--dtype", "float32"]
    one = xclip(*common)
    settings = [
        "--workers",
        "3",
        "--batch-size",
        "2",
        "--threads",
        "2",
        "--timeout",
        "60",
        "--no-cache",
        "--views",
        "1x1",
    ]
    other = xclip(*common, *settings)
    assert (one.returncode, other.returncode) == (0, 0)
    assert_all_same(records(other.stdout), records(one.stdout))


def test_answers_that_are_none(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    common = ["classify", clip, *ARGUMENTS, "--model", checkpoint]
    (record,) = records(xclip(*common, "--none-of-these", "--top-k", "0").stdout)
    assert {p["label"] for p in record["predictions"]} == {*LABELS, "none of these"}
    assert sum(p["score"] for p in record["predictions"]) == pytest.approx(1, abs=1e-5)
    assert xclip(*common, "--threshold", "1", "-o", "a.jsonl").returncode == 0
    header, record = records((tmp_path / "cwd" / "a.jsonl").read_text())
    assert (header["threshold"], record["predictions"], record["withheld"]) == (1, [], 6)
    assert "no label passed its threshold" in xclip(*common, "--threshold", "1", "--format", "table").stdout
    done = xclip(*common, "--none-of-these", "--multi-label")
    assert done.returncode == 2
    assert "--none-of-these cannot be combined with --multi-label" in done.stderr
