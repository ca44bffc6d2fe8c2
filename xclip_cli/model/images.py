"""Frames → ``pixel_values``: resize the short side, crop the centre, scale to 0-1, normalise."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ModelError
from ..text import one_line
from .batch import BatchFeature, check_kind
from .checkpoint.files import CONFIG_NAME, read_json
from .config import MAX_SIDE, PREPROCESSINGS, XCLIPConfig, XCLIPVisionConfig
from .keywords import hub_keywords, refuse, refuse_unknown

log = logging.getLogger(__name__)

PREPROCESSOR_NAME = "preprocessor_config.json"
PROCESSOR_NAME = "processor_config.json"

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

# Pillow's numbers for resampling filters, as checkpoints name them, and torch's names for the same filters.
RESAMPLING: dict[int, dict[str, Any]] = {
    0: {"mode": "nearest-exact"},
    2: {"mode": "bilinear", "antialias": True},
    3: {"mode": "bicubic", "antialias": True},
}

FORMATS = (None, "channels_first", "channels_last")

# A strip of a picture is resized to its short side, and all but the centre of its long side then thrown away: of longer
# ones only as much is resized as makes this many crops, so that a strip cannot fill the memory.
MAX_CROPS = 64


@dataclass
class VideoMAEImageProcessor:
    """The image processor of X-CLIP, with the documented defaults.

    Checkpoints have others, in their ``preprocessor_config.json``: use ``from_pretrained``.
    """

    model_input_names: ClassVar[list[str]] = ["pixel_values"]

    do_resize: bool = True
    # {"shortest_edge": n} keeps the aspect, the long side truncated to whole pixels; or {"height": h, "width": w}
    size: Any = 224
    resample: int = 2  # Pillow's number: 0 nearest, 2 bilinear, 3 bicubic; both latter with antialias
    do_center_crop: bool = True
    crop_size: Any = 224  # {"height": h, "width": w}, of which a number is both; smaller pictures are padded with black
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: Sequence[float] = (0.5, 0.5, 0.5)
    image_std: Sequence[float] = (0.5, 0.5, 0.5)
    # False: the authors' own resizing, and the long side rounded; no file can ask for it
    antialias: bool = field(default=True, kw_only=True)

    def __post_init__(self) -> None:
        self.size = _size(self.size, "size", "shortest_edge")
        self.crop_size = _size(self.crop_size, "crop_size", None)
        if isinstance(self.resample, bool) or self.resample not in RESAMPLING or not isinstance(self.resample, int):
            raise ValueError(f"resample {self.resample!r} is not one of {sorted(RESAMPLING)} (nearest, ...)")
        self.resample = int(self.resample)  # Pillow's own numbers have names
        for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}, but must be true or false")
        for name in ("image_mean", "image_std"):
            value = getattr(self, name)
            setattr(self, name, [value] * 3 if isinstance(value, int | float) else list(value))
        if len(self.image_mean) != 3 or len(self.image_std) != 3:
            raise ValueError("image_mean and image_std need three values each, for red, green and blue")
        if not _is_number(self.rescale_factor, *self.image_mean) or not _is_number(*self.image_std, least=1e-6):
            raise ValueError(
                f"rescale_factor {self.rescale_factor!r}, image_mean {self.image_mean!r} and image_std "
                f"{self.image_std!r} must be numbers, the last above 0"
            )

    # Files

    @classmethod
    def from_dict(cls, image_processor_dict: dict[str, Any], **kwargs: Any) -> Self:
        """Build from the JSON form of any version, some values overridden.

        Without a ``crop_size`` the crop is ``size``, as in 2022. Raises ValueError.
        """
        known = {f.name for f in fields(cls)} - {"antialias"}
        refuse_unknown(cls.__name__, {name: value for name, value in kwargs.items() if name not in known})
        accepted = {k: v for k, v in image_processor_dict.items() if k in known and v is not None}
        if "size" in accepted:
            accepted.setdefault("crop_size", _square(accepted["size"]))
        return cls(**{**accepted, **kwargs})

    @classmethod
    def from_folder(cls, folder: Path, **kwargs: Any) -> Self:
        """Read a checkpoint folder's image processor. The crop is the model's image size. Raises ModelError."""
        settings = read_json(folder / PREPROCESSOR_NAME)
        settings = settings or read_json(folder / PROCESSOR_NAME).get("image_processor", {})
        if not settings or not isinstance(settings, dict):
            raise ModelError(f"no image processor in {folder}: it needs {PREPROCESSOR_NAME} or {PROCESSOR_NAME}")
        if (folder / CONFIG_NAME).is_file():
            kind = XCLIPVisionConfig if _is_tower(folder) else XCLIPConfig
            config = kind.from_folder(folder)
            settings = settings | {"crop_size": getattr(config, "vision_config", config).image_size}
        try:
            return cls.from_dict(settings, **kwargs)
        except (TypeError, ValueError) as error:
            raise ModelError(f"the image processor's settings in {folder} are unusable: {one_line(error)}") from error

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> Self:
        """Read the image processor of a checkpoint: a folder, a hub id or ``bundled``. Raises ModelError.

        ``kwargs``: how to reach the hub (revision, cache_dir, token, local_files_only, force_download), and settings to
        override.
        """
        from .checkpoint.find import find_folder, name_of

        refuse(kwargs)
        folder = find_folder(name_of(pretrained_model_name_or_path), *hub_keywords(kwargs))
        return cls.from_folder(folder, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form, as the Hugging Face library reads it."""
        values = asdict(self)
        del values["antialias"]
        return {
            **values,
            "image_processor_type": "VideoMAEImageProcessor",
            "feature_extractor_type": "VideoMAEFeatureExtractor",
            "processor_class": "XCLIPProcessor",
        }

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False) -> None:
        """Write ``preprocessor_config.json``, which the Hugging Face library loads too."""
        refuse({"push_to_hub": push_to_hub})
        folder = Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.to_dict(), indent=2, sort_keys=True) + "\n"
        (folder / PREPROCESSOR_NAME).write_text(text, encoding="utf-8")

    def variant(self, preprocessing: str, crops: int = 1) -> Self:
        """The same for another protocol: ``hf`` as the checkpoint's files say, or ``paper``.

        ``paper`` is the protocol of the published accuracies (the authors' code): bilinear without antialias, and for
        a single crop the short side 256/224 of it, which sees a little less of the picture's edges; for several
        ``crops`` the short side of the crop itself. Raises ValueError.
        """
        if preprocessing not in PREPROCESSINGS:
            raise ValueError(f"preprocessing {preprocessing!r} is not one of {', '.join(PREPROCESSINGS)}")
        if preprocessing == "hf":
            return self
        side = self.crop_size["height"]
        size = int(256 / 224 * side) if crops == 1 else side
        return replace(self, size=size, resample=2, do_resize=True, antialias=False)

    # Pictures

    def preprocess(
        self,
        videos: Any,
        do_resize: bool | None = None,
        size: Any = None,
        resample: int | None = None,
        do_center_crop: bool | None = None,
        crop_size: Any = None,
        do_rescale: bool | None = None,
        rescale_factor: float | None = None,
        do_normalize: bool | None = None,
        image_mean: float | Sequence[float] | None = None,
        image_std: float | Sequence[float] | None = None,
        return_tensors: str | None = None,
        data_format: str | None = "channels_first",
        input_data_format: str | None = None,
    ) -> BatchFeature:
        """One video (a list of frames, or a 4-D array), a batch of videos, or a still → ``pixel_values``.

        A frame is a Pillow image, an array or a tensor, [H, W, 3] or [3, H, W], of values from 0 to 255; values from 0
        to 1 need ``do_rescale=False``. ``return_tensors`` "pt" or "np": [B, T, 3, H, W]; None: a list of arrays for
        each video. ``data_format``: "channels_first" or "channels_last", for the output; ``input_data_format`` for the
        input, inferred from its shape if None. Other settings default to this processor's. Raises ValueError.
        """
        check_kind(return_tensors)
        for name, value in (("data_format", data_format), ("input_data_format", input_data_format)):
            if value not in FORMATS:
                raise ValueError(f"{name} {value!r} is not one of 'channels_first', 'channels_last', None")
        given = {
            "do_resize": do_resize,
            "size": size,
            "resample": resample,
            "do_center_crop": do_center_crop,
            "crop_size": crop_size,
            "do_rescale": do_rescale,
            "rescale_factor": rescale_factor,
            "do_normalize": do_normalize,
            "image_mean": image_mean,
            "image_std": image_std,
        }
        settings = replace(self, **{name: value for name, value in given.items() if value is not None})
        frames = _as_batch(videos)
        if settings.do_rescale and _is_small(frames[0][0]):
            log.warning("frames with values from 0 to 1 are scaled again: pass do_rescale=False")
        batch = [[settings._finished(frame, data_format, input_data_format) for frame in video] for video in frames]
        if return_tensors is None:
            return BatchFeature(pixel_values=[[frame.numpy() for frame in video] for video in batch])
        if len({len(video) for video in batch}) > 1:
            raise ValueError(f"the videos of a batch need equal frame counts, got {[len(video) for video in batch]}")
        if len({frame.shape for video in batch for frame in video}) > 1:
            raise ValueError("the frames differ in size once resized: they need a crop (do_center_crop)")
        pixels = torch.stack([torch.stack(video) for video in batch])
        return BatchFeature(pixel_values=pixels.numpy() if return_tensors == "np" else pixels)

    def __call__(self, videos: Any = None, return_tensors: str | None = None, **kwargs: Any) -> BatchFeature:
        """As ``preprocess``; ``images`` is another name of ``videos``."""
        videos = kwargs.pop("images", None) if videos is None else videos
        return self.preprocess(videos, return_tensors=return_tensors, **kwargs)

    def _finished(self, frame: Any, data_format: str | None, input_data_format: str | None) -> Tensor:
        finished = self.normalize(self._cropped(self._resize(_channels_first(frame, input_data_format))))
        return finished.permute(1, 2, 0) if data_format == "channels_last" else finished

    def resize_and_crop(self, frame: Any) -> Tensor:
        """One frame, an array, tensor or Pillow image, [H, W, 3] or [3, H, W] → [3, crop, crop].

        Bytes are resized as bytes; bilinear comes within one grey level of Pillow, bicubic within two. Raises
        ValueError on any other shape.
        """
        return self._cropped(self._resize(_channels_first(frame)))

    def resize_and_crops(self, frame: Any, crops: int) -> Tensor:
        """As ``resize_and_crop``, in several views → [crops, 3, crop, crop].

        One is the centre. Three are the authors' multi-view protocol: the ends of the long side (its last pixel is left
        out where the distance is odd) and the middle.
        """
        if crops == 1:
            return self.resize_and_crop(frame).unsqueeze(0)
        return _crops_along(self._resize(_channels_first(frame)), self.crop_size["height"], crops)

    def _cropped(self, picture: Tensor) -> Tensor:
        if not self.do_center_crop:
            return picture
        return _center_crop(picture, self.crop_size["height"], self.crop_size["width"])

    def _resize(self, picture: Tensor) -> Tensor:
        if not self.do_resize:
            return picture
        short = self.size.get("shortest_edge")
        if short and self.do_center_crop:
            picture = _shortened(picture, MAX_CROPS * max(max(self.crop_size.values()) / short, 1))
        height, width = picture.shape[-2:]
        if short:
            longer = int(short * max(height, width) / min(height, width) + (0 if self.antialias else 0.5))
            target = (short, longer) if height <= width else (longer, short)
        else:
            target = (self.size["height"], self.size["width"])
        picture, scale = _as_bytes(picture)
        if target != (height, width):
            # channels last in memory: torch's fast path for bytes
            batch = picture.unsqueeze(0).contiguous(memory_format=torch.channels_last)
            how = RESAMPLING[self.resample]
            picture = F.interpolate(batch, size=target, **(how if self.antialias else {"mode": how["mode"]}))[0]
        return picture if scale == 1 else picture.float() * scale

    def normalize(self, pictures: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """[..., 3, H, W] of pixel values 0-255 → ``dtype``, scaled and normalised in float32, as far as that is asked
        for; where nothing is, they are left as they are."""
        if not self.do_rescale and not self.do_normalize:
            return pictures
        factor = float(self.rescale_factor) if self.do_rescale else 1.0
        mean, std = (self.image_mean, self.image_std) if self.do_normalize else ((0.0,) * 3, (1.0,) * 3)
        scale, shift = _scale_and_shift(factor, tuple(mean), tuple(std), pictures.device)
        if pictures.is_cuda and pictures.dtype == torch.uint8:
            return normalized_at_once(pictures, scale, shift, dtype)
        return pictures.to(torch.float32, copy=True).mul_(scale).add_(shift).to(dtype)


class VideoMAEFeatureExtractor(VideoMAEImageProcessor):
    """The same under its name of 2022."""


@dataclass
class XCLIPImageProcessor(VideoMAEImageProcessor):
    """The same, with the values that all released checkpoints share as defaults."""

    image_mean: Sequence[float] = IMAGENET_MEAN
    image_std: Sequence[float] = IMAGENET_STD


def normalized_at_once(pictures: Tensor, scale: Tensor, shift: Tensor, dtype: torch.dtype) -> Tensor:
    """Bytes times ``scale`` plus ``shift``, in float32, as ``dtype``: one kernel on a GPU; a CPU is faster in steps."""
    return torch.addcmul(shift, pictures, scale, out=torch.empty_like(pictures, dtype=dtype))


@cache
def _scale_and_shift(
    factor: float, mean: tuple[float, ...], std: tuple[float, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """What pixel values are multiplied by, and what is added. Made once: a GPU stops for what comes to it, and its
    graphs know where this lies."""
    with torch.inference_mode(False):
        deviation = torch.tensor(std)
        scale, shift = factor / deviation, -torch.tensor(mean) / deviation
        return scale.view(3, 1, 1).to(device), shift.view(3, 1, 1).to(device)


def _is_tower(folder: Path) -> bool:
    return read_json(folder / CONFIG_NAME).get("model_type") == XCLIPVisionConfig.model_type


def _square(size: Any) -> Any:
    """The crop that a ``size`` of 2022 stands for."""
    return size["shortest_edge"] if isinstance(size, dict) and "shortest_edge" in size else size


def _size(value: Any, name: str, of_number: str | None) -> dict[str, int]:
    """A size in its documented form; a number is ``of_number``, or both sides. Raises ValueError."""
    if isinstance(value, list | tuple) and len(value) == 2:
        value = {"height": value[0], "width": value[1]}
    elif of_number is None and isinstance(value, dict) and value.keys() == {"shortest_edge"}:
        value = value["shortest_edge"]  # in files that transformers has converted from those of 2022
    if not isinstance(value, dict):
        value = {of_number: value} if of_number else {"height": value, "width": value}
    forms = [{"height", "width"}, *([{of_number}] if of_number else [])]
    if set(value) not in forms:
        known = " or ".join(f"{{{', '.join(f'{key}: n' for key in sorted(map(str, form)))}}}" for form in forms)
        raise ValueError(f"{name} {value} is neither a number n nor {known}")
    for side in value.values():
        if not isinstance(side, int) or isinstance(side, bool) or not 1 <= side <= MAX_SIDE:
            raise ValueError(f"{name} is {side!r}, it must be a whole number of at least 1 and at most {MAX_SIDE}")
    return dict(value)


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


def _as_bytes(picture: Tensor) -> tuple[Tensor, float]:
    """A picture as the bytes that are resized, and what they are times afterwards.

    As Pillow, for which the reference makes bytes of everything, takes it: floats are whole numbers from 0 to 255, or
    numbers from 0 to 1.
    """
    if picture.dtype == torch.uint8:
        return picture, 1
    low, high = picture.min().item(), picture.max().item()
    if low >= 0 and high <= 255 and torch.allclose(picture, picture.trunc()):
        return picture.to(torch.uint8), 1
    if low >= 0 and high <= 1:
        return (picture * 255).to(torch.uint8), 1 / 255
    raise ValueError(
        "a frame of floats must hold whole numbers from 0 to 255, or numbers from 0 to 1, to be resized; got "
        f"{low:g} to {high:g}"
    )


def _as_batch(videos: Any) -> list[list[Any]]:
    """One video or a batch, lists or arrays, or a still → videos of frames."""
    if isinstance(videos, np.ndarray | Tensor):
        if videos.ndim not in (3, 4, 5):
            raise ValueError(
                f"videos as an array need 3 dimensions (a still), 4 (one video) or 5 (a batch), got {videos.ndim}"
            )
        videos = [[videos]] if videos.ndim == 3 else [videos] if videos.ndim == 4 else list(videos)
    elif hasattr(videos, "__array_interface__"):  # Pillow's
        videos = [[videos]]
    elif not isinstance(videos, list | tuple):
        raise ValueError(f"videos must be a list of frames, an array, or a batch of those, got {videos!r:.60}")
    elif videos and not _is_video(videos[0]):
        videos = [videos]
    batch = [list(video) for video in videos]
    if not batch or not all(batch):
        raise ValueError("videos contains no frames")
    return batch


def _is_small(frame: Any) -> bool:
    """Whether a frame contains floats from 0 to 1."""
    picture = frame if isinstance(frame, Tensor) else np.asarray(frame)
    floats = picture.is_floating_point() if isinstance(picture, Tensor) else picture.dtype.kind == "f"
    return bool(floats and picture.min() >= 0 and picture.max() <= 1)


def _is_video(value: Any) -> bool:
    """Whether one element of ``videos`` is itself a video."""
    return isinstance(value, list | tuple) or getattr(value, "ndim", 3) == 4


def _channels_first(frame: Any, data_format: str | None = None) -> Tensor:
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
    if picture.ndim == 3 and picture.shape[0] == 3 and data_format != "channels_last":
        return picture
    if picture.ndim == 3 and picture.shape[2] == 3 and data_format != "channels_first":
        return picture.permute(2, 0, 1)
    raise ValueError(
        f"a frame must be [height, width, 3] or [3, height, width], got {list(picture.shape)}: a Pillow image of "
        "another mode becomes one by convert('RGB')"
    )


def _as_tensor(frame: Any) -> Tensor:
    """An array or Pillow image as a tensor: without a copy, unless torch could not share it."""
    array = np.asarray(frame)
    shareable = array.flags.writeable and all(stride > 0 for stride in array.strides)
    return torch.from_numpy(array if shareable else array.copy())


def _center_crop(picture: Tensor, tall: int, wide: int) -> Tensor:
    """[3, H, W] → [3, tall, wide] around the centre; what is missing is black."""
    picture = _pad(picture, tall, wide)
    height, width = picture.shape[-2:]
    top, left = (height - tall) // 2, (width - wide) // 2
    return picture[:, top : top + tall, left : left + wide]


def _crops_along(picture: Tensor, side: int, count: int) -> Tensor:
    """[3, H, W] → [count, 3, side, side], from one end of the long side to the other in equal whole steps."""
    picture = _pad(picture, side, side)
    height, width = picture.shape[-2:]
    long = 2 if width >= height else 1
    step = (picture.shape[long] - side) // (count - 1)
    first = _center_crop(picture.narrow(long, 0, side), side, side)
    return first.as_strided((count, *first.shape), (step * first.stride(long), *first.stride()))  # without a copy


def _pad(picture: Tensor, tall: int, wide: int) -> Tensor:
    """Black around a picture [3, H, W] that is smaller than that."""
    height, width = picture.shape[-2:]
    more_rows, more_columns = max(tall - height, 0), max(wide - width, 0)
    if not more_rows and not more_columns:
        return picture
    left, top = (more_columns + 1) // 2, (more_rows + 1) // 2
    return F.pad(picture, (left, more_columns - left, top, more_rows - top))
