"""Flags of commands that know the right labels: the videos, and what says what is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ..text import counted, listed
from .flags import InputFlags, LabelFlags
from .options import End, Start

if TYPE_CHECKING:
    from ..evaluation import Truth
    from ..inputs import Inputs
    from ..output.notes import Notes

RESULTS_SUFFIXES = (".jsonl", ".ndjson")


@dataclass(frozen=True)
class TruthInputs(InputFlags):
    """The videos of the ground truth that are among the inputs."""

    truth: Truth | None = None

    def expand(self) -> Inputs:
        """What is looked at. Raises typer.BadParameter where that is nothing."""
        return self._known

    @cached_property
    def _known(self) -> Inputs:
        found = super().expand()
        assert self.truth is not None
        known = {name for name in found.names if self.truth.find(name) is not None}
        if not known:
            raise typer.BadParameter(
                f"none of the {len(found.names)} videos is one of the {len(self.truth.videos)} of the ground truth, "
                f"such as {next(iter(self.truth.videos))}: check the paths"
            )
        return found.without(set(found.names) - known)


@dataclass(frozen=True)
class KnownFlags:
    """The videos whose labels are known."""

    panel: ClassVar[str] = "Inputs"

    videos: Annotated[
        list[str],
        typer.Argument(metavar="INPUT", help="Videos, folders, an index, or a results file."),
    ]
    only: Annotated[
        str | None, typer.Option(metavar="PATTERN", help="With an index: only videos whose path or name matches.")
    ] = None
    start: Start = None
    end: End = None

    @property
    def results(self) -> Path | None:
        """The results file, where that is the input."""
        paths = [Path(given) for given in self.videos]
        found = [path for path in paths if path.suffix.lower() in RESULTS_SUFFIXES]
        if missing := [path for path in found if not path.is_file()]:
            raise typer.BadParameter(f"there is no results file {missing[0]}")
        if found and len(paths) > 1:
            raise typer.BadParameter(f"{found[0]} is a results file: pass it alone")
        return found[0] if found else None

    def among(self, truth: Truth, labels: LabelFlags, notes: Notes) -> TruthInputs:
        """Those of the truth among the inputs. Raises typer.BadParameter where there are none, LabelsError where the
        truth has labels that are not among the ``labels``."""
        truth.check_labels(labels.wanted.names)
        found = TruthInputs(self.videos, True, only=self.only, start=self.start, end=self.end, truth=truth)
        there = {truth.find(name) for name in found.expand().names}
        if missing := [video for video in truth.videos if video not in there]:
            notes.say(
                f"{len(missing)} videos of the ground truth are not among the inputs and not counted: {listed(missing)}"
            )
        return found


@dataclass(frozen=True)
class TruthFlags:
    """What is right."""

    panel: ClassVar[str] = "Truth"

    source: Annotated[
        Path | None,
        typer.Option(
            "--truth",
            metavar="FILE|FOLDER",
            help="The right labels: a CSV or JSON Lines file of path,label, a list of `path number`, a folder per "
            "class, or a dataset's own lists (UCF-101, HMDB-51, Kinetics). Default: the sub-folders of the input.",
        ),
    ] = None
    split: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Split to use; repeat for more. Default: test (evaluate) or train (adapt)."),
    ] = None

    def read(
        self, known: KnownFlags, labels: LabelFlags, usual: Sequence[str], notes: Notes
    ) -> tuple[Truth, LabelFlags]:
        """The truth of the splits that are wanted, else of the ``usual`` ones, and the labels, which are its classes
        where none are given; what was found is said. Raises LabelsError."""
        from ..evaluation import read_truth
        from ..evaluation.truth import spoken
        from ..inputs import is_missing

        source: Path | None = self.source
        if source is None:
            folders = [Path(given) for given in known.videos if Path(given).is_dir()]
            if len(folders) != 1 or len(known.videos) != 1 or (folders[0] / "index.json").is_file():
                absent = next((f"there is no {given}: " for given in known.videos if is_missing(given)), "")
                raise typer.BadParameter(
                    f"{absent}pass --truth FILE with the right labels, or one folder with a sub-folder per class"
                )
            source = folders[0]
        own = bool(labels.sources or labels.label or labels.head)
        truth = read_truth(source, labels.wanted.names if own else ())
        truth = truth.only(truth.split_names(self.split or (), usual))
        splits = f", {listed(list(truth.splits), 10)}" if truth.splits else ""
        found = f"{counted(len(truth.videos), 'video')}, {counted(len(truth.classes), 'label')}"
        notes.say(f"ground truth: {truth.form}{splits}: {found}")
        if truth.repeated:
            notes.say(f"{len(truth.repeated)} videos are listed more than once: {listed(truth.repeated)}")
        return truth, labels if own else replace(labels, label=[spoken(name) for name in truth.classes])
