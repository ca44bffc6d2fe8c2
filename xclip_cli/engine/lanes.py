"""Lanes: what computes batches, each in a thread of its own.

On a CPU a lane is a share of the threads. On a GPU it is a stream: while one lane cuts and uploads a batch, or waits
for its results, another's batch computes. Small batches, whose kernels take longer to start than to run, are recorded
as graphs where their shapes repeat.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from ..errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor

    Compute = Callable[[Tensor], tuple[Tensor, Tensor]]

T = TypeVar("T")

LANES_A_GPU = 2
MOST_LANES = 16  # of a CPU
SHARE_OF_MEMORY = 0.8  # of what is free on a GPU
KEPT_BYTES = (1 << 25) - (1 << 13)  # of a CPU's memory, at most: glibc's own limit, with room for its notes
GRAPHS = 8  # that a lane keeps, a shape each

_log = logging.getLogger(__name__)
_recording = threading.Lock()  # a process records one graph at a time


class Lanes:
    """The lanes on some devices, one for each thread that computes there; ``compute`` is what they do with a tensor."""

    def __init__(self, devices: Sequence[torch.device], compute: Compute) -> None:
        self.devices = devices
        self.most = sys.maxsize  # clips that any of the devices has memory for at once
        self._compute = compute
        self._of_runs: list[Lane] = []  # the same in each run, for the sake of their graphs
        self._thread = threading.local()
        self._short = False  # of memory, which was said
        self._shrinking = threading.Lock()

    def count(self, threads: int) -> int:
        """How many lanes keep the devices busy, where the CPU's have so many ``threads`` to share."""
        on_gpu = self.devices[0].type == "cuda"
        return LANES_A_GPU * len(self.devices) if on_gpu else min(threads, MOST_LANES)

    def of_a_run(self, count: int) -> list[Lane]:
        """Lanes for threads of a run to enter, on several GPUs in turn."""
        for number in range(len(self._of_runs), count):
            device = self.devices[number % len(self.devices)]
            self._of_runs.append(Lane(device, self._compute, own_stream=True))
        return self._of_runs[:count]

    def enter(self, lane: Lane, threads: int) -> None:
        """Have the current thread work in a lane, on a CPU with so many ``threads``."""
        self._thread.lane = lane
        lane.enter(threads)

    @property
    def here(self) -> Lane:
        """The current thread's; one that entered none has its own on the first device."""
        if not hasattr(self._thread, "lane"):
            self._thread.lane = Lane(self.devices[0], self._compute)
        lane: Lane = self._thread.lane
        return lane

    def measure(self, device: torch.device, bytes_a_clip: int) -> None:
        """See how many clips a device has memory for, beside its weights."""
        if device.type == "cuda":
            room = SHARE_OF_MEMORY * free_bytes(device) / LANES_A_GPU
            self.most = max(1, min(self.most, int(room / bytes_a_clip)))

    def fitted(self, compute: Callable[[], T], clips: Callable[[], int]) -> T:
        """What ``compute`` returns, which computes so many ``clips`` at once, and no more than ``most``.

        Where a GPU has too little memory, that is halved, and all is computed again. Raises ModelError if that is no
        help.
        """
        while True:
            at_once = clips()  # another lane may make it less meanwhile
            try:
                return compute()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(at_once, error)
            self.here.make_room()  # not above: an error holds on to what was computed before it

    def _halve(self, clips: int, error: RuntimeError) -> None:
        device = self.here.device
        if clips == 1:
            raise ModelError(
                f"{device} has too little free memory for one clip: free some, or choose another device with --device"
            ) from error
        with self._shrinking:
            first, self._short = not self._short, True
            self.most = min(self.most, clips // 2)
        if first:
            _log.warning("%s is short of memory: computing %d clips at once, not %d", device, clips // 2, clips)


class Lane:
    """A device, what is computed of a tensor there, and on a GPU the graphs of it.

    ``own_stream``: a GPU does what the lane asks for beside what other threads do.
    """

    def __init__(self, device: torch.device, compute: Compute, own_stream: bool = False) -> None:
        self.device = device
        self.on_gpu = device.type == "cuda"
        self._compute = compute
        self._graphs = Graphs(compute) if self.on_gpu else None
        self._stream = _stream(device) if self.on_gpu and own_stream else None

    def enter(self, threads: int) -> None:
        """Have the current thread work in this lane, on a CPU with so many ``threads``."""
        torch.set_num_threads(1 if self.on_gpu else threads)
        if not self.on_gpu:
            # glibc keeps what is freed for later, up to the size of the largest block that it ever gave back to the
            # system: what comes from there anew is cleared first, page by page.
            torch.empty(KEPT_BYTES, dtype=torch.uint8)
        if self._stream is not None:
            torch.cuda.set_device(self.device)
            self._stream.wait_stream(torch.cuda.default_stream(self.device))  # the weights came on that
            torch.cuda.set_stream(self._stream)

    def compute(self, given: Tensor, small: bool) -> tuple[Tensor, Tensor]:
        """What is computed of a tensor from anywhere; of a ``small`` one perhaps by a graph."""
        there = given.to(self.device, non_blocking=True)
        return self._graphs(there) if self._graphs is not None and small else self._compute(there)

    def own(self, *made: Tensor) -> list[Tensor]:
        """Tensors that any lane made, on this one's device."""
        return [tensor.to(self.device) for tensor in made]

    def hand_over(self, *made: Tensor) -> None:
        """Wait until all is computed. Tensors that were ``made`` here are for other threads to use from now on."""
        if self._stream is not None:
            for tensor in made:
                tensor.record_stream(torch.cuda.default_stream(self.device))
            self._stream.synchronize()

    def make_room(self) -> None:
        """Give back the memory that is kept for later; a GPU that was full is no place for graphs."""
        if self.on_gpu:
            self._graphs = None
            with _recording:
                torch.cuda.empty_cache()


class Graphs:
    """A computation that is recorded when a shape comes for the second time, and from then on started as a whole."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self._seen: set[torch.Size] = set()
        self._replays: dict[torch.Size, Compute] = {}
        self._place: tuple[torch.cuda.Stream, Any] | None = None  # a stream and the memory of all that are recorded

    def __call__(self, given: Tensor) -> tuple[Tensor, Tensor]:
        """As ``compute``, whose results are the caller's to keep."""
        shape = given.shape
        if shape in self._seen and shape not in self._replays and len(self._replays) < GRAPHS:
            self._replays[shape] = self._replay(given)
        self._seen.add(shape)
        return self._replays.get(shape, self._compute)(given)

    def _replay(self, example: Tensor) -> Compute:
        kept = example.clone()
        start = self._record(lambda: self._compute(kept), example.device)

        def replay(given: Tensor) -> tuple[Tensor, Tensor]:
            kept.copy_(given)
            features, tokens = start()
            return features.clone(), tokens.clone()

        return replay

    def _record(self, run: Callable[[], T], device: torch.device) -> Callable[[], T]:
        """What ``run`` has the GPU do, as a graph → what starts it and gives the results, which the next overwrites."""
        self._place = self._place or (_stream(device), torch.cuda.graph_pool_handle())
        stream, pool = self._place
        graph = torch.cuda.CUDAGraph()
        with _recording, torch.cuda.graph(graph, pool=pool, stream=stream, capture_error_mode="thread_local"):
            made = run()

        def start() -> T:
            graph.replay()
            return made

        return start


def _stream(device: torch.device) -> torch.cuda.Stream:
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU's memory did not suffice. CUDA and cuBLAS say so in words of their own."""
    others = ("CUDA error: out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in others)


def free_bytes(device: torch.device) -> int:
    """Of a GPU's memory: what nobody holds, and what this process holds and does not use."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
