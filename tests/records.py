"""Records that are the same in the design's sense: every field but the seconds they took and, of a header, what is no
setting; logits within 1e-4 and scores within 1e-5."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from xclip_cli.results.records import NOT_SETTINGS, Record


def assert_same(ours: Record | dict[str, Any], theirs: Record | dict[str, Any]) -> None:
    a, b = (record if isinstance(record, dict) else record.to_json() for record in (ours, theirs))
    others = dict.fromkeys(("predictions", "segments", "seconds", *NOT_SETTINGS))
    assert {**a, **others} == {**b, **others}
    for one, other in zip(a.get("segments", []), b.get("segments", []), strict=True):
        assert one == {**other, "score": pytest.approx(other["score"], abs=1e-5)}
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
