"""Records against truth → what came out for each video, and all figures that are made of that.

Records are taken one by one: of each video only a few numbers are kept. All scores of all labels are kept where truth
has several labels a video, or thresholds are to be fitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import ResultsError
from ..results.records import Prediction, Record, RunHeader
from . import metrics
from .metrics import Comparison, Interval, Reliability
from .truth import Names, Truth

if TYPE_CHECKING:
    import numpy.typing as npt

THRESHOLD = 0.5  # of scores, for F1
TOP = 5
CONFUSIONS_LISTED = 20


_ROW = np.dtype(
    [
        ("failed", np.bool_),
        ("right", np.int32),
        ("answered", np.int32),
        ("rank", np.int32),
        ("shown", np.int32),
        ("confidence", np.float64),
        ("right_score", np.float64),
    ]
)


@dataclass(frozen=True)
class Evaluation:
    """How right the records of N videos are. K labels: first the truth's, then others that were answered.

    Figures that need all labels of all records are None if records lack some.
    """

    labels: tuple[str, ...]  # as the records spell them, where they know them
    videos: tuple[str, ...]  # as the truth names them
    paths: tuple[str, ...]  # as the records name them
    rows: npt.NDArray[Any]  # [N] of ``failed``, ``right`` and so on: see the properties
    missing: tuple[str, ...] = ()  # videos of the truth that no record is about; they are in no figure
    strange: int = 0  # records of videos that are not in the truth
    cut: bool = False  # whether records lack labels
    several: bool = False  # whether a video may have several right labels
    independent: bool = False  # whether scores are each label's own (--multi-label) and not shares of 1
    threshold: float = THRESHOLD
    wanted: npt.NDArray[np.bool_] | None = None  # [N, K]: all right labels; None if each video has one
    scores: npt.NDArray[np.float32] | None = None  # [N, K]; nan where the video failed
    logits: npt.NDArray[np.float32] | None = None
    places: npt.NDArray[np.float32] | None = None  # of each label in the record, from 0: equal logits have an order
    splits: Mapping[str, npt.NDArray[np.intp]] = field(default_factory=dict)  # videos of each, by number
    header: RunHeader | None = None

    def __len__(self) -> int:
        return len(self.videos)

    @property
    def failed(self) -> npt.NDArray[np.bool_]:
        """[N]: whether there is no result."""
        return self.rows["failed"]

    @property
    def right(self) -> npt.NDArray[np.int32]:
        """[N]: the right label, by number; of several the first; -1: none."""
        return self.rows["right"]

    @property
    def answered(self) -> npt.NDArray[np.int32]:
        """[N]: the best label; -1: the video failed, or no label was sure enough."""
        return self.rows["answered"]

    @property
    def rank(self) -> npt.NDArray[np.int32]:
        """[N]: the place of the right label (of several, the best) from 0; -1: it is not in the record."""
        return self.rows["rank"]

    @property
    def confidence(self) -> npt.NDArray[np.float64]:
        """[N]: the score of the best label; nan where there is none."""
        return self.rows["confidence"]

    @property
    def right_score(self) -> npt.NDArray[np.float64]:
        """[N]: the score of the right label; nan where it is not in the record."""
        return self.rows["right_score"]

    @property
    def correct(self) -> npt.NDArray[np.bool_]:
        """[N]: whether the best label is right."""
        return np.asarray(self.rank == 0)

    def part(self, chosen: npt.NDArray[Any]) -> Evaluation:
        """The same of some videos alone, by their numbers or flags."""
        numbers = np.arange(len(self))[chosen]
        tables = (self.wanted, self.scores, self.logits, self.places)
        wanted, scores, logits, places = (None if table is None else table[numbers] for table in tables)
        return replace(
            self,
            videos=tuple(self.videos[i] for i in numbers),
            paths=tuple(self.paths[i] for i in numbers),
            rows=self.rows[numbers],
            missing=(),
            strange=0,
            wanted=wanted,
            scores=scores,
            logits=logits,
            places=places,
            splits={},
        )

    def among(self, chosen: npt.NDArray[np.intp]) -> Evaluation | None:
        """The videos of some labels, by number, with these alone to choose from; None if places are unknown."""
        if self.places is None or self.several:
            return None
        part = self.part(np.isin(self.right, chosen))
        assert part.places is not None
        own = np.take_along_axis(part.places, part.right[:, None].astype(np.intp), axis=1)
        rows = part.rows.copy()
        rows["rank"] = np.where(part.failed, -1, (part.places[:, chosen] < own).sum(axis=1))
        return replace(part, rows=rows)

    @cached_property
    def classified(self) -> Evaluation:
        """The same without the videos that failed."""
        return self.part(~self.failed) if self.failed.any() else self

    def top(self, count: int) -> Interval | None:
        """The share of videos with the right label among the best ``count``; None if records are too short to say.
        Videos that failed are wrong."""
        unknown = (self.rank < 0) & ~self.failed & (self.rows["shown"] < min(count, len(self.labels)))
        if self.cut and count > 1 and unknown.any():
            return None
        return metrics.proportion(int(((self.rank >= 0) & (self.rank < count)).sum()), len(self))

    @cached_property
    def confusion(self) -> npt.NDArray[Any]:
        """[K, K + 1]: videos by right label and answer; the last column is no answer."""
        return metrics.confusion_matrix(self.right, self.answered, len(self.labels))

    @cached_property
    def class_accuracies(self) -> list[Interval | None]:
        """Of each label, how many of its videos are right; None if it has none."""
        return metrics.class_accuracies(self.confusion)

    @property
    def mean_class_accuracy(self) -> Interval | None:
        """The mean over the labels that have videos; None if videos have several labels."""
        if self.several:
            return None
        return metrics.mean_of([each for each in self.class_accuracies if each is not None])

    def confusions(self, limit: int = CONFUSIONS_LISTED) -> list[tuple[str, str, int]]:
        """The most frequent mistakes: right label, answer, videos."""
        counts = self.confusion[:, :-1].copy()
        np.fill_diagonal(counts, 0)
        order = np.argsort(-counts, axis=None, kind="stable")[: limit if not self.several else 0]
        cells = [(*divmod(int(cell), len(self.labels)), int(counts.flat[cell])) for cell in order]
        return [(self.labels[a], self.labels[b], n) for a, b, n in cells if n]

    @property
    def log_loss(self) -> float | None:
        """Of the videos that were classified: the mean of -ln(score of the right label)."""
        if self.cut or self.several or self.independent:
            return None
        return metrics.log_loss(self.right_score[~self.failed & (self.right >= 0)])

    @property
    def reliability(self) -> Reliability | None:
        """What answers of about the same score are worth, of the videos that have one."""
        if self.independent:
            return None
        there = self.answered >= 0
        return metrics.reliability(self.confidence[there], self.correct[there])

    @property
    def mean_average_precision(self) -> float | None:
        """Over the labels that any video has; videos that failed have the lowest scores."""
        if self.wanted is None or self.scores is None:
            return None
        scores = np.where(np.isnan(self.scores), -np.inf, self.scores)
        each = [metrics.average_precision(self.wanted[:, k], scores[:, k]) for k in range(scores.shape[1])]
        return float(np.nanmean(each)) if not np.isnan(each).all() else math.nan

    @property
    def f1(self) -> tuple[float, float] | None:
        """F1 of scores at the threshold: over all decisions, and the mean over labels."""
        if self.wanted is None or self.scores is None:
            return None
        return metrics.f1(self.wanted, np.nan_to_num(self.scores, nan=-1) >= self.threshold)

    def against(self, other: Evaluation) -> tuple[Comparison, int]:
        """This run and another on the videos that both have, and how many those are."""
        theirs = dict(zip(other.videos, other.correct, strict=True))
        both = [(ours, theirs[video]) for video, ours in zip(self.videos, self.correct, strict=True) if video in theirs]
        pairs = np.array(both, bool).reshape(-1, 2)
        return metrics.compare(pairs[:, 0], pairs[:, 1]), len(pairs)

    def mistakes(self, limit: int) -> list[int]:
        """The most confident wrong answers, by number."""
        wrong = np.flatnonzero(~self.correct & (self.answered >= 0))
        return [int(i) for i in wrong[np.argsort(-self.confidence[wrong], kind="stable")][:limit]]


def evaluate(
    records: Iterable[Record | RunHeader | None],
    truth: Truth,
    *,
    splits: Sequence[str] = (),
    threshold: float = THRESHOLD,
    keep_scores: bool = False,
) -> Evaluation:
    """Compare records of whole videos with truth. A later record of a video replaces an earlier one.

    ``splits``: which of the truth's splits (default: those for testing). ``threshold``: the lowest score at which a
    label counts as given, for F1. ``keep_scores``: keep all scores and logits, to fit thresholds to. Raises
    ResultsError if no record is about a video of the truth, LabelsError if truth and records do not match.

    >>> from xclip_cli import Classifier
    >>> from xclip_cli.evaluation import Truth
    >>> truth = Truth.of({"clips/color-bars.mp4": "color bars", "clips/black-screen.avi": "a black screen"})
    >>> with Classifier("bundled", labels=truth.classes) as classifier:
    ...     evaluate(classifier.classify_all(truth.videos), truth).top(1).value
    1.0
    """
    names = truth.split_names(splits)
    truth = truth.only(names)
    tally = _Tally(truth, keep_scores or truth.several)
    for record in records:
        tally.add(record)
    if not tally.rows:
        raise ResultsError(
            f"none of {tally.strange} records is about one of the {len(truth.videos)} videos of the ground truth"
            + (f", such as {next(iter(truth.videos))}" if truth.videos else "")
        )
    found = replace(tally.evaluation(), threshold=threshold)
    if not found.cut and not found.failed.all():
        truth.check_labels(tally.answers)
    numbers = {video: i for i, video in enumerate(found.videos)}
    of_splits = {
        name: np.array([numbers[video] for video in truth.splits[name] if video in numbers], np.intp)
        for name in (names if len(names) > 1 else ())
    }
    return replace(found, splits=of_splits)


class _Tally:
    """Takes records in, and keeps of each what figures are made of."""

    def __init__(self, truth: Truth, keep: bool) -> None:
        self.truth, self.keep = truth, keep
        self.rows: dict[str, int] = {}  # video of the truth → its number
        self.strange = 0
        self.answers: dict[str, int] = {}  # labels as records spell them → their numbers
        self._paths: list[str] = []
        self._rows = bytearray()
        self._values: dict[int, npt.NDArray[np.float32]] = {}  # scores and logits [2, labels of the record]
        self._orders: dict[int, npt.NDArray[np.int32]] = {}  # which labels those are
        self._classes = Names(truth.classes)
        self._labels = list(truth.classes)
        self._header: RunHeader | None = None

    def add(self, record: Record | RunHeader | None) -> None:
        """The next line of results."""
        if isinstance(record, RunHeader):
            self._header = record
        elif record is not None and record.completes and (record.error or record.prediction):
            video = self.truth.find(record.video)
            if video is None:
                self.strange += 1
            else:
                self._add(video, record.video, record.prediction)

    def _add(self, video: str, path: str, prediction: Prediction | None) -> None:
        number = self.rows.setdefault(video, len(self.rows))
        ranked = prediction.predictions if prediction else ()
        order = [self.answers[e.label] if e.label in self.answers else self._number(e.label) for e in ranked]
        wanted = [self._classes.find(label) for label in self.truth.videos[video]]
        rank = min((order.index(each) for each in wanted if each in order), default=-1)
        confidence = ranked[0].score if ranked else math.nan
        right_score = ranked[rank].score if rank >= 0 else math.nan
        right, answered = (each[0] if each else -1 for each in (wanted, order))
        row = np.array((prediction is None, right, answered, rank, len(order), confidence, right_score), _ROW)
        self._rows[number * _ROW.itemsize : (number + 1) * _ROW.itemsize] = row.tobytes()
        self._paths[number : number + 1] = [path]
        if self.keep and prediction:
            self._values[number] = np.array([[e.score for e in ranked], [e.logit for e in ranked]], np.float32)
            self._orders[number] = np.array(order, np.int32)

    def _number(self, label: str) -> int:
        """Of a label that was not seen before."""
        number = self._classes.find(label)
        if number is None:
            number = len(self._labels)
            self._labels.append(label)
        self._labels[number] = label
        self.answers[label] = number
        return number

    def evaluation(self) -> Evaluation:
        """What came of them."""
        rows, header = np.frombuffer(bytes(self._rows), _ROW), self._header
        expected = max(len(self.answers), (header.labels if header and header.labels else 0))
        cut = bool((rows["shown"][~rows["failed"]] < expected).any())
        kept = self.keep and not cut
        return Evaluation(
            labels=tuple(self._labels),
            videos=tuple(self.rows),
            paths=tuple(self._paths),
            rows=rows,
            missing=tuple(video for video in self.truth.videos if video not in self.rows),
            strange=self.strange,
            cut=cut,
            several=self.truth.several,
            independent=bool(header and header.multi_label),
            wanted=self._wanted() if self.truth.several else None,
            scores=self._table(0) if kept else None,
            logits=self._table(1) if kept else None,
            places=self._table(None) if kept else None,
            header=header,
        )

    def _wanted(self) -> npt.NDArray[np.bool_]:
        wanted = np.zeros((len(self.rows), len(self._labels)), bool)
        for video, number in self.rows.items():
            for label in self.truth.videos[video]:
                wanted[number, self._classes.find(label)] = True
        return wanted

    def _table(self, which: int | None) -> npt.NDArray[np.float32]:
        """Scores (0), logits (1) or places (None)."""
        table = np.full((len(self.rows), len(self._labels)), np.nan, np.float32)
        for number, values in self._values.items():
            order = self._orders[number]
            table[number, order] = np.arange(len(order)) if which is None else values[which]
        return table
