"""Every command and every example of the README is run, in order, in one empty folder."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from xclip_cli.cli.app import app
from xclip_cli.model.checkpoint.find import BUNDLED_FOLDER
from xclip_cli.model.checkpoint.public import full_name, public_checkpoints

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


def shell(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "80"}
    return subprocess.run(["sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False)


# The lines that get the real footage of the first result, and the name of what they leave in the folder.
FETCH = next(text for language, text in BLOCKS if language == "sh" and "pip download" in text)
FOOTAGE = re.findall(r"[\w-]+\.mp4", FETCH)[-1]


def transcripts(of_footage: bool) -> list[tuple[str, str]]:
    """Commands and the output shown under them, which may be none: of blocks that need the footage, or not."""
    found = []
    for language, text in BLOCKS:
        if language == "console" and (FOOTAGE in text) == of_footage:
            for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
                command, _, output = part.partition("\n")
                found.append((command, output))
    return found


def without_scores(text: str) -> list[str]:
    """Scores, and what is drawn of them, may differ in the last digit between processors: the rest may not."""
    return [re.sub(r"[█▏▎▍▌▋▊▉]*\s+\(?0\.\d+\)?(?=\s|$)|[ ░▒▓█]+$", "", line) for line in text.splitlines()]


def scores(text: str) -> list[float]:
    """Those of a transcript. Which bin of a calibration error a score near a border falls into is chance."""
    lines = [line for line in text.splitlines() if "calibration error" not in line]
    return [float(number) for line in lines for number in re.findall(r"(?<![\d.])0\.\d{2,}", line)]


def check(parts: list[tuple[str, str]], folder: Path) -> None:
    """Commands run, one after the other, and print what is shown under them."""
    for command, output in parts:
        done = shell(command, folder)
        assert done.returncode == 0, (command, done.stderr)
        if output.strip():
            assert without_scores(done.stdout) == without_scores(output), command
            assert scores(done.stdout) == pytest.approx(scores(output), abs=0.02), command


def test_every_transcript_is_true(folder: Path) -> None:
    parts = transcripts(of_footage=False)
    assert len(parts) > 10
    check(parts, folder)


@pytest.mark.network
def test_the_first_result_is_true(folder: Path) -> None:
    done = shell(f"set -e\n{FETCH}", folder)
    assert done.returncode == 0, done.stderr
    check(transcripts(of_footage=True), folder)


def test_the_line_for_the_container_is_a_command(folder: Path) -> None:
    if not (folder / "clips").exists():
        assert shell("xclip demo clips", folder).returncode == 0
    (line,) = re.findall(r"^docker run .*?/clips:/in:ro\S* (xclip .*)", README.read_text("utf-8"), re.MULTILINE)
    done = shell(line.replace("/in/", "clips/"), folder)
    assert done.returncode == 0, done.stderr


def test_every_example_runs(folder: Path) -> None:
    examples = [text for language, text in BLOCKS if language == "python"]
    assert examples
    if not (folder / "clips").exists():
        assert shell("xclip demo clips", folder).returncode == 0
    for example in examples:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", example], cwd=folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout


# Of pip, hf, docker and Slurm.
FLAGS_OF_OTHERS = {
    *(
        "--extra-index-url",
        "--no-deps",
        "--no-binary",
        "--strip-components",
        "--repo-type",
        "--local-dir",
        "--build-arg",
        "--rm",
    ),
    *("--array", "--wrap"),
}


def test_every_flag_and_file_exists() -> None:
    text = README.read_text("utf-8")
    commands = (
        "",
        "classify",
        "timeline",
        "embed",
        "search",
        "evaluate",
        "adapt",
        "report",
        "merge",
        "doctor",
        "cache",
        "config show",
        "labels",
        "models verify",
        "models convert",
    )
    helps = "".join(shell(f"xclip {command} --help", README.parent).stdout for command in commands)
    for flag in set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) - FLAGS_OF_OTHERS:
        assert flag in helps, flag
    (tree,) = (block for language, block in BLOCKS if "xclip_cli/" in block and not language)
    for name in re.findall(r"^  (\S+)", tree, re.MULTILINE):
        assert (README.parent / "xclip_cli" / name).exists(), name
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        assert (README.parent / link).exists(), link


def test_every_command_is_in_the_readme() -> None:
    text = README.read_text("utf-8")
    for name in typer.main.get_command(app).commands:
        assert f"xclip {name}" in text, name


def test_the_table_of_models_is_that_of_the_data() -> None:
    section = README.read_text("utf-8").partition("## Which model?")[2].partition("##")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("|")]
    shown = {row[1].strip("`"): row[2:] for row in rows[2:]}
    del shown["bundled"]
    assert len(shown) > 5
    for name, cells in shown.items():
        public = public_checkpoints()[full_name(name)]
        assert cells == [
            str(public.num_frames),
            str(public.megabytes),
            f"{public.cpu_seconds:g}",
            public.accuracy,
        ], name


def test_the_install_lines_are_commands() -> None:
    lines = [line for language, text in BLOCKS if language == "sh" for line in text.splitlines()]
    programs = {"curl", "docker", "make", "pip", "python3", "tar", "xclip"}
    assert {shlex.split(line, comments=True)[0] for line in lines} <= programs


# What takes the place of each scheduler: it runs what it is given as the real one does, for each of its tasks; the
# tasks of an indexed job must not fail.
SBATCH = """
case "$1 $2" in --array=1-8\\ --wrap=*) ;; *) exit 2;; esac
for i in 1 2 3 4 5 6 7 8; do SLURM_ARRAY_TASK_ID=$i sh -c "${2#--wrap=}"; done; true
"""
PARALLEL = 'while read -r i; do sh -c "$(printf %s "$*" | sed "s/{}/$i/g")"; done; true'
INDEXED_JOB = 'for i in 0 1 2 3 4 5 6 7; do JOB_COMPLETION_INDEX=$i sh -c "$LINE" || exit; done'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheduler", "stand_in"), [("sbatch", SBATCH), ("parallel", PARALLEL), ("JOB_COMPLETION_INDEX", INDEXED_JOB)]
)
def test_the_lines_for_many_machines(scheduler: str, stand_in: str, tmp_path: Path) -> None:
    lines = [line for language, text in BLOCKS if language == "bash" for line in text.splitlines()]
    (line,) = (line for line in lines if scheduler in line)
    assert shell("xclip demo clips", tmp_path).returncode == 0
    (tmp_path / "clips" / "broken.mp4").write_bytes(b"no video")
    program = tmp_path / "bin" / scheduler
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{stand_in}\n")
    program.chmod(0o755)
    run = "JOB_COMPLETION_INDEX" if scheduler == "JOB_COMPLETION_INDEX" else line
    done = shell(f"export PATH={program.parent}:$PATH LINE={shlex.quote(line)}\n{run}", tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("part-*.jsonl"))) == 8
    assert shell("xclip merge part-?.jsonl -o all.jsonl", tmp_path).returncode == 0
    header, *records = map(json.loads, (tmp_path / "all.jsonl").read_text().splitlines())
    assert header["kind"] == "run"
    assert sorted(record["video"] for record in records) == sorted(
        f"clips/{path.name}" for path in (tmp_path / "clips").iterdir()
    )
    assert [record["video"] for record in records if record["status"] != "ok"] == ["clips/broken.mp4"]


def test_there_is_a_bundled_model() -> None:
    assert sum(path.stat().st_size for path in BUNDLED_FOLDER.iterdir()) < 10_000_000
