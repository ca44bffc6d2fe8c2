"""Zero-shot video classification with X-CLIP.

``Classifier`` ranks labels for videos, an ``Index`` stores what an ``Encoder`` computed of them, and
``xclip_cli.search`` finds moments in it; the models, configs and processor have the names of the Hugging Face
documentation. Names load on first use: importing this package imports neither torch nor av.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .adaptation import Head
    from .classifier import Classifier
    from .engine.encoder import Encoder
    from .errors import LabelsError, ModelError, ResultsError, VideoError, XClipError
    from .labels import Labels, load_labels
    from .model import (
        AutoConfig,
        AutoImageProcessor,
        AutoModel,
        AutoProcessor,
        AutoTokenizer,
        CLIPTokenizer,
        CLIPTokenizerFast,
        VideoMAEFeatureExtractor,
        VideoMAEImageProcessor,
        XCLIPConfig,
        XCLIPModel,
        XCLIPProcessor,
        XCLIPTextConfig,
        XCLIPTextModel,
        XCLIPVisionConfig,
        XCLIPVisionModel,
    )
    from .results.index import Index
    from .results.records import Failure, Moment, Prediction, RankedLabel
    from .timeline import VideoTimeline

__version__ = "0.1.0"

__all__ = [
    "AutoConfig",
    "AutoImageProcessor",
    "AutoModel",
    "AutoProcessor",
    "AutoTokenizer",
    "CLIPTokenizer",
    "CLIPTokenizerFast",
    "Classifier",
    "Encoder",
    "Failure",
    "Head",
    "Index",
    "Labels",
    "LabelsError",
    "ModelError",
    "Moment",
    "Prediction",
    "RankedLabel",
    "ResultsError",
    "VideoError",
    "VideoMAEFeatureExtractor",
    "VideoMAEImageProcessor",
    "VideoTimeline",
    "XCLIPConfig",
    "XCLIPModel",
    "XCLIPProcessor",
    "XCLIPTextConfig",
    "XCLIPTextModel",
    "XCLIPVisionConfig",
    "XCLIPVisionModel",
    "XClipError",
    "__version__",
    "load_labels",
]

_HOMES = {
    "adaptation": ("Head",),
    "classifier": ("Classifier",),
    "errors": ("LabelsError", "ModelError", "ResultsError", "VideoError", "XClipError"),
    "labels": ("Labels", "load_labels"),
    "engine.encoder": ("Encoder",),
    "results.index": ("Index",),
    "results.records": ("Failure", "Moment", "Prediction", "RankedLabel"),
    "timeline": ("VideoTimeline",),
}


def __getattr__(name: str) -> Any:
    if name.startswith("_") or name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next((module for module, names in _HOMES.items() if name in names), "model")
    return getattr(import_module(f".{home}", __name__), name)


def __dir__() -> list[str]:
    return __all__
