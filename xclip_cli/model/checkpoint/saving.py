"""A model's parameters → weight files that this and the Hugging Face library load, in all its versions."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from .files import CONFIG_NAME, PICKLED_NAME, SAFETENSORS_NAME, WEIGHT_NAMES

UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def save_weights(
    state: Mapping[str, Tensor],
    folder: Path,
    prefix: str,
    max_shard_size: int | str,
    safe: bool,
    save_pickled: Callable[..., Any],
) -> None:
    """Write the weights into a folder that has a config; a file appears only when it is whole.

    ``prefix``: what a tower's names begin with. Its tensors are stored under their names with it and without it:
    versions 4 of the Hugging Face library look for the former, version 5 for the latter, and neither says more than a
    warning before it goes on with random weights. Weight files of another form, which would be read in place of the
    new ones, are removed. Raises ValueError for a size that is none.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    if prefix and all(name.startswith(prefix) for name in tensors):
        tensors |= {name.removeprefix(prefix): tensor.clone() for name, tensor in tensors.items()}
    name = SAFETENSORS_NAME if safe else PICKLED_NAME
    shards = _shards(tensors, _bytes(max_shard_size))
    files: dict[str, dict[str, Tensor]] = {name: shards[0]}
    if len(shards) > 1:
        stem, suffix = name.split(".")
        files = {f"{stem}-{i:05}-of-{len(shards):05}.{suffix}": shard for i, shard in enumerate(shards, start=1)}
    for file, shard in files.items():
        _put(folder / file, partial(_save_safe, shard) if safe else partial(save_pickled, shard))
    if len(files) > 1:
        index = {
            "metadata": {"total_size": sum(tensor.nbytes for tensor in tensors.values())},
            "weight_map": {tensor: file for file, shard in files.items() for tensor in shard},
        }
        text = json.dumps(index, indent=2, sort_keys=True) + "\n"
        _put(folder / f"{name}.index.json", lambda path: path.write_text(text, "utf-8"))
    _remove_others(folder, {*files, f"{name}.index.json"} if len(files) > 1 else set(files))


def _save_safe(tensors: dict[str, Tensor], path: Path) -> None:
    save_file(tensors, path, metadata={"format": "pt"})


def _put(path: Path, write: Callable[[Path], Any]) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(part)
        part.chmod((path.parent / CONFIG_NAME).stat().st_mode)  # safetensors' own is for the owner alone
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _shards(tensors: dict[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    """Tensors in order, in parts of at most so many bytes; a larger one is a part of its own."""
    shards: list[dict[str, Tensor]] = []
    current: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.nbytes > limit:
            shards.append({name: tensor})
            continue
        if current and sum(other.nbytes for other in current.values()) + tensor.nbytes > limit:
            shards.append(current)
            current = {}
        current[name] = tensor
    return [*shards, current] if current else shards


def _bytes(size: int | str) -> int:
    found = re.fullmatch(r"(\d+)([KMG]?I?B)", str(size).upper().replace(" ", "")) if isinstance(size, str) else None
    number = int(found[1]) * UNITS[found[2]] if found and found[2] in UNITS else size
    if not isinstance(number, int) or number < 1:
        raise ValueError(f"max_shard_size={size!r} is not a number of bytes or a size such as '500MB'")
    return number


def _remove_others(folder: Path, written: set[str]) -> None:
    shard = re.compile(r"(model-\d{5}-of-\d{5}\.safetensors|pytorch_model-\d{5}-of-\d{5}\.bin)")
    for path in folder.iterdir():
        if path.name not in written and (path.name in WEIGHT_NAMES or shard.fullmatch(path.name)):
            path.unlink()
