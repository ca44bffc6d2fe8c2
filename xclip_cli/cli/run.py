"""A run: a task over inputs into an output, from the flags to the exit code.

Everything that can be wrong with flags, labels and names is found before anything heavy is imported or any video read.
"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar, cast

import typer

from .cluster import ClusterFlags
from .flags import InputFlags, LabelFlags, ModelFlags, OutputFlags, RunFlags
from .indexed import as_learned, as_made, check_indexes
from .interrupt import end, on_interrupt, same_command
from .sinks import open_sink
from .tally import Tally

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..cluster import Source
    from ..inputs import Inputs
    from ..labels import Labels
    from ..model.checkpoint.find import Checkpoint
    from ..output.files import Format
    from ..output.notes import Notes
    from ..results.index import StoredVideo
    from ..results.lines import IndexSettings
    from ..results.records import Failure, Record, RunHeader

COMMAND_LENGTH = 2000  # characters kept of a command, which may name any number of files

R = TypeVar("R", bound="Record")
R_co = TypeVar("R_co", bound="Record", covariant=True)


class Task(Protocol[R_co]):
    """What a command runs over inputs."""

    @property
    def classifier(self) -> Classifier:
        """What makes the records; the run closes it."""

    def header(self) -> RunHeader:
        """What the records are made with."""

    def records(self, paths: Iterable[str]) -> Iterator[R_co]:
        """The records of each video, in order, the last of which completes it."""

    def stored(self, videos: Iterable[StoredVideo]) -> Iterator[R_co]:
        """The same, of videos of indexes, which are not decoded."""

    def description(self) -> str:
        """The model and how it runs, in a line."""


def run(
    task_of: Callable[[Checkpoint, ModelFlags, IndexSettings | None], Task[R]],
    formats: Mapping[str, Format],
    inputs: InputFlags,
    labels: LabelFlags,
    output: OutputFlags,
    model: ModelFlags,
    cluster: ClusterFlags,
    running: RunFlags,
    unit: str = "video",
    then: Callable[[], None] = lambda: None,
    each: Callable[[Record, Notes], None] | None = None,
) -> NoReturn:
    """Carry out a task over inputs into an output. Raises typer.Exit with the run's exit code.

    ``task_of`` makes the task, for the checkpoint of the model, and the flags of the model and what an index among the
    inputs was made with. ``formats``: what its records can be written as. ``unit``: what the model looks at, each video
    or each window of one. ``then``: what is made of the whole output. ``each`` is told each record before it is
    written.
    """
    from ..model.checkpoint.find import find_checkpoint
    from ..output.notes import Notes

    notes, form, todo = Notes(running.quiet, running.verbose), output.form(formats), inputs.expand()
    check_indexes(inputs, todo)
    read = [*(labels.sources or ()), *(labels.template or ()), *map(str, filter(None, [inputs.from_file, labels.head]))]
    output.check(form, todo, read)
    for notice in todo.notices():
        notes.say(notice)
    wanted, made_with = labels.wanted, todo.indexes[0].settings if todo.indexes else None
    model = as_made(as_learned(model, labels.learned), made_with)
    if running.dry_run:
        show_plan(todo, wanted, choose(model.name, wanted, notes), model, unit)
    counts = Tally(running.fail_fast, resumption=_resumption(output, form, inputs))
    written = output.is_continuable(form)
    with on_interrupt(lambda: end("" if notes.quiet else counts.left())):
        with counts.excused(), ExitStack() as stack:
            sink = stack.enter_context(open_sink(output, form, formats, notes, read))
            todo, counts.earlier = sink.rest(todo)
            known = [] if cluster.ray else todo.known_failures  # its machines may have what this one lacks
            if known and len(known) == len(todo.items):
                _refuse(known, counts, output, formats[form], notes)
            counts.expect(len(todo.items), known, notes)
            name = choose(model.name, wanted, notes)
            task = task_of(find_checkpoint(name, bar=notes.bar()), model, made_with)
            stack.callback(task.classifier.close)
            there = partial(_task_there, task_of, name, model, made_with)
            maker = cluster.join(there, todo.paths, notes.say, stack) or task
            records = _records(maker, task, todo, counts)
            records = _warned(records, task.classifier.warnings, form == "table", output, notes)
            records = _watched(counts.counted(records, notes.say), len(todo.items), unit, form, output, notes)
            if running.verbose:
                notes.say(maker.description())
            records = records if each is None else _told(records, each, notes)
            written = sink.take(records, lambda: signed(maker.header()), todo)
        if not counts.interrupted and counts.succeeded + counts.earlier[0]:
            then()
        _conclude(counts, notes, output, written)


def _task_there(task_of: Callable[..., Task[R]], name: str, model: ModelFlags, made: IndexSettings | None) -> Task[R]:
    """The task on a machine of a cluster, which has the model itself, or gets it. Raises ModelError."""
    from ..model.checkpoint.find import find_checkpoint

    return task_of(find_checkpoint(name), model, made)


def _records(maker: Source[R | Failure], task: Task[R], todo: Inputs, counts: Tally) -> Iterator[R | Failure]:
    """The records of all inputs, in their order: those of files by their maker, which may be a cluster. Work begins at
    once, and no more is begun once a run is to stop."""
    paths = (path for path in todo.paths if not counts.stop.is_set())
    videos = (video for video in todo.stored if not counts.stop.is_set())
    made = maker.records(paths) if todo.paths else iter(())
    return todo.in_order(made, task.stored(videos) if todo.stored else iter(()))


def signed(header: RunHeader) -> RunHeader:
    """The header with what the results should say of this run: its date, command and versions."""
    from ..cluster import versions

    libraries = versions() | {"Python": platform.python_version()}
    del libraries["xclip"]  # of which the header has a field
    command = shlex.join(["xclip", *sys.argv[1:]])
    return replace(
        header,
        began=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command[:COMMAND_LENGTH] + ("…" if len(command) > COMMAND_LENGTH else ""),
        versions=", ".join(f"{name} {number}" for name, number in libraries.items()),
    )


def _told(records: Iterator[R], each: Callable[[Record, Notes], None], notes: Notes) -> Iterator[R]:
    for record in records:
        each(record, notes)
        yield record


def _warned(
    records: Iterator[R], warnings: Sequence[str], table: bool, output: OutputFlags, notes: Notes
) -> Iterator[R]:
    """The records. What warnings say of all of them is said now, and not again in a ``table`` on the same terminal."""
    from ..output.files import is_terminal

    for warning in warnings:
        notes.say(f"warning: {warning}")
    told = table and is_terminal(output.results_file) and notes.on_terminal and not notes.quiet
    return _without(records, warnings) if told else records


def _without(records: Iterator[R], warnings: Sequence[str]) -> Iterator[R]:
    """The records that complete a video without these warnings."""
    for record in records:
        rest = tuple(warning for warning in record.warnings if warning not in warnings)
        yield replace(cast(Any, record), warnings=rest) if record.completes else record


def _refuse(known: Sequence[Failure], counts: Tally, output: OutputFlags, form: Format, notes: Notes) -> NoReturn:
    """End a run with nothing to look at, which needs no model, and makes no file."""
    from ..output.files import write

    counts.total = len(known)
    for failure in known:
        counts.count(failure)
    if output.results_file is None:
        write(form, known, None, None)
    _conclude(counts, notes, output, written=False)


def _conclude(counts: Tally, notes: Notes, output: OutputFlags, written: bool) -> NoReturn:
    """Say how the run went, and end."""
    from ..output.files import is_terminal

    file, where = (output.output_dir or output.path, output.results_file) if written else (None, None)
    counts.tell(notes, file, where, shown=is_terminal(output.results_file))
    raise typer.Exit(counts.exit_code)


def _resumption(output: OutputFlags, form: str, inputs: InputFlags) -> str:
    """How a run is continued that Ctrl-C ended."""
    if not output.is_continuable(form):
        return "only -o FILE.jsonl and --output-dir can be continued"
    command = same_command("--resume", less={"--force"})
    said = "the same command with --resume continues it" if command is None else f"to continue: {command}"
    return said + " (with the same stdin)" * ("-" in (inputs.from_file, *(inputs.videos or ())))


def choose(name: str, labels: Labels, notes: Notes) -> str:
    """A model's name, ``auto`` as the model it stands for, which is said."""
    from ..model.checkpoint.find import choose_model

    choice = choose_model(name, labels.all_texts)
    if choice.reason is not None:
        say_choice(choice.name, choice.reason, notes)
    return choice.name


def say_choice(name: str, reason: str, notes: Notes) -> None:
    """Say which model was chosen for the user, and why."""
    notes.say(f"model {name}: {reason} (--model chooses another)")


def show_plan(todo: Inputs, labels: Labels | None, name: str, model: ModelFlags, unit: str) -> NoReturn:
    """Print what the run would do, and end."""
    from ..text import printable
    from .plan import plan

    for line in plan(todo, labels, name, model, unit):
        typer.echo(printable(line))
    raise typer.Exit


def _watched(
    records: Iterator[R | Failure], total: int, unit: str, form: str, output: OutputFlags, notes: Notes
) -> Iterator[R | Failure]:
    """The records, with their progress. Where results scroll by they are the progress; but the first one of a video
    may take long."""
    from ..output.files import is_terminal
    from ..output.timelines import WITH_PARTS

    scrolls, in_parts = is_terminal(output.results_file), unit != "video"
    if scrolls and not (in_parts and form not in WITH_PARTS):
        return records
    return notes.progress(records, total, unit if in_parts else None, pause=scrolls)
