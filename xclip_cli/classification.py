"""The task of ranking labels for whole videos; ``timeline`` has that of finding when they fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

from .classifier import Classifier
from .engine.pipeline import results_of
from .results.index import StoredVideo
from .results.records import Failure, Prediction, RunHeader


class Classification:
    """The task of ranking labels for videos, a record each."""

    def __init__(
        self, classifier: Classifier, start: Fraction | None = None, end: Fraction | None = None, top_k: int = 0
    ) -> None:
        self.classifier = classifier
        self.start, self.end, self.top_k = start, end, top_k

    def header(self) -> RunHeader:
        """What the records are made with."""
        return self.classifier.run_header(self.start, self.end, self.top_k)

    def records(self, paths: Iterable[str]) -> Iterator[Prediction | Failure]:
        """One record a path, in order. The first videos decode while torch and the weights are loaded, which is done
        when this returns. Raises ModelError."""
        requests = (self.classifier.request(path, self.start, self.end) for path in paths)
        records = self.classifier.classify_all(requests, self.top_k)
        self.classifier.load()
        return records

    def stored(self, videos: Iterable[StoredVideo]) -> Iterator[Prediction | Failure]:
        """The same, of videos of indexes."""
        return results_of(self.classifier.classify_stored(videos, self.top_k))

    def description(self) -> str:
        """The model and how it runs, in a line."""
        return self.classifier.description()
