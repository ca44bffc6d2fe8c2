"""What a run counts, and how it ends."""

from __future__ import annotations

import re

import pytest

from xclip_cli.cli.tally import Tally
from xclip_cli.errors import VideoError
from xclip_cli.results.records import Failure, Frames, Prediction

GOOD = Prediction("a", "m", None, 0, 1, Frames(8, 8, 0, 0, ()), ())
BAD = Failure.of("b", VideoError("broken", "damaged"))


@pytest.mark.parametrize(
    ("records", "code"), [([GOOD], 0), ([GOOD, BAD], 3), ([BAD], 1), ([BAD, BAD], 1), ([GOOD, GOOD], 0)]
)
def test_exit_codes(records: list[Prediction | Failure], code: int) -> None:
    run = Tally()
    assert list(run.counted(iter(records))) == records
    assert run.exit_code == code


def test_fail_fast_ends_with_the_failure() -> None:
    run = Tally(fail_fast=True)
    assert list(run.counted(iter([GOOD, BAD, GOOD]))) == [GOOD, BAD]


def test_an_interrupt_ends_the_records() -> None:
    def records():
        yield GOOD
        raise KeyboardInterrupt

    run = Tally()
    assert list(run.counted(records())) == [GOOD]
    assert run.exit_code == 130
    assert re.fullmatch(r"1 of 3 videos classified in \d+\.\d s \(\d+\.\d videos/s\)", run.summary(3))
    assert re.fullmatch(r"0 of 3 videos classified in \d+\.\d s", Tally().summary(3))
