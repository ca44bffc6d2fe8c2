"""The decode workers, from their parent's side: the one door to this room for everybody outside.

What breaks in decoding costs one video, and the workers work while the parent imports torch. ``protocol`` is what they
say to each other. Pictures are received in a few threads, those of one worker in one at a time; what it says after them
waits until that is done. All else happens in the thread that collects.
"""

from __future__ import annotations

import json
import mmap
import os
import selectors
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Generic, Self, TypeVar, cast

import numpy as np

from ..cores import usable_cores
from ..errors import VideoError, XClipError
from .files import anonymous_file, open_file
from .limits import DECODE_TIMEOUT, DEFAULT_LIMITS, MEGABYTE, Limits
from .pending import Pending
from .processes import RunningClock, boot, start
from .protocol import (
    ACK,
    NOTE_BYTES,
    BrokenWorkerError,
    Place,
    Reply,
    Restart,
    Retired,
    longest_line,
    read_reply,
    request_line,
)
from .receiving import Receivers
from .sampling import STDIN, ClipInfo, ClipRequest
from .spool import Spool

if TYPE_CHECKING:
    from .sampling import Picture

RING_BYTES = 3 * 8192 * 4320  # at least; a ring holds a picture of the largest size. Memory is used where pictures are
AHEAD = 2  # requests that a worker has at a time, so that it never waits for the next
MOST_THREADS = 16  # of a decoder: each takes address space
LONGEST_WAIT = 1.0  # seconds, for anything
CLIPS_AHEAD = 4  # clips of one request that are kept for being collected
KILL_SECONDS = 5.0  # how long a process that was killed, or that has closed its stdout, is waited for

_BOOT = boot("xclip_cli.video.worker.serve", 2)

T = TypeVar("T")

Receive = Callable[["Iterator[Picture]"], Future[list[T]]]  # as ``Receivers.start``


class Decoders(Generic[T]):
    """A pool of decode workers, replaced when they break: ``submit`` requests, ``collect`` their clips in that order.

    ``receive`` is called with each different picture [H, W, 3] on arrival and makes of it what a clip keeps; the
    picture is valid only during the call. It is called in threads: in order for the pictures of one worker, for those
    of several at the same time; what it raises, ``collect`` raises. Workers start when there is work for them.
    ``timeout``: seconds without a packet or picture after which a worker counts as hanging. ``limits``: what a video
    may cost.
    """

    def __init__(
        self,
        receive: Callable[[Picture], T],
        workers: int = 1,
        timeout: float = DECODE_TIMEOUT,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._receivers = Receivers(receive, min(workers, usable_cores()))
        self._size = workers
        self._timeout = timeout
        self._limits = limits
        self._workers: list[_Worker[T]] = []
        self._pending: deque[Pending[T]] = deque()  # submitted and not collected, oldest first
        self._waiting: deque[Pending[T]] = deque()  # those that no worker has yet
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._receivers.done, selectors.EVENT_READ)
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
        pending: Pending[T] = Pending(request, threads, self._limits)
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
        """Forget what was submitted and not collected; ``receive`` is no longer called for it."""
        self._pending.clear()
        self._waiting.clear()
        for worker in [worker for worker in self._workers if worker.pending]:
            self._remove(worker)

    def close(self) -> None:
        """End the workers."""
        self.cancel()
        for worker in self._workers[:]:
            self._remove(worker)
        self._receivers.close()
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
        """Give waiting requests to workers, and have all of them told what there is to tell, at once."""
        self._give()
        while any(self._tend(worker, _Worker.flush) for worker in self._workers[:]):
            self._give()  # what those had that did not read

    def _give(self) -> None:
        """Give waiting requests to workers: first to the one with the least to do, or to a new one.

        A file is opened here, with the rights that a worker has not, and only when it is its turn.
        """
        while self._waiting:
            worker = min(self._workers, key=lambda worker: len(worker.pending), default=None)
            if (worker is None or worker.pending) and len(self._workers) < self._size:
                worker = self._started() or worker
            if worker is None or len(worker.pending) >= AHEAD:
                return
            pending = self._waiting.popleft()
            try:
                file = open_file(pending.request.path)
            except VideoError as error:
                pending.error = error
                continue
            try:
                worker.take(pending, file)
            except BrokenWorkerError as error:
                self._replace(worker, _broken(error))
            finally:
                os.close(file)

    def _started(self) -> _Worker[T] | None:
        """A new worker; None if the system takes no more than there are, which are enough from then on."""
        try:
            worker: _Worker[T] = _Worker(max(RING_BYTES, 3 * self._limits.pixels), self._clock)
        except OSError as error:
            if not self._workers:
                raise XClipError(
                    f"cannot start a decode worker ({error.strerror or error}): check the limits on processes, open "
                    "files and memory (`ulimit -a`), and that there is a folder for temporary files"
                ) from error
            self._size = len(self._workers)
            return None
        self._workers.append(worker)
        return worker

    def _wait(self, wake: int | None) -> bool:
        """Wait for something from the workers, and take it in → whether ``wake`` became readable."""
        if sum([self._tend(worker, _Worker.catch_up) for worker in self._workers[:]]):
            self._dismiss_retired()
            self._assign()
            return False
        self._listen_where_there_is_room()
        if wake is not None:
            self._selector.register(wake, selectors.EVENT_READ, wake)
        began, busy = self._clock.now(), [worker for worker in self._workers if worker.busy]
        try:
            ready = self._selector.select(timeout=min(max(0.01, self._seconds_left()), self._clock.step))
        finally:
            if wake is not None:
                self._selector.unregister(wake)
        for worker in busy:
            worker.pending[0].waited += self._clock.now() - began
        woken = False
        for key, _ in ready:
            if key.fileobj is self._receivers.done:
                self._receivers.clear()  # whose pictures those are is seen in ``catch_up``
            elif key.data is wake:
                woken = True
            elif not self._tend(key.data, _Worker.read) and key.data in self._workers:
                self._replace(key.data, key.data.end(self._limits))
        self._dismiss_retired()
        self._give_up_late()
        self._assign()
        return woken

    def _tend(self, worker: _Worker[T], take: Callable[[_Worker[T], Receive[T]], bool]) -> bool:
        """What ``take`` makes of a worker; one that is broken is replaced."""
        try:
            return take(worker, self._receivers.start)
        except BrokenWorkerError as error:
            self._replace(worker, _broken(error))
            return True

    def _give_up_late(self) -> None:
        """Replace the workers that hang, and those that do not keep to the limit of time that they were given."""
        for worker in self._workers[:]:
            if not worker.busy:
                continue
            pending = worker.pending[0]
            most = self._limits.most_seconds(pending.windows)
            if self._clock.now() - worker.heard >= self._timeout:
                message = f"the decoder made no progress for {self._timeout:g} s (--timeout) and was stopped"
                self._replace(worker, VideoError(message, "timeout"))
            elif pending.waited > most + self._timeout:
                message = f"the decoder ran past its limit of {most:g} s (--max-seconds) and was stopped"
                self._replace(worker, VideoError(message, "crashed"))

    def _listen_where_there_is_room(self) -> None:
        for worker in self._workers:
            if worker.held_back and worker.listened_to:
                worker.listened_to = False
                self._selector.unregister(worker.replies)
            elif not worker.held_back and not worker.listened_to:
                worker.listened_to = True
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
        """Take away a worker that failed: its first request is over, the others go to another.

        One that fails when it has answered all it was asked is missed by nobody.
        """
        rest = list(worker.pending)
        self._remove(worker)
        if rest:
            rest[0].error = error
        self._waiting.extendleft(reversed(rest[1:]))

    def _remove(self, worker: _Worker[T]) -> None:
        self._workers.remove(worker)
        if worker.listened_to:
            self._selector.unregister(worker.replies)
        worker.close()


class _Worker(Generic[T]):
    """The parent's side of a worker process."""

    def __init__(self, ring_bytes: int, clock: RunningClock) -> None:
        self._clock = clock
        self.retired = False  # it does no more, of its own will
        self.listened_to = False
        self.pending: deque[Pending[T]] = deque()  # what it was given and has not answered, oldest first
        self.heard = self._clock.now()  # when it last said something, or was given something to do
        self._answered = 0  # requests
        self._ring_bytes = ring_bytes
        with ExitStack() as undo:
            self._ring_file = anonymous_file(ring_bytes + NOTE_BYTES)
            undo.callback(os.close, self._ring_file)
            self._ring = mmap.mmap(self._ring_file, ring_bytes + NOTE_BYTES)
            self._files, files = socket.socketpair()
            undo.callback(self._files.close)
            with files:
                self._process, self._lifeline = start(_BOOT, [self._ring_file, files.fileno()])
            undo.pop_all()
        self._requests = cast("IO[bytes]", self._process.stdin)
        self.replies = cast("IO[bytes]", self._process.stdout)
        for channel in (self._requests, self._files):
            os.set_blocking(channel.fileno(), False)
        self._unsent = b""  # until ``flush``
        self._unread = b""  # the start of a line whose end has not come
        self._lines: deque[bytes] = deque()  # read, and not handled for want of room
        self._receiving: Future[list[T]] | None = None  # of its pictures: nothing after them is handled before

    def take(self, pending: Pending[T], file: int) -> None:
        """Send it a request, and the open file that it is about. Raises BrokenWorkerError."""
        if not self.pending:
            self.heard = self._clock.now()
        self.pending.append(pending)
        pending.waited = 0.0
        try:
            socket.send_fds(self._files, [b"f"], [file])
        except BlockingIOError as error:
            raise BrokenWorkerError("it accepts no files") from error
        except ConnectionError:
            return  # it died; its replies end
        self._unsent += request_line(pending.request, pending.threads, pending.limits)

    @property
    def held_back(self) -> bool:
        """Whether its pictures are being received, or as many clips as are kept wait for being collected."""
        return self._receiving is not None or (bool(self.pending) and len(self.pending[0].clips) >= CLIPS_AHEAD)

    @property
    def busy(self) -> bool:
        """Whether it should make progress."""
        return bool(self.pending) and not self.held_back

    def read(self, receive: Receive[T]) -> bool:
        """Take in what it sent; False when it has ended. Raises BrokenWorkerError."""
        data = os.read(self.replies.fileno(), 1 << 16)
        *lines, self._unread = (self._unread + data).split(b"\n")
        if len(self._unread) > longest_line(self.pending[0].request if self.pending else None):
            raise BrokenWorkerError("it sends a line that does not end")
        self._lines += lines
        self.catch_up(receive)
        self.heard = self._clock.now()  # after the handling, which may have taken a while
        return bool(data)

    def catch_up(self, receive: Receive[T]) -> bool:
        """Handle what was read, as far as can be → whether anything was handled. Raises BrokenWorkerError."""
        before = len(self._lines)
        if done := self._receiving is not None and self._receiving.done():
            received, self._receiving = self._receiving, None
            self.heard = self._clock.now()  # it had to wait
            self.pending[0].pictures += received.result()
            self._unsent += ACK
        while self._lines and not self.held_back:
            if not self.pending:
                raise BrokenWorkerError("it sends a reply without a request")
            self._handle(read_reply(self._lines.popleft(), self.pending[0].request, self._ring_bytes), receive)
        return done or len(self._lines) < before

    def _handle(self, reply: Reply, receive: Receive[T]) -> None:
        oldest = self.pending[0]
        if isinstance(reply, list):
            oldest.expect(len(reply))
            self._receiving = receive(map(self._picture, reply))
        elif isinstance(reply, Restart):
            oldest.restart()
        elif isinstance(reply, ClipInfo):
            oldest.add(reply)
            if not reply.following:
                self._answered += 1
                self.pending.popleft()
        elif isinstance(reply, VideoError):
            self._answered += 1
            self.pending.popleft().error = reply
        elif isinstance(reply, Retired):
            if not self._answered:
                raise BrokenWorkerError("it quits before it has done anything")
            self.retired = True

    def _picture(self, place: Place) -> Picture:
        ring = np.frombuffer(self._ring, np.uint8, place.size, place.offset)
        return ring.reshape(place.height, place.width, 3)

    def flush(self, _: object = None) -> bool:
        """Tell it all that there is to tell → False. Raises BrokenWorkerError.

        Without waiting: what a worker has not read yet always fits into its pipe, unless it does not read.
        """
        lines, self._unsent = self._unsent, b""
        try:
            if lines and os.write(self._requests.fileno(), lines) < len(lines):
                raise BlockingIOError
        except BlockingIOError as error:
            raise BrokenWorkerError("it reads nothing") from error
        except BrokenPipeError:
            pass  # it died; its replies end
        return False

    def end(self, limits: Limits) -> VideoError:
        """Wait for a worker that ended → what is to be said of the video that it had."""
        try:
            status = self._process.wait(KILL_SECONDS)
        except subprocess.TimeoutExpired:
            return VideoError("the decoder stopped responding on this file and was stopped", "crashed")
        how = f"crashed ({_signal_name(-status)})" if status < 0 else f"ended early (status {status})"
        memory = min(int.from_bytes(self._ring[-NOTE_BYTES:], sys.byteorder), limits.memory)
        if limits.nearly_reached(memory):
            most = f"of {limits.memory // MEGABYTE} MB (--max-memory)"
            return VideoError(
                f"the decoder {how} with {memory // MEGABYTE} MB of memory, near the limit {most}", "limit"
            )
        reason = ": the system may be out of memory" if status == -signal.SIGKILL else ""
        return VideoError(f"the decoder {how} on this file{reason}", "crashed")

    def close(self) -> None:
        """End the process and free its memory; what is being received of it is dropped."""
        self._process.kill()
        if self._receiving is not None and not self._receiving.cancel():
            wait([self._receiving])
        for pipe in (self._requests, self.replies, self._files):
            with suppress(BrokenPipeError):  # unsent bytes for a dead worker
                pipe.close()
        os.close(self._lifeline)
        with suppress(subprocess.TimeoutExpired):  # it hangs in the system, as on a file system that does not answer
            self._process.wait(KILL_SECONDS)
        os.close(self._ring_file)
        with suppress(BufferError):  # a traceback may still hold a picture: the ring goes with it
            self._ring.close()


def _broken(error: BrokenWorkerError) -> VideoError:
    return VideoError(f"the decoder was stopped on this file: {error}", "crashed")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def confinement() -> dict[str, str]:
    """What of its rights a decode worker gives up on this system, for people to read. Raises OSError, ValueError."""
    code = "import json; from xclip_cli.video.confinement import confine; print(json.dumps(confine()))"
    command = [sys.executable, "-P", "-c", f"import sys; sys.path[:] = sys.argv[1:]; {code}", *sys.path]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    return dict(json.loads(done.stdout))
