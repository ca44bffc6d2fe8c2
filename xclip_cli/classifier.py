"""Classifier: a model, its processor and labels → predictions for videos.

Everything that can be wrong with names, labels and settings is found when a Classifier is made, without torch; torch
and the weights are loaded at the first use, or by ``load``. Videos are decoded by a worker process meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import __version__
from .decoding import Decoder
from .errors import LabelsError, ModelError, VideoError, XClipError
from .labels import BARE_LABEL, Labels
from .model.checkpoints import Checkpoint, choose_model, find_checkpoint, shortened
from .model.config import PREPROCESSINGS
from .model.loading import load_config, load_image_processor, load_model, load_tokenizer
from .model.tokenizer import CLIPTokenizer
from .results import Failure, Frames, Prediction, RankedLabel, Record, RunHeader
from .sampling import ClipInfo, ClipRequest, parse_time

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .model.modeling import XCLIPModel
    from .model.processor import XCLIPImageProcessor
    from .video import Picture

Time = str | float | Fraction  # "HH:MM:SS.mmm", or seconds

AUTO = "auto"
DTYPES = (AUTO, "float32", "bfloat16", "float16")
TEXTS_AT_ONCE = 256


class Classifier:
    """Ranks labels for videos.

    ``model``: a checkpoint folder, a hub id, ``bundled``, or ``auto``: the bundled model if it knows every word of the
    labels, else the checkpoint that X-CLIP's authors recommend for labels of one's own. ``templates`` apply where
    ``labels`` are plain names. ``device``: auto, cpu, cuda or cuda:N. ``dtype``: auto (bfloat16 where the hardware
    computes it natively, else float32), float32, bfloat16 or float16. ``threads``: of torch on the CPU.
    ``preprocess``: hf, as the checkpoint's files say, or paper, the protocol of the published accuracies.
    ``tokenizer``: a folder or hub id, for an authors' ``.pth``, which holds none. ``heads``: attention heads of MIT and
    prompt generator, where they are to differ from the checkpoint's.

    Raises LabelsError, ModelError, and ValueError for an unknown dtype or preprocessing.
    """

    def __init__(
        self,
        model: str | Path | Checkpoint = AUTO,
        *,
        labels: Labels | Iterable[str],
        templates: Iterable[str] = (BARE_LABEL,),
        device: str = AUTO,
        dtype: str = AUTO,
        threads: int | None = None,
        preprocess: str = "hf",
        tokenizer: str | None = None,
        heads: int | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        if preprocess not in PREPROCESSINGS:
            raise ValueError(f"preprocess {preprocess!r} is not one of {', '.join(PREPROCESSINGS)}")
        self.labels = labels if isinstance(labels, Labels) else Labels.of(labels, templates)
        self.checkpoint = model if isinstance(model, Checkpoint) else self._find(str(model))
        self.config = load_config(self.checkpoint, heads)
        self.decoder = Decoder()
        self.warnings = self._warnings()
        self._input_ids = self._tokenize(load_tokenizer(self.checkpoint, tokenizer))
        self._device_name, self._dtype_name, self._threads = device, dtype, threads
        self.preprocess, self._heads = preprocess, heads
        self._loaded = False

    def classify(
        self, video: str | os.PathLike[str] | Any, start: Time | None = None, end: Time | None = None
    ) -> Prediction:
        """Rank all labels for one video: a path, or its frames as arrays [H, W, 3] of bytes (a list, or 4-D).

        ``start`` and ``end`` (seconds, or "HH:MM:SS.mmm") choose a stretch of a video file. Frames are taken as one a
        second: their times are their numbers. Raises VideoError.
        """
        if not isinstance(video, str | os.PathLike):
            return self._classify_frames(video)
        (record,) = self.classify_all([self.request(video, start, end)])
        if isinstance(record, Failure):
            raise VideoError(record.message, record.code)
        return record

    def classify_all(self, videos: Iterable[str | os.PathLike[str] | ClipRequest]) -> Iterator[Record]:
        """One record a video, in order, a Failure where one cannot be read. The next video decodes meanwhile.

        The first video starts to decode at once. Exhaust or close the iterator before the classifier is used again:
        until then other calls raise RuntimeError.
        """
        if isinstance(videos, str | os.PathLike):
            raise TypeError(f"videos must be a list of paths, got {videos!r}: classify takes one video")
        self._require_idle()
        requests = (video if isinstance(video, ClipRequest) else self.request(video) for video in videos)
        for first in requests:
            self.decoder.submit(first)
            break
        return self._records(requests)

    def _records(self, requests: Iterator[ClipRequest]) -> Iterator[Record]:
        try:
            for request in requests:
                self.decoder.submit(request)
                yield self._next_record()
            while self.decoder.pending:
                yield self._next_record()
        finally:
            self.decoder.cancel()

    def _require_idle(self) -> None:
        if self.decoder.pending:
            raise RuntimeError("an iterator of classify_all is unfinished: exhaust or close it first")

    def request(self, video: str | os.PathLike[str], start: Time | None = None, end: Time | None = None) -> ClipRequest:
        """What to decode of a video for this model. Raises ValueError where ``start`` or ``end`` is no time."""
        first, last = _exact(start), _exact(end)
        if (first or 0) < 0 or (last is not None and last <= (first or 0)):
            raise ValueError(f"the window from {start} to {end} is empty or begins before the video")
        return ClipRequest(os.fspath(video), self.config.vision_config.num_frames, first, last)

    def load(self) -> None:
        """Import torch, load the weights and encode the labels, unless that is done. Raises ModelError."""
        if not self._loaded:
            self.warnings += tuple(dtype_misfits(self.dtype, self.device))
            _ = self._text_features
            self._loaded = True

    def close(self) -> None:
        """End the decode worker."""
        self.decoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, name: str) -> Checkpoint:
        return find_checkpoint(choose_model(self.labels.all_texts)[0] if name == AUTO else name)

    def _warnings(self) -> tuple[str, ...]:
        unknown = self.checkpoint.unknown_words(self.labels.all_texts)
        if not unknown:
            return self.labels.warnings
        warning = f"the model {self.checkpoint.name} can only guess: it was not trained on {shortened(unknown)}"
        return (*self.labels.warnings, warning)

    def _tokenize(self, tokenizer: CLIPTokenizer) -> list[list[int]]:
        limit = self.config.text_config.max_position_embeddings
        rows = tokenizer(self.labels.all_texts)["input_ids"]
        for text, row in zip(self.labels.all_texts, rows, strict=True):
            if len(row) > limit:
                raise LabelsError(
                    f"a text has {len(row)} tokens, the model {self.checkpoint.name} takes at most {limit}: "
                    f"shorten {text!r}"
                )
            if max(row) != tokenizer.eos_token_id:
                raise ModelError(
                    f"the tokenizer of {self.checkpoint.name} does not fit X-CLIP: its end token must have the "
                    "largest id of all"
                )
        return rows

    @cached_property
    def device(self) -> torch.device:
        """Where the model runs. Raises XClipError where there is no such device."""
        return choose_device(self._device_name)

    @cached_property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return choose_dtype(self._dtype_name, self.device)

    @cached_property
    def model(self) -> XCLIPModel:
        """The model, in eval mode, on its device."""
        import torch

        if self._threads:
            torch.set_num_threads(self._threads)
        return load_model(self.checkpoint, self.config, self.dtype, self.device)

    @cached_property
    def image_processor(self) -> XCLIPImageProcessor:
        """Resizes and normalises as the checkpoint, or the paper, says."""
        return load_image_processor(self.checkpoint, self.config).variant(self.preprocess)

    @cached_property
    def _text_features(self) -> Tensor:
        """[K, P]: of each label the mean over its texts, un-normalised, as the prompt generator expects them."""
        import torch

        # The model is loaded out here: weights made in inference mode could never be trained.
        model, rows, features = self.model, self._input_ids, []
        with torch.inference_mode():
            for i in range(0, len(rows), TEXTS_AT_ONCE):
                chunk = rows[i : i + TEXTS_AT_ONCE]
                # Trimmed to the longest and without a mask: causal attention never looks at padding.
                length = max(map(len, chunk))
                ids = torch.tensor([row + row[-1:] * (length - len(row)) for row in chunk], device=self.device)
                features.append(model.encode_text(ids).features.float())
            of_texts = torch.cat(features)
            counts = [len(texts) for texts in self.labels.texts]
            return torch.stack([texts.mean(dim=0) for texts in torch.split(of_texts, counts)])

    def _next_record(self) -> Record:
        """The oldest submitted clip, classified."""
        request = self.decoder.pending[0]
        pictures: list[Tensor] = []
        short_sides: list[int] = []

        def receive(picture: Picture) -> None:
            # Every picture is cut down on arrival: 32 frames of 4K would take 800 MB.
            pictures.append(self.image_processor.resize_and_crop(picture).clone())
            short_sides.append(min(picture.shape[:2]))

        try:
            clip = self.decoder.collect(receive)
            return self._predict(request.path, pictures, clip, min(short_sides))
        except VideoError as error:
            return Failure.of(request.path, error)

    def _classify_frames(self, frames: Any) -> Prediction:
        """Frames in memory, sampled like a video of constant rate."""
        resize = self.image_processor.resize_and_crop
        if frames is None or isinstance(frames, bytes):
            raise TypeError(f"a video is a path or a list of frames, got {frames!r:.40}")
        total, wanted = len(frames), self.config.vision_config.num_frames
        if total == 0:
            raise VideoError("there are no frames", "no_frames")
        if any(np.asarray(frame).dtype != np.uint8 or np.size(frame) == 0 for frame in frames):
            raise TypeError("frames must be arrays [height, width, 3] of bytes (uint8), 0 to 255, and not empty")
        chosen = [int((2 * i + 1) * total / (2 * wanted)) for i in range(wanted)]
        different = sorted(set(chosen))
        clip = ClipInfo(
            start_seconds=0.0,
            end_seconds=float(total),
            times_seconds=tuple(map(float, chosen)),
            places=tuple(different.index(i) for i in chosen),
            errors=0,
            warnings=(),
        )
        smallest = min(sorted(np.shape(frames[i]))[1] for i in different)  # the channels are the smallest of all
        return self._predict("", [resize(frames[i]) for i in different], clip, smallest)

    def _misfits(self, clip: ClipInfo, smallest: int) -> Iterator[str]:
        """What of a video fits the model badly; ``smallest`` is the short side of its pictures."""
        wanted, size = len(clip.places), self.config.vision_config.image_size
        if clip.decoded < wanted:
            yield f"only {clip.decoded} different frames for a model that takes {wanted}: frames are repeated"
        if smallest < size / 2:
            yield f"pictures {smallest} pixels small are enlarged to {size}: they lack the detail it was trained on"

    def _predict(self, video: str, pictures: Sequence[Tensor], clip: ClipInfo, smallest: int) -> Prediction:
        """Rank the labels for one clip, given as its different pictures, resized."""
        import torch

        self.load()
        model, text_features = self.model, self._text_features
        with torch.inference_mode():
            frames = torch.stack([pictures[place] for place in clip.places]).to(self.device)
            pixel_values = self.image_processor.normalize(frames).unsqueeze(0).to(self.dtype)
            encoded = model.encode_video(pixel_values)
            similarity = model.similarity(text_features, encoded.features, encoded.visual_tokens)
            logits = similarity.logits_per_video[0].cpu()
        if not logits.isfinite().all():
            raise VideoError(f"the model gives no finite score in {self.dtype}: try --dtype float32", "not_finite")
        scores = logits.softmax(dim=0).tolist()
        order = np.argsort(-logits.numpy(), kind="stable").tolist()
        return Prediction(
            video=video,
            model=self.checkpoint.name,
            revision=self.checkpoint.revision,
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            frames=Frames(
                requested=len(clip.places),
                decoded=clip.decoded,
                repeated=len(clip.places) - clip.decoded,
                errors=clip.errors,
                times_seconds=clip.times_seconds,
            ),
            predictions=tuple(RankedLabel(self.labels.names[i], scores[i], float(logits[i])) for i in order),
            warnings=(*self.warnings, *clip.warnings, *self._misfits(clip, smallest)),
        )

    def description(self) -> str:
        """The model and how it runs, in a line."""
        return f"model {self.checkpoint.name} on {self.device}, {str(self.dtype).removeprefix('torch.')}"

    def run_header(self, start: Fraction | None, end: Fraction | None, top_k: int) -> RunHeader:
        """What the records of a run are made with."""
        content = json.dumps([self.labels.names, self.labels.texts])
        return RunHeader(
            xclip=__version__,
            model=self.checkpoint.name,
            revision=self.checkpoint.revision,
            model_identity=self.checkpoint.identity,
            labels=len(self.labels.names),
            labels_sha256=hashlib.sha256(content.encode()).hexdigest(),
            num_frames=self.config.vision_config.num_frames,
            preprocess=self.preprocess,
            heads=self._heads,
            start=None if start is None else str(start),
            end=None if end is None else str(end),
            dtype=str(self.dtype).removeprefix("torch."),
            top_k=top_k,
        )


def _exact(time: Time | None) -> Fraction | None:
    if time is None:
        return None
    if isinstance(time, float) and not math.isfinite(time):
        raise ValueError(f"{time} is not a time")
    return parse_time(time) if isinstance(time, str) else Fraction(time)


def choose_device(name: str) -> torch.device:
    """The device called ``name``; for auto the first CUDA device if there is one. Raises XClipError."""
    import torch

    if name == AUTO:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise XClipError(f"unknown device {name!r}: give auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise XClipError(f"unknown device {name!r}: give auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise XClipError(f"there is no device {name}: torch sees {torch.cuda.device_count()} CUDA devices; use cpu")
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """The dtype called ``name``; for auto bfloat16 where the device computes it natively, else float32."""
    import torch

    if name == AUTO:
        return torch.bfloat16 if _computes_bfloat16(device) else torch.float32
    dtype: torch.dtype = getattr(torch, name)
    return dtype


def dtype_misfits(dtype: torch.dtype, device: torch.device) -> Iterator[str]:
    """What speaks against computing in ``dtype`` on ``device``."""
    import torch

    if dtype == torch.float16 and device.type == "cpu":
        yield "float16 is slow on a CPU and can overflow: bfloat16 or float32 fit better"
    if dtype == torch.bfloat16 and not _computes_bfloat16(device):
        yield "this hardware only emulates bfloat16: float32 is faster and more exact"


def measured_macs_per_second(device: torch.device, dtype: torch.dtype, size: int = 1024) -> float:
    """How fast the device multiplies matrices of a transformer's size: for estimates."""
    import torch

    a, b = torch.ones(size, size, dtype=dtype, device=device), torch.ones(size, size, dtype=dtype, device=device)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        float((a @ b)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - began)
    return size**3 / best


def _computes_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 natively; emulation is slower than float32."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
