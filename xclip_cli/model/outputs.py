"""What the models return: read by attribute, by key, or as a tuple of the parts that are there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from torch import Tensor


@dataclass
class ModelOutput:
    """``output.logits``, ``output["logits"]``, ``output[0]`` and ``output.to_tuple()``; absent parts are None."""

    def keys(self) -> list[str]:
        """Names of the parts that are there, in order."""
        return [f.name for f in fields(self) if getattr(self, f.name) is not None]

    def to_tuple(self) -> tuple[Any, ...]:
        """The parts that are there, nested outputs as tuples too."""
        parts = (getattr(self, key) for key in self.keys())
        return tuple(part.to_tuple() if isinstance(part, ModelOutput) else part for part in parts)

    def __getitem__(self, key: str | int | slice) -> Any:
        if not isinstance(key, str):
            return tuple(getattr(self, name) for name in self.keys())[key]
        if key not in self.keys():
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.keys())

    def __contains__(self, key: object) -> bool:
        return key in self.keys()


@dataclass
class BaseModelOutput(ModelOutput):
    """Of an encoder. S tokens of width D; A attention heads."""

    last_hidden_state: Tensor  # [N, S, D]
    hidden_states: tuple[Tensor, ...] | None = None  # the input, then each layer's output, [N, S, D]
    attentions: tuple[Tensor, ...] | None = None  # each layer's weights, [N, A, S, S]


@dataclass
class BaseModelOutputWithPooling(ModelOutput):
    """Of an encoder and its pooling: N texts, N frames, or N videos."""

    last_hidden_state: Tensor  # [N, S, D]
    pooler_output: Tensor  # [N, D]
    hidden_states: tuple[Tensor, ...] | None = None  # the input, then each layer's output, [N, S, D]
    attentions: tuple[Tensor, ...] | None = None  # each layer's weights, [N, A, S, S]


@dataclass
class XCLIPOutput(ModelOutput):
    """Of the whole model: B videos of T frames, K texts, P the projection_dim."""

    loss: Tensor | None = None  # contrastive, with return_loss
    logits_per_video: Tensor | None = None  # [B, K]
    logits_per_text: Tensor | None = None  # [K, B]
    text_embeds: Tensor | None = None  # [B, K, P]: unit length, each video's own
    video_embeds: Tensor | None = None  # [B, P]: unit length
    text_model_output: BaseModelOutputWithPooling | None = None  # N = K
    vision_model_output: BaseModelOutputWithPooling | None = None  # N = B * T
    mit_output: BaseModelOutputWithPooling | None = None  # N = B, S = T


@dataclass
class TextEncoding(ModelOutput):
    """Of ``encode_text``."""

    features: Tensor  # [K, P], of natural length: what the prompt generator expects
    text_model_output: BaseModelOutputWithPooling


@dataclass
class VideoEncoding(ModelOutput):
    """Of ``encode_video``: all that ``similarity`` needs of a batch of videos."""

    features: Tensor  # [B, P], of natural length
    visual_tokens: Tensor  # [B, n, P], one a patch: what the prompt generator looks at
    vision_model_output: BaseModelOutputWithPooling
    mit_output: BaseModelOutputWithPooling


@dataclass
class Similarity(ModelOutput):
    """Of ``similarity``."""

    logits_per_video: Tensor  # [B, K], float32
    text_embeds: Tensor  # [B, K, P]
    video_embeds: Tensor  # [B, P]
