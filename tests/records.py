"""Records that are the same in the design's sense: every field but the seconds they took and, of a header, what is no
setting; logits within 1e-4 and scores within 1e-5."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest

from xclip_cli.results.index import StoredVideo
from xclip_cli.results.records import NOT_SETTINGS, Record


def assert_same(ours: Record | dict[str, Any], theirs: Record | dict[str, Any]) -> None:
    a, b = (record if isinstance(record, dict) else record.to_json() for record in (ours, theirs))
    others = dict.fromkeys(("predictions", "seconds", *NOT_SETTINGS))
    near = {"segments": [{**s, "score": pytest.approx(s["score"], abs=1e-5)} for s in b.get("segments", [])]}
    assert {**a, **others} == {**b, **(near if "segments" in b else {}), **others}
    first, second = (record.get("predictions", []) for record in (a, b))
    logits, scores = ({p["label"]: p[key] for p in second} for key in ("logit", "score"))
    assert {p["label"] for p in first} == logits.keys()
    assert [p["logit"] for p in first] == pytest.approx([logits[p["label"]] for p in first], abs=1e-4)
    assert [p["score"] for p in first] == pytest.approx([scores[p["label"]] for p in first], abs=1e-5)
    # the same ranking, unless logits tie within that
    assert [p["logit"] for p in first] == pytest.approx([p["logit"] for p in second], abs=1e-4)


def assert_all_same(ours: Iterable[Any], theirs: Iterable[Any]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert_same(a, b)


def assert_same_encodings(ours: StoredVideo, theirs: StoredVideo) -> None:
    """What indexes hold of a video is equal but for rounding: their batches were others, and on some CPUs a row of a
    product depends on how many rows its batch has."""
    assert (ours.failure, ours.windows) == (theirs.failure, theirs.windows)
    assert np.allclose(ours.features, theirs.features, atol=1e-5)
    assert np.allclose(ours.tokens, theirs.tokens, atol=1e-4)
