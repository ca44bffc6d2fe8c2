"""xclip adapt."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ..errors import ResultsError
from .exits import FAILURE
from .flags import DecodeFlags, LabelFlags, ModelFlags, SayFlags
from .options import Force, usage_errors
from .tally import Tally
from .truth import KnownFlags, TruthFlags

if TYPE_CHECKING:
    from ..adaptation import Adaptation, Gain
    from ..output.notes import Notes
    from .truth import TruthInputs

HeadPath = Annotated[
    Path,
    typer.Option(
        "--output",
        "-o",
        metavar="FILE",
        rich_help_panel="Output",
        help="The .safetensors file to write.",
        dir_okay=False,
    ),
]


@dataclass(frozen=True)
class ExampleFlags(KnownFlags):
    """The videos to learn from."""

    videos: Annotated[list[str], typer.Argument(metavar="INPUT", help="Videos, folders or an index.")]


class PlainLabelFlags(LabelFlags):
    """Labels alone: a head is learned for all kinds of scores."""

    omitted: ClassVar = ("head", "none_of_these", "multi_label")


def adapt(
    known: ExampleFlags,
    truth: TruthFlags,
    labels: PlainLabelFlags,
    output: HeadPath,
    model: ModelFlags,
    decoding: DecodeFlags,
    running: SayFlags,
    force: Force = False,
) -> None:
    """Learn to correct a model's answers from a few labelled videos.

    This takes seconds on a CPU. The result is a head; the model is unchanged, and labels without examples keep working.
    The accuracy on held-out examples is printed next to the model's own; a head that is not better is written only
    with --force.

    Examples:
      xclip adapt examples/ -o head.safetensors
      xclip adapt films.index --truth train.csv -o head.safetensors
      xclip classify video.mp4 --head head.safetensors

    Exit codes: 0 written, 1 not better and not written, 2 invalid usage or labels, 4 the model is unavailable.
    """
    from ..evaluation.truth import TRAINED
    from ..output.files import check_output, replace_file
    from ..output.notes import Notes

    notes = Notes(running.quiet, running.verbose)
    right, chosen = truth.read(known, labels, TRAINED, notes)
    if right.several:
        raise typer.BadParameter("adapt needs one label per video, but the ground truth has several for some")
    inputs = known.among(right, chosen, notes)
    if output.suffix.lower() != ".safetensors":
        raise typer.BadParameter(f"{output}: a head must be a .safetensors file")
    read = [*(chosen.sources or ()), *([str(truth.source)] if truth.source else ())]
    with usage_errors(ResultsError):
        check_output(output, force, [*inputs.expand().paths, *read])
    with ExitStack() as stack:
        counts = Tally(verb="seen")
        task = _task(inputs, chosen, model, decoding, counts, notes)
        stack.callback(task.encoder.close)
        _look(task, inputs, counts, notes)
        if running.verbose:
            notes.say(task.encoder.description())
        gain = task.gain()
        typer.echo(_said(gain))
        if (gain is None or gain.compared.only_first <= gain.compared.only_second) and not force:
            notes.say("the head is not written: nothing shows that it is better (--force writes it)")
            raise typer.Exit(FAILURE)
        head = task.head()
        replace_file(output, head.to_bytes())
        examples = [shots for shots in head.settings.shots if shots]
        notes.say(f"wrote {output}: {sum(examples)} examples for {len(examples)} of {len(head.settings.shots)} labels")


def _task(
    inputs: TruthInputs, labels: LabelFlags, model: ModelFlags, decoding: DecodeFlags, counts: Tally, notes: Notes
) -> Adaptation:
    from ..adaptation import Adaptation
    from ..engine.encoder import Encoder
    from ..model.checkpoint.find import find_checkpoint
    from .indexed import as_decoded, as_made, check_indexes, stretch
    from .run import choose

    todo = inputs.expand()
    check_indexes(inputs, todo)
    counts.expect(len(todo.items), todo.known_failures, notes)
    if len(todo.known_failures) == len(todo.items):
        raise typer.Exit(FAILURE)
    made = todo.indexes[0].settings if todo.indexes else None
    model = as_made(model, made)
    settings = model.settings() | as_decoded(decoding, made).settings()
    tokenizer, _ = settings.pop("tokenizer"), settings.pop("save_frames")
    encoder = Encoder(find_checkpoint(choose(model.name, labels.wanted, notes), bar=notes.bar()), **settings)
    assert inputs.truth is not None
    return Adaptation(encoder, labels.wanted, inputs.truth, tokenizer, not labels.no_cache, stretch(inputs, made))


def _look(task: Adaptation, inputs: TruthInputs, counts: Tally, notes: Notes) -> None:
    todo = inputs.expand()
    for record in notes.progress(task.look(todo.paths, todo.stored), len(todo.items), doing="encoding"):
        counts.count(record)
    for line in () if notes.verbose else counts.failures():
        notes.say(line)
    if counts.failed and notes.quiet:
        notes.insist(f"{counts.failed} of {counts.total} videos failed")


def _said(gain: Gain | None) -> str:
    """How a head does on held-out examples."""
    if gain is None:
        return "no label has two examples, so none can be held out to measure accuracy"
    points = [f"{value * 100:+.1f}" for value in gain.compared.difference]
    return (
        f"accuracy on held-out examples: {gain.adapted * 100:.1f}%, without the head {gain.zero_shot * 100:.1f}%: "
        f"{points[0]} points ({points[1]} to {points[2]}) on {gain.videos} videos"
    )
