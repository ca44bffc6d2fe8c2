"""All windows of an index, ranked for a few texts, or for an example: batches of its rows, a lane each, in bounded
memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .batches import in_lanes
from .encoder import Encoder
from .stored import to_tensors

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Scores = npt.NDArray[np.float32]

TOKENS_AT_ONCE = {"cpu": 1 << 12, "cuda": 1 << 17}  # of a batch: on a CPU it stays in its caches
CLOSE_ENOUGH = 100_000  # windows: of more, only candidates are looked at exactly
LEAST_CANDIDATES = 1000
CANDIDATES = 0.1  # of all windows


def rows_at_once(encoder: Encoder) -> int:
    """Rows of a batch."""
    return max(1, TOKENS_AT_ONCE[encoder.device.type] // encoder.config.vision_config.num_patches)


def text_logits(
    encoder: Encoder, texts: Tensor, blocks: Iterable[tuple[Any, ...]], deltas: Tensor | None = None
) -> Scores:
    """Text features [K, P] against all rows, given in blocks of arrays as they lie in an index → logits [K, rows].
    ``deltas`` [K, P]: those of a head."""

    def compute(block: Any) -> Tensor:
        features, tokens, scales = block
        found = to_tensors(features, tokens, scales, encoder.dtype, encoder.device)
        return encoder.similarity(texts, *found, deltas).float().cpu()

    return _joined(in_lanes(encoder, compute, blocks), len(texts))


def cosines(encoder: Encoder, directions: Tensor, blocks: Iterable[tuple[Any, ...]]) -> Scores:
    """Vectors [K, P] against the video features of all rows, tokens left alone → cosines [K, rows]."""
    wanted = torch.nn.functional.normalize(directions.float(), dim=-1)

    def compute(block: Any) -> Tensor:
        features = torch.from_numpy(block[0]).to(encoder.device)
        return (torch.nn.functional.normalize(features, dim=-1) @ wanted.T).cpu()

    return _joined(in_lanes(encoder, compute, blocks), len(directions))


def candidates(rough: Scores) -> npt.NDArray[np.bool_]:
    """Which of the windows [K, N] with these rough scores are looked at exactly: the best of each text."""
    count = min(rough.shape[1], max(LEAST_CANDIDATES, int(rough.shape[1] * CANDIDATES)))
    chosen = np.zeros(rough.shape[1], bool)
    for scores in rough:
        chosen[np.argpartition(-scores, count - 1)[:count]] = True
    return chosen


@contextmanager
def one_thread() -> Iterator[None]:
    """For computations so small that threads would wait for each other longer than they compute."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _joined(parts: Iterable[Tensor], count: int) -> Scores:
    """What was made [rows, K] of each block, one after the other → [K, rows]."""
    found = [part.numpy() for part in parts]
    return np.concatenate(found).T if found else np.empty((count, 0), np.float32)
