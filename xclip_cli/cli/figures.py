"""Flags of xclip evaluate: what figures are compared with, what is fitted, and where both go."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from ..errors import LabelsError, ResultsError
from .flags import ModelFlags, OutputFlags
from .options import Force, OutputFormat, RetryFailed, either, form_of, usage_errors
from .truth import RESULTS_SUFFIXES

if TYPE_CHECKING:
    from ..evaluation import Evaluation
    from ..evaluation.calibration import Goal
    from ..evaluation.protocols import Protocol
    from ..labels import Labels


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
            help=f"Measure as the published accuracies were measured, and print those: {either(ProtocolName)}. "
            "kinetics-600 with base-patch16-zero-shot is three draws of 160 of the classes that Kinetics-400 lacks; "
            "pass the paper's own list of 220 as --labels.",
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
            min=0,
            max=1,
            metavar="SCORE",
            help="For videos with several labels: the score threshold for F1, the same for all labels (the minimum "
            "logits of a label file are not used). Default: 0.5.",
        ),
    ] = None

    def published_for(self, model: ModelFlags, results: Path | None) -> Protocol | None:
        """The protocol that is followed, if any is, for the model of the flags, or of the results. Raises
        ResultsError."""
        from ..evaluation.protocols import OPEN, protocols
        from ..results.reading import iter_results

        if self.protocol is None:
            return None
        header = None if results is None else next(iter_results(results), None)
        made = OPEN if model.is_default else model.name
        name = made if results is None else getattr(header, "model", None)
        return protocols()[self.protocol.value].of(name)


@dataclass(frozen=True)
class CalibrationFlags:
    """What is fitted to the videos."""

    panel: ClassVar[str] = "Calibration"

    write_labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Fit a temperature and a minimum logit for each label to these videos, and write a file for --labels "
            "that calibrates scores.",
        ),
    ] = None
    precision: Annotated[
        float | None,
        typer.Option(min=0, max=0.999, metavar="SHARE", help="Minimum logits: reach this precision for each label."),
    ] = None
    recall: Annotated[
        float | None,
        typer.Option(min=0, max=1, metavar="SHARE", help="Minimum logits: reach this recall for each label."),
    ] = None
    f1: Annotated[bool, typer.Option("--f1", help="Minimum logits: reach the best F1 for each label.")] = False

    def goal(self) -> Goal | None:
        """What thresholds are for. Raises typer.BadParameter."""
        from ..evaluation.calibration import Goal

        shares = {"precision": self.precision, "recall": self.recall}
        goals = [Goal(kind, value) for kind, value in shares.items() if value is not None]
        goals += [Goal("f1")] if self.f1 else []
        if len(goals) > 1 or (goals and self.write_labels is None):
            raise typer.BadParameter(
                "pass only one of --precision, --recall and --f1, together with --write-labels FILE.json"
            )
        if self.write_labels is not None and self.write_labels.suffix.lower() != ".json":
            raise typer.BadParameter(f"{self.write_labels}: a label file with thresholds must be a .json file")
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
                "the records do not say which model made them: pass the whole file that -o FILE.jsonl wrote"
            )
        if header.labels_sha256 not in (labels.sha256, replace(labels, min_logits=()).sha256):
            raise LabelsError("the records were made with different labels or texts: pass the --labels of that run")
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
            help="Required for videos: write each video's record, with all labels, which `xclip evaluate FILE.jsonl` "
            "measures again without a model.",
        ),
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue the -o file, skipping the videos recorded in it.")
    ] = False
    retry_failed: RetryFailed = False
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
            help=f"Format of the figures: {either(FiguresFormat)}. Default: from the suffix of --summary; else table "
            "on a terminal, json elsewhere.",
        ),
    ] = None

    def records(self) -> OutputFlags:
        """The flags of the records' file. Raises typer.BadParameter."""
        if self.path is None or self.path.suffix.lower() not in RESULTS_SUFFIXES:
            raise typer.BadParameter("pass -o FILE.jsonl for the records of all videos, with all labels")
        return OutputFlags(
            path=self.path,
            format=OutputFormat.jsonl,
            top_k=0,
            resume=self.resume,
            retry_failed=self.retry_failed,
            force=self.force,
        )

    def form(self) -> str:
        """Of the figures. Raises typer.BadParameter."""
        from ..output.files import check_output

        if self.summary is not None:
            with usage_errors(ResultsError):
                check_output(self.summary, self.force, [])
        form = form_of(self.format, self.summary, FiguresFormat.__members__, elsewhere="json")
        if form == "html" and self.summary is None:
            raise typer.BadParameter("--format html writes a file: pass --summary FILE.html")
        return form
