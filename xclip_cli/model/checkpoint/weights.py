"""A checkpoint's weight files → a model's parameters. No pickle is ever executed.

Weight files may come from strangers: how much they hold is known, and bounded by their size, before any of it is read.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from safetensors import safe_open
from torch import Tensor, nn

from ...errors import ModelError
from ...text import listed, one_line
from .files import find_weight_files, read_header
from .pickles import STATE_DICT_NAMES, Inert, TorchFile, entries_of, stored_tensors

IGNORED_SUFFIX = "embeddings.position_ids"  # buffers in files of 2022: plain counting, never a parameter
SHOWN_NAMES = 4
MAPPED_BYTES = 1 << 26  # of a weight file at a time
DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)  # of weights; quantised ones need a scale

Shapes = Mapping[str, tuple[int, ...]]  # of tensors, by name


STRICT: frozenset[str] = frozenset()  # what of a LoadingInfo is tolerated: nothing


@dataclass(frozen=True)
class LoadingInfo:
    """How the tensors of a file compare with those of a model."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    mismatched: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()  # name, shape in the file, in the model

    @classmethod
    def of(cls, wanted: Shapes, found: Shapes) -> Self:
        """Compare a model's tensors with those of a file, by the same names."""
        shared = sorted(wanted.keys() & found.keys())
        return cls(
            tuple(sorted(wanted.keys() - found.keys())),
            tuple(sorted(found.keys() - wanted.keys())),
            tuple((name, found[name], wanted[name]) for name in shared if wanted[name] != found[name]),
        )

    def without(self, kinds: frozenset[str]) -> LoadingInfo:
        """The same, with nothing of these kinds: "missing", "unexpected", "mismatched"."""
        return replace(self, **dict.fromkeys(kinds, ()))

    def fits(self, name: str) -> bool:
        """Whether a tensor of the file can be given to the model."""
        return name not in self.unexpected and all(name != other for other, _, _ in self.mismatched)

    def describe(self, title: str = "of another shape, initialised", says: str = "the model's is") -> str:
        """All of it in a line, empty if all fit.

        ``title`` begins the list of other shapes, and ``says`` comes before what each should be.
        """
        faults = []
        if self.missing:
            faults.append(f"missing {listed(self.missing, SHOWN_NAMES, one_line)}")
        if self.unexpected:
            faults.append(f"unexpected {listed(self.unexpected, SHOWN_NAMES, one_line)}")
        if self.mismatched:
            shown = [f"{name} is {list(found)}, {says} {list(wanted)}" for name, found, wanted in self.mismatched]
            faults.append(f"{title}: {listed(shown, SHOWN_NAMES, one_line)}")
        return "; ".join(faults)

    def as_dict(self) -> dict[str, list[Any]]:
        """As the Hugging Face library gives it."""
        return {
            "missing_keys": list(self.missing),
            "unexpected_keys": list(self.unexpected),
            "mismatched_keys": list(self.mismatched),
            "error_msgs": [],
        }


class TensorFile(Protocol):
    """An open weight file: what it holds is known before anything is read."""

    shapes: dict[str, tuple[int, ...]]

    def tensor(self, name: str) -> Tensor:
        """One tensor, mapped from the file."""


class _Safetensors:
    """Mapped anew every ``MAPPED_BYTES``: what was read of a mapping stays in memory as long as it is open."""

    def __init__(self, path: Path) -> None:
        read_header(path)  # bounded, no name twice; all else of the header is checked by the library
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
    """``pytorch_model.bin``: plain tensors by name."""

    def __init__(self, path: Path) -> None:
        file = TorchFile.open(path)
        if strange := sorted(file.names - STATE_DICT_NAMES):
            raise ModelError(f"{path} contains more than weights: it asks for {strange[0]}, which weights do not need")
        entries = entries_of(file.value)
        if not entries or not all(
            isinstance(name, str) and isinstance(entry, Inert) for name, entry in entries.items()
        ):
            raise ModelError(f"{path} is not a state dict: it must hold tensors by name and nothing else")
        self._mapped = file.mapped
        self._stored = stored_tensors(file, entries)
        self.shapes = {name: tensor.shape for name, tensor in self._stored.items()}

    def tensor(self, name: str) -> Tensor:
        return self._stored[name].map(self._mapped)


class StoredWeights:
    """The weights of a checkpoint folder: what they are called and how large they are is known, none is read yet."""

    def __init__(self, folder: Path, safetensors: bool | None = None) -> None:
        """``safetensors``: True or False for one format alone. Raises ModelError for a file that is damaged or none."""
        self.folder = folder
        files = find_weight_files(folder, safetensors)
        with _translated_errors(folder):
            opened: list[TensorFile] = [_open(path) for path in files]
        self._home = {name: file for file in opened for name in file.shapes}
        if len(self._home) < sum(len(file.shapes) for file in opened):
            raise ModelError(f"the weights in {folder} hold a tensor in more than one file")

    def dtype(self) -> torch.dtype:
        """Of the first tensor of floating-point numbers. Raises ModelError."""
        with _translated_errors(self.folder):
            dtypes = (file.tensor(name).dtype for name, file in self._home.items())
            return next((dtype for dtype in dtypes if dtype in DTYPES), torch.float32)

    def check_layers(self, stacks: dict[str, int]) -> None:
        """Make sure that each stack has so many layers here, before a model of that many is built. Raises ModelError.

        A stack of which nothing is here is left to ``load``, which says what is missing.
        """
        for stack, expected in stacks.items():
            layer = re.compile(rf"{re.escape(stack)}\.(\d+)\.")
            tower_layer = re.compile(rf"{re.escape(stack.partition('.')[2])}\.(\d+)\.")
            found = {match[1] for name in self._home if (match := layer.match(name) or tower_layer.match(name))}
            if found and len(found) != expected:
                raise ModelError(
                    f"the weights in {self.folder} do not fit their config.json: {stack} are {len(found)} layers, "
                    f"config.json says {expected}"
                )

    def load(
        self,
        model: nn.Module,
        dtype: torch.dtype,
        device: torch.device,
        wanted: Callable[[str], bool] = lambda name: True,
        tolerated: frozenset[str] = STRICT,
    ) -> LoadingInfo:
        """Give a model these weights, which is best built on the meta device.

        Parameters whose names are not ``wanted`` stay as they are, and theirs are never read. Names and shapes are all
        checked before the first tensor is read. Raises ModelError that names what is missing, unexpected, mismatched,
        unless that is ``tolerated``, or no finite number; the model is then as it was.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        names = _own_names(list(self._home), shapes, getattr(model, "prefix", ""))
        found = {own: self._home[name].shapes[name] for own, name in names.items()}
        info = LoadingInfo.of(shapes, found)
        if faults := info.without(tolerated).describe("wrong shape", "config.json says"):
            raise ModelError(f"the weights in {self.folder} do not fit their config.json: {faults}")
        with _translated_errors(self.folder):
            state = {
                own: converted(self.folder, name, self._home[name].tensor(name), dtype, device)
                for own, name in names.items()
                if wanted(own) and info.fits(own)
            }
        model.load_state_dict(state, assign=True, strict=False)  # those not wanted are missing
        return info


def converted(source: Path, name: str, stored: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """A weight of ``source`` in another dtype, on a device: finite numbers alone, also in that dtype. Raises
    ModelError."""
    if stored.dtype not in DTYPES:
        raise ModelError(f"the weights in {source} are unusable: {one_line(name)} is of {stored.dtype}")
    tensor = stored.to(device=device, dtype=dtype)
    if _is_finite(tensor):
        return tensor
    if _is_finite(stored):
        raise ModelError(
            f"the weights in {source} do not fit into {dtype}: {one_line(name)} has larger numbers; use another dtype"
        )
    raise ModelError(f"the weights in {source} are damaged: {one_line(name)} has values that are not finite numbers")


def _is_finite(tensor: Tensor) -> bool:
    """NaN and infinities show in the smallest and largest: 20 times faster than ``isfinite``, and without memory."""
    return all(math.isfinite(value) for value in tensor.aminmax())


def _open(path: Path) -> TensorFile:
    return _Safetensors(path) if path.suffix == ".safetensors" else _Pickled(path)


def _own_names(names: list[str], wanted: Iterable[str], prefix: str) -> dict[str, str]:
    """The model's names of a checkpoint's tensors, each with the checkpoint's name of it.

    A tower, whose names begin with ``prefix``, loads from a whole model's files (the rest is left out) and from files
    that lack the prefix.
    """
    names = [name for name in names if not name.endswith(IGNORED_SUFFIX)]
    if any(name.startswith(prefix) for name in names):
        own = set(wanted)
        return {name: name for name in names if name.startswith(prefix) or name in own}
    return {prefix + name: name for name in names}


def misfits(wanted: Shapes, found: Shapes, title: str, says: str) -> str:
    """What is missing, unexpected or of another shape among tensors; empty if all fit. As ``describe``."""
    return LoadingInfo.of(wanted, found).describe(title, says)


@contextmanager
def _translated_errors(folder: Path) -> Iterator[None]:
    """Errors of the libraries that read weight files, as a ModelError."""
    try:
        yield
    except ModelError:
        raise
    except torch.OutOfMemoryError as error:
        raise ModelError(f"the model in {folder} does not fit into the device's memory: {one_line(error)}") from error
    except Exception as error:  # what damaged files raise is documented as open
        raise ModelError(f"cannot read the weights in {folder}: {one_line(error)}") from error
