"""A warm process to be measured: `python warm.py WHAT CHECKPOINT LABELS`; paths come in as JSON lines, seconds go out.

WHAT is ours, also in int8, or transformers in a precision, or one of ours's two parts alone (decode, model), whose
seconds are of processor time.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

Paths = list[str]


def ours(checkpoint: str, labels: list[str], dtype: str = "auto") -> Callable[[Paths], float]:
    """`classify_all`, as the command line calls it."""
    from xclip_cli import Classifier

    classifier = Classifier(checkpoint, labels=labels, dtype=dtype)

    def run(paths: Paths) -> float:
        start = time.perf_counter()
        assert all(record.to_json()["status"] == "ok" for record in classifier.classify_all(paths))
        return time.perf_counter() - start

    return run


def transformers(checkpoint: str, labels: list[str], dtype: str) -> Callable[[Paths], float]:
    """The documented script in a loop: model and processor made once, the texts tokenized once."""
    import torch
    from peer import read_video_pyav
    from transformers import AutoModel, AutoProcessor

    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModel.from_pretrained(checkpoint, dtype=getattr(torch, dtype), attn_implementation="sdpa")
    texts = processor(text=labels, return_tensors="pt", padding=True)

    def run(paths: Paths) -> float:
        start = time.perf_counter()
        for path in paths:
            frames = read_video_pyav(path, model.config.vision_config.num_frames)
            pixel_values = processor(videos=frames, return_tensors="pt")["pixel_values"].to(model.dtype)
            with torch.no_grad():
                outputs = model(**texts, pixel_values=pixel_values)
            outputs.logits_per_video.softmax(dim=1).tolist()
        return time.perf_counter() - start

    return run


def decode(checkpoint: str, labels: list[str]) -> Callable[[Paths], float]:
    """What ours does for a video outside the model, on one core: decoding, RGB, resizing."""
    import torch

    from xclip_cli import Classifier
    from xclip_cli.video.clips import read_clip

    torch.set_num_threads(1)
    classifier = Classifier(checkpoint, labels=labels)

    class Resized:
        def put(self, picture: object) -> None:
            classifier.encoder.image_processor.resize_and_crop(picture)

        def restart(self) -> None:
            pass

        def skipped(self, error: Exception) -> None:
            pass

        def progress(self) -> None:
            pass

    def run(paths: Paths) -> float:
        start = time.process_time()
        for path in paths:
            read_clip(classifier.request(path), Resized(), threads=1)
        return time.process_time() - start

    return run


def model(checkpoint: str, labels: list[str]) -> Callable[[Paths], float]:
    """Ours's model on one core, with the batches that a run has."""
    import torch

    from xclip_cli import Classifier

    torch.set_num_threads(1)
    classifier = Classifier(checkpoint, labels=labels)
    classifier.load()
    vision = classifier.encoder.config.vision_config
    batch = classifier.encoder.batch_size
    clips = torch.randint(0, 256, (batch, vision.num_frames, 3, vision.image_size, vision.image_size)).byte()

    def run(paths: Paths) -> float:
        batches = max(1, len(paths) // batch)
        start = time.process_time()
        with torch.inference_mode():
            for _ in range(batches):
                classifier.logits(clips)
        return (time.process_time() - start) * len(paths) / (batches * batch)

    return run


def main() -> None:
    """Serve."""
    what, checkpoint, label_file = sys.argv[1:]
    labels = Path(label_file).read_text("utf-8").splitlines()
    made = {
        "ours": lambda: ours(checkpoint, labels),
        "ours-int8": lambda: ours(checkpoint, labels, "int8"),
        "transformers-float32": lambda: transformers(checkpoint, labels, "float32"),
        "transformers-bfloat16": lambda: transformers(checkpoint, labels, "bfloat16"),
        "decode": lambda: decode(checkpoint, labels),
        "model": lambda: model(checkpoint, labels),
    }
    run = made[what]()
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
