"""A request on its way through the decoders, and what a worker may say of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from ..errors import VideoError
from .limits import Limits
from .protocol import BrokenWorkerError
from .sampling import ClipInfo, ClipRequest

MOST_RESTARTS = 4  # of a request: a seek that fails is one

T = TypeVar("T")


@dataclass
class Pending(Generic[T]):
    """A request and what has come of it so far."""

    request: ClipRequest
    threads: int
    limits: Limits
    pictures: list[T] = field(default_factory=list)  # those that clips to come may need
    dropped: int = 0  # pictures that came before them
    restarts: int = 0
    windows: int = 0  # clips that came
    following: int | None = None  # clips that are to come; None: nobody has said
    waited: float = 0.0  # seconds, for the worker that has it to say something
    clips: deque[tuple[ClipInfo, list[T]]] = field(default_factory=deque)  # whole and not collected
    error: VideoError | None = None  # after those

    def expect(self, count: int) -> None:
        """Raises BrokenWorkerError if nobody asked for so many more pictures."""
        if len(self.pictures) + count > self.request.most_pictures:
            raise BrokenWorkerError("it sends too many pictures")

    def restart(self) -> None:
        """Forget the pictures so far. Raises BrokenWorkerError if that happens without end."""
        self.restarts += 1
        if self.restarts > MOST_RESTARTS or self.windows:
            raise BrokenWorkerError("it restarts too often")
        self.pictures.clear()

    def add(self, clip: ClipInfo) -> None:
        """Take in a clip with its pictures; no later one needs a picture from before its first.

        Raises BrokenWorkerError if its pictures are not there, or as many are to follow as should not.
        """
        used = sorted(set(clip.places))
        if not 0 <= used[0] - self.dropped <= used[-1] - self.dropped < len(self.pictures):
            raise BrokenWorkerError("it names pictures that it has not sent")
        if self.following is not None and clip.following != self.following - 1:
            raise BrokenWorkerError(f"it says that {clip.following} windows follow, but said {self.following} before")
        pictures = [self.pictures[place - self.dropped] for place in used]
        self.clips.append((replace(clip, places=tuple(used.index(place) for place in clip.places)), pictures))
        del self.pictures[: used[0] - self.dropped]
        self.dropped, self.following = used[0], clip.following
        self.windows += 1
