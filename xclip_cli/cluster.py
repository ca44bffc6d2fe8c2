"""A run's records made on a cluster: Ray actors hold a task each, and take small chunks of videos.

Videos are decoded and computed where the actors are; the driver puts the records back in the order of the paths. What
is in flight or waits for its turn is bounded. An actor that dies is replaced and its chunk repeated video by video; a
video that ends its actor twice while the machine lives is a ``crashed`` record. A machine that is lost costs no video,
and one that joins gets work. ray is an extra: nothing else imports it.
"""

from __future__ import annotations

import math
import os
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from . import __version__
from .cores import CORES_VARIABLE, usable_cores
from .errors import ClusterError, XClipError
from .results.records import Failure, RunHeader
from .text import listed, one_line, printable

CHUNK_SECONDS = 20.0  # of an actor's work, about: while it begins and ends a chunk, some of its cores are idle
FIRST_CHUNK = 4  # videos: as many as fill the time, by and by
MOST_IN_A_CHUNK = 1024
CHUNKS_AHEAD = 4  # for each actor, in flight and waiting for their turn
MOST_ENDS = 2  # of actors, by one video
MOST_STILLBORN = 5  # actors
START_SECONDS = 600.0  # for the first actors: they may have to download the model
CONNECT_SECONDS = 10.0
LOOK_SECONDS = 2.0  # from one look at which machines there are to the next
NODE_SECONDS = 3.0  # after which the death of an actor's machine is known, if that is why it died
PATHS_CHECKED = 200  # of all, whether a machine has them
SAME_VERSIONS = ("torch", "av", "numpy")  # besides xclip's own
PASSED_ON = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "HF_HUB_OFFLINE", "XCLIP_DEBUG")  # of the environment

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

_HOST_AND_PORT = re.compile(r"([\w.-]+):(\d{1,5})", re.ASCII)


class Source(Protocol[R_co]):
    """What an actor holds: a task that makes records of paths."""

    def header(self) -> RunHeader:
        """What the records are made with."""

    def records(self, paths: Iterable[Any]) -> Iterator[R_co]:
        """The records of each video, in order, the last of which completes it."""

    def description(self) -> str:
        """What makes them, in a line."""


@dataclass(frozen=True)
class Wanted:
    """Which cluster, and how many actors with how much of it. None: one a GPU, else one a machine."""

    address: str | None = None
    actors: int | None = None
    cpus: int | None = None
    gpus: float | None = None


@dataclass(frozen=True)
class Report:
    """What an actor says of itself when it is ready. ``problem``: why it cannot work, to follow the machine's name."""

    node: str
    host: str
    header: RunHeader | None = None
    problem: str | None = None


def require_ray() -> None:
    """Raises ClusterError if ray is not installed."""
    if find_spec("ray") is None:
        raise ClusterError("--ray needs Ray: pip install 'xclip-cli[ray]', here and on every machine of the cluster")


def versions() -> dict[str, str | None]:
    """What must be the same on all machines."""
    found: dict[str, str | None] = {"xclip": __version__}
    for name in SAME_VERSIONS:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class Worker:
    """An actor: it makes the task that it is sent, and the records of chunks."""

    def __init__(self, made: bytes, cores: int, there: dict[str, Any]) -> None:
        self._made, self._there = made, there
        os.environ |= {**there["environment"], CORES_VARIABLE: str(cores)}

    def report(self) -> Report:
        """Make the task, unless something that it needs is not here."""
        import ray

        node, host = ray.get_runtime_context().get_node_id(), socket.gethostname()
        try:
            if problem := self._problem():
                return Report(node, host, problem=problem)
            self._task: Source[Any] = ray.cloudpickle.loads(self._made)()
            next(iter(self._task.records([])), None)  # loads the weights
            return Report(node, host, self._task.header())
        except (XClipError, OSError, ImportError) as error:
            return Report(node, host, problem=f": {one_line(error)}")

    def _problem(self) -> str | None:
        there, ours = self._there, versions()
        if differing := [name for name in ours if ours[name] != there["versions"].get(name)]:
            return " has " + ", ".join(f"{n} {ours[n]}, not {there['versions'].get(n)}" for n in differing)
        try:
            os.chdir(there["folder"])
        except OSError as error:
            return f" cannot enter the folder of this run, {there['folder']}: {error.strerror}"
        if missing := [path for path in there["paths"] if not os.path.isfile(path)]:  # noqa: PTH113 - no name is an error
            return f" lacks {len(missing)} of {len(there['paths'])} input files that were checked: {listed(missing, 3)}"
        return None

    def records(self, paths: Sequence[str]) -> list[Any]:
        """All records of a chunk."""
        return list(self._task.records(paths))


@dataclass(eq=False)
class _Chunk:
    """Videos that an actor takes at once, in their place of the order."""

    paths: Sequence[str]
    records: list[Any] | None = None  # None: they are not made yet
    ends: int = 0  # of actors, by its one video
    begun: float | None = None  # when, if an actor has it


@dataclass(eq=False)
class _Actor:
    """An actor as the driver sees it."""

    handle: Any
    place: str | None  # the machine that it must be on; None: any
    waits_for: Any  # a reference: its report, or the records of its chunk
    report: Report | None = None
    chunk: _Chunk | None = None
    size: int = FIRST_CHUNK  # of its next chunk

    def finish(self, records: list[Any]) -> None:
        """Take in the records of the chunk; how long it took says how large the next one is."""
        chunk, self.chunk = self.chunk, None
        assert chunk is not None
        assert chunk.begun is not None
        chunk.records, seconds = records, time.monotonic() - chunk.begun
        if seconds > CHUNK_SECONDS:
            self.size = max(1, len(chunk.paths) // 2)
        elif seconds < CHUNK_SECONDS / 2:
            self.size = min(MOST_IN_A_CHUNK, max(self.size, 2 * len(chunk.paths)))


@dataclass
class _Machine:
    """A machine of the cluster that is alive."""

    node: str
    cpus: int
    gpus: int

    def room(self, cpus: int, gpus: float) -> int:
        """Actors of so many CPUs and GPUs that fit into it."""
        return int(min(self.cpus / cpus if cpus else math.inf, self.gpus / gpus if gpus else math.inf))


class Cluster(Generic[R]):
    """A task's records, made on a cluster. ``make`` makes the task, on each machine; ``paths``: all that it will be
    given. ``say`` tells the user.

    Raises ClusterError if there is no cluster, it lacks something, or a machine's records would be others.
    """

    def __init__(
        self,
        make: Callable[[], Source[R]],
        wanted: Wanted,
        paths: Sequence[str],
        say: Callable[[str], None],
    ) -> None:
        require_ray()
        self._left = len(paths)
        self._wanted, self._say = wanted, say
        self._actors: list[_Actor] = []
        self._refused = set[str]()  # machines that lack something
        self._hosts = set[str]()  # those that make records, or did
        self._places_refused = 0  # of the actors that were asked for
        self._stillborn = 0  # actors in a row that died before they were ready
        self._looked = 0.0
        self._connect()
        import ray

        found = [path for path in paths[:: max(1, len(paths) // PATHS_CHECKED)] if os.path.isfile(path)]  # noqa: PTH113
        there: dict[str, Any] = {
            "versions": versions(),
            "folder": os.getcwd(),  # noqa: PTH109
            "paths": found,
            "environment": {name: os.environ[name] for name in PASSED_ON if name in os.environ},
        }
        self._for_actors = ray.put(ray.cloudpickle.dumps(make)), there
        try:
            self._cpus, self._gpus = self._sizes()
            if not self._gpus:
                there["environment"]["CUDA_VISIBLE_DEVICES"] = ""  # Ray would leave them all visible
            self._header = self._start()
        except BaseException:
            self.close()
            raise

    def header(self) -> RunHeader:
        """What all actors make the records with."""
        return self._header

    def description(self) -> str:
        """The cluster in a line."""
        return f"model {self._header.model} on Ray, {listed(sorted(self._hosts))}"

    def close(self) -> None:
        """Let the actors go, and a local cluster end."""
        import ray

        for actor in self._actors:
            ray.kill(actor.handle)
        self._actors.clear()
        ray.shutdown()

    def records(self, paths: Iterable[str]) -> Iterator[R | Failure]:
        """The records of each video, in order, the last of which completes it. Raises what the task does."""
        source, chunks, ended = iter(paths), deque[_Chunk](), False  # chunks in order, up to the last that was begun
        while chunks or not ended:
            self._hire()
            for actor in self._idle():
                chunk = next((chunk for chunk in chunks if chunk.begun is None), None)
                if chunk is None and not ended and len(chunks) < CHUNKS_AHEAD * len(self._actors):
                    taken = list(islice(source, self._size(actor)))
                    ended = not taken
                    if taken:
                        self._left -= len(taken)
                        chunks.append(chunk := _Chunk(taken))
                if chunk is None:
                    break
                actor.chunk, chunk.begun = chunk, time.monotonic()
                actor.waits_for = actor.handle.records.remote(chunk.paths)
            waits = True
            while chunks and chunks[0].records is not None:
                yield from chunks.popleft().records or ()
                waits = False
            if waits and (chunks or not ended):
                self._settle(chunks, LOOK_SECONDS)

    def _idle(self) -> list[_Actor]:
        return [actor for actor in self._actors if actor.report is not None and actor.chunk is None]

    def _size(self, actor: _Actor) -> int:
        """Of an actor's next chunk: smaller ones towards the end, so that all actors end at about the same time."""
        return max(1, min(actor.size, self._left // (2 * max(1, len(self._actors)))))

    def _connect(self) -> None:
        import ray

        address = self._wanted.address or os.environ.get("RAY_ADDRESS") or "local"
        here: dict[str, Any] = {"num_cpus": usable_cores(), "include_dashboard": False} if address == "local" else {}
        try:
            if found := _HOST_AND_PORT.fullmatch(address):  # Ray would try for minutes
                socket.create_connection((found[1], int(found[2])), CONNECT_SECONDS).close()
            ray.init(address=address, log_to_driver=False, logging_level="error", **here)
            # Of machines that are lost Ray would tell on stdout, which is data alone; nothing public stops that.
            ray._private.worker._worker_logs_enabled = False
        except Exception as error:  # Ray raises many kinds
            raise ClusterError(f"cannot join the Ray cluster {printable(address)}: {one_line(error)}") from error

    def _start(self) -> RunHeader:
        """The first actors. Raises ClusterError if not all of their machines are fit."""
        self._hire()
        began, reports = time.monotonic(), list[Report]()
        while any(actor.report is None for actor in self._actors):
            if time.monotonic() - began > START_SECONDS:
                raise ClusterError(f"not all {len(self._actors)} actors started within {START_SECONDS:g} seconds")
            self._settle(deque(), LOOK_SECONDS, reports)
            if problems := [f"{each.host}{each.problem}" for each in reports if each.problem]:
                raise ClusterError(f"the machine {'; the machine '.join(dict.fromkeys(problems))}")
            self._hire()
        headers = {str(report.header): report for report in reports}
        if len(headers) > 1:
            from .results.run_file import differences

            one, other = (report.header for report in list(headers.values())[:2])
            assert one is not None
            assert other is not None
            shown = differences(one.to_json(), other.to_json(), "{} is {} and {}")
            raise ClusterError(f"the machines would make different records (set these with flags): {shown}")
        assert reports[0].header is not None
        return reports[0].header

    def _hire(self) -> None:
        """Start the actors that are lacking: of those that died, and of machines that joined."""
        if time.monotonic() - self._looked < LOOK_SECONDS and self._actors:
            return
        self._looked = time.monotonic()
        if self._wanted.actors is not None:
            for _ in range(self._wanted.actors - self._places_refused - len(self._actors)):
                self._actors.append(self._actor(None, self._cpus or 1))
            return
        for machine in _machines():
            if machine.node in self._refused:
                continue
            cpus = self._cpus or max(1, machine.cpus // max(1, machine.room(0, self._gpus) if self._gpus else 1))
            here = sum(actor.place == machine.node for actor in self._actors)
            for _ in range(machine.room(cpus, self._gpus) - here):
                self._actors.append(self._actor(machine.node, cpus))

    def _sizes(self) -> tuple[int | None, float]:
        """The CPUs and GPUs of each actor; None: its share of the machine's. One GPU, where there are enough: machines
        without hold no actor then, as they might make other records. Raises ClusterError if actors do not fit."""
        machines, actors = _machines(), self._wanted.actors or 1
        cpus, gpus = self._wanted.cpus, self._wanted.gpus
        if gpus is None:
            gpus = 1.0 if sum(each.gpus for each in machines) >= actors else 0.0
        sizes = [cpus] if cpus else range(max((each.cpus for each in machines), default=1), 0, -1)
        for size in sizes:
            if (room := sum(each.room(size, gpus) for each in machines)) >= actors:
                return cpus if self._wanted.actors is None else size, gpus
        raise ClusterError(
            f"the cluster has room for {room} of {actors} actors of {size} CPUs and {gpus:g} GPUs (change them with "
            "--actors, --actor-cpus and --actor-gpus)"
        )

    def _actor(self, place: str | None, cpus: int) -> _Actor:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        where = {} if place is None else {"scheduling_strategy": NodeAffinitySchedulingStrategy(place, soft=False)}
        made, there = self._for_actors
        handle = ray.remote(Worker).options(num_cpus=cpus, num_gpus=self._gpus, **where).remote(made, cpus, there)
        return _Actor(handle, place, handle.report.remote())

    def _settle(self, chunks: deque[_Chunk], seconds: float, reports: list[Report] | None = None) -> None:
        """Wait for what comes next, and sort it in. Raises what the task does."""
        import ray

        by_reference = {actor.waits_for: actor for actor in self._actors if actor.waits_for is not None}
        if not by_reference:
            time.sleep(seconds)
            return
        done, _ = ray.wait(list(by_reference), timeout=seconds)
        for reference in done:
            actor = by_reference[reference]
            actor.waits_for = None
            try:
                found = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, XClipError) else error from None
            except ray.exceptions.RayError as error:  # the actor is dead
                self._bury(actor, chunks, one_line(error))
                continue
            if actor.chunk is not None:
                actor.finish(found)
            else:
                self._welcome(actor, found, reports)

    def _welcome(self, actor: _Actor, report: Report, reports: list[Report] | None) -> None:
        """Take in a report. Of machines that join later a problem is told, and the run goes on without them."""
        if reports is not None:
            reports.append(report)
        elif report.problem or report.header != self._header:
            why = report.problem or " would make different records"
            self._say(f"warning: the machine {report.host}{why}: it gets no videos")
            self._refused.add(report.node)
            self._places_refused += actor.place is None
            self._actors.remove(actor)
            return
        actor.report, self._stillborn = report, 0
        self._hosts.add(report.host)

    def _bury(self, actor: _Actor, chunks: deque[_Chunk], why: str) -> None:
        """Have a dead actor replaced. Raises ClusterError if each one dies before it is ready."""
        self._actors.remove(actor)
        self._looked = 0.0
        if actor.chunk is not None:
            self._repeat(actor, chunks)
            return
        self._stillborn += 1
        if self._stillborn >= MOST_STILLBORN:
            raise ClusterError(f"{self._stillborn} actors died before they were ready; the last: {why}")

    def _repeat(self, actor: _Actor, chunks: deque[_Chunk]) -> None:
        """Have the chunk of a dead actor made again: video by video, where its machine lives and one of them may be
        the cause."""
        chunk, report = actor.chunk, actor.report
        assert chunk is not None
        assert report is not None
        chunk.begun = None
        if not _lives(report.node):
            return
        if len(chunk.paths) == 1:
            chunk.ends += 1
            if chunk.ends >= MOST_ENDS:
                message = f"it crashed the process that decodes and encodes it, {chunk.ends} times"
                chunk.records = [Failure(chunk.paths[0], "crashed", message)]
            return
        at = chunks.index(chunk)
        del chunks[at]
        for place, path in enumerate(chunk.paths):
            chunks.insert(at + place, _Chunk([path]))


def _machines() -> list[_Machine]:
    import ray

    found = []
    for node in ray.nodes():
        resources = node["Resources"]
        if node["Alive"] and resources.get("CPU", 0) >= 1:
            found.append(_Machine(node["NodeID"], int(resources["CPU"]), int(resources.get("GPU", 0))))
    return found


def _lives(node: str) -> bool:
    """Whether a machine, an actor of which has died, lives on."""
    until = time.monotonic() + NODE_SECONDS
    while time.monotonic() < until:
        if all(machine.node != node for machine in _machines()):
            return False
        time.sleep(0.1)
    return True
