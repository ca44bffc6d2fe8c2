"""The X-CLIP library: models, configs and processor under the names of the Hugging Face documentation.

Names load on first use, so that configs and checkpoints can be read without importing torch.

Every example and parameter of the documentation for transformers 4.22 and 4.34 works, with the same numbers. What
differs, and why:

- ``get_text_features`` and ``get_video_features`` return tensors, as documented; transformers 5 returns an object.
- Attentions are real whenever you ask for them, whichever attention kernel runs otherwise.
- The final similarity is computed in float32 also for a model in half precision, and in float64 for one in float64.
- Token ids are those of the fast tokenizer. The authors' own cleans texts first (ftfy, HTML): ids differ for curly
  quotes, HTML entities and ligatures.
- The image processor crops to the model's image size. transformers crops the 336-pixel checkpoint to 224 pixels, which
  its model then refuses. Bilinear resizing is within one grey level of Pillow's.
- A still (``images=picture``) is repeated to the model's frame count. Any other wrong count is an error: transformers
  mixes videos.
- Weights that do not fit are an error. ``from_pretrained(…, strict=False)`` initialises what is missing, such as a head
  of your own, and logs its name; so does ``output_loading_info=True``.
- An encoder saved alone has each tensor twice: version 4 looks for ``text_model.x``, version 5 for ``x``, and neither
  fails without it. (``XCLIPTextModel.from_pretrained`` of a whole model's folder gives random weights in
  transformers 5.)
- ``Trainer`` saves weights without a config for any class that is not its own: load them with
  ``XCLIPModel.from_pretrained(folder, config=model.config)``.
- Keywords that mean nothing here are refused, with the reason: ``trust_remote_code=True``, quantisation,
  ``push_to_hub``.
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
