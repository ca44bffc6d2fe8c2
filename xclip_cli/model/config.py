"""The sizes of an X-CLIP model, under the names and defaults of the Hugging Face documentation.

Defaults are those of ``microsoft/xclip-base-patch32``. Values come from a checkpoint's ``config.json``; nothing is
inferred from a name. Never imports torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import InitVar, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from .base_config import PretrainedConfig, keeps_unknown

_Tower = TypeVar("_Tower", bound="TowerConfig")

PREPROCESSINGS = ("hf", "paper")  # as the checkpoint's files say, or as the published accuracies were measured
ACTIVATIONS = (
    *("quick_gelu", "gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh"),
    *("relu", "relu2", "relu6", "leaky_relu", "selu", "silu", "swish", "mish", "tanh", "sigmoid", "linear"),
)

# A config may come from a stranger. Far above any real model, these keep every product of sizes below 2**60, and small
# what is allocated before the weights contradict a config.
MAX_SIZE = 1 << 20  # of widths, vocabularies and positions
MAX_LAYERS = 1 << 10  # of one stack
MAX_SIDE = 1 << 11  # pixels of a picture
MAX_FRAMES = 1 << 10  # of a clip
MAX_CHANNELS = 1 << 6
MAX_CLIP = 1 << 25  # pixels of a clip: 400 MB as numbers, eight times the largest real model's
MAX_TOKENS = 1 << 18  # patches of a clip


class TowerConfig(PretrainedConfig):
    """Of one encoder: it is also read from a whole model's ``config.json``."""

    part: ClassVar[str]  # its key there

    @classmethod
    def _own_part(cls, values: dict[str, Any], path: Path) -> dict[str, Any]:
        if values.get("model_type") != XCLIPConfig.model_type:
            return super()._own_part(values, path)
        config: PretrainedConfig = getattr(XCLIPConfig.from_dict(values), cls.part)
        return config.to_dict()


@keeps_unknown
@dataclass
class XCLIPTextConfig(TowerConfig):
    """The text encoder: CLIP's causal transformer over byte-pair tokens."""

    model_type: ClassVar[str] = "xclip_text_model"
    part: ClassVar[str] = "text_config"

    vocab_size: int = 49408
    hidden_size: int = 512  # width of the residual stream
    intermediate_size: int = 2048  # width inside the MLPs
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77  # longest text in tokens, start and end included
    hidden_act: str | Callable[..., Any] = "quick_gelu"
    layer_norm_eps: float = 1e-5
    dropout: float = field(default=0.0, kw_only=True)  # of the embeddings and after each MLP, in training
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


@keeps_unknown
@dataclass
class XCLIPVisionConfig(TowerConfig):
    """The cross-frame vision encoder and the multi-frame integration transformer (MIT) after it."""

    model_type: ClassVar[str] = "xclip_vision_model"
    part: ClassVar[str] = "vision_config"

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
    hidden_act: str | Callable[..., Any] = "quick_gelu"
    layer_norm_eps: float = 1e-5
    dropout: float = field(default=0.0, kw_only=True)
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
                f"num_frames {self.num_frames} of image_size {self.image_size} are more than {MAX_CLIP} pixels per clip"
            )
        if self.num_frames * self.num_patches > MAX_TOKENS:
            raise ValueError(
                f"num_frames {self.num_frames} of image_size {self.image_size} are more than {MAX_TOKENS} patches of "
                f"patch_size {self.patch_size} per clip"
            )

    @property
    def stacks(self) -> dict[str, int]:
        """What the stacks of layers are called among the weights, and how many layers each has."""
        return {"vision_model.encoder.layers": self.num_hidden_layers}

    @property
    def num_patches(self) -> int:
        """Patch tokens per frame."""
        return (self.image_size // self.patch_size) ** 2


@keeps_unknown
@dataclass
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
    prompt_hidden_act: str | Callable[..., Any] = "quick_gelu"
    prompt_num_attention_heads: int = 8
    prompt_attention_dropout: float = 0.0
    prompt_projection_dropout: float = 0.0
    logit_scale_init_value: float = 2.6592  # ln(1 / 0.07)
    initializer_factor: float = field(default=1.0, kw_only=True)
    text_config_dict: InitVar[dict[str, Any] | None] = field(default=None, kw_only=True)
    vision_config_dict: InitVar[dict[str, Any] | None] = field(default=None, kw_only=True)

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
        stem = patches * side * vision.num_channels * vision.patch_size**2 + side * width
        mit = 4 * width**2 + 2 * frames * width + 2 * width * vision.mit_intermediate_size
        return frames * (vision.num_hidden_layers * layer + stem + vision.mit_num_hidden_layers * mit) + (
            patches * side * width
        )

    def video_bytes(self, number: int) -> int:
        """About what is held at most of a clip that is encoded, where a number takes so many bytes: its pixels, and of
        each token what an MLP and the residual stream hold."""
        vision = self.vision_config
        pixels = vision.num_channels * vision.image_size**2 * (1 + 2 * number)  # also as the bytes that they were
        token = number * (2 * vision.intermediate_size + 6 * vision.hidden_size)
        return vision.num_frames * (pixels + (vision.num_patches + 2) * token)

    def text_macs(self, tokens: int) -> int:
        """Multiplications that encoding one text of so many tokens takes."""
        text = self.text_config
        layer = 4 * text.hidden_size**2 + 2 * tokens * text.hidden_size + 2 * text.hidden_size * text.intermediate_size
        return tokens * text.num_hidden_layers * layer + text.hidden_size * self.projection_dim

    def to_dict(self) -> dict[str, Any]:
        """As plain values, both encoders' included."""
        return {
            **super().to_dict(),
            "text_config": self.text_config.to_dict(),
            "vision_config": self.vision_config.to_dict(),
        }

    def to_diff_dict(self) -> dict[str, Any]:
        """Less what is the same for every config of every model, in both encoders' too."""
        return {
            **super().to_diff_dict(),
            "text_config": self.text_config.to_diff_dict(),
            "vision_config": self.vision_config.to_diff_dict(),
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
    tower: _Tower = cls.from_dict(values)
    return tower


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
    value = getattr(config, name)
    if not (callable(value) and not isinstance(value, type)) and value not in ACTIVATIONS:
        raise ValueError(f"{name} {value!r} is not one of {', '.join(ACTIVATIONS)}, or a function")
