"""The checkpoints of X-CLIP's authors (``.pth`` files of microsoft/VideoX) → our config and weights.

Such a file is a pickle of a training run: the weights under ``model``, beside the optimizer's state and a yacs config.
None of it is run: see ``pickles``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...errors import ModelError
from ...text import listed, one_line
from ..config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from .pickles import LARGEST, Inert, TorchFile, entries_of, stored_tensors
from .weights import SHOWN_NAMES, STRICT, LoadingInfo, Shapes, converted, misfits

LONGEST = 1000  # characters of a text in a training config: one may be in many places
HEAD_WIDTH = 64  # of every attention in the authors' code; the files do not say

WRAPPED = "module."

SIZING = {  # the tensors that all sizes are read from, and their dimensions
    "token_embedding.weight": 2,
    "positional_embedding": 2,
    "transformer.resblocks.0.mlp.c_fc.weight": 2,
    "visual.conv1.weight": 4,
    "visual.positional_embedding": 2,
    "visual.transformer.resblocks.0.mlp.c_fc.weight": 2,
    "mit.positional_embedding": 3,
    "mit.resblocks.0.mlp.c_fc.weight": 2,
}
RENAMED = (  # parts of our names → theirs, applied in this order
    ("text_model.embeddings.token_embedding", "token_embedding"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.encoder.layers", "transformer.resblocks"),
    ("text_model.final_layer_norm", "ln_final"),
    ("text_projection.weight", "text_projection"),
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding", "visual.conv1"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.encoder.layers", "visual.transformer.resblocks"),
    ("vision_model.pre_layernorm", "visual.ln_pre"),
    ("vision_model.post_layernorm", "visual.ln_post"),
    ("visual_projection.weight", "visual.proj"),
    ("prompts_visual_projection", "prompts_visual_proj"),
    ("prompts_visual_layernorm", "prompts_visual_ln"),
    ("prompts_generator.layernorm", "prompts_generator.norm"),
    ("mit.position_embedding", "mit.positional_embedding"),
    ("mit.encoder.layers", "mit.resblocks"),
    ("self_attn", "attn"),
    ("layer_norm", "ln_"),
    ("mlp.fc1", "mlp.c_fc"),
    ("mlp.fc2", "mlp.c_proj"),
)
TRANSPOSED = ("text_projection", "visual.proj")  # but not prompts_visual_proj
PACKED = re.compile(r"(.+\.(?:attn|message_attn)\.)([qkv])_proj\.(weight|bias)")  # theirs: one in_proj of q, k and v


class OriginalWeights:
    """The weights of a ``.pth`` of the authors' code: names and shapes are known, none is read yet.

    Tensors are private maps of the file; some are views that overlap in no element.
    """

    def __init__(self, path: Path) -> None:
        """Raises ModelError if the file cannot be read, or holds something else."""
        self.path = path
        file = TorchFile.open(path)
        self._mapped = file.mapped
        with _translated_misfits(path):
            stored = stored_tensors(file, _state_dict(file.value))
            for name, tensor in stored.items():
                if not tensor.dtype.is_floating_point:
                    raise ValueError(f"{name} is of {tensor.dtype}, expected floating-point numbers")
        # torch's DistributedDataParallel calls the model that it wraps so
        wrapped = all(name.startswith(WRAPPED) for name in stored)
        self._stored = {name.removeprefix(WRAPPED) if wrapped else name: tensor for name, tensor in stored.items()}

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """By the authors' names."""
        return {name: tensor.shape for name, tensor in self._stored.items()}

    def config(self, heads: int | None = None) -> XCLIPConfig:
        """The config that the shapes tell. Heads are the authors', width // 64 everywhere.

        ``heads`` sets those of the MIT and of the prompt generator instead: the conversions of the large models on the
        hub have 8 there, these files mean 12. Raises ModelError.
        """
        with _translated_misfits(self.path):
            return infer_config(self.shapes, heads)

    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return next(iter(self._stored.values())).dtype

    def tensors(self, shapes: Shapes) -> dict[str, Tensor]:
        """The weights of a model whose tensors have these names and shapes, of the file's dtype. Raises ModelError."""
        origins = {name: _Origin.of(name) for name in shapes}
        with _translated_misfits(self.path):
            wanted = {origin.name: origin.shape(shapes[name]) for name, origin in origins.items()}
            if faults := misfits(wanted, self.shapes, "wrong shape by the other tensors", "expected"):
                raise ValueError(faults)
            theirs = {name: tensor.map(self._mapped) for name, tensor in self._stored.items()}
            return {name: origin.take(theirs[origin.name]) for name, origin in origins.items()}

    def load(
        self,
        model: nn.Module,
        dtype: torch.dtype,
        device: torch.device,
        wanted: Callable[[str], bool] = lambda name: True,
        tolerated: frozenset[str] = STRICT,
    ) -> LoadingInfo:
        """Give a model of this file's config these weights; it is best built on the meta device.

        Parameters whose names are not ``wanted`` stay as they are, and theirs are never read. Raises ModelError that
        names what is missing (unless that is ``tolerated``), unexpected, of another shape or no finite number; the
        model is then as it was.
        """
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        found = {name: shape for name, shape in shapes.items() if _Origin.of(name).name in self._stored}
        if "missing" in tolerated:
            info = LoadingInfo.of(shapes, found)
            shapes = found
        else:
            info = LoadingInfo()
        stored = self.tensors(shapes)
        state = {
            name: converted(self.path, name, tensor, dtype, device) for name, tensor in stored.items() if wanted(name)
        }
        model.load_state_dict(state, assign=True, strict=False)  # those not wanted are missing
        return info


@contextmanager
def _translated_misfits(path: Path) -> Iterator[None]:
    """What contradicts an X-CLIP, as a ModelError."""
    try:
        yield
    except (ValueError, RuntimeError) as error:  # torch's own where sizes overflow
        raise ModelError(f"{path} is not an X-CLIP of the authors' code: {one_line(error)}") from error


def infer_config(shapes: Shapes, heads: int | None = None) -> XCLIPConfig:
    """The config of a model whose tensors, by the authors' names, have these shapes. Raises ValueError.

    ``heads`` sets the heads of the MIT and of the prompt generator.
    """
    if missing := [name for name in SIZING if name not in shapes]:
        held = listed(sorted(shapes), SHOWN_NAMES, one_line)
        raise ValueError(f"missing {listed(missing, SHOWN_NAMES)}; it holds {held or 'no tensors'}")
    for name, dimensions in SIZING.items():
        if len(shapes[name]) != dimensions:
            raise ValueError(f"{name} is {list(shapes[name])}, expected {dimensions} dimensions")
    vocabulary, text_width = shapes["token_embedding.weight"]
    vision_width, channels, patch, _ = shapes["visual.conv1.weight"]
    _, frames, width = shapes["mit.positional_embedding"]
    positions = shapes["visual.positional_embedding"][0]
    grid = math.isqrt(positions - 1)  # patches a side, beside the class token
    if grid * grid != positions - 1:
        raise ValueError(f"visual.positional_embedding has {positions} rows, expected 1 more than a square")
    heads = width // HEAD_WIDTH if heads is None else heads
    try:
        return XCLIPConfig(
            text_config=XCLIPTextConfig(
                vocab_size=vocabulary,
                hidden_size=text_width,
                intermediate_size=shapes["transformer.resblocks.0.mlp.c_fc.weight"][0],
                num_hidden_layers=_count(shapes, "transformer.resblocks"),
                num_attention_heads=text_width // HEAD_WIDTH,
                max_position_embeddings=shapes["positional_embedding"][0],
            ),
            vision_config=XCLIPVisionConfig(
                hidden_size=vision_width,
                intermediate_size=shapes["visual.transformer.resblocks.0.mlp.c_fc.weight"][0],
                num_hidden_layers=_count(shapes, "visual.transformer.resblocks"),
                num_attention_heads=vision_width // HEAD_WIDTH,
                mit_hidden_size=width,
                mit_intermediate_size=shapes["mit.resblocks.0.mlp.c_fc.weight"][0],
                mit_num_hidden_layers=_count(shapes, "mit.resblocks"),
                mit_num_attention_heads=heads,
                num_channels=channels,
                image_size=patch * grid,
                patch_size=patch,
                num_frames=frames,
            ),
            projection_dim=width,
            prompt_layers=_count(shapes, "prompts_generator.decoder"),
            prompt_num_attention_heads=heads,
        )
    except ValueError as error:
        raise ValueError(
            f"its sizes do not make a model, with width // {HEAD_WIDTH} heads or those given: {error}"
        ) from error


def training_config(path: Path) -> dict[str, Any]:
    """What a ``.pth`` says of its training, such as ``{"MODEL": {"ARCH": "ViT-B/32"}}``; empty if it says nothing.

    Plain values only: nested dicts, lists, strings, numbers, None. Raises ModelError.
    """
    recorded = entries_of(entries_of(TorchFile.open(path).value).get("config"))
    try:
        return _plain(recorded, set())
    except RecursionError as error:
        raise ModelError(f"the training config in {path} is nested too deeply") from error


def _state_dict(value: Any) -> dict[Any, Any]:
    """The weights in what was saved: under ``model``, or all there is. Raises ValueError."""
    entries = entries_of(value)
    if "model" in entries:
        return entries_of(entries["model"])
    if entries and all(isinstance(entry, Inert) and not entry.entries for entry in entries.values()):
        return entries
    found = listed([key for key in entries if isinstance(key, str)], SHOWN_NAMES, lambda key: one_line(ascii(key)))
    raise ValueError(f"expected weights under 'model', found {found or 'no dict'}")


def _plain(entries: dict[Any, Any], seen: set[int]) -> dict[str, Any]:
    """The plain values among ``entries``. What is in itself, or in two places, is in one only. Raises ModelError."""
    seen.add(id(entries))
    plain: dict[str, Any] = {}
    for key, value in entries.items():
        if not isinstance(key, str) or id(value) in seen:
            continue
        if isinstance(value, list | tuple):
            seen.add(id(value))
            plain[key] = [item for item in value if _is_scalar(item)]
        elif _is_scalar(value):
            plain[key] = value
        elif inner := entries_of(value):
            seen.add(id(value))
            plain[key] = _plain(inner, seen)
    return plain


def _is_scalar(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST
    return value is None or isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST)


@dataclass(frozen=True)
class _Origin:
    """What one of our tensors is made from."""

    name: str  # of the authors' tensor
    third: int | None  # of its rows, where it packs the projections to queries, keys and values
    transposed: bool

    @classmethod
    def of(cls, name: str) -> Self:
        """For our tensor of this name."""
        for ours, theirs in RENAMED:
            name = name.replace(ours, theirs)
        if packed := PACKED.fullmatch(name):
            return cls(f"{packed[1]}in_proj_{packed[3]}", "qkv".index(packed[2]), transposed=False)
        return cls(name, None, transposed=name in TRANSPOSED)

    def shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        """The authors' tensor's, from that of ours."""
        if self.third is not None:
            return (3 * ours[0], *ours[1:])
        return ours[::-1] if self.transposed else ours

    def take(self, theirs: Tensor) -> Tensor:
        """Our tensor, a view of the authors'."""
        if self.third is not None:
            return theirs.chunk(3)[self.third]
        return theirs.T if self.transposed else theirs


def _count(shapes: Shapes, stack: str) -> int:
    """Layers of a stack, by their numbers in the names."""
    layer = re.compile(rf"{re.escape(stack)}\.(\d+)\.")
    return len({match[1] for name in shapes if (match := layer.match(name))})
