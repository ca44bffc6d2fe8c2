"""What the files of a checkpoint folder are called, and which of them hold the weights. Never imports torch.

The files may come from strangers: what is read into memory is bounded, and what they say is shown on one line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ...errors import ModelError
from ...text import one_line

CONFIG_NAME = "config.json"
SAFETENSORS_NAME = "model.safetensors"
PICKLED_NAME = "pytorch_model.bin"
WEIGHT_NAMES = (SAFETENSORS_NAME, SAFETENSORS_NAME + ".index.json", PICKLED_NAME, PICKLED_NAME + ".index.json")
TOKENIZER_NAMES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json", "merges.txt")
TEXT_NAMES = (  # everything of a checkpoint that is not weights
    *(CONFIG_NAME, "preprocessor_config.json", "processor_config.json"),
    *TOKENIZER_NAMES,
)
NEEDED_TEXT_NAMES = (  # beside the config, one of each
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json"),
)

MAX_TEXT = 1 << 24  # bytes of a file that is not weights: CLIP's tokenizer.json has 3.6 MB
MAX_HEADER = 10_000_000  # bytes of a safetensors header: those of X-CLIP have 0.1 MB, the format allows 100 MB
MAX_DEPTH = 50  # levels of JSON
MAX_SHARDS = 500  # weight files of one checkpoint


def find_weight_files(folder: Path, safetensors: bool | None = None) -> list[Path]:
    """The weight files of a checkpoint folder: one, or its shards. Raises ModelError.

    safetensors is preferred; ``safetensors`` True or False allows nothing else. A file in place of a folder is its own.
    """
    if folder.is_file():
        return [folder]
    names = [name for name in WEIGHT_NAMES if safetensors in (None, name.startswith(SAFETENSORS_NAME))]
    for name in names:
        path = folder / name
        if not path.is_file():
            continue
        files = [folder / shard for shard in _shards(path)] if path.suffix == ".json" else [path]
        if absent := [file.name for file in files if not file.is_file()]:
            raise ModelError(f"{path} lists shards that are missing: {one_line(', '.join(absent))}")
        return files
    raise ModelError(f"no weights in {folder}: it needs one of {', '.join(names)}")


def _shards(index: Path) -> list[str]:
    """The files that an index names: beside it, and of its own kind."""
    try:
        names = sorted(set(read_json(index, required=True)["weight_map"].values()))
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of weight shards: {one_line(repr(error))}") from error
    kind = Path(index.name.removesuffix(".index.json")).suffix
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(f"{index} names a shard outside its folder: {one_line(repr(name))}")
        if Path(name).suffix != kind:
            raise ModelError(f"{index} names a shard that is not a {kind} file: {one_line(repr(name))}")
    if not 1 <= len(names) <= MAX_SHARDS:
        raise ModelError(f"{index} names {len(names)} shards, but the limits are 1 to {MAX_SHARDS}")
    return names


def header_length(path: Path) -> int:
    """The bytes of a safetensors file's header, which lie behind the first eight. Raises ModelError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > size - 8:
        raise ModelError(f"{path} is not a safetensors file, or it is cut off: it has only {size} bytes")
    if length > MAX_HEADER:
        raise ModelError(f"{path} has a header of {length} bytes, but the limit is {MAX_HEADER}")
    return length


def header_bytes(path: Path) -> bytes:
    """What tells one weight file from another without reading it all. Raises ModelError."""
    if path.suffix != ".safetensors":
        with path.open("rb") as file:
            return file.read(1 << 16)
    length = header_length(path)
    with path.open("rb") as file:
        file.seek(8)
        return file.read(length)


def read_header(path: Path) -> dict[str, dict[str, Any]]:
    """The tensors that a safetensors file says it holds, and of what dtype. Raises ModelError."""
    try:
        header = json.loads(header_bytes(path), object_pairs_hook=_unique)
        tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
        if not all(isinstance(entry["dtype"], str) for entry in tensors.values()):
            raise ValueError("a dtype is not a name")
        return tensors
    except (ValueError, AttributeError, TypeError, KeyError, RecursionError) as error:
        raise ModelError(f"{path} is not a safetensors file: its header cannot be read: {one_line(error)}") from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError("it contains a name twice")
    return values


def read_text(path: Path) -> str:
    """A checkpoint's text file. Raises ModelError if it cannot be read, is not UTF-8, or is absurdly large."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TEXT + 1)
        if len(data) > MAX_TEXT:
            raise ModelError(f"{path} is larger than {MAX_TEXT >> 20} MB, the limit for a checkpoint's text files")
        return data.decode("utf-8")
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        raise ModelError(f"cannot read {path}: {one_line(error)}") from error


def read_json(path: Path, required: bool = False) -> dict[str, Any]:
    """A JSON object; empty if there is no such file, unless it is ``required``. Raises ModelError."""
    if not required and not path.is_file():
        return {}
    try:
        values = json.loads(read_text(path))
    except RecursionError as error:
        raise ModelError(f"cannot read {path}: it is nested too deeply") from error
    except ValueError as error:
        raise ModelError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(values, dict):
        raise ModelError(f"{path} holds {type(values).__name__}, not a JSON object")
    if _is_deep(values):
        raise ModelError(f"cannot read {path}: it is nested too deeply")
    return values


def _is_deep(value: Any) -> bool:
    """Whether a JSON value has more levels than any checkpoint's: even to show it could end in a RecursionError."""
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
    return bool(level)
