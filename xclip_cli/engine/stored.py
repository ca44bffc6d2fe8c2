"""Encodings as arrays that can be kept, and back again. bfloat16, which NumPy lacks, is kept as its bits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

LARGEST_INT8 = 127


def to_arrays(
    features: Tensor, tokens: Tensor, compact: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[Any], npt.NDArray[np.float32] | None]:
    """Features [N, P] and tokens [N, n, P] → features in float32, tokens as the model gave them, and no scales; where
    ``compact``, tokens as int8 and a scale per token [N, n]."""
    kept = features.float().cpu().numpy()
    if compact:
        wide = tokens.float().cpu()
        scales = wide.abs().amax(dim=-1, keepdim=True).clamp_min(1e-30) / LARGEST_INT8
        return kept, (wide / scales).round().to(torch.int8).numpy(), scales.squeeze(-1).numpy()
    if tokens.dtype == torch.bfloat16:
        return kept, tokens.cpu().contiguous().view(torch.int16).numpy().view(np.uint16), None
    return kept, tokens.cpu().numpy(), None


def to_tensors(
    features: npt.NDArray[np.float32],
    tokens: npt.NDArray[Any],
    scales: npt.NDArray[np.float32] | None,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor, Tensor]:
    """Back again: features in float32, tokens in ``dtype``, on a device. What is mapped and of that dtype already is
    not copied."""
    if tokens.dtype == np.uint16:
        kept = torch.from_numpy(tokens.view(np.int16)).view(torch.bfloat16).to(device, dtype)
    elif scales is not None:
        kept = torch.from_numpy(tokens).to(device, dtype) * torch.from_numpy(scales).to(device, dtype)[..., None]
    else:
        kept = torch.from_numpy(tokens).to(device, dtype)
    return torch.from_numpy(features).to(device), kept
