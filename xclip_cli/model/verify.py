"""Proof that a checkpoint is whole and that this implementation computes what was published with it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import ModelError
from .checkpoint import hub
from .checkpoint.find import Checkpoint
from .checkpoint.public import (
    PUBLISHED_CLIPS,
    PUBLISHED_DATASET,
    PUBLISHED_LOGITS,
    PUBLISHED_TEXTS,
    PUBLISHED_TOLERANCE,
    public_checkpoints,
)
from .formats import open_checkpoint
from .loading import load_config, load_model

if TYPE_CHECKING:
    from .modeling import XCLIPModel


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    what: str
    passed: bool
    detail: str

    def line(self) -> str:
        """For people."""
        return f"{'ok  ' if self.passed else 'FAIL'}  {self.what}: {self.detail}"


def verify(checkpoint: Checkpoint, published: bool = False) -> Iterator[Check]:
    """Check files, loading and one forward pass; with ``published`` also the figures that the authors published.

    Raises ModelError if a check cannot be made at all.
    """
    yield from _check_files(checkpoint)
    import torch

    config = load_config(checkpoint)
    model = load_model(checkpoint, config, torch.float32, torch.device("cpu"))
    count = sum(parameter.numel() for parameter in model.parameters())
    yield Check("loads", True, f"{len(model.state_dict())} tensors, {count:,} parameters")
    yield _check_numbers(model)
    if published:
        yield from _check_published(checkpoint, model)


def _check_files(checkpoint: Checkpoint) -> Iterator[Check]:
    """Every file against the hash that the hub knows it by, which is its name in the cache."""
    files = open_checkpoint(checkpoint).files()
    hashed = [path for path in files if path.resolve().parent.name == "blobs"]
    if checkpoint.revision is None or not hashed:
        yield Check("files", True, f"{len(files)} local files (not from the hub)")
        return
    listed, source = _hashes_at_the_hub(checkpoint)
    for path in hashed:
        expected = listed.get(path.name, path.resolve().name)
        found = hub.file_hash(path, expected)
        yield Check(path.name, found == expected, f"{source} {expected[:16]}..., here {found[:16]}...")


def _hashes_at_the_hub(checkpoint: Checkpoint) -> tuple[dict[str, str], str]:
    """Each file's hash as the hub lists it now, or as it was given at the download where the hub cannot be reached."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return {}, "at the download"
    try:
        with hub.translated_errors(checkpoint.name, checkpoint.revision):
            info = hub.repository(checkpoint.name, checkpoint.revision)
    except ModelError:
        return {}, "at the download"
    return hub.hub_hashes(info, [file.rfilename for file in info.siblings or []]), "at the hub"


def _check_numbers(model: XCLIPModel) -> Check:
    """One forward pass gives numbers."""
    import torch

    vision = model.config.vision_config
    shape = (1, vision.num_frames, vision.num_channels, vision.image_size, vision.image_size)
    pixels = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = model(torch.tensor([[0, 1], [1, 2]]), pixels).logits_per_video
    return Check(
        "computes", bool(logits.isfinite().all()), f"logits {', '.join(f'{x:.3f}' for x in logits[0].tolist())}"
    )


def _check_published(checkpoint: Checkpoint, model: XCLIPModel) -> Iterator[Check]:
    """The published clip and texts, measured against the published probabilities and logits."""
    import huggingface_hub
    import numpy as np
    import torch

    from .processor import XCLIPProcessor

    public = public_checkpoints().get(checkpoint.name)
    if public is None:
        raise ModelError(f"there are no published figures for {checkpoint.name}: they are for the public checkpoints")
    name = PUBLISHED_CLIPS[model.config.vision_config.num_frames]
    with hub.translated_errors(PUBLISHED_DATASET):
        path = huggingface_hub.hf_hub_download(PUBLISHED_DATASET, name, repo_type="dataset")
    frames = list(np.load(path, allow_pickle=False))
    processor = XCLIPProcessor.from_folder(checkpoint.folder)
    inputs = processor(text=list(PUBLISHED_TEXTS), videos=frames, return_tensors="pt", padding=True)
    with torch.inference_mode():
        logits = model(**inputs).logits_per_video[0]
    yield _compare("published probabilities", logits.softmax(0).tolist(), public.published_probabilities)
    if checkpoint.name in PUBLISHED_LOGITS:
        yield _compare("published logits", logits.tolist(), PUBLISHED_LOGITS[checkpoint.name])


def _compare(what: str, measured: list[float], published: tuple[float, ...]) -> Check:
    passed = all(abs(m - p) <= PUBLISHED_TOLERANCE * max(1.0, abs(p)) for m, p in zip(measured, published, strict=True))
    rows = [
        f"{text}: {m:.6g} (published {p:.6g})" for text, m, p in zip(PUBLISHED_TEXTS, measured, published, strict=True)
    ]
    return Check(what, passed, "; ".join(rows))
