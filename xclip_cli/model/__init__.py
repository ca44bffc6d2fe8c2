"""The X-CLIP library: models, configs and processor under the names of the Hugging Face documentation.

Names load on first use, so that configs and checkpoints can be read without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .auto import AutoConfig, AutoImageProcessor, AutoModel, AutoProcessor, AutoTokenizer
    from .config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
    from .images import VideoMAEFeatureExtractor, VideoMAEImageProcessor, XCLIPImageProcessor
    from .modeling import XCLIPModel, XCLIPTextModel, XCLIPVisionModel
    from .processor import XCLIPProcessor
    from .tokenizer import CLIPTokenizer, CLIPTokenizerFast

_HOMES = {
    "auto": (
        "AutoConfig",
        "AutoImageProcessor",
        "AutoModel",
        "AutoProcessor",
        "AutoTokenizer",
    ),
    "config": (
        "XCLIPConfig",
        "XCLIPTextConfig",
        "XCLIPVisionConfig",
    ),
    "images": (
        "VideoMAEFeatureExtractor",
        "VideoMAEImageProcessor",
        "XCLIPImageProcessor",
    ),
    "modeling": (
        "XCLIPModel",
        "XCLIPTextModel",
        "XCLIPVisionModel",
    ),
    "processor": ("XCLIPProcessor",),
    "tokenizer": (
        "CLIPTokenizer",
        "CLIPTokenizerFast",
    ),
}

__all__ = [
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoProcessor",
    "AutoTokenizer",
    "CLIPTokenizer",
    "CLIPTokenizerFast",
    "VideoMAEFeatureExtractor",
    "VideoMAEImageProcessor",
    "XCLIPConfig",
    "XCLIPImageProcessor",
    "XCLIPModel",
    "XCLIPProcessor",
    "XCLIPTextConfig",
    "XCLIPTextModel",
    "XCLIPVisionConfig",
    "XCLIPVisionModel",
]


def __getattr__(name: str) -> Any:
    home = next((module for module, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{home}", __name__), name)
