"""What the files of a checkpoint folder are called, and which of them hold the weights. Never imports torch."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from ..errors import ModelError

SAFETENSORS_NAME = "model.safetensors"
PICKLED_NAME = "pytorch_model.bin"
WEIGHT_NAMES = (SAFETENSORS_NAME, SAFETENSORS_NAME + ".index.json", PICKLED_NAME, PICKLED_NAME + ".index.json")
TOKENIZER_NAMES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
TEXT_NAMES = (  # everything of a checkpoint that is not weights
    *("config.json", "preprocessor_config.json", "processor_config.json"),
    *TOKENIZER_NAMES,
)
NEEDED_TEXT_NAMES = (  # beside the config, one of each
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json"),
)


def find_weight_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint folder: one, or its shards. safetensors is preferred. Raises ModelError."""
    for name in WEIGHT_NAMES:
        path = folder / name
        if not path.is_file():
            continue
        files = [folder / shard for shard in _shards(path)] if path.suffix == ".json" else [path]
        if absent := [file.name for file in files if not file.is_file()]:
            raise ModelError(f"{path} lists shards that are missing: {', '.join(absent)}")
        return files
    raise ModelError(f"no weights in {folder}: it needs one of {', '.join(WEIGHT_NAMES)}")


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of weight shards: {error!r}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(f"{index} names a shard outside its folder: {name!r}")
    return names


def header_bytes(path: Path) -> bytes:
    """What tells one weight file from another without reading it all."""
    with path.open("rb") as file:
        if path.suffix != ".safetensors":
            return file.read(1 << 16)
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        return file.read(min(length, 1 << 24))


def read_json(path: Path, required: bool = False) -> dict[str, Any]:
    """A JSON object; empty where there is no such file, unless it is ``required``. Raises ModelError."""
    if not required and not path.is_file():
        return {}
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds {type(values).__name__}, not a JSON object")
    return values
