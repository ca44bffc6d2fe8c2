"""xclip evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from ..errors import ResultsError
from .cluster import ClusterFlags
from .figures import CalibrationFlags, ComparedFlags, FiguresFlags
from .flags import DecodeFlags, LabelFlags, ModelFlags, RunFlags
from .indexed import as_decoded, stretch
from .options import Preprocess, usage_errors
from .run import run
from .truth import KnownFlags, TruthFlags

if TYPE_CHECKING:
    from ..evaluation import Evaluation, Truth
    from ..evaluation.protocols import Protocol
    from ..model.checkpoint.find import Checkpoint
    from ..output.notes import Notes
    from ..results.lines import IndexSettings

PICTURES = 4  # of a mistake, on a page


def evaluate(
    evaluated: KnownFlags,
    truth: TruthFlags,
    compared: ComparedFlags,
    labels: LabelFlags,
    calibration: CalibrationFlags,
    output: FiguresFlags,
    model: ModelFlags,
    decoding: DecodeFlags,
    cluster: ClusterFlags,
    running: RunFlags,
) -> None:
    """Measure accuracy on videos whose labels are known.

    The labels are those of --labels, else the classes of the ground truth (`brush_hair` is `BrushHair`). Videos that
    fail count as wrong; accuracy is shown for all videos and for the classified ones, with 95% intervals.

    Examples:
      xclip evaluate dataset/ -o results.jsonl
      xclip evaluate films.index --truth truth.csv -o results.jsonl
      xclip evaluate results.jsonl --truth truth.csv --summary page.html
      xclip evaluate results.jsonl --truth truth.csv --against other.jsonl
      xclip evaluate results.jsonl --truth t.csv --write-labels l.json --f1

    Exit codes: see `xclip classify --help`.
    """
    from ..classification import Classification
    from ..classifier import Classifier
    from ..evaluation.truth import TESTED
    from ..output.notes import Notes
    from ..output.tables import FORMATS

    notes, form, results = Notes(running.quiet, running.verbose), output.form(), evaluated.results
    calibration.check(output.force)
    protocol = compared.published_for(model, results)
    labels, model = _followed(protocol, labels, model)
    right, labels = truth.read(evaluated, labels, TESTED, notes)
    if protocol is not None and protocol.beyond:
        right = right.among(labels.wanted.names)
        if not right.videos:
            raise typer.BadParameter(f"no video of the ground truth has one of the {len(labels.wanted.names)} labels")
        notes.say(f"of these, {len(right.videos)} videos have one of the {len(labels.wanted.names)} labels")
    figures = _Figures(right, labels, truth.split or (), compared, protocol, calibration, output, form, notes)
    if results is not None:
        if output.path is not None:
            raise typer.BadParameter(f"-o writes new records, but {results} already holds them: use --summary")
        figures.check([str(results)], truth.source)
        figures.write(results, ours=False)
        return
    inputs = evaluated.among(right, labels, notes)
    records = output.records()
    figures.check(inputs.expand().paths, truth.source)

    def task_of(checkpoint: Checkpoint, model: ModelFlags, made: IndexSettings | None) -> Classification:
        settings = labels.settings() | model.settings() | as_decoded(decoding, made).settings()
        settings["labels"] = replace(labels.wanted, min_logits=())  # which would withhold labels
        return Classification(Classifier(checkpoint, **settings), *stretch(inputs, made))

    assert records.path is not None
    run(task_of, FORMATS, inputs, labels, records, model, cluster, running, then=partial(figures.write, records.path))


def _followed(protocol: Protocol | None, labels: LabelFlags, model: ModelFlags) -> tuple[LabelFlags, ModelFlags]:
    """The flags with what a protocol says in the place of those that were not given. Raises typer.BadParameter."""
    from ..evaluation.truth import Names
    from ..labels import read_labels
    from ..video.sampling import Views

    if protocol is None:
        return labels, model
    usual = ModelFlags()
    wanted: dict[str, Any] = {"views": Views.parse(protocol.views), "preprocess": Preprocess(protocol.preprocess)}
    for name, value in wanted.items():
        if getattr(model, name) not in (getattr(usual, name), value):
            raise typer.BadParameter(
                f"--{name} contradicts the protocol {protocol.name}, which uses {value}: omit the flag"
            )
    model = replace(model, **wanted)
    if labels.sources or labels.label or labels.head:
        return labels, model
    if not protocol.beyond:
        return replace(labels, sources=[protocol.labels]), model
    known = Names(name for name, _ in read_labels(protocol.beyond))
    unseen = [name for name, _ in read_labels(protocol.labels) if known.find(name) is None]
    return replace(labels, label=unseen), model


@dataclass(frozen=True)
class _Figures:
    """What is made of records, and where it goes."""

    right: Truth
    labels: LabelFlags
    splits: Sequence[str]
    compared: ComparedFlags
    protocol: Protocol | None
    calibration: CalibrationFlags
    output: FiguresFlags
    form: str
    notes: Notes

    def check(self, inputs: Sequence[str], truth: Path | None) -> None:
        """Raises typer.BadParameter where a file would destroy another output, or what is read."""
        from ..output.files import check_output

        others = (truth, self.compared.against, self.labels.head)
        read = [*inputs, *(self.labels.sources or ()), *map(str, filter(None, others))]
        written = [
            path for path in (self.output.path, self.output.summary, self.calibration.write_labels) if path is not None
        ]
        with usage_errors(ResultsError):
            for path in written:
                check_output(path, True, read)
        if len({path.resolve() for path in written}) < len(written):
            raise typer.BadParameter("-o, --summary and --write-labels must be different files")

    def write(self, path: Path, ours: bool = True) -> None:
        """Make the figures of the records at a path, and write them. ``ours``: the records are this run's, and name
        the user's videos."""
        import io
        import sys

        from ..output.evaluations import FORMATS
        from ..output.files import replace_file

        found, values = self._made(path)
        if self.output.summary is None:
            FORMATS[self.form](values, sys.stdout)
            return
        if self.form == "html":
            replace_file(self.output.summary, self._page(path, found, values, ours, self.output.summary))
        else:
            out = io.StringIO()
            FORMATS[self.form](values, out)
            replace_file(self.output.summary, out.getvalue())
        self.notes.say(f"wrote {self.output.summary}")

    def _made(self, path: Path) -> tuple[Evaluation, dict[str, Any]]:
        from ..evaluation import evaluate as measure
        from ..evaluation.summary import figures
        from ..results.reading import iter_results

        settings: dict[str, Any] = {"splits": self.splits}
        settings |= {} if self.compared.threshold is None else {"threshold": self.compared.threshold}
        fitted, against = self.calibration.write_labels is not None, self.compared.against
        keep = fitted or bool(self.protocol and self.protocol.drawn)
        found = measure(iter_results(path), self.right, keep_scores=keep, **settings)
        other = measure(iter_results(against), self.right, **settings) if against else None
        values = figures(found, other, self.protocol)
        if fitted:
            values["calibration"] = self.calibration.write(found, self.labels.wanted)
        return found, values

    def _page(self, path: Path, found: Evaluation, values: dict[str, Any], ours: bool, page: Path) -> str:
        """With pictures of the surest mistakes, for a file ``page``."""
        from ..output.evaluations import remarks
        from ..report.accuracy import MISTAKES_SHOWN, render
        from ..report.links import links
        from ..report.thumbnails import Gallery, beside
        from ..results.reading import Results, iter_results
        from ..results.records import RunHeader

        shown = {found.paths[i] for i in found.mistakes(MISTAKES_SHOWN)}
        kept = (r for r in iter_results(path) if isinstance(r, RunHeader) or (r is not None and r.video in shown))
        place = str if ours else partial(beside, folder=path.parent)
        gallery = Gallery(Results.of(kept), PICTURES * len(shown), place)
        for _ in self.notes.steps(gallery.fill(), len(gallery.requests), "decoding"):
            pass
        said = [line for lines in remarks(values) for line in lines]
        shown_at = replace(gallery.thumbnails, links=links(shown, place, page))
        return render(found, values, shown_at, path.name, said)
