"""XCLIPProcessor: frames → ``pixel_values``, texts → ``input_ids``, as the checkpoint's files say."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ModelError
from ..text import one_line
from .checkpoint.files import CONFIG_NAME, read_json
from .config import MAX_SIDE, PREPROCESSINGS, XCLIPConfig
from .tokenizer import CLIPTokenizer

PREPROCESSOR_NAME = "preprocessor_config.json"
PROCESSOR_NAME = "processor_config.json"

# Pillow's numbers for resampling filters, as checkpoints name them, and torch's names for the same filters.
RESAMPLING: dict[int, dict[str, Any]] = {
    0: {"mode": "nearest-exact"},
    2: {"mode": "bilinear", "antialias": True},
    3: {"mode": "bicubic", "antialias": True},
}


# A strip of a picture is resized to its short side, and all but the centre of its long side then thrown away: of longer
# ones only as much is resized as makes this many crops, so that a strip cannot fill the memory.
MAX_CROPS = 64


class BatchFeature(dict[str, Any]):
    """What a processor returns: ``inputs["pixel_values"]``, ``inputs.pixel_values``, ``model(**inputs)``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device: str | torch.device) -> Self:
        """Move the tensors to a device, in place."""
        self.update({key: value.to(device) if isinstance(value, Tensor) else value for key, value in self.items()})
        return self


@dataclass(kw_only=True)
class XCLIPImageProcessor:
    """Resize the short side, crop the centre, scale to 0-1, normalise.

    The defaults are the values that all released checkpoints share; they come from the checkpoint's
    ``preprocessor_config.json`` all the same.
    """

    do_resize: bool = True
    size: int = 224  # of the short side; the long side keeps the aspect, truncated to whole pixels
    resample: int = 2  # Pillow's number: 0 nearest, 2 bilinear, 3 bicubic; both latter with antialias
    do_center_crop: bool = True
    crop_size: int = 224  # of both sides; smaller pictures are padded with black
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Sequence[float] = field(default_factory=lambda: [0.485, 0.456, 0.406])
    image_std: Sequence[float] = field(default_factory=lambda: [0.229, 0.224, 0.225])
    antialias: bool = True  # False: the authors' own resizing, and the long side rounded; no file can ask for it

    def __post_init__(self) -> None:
        self.size = _side(self.size, "size", {"shortest_edge"})
        self.crop_size = _side(self.crop_size, "crop_size", {"height", "width"}, {"shortest_edge"})
        if self.resample not in RESAMPLING or type(self.resample) is not int:
            raise ValueError(f"resample {self.resample!r} is not one of {sorted(RESAMPLING)} (nearest, ...)")
        for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}, it must be true or false")
        if len(self.image_mean) != 3 or len(self.image_std) != 3:
            raise ValueError("image_mean and image_std need three values each, for red, green and blue")
        if not _is_number(self.rescale_factor, *self.image_mean) or not _is_number(*self.image_std, least=1e-6):
            raise ValueError(
                f"rescale_factor {self.rescale_factor!r}, image_mean {self.image_mean!r} and image_std "
                f"{self.image_std!r} must be numbers, the last above 0"
            )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build from the JSON form of any version; without a ``crop_size`` the crop is ``size``, as in 2022."""
        known = {f.name for f in fields(cls)} - {"antialias"}
        accepted = {key: value for key, value in values.items() if key in known and value is not None}
        if "size" in accepted:
            accepted.setdefault("crop_size", accepted["size"])
        return cls(**accepted)

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read a checkpoint folder's image processor. The crop is the model's image size. Raises ModelError."""
        settings = read_json(folder / PREPROCESSOR_NAME)
        settings = settings or read_json(folder / PROCESSOR_NAME).get("image_processor", {})
        if not settings or not isinstance(settings, dict):
            raise ModelError(f"no image processor in {folder}: it needs {PREPROCESSOR_NAME} or {PROCESSOR_NAME}")
        if (folder / CONFIG_NAME).is_file():
            settings = settings | {"crop_size": XCLIPConfig.from_folder(folder).vision_config.image_size}
        try:
            return cls.from_dict(settings)
        except (TypeError, ValueError) as error:
            raise ModelError(f"the image processor's settings in {folder} are unusable: {one_line(error)}") from error

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as the Hugging Face library reads it."""
        values = asdict(self)
        del values["antialias"]
        return {
            **values,
            "size": {"shortest_edge": self.size},
            "crop_size": {"height": self.crop_size, "width": self.crop_size},
            "image_processor_type": "VideoMAEImageProcessor",
            "feature_extractor_type": "VideoMAEFeatureExtractor",
            "processor_class": "XCLIPProcessor",
        }

    def variant(self, preprocessing: str, crops: int = 1) -> XCLIPImageProcessor:
        """The same for another protocol: ``hf`` as the checkpoint's files say, or ``paper``.

        ``paper`` is the protocol of the published accuracies (the authors' code): bilinear without antialias, and for
        a single crop the short side 256/224 of it, which sees a little less of the picture's edges; for several
        ``crops`` the short side of the crop itself. Raises ValueError.
        """
        if preprocessing not in PREPROCESSINGS:
            raise ValueError(f"preprocessing {preprocessing!r} is not one of {', '.join(PREPROCESSINGS)}")
        if preprocessing == "hf":
            return self
        size = int(256 / 224 * self.crop_size) if crops == 1 else self.crop_size
        return replace(self, size=size, resample=2, do_resize=True, antialias=False)

    def resize_and_crop(self, frame: Any) -> Tensor:
        """One frame, an array, tensor or Pillow image, [H, W, 3] or [3, H, W] → [3, crop, crop] of its dtype.

        Bytes are resized as bytes; bilinear comes within one grey level of Pillow, bicubic within two. Raises
        ValueError on any other shape.
        """
        picture = self._resize(frame)
        return _center_crop(picture, self.crop_size) if self.do_center_crop else picture

    def resize_and_crops(self, frame: Any, crops: int) -> Tensor:
        """As ``resize_and_crop``, in several views → [crops, 3, crop, crop].

        One is the centre. Three are the authors' multi-view protocol: the ends of the long side (its last pixel is left
        out where the distance is odd) and the middle.
        """
        if crops == 1:
            return self.resize_and_crop(frame).unsqueeze(0)
        return _crops_along(self._resize(frame), self.crop_size, crops)

    def _resize(self, frame: Any) -> Tensor:
        picture = _channels_first(frame)
        height, width = picture.shape[-2:]
        if self.do_resize:
            if self.do_center_crop:
                picture = _shortened(picture, MAX_CROPS * max(self.crop_size / self.size, 1))
                height, width = picture.shape[-2:]
            short, long = sorted((height, width))
            longer = int(self.size * long / short + (0 if self.antialias else 0.5))
            target = (self.size, longer) if height <= width else (longer, self.size)
            if target != (height, width):
                # channels last in memory: torch's fast path for bytes
                batch = picture.unsqueeze(0).contiguous(memory_format=torch.channels_last)
                how = RESAMPLING[self.resample]
                picture = F.interpolate(batch, size=target, **(how if self.antialias else {"mode": how["mode"]}))[0]
        return picture

    def normalize(self, pictures: Tensor) -> Tensor:
        """[..., 3, H, W] of pixel values 0-255 → float32, scaled and normalised."""
        x = pictures.to(torch.float32, copy=True)
        if self.do_rescale:
            x *= self.rescale_factor
        if self.do_normalize:
            mean, std = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in (self.image_mean, self.image_std))
            x.sub_(mean).div_(std)
        return x

    def __call__(self, videos: Any) -> Tensor:
        """One video (a list of frames, or a 4-D array) or a batch of them → ``pixel_values`` [B, T, 3, H, W]."""
        batch = [[self.resize_and_crop(frame) for frame in video] for video in _as_batch(videos)]
        if len({len(video) for video in batch}) > 1:
            raise ValueError(f"the videos of a batch need equal frame counts, got {[len(video) for video in batch]}")
        if len({frame.shape for video in batch for frame in video}) > 1:
            raise ValueError("the frames differ in size once resized: they need a crop (do_center_crop)")
        return self.normalize(torch.stack([torch.stack(video) for video in batch]))


class XCLIPProcessor:
    """An image processor and a tokenizer in one, as the model wants its input."""

    def __init__(
        self,
        image_processor: XCLIPImageProcessor | None = None,
        tokenizer: CLIPTokenizer | None = None,
        feature_extractor: XCLIPImageProcessor | None = None,
    ) -> None:
        image_processor = image_processor or feature_extractor  # the older name
        if image_processor is None or tokenizer is None:
            raise ValueError("XCLIPProcessor needs an image_processor and a tokenizer")
        self.image_processor = image_processor
        self.tokenizer = tokenizer

    @classmethod
    def from_pretrained(cls, name: str | Path, revision: str | None = None) -> Self:
        """Read the processor of a checkpoint: a folder, a hub id or ``bundled``. Raises ModelError."""
        from .checkpoint.find import find_folder

        return cls.from_folder(find_folder(str(name), revision))

    @classmethod
    def from_folder(cls, folder: Path) -> Self:
        """Read the processor files of a checkpoint folder. Raises ModelError."""
        return cls(XCLIPImageProcessor.from_folder(folder), CLIPTokenizer.from_folder(folder))

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``preprocessor_config.json`` and the tokenizer's files, which the Hugging Face library loads too."""
        self.tokenizer.save_pretrained(folder)
        text = json.dumps(self.image_processor.to_dict(), indent=2, sort_keys=True) + "\n"
        (Path(folder) / PREPROCESSOR_NAME).write_text(text, encoding="utf-8")

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        videos: Any = None,
        return_tensors: str | None = None,
        *,
        images: Any = None,
        padding: bool | str = False,
        truncation: bool | str = False,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Texts and videos → ``input_ids``, ``attention_mask`` and ``pixel_values``, whichever were given.

        ``videos``: one video, as a list of frames or a 4-D array, or a batch of them; ``images`` is its older name.
        ``return_tensors``: "pt", "np", or None for lists of ids and a tensor of pixels. Raises ValueError where nothing
        was given, or texts of different lengths were not padded.
        """
        if return_tensors not in (None, "pt", "np"):
            raise ValueError(f"return_tensors {return_tensors!r} is not one of 'pt', 'np', None")
        videos = images if videos is None else videos
        if text is None and videos is None:
            raise ValueError("give text, videos, or both")
        features = BatchFeature()
        if text is not None:
            rows = self.tokenizer(text, padding=padding, truncation=truncation, max_length=max_length)
            if return_tensors and len(set(map(len, rows["input_ids"]))) > 1:
                raise ValueError("the texts differ in length: pass padding=True to make tensors of them")
            features.update({key: torch.tensor(ids) for key, ids in rows.items()} if return_tensors else rows)
        if videos is not None:
            features["pixel_values"] = self.image_processor(videos)
        if return_tensors == "np":
            features.update({key: value.numpy() for key, value in features.items()})
        return features

    @property
    def model_input_names(self) -> list[str]:
        """What the processor can produce."""
        return ["input_ids", "attention_mask", "pixel_values"]

    def decode(self, ids: Any, skip_special_tokens: bool = False) -> str:
        """Ids of one text → text."""
        return self.tokenizer.decode(ids, skip_special_tokens)

    def batch_decode(self, batch: Any, skip_special_tokens: bool = False) -> list[str]:
        """Ids of several texts → texts."""
        return self.tokenizer.batch_decode(batch, skip_special_tokens)


def _side(value: Any, name: str, *forms: set[str]) -> int:
    """The side that ``size`` or ``crop_size`` speaks of: a number, or a dict with the keys of one of ``forms``."""
    if isinstance(value, dict):
        if value.keys() not in forms or len(set(value.values())) != 1:
            known = " or ".join(f"{{{', '.join(f'{key}: n' for key in sorted(form))}}}" for form in forms)
            raise ValueError(f"{name} {value} is neither a number n nor {known}")
        (value,) = set(value.values())
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MAX_SIDE:
        raise ValueError(f"{name} is {value!r}, it must be a whole number of at least 1 and at most {MAX_SIDE}")
    return value


def _is_number(*values: Any, least: float = -1e6) -> bool:
    """Whether all are numbers that float32 computes well with."""
    return all(isinstance(v, int | float) and not isinstance(v, bool) and least <= v <= 1e6 for v in values)


def _shortened(picture: Tensor, aspect: float) -> Tensor:
    """[3, H, W] → the middle of a picture whose long side is more than ``aspect`` times its short side."""
    height, width = picture.shape[-2:]
    limit = int(aspect * min(height, width))
    long = max(height, width)
    if long <= limit:
        return picture
    return picture.narrow(1 if height > width else 2, (long - limit) // 2, limit)


def _as_batch(videos: Any) -> list[list[Any]]:
    """One video or a batch, lists or arrays → videos of frames."""
    if isinstance(videos, np.ndarray | Tensor):
        if videos.ndim not in (4, 5):
            raise ValueError(f"videos as an array need 4 dimensions (one video) or 5 (a batch), got {videos.ndim}")
        videos = [videos] if videos.ndim == 4 else list(videos)
    elif not isinstance(videos, list | tuple):
        raise ValueError(f"videos must be a list of frames, an array, or a batch of those, got {videos!r:.60}")
    elif videos and not _is_video(videos[0]):
        videos = [videos]
    batch = [list(video) for video in videos]
    if not batch or not all(batch):
        raise ValueError("videos holds no frames")
    return batch


def _is_video(value: Any) -> bool:
    """Whether one element of ``videos`` is itself a video."""
    return isinstance(value, list | tuple) or getattr(value, "ndim", 3) == 4


def _channels_first(frame: Any) -> Tensor:
    """An array, tensor or Pillow image of three channels → [3, H, W], of bytes or floats."""
    if isinstance(frame, str | bytes | Path):
        raise ValueError(
            f"a frame must be an array, a tensor or a Pillow image, got {frame!r:.60}: read the file first"
        )
    picture = frame if isinstance(frame, Tensor) else _as_tensor(frame)
    if picture.dtype != torch.uint8 and not picture.is_floating_point():
        wide, picture = picture.long(), picture.to(torch.uint8)
        if not picture.long().equal(wide):
            raise ValueError(f"a frame of whole numbers must lie in 0 to 255, got {wide.min()} to {wide.max()}")
    if picture.ndim == 3 and picture.shape[0] == 3:
        return picture
    if picture.ndim == 3 and picture.shape[2] == 3:
        return picture.permute(2, 0, 1)
    raise ValueError(f"a frame must be [height, width, 3] or [3, height, width], got {list(picture.shape)}")


def _as_tensor(frame: Any) -> Tensor:
    """An array or Pillow image as a tensor: without a copy, unless torch could not share it."""
    array = np.asarray(frame)
    shareable = array.flags.writeable and all(stride > 0 for stride in array.strides)
    return torch.from_numpy(array if shareable else array.copy())


def _center_crop(picture: Tensor, side: int) -> Tensor:
    """[3, H, W] → [3, side, side] around the centre; what is missing is black."""
    picture = _pad(picture, side)
    height, width = picture.shape[-2:]
    top, left = (height - side) // 2, (width - side) // 2
    return picture[:, top : top + side, left : left + side]


def _crops_along(picture: Tensor, side: int, count: int) -> Tensor:
    """[3, H, W] → [count, 3, side, side], from one end of the long side to the other in equal whole steps."""
    picture = _pad(picture, side)
    height, width = picture.shape[-2:]
    long = 2 if width >= height else 1
    step = (picture.shape[long] - side) // (count - 1)
    return torch.stack([_center_crop(picture.narrow(long, i * step, side), side) for i in range(count)])


def _pad(picture: Tensor, side: int) -> Tensor:
    """Black around a picture [3, H, W] that is smaller than ``side``."""
    height, width = picture.shape[-2:]
    tall, wide = max(side - height, 0), max(side - width, 0)
    before = ((wide + 1) // 2, (tall + 1) // 2)
    return F.pad(picture, (before[0], wide - before[0], before[1], tall - before[1])) if tall or wide else picture
