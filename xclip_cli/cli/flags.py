"""The flags of the commands, each declared once, in groups: a group is a frozen dataclass and a panel of the help.

A command names the groups it takes (``def classify(inputs: InputFlags, labels: LabelFlags, …)``), and ``takes_flags``
spells them out for typer. Checks of a group's flags, and what the library needs of them, stand with the group.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from ..engine.devices import AUTO, DEVICES
from ..errors import LabelsError, ResultsError
from ..video.limits import (
    DECODE_TIMEOUT,
    DEFAULT_LIMITS,
    LEAST_MEMORY,
    MEGABYTE,
    SECONDS,
    SECONDS_A_WINDOW,
    Limits,
)
from ..video.sampling import ONE_VIEW, Views
from .help import RUN
from .options import (
    MODEL_VARIABLE,
    MOST_THREADS,
    DType,
    End,
    Force,
    HeadFile,
    Heads,
    Null,
    Offline,
    OutputDir,
    OutputFormat,
    Preprocess,
    Quiet,
    Resume,
    RetryFailed,
    Start,
    Templates,
    Tokenizer,
    UsualModel,
    check_device,
    either,
    form_of,
    offer_devices,
    offer_labels,
    offer_models,
    read_shard,
    read_views,
    tell_usual,
    usage_errors,
)

if TYPE_CHECKING:
    from ..adaptation import Head
    from ..inputs import Inputs
    from ..labels import Labels


@dataclass(frozen=True)
class InputFlags:
    """Which videos, and which part of them."""

    panel: ClassVar[str] = "Inputs"

    videos: Annotated[
        list[str] | None,
        typer.Argument(metavar="VIDEO", help="Video files or folders; - reads one video from stdin."),
    ] = None
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Search folders recursively.")] = False
    from_file: Annotated[
        str | None, typer.Option("--from-file", metavar="FILE|-", help="Read video paths from a file, one per line.")
    ] = None
    null: Null = False
    only: Annotated[
        str | None,
        typer.Option(metavar="PATTERN", help="With an index: only videos whose path or name matches, such as '*.mp4'."),
    ] = None
    shard: Annotated[
        Any,  # a Shard: typer reads these lines when nothing has imported that yet
        typer.Option(
            parser=read_shard,
            metavar="I/N",
            help="Process only the I-th of N shares of the inputs, split by a hash of their paths: one share per "
            "machine. `xclip merge` combines the results.",
        ),
    ] = None
    start: Start = None
    end: End = None

    def __post_init__(self) -> None:
        start = self.start or Fraction(0)
        if self.end is not None and self.end <= start:
            raise typer.BadParameter(f"--start ({float(start):g} s) must be before --end ({float(self.end):g} s)")

    def expand(self) -> Inputs:
        """The inputs to analyse. Raises typer.BadParameter if there are none, or the list cannot be read."""
        from ..inputs import expand_inputs, read_path_list

        given = list(self.videos or ())
        if self.from_file:
            with usage_errors(ResultsError):
                given += read_path_list(self.from_file, self.null)
        if not given:
            raise typer.BadParameter("no inputs: pass at least one video or folder, or a list with --from-file")
        with usage_errors(ResultsError):
            found = expand_inputs(given, self.recursive, self.only)
        return found.sharded(self.shard) if self.shard is not None else found


@dataclass(frozen=True)
class LabelFlags:
    """What to choose from."""

    panel: ClassVar[str] = "Labels"

    sources: Annotated[
        list[str] | None,
        typer.Option(
            "--labels",
            "-l",
            metavar="FILE|NAME",
            autocompletion=offer_labels,
            help="Labels: a .txt, .csv or .json file, the name of a built-in set (see `xclip labels list`), or the "
            "labels themselves: 'a cat, a dog'.",
        ),
    ] = None
    label: Annotated[list[str] | None, typer.Option("--label", metavar="TEXT", help="A label; repeat for more.")] = None
    template: Templates = None
    none_of_these: Annotated[
        bool,
        typer.Option(
            "--none-of-these",
            help="Add the answer 'none of these': neutral texts, such as 'something else', compete with the labels. "
            "It is scored like any other label, and is not calibrated.",
        ),
    ] = False
    multi_label: Annotated[
        bool,
        typer.Option(
            "--multi-label",
            help="Score each label on its own, against neutral texts instead of the other labels: several can score "
            "high, or none. Scores are not probabilities: choose a threshold on your own videos.",
        ),
    ] = False
    head: HeadFile = None
    no_cache: Annotated[
        bool, typer.Option("--no-cache", help="Encode the labels again and do not cache the result.")
    ] = False

    def __post_init__(self) -> None:
        if self.none_of_these and self.multi_label:
            raise typer.BadParameter(
                "--none-of-these cannot be combined with --multi-label: there, low scores for all labels mean the same"
            )

    @cached_property
    def wanted(self) -> Labels:
        """The labels, read and checked at the first use. Raises LabelsError, ModelError."""
        from ..labels import load_labels

        if self.learned is not None and not (self.sources or self.label or self.template):
            wanted = self.learned.labels
        elif not (self.sources or self.label):
            raise LabelsError(
                "no labels given: pass --labels FILE, --labels NAME (see `xclip labels list`) or --label TEXT"
            )
        else:
            wanted = load_labels(self.sources or (), self.label or (), self.template or ())
        return wanted.with_background() if self.none_of_these or self.multi_label else wanted

    @cached_property
    def learned(self) -> Head | None:
        """The head, read and checked at the first use. Raises ModelError."""
        if self.head is None:
            return None
        from ..adaptation import Head

        return Head.load(self.head)

    def settings(self) -> dict[str, Any]:
        """As keywords of a Classifier."""
        given = {"labels": self.wanted, "multi_label": self.multi_label, "cache": not self.no_cache}
        return given | {"head": self.learned}


@dataclass(frozen=True)
class OutputFlags:
    """Where results go, and in which form."""

    panel: ClassVar[str] = "Output"

    path: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of stdout.")
    ] = None
    format: Annotated[
        OutputFormat | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"{either(OutputFormat)}. Default: from the suffix of -o; else json with --output-dir, table on a "
            "terminal, jsonl elsewhere.",
        ),
    ] = None
    top_k: Annotated[
        int, typer.Option("--top-k", "-k", min=0, metavar="N", help="Labels to show per video; 0 shows all.")
    ] = 5
    resume: Resume = False
    retry_failed: RetryFailed = False
    force: Force = False
    output_dir: OutputDir = None

    @property
    def may_exist(self) -> bool:
        """Whether the file is to be replaced or continued."""
        return self.force or self.resume

    @property
    def results_file(self) -> Path | None:
        """The one file that all results go to, if it is not stdout."""
        if self.output_dir is None:
            return self.path
        from ..output.sidecars import JOURNAL

        return self.output_dir / JOURNAL

    def form(self, known: Collection[str]) -> str:
        """The format asked for, else that of the output's suffix, else table on a terminal and jsonl elsewhere.

        ``known``: those that the command has. Raises typer.BadParameter where there is none, or it cannot be resumed.
        """
        form = form_of(self.format, self.path, known) if self.output_dir is None else self._form_beside(known)
        if self.resume and (self.force or not self.is_continuable(form)):
            raise typer.BadParameter("--resume continues a results file: pass it as -o FILE.jsonl, without --force")
        if self.retry_failed and not self.resume:
            raise typer.BadParameter("--retry-failed requires --resume")
        return form

    def is_continuable(self, form: str) -> bool:
        """Whether a run that writes this ``form`` can be gone on with."""
        return self.output_dir is not None or (self.path is not None and form == "jsonl")

    def _form_beside(self, known: Collection[str]) -> str:
        from ..output.sidecars import FORMATS

        form, allowed = self.format or "json", [name for name in FORMATS if name in known]
        if self.path is not None:
            raise typer.BadParameter("--output-dir cannot be combined with -o: the folder also gets a results.jsonl")
        if form not in allowed:
            raise typer.BadParameter(f"--output-dir takes --format {either(allowed)}, not {form}")
        return form

    def check(self, form: str, inputs: Inputs, files: Iterable[str] = ()) -> None:
        """Raises typer.BadParameter where ``inputs`` cannot be written like this, or the output would destroy one of
        them or of the other ``files`` that are read."""
        from ..output.files import check_output
        from ..output.parquet import check_format

        with usage_errors(ResultsError):
            check_format(form, self.path)
            if (path := self.results_file) is not None and (self.path is not None or path.parent.exists()):
                continuable = self.is_continuable(form)
                check_output(path, self.may_exist, [*inputs.paths, *files], continuable)


@dataclass(frozen=True)
class ModelFlags:
    """Which model, and how it runs."""

    panel: ClassVar[str] = "Model"

    name: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            envvar=MODEL_VARIABLE,
            callback=tell_usual,
            metavar="NAME",
            autocompletion=offer_models,
            help="A checkpoint folder, a Hugging Face Hub id or its short name, 'bundled', or 'auto': the bundled "
            "model if labels are given that it was trained to tell apart, else base-patch16-zero-shot.",
        ),
    ] = AUTO
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE",
            callback=check_device,
            autocompletion=offer_devices,
            help=f"Device to run the model on: {DEVICES}. Apple GPUs are not used.",
        ),
    ] = AUTO
    dtype: Annotated[
        DType,
        typer.Option(
            metavar="TYPE",
            help=f"Precision: {either(DType)}; auto is bfloat16 where the hardware computes it natively, else float32. "
            "int8 is faster, on CPUs with VNNI or AMX; to see how close it is: xclip models verify NAME --dtype int8.",
        ),
    ] = DType.auto
    views: Annotated[
        Views,
        typer.Option(
            parser=read_views,
            metavar="CLIPSxCROPS",
            help="Average the scores of several clips per video, and 1 or 3 crops per clip. The paper uses 4x3.",
        ),
    ] = ONE_VIEW
    preprocess: Annotated[
        Preprocess,
        typer.Option(help="Resize frames as the checkpoint's files say (hf), or as the paper's authors did (paper)."),
    ] = Preprocess.hf
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_THREADS,
            metavar="N",
            help="CPU threads for the model. Default: PyTorch's choice, at most one per usable core.",
        ),
    ] = None
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Videos (or windows) per batch. Default: chosen for the device."),
    ] = None
    save_frames: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            file_okay=False,
            help="Also save the frames that the model sees, cropped, as PNG files named by video and time.",
        ),
    ] = None
    tokenizer: Tokenizer = None
    heads: Heads = None
    offline: Offline = False

    @property
    def is_default(self) -> bool:
        """Whether the model is what no flag chose, which gives way to that of an index."""
        return self.name == AUTO or isinstance(self.name, UsualModel)

    def settings(self) -> dict[str, Any]:
        """As keywords of a Classifier."""
        return {
            "device": self.device,
            "dtype": self.dtype.value,
            "views": self.views,
            "preprocess": self.preprocess.value,
            "threads": self.threads,
            "batch_size": self.batch_size,
            "save_frames": self.save_frames,
            "tokenizer": self.tokenizer,
            "heads": self.heads,
        }


@dataclass(frozen=True)
class DecodeFlags:
    """How videos are decoded, and what one may cost."""

    panel: ClassVar[str] = "Decoding"

    workers: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Decoding processes. Default: one per core.")
    ] = None
    stream: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Video stream to read from each file, counted from 0. Default: the main one."
        ),
    ] = None
    timeout: Annotated[
        float,
        typer.Option(min=0.1, metavar="SECONDS", help="Give up on a video after this long without decoding progress."),
    ] = DECODE_TIMEOUT
    max_pixels: Annotated[
        int, typer.Option(min=1, metavar="N", help="Refuse videos with larger frames (width times height).")
    ] = DEFAULT_LIMITS.pixels
    max_frames: Annotated[
        int,
        typer.Option(
            min=1,
            metavar="N",
            help="Refuse windows that need more frames decoded; a frame larger than 1920x1088 counts as several.",
        ),
    ] = DEFAULT_LIMITS.frames
    max_memory: Annotated[
        int,
        typer.Option(
            min=LEAST_MEMORY // MEGABYTE, metavar="MB", help="Refuse videos that need more address space to decode."
        ),
    ] = DEFAULT_LIMITS.memory // MEGABYTE

    max_seconds: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            metavar="SECONDS",
            help="Refuse videos that take longer to decode. Default: "
            f"{SECONDS:g}, plus {SECONDS_A_WINDOW:g} for each window of a timeline.",
        ),
    ] = None

    def limits(self) -> Limits:
        """What decoding one video may cost."""
        return Limits(self.max_pixels, self.max_frames, self.max_memory * MEGABYTE, self.max_seconds)

    def settings(self) -> dict[str, Any]:
        """As keywords of a Classifier."""
        return {
            "workers": self.workers,
            "stream": self.stream,
            "timeout": self.timeout,
            "limits": self.limits(),
        }


@dataclass(frozen=True)
class SayFlags:
    """What a run says."""

    panel: ClassVar[str] = RUN

    quiet: Quiet = False
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Verbose: also print the model, device and precision, failures at once, and in a log the progress.",
        ),
    ] = False


@dataclass(frozen=True)
class RunFlags(SayFlags):
    """How a run goes, and what it says."""

    dry_run: Annotated[bool, typer.Option("--dry-run", "-n", help="Show the plan and exit.")] = False
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first video that fails.")] = False
