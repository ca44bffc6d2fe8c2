"""Whether search finds what was planted: states of the picture in long generated videos, and those beside real footage.

python -m tests.planted [--real FOLDER] prints the recall of each text at as many hits as there are planted moments. A
real video that shows a state itself, as tests/bundled/real_footage.tsv says, is neither a hit nor a miss for that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from xclip_cli import Moment
from xclip_cli.bundled import generator, measure
from xclip_cli.embedding import Embedding, index_settings
from xclip_cli.engine.encoder import Encoder
from xclip_cli.results.index import Index
from xclip_cli.results.index_writer import IndexWriter
from xclip_cli.search import search

TRUTH = Path(__file__).parent / "bundled" / "real_footage.tsv"
RATE, SECONDS = 8, 4  # frames a second, and seconds of one state
STATES = 45  # in a video, one after the other
PLANTED = ("color bars", "television static", "a white screen", "flashing lights", "a black screen")
EACH = 3  # of them in a video
MAX_BYTES = 4_000_000  # of a real video

Plants = dict[str, list[tuple[str, float]]]  # text → videos, and where in them


def write_planted(folder: Path, count: int = 20, states: int = STATES, each: int = EACH) -> Plants:
    """Videos of normal pictures, three minutes each, with a few states planted into each → where they are."""
    rng = np.random.default_rng(7)
    pictures = [generator.make_picture(rng) for _ in range(40)]
    plants: Plants = {text: [] for text in PLANTED}
    for number in range(count):
        shown = ["a normal picture"] * states
        path = folder / f"{number:02}.mp4"
        for i, place in enumerate(sorted(rng.choice(np.arange(1, states - 1, 2), each, replace=False).tolist())):
            shown[place] = PLANTED[(number * each + i) % len(PLANTED)]
            plants[shown[place]].append((str(path), float(place * SECONDS)))
        clips = (
            generator.make_clip(rng, state, pictures, count=RATE * SECONDS, height=72, width=96) for state in shown
        )
        generator.write_video(path, np.concatenate([clip.frames for clip in clips]), frames_per_second=RATE)
    return plants


def embedded(paths: Iterable[str], folder: Path) -> Path:
    """An index of videos, in windows of 2 s; those that cannot be read are failures in it."""
    encoder = Encoder("bundled", dtype="float32", device="cpu")
    task = Embedding(encoder, folder, index_settings(encoder, window=Fraction(2), stride=Fraction(1)))
    for _ in task.records(paths):
        pass
    task.close()
    return folder


def recall(found: Iterable[Moment], planted: list[tuple[str, float]]) -> float:
    """The share of planted moments that a hit overlaps, of as many hits as there are planted ones."""
    hits = list(found)[: len(planted)]
    return sum(
        any(m.video == video and m.start_seconds < at + SECONDS and m.end_seconds > at for m in hits)
        for video, at in planted
    ) / len(planted)


def recalls(folder: Path, plants: Plants, showing: dict[str, set[str]]) -> dict[str, float]:
    """Of each text. ``showing``: videos that show it, and are not counted."""
    found = {}
    with Index.open(folder) as index:
        for text, planted in plants.items():
            moments = search(index, text, top_k=0)
            found[text] = recall((m for m in moments if m.video not in showing.get(text, ())), planted)
    return found


def real_videos(root: Path) -> tuple[list[str], dict[str, set[str]]]:
    """Small videos of the truth, and of each state those that show it, or might be said to."""
    paths, showing = list[str](), dict[str, set[str]]()
    for seen in measure.read_truth(TRUTH):
        path = root / seen.video
        if path.is_file() and path.stat().st_size < MAX_BYTES:
            paths.append(str(path))
            for state in (*seen.states, *seen.arguable):
                showing.setdefault(state, set()).add(str(path))
    return paths, showing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.planted", description=__doc__)
    parser.add_argument("--real", type=Path, help="a folder with the videos of the truth")
    parser.add_argument("--least", type=float, default=0.9, help="recall below which this fails")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plants = write_planted(folder)
        planted = embedded(sorted({video for places in plants.values() for video, _ in places}), folder / "planted")
        figures = {"20 generated videos": recalls(planted, plants, {})}
        if given.real:
            paths, showing = real_videos(given.real)
            real = embedded(paths, folder / "real")
            with IndexWriter(real) as writer, Index.open(planted) as other:
                writer.take(other)
            figures[f"beside {len(paths)} real videos"] = recalls(real, plants, showing)
    for where, by_text in figures.items():
        for text, share in by_text.items():
            print(f"{where}: {text}: {share:.3f} of {len(plants[text])}")
        print(f"{where}: mean {np.mean(list(by_text.values())):.3f}")
    sys.exit(any(np.mean(list(by_text.values())) < given.least for by_text in figures.values()))


if __name__ == "__main__":
    main()
