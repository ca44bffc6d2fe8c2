"""What a GPU computes in one kernel where torch has several: CUDA C++, which NVRTC compiles at the first use.

The libraries that this takes come with torch; no compiler need be installed. torch keeps what was compiled in the
user's cache. These kernels are for inference: they have no gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor

# The arithmetic is float32's, whatever the numbers are kept in.
QUICK_GELU = """
template <typename T> T quick_gelu(T x) {
    float wide = x;
    return wide / (1.0f + expf(-1.702f * wide));
}
"""


def takes_kernels(x: Tensor) -> bool:
    """Whether a tensor is one that such kernels compute: on an NVIDIA GPU, of at most float32."""
    return x.is_cuda and torch.version.hip is None and x.dtype != torch.float64


@cache
def quick_gelu_kernel() -> Callable[[Tensor], Tensor]:
    """CLIP's approximation of GELU in one pass over memory in the place of three."""
    made: Any = torch.cuda.jiterator._create_jit_fn(QUICK_GELU)
    return made  # type: ignore[no-any-return]
