"""The decode workers, from their parent's side: the one door to this room for everybody outside.

What breaks in decoding costs one video, and the workers work while the parent imports torch. ``protocol`` is what they
say to each other.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import numpy as np

from ..errors import VideoError, XClipError
from .limits import DECODE_TIMEOUT, DEFAULT_LIMITS, MEGABYTE, Limits
from .protocol import ACK, NOTE_BYTES, anonymous_file, request_line
from .sampling import STDIN, ClipInfo, ClipRequest
from .spool import Spool

if TYPE_CHECKING:
    from .sampling import Picture

RING_BYTES = 3 * 8192 * 4320  # at least; a ring holds a picture of the largest size. Memory is used where pictures are
AHEAD = 2  # requests that a worker has at a time, so that it never waits for the next
MOST_THREADS = 16  # of a decoder: each takes address space
LONGEST_WAIT = 1.0  # seconds, for anything
CLIPS_AHEAD = 4  # clips of one request that are kept for being collected
KILL_SECONDS = 5.0  # how long a process that was killed is waited for

# The worker gets the parent's import path, and not the current folder, which may hold anybody's modules.
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from xclip_cli.video.worker import serve; serve(int(sys.argv[1]))"

# Nothing is computed in workers but decoding: threads of NumPy's and heaps of many threads would be idle.
_LITTLE_ADDRESS_SPACE = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2"}

T = TypeVar("T")


class RunningClock:
    """Seconds in which this process ran: while it stands still (Ctrl-Z, a paused container), so does its clock.

    It is to be looked at every ``step`` seconds; of any longer time no more than twice that counts.
    """

    def __init__(self, step: float) -> None:
        self.step = step
        self._seconds = 0.0
        self._seen = time.monotonic()

    def now(self) -> float:
        """Seconds since it was made."""
        seen, self._seen = self._seen, time.monotonic()
        self._seconds += min(self._seen - seen, 2 * self.step)
        return self._seconds


@dataclass
class _Pending(Generic[T]):
    """A request and what has come of it so far."""

    request: ClipRequest
    threads: int
    limits: Limits
    pictures: list[T] = field(default_factory=list)  # those that clips to come may need
    dropped: int = 0  # pictures that came before them
    clips: deque[tuple[ClipInfo, list[T]]] = field(default_factory=deque)  # whole and not collected
    error: VideoError | None = None  # after those

    def add(self, clip: ClipInfo) -> None:
        """Take in a clip with its pictures; no later one needs a picture from before its first."""
        used = sorted(set(clip.places))
        pictures = [self.pictures[place - self.dropped] for place in used]
        self.clips.append((replace(clip, places=tuple(used.index(place) for place in clip.places)), pictures))
        del self.pictures[: used[0] - self.dropped]
        self.dropped = used[0]


class Decoders(Generic[T]):
    """A pool of decode workers, replaced when they break: ``submit`` requests, ``collect`` their clips in that order.

    ``receive`` is called with each different picture [H, W, 3] on arrival and makes of it what a clip keeps; the
    picture is valid only during the call. Workers start when there is work for them. ``timeout``: seconds without a
    packet or picture after which a worker counts as hanging. ``limits``: what a video may cost.
    """

    def __init__(
        self,
        receive: Callable[[Picture], T],
        workers: int = 1,
        timeout: float = DECODE_TIMEOUT,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._receive = receive
        self._size = workers
        self._timeout = timeout
        self._limits = limits
        self._workers: list[_Worker[T]] = []
        self._pending: deque[_Pending[T]] = deque()  # submitted and not collected, oldest first
        self._waiting: deque[_Pending[T]] = deque()  # those that no worker has yet
        self._selector = selectors.DefaultSelector()
        self._spool = Spool()
        self._clock = RunningClock(min(LONGEST_WAIT, timeout / 8))
        self._closed = False

    @property
    def pending(self) -> int:
        """Requests that were submitted and not wholly collected."""
        return len(self._pending)

    def submit(self, request: ClipRequest) -> None:
        """Have clips decoded, behind those submitted before; returns at once, unless the video is stdin."""
        if self._closed:
            raise RuntimeError("the decoders are closed")
        # A clip on its own may use all cores; many share them, a core each.
        threads = 1 if self._pending else min(usable_cores(), MOST_THREADS)
        pending: _Pending[T] = _Pending(request, threads, self._limits)
        self._pending.append(pending)
        if request.path in STDIN:
            try:
                pending.request = replace(request, path=self._spool.path())
            except VideoError as error:
                pending.error = error
                return
        self._waiting.append(pending)
        self._assign()

    def collect(self, wake: int | None = None) -> tuple[ClipInfo, list[T]] | None:
        """Wait for the next clip of the oldest request → what it is and what was received of its pictures.

        Raises VideoError, which ends the request. None where the descriptor ``wake`` becomes readable first.
        """
        if not self._pending:
            raise RuntimeError("nothing was submitted")
        oldest = self._pending[0]
        while not oldest.clips and oldest.error is None:
            if self._wait(wake):
                return None
        clip = oldest.clips.popleft() if oldest.clips else None
        if clip is None or not clip[0].following:
            self._pending.popleft()
        if clip is None and oldest.error is not None:
            raise oldest.error
        return clip

    def cancel(self) -> None:
        """Forget what was submitted and not collected."""
        self._pending.clear()
        self._waiting.clear()
        for worker in [worker for worker in self._workers if worker.pending]:
            self._remove(worker)

    def close(self) -> None:
        """End the workers."""
        self.cancel()
        for worker in self._workers[:]:
            self._remove(worker)
        self._selector.close()
        self._spool.close()
        self._closed = True

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # it may not even have been made
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _assign(self) -> None:
        """Give waiting requests to workers: first to the one with the least to do, or to a new one."""
        while self._waiting:
            worker = min(self._workers, key=lambda worker: len(worker.pending), default=None)
            if (worker is None or worker.pending) and len(self._workers) < self._size:
                worker = self._started() or worker
            if worker is None or len(worker.pending) >= AHEAD:
                return
            worker.take(self._waiting.popleft())

    def _started(self) -> _Worker[T] | None:
        """A new worker; None where the system takes no more than there are, which are enough from then on."""
        try:
            worker: _Worker[T] = _Worker(max(RING_BYTES, 3 * self._limits.pixels), self._clock)
        except OSError as error:
            if not self._workers:
                raise XClipError(
                    f"no decode worker can be started ({error.strerror or error}): check the limits of processes, open "
                    "files and memory (`ulimit -a`), and that there is a folder for temporary files"
                ) from error
            self._size = len(self._workers)
            return None
        self._workers.append(worker)
        return worker

    def _wait(self, wake: int | None) -> bool:
        """Wait for something from the workers, and take it in → whether ``wake`` became readable."""
        if sum(worker.catch_up(self._receive) for worker in self._workers):
            self._dismiss_retired()
            self._assign()
            return False
        self._listen_where_there_is_room()
        if wake is not None:
            self._selector.register(wake, selectors.EVENT_READ)
        try:
            ready = self._selector.select(timeout=min(max(0.01, self._seconds_left()), self._clock.step))
        finally:
            if wake is not None:
                self._selector.unregister(wake)
        woken = False
        for key, _ in ready:
            if key.data is None:
                woken = True
            elif not key.data.read(self._receive):
                self._replace(key.data, key.data.end(self._limits))
        self._dismiss_retired()
        for worker in self._workers[:]:
            if worker.busy and self._clock.now() - worker.heard >= self._timeout:
                message = f"the decoder made no progress for {self._timeout:g} s (--timeout) and was stopped"
                self._replace(worker, VideoError(message, "timeout"))
        self._assign()
        return woken

    def _listen_where_there_is_room(self) -> None:
        listening = self._selector.get_map()
        for worker in self._workers:
            if worker.full and worker.replies in listening:
                self._selector.unregister(worker.replies)
            elif not worker.full and worker.replies not in listening:
                worker.heard = self._clock.now()  # it had to wait
                self._selector.register(worker.replies, selectors.EVENT_READ, worker)

    def _seconds_left(self) -> float:
        """Until the first worker counts as hanging."""
        heard = [worker.heard for worker in self._workers if worker.busy]
        now = self._clock.now()
        return min(heard, default=now) + self._timeout - now

    def _dismiss_retired(self) -> None:
        """Take away the workers that do no more; what they were given goes to others."""
        for worker in [worker for worker in self._workers if worker.retired]:
            self._waiting.extendleft(reversed(worker.pending))
            self._remove(worker)

    def _replace(self, worker: _Worker[T], error: VideoError) -> None:
        """Take away a worker that failed: its first request is over, the others go to another."""
        rest = list(worker.pending)
        self._remove(worker)
        if rest:
            rest[0].error = error
        self._waiting.extendleft(reversed(rest[1:]))

    def _remove(self, worker: _Worker[T]) -> None:
        self._workers.remove(worker)
        if worker.replies in self._selector.get_map():
            self._selector.unregister(worker.replies)
        worker.close()


class _Worker(Generic[T]):
    """The parent's side of a worker process."""

    def __init__(self, ring_bytes: int, clock: RunningClock) -> None:
        self._clock = clock
        self.retired = False  # it does no more, of its own will
        self.pending: deque[_Pending[T]] = deque()  # what it was given and has not answered, oldest first
        self.heard = self._clock.now()  # when it last said something, or was given something to do
        self._ring_file = anonymous_file()
        try:
            os.ftruncate(self._ring_file, ring_bytes + NOTE_BYTES)
            self._ring = mmap.mmap(self._ring_file, ring_bytes + NOTE_BYTES)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _BOOT, str(self._ring_file), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[self._ring_file],
                env={**os.environ, **_LITTLE_ADDRESS_SPACE},
            )
        except BaseException:
            os.close(self._ring_file)
            raise
        self._requests = cast("IO[bytes]", self._process.stdin)
        self.replies = cast("IO[bytes]", self._process.stdout)
        self._unread = b""  # the start of a line whose end has not come
        self._lines: deque[bytes] = deque()  # read, and not handled for want of room

    def take(self, pending: _Pending[T]) -> None:
        """Send it a request."""
        if not self.pending:
            self.heard = self._clock.now()
        self.pending.append(pending)
        self._send(request_line(pending.request, pending.threads, pending.limits))

    @property
    def full(self) -> bool:
        """Whether as many clips as are kept wait for being collected."""
        return bool(self.pending) and len(self.pending[0].clips) >= CLIPS_AHEAD

    @property
    def busy(self) -> bool:
        """Whether it should make progress."""
        return bool(self.pending) and not self.full

    def read(self, receive: Callable[[Picture], T]) -> bool:
        """Take in what it sent; False when it has ended."""
        data = os.read(self.replies.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        self._lines += lines
        self.catch_up(receive)
        self.heard = self._clock.now()  # after the handling, which may have taken a while
        return bool(data)

    def catch_up(self, receive: Callable[[Picture], T]) -> bool:
        """Handle what was read, as far as there is room → whether anything was handled."""
        before = len(self._lines)
        while self._lines and not self.full:
            self._handle(json.loads(self._lines.popleft()), receive)
        return len(self._lines) < before

    def _handle(self, message: dict[str, Any], receive: Callable[[Picture], T]) -> None:
        if "retired" in message:
            self.retired = True
            return
        oldest = self.pending[0]
        if "picture" in message:
            offset, height, width = message["picture"]
            picture = np.frombuffer(self._ring, np.uint8, height * width * 3, offset).reshape(height, width, 3)
            oldest.pictures.append(receive(picture))
            self._send(ACK)
        elif "restart" in message:
            oldest.pictures.clear()
        elif "clip" in message:
            clip = ClipInfo.from_json(message["clip"])
            oldest.add(clip)
            if not clip.following:
                self.pending.popleft()
        elif "error" in message:
            self.pending.popleft().error = VideoError(message["error"]["message"], message["error"]["code"])

    def _send(self, line: bytes) -> None:
        with suppress(BrokenPipeError):  # it died; its replies end
            self._requests.write(line)
            self._requests.flush()

    def end(self, limits: Limits) -> VideoError:
        """Wait for a worker that ended → what is to be said of the video that it had."""
        status = self._process.wait()
        how = f"crashed ({signal.Signals(-status).name})" if status < 0 else f"ended early (status {status})"
        memory = int.from_bytes(self._ring[-NOTE_BYTES:], sys.byteorder)
        if limits.nearly_reached(memory):
            most = f"of {limits.memory // MEGABYTE} MB (--max-memory)"
            return VideoError(
                f"the decoder {how} with {memory // MEGABYTE} MB of memory, near the limit {most}", "limit"
            )
        reason = ": the system may be out of memory" if status == -signal.SIGKILL else ""
        return VideoError(f"the decoder {how} on this file{reason}", "crashed")

    def close(self) -> None:
        """End the process and free its memory."""
        self._process.kill()
        for pipe in (self._requests, self.replies):
            with suppress(BrokenPipeError):  # unsent bytes for a dead worker
                pipe.close()
        with suppress(subprocess.TimeoutExpired):  # it hangs in the system, as on a file system that does not answer
            self._process.wait(KILL_SECONDS)
        os.close(self._ring_file)
        with suppress(BufferError):  # a traceback may still hold a picture: the ring goes with it
            self._ring.close()


def usable_cores() -> int:
    """The processor cores that this process may use: those that it may run on, or as many as its groups' quotas of
    processor time (cgroups, by which containers are limited) are worth."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.ceil(min([cores, *_quotas(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))])))


def _quotas(membership: Path, root: Path) -> Iterator[float]:
    """The quotas of the control groups that the process is in, in cores; both versions of the files."""
    with suppress(OSError, ValueError):  # another system, or none is set
        for line in membership.read_text().splitlines():
            _, controllers, group = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            top = root / "cpu" if controllers else root
            inside = top / group.lstrip("/")
            for folder in (inside, *inside.parents):
                if folder.is_relative_to(top):
                    yield from _quota(folder)


def _quota(group: Path) -> Iterator[float]:
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = (group / "cpu.max").read_text().split()
        yield int(quota) / int(period)  # which may be "max"
    with suppress(OSError, ValueError, ZeroDivisionError):
        quota, period = ((group / f"cpu.cfs_{of}_us").read_text() for of in ("quota", "period"))
        if int(quota) > 0:  # -1: there is none
            yield int(quota) / int(period)
