"""Indexes from strangers, asked: whatever their lines say, classify, timeline and search answer or end in one line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xclip_cli import Classifier
from xclip_cli.classification import Classification
from xclip_cli.embedding import index_settings
from xclip_cli.engine.encoder import Encoder
from xclip_cli.engine.stored import to_arrays
from xclip_cli.errors import XClipError
from xclip_cli.report.page import render
from xclip_cli.report.thumbnails import Gallery
from xclip_cli.results.index import Index
from xclip_cli.results.index_writer import IndexWriter
from xclip_cli.results.lines import StoredWindow, VideoLine
from xclip_cli.results.parts import Rows
from xclip_cli.results.reading import Results
from xclip_cli.results.records import Error, Record, RunHeader
from xclip_cli.search import Search, SearchRules
from xclip_cli.timeline import Rules, Timelines

BUNDLED: dict[str, Any] = {"dtype": "float32", "device": "cpu", "threads": 1}


def made(folder: Path, window: Fraction | None) -> Path:
    """An index of random encodings, as of the bundled model."""
    encoder = Encoder("bundled", **BUNDLED)
    made_with = index_settings(encoder, window=window, stride=window and window / 2)
    rows = Rows(*to_arrays(torch.randn(3, made_with.width), torch.randn(3, made_with.tokens, made_with.width), False))
    with IndexWriter(folder, made_with) as writer:
        for video, count in (("a.mp4", 3), ("b.mp4", 2)) if window else (("a.mp4", 1), ("b.mp4", 1)):
            lost = [StoredWindow(count / 2, count / 2 + 1, lost="damaged")] if window else []
            times = tuple((i + 0.5) / 8 for i in range(8))
            found = [StoredWindow(i / 2, i / 2 + 1, times, tuple(range(8)), 1, ("w",), 96) for i in range(count)]
            writer.add(rows.part(0, count))
            writer.finish(VideoLine(video, 5, 1.0, "h"), found + lost)
        writer.finish(VideoLine("c.mp4", error=Error("missing", "m")))
    encoder.close()
    return folder


@pytest.fixture(scope="module", params=["windows", "whole"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("index") / "i", Fraction(1) if request.param == "windows" else None)


@pytest.fixture(scope="module")
def asked() -> Iterator[tuple[Classifier, Classifier]]:
    with (
        Classifier("bundled", labels=["color bars", "a black screen"], cache=False, **BUNDLED) as classifier,
        Classifier("bundled", labels=["color bars"], multi_label=True, cache=False, **BUNDLED) as searcher,
    ):
        yield classifier, searcher


def answers(folder: Path, classifier: Classifier, searcher: Classifier) -> Iterator[Record]:
    """All that can be asked of an index."""
    with Index.open(folder) as index:
        if index.settings.window is None:
            yield from Classification(classifier).stored(index)
        else:
            rules = Rules(Fraction(index.settings.window), Fraction(index.settings.stride or 0))
            yield from Timelines(classifier, rules).stored(index)
        searcher.check(index)
        search = Search(searcher, SearchRules(top_k=3))
        list(search.look([], list(index)))
        yield from search.moments()


def places(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value within a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield (*so_far, key)
        yield from places(each, (*so_far, key))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.sampled_from([-1, 0, 1, 2, 3, 99, 2**63, 10**11, 10**13, 10**400, 1e-320])
    | st.sampled_from(["", "\0", "\ud800", "../../x", "a/" * 3000, "9x3", "paper", "1/3", "x\x1b[2J", "x.safetensors"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["lost", "part", "x"]), inner),
    max_leaves=4,
)


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strangers_indexes_are_answered_or_refused_in_one_line(
    folder: Path, asked: tuple[Classifier, Classifier], data: st.DataObject
) -> None:
    files = folder / "index.json", folder / "videos.jsonl"
    before = [path.read_text() for path in files]
    values = [json.loads(before[0]), *map(json.loads, before[1].splitlines())]
    changed: Any = copy.deepcopy(values)
    for *way, last in data.draw(st.lists(st.sampled_from([*places(values)]), min_size=1, max_size=3)):
        inner = changed
        try:
            for key in way:
                inner = inner[key]
            inner[last] = data.draw(VALUES)
        except (TypeError, KeyError, IndexError):
            continue
    try:
        files[0].write_text(json.dumps(changed[0]))
        files[1].write_text("".join(json.dumps(line) + "\n" for line in changed[1:]))
        records = list(answers(folder, *asked))
        for record in records:
            json.dumps(record.to_json(), allow_nan=False)
        found = Results.of([RunHeader(), *records])
        render(found, Gallery(found, 20, lambda video: None).thumbnails, "x")
    except XClipError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 10_000
    finally:
        for path, text in zip(files, before, strict=True):
            path.write_text(text)


def test_an_index_of_other_sizes_is_refused(asked: tuple[Classifier, Classifier], tmp_path: Path) -> None:
    """A stranger's may give the identity of a model, and sizes that it does not have."""
    folder = made(tmp_path / "i", Fraction(1))
    values = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(values | {"tokens": values["tokens"] + 1, "width": 7}))
    with pytest.raises(
        XClipError, match=f"contains tokens {values['tokens'] + 1}, not {values['tokens']}; width 7, not "
    ):
        list(answers(folder, *asked))
