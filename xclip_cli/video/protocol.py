"""What passes between the parent (pool) and its decode workers (worker), and what the parent believes of it.

For each worker the parent owns a ring of memory that the worker inherits. Requests and replies are JSON lines on the
worker's stdin and stdout, and the file of each request is passed open, over a socket, so that the worker needs no right
to open any. Pictures cross in the ring, small ones several a line, and the parent frees those of a line when it is done
with them:

    parent → worker   {"num_frames": …, …, "threads": …, "limits": {…}}   a request, and a descriptor
                      ack                                             the pictures of the oldest line are free
    worker → parent   {"pictures": [[offset, height, width], …]}
                      {"alive": true}                                 now and then, as packets are read
                      {"restart": true}                               the pictures of this request so far are void
                      {"clip": {…}}                                   one a window; its "following" is how many more
                      {"error": {"code": …, "message": …}}            instead of those that would follow
                      {"retired": true}                               it does no more: give its requests to another

Of a request with many windows, the parent holds the pictures that windows to come may need, and a few clips that nobody
has collected: beyond those it stops listening, and the worker waits.

FFmpeg has bugs, and a file may have taken a worker over: nothing that a worker says is believed without a look at it.
What no worker of ours would say is a ``BrokenWorkerError``, which costs the video that it was said of, and the worker.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import fields
from typing import Any, NamedTuple

from ..errors import VideoError
from ..text import printable
from .limits import Limits
from .sampling import ClipInfo, ClipRequest

ACK = b"ack\n"
NOTE_BYTES = 8  # after the pictures of a ring: the most address space that its worker ever had
MOST_HELD = (
    256  # pictures in a ring: their acks fit into the smallest pipe, so that the parent never waits for a worker
)
TOGETHER_BYTES = 1 << 21  # of pictures that share a line: those of a small clip do, a larger one is received meanwhile
LONGEST_TEXT = 1000  # characters, of a message or warning
MOST_WARNINGS = 20
BYTES_A_FRAME = 40  # of a clip's line, at most: a time and a place
MOST_WINDOWS = 1 << 40
_SURPRISES = (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError)  # of odd JSON
_FIELDS = {one.name for one in fields(ClipInfo)}


class BrokenWorkerError(Exception):
    """A worker said what none of ours would: something else speaks in its place."""


class Place(NamedTuple):
    """Where a picture lies in the ring."""

    offset: int
    height: int
    width: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.height * self.width * 3


class Restart:
    """The pictures so far are void."""


class Alive:
    """There is progress."""


class Retired:
    """The worker does no more."""


Reply = list[Place] | ClipInfo | VideoError | Restart | Alive | Retired
_SIGNS: dict[str, Reply] = {"restart": Restart(), "alive": Alive(), "retired": Retired()}


def line(message: dict[str, Any]) -> bytes:
    """A message as one line."""
    return json.dumps(message).encode("ascii") + b"\n"


def request_line(request: ClipRequest, threads: int, limits: Limits) -> bytes:
    """A request without its path, the threads to decode it with and its limits, as one line."""
    return line({**request.to_json(), "path": "", "threads": threads, "limits": vars(limits)})


def read_request(text: bytes, descriptor: int) -> tuple[ClipRequest, int, Limits]:
    """Back from that line, for a file that is open as ``descriptor``."""
    values = json.loads(text)
    threads, limits = values.pop("threads"), Limits(**values.pop("limits"))
    return ClipRequest.from_json({**values, "descriptor": descriptor}), threads, limits


def longest_line(request: ClipRequest | None) -> int:
    """How many bytes of a reply there may be without an end of the line."""
    texts = (MOST_WARNINGS + 2) * LONGEST_TEXT * 6  # as JSON in ASCII
    return texts + BYTES_A_FRAME * (request.frames if request else 0)


def read_reply(text: bytes, request: ClipRequest, ring_bytes: int) -> Reply:
    """What a worker says of a request, checked as far as it can be on its own. Raises BrokenWorkerError."""
    try:
        message = json.loads(text)
        ((kind, value),) = message.items()
        if kind == "pictures":
            _require(type(value) is list and 1 <= len(value) <= MOST_HELD)
            return [_place(place, ring_bytes) for place in value]
        if kind == "clip":
            return _clip(value, request)
        if kind == "error":
            return _error(**value)
        _require(value is True)
        return _SIGNS[kind]
    except _SURPRISES as error:
        raise BrokenWorkerError(f"it says {text[:80]!r}") from error


def read_error(text: bytes) -> VideoError:
    """What a process says has gone wrong, as JSON with ``code`` and ``message``. Raises BrokenWorkerError."""
    try:
        return _error(**json.loads(text))
    except _SURPRISES as error:
        raise BrokenWorkerError(f"it says {text[:80]!r}") from error


def _require(fact: bool) -> None:
    if not fact:
        raise ValueError


def _whole(value: Any, least: int, most: int) -> int:
    _require(type(value) is int and least <= value <= most)
    return int(value)


def _seconds(value: Any) -> float:
    _require(type(value) is float and math.isfinite(value))
    return float(value)


def _text(value: Any) -> str:
    _require(type(value) is str and len(value) <= LONGEST_TEXT)
    return printable(value)


def _place(value: Any, ring_bytes: int) -> Place:
    _require(type(value) is list)
    offset, height, width = value
    place = Place(_whole(offset, 0, ring_bytes), _whole(height, 1, ring_bytes), _whole(width, 1, ring_bytes))
    _require(place.offset + place.size <= ring_bytes)
    return place


def _error(code: Any, message: Any) -> VideoError:
    _require(type(code) is str and re.fullmatch("[a-z_]{1,20}", code) is not None)
    return VideoError(_text(message), code)


def _rate(value: Any) -> str:
    _require(type(value) is str and re.fullmatch(r"[1-9]\d{0,9}(/[1-9]\d{0,9})?", value, re.ASCII) is not None)
    return str(value)


def _clip(value: Any, request: ClipRequest) -> ClipInfo:
    _require(value.keys() == _FIELDS)
    times, places, warnings, lost = (value[name] for name in ("times_seconds", "places", "warnings", "lost"))
    _require(all(type(given) is list for given in (times, places, warnings)))
    _require(len(times) == len(places) == request.frames and len(warnings) <= MOST_WARNINGS)
    many = request.length is not None
    start, end, seconds = (_seconds(value[name]) for name in ("start_seconds", "end_seconds", "seconds"))
    _require(0 <= start <= end and seconds >= 0 and (many or lost is None))
    return ClipInfo(
        start_seconds=start,
        end_seconds=end,
        times_seconds=tuple(map(_seconds, times)),
        places=tuple(_whole(place, 0, MOST_WINDOWS * request.frames) for place in places),
        errors=_whole(value["errors"], 0, MOST_WINDOWS),
        warnings=tuple(map(_text, warnings)),
        following=_whole(value["following"], 0, MOST_WINDOWS if many else 0),
        rate=None if value["rate"] is None else _rate(value["rate"]),
        lost=None if lost is None else _text(lost),
        seconds=seconds,
    )
