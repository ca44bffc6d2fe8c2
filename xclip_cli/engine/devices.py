"""Where a model runs and in which precision. Importing this imports no torch."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ..errors import XClipError
from ..text import counted, one_line

if TYPE_CHECKING:
    import torch

AUTO, ALL, INT8 = "auto", "all", "int8"
DEVICES = "auto, cpu, cuda, cuda:N, several CUDA devices (cuda:0,cuda:1), or all"
NO_CUDA = "no CUDA device found: use --device cpu"
DTYPES = (AUTO, "float32", "bfloat16", "float16", INT8)


def choose_devices(name: str) -> tuple[torch.device, ...]:
    """The devices called ``name``: one, or several CUDA devices as a list with commas between them, or as ``all``; for
    auto the current CUDA device if there is one. Raises XClipError."""
    import torch

    count = torch.cuda.device_count()
    if name == AUTO:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == ALL:
        if not count:
            raise XClipError(NO_CUDA)
        return tuple(torch.device("cuda", index) for index in range(count))
    found = tuple(_device(part, count) for part in name.split(","))
    if len(found) > 1 and (len({*found}) < len(found) or any(device.type == "cpu" for device in found)):
        raise XClipError(f"{one_line(name)} is not a list of different CUDA devices, such as cuda:0,cuda:1")
    return found


def _device(name: str, count: int) -> torch.device:
    """One device; a CUDA device with its number, as its tensors have it."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise XClipError(f"unknown device {name!r}: give {DEVICES}") from error
    if device.type not in ("cpu", "cuda"):
        raise XClipError(f"unknown device {name!r}: give {DEVICES}")
    if device.type == "cpu":
        return torch.device("cpu")
    if (device.index or 0) >= count:
        if not count:
            raise XClipError(NO_CUDA)
        raise XClipError(f"there is no device {name}: PyTorch sees {counted(count, 'CUDA device')}, numbered from 0")
    return device if device.index is not None else torch.device("cuda", torch.cuda.current_device())


def choose_dtype(name: str, *devices: torch.device) -> torch.dtype:
    """The dtype called ``name``; for auto bfloat16 where all the devices compute it natively, else float32. Of int8,
    which is for the linear layers of the vision encoder, the dtype of all else."""
    import torch

    if name == INT8:
        return torch.bfloat16
    if name == AUTO:
        return torch.bfloat16 if all(map(_computes_bfloat16, devices)) else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as it is written in flags and records."""
    return str(dtype).removeprefix("torch.")


def precision_name(name: str, dtype: torch.dtype) -> str:
    """How a precision that was asked for by ``name`` is written, where ``dtype`` was chosen for it."""
    return name if name == INT8 else dtype_name(dtype)


def check_precision(name: str, devices: Sequence[torch.device]) -> None:
    """Raises XClipError if the devices cannot run a vision encoder in this precision: int8 needs native products of
    8-bit integers. (Encodings made in int8 can be compared with texts on any device.)"""
    if name != INT8:
        return
    from ..model.int8 import computes_int8

    if any(device.type != "cpu" for device in devices):
        raise XClipError(f"int8 runs on CPUs only, not on {', '.join(map(str, devices))}: use bfloat16 or --device cpu")
    if not computes_int8():
        raise XClipError(
            "int8 needs a CPU with VNNI or AMX instructions and a torch with oneDNN, which are missing here: use "
            "bfloat16 or float32"
        )


def dtype_misfits(precision: str, device: torch.device) -> Iterator[str]:
    """What speaks against computing in a precision on ``device``."""
    if precision == "float16" and device.type == "cpu":
        yield "float16 is slow on a CPU and can overflow: use bfloat16 or float32"
    if precision == "bfloat16" and not _computes_bfloat16(device):
        yield "this hardware only emulates bfloat16: float32 is faster and more accurate"


def measured_macs_per_second(device: torch.device, precision: str, size: int = 1024) -> float:
    """How fast the device multiplies matrices of a transformer's size: for estimates."""
    import torch

    dtype = getattr(torch, precision)
    a, b = torch.ones(size, size, dtype=dtype, device=device), torch.ones(size, size, dtype=dtype, device=device)
    product = torch._int_mm if dtype == torch.int8 else torch.matmul
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        float(product(a, b)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - began)
    return size**3 / best


@contextmanager
def no_garbage_collection() -> Iterator[None]:
    """For an import of very many objects, none of them garbage, through which the collector would go time and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _computes_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively; emulation is slower than float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
