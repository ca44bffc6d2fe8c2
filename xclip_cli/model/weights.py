"""A checkpoint's weight files ↔ a model's parameters. No pickle is ever executed."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import ModelError
from .config import CONFIG_NAME
from .files import SAFETENSORS_NAME, find_weight_files

IGNORED_SUFFIX = "embeddings.position_ids"  # buffers in files of 2022: plain counting, never a parameter
TOWERS = ("text_model.", "vision_model.")
SHOWN_NAMES = 4
MAPPED_BYTES = 1 << 26  # of a weight file at a time


class TensorFile(Protocol):
    """An open weight file: what it holds is known before anything is read."""

    shapes: dict[str, tuple[int, ...]]

    def tensor(self, name: str) -> Tensor:
        """One tensor, mapped from the file."""


class _Safetensors:
    """Mapped anew every ``MAPPED_BYTES``: what was read of a mapping stays in memory as long as it is open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = self._open()
        self._read = 0
        self.shapes = {name: tuple(self._file.get_slice(name).get_shape()) for name in self._file.keys()}

    def tensor(self, name: str) -> Tensor:
        if self._read >= MAPPED_BYTES:
            self._file, self._read = self._open(), 0
        tensor: Tensor = self._file.get_tensor(name)
        self._read += tensor.nbytes
        return tensor

    def _open(self) -> Any:
        return safe_open(self._path, framework="pt", device="cpu")


class _Pickled:
    """``pytorch_model.bin``: read with ``weights_only``, so that only tensors and plain containers are built."""

    def __init__(self, path: Path) -> None:
        try:
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            if "mmap" not in str(error):
                raise
            values = torch.load(path, map_location="cpu", weights_only=True)  # torch's format of before 1.6
        if not isinstance(values, dict) or not all(isinstance(value, Tensor) for value in values.values()):
            raise ModelError(f"{path} is not a state dict: it must hold tensors by name and nothing else")
        self._values = values
        self.shapes = {name: tuple(value.shape) for name, value in values.items()}

    def tensor(self, name: str) -> Tensor:
        tensor: Tensor = self._values[name]
        return tensor


def load_weights(
    model: nn.Module,
    folder: Path,
    dtype: torch.dtype,
    device: torch.device,
    wanted: Callable[[str], bool] = lambda name: True,
) -> None:
    """Give a model built on the meta device the weights of a checkpoint folder.

    Parameters whose names are not ``wanted`` stay on the meta device, and theirs are never read. Names and shapes are
    all checked before the first tensor is read. Raises ModelError that names what is missing, unexpected or of another
    shape.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    files = find_weight_files(folder)
    with _translated_errors(folder):
        opened: list[TensorFile] = [_open(path) for path in files]
        home = {name: file for file in opened for name in file.shapes}
        names = _own_names(list(home), shapes)
        _check_fit(folder, shapes, {own: home[name].shapes[name] for own, name in names.items()})
        state = {
            own: home[name].tensor(name).to(device=device, dtype=dtype) for own, name in names.items() if wanted(own)
        }
    model.load_state_dict(state, assign=True, strict=False)  # those not wanted are missing


def save_weights(model: nn.Module, folder: Path) -> None:
    """Write ``model.safetensors``; the file appears only when it is whole.

    A tower's names go without the tower's prefix, as Hugging Face's version 5 has them.
    """
    path = folder / SAFETENSORS_NAME
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        state = model.state_dict()
        prefix = _tower_prefix(state)
        save_file(
            {name.removeprefix(prefix): tensor.detach().cpu().contiguous() for name, tensor in state.items()},
            part,
            metadata={"format": "pt"},
        )
        part.chmod((folder / CONFIG_NAME).stat().st_mode)  # safetensors' own is for the owner alone
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _open(path: Path) -> TensorFile:
    return _Safetensors(path) if path.suffix == ".safetensors" else _Pickled(path)


def _tower_prefix(names: Iterable[str]) -> str:
    """What all names of a tower start with; empty for the whole model."""
    return next((prefix for prefix in TOWERS if all(name.startswith(prefix) for name in names)), "")


def _own_names(names: list[str], wanted: Iterable[str]) -> dict[str, str]:
    """The model's names of a checkpoint's tensors, each with the checkpoint's name of it.

    A tower loads from a whole model's files (the rest is left out) and from files that lack the tower's prefix.
    """
    names = [name for name in names if not name.endswith(IGNORED_SUFFIX)]
    prefix = _tower_prefix(wanted)
    if any(name.startswith(prefix) for name in names):
        return {name: name for name in names if name.startswith(prefix)}
    return {prefix + name: name for name in names}


def _check_fit(folder: Path, wanted: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    faults = []
    if missing := sorted(wanted.keys() - found.keys()):
        faults.append(f"missing {_listed(missing)}")
    if unexpected := sorted(found.keys() - wanted.keys()):
        faults.append(f"unexpected {_listed(unexpected)}")
    differing = [name for name in sorted(wanted.keys() & found.keys()) if wanted[name] != found[name]]
    if differing:
        shown = [f"{name} is {list(found[name])}, config.json says {list(wanted[name])}" for name in differing]
        faults.append(f"wrong shape: {_listed(shown)}")
    if faults:
        raise ModelError(f"the weights in {folder} do not fit their config.json: {'; '.join(faults)}")


def _listed(names: list[str]) -> str:
    more = len(names) - SHOWN_NAMES
    return ", ".join(names[:SHOWN_NAMES]) + (f" and {more} more" if more > 0 else "")


@contextmanager
def _translated_errors(folder: Path) -> Iterator[None]:
    """Errors of the libraries that read weight files, as a ModelError."""
    try:
        yield
    except (SafetensorError, pickle.UnpicklingError, OSError, RuntimeError, EOFError, KeyError, ValueError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise ModelError(f"the model in {folder} does not fit into the device's memory: {error}") from error
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(f"cannot read the weights in {folder}: {first_line}") from error
