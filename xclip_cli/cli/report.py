"""xclip report."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ResultsError
from ..text import counted
from .options import Force, Quiet, Root, usage_errors

if TYPE_CHECKING:
    from ..output.notes import Notes
    from ..report.thumbnails import Gallery
    from ..results.reading import Results


def report(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS.jsonl", help="A file that classify, timeline or search wrote with -o.")
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", rich_help_panel="Output", help="The HTML file to write.")
    ],
    root: Root = None,
    thumbnails: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            rich_help_panel="Output",
            help="Thumbnails on the page, shared evenly among videos; 0 for none.",
        ),
    ] = 2000,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Make a self-contained HTML page of results, with thumbnails.

    The page needs no network and no script, and stays under 25 MB.

    Examples:
      xclip classify clips --labels picture-state -o results.jsonl
      xclip report results.jsonl -o report.html
      xclip report results.jsonl -o report.html --root /mnt/videos --force
    """
    from ..output.files import check_output
    from ..output.notes import Notes
    from ..report.thumbnails import Gallery, beside, located
    from ..results.reading import read_results

    notes = Notes(quiet)
    found = read_results(results)
    for notice in found.notices:
        notes.say(f"{results}: {notice}")
    place = partial(beside, folder=results.parent) if root is None else partial(located, root=root)
    gallery = Gallery(found, thumbnails, place)
    with usage_errors(ResultsError):
        check_output(output, force, [str(results), *(request.clip.path for request in gallery.requests)])
    write_page(output, results.name, found, gallery, root, notes)
    notes.say(f"wrote {output}")


def write_page(path: Path, title: str, found: Results, gallery: Gallery, root: Path | None, notes: Notes) -> None:
    """Decode a page's pictures, and write it. Raises ResultsError."""
    from ..output.files import replace_file
    from ..report.links import links
    from ..report.page import render

    for _ in notes.steps(gallery.fill(), len(gallery.requests), "decoding"):
        pass
    if missing := gallery.thumbnails.missing:
        hint = "" if root else " (--root DIR shows videos outside the folder of the results)"
        notes.say(f"no thumbnails for {counted(len(missing), 'video')}: the page says why{hint}")
    leading = links((video.video for video in found.videos), gallery.place, path)
    replace_file(path, render(found, replace(gallery.thumbnails, links=leading), title))
