"""What a checkpoint's files are: a Hugging Face folder, or a ``.pth`` of X-CLIP's authors, and how each is read.

Which of the two is decided once, by ``open_checkpoint``; nobody else asks. Importing this imports no torch: what needs
it imports it when called.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from ..errors import ModelError
from .base_config import PretrainedConfig
from .checkpoint.find import Checkpoint
from .config import XCLIPConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from .checkpoint.weights import LoadingInfo
    from .processor import XCLIPImageProcessor

Config = TypeVar("Config", bound=PretrainedConfig)

CLIP_TOKENIZER = "microsoft/xclip-base-patch32"  # has CLIP's vocabulary, as all released checkpoints
HUB_HEADS = 8  # of MIT and prompt generator in every conversion on the hub, the large models' included


class Weights(Protocol):
    """A checkpoint's weights: names and shapes are known, none is read yet."""

    def dtype(self) -> torch.dtype:
        """What they are stored in."""

    def load(
        self,
        model: nn.Module,
        dtype: torch.dtype,
        device: torch.device,
        wanted: Callable[[str], bool] = ...,
        tolerated: frozenset[str] = ...,
    ) -> LoadingInfo:
        """Give a model, best built on the meta device, these weights, once names, shapes and values are known to fit.

        Parameters whose names are not ``wanted`` stay as they are, and theirs are never read. What is ``tolerated``
        ("missing", "unexpected", "mismatched") is returned; anything else that does not fit raises ModelError.
        """


class CheckpointFormat(ABC):
    """A checkpoint whose files can be read. Every method raises ModelError for files that make no X-CLIP."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint

    @abstractmethod
    def config(self, heads: int | None = None) -> XCLIPConfig:
        """The whole model's config; ``heads`` sets the attention heads of MIT and prompt generator."""

    @abstractmethod
    def config_of(self, kind: type[Config]) -> Config:
        """The config of this class, which may be one encoder's."""

    @property
    @abstractmethod
    def tokenizer(self) -> str:
        """The folder or hub id whose tokenizer belongs to the model."""

    @abstractmethod
    def image_processor(self, config: XCLIPConfig) -> XCLIPImageProcessor:
        """The image processor that belongs to the model, whose config this is."""

    @abstractmethod
    def weights(self, config: PretrainedConfig, safetensors: bool | None = None) -> Weights:
        """The weights, for a model of this config; ``safetensors`` True or False allows no other format."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Everything that the checkpoint consists of."""

    def training(self) -> dict[str, Any] | None:
        """What is recorded of the training, as plain values; None if the format records nothing."""
        return None

    @abstractmethod
    def notes(self, config: XCLIPConfig) -> list[str]:
        """What a user of the model should know and cannot see."""


class HuggingFaceFolder(CheckpointFormat):
    """A folder of ``config.json``, weights, tokenizer and preprocessor."""

    def config(self, heads: int | None = None) -> XCLIPConfig:
        """As ``config.json`` says."""
        config = self.config_of(XCLIPConfig)
        try:
            return config if heads is None else config.with_heads(heads)
        except ValueError as error:
            raise ModelError(f"{self.checkpoint.name} cannot have {heads} heads: {error}") from error

    def config_of(self, kind: type[Config]) -> Config:
        """As ``config.json`` says, of the whole model or of one encoder."""
        return cast("Config", kind.from_folder(self.checkpoint.folder))

    @property
    def tokenizer(self) -> str:
        """The folder itself."""
        return str(self.checkpoint.folder)

    def image_processor(self, config: XCLIPConfig) -> XCLIPImageProcessor:
        """As the folder's files say."""
        from .processor import XCLIPImageProcessor

        processor = XCLIPImageProcessor.from_folder(self.checkpoint.folder)
        if not processor.do_center_crop or config.vision_config.num_channels != 3:
            raise ModelError(
                f"{self.checkpoint.name} cannot take videos: its image processor must crop (do_center_crop) and its "
                "model take 3 channels (num_channels)"
            )
        return processor

    def weights(self, config: PretrainedConfig, safetensors: bool | None = None) -> Weights:
        """Those of the folder, once their layers are known to be as many as ``config`` says."""
        from .checkpoint.weights import StoredWeights

        weights = StoredWeights(self.checkpoint.folder, safetensors)
        weights.check_layers(config.stacks)
        return weights

    def files(self) -> list[Path]:
        """All that is in the folder."""
        return sorted(self.checkpoint.folder.iterdir())

    def notes(self, config: XCLIPConfig) -> list[str]:
        """That there are other heads than in the authors' code."""
        usual = config.projection_dim // 64
        heads = (config.vision_config.mit_num_attention_heads, config.prompt_num_attention_heads)
        if config.projection_dim % 64 or heads == (usual, usual):
            return []
        return [
            f"MIT and prompt generator have {heads[0]} and {heads[1]} attention heads here; the authors' code has "
            f"{usual} of each at this width, and the weights do not say: --heads {usual} computes what the authors' "
            "code computes"
        ]


class OriginalFile(CheckpointFormat):
    """A ``.pth`` of the authors' code, which holds the weights of a whole model and what it was trained with."""

    def config(self, heads: int | None = None) -> XCLIPConfig:
        """As the weights' shapes say, with the heads of the authors' code where ``heads`` does not say."""
        from .checkpoint.original import OriginalWeights

        return OriginalWeights(self.checkpoint.folder).config(heads)

    def config_of(self, kind: type[Config]) -> Config:
        """That of the whole model; raises ModelError for one encoder's."""
        if kind is not XCLIPConfig:
            raise ModelError(
                f"{self.checkpoint.folder} is a whole X-CLIP of its authors' code: load it as XCLIPModel, or convert "
                "it with `xclip models convert`"
            )
        return cast("Config", self.config())

    @property
    def tokenizer(self) -> str:
        """That of a released checkpoint."""
        return CLIP_TOKENIZER

    def image_processor(self, config: XCLIPConfig) -> XCLIPImageProcessor:
        """That of the released checkpoints, for the image size of ``config``."""
        from .processor import XCLIPImageProcessor

        size = config.vision_config.image_size
        return XCLIPImageProcessor(size=size, crop_size=size)

    def weights(self, config: PretrainedConfig, safetensors: bool | None = None) -> Weights:
        """Those of the file."""
        from .checkpoint.original import OriginalWeights

        if safetensors:
            raise ModelError(f"{self.checkpoint.folder} is pickled, and use_safetensors=True allows safetensors alone")
        return OriginalWeights(self.checkpoint.folder)

    def files(self) -> list[Path]:
        """The one."""
        return [self.checkpoint.folder]

    def training(self) -> dict[str, Any]:
        """The config that the authors' training was run with."""
        from .checkpoint.original import training_config

        return training_config(self.checkpoint.folder)

    def notes(self, config: XCLIPConfig) -> list[str]:
        """That the conversions on the hub have other heads."""
        usual = config.projection_dim // 64
        if usual == HUB_HEADS:
            return []
        return [
            f"MIT and prompt generator have {usual} attention heads each, as in the authors' code; the conversions of "
            f"such models on the hub have {HUB_HEADS}: --heads {HUB_HEADS} computes what those compute"
        ]


def open_checkpoint(checkpoint: Checkpoint) -> CheckpointFormat:
    """A checkpoint by its format; nothing is read yet."""
    return OriginalFile(checkpoint) if checkpoint.folder.is_file() else HuggingFaceFolder(checkpoint)
