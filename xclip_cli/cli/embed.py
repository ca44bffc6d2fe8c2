"""xclip embed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ..engine.devices import AUTO
from ..text import counted, sized
from .cluster import ClusterFlags
from .flags import DecodeFlags, InputFlags, ModelFlags, RunFlags
from .interrupt import end, on_interrupt, same_command
from .options import DType, seconds, usage_errors
from .tally import Tally

if TYPE_CHECKING:
    from ..cluster import Cluster
    from ..embedding import Chunked, ChunkEmbedding, Embedding
    from ..engine.encoder import Encoder
    from ..inputs import Inputs
    from ..output.notes import Notes
    from ..results.lines import IndexSettings


@dataclass(frozen=True)
class IndexFlags:
    """Where encodings go, and what they are made of."""

    panel: ClassVar[str] = "Index"

    path: Annotated[Path, typer.Option("--output", "-o", metavar="INDEX", file_okay=False, help="The index folder.")]
    window: Annotated[
        Fraction | None,
        typer.Option(
            parser=seconds,
            metavar="SECONDS",
            help="Encode windows of this length, for search and timeline. Default: whole videos, for classify.",
        ),
    ] = None
    stride: Annotated[
        Fraction | None,
        typer.Option(
            parser=seconds,
            metavar="SECONDS",
            help="Time between the starts of consecutive windows. Default: half a window.",
        ),
    ] = None
    compact: Annotated[
        bool, typer.Option("--compact", help="Store 8-bit numbers: half the size; scores differ in the third digit.")
    ] = False
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also retry the videos that failed.")] = False

    def windows(self) -> tuple[Fraction | None, Fraction | None]:
        """Window and stride. Raises typer.BadParameter."""
        from ..video.sampling import check_windows

        if self.window is None:
            if self.stride is not None:
                raise typer.BadParameter("--stride requires --window")
            return None, None
        stride = self.window / 2 if self.stride is None else self.stride
        with usage_errors(ValueError):
            check_windows(self.window, stride)
        return self.window, stride

    def complete(self, model: ModelFlags, notes: Notes) -> ModelFlags:
        """The model's flags: ``auto`` stands for what an index that is there was made with, else for the model of any
        labels, which is said."""
        from ..model.checkpoint.public import OPEN_LABELS_MODEL
        from ..results.lines import is_index, read_settings
        from .run import say_choice

        if not is_index(self.path):
            if model.name != AUTO:
                return model
            say_choice(OPEN_LABELS_MODEL, "for any labels", notes)
            return replace(model, name=OPEN_LABELS_MODEL)
        made = read_settings(self.path)
        return replace(
            model,
            name=made.model_name if model.is_default else model.name,
            dtype=DType(made.dtype) if model.dtype == DType.auto else model.dtype,
        )


class FileFlags(InputFlags):
    """Videos and folders: no index, so nothing to choose in one."""

    omitted: ClassVar = ("only",)


def embed(
    inputs: FileFlags,
    index: IndexFlags,
    model: ModelFlags,
    decoding: DecodeFlags,
    cluster: ClusterFlags,
    running: RunFlags,
) -> None:
    """Encode videos into an index, to query it later without decoding.

    Videos that the index already contains, even under another path, are skipped; videos that changed are replaced. The
    same command continues an interrupted run. With --ray, all machines must share the folder of the index.

    Examples:
      xclip embed clips -o clips.index --model bundled --window 1
      xclip timeline clips.index --labels picture-state
      xclip embed films/ -r -o films.index --window 10 --stride 5
      xclip search "a dog jumps" films.index

    Exit codes: see `xclip classify --help`.
    """
    from ..embedding import Embedding
    from ..output.notes import Notes
    from .run import show_plan

    notes, todo = Notes(running.quiet, running.verbose), inputs.expand()
    if todo.indexes:
        raise typer.BadParameter("embed takes videos, not indexes: `xclip index merge` combines indexes")
    for notice in todo.notices():
        notes.say(notice)
    unit = "video" if index.windows()[0] is None else "window"
    model = index.complete(model, notes)
    if running.dry_run:
        show_plan(todo, None, model.name, model, unit)
    counts = Tally(running.fail_fast, "embedded", _resumption())
    known = [] if cluster.ray else todo.known_failures  # its machines may have what this one lacks
    counts.expect(len(todo.items), known, notes)
    if len(known) == len(todo.items):
        raise typer.Exit(counts.of_failures(known, notes))
    with on_interrupt(lambda: end("" if notes.quiet else counts.left())), counts.excused(), ExitStack() as stack:
        encoder, made = _encoder(inputs, index, model, decoding, notes.bar())
        if cluster.ray and model.dtype == DType.auto:
            model = replace(model, dtype=DType(made.dtype))
            notes.say(f"the index is computed in {made.dtype}, this machine's default (--dtype chooses another)")
        task = Embedding(encoder, index.path, made, index.retry_failed)
        stack.callback(task.close)
        for part, videos in task.writer.damaged.items():
            notes.say(f"the part {part} is damaged: {len(videos)} videos were dropped from the index")

        def join(paths: list[str]) -> Cluster[Chunked] | None:
            there = partial(_task_there, inputs, index, model, decoding, made, task.chunks())
            return cluster.join(there, paths, notes.say, stack)

        _run(task, todo, join, counts, notes, unit)
    counts.tell(notes)
    notes.say(_sizes(index.path))
    raise typer.Exit(counts.exit_code)


def _resumption() -> str:
    command = same_command()
    return "the same command continues it" if command is None else f"to continue: {command}"


def _encoder(
    inputs: InputFlags, index: IndexFlags, model: ModelFlags, decoding: DecodeFlags, bar: type | None = None
) -> tuple[Encoder, IndexSettings]:
    """What encodes, and what an index of that is made with. Raises ModelError."""
    from ..embedding import index_settings
    from ..engine.encoder import Encoder
    from ..model.checkpoint.find import find_checkpoint
    from ..output.images import FrameFolder

    settings = model.settings() | decoding.settings()
    del settings["tokenizer"]  # there are no texts
    folder = settings.pop("save_frames")
    checkpoint = find_checkpoint(model.name, bar=bar)
    encoder = Encoder(checkpoint, **settings, saver=FrameFolder(folder) if folder else None)
    return encoder, index_settings(encoder, index.compact, inputs.start, inputs.end, *index.windows())


def _task_there(
    inputs: InputFlags,
    index: IndexFlags,
    model: ModelFlags,
    decoding: DecodeFlags,
    wanted: IndexSettings,
    folder: Path,
) -> ChunkEmbedding:
    """The task on a machine of a cluster, which has the model itself, or gets it. Raises ModelError, ResultsError."""
    from ..embedding import ChunkEmbedding

    return ChunkEmbedding(*_encoder(inputs, index, model, decoding), wanted, folder)


def _run(
    task: Embedding,
    todo: Inputs,
    join: Callable[[list[str]], Cluster[Chunked] | None],
    counts: Tally,
    notes: Notes,
    unit: str,
) -> None:
    """Embed what the index does not hold yet. ``join``: gives the cluster that does, if one does."""
    known = task.done(todo.paths)
    failed = sum(task.writer.entries[video].line.error is not None for video in known)
    counts.earlier = len(known) - failed, failed
    if known:
        moved = f", {task.moved} of them under another path" if task.moved else ""
        as_failed = f", {failed} of them as failed (--retry-failed retries them)" if failed else ""
        notes.say(f"{len(known)} of {len(todo.items)} videos are already in the index{moved}{as_failed}")
    rest = todo.without(known)
    counts.total = len(rest.items)
    paths = (path for path in rest.paths if not counts.stop.is_set())
    cluster = join(rest.paths)
    if cluster is not None:
        made = task.gather(cluster.records(paths))
    else:
        made = task.records(paths) if rest.paths else iter(())
    records = rest.in_order(made, iter(()))
    for warning in task.warnings:
        notes.say(f"warning: {warning}")
    if notes.verbose:
        notes.say((cluster or task).description())
    part = None if unit == "video" else unit
    for _ in notes.progress(counts.counted(records, notes.say), len(rest.items), part, doing="embedding"):
        pass


def _sizes(folder: Path) -> str:
    """What an index holds, in a line."""
    from ..results.index import Index
    from .index import size_of

    with Index.open(folder) as index:
        count, size = index.num_windows, size_of(folder)
        each = f", {size / count / 1000:.1f} kB per window" if count else ""
        return f"{folder}: {counted(len(index), 'video')}, {counted(count, 'window')}, {sized(size)}{each}"
