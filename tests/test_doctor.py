"""``xclip doctor`` through the real entry point; and the reasons for the ranges of versions that are allowed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import av
import pytest
import torch
from conftest import Run
from packaging.requirements import Requirement

import xclip_cli
from xclip_cli.doctor import HOLES, _device_notes, _ffmpeg_notes, _without_home

ROOT = Path(__file__).parent.parent


def test_all_is_well(xclip: Run) -> None:
    done = xclip("doctor", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["healthy"] is True
    assert report["xclip"] == xclip_cli.__version__
    for name in ("av", "torch", "numpy", "tokenizers", "safetensors", "huggingface-hub"):
        assert report["packages"][name] == version(name)
    assert report["ffmpeg"]["version"] == av.ffmpeg_version_info
    assert report["ffmpeg"]["libraries"].keys() == av.library_versions.keys()
    assert report["cpu"]["native_bfloat16"] is (report["cpu"]["auto_dtype"] == "bfloat16")
    assert report["hub"]["offline"] is True
    assert [device["name"] for device in report["devices"]] == [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    assert report["decoder_confinement"].keys() == {"landlock", "seccomp"}
    if sys.platform == "linux" and os.uname().machine in {"x86_64", "aarch64"}:
        assert report["decoder_confinement"]["seccomp"] == "on"
    details = {check["what"]: check["detail"] for check in report["checks"]}
    assert re.fullmatch(r"color bars \(0\.\d{3}\) in (bfloat16|float32)", details["classifies it on cpu"])
    assert details["opens no playlists"] == "an HLS playlist is refused"
    shown = xclip("doctor")
    assert shown.returncode == 0
    assert "ok    classifies it on cpu: color bars" in shown.stdout
    assert f"torch: {version('torch')}" in shown.stdout
    assert "\n  label sets: " in shown.stdout
    assert not re.search("^ *[a-z]+_[a-z_]+: ", shown.stdout, re.MULTILINE)


def test_nothing_secret_is_told(xclip: Run, tmp_path: Path) -> None:
    env = {
        "HF_TOKEN": "hf_SECRETSECRET",
        "HF_ENDPOINT": "https://me:SECRET@mirror.example/hub",
        "HOME": str(tmp_path / "SECRET"),
        "HTTPS_PROXY": "http://me:SECRET@proxy.example",
        "XCLIP_MODEL": "SECRET",
    }
    (tmp_path / "SECRET").mkdir()
    for arguments in (["doctor"], ["doctor", "--json"]):
        done = xclip(*arguments, env=env)
        assert "SECRET" not in done.stdout + done.stderr
        assert "https://mirror.example/hub" in done.stdout
    hub = json.loads(done.stdout)["hub"]
    assert hub["token"] is True
    assert hub["home"] == "~/.cache/huggingface"
    assert hub["cache_writable"] is True


def test_the_state_of_the_text_features(xclip: Run, tmp_path: Path) -> None:
    folder = tmp_path / "cache" / "text-features"
    env = {"XCLIP_CACHE": str(folder.parent)}
    empty, used = (json.loads(xclip("doctor", "--json", env=env).stdout)["text_features"] for _ in range(2))
    assert empty == {"folder": str(folder), "writable": True, "label_sets": 0, "bytes": 0}
    assert used == {**empty, "label_sets": 1, "bytes": sum(path.stat().st_size for path in folder.iterdir())}
    shutil.rmtree(folder)
    folder.write_text("in the way")
    assert json.loads(xclip("doctor", "--json", env=env).stdout)["text_features"]["writable"] is False


def test_cached_checkpoints_are_listed(xclip: Run, checkpoint: Path, tmp_path: Path) -> None:
    commit = "0" * 40
    repository = tmp_path / "hub" / "models--microsoft--xclip-base-patch32"
    shutil.copytree(checkpoint, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    done = xclip("doctor", "--json", env={"HF_HOME": str(tmp_path)})
    assert json.loads(done.stdout)["hub"]["cached"] == ["microsoft/xclip-base-patch32"]


@pytest.mark.parametrize(
    ("module", "fault"),
    [
        ("torch", "inspects cpu: ImportError: no libtorch_cpu.so"),
        ("av", "inspects ffmpeg: ImportError: no libavcodec.so"),
    ],
)
def test_what_is_broken_is_one_line_and_exit_1(xclip: Run, tmp_path: Path, module: str, fault: str) -> None:
    (tmp_path / f"{module}.py").write_text(f"raise ImportError({fault.partition('Error: ')[2]!r})\n")
    done = xclip("doctor", env={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (1, "")
    assert f"FAIL  {fault}\n" in done.stdout
    done = xclip("doctor", "--json", env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert json.loads(done.stdout)["healthy"] is False


@pytest.mark.parametrize(
    ("ffmpeg", "holes"),
    [("8.1.2", 1), ("n8.1.2-3-gabc", 1), ("7.1", 1), ("N-12345-gabc", 1), ("8.1.3", 0), ("8.2", 0), ("9.0.1", 0)],
)
def test_known_holes_are_told_with_the_reason_why_they_are_none_here(ffmpeg: str, holes: int) -> None:
    notes = list(_ffmpeg_notes(ffmpeg))
    assert len(notes) == holes
    for note, hole in zip(notes, HOLES, strict=False):
        assert note.startswith(f"FFmpeg {ffmpeg} has {hole.name} (before 8.1.3: ")
        assert "not reachable: xclip opens no playlists" in note


def test_a_driver_without_devices_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/proc/driver/nvidia/version")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert list(_device_notes([{"name": "cuda:0"}])) == []
    (note,) = _device_notes([])
    assert "built without CUDA, sees no device" in note


def test_paths_outside_the_home_are_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert _without_home("/home/me/.cache") == "~/.cache"
    assert _without_home("/home/mean") == "/home/mean"


# What may be installed beside xclip, and why

ALLOWED = [
    ("av", "18.1.0", True),
    ("av", "18.0.0", False),  # a file with an unknown codec crashes the process
    ("av", "17.1.0", False),  # FFmpeg 8.1.1: older holes
    ("av", "19.0.0", False),  # not tested: metadata_errors is gone
    ("torch", "2.6.0", True),
    ("torch", "2.5.1", False),  # torch.load(weights_only=True) could be made to run code (CVE-2025-32434)
    ("safetensors", "0.4.4", False),  # what the header checks are tested from on
    ("huggingface_hub", "0.36.0", False),  # another HTTP client, whose errors would not be understood
]


@pytest.mark.parametrize(("name", "release", "allowed"), ALLOWED)
def test_ranges_of_versions(name: str, release: str, allowed: bool) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    ranges = {requirement.name: requirement.specifier for requirement in map(Requirement, project["dependencies"])}
    assert (release in ranges[name]) is allowed
    assert version(name).partition("+")[0] in ranges[name]


def test_the_tested_versions_are_in_the_ranges() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
    pinned = dict(line.split("==") for line in lines)
    for requirement in map(Requirement, project["dependencies"]):
        assert pinned[requirement.name] in requirement.specifier, requirement.name
