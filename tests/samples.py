"""Records to write: of videos, and of the windows of one."""

from __future__ import annotations

from fractions import Fraction

from xclip_cli.errors import VideoError
from xclip_cli.results.records import Failure, Frames, Prediction, RankedLabel, RunHeader
from xclip_cli.timeline import Rules, TimelineRecord, assemble

FRAMES = Frames(8, 8, 0, 0, (0.5, 1.5))
GOOD = Prediction(
    "a.mp4",
    "m",
    None,
    0.0,
    10.0,
    FRAMES,
    (RankedLabel("a cat", 0.75, 20.5), RankedLabel("a, dog", 0.25, 19.4)),
    ("careful",),
)
BAD = Failure.of("b\udce9.mp4", VideoError("no such file", "missing"))
HEADER = RunHeader("0", "m", None, "sha256:0", 2, "0", 8, "1x1", "hf", None, None, None, "float32", 5)
RULES = Rules(Fraction(1), Fraction(1))


def answer(second: int, label: str | None, *warnings: str) -> Prediction | Failure:
    """Of a window of one second: a label, or a failure."""
    if label is None:
        return Failure("a.mp4", "damaged", "too damaged", start_seconds=float(second), end_seconds=second + 1.0)
    ranked = (RankedLabel(label, 0.75, 20.0),)
    frames = Frames(1, 1, 0, 0, (second + 0.5,))
    return Prediction("a.mp4", "m", None, float(second), second + 1.0, frames, ranked, warnings)


def made(*answers: Prediction | Failure, following: int = 0) -> list[TimelineRecord]:
    """The records of one video; its last window has so many behind it."""
    count = len(answers) + following
    return list(assemble(((a, count - i) for i, a in enumerate(answers, start=1)), ("a", "b"), RULES))
