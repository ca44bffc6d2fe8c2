"""A run: a task over inputs into an output, from the flags to the exit code.

Everything that can be wrong with flags, labels and names is found before anything heavy is imported or any video read.
"""

from __future__ import annotations

import platform
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, NoReturn, Protocol, TypeVar

import typer

from ..text import pace
from .cluster import ClusterFlags
from .exits import FAILURE, INTERRUPTED, SOME_FAILED
from .flags import InputFlags, LabelFlags, ModelFlags, OutputFlags, RunFlags
from .indexed import as_learned, as_made, check_indexes
from .sinks import open_sink

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

FAILURES_LISTED = 20  # at the end of a run
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
    from ..output.files import is_terminal
    from ..output.notes import Notes

    notes, form, todo = Notes(running.quiet), output.form(formats), inputs.expand()
    check_indexes(inputs, todo)
    output.check(form, todo, [*(labels.sources or ()), *filter(None, [inputs.from_file])])
    for notice in todo.notices():
        notes.say(notice)
    wanted, made_with = labels.wanted, todo.indexes[0].settings if todo.indexes else None
    model = as_made(as_learned(model, labels.learned), made_with)
    if running.dry_run:
        show_plan(todo, wanted, choose(model.name, wanted, notes), model, unit)
    counts = Tally(running.fail_fast)
    try:
        with ExitStack() as stack:
            sink = stack.enter_context(open_sink(output, form, formats, notes))
            todo, counts.earlier = sink.rest(todo)
            name = choose(model.name, wanted, notes)
            task = task_of(find_checkpoint(name, bar=notes.bar()), model, made_with)
            stack.callback(task.classifier.close)
            there = partial(_task_there, task_of, name, model, made_with)
            maker = cluster.join(there, todo.paths, unit, notes.say, stack) if cluster.ray and todo.paths else task
            records = _records(maker, task, todo, counts)
            for warning in task.classifier.warnings:
                notes.say(f"warning: {warning}")
            records = _watched(counts.counted(records, notes.say), len(todo.items), unit, form, output, notes)
            if running.verbose:
                notes.say(maker.description())
            records = records if each is None else _told(records, each, notes)
            sink.take(records, lambda: signed(maker.header()), todo)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    if not counts.interrupted:
        then()
    _conclude(counts, maker.description(), notes, form == "table" and is_terminal(output.results_file), todo)


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


def _conclude(counts: Tally, description: str, notes: Notes, scrolled: bool, todo: Inputs) -> NoReturn:
    """Say how the run went, and end. ``scrolled``: whether its results are on the terminal."""
    many = len(todo.items) > 1
    if scrolled:
        notes.say(f"{description}: {counts.summary(len(todo.items))}")
    elif many:
        notes.say(counts.summary(len(todo.items)))
    for line in counts.failures() if many else ():
        notes.say(line)
    raise typer.Exit(counts.exit_code)


def choose(name: str, labels: Labels, notes: Notes) -> str:
    """A model's name, ``auto`` as the model it stands for, which is said."""
    from ..model.checkpoint.find import choose_model

    choice = choose_model(name, labels.all_texts)
    if choice.reason is not None:
        notes.say(f"model {choice.name}: {choice.reason} (--model chooses another)")
    return choice.name


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


class Tally:
    """Counts a run's records as they pass, and ends it in good order on Ctrl-C.

    ``verb``: what is done with videos, in the past.
    """

    def __init__(self, fail_fast: bool = False, verb: str = "classified") -> None:
        self.fail_fast = fail_fast
        self.verb = verb
        self.earlier = 0, 0  # how many that was done with, and how many failed, in a run that this one goes on with
        self.succeeded = 0
        self.failed = 0
        self._failures: list[str] = []  # the first ones, a line each
        self.stop = threading.Event()  # set where no more videos should be begun
        self.interrupted = False
        self._began = time.monotonic()

    def counted(self, records: Iterator[R], say: Callable[[str], None] = lambda text: None) -> Iterator[R]:
        """The records. Ctrl-C lets those in flight finish, a second one ends at once; with ``fail_fast`` the first
        failure does."""

        def interrupt(*_: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            self.stop.set()
            say("interrupted: finishing what is in flight; Ctrl-C again stops at once")

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            for record in records:
                self._count(record)
                yield record
                if self.fail_fast and self.failed:
                    return
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            signal.signal(signal.SIGINT, before)

    def _count(self, record: Record) -> None:
        if not record.completes:
            return
        if (error := record.error) is None:
            self.succeeded += 1
            return
        self.failed += 1
        if self.failed <= FAILURES_LISTED:
            self._failures.append(f"  failed: {record.video}: {error.message}")

    @property
    def exit_code(self) -> int:
        """The run's (see ``exits``): success, or INTERRUPTED, or FAILURE where no video succeeded, else SOME_FAILED."""
        if self.interrupted:
            return INTERRUPTED
        if not self.failed + self.earlier[1]:
            return 0
        return SOME_FAILED if self.succeeded + self.earlier[0] else FAILURE

    def failures(self) -> Iterator[str]:
        """What failed, a line each, and how many more did."""
        yield from self._failures
        if self.failed > len(self._failures):
            yield f"  and {self.failed - len(self._failures)} more"

    def summary(self, total: int) -> str:
        """One line. ``total``: videos that there were to be done."""
        seconds = time.monotonic() - self._began
        failed = f", {self.failed} failed" if self.failed else ""
        speed = pace(self.succeeded + self.failed, seconds, "video")
        return f"{self.succeeded} of {total} videos {self.verb}{failed} in {seconds:.1f} s ({speed})"
