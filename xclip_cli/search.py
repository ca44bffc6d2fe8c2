"""Search: the moments of many videos that answer a text best, or are most like a clip.

Windows are ranked by logit, which compares videos for one text. What is shown is how the text does against the neutral
texts in that window, since logits of two texts cannot be compared. Both depend on what the window shows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .classifier import Classifier
from .engine.encodings import Encodings
from .errors import ResultsError
from .labels import Labels
from .results.index import Index, StoredVideo
from .results.records import Failure, Moment, RunHeader, Seen, SeenWindow

if TYPE_CHECKING:
    import numpy.typing as npt

    Numbers = npt.NDArray[np.float32]
    Chosen = npt.NDArray[np.bool_]
    Scan = Callable[[Sequence[StoredVideo], Chosen | None], Numbers]

AT_ONCE = 4  # windows before and after a hit that are scored together
TOGETHER = 64  # hits that are scored together, where all are wanted
LOOKED_AT = 500  # hits below the threshold in a row, after which there will hardly be one above it


@dataclass(frozen=True)
class SearchRules:
    """Which moments are shown."""

    top_k: int = 20  # 0: all
    per_video: int = 0  # at most so many of a video; 0: any number
    threshold: float | None = None  # none whose score is lower
    exact: bool = False  # whether all windows are compared with the texts, however many there are


@dataclass
class Shelf:
    """The windows of one video, which have consecutive numbers."""

    video: str
    first: int  # number of the first window
    count: int
    stored: StoredVideo | None = None  # where their encodings are; None: they were looked at in passing
    logits: Numbers | None = None  # [K, count], of windows that were looked at in passing
    scores: Numbers | None = None
    times: Sequence[tuple[float, float]] = ()

    def time(self, number: int) -> tuple[float, float]:
        """When a window begins and ends."""
        if not self.times and self.stored is not None:
            usable = [window for window in self.stored.windows if window.lost is None]
            self.times = [(window.start_seconds, window.end_seconds) for window in usable]
        return self.times[number - self.first]


class Passed(NamedTuple):
    """A window of a file that was looked at in passing."""

    video: str
    start_seconds: float
    end_seconds: float
    values: Numbers  # [2, K], logits and scores

    @property
    def time(self) -> tuple[float, float]:
        """When it begins and ends."""
        return self.start_seconds, self.end_seconds


def failure_of(lost: Sequence[Failure], count: int) -> Failure | None:
    """What is said of a video of ``count`` windows of which some are ``lost``: that it failed, if it ended early or has
    no window."""
    if lost and lost[-1].start_seconds is None:
        return lost[-1]
    return lost[0].of_all(count) if lost and len(lost) == count else None


class Library:
    """All windows that are searched, in the order of the inputs."""

    def __init__(self) -> None:
        self.shelves: list[Shelf] = []
        self.failures: list[Failure] = []
        self.count = 0  # windows
        self.scored = 0  # of them that were compared exactly

    def add(self, video: str, count: int, **kept: Any) -> None:
        """The next video."""
        if count:
            self.shelves.append(Shelf(video, self.count, count, **kept))
            self.count += count

    @cached_property
    def _firsts(self) -> npt.NDArray[np.int64]:
        return np.array([shelf.first for shelf in self.shelves])

    def shelf(self, number: int) -> Shelf:
        """The video of a window."""
        return self.shelves[int(np.searchsorted(self._firsts, number, "right")) - 1]


class Search:
    """The task of answering texts, or a clip: ``records`` of paths and ``stored`` videos of indexes, ranked.

    ``classifier``: its labels are the texts, its neutral texts what they are scored against. ``window`` and ``stride``:
    of files, which are looked at in passing. With ``like``, a video, its features are compared instead.
    """

    def __init__(
        self,
        classifier: Classifier,
        rules: SearchRules,
        window: Fraction | None = None,
        stride: Fraction | None = None,
        stretch: tuple[Fraction | None, Fraction | None] = (None, None),
        like: str | None = None,
    ) -> None:
        self.classifier, self.encoder, self.rules, self.like = classifier, classifier.encoder, rules, like
        self.window, self.stride, self.stretch = window, stride, stretch
        self.library = Library()
        self.gave_up = 0  # queries whose search ended after many windows below the threshold, and not with the last
        self.queries = classifier.labels.names if like is None else (like,)
        self.scan: Scan = self.scan_here  # or a cluster does: see ``scanning``

    def header(self) -> RunHeader:
        """What the moments are found with."""
        return replace(
            self.classifier.run_header(*self.stretch, self.rules.top_k),
            threshold=self.rules.threshold,
            window=None if self.window is None else str(self.window),
            stride=None if self.stride is None else str(self.stride),
        )

    def look(
        self, paths: Sequence[str], stored: Sequence[StoredVideo], fail_fast: bool = False
    ) -> Iterator[Seen | SeenWindow | Failure]:
        """Look at files in passing, up to one that fails if ``fail_fast``, then find out what indexes hold: a record a
        file, and before it one for each window that others follow. Raises ModelError, ResultsError."""
        if self.like is None:
            self.classifier.load(vision=bool(paths))
        else:
            self.encoder.load()
            _ = self._directions  # the encoder does one thing at a time
        requests = [self.encoder.request(path, *self.stretch, self.window, self.stride) for path in paths]
        times: list[tuple[float, float]] = []
        found: list[Numbers] = []
        lost: list[Failure] = []
        outcomes = self.encoder.run(requests, self._passing, windows=True) if requests else ()
        for result, following in outcomes:
            if isinstance(result, Failure):
                lost.append(result)
            else:
                times.append(result.time)
                found.append(result.values)
            if following:
                end, seen = result.end_seconds or 0.0, len(times) + len(lost)
                yield SeenWindow(result.video, end, seen / (seen + following))
                continue
            if found:
                logits, scores = np.stack(found, axis=-1)  # [2, K, windows]
                self.library.add(result.video, len(times), logits=logits, scores=scores, times=times)
            failure = failure_of(lost, len(times) + len(lost))
            self.library.failures += [failure] if failure else []
            yield failure or Seen(result.video)
            times, found, lost = [], [], []
            if failure and fail_fast:
                break
        for video in stored:
            self.library.add(video.video, video.num_windows, stored=video)

    def moments(self) -> Iterator[Moment]:
        """The best moments of each query, best first, one query after the other."""
        logits = self._logits()
        for k, query in enumerate(self.queries):
            background = 0.0 if self.like is None else float(np.mean(logits[k])) if logits.size else 0.0
            ranking = Ranking(logits[k], self._score_of(k, logits), self.library, self.rules, background)
            for rank, (shelf, first, last, best, score) in enumerate(ranking.found(), start=1):
                start, end = shelf.time(first)[0], max(shelf.time(i)[1] for i in (first, last))
                logit = float(logits[k, best]) if self.like is None else None
                yield Moment(query, rank, shelf.video, start, end, max(-1.0, min(score, 1.0)), logit)
            self.gave_up += ranking.gave_up

    @cached_property
    def _directions(self) -> Any:
        """[1, P]: where the example lies."""
        import torch

        features = self.encoder.encode(self.like or "").features.float()
        return torch.nn.functional.normalize(features, dim=-1).mean(dim=0, keepdim=True)

    def _passing(self, encoded: Sequence[Encodings]) -> list[Passed]:
        """What is kept of each window."""
        import torch

        features, tokens = (torch.cat([getattr(e, part) for e in encoded]) for part in ("features", "tokens"))
        if self.like is not None:
            alike = torch.nn.functional.normalize(features.float(), dim=-1) @ self._directions.T
            both = [alike.view(len(encoded), -1, 1).mean(dim=1)] * 2
        else:
            both = list(
                self._logits_and_scores(self.classifier.text_features, features, tokens, self.classifier.deltas)
            )
        values = torch.stack([each.cpu() for each in both], dim=1).numpy()
        return [
            Passed(e.video, e.info.start_seconds, e.info.end_seconds, value)
            for e, value in zip(encoded, values, strict=True)
        ]

    def _logits_and_scores(self, texts: Any, features: Any, tokens: Any, deltas: Any) -> tuple[Any, Any]:
        """Texts and the neutral ones [K + neutral, P] against rows → logits and scores [windows, K] over all views.
        ``deltas``: of these texts, where there is a head."""
        count = len(texts) - len(self.classifier.labels.background)
        logits = self.encoder.similarity(texts, features, tokens, deltas).view(-1, self.encoder.views.count, len(texts))
        neutral = logits[..., count:].logsumexp(dim=-1, keepdim=True)
        scores = (logits[..., :count] - neutral).sigmoid()
        return logits[..., :count].mean(dim=1), scores.mean(dim=1)

    def _logits(self) -> Numbers:
        """What all windows are ranked by [K, windows]: logits, or cosines to the example."""
        library = self.library
        logits = np.full((len(self.queries), library.count), -np.inf, np.float32)
        for shelf in library.shelves:
            if shelf.logits is not None:
                logits[:, shelf.first : shelf.first + shelf.count] = shelf.logits
        library.scored = int(np.isfinite(logits[0]).sum())
        for shelves in _by_index(library.shelves):
            numbers = np.concatenate([np.arange(s.first, s.first + s.count) for s in shelves])
            found, chosen = self._scanned([shelf.stored for shelf in shelves if shelf.stored])
            logits[:, numbers[chosen]] = found
            library.scored += int(chosen.sum())
        if np.isnan(logits).any():
            raise ResultsError("an index contains numbers that are not finite: `xclip index check` finds damaged parts")
        return logits

    def _scanned(self, videos: list[StoredVideo]) -> tuple[Numbers, Chosen]:
        """Videos of one index: logits [K, chosen windows], and which windows were chosen."""
        from .engine.ranking import CLOSE_ENOUGH, candidates

        chosen = np.ones(sum(video.num_windows for video in videos), bool)
        if self.like is not None:
            return self.scan(videos, None), chosen
        if len(chosen) > CLOSE_ENOUGH and not self.rules.exact:
            chosen = candidates(self.scan(videos, None))
        return self.scan(videos, chosen), chosen

    def scan_here(self, videos: Sequence[StoredVideo], chosen: Chosen | None) -> Numbers:
        """Videos of one index: logits of the chosen windows [K, chosen], or where None are, cosines of the features of
        all. Raises ResultsError."""
        import torch

        from .engine.ranking import cosines, rows_at_once, text_logits

        index = videos[0].index
        blocks = index.blocks(videos, rows_at_once(self.encoder))
        if self.like is not None:
            rows = cosines(self.encoder, self._directions, blocks)
        else:
            texts, deltas = self.classifier.text_features[: len(self.queries)], self.classifier.deltas
            deltas = None if deltas is None else deltas[: len(self.queries)]
            if chosen is None:
                directions = texts if deltas is None else torch.nn.functional.normalize(texts, dim=-1) + deltas
                rows = cosines(self.encoder, directions, blocks)
            else:
                picked = _picked(blocks, np.repeat(chosen, index.views))
                rows = text_logits(self.encoder, texts, picked, deltas)
        means: Numbers = rows.reshape(len(rows), -1, index.views).mean(axis=2)
        return means

    def _score_of(self, k: int, logits: Numbers) -> Callable[[Sequence[int]], list[float]]:
        """Windows → their scores for a query; those of an index are computed when they are asked for."""

        known: dict[int, float] = {}

        def score_of(numbers: Sequence[int]) -> list[float]:
            if self.like is not None:
                return [float(logits[k, number]) for number in numbers]
            wanted: list[tuple[int, StoredVideo, int]] = []
            for number in dict.fromkeys(number for number in numbers if number not in known):
                shelf = self.library.shelf(number)
                if shelf.scores is not None:
                    known[number] = float(shelf.scores[k, number - shelf.first])
                elif shelf.stored is not None:
                    wanted.append((number, shelf.stored, number - shelf.first))
            if wanted:
                scores = self._stored_scores(k, [(video, at) for _, video, at in wanted])
                known.update((number, score) for (number, _, _), score in zip(wanted, scores, strict=True))
            return [known[number] for number in numbers]

        return score_of

    def _stored_scores(self, k: int, windows: Iterable[tuple[StoredVideo, int]]) -> list[float]:
        import torch

        from .engine.ranking import one_thread
        from .engine.stored import to_tensors

        parts = [to_tensors(*video.rows(at, 1), self.encoder.dtype, self.encoder.device) for video, at in windows]
        features, tokens = (torch.cat(part) for part in zip(*parts, strict=True))
        texts, deltas = self.classifier.text_features, self.classifier.deltas
        asked = [k, *range(len(self.queries), len(texts))]
        with one_thread():
            of_asked = None if deltas is None else deltas[asked]
            _, scores = self._logits_and_scores(texts[asked], features, tokens, of_asked)
        found: list[float] = scores[:, 0].tolist()
        return found


class Ranking:
    """The windows of all videos in order of their logits, and the moments that they make.

    A moment is the best window that is in no moment yet, and the windows before and after it whose scores are at least
    halfway between the background and its own; the windows next to those are its flanks, and begin no other moment.
    """

    def __init__(
        self,
        logits: Numbers,
        score_of: Callable[[Sequence[int]], list[float]],
        library: Library,
        rules: SearchRules,
        background: float = 0.0,
    ) -> None:
        self._logits, self._score_of, self._library, self._rules = logits, score_of, library, rules
        self._background = background
        self.gave_up = False  # whether windows were left that were not scored, after many below the threshold
        self._taken = np.zeros(len(logits), bool)

    def found(self) -> Iterator[tuple[Shelf, int, int, int, float]]:
        """Moments, best first: video, first and last window, the best window and its score."""
        count, below, rules = 0, 0, self._rules
        of_video: dict[int, int] = {}
        order = np.argsort(-self._logits, kind="stable")
        self._prepare(order[: rules.top_k or TOGETHER].tolist())
        for best in order.tolist():
            self.gave_up = below == LOOKED_AT
            if (rules.top_k and count == rules.top_k) or self.gave_up or not np.isfinite(self._logits[best]):
                return
            shelf = self._library.shelf(best)
            if self._taken[best] or (rules.per_video and of_video.get(shelf.first, 0) == rules.per_video):
                continue
            (score,) = self._score_of([best])
            if rules.threshold is not None and score < rules.threshold:
                below += 1
                continue
            below = 0
            first, last = self._grown(shelf, best, score)
            self._taken[max(shelf.first, first - 1) : min(shelf.first + shelf.count, last + 2)] = True
            of_video[shelf.first] = of_video.get(shelf.first, 0) + 1
            count += 1
            yield shelf, first, last, best, score

    def _prepare(self, numbers: list[int]) -> None:
        """Score the windows that will hardly be passed over, and those next to them, in one go: that is much faster."""
        wanted: list[int] = []
        for number in numbers:
            shelf = self._library.shelf(number)
            last = shelf.first + shelf.count - 1
            wanted += range(max(shelf.first, number - 1), min(last, number + 1) + 1)
        self._score_of([number for number in wanted if np.isfinite(self._logits[number])])

    def _grown(self, shelf: Shelf, best: int, score: float) -> tuple[int, int]:
        """The first and the last window of the moment around a hit."""
        floor = (score + self._background) / 2
        before = range(best - 1, shelf.first - 1, -1)
        after = range(best + 1, shelf.first + shelf.count)
        return self._reach(shelf, best, before, floor), self._reach(shelf, best, after, floor)

    def _reach(self, shelf: Shelf, best: int, numbers: range, floor: float) -> int:
        """How far windows belong to the moment, in one direction."""
        reached = best
        for at in range(0, len(numbers), AT_ONCE):
            some = list(numbers[at : at + AT_ONCE])
            for number, score in zip(some, self._score_of(some), strict=True):
                earlier, later = sorted((number, reached))
                touches = shelf.time(later)[0] <= shelf.time(earlier)[1]
                if self._taken[number] or score < floor or not touches:
                    return reached
                reached = number
        return reached


def _by_index(shelves: Iterable[Shelf]) -> Iterator[list[Shelf]]:
    """The shelves of each index."""
    found: dict[int, list[Shelf]] = {}
    for shelf in shelves:
        if shelf.stored is not None:
            found.setdefault(id(shelf.stored.index), []).append(shelf)
    yield from found.values()


def _picked(blocks: Iterable[Any], wanted: npt.NDArray[np.bool_]) -> Iterator[Any]:
    """Of blocks of rows only those that are wanted; a block that is wanted wholly is not copied."""
    at = 0
    for block in blocks:
        here = wanted[at : at + len(block.features)]
        at += len(here)
        if here.all():
            yield block
        elif here.any():
            yield type(block)(*(None if part is None else part[here] for part in block))


def search(
    index: Index, texts: str | Iterable[str], top_k: int = 20, classifier: Classifier | None = None, **rules: Any
) -> list[Moment]:
    """The moments of an index that match texts best, one text after the other. ``rules``: other fields of SearchRules.

    ``classifier``: what compares the texts (default: the index's model on the default device). Raises ModelError,
    LabelsError, ResultsError.
    """
    from .model.checkpoint.find import find_checkpoint
    from .results.lines import IndexSettings

    made: IndexSettings = index.settings
    names = [texts] if isinstance(texts, str) else list(texts)
    asked = classifier or Classifier(
        find_checkpoint(made.model_name),
        labels=Labels.of(names),
        multi_label=True,
        views=made.views_of,
        preprocess=made.preprocess,
        heads=made.heads,
        stream=made.stream,
        dtype=made.dtype,
    )
    asked.check(index)
    task = Search(asked, SearchRules(top_k=top_k, **rules))
    for _ in task.look([], list(index)):
        pass
    return list(task.moments())
