"""xclip models."""

from __future__ import annotations

import json
import secrets
import shlex
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..engine.devices import AUTO, DEVICES
from ..errors import ResultsError
from ..unfinished import begun, ended
from .exits import FAILURE
from .options import (
    AsJson,
    DType,
    Heads,
    ModelName,
    Offline,
    Tokenizer,
    check_device,
    offer_labels,
    switch_off_hub,
    usage_errors,
)

if TYPE_CHECKING:
    from ..labels import Labels
    from ..model.checkpoint.find import Checkpoint
    from ..precision import Comparison

RankedLabels = Annotated[
    list[str] | None,
    typer.Option(
        "--labels",
        "-l",
        metavar="FILE|NAME",
        autocompletion=offer_labels,
        rich_help_panel="Precision",
        help="With --dtype: labels to rank. Default: kinetics-400; for the bundled model picture-state.",
    ),
]
Precisions = Annotated[
    list[DType] | None,
    typer.Option(
        metavar="TYPE",
        rich_help_panel="Precision",
        help="Also compare this precision (and bfloat16) with float32: logits, answers, speed; repeat for more.",
    ),
]


def list_models(as_json: AsJson = False) -> None:
    """List the bundled model and the public checkpoints, with size, published accuracy and whether they are cached.

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
    """Show a model's sizes, cost per clip, memory use and origin, without loading its weights.

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

    Downloads go through huggingface_hub: HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE and your token work as usual. The names
    of the public checkpoints, 'bundled' and 'auto' never mean a folder of yours: write ./NAME.

    Examples:
      xclip models pull base-patch32
    """
    from ..model.checkpoint.find import find_checkpoint
    from ..output.notes import Notes

    typer.echo(find_checkpoint(name, bar=Notes().bar()).folder)


def remove_model(name: ModelName) -> None:
    """Delete a downloaded model from the Hugging Face cache, and print how much space that frees.

    Only what was downloaded from the hub is deleted, never a folder of yours. Of name@revision, one revision is.

    Examples:
      xclip models remove base-patch32
    """
    from ..errors import ModelError
    from ..model.checkpoint import hub
    from ..model.checkpoint.find import find_local, hub_name
    from ..text import sized

    if find_local(name) is not None:
        raise ModelError(f"{name} was not downloaded from the hub: only models in the Hugging Face cache are removed")
    repo, revision = hub_name(name)
    typer.echo(f"removed {repo}: {sized(hub.remove(repo, revision))} freed")


def show_path(name: ModelName) -> None:
    """Print a model's folder; exit 4 if it is not cached. Never uses the network.

    Examples:
      ls "$(xclip models path bundled)"
    """
    switch_off_hub()
    from ..errors import ModelError
    from ..model.checkpoint.find import find_cached

    if (found := find_cached(name)) is None:
        raise ModelError(
            f"{name} is not downloaded, or only partly: `xclip models pull {shlex.quote(name)}` downloads it"
        )
    typer.echo(found.folder)


def verify_model(
    name: ModelName,
    videos: Annotated[
        list[str] | None,
        typer.Argument(metavar="VIDEO", help="With --dtype: videos to measure on. Default: the demo's."),
    ] = None,
    published: Annotated[
        bool, typer.Option("--published", help="Also compare with the published probabilities and logits.")
    ] = False,
    dtype: Precisions = None,
    labels: RankedLabels = None,
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE", callback=check_device, rich_help_panel="Precision", help=f"With --dtype: {DEVICES}."
        ),
    ] = AUTO,
    as_json: AsJson = False,
    offline: Offline = False,
) -> None:
    """Check a model's files against the hub's hashes, load it and run it; exit 1 if anything is wrong.

    With --dtype, also measure the accuracy and speed of a precision on your own videos and labels, and recommend one.

    Examples:
      xclip models verify bundled
      xclip models verify base-patch32 --published
      xclip models verify base-patch32 --dtype bfloat16 films/ -l labels.txt
    """
    from ..model.checkpoint.find import find_checkpoint
    from ..model.verify import verify
    from ..output.notes import Notes
    from ..output.tables import print_precisions
    from ..text import printable

    bar = Notes().bar()
    wanted = _checked(videos or (), labels or (), dtype or ())
    checkpoint = find_checkpoint(name, bar=bar)
    checks = []
    for check in verify(checkpoint, published):
        checks.append(vars(check))
        if not as_json:
            typer.echo(printable(check.line()))
    right = all(check["passed"] for check in checks)
    compared = _compared(checkpoint, videos, wanted, dtype, device) if dtype and right else None
    if as_json:
        precision = {"precision": compared.to_json()} if compared else {}
        typer.echo(json.dumps({"checks": checks, **precision}, indent=2))
    elif compared:
        print_precisions(compared.to_json())
    raise typer.Exit(0 if right else FAILURE)


def _checked(videos: Sequence[str], labels: Sequence[str], dtypes: Sequence[DType]) -> Labels | None:
    """The labels that were given, if any were, before any model is looked for. Raises typer.BadParameter if they, or
    the videos, are not usable; LabelsError."""
    from ..inputs import is_missing
    from ..labels import load_labels

    if not dtypes and (videos or labels):
        raise typer.BadParameter("videos and --labels require --dtype, which measures on them")
    if missing := [path for path in videos if is_missing(path)]:
        raise typer.BadParameter(f"{missing[0]}: no such file")
    return load_labels(labels) if labels else None


def _compared(
    checkpoint: Checkpoint, videos: list[str] | None, labels: Labels | None, dtypes: list[DType], device: str
) -> Comparison:
    """The precisions on videos, else on the demo's."""
    from tempfile import TemporaryDirectory

    from ..bundled.generator import write_samples
    from ..inputs import expand_inputs
    from ..labels import load_labels
    from ..model.checkpoint.find import BUNDLED
    from ..precision import compare

    wanted = labels or load_labels(["picture-state" if checkpoint.name == BUNDLED else "kinetics-400"])
    names = [one.value for one in dtypes if one != DType.auto]
    if videos:
        with usage_errors(ResultsError):
            paths = expand_inputs(videos).paths
        return compare(checkpoint, wanted, paths, names, device)
    with TemporaryDirectory() as folder:
        begun(Path(folder))
        paths = [str(path) for path, _ in write_samples(Path(folder))]
        return compare(checkpoint, wanted, paths, names, device)


def convert_model(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A .pth file by X-CLIP's authors, or any other model.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The folder to create.")],
    tokenizer: Tokenizer = None,
    heads: Heads = None,
    offline: Offline = False,
) -> None:
    """Convert a checkpoint to a folder in the Hugging Face format.

    Examples:
      xclip models convert k400_32_8.pth my-folder
    """
    from ..model.checkpoint.find import find_checkpoint
    from ..model.loading import convert

    if folder.exists():
        raise typer.BadParameter(f"{folder} already exists: give a new folder")
    part = folder.with_name(f".xclip-{secrets.token_hex(8)}.part")  # half a folder would only be in the way
    begun(part)
    try:
        convert(find_checkpoint(source), part, tokenizer, heads)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
        ended(part)
    typer.echo(folder)
