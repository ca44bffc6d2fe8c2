"""What a checkpoint is, from its config and the headers of its weight files. Never imports torch."""

from __future__ import annotations

from collections import Counter
from typing import Any

from .checkpoint import hub
from .checkpoint.files import read_header
from .checkpoint.find import BUNDLED, Checkpoint, find_cached, hub_name
from .checkpoint.public import PublicCheckpoint, public_checkpoints
from .config import XCLIPConfig
from .formats import open_checkpoint

SHORT_TEXT = 8  # tokens of a usual label, start and end included


def describe(name: str) -> dict[str, Any]:
    """Sizes, cost and origin of a checkpoint, as plain values. Raises ModelError.

    Of a hub id that is not cached only the config and the weights' header are fetched.
    """
    cached = find_cached(name)
    if cached is None:
        repo, revision = hub_name(name)
        folder, weights = hub.peek(repo, revision)
        checkpoint = Checkpoint(repo, folder, folder.name)
        opened = open_checkpoint(checkpoint)
        config = opened.config()
        local: dict[str, Any] = {}
        phrases = None
    else:
        checkpoint = cached
        opened = open_checkpoint(checkpoint)
        config, weights = opened.config(), _local_weights(checkpoint)
        local = {"folder": str(checkpoint.folder), "identity": checkpoint.identity}
        phrases = checkpoint.phrases
    return {
        "name": checkpoint.name,
        "revision": checkpoint.revision,
        "cached": cached is not None,
        **local,
        **_published(public_checkpoints().get(checkpoint.name)),
        **_sizes(config),
        "notes": opened.notes(config),
        "weights": weights,
        "training": opened.training(),
        "phrases": None if phrases is None else {name: len(own) for name, own in phrases.families.items()},
    }


def _local_weights(checkpoint: Checkpoint) -> dict[str, Any]:
    files = checkpoint.weight_files
    readable = all(path.suffix == ".safetensors" for path in files)  # pickled weights would have to be loaded
    types = Counter(entry["dtype"] for path in files for entry in read_header(path).values()) if readable else None
    return {
        "files": [path.name for path in files],
        "megabytes": round(sum(path.stat().st_size for path in files) / 1e6, 1),
        "tensors_by_dtype": None if types is None else dict(types),
    }


def _published(public: PublicCheckpoint | None) -> dict[str, Any]:
    if public is None:
        return {}
    return {"trained_on": public.trained_on, "accuracy": public.accuracy, "protocol": public.protocol}


def _sizes(config: XCLIPConfig) -> dict[str, Any]:
    text, vision = config.text_config, config.vision_config
    parameters = config.count_parameters()
    return {
        "num_frames": vision.num_frames,
        "image_size": vision.image_size,
        "patch_size": vision.patch_size,
        "vision": {
            "width": vision.hidden_size,
            "layers": vision.num_hidden_layers,
            "heads": vision.num_attention_heads,
        },
        "text": {
            "width": text.hidden_size,
            "layers": text.num_hidden_layers,
            "heads": text.num_attention_heads,
            "max_tokens": text.max_position_embeddings,
        },
        "projection": config.projection_dim,
        "mit": {"layers": vision.mit_num_hidden_layers, "heads": vision.mit_num_attention_heads},
        "prompts": {"layers": config.prompt_layers, "heads": config.prompt_num_attention_heads},
        "parameters": parameters,
        "gmac_per_clip": round(config.video_macs() / 1e9, 3),
        "gmac_per_short_text": round(config.text_macs(SHORT_TEXT) / 1e9, 4),
        "megabytes_in_memory": {"float32": round(parameters * 4 / 1e6), "bfloat16": round(parameters * 2 / 1e6)},
    }


def list_models() -> list[dict[str, Any]]:
    """The bundled model and the public checkpoints, each with whether it can be used without the network."""
    bundled = describe(BUNDLED)
    rows = [
        {
            "name": BUNDLED,
            "patch_size": bundled["patch_size"],
            "num_frames": bundled["num_frames"],
            "image_size": bundled["image_size"],
            "trained_on": "generated clips",
            "accuracy": "see its card",
            "protocol": "single view",
            "megabytes": round(bundled["weights"]["megabytes"]),
            "gmac": bundled["gmac_per_clip"],
            "cached": True,
        }
    ]
    for public in public_checkpoints().values():
        rows.append(
            {
                "name": public.name,
                "patch_size": public.patch_size,
                "num_frames": public.num_frames,
                "image_size": public.image_size,
                "trained_on": public.trained_on,
                "accuracy": public.accuracy,
                "protocol": public.protocol,
                "megabytes": public.megabytes,
                "gmac": public.gmac,
                "cached": find_cached(public.name) is not None,
            }
        )
    return rows
