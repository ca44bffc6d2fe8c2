"""Threads that receive pictures: those of several decode workers at the same time."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from .sampling import Picture

T = TypeVar("T")


class Receivers(Generic[T]):
    """A few threads that call ``receive`` with pictures. Once nothing more is to be done, they end with the program."""

    def __init__(self, receive: Callable[[Picture], T], threads: int) -> None:
        self._receive = receive
        self._threads = ThreadPoolExecutor(threads, "xclip-receive")
        self.done, self._waker = socket.socketpair()  # readable when a thread was done, until ``clear``
        self._waker.setblocking(False)

    def start(self, pictures: Iterator[Picture]) -> Future[list[T]]:
        """Have pictures received, one after the other, in one of the threads."""
        receive, waker = self._receive, self._waker
        received = self._threads.submit(lambda: [receive(picture) for picture in pictures])
        received.add_done_callback(lambda _: _wake(waker))
        return received

    def clear(self) -> None:
        """Wait for the next that is done from here on."""
        self.done.recv(1 << 12)

    def close(self) -> None:
        """Wait for what is being received, and end the threads."""
        self._threads.shutdown(cancel_futures=True)
        self.done.close()
        self._waker.close()


def _wake(waker: socket.socket) -> None:
    with suppress(BlockingIOError):  # full: it wakes already
        waker.send(b"x")
