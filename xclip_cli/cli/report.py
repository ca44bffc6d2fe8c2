"""xclip report."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import ResultsError
from .options import Force, Quiet, Root, usage_errors

if TYPE_CHECKING:
    from ..output.notes import Notes
    from ..report.thumbnails import Gallery
    from ..results.reading import Results


def report(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS.jsonl", help="What classify, timeline or search wrote with -o.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page, an HTML file.")],
    root: Root = None,
    thumbnails: Annotated[
        int, typer.Option(min=0, metavar="N", help="Pictures on the page, shared out evenly among videos; 0 for none.")
    ] = 2000,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Make one self-contained HTML page of a run's results, with frames of the videos.

    Examples:
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


def write_page(path: Path, title: str, found: Results, gallery: Gallery, root: Path | None, notes: Notes) -> None:
    """Decode a page's pictures, and write it. Raises ResultsError."""
    from ..output.files import replace_file
    from ..report.page import render

    for _ in notes.steps(gallery.fill(), len(gallery.requests), "decoding"):
        pass
    if missing := gallery.thumbnails.missing:
        hint = "" if root else " (--root DIR says where they are)"
        notes.say(f"no pictures of {len(missing)} videos: the page says why{hint}")
    replace_file(path, render(found, gallery.thumbnails, title))
