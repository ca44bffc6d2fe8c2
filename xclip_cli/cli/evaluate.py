"""xclip evaluate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from ..errors import LabelsError, ResultsError
from .flags import DecodeFlags, LabelFlags, ModelFlags, OutputFlags, RunFlags
from .options import Force, OutputFormat, Preprocess, either, usage_errors
from .truth import RESULTS_SUFFIXES, KnownFlags, TruthFlags

if TYPE_CHECKING:
    from ..evaluation import Evaluation, Truth
    from ..evaluation.calibration import Goal
    from ..evaluation.protocols import Protocol
    from ..labels import Labels
    from ..model.checkpoint.find import Checkpoint
    from ..output.notes import Notes
    from ..results.lines import IndexSettings

PICTURES = 4  # of a mistake, on a page


class FiguresFormat(StrEnum):
    """How figures are written."""

    table = "table"
    json = "json"
    csv = "csv"
    html = "html"


class ProtocolName(StrEnum):
    """Protocols of published accuracies."""

    ucf_101 = "ucf-101"
    hmdb_51 = "hmdb-51"
    kinetics_600 = "kinetics-600"
    kinetics_400 = "kinetics-400"


@dataclass(frozen=True)
class ComparedFlags:
    """What figures are compared with."""

    panel: ClassVar[str] = "Truth"

    protocol: Annotated[
        ProtocolName | None,
        typer.Option(
            metavar="NAME",
            help=f"Look at videos as the published accuracies were measured, and print them: {either(ProtocolName)}.",
        ),
    ] = None
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="RESULTS.jsonl", exists=True, dir_okay=False, help="Also compare with another run's records."
        ),
    ] = None
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, metavar="SCORE", help="Where videos have several labels: the score for F1. Default: one half."
        ),
    ] = None

    @property
    def published(self) -> Protocol | None:
        """The protocol that is followed, if any is."""
        from ..evaluation.protocols import protocols

        return protocols()[self.protocol.value] if self.protocol else None


@dataclass(frozen=True)
class CalibrationFlags:
    """What is fitted to the videos."""

    panel: ClassVar[str] = "Calibration"

    write_labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Fit a temperature, and the lowest logit of each label, to these videos: a file for --labels, with "
            "which scores are calibrated.",
        ),
    ] = None
    precision: Annotated[
        float | None,
        typer.Option(min=0, max=0.999, metavar="SHARE", help="Lowest logits: so many of a label's answers are right."),
    ] = None
    recall: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="SHARE", help="Lowest logits: so many of a label's videos are found."),
    ] = None
    f1: Annotated[bool, typer.Option("--f1", help="Lowest logits: the best balance of both.")] = False

    def goal(self) -> Goal | None:
        """What thresholds are for. Raises typer.BadParameter."""
        from ..evaluation.calibration import Goal

        shares = {"precision": self.precision, "recall": self.recall}
        goals = [Goal(kind, value) for kind, value in shares.items() if value is not None]
        goals += [Goal("f1")] if self.f1 else []
        if len(goals) > 1 or (goals and self.write_labels is None):
            raise typer.BadParameter("give one of --precision, --recall and --f1, with --write-labels FILE.json")
        if self.write_labels is not None and self.write_labels.suffix.lower() != ".json":
            raise typer.BadParameter(f"{self.write_labels}: label files with thresholds are .json files")
        return goals[0] if goals else None

    def check(self, force: bool) -> None:
        """Raises typer.BadParameter where flags do not fit each other, or the file cannot be written."""
        from ..output.files import check_output

        self.goal()
        if self.write_labels is not None:
            with usage_errors(ResultsError):
                check_output(self.write_labels, force, [])

    def write(self, found: Evaluation, labels: Labels) -> dict[str, Any]:
        """Fit and write, and what is said of it. Raises LabelsError, ResultsError."""
        from ..evaluation.calibration import calibrate, label_file
        from ..labels import calibrated_identity
        from ..output.files import replace_file

        assert self.write_labels is not None
        header = found.header
        if header is None or header.model_identity is None:
            raise ResultsError(
                "the records do not say which model made them: they need the first line of -o FILE.jsonl"
            )
        if header.labels_sha256 not in (labels.sha256, replace(labels, min_logits=()).sha256):
            raise LabelsError("the records were made with other labels or texts: pass the --labels of that run")
        fitted = calibrate(found, self.goal())
        model = calibrated_identity(header.model_identity, header.head)
        replace_file(self.write_labels, label_file(labels, fitted, model))
        limits = {"min_logits": len(fitted.min_logits), "without": fitted.without}
        return {"file": str(self.write_labels), "temperature": fitted.temperature, **limits, **fitted.figures}


@dataclass(frozen=True)
class FiguresFlags:
    """Where records and figures go."""

    panel: ClassVar[str] = "Output"

    path: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.jsonl",
            help="The record of each video, with all labels: `xclip evaluate FILE.jsonl` needs no model any more.",
        ),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the -o .jsonl file, skipping the videos recorded in it.")
    ] = False
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="With --resume: also retry the videos that failed.")
    ] = False
    force: Force = False
    summary: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the figures to this file instead of stdout.")
    ] = None
    format: Annotated[
        FiguresFormat | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"Of the figures: {either(FiguresFormat)}. Default: by the suffix of --summary, else table on a "
            "terminal and json elsewhere.",
        ),
    ] = None

    def records(self) -> OutputFlags:
        """The flags of the records' file. Raises typer.BadParameter."""
        if self.path is None or self.path.suffix.lower() not in RESULTS_SUFFIXES:
            raise typer.BadParameter("pass -o FILE.jsonl: the records of all videos go there, with all labels")
        return OutputFlags(self.path, OutputFormat.jsonl, 0, self.resume, self.retry_failed, self.force)

    def form(self) -> str:
        """Of the figures. Raises typer.BadParameter."""
        from ..output.files import check_output, format_of, is_terminal

        if self.summary is not None:
            with usage_errors(ResultsError):
                check_output(self.summary, self.force, [])
        if self.format is not None:
            form = self.format.value
        elif self.summary is None:
            form = "table" if is_terminal(None) else "json"
        else:
            form = format_of(self.summary) or ""
        if form not in FiguresFormat.__members__:
            raise typer.BadParameter(f"{self.summary} has no suffix that names a format: pass --format")
        if form == "html" and self.summary is None:
            raise typer.BadParameter("a page is a file: pass --summary FILE.html")
        return form


def evaluate(
    evaluated: KnownFlags,
    truth: TruthFlags,
    compared: ComparedFlags,
    labels: LabelFlags,
    calibration: CalibrationFlags,
    output: FiguresFlags,
    model: ModelFlags,
    decoding: DecodeFlags,
    running: RunFlags,
) -> None:
    """Measure how often the answers are right, on videos whose labels are known.

    Labels are those of --labels, else the truth's classes. Videos that fail count as wrong; accuracies are shown of all
    videos and of those that were classified, with 95 % intervals.

    Examples:
      xclip evaluate clips/ -o results.jsonl
      xclip evaluate clips.index --truth truth.csv -o results.jsonl
      xclip evaluate results.jsonl --truth truth.csv --summary page.html
      xclip evaluate results.jsonl --truth truth.csv --against other.jsonl
      xclip evaluate results.jsonl --truth t.csv --write-labels l.json --f1

    Exit codes are those of xclip classify.
    """
    from ..classifier import Classification, Classifier
    from ..evaluation.truth import TESTED
    from ..output.notes import Notes
    from ..output.tables import FORMATS
    from .indexed import as_decoded, stretch
    from .run import run

    notes, form, results = Notes(running.quiet), output.form(), evaluated.results
    calibration.check(output.force)
    labels, model = _followed(compared.published, labels, model)
    right, labels = truth.read(evaluated, labels, TESTED, notes)
    conclude = partial(_conclude, right, truth, compared, labels, calibration, output, form, notes)
    if results is not None:
        if output.path is not None:
            raise typer.BadParameter(f"-o is for new records, and those of {results} are there: use --summary")
        conclude(results, ours=False)
        return
    inputs = evaluated.among(right, labels, notes)
    records = output.records()

    def task_of(checkpoint: Checkpoint, model: ModelFlags, made: IndexSettings | None) -> Classification:
        settings = labels.settings() | model.settings() | as_decoded(decoding, made).settings()
        settings["labels"] = replace(labels.wanted, min_logits=())  # which would withhold labels
        return Classification(Classifier(checkpoint, **settings), *stretch(inputs, made))

    assert records.path is not None
    run(task_of, FORMATS, inputs, labels, records, model, running, then=partial(conclude, records.path))


def _followed(protocol: Protocol | None, labels: LabelFlags, model: ModelFlags) -> tuple[LabelFlags, ModelFlags]:
    """The flags with what a protocol says in the place of those that were not given. Raises typer.BadParameter."""
    from ..video.sampling import Views

    if protocol is None:
        return labels, model
    usual = ModelFlags()
    wanted: dict[str, Any] = {"views": Views.parse(protocol.views), "preprocess": Preprocess(protocol.preprocess)}
    for name, value in wanted.items():
        if getattr(model, name) not in (getattr(usual, name), value):
            raise typer.BadParameter(f"--{name}: the protocol {protocol.name} has {name} {value}: leave the flag out")
    own = bool(labels.sources or labels.label or labels.head)
    return labels if own else replace(labels, sources=[protocol.labels]), replace(model, **wanted)


def _conclude(
    right: Truth,
    truth: TruthFlags,
    compared: ComparedFlags,
    labels: LabelFlags,
    calibration: CalibrationFlags,
    output: FiguresFlags,
    form: str,
    notes: Notes,
    path: Path,
    ours: bool = True,
) -> None:
    """Make the figures of records, and write them. ``ours``: the records are this run's, and name the user's videos."""
    import io
    import sys

    from ..evaluation import evaluate as measure
    from ..evaluation.summary import figures
    from ..output.evaluations import FORMATS
    from ..output.files import replace_file
    from ..results.reading import iter_results

    settings: dict[str, Any] = {"splits": truth.split or ()}
    settings |= {} if compared.threshold is None else {"threshold": compared.threshold}
    kept = calibration.write_labels is not None
    found = measure(iter_results(path), right, keep_scores=kept, **settings)
    other = measure(iter_results(compared.against), right, **settings) if compared.against else None
    values = figures(found, other, compared.published)
    if calibration.write_labels is not None:
        values["calibration"] = calibration.write(found, labels.wanted)
    if output.summary is None:
        FORMATS[form](values, sys.stdout)
    elif form == "html":
        replace_file(output.summary, _page(path, found, values, notes, ours))
    else:
        out = io.StringIO()
        FORMATS[form](values, out)
        replace_file(output.summary, out.getvalue())


def _page(path: Path, found: Evaluation, values: dict[str, Any], notes: Notes, ours: bool) -> str:
    """The page, with pictures of the surest mistakes."""
    from ..report.accuracy import MISTAKES_SHOWN, render
    from ..report.thumbnails import Gallery, beside
    from ..results.reading import Results, iter_results
    from ..results.records import RunHeader

    shown = {found.paths[i] for i in found.mistakes(MISTAKES_SHOWN)}
    kept = (r for r in iter_results(path) if isinstance(r, RunHeader) or (r is not None and r.video in shown))
    gallery = Gallery(Results.of(kept), PICTURES * len(shown), str if ours else partial(beside, folder=path.parent))
    for _ in notes.steps(gallery.fill(), len(gallery.requests), "decoding"):
        pass
    return render(found, values, gallery.thumbnails, path.name)
