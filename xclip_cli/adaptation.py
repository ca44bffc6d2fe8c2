"""Adaptation: labelled examples → a head, which corrects a checkpoint's logits for one list of labels.

``logit_k(video) = zero-shot logit_k + s · v̂ · Δ_k``, with v̂ the normalised video features and s the model's logit
scale. Δ begins at 0, where all is as before, and is fitted by cross-entropy with a penalty ``mean_k λ_k‖Δ_k‖²``: λ_k is
how sure the model is of the right label on its examples without a head, so that what it knows is hardly touched and
what it has wrong may move. No validation set is needed (arXiv 2312.12730), and labels without examples keep Δ = 0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .engine.batches import outcomes_of
from .engine.encoder import Encoder
from .engine.encodings import Encodings
from .engine.pipeline import results_of
from .engine.texts import Texts
from .errors import LabelsError, ModelError, ResultsError
from .evaluation.calibration import folds_of
from .evaluation.metrics import Comparison, compare
from .evaluation.truth import Names, Truth
from .labels import Labels, make_labels
from .model.checkpoint.files import read_header
from .model.checkpoint.find import find_checkpoint
from .results.fields import read
from .results.index import Index, StoredVideo
from .results.records import Failure, Record
from .stored import stored_slots
from .text import listed, one_line, printable, quoted

if TYPE_CHECKING:
    import numpy.typing as npt
    from torch import Tensor

    Floats = npt.NDArray[np.float32]
    Numbers = npt.NDArray[np.intp]

LEAST_PENALTY = 0.2  # of a label that the model never takes for right: the fit has one solution
STEPS = 200
METADATA = "xclip head"  # the only key of the file's metadata
TENSOR = "deltas"
FORMAT = 1
MAX_FILE = 1 << 30  # bytes


@dataclass(frozen=True)
class HeadSettings:
    """What a head was fitted with, as it stands in the file."""

    model: str  # the checkpoint's name
    identity: str  # what tells it from others
    labels: tuple[str, ...]
    shots: tuple[int, ...]  # examples of each label
    penalties: tuple[float, ...]  # λ of each label
    revision: str | None = None
    preprocess: str = "hf"
    views: str = "1x1"
    heads: int | None = None  # of MIT and prompt generator, where they are not the checkpoint's
    format: int = FORMAT

    @property
    def model_name(self) -> str:
        """What loads the model, at its revision."""
        return self.model if self.revision is None else f"{self.model}@{self.revision}"


@dataclass(frozen=True)
class Head:
    """Learned corrections of a checkpoint's logits for a list of labels."""

    settings: HeadSettings
    labels: Labels
    deltas: Floats  # [K, P]

    @classmethod
    def fit(cls, index: Index, truth: Truth, labels: Labels | Iterable[str] | None = None) -> Head:
        """Fit a head to those videos of an index of whole videos that the truth names. ``labels``: by default the
        truth's classes.

        Raises LabelsError, ModelError, ResultsError.
        """
        made = index.settings
        given = truth.classes if labels is None else labels
        encoder = Encoder(
            find_checkpoint(made.model_name),
            views=made.views_of,
            preprocess=made.preprocess,
            heads=made.heads,
            dtype=made.dtype,
            stream=made.stream,
        )
        task = Adaptation(encoder, given if isinstance(given, Labels) else Labels.of(given), truth)
        for _ in task.look([], index):
            pass
        return task.head()

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Load a head from a file, which may be untrusted. Raises ModelError."""
        from safetensors import safe_open

        path = Path(path)
        try:
            if path.stat().st_size > MAX_FILE:
                raise ValueError(f"it is larger than {MAX_FILE >> 20} MB")
            header = read_header(path)
            if list(header) != [TENSOR] or header[TENSOR]["dtype"] != "F32":
                raise ValueError(f"it must hold the tensor {TENSOR} in float32, and nothing else")
            with safe_open(path, framework="np") as file:
                values = json.loads((file.metadata() or {}).get(METADATA, ""))
                deltas = file.get_tensor(TENSOR)
            texts = values.pop("texts")
            settings = read(HeadSettings, values, "the head")
            labels = make_labels(zip(settings.labels, map(tuple, texts), strict=True), ())
            cls._check(settings, labels, deltas)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, LabelsError) as error:
            if isinstance(error, ModelError):
                raise
            raise ModelError(f"{path} is not a head that `xclip adapt` wrote: {one_line(error)}") from error
        return cls(settings, replace(labels, warnings=()), deltas)

    @staticmethod
    def _check(settings: HeadSettings, labels: Labels, deltas: Floats) -> None:
        count = len(settings.labels)
        if settings.format != FORMAT:
            raise ValueError(f"its format is {settings.format}, but this version of xclip reads {FORMAT}")
        if labels.names != settings.labels or {len(settings.shots), len(settings.penalties)} != {count}:
            raise ValueError("its labels, shots and penalties do not match")
        if deltas.ndim != 2 or len(deltas) != count or not np.isfinite(deltas).all():
            raise ValueError("its tensor must have one finite row per label")

    def save(self, path: str | Path) -> None:
        """Write the head to a file. Raises OSError."""
        Path(path).write_bytes(self.to_bytes())

    def to_bytes(self) -> bytes:
        """The content of the file."""
        from safetensors.numpy import save

        values = json.dumps({**asdict(self.settings), "texts": self.labels.texts})
        return save({TENSOR: np.ascontiguousarray(self.deltas)}, {METADATA: values})

    @property
    def sha256(self) -> str:
        """What tells two heads apart."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    def check(self, encoder: Encoder) -> None:
        """Raises ModelError if the head was fitted to something other than what an encoder gives."""
        ours, found = self.settings, []
        if ours.identity != encoder.checkpoint.identity:
            found.append(f"the model {ours.model} ({one_line(ours.identity, 19)}), not {encoder.checkpoint.name}")
        for name, value in (
            ("views", str(encoder.views)),
            ("preprocess", encoder.preprocess),
            ("heads", encoder.heads),
        ):
            if getattr(ours, name) != value:
                found.append(f"{name} {getattr(ours, name)}, not {value}")
        if not found and self.deltas.shape[1] != encoder.config.projection_dim:
            found.append(f"features of {self.deltas.shape[1]} numbers, not {encoder.config.projection_dim}")
        if found:
            raise ModelError(f"the head was fitted to {'; '.join(found)}")

    def of(self, labels: Labels) -> Floats:
        """[K, P] for the same labels in any order. Raises LabelsError for other labels."""
        ours = dict(zip(self.labels.names, self.labels.texts, strict=True))
        theirs = dict(zip(labels.names, labels.texts, strict=True))
        if ours != theirs:
            differing = [name for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)]
            raise LabelsError(
                f"the head is for {len(ours)} other labels or texts: {listed(differing, 5, quoted)} differ; omit "
                "--labels to use the head's own"
            )
        numbers = {name: i for i, name in enumerate(self.labels.names)}
        return self.deltas[[numbers[name] for name in labels.names]]

    def unlearned(self, labels: Labels) -> list[str]:
        """The texts of those among ``labels`` that there were no examples of."""
        learned = {label for label, shots in zip(self.settings.labels, self.settings.shots, strict=True) if shots}
        named = zip(labels.names, labels.texts, strict=True)
        return [text for name, texts in named if name not in learned for text in texts]

    def among(self, labels: Labels) -> Head:
        """A head for any labels: those whose texts it has are corrected, all others are left as they are."""
        rows = dict(zip(self.labels.texts, self.deltas, strict=True))
        nothing = np.zeros(self.deltas.shape[1], np.float32)
        return replace(self, labels=labels, deltas=np.stack([rows.get(texts, nothing) for texts in labels.texts]))


@dataclass(frozen=True)
class Example(Record):
    """A video with a known label, as the model sees it."""

    video: str
    features: Floats  # [P]: normalised, the mean over views
    logits: Floats  # [K], without a head
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Gain:
    """What a head does on examples that it was not fitted to."""

    zero_shot: float  # shares of right ones
    adapted: float
    compared: Comparison
    videos: int


class Adaptation:
    """The task of gathering examples, and of fitting a head to them. Raises LabelsError, ModelError."""

    def __init__(
        self,
        encoder: Encoder,
        labels: Labels,
        truth: Truth,
        tokenizer: str | None = None,
        cache: bool = True,
        stretch: tuple[Fraction | None, Fraction | None] = (None, None),
    ) -> None:
        self.encoder, self.labels, self.truth, self.stretch = encoder, labels, truth, stretch
        truth.check_labels(labels.names)
        names = Names(labels.names)
        self._number = {label: names.find(label) for label in truth.classes}
        self._texts = Texts(labels.texts, encoder.checkpoint, encoder.config, tokenizer, cache)
        self._examples: list[Example] = []
        self._right: list[int] = []

    def look(self, paths: Sequence[str], stored: Iterable[StoredVideo]) -> Iterator[Example | Failure]:
        """Look at files, then at what indexes hold, a record each; those that the truth names are examples. Raises
        ModelError, ResultsError."""
        requests = [self.encoder.request(path, *self.stretch) for path in paths]
        self.encoder.load(vision=bool(paths))
        _ = self._text_features
        if requests:
            yield from map(self._taken, results_of(self.encoder.run(requests, self._seen, windows=False)))
        outcomes = outcomes_of(self.encoder, self._slots(stored), self._seen)
        yield from map(self._taken, results_of(outcomes))

    def _slots(self, videos: Iterable[StoredVideo]) -> Iterator[tuple[Encodings | Failure, int]]:
        for video in videos:
            made = video.index.settings
            if made.window is not None or made.identity != self.encoder.checkpoint.identity:
                held = "windows, not whole videos" if made.window else f"encodings of {one_line(made.model)}"
                raise ResultsError(f"the index {printable(str(video.index.folder))} contains {held}")
            yield from stored_slots(video, self.encoder)

    def _seen(self, encoded: Sequence[Encodings]) -> list[Example | Failure]:
        import torch

        found: list[Example | Failure] = []
        for each in encoded:
            features = torch.nn.functional.normalize(each.features.float(), dim=-1).mean(dim=0).cpu().numpy()
            logits = self.encoder.similarity(self._text_features, each.features, each.tokens).mean(dim=0)
            found.append(Example(each.video, features, logits.float().cpu().numpy()))
        return found

    def _taken(self, record: Example | Failure) -> Example | Failure:
        video = self.truth.find(record.video)
        if isinstance(record, Example) and video is not None:
            number = self._number[self.truth.videos[video][0]]
            assert number is not None  # it was checked
            self._examples.append(record)
            self._right.append(number)
        return record

    @property
    def _text_features(self) -> Tensor:
        return self._texts.features(self.encoder.dtype, self.encoder.device)

    @property
    def right(self) -> Numbers:
        """[N]: the labels of the examples, by number."""
        return np.array(self._right, np.intp)

    def head(self) -> Head:
        """Fitted to all examples. Raises LabelsError if there are none."""
        if not self._examples:
            raise LabelsError("there are no examples: no video of the ground truth could be encoded")
        labels, encoder = self.labels, self.encoder
        features, logits, scale = self._arrays()
        deltas, penalties = fit(features, logits, self.right, scale)
        settings = HeadSettings(
            model=encoder.checkpoint.name,
            identity=encoder.checkpoint.identity,
            labels=labels.names,
            shots=tuple(np.bincount(self.right, minlength=len(labels.names)).tolist()),
            penalties=tuple(penalties.tolist()),
            revision=encoder.checkpoint.revision,
            preprocess=encoder.preprocess,
            views=str(encoder.views),
            heads=encoder.heads,
        )
        return Head(settings, replace(labels, warnings=(), min_logits=()), deltas)

    def gain(self) -> Gain | None:
        """Cross-validated: each part of the examples by a head fitted to the others. None where no label has two."""
        right = self.right
        if not len(right) or np.bincount(right).max() < 2:
            return None
        features, logits, scale = self._arrays()
        adapted, folds = logits.copy(), folds_of(right)
        for fold in np.unique(folds):
            held = folds == fold
            deltas, _ = fit(features[~held], logits[~held], right[~held], scale)
            adapted[held] += scale * features[held] @ deltas.T
        first, second = (values.argmax(axis=1) == right for values in (adapted, logits))
        return Gain(float(second.mean()), float(first.mean()), compare(first, second), len(right))

    def _arrays(self) -> tuple[Floats, Floats, float]:
        features, logits = (np.stack([getattr(e, part) for e in self._examples]) for part in ("features", "logits"))
        return features, logits, self.encoder.scale


def fit(features: Floats, logits: Floats, right: Numbers, scale: float) -> tuple[Floats, Floats]:
    """Normalised features [N, P], zero-shot logits [N, K], right labels [N] → Δ [K, P] and λ [K]."""
    import torch

    count = logits.shape[1]
    seen = np.bincount(right, minlength=count)
    v, z, y = (torch.from_numpy(np.ascontiguousarray(part)) for part in (features, logits, right))
    sure = z.softmax(dim=1)[torch.arange(len(y)), y].numpy()
    penalties = np.maximum(np.bincount(right, sure, minlength=count) / np.maximum(seen, 1), LEAST_PENALTY)
    chosen = torch.from_numpy(np.flatnonzero(seen))
    weights = torch.from_numpy(penalties.astype(np.float32))[chosen] / count
    deltas = torch.zeros(len(chosen), features.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([deltas], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Any:
        optimizer.zero_grad()
        corrected = z.index_add(1, chosen, scale * v @ deltas.T)
        value: Any = torch.nn.functional.cross_entropy(corrected, y) + (weights * deltas.square().sum(dim=1)).sum()
        value.backward()
        return value

    step: Any = optimizer.step
    with torch.enable_grad():
        step(loss)
    fitted = np.zeros((count, features.shape[1]), np.float32)
    fitted[chosen.numpy()] = deltas.detach().numpy()
    return fitted, penalties.astype(np.float32)
