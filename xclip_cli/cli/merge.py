"""xclip merge."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ..errors import ResultsError
from .exits import SOME_FAILED
from .options import Force, Null, Quiet, either, form_of, usage_errors


class MergeFormat(StrEnum):
    """How merged results are written."""

    jsonl = "jsonl"
    json = "json"
    csv = "csv"
    parquet = "parquet"


def merge(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS.jsonl", help="What classify or timeline wrote with -o.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The file for all results.")],
    format: Annotated[
        MergeFormat | None,
        typer.Option("--format", "-f", metavar="FORMAT", help=f"{either(MergeFormat)}. Default: by the suffix of -o."),
    ] = None,
    from_file: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|-", help="Order videos as in this list of their paths, and say which of them are missing."
        ),
    ] = None,
    null: Null = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Join results files that were made in the same way, such as those of several machines (see --shard).

    Of a video with several results the last success counts, or the last failure where there is no success. Videos that
    were not finished are left out. Exit code 3 where any were, or videos of the list are missing.

    Examples:
      xclip merge part-1.jsonl part-2.jsonl -o all.jsonl
      xclip merge part-*.jsonl --from-file videos.txt -o all.csv
    """
    from ..output.files import check_output, write
    from ..output.notes import Notes
    from ..output.parquet import check_format
    from ..output.timelines import FORMATS
    from ..results.merging import Merge
    from ..text import listed

    form = form_of(format, output, MergeFormat.__members__)
    with usage_errors(ResultsError):
        check_format(form, output)
        check_output(output, force, [*map(str, results), *filter(None, [from_file])])
    notes = Notes(quiet)
    merged = Merge(results)
    videos, missing = _in_order(merged.videos, from_file, null)
    write(FORMATS[form], merged.records(videos), output, merged.header, force)
    for notice in merged.notices:
        notes.say(notice)
    failed = f", {merged.failed} of them failed" if merged.failed else ""
    superseded = f"; {merged.superseded} other results of theirs were left out" if merged.superseded else ""
    notes.say(f"{output}: {len(videos)} videos{failed}{superseded}")
    if merged.unfinished:
        notes.say(f"{len(merged.unfinished)} videos were not finished (--resume goes on): {listed(merged.unfinished)}")
    if missing:
        notes.say(f"{len(missing)} videos of {from_file} have no result: {listed(missing)}")
    raise typer.Exit(SOME_FAILED if merged.unfinished or missing else 0)


def _in_order(videos: list[str], source: str | None, null: bool) -> tuple[list[str], list[str]]:
    """The videos in the order of a list, those that it does not name at the end; and those of it that are not among
    them. Raises typer.BadParameter."""
    from ..inputs import Inputs, entry_of, read_path_list

    if source is None:
        return videos, []
    with usage_errors(ResultsError):
        names = read_path_list(source, null)
    firsts: dict[str, str] = {}
    for name in names:
        firsts.setdefault(entry_of(name), name)
    wanted = Inputs([*firsts.values()]).spelled_as(videos).names
    known = set(videos)
    first = [name for name in wanted if name in known]
    placed = set(first)
    rest = [name for name in videos if name not in placed]
    return [*first, *rest], [name for name in wanted if name not in known]
