"""XCLIPProcessor: texts → ``input_ids``, videos → ``pixel_values``, as the checkpoint's files say."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from .batch import BatchFeature, check_kind
from .images import VideoMAEImageProcessor, XCLIPImageProcessor
from .keywords import hub_keywords, refuse, refuse_unknown
from .tokenizer import CLIPTokenizer

__all__ = ["XCLIPImageProcessor", "XCLIPProcessor"]

_OF_IMAGES = inspect.signature(VideoMAEImageProcessor.preprocess).parameters.keys() - {"self", "videos"}

_OF_TEXTS = inspect.signature(CLIPTokenizer.__call__).parameters.keys() - {"self", "text"}


class XCLIPProcessor:
    """An image processor and a tokenizer in one, as the model wants its input."""

    model_input_names: ClassVar[list[str]] = ["input_ids", "attention_mask", "pixel_values"]

    def __init__(
        self,
        image_processor: VideoMAEImageProcessor | None = None,
        tokenizer: CLIPTokenizer | None = None,
        **kwargs: Any,
    ) -> None:
        """``feature_extractor`` is the older name of ``image_processor``. Raises ValueError if one is missing."""
        older = kwargs.pop("feature_extractor", None)
        refuse_unknown("XCLIPProcessor", kwargs)
        image_processor = older if image_processor is None else image_processor
        if image_processor is None or tokenizer is None:
            raise ValueError("XCLIPProcessor needs an image_processor and a tokenizer")
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    @property
    def feature_extractor(self) -> VideoMAEImageProcessor:
        """The image processor under its older name."""
        return self.image_processor

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Read the processor of a checkpoint: a folder, a hub id or ``bundled``. Raises ModelError.

        ``kwargs``: how to reach the hub (revision, cache_dir, token, local_files_only, force_download), and settings of
        the image processor or the tokenizer to override.
        """
        from .checkpoint.find import find_folder, name_of

        refuse(kwargs)
        folder = find_folder(name_of(pretrained_model_name_or_path), *hub_keywords(kwargs))
        of_images = {name: kwargs.pop(name) for name in list(kwargs) if name in _OF_IMAGES}
        return cls(XCLIPImageProcessor.from_folder(folder, **of_images), CLIPTokenizer.from_folder(folder, **kwargs))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read the processor files of a checkpoint folder. Raises ModelError."""
        return cls(XCLIPImageProcessor.from_folder(folder), CLIPTokenizer.from_folder(folder))

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False) -> None:
        """Write ``preprocessor_config.json`` and the tokenizer's files, which the Hugging Face library loads too."""
        self.tokenizer.save_pretrained(save_directory, push_to_hub=push_to_hub)
        self.image_processor.save_pretrained(save_directory)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        return_tensors: str | None = None,
        **kwargs: Any,
    ) -> BatchFeature:
        """Texts and videos → ``input_ids``, ``attention_mask`` and ``pixel_values``, whichever were given.

        ``videos``: one video, as a list of frames or a 4-D array, a batch of them, or a still; ``images`` is its older
        name. ``return_tensors``: "pt", "np", or None for lists. Other keywords go to the tokenizer or to the image
        processor, whichever has them; ``text_kwargs``, ``images_kwargs`` and ``videos_kwargs`` are dicts of them.
        Raises ValueError if nothing was given, or texts of different lengths were not padded, TypeError for a
        keyword that neither has.
        """
        check_kind(return_tensors)
        images = kwargs.pop("images", None)
        videos = images if videos is None else videos
        if text is None and videos is None:
            raise ValueError("give text, videos, or both")
        of_texts = {**(kwargs.pop("text_kwargs", None) or {})}
        of_images = {**(kwargs.pop("images_kwargs", None) or {}), **(kwargs.pop("videos_kwargs", None) or {})}
        for name in list(kwargs):
            (of_images if name in _OF_IMAGES else of_texts)[name] = kwargs.pop(name)
        refuse_unknown("XCLIPProcessor", {name: of_texts[name] for name in of_texts.keys() - _OF_TEXTS})
        features = BatchFeature()
        if text is not None:
            features.update(self.tokenizer(text, return_tensors=return_tensors, **of_texts))
        if videos is not None:
            features.update(self.image_processor(videos, return_tensors=return_tensors, **of_images))
        return features

    def decode(self, *args: Any, **kwargs: Any) -> str:
        """Ids of one text → text: as the tokenizer's."""
        text: str = self.tokenizer.decode(*args, **kwargs)
        return text

    def batch_decode(self, *args: Any, **kwargs: Any) -> list[str]:
        """Ids of several texts → texts: as the tokenizer's."""
        return self.tokenizer.batch_decode(*args, **kwargs)
