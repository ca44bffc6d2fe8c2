"""Runs on a Ray cluster: real machines' daemons (raylets) on this machine, with as many cores as they are told."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from records import assert_all_same

from xclip_cli import cluster
from xclip_cli.cluster import Cluster, Wanted
from xclip_cli.errors import ClusterError, ModelError
from xclip_cli.results.records import Failure, Record, RunHeader

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
HEADER = RunHeader("0", "m")


class Echo:
    """A task whose records are failures that say which process made them. Some paths are instructions."""

    def __init__(self, header: RunHeader = HEADER) -> None:
        self._header = header

    def header(self) -> RunHeader:
        return self._header

    def records(self, paths: Any) -> Iterator[Record]:
        for path in paths:
            kind, _, file = path.partition(":")
            if kind == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "once" and not Path(file).exists():
                Path(file).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "slow":
                time.sleep(float(file))
            yield Failure(path, "made", str(os.getpid()))


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """A head without cores, and two machines of one core."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster as Machines

    machines = Machines(initialize_head=True, head_node_args={"num_cpus": 0})
    machines.joined = [machines.add_node(num_cpus=1) for _ in range(2)]
    yield machines
    machines.shutdown()


@pytest.fixture
def said() -> list[str]:
    return []


def joined(machines: Any, said: list[str], **wanted: Any) -> Cluster:
    # This module is not on the machines: its classes are sent as they are.
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return Cluster(Echo, Wanted(machines.address, **wanted), [f"a{i}" for i in range(1000)], said.append)


@pytest.mark.slow
def test_records_are_in_order_and_all_machines_make_some(ray_cluster: Any, said: list[str]) -> None:
    paths = [f"slow:{0.02 if number % 7 else 0.3}" for number in range(100)]
    found = joined(ray_cluster, said)
    try:
        assert found.header() == HEADER
        records = list(found.records(paths))
    finally:
        found.close()
    assert [record.video for record in records] == paths
    assert len({record.message for record in records}) == 2


@pytest.mark.slow
def test_only_a_video_that_ends_its_actor_twice_is_a_crash(ray_cluster: Any, said: list[str], tmp_path: Path) -> None:
    paths = [f"a{number}" for number in range(40)]
    paths[5], paths[20] = "kill:", f"once:{tmp_path / 'once'}"
    found = joined(ray_cluster, said)
    try:
        records = list(found.records(paths))
    finally:
        found.close()
    assert [record.video for record in records] == paths
    assert [record.video for record in records if record.error.code != "made"] == ["kill:"]
    assert records[5].error.code == "crashed"


@pytest.mark.slow
def test_a_lost_machine_costs_nothing_and_one_that_joins_gets_work(ray_cluster: Any, said: list[str]) -> None:
    paths = [f"slow:0.1{'0' * number}" for number in range(150)]
    found, records = joined(ray_cluster, said), []
    try:
        made = found.records(paths)
        records += [next(made) for _ in range(20)]
        ray_cluster.remove_node(ray_cluster.joined.pop(), allow_graceful=False)
        ray_cluster.joined.append(ray_cluster.add_node(num_cpus=1))
        records += made
    finally:
        found.close()
    assert [record.video for record in records] == paths
    assert {record.error.code for record in records} == {"made"}
    assert len({record.message for record in records}) >= 3


@pytest.mark.slow
def test_what_is_in_flight_is_bounded(ray_cluster: Any, said: list[str]) -> None:
    taken = 0

    def paths() -> Iterator[str]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield f"a{number}"

    found = joined(ray_cluster, said)
    try:
        for number, _ in enumerate(found.records(paths())):
            assert taken - number <= 2 * (cluster.CHUNKS_AHEAD + 1) * cluster.CHUNK
    finally:
        found.close()


@pytest.mark.slow
def test_what_does_not_fit_is_said_before_the_run(
    ray_cluster: Any, said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match="3 actors of 1 CPUs and 0 GPUs do not fit into the cluster: 2 do"):
        joined(ray_cluster, said, actors=3)
    with pytest.raises(ClusterError, match="1 actors of 1 CPUs and 1 GPUs do not fit"):
        joined(ray_cluster, said, actors=1, gpus=1)
    monkeypatch.setattr(cluster, "versions", lambda: {"xclip": "0.0.1", "torch": "1"})
    with pytest.raises(ClusterError, match=r"the machine \S+ has xclip \S+, not 0.0.1, torch \S+, not 1"):
        joined(ray_cluster, said)


class Stillborn(Echo):
    def header(self) -> RunHeader:
        os.kill(os.getpid(), signal.SIGKILL)
        return HEADER


class Unfit(Echo):
    def header(self) -> RunHeader:
        raise ModelError("the model m is not here")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Stillborn, "5 actors died before they were ready, the last: "),
        (Unfit, r"the machine \S+ the model m is not here"),
    ],
)
def test_actors_that_cannot_begin(ray_cluster: Any, said: list[str], task: type[Echo], message: str) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.raises(ClusterError, match=message) as raised:
        Cluster(task, Wanted(ray_cluster.address), [], said.append)
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_no_cluster_is_one_line(said: list[str]) -> None:
    pytest.importorskip("ray")
    with pytest.raises(ClusterError, match="cannot join the Ray cluster 127.0.0.1:1") as raised:
        Cluster(Echo, Wanted("127.0.0.1:1"), [], said.append)
    assert "\n" not in str(raised.value)


def test_without_ray_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"--ray needs Ray: pip install 'xclip-cli\[ray\]'"):
        Cluster(Echo, Wanted(), [], print)


@pytest.fixture
def folder(tmp_path: Path, clip: Path) -> Path:
    """40 videos, one of which is none."""
    for number in range(40):
        shutil.copy(clip, tmp_path / f"{number:02}.mp4")
    (tmp_path / "07.mp4").write_bytes(b"no video")
    return tmp_path


def command(checkpoint: Path, *more: str) -> list[str]:
    program = Path(sys.executable).with_name("xclip")
    fixed = ("--label", "a", "--label", "b", "--device", "cpu", "--dtype", "float32", "-m", str(checkpoint))
    return [str(program), *more, *fixed]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("task", [("classify",), ("timeline", "--window", "0.5")])
def test_records_are_those_of_one_machine(
    ray_cluster: Any, folder: Path, checkpoint: Path, task: tuple[str, ...]
) -> None:
    local = command(checkpoint, *task, ".", "-o", "local.jsonl")
    assert subprocess.run(local, cwd=folder, check=False).returncode == 3
    on_ray = command(checkpoint, *task, ".", "-o", "ray.jsonl", "--ray", "--ray-address", ray_cluster.address)
    done = subprocess.run(on_ray, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "39 of 40 videos classified, 1 failed" in done.stderr
    assert_all_same(lines(folder / "ray.jsonl"), lines(folder / "local.jsonl"))


@pytest.mark.slow
def test_a_killed_driver_goes_on(ray_cluster: Any, folder: Path, checkpoint: Path, clip: Path) -> None:
    for number in range(40, 150):
        shutil.copy(clip, folder / f"{number:03}.mp4")
    local = command(checkpoint, "classify", ".", "-o", "local.jsonl")
    assert subprocess.run(local, cwd=folder, check=False).returncode == 3
    on_ray = command(checkpoint, "classify", ".", "-o", "ray.jsonl", "--ray", "--ray-address", ray_cluster.address)
    results, before = folder / "ray.jsonl", 0
    for moment in range(10):  # while it starts, and while it writes
        driver = subprocess.Popen([*on_ray, "--resume"], cwd=folder, stderr=subprocess.DEVNULL)
        until = time.monotonic() + (0.7 * moment if moment % 2 == 0 else 60)
        while time.monotonic() < until and driver.poll() is None:
            if results.exists() and results.read_bytes().count(b"\n") > max(before, 1):
                break
            time.sleep(0.005)
        assert driver.poll() is None, "there was nothing left to interrupt"
        driver.kill()
        driver.wait()
        before = results.read_bytes().count(b"\n") if results.exists() else 0
    assert 20 < before < 151
    assert subprocess.run([*on_ray, "--resume"], cwd=folder, check=False).returncode == 3
    assert_all_same(lines(results), lines(folder / "local.jsonl"))


@pytest.mark.slow
def test_ctrl_c_finishes_what_is_in_flight(ray_cluster: Any, folder: Path, checkpoint: Path) -> None:
    on_ray = command(checkpoint, "classify", ".", "-o", "ray.jsonl", "--ray", "--ray-address", ray_cluster.address)
    driver = subprocess.Popen(on_ray, cwd=folder, stderr=subprocess.PIPE, text=True)
    while not (folder / "ray.jsonl").exists() or (folder / "ray.jsonl").read_bytes().count(b"\n") < 2:
        time.sleep(0.005)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=60)
    assert driver.returncode == 130, errors
    assert "interrupted: finishing what is in flight" in errors
    found = lines(folder / "ray.jsonl")
    assert 1 < len(found) < 41
    assert [record["video"] for record in found[1:]] == [f"{number:02}.mp4" for number in range(len(found) - 1)]
    assert all(record["status"] == "ok" for record in found[1:8])
