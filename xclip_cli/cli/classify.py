"""xclip classify."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated

import typer

from .flags import DecodeFlags, InputFlags, LabelFlags, ModelFlags, OutputFlags, RunFlags
from .run import run

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..inputs import Inputs
    from ..model.checkpoint.find import Checkpoint
    from ..results.records import Record, RunHeader


def classify(
    inputs: InputFlags,
    labels: LabelFlags,
    output: OutputFlags,
    model: ModelFlags,
    decoding: DecodeFlags,
    running: RunFlags,
    threshold: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SCORE",
            rich_help_panel=LabelFlags.panel,
            help="Leave out labels with lower scores, possibly all of them.",
        ),
    ] = 0.0,
) -> None:
    """Rank labels for videos.

    Examples:
      xclip classify video.mp4 --labels labels.txt
      xclip classify video.mp4 --label "a cat" --label "a dog"
      xclip classify clips/ --recursive --labels kinetics-400 -o results.jsonl
      find . -name '*.mp4' -print0 | xclip classify --from-file - -0 -l labels.txt

    Exit codes:
      0    every video was classified
      1    none was, or another readable error
      2    wrong usage, labels or templates
      3    some videos failed
      4    the model is unavailable
      130  interrupted
    """
    from ..classifier import Classifier
    from ..output.notes import FORMATS

    def task_of(checkpoint: Checkpoint) -> _Classification:
        settings = labels.settings() | model.settings() | decoding.settings() | {"threshold": threshold}
        return _Classification(Classifier(checkpoint, **settings), inputs.start, inputs.end, output.top_k)

    run(task_of, FORMATS, inputs, labels, output, model, running)


@dataclass(frozen=True)
class _Classification:
    """The task: a prediction a video."""

    classifier: Classifier
    start: Fraction | None
    end: Fraction | None
    top_k: int

    def header(self) -> RunHeader:
        return self.classifier.run_header(self.start, self.end, self.top_k)

    def records(self, inputs: Inputs, stop: threading.Event) -> Iterator[Record]:
        from ..inputs import classify_inputs

        return classify_inputs(self.classifier, inputs, self.start, self.end, self.top_k, stop)
