"""What is built, and that it runs from a wheel, from an sdist and from a bare checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import readme_renderer.markdown

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own files, without whatever else lies in the folder."""
    folder = tmp_path_factory.mktemp("checkout")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in os.fsdecode(listed).split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def built(checkout: Path) -> Path:
    (checkout / "stray.mp4").touch()
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", checkout / "dist", checkout]
    subprocess.run(command, check=True, capture_output=True)
    return checkout / "dist"


def runs(folder: Path, package: Path, prompts: Path) -> None:
    """The package at ``package`` is the one that is run from ``folder``, with its own prompts and bundled model."""
    code = (
        "import sys, xclip_cli.labels as l; from xclip_cli.model.checkpoint.find import find_checkpoint;"
        f"assert l.__file__.startswith({str(package)!r}), l.__file__;"
        f"assert str(l.shipped('labels')['ucf-101']).startswith({str(prompts)!r});"
        f"assert str(find_checkpoint('bundled').folder).startswith({str(package)!r});"
        "sys.argv = ['xclip', 'demo', 'clips']; from xclip_cli.cli.app import main; main()"
    )
    env = {**os.environ, "PYTHONPATH": str(package)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "color bars" in done.stdout


def test_the_wheel_is_whole_and_runs(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {"xclip_cli/prompts/labels/kinetics-400.txt", "xclip_cli/prompts/templates/actions.txt"} <= set(names)
    assert {"xclip_cli/bundled/checkpoint/model.safetensors", "xclip_cli/py.typed"} <= set(names)
    assert {"xclip_cli/report/report.css", "xclip_cli/report/report.js"} <= set(names)
    assert {name.split("/")[0] for name in names} == {"xclip_cli", wheel.name.rsplit("-", 3)[0] + ".dist-info"}
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", target, wheel],
        check=True,
        capture_output=True,
    )
    (tmp_path / "empty").mkdir()
    runs(tmp_path / "empty", target, target / "xclip_cli" / "prompts")


def test_pypi_would_take_and_show_it(built: Path) -> None:
    packages = sorted(built.iterdir())
    assert len(packages) == 2
    twine = [sys.executable, "-m", "twine", "check", "--strict", *packages]
    done = subprocess.run(twine, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.count("PASSED")) == (0, 2), done.stdout
    (wheel,) = built.glob("*.whl")
    (metadata,) = (name for name in zipfile.ZipFile(wheel).namelist() if name.endswith(".dist-info/METADATA"))
    text = zipfile.ZipFile(wheel).read(metadata).decode().partition("\n\n")[2]
    assert re.findall(r"\]\((?!https?:)", text) == []  # links and pictures of files lead nowhere there
    assert "pip install xclip-cli " in text
    assert not re.search(r"pip install \"?\.", text)
    shown = readme_renderer.markdown.render(text)
    assert shown
    assert shown.count("<h2 ") == len(re.findall("^## ", text, re.MULTILINE))


def test_the_sdist_holds_the_projects_own_files(built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
        archive.extractall(tmp_path, filter="data")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    assert "stray.mp4" not in names
    assert names - set(listed) <= {"PKG-INFO"}
    assert {"prompts/labels/ucf-101.txt", "tests/test_packaging.py", "constraints.txt", "LICENSE"} <= names
    assert {"Dockerfile", ".ci/run", ".github/workflows/ci.yml"} <= names  # which tests read
    (unpacked,) = tmp_path.iterdir()
    (tmp_path / "empty").mkdir()
    runs(tmp_path / "empty", unpacked, unpacked / "prompts")


def test_the_container_has_all_that_the_wheel_is_built_from(checkout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "src"
    for line in re.findall(r"^COPY (.+) /src/", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE):
        for name in line.split():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (checkout / name).is_dir() else shutil.copy)(checkout / name, folder / name)
    command = [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path / "dist", folder]
    subprocess.run(command, check=True, capture_output=True)
    (wheel,) = (tmp_path / "dist").iterdir()
    assert "xclip_cli/prompts/labels/kinetics-400.txt" in zipfile.ZipFile(wheel).namelist()


def test_a_bare_checkout_runs(checkout: Path, tmp_path: Path) -> None:
    runs(tmp_path, checkout, checkout / "prompts")
