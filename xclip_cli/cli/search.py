"""xclip search."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from ..engine.devices import AUTO
from ..errors import ResultsError
from ..text import counted
from .clips import Clips, check_clips
from .cluster import ClusterFlags
from .flags import DecodeFlags, InputFlags, ModelFlags, RunFlags
from .indexed import as_decoded, as_learned, as_made, check_indexes, stretch
from .options import Force, Root, SaveClips, either, form_of, seconds, sentences, usage_errors
from .tally import Tally

if TYPE_CHECKING:
    from ..adaptation import Head
    from ..inputs import Inputs
    from ..labels import Labels
    from ..output.notes import Notes
    from ..results.lines import IndexSettings
    from ..results.records import Record, RunHeader
    from ..scanning import Scanner
    from ..search import Search


PICTURES = 2000  # at most, on a page


class SearchFormat(StrEnum):
    """How moments are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    html = "html"
    m3u = "m3u"
    edl = "edl"


@dataclass(frozen=True)
class QueryInputFlags(InputFlags):
    """What to search for, and where."""

    videos: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="TEXT INPUT…", help="The text to search for, then indexes, videos or folders. With --like: no text."
        ),
    ] = None


@dataclass(frozen=True)
class QueryFlags:
    """What to search for, and which moments to show."""

    panel: ClassVar[str] = "Search"

    text: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="Another text, with its own results; repeat for more.")
    ] = None
    like: Annotated[
        str | None,
        typer.Option(metavar="CLIP", help="Search for what looks like this video, not for a text; ranks by cosine."),
    ] = None
    template: Annotated[list[str] | None, sentences("text")] = None
    head: Annotated[
        Path | None,
        typer.Option(
            "--head",
            metavar="FILE",
            help="Corrections learned from examples (see `xclip adapt`), for texts that are labels of the head.",
        ),
    ] = None
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=0, metavar="N", help="Moments to show per text; 0 shows all.")
    ] = 20
    per_video: Annotated[int, typer.Option(min=0, metavar="N", help="Moments to show per video; 0 for no limit.")] = 0
    threshold: Annotated[
        float | None, typer.Option(min=-1, max=1, metavar="SCORE", help="Leave out moments with lower scores.")
    ] = None
    exact: Annotated[
        bool,
        typer.Option("--exact", help="Score every window; otherwise candidates are preselected above 100,000 windows."),
    ] = False
    window: Annotated[
        Fraction | None,
        typer.Option(parser=seconds, metavar="SECONDS", help="For files: length of each window that the model sees."),
    ] = None
    stride: Annotated[
        Fraction | None,
        typer.Option(parser=seconds, metavar="SECONDS", help="For files: time between the starts of windows."),
    ] = None

    @cached_property
    def learned(self) -> Head | None:
        """The head, read at the first use. Raises ModelError."""
        if self.head is None:
            return None
        from ..adaptation import Head

        return Head.load(self.head)

    def split(self, inputs: InputFlags) -> tuple[Labels, InputFlags]:
        """The texts, and the inputs without the first of them. Raises typer.BadParameter, LabelsError."""
        from ..inputs import is_missing
        from ..labels import Labels, read_templates
        from ..video.sampling import STDIN

        given = list(inputs.videos or ())
        if self.like is not None:
            if self.text:
                raise typer.BadParameter("--like and --text cannot be combined: search by example or by text")
            return Labels.of(["a video"]).with_background(), inputs
        if len(given) < (1 if inputs.from_file else 2):
            raise typer.BadParameter('pass a text and where to search: xclip search "a dog jumps" INPUT')
        if len(given) == 2 and given[1] not in STDIN and is_missing(given[1]) and not is_missing(given[0]):
            raise typer.BadParameter(f"the text comes first: {shlex.join(['xclip', 'search', *reversed(given)])}")
        templates = [text for source in self.template or () for text in read_templates(source)]
        texts = dict.fromkeys([given[0], *(self.text or ())])
        labels = Labels.of(texts, templates) if templates else Labels.of(texts)
        labels = replace(labels, warnings=())  # each text has a list of its own
        return labels.with_background(), replace(inputs, videos=given[1:])

    def check(self) -> None:
        """Raises typer.BadParameter where the example is not there."""
        from ..inputs import is_missing

        if self.like is not None and is_missing(self.like):
            raise typer.BadParameter(f"--like {self.like}: no such file")

    def windows(self, usual: Fraction, made: IndexSettings | None) -> tuple[Fraction, Fraction]:
        """Window and stride of files: those of an index, if it has any. Raises typer.BadParameter."""
        from ..video.sampling import check_windows

        if made is not None and made.window is not None and made.stride is not None:
            usual, held = Fraction(made.window), Fraction(made.stride)
        else:
            usual, held = self.window or usual, (self.window or usual) / 2
        window, stride = self.window or usual, self.stride or held
        if made is not None and made.window is not None and (window, stride) != (usual, held):
            raise typer.BadParameter(
                f"the index has windows of {float(usual):g} s every {float(held):g} s: omit --window and --stride"
            )
        with usage_errors(ValueError):
            check_windows(window, stride)
        return window, stride


@dataclass(frozen=True)
class FoundFlags:
    """Where moments go, and in which form."""

    panel: ClassVar[str] = "Output"

    path: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of stdout.")
    ] = None
    format: Annotated[
        SearchFormat | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"{either(SearchFormat)}; html is a page with thumbnails, m3u plays in VLC, edl in mpv. Default: from "
            "the suffix of -o; else table on a terminal, jsonl elsewhere.",
        ),
    ] = None
    force: Force = False
    root: Root = None
    save_clips: SaveClips = None

    def form(self) -> str:
        """The format. Raises typer.BadParameter."""
        form = form_of(self.format, self.path, SearchFormat.__members__)
        if form == "html" and self.path is None:
            raise typer.BadParameter("--format html writes a file: pass -o FILE.html")
        return form

    def check(self, todo: Inputs, read: Sequence[str]) -> None:
        """Raises typer.BadParameter where a file would destroy another output, or what is ``read``."""
        from ..output.files import check_output

        if self.path is not None:
            with usage_errors(ResultsError):
                check_output(self.path, self.force, read)
        check_clips(self.save_clips, todo.names)


def search(
    inputs: QueryInputFlags,
    query: QueryFlags,
    output: FoundFlags,
    model: ModelFlags,
    decoding: DecodeFlags,
    cluster: ClusterFlags,
    running: RunFlags,
) -> None:
    """Find the moments in videos that best match a text.

    Indexes (see `xclip embed`) are searched without decoding; other videos are decoded and encoded for this search
    alone. It works best with actions and short phrases, such as labels; it does not understand long captions.
    Windows are ranked by logit, and neighbours are joined into moments; the score compares a moment with neutral texts,
    such as "a video".

    Examples:
      xclip embed clips -o clips.index --model bundled --window 1
      xclip search "color bars" clips.index
      xclip search "a dog jumps" films.index --text "a cat sleeps" --top-k 5
      xclip search --like example.mp4 films.index -o found.html

    Exit codes: see `xclip classify --help`; finding nothing is not an error.
    """
    from ..output.notes import Notes
    from ..results.lines import PARTS_NAME
    from ..scanning import shared
    from .run import show_plan

    notes, form = Notes(running.quiet, running.verbose), output.form()
    labels, rest = query.split(inputs)
    todo = rest.expand()
    check_indexes(rest, todo)
    query.check()
    if cluster.ray and todo.paths:
        raise typer.BadParameter(
            "--ray distributes the search of indexes, not of files: embed the files first (xclip embed --ray)"
        )
    output.check(todo, [*todo.paths, *filter(None, [query.like])])
    for notice in todo.notices():
        notes.say(notice)
    model = as_made(as_learned(model, query.learned), todo.indexes[0].settings if todo.indexes else None)
    if running.dry_run:
        show_plan(todo, None if query.like else labels, _model(query, labels, model, notes), model, "window")
    counts = Tally(verb="searched")
    counts.expect(len(todo.items), todo.known_failures, notes)
    if len(todo.known_failures) == len(todo.items):
        raise typer.Exit(counts.of_failures(todo.known_failures, notes))
    model = replace(model, name=_model(query, labels, model, notes))
    with ExitStack() as stack:
        make = partial(_task, rest, query, labels, todo.indexes[0].settings if todo.indexes else None, model, decoding)
        task = make(notes.bar())
        stack.callback(task.classifier.close)
        for index in todo.indexes:
            task.classifier.check(index)
        parts = [str(index.folder / PARTS_NAME / name) for index in todo.indexes for name in index.parts]
        if joined := cluster.join(partial(_scanner_there, make), parts, notes.say, stack):
            task.scan = shared(joined)
        raise typer.Exit(_run(task, todo, output, form, decoding, running, counts, notes))


def _model(query: QueryFlags, labels: Labels, model: ModelFlags, notes: Notes) -> str:
    """The model's name, ``auto`` as the model it stands for."""
    from ..model.checkpoint.public import OPEN_LABELS_MODEL
    from .run import choose, say_choice

    if query.like is None or model.name != AUTO:
        return choose(model.name, labels, notes)
    say_choice(OPEN_LABELS_MODEL, "for any videos", notes)
    return OPEN_LABELS_MODEL


def _task(
    inputs: InputFlags,
    query: QueryFlags,
    labels: Labels,
    made: IndexSettings | None,
    model: ModelFlags,
    decoding: DecodeFlags,
    bar: type | None = None,
) -> Search:
    from ..classifier import Classifier
    from ..model.checkpoint.find import find_checkpoint
    from ..search import Search, SearchRules

    checkpoint = find_checkpoint(model.name, bar=bar)
    settings: dict[str, Any] = model.settings() | as_decoded(decoding, made).settings()
    learned = None if query.learned is None else query.learned.among(labels)
    classifier = Classifier(checkpoint, labels=labels, multi_label=True, head=learned, **settings)
    rules = SearchRules(query.top_k, query.per_video, query.threshold, query.exact)
    windows = query.windows(classifier.encoder.usual_window, made)
    return Search(classifier, rules, *windows, stretch(inputs, made), query.like)


def _scanner_there(make: Callable[[], Search]) -> Scanner:
    """What a machine of a cluster scans by. Raises ModelError."""
    from ..scanning import Scanner

    return Scanner(make())


def _run(
    task: Search,
    todo: Inputs,
    output: FoundFlags,
    form: str,
    decoding: DecodeFlags,
    running: RunFlags,
    counts: Tally,
    notes: Notes,
) -> int:
    """Look, rank and write → the exit code."""
    from ..results.records import Failure
    from ..search import LOOKED_AT
    from .run import signed

    known = [item for item in todo.items if isinstance(item, Failure)]
    looked = task.look(todo.paths, todo.stored, running.fail_fast)
    for _ in notes.progress(looked, len(todo.paths), "window", doing="encoding"):
        pass
    for warning in task.classifier.warnings if task.like is None else ():
        notes.say(f"warning: {warning}")
    if running.verbose:
        notes.say(task.classifier.description())
    moments = list(task.moments())
    failures = [*known, *task.library.failures]
    for failure in failures:
        counts.count(failure)
    counts.succeeded = len(task.library.shelves)
    for line in () if running.verbose else counts.failures():
        notes.say(line)
    if (scored := task.library.scored) < task.library.count:
        notes.say(f"scored {scored:,} of {task.library.count:,} windows, preselected by features (--exact scores all)")
    if task.gave_up:
        notes.say(
            f"each search ended after {LOOKED_AT} consecutive windows below the threshold: later ones may be above it"
        )
    if lacking := sum(video.failure is not None for video in todo.stored):
        notes.say(f"{lacking} videos of the index failed when they were embedded: all or part of each is not searched")
    if not moments:
        notes.say("no moments found" + ("" if task.rules.threshold is None else " above the threshold"))
    if output.save_clips is not None:
        clips = Clips(output.save_clips, decoding, notes)
        for moment in notes.steps(moments, len(moments), "cutting"):
            clips.save(moment.video, moment.start_seconds, moment.end_seconds)
    if output.path is None or counts.succeeded:  # a file without results would be in the way of the next try
        _write([*moments, *failures], todo, output, form, signed(task.header()), notes)
    if output.path is not None and counts.succeeded:
        notes.say(f"wrote {output.path}: {counted(len(moments), 'moment')} of {counted(counts.succeeded, 'video')}")
    if counts.failed and running.quiet:
        notes.insist(f"{counts.failed} of {len(todo.items)} videos failed")
    return counts.exit_code


def _write(records: list[Record], todo: Inputs, output: FoundFlags, form: str, header: RunHeader, notes: Notes) -> None:
    from ..output.files import write
    from ..output.moments import FORMATS

    if form == "html" and output.path is not None:
        from ..report.thumbnails import Gallery
        from ..results.reading import Results
        from .report import write_page

        found = Results.of([header, *records])
        gallery = Gallery(found, PICTURES, _places(todo, output.root))
        write_page(output.path, output.path.name, found, gallery, output.root, notes)
        return
    write(FORMATS[form], records, output.path, header if output.path else None, output.force)


def _places(todo: Inputs, root: Path | None) -> Callable[[str], str | None]:
    """Where the videos of a page are: files where the user says, those of an index as `xclip report` looks for them:
    a stranger's index must not choose which of our pictures a page shows."""
    from ..report.thumbnails import beside, located

    holders = {stored.video: Path(os.path.abspath(stored.index.folder)).parent for stored in todo.stored}  # noqa: PTH100 - pathlib's would follow links

    def place(video: str) -> str | None:
        if video not in holders:
            return video
        return beside(video, holders[video]) if root is None else located(video, root)

    return place
