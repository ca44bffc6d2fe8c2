"""Decoding in a worker process: what breaks there costs one video, and it works while the parent imports torch.

The parent owns a ring of memory that the worker inherits. Requests and replies are JSON lines on the worker's stdin
and stdout; pictures cross in the ring, one at a time, and the parent frees each when it is done with it:

    parent → worker   {"path": …, "num_frames": …, "start": …, "end": …}     a request
                      ack                                                    the oldest picture is free
    worker → parent   {"picture": [offset, height, width]}
                      {"clip": {…}} or {"error": {"code": …, "message": …}}  the end of the request
"""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import IO, TYPE_CHECKING, Any, Self, cast

import numpy as np

from .errors import VideoError
from .sampling import ClipInfo, ClipRequest

if TYPE_CHECKING:
    from .video import Picture

RING_BYTES = 2 * 3 * 8192 * 4320  # two pictures of the largest size; memory is used only where pictures are

# The worker gets the parent's import path, and not the current folder, which may hold anybody's modules.
_BOOT = "import sys; sys.path[:] = sys.argv[2:]; from xclip_cli.decoding import serve; serve(int(sys.argv[1]))"


class Decoder:
    """A decode worker, restarted when it breaks: ``submit`` requests, ``collect`` their clips in the same order."""

    def __init__(self) -> None:
        self._ring_file = _anonymous_file()
        os.ftruncate(self._ring_file, RING_BYTES)
        self._ring = mmap.mmap(self._ring_file, RING_BYTES)
        self._worker: subprocess.Popen[bytes] | None = None
        self._closed = False
        self.pending: deque[ClipRequest] = deque()  # submitted and not yet collected, oldest first

    def submit(self, request: ClipRequest) -> None:
        """Have a clip decoded behind those submitted before; returns at once."""
        if self._closed:
            raise RuntimeError("the decoder is closed")
        if self._worker is None:
            self._worker = self._start()
        self.pending.append(request)
        self._send(json.dumps(request.to_json()))

    def collect(self, receive: Callable[[Picture], Any]) -> ClipInfo:
        """Wait for the oldest submitted clip. Each different picture [H, W, 3] is handed to ``receive`` on arrival; it
        is valid only during that call. Raises VideoError."""
        worker = self._worker
        if worker is None or not self.pending:
            raise RuntimeError("nothing was submitted")
        try:
            return self._receive(cast("IO[bytes]", worker.stdout), receive)
        except VideoError:
            raise
        except BaseException:
            self._end_worker()  # its replies to this request are half read
            raise
        finally:
            self.pending.popleft()
            if self._worker is None:
                self._resubmit()

    def cancel(self) -> None:
        """Forget what was submitted and not collected."""
        if self.pending:
            self.pending.clear()
            self._end_worker()

    def _receive(self, replies: IO[bytes], receive: Callable[[Picture], Any]) -> ClipInfo:
        for line in replies:
            message = json.loads(line)
            if "picture" in message:
                offset, height, width = message["picture"]
                receive(np.frombuffer(self._ring, np.uint8, height * width * 3, offset).reshape(height, width, 3))
                self._send("ack")
            elif "clip" in message:
                return ClipInfo.from_json(message["clip"])
            else:
                raise VideoError(message["error"]["message"], message["error"]["code"])
        raise VideoError(f"the decoder {self._stop()} on this file", "crashed")

    def _resubmit(self) -> None:
        """Give the requests that are still to come to a new worker."""
        rest = list(self.pending)
        self.pending.clear()
        for request in rest:
            self.submit(request)

    def _end_worker(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._stop()

    def close(self) -> None:
        """End the worker."""
        self.pending.clear()
        self._end_worker()
        if not self._closed:
            self._closed = True
            os.close(self._ring_file)
            with suppress(BufferError):  # a traceback may still hold a picture: the ring goes with it
                self._ring.close()

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # it may not even have been made
            self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", _BOOT, str(self._ring_file), *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._ring_file],
        )

    def _send(self, line: str) -> None:
        assert self._worker is not None
        requests = cast("IO[bytes]", self._worker.stdin)
        with suppress(BrokenPipeError):  # it died; collect() finds its replies ended
            requests.write(line.encode("ascii") + b"\n")
            requests.flush()

    def _stop(self) -> str:
        """Reap a worker that ended → how it ended."""
        assert self._worker is not None
        worker, self._worker = self._worker, None
        for pipe in (worker.stdin, worker.stdout):
            with suppress(BrokenPipeError):  # unsent bytes for a dead worker
                cast("IO[bytes]", pipe).close()
        status = worker.wait()
        return f"crashed ({signal.Signals(-status).name})" if status < 0 else f"ended early (status {status})"


def _anonymous_file() -> int:
    """A file without a name, which no crash can leave behind."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("xclip-pictures")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    # Where stdin or stdout is closed its number is free, and the worker's pipes would take it.
    above = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return above


def serve(ring_file: int) -> None:
    """The worker's whole life: decode one request after another until stdin ends."""
    from .video import read_clip

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    replies = os.fdopen(os.dup(1), "wb")
    with suppress(OSError):  # stderr may be closed
        os.dup2(2, 1)  # nothing that a library prints may look like a reply
    server = _Server(mmap.mmap(ring_file, RING_BYTES), sys.stdin.buffer, replies)
    while request := server.next_request():
        try:
            server.reply({"clip": asdict(read_clip(request, server.put))})
        except VideoError as error:
            server.reply({"error": {"code": error.code, "message": str(error)}})
        except Exception as error:  # a bug, or a library's surprise: it costs this video only
            server.reply({"error": {"code": "crashed", "message": f"the decoder failed on this file: {error!r}"}})


class _Server:
    """The worker's side: requests come in, pictures go into the ring behind each other, the parent frees the oldest."""

    def __init__(self, memory: mmap.mmap, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._ring = np.frombuffer(memory, np.uint8)
        self._incoming = incoming
        self._outgoing = outgoing
        self._requests: deque[ClipRequest] = deque()
        self._held: deque[tuple[int, int]] = deque()  # start and end of each picture not yet freed, oldest first

    def next_request(self) -> ClipRequest | None:
        """The next request; None when the parent is done."""
        while not self._requests:
            if not self._listen():
                return None
        return self._requests.popleft()

    def put(self, picture: Picture) -> None:
        """Copy a picture in, waiting for room, and tell the parent."""
        if picture.nbytes > RING_BYTES:
            raise VideoError(f"a frame of {picture.shape[1]}x{picture.shape[0]} pixels is too large", "limit")
        while (offset := self._room(picture.nbytes)) is None:
            if not self._listen():
                raise SystemExit  # the parent is gone
        end = offset + picture.nbytes
        self._ring[offset:end].reshape(picture.shape)[:] = picture
        self._held.append((offset, end))
        self.reply({"picture": [offset, *picture.shape[:2]]})

    def reply(self, message: dict[str, Any]) -> None:
        """Send one line to the parent."""
        try:
            self._outgoing.write(json.dumps(message).encode("ascii") + b"\n")
            self._outgoing.flush()
        except BrokenPipeError:
            os._exit(0)  # the parent is gone, and nobody is left to tell

    def _listen(self) -> bool:
        """Take in one line from the parent; False when there will be no more."""
        line = self._incoming.readline()
        if line == b"ack\n":
            self._held.popleft()
        elif line:
            self._requests.append(ClipRequest.from_json(json.loads(line)))
        return bool(line)

    def _room(self, size: int) -> int | None:
        """Where ``size`` bytes fit: at the front when all is free, else behind the newest, else before the oldest."""
        if not self._held:
            return 0
        oldest, newest_end = self._held[0][0], self._held[-1][1]
        if newest_end > oldest:
            if newest_end + size <= RING_BYTES:
                return newest_end
            return 0 if size <= oldest else None
        return newest_end if newest_end + size <= oldest else None
