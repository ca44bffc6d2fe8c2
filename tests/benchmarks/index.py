"""The rows about indexes: what asking one costs beside looking at the videos again."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from xclip_cli import Classifier
from xclip_cli.bundled import generator
from xclip_cli.embedding import index_settings
from xclip_cli.engine.encoder import Encoder
from xclip_cli.engine.scan import absorbed_similarity
from xclip_cli.engine.stored import to_arrays, to_tensors
from xclip_cli.results.index_writer import IndexWriter
from xclip_cli.results.lines import StoredWindow, VideoLine
from xclip_cli.results.parts import Rows

BATCH = 100  # rows of a made index that are different
# Labels that nobody has asked for yet: 50 in all.
VERBS = (
    "carrying",
    "cleaning",
    "drawing",
    "hiding",
    "juggling",
    "mending",
    "painting",
    "selling",
    "throwing",
    "weighing",
)
NOUNS = ("a basket", "a clock", "a lantern", "a ladder", "an umbrella")


def made_index(folder: Path, checkpoint: Path, windows: int, window: int | None = None, compact: bool = False) -> Path:
    """An index of random encodings: videos of one window each, or of 100."""
    encoder = Encoder(checkpoint)
    layout = index_settings(encoder, compact, window=window, stride=window)  # type: ignore[arg-type]
    features, tokens = torch.randn(BATCH, layout.width), torch.randn(BATCH, layout.tokens, layout.width)
    rows = Rows(*to_arrays(features, tokens.to(encoder.dtype), compact))
    times = tuple((i + 0.5) / 8 for i in range(layout.num_frames))
    each = 1 if window is None else BATCH
    facts = [
        StoredWindow(float(i * 5), float(i * 5 + 5), times, tuple(range(layout.num_frames)), short_side=256)
        for i in range(each)
    ]
    with IndexWriter(folder, layout) as writer:
        for number in range(windows // each):
            writer.add(rows.part(number % BATCH if each == 1 else 0, each))
            writer.finish(VideoLine(f"videos/{number:06}.mp4", 1, 1.0, "0" * 64), facts)
    encoder.close()
    return folder


def scan_rates(encoder: Encoder) -> tuple[float, float]:
    """Windows a second of one text, one thread: absorbed, and by ``similarity``."""
    vision, width = encoder.config.vision_config, encoder.config.projection_dim
    encoder.load(vision=False)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    text, features = torch.randn(1, width), torch.randn(512, width)
    tokens = torch.randn(512, vision.num_patches, width).to(encoder.dtype)
    model = encoder._comparing
    try:
        with torch.inference_mode():
            absorbed = _rate(lambda f, x: absorbed_similarity(model, text, f, x), features, tokens, 64)
            usual = _rate(lambda f, x: model.similarity(text, f, x).logits_per_video, features, tokens, 16)
    finally:
        torch.set_num_threads(before)
    return absorbed, usual


def _rate(
    compute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    features: torch.Tensor,
    tokens: torch.Tensor,
    at_once: int,
) -> float:
    best = 0.0
    for _ in range(5):
        began = time.perf_counter()
        for first in range(0, len(features), at_once):
            compute(features[first : first + at_once], tokens[first : first + at_once])
        best = max(best, len(features) / (time.perf_counter() - began))
    return best


PEAK = """
import sys, threading, time
from pathlib import Path
peak = 0
def watch():
    global peak
    while True:
        text = Path("/proc/self/status").read_text()
        peak = max(peak, int(text.partition("RssAnon:")[2].split()[0]))
        time.sleep(0.05)
threading.Thread(target=watch, daemon=True).start()
from xclip_cli.results.index import Index
from xclip_cli.search import search
with Index.open(sys.argv[1]) as index:
    search(index, "eating spaghetti", exact=True)
print(peak * 1024 / 1e6)
"""


def private_memory(index: Path) -> float:
    """MB of memory of its own that a search of all windows takes at most: mapped pages are not counted."""
    done = subprocess.run([sys.executable, "-c", PEAK, str(index)], check=True, capture_output=True, text=True)
    return float(done.stdout)


def bytes_a_window(folder: Path, windows: int) -> float:
    """Of an index."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / windows


def compact_agreement(clips: int) -> tuple[int, int]:
    """Clips of each state, of the kind that the bundled model learned from: of how many the best state is the same by
    encodings that were kept as int8, and how many there are."""
    rng = np.random.default_rng(30_000)
    pictures = [generator.make_picture(rng) for _ in range(40)]
    states = generator.PICTURE_STATES
    same = total = 0
    with Classifier("bundled", labels=states, dtype="float32", device="cpu") as classifier:
        classifier.load()
        encoder = classifier.encoder
        for state in states * clips:
            frames = generator.make_clip(rng, state, pictures, height=96, width=128).frames
            (seen,) = encoder.compute([encoder.decoded_frames(list(frames))], list)
            best = []
            for compact in (False, True):
                arrays = to_arrays(seen.features, seen.tokens, compact)
                kept = to_tensors(*arrays, encoder.dtype, encoder.device)
                best.append(int(encoder.similarity(classifier.text_features, *kept).argmax()))
            same += best[0] == best[1]
            total += 1
    return same, total
