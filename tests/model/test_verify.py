"""The released checkpoints give the figures that were published for them.

Probabilities: the conversion script of transformers (4.34, ``convert_x_clip_original_pytorch_to_hf.py``). Logits: its
integration test. Both use the same video of somebody eating spaghetti.
"""

from __future__ import annotations

from typing import Any

import huggingface_hub
import numpy as np
import pytest
import reference
import torch

from xclip_cli.model import XCLIPModel, XCLIPProcessor

pytestmark = pytest.mark.network

TEXTS = ["playing sports", "eating spaghetti", "go shopping"]
VIDEOS = {8: "eating_spaghetti_8_frames.npy", 16: "eating_spaghetti.npy", 32: "eating_spaghetti_32_frames.npy"}
TOLERANCE = 1e-3  # as published

LOGITS = [[14.0181, 20.2771, 14.4776]]  # of base-patch32

PROBABILITIES = {
    "base-patch32": (8, [0.0019, 0.9951, 0.0030]),
    "base-patch32-16-frames": (16, [7.0999e-4, 0.99883, 4.5580e-4]),
    "base-patch16": (8, [0.0083, 0.9681, 0.0236]),
    "base-patch16-16-frames": (16, [7.6937e-4, 0.99728, 1.9473e-3]),
    "large-patch14": (8, [0.0062, 0.9864, 0.0075]),
    "large-patch14-16-frames": (16, [3.3877e-4, 0.99937, 2.8888e-4]),
    "base-patch16-kinetics-600": (8, [0.0555, 0.8914, 0.0531]),
    "base-patch16-kinetics-600-16-frames": (16, [3.8554e-4, 0.99929, 3.2754e-4]),
    "large-patch14-kinetics-600": (8, [0.0036, 0.9920, 0.0045]),
    "base-patch16-hmdb-2-shot": (32, [7.1890e-6, 0.99994, 5.6559e-5]),
    "base-patch16-hmdb-4-shot": (32, [1.0320e-5, 0.99993, 6.2435e-5]),
    "base-patch16-hmdb-8-shot": (32, [4.1377e-6, 0.99990, 9.8386e-5]),
    "base-patch16-hmdb-16-shot": (32, [4.1347e-5, 0.99962, 3.3411e-4]),
    "base-patch16-ucf-2-shot": (32, [8.5857e-5, 0.99928, 6.3291e-4]),
    "base-patch16-ucf-4-shot": (32, [8.5857e-5, 0.99928, 6.3291e-4]),
    "base-patch16-ucf-8-shot": (32, [0.0027, 0.9904, 0.0070]),
    "base-patch16-ucf-16-shot": (32, [9.8219e-4, 0.99593, 3.0863e-3]),
    "base-patch16-zero-shot": (32, [3.5082e-4, 0.99785, 1.7966e-3]),
}


@pytest.fixture(scope="module", autouse=True)
def _hub() -> None:
    """Skip where the hub cannot be reached."""
    try:
        huggingface_hub.HfApi().model_info("microsoft/xclip-base-patch32", timeout=10)
    except Exception as error:
        pytest.skip(f"the hub cannot be reached: {error}")


def spaghetti(frames: int) -> list[Any]:
    """The published video at 8, 16 or 32 frames."""
    path = huggingface_hub.hf_hub_download("hf-internal-testing/spaghetti-video", VIDEOS[frames], repo_type="dataset")
    return list(np.load(path))


@pytest.mark.parametrize("resized_by", ["us", "Pillow"])
def test_published_logits(resized_by: str) -> None:
    name = "microsoft/xclip-base-patch32"
    inputs = XCLIPProcessor.from_pretrained(name)(TEXTS, spaghetti(8), "pt", padding=True)
    if resized_by == "Pillow":
        inputs.update(reference.image_processor(224)(spaghetti(8), return_tensors="pt"))
    with torch.no_grad():
        logits = XCLIPModel.from_pretrained(name)(**inputs).logits_per_video
    torch.testing.assert_close(logits, torch.tensor(LOGITS), rtol=TOLERANCE, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "frames", "expected"), [(k, *v) for k, v in PROBABILITIES.items()], ids=PROBABILITIES)
def test_published_probabilities(name: str, frames: int, expected: list[float]) -> None:
    model = XCLIPModel.from_pretrained(f"microsoft/xclip-{name}")
    assert model.config.vision_config.num_frames == frames
    inputs = XCLIPProcessor.from_pretrained(f"microsoft/xclip-{name}")(TEXTS, spaghetti(frames), "pt", padding=True)
    with torch.no_grad():
        probabilities = model(**inputs).logits_per_video.softmax(dim=1)
    torch.testing.assert_close(probabilities, torch.tensor([expected]), rtol=0, atol=TOLERANCE)
