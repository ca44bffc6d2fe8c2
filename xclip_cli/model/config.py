"""The sizes of an X-CLIP model, under the names and defaults of the Hugging Face documentation.

Defaults are those of ``microsoft/xclip-base-patch32``. Values come from a checkpoint's ``config.json``; nothing is
inferred from a name. Never imports torch.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import InitVar, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from ..errors import ModelError
from ..text import one_line
from .checkpoint.files import CONFIG_NAME, read_json

_Tower = TypeVar("_Tower", bound="PretrainedConfig")

PREPROCESSINGS = ("hf", "paper")  # as the checkpoint's files say, or as the published accuracies were measured
ACTIVATIONS = ("quick_gelu", "gelu", "gelu_new", "relu", "selu")

# A config may come from a stranger. Far above any real model, these keep every product of sizes below 2**60, and small
# what is allocated before the weights contradict a config.
MAX_SIZE = 1 << 20  # of widths, vocabularies and positions
MAX_LAYERS = 1 << 10  # of one stack
MAX_SIDE = 1 << 11  # pixels of a picture
MAX_FRAMES = 1 << 10  # of a clip
MAX_CHANNELS = 1 << 6
MAX_CLIP = 1 << 28  # pixels of a clip


@dataclass(kw_only=True)
class PretrainedConfig:
    """What the three configs share. ``extra`` keeps keys of a ``config.json`` that xclip has no use for."""

    model_type: ClassVar[str]

    output_attentions: bool = False  # return attentions when a call does not say
    output_hidden_states: bool = False  # return every layer's output when a call does not say
    return_dict: bool = True  # False: tuples instead of output objects
    extra: dict[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for name in ("output_attentions", "output_hidden_states", "return_dict"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}, it must be true or false")

    @property
    def stacks(self) -> dict[str, int]:
        """What the stacks of layers are called among the weights, and how many layers each has."""
        raise NotImplementedError

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from the JSON form. Raises ValueError where a value makes no model."""
        known = inspect.signature(cls).parameters.keys() - {"extra"}
        accepted = {key: value for key, value in values.items() if key in known}
        extra = {key: value for key, value in values.items() if key not in known | {"model_type"}}
        return cls(**accepted, extra=extra)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, unknown keys included."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "extra"}
        return {**self.extra, **own, "model_type": self.model_type}

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> Self:
        """Read the config of a checkpoint: a folder, a hub id or ``bundled``. Raises ModelError."""
        from .checkpoint.find import find_folder

        return cls.from_folder(find_folder(str(name), revision))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read ``config.json`` of a checkpoint folder. Raises ModelError."""
        path = folder / CONFIG_NAME
        values = read_json(path, required=True)
        try:
            return cls.from_dict(cls._own_part(values, path))
        except (TypeError, ValueError) as error:
            raise ModelError(f"{path} does not describe an X-CLIP model: {one_line(error)}") from error

    @classmethod
    def _own_part(cls, values: dict[str, Any], path: Path) -> dict[str, Any]:
        """The part of a ``config.json`` that describes this class. A tower's config also reads a whole model's file."""
        found = values.get("model_type")
        if found == cls.model_type:
            return values
        if found == XCLIPConfig.model_type and cls is not XCLIPConfig:
            whole = XCLIPConfig.from_dict(values)
            return (whole.text_config if cls is XCLIPTextConfig else whole.vision_config).to_dict()
        raise ModelError(
            f"{path} is of model_type {one_line(repr(found))}, not {cls.model_type!r}: only X-CLIP checkpoints can be "
            "loaded"
        )

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` into ``folder``, which is made if it is missing."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_NAME).write_text(json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n", "utf-8")


@dataclass(kw_only=True)
class XCLIPTextConfig(PretrainedConfig):
    """The text encoder: CLIP's causal transformer over byte-pair tokens."""

    model_type: ClassVar[str] = "xclip_text_model"

    vocab_size: int = 49408
    hidden_size: int = 512  # width of the residual stream
    intermediate_size: int = 2048  # width inside the MLPs
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77  # longest text in tokens, start and end included
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    dropout: float = 0.0  # of the embeddings and after each MLP, in training
    attention_dropout: float = 0.0  # of the attention weights, in training
    initializer_range: float = 0.02
    initializer_factor: float = 1.0  # scales every initial standard deviation
    pad_token_id: int | None = 1  # these three ids are the released configs' and wrong there;
    bos_token_id: int | None = 0  # the tokenizer knows the true ones, and pooling finds
    eos_token_id: int | None = 2  # the end token as the largest id of a text

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_sizes(self, MAX_SIZE, "vocab_size", "max_position_embeddings", "intermediate_size")
        _check_sizes(self, MAX_LAYERS, "num_hidden_layers")
        _check_heads(self, "hidden_size", "num_attention_heads")
        _check_activation(self, "hidden_act")
        _check_shares(self, "layer_norm_eps", "dropout", "attention_dropout")
        _check_finite(self, "initializer_range", "initializer_factor")
        for name in ("pad_token_id", "bos_token_id", "eos_token_id"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise ValueError(f"{name} is {value!r}, it must be a whole number or null")

    @property
    def stacks(self) -> dict[str, int]:
        """What the stacks of layers are called among the weights, and how many layers each has."""
        return {"text_model.encoder.layers": self.num_hidden_layers}


@dataclass(kw_only=True)
class XCLIPVisionConfig(PretrainedConfig):
    """The cross-frame vision encoder and the multi-frame integration transformer (MIT) after it."""

    model_type: ClassVar[str] = "xclip_vision_model"

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    mit_hidden_size: int = 512  # equals the model's projection_dim
    mit_intermediate_size: int = 2048
    mit_num_hidden_layers: int = 1
    mit_num_attention_heads: int = 8
    num_channels: int = 3
    image_size: int = 224  # pixels a side
    patch_size: int = 32  # pixels a side
    num_frames: int = 8  # frames of one clip
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    dropout: float = 0.0
    attention_dropout: float = 0.0
    initializer_range: float = 0.02
    initializer_factor: float = 1.0
    drop_path_rate: float = 0.0  # stochastic depth of the message attention, in training

    def __post_init__(self) -> None:
        super().__post_init__()
        self.image_size = _one_side(self.image_size, "image_size")
        self.patch_size = _one_side(self.patch_size, "patch_size")
        _check_sizes(self, MAX_SIZE, "intermediate_size", "mit_intermediate_size")
        _check_sizes(self, MAX_LAYERS, "num_hidden_layers", "mit_num_hidden_layers")
        _check_sizes(self, MAX_SIDE, "image_size", "patch_size")
        _check_sizes(self, MAX_CHANNELS, "num_channels")
        _check_sizes(self, MAX_FRAMES, "num_frames")
        _check_heads(self, "hidden_size", "num_attention_heads")
        _check_heads(self, "mit_hidden_size", "mit_num_attention_heads")
        _check_activation(self, "hidden_act")
        _check_shares(self, "layer_norm_eps", "dropout", "attention_dropout", "drop_path_rate")
        _check_finite(self, "initializer_range", "initializer_factor")
        if self.patch_size > self.image_size:
            raise ValueError(f"patch_size {self.patch_size} is larger than image_size {self.image_size}")
        if self.num_frames * self.image_size**2 > MAX_CLIP:
            raise ValueError(
                f"num_frames {self.num_frames} of image_size {self.image_size} are more than {MAX_CLIP} pixels a clip"
            )

    @property
    def stacks(self) -> dict[str, int]:
        """What the stacks of layers are called among the weights, and how many layers each has."""
        return {"vision_model.encoder.layers": self.num_hidden_layers}

    @property
    def num_patches(self) -> int:
        """Patch tokens a frame."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(kw_only=True)
class XCLIPConfig(PretrainedConfig):
    """The whole model: both encoders and the video-specific prompt generator.

    ``text_config`` and ``vision_config`` may be given as dicts. The older keywords ``text_config_dict`` and
    ``vision_config_dict`` win over them, defaults included, as they do in the Hugging Face library.
    """

    model_type: ClassVar[str] = "xclip"

    text_config: XCLIPTextConfig = field(default_factory=XCLIPTextConfig)
    vision_config: XCLIPVisionConfig = field(default_factory=XCLIPVisionConfig)
    projection_dim: int = 512  # the space that texts and videos share
    prompt_layers: int = 2
    prompt_alpha: float = 0.1  # initial weight of the video-specific prompt
    prompt_hidden_act: str = "quick_gelu"
    prompt_num_attention_heads: int = 8
    prompt_attention_dropout: float = 0.0
    prompt_projection_dropout: float = 0.0
    logit_scale_init_value: float = 2.6592  # ln(1 / 0.07)
    initializer_factor: float = 1.0
    text_config_dict: InitVar[dict[str, Any] | None] = None
    vision_config_dict: InitVar[dict[str, Any] | None] = None

    def __post_init__(self, text_config_dict: dict[str, Any] | None, vision_config_dict: dict[str, Any] | None) -> None:
        super().__post_init__()
        self.text_config = _tower(XCLIPTextConfig, self.text_config, text_config_dict)
        self.vision_config = _tower(XCLIPVisionConfig, self.vision_config, vision_config_dict)
        _check_sizes(self, MAX_LAYERS, "prompt_layers")
        _check_heads(self, "projection_dim", "prompt_num_attention_heads")
        _check_activation(self, "prompt_hidden_act")
        _check_shares(self, "prompt_attention_dropout", "prompt_projection_dropout")
        _check_finite(self, "prompt_alpha", "logit_scale_init_value", "initializer_factor")
        if self.vision_config.mit_hidden_size != self.projection_dim:
            raise ValueError(
                f"vision_config.mit_hidden_size {self.vision_config.mit_hidden_size} must equal "
                f"projection_dim {self.projection_dim}"
            )

    @property
    def stacks(self) -> dict[str, int]:
        """What the stacks of layers are called among the weights, and how many layers each has."""
        return {
            **self.text_config.stacks,
            **self.vision_config.stacks,
            "mit.encoder.layers": self.vision_config.mit_num_hidden_layers,
            "prompts_generator.decoder": self.prompt_layers,
        }

    @classmethod
    def from_text_vision_configs(
        cls, text_config: XCLIPTextConfig, vision_config: XCLIPVisionConfig, **kwargs: Any
    ) -> Self:
        """Build from the configs of the two encoders."""
        return cls(text_config=text_config, vision_config=vision_config, **kwargs)

    def with_heads(self, heads: int) -> Self:
        """The same with so many attention heads in MIT and prompt generator. Raises ValueError."""
        vision = replace(self.vision_config, mit_num_attention_heads=heads)
        return replace(self, vision_config=vision, prompt_num_attention_heads=heads)

    def count_parameters(self) -> int:
        """How many numbers the weights hold."""
        text, vision, width = self.text_config, self.vision_config, self.projection_dim
        text_count = (text.vocab_size + text.max_position_embeddings + 2) * text.hidden_size
        text_count += text.num_hidden_layers * _layer_parameters(text.hidden_size, text.intermediate_size)
        side = vision.hidden_size
        vision_count = (1 + vision.num_channels * vision.patch_size**2 + vision.num_patches + 1 + 4) * side
        message = _attention_parameters(side) + side * side + 3 * side
        vision_count += vision.num_hidden_layers * (_layer_parameters(side, vision.intermediate_size) + message)
        mit_count = vision.num_frames * width
        mit_count += vision.mit_num_hidden_layers * _layer_parameters(width, vision.mit_intermediate_size)
        prompt_count = 3 * width + self.prompt_layers * (12 * width**2 + 10 * width)
        own_count = (text.hidden_size + 2 * side) * width + 2 * side + 1
        return text_count + vision_count + mit_count + prompt_count + own_count

    def video_macs(self) -> int:
        """Multiplications that encoding one clip takes (its texts not counted)."""
        vision, width = self.vision_config, self.projection_dim
        side, patches, frames = vision.hidden_size, vision.num_patches, vision.num_frames
        tokens = patches + 2  # with class token and message
        layer = 4 * tokens * side**2 + 2 * tokens**2 * side + 2 * (patches + 1) * side * vision.intermediate_size
        layer += 5 * side**2 + 2 * frames * side  # the message, and its attention over frames
        stem = patches * side * (vision.num_channels * vision.patch_size**2 + width) + side * width
        mit = 4 * width**2 + 2 * frames * width + 2 * width * vision.mit_intermediate_size
        return frames * (vision.num_hidden_layers * layer + stem + vision.mit_num_hidden_layers * mit)

    def text_macs(self, tokens: int) -> int:
        """Multiplications that encoding one text of so many tokens takes."""
        text = self.text_config
        layer = 4 * text.hidden_size**2 + 2 * tokens * text.hidden_size + 2 * text.hidden_size * text.intermediate_size
        return tokens * text.num_hidden_layers * layer + text.hidden_size * self.projection_dim

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, both encoders' included."""
        return {
            **super().to_dict(),
            "text_config": self.text_config.to_dict(),
            "vision_config": self.vision_config.to_dict(),
        }


def _attention_parameters(width: int) -> int:
    return 4 * (width**2 + width)


def _layer_parameters(width: int, inner_width: int) -> int:
    """Of a transformer layer: attention, MLP and two norms."""
    return _attention_parameters(width) + 2 * width * inner_width + inner_width + width + 4 * width


def _tower(cls: type[_Tower], given: _Tower | dict[str, Any] | None, legacy: dict[str, Any] | None) -> _Tower:
    """One encoder's config, from an object, a dict or nothing, and the older keyword that overrides it."""
    values = given.to_dict() if isinstance(given, PretrainedConfig) else _copied(given)
    if legacy is not None:
        values |= cls.from_dict(_copied(legacy)).to_dict()
    return cls.from_dict(values)


def _copied(given: dict[str, Any] | None) -> dict[str, Any]:
    if given is not None and not isinstance(given, dict):
        raise ValueError(f"an encoder's config is {given!r}, it must be an object")
    return dict(given or {})


def _one_side(value: Any, name: str) -> Any:
    """A square's side, from ``n`` or ``[n, n]``."""
    if isinstance(value, list | tuple):
        if len(value) != 2 or value[0] != value[1]:
            raise ValueError(f"{name} {value} is not square")
        return value[0]
    return value


def _check_sizes(config: PretrainedConfig, limit: int, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= limit:
            raise ValueError(f"{name} is {value!r}, it must be a whole number of at least 1 and at most {limit}")


def _check_heads(config: PretrainedConfig, width: str, heads: str) -> None:
    _check_sizes(config, MAX_SIZE, width, heads)
    if getattr(config, width) % getattr(config, heads):
        raise ValueError(f"{width} {getattr(config, width)} does not divide into {heads} {getattr(config, heads)}")


def _check_finite(config: PretrainedConfig, *names: str) -> None:
    for name in names:
        if not _is_number(getattr(config, name)):
            raise ValueError(f"{name} is {getattr(config, name)!r}, it must be a finite number")


def _check_shares(config: PretrainedConfig, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if not _is_number(value) or not 0 <= value <= 1:
            raise ValueError(f"{name} is {value!r}, it must be a number from 0 to 1")


def _is_number(value: Any) -> bool:
    """Whether this is a finite number of a size that any format holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e30


def _check_activation(config: PretrainedConfig, name: str) -> None:
    if getattr(config, name) not in ACTIVATIONS:
        raise ValueError(f"{name} {getattr(config, name)!r} is not one of {', '.join(ACTIVATIONS)}")
