"""Encoder: videos → encodings, which any labels can be compared with later.

Videos are decoded by worker processes, ahead and while torch and the weights are loaded; their windows are computed in
batches, in the order in which they were asked for.
"""

from __future__ import annotations

import inspect
import math
import os
import time
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from ..cores import usable_cores
from ..errors import VideoError
from ..model.checkpoint.find import BUNDLED, Checkpoint, find_checkpoint, name_of
from ..model.config import PREPROCESSINGS
from ..model.loading import load_config, load_image_processor, load_model
from ..results.records import Failure
from ..text import exact_time, printable
from ..video.limits import DECODE_TIMEOUT, DEFAULT_LIMITS, Limits
from ..video.pool import AHEAD, Decoders
from ..video.sampling import ONE_VIEW, ClipInfo, ClipRequest, Views, check_windows, frame_times
from .devices import (
    AUTO,
    DTYPES,
    INT8,
    check_precision,
    choose_devices,
    choose_dtype,
    dtype_misfits,
    no_garbage_collection,
    precision_name,
)
from .encodings import Encodings, FrameSaver, Time
from .pipeline import Decoded, Outcome, Pipeline, results_of

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..model.modeling import XCLIPModel
    from ..model.processor import XCLIPImageProcessor
    from ..video.sampling import Picture
    from .lanes import Lanes

    Received = tuple[Tensor, int]  # crops [crops, 3, H, W] of a picture, and its short side in pixels

R = TypeVar("R")

# Texts times videos: each takes some kilobytes in the prompt generator.
PROMPTS_AT_ONCE = {"cpu": 1 << 13, "cuda": 1 << 15}
# Tokens (frames times patches) computed at once: more are no faster, and on a CPU they leave its caches.
TOKENS_AT_ONCE = {"cpu": 1 << 10, "cuda": 1 << 17}
PIXELS_AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 27}  # of large patches few tokens are many pixels, 12 bytes each
COMPARED_AT_ONCE = {"absorbed": 1 << 12, "projected": 1 << 10}  # tokens that texts look at, in one of the two ways
TOKENS_IN_A_GRAPH = 1 << 14  # more take a GPU longer than starting its kernels one by one
LARGEST_BATCH = {"cpu": 8, "cuda": 64}  # videos


class Encoder:
    """Turns requests into encodings, in order, batched, on its device. It knows no labels.

    ``model``: a checkpoint, or its name: a folder, a hub id, ``bundled``. The other keywords are those of
    ``Classifier``; ``saver`` gets the frames as the model sees them. Raises ModelError, and ValueError for an unknown
    dtype or preprocessing.
    """

    def __init__(
        self,
        model: str | Path | Checkpoint,
        *,
        device: str = AUTO,
        dtype: str = AUTO,
        threads: int | None = None,
        preprocess: str = "hf",
        heads: int | None = None,
        views: Views = ONE_VIEW,
        saver: FrameSaver | None = None,
        workers: int | None = None,
        batch_size: int | None = None,
        timeout: float = DECODE_TIMEOUT,
        limits: Limits = DEFAULT_LIMITS,
        stream: int | None = None,
    ) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
        if preprocess not in PREPROCESSINGS:
            raise ValueError(f"preprocess {preprocess!r} is not one of {', '.join(PREPROCESSINGS)}")
        self.checkpoint = model if isinstance(model, Checkpoint) else find_checkpoint(name_of(model))
        self.config = load_config(self.checkpoint, heads)
        self.views, self.preprocess, self.heads, self.stream = views, preprocess, heads, stream
        self.warnings: tuple[str, ...] = ()  # of the dtype, once that is known
        self._device_name, self._dtype_name, self._threads = device, dtype, threads
        self._workers, self._batch_size = workers or usable_cores(), batch_size
        self._saver = saver
        self._begun = self._packed = False
        self._models: dict[torch.device, XCLIPModel] = {}
        self._latest_run: weakref.ref[Generator[Any, None, None]] | None = None
        self.decoders: Decoders[Received] = Decoders(self._receive, self._workers, timeout, limits)

    def encode(self, video: str | os.PathLike[str], start: Time | None = None, end: Time | None = None) -> Encodings:
        """The encodings of one video, or of the part of it from ``start`` to ``end``. Raises VideoError."""
        (found,) = self.encode_all([self.request(video, start, end)])
        if isinstance(found, Failure):
            raise VideoError(f"{printable(found.video)}: {found.message}", found.code)
        return found

    def encode_all(self, requests: Iterable[ClipRequest]) -> Iterator[Encodings | Failure]:
        """The encodings of each window of each video, in order; a Failure if there are none.

        Exhaust or close the iterator before using the encoder again: until then other calls raise RuntimeError.
        """
        return results_of(self.run(requests, list, windows=True))

    def run(
        self,
        requests: Iterable[ClipRequest],
        finish: Callable[[Sequence[Encodings]], list[R]],
        *,
        windows: bool,
        load: Callable[[], None] | None = None,
    ) -> Generator[Outcome[R], None, None]:
        """What ``finish`` makes of the encodings of each window, in order, which says how many of a video follow.

        ``finish`` gets a batch at a time, in the thread that computed it. ``load`` is called before the first, while
        the first videos decode (at least ``Encoder.load``, the default). ``windows``: each request may have many. A
        Failure with a start and an end is of that window alone; without, it is the last outcome of a video that cannot
        be read, or not to its end. Each video is decoded once, whatever its windows share, and no more of it is held
        than the windows that are being looked at.
        """
        self._check_idle()
        self.decoders.cancel()  # what one that was closed before it began had submitted
        others = iter(requests)
        first = list(islice(others, self._workers * AHEAD))
        for request in first:
            self.decoders.submit(request)
        run = self._outcomes(first, others, finish, windows, load or self.load)
        self._latest_run = weakref.ref(run)
        return run

    def _check_idle(self) -> None:
        """Raises RuntimeError while an iterator is unfinished."""
        latest = self._latest_run() if self._latest_run else None
        if latest is not None and inspect.getgeneratorstate(latest) != inspect.GEN_CLOSED:
            raise RuntimeError("an earlier iterator over videos is unfinished: exhaust or close it first")

    def _outcomes(
        self,
        first: list[ClipRequest],
        others: Iterator[ClipRequest],
        finish: Callable[[Sequence[Encodings]], list[R]],
        windows: bool,
        load: Callable[[], None],
    ) -> Generator[Outcome[R], None, None]:
        """The outcomes of requests, the ``first`` of which are submitted already."""
        if not first:
            return
        try:
            load()
            import torch

            threads = torch.get_num_threads()
            lanes = self._lanes.count(threads)
            batch_size = self.batch_size
            known = list(islice(others, lanes * batch_size))
            if not windows and len(known) < lanes * batch_size:  # these are all: shared out evenly
                count = len(first) + len(known)
                if self._batch_size is None:
                    batch_size = min(batch_size, math.ceil(count / lanes))
                lanes = min(lanes, math.ceil(count / batch_size))
            elif not windows:  # how many there are shows only as they come
                self.pack()
            of_threads = iter(self._lanes.of_a_run(lanes))
            pipeline = Pipeline(
                first,
                chain(known, others),
                self.decoders,
                compute=lambda batch: self.compute(batch, finish),
                prepare=lambda: self._lanes.enter(next(of_threads), threads // lanes),
                lanes=lanes,
                batch_size=batch_size,
            )
            try:
                yield from pipeline.outcomes()
            finally:
                torch.set_num_threads(threads)  # the lanes' number is also that of threads to come
        finally:
            self.decoders.cancel()

    def compute(self, batch: Sequence[Decoded[Received]], finish: Callable[[Sequence[Encodings]], list[R]]) -> list[R]:
        """Encode windows that were decoded, all their views in as few steps as fit, and finish them. Raises ModelError
        where a GPU has too little memory for one clip."""
        import torch

        began = time.monotonic()
        with torch.inference_mode():
            self._encode(batch)
            seconds = (time.monotonic() - began) / len(batch)
            encoded = [
                Encodings(d.video, d.info, min(side for _, side in d.pictures), features, tokens, seconds)
                for d in batch
                for features, tokens in [self._lanes.here.own(*d.encoding.result())]
            ]
            results = self._lanes.fitted(lambda: finish(encoded), lambda: self._clips_of(batch))
            self._lanes.here.hand_over()
        for decoded in batch if self._saver else ():
            self._save_frames(decoded)
        return results

    def _encode(self, batch: Sequence[Decoded[Received]]) -> None:
        """Have features and tokens ready of all windows whose frames no window before has."""
        import torch

        new = [decoded for decoded in batch if not decoded.repeats]
        if not new:
            return
        try:
            made = self._lanes.fitted(lambda: self._encoded(new), lambda: self._clips_of(new))
            self._lanes.here.hand_over(*made)  # a window that repeats one of these may be another lane's
            encodings = zip(*(torch.split(part, self.views.count) for part in made), strict=True)
            for decoded, (features, tokens) in zip(new, encodings, strict=True):
                decoded.encoding.set_result((features, tokens))
        except BaseException as error:  # who waits for them must not wait for ever
            for decoded in new:
                if not decoded.encoding.done():
                    decoded.encoding.set_exception(error)
            raise

    def _encoded(self, batch: Sequence[Decoded[Received]]) -> tuple[Tensor, Tensor]:
        """Features [views, P] and tokens [views, n, P], of all views of all windows."""
        import torch

        clips = self._gathered(batch)
        parts = [self.encode_clips(part) for part in torch.split(clips, self.clips_at_once)]
        features, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
        return features, tokens

    def _clips_of(self, batch: Sequence[Decoded[Received]]) -> int:
        """How many of a batch are computed at once."""
        return min(len(batch) * self.views.count, self.clips_at_once)

    def encode_clips(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips [B, T, 3, H, W] of bytes, cut to the model's size → features [B, P] and tokens [B, n, P]."""
        import torch

        with torch.inference_mode():
            return self._lanes.here.compute(clips, len(clips) * self._tokens_a_clip <= TOKENS_IN_A_GRAPH)

    def _forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """As ``encode_clips``, of clips on one of the devices, in one step."""
        pixel_values = self.image_processor.normalize(clips, self.dtype)
        video = self._model_on(clips.device).encode_video(pixel_values)
        return video.features, video.visual_tokens

    def similarity(self, texts: Tensor, features: Tensor, tokens: Tensor, deltas: Tensor | None = None) -> Tensor:
        """Text features [K, P] against encodings of B clips → logits [B, K], without softmax. ``deltas`` [K, P]: the
        corrections of a head, along the normalised video features."""
        import torch

        from .scan import absorbed_similarity, is_faster, logits_of

        model = self._models.get(features.device) or self._comparing
        texts, patches = texts.to(features.device), self.config.vision_config.num_patches
        absorbed, rows = is_faster(model, len(texts), patches), []
        at_once = self.clips_at_once
        if self.device.type == "cpu":
            at_once = max(at_once, COMPARED_AT_ONCE["absorbed" if absorbed else "projected"] // patches)
        with torch.inference_mode():
            for of_clips in zip(*(torch.split(part, at_once) for part in (features, tokens)), strict=True):
                if absorbed:
                    rows.append(absorbed_similarity(model, texts, *of_clips))
                    continue
                parts = torch.split(texts, max(1, PROMPTS_AT_ONCE[self.device.type] // len(of_clips[0])))
                rows.append(
                    torch.cat([logits_of(model, model.prompted(p, of_clips[1]), of_clips[0]) for p in parts], 1)
                )
            logits = torch.cat(rows)
            if deltas is not None:
                directions = torch.nn.functional.normalize(features.float(), dim=-1)
                logits = logits + self.scale * directions @ deltas.to(features.device).T
            return logits

    @property
    def scale(self) -> float:
        """Of logits, over cosines."""
        return float(self._comparing.logit_scale.detach().float().exp())

    def request(
        self,
        video: str | os.PathLike[str],
        start: Time | None = None,
        end: Time | None = None,
        length: Time | None = None,
        stride: Time | None = None,
    ) -> ClipRequest:
        """What to decode of a video for this model: one window, or many, each ``length`` long and one every ``stride``
        (half of it, if not given). Raises ValueError if a time makes no sense."""
        first, last, long, step = map(exact_time, (start, end, length, stride))
        if (first or 0) < 0 or (last is not None and last <= (first or 0)):
            raise ValueError(f"the window from {start} to {end} is empty or begins before the video")
        if long is not None:
            step = step if step is not None else long / 2
            check_windows(long, step)
        frames = self.config.vision_config.num_frames
        return ClipRequest(os.fspath(video), frames, self.views.clips, first, last, long, step, self.stream)

    def decoded_frames(self, frames: Any) -> Decoded[Received]:
        """Frames in memory, sampled like a video of one frame per second. Raises TypeError, VideoError, and
        RuntimeError while an iterator is unfinished."""
        self._check_idle()
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

    @property
    def usual_window(self) -> Fraction:
        """The default length of a window, in seconds: about what the model was trained on.

        The public checkpoints learned from clips of about 10 s; the bundled model knows states of a picture, which
        may last a moment.
        """
        return Fraction(2 if self.checkpoint.name == BUNDLED else 10)

    def load(self, vision: bool = True) -> None:
        """Import torch and load the weights, unless that is done; without ``vision`` only what compares encodings with
        texts. Raises ModelError, and XClipError where the devices cannot compute in the precision."""
        if not self._begun:
            with no_garbage_collection():
                import torch
            if self._threads or usable_cores() < torch.get_num_threads():  # torch knows nothing of quotas
                torch.set_num_threads(self._threads or usable_cores())
            self.warnings = tuple(dict.fromkeys(chain(*(dtype_misfits(self.precision, each) for each in self.devices))))
            self._begun = True
        if not vision:
            _ = self._comparing
            return
        check_precision(self._dtype_name, self.devices)
        _ = self.image_processor
        for device in self.devices:
            self._model_on(device)

    @cached_property
    def devices(self) -> tuple[torch.device, ...]:
        """Where the model runs. Raises XClipError if there is no such device."""
        return choose_devices(self._device_name)

    @property
    def device(self) -> torch.device:
        """The first of them."""
        return self.devices[0]

    @cached_property
    def _lanes(self) -> Lanes:
        from .lanes import Lanes

        return Lanes(self.devices, self._forward)

    @cached_property
    def dtype(self) -> torch.dtype:
        """What the model computes in; where that is int8, what it gives."""
        return choose_dtype(self._dtype_name, *self.devices)

    @property
    def precision(self) -> str:
        """What the model computes in, by its name."""
        return precision_name(self._dtype_name, self.dtype)

    @property
    def model(self) -> XCLIPModel:
        """The model without its text encoder (which is on the meta device), in eval mode, on the first device."""
        return self._model_on(self.device)

    def _model_on(self, device: torch.device) -> XCLIPModel:
        from ..model.modeling import is_text_parameter

        if device not in self._models:
            model = self._loaded(device, lambda name: not is_text_parameter(name))
            if self._dtype_name == INT8:
                from ..model.int8 import quantise

                quantise(model.vision_model)
            self._models[device] = model
            self._lanes.measure(device, self.config.video_bytes(self.dtype.itemsize))
        return self._models[device]

    @cached_property
    def _comparing(self) -> XCLIPModel:
        """The model, or where nothing was encoded yet only what compares encodings with texts."""
        if self.device in self._models:
            return self.model
        wanted = ("prompts_generator.", "logit_scale")
        return self._loaded(self.device, lambda name: name.startswith(wanted))

    def _loaded(self, device: torch.device, wanted: Callable[[str], bool]) -> XCLIPModel:
        return load_model(self.checkpoint, self.config, self.dtype, device, wanted)

    @cached_property
    def image_processor(self) -> XCLIPImageProcessor:
        """Resizes and normalises as the checkpoint, or the paper, says."""
        return load_image_processor(self.checkpoint, self.config).variant(self.preprocess, self.views.crops)

    def pack(self) -> None:
        """Make a CPU's model faster at a cost that a few videos would not win back."""
        from ..model.packing import pack_linears

        if not self._packed:
            self._packed = True
            pack_linears(self.model.vision_model, rows=self.clips_at_once * self._tokens_a_clip)

    @property
    def batch_size(self) -> int:
        """Videos computed at once."""
        return self._batch_size or min(LARGEST_BATCH[self.device.type], max(1, self.clips_at_once // self.views.count))

    @property
    def clips_at_once(self) -> int:
        """Clips that go through the model in one step."""
        vision, kind = self.config.vision_config, self.device.type
        pixels = vision.num_frames * vision.image_size**2
        fit = min(TOKENS_AT_ONCE[kind] // self._tokens_a_clip, PIXELS_AT_ONCE[kind] // pixels)
        return max(1, min(self._lanes.most, fit))

    @property
    def _tokens_a_clip(self) -> int:
        vision = self.config.vision_config
        return vision.num_frames * (vision.num_patches + 2)  # with class and message

    def description(self) -> str:
        """The model and how it runs, in a line."""
        where = ", ".join(map(str, self.devices))
        return f"model {self.checkpoint.name} on {where}, {self.precision}"

    def close(self) -> None:
        """End the decode workers."""
        self.decoders.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _receive(self, picture: Picture) -> Received:
        import torch

        # Every picture is cut down on arrival: 32 frames of 4K would take 800 MB. NumPy copies, as torch would start a
        # team of threads for each thread that receives.
        crops = self.image_processor.resize_and_crops(picture, self.views.crops)
        return torch.from_numpy(crops.numpy().copy(order="K")), min(picture.shape[:2])

    def _gathered(self, batch: Sequence[Decoded[Received]]) -> Tensor:
        """[windows * views, T, 3, H, W] of bytes: window after window, clip after clip, each in all its crops."""
        import torch

        frames = self.config.vision_config.num_frames
        crops, *picture = batch[0].pictures[0][0].shape
        shape = (len(batch), self.views.clips, crops, frames, *picture)
        # From pinned memory a GPU copies while this thread goes on.
        gathered = torch.empty(shape, dtype=torch.uint8, pin_memory=self._lanes.here.on_gpu)
        for decoded, clips in zip(batch, gathered.transpose(2, 3), strict=True):  # [clips, T, crops, 3, H, W]
            pictures = [decoded.pictures[place][0] for place in decoded.info.places]
            for number, clip in enumerate(clips):
                torch.stack(pictures[number * frames : (number + 1) * frames], out=clip)
        return gathered.flatten(0, 2)

    def _save_frames(self, decoded: Decoded[Received]) -> None:
        assert self._saver is not None
        for place, seconds in dict(zip(decoded.info.places, decoded.info.times_seconds, strict=True)).items():
            self._saver.save(decoded.video, seconds, decoded.pictures[place][0].numpy())
