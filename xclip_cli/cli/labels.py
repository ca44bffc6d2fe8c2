"""xclip labels."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from ..errors import LabelsError
from ..text import counted
from .options import Templates, offer_labels, offer_models


def offer_sets(incomplete: str) -> list[str]:
    """What completes the start of the name of a built-in set."""
    from ..labels import shipped

    return [name for kind in ("labels", "templates") for name in shipped(kind) if name.startswith(incomplete)]


def list_labels() -> None:
    """List the built-in label sets and templates.

    Examples:
      xclip labels list
    """
    from ..labels import read_labels, read_templates, shipped

    typer.echo("Label sets (--labels NAME)")
    for name, path in shipped("labels").items():
        typer.echo(f"  {name:<16} {len(read_labels(str(path))):>4} labels")
    typer.echo("\nTemplates (--template NAME)")
    for name, path in shipped("templates").items():
        count = len(read_templates(str(path)))
        typer.echo(f"  {name:<16} {count:>4} {'template' if count == 1 else 'templates'}")


def show_labels(
    name: Annotated[str, typer.Argument(metavar="NAME", autocompletion=offer_sets, help="The name of a built-in set.")],
) -> None:
    """Print the labels or templates of a built-in set, one per line.

    Examples:
      xclip labels show ucf-101
    """
    from ..labels import read_labels, read_templates, shipped
    from ..text import printable, quoted

    if name not in (sets := {**shipped("labels"), **shipped("templates")}) and not Path(name).exists():
        near = difflib.get_close_matches(name, sets, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise LabelsError(f"there is no built-in set {quoted(name)}: {hint}`xclip labels list` shows the sets")
    texts = read_templates(name) if name in shipped("templates") else [label for label, _ in read_labels(name)]
    typer.echo("\n".join(map(printable, texts)))


def check_labels(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|NAME", autocompletion=offer_labels, help="A label file, or the name of a built-in set."
        ),
    ],
    template: Templates = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME",
            autocompletion=offer_models,
            help="Also check that this model accepts the texts.",
        ),
    ] = None,
) -> None:
    """Check a label file: print a count and exit 0, or print the first error with its line and exit 2.

    Likely mistakes, such as numbering, bullets or comments after labels, are warnings.

    A .txt file has a label per line and # comments, a .csv file a `name` column. A .json file holds a list of labels,
    or an object of label: texts, where {"a cat": {"texts": ["a cat"], "min_logit": 18}} also withholds the label below
    that logit. ./NAME is a file that has the name of a built-in set.

    Examples:
      xclip labels check picture-state --model bundled
      xclip labels check my-labels.txt --template "a video of {}"
    """
    from ..labels import load_labels
    from ..output.notes import Notes

    notes = Notes()
    labels = load_labels([source], templates=template or ())
    warnings = labels.warnings
    if model is not None:
        from ..classifier import Classifier

        with Classifier(model, labels=labels) as classifier:
            warnings = classifier.warnings
    for warning in warnings:
        notes.say(f"warning: {warning}")
    found = counted(len(warnings), "warning") if warnings else "no problems"
    typer.echo(f"{counted(len(labels.names), 'label')}, {counted(len(labels.all_texts), 'text')}: {found}")
