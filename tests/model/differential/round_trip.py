"""What another version of transformers does with checkpoints: ``python round_trip.py FOLDER``.

Loads whole model, towers, tokenizer and image processor from FOLDER/ours, writes what they compute to
FOLDER/results.pt, and saves them to FOLDER/theirs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
import transformers


def main(folder: Path) -> None:
    inputs = torch.load(folder / "inputs.pt")
    given = {
        "XCLIPModel": ("input_ids", "pixel_values"),
        "XCLIPTextModel": ("input_ids",),
        "XCLIPVisionModel": ("frames",),
    }
    results = {}
    for name, keys in given.items():
        model = getattr(transformers, name).from_pretrained(folder / "ours" / name).eval()
        with torch.no_grad():
            output = model(*(inputs[key] for key in keys))
        results[name] = output.logits_per_video if name == "XCLIPModel" else output.pooler_output
        model.save_pretrained(folder / "theirs" / name, safe_serialization=True)
    texts = ["a photo of a cat", "It's 2 o'clock", "Naïve café — 東京"]
    for name in ("CLIPTokenizer", "CLIPTokenizerFast", "AutoTokenizer"):
        tokenizer = getattr(transformers, name).from_pretrained(folder / "ours" / "XCLIPModel")
        results[name] = tokenizer(texts, padding=True, return_tensors="pt").input_ids
        tokenizer.save_pretrained(folder / "theirs" / name)
    processor = transformers.AutoProcessor.from_pretrained(folder / "ours" / "XCLIPModel")
    frames = list(np.asarray(inputs["video"]))
    results["pixel_values"] = torch.as_tensor(processor.image_processor(frames, return_tensors="pt")["pixel_values"])
    processor.save_pretrained(folder / "theirs" / "processor")
    torch.save(results, folder / "results.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
