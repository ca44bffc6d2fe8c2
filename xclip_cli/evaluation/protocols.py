"""The protocols that X-CLIP's published accuracies were measured by, and those figures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..model.checkpoint.public import OPEN_LABELS_MODEL, PREFIX, full_name, public_checkpoints
from ..results.records import RunHeader

OPEN = OPEN_LABELS_MODEL.removeprefix(PREFIX)
DRAWS = 3


@dataclass(frozen=True)
class Protocol:
    """How a dataset was looked at, and what came out."""

    name: str
    labels: str  # a shipped set, bare labels
    views: str
    preprocess: str  # short side 256, centre crop 224
    splits: str  # in words
    published: dict[str, str]  # checkpoint's short name → figure in percent, as published
    note: str = ""
    drawn: int = 0  # classes of each of DRAWS random draws, whose mean ± sd was published; 0: all are used
    beyond: str = ""  # a shipped set: its classes are left out of the labels
    of_open: Protocol | None = None  # the protocol of the checkpoint for open labels, where it is another

    def of(self, model: str | None) -> Protocol:
        """That of a checkpoint."""
        return self.of_open if self.of_open and model and full_name(model) == full_name(OPEN) else self

    def to_json(self, header: RunHeader | None) -> dict[str, Any]:
        """What is said of it beside figures of records with this header."""
        model = header.model if header else None
        short = next((name for name in self.published if model and full_name(name) == full_name(model)), None)
        figure = None if short is None else self.published[short]
        wanted = {"views": self.views, "preprocess": self.preprocess}
        labels = f"{self.labels} without those of {self.beyond}" if self.beyond else self.labels
        how = f"{self.views} views, --preprocess {self.preprocess}, labels {labels}, {self.splits}"
        differing = [
            f"these records were made with {name} {getattr(header, name)}"
            for name, value in wanted.items()
            if header and getattr(header, name) != value
        ]
        notes = [*([self.note] if self.note else []), *differing]
        said = f"Published for {short}: {figure} ({'; '.join([how, *notes])})"
        if short is None:
            missing = f"no published figure for {model or 'this model'}"
            said = "; ".join([f"Nothing to compare with: the protocol {self.name} has {missing}", *differing])
        return {
            "name": self.name,
            "published": figure,
            **wanted,
            "labels": labels,
            "splits": self.splits,
            "said": said,
        }


def _of(dataset: str) -> dict[str, str]:
    """Checkpoints that were trained on a dataset and have a figure on it."""
    return {
        public.short_name: f"{public.accuracy.partition(' on ')[0]} (top-1 / top-5)"
        for public in public_checkpoints().values()
        if public.trained_on == dataset and public.accuracy.endswith(f" on {dataset}")
    }


def _few_shot(dataset: str) -> dict[str, str]:
    return {
        public.short_name: f"{public.accuracy.partition(' on ')[0]} (top-1, on split 1)"
        for public in public_checkpoints().values()
        if public.trained_on.endswith(f"per class of {dataset}")
    }


def protocols() -> dict[str, Protocol]:
    """All of them, by name."""
    unseen = Protocol(
        "kinetics-600",
        "kinetics-600",
        "1x1",
        "paper",
        "mean ± sd of three draws of 160 classes, on the validation set",
        {OPEN: "65.2 ± 0.4 / 86.1 ± 0.8 (top-1 / top-5)"},
        "the published draws use ER-ZSAR's list of 220 classes, which xclip does not have: pass yours as --labels",
        drawn=160,
        beyond="kinetics-400",
    )
    three = "mean ± sd of the three test splits"
    found = (
        Protocol("ucf-101", "ucf-101", "1x1", "paper", three, {OPEN: "72.0 ± 2.3 (top-1)", **_few_shot("UCF-101")}),
        Protocol("hmdb-51", "hmdb-51", "1x1", "paper", three, {OPEN: "44.6 ± 5.2 (top-1)", **_few_shot("HMDB-51")}),
        Protocol(
            "kinetics-600",
            "kinetics-600",
            "4x3",
            "paper",
            "the validation set",
            _of("Kinetics-600"),
            of_open=unseen,
        ),
        Protocol("kinetics-400", "kinetics-400", "4x3", "paper", "the validation set", _of("Kinetics-400")),
    )
    return {protocol.name: protocol for protocol in found}
