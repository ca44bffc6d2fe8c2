"""stdout holds records alone, and the README's lines read it, and files of -o, with programs that are not ours."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import jq
import pandas
import pytest
from conftest import Run

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
(STDOUT_FILTER,) = re.findall(r"xclip classify clips .* \| jq -r '(.*)'$", README, re.MULTILINE)
(FILE_FILTER,) = re.findall(r"^ *jq -r '(.*)' results.jsonl$", README, re.MULTILINE)
(PANDAS,) = re.findall(r"frame = (pandas.read_json.*)$", README, re.MULTILINE)
LABELS = ["--labels", "picture-state", "--model", "bundled"]


def lines(filter_: str, text: str) -> list[str]:
    """What jq writes: the library, and the program where it is installed."""
    found = list(map(str, jq.compile(filter_).input_text(text)))
    if shutil.which("jq"):
        done = subprocess.run(["jq", "-r", filter_], input=text, capture_output=True, text=True, check=True)
        assert done.stdout.splitlines() == found
    return found


@pytest.mark.parametrize("command", ["classify", "timeline"])
def test_the_lines_of_the_readme(xclip: Run, clip: Path, tmp_path: Path, command: str) -> None:
    arguments = [command, clip, "missing.mp4", *LABELS]
    piped, written = xclip(*arguments), xclip(*arguments, "-o", "results.jsonl")
    assert (piped.returncode, written.returncode, written.stdout) == (3, 3, "")
    text = (tmp_path / "cwd" / "results.jsonl").read_text()
    header, *records = map(json.loads, text.splitlines())
    on_stdout = [json.loads(line) for line in piped.stdout.splitlines()]
    assert (header["kind"], [r["video"] for r in on_stdout]) == ("run", [r["video"] for r in records])
    assert "run" not in {record.get("kind") for record in on_stdout}
    if command == "classify":
        expected = [f"{clip}\t{records[0]['predictions'][0]['label']}", "missing.mp4\t"]
        assert lines(STDOUT_FILTER, piped.stdout) == lines(FILE_FILTER, text) == expected
    code = PANDAS.replace('"results.jsonl"', repr(str(tmp_path / "cwd" / "results.jsonl")))
    frame = eval(code, {"pandas": pandas})
    assert frame["video"].tolist() == [record["video"] for record in records]
    assert frame["status"].tolist() == [record["status"] for record in records]


def test_pandas_reads_stdout_as_it_is(xclip: Run, clip: Path, tmp_path: Path) -> None:
    (tmp_path / "piped").write_text(xclip("classify", clip, *LABELS).stdout)
    assert pandas.read_json(tmp_path / "piped", lines=True)["video"].tolist() == [str(clip)]
