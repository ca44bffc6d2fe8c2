"""Classifier: encoder, texts and scoring → predictions for videos.

Names, labels and settings are checked when a Classifier is made, without torch; torch and the weights are loaded on
first use, or by ``load``. Worker processes decode videos in the meantime.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import numpy as np

from . import __version__
from .engine.batches import outcomes_of
from .engine.devices import AUTO
from .engine.encoder import Encoder
from .engine.encodings import Encodings, Time
from .engine.pipeline import Outcome, results_of
from .engine.texts import Texts
from .errors import LabelsError, ResultsError, VideoError
from .inputs import interleaved, with_folders
from .labels import BARE_LABEL, NONE_OF_THESE, Labels, calibrated_identity
from .model.checkpoint.find import Checkpoint, choose_model, find_checkpoint, name_of
from .output.images import FrameFolder
from .results.index import Index, StoredVideo
from .results.records import Failure, Frames, Prediction, RankedLabel, Record, RunHeader, Seconds
from .stored import stored_slots
from .text import counted, exact_time, printable
from .video.limits import DECODE_TIMEOUT, DEFAULT_LIMITS, Limits
from .video.sampling import ONE_VIEW, ClipInfo, ClipRequest, Views

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    from .adaptation import Head
    from .timeline import VideoTimeline

R = TypeVar("R", bound=Record)


class Classifier:
    """Ranks labels for videos.

    ``model``: a checkpoint folder, a hub id, ``bundled``, or ``auto``: the bundled model if it was trained to tell the
    labels apart, else the checkpoint that X-CLIP's authors recommend for open labels. ``templates`` apply if ``labels``
    are plain names. ``device``: auto, cpu, cuda, cuda:N, several CUDA devices (cuda:0,cuda:1), or all.
    ``dtype``: auto (bfloat16 where it is native, else float32), float32, bfloat16, float16 or int8 (CPUs with VNNI).
    ``preprocess``: hf, as the checkpoint's files say, or paper, the protocol of the published accuracies. ``views``:
    the clips per video and crops per clip, whose scores are averaged. ``tokenizer``: a folder or hub id, for an
    authors' ``.pth``, which has none. ``heads``: attention heads of MIT and prompt generator, if not the checkpoint's.

    ``head``: corrections learned from examples (``Head.fit``), or their file; without ``labels`` its own are used.
    ``multi_label`` scores each label on its own, against the neutral texts of ``Labels.with_background``. Without it,
    labels with neutral texts can answer "none of these". ``threshold``: labels with lower scores are withheld.
    ``save_frames``: a folder for the frames that the model sees, cropped.

    Speed: ``threads`` of the model on the CPU (default: torch's number); ``workers``, decoding processes (default: one
    per core); ``batch_size``, videos per batch (default: chosen for the device); ``cache``, whether the labels' text
    features are cached on disk. ``timeout``: seconds without progress after which a decoder is stopped; ``limits``:
    what decoding a video may cost; ``stream``: which of a file's video streams, from 0 (default: the main one).
    ``progress``: a progress bar for ``classify_all`` and ``timeline``, on a terminal's stderr or in a notebook.
    Downloads show huggingface_hub's own bars either way, unless ``HF_HUB_DISABLE_PROGRESS_BARS=1``.

    >>> with Classifier("bundled", labels=["a black screen", "color bars"]) as classifier:
    ...     prediction = classifier.classify("clips/color-bars.mp4")
    >>> prediction.label
    'color bars'

    Raises LabelsError, ModelError, and ValueError for an unknown dtype or preprocessing.
    """

    def __init__(
        self,
        model: str | Path | Checkpoint = AUTO,
        *,
        labels: Labels | Iterable[str] | None = None,
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
        stream: int | None = None,
        cache: bool = True,
        head: Head | str | Path | None = None,
        progress: bool = False,
    ) -> None:
        self._progress = progress
        self.head = _loaded(head) if isinstance(head, str | Path) else head
        if labels is None:
            if self.head is None:
                raise TypeError("labels are missing: pass labels=[…], or a head, which has labels of its own")
            labels = self.head.labels
        given = labels if isinstance(labels, Labels) else Labels.of(labels, templates)
        self.labels = given.with_background() if multi_label and not given.background else given
        self.multi_label, self.threshold = multi_label, threshold
        self.encoder = Encoder(
            model if isinstance(model, Checkpoint) else self._find(name_of(model)),
            device=device,
            dtype=dtype,
            threads=threads,
            preprocess=preprocess,
            heads=heads,
            views=views,
            saver=FrameFolder(save_frames) if save_frames else None,
            workers=workers,
            batch_size=batch_size,
            timeout=timeout,
            limits=limits,
            stream=stream,
        )
        if self.head is not None:
            self.head.check(self.encoder)
            self._deltas = self.head.of(self.labels)
        self._check_labels()
        self._label_warnings = self._warnings()
        groups = [*self.labels.texts, *([text] for text in self.labels.background)]
        self.texts = Texts(groups, self.checkpoint, self.encoder.config, tokenizer, cache)

    def classify(
        self,
        video: str | os.PathLike[str] | Any,
        start: Time | None = None,
        end: Time | None = None,
        top_k: int = 0,
    ) -> Prediction:
        """Rank the labels for one video: a path, or its frames as arrays [H, W, 3] of bytes (a list, or 4-D).

        ``start`` and ``end`` (seconds, or "HH:MM:SS.mmm") select a part of a video file. Frames count as one per
        second: their times are their numbers. ``top_k`` keeps only the best labels; 0 keeps all. Raises VideoError,
        and ValueError for ``start`` or ``end`` with frames.
        """
        if isinstance(video, str | os.PathLike):
            (record,) = self.classify_all([self.request(video, start, end)], top_k)
        elif start is not None or end is not None:
            raise ValueError("start and end select a part of a video file: with frames, pass only those that you want")
        else:
            decoded = self.encoder.decoded_frames(video)
            self.load()
            (record,) = self.encoder.compute([decoded], lambda encoded: self._score(encoded, top_k))
        if isinstance(record, Failure):
            raise VideoError(": ".join(filter(None, (printable(record.video), record.message))), record.code)
        return record

    def classify_all(
        self,
        videos: Iterable[str | os.PathLike[str] | ClipRequest] | str | os.PathLike[str] | Index,
        top_k: int = 0,
        recursive: bool = False,
    ) -> Iterator[Prediction | Failure]:
        """One record per video, in order: a Failure for a video that cannot be read.

        ``videos``: paths, also as a generator, which is read as videos are decoded; a folder stands for the videos in
        it, with ``recursive`` also for those in its sub-folders; or a single folder. Or an index of whole videos,
        which are not decoded; raises ResultsError if the index was made with other settings than the classifier's.

        Videos are decoded ahead, starting with this call, and encoded in batches. Exhaust or close the iterator before
        using the classifier again: until then other calls raise RuntimeError.

        >>> with Classifier("bundled", labels=["a black screen", "color bars"]) as classifier:
        ...     [record.label for record in classifier.classify_all(["clips/color-bars.mp4", "missing.mp4"])]
        ['color bars', None]
        """
        if isinstance(videos, Index):
            return self._followed(results_of(self.classify_stored(videos, top_k)), len(videos))
        found: Iterable[str | ClipRequest | Failure] = with_folders(videos, recursive)
        if self._progress and not isinstance(videos, Iterator):
            found = list(found)

        def run(taken: Iterator[str | ClipRequest]) -> Iterator[Prediction | Failure]:
            requests = (self.request(video) if isinstance(video, str) else video for video in taken)
            return results_of(self._run(requests, top_k, windows=False))

        return self._followed(interleaved(found, run), len(found) if isinstance(found, list) else None)

    def timeline(
        self,
        video: str | os.PathLike[str],
        start: Time | None = None,
        end: Time | None = None,
        *,
        window: Time | None = None,
        stride: Time | None = None,
        min_score: float = 0.0,
        min_duration: float = 0.0,
        top_k: int = 0,
    ) -> VideoTimeline:
        """Which label fits best when in a video: its windows, and the segments that they form.

        ``window``: seconds per window (default: chosen for the model); ``stride``: seconds between the starts of
        windows (default: half a window). No segment has a score below ``min_score`` or is shorter than
        ``min_duration`` seconds. ``top_k`` keeps only the best labels of each window; 0 keeps all. The result for a
        video that fails midway has an ``error``. Raises VideoError, and ValueError for impossible windows.

        >>> with Classifier("bundled", labels=["a normal picture", "a fade in from black"]) as classifier:
        ...     timeline = classifier.timeline("clips/fade-in.mp4", window=0.5)
        >>> print(timeline.to_srt())
        1
        00:00:00,000 --> ...
        """
        from .timeline import Rules, Timelines, whole_timelines

        rules = Rules.of(self.encoder.usual_window, exact_time(window), exact_time(stride), min_score, min_duration)
        task = Timelines(self, rules, exact_time(start), exact_time(end), top_k)
        (found,) = whole_timelines(self._followed(task.records([os.fspath(video)]), 1, "window"))
        if isinstance(found, Failure):
            raise VideoError(f"{printable(found.video)}: {found.message}", found.code)
        return found

    def _followed(self, records: Iterator[R], total: int | None, part: str | None = None) -> Iterator[R]:
        """The records, with their progress where that is wanted."""
        from .output.progress import follow

        return follow(records, total, part=part) if self._progress else records

    def classify_windows(
        self, requests: Iterable[ClipRequest], top_k: int = 0
    ) -> Iterator[Outcome[Prediction | Failure]]:
        """One outcome a window of each video, in order, which says how many of the same video follow.

        A Failure with a start and an end is of that window alone; without, it is the last outcome of a video that
        cannot be read, or not to its end.
        """
        return self._run(requests, top_k, windows=True)

    def classify_stored(
        self, videos: Iterable[StoredVideo], top_k: int = 0, *, windows: bool = False
    ) -> Generator[Outcome[Prediction | Failure], None, None]:
        """The outcomes of videos of indexes, as those of files: of ``windows``, or of whole videos. What that takes of
        the weights is loaded when this returns. Raises ModelError, and ResultsError for an index that was made in
        another way, or is damaged."""

        def slots() -> Iterator[tuple[Encodings | Failure, int]]:
            checked: set[int] = set()
            for video in videos:
                if id(video.index) not in checked:
                    self.check(video.index, windows)
                    checked.add(id(video.index))
                yield from stored_slots(video, self.encoder)

        self.load(vision=False)
        return outcomes_of(self.encoder, slots(), lambda encoded: self._score(encoded, top_k))

    def check(self, index: Index, windows: bool | None = None) -> None:
        """Raises ResultsError if an index does not hold what this would make of the videos. ``windows``: whether
        it must be of windows, or of whole videos."""
        made, ours, config = index.settings, self.encoder, self.encoder.config
        found = [] if made.identity == self.checkpoint.identity else [f"model {made.model}, not {self.checkpoint.name}"]
        expected = {
            "views": str(ours.views),
            "preprocess": ours.preprocess,
            "heads": ours.heads,
            "stream": ours.stream,
            "tokens": config.vision_config.num_patches,
            "width": config.projection_dim,
        }
        given = {name: getattr(made, name) for name in expected}
        found += [f"{name} {given[name]}, not {value}" for name, value in expected.items() if given[name] != value]
        if windows not in (None, made.window is not None):
            held = "windows, not whole videos" if made.window is not None else "whole videos, not windows"
            found.append(f"{held}: embed them again with{' --window SECONDS' if windows else 'out --window'}")
        if found:
            raise ResultsError(f"the index {printable(str(index.folder))} contains {printable('; '.join(found))}")

    def _run(
        self, requests: Iterable[ClipRequest], top_k: int, windows: bool
    ) -> Generator[Outcome[Prediction | Failure], None, None]:
        return self.encoder.run(requests, lambda encoded: self._score(encoded, top_k), windows=windows, load=self.load)

    def request(
        self,
        video: str | os.PathLike[str],
        start: Time | None = None,
        end: Time | None = None,
        length: Time | None = None,
        stride: Time | None = None,
    ) -> ClipRequest:
        """What to decode of a video, as ``Encoder.request``."""
        return self.encoder.request(video, start, end, length, stride)

    def load(self, vision: bool = True) -> None:
        """Import torch, load the weights and encode the labels, unless that is done; without ``vision`` only what the
        videos of an index need. Raises ModelError."""
        self.encoder.load(vision)
        _ = self.text_features

    def close(self) -> None:
        """End the decode workers."""
        self.encoder.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check_labels(self) -> None:
        if self.labels.model is not None and self.labels.model != self.identity:
            raise LabelsError(
                f"the labels were calibrated for another model or head than {self.checkpoint.name} "
                f"{'with this' if self.head else 'without a'} head: use that one, or calibrate them again with `xclip "
                "evaluate --write-labels`"
            )

    def _find(self, name: str) -> Checkpoint:
        return find_checkpoint(choose_model(name, self.labels.all_texts).name)

    @property
    def checkpoint(self) -> Checkpoint:
        """The model's."""
        return self.encoder.checkpoint

    @property
    def identity(self) -> str:
        """What tells the model, and its head, from others."""
        return calibrated_identity(self.checkpoint.identity, self.head.sha256 if self.head else None)

    @property
    def text_features(self) -> Tensor:
        """[K, P]: of each label, and of each neutral text, the mean over its texts."""
        return self.texts.features(self.encoder.dtype, self.encoder.device)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know about the labels, the model and, once it is loaded, how it runs."""
        return (*self._label_warnings, *self.encoder.warnings)

    def _warnings(self) -> tuple[str, ...]:
        asked = self.head.unlearned(self.labels) if self.head else (t for texts in self.labels.texts for t in texts)
        why = self.checkpoint.why_a_guess(asked)
        if why is None and self.checkpoint.why_a_guess(self.labels.background):
            why = "was not trained on the neutral texts that labels are compared with"
        found = [*self.labels.warnings]
        found += [f"the model {self.checkpoint.name} can only guess: it {why}"] if why else []
        if self.labels.temperature and self.labels.background:
            found.append("scores against neutral texts are not calibrated: the temperature of the labels is not used")
        return tuple(found)

    @property
    def choices(self) -> tuple[str, ...]:
        """All that a video may be said to show: the labels, and "none of these" where that is asked for."""
        none = (NONE_OF_THESE,) if self.labels.background and not self.multi_label else ()
        return (*self.labels.names, *none)

    def logits(self, clips: Tensor) -> Tensor:
        """Clips [B, T, 3, H, W] of bytes, cut to the model's size → logits [B, texts' groups], without softmax."""
        return self.similarity(*self.encoder.encode_clips(clips))

    def similarity(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Encodings of B clips → logits [B, texts' groups], without softmax."""
        return self.encoder.similarity(self.text_features, features, tokens, self.deltas)

    @cached_property
    def deltas(self) -> Tensor | None:
        """[texts' groups, P]: the head's corrections, 0 for neutral texts; None if there is no head."""
        import torch

        if self.head is None:
            return None
        neutral = np.zeros((len(self.labels.background), self._deltas.shape[1]), np.float32)
        return torch.from_numpy(np.concatenate([self._deltas, neutral])).to(self.encoder.device)

    def _score(self, encoded: Sequence[Encodings], top_k: int) -> list[Prediction | Failure]:
        """Rank the labels for windows that were encoded."""
        import torch

        began = time.monotonic()
        features, tokens = (torch.cat([getattr(e, part) for e in encoded]) for part in ("features", "tokens"))
        logits = self.similarity(features, tokens)
        logits = logits.view(len(encoded), self.encoder.views.count, -1).cpu()  # [windows, views, labels]
        logits, scores = self._fold_background(logits)
        scores, logits = scores.mean(dim=1), logits.mean(dim=1)
        seconds = (time.monotonic() - began) / len(encoded)
        results = zip(encoded, scores.numpy(), logits.numpy(), strict=True)
        return [self._record(*values, top_k, seconds) for values in results]

    def _fold_background(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [..., labels and background] → logits and scores [..., answers].

        The background is one answer, whose logit is that of the sum of its texts' scores.
        """
        import torch

        count = len(self.labels.names)
        labels, background = logits[..., :count], logits[..., count:]
        if not self.labels.background:
            return labels, (labels / (self.labels.temperature or 1.0)).softmax(dim=-1)
        neutral = background.logsumexp(dim=-1, keepdim=True)
        if self.multi_label:
            return labels, (labels - neutral).sigmoid()
        folded = torch.cat([labels, neutral], dim=-1)
        return folded, folded.softmax(dim=-1)

    def _misfits(self, info: ClipInfo, smallest: int) -> Iterator[str]:
        """What of a video fits the model badly; ``smallest`` is the short side of its pictures."""
        need, size = len(info.places), self.encoder.config.vision_config.image_size
        if info.decoded < need:
            yield f"only {counted(info.decoded, 'different frame')} for a model that takes {need}: frames were repeated"
        if smallest < size / 2:
            yield f"frames are only {smallest} px on the short side and are upscaled to {size}: expect worse results"

    def _record(
        self,
        encoded: Encodings,
        scores: npt.NDArray[np.float32],
        logits: npt.NDArray[np.float32],
        top_k: int,
        seconds: float,  # that scoring took
    ) -> Prediction | Failure:
        info = encoded.info
        if not np.isfinite(logits).all():
            message = f"the model gives no finite score in {self.encoder.precision}: try --dtype float32"
            return Failure(
                encoded.video,
                "not_finite",
                message,
                start_seconds=info.start_seconds,
                end_seconds=info.end_seconds,
            )
        ranked = np.argsort(-scores if self.encoder.views.count > 1 else -logits, kind="stable").tolist()
        shown = [i for i in ranked if scores[i] >= self.threshold and logits[i] >= self._floors[i]]
        return Prediction(
            video=encoded.video,
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
                rate=info.rate,
            ),
            predictions=tuple(
                RankedLabel(self.choices[i], float(scores[i]), float(logits[i])) for i in shown[: top_k or None]
            ),
            warnings=(*self.warnings, *info.warnings, *self._misfits(info, encoded.short_side)),
            withheld=len(ranked) - len(shown) if self.threshold or self.labels.min_logits else None,
            calibrated=True if self.labels.temperature and not self.labels.background else None,
            seconds=Seconds(round(info.seconds, 3), round(encoded.seconds + seconds, 3)),
        )

    @cached_property
    def _floors(self) -> list[float]:
        """Of each answer, the logit below which it is withheld."""
        floors = [-math.inf if floor is None else floor for floor in self.labels.min_logits]
        return floors + [-math.inf] * (len(self.choices) - len(floors))

    def description(self) -> str:
        """The model and how it runs, in a line."""
        return self.encoder.description()

    def run_header(self, start: Fraction | None, end: Fraction | None, top_k: int) -> RunHeader:
        """What the records of a run are made with."""
        return RunHeader(
            xclip=__version__,
            model=self.checkpoint.name,
            revision=self.checkpoint.revision,
            model_identity=self.checkpoint.identity,
            labels=len(self.labels.names),
            labels_sha256=self.labels.sha256,
            num_frames=self.encoder.config.vision_config.num_frames,
            views=str(self.encoder.views),
            preprocess=self.encoder.preprocess,
            heads=self.encoder.heads,
            stream=self.encoder.stream,
            start=None if start is None else str(start),
            end=None if end is None else str(end),
            dtype=self.encoder.precision,
            top_k=top_k,
            none_of_these=True if self.labels.background and not self.multi_label else None,
            multi_label=self.multi_label or None,
            threshold=self.threshold or None,
            head=None if self.head is None else self.head.sha256,
        )


def _loaded(head: str | Path) -> Head:
    from .adaptation import Head  # which takes longer to import than a Classifier without one

    return Head.load(head)
