"""What passes between the parent (pool) and its decode workers (worker).

For each worker the parent owns a ring of memory that the worker inherits. Requests and replies are JSON lines on the
worker's stdin and stdout; pictures cross in the ring, one at a time, and the parent frees each when it is done with it:

    parent → worker   {"path": …, "num_frames": …, …, "threads": …, "limits": {…}}   a request
                      ack                                             the oldest picture is free
    worker → parent   {"picture": [offset, height, width]}
                      {"alive": true}                                 now and then, as packets are read
                      {"restart": true}                               the pictures of this request so far are void
                      {"clip": {…}}                                   one a window; its "following" is how many more
                      {"error": {"code": …, "message": …}}            instead of those that would follow
                      {"retired": true}                               it does no more: give its requests to another

Of a request with many windows, the parent holds the pictures that windows to come may need, and a few clips that nobody
has collected: beyond those it stops listening, and the worker waits.
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from dataclasses import asdict
from typing import Any

from .limits import Limits
from .sampling import ClipRequest

ACK = b"ack\n"
NOTE_BYTES = 8  # after the pictures of a ring: the most address space that its worker ever had


def line(message: dict[str, Any]) -> bytes:
    """A message as one line."""
    return json.dumps(message).encode("ascii") + b"\n"


def request_line(request: ClipRequest, threads: int, limits: Limits) -> bytes:
    """A request, the threads to decode it with and its limits, as one line."""
    return line({**request.to_json(), "threads": threads, "limits": asdict(limits)})


def read_request(text: bytes) -> tuple[ClipRequest, int, Limits]:
    """Back from that line."""
    values = json.loads(text)
    threads, limits = values.pop("threads"), Limits(**values.pop("limits"))
    return ClipRequest.from_json(values), threads, limits


def anonymous_file() -> int:
    """A file without a name, which no crash can leave behind → its descriptor. It is in memory where the system has
    that and lets us, else in the folder for temporary files. Raises OSError."""
    try:
        descriptor = os.memfd_create("xclip")
    except (AttributeError, OSError):  # another system, or one that was told to refuse it
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    # Where stdin or stdout is closed its number is free, and the worker's pipes would take it.
    above = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return above
