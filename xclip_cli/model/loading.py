"""A checkpoint → its config, tokenizer, image processor and model: a Hugging Face folder, or an authors' ``.pth``.

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
from .tokenizer import CLIPTokenizer

if TYPE_CHECKING:
    import torch

    from .modeling import XCLIPModel
    from .processor import XCLIPImageProcessor

ORIGINAL_TOKENIZER = "microsoft/xclip-base-patch32"  # CLIP's vocabulary: the same in all released checkpoints


def load_config(checkpoint: Checkpoint, heads: int | None = None) -> XCLIPConfig:
    """The config; ``heads`` sets the attention heads of MIT and prompt generator. Raises ModelError."""
    if checkpoint.is_original:
        from .checkpoint.original import read_original

        return read_original(checkpoint.folder, heads)[0]
    config = XCLIPConfig.from_folder(checkpoint.folder)
    try:
        return config if heads is None else config.with_heads(heads)
    except ValueError as error:
        raise ModelError(f"{checkpoint.name} cannot have {heads} heads: {error}") from error


def load_tokenizer(checkpoint: Checkpoint, name: str | None = None) -> CLIPTokenizer:
    """The tokenizer of ``name``, a folder or hub id; if None the checkpoint's own. Raises ModelError.

    An authors' file holds none: its default is that of ``ORIGINAL_TOKENIZER``, from the cache or the hub.
    """
    tokenizer = _find_tokenizer(checkpoint, name)
    tokens = load_config(checkpoint).text_config.vocab_size
    if tokenizer.eos_token_id >= tokens:
        raise ModelError(
            f"the tokenizer for {checkpoint.name} has ids up to {tokenizer.eos_token_id}, its model only {tokens} "
            "tokens"
        )
    return tokenizer


def _find_tokenizer(checkpoint: Checkpoint, name: str | None) -> CLIPTokenizer:
    if name is None and not checkpoint.is_original:
        return CLIPTokenizer.from_folder(checkpoint.folder)
    wanted = name or ORIGINAL_TOKENIZER
    if Path(wanted).is_dir():
        return CLIPTokenizer.from_folder(Path(wanted))
    local = find_local(wanted)
    if local is not None:
        return CLIPTokenizer.from_folder(local.folder)
    try:
        return CLIPTokenizer.from_folder(hub.tokenizer_folder(*hub_name(wanted)))
    except ModelError as error:
        raise ModelError(
            f"{checkpoint.name} needs a tokenizer, and that of {wanted} cannot be had: {error}; "
            "--tokenizer FOLDER names another"
        ) from error


def load_image_processor(checkpoint: Checkpoint, config: XCLIPConfig) -> XCLIPImageProcessor:
    """The image processor; an authors' file has that of the released checkpoints. Raises ModelError."""
    if checkpoint.is_original:
        from .checkpoint.original import original_image_processor

        return original_image_processor(config)
    from .processor import XCLIPImageProcessor

    processor = XCLIPImageProcessor.from_folder(checkpoint.folder)
    if not processor.do_center_crop or config.vision_config.num_channels != 3:
        raise ModelError(
            f"{checkpoint.name} cannot take videos: its image processor must crop (do_center_crop) and its "
            "model take 3 channels (num_channels)"
        )
    return processor


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
    if checkpoint.is_original:
        return load_original(checkpoint.folder, config, dtype, device, wanted)
    from .modeling import XCLIPModel

    return XCLIPModel.from_folder(checkpoint.folder, config, dtype, device, wanted)


def load_original(
    path: Path,
    config: XCLIPConfig | None,
    dtype: torch.dtype,
    device: torch.device,
    wanted: Callable[[str], bool] = lambda name: True,
) -> XCLIPModel:
    """The model of an authors' file, in eval mode; ``config`` None is that of the file. Raises ModelError."""
    import torch

    from .checkpoint.original import read_original
    from .checkpoint.weights import check_values
    from .modeling import XCLIPModel

    own_config, stored = read_original(path)
    with torch.device("meta"):
        model = XCLIPModel(config or own_config)
    state = {name: tensor.to(device, dtype) for name, tensor in stored.items() if wanted(name)}
    for name, tensor in state.items():
        check_values(path, name, stored[name], tensor)
    model.load_state_dict(state, assign=True, strict=False)  # those not wanted are missing
    return model.eval()


def convert(checkpoint: Checkpoint, folder: Path, tokenizer: str | None = None, heads: int | None = None) -> None:
    """Write a checkpoint as a Hugging Face-style folder, weights in float32. Raises ModelError."""
    import torch

    from .processor import XCLIPProcessor

    config = load_config(checkpoint, heads)
    processor = XCLIPProcessor(load_image_processor(checkpoint, config), load_tokenizer(checkpoint, tokenizer))
    model = load_model(checkpoint, config, torch.float32, torch.device("cpu"))
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
