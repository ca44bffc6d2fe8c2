"""What the models return: mappings of named parts, read by attribute, by key or by index."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, TypeVar

import torch
from torch import Tensor

_Output = TypeVar("_Output", bound="ModelOutput")

_GIVEN: Any = None  # stands for a part that every output is given


class ModelOutput(dict[str, Any]):
    """``output.logits``, ``output["logits"]``, ``output[0]``, ``**output``; absent parts are None, and no keys.

    Subclasses are dataclasses, and can also be made of one dict of parts, as any mapping.
    """

    def __post_init__(self) -> None:
        first = fields(self)[0].name  # type: ignore[arg-type]
        parts = getattr(self, first)
        if isinstance(parts, dict) and not isinstance(parts, ModelOutput):
            setattr(self, first, None)
            for name, part in parts.items():
                setattr(self, name, part)

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if value is None:
            self.pop(name, None)
        else:
            super().__setitem__(name, value)

    def __setitem__(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def __getitem__(self, key: str | int | slice) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else tuple(self.values())[key]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self),)

    def to_tuple(self) -> tuple[Any, ...]:
        """The parts that are there, nested outputs as tuples too."""
        return tuple(part.to_tuple() if isinstance(part, ModelOutput) else part for part in self.values())


def _traceable(cls: type[_Output]) -> type[_Output]:
    """Tells torch how to take such an output apart and put it together: ``torch.export`` needs to."""
    torch.utils._pytree.register_pytree_node(
        cls,
        lambda output: (list(output.values()), list(output)),
        lambda parts, names: cls(dict(zip(names, parts, strict=True))),
        serialized_type_name=f"xclip_cli.{cls.__name__}",
        flatten_with_keys_fn=lambda output: (
            [(torch.utils._pytree.MappingKey(name), part) for name, part in output.items()],
            list(output),
        ),
    )
    return cls


@_traceable
@dataclass(eq=False)
class BaseModelOutput(ModelOutput):
    """Of an encoder. S tokens of width D; A attention heads."""

    last_hidden_state: Tensor = _GIVEN  # [N, S, D]
    hidden_states: tuple[Tensor, ...] | None = None  # the input, then each layer's output, [N, S, D]
    attentions: tuple[Tensor, ...] | None = None  # each layer's weights, [N, A, S, S]


@_traceable
@dataclass(eq=False)
class BaseModelOutputWithPooling(ModelOutput):
    """Of an encoder and its pooling: N texts, N frames, or N videos."""

    last_hidden_state: Tensor = _GIVEN  # [N, S, D]
    pooler_output: Tensor = _GIVEN  # [N, D]
    hidden_states: tuple[Tensor, ...] | None = None  # the input, then each layer's output, [N, S, D]
    attentions: tuple[Tensor, ...] | None = None  # each layer's weights, [N, A, S, S]


@_traceable
@dataclass(eq=False)
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


@_traceable
@dataclass(eq=False)
class TextEncoding(ModelOutput):
    """Of ``encode_text``."""

    features: Tensor = _GIVEN  # [K, P], of natural length: what the prompt generator expects
    text_model_output: BaseModelOutputWithPooling = _GIVEN


@_traceable
@dataclass(eq=False)
class VideoEncoding(ModelOutput):
    """Of ``encode_video``: all that ``similarity`` needs of a batch of videos."""

    features: Tensor = _GIVEN  # [B, P], of natural length
    visual_tokens: Tensor = _GIVEN  # [B, n, P], one a patch: what the prompt generator looks at
    vision_model_output: BaseModelOutputWithPooling = _GIVEN
    mit_output: BaseModelOutputWithPooling = _GIVEN


@_traceable
@dataclass(eq=False)
class Similarity(ModelOutput):
    """Of ``similarity``."""

    logits_per_video: Tensor = _GIVEN  # [B, K], at least float32
    text_embeds: Tensor = _GIVEN  # [B, K, P]
    video_embeds: Tensor = _GIVEN  # [B, P]
