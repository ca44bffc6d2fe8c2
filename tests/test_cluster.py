"""Runs on a Ray cluster: real machines' daemons (raylets) on this machine, with as many cores as they are told."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from records import assert_all_same, assert_same_encodings

from xclip_cli import Classifier, cluster
from xclip_cli.classification import Classification
from xclip_cli.cluster import Cluster, Wanted
from xclip_cli.errors import ClusterError, ModelError
from xclip_cli.results.index import Index
from xclip_cli.results.records import Failure, Record, RunHeader
from xclip_cli.video import pool

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


def slow_paths(given: list[str], enough: Callable[[], bool]) -> Iterator[str]:
    """Paths of a tenth of a second each, which are ``given`` from then on, until there are enough, or for a minute."""
    until = time.monotonic() + 60
    while not enough() and time.monotonic() < until:
        given.append(f"slow:0.1{'0' * len(given)}")
        yield given[-1]


@pytest.mark.slow
def test_a_lost_machine_costs_nothing_and_one_that_joins_gets_work(ray_cluster: Any, said: list[str]) -> None:
    paths: list[str] = []
    found, records = joined(ray_cluster, said), list[Any]()
    try:
        made = found.records(slow_paths(paths, lambda: len({record.message for record in records}) == 3))
        records += [next(made) for _ in range(20)]
        ray_cluster.remove_node(ray_cluster.joined.pop(), allow_graceful=False)
        ray_cluster.joined.append(ray_cluster.add_node(num_cpus=1))
        for record in made:
            records.append(record)  # one by one, as the paths look at them
    finally:
        found.close()
    assert [record.video for record in records] == paths
    assert {record.error.code for record in records} == {"made"}
    assert len({record.message for record in records}) == 3


class Changing(Echo):
    """Machines that join once a file is there would make other records."""

    def __init__(self, file: Path) -> None:
        super().__init__(RunHeader("0", "other") if file.exists() else HEADER)


@pytest.mark.slow
def test_a_machine_that_joins_and_would_make_other_records_gets_none(
    ray_cluster: Any, said: list[str], tmp_path: Path
) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    paths: list[str] = []
    found = Cluster(partial(Changing, tmp_path / "file"), Wanted(ray_cluster.address), ["a"] * 100, said.append)
    try:
        made = found.records(slow_paths(paths, lambda: bool(said)))
        records = [next(made) for _ in range(10)]
        (tmp_path / "file").touch()
        machine = ray_cluster.add_node(num_cpus=1)
        records += made
    finally:
        found.close()
        ray_cluster.remove_node(machine)
    assert [record.video for record in records] == paths
    assert len({record.message for record in records}) == 2
    assert [re.sub(r"machine \S+", "machine h", each) for each in said] == [
        "warning: the machine h would make different records: it gets no videos"
    ]


def test_chunks_grow_until_they_take_their_time() -> None:
    actor = cluster._Actor(None, None, None)
    sizes = [actor.size]
    for seconds in (1, 1, 15, 25):
        actor.chunk = cluster._Chunk(["a.mp4"] * actor.size, begun=time.monotonic() - seconds)
        actor.finish([])
        sizes.append(actor.size)
    assert sizes == [4, 8, 16, 16, 8]


@pytest.mark.slow
def test_what_is_in_flight_is_bounded(ray_cluster: Any, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "MOST_IN_A_CHUNK", 16)
    taken = 0

    def paths() -> Iterator[str]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield f"a{number}"

    found = joined(ray_cluster, said)
    try:
        for number, _ in enumerate(found.records(paths())):
            assert taken - number <= 2 * (cluster.CHUNKS_AHEAD + 1) * 16
        assert any(actor.size == 16 for actor in found._actors)
    finally:
        found.close()


@pytest.mark.slow
def test_what_does_not_fit_is_said_before_the_run(
    ray_cluster: Any, said: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ClusterError, match="the cluster has room for 2 of 3 actors of 1 CPUs and 0 GPUs"):
        joined(ray_cluster, said, actors=3)
    with pytest.raises(ClusterError, match="room for 0 of 1 actors of 1 CPUs and 1 GPUs"):
        joined(ray_cluster, said, actors=1, gpus=1)
    with pytest.raises(ClusterError, match="room for 0 of 1 actors of 2 CPUs and 0 GPUs"):
        joined(ray_cluster, said, cpus=2)
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
        (Stillborn, "5 actors died before they were ready; the last: "),
        (Unfit, r"the machine \S+: the model m is not here"),
    ],
)
def test_actors_that_cannot_begin(ray_cluster: Any, said: list[str], task: type[Echo], message: str) -> None:
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with pytest.raises(ClusterError, match=message) as raised:
        Cluster(task, Wanted(ray_cluster.address), [], said.append)
    assert "\n" not in str(raised.value)


class Cards(Echo):
    """Records say which GPUs and how many cores an actor has."""

    def records(self, paths: Any) -> Iterator[Record]:
        for path in paths:
            time.sleep(0.2)
            cards = os.environ.get("CUDA_VISIBLE_DEVICES", "all")
            yield Failure(path, "made", f"{os.getpid()} {cards} {os.environ['XCLIP_CORES']}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wanted", "cards", "cores"),
    [
        ({}, ["0", "1"], 2),  # one a GPU, on the machine that has them
        ({"gpus": 0.5}, ["0", "0", "1", "1"], 1),
        ({"gpus": 2}, ["0,1"], 4),
        ({"cpus": 3}, ["0"], 3),  # there are no cores for another
        ({"actors": 2, "gpus": 0.5}, ["0", "0"], 2),
        ({"gpus": 0}, ["", "", ""], None),  # one a machine
    ],
)
def test_actors_have_the_gpus_and_cores_they_need(
    ray_cluster: Any, said: list[str], wanted: dict[str, Any], cards: list[str], cores: int | None
) -> None:
    """GPUs that are Ray's word alone: what it hands out is what an actor sees."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    machine = ray_cluster.add_node(num_cpus=4, num_gpus=2)
    try:
        found = Cluster(Cards, Wanted(ray_cluster.address, **wanted), ["a"] * 1000, said.append)
        try:
            seen = {record.message for record in found.records(map(str, range(20)))}
        finally:
            found.close()
    finally:
        ray_cluster.remove_node(machine)
    assert sorted(each.split(" ")[1] for each in seen) == cards
    assert cores is None or {int(each.split(" ")[2]) for each in seen} == {cores}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, None),
        ({"paths": ["here.mp4", "b.mp4"]}, " lacks 1 of 2 input files that were checked: b.mp4"),
        ({"folder": "/no such"}, " cannot enter the folder of this run, /no such: No such file or directory"),
        ({"versions": {"xclip": "9"}}, r" has xclip \S+, not 9, torch \S+, not None, av"),
    ],
)
def test_what_a_machine_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], problem: str | None
) -> None:
    monkeypatch.setenv("XCLIP_CORES", "1")
    monkeypatch.chdir(tmp_path)
    Path("here.mp4").touch()
    there = {"versions": cluster.versions(), "folder": str(tmp_path), "paths": ["here.mp4"], "environment": {}}
    found = cluster.Worker(b"", 1, there | changed)._problem()
    assert found == problem or re.match(str(problem), str(found))


class Hazards:
    """A task on real videos. Some of them crash their decoder, or end the process, or do that once."""

    def __init__(self, checkpoint: Path) -> None:
        crash = "if os.pread(request.descriptor, 5, 0) == b'crash': os.kill(os.getpid(), 11)"
        pool._BOOT = (
            "import sys; sys.path[:] = sys.argv[4:]; import os, xclip_cli.video.worker as worker\n"
            f"def read(request, *more, honest=worker.read_clips):\n    {crash}\n    return honest(request, *more)\n"
            f"worker.read_clips = read\n{pool._BOOT}"
        )
        settings: dict[str, Any] = {"device": "cpu", "dtype": "float32", "workers": 1, "threads": 1}
        self.task = Classification(Classifier(checkpoint, labels=["a", "b", "c"], **settings))
        self.header, self.description = self.task.header, self.task.description

    def records(self, paths: Any) -> Iterator[Record]:
        for path in paths:
            name = Path(path)
            if name.stem == "ends" or (name.stem == "once" and not name.with_suffix(".done").exists()):
                name.with_suffix(".done").touch()
                time.sleep(0.2)  # others of its chunk are on their way
                os.kill(os.getpid(), signal.SIGKILL)
        yield from self.task.records(paths)


@pytest.mark.slow
def test_whatever_happens_records_are_those_of_one_machine(
    ray_cluster: Any, said: list[str], folder: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """An actor is killed, a machine is lost and another joins; a video crashes its decoder, one ends its actors. Ray
    has much to say of that, and not on stdout."""
    import ray

    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr(pool, "_BOOT", pool._BOOT)
    (folder / "05.mp4").write_bytes(b"crash")
    (folder / "12.mp4").rename(folder / "ends.mp4")
    (folder / "23.mp4").rename(folder / "once.mp4")
    paths = sorted(map(str, folder.glob("*.mp4")), key=lambda path: Path(path).stem[-1])
    found, records = Cluster(partial(Hazards, checkpoint), Wanted(ray_cluster.address), paths, said.append), []
    try:
        made = found.records(paths)
        records += [next(made) for _ in range(5)]
        ray_cluster.remove_node(ray_cluster.joined.pop(), allow_graceful=False)
        ray_cluster.joined.append(ray_cluster.add_node(num_cpus=1))
        records += made
    finally:
        found.close()
    assert capsys.readouterr().out == ""
    assert Path(folder / "once.done").exists()
    local = Hazards(checkpoint)
    expected = {record.video: record for record in local.task.records(paths)}
    local.task.classifier.close()
    ends = str(folder / "ends.mp4")
    expected[ends] = Failure(ends, "crashed", "it crashed the process that decodes and encodes it, 2 times")
    assert_all_same(records, expected.values())
    failed = {Path(record.video).stem: record.error.code for record in records if record.error}
    assert failed == {"05": "crashed", "07": "unsupported", "ends": "crashed"}


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
@pytest.mark.parametrize("task", [("classify",), ("timeline", "--window", "0.5"), ("evaluate", "--truth", "truth.csv")])
def test_records_are_those_of_one_machine(
    ray_cluster: Any, folder: Path, checkpoint: Path, task: tuple[str, ...]
) -> None:
    (folder / "truth.csv").write_text("path,label\n" + "".join(f"{n:02}.mp4,{'ab'[n % 2]}\n" for n in range(40)))
    local = command(checkpoint, *task, ".", "-o", "local.jsonl")
    assert subprocess.run(local, cwd=folder, check=False).returncode == 3
    on_ray = command(checkpoint, *task, ".", "-o", "ray.jsonl", "--ray", "--ray-address", ray_cluster.address)
    done = subprocess.run(on_ray, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "39 of 40 videos classified, 1 failed" in done.stderr
    assert_all_same(lines(folder / "ray.jsonl"), lines(folder / "local.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("--window", "0.5", "--stride", "0.5")])
def test_an_index_is_that_of_one_machine(
    ray_cluster: Any, folder: Path, checkpoint: Path, more: tuple[str, ...]
) -> None:
    """Also where the driver is killed three times. No two videos have the same content, which would be recognised."""
    for number, path in enumerate(sorted(folder.glob("*.mp4")), start=8):
        with path.open("ab") as file:
            file.write(number.to_bytes(4, "big") + b"free".ljust(number - 4, b"x"))
    program = Path(sys.executable).with_name("xclip")
    embed = (
        "import xclip_cli.results.index_writer as writer; writer.FLUSH_SECONDS = 0.0; "  # lines are written at once
        "from xclip_cli.cli.app import main; main()"
    )
    fixed = ("--device", "cpu", "--dtype", "float32", "-m", str(checkpoint), *more)
    local = [sys.executable, "-c", embed, "embed", ".", *fixed, "-o"]
    on_ray = [*local, "ray", "--ray", "--ray-address", ray_cluster.address]
    assert subprocess.run([*local, "local"], cwd=folder, check=False).returncode == 3
    for least in (0, 1, 18):  # lines
        driver = subprocess.Popen(on_ray, cwd=folder, stderr=subprocess.DEVNULL)
        lines = folder / "ray" / "videos.jsonl"
        while not lines.exists() or lines.read_bytes().count(b"\n") < least:
            assert driver.poll() is None
            time.sleep(0.001)
        driver.kill()
        driver.wait()
    assert least <= lines.read_bytes().count(b"\n") < 40
    done = subprocess.run(on_ray, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "videos are already in the index" in done.stderr
    assert sorted(path.name for path in (folder / "ray").iterdir()) == ["index.json", "parts", "videos.jsonl"]
    with Index.open(folder / "ray") as ours, Index.open(folder / "local") as theirs:
        assert [video.video for video in ours] == [video.video for video in theirs]
        for a, b in zip(ours, theirs, strict=True):
            assert_same_encodings(a, b)
    search = ["search", "a", "ray", "--text", "b", "--device", "cpu", "-f", "jsonl"]
    alone, shared = (
        subprocess.run([program, *search, *more], cwd=folder, check=True, capture_output=True, text=True).stdout
        for more in ((), ("--ray", "--ray-address", ray_cluster.address))
    )
    assert_all_same(*([json.loads(line) for line in text.splitlines()] for text in (shared, alone)))
    assert alone.count("\n") == 40


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
    assert "interrupted: finishing the videos in progress" in errors
    found = lines(folder / "ray.jsonl")
    assert 1 < len(found) < 41
    assert [record["video"] for record in found[1:]] == [f"{number:02}.mp4" for number in range(len(found) - 1)]
    assert all(record["status"] == "ok" for record in found[1:8])
