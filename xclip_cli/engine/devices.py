"""Where a model runs and in which precision. Importing this imports no torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import XClipError

if TYPE_CHECKING:
    import torch

AUTO = "auto"
DTYPES = (AUTO, "float32", "bfloat16", "float16")


def choose_device(name: str) -> torch.device:
    """The device called ``name``; for auto the first CUDA device if there is one. Raises XClipError."""
    import torch

    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise XClipError(f"unknown device {name!r}: give auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise XClipError(f"unknown device {name!r}: give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise XClipError(f"there is no device {name}: torch sees {torch.cuda.device_count()} CUDA devices; use cpu")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called ``name``; for auto bfloat16 where the device computes it natively, else float32."""
    import torch

    if name == AUTO:
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as it is written in flags and records."""
    return str(dtype).removeprefix("torch.")


def dtype_misfits(dtype: torch.dtype, device: torch.device) -> Iterator[str]:
    """What speaks against computing in ``dtype`` on ``device``."""
    import torch

    if dtype == torch.float16 and device.type == "cpu":
        yield "float16 is slow on a CPU and can overflow: bfloat16 or float32 fit better"
    if dtype == torch.bfloat16 and not _computes_bfloat16(device):
        yield "this hardware only emulates bfloat16: float32 is faster and more exact"


def measured_macs_per_second(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """How fast the device multiplies matrices of a transformer's size: for estimates."""
    import torch

    a, b = torch.ones(size, size, dtype=dtype, device=device), torch.ones(size, size, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        float((a @ b)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - began)
    return size**3 / best


def _computes_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively; emulation is slower than float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
