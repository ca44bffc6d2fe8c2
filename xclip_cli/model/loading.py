"""A checkpoint → its config, tokenizer, image processor and model, whatever its format; and one format → another.

Importing this imports no torch; what needs it imports it when called.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ModelError
from .checkpoint import hub
from .checkpoint.find import Checkpoint, find_local, hub_name
from .config import XCLIPConfig
from .formats import open_checkpoint
from .tokenizer import CLIPTokenizer

if TYPE_CHECKING:
    import torch

    from .modeling import XCLIPModel
    from .processor import XCLIPImageProcessor


def load_config(checkpoint: Checkpoint, heads: int | None = None) -> XCLIPConfig:
    """The config; ``heads`` sets the attention heads of MIT and prompt generator. Raises ModelError."""
    return open_checkpoint(checkpoint).config(heads)


def load_tokenizer(checkpoint: Checkpoint, name: str | None = None) -> CLIPTokenizer:
    """The tokenizer of ``name``, a folder or hub id; if None the one that belongs to the checkpoint. Raises ModelError.

    An authors' file holds none: its default is CLIP's, from the cache or the hub.
    """
    tokenizer = _find_tokenizer(checkpoint, name or open_checkpoint(checkpoint).tokenizer)
    tokens = load_config(checkpoint).text_config.vocab_size
    if tokenizer.eos_token_id >= tokens:
        raise ModelError(
            f"the tokenizer for {checkpoint.name} has ids up to {tokenizer.eos_token_id}, but its model has only "
            f"{tokens} tokens"
        )
    return tokenizer


def _find_tokenizer(checkpoint: Checkpoint, name: str) -> CLIPTokenizer:
    if Path(name).is_dir():
        return CLIPTokenizer.from_folder(Path(name))
    local = find_local(name)
    if local is not None:
        return CLIPTokenizer.from_folder(local.folder)
    try:
        return CLIPTokenizer.from_folder(hub.tokenizer_folder(*hub_name(name)))
    except ModelError as error:
        raise ModelError(
            f"{checkpoint.name} needs a tokenizer, but that of {name} is unavailable: {error}; pass another with "
            "--tokenizer FOLDER"
        ) from error


def load_image_processor(checkpoint: Checkpoint, config: XCLIPConfig) -> XCLIPImageProcessor:
    """The image processor; an authors' file has that of the released checkpoints. Raises ModelError."""
    return open_checkpoint(checkpoint).image_processor(config)


def load_model(
    checkpoint: Checkpoint,
    config: XCLIPConfig,
    dtype: torch.dtype,
    device: torch.device,
    wanted: Callable[[str], bool] = lambda name: True,
) -> XCLIPModel:
    """The model with this config, in eval mode. Raises ModelError.

    Parameters whose names are not ``wanted`` are not read and stay on the meta device.
    """
    from .modeling import XCLIPModel

    return XCLIPModel.from_checkpoint(checkpoint, config, dtype, device, wanted)


def convert(checkpoint: Checkpoint, folder: Path, tokenizer: str | None = None, heads: int | None = None) -> None:
    """Write a checkpoint as a Hugging Face-style folder, weights in float32. Raises ModelError."""
    import torch

    from .processor import XCLIPProcessor

    config = load_config(checkpoint, heads)
    processor = XCLIPProcessor(load_image_processor(checkpoint, config), load_tokenizer(checkpoint, tokenizer))
    model = load_model(checkpoint, config, torch.float32, torch.device("cpu"))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
