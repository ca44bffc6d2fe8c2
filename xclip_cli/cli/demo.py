"""xclip demo."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import XClipError
from .classify import classify
from .cluster import ClusterFlags
from .flags import DecodeFlags, InputFlags, LabelFlags, ModelFlags, OutputFlags, RunFlags
from .options import OutputFormat


def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write the sample videos.")] = Path(
        "xclip-demo"
    ),
) -> None:
    """Write a few sample videos and classify them. Needs no network.

    Examples:
      xclip demo
      xclip demo clips
    """
    from ..bundled.generator import write_samples
    from ..text import printable

    if folder.exists() and not folder.is_dir():
        raise XClipError(f"{folder} is a file: give a folder")
    folder.mkdir(parents=True, exist_ok=True)
    samples = [str(path) for path, _ in write_samples(folder)]
    typer.echo(f"$ xclip classify {printable(str(folder))} --labels picture-state --model bundled --top-k 3", err=True)
    classify(
        InputFlags(samples),
        LabelFlags(["picture-state"]),
        OutputFlags(format=OutputFormat.table, top_k=3),
        ModelFlags("bundled"),
        DecodeFlags(),
        ClusterFlags(),
        RunFlags(),
    )
