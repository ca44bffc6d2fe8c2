"""Search finds what was planted, in indexes and in files, and shows what classify says of the same windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reference import one_thread  # noqa: F401

from xclip_cli import Classifier, Moment, scanning
from xclip_cli.bundled import generator
from xclip_cli.embedding import Embedding, index_settings
from xclip_cli.engine import ranking
from xclip_cli.engine.encoder import Encoder
from xclip_cli.errors import ResultsError
from xclip_cli.labels import Labels
from xclip_cli.results.index import Index
from xclip_cli.results.records import Failure, RunHeader
from xclip_cli.scanning import Scanner
from xclip_cli.search import Library, Ranking, Search, SearchRules, search

RATE, SECONDS = 8, 4  # frames a second, and seconds of one state
PLANTED = ("color bars", "television static", "a white screen", "flashing lights")
Plants = dict[str, list[tuple[str, float]]]  # label → videos, and where in them


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Plants]:
    """20 videos of half a minute, with states planted into normal pictures."""
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(7)
    pictures = [generator.make_picture(rng) for _ in range(12)]
    paths, plants = [], {label: list[tuple[str, float]]() for label in PLANTED}
    for number in range(20):
        states = ["a normal picture"] * 7
        place = 1 + number % 5
        states[place] = PLANTED[number % len(PLANTED)]
        path = folder / f"{number:02}.mp4"
        clips = [
            generator.make_clip(rng, s, pictures, count=RATE * SECONDS, height=72, width=96).frames for s in states
        ]
        generator.write_video(path, np.concatenate(clips), frames_per_second=RATE)
        plants[states[place]].append((str(path), float(place * SECONDS)))
        paths.append(str(path))
    return paths, plants


@pytest.fixture(scope="module")
def index(library: tuple[list[str], Plants], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("index") / "i"
    encoder = Encoder("bundled", dtype="float32", device="cpu")
    task = Embedding(encoder, folder, index_settings(encoder, window=2, stride=1))
    assert [record.error for record in task.records(library[0]) if record.completes] == [None] * 20
    task.close()
    return folder


def classifier(*texts: str) -> Classifier:
    return Classifier(
        "bundled", labels=Labels.of(texts), multi_label=True, dtype="float32", device="cpu", cache=False, threads=1
    )


def recall(found: Sequence[Moment], planted: list[tuple[str, float]]) -> float:
    """The share of what was planted that a moment overlaps; each moment counts once."""
    hits = {
        (video, at)
        for video, at in planted
        for moment in found
        if moment.video == video and moment.start_seconds < at + SECONDS and moment.end_seconds > at
    }
    return len(hits) / len(planted)


def test_what_was_planted_is_found(index: Path, library: tuple[list[str], Plants]) -> None:
    with Index.open(index) as opened:
        found = search(opened, PLANTED, top_k=5)
    of_text = {text: [moment for moment in found if moment.query == text] for text in PLANTED}
    assert {text: len(moments) for text, moments in of_text.items()} == dict.fromkeys(PLANTED, 5)
    assert all([m.rank for m in moments] == [1, 2, 3, 4, 5] for moments in of_text.values())
    assert np.mean([recall(of_text[text], library[1][text]) for text in PLANTED]) >= 0.9


def test_files_are_looked_at_in_passing_with_the_same_result(index: Path, library: tuple[list[str], Plants]) -> None:
    paths = library[0][:4]
    with Index.open(index) as opened, classifier(*PLANTED) as asked:
        task = Search(asked, SearchRules(top_k=3))
        assert list(task.look([], [opened[path] for path in paths])) == []
        stored = list(task.moments())
        passing = Search(asked, SearchRules(top_k=3), 2, 1)
        seen = list(passing.look(paths, []))
        assert (len(seen), [record.video for record in seen if record.completes]) == (4 * 27, paths)
        for ours, theirs in zip(passing.moments(), stored, strict=True):
            assert (ours.video, ours.rank, ours.start_seconds, ours.end_seconds) == (
                theirs.video, theirs.rank, theirs.start_seconds, theirs.end_seconds,
            )  # fmt: skip
            assert (ours.score, ours.logit) == (
                pytest.approx(theirs.score, abs=1e-5),
                pytest.approx(theirs.logit, abs=1e-4),
            )


def test_scores_are_those_of_classify_against_the_neutral_texts(index: Path) -> None:
    with Index.open(index) as opened, classifier("color bars") as asked:
        found = search(opened, "color bars", top_k=2, classifier=asked)
        for moment in found:
            records = [
                outcome.result.predictions[0] for outcome in asked.classify_stored([opened[moment.video]], windows=True)
            ]
            best = max(records, key=lambda ranked: ranked.logit)
            assert moment.logit == pytest.approx(best.logit, abs=1e-4)
            assert moment.score == pytest.approx(best.score, abs=1e-5)


def test_what_looks_like_a_clip(index: Path, library: tuple[list[str], Plants], tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frames = generator.make_clip(rng, "color bars", [generator.make_picture(rng)], count=16, height=72, width=96).frames
    generator.write_video(tmp_path / "like.mp4", frames, frames_per_second=RATE)
    with Index.open(index) as opened, classifier("a video") as asked:
        task = Search(asked, SearchRules(top_k=5), like=str(tmp_path / "like.mp4"))
        assert list(task.look([], list(opened))) == []
        found = list(task.moments())
    assert recall(found, library[1]["color bars"]) >= 0.8
    assert all(moment.logit is None and -1 <= moment.score <= 1 for moment in found)
    assert [moment.score for moment in found] == sorted((moment.score for moment in found), reverse=True)


def test_candidates_of_very_many_windows(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Index.open(index) as opened, classifier("color bars") as asked:
        everything = search(opened, "color bars", top_k=5, classifier=asked)
        monkeypatch.setattr(ranking, "CLOSE_ENOUGH", 100)
        monkeypatch.setattr(ranking, "LEAST_CANDIDATES", 60)
        for exact, scored in ((False, 60), (True, opened.num_windows)):
            task = Search(asked, SearchRules(top_k=5, exact=exact))
            assert list(task.look([], list(opened))) == []
            found = list(task.moments())
            assert (task.library.scored, task.library.count) == (scored, 540)
            assert found[0].video == everything[0].video
            assert not exact or found == everything


def test_an_index_of_another_model_is_refused(index: Path, checkpoint: Path) -> None:
    with Index.open(index) as opened:
        other = Classifier(checkpoint, labels=["a cat"], multi_label=True, dtype="float32", cache=False)
        with pytest.raises(ResultsError, match="contains model bundled, not "):
            search(opened, "a cat", classifier=other)


def ranked(scores: list[list[float]], background: float = 0.0, **rules: object) -> list[tuple[str, int, int, float]]:
    """The moments of videos a, b, … whose windows, a second apart and two long, have these scores and logits."""
    library, every = Library(), [score for video in scores for score in video]
    for video, values in zip("abc", scores, strict=False):
        library.add(video, len(values), times=[(i, i + 2) for i in range(len(values))])
    task = Ranking(
        np.array(every, np.float32), lambda n: [every[i] for i in n], library, SearchRules(**rules), background
    )
    return [
        (shelf.video, first - shelf.first, last - shelf.first, score) for shelf, first, last, _, score in task.found()
    ]


def test_neighbours_become_one_moment() -> None:
    assert ranked([[0.1, 0.5, 0.9, 0.6, 0.1, 0.1, 0.3], [0.8]]) == [
        ("a", 1, 3, 0.9), ("b", 0, 0, 0.8), ("a", 6, 6, 0.3),
    ]  # fmt: skip
    assert ranked([[0.9] * 50, [0.9] * 3]) == [("a", 0, 49, 0.9), ("b", 0, 2, 0.9)]


def test_rules_of_a_ranking() -> None:
    scores = [[0.9, 0.0, 0.0, 0.8, 0.0, 0.0, 0.7], [0.2]]
    assert ranked(scores, top_k=2) == [("a", 0, 0, 0.9), ("a", 3, 3, 0.8)]
    assert ranked(scores, per_video=1) == [("a", 0, 0, 0.9), ("b", 0, 0, 0.2)]
    assert ranked(scores, threshold=0.75) == [("a", 0, 0, 0.9), ("a", 3, 3, 0.8)]
    assert ranked(scores, threshold=0.95) == []
    assert ranked([[0.9, 0.8, 0.7, 0.6]], background=0.6) == [("a", 0, 1, 0.9), ("a", 3, 3, 0.6)]
    assert ranked([[0.5, -math.inf, -math.inf]]) == [("a", 0, 0, 0.5)]


def test_a_search_that_gives_up_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xclip_cli.search.LOOKED_AT", 3)
    for count, gave_up in ((3, False), (4, True)):
        library, scores = Library(), np.linspace(0.5, 0.4, count, dtype=np.float32)
        library.add("a", count, times=[(i, i + 2) for i in range(count)])
        ranking = Ranking(scores, lambda numbers: [0.1] * len(numbers), library, SearchRules(threshold=0.9))
        assert (list(ranking.found()), ranking.gave_up) == ([], gave_up)


def scanned(task: Search, piece: scanning.Piece) -> Any:
    """What a machine finds in a piece; its indexes are open as long as it runs."""
    machine = Scanner(task)
    try:
        (found,) = machine.records([piece])
    finally:
        for opened in machine._indexes.values():
            opened.close()
        task.classifier.close()
    return found


class Machines:
    """A cluster in this process: every piece by another machine."""

    def __init__(self, make: Callable[[], Search]) -> None:
        self._make = make
        self.pieces = 0

    def header(self) -> RunHeader:
        raise NotImplementedError

    def description(self) -> str:
        raise NotImplementedError

    def records(self, pieces: Iterable[Any]) -> Iterator[Any]:
        for piece in pieces:
            self.pieces += 1
            yield scanned(self._make(), piece)


@pytest.mark.parametrize(("how", "passes"), [("all", 1), ("candidates", 2), ("like", 1)])
def test_a_cluster_finds_what_one_machine_does(
    index: Path, library: tuple[list[str], Plants], monkeypatch: pytest.MonkeyPatch, how: str, passes: int
) -> None:
    monkeypatch.setattr(scanning, "PIECE", 100)
    if how == "candidates":
        monkeypatch.setattr(ranking, "CLOSE_ENOUGH", 50)
        monkeypatch.setattr(ranking, "LEAST_CANDIDATES", 30)

    def make() -> Search:
        return Search(classifier(*PLANTED), SearchRules(top_k=5), like=library[0][0] if how == "like" else None)

    found, machines = [], Machines(make)
    for scan in (None, scanning.shared(machines)):
        task = make()
        task.scan = scan or task.scan
        with Index.open(index) as opened, task.classifier:
            assert list(task.look([], list(opened))) == []
            found.append((list(task.moments()), task.library.scored))
    assert machines.pieces == passes * 5  # of 4 videos each
    assert [replace(moment, score=0, logit=0) for moment in found[0][0]] == [
        replace(moment, score=0, logit=0) for moment in found[1][0]
    ]
    for name in ("score", "logit") if how != "like" else ("score",):
        values = [[getattr(moment, name) for moment in moments] for moments, _ in found]
        assert values[1] == pytest.approx(values[0], abs=1e-5)
    assert found[0][1] == found[1][1]


def test_an_index_that_cannot_be_scanned_on_a_cluster(index: Path) -> None:
    class Broken(Machines):
        def records(self, pieces: Iterable[Any]) -> Iterator[Any]:
            return (Failure("", "crashed", "") for _ in pieces)

    asked = classifier(PLANTED[0])
    with Index.open(index) as opened, asked:
        with pytest.raises(ResultsError, match="cannot scan .*: the processes that did so died, twice"):
            scanning.shared(Broken(lambda: Search(asked, SearchRules())))(list(opened), None)
        piece = scanning.Piece(index, ["another.mp4"], 10, None)
        with pytest.raises(ResultsError, match="is not the same on all machines, or was written to"):
            scanned(Search(asked, SearchRules()), piece)
