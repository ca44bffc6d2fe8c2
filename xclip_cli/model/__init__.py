"""The X-CLIP library: models, configs and processor under the names of the Hugging Face documentation.

Names load on first use, so that configs and checkpoints can be read without importing torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
    from .modeling import XCLIPModel, XCLIPTextModel, XCLIPVisionModel
    from .processor import XCLIPImageProcessor, XCLIPProcessor
    from .tokenizer import CLIPTokenizer

_HOMES = {
    "CLIPTokenizer": "tokenizer",
    "XCLIPConfig": "config",
    "XCLIPImageProcessor": "processor",
    "XCLIPModel": "modeling",
    "XCLIPProcessor": "processor",
    "XCLIPTextConfig": "config",
    "XCLIPTextModel": "modeling",
    "XCLIPVisionConfig": "config",
    "XCLIPVisionModel": "modeling",
}

__all__ = [
    "CLIPTokenizer",
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
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
