"""xclip adapt."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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


def adapt(
    known: KnownFlags,
    truth: TruthFlags,
    labels: LabelFlags,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The head, a .safetensors file.", dir_okay=False)
    ],
    model: ModelFlags,
    decoding: DecodeFlags,
    running: SayFlags,
    force: Force = False,
) -> None:
    """Learn from a few labelled videos: corrections of a model's answers, in seconds, on a CPU.

    The model stays as it is; labels without examples keep working. How right that is on examples that it did not learn
    from is printed beside the model's own answers, and where it is no better a head is written only with --force.

    Examples:
      xclip adapt examples/ -o head.safetensors
      xclip adapt clips.index --truth train.csv --labels labels.txt -o head.safetensors
      xclip classify video.mp4 --head head.safetensors

    Exit codes: 0 written, 1 no better and not written, 2 wrong usage or labels, 4 the model is unavailable.
    """
    from ..evaluation.truth import TRAINED
    from ..output.files import check_output, replace_file
    from ..output.notes import Notes

    notes = Notes(running.quiet, running.verbose)
    if labels.head is not None or labels.none_of_these or labels.multi_label:
        raise typer.BadParameter("adapt learns for plain labels: leave out --head, --none-of-these and --multi-label")
    right, labels = truth.read(known, labels, TRAINED, notes)
    if right.several:
        raise typer.BadParameter("adapt learns from videos with one label each, and the truth has several")
    inputs = known.among(right, labels, notes)
    if output.suffix.lower() != ".safetensors":
        raise typer.BadParameter(f"{output}: a head is a .safetensors file")
    read = [*(labels.sources or ()), *([str(truth.source)] if truth.source else ())]
    with usage_errors(ResultsError):
        check_output(output, force, [*inputs.expand().paths, *read])
    with ExitStack() as stack:
        counts = Tally(verb="seen")
        task = _task(inputs, labels, model, decoding, counts, notes)
        stack.callback(task.encoder.close)
        _look(task, inputs, counts, notes)
        if running.verbose:
            notes.say(task.encoder.description())
        gain = task.gain()
        typer.echo(_said(gain))
        if (gain is None or gain.compared.only_first <= gain.compared.only_second) and not force:
            notes.say("the head is not written: it is not shown to be better (--force writes it)")
            raise typer.Exit(FAILURE)
        head = task.head()
        replace_file(output, head.to_bytes())
        examples = [shots for shots in head.settings.shots if shots]
        notes.say(f"{output}: {sum(examples)} examples of {len(examples)} of {len(head.settings.shots)} labels")


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
    for record in notes.progress(task.look(todo.paths, todo.stored), len(todo.items), doing="looking"):
        counts.count(record)
    for line in () if notes.verbose else counts.failures():
        notes.say(line)
    if counts.failed and notes.quiet:
        notes.insist(f"{counts.failed} of {counts.total} videos failed")


def _said(gain: Gain | None) -> str:
    """How a head does on held-out examples."""
    if gain is None:
        return "no label has two examples: nothing can be held out to measure with"
    points = [f"{value * 100:+.1f}" for value in gain.compared.difference]
    return (
        f"held-out examples right: {gain.adapted * 100:.1f} %, without a head {gain.zero_shot * 100:.1f} %: "
        f"{points[0]} points ({points[1]} to {points[2]}) on {gain.videos} videos"
    )
