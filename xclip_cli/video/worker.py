"""A decode worker's side: it decodes one request after another until its parent is done. ``protocol`` is what they say.

Nothing here imports torch: a worker starts in a fraction of the time that takes.
"""

from __future__ import annotations

import fcntl
import gc
import mmap
import os
import signal
import sys
import time
from collections import deque
from dataclasses import asdict, replace
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from ..errors import VideoError
from .clips import read_clips
from .guard import Guard
from .limits import Limits
from .protocol import ACK, NOTE_BYTES, anonymous_file, line, read_request
from .sampling import ClipRequest

if TYPE_CHECKING:
    from .sampling import Picture

NOTE_SECONDS = 0.01  # how often it writes down its memory, which takes 50 µs
ALIVE_SECONDS = 1.0  # how often a worker that makes progress says so


def serve(ring_file: int) -> None:
    """The worker's whole life: decode one request after another until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # Where stderr is closed its number is free, and what is opened first would take it.
    replies = os.fdopen(fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3), "wb")
    guard = Guard(anonymous_file())
    os.dup2(2, 1)  # nothing that a library prints may look like a reply
    server = _Server(mmap.mmap(ring_file, 0), sys.stdin.buffer, replies, guard)
    gc.freeze()  # what is there to stay need not be looked through each time
    while (asked := server.next_request()) is not None:
        request, threads, limits = asked
        guard.begin(limits)
        try:
            began = server.worked()
            for clip in read_clips(request, server, threads, limits):
                worked = server.worked()
                server.reply({"clip": asdict(replace(clip, seconds=worked - began))})
                began = worked
        except Exception as error:  # a bug, or a library's surprise, too: it costs this video only
            if not isinstance(found := guard.cause(error) or error, VideoError):
                found = VideoError(f"the decoder failed on this file: {error!r}", "crashed")
            server.reply({"error": {"code": found.code, "message": str(found)}})
        # PyAV's containers refer to themselves: left to Python, hundreds of them would be in memory at a time.
        gc.collect()
        if guard.is_spent:
            server.reply({"retired": True})
            return


class _Server:
    """The worker's side: requests come in, pictures go into the ring behind each other, the parent frees the oldest.

    It is the sink that ``read_clips`` sends pictures to.
    """

    def __init__(self, memory: mmap.mmap, incoming: IO[bytes], outgoing: IO[bytes], guard: Guard) -> None:
        self._ring = np.frombuffer(memory, np.uint8)[:-NOTE_BYTES]
        self._note = memoryview(memory)[-NOTE_BYTES:]
        self._guard = guard
        self._incoming = incoming
        self._outgoing = outgoing
        self._requests: deque[tuple[ClipRequest, int, Limits]] = deque()  # with threads
        self._said_alive = 0.0
        self._noted = 0.0
        self._waited = 0.0  # seconds, for room
        self._held: deque[tuple[int, int]] = deque()  # start and end of each picture not yet freed, oldest first

    def next_request(self) -> tuple[ClipRequest, int, Limits] | None:
        """The next request, how many threads to decode it with, and its limits; None when the parent is done."""
        while not self._requests:
            if not self._listen():
                return None
        return self._requests.popleft()

    def put(self, picture: Picture) -> None:
        """Copy a picture in, waiting for room, and tell the parent."""
        began = time.monotonic()
        while (offset := self._room(picture.nbytes)) is None:
            if not self._listen():
                raise SystemExit  # the parent is gone
        self._waited += time.monotonic() - began
        end = offset + picture.nbytes
        self._ring[offset:end].reshape(picture.shape)[:] = picture
        self._held.append((offset, end))
        self.reply({"picture": [offset, *picture.shape[:2]]})

    def worked(self) -> float:
        """Seconds on a clock that stands still while there is no room for a picture."""
        return time.monotonic() - self._waited

    def restart(self) -> None:
        """Have the parent forget the pictures of this request."""
        self.reply({"restart": True})

    def progress(self) -> None:
        """Let the parent know, now and then, that this does not hang."""
        self._guard.trim()
        now = time.monotonic()
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

    def reply(self, message: dict[str, Any]) -> None:
        """Send one line to the parent."""
        try:
            self._outgoing.write(line(message))
            self._outgoing.flush()
        except BrokenPipeError:
            os._exit(0)  # the parent is gone, and nobody is left to tell

    def _listen(self) -> bool:
        """Take in one line from the parent; False when there will be no more."""
        heard = self._incoming.readline()
        if heard == ACK:
            self._held.popleft()
        elif heard:
            self._requests.append(read_request(heard))
        return bool(heard)

    def _room(self, size: int) -> int | None:
        """Where ``size`` bytes fit: as far in front as can be, so that no more memory is used than is needed."""
        if not self._held:
            return 0
        oldest, newest_end = self._held[0][0], self._held[-1][1]
        if newest_end > oldest:
            if size <= oldest:
                return 0
            return newest_end if newest_end + size <= len(self._ring) else None
        return newest_end if newest_end + size <= oldest else None
