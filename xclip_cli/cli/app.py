"""The command line: flags in, library calls out. ``main`` is the only place that shows an error."""

from __future__ import annotations

import io
import os
import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer
from typer.core import TyperGroup

from .. import __version__
from ..errors import LabelsError, ModelError, ResultsError, XClipError
from ..video.sampling import DECODE_TIMEOUT, DEFAULT_LIMITS, LEAST_MEMORY, MEGABYTE, ONE_VIEW, Limits, Views

if TYPE_CHECKING:
    from ..classifier import Classifier
    from ..inputs import Inputs, Run
    from ..labels import Labels
    from ..model.checkpoint.find import Checkpoint
    from ..output.notes import Format, Notes, Step
    from ..results.records import Jsonable, Record, RunHeader
    from ..results.run_file import RunFile
    from ..timeline import TimelineRecord


class _Program(TyperGroup):
    """Escapes what usage errors say: they may quote the name of a file, which may steer a terminal."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if type(error) is not typer.BadParameter:  # a missing one quotes nothing
                raise
            from ..output.notes import printable

            raise typer.BadParameter(printable(error.message), error.ctx, error.param) from error


app = typer.Typer(
    name="xclip",
    cls=_Program,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Zero-shot video classification with X-CLIP: rank your own labels for each video.",
)
labels_app = typer.Typer(no_args_is_help=True, help="Label sets: those that come with xclip, and checking your own.")
models_app = typer.Typer(no_args_is_help=True, help="Models: what there is, what is cached, downloading, checking.")
app.add_typer(labels_app, name="labels")
app.add_typer(models_app, name="models")
cache_app = typer.Typer(no_args_is_help=True, help="The cache of labels' text features: what is there, emptying it.")
app.add_typer(cache_app, name="cache")

R = TypeVar("R", bound="Jsonable")

EXIT_FAILURE, EXIT_USAGE, EXIT_MODEL, EXIT_INTERRUPTED = 1, 2, 4, 130

CLASSIFY_HELP = """
Rank labels for videos.

Examples:

  xclip classify video.mp4 --labels labels.txt

  xclip classify video.mp4 --label "a cat" --label "a dog"

  xclip classify clips/ --recursive --labels kinetics-400 -o results.jsonl

  find . -name '*.mp4' -print0 | xclip classify --from-file - -0 -l labels.txt

Exit codes:

  0  every video classified

  1  none classified, or another readable error

  2  wrong usage, labels or templates

  3  some videos failed

  4  the model cannot be had

  130  interrupted
"""


TIMELINE_HELP = """
Find out when in videos which label fits best.

The model looks at one window of a video after another. A moment's score for a label is the mean over the windows around
it, weighted by how long they overlap; neighbouring moments with the same best label are a segment, and a border between
two segments lies midway between the centres of the windows that differ. A window that is too damaged is a record with
an error, and the others go on.

Examples:

  xclip timeline video.mp4 --labels labels.txt

  xclip timeline video.mp4 -l labels.txt --window 4 --stride 1 --min-score 0.5 -o video.srt

  xclip timeline clips/ -l labels.txt -o timelines.jsonl

Exit codes are those of classify.
"""


class OutputFormat(StrEnum):
    """How results are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


class TimelineFormat(StrEnum):
    """How timelines are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    srt = "srt"
    vtt = "vtt"


class Preprocess(StrEnum):
    """Which protocol frames are resized and cropped by."""

    hf = "hf"
    paper = "paper"


class DType(StrEnum):
    """What the model computes in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"xclip {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _time(text: str) -> Fraction:
    from ..video.sampling import parse_time

    try:
        return parse_time(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _views(text: str | Views) -> Views:
    try:
        return text if isinstance(text, Views) else Views.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _check_device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise typer.BadParameter(f"{name!r} is not auto, cpu, cuda or cuda:N")
    return name


VideosArg = Annotated[
    list[str] | None, typer.Argument(metavar="VIDEO...", help="Video files, or folders of them.", show_default=False)
]
LabelsOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--labels", "-l", metavar="FILE|NAME", help="Labels: a .txt, .csv or .json file, or a shipped set's name."
    ),
]
LabelOpt = Annotated[list[str] | None, typer.Option("--label", metavar="TEXT", help="One label; may be repeated.")]
TemplateOpt = Annotated[
    list[str] | None,
    typer.Option(
        "--template",
        metavar="TEXT|FILE|NAME",
        help="A sentence with {} for the label, or a file or shipped set of them (averaged). Default: the bare label.",
    ),
]
ModelOpt = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="XCLIP_MODEL",
        metavar="NAME",
        help="A checkpoint folder, a hub id or its short name, 'bundled', or 'auto': the bundled model if it was "
        "trained on every word of the labels, else the checkpoint for open labels, base-patch16-zero-shot.",
    ),
]
TokenizerOpt = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|NAME",
        help="Tokenizer of an authors' .pth file, which holds none. Default: base-patch32's, from the hub.",
        show_default=False,
    ),
]
HeadsOpt = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Attention heads of MIT and prompt generator. Default: the checkpoint's (see `xclip models info`).",
        show_default=False,
    ),
]
OfflineOpt = Annotated[bool, typer.Option("--offline", help="Open no connection: use what is cached.")]
JsonOpt = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ModelArg = Annotated[
    str, typer.Argument(metavar="NAME", help="A hub id or its short name (name@revision), a folder, or 'bundled'.")
]


DeviceOpt = Annotated[
    str, typer.Option(metavar="auto|cpu|cuda[:n]", callback=_check_device, help="Where to run the model.")
]
DTypeOpt = Annotated[
    DType,
    typer.Option(
        metavar="auto|float32|bfloat16|float16",
        help="Precision; auto is bfloat16 where the hardware computes it natively, else float32.",
    ),
]
PreprocessOpt = Annotated[
    Preprocess,
    typer.Option(
        metavar="hf|paper",
        help="Resize as the checkpoint's files say, or as the published accuracies were measured.",
    ),
]
ViewsOpt = Annotated[
    Views,
    typer.Option(
        parser=_views,
        metavar="CLIPSxCROPS",
        help="Average the scores of several clips of a video, and crops of each (1 or 3). The paper: 4x3.",
    ),
]
NoneOpt = Annotated[
    bool,
    typer.Option(
        "--none-of-these",
        help="Let neutral texts, such as 'something else', compete with the labels; their joint answer is 'none of "
        "these'. It is a choice between texts like any other, and not calibrated.",
    ),
]
MultiLabelOpt = Annotated[
    bool,
    typer.Option(
        "--multi-label",
        help="Score each label against the neutral texts instead of against the other labels: several may be high, or "
        "none. Scores are no probabilities; look for a threshold on videos of your own.",
    ),
]
ThresholdOpt = Annotated[
    float, typer.Option(min=0, max=1, metavar="SCORE", help="Leave out labels with lower scores; perhaps all.")
]
SaveFramesOpt = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        file_okay=False,
        help="Also write the frames as the model sees them, after the crop, as PNG files named by video and time.",
    ),
]
TopKOpt = Annotated[int, typer.Option("--top-k", "-k", min=0, metavar="N", help="Labels to show a video; 0 for all.")]
StartOpt = Annotated[
    Fraction | None, typer.Option(parser=_time, metavar="TIME", help="Look from here: seconds or HH:MM:SS.mmm.")
]
EndOpt = Annotated[Fraction | None, typer.Option(parser=_time, metavar="TIME", help="Look up to here.")]
OutputOpt = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here instead of to stdout.")
]
ForceOpt = Annotated[bool, typer.Option("--force", help="Replace an existing output file.")]
ResumeOpt = Annotated[
    bool, typer.Option("--resume", help="Go on with the .jsonl file of -o: videos recorded there are done.")
]
RetryOpt = Annotated[bool, typer.Option("--retry-failed", help="With --resume: try the videos again that failed.")]
RecursiveOpt = Annotated[bool, typer.Option("--recursive", "-r", help="Look into the folders of folders.")]
FromFileOpt = Annotated[
    str | None, typer.Option("--from-file", metavar="FILE|-", help="Read video paths from a file, one a line.")
]
NullOpt = Annotated[bool, typer.Option("-0", "--null", help="Paths in --from-file are separated by NUL bytes.")]
ThreadsOpt = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="CPU threads of the model. Default: torch's.", show_default=False),
]
WorkersOpt = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Processes that decode. Default: one a core.", show_default=False),
]
BatchSizeOpt = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Videos, or windows, computed at once. Default: what suits the device.",
        show_default=False,
    ),
]
TimeoutOpt = Annotated[
    float,
    typer.Option(min=0.1, metavar="SECONDS", help="Give up on a video after so long without progress in decoding."),
]
MaxPixelsOpt = Annotated[
    int, typer.Option("--max-pixels", min=1, metavar="N", help="Refuse videos with larger frames, width times height.")
]
MaxFramesOpt = Annotated[
    int, typer.Option("--max-frames", min=1, metavar="N", help="Refuse windows for which more frames must be decoded.")
]
MaxMemoryOpt = Annotated[
    int,
    typer.Option(
        "--max-memory",
        min=LEAST_MEMORY // MEGABYTE,
        metavar="MB",
        help="Refuse videos whose decoder needs more address space.",
    ),
]
NoCacheOpt = Annotated[bool, typer.Option("--no-cache", help="Encode the labels anew, and do not keep the result.")]
DryRunOpt = Annotated[
    bool, typer.Option("--dry-run", "-n", help="Show what would run, and do nothing.", show_default=False)
]
FailFastOpt = Annotated[bool, typer.Option("--fail-fast", help="Stop at the first video that fails.")]
QuietOpt = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")]
VerboseOpt = Annotated[bool, typer.Option("--verbose", "-v", help="Say more on stderr.")]


@app.command(help=CLASSIFY_HELP)
def classify(
    videos: VideosArg = None,
    labels: LabelsOpt = None,
    label: LabelOpt = None,
    template: TemplateOpt = None,
    model: ModelOpt = "auto",
    device: DeviceOpt = "auto",
    dtype: DTypeOpt = DType.auto,
    preprocess: PreprocessOpt = Preprocess.hf,
    tokenizer: TokenizerOpt = None,
    heads: HeadsOpt = None,
    views: ViewsOpt = ONE_VIEW,
    none_of_these: NoneOpt = False,
    multi_label: MultiLabelOpt = False,
    threshold: ThresholdOpt = 0.0,
    save_frames: SaveFramesOpt = None,
    top_k: TopKOpt = 5,
    start: StartOpt = None,
    end: EndOpt = None,
    output_format: Annotated[
        OutputFormat | None,
        typer.Option(
            "--format",
            "-f",
            metavar="table|json|jsonl|csv",
            help="Default: by the suffix of -o, else table on a terminal and jsonl otherwise.",
            show_default=False,
        ),
    ] = None,
    output: OutputOpt = None,
    force: ForceOpt = False,
    resume: ResumeOpt = False,
    retry_failed: RetryOpt = False,
    recursive: RecursiveOpt = False,
    from_file: FromFileOpt = None,
    null: NullOpt = False,
    threads: ThreadsOpt = None,
    workers: WorkersOpt = None,
    batch_size: BatchSizeOpt = None,
    timeout: TimeoutOpt = DECODE_TIMEOUT,
    max_pixels: MaxPixelsOpt = DEFAULT_LIMITS.pixels,
    max_frames: MaxFramesOpt = DEFAULT_LIMITS.frames,
    max_memory: MaxMemoryOpt = DEFAULT_LIMITS.memory // MEGABYTE,
    no_cache: NoCacheOpt = False,
    offline: OfflineOpt = False,
    dry_run: DryRunOpt = False,
    fail_fast: FailFastOpt = False,
    quiet: QuietOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Rank labels for videos."""
    from ..inputs import classify_inputs
    from ..output import notes as formats

    notes = formats.Notes(quiet)
    job = _Job(notes, output, _chosen_format(output_format, output, formats.FORMATS), force, resume, retry_failed)
    job.check(offline, start, end)
    inputs = job.inputs(videos or [], from_file, null, recursive, labels or [])
    wanted = _labels(labels, label, template, none_of_these, multi_label)
    if dry_run:
        _show_plan(inputs, wanted, _name_of_model(model, wanted, notes), device, dtype, preprocess, views, "video")
    settings = {
        "device": device,
        "dtype": dtype.value,
        "preprocess": preprocess.value,
        "views": views,
        "multi_label": multi_label,
        "save_frames": save_frames,
        "threshold": threshold,
        "threads": threads,
        "tokenizer": tokenizer,
        "heads": heads,
        "workers": workers,
        "batch_size": batch_size,
        "timeout": timeout,
        "limits": Limits(max_pixels, max_frames, max_memory * MEGABYTE),
        "cache": not no_cache,
    }

    def begin(classifier: Classifier, inputs: Inputs, run: Run) -> tuple[Iterator[Record], RunHeader]:
        records = classify_inputs(classifier, inputs, start, end, top_k, run.stop)
        return records, classifier.run_header(start, end, top_k)

    job.run(inputs, model, wanted, settings, begin, formats.FORMATS, fail_fast, verbose)


@app.command(help=TIMELINE_HELP)
def timeline(
    videos: VideosArg = None,
    labels: LabelsOpt = None,
    label: LabelOpt = None,
    template: TemplateOpt = None,
    model: ModelOpt = "auto",
    device: DeviceOpt = "auto",
    dtype: DTypeOpt = DType.auto,
    preprocess: PreprocessOpt = Preprocess.hf,
    tokenizer: TokenizerOpt = None,
    heads: HeadsOpt = None,
    views: ViewsOpt = ONE_VIEW,
    none_of_these: NoneOpt = False,
    multi_label: MultiLabelOpt = False,
    save_frames: SaveFramesOpt = None,
    top_k: TopKOpt = 5,
    start: StartOpt = None,
    end: EndOpt = None,
    window: Annotated[
        Fraction | None,
        typer.Option(
            parser=_time,
            metavar="SECONDS",
            help="How much of a video the model looks at at once. Default: 10, about what the public checkpoints were "
            "trained on; 2 for the bundled model, whose labels may last a moment.",
            show_default=False,
        ),
    ] = None,
    stride: Annotated[
        Fraction | None,
        typer.Option(
            parser=_time,
            metavar="SECONDS",
            help="From the start of a window to that of the next. Default: half a window, so that each moment is "
            "looked at twice, and what happens on a border is in the middle of another window.",
            show_default=False,
        ),
    ] = None,
    min_score: Annotated[
        float, typer.Option(min=0, max=1, metavar="SCORE", help="Where the best score is lower, there is no segment.")
    ] = 0.0,
    min_duration: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Segments that are shorter go, the shortest first; between two of one label, these become one.",
        ),
    ] = 0.0,
    output_format: Annotated[
        TimelineFormat | None,
        typer.Option(
            "--format",
            "-f",
            metavar="table|json|jsonl|csv|srt|vtt",
            help="Default: by the suffix of -o, else table on a terminal and jsonl otherwise. srt and vtt are "
            "subtitles for one video.",
            show_default=False,
        ),
    ] = None,
    output: OutputOpt = None,
    force: ForceOpt = False,
    resume: ResumeOpt = False,
    retry_failed: RetryOpt = False,
    recursive: RecursiveOpt = False,
    from_file: FromFileOpt = None,
    null: NullOpt = False,
    threads: ThreadsOpt = None,
    workers: WorkersOpt = None,
    batch_size: BatchSizeOpt = None,
    timeout: TimeoutOpt = DECODE_TIMEOUT,
    max_pixels: MaxPixelsOpt = DEFAULT_LIMITS.pixels,
    max_frames: MaxFramesOpt = DEFAULT_LIMITS.frames,
    max_memory: MaxMemoryOpt = DEFAULT_LIMITS.memory // MEGABYTE,
    no_cache: NoCacheOpt = False,
    offline: OfflineOpt = False,
    dry_run: DryRunOpt = False,
    fail_fast: FailFastOpt = False,
    quiet: QuietOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Find out when in videos which label fits best."""
    from ..inputs import timelines
    from ..output import notes as formats
    from ..output.timelines import FORMATS, ONE_VIDEO
    from ..timeline import Rules, WindowRecord
    from ..video.sampling import check_windows

    notes = formats.Notes(quiet)
    job = _Job(notes, output, _chosen_format(output_format, output, FORMATS), force, resume, retry_failed)
    job.check(offline, start, end)
    inputs = job.inputs(videos or [], from_file, null, recursive, labels or [])
    if job.form in ONE_VIDEO and len(inputs.items) > 1:
        raise typer.BadParameter(
            f"{job.form} holds the subtitles of one video, and there are {len(inputs.items)}: give one, or another "
            "--format"
        )
    wanted = _labels(labels, label, template, none_of_these, multi_label)
    if dry_run:
        _show_plan(inputs, wanted, _name_of_model(model, wanted, notes), device, dtype, preprocess, views, "window")
    settings = {
        "device": device,
        "dtype": dtype.value,
        "preprocess": preprocess.value,
        "views": views,
        "multi_label": multi_label,
        "save_frames": save_frames,
        "threads": threads,
        "tokenizer": tokenizer,
        "heads": heads,
        "workers": workers,
        "batch_size": batch_size,
        "timeout": timeout,
        "limits": Limits(max_pixels, max_frames, max_memory * MEGABYTE),
        "cache": not no_cache,
    }

    def begin(classifier: Classifier, inputs: Inputs, run: Run) -> tuple[Iterator[TimelineRecord], RunHeader]:
        length = classifier.usual_window if window is None else window
        rules = Rules(length, length / 2 if stride is None else stride, min_score, min_duration)
        try:
            check_windows(rules.window, rules.stride)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from error
        records = timelines(classifier, inputs, rules, start, end, top_k, run.stop)
        return records, rules.header(classifier.run_header(start, end, top_k))

    def step(record: TimelineRecord) -> formats.Step:
        """How far a video is; just less than done with its last window: its segments come yet."""
        if isinstance(record, WindowRecord):
            return formats.Step(min(record.share, 0.999), record.record.end_seconds)
        return formats.Step(1)

    job.run(inputs, model, wanted, settings, begin, FORMATS, fail_fast, verbose, step)


class _Job:
    """A run of classify or timeline: where results go, and what of it they share."""

    def __init__(
        self, notes: Notes, output: Path | None, form: str, force: bool, resume: bool, retry_failed: bool
    ) -> None:
        self.notes = notes
        self.output = output
        self.form = form
        self.force = force
        self.resume = resume
        self.retry_failed = retry_failed

    def check(self, offline: bool, start: Fraction | None, end: Fraction | None) -> None:
        """Refuse flags that do not go together."""
        if offline:
            switch_off_hub()
        if end is not None and end <= (start or 0):
            raise typer.BadParameter(f"--start {float(start or 0):g} s is not before --end {float(end):g} s")
        if self.resume and (self.output is None or self.form != "jsonl" or self.force):
            raise typer.BadParameter("--resume goes on with a results file: pass it as -o FILE.jsonl, without --force")
        if self.retry_failed and not self.resume:
            raise typer.BadParameter("--retry-failed goes with --resume")

    def inputs(
        self, videos: list[str], from_file: str | None, null: bool, recursive: bool, labels: list[str]
    ) -> Inputs:
        """What to look at, after a check that the output destroys none of it."""
        from ..inputs import expand_inputs, read_path_list
        from ..output.notes import check_output

        try:
            given = [*videos, *(read_path_list(from_file, null) if from_file else [])]
            inputs = expand_inputs(given, recursive)
            if self.output is not None:
                others = [*inputs.paths, *labels, *([from_file] if from_file else [])]
                check_output(self.output, self.force or self.resume, others)
        except ResultsError as error:
            raise typer.BadParameter(str(error)) from error
        if not given:
            raise typer.BadParameter("give at least one video or folder, or a list of them with --from-file")
        for notice in inputs.notices():
            self.notes.say(notice)
        return inputs

    def run(
        self,
        inputs: Inputs,
        model: str,
        labels: Labels,
        settings: dict[str, Any],
        begin: Callable[[Classifier, Inputs, Run], tuple[Iterator[R], RunHeader]],
        formats: Mapping[str, Format[R]],
        fail_fast: bool,
        verbose: bool,
        step: Callable[[R], Step] | None = None,
    ) -> None:
        """Write the records that ``begin`` gives; raises typer.Exit with the run's exit code. ``step``: where records
        are parts of videos, how far one is."""
        from ..classifier import Classifier
        from ..inputs import Run
        from ..output.notes import WITH_PARTS, is_special, is_terminal, write
        from ..results.run_file import RunFile

        output, notes = self.output, self.notes
        try:
            with ExitStack() as stack:
                run = Run(fail_fast)
                run_file = None
                if output is not None and self.form == "jsonl" and not is_special(output):
                    run_file = stack.enter_context(RunFile(output, self.resume))
                    inputs, run.earlier = _not_done(inputs, run_file, self.retry_failed, notes)
                found = _find_model(model, labels, notes)
                classifier = stack.enter_context(Classifier(found, labels=labels, **settings))
                begun, header = begin(classifier, inputs, run)
                records = run.counted(begun, notes.say)
                for warning in classifier.warnings:
                    notes.say(f"warning: {warning}")
                # Where results scroll by, they are the progress; but those of a video may take long.
                scrolls = is_terminal(output)
                if not scrolls or (step is not None and self.form not in WITH_PARTS):
                    records = notes.progress(records, len(inputs.items), step, pause=scrolls)
                if verbose:
                    notes.say(classifier.description())
                if run_file is not None:
                    run_file.begin(header, retried=inputs.names if self.retry_failed else ())
                    for record in records:
                        run_file.add(record)
                else:
                    write(formats[self.form], records, output, None if output is None else header, self.force)
        except KeyboardInterrupt:
            raise typer.Exit(EXIT_INTERRUPTED) from None
        if self.form == "table" and is_terminal(output):
            notes.say(f"{classifier.description()}: {run.summary()}")
        elif len(inputs.items) > 1:
            notes.say(run.summary())
        if len(inputs.items) > 1:
            for line in run.failures():
                notes.say(line)
        raise typer.Exit(EXIT_INTERRUPTED if run.interrupted else run.exit_code)


def _labels(
    labels: list[str] | None,
    label: list[str] | None,
    template: list[str] | None,
    none_of_these: bool,
    multi_label: bool,
) -> Labels:
    """What to choose from."""
    from ..labels import load_labels

    if none_of_these and multi_label:
        raise typer.BadParameter(
            "--none-of-these goes without --multi-label, where a video shows none of the labels when all are low"
        )
    wanted = load_labels(labels or [], label or [], template or [])
    return wanted.with_background() if none_of_these or multi_label else wanted


def _show_plan(
    inputs: Inputs,
    labels: Labels,
    model: str,
    device: str,
    dtype: DType,
    preprocess: Preprocess,
    views: Views,
    unit: str,
) -> NoReturn:
    """Print what a run would do, and end."""
    from ..inputs import plan
    from ..output.notes import printable

    for line in plan(inputs, labels, model, device, dtype.value, preprocess.value, views, unit):
        typer.echo(printable(line))
    raise typer.Exit


def _not_done(inputs: Inputs, run_file: RunFile, retry_failed: bool, notes: Notes) -> tuple[Inputs, tuple[int, int]]:
    """What a run that goes on with a file has to do, and how many videos are classified, and failed, already."""
    if run_file.torn:
        notes.say(f"the last record of {run_file.path} was cut off: its video is classified again")
    if run_file.unfinished:
        notes.say(f"{len(run_file.unfinished)} videos of {run_file.path} were not finished: they are begun again")
    rest = inputs.without(run_file.done(retry_failed))
    earlier = run_file.counts(set(inputs.names) - set(rest.names))
    if sum(earlier):
        notes.say(f"{sum(earlier)} of {len(inputs.items)} videos are recorded already")
    return rest, earlier


@app.command()
def report(
    results: Annotated[Path, typer.Argument(metavar="RESULTS.jsonl", help="What `xclip classify -o` wrote.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page, an HTML file.")],
    root: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Where the videos are now: looked up there by their paths, or the ends of them.",
        ),
    ] = None,
    thumbnails: Annotated[
        int, typer.Option(min=0, metavar="N", help="Pictures on the page, shared out evenly among videos; 0: none.")
    ] = 2000,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing output file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors on stderr.")] = False,
) -> None:
    """Make one self-contained HTML page of a run's results, with frames of the videos."""
    from ..output import notes as formats
    from ..report.page import render
    from ..report.thumbnails import Gallery
    from ..results.reading import read_results

    notes = formats.Notes(quiet)
    found = read_results(results)
    for notice in found.notices:
        notes.say(f"{results}: {notice}")
    gallery = Gallery(found, thumbnails, root)
    try:
        formats.check_output(output, force, [str(results), *(request.clip.path for request in gallery.requests)])
    except ResultsError as error:
        raise typer.BadParameter(str(error)) from error
    try:
        for _ in notes.steps(gallery.fill(), len(gallery.requests), "decoding"):
            pass
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    if missing := gallery.thumbnails.missing:
        hint = "" if root else " (--root DIR says where they have moved)"
        notes.say(f"no pictures of {len(missing)} videos: the page says why{hint}")
    formats.replace_file(output, render(found, gallery.thumbnails, results.name))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to write the sample videos.")] = Path(
        "xclip-demo"
    ),
) -> None:
    """Write a few sample videos and classify them with the bundled model: no network needed."""
    from ..bundled.generator import write_samples

    folder.mkdir(parents=True, exist_ok=True)
    samples = [str(path) for path, _ in write_samples(folder)]
    typer.echo(f"$ xclip classify {folder} --labels picture-state --model bundled --top-k 3", err=True)
    classify(samples, ["picture-state"], model="bundled", top_k=3, output_format=OutputFormat.table)


@app.command()
def doctor(json_: JsonOpt = False) -> None:
    """Show versions, devices and caches, and prove that decoding and the model work; exit 1 if anything does not."""
    import json

    from ..doctor import examine
    from ..output.notes import format_fields, printable

    report = examine()
    if json_:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        typer.echo(format_fields(report.facts))
        for note in report.notes:
            typer.echo(printable(f"note: {note}"))
        for check in report.checks:
            typer.echo(printable(check.line()))
    raise typer.Exit(0 if report.healthy else EXIT_FAILURE)


def _chosen_format(asked: StrEnum | None, output: Path | None, known: Iterable[str]) -> str:
    """The format asked for, else that of the output's suffix, else table on a terminal and jsonl otherwise.

    ``known``: those that the command has.
    """
    from ..output.notes import format_of, is_terminal

    if asked is not None:
        return asked.value
    if output is not None:
        found = format_of(output)
        if found is None or found not in known:
            raise typer.BadParameter(f"{output} has no suffix that names a format: pass --format")
        return found
    return "table" if is_terminal(None) else "jsonl"


def switch_off_hub() -> None:
    """Have huggingface_hub open no connection; it reads its settings once, when it is imported."""
    os.environ["HF_HUB_OFFLINE"] = "1"


def _name_of_model(name: str, labels: Labels, notes: Notes) -> str:
    """``auto`` as the model it stands for, which is said."""
    if name != "auto":
        return name
    from ..model.checkpoint.find import choose_model

    name, reason = choose_model(labels.all_texts)
    notes.say(f"model {name}: {reason} (--model chooses another)")
    return name


def _find_model(name: str, labels: Labels, notes: Notes) -> Checkpoint:
    from ..model.checkpoint.find import find_checkpoint

    return find_checkpoint(_name_of_model(name, labels, notes), bar=notes.bar())


@models_app.command("list")
def list_models(json_: JsonOpt = False) -> None:
    """List the bundled model and the public checkpoints: sizes, published accuracy, whether they are cached."""
    import json

    from ..model.describe import list_models
    from ..output.notes import print_models

    rows = list_models()
    if json_:
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_models(rows)


@models_app.command("info")
def show_model(name: ModelArg, json_: JsonOpt = False, offline: OfflineOpt = False) -> None:
    """Show what a model is: sizes, cost of a clip, memory, where it comes from. Weights are not loaded."""
    import json

    if offline:
        switch_off_hub()
    from ..model.describe import describe
    from ..output.notes import format_fields

    values = describe(name)
    typer.echo(json.dumps(values, indent=2) if json_ else format_fields(values))


@models_app.command("pull")
def pull_model(name: ModelArg) -> None:
    """Download a model, unless it is cached, and print its folder."""
    from ..model.checkpoint.find import find_checkpoint
    from ..output.notes import Notes

    typer.echo(find_checkpoint(name, bar=Notes().bar()).folder)


@models_app.command("path")
def show_path(name: ModelArg) -> None:
    """Print a model's folder; exit 4 if it is not cached. Opens no connection."""
    switch_off_hub()
    from ..model.checkpoint.find import find_checkpoint

    typer.echo(find_checkpoint(name).folder)


@models_app.command("verify")
def verify_model(
    name: ModelArg,
    published: Annotated[
        bool, typer.Option("--published", help="Also compare with the probabilities and logits that were published.")
    ] = False,
    offline: OfflineOpt = False,
) -> None:
    """Check a model's files against the hub's hashes, load it and compute with it; exit 1 if anything is wrong."""
    from ..output.notes import Notes, printable

    if offline:
        switch_off_hub()
    from ..model.checkpoint.find import find_checkpoint
    from ..model.verify import verify

    wrong = 0
    for check in verify(find_checkpoint(name, bar=Notes().bar()), published):
        typer.echo(printable(check.line()))
        wrong += not check.passed
    raise typer.Exit(EXIT_FAILURE if wrong else 0)


@models_app.command("convert")
def convert_model(
    source: Annotated[str, typer.Argument(metavar="FILE", help="A .pth of X-CLIP's authors, or any other model.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    tokenizer: TokenizerOpt = None,
    heads: HeadsOpt = None,
    offline: OfflineOpt = False,
) -> None:
    """Write a checkpoint as a Hugging Face-style folder."""
    if offline:
        switch_off_hub()
    from ..model.checkpoint.find import find_checkpoint
    from ..model.loading import convert

    if folder.exists():
        raise typer.BadParameter(f"{folder} exists: give a new folder")
    convert(find_checkpoint(source), folder, tokenizer, heads)
    typer.echo(folder)


@labels_app.command("list")
def list_labels() -> None:
    """List the label sets and templates that come with xclip."""
    from ..labels import read_labels, read_templates, shipped

    for name, path in shipped("labels").items():
        typer.echo(f"{name:<16} {len(read_labels(str(path))):>4} labels")
    for name, path in shipped("templates").items():
        typer.echo(f"{name:<16} {len(read_templates(str(path))):>4} template(s)")


@labels_app.command("show")
def show_labels(name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped set's name.")]) -> None:
    """Print the labels, or templates, of a shipped set, one a line."""
    from ..labels import read_labels, read_templates, shipped

    if name in shipped("templates"):
        typer.echo("\n".join(read_templates(name)))
    else:
        typer.echo("\n".join(label for label, _ in read_labels(name)))


@labels_app.command("check")
def check_labels(
    source: Annotated[str, typer.Argument(metavar="FILE|NAME", help="A label file, or a shipped set's name.")],
    template: TemplateOpt = None,
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", metavar="NAME", help="Also check that this model can take the texts."),
    ] = None,
) -> None:
    """Check a label file: exit 0 and a count, or the first fault with its line and exit 2."""
    from ..labels import load_labels
    from ..output.notes import Notes

    labels = load_labels([source], templates=template or [])
    warnings = labels.warnings
    if model is not None:
        from ..classifier import Classifier

        with Classifier(model, labels=labels) as classifier:
            warnings = classifier.warnings
    notes = Notes()
    for warning in warnings:
        notes.say(f"warning: {warning}")
    typer.echo(f"{len(labels.names)} labels, {len(labels.all_texts)} texts: no faults")


@cache_app.command("info")
def show_cache(json_: JsonOpt = False) -> None:
    """Show where text features are kept, and how much of it there is."""
    import json

    from ..engine.cache import FeatureCache
    from ..output.notes import format_fields

    cache = FeatureCache()
    values = {
        "folder": str(cache.folder),
        "label sets": len(cache.entries()),
        "bytes": cache.size(),
        "limit in bytes": cache.limit,
    }
    typer.echo(json.dumps(values, indent=2) if json_ else format_fields(values))


@cache_app.command("clear")
def clear_cache() -> None:
    """Delete the text features that are kept. Downloaded models stay: they are the hub's."""
    from ..engine.cache import FeatureCache

    typer.echo(f"deleted {FeatureCache().clear()} files")


def main() -> None:
    """Run the program: errors of ours, and the system's, are one line on stderr; bugs keep their traceback."""
    _prepare_process()
    try:
        app()
    except SystemExit as end:
        if "torch" in sys.modules and isinstance(end.code, int):
            _leave(end.code)
        raise
    except (XClipError, OSError) as error:
        if os.environ.get("XCLIP_DEBUG"):
            raise
        from ..output.notes import printable

        print(f"error: {printable(_one_line(error))}", file=sys.stderr)
        codes: dict[type[Exception], int] = {LabelsError: EXIT_USAGE, ModelError: EXIT_MODEL}
        sys.exit(codes.get(type(error), EXIT_FAILURE))


def _leave(code: int) -> None:
    """End the process now: to take torch apart object by object takes Python half a second, and nothing needs it."""
    with suppress(OSError, ValueError):  # a closed pipe, which was reported when it was written to
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    os._exit(code)


def _prepare_process() -> None:
    """Make sure of what a program takes for granted."""
    for descriptor in range(3):  # a closed one would be taken by the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the decode workers need them too
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold bytes that no encoding has
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what is open is closed


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
