"""xclip classify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .cluster import ClusterFlags
from .flags import DecodeFlags, InputFlags, LabelFlags, ModelFlags, OutputFlags, RunFlags
from .indexed import as_decoded, stretch
from .run import run

if TYPE_CHECKING:
    from ..classification import Classification
    from ..model.checkpoint.find import Checkpoint
    from ..results.lines import IndexSettings


def classify(
    inputs: InputFlags,
    labels: LabelFlags,
    output: OutputFlags,
    model: ModelFlags,
    decoding: DecodeFlags,
    cluster: ClusterFlags,
    running: RunFlags,
    threshold: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            metavar="SCORE",
            rich_help_panel=LabelFlags.panel,
            help="Leave out labels with lower scores, even if none remains.",
        ),
    ] = 0.0,
) -> None:
    """Rank your labels for each video.

    Inputs may also be indexes of whole videos (see `xclip embed`), which are not decoded again.

    A score is the softmax over all labels: it says which label fits best, not how likely it is. Frames are taken at the
    centres of equal segments of the video, by exact timestamps; a record's `warnings` say what was odd about the file.
    A .jsonl file of -o begins with a line of the run's settings ("kind": "run"); stdout has records only. In CSV, texts
    that a spreadsheet would compute get an apostrophe in front.

    Examples:
      xclip demo clips
      xclip classify clips --labels picture-state
      xclip classify video.mp4 --label "a cat" --label "a dog"
      xclip classify films/ --recursive --labels labels.txt -o results.jsonl
      find . -name '*.mp4' -print0 | xclip classify --from-file - -0 -l labels.txt

    Exit codes:
      0    every video was classified
      1    no video was classified, or another error
      2    invalid usage, labels or templates
      3    some videos failed
      4    the model is unavailable
      130  interrupted
    """
    from ..classification import Classification
    from ..classifier import Classifier
    from ..output.tables import FORMATS

    def task_of(checkpoint: Checkpoint, model: ModelFlags, made: IndexSettings | None) -> Classification:
        decoded = as_decoded(decoding, made)
        settings = labels.settings() | model.settings() | decoded.settings() | {"threshold": threshold}
        return Classification(Classifier(checkpoint, **settings), *stretch(inputs, made), output.top_k)

    run(task_of, FORMATS, inputs, labels, output, model, cluster, running)
