"""From a name to a working model, through a real HTTP server that speaks the hub's protocol."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
from conftest import Run
from hub import COMMIT, OLDER_COMMIT, Hub, serving
from huggingface_hub import constants

LABELS = ["--label", "a cat", "--label", "a dog"]
REPO = "microsoft/xclip-base-patch32"
Program = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def hub(checkpoint: Path, tmp_path: Path) -> Iterator[Hub]:
    """A hub with one model: the checkpoint, under the name of a public one, beside files nobody needs."""
    folder = Path(shutil.copytree(checkpoint, tmp_path / "files"))
    shutil.copy(folder / "model.safetensors", folder / "pytorch_model.bin")
    (folder / "README.md").write_text("# a model")
    made = Hub()
    made.repositories[REPO] = folder
    with serving(made) as served:
        yield served


@pytest.fixture
def online(hub: Hub, xclip: Run, tmp_path: Path) -> Program:
    """The program with this hub and a cache of its own."""

    def run(*arguments: str | Path, **settings: str) -> subprocess.CompletedProcess[str]:
        env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "*"}
        return xclip(*arguments, env=env | settings)

    return run


def test_pull_downloads_what_is_needed_and_says_so(hub: Hub, online: Program) -> None:
    done = online("models", "pull", "base-patch32")
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.name == COMMIT
    assert {path.name for path in folder.iterdir()} == {
        *("config.json", "model.safetensors", "processor_config.json", "tokenizer.json", "tokenizer_config.json")
    }
    (announced,) = [line for line in done.stderr.splitlines() if line.startswith("downloading")]
    assert announced.startswith(f"downloading {REPO} (")
    before = len(hub.asked)
    again = online("models", "pull", REPO)
    assert (again.stdout, len(hub.asked)) == (done.stdout, before)


def test_the_commit_is_in_every_record_and_header(online: Program, clip: Path, tmp_path: Path) -> None:
    for name, commit in (("base-patch32", COMMIT), ("base-patch32@v1", OLDER_COMMIT)):
        done = online("classify", clip, *LABELS, "--model", name, "-o", "out.jsonl", "--force")
        assert done.returncode == 0, done.stderr
        header, record = map(json.loads, (tmp_path / "cwd" / "out.jsonl").read_text().splitlines())
        assert (header["model"], header["revision"]) == (record["model"], record["revision"]) == (REPO, commit)
    done = online("models", "path", f"base-patch32@{OLDER_COMMIT}")
    assert Path(done.stdout.strip()).name == OLDER_COMMIT
    assert online("models", "pull", "base-patch32@v9").stderr.endswith("has no revision 'v9' on the hub\n")


@pytest.mark.parametrize("offline", [["--offline"], []])
def test_a_cached_model_opens_no_socket(
    online: Program, hub: Hub, clip: Path, tmp_path: Path, offline: list[str]
) -> None:
    assert online("models", "pull", REPO).returncode == 0
    before = len(hub.asked)
    code = (
        "import socket, sys\n"
        "def refuse(*_, **__): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "from xclip_cli.cli.app import main\nmain()"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", code, "classify", clip, *LABELS, "--model", REPO, *offline]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["revision"] == COMMIT
    assert len(hub.asked) == before


def test_what_is_not_cached_is_said_offline(online: Program, hub: Hub) -> None:
    for command, *flag in (["path"], ["verify", "--offline"], ["info", "--offline"]):
        done = online("models", command, REPO, *flag)
        assert done.returncode == 4
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {REPO} is not downloaded, or only partly")
        assert f"`xclip models pull {REPO}`" in line
    assert not hub.asked


def test_a_connection_that_breaks_is_taken_up_again(online: Program, hub: Hub, tmp_path: Path) -> None:
    chunk = constants.DOWNLOAD_CHUNK_SIZE  # the hub's library keeps what came in whole chunks
    config = reference.config(text={"vocab_size": 49408, "hidden_size": 240})
    hub.repositories[REPO] = reference.checkpoint(tmp_path / "large", config)
    size = (hub.repositories[REPO] / "model.safetensors").stat().st_size
    assert size > 4 * chunk
    hub.cut_at["model.safetensors"] = size // 2
    done = online("models", "pull", REPO)
    assert done.returncode == 0, done.stderr
    assert not hub.cut_at
    assert size <= hub.bytes_sent < size + chunk
    assert online("models", "verify", REPO).returncode == 0


@pytest.mark.parametrize(
    ("statuses", "message"),
    [
        ([401], "or it is private: check the name, or log in with `hf auth login`"),
        ([403], "is gated: accept its terms on its hub page, then log in with `hf auth login`"),
        ([404], "cannot download microsoft/xclip-base-patch32 from the hub"),
        ([500], "cannot download microsoft/xclip-base-patch32 from the hub"),
        ([503], "cannot download microsoft/xclip-base-patch32 from the hub"),
        ([429], "the hub asks to slow down (429)"),
    ],
)
def test_refusals_say_what_to_do(online: Program, hub: Hub, statuses: list[int], message: str) -> None:
    hub.refuse[REPO] = statuses
    done = online("models", "pull", REPO)
    assert done.returncode == 4
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize(
    "body",
    [
        *(b"<html>log in</html>", b"", b"[]", b"null", b"{}", b'{"siblings": 5}', b"\xff\xfe", b"[" * 100_000),
        *(b"1" * 5000, b'{"id": 3, "sha": null, "siblings": [{"rfilename": 7}]}'),
        b'{"siblings": [{"rfilename": "config.json"}]}',
    ],
)
def test_what_is_not_the_hub_is_said(online: Program, hub: Hub, body: bytes) -> None:
    """As the portal of a hotel or a proxy that wants a login, which answer anything with 200."""
    hub.portal = body
    for command in (("models", "pull", REPO), ("models", "info", REPO)):
        done = online(*command)
        assert done.returncode == 4, done.stderr
        said = f"cannot download {REPO}|{REPO} on the hub is not a checkpoint|http:\\S+ does not respond like the hub"
        assert re.match(f"error: ({said})", done.stderr)
        assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "nonsense", "ftp://127.0.0.1:9", "http://[::1"])
def test_a_proxy_that_cannot_be_used_is_said(online: Program, proxy: str) -> None:
    done = online("models", "pull", REPO, HTTPS_PROXY=proxy, HTTP_PROXY=proxy, NO_PROXY="")
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("address", ["nonsense", "http://", "http://user:secret@127.0.0.1:9", "file:///etc"])
def test_an_address_that_cannot_be_used_is_said(online: Program, address: str) -> None:
    done = online("models", "pull", REPO, HF_ENDPOINT=address)
    assert done.returncode == 4, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "secret" not in done.stderr


def test_a_hub_that_is_busy_once_is_asked_again(online: Program, hub: Hub) -> None:
    hub.refuse[REPO] = [200, 200, 429, 200]
    assert online("models", "pull", REPO).returncode == 0


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
def test_damaged_bytes_are_found_and_removed(online: Program, hub: Hub, name: str) -> None:
    hub.corrupt.add(name)
    done = online("models", "pull", REPO)
    assert done.returncode == 4
    assert f"{name} of microsoft/xclip-base-patch32 is damaged and was removed" in done.stderr
    hub.corrupt.clear()
    assert online("models", "pull", REPO).returncode == 0


def test_what_a_killed_download_left_is_checked_before_it_is_used(online: Program, hub: Hub, tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from xclip_cli.model.checkpoint import hub\n"
        "hub.check_hashes = lambda *_: os._exit(9)\n"
        "from xclip_cli.cli.app import main\nmain()"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", code, "models", "pull", REPO]
    hub.corrupt.add("model.safetensors")
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 9
    assert "is not downloaded, or only partly" in online("models", "path", REPO).stderr
    assert "is damaged and was removed" in online("models", "pull", REPO).stderr
    hub.corrupt.clear()
    assert online("models", "pull", REPO).returncode == 0
    assert online("models", "path", REPO).returncode == 0


@pytest.mark.parametrize(
    ("headers", "info"),
    [
        ({"ETag": '"../../../../outside"', "X-Linked-ETag": '"../../../../outside"'}, {}),
        ({"X-Repo-Commit": "../../../../outside"}, {}),
        ({}, {"sha": "../../../../outside"}),
        ({}, {"sha": None}),
        ({}, {"siblings": [{"rfilename": "config.json"}]}),
        ({}, {"siblings": 5}),
        ({}, {"siblings": [5]}),
        ({}, {"siblings": [{"rfilename": "config.json", "blobId": "0" * 40, "size": "big"}]}),
    ],
)
def test_answers_of_another_form_are_refused(
    online: Program, hub: Hub, tmp_path: Path, headers: dict[str, str], info: dict[str, Any]
) -> None:
    hub.headers, hub.info = headers, info
    done = online("models", "pull", REPO)
    assert done.returncode == 4, done.stderr
    assert "does not respond like the hub" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.rglob("outside*")) == []


def test_a_password_of_the_endpoint_is_not_shown(online: Program, hub: Hub) -> None:
    for statuses in ([404], [500]):
        hub.refuse[REPO] = statuses
        done = online("models", "pull", REPO, HF_ENDPOINT=hub.address.replace("//", "//user:secret@"))
        assert done.returncode == 4
        assert "cannot download" in done.stderr
        assert "secret" not in done.stderr


def test_no_network_is_said(xclip: Run, tmp_path: Path) -> None:
    env = {
        "HF_ENDPOINT": "http://127.0.0.1:9",
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0",
        "NO_PROXY": "*",
    }
    done = xclip("models", "pull", REPO, env=env)
    assert done.returncode == 4
    assert "check the network and try again, set HF_ENDPOINT to a mirror, or give the path of a copy" in done.stderr


def test_a_full_disk_is_said(online: Program, hub: Hub, tmp_path: Path) -> None:
    code = (
        "import errno, huggingface_hub\n"
        "def full(*_, **__): raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "huggingface_hub.snapshot_download = full\n"
        "from xclip_cli.cli.app import main\nmain()"
    )
    environment = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-c", code, "models", "pull", REPO]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "the disk is full" in done.stderr


def test_verify_finds_a_changed_file(online: Program) -> None:
    folder = Path(online("models", "pull", REPO).stdout.strip())
    done = online("models", "verify", REPO)
    assert done.returncode == 0, done.stdout
    assert all(line.startswith("ok") for line in done.stdout.splitlines())
    assert "at the hub" in done.stdout
    path = (folder / "config.json").resolve()
    path.write_text(path.read_text() + "\n")
    done = online("models", "verify", REPO, "--offline")
    assert done.returncode == 1
    assert "FAIL  config.json: at the download" in done.stdout


def test_published_figures_are_compared(online: Program, hub: Hub, tmp_path: Path) -> None:
    """Random weights cannot give them: both sides are printed, and the exit code says so."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (8, 48, 64, 3), dtype=np.uint8)
    np.save(folder / "eating_spaghetti_8_frames.npy", frames)
    hub.repositories["datasets/hf-internal-testing/spaghetti-video"] = folder
    done = online("models", "verify", REPO, "--published")
    assert done.returncode == 1
    failed = [line for line in done.stdout.splitlines() if line.startswith("FAIL")]
    assert [line.split(":")[0] for line in failed] == ["FAIL  published probabilities", "FAIL  published logits"]
    assert "(published 0.9951)" in failed[0]
    assert "(published 20.2771)" in failed[1]


def test_info_fetches_no_weights(online: Program, hub: Hub) -> None:
    done = online("models", "info", "base-patch32", "--json")
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)
    assert (values["name"], values["revision"], values["cached"]) == (REPO, COMMIT, False)
    assert (values["num_frames"], values["image_size"]) == (8, 32)
    assert values["weights"]["tensors_by_dtype"]["F32"] > 50
    size = (hub.repositories[REPO] / "model.safetensors").stat().st_size
    assert hub.bytes_sent < size
    online("models", "pull", REPO)
    cached = json.loads(online("models", "info", "base-patch32", "--json").stdout)
    assert cached["cached"] is True
    assert cached["weights"] == values["weights"]
    assert cached["parameters"] == values["parameters"]


def test_a_mistyped_name_suggests_the_nearest(online: Program, hub: Hub) -> None:
    for name in ("base-patch33", "microsoft/xclip-base-patch33"):
        done = online("models", "pull", name)
        assert done.returncode == 4
        assert f"did you mean {REPO if '/' in name else 'base-patch32'}, " in done.stderr


def test_the_list_says_what_is_cached(online: Program) -> None:
    rows = {row["name"]: row for row in json.loads(online("models", "list", "--json").stdout)}
    assert len(rows) == 19
    assert rows["bundled"]["cached"]
    assert not rows[REPO]["cached"]
    online("models", "pull", REPO)
    rows = {row["name"]: row for row in json.loads(online("models", "list", "--json").stdout)}
    assert rows[REPO]["cached"]
    assert "base-patch16-zero-shot" in online("models", "list").stdout


def test_removing_a_model_frees_its_space(online: Program, hub: Hub, tmp_path: Path) -> None:
    absent = online("models", "remove", "base-patch32")
    assert absent.returncode == 4
    assert absent.stderr.startswith(f"error: {REPO} is not in the cache (")
    folder = Path(online("models", "pull", REPO).stdout.strip())
    hub.repositories["owner/other"] = hub.repositories[REPO]
    other = Path(online("models", "pull", "owner/other").stdout.strip())
    kilobytes = sum(path.stat().st_size for path in folder.iterdir()) / 1e3
    wrong = online("models", "remove", f"{REPO}@nonsense")
    assert (wrong.returncode, f"{REPO}@nonsense is not in the cache" in wrong.stderr) == (4, True)
    for yours in ("bundled", str(folder)):
        refused = online("models", "remove", yours)
        assert refused.returncode == 4
        assert refused.stderr.startswith(f"error: {yours} was not downloaded from the hub")
    done = online("models", "remove", "base-patch32")
    assert (done.returncode, done.stdout) == (0, f"removed {REPO}: {kilobytes:.1f} kB freed\n"), done.stderr
    assert (folder.parent.parent.exists(), other.exists()) == (False, True)  # though the commit is the same
    assert online("models", "path", REPO).returncode == 4


def test_auto_is_explained(online: Program, hub: Hub, clip: Path) -> None:
    hub.repositories["microsoft/xclip-base-patch16-zero-shot"] = hub.repositories[REPO]
    done = online("classify", clip, *LABELS)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == "microsoft/xclip-base-patch16-zero-shot"
    assert "model microsoft/xclip-base-patch16-zero-shot: the bundled model was not trained on 'a cat'" in done.stderr
    done = online("classify", clip, "--label", "a black screen", "--label", "a white screen")
    assert json.loads(done.stdout)["model"] == "bundled"
    assert "model bundled: it was trained to tell these labels apart" in done.stderr


def test_a_dry_run_does_nothing(online: Program, hub: Hub, clip: Path) -> None:
    done = online("classify", clip, "missing.mp4", *LABELS, "--model", "base-patch32", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "model: microsoft/xclip-base-patch32, not cached: would be downloaded (about 786 MB)" in done.stdout
    assert "missing.mp4: no such file" in done.stdout
    assert not hub.asked
