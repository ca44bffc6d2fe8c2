"""The README's pictures: what the program draws, as SVG. Run by `make screenshots`."""

from __future__ import annotations

import io
import tempfile
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from rich.console import Console

from xclip_cli import Classifier, load_labels
from xclip_cli.bundled.generator import write_samples
from xclip_cli.cli.run import Run
from xclip_cli.output.drawing import Drawing
from xclip_cli.output.tables import format_record
from xclip_cli.timeline import Rules, Timelines

FOLDER = Path(__file__).parent


def main() -> None:
    """Write the pictures."""
    folder = Path(tempfile.mkdtemp()) / "clips"
    folder.mkdir()
    clips = {path.name: path for path, _ in write_samples(folder)}
    labels = load_labels(["picture-state"])
    with Classifier("bundled", labels=labels, dtype="float32", device="cpu") as classifier:
        names = ("blurry.mov", "flashing-lights.mp4")
        shown = " ".join(f"clips/{name}" for name in names)
        console = screen(f"xclip classify {shown} -l picture-state -k 3")
        classifier.classify(clips[names[0]])  # so that the time is that of a long run
        run = Run()
        for record in run.counted(classifier.classify_all([str(clips[name]) for name in names], top_k=3)):
            assert record.prediction
            console.print(format_record(replace(record.prediction, video=f"clips/{Path(record.video).name}")))
            console.print()
        console.print(f"{classifier.description()}: {run.summary()}")
        save(console, "classify")
        rules = Rules(Fraction(1, 2), Fraction(1, 8))
        *_, whole = Timelines(classifier, rules).records([str(clips["fade-in.mp4"])])
        assert whole.timeline is not None
        console = screen("xclip timeline clips/fade-in.mp4 -l picture-state --window 0.5 --stride 0.125")
        console.print(Drawing("clips/fade-in.mp4", whole.timeline, whole.segments))
        save(console, "timeline")


def screen(command: str) -> Console:
    """A terminal of 84 columns on which a command was typed."""
    console = Console(record=True, width=84, file=io.StringIO(), force_terminal=True, highlight=False)
    console.print(f"$ {command}", markup=False)
    return console


def save(console: Console, name: str) -> None:
    """Write what is on a terminal, under an id that is always the same."""
    (FOLDER / f"{name}.svg").write_text(console.export_svg(title="xclip", unique_id=name), encoding="utf-8")


main()
