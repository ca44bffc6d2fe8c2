"""The Auto classes of the Hugging Face documentation, for X-CLIP checkpoints; anything else is a clear error."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError
from ..text import one_line
from .base_config import PretrainedConfig
from .checkpoint.files import CONFIG_NAME, read_json
from .checkpoint.find import find_folder, name_of
from .config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from .keywords import hub_keywords, refuse

if TYPE_CHECKING:
    from .images import VideoMAEImageProcessor
    from .processor import XCLIPProcessor
    from .tokenizer import CLIPTokenizer

CONFIGS = {config.model_type: config for config in (XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig)}


class AutoConfig:
    """The config of an X-CLIP, or of one of its encoders."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Any:
        """As the config's own ``from_pretrained``. Raises ModelError."""
        return _config_class(pretrained_model_name_or_path, kwargs).from_pretrained(
            pretrained_model_name_or_path, **kwargs
        )


class AutoModel:
    """An X-CLIP, or one of its encoders, by the ``model_type`` of its config."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """As the model's own ``from_pretrained``. Raises ModelError."""
        config = kwargs.get("config")
        kind = type(config) if config is not None else _config_class(pretrained_model_name_or_path, kwargs)
        return _model_class(kind).from_pretrained(pretrained_model_name_or_path, *args, **kwargs)

    @staticmethod
    def from_config(config: PretrainedConfig) -> Any:
        """A model of this config, with initial values."""
        return _model_class(type(config))(config)


class AutoProcessor:
    """The processor of an X-CLIP."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> XCLIPProcessor:
        """As the processor's own ``from_pretrained``. Raises ModelError."""
        from .processor import XCLIPProcessor

        _check(pretrained_model_name_or_path, kwargs)
        return XCLIPProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs)


class AutoTokenizer:
    """The tokenizer of an X-CLIP."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> CLIPTokenizer:
        """As the tokenizer's own ``from_pretrained``. Raises ModelError."""
        from .tokenizer import CLIPTokenizer

        _check(pretrained_model_name_or_path, kwargs)
        return CLIPTokenizer.from_pretrained(pretrained_model_name_or_path, **kwargs)


class AutoImageProcessor:
    """The image processor of an X-CLIP."""

    @staticmethod
    def from_pretrained(pretrained_model_name_or_path: str | Path, **kwargs: Any) -> VideoMAEImageProcessor:
        """As the image processor's own ``from_pretrained``. Raises ModelError."""
        from .images import XCLIPImageProcessor

        _check(pretrained_model_name_or_path, kwargs)
        return XCLIPImageProcessor.from_pretrained(pretrained_model_name_or_path, **kwargs)


def _folder(name: str | Path, kwargs: dict[str, Any]) -> Path:
    kwargs = dict(kwargs)
    refuse(kwargs)
    return find_folder(name_of(name), *hub_keywords(kwargs))


def _check(name: str | Path, kwargs: dict[str, Any]) -> None:
    """Make sure that a checkpoint with a config is an X-CLIP. Raises ModelError."""
    if (_folder(name, kwargs) / CONFIG_NAME).is_file():
        _config_class(name, kwargs)


def _config_class(name: str | Path, kwargs: dict[str, Any]) -> Any:
    folder = _folder(name, kwargs)
    if folder.is_file():  # an authors' file, which is always of a whole model
        return XCLIPConfig
    found = read_json(folder / CONFIG_NAME, required=True).get("model_type")
    if not isinstance(found, str) or found not in CONFIGS:
        raise ModelError(
            f"{folder / CONFIG_NAME} is of model_type {one_line(repr(found))}: only X-CLIP checkpoints can be loaded "
            f"({', '.join(CONFIGS)})"
        )
    return CONFIGS[found]


def _model_class(kind: type) -> Any:
    from .modeling import XCLIPModel, XCLIPTextModel, XCLIPVisionModel

    for model in (XCLIPModel, XCLIPTextModel, XCLIPVisionModel):
        if issubclass(kind, model.config_class):
            return model
    raise ValueError(f"{kind.__name__} is not the config of an X-CLIP: give one of {', '.join(CONFIGS)}")
