"""xclip evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from ..errors import ResultsError
from ..text import listed
from .flags import (
    DecodeFlags,
    Force,
    InputFlags,
    LabelFlags,
    ModelFlags,
    OutputFlags,
    OutputFormat,
    Preprocess,
    RunFlags,
    either,
    seconds,
    usage_errors,
)

if TYPE_CHECKING:
    from ..evaluation import Evaluation, Truth
    from ..evaluation.protocols import Protocol
    from ..inputs import Inputs
    from ..model.checkpoint.find import Checkpoint
    from ..output.notes import Notes
    from ..results.lines import IndexSettings

RESULTS_SUFFIXES = (".jsonl", ".ndjson")


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
class EvaluatedFlags:
    """What is evaluated."""

    panel: ClassVar[str] = "Inputs"

    videos: Annotated[
        list[str],
        typer.Argument(metavar="INPUT…", help="Videos, folders of them, an index, or the records of an earlier run."),
    ]
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="Of an index: only videos whose path or name matches.")
    ] = None
    start: Annotated[
        Fraction | None,
        typer.Option(parser=seconds, metavar="TIME", help="Start of the part to analyse: seconds or HH:MM:SS.mmm."),
    ] = None
    end: Annotated[
        Fraction | None, typer.Option(parser=seconds, metavar="TIME", help="End of the part to analyse.")
    ] = None

    @property
    def results(self) -> Path | None:
        """The results file, where that is the input."""
        paths = [Path(given) for given in self.videos]
        found = [path for path in paths if path.suffix.lower() in RESULTS_SUFFIXES and path.is_file()]
        if found and len(paths) > 1:
            raise typer.BadParameter(f"{found[0]} is a results file: give it alone")
        return found[0] if found else None


@dataclass(frozen=True)
class TruthFlags:
    """What is right."""

    panel: ClassVar[str] = "Truth"

    source: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            metavar="FILE|FOLDER",
            help="The right labels: a CSV or JSON Lines file of path,label, a list of `path number`, a folder a class, "
            "or a dataset's own lists (UCF-101, HMDB-51, Kinetics). Default: the sub-folders of the folder given.",
        ),
    ] = None
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Which split; may be repeated. Default: all those for testing."),
    ] = None
    protocol: Annotated[
        ProtocolName | None,
        typer.Option(
            metavar="NAME",
            help=f"Look at videos as the published accuracies were measured, and print them: {either(ProtocolName)}.",
        ),
    ] = None
    against: Annotated[
        Path | None, typer.Option(metavar="RESULTS.jsonl", help="Also compare with another run's records.")
    ] = None
    threshold: Annotated[
        float, typer.Option(min=0, max=1, metavar="SCORE", help="Where videos have several labels: the score for F1.")
    ] = 0.5

    def read(self, evaluated: EvaluatedFlags, labels: Sequence[str]) -> Truth:
        """The truth of the splits that are wanted. Raises LabelsError."""
        from ..evaluation import read_truth

        source: Path | None = self.source
        if source is None:
            folders = [Path(given) for given in evaluated.videos if Path(given).is_dir()]
            if len(folders) != 1 or len(evaluated.videos) != 1 or (folders[0] / "index.json").is_file():
                raise typer.BadParameter("--truth FILE says what is right; without it give one folder of class folders")
            source = folders[0]
        truth = read_truth(source, labels)
        return truth.only(truth.split_names(self.split or ()))

    @property
    def published(self) -> Protocol | None:
        """The protocol that is followed, if any is."""
        from ..evaluation.protocols import protocols

        return protocols()[self.protocol.value] if self.protocol else None


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


@dataclass(frozen=True)
class TruthInputs(InputFlags):
    """The videos of a truth, among those of the inputs."""

    truth: Truth | None = None

    def expand(self) -> Inputs:
        """What is evaluated. Raises typer.BadParameter where that is nothing."""
        found = super().expand()
        assert self.truth is not None
        known = {name for name in found.names if self.truth.find(name) is not None}
        if not known:
            raise typer.BadParameter(
                f"none of the {len(found.names)} videos is one of the {len(self.truth.videos)} of the truth, such as "
                f"{next(iter(self.truth.videos))}"
            )
        return found.without(set(found.names) - known)


def evaluate(
    evaluated: EvaluatedFlags,
    truth: TruthFlags,
    labels: LabelFlags,
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
      xclip evaluate results.jsonl --truth truth.csv --format json
      xclip evaluate results.jsonl --truth truth.csv --against other.jsonl --summary page.html

    Exit codes are those of xclip classify.
    """
    from ..classifier import Classification, Classifier
    from ..output.notes import Notes
    from ..output.tables import FORMATS
    from .indexed import stretch
    from .run import run

    notes, form, results = Notes(running.quiet), output.form(), evaluated.results
    labels, model = _followed(truth.published, labels, model)
    given = labels.wanted.names if labels.sources or labels.label else ()
    right = truth.read(evaluated, given)
    splits = f", {listed(list(right.splits), 10)}" if right.splits else ""
    notes.say(f"truth: {right.form}{splits}: {len(right.videos)} videos, {len(right.classes)} labels")
    if right.repeated:
        notes.say(f"{len(right.repeated)} videos are listed more than once: {listed(right.repeated)}")
    if results is not None:
        if output.path is not None:
            raise typer.BadParameter(f"-o is for new records, and those of {results} are there: use --summary")
        _conclude(results, right, truth, output, form, notes)
        return
    labels = labels if given else replace(labels, label=[name.replace("_", " ") for name in right.classes])
    right.check_labels(labels.wanted.names)
    inputs = TruthInputs(evaluated.videos, True, None, False, evaluated.only, evaluated.start, evaluated.end, right)
    _say_missing(right, inputs.expand(), notes)
    records = output.records()

    def task_of(checkpoint: Checkpoint, model: ModelFlags, made: IndexSettings | None) -> Classification:
        settings = labels.settings() | model.settings() | decoding.settings()
        settings["labels"] = replace(labels.wanted, min_logits=())  # which would withhold labels
        return Classification(Classifier(checkpoint, **settings), *stretch(inputs, made))

    def then() -> None:
        assert records.path is not None
        _conclude(records.path, right, truth, output, form, notes)

    run(task_of, FORMATS, inputs, labels, records, model, running, then=then)


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
    own = bool(labels.sources or labels.label)
    return labels if own else replace(labels, sources=[protocol.labels]), replace(model, **wanted)


def _say_missing(truth: Truth, inputs: Inputs, notes: Notes) -> None:
    there = {truth.find(name) for name in inputs.names}
    if missing := [video for video in truth.videos if video not in there]:
        notes.say(f"{len(missing)} videos of the truth are not among the inputs, and in no figure: {listed(missing)}")


def _conclude(path: Path, right: Truth, truth: TruthFlags, output: FiguresFlags, form: str, notes: Notes) -> None:
    """Make the figures of records, and write them."""
    from ..evaluation.summary import figures

    found = _evaluation(path, right, truth)
    other = _evaluation(truth.against, right, truth) if truth.against else None
    values: dict[str, Any] = figures(found, other, truth.published)
    _write(values, output.summary, form, output.force)


def _evaluation(path: Path, right: Truth, truth: TruthFlags) -> Evaluation:
    from ..evaluation import evaluate
    from ..results.reading import iter_results

    return evaluate(iter_results(path), right, splits=truth.split or (), threshold=truth.threshold)


def _write(values: dict[str, Any], path: Path | None, form: str, force: bool) -> None:
    import io
    import sys

    from ..output.evaluations import FORMATS
    from ..output.files import replace_file

    if path is None:
        FORMATS[form](values, sys.stdout)
        return
    out = io.StringIO()
    FORMATS[form](values, out)
    replace_file(path, out.getvalue())
