"""A decode worker's side: it decodes one request after another until its parent is done. ``protocol`` is what they say.

Nothing here imports torch: a worker starts in a fraction of the time that takes.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import signal
import socket
import sys
import time
from collections import deque
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np

from ..errors import VideoError
from .clips import read_clips
from .confinement import confine
from .files import anonymous_file
from .guard import Guard
from .limits import DEFAULT_LIMITS, Limits
from .processes import RunningClock
from .protocol import ACK, LONGEST_TEXT, MOST_HELD, NOTE_BYTES, TOGETHER_BYTES, line, read_request
from .sampling import ClipRequest

if TYPE_CHECKING:
    from .sampling import Picture

NOTE_SECONDS = 0.01  # how often it writes down its memory, which takes 50 µs
ALIVE_SECONDS = 1.0  # how often a worker that makes progress says so


def serve(ring_file: int, files: int) -> None:
    """The worker's whole life: decode one request after another until stdin ends.

    Both are descriptors: of the ring, and of the socket that videos come through.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Where stderr is closed its number is free, and what is opened first would take it.
    replies = os.fdopen(fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3), "wb")
    guard = Guard(anonymous_file())
    os.dup2(2, 1)  # nothing that a library prints may look like a reply
    server = _Server(mmap.mmap(ring_file, 0), sys.stdin.buffer, replies, guard, socket.socket(fileno=files))
    confine()
    gc.freeze()  # what is there to stay need not be looked through each time
    while (asked := server.next_request()) is not None:
        request, threads, limits = asked
        guard.begin(limits)
        try:
            server.begin(limits)
            for clip in read_clips(request, server, threads, limits):
                server.finished(asdict(clip))
        except Exception as error:  # a bug, or a library's surprise, too: it costs this video only
            if not isinstance(found := guard.cause(error) or error, VideoError):
                found = VideoError(f"the decoder failed on this file: {error!r}", "crashed")
            server.reply({"error": {"code": found.code, "message": str(found)[:LONGEST_TEXT]}})
        finally:
            os.close(cast("int", request.descriptor))
        # PyAV's containers refer to themselves: left to Python, hundreds of them would be in memory at a time.
        gc.collect()
        if guard.is_spent:
            server.reply({"retired": True})
            return


class _Server:
    """The worker's side: requests come in, pictures go into the ring behind each other, the parent frees the oldest.

    It is the sink that ``read_clips`` sends pictures to.
    """

    def __init__(
        self, memory: mmap.mmap, incoming: IO[bytes], outgoing: IO[bytes], guard: Guard, files: socket.socket
    ) -> None:
        self._ring = np.frombuffer(memory, np.uint8)[:-NOTE_BYTES]
        self._note = memoryview(memory)[-NOTE_BYTES:]
        self._guard = guard
        self._incoming = incoming
        self._outgoing = outgoing
        self._files = files
        self._requests: deque[tuple[ClipRequest, int, Limits]] = deque()  # with threads
        self._said_alive = 0.0
        self._noted = 0.0
        self._clock = RunningClock(ALIVE_SECONDS * 30)  # no packet or picture takes longer, but where all stands still
        self._waited = 0.0  # seconds, for room and for the parent
        self._limits = DEFAULT_LIMITS
        self._began = 0.0  # with the request, and with the clip
        self._began_clip = 0.0
        self._windows = 0  # of the request, that are done
        self._held: deque[tuple[int, int]] = deque()  # start and end of each picture not yet freed, oldest first
        self._untold: list[list[int]] = []  # those of them that the parent does not know of
        self._untold_bytes = 0
        self._told: deque[int] = deque()  # how many it was told of with each line

    def next_request(self) -> tuple[ClipRequest, int, Limits] | None:
        """The next request, how many threads to decode it with, and its limits; None when the parent is done."""
        while not self._requests:
            if not self._listen():
                return None
        return self._requests.popleft()

    def begin(self, limits: Limits) -> None:
        """A request."""
        self._limits, self._windows = limits, 0
        self._began = self._began_clip = self._worked()

    def finished(self, clip: dict[str, Any]) -> None:
        """Tell the parent of a clip."""
        self._windows += 1
        began, self._began_clip = self._began_clip, self._worked()
        self.reply({"clip": {**clip, "seconds": self._began_clip - began}})

    def put(self, picture: Picture) -> None:
        """Copy a picture in, waiting for room, and tell the parent, of small ones together."""
        if self._untold and self._room(picture.nbytes) is None:
            self.reply()  # what the parent does not know of it does not free
        began = self._clock.now()
        while (offset := self._room(picture.nbytes)) is None:
            if not self._listen():
                raise SystemExit  # the parent is gone
        self._waited += self._clock.now() - began
        end = offset + picture.nbytes
        self._ring[offset:end].reshape(picture.shape)[:] = picture
        self._held.append((offset, end))
        self._untold.append([offset, *picture.shape[:2]])
        self._untold_bytes += picture.nbytes
        if self._untold_bytes >= TOGETHER_BYTES:
            self.reply()

    def _worked(self) -> float:
        """Seconds on a clock that stands still while this waits for the parent."""
        return self._clock.now() - self._waited

    def restart(self) -> None:
        """Have the parent forget the pictures of this request."""
        self.reply({"restart": True})

    def progress(self) -> None:
        """Let the parent know, now and then, that this does not hang."""
        self._guard.trim()
        now = time.monotonic()
        if self._worked() - self._began > self._limits.most_seconds(self._windows):
            raise self._limits.too_slow(self._windows)
        if now - self._noted >= NOTE_SECONDS:  # once it has crashed, nobody can ask it any more
            self._noted = now
            self._note[:] = self._guard.peak_memory.to_bytes(NOTE_BYTES, sys.byteorder)
        if now - self._said_alive >= ALIVE_SECONDS:
            self._said_alive = now
            self.reply({"alive": True})

    def skipped(self, error: Exception) -> None:
        """Raise VideoError where a limit is the reason."""
        if cause := self._guard.cause(error):
            raise cause from error

    def reply(self, *messages: dict[str, Any]) -> None:
        """Send messages to the parent, who may not listen at once, after the pictures that it does not know of."""
        began = self._clock.now()
        if self._untold:
            messages = ({"pictures": self._untold}, *messages)
            self._told.append(len(self._untold))
            self._untold, self._untold_bytes = [], 0
        try:
            self._outgoing.write(b"".join(map(line, messages)))
            self._outgoing.flush()
        except BrokenPipeError:
            os._exit(0)  # the parent is gone, and nobody is left to tell
        self._waited += self._clock.now() - began

    def _listen(self) -> bool:
        """Take in one line from the parent; False when there will be no more."""
        heard = self._incoming.readline()
        if heard == ACK:
            for _ in range(self._told.popleft()):
                self._held.popleft()
        elif heard:
            _, (descriptor,), _, _ = socket.recv_fds(self._files, 1, 1)
            self._requests.append(read_request(heard, descriptor))
        return bool(heard)

    def _room(self, size: int) -> int | None:
        """Where ``size`` bytes fit: as far in front as can be, so that no more memory is used than is needed."""
        if not self._held:
            return 0
        if len(self._held) >= MOST_HELD:
            return None
        oldest, newest_end = self._held[0][0], self._held[-1][1]
        if newest_end > oldest:
            if size <= oldest:
                return 0
            return newest_end if newest_end + size <= len(self._ring) else None
        return newest_end if newest_end + size <= oldest else None
