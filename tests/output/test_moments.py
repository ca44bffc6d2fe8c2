"""Moments for people."""

from __future__ import annotations

import io

import pytest

from xclip_cli.output.moments import RANKED, write_table
from xclip_cli.results.records import Moment


@pytest.mark.parametrize(("scores", "said"), [((0.9, 0.2, 0.3), 1), ((0.9, 0.3, 0.3), 0), ((0.9,), 0)])
def test_an_order_that_is_not_that_of_the_scores_is_explained(scores: tuple[float, ...], said: int) -> None:
    out = io.StringIO()
    moments = [Moment("a dog", i, f"{i}.mp4", 0.0, 1.0, score, 9.0 - i) for i, score in enumerate(scores)]
    write_table(moments, out, None)
    assert out.getvalue().count(RANKED) == said
