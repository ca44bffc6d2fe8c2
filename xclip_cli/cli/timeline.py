"""xclip timeline."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from ..errors import ResultsError
from .clips import Clips, check_clips
from .cluster import ClusterFlags
from .flags import DecodeFlags, InputFlags, LabelFlags, ModelFlags, OutputFlags, RunFlags
from .indexed import as_decoded, stretch
from .options import SaveClips, either, seconds, usage_errors
from .run import run

if TYPE_CHECKING:
    from ..inputs import Inputs
    from ..model.checkpoint.find import Checkpoint
    from ..output.notes import Notes
    from ..results.lines import IndexSettings
    from ..results.records import Record
    from ..timeline import Rules, Timelines


class TimelineFormat(StrEnum):
    """How timelines are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"
    srt = "srt"
    vtt = "vtt"
    edl = "edl"
    otio = "otio"


@dataclass(frozen=True)
class TimelineOutputFlags(OutputFlags):
    """Where timelines go, and in which form."""

    format: Annotated[
        TimelineFormat | None,
        typer.Option(
            "--format",
            "-f",
            metavar="FORMAT",
            help=f"{either(TimelineFormat)}; srt and vtt (subtitles), edl (CMX 3600) and otio (OpenTimelineIO) hold "
            "one video: for several, use --output-dir. Default: from the suffix of -o; else json with --output-dir, "
            "table on a terminal, jsonl elsewhere.",
        ),
    ] = None  # type: ignore[assignment]  # frozen, so nobody puts one of the others in

    save_clips: SaveClips = None

    def check(self, form: str, inputs: Inputs, files: Iterable[str] = ()) -> None:
        """As for other outputs; and subtitles hold one video, and clips are cut from files."""
        from ..output.edits import check_otio
        from ..output.timelines import ONE_VIDEO

        with usage_errors(ResultsError):
            check_otio(form)
        super().check(form, inputs, files)
        check_clips(self.save_clips, inputs.names)
        if form in ONE_VIDEO and len(inputs.items) > 1 and self.output_dir is None:
            raise typer.BadParameter(
                f"{form} holds one video, but {len(inputs.items)} were given: pass --output-dir DIR to get a file per "
                "video, or another --format"
            )


@dataclass(frozen=True)
class SegmentFlags:
    """How videos are cut into windows, and which segments those make."""

    panel: ClassVar[str] = "Segments"

    window: Annotated[
        Fraction | None,
        typer.Option(
            parser=seconds,
            metavar="SECONDS",
            help="Length of each window that the model sees. Default: 10, about what the public checkpoints were "
            "trained on; 2 for the bundled model, whose labels can be brief.",
        ),
    ] = None
    stride: Annotated[
        Fraction | None,
        typer.Option(
            parser=seconds,
            metavar="SECONDS",
            help="Time between the starts of consecutive windows. Default: half a window, so that an event at the "
            "edge of one window is in the middle of the next.",
        ),
    ] = None
    min_score: Annotated[
        float, typer.Option(min=0, max=1, metavar="SCORE", help="Make no segment where the best score is lower.")
    ] = 0.0
    min_duration: Annotated[
        float,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Remove shorter segments, shortest first; if the segments before and after one have the same label, "
            "they are merged.",
        ),
    ] = 0.0

    def rules(self, usual_window: Fraction, made: IndexSettings | None = None) -> Rules:
        """The rules, with the model's usual window where none is given, or that of an index. Raises
        typer.BadParameter, also where an index has other windows."""
        from ..timeline import Rules

        if made is not None and made.window is not None and made.stride is not None:
            held = Fraction(made.window), Fraction(made.stride)
            for name, given, there in zip(("window", "stride"), (self.window, self.stride), held, strict=True):
                if given not in (None, there):
                    raise typer.BadParameter(
                        f"--{name} {float(given):g} does not match the index, whose {name} is {float(there):g} s: omit "
                        "the flag, or embed the videos again"
                    )
            return Rules(*held, self.min_score, self.min_duration)
        with usage_errors(ValueError):
            return Rules.of(usual_window, self.window, self.stride, self.min_score, self.min_duration)


def timeline(
    inputs: InputFlags,
    labels: LabelFlags,
    segments: SegmentFlags,
    output: TimelineOutputFlags,
    model: ModelFlags,
    decoding: DecodeFlags,
    cluster: ClusterFlags,
    running: RunFlags,
) -> None:
    """Show which label fits best at each moment of a video.

    The model scores one window of the video after another. A label's score at a moment is its mean over the windows
    around that moment, weighted by how much they overlap. Consecutive moments with the same best label form a segment;
    the border between two segments is midway between the centres of the windows that differ. A window lost to damage
    becomes an error record, and the timeline continues.

    Edit lists count timecode from the video's first frame, at the rate that the video states (drop-frame at 29.97 and
    59.94).

    Examples:
      xclip timeline clips/fade-in.mp4 -l picture-state --window 0.5
      xclip timeline video.mp4 -l labels.txt --window 4 --stride 1 -o video.srt
      xclip timeline films/ -l labels.txt --min-score 0.5 -o timelines.jsonl
      xclip timeline films/ -l labels.txt --output-dir subtitles --format srt
      xclip timeline video.mp4 -l labels.txt -o video.edl --save-clips cut/

    Exit codes: see `xclip classify --help`.
    """
    from ..classifier import Classifier
    from ..output.timelines import FORMATS
    from ..timeline import Timelines

    def task_of(checkpoint: Checkpoint, model: ModelFlags, made: IndexSettings | None) -> Timelines:
        decoded = as_decoded(decoding, made)
        classifier = Classifier(checkpoint, **labels.settings(), **model.settings(), **decoded.settings())
        rules = segments.rules(classifier.encoder.usual_window, made)
        return Timelines(classifier, rules, *stretch(inputs, made), output.top_k)

    def save(record: Record, notes: Notes) -> None:
        if output.save_clips is not None:
            Clips(output.save_clips, decoding, notes).save_segments(record)

    run(task_of, FORMATS, inputs, labels, output, model, cluster, running, unit="window", each=save)
