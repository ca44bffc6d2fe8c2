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


Merged = Annotated[
    Path, typer.Option("--output", "-o", metavar="FILE", rich_help_panel="Output", help="The file to write.")
]
Form = Annotated[
    MergeFormat | None,
    typer.Option(
        "--format",
        "-f",
        metavar="FORMAT",
        rich_help_panel="Output",
        help=f"{either(MergeFormat)}. Default: from the suffix of -o.",
    ),
]
Order = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|-",
        rich_help_panel="Inputs",
        help="Order the videos as in this list of paths, and report which are missing.",
    ),
]


def merge(
    results: Annotated[
        list[Path], typer.Argument(metavar="RESULTS.jsonl", help="Files that classify or timeline wrote with -o.")
    ],
    output: Merged,
    format: Form = None,
    from_file: Order = None,
    null: Null = False,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Combine results files, for example from several machines.

    The runs must have had the same settings (see --shard of xclip classify). If a video has several results, the last
    success counts, or the last failure if there is no success. Unfinished videos are left out. Exits with 3 if there
    are any, or if videos of the list are missing.

    Examples:
      xclip classify clips -l picture-state --shard 1/2 -o part-1.jsonl
      xclip classify clips -l picture-state --shard 2/2 -o part-2.jsonl
      xclip merge part-1.jsonl part-2.jsonl -o all.jsonl
      xclip merge part-*.jsonl --from-file videos.txt -o all.csv
    """
    from ..output.files import check_output, write
    from ..output.notes import Notes
    from ..output.parquet import check_format
    from ..output.timelines import FORMATS
    from ..results.merging import Merge
    from ..text import counted, listed

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
    superseded = (
        f"; {counted(merged.superseded, 'superseded result')} {'was' if merged.superseded == 1 else 'were'} left out"
        if merged.superseded
        else ""
    )
    notes.say(f"wrote {output}: {counted(len(videos), 'video')}{failed}{superseded}")
    if merged.unfinished:
        notes.say(
            f"{len(merged.unfinished)} videos are unfinished (--resume continues them): {listed(merged.unfinished)}"
        )
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
