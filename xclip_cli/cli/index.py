"""xclip index: what an index holds, whether it is whole, and how it is kept small."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import ResultsError
from .exits import FAILURE
from .options import AsJson

IndexFolder = Annotated[Path, typer.Argument(metavar="INDEX", help="An index folder.")]


def show_index(index: IndexFolder, as_json: AsJson = False) -> None:
    """Show what an index holds, and the settings it was made with.

    Examples:
      xclip index info clips.index
    """
    from ..output.tables import format_fields
    from ..results.index import Index

    with Index.open(index) as found:
        failed = sum(entry.line.error is not None for entry in found.entries.values())
        size, windows = size_of(index), found.num_windows
        values: dict[str, Any] = {
            "folder": str(index),
            "videos": len(found),
            "failed": failed,
            "windows": windows,
            "bytes": size,
            "bytes per window": round(size / windows) if windows else None,
            "made with": {k: v for k, v in found.settings.to_json().items() if v is not None and k != "kind"},
        }
    typer.echo(json.dumps(values, indent=2) if as_json else format_fields(values))


def check_index(index: IndexFolder) -> None:
    """Verify all of an index against its checksums.

    Videos with rows in a damaged part are dropped, and the next `xclip embed` embeds them again. Exits with 1 if there
    are any.

    Examples:
      xclip index check clips.index
    """
    from ..results.index import Index
    from ..results.index_writer import IndexWriter
    from ..results.index_writer import check_index as damaged_parts
    from ..text import counted, printable

    with Index.open(index) as found:
        damaged = damaged_parts(found)
        for video in found:
            _ = video.windows  # raises ResultsError for a line that makes no sense
        videos, windows = len(found), found.num_windows
    if not damaged:
        typer.echo(f"{printable(str(index))} is intact: {counted(videos, 'video')}, {counted(windows, 'window')}")
        return
    for message in damaged.values():
        typer.echo(message)
    with IndexWriter(index) as writer:
        dropped = [*writer.forget_parts(damaged), *(v for videos in writer.damaged.values() for v in videos)]
    for name in dropped:
        typer.echo(f"  dropped, to be embedded again: {printable(name)}")
    raise typer.Exit(FAILURE)


def prune_index(
    index: IndexFolder,
    force: Annotated[bool, typer.Option("--force", help="Drop the videos even if none of them exists.")] = False,
) -> None:
    """Drop the videos whose files no longer exist, and free their space.

    Examples:
      xclip index prune films.index
    """
    import os

    from ..results.index_writer import IndexWriter
    from ..text import counted, printable, sized

    before = size_of(index)
    with IndexWriter(index) as writer:
        gone = [video for video in writer.entries if not os.path.isfile(video)]  # noqa: PTH113 - no name is an error
        if gone and len(gone) == len(writer.entries) and not force:
            raise ResultsError(
                f"none of the {len(gone)} videos of {index} exists here: run this in the folder that their paths start "
                "from, or pass --force to drop them all"
            )
        writer.forget(gone)
        writer.tidy(wasteful=True)
        left = len(writer.entries)
    for video in gone:
        typer.echo(f"dropped {printable(video)}")
    saved = sized(max(before - size_of(index), 0))
    typer.echo(f"{printable(str(index))}: {counted(left, 'video')}, {len(gone)} dropped, {saved} freed")


def merge_indexes(
    index: IndexFolder,
    others: Annotated[list[Path], typer.Argument(metavar="OTHER", help="Indexes made with the same settings.")],
) -> None:
    """Copy the videos of other indexes into one, for example from several machines.

    A video that the index already holds is kept as it is, unless it failed.

    Examples:
      xclip index merge films.index other-machine.index
    """
    from ..results.index import Index
    from ..results.index_writer import IndexWriter
    from ..text import counted, printable

    with IndexWriter(index) as writer:
        for folder in others:
            if folder.resolve() == index.resolve():
                raise typer.BadParameter(f"{folder} is the index itself: pass other indexes")
            with Index.open(folder) as other:
                taken, left = writer.take(other)
            already = f", {left} were already there" if left else ""
            typer.echo(f"{printable(str(folder))}: {counted(taken, 'video')} copied{already}")


def size_of(folder: Path) -> int:
    """Bytes of an index."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
