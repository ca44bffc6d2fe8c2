"""xclip models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from .exits import FAILURE
from .options import AsJson, Heads, ModelName, Offline, Tokenizer, switch_off_hub


def list_models(as_json: AsJson = False) -> None:
    """List the bundled model and the public checkpoints: sizes, published accuracy, whether they are cached.

    Examples:
      xclip models list
    """
    from ..model import describe
    from ..output.tables import print_models

    rows = describe.list_models()
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_models(rows)


def show_model(name: ModelName, as_json: AsJson = False, offline: Offline = False) -> None:
    """Show what a model is: sizes, cost of a clip, memory, where it comes from. Its weights are not loaded.

    Examples:
      xclip models info bundled
      xclip models info base-patch16-zero-shot --json
    """
    from ..model.describe import describe
    from ..output.tables import format_fields

    values = describe(name)
    typer.echo(json.dumps(values, indent=2) if as_json else format_fields(values))


def pull_model(name: ModelName) -> None:
    """Download a model, unless it is cached, and print its folder.

    Examples:
      xclip models pull base-patch32
    """
    from ..model.checkpoint.find import find_checkpoint
    from ..output.notes import Notes

    typer.echo(find_checkpoint(name, bar=Notes().bar()).folder)


def show_path(name: ModelName) -> None:
    """Print a model's folder; exit 4 if it is not cached. Opens no connection.

    Examples:
      ls "$(xclip models path bundled)"
    """
    switch_off_hub()
    from ..model.checkpoint.find import find_checkpoint

    typer.echo(find_checkpoint(name).folder)


def verify_model(
    name: ModelName,
    published: Annotated[
        bool, typer.Option("--published", help="Also compare with the published probabilities and logits.")
    ] = False,
    offline: Offline = False,
) -> None:
    """Check a model's files against the hub's hashes, load it and compute with it; exit 1 if anything is wrong.

    Examples:
      xclip models verify bundled
      xclip models verify base-patch32 --published
    """
    from ..model.checkpoint.find import find_checkpoint
    from ..model.verify import verify
    from ..output.notes import Notes
    from ..text import printable

    wrong = 0
    for check in verify(find_checkpoint(name, bar=Notes().bar()), published):
        typer.echo(printable(check.line()))
        wrong += not check.passed
    raise typer.Exit(FAILURE if wrong else 0)


def convert_model(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A .pth of X-CLIP's authors, or any other model.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    tokenizer: Tokenizer = None,
    heads: Heads = None,
    offline: Offline = False,
) -> None:
    """Write a checkpoint as a Hugging Face-style folder.

    Examples:
      xclip models convert k400_32_8.pth my-folder
    """
    from ..model.checkpoint.find import find_checkpoint
    from ..model.loading import convert

    if folder.exists():
        raise typer.BadParameter(f"{folder} exists: give a new folder")
    convert(find_checkpoint(source), folder, tokenizer, heads)
    typer.echo(folder)
