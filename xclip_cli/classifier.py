"""Classifier: a model, its processor and labels → predictions for videos.

Everything that can be wrong with names, labels and settings is found when a Classifier is made, without torch; torch
and the weights are loaded at the first use, or by ``load``. Videos are decoded by worker processes meanwhile.
"""

from __future__ import annotations

import gc
import hashlib
import inspect
import json
import math
import os
import time
import weakref
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from fractions import Fraction
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from . import __version__
from .engine.cache import FeatureCache
from .engine.devices import AUTO, DTYPES, choose_device, choose_dtype, dtype_misfits, dtype_name
from .engine.pipeline import Answer, Decoded, Pipeline
from .errors import LabelsError, ModelError, VideoError
from .labels import BARE_LABEL, NONE_OF_THESE, Labels
from .model.checkpoint.find import BUNDLED, Checkpoint, choose_model, find_checkpoint
from .model.config import PREPROCESSINGS
from .model.loading import load_config, load_image_processor, load_model, load_tokenizer
from .model.tokenizer import CLIPTokenizer
from .output.images import FrameFolder
from .results.records import Failure, Frames, Prediction, RankedLabel, Record, RunHeader, Seconds
from .text import listed
from .video.pool import AHEAD, Decoders, usable_cores
from .video.sampling import (
    DECODE_TIMEOUT,
    DEFAULT_LIMITS,
    ONE_VIEW,
    ClipInfo,
    ClipRequest,
    Limits,
    Views,
    check_windows,
    frame_times,
    parse_time,
)

if TYPE_CHECKING:
    import numpy.typing as npt
    import torch
    from torch import Tensor

    from .model.modeling import XCLIPModel
    from .model.processor import XCLIPImageProcessor
    from .video.clips import Picture

    _Received = tuple[Tensor, int]  # crops [crops, 3, H, W] of a picture, and its short side in pixels

Time = str | float | Fraction  # "HH:MM:SS.mmm", or seconds

TEXTS_AT_ONCE = 256
PROMPTS_AT_ONCE = 1 << 13  # texts times videos: each takes some kilobytes in the prompt generator
# Tokens (frames times patches) computed at once: more are no faster, and on a CPU they leave its caches.
TOKENS_AT_ONCE = {"cpu": 1 << 10, "cuda": 1 << 17}
LARGEST_BATCH = {"cpu": 8, "cuda": 32}  # videos
MOST_LANES = 16  # threads that compute batches, on a CPU
FEATURES_FORMAT = 1  # of what the cache holds


class Classifier:
    """Ranks labels for videos.

    ``model``: a checkpoint folder, a hub id, ``bundled``, or ``auto``: the bundled model if it knows every word of the
    labels, else the checkpoint that X-CLIP's authors recommend for labels of one's own. ``templates`` apply where
    ``labels`` are plain names. ``device``: auto, cpu, cuda or cuda:N. ``dtype``: auto (bfloat16 where the hardware
    computes it natively, else float32), float32, bfloat16 or float16. ``preprocess``: hf, as the checkpoint's files
    say, or paper, the protocol of the published accuracies. ``views``: the clips of a video and the crops of each,
    whose scores are averaged. ``tokenizer``: a folder or hub id, for an authors' ``.pth``, which holds none. ``heads``:
    attention heads of MIT and prompt generator, where they are to differ from the checkpoint's.

    ``multi_label`` scores each label against the neutral texts of ``Labels.with_background`` alone. Without it, labels
    that have them can answer "none of these". ``threshold``: labels with lower scores are withheld.
    ``save_frames``: a folder that gets the frames as the model sees them, after the crop.

    How fast: ``threads`` of the model on the CPU, if not torch's number; ``workers``, processes that decode, if not one
    a core; ``batch_size``, videos computed at once, if not what suits the device; ``cache``, whether the text features
    of labels are kept on disk for the next time. ``timeout``: seconds without progress after which a decoder is
    stopped; ``limits``: what decoding a video may cost.

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
        views: Views = ONE_VIEW,
        multi_label: bool = False,
        threshold: float = 0.0,
        save_frames: Path | None = None,
        workers: int | None = None,
        batch_size: int | None = None,
        timeout: float = DECODE_TIMEOUT,
        limits: Limits = DEFAULT_LIMITS,
        cache: bool = True,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        if preprocess not in PREPROCESSINGS:
            raise ValueError(f"preprocess {preprocess!r} is not one of {', '.join(PREPROCESSINGS)}")
        given = labels if isinstance(labels, Labels) else Labels.of(labels, templates)
        self.labels = given.with_background() if multi_label and not given.background else given
        self.multi_label, self.threshold = multi_label, threshold
        self.checkpoint = model if isinstance(model, Checkpoint) else self._find(str(model))
        self.config = load_config(self.checkpoint, heads)
        self.views = views
        self.warnings = self._warnings()
        self._input_ids = self._tokenize(load_tokenizer(self.checkpoint, tokenizer))
        self._device_name, self._dtype_name, self._threads = device, dtype, threads
        self.preprocess, self._heads = preprocess, heads
        self._workers, self._batch_size = workers or usable_cores(), batch_size
        self._cache = FeatureCache() if cache else None
        self._frame_folder = FrameFolder(save_frames) if save_frames else None
        self._loaded = self._packed = False
        self._latest_answers: weakref.ref[Generator[Answer, None, None]] | None = None
        self.decoders: Decoders[_Received] = Decoders(self._receive, self._workers, timeout, limits)

    def classify(
        self,
        video: str | os.PathLike[str] | Any,
        start: Time | None = None,
        end: Time | None = None,
        top_k: int = 0,
    ) -> Prediction:
        """Rank the labels for one video: a path, or its frames as arrays [H, W, 3] of bytes (a list, or 4-D).

        ``start`` and ``end`` (seconds, or "HH:MM:SS.mmm") choose a stretch of a video file. Frames are taken as one a
        second: their times are their numbers. ``top_k`` keeps the best labels alone; 0 keeps all. Raises VideoError.
        """
        if isinstance(video, str | os.PathLike):
            (record,) = self.classify_all([self.request(video, start, end)], top_k)
        else:
            decoded = self._decoded_of_frames(video)
            self.load()
            (record,) = self._compute([decoded], top_k)
        if isinstance(record, Failure):
            raise VideoError(record.message, record.code)
        return record

    def classify_all(self, videos: Iterable[str | os.PathLike[str] | ClipRequest], top_k: int = 0) -> Iterator[Record]:
        """One record a video, in order, a Failure where one cannot be read.

        Videos are decoded ahead, the first at once, and computed in batches. Exhaust or close the iterator before the
        classifier is used again: until then other calls raise RuntimeError.
        """
        if isinstance(videos, str | os.PathLike):
            raise TypeError(f"videos must be a list of paths, got {videos!r}: classify takes one video")
        requests = (video if isinstance(video, ClipRequest) else self.request(video) for video in videos)
        return _records_of(self._begin(requests, top_k, windows=False))

    def classify_windows(self, requests: Iterable[ClipRequest], top_k: int = 0) -> Iterator[Answer]:
        """One answer a window of each video, in order, which says how many of the same video follow.

        A Failure with a start and an end is of that window alone; without, it is the last answer of a video that
        cannot be read, or not to its end. Each video is decoded once, whatever its windows share, and no more of it is
        held than the windows that are being looked at.
        """
        return self._begin(iter(requests), top_k, windows=True)

    def _begin(self, requests: Iterator[ClipRequest], top_k: int, windows: bool) -> Generator[Answer, None, None]:
        latest = self._latest_answers() if self._latest_answers else None
        if latest is not None and inspect.getgeneratorstate(latest) != inspect.GEN_CLOSED:
            raise RuntimeError("an iterator of classify_all is unfinished: exhaust or close it first")
        self.decoders.cancel()  # what one that was closed before it began had submitted
        first = list(islice(requests, self._workers * AHEAD))
        for request in first:
            self.decoders.submit(request)
        answers = self._answers(first, requests, top_k, windows)
        self._latest_answers = weakref.ref(answers)
        return answers

    def _answers(
        self, first: list[ClipRequest], others: Iterator[ClipRequest], top_k: int, windows: bool
    ) -> Generator[Answer, None, None]:
        """The answers to requests, the ``first`` of which are submitted already."""
        if not first:
            return
        try:
            self.load()
            import torch

            threads = torch.get_num_threads()
            lanes = min(threads, MOST_LANES) if self.device.type == "cpu" else 1
            batch_size = self.batch_size
            known = list(islice(others, lanes * batch_size))
            if not windows and len(known) < lanes * batch_size:  # these are all: shared out evenly
                count = len(first) + len(known)
                if self._batch_size is None:
                    batch_size = min(batch_size, math.ceil(count / lanes))
                lanes = min(lanes, math.ceil(count / batch_size))
            elif not windows:  # how many there are shows only as they come
                self._pack()
            pipeline = Pipeline(
                first,
                chain(known, others),
                self.decoders,
                compute=lambda batch: self._compute(batch, top_k),
                prepare=lambda: torch.set_num_threads(threads // lanes),
                lanes=lanes,
                batch_size=batch_size,
            )
            try:
                yield from pipeline.answers()
            finally:
                torch.set_num_threads(threads)  # the lanes' number is also that of threads to come
        finally:
            self.decoders.cancel()

    def request(
        self,
        video: str | os.PathLike[str],
        start: Time | None = None,
        end: Time | None = None,
        length: Time | None = None,
        stride: Time | None = None,
    ) -> ClipRequest:
        """What to decode of a video for this model: one window, or for ``classify_windows`` many, each ``length`` long
        and one every ``stride`` (half of it, if not given). Raises ValueError where a time makes no sense."""
        first, last, long, step = map(_exact, (start, end, length, stride))
        if (first or 0) < 0 or (last is not None and last <= (first or 0)):
            raise ValueError(f"the window from {start} to {end} is empty or begins before the video")
        if long is not None:
            step = step if step is not None else long / 2
            check_windows(long, step)
        frames = self.config.vision_config.num_frames
        return ClipRequest(os.fspath(video), frames, self.views.clips, first, last, long, step)

    @property
    def usual_window(self) -> Fraction:
        """How many seconds of a video to look at at once, where nothing else is known: what the model was trained on.

        The public checkpoints learned from clips of about 10 s; the bundled model knows states of a picture, which
        may last a moment.
        """
        return Fraction(2 if self.checkpoint.name == BUNDLED else 10)

    def load(self) -> None:
        """Import torch, load the weights and encode the labels, unless that is done. Raises ModelError."""
        if not self._loaded:
            with _no_garbage_collection():
                import torch
            if self._threads:
                torch.set_num_threads(self._threads)
            self.warnings += tuple(dtype_misfits(self.dtype, self.device))
            _ = self._model_and_text_features, self.image_processor
            self._loaded = True

    def close(self) -> None:
        """End the decode workers."""
        self.decoders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, name: str) -> Checkpoint:
        return find_checkpoint(choose_model(name, self.labels.all_texts).name)

    def _warnings(self) -> tuple[str, ...]:
        if unknown := self.checkpoint.unknown_words(text for texts in self.labels.texts for text in texts):
            strange = listed(unknown)
        elif self.checkpoint.unknown_words(self.labels.background):
            strange = "the neutral texts that labels are compared with"
        else:
            return self.labels.warnings
        warning = f"the model {self.checkpoint.name} can only guess: it was not trained on {strange}"
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

    @property
    def model(self) -> XCLIPModel:
        """The model without its text encoder (which is on the meta device), in eval mode, on its device."""
        return self._model_and_text_features[0]

    @cached_property
    def image_processor(self) -> XCLIPImageProcessor:
        """Resizes and normalises as the checkpoint, or the paper, says."""
        return load_image_processor(self.checkpoint, self.config).variant(self.preprocess, self.views.crops)

    @cached_property
    def _model_and_text_features(self) -> tuple[XCLIPModel, Tensor]:
        """The model, and [K, P]: of each label the mean over its texts, un-normalised, as the prompt generator expects
        them. What is in the cache needs no text encoder: then its weights are not even read."""
        import torch

        from .model.modeling import is_text_parameter

        values = [FEATURES_FORMAT, __version__, self.checkpoint.local_identity, str(self.dtype), self.device.type]
        key = json.dumps([*values, self._input_ids, self._text_counts])
        stored = self._cache.get(key) if self._cache else None
        model = load_model(
            self.checkpoint,
            self.config,
            self.dtype,
            self.device,
            lambda name: stored is None or not is_text_parameter(name),
        )
        if stored is None:
            features = self._encode_labels(model)
            model.text_model.to("meta")
            model.text_projection.to("meta")
            if self._cache:
                self._cache.put(key, features.cpu().numpy())
        else:
            features = torch.from_numpy(stored).to(self.device)
        return model, features

    def _pack(self) -> None:
        """Make a CPU's model faster at a cost that a few videos would not win back."""
        from .model.packing import can_pack, pack_linears

        if not self._packed and can_pack(self.dtype, self.device):
            self._packed = True
            pack_linears(self.model.vision_model, rows=self._clips_at_once * self._tokens_a_clip)

    def _encode_labels(self, model: XCLIPModel) -> Tensor:
        import torch

        rows = self._input_ids
        by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        with torch.inference_mode():
            of_texts = torch.empty(len(rows), self.config.projection_dim, device=self.device)
            for first in range(0, len(rows), TEXTS_AT_ONCE):
                chunk = by_length[first : first + TEXTS_AT_ONCE]
                # Trimmed to the longest and without a mask: causal attention never looks at padding.
                length = len(rows[chunk[-1]])
                ids = torch.tensor([rows[i] + rows[i][-1:] * (length - len(rows[i])) for i in chunk])
                of_texts[chunk] = model.encode_text(ids.to(self.device)).features.float()
            counts = self._text_counts
            if len(counts) == len(rows):
                return of_texts
            return torch.stack([texts.mean(dim=0) for texts in torch.split(of_texts, counts)])

    @property
    def _text_counts(self) -> list[int]:
        """How many texts are averaged to each of what is compared with a video."""
        return [*(len(texts) for texts in self.labels.texts), *(1 for _ in self.labels.background)]

    @property
    def answers(self) -> tuple[str, ...]:
        """All that a video may be said to show: the labels, and "none of these" where that is asked for."""
        none = (NONE_OF_THESE,) if self.labels.background and not self.multi_label else ()
        return (*self.labels.names, *none)

    @property
    def batch_size(self) -> int:
        """Videos computed at once."""
        return self._batch_size or min(LARGEST_BATCH[self.device.type], max(1, self._clips_at_once // self.views.count))

    @property
    def _clips_at_once(self) -> int:
        return max(1, TOKENS_AT_ONCE[self.device.type] // self._tokens_a_clip)

    @property
    def _tokens_a_clip(self) -> int:
        vision = self.config.vision_config
        return vision.num_frames * (vision.num_patches + 2)  # with class and message

    def _receive(self, picture: Picture) -> _Received:
        # Every picture is cut down on arrival: 32 frames of 4K would take 800 MB.
        crops = self.image_processor.resize_and_crops(picture, self.views.crops)
        return crops.clone(), min(picture.shape[:2])

    def _decoded_of_frames(self, frames: Any) -> Decoded[_Received]:
        """Frames in memory, sampled like a video of one frame a second."""
        if frames is None or isinstance(frames, bytes):
            raise TypeError(f"a video is a path or a list of frames, got {frames!r:.40}")
        total = len(frames)
        if total == 0:
            raise VideoError("there are no frames", "no_frames")
        if any(np.asarray(frame).dtype != np.uint8 or np.size(frame) == 0 for frame in frames):
            raise TypeError("frames must be arrays [height, width, 3] of bytes (uint8), 0 to 255, and not empty")
        times = frame_times(Fraction(0), Fraction(total), self.config.vision_config.num_frames, self.views.clips)
        chosen = [int(time) for time in times]
        different = sorted(set(chosen))
        info = ClipInfo(
            start_seconds=0.0,
            end_seconds=float(total),
            times_seconds=tuple(map(float, chosen)),
            places=tuple(different.index(i) for i in chosen),
            errors=0,
            warnings=(),
        )
        crops = [self.image_processor.resize_and_crops(frames[i], self.views.crops) for i in different]
        # the channels are the smallest of the three sizes
        received = [(crop, sorted(np.shape(frames[i]))[1]) for i, crop in zip(different, crops, strict=True)]
        return Decoded("", info, received)

    def _misfits(self, info: ClipInfo, smallest: int) -> Iterator[str]:
        """What of a video fits the model badly; ``smallest`` is the short side of its pictures."""
        wanted, size = len(info.places), self.config.vision_config.image_size
        if info.decoded < wanted:
            yield f"only {info.decoded} different frames for a model that takes {wanted}: frames are repeated"
        if smallest < size / 2:
            yield f"pictures {smallest} pixels small are enlarged to {size}: they lack the detail it was trained on"

    def _compute(self, batch: Sequence[Decoded[_Received]], top_k: int) -> list[Record]:
        """Rank the labels for videos; all their views are computed in as few steps as fit."""
        import torch

        began = time.monotonic()
        with torch.inference_mode():
            clips = torch.cat([self._views_of(decoded) for decoded in batch])
            logits = torch.cat([self.logits(part) for part in torch.split(clips, self._clips_at_once)])
            logits = logits.view(len(batch), self.views.count, -1).cpu()  # [videos, views, labels]
            logits, scores = self._scored(logits)
            scores, logits = scores.mean(dim=1), logits.mean(dim=1)
        seconds = (time.monotonic() - began) / len(batch)
        for decoded in batch if self._frame_folder else ():
            self._save_frames(decoded)
        results = zip(batch, scores.numpy(), logits.numpy(), strict=True)
        return [self._record(*values, top_k, seconds) for values in results]

    def _save_frames(self, decoded: Decoded[_Received]) -> None:
        assert self._frame_folder is not None
        for place, seconds in dict(zip(decoded.info.places, decoded.info.times_seconds, strict=True)).items():
            self._frame_folder.save(decoded.video, seconds, decoded.pictures[place][0].numpy())

    def _scored(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [..., labels and background] → logits and scores [..., answers].

        The background is one answer, whose logit is that of the sum of its texts' scores.
        """
        import torch

        count = len(self.labels.names)
        labels, background = logits[..., :count], logits[..., count:]
        if not self.labels.background:
            return labels, labels.softmax(dim=-1)
        neutral = background.logsumexp(dim=-1, keepdim=True)
        if self.multi_label:
            return labels, (labels - neutral).sigmoid()
        folded = torch.cat([labels, neutral], dim=-1)
        return folded, folded.softmax(dim=-1)

    def _views_of(self, decoded: Decoded[_Received]) -> Tensor:
        """[views, T, 3, H, W] of bytes: clip after clip, each in all its crops."""
        import torch

        frames = torch.stack([decoded.pictures[place][0] for place in decoded.info.places])
        by_clip = frames.view(self.views.clips, -1, *frames.shape[1:])  # [clips, T, crops, 3, H, W]
        return by_clip.transpose(1, 2).flatten(0, 1)

    def logits(self, clips: Tensor) -> Tensor:
        """Clips [B, T, 3, H, W] of bytes, cut to the model's size → logits [B, labels], without softmax."""
        import torch

        pixel_values = self.image_processor.normalize(clips.to(self.device)).to(self.dtype)
        video = self.model.encode_video(pixel_values)
        parts = torch.split(self._model_and_text_features[1], max(1, PROMPTS_AT_ONCE // len(clips)))
        similarities = (self.model.similarity(texts, video.features, video.visual_tokens) for texts in parts)
        return torch.cat([similarity.logits_per_video for similarity in similarities], dim=1)

    def _record(
        self,
        decoded: Decoded[_Received],
        scores: npt.NDArray[np.float32],
        logits: npt.NDArray[np.float32],
        top_k: int,
        seconds: float,
    ) -> Record:
        info = decoded.info
        if not np.isfinite(logits).all():
            message = f"the model gives no finite score in {self.dtype}: try --dtype float32"
            return Failure(
                decoded.video,
                "not_finite",
                message,
                start_seconds=info.start_seconds,
                end_seconds=info.end_seconds,
            )
        ranked = np.argsort(-scores if self.views.count > 1 else -logits, kind="stable").tolist()
        shown = [i for i in ranked if scores[i] >= self.threshold and logits[i] >= self._floors[i]]
        return Prediction(
            video=decoded.video,
            model=self.checkpoint.name,
            revision=self.checkpoint.revision,
            start_seconds=info.start_seconds,
            end_seconds=info.end_seconds,
            frames=Frames(
                requested=len(info.places),
                decoded=info.decoded,
                repeated=len(info.places) - info.decoded,
                errors=info.errors,
                times_seconds=info.times_seconds,
            ),
            predictions=tuple(
                RankedLabel(self.answers[i], float(scores[i]), float(logits[i])) for i in shown[: top_k or None]
            ),
            warnings=(*self.warnings, *info.warnings, *self._misfits(info, min(side for _, side in decoded.pictures))),
            withheld=len(ranked) - len(shown) if self.threshold or self.labels.min_logits else None,
            seconds=Seconds(round(info.seconds, 3), round(seconds, 3)),
        )

    @cached_property
    def _floors(self) -> list[float]:
        """Of each answer, the logit below which it is withheld."""
        floors = [-math.inf if floor is None else floor for floor in self.labels.min_logits]
        return floors + [-math.inf] * (len(self.answers) - len(floors))

    def description(self) -> str:
        """The model and how it runs, in a line."""
        return f"model {self.checkpoint.name} on {self.device}, {dtype_name(self.dtype)}"

    def run_header(self, start: Fraction | None, end: Fraction | None, top_k: int) -> RunHeader:
        """What the records of a run are made with."""
        more = [values for values in (self.labels.min_logits, self.labels.background) if values]
        content = json.dumps([self.labels.names, self.labels.texts, *more])
        return RunHeader(
            xclip=__version__,
            model=self.checkpoint.name,
            revision=self.checkpoint.revision,
            model_identity=self.checkpoint.identity,
            labels=len(self.labels.names),
            labels_sha256=hashlib.sha256(content.encode()).hexdigest(),
            num_frames=self.config.vision_config.num_frames,
            views=str(self.views),
            preprocess=self.preprocess,
            heads=self._heads,
            start=None if start is None else str(start),
            end=None if end is None else str(end),
            dtype=dtype_name(self.dtype),
            top_k=top_k,
            none_of_these=True if self.labels.background and not self.multi_label else None,
            multi_label=self.multi_label or None,
            threshold=self.threshold or None,
        )


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """For an import of very many objects, none of them garbage, through which the collector would go time and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _records_of(answers: Generator[Answer, None, None]) -> Iterator[Record]:
    with closing(answers):
        for answer in answers:
            if answer.record is not None:
                yield answer.record


def _exact(time: Time | None) -> Fraction | None:
    if time is None:
        return None
    if isinstance(time, float) and not math.isfinite(time):
        raise ValueError(f"{time} is not a time")
    return parse_time(time) if isinstance(time, str) else Fraction(time)
