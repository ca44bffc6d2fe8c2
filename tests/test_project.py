"""The files around the package: CI, the container, the issue form. They are read here, and run elsewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")


@pytest.fixture(scope="module")
def ci() -> dict[str, Any]:
    return yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text("utf-8"))


def test_ci_runs_every_python_that_the_package_names(ci: dict[str, Any]) -> None:
    matrix = ci["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == PYTHONS
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos"}
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"


def test_ci_runs_what_exists(ci: dict[str, Any]) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    runs = [step["run"] for job in ci["jobs"].values() for step in job["steps"] if "run" in step]
    made = {run.split()[1] for run in runs if run.startswith("make ")}
    assert {"check", "test", "dist"} <= made <= set(targets)
    assert ".ci/run" in runs
    assert (ROOT / ".ci/run").stat().st_mode & 0o100


def test_the_container_is_made_of_files_that_exist() -> None:
    copied = [name for line in re.findall(r"^COPY (.+)", DOCKERFILE, re.MULTILINE) for name in line.split()[:-1]]
    assert {"pyproject.toml", "constraints.txt", "prompts", "xclip_cli"} <= set(copied)
    for name in copied:
        assert (ROOT / name).exists(), name
    # What the wheel is built from besides the package, or building it fails.
    assert {*PROJECT["license-files"], "README.md"} <= set(copied)
    extras = re.search(r"/src\[([\w,]+)\]", DOCKERFILE)
    assert extras
    assert set(extras[1].split(",")) <= set(PROJECT["optional-dependencies"])


def test_the_container_runs_a_python_of_ours_as_a_user_without_rights() -> None:
    (python,) = re.findall(r"^ARG PYTHON=(.+)", DOCKERFILE, re.MULTILINE)
    assert python in PYTHONS
    users = re.findall(r"^USER (\w+)", DOCKERFILE, re.MULTILINE)
    assert users
    assert users[-1] != "root"
    assert f"useradd --create-home {users[-1]}" in DOCKERFILE
    assert re.search(r'^ENTRYPOINT \["xclip"\]', DOCKERFILE, re.MULTILINE)


def test_the_issue_form_asks_for_the_doctor() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text("utf-8"))
    assert {"name", "description", "body"} <= set(form)
    asked = {field["id"]: field for field in form["body"]}
    assert "xclip doctor --json" in asked["doctor"]["attributes"]["label"]
    assert asked["doctor"]["validations"]["required"]
