"""The peer: the script of X-CLIP's documentation in transformers, made to sample the whole clip.

python peer.py CHECKPOINT VIDEO LABELS-FILE
"""

from __future__ import annotations

import sys
from pathlib import Path

import av
import numpy as np
import torch
from transformers import AutoModel, AutoProcessor


def read_video_pyav(path: str, num_frames: int) -> list[np.ndarray]:
    """Decode with PyAV and take frames evenly, as the documentation does."""
    with av.open(path) as container:
        total = container.streams.video[0].frames
        indices = {int(i * total / num_frames + total / (2 * num_frames)) for i in range(num_frames)}
        frames = []
        for i, frame in enumerate(container.decode(video=0)):
            if i in indices:
                frames.append(frame.to_ndarray(format="rgb24"))
            if i >= max(indices):
                break
    return frames


def main() -> None:
    """Classify one video."""
    checkpoint, video, labels = sys.argv[1:]
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModel.from_pretrained(checkpoint)
    texts = Path(labels).read_text("utf-8").split("\n")[:-1]
    frames = read_video_pyav(video, model.config.vision_config.num_frames)
    inputs = processor(text=texts, videos=frames, return_tensors="pt", padding=True)
    with torch.no_grad():
        outputs = model(**inputs)
    for text, probability in zip(texts, outputs.logits_per_video.softmax(dim=1)[0], strict=True):
        print(f"{probability:.6f} {text}")


if __name__ == "__main__":
    main()
