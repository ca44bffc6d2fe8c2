"""Where the tests take the truth from: models, tokenizers and checkpoint folders made by transformers, not by xclip."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import pre_tokenizers
from torch import Tensor
from transformers.activations import ACT2FN
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

transformers.utils.logging.disable_progress_bar()
ACT2FN["selu"] = torch.nn.SELU  # their documentation has it, their table does not

TOLERANCE = 5e-5  # of a tensor's largest value, float32
LABEL_FILES = sorted((Path(__file__).parent.parent / "prompts" / "labels").glob("*.txt"))
START, END = "<|startoftext|>", "<|endoftext|>"
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
MERGES = 300


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """For modules that import it: tensors this small are slower on several threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def shipped_labels() -> list[str]:
    """Every line of the shipped label sets that is a label."""
    lines = [line.strip() for path in LABEL_FILES for line in path.read_text("utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


@cache
def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary of CLIP's making, learned from the label sets: token → id, and the merges in order.

    Bytes, bytes that end a word, merges, start, end: as in CLIP's own, nothing is unknown and the end token's id is
    the largest.
    """
    theirs = transformers.CLIPTokenizer().backend_tokenizer
    words = set()
    for label in shipped_labels():
        pieces = theirs.pre_tokenizer.pre_tokenize_str(theirs.normalizer.normalize_str(label))
        words |= {(*piece[:-1], piece[-1] + "</w>") for piece, _ in pieces}
    spellings, merges = [list(word) for word in sorted(words)], []
    while len(merges) < MERGES:
        counts = Counter(pair for word in spellings for pair in pairwise(word))
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        merges.append(pair)
        for word in spellings:
            for i in range(len(word) - 2, -1, -1):
                if (word[i], *word[i + 1 : i + 2]) == pair:
                    word[i : i + 2] = ["".join(pair)]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet), *("".join(pair) for pair in merges), START, END]
    return {token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges


def tokenizer() -> transformers.CLIPTokenizer:
    """A new tokenizer of transformers over ``vocabulary``."""
    tokens, merges = vocabulary()
    return transformers.CLIPTokenizer(vocab=dict(tokens), merges=list(merges), model_max_length=77)


def image_processor(size: int, crop_size: int | None = None, **changes: Any) -> VideoMAEImageProcessorPil:
    """The image processor of the released checkpoints, which resizes with Pillow."""
    crop_size = size if crop_size is None else crop_size
    settings = {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD} | changes
    crop = {"height": crop_size, "width": crop_size}
    return VideoMAEImageProcessorPil(size={"shortest_edge": size}, crop_size=crop, **settings)


def config(text: dict[str, Any] | None = None, vision: dict[str, Any] | None = None, **top: Any) -> Any:
    """A small ``transformers.XCLIPConfig`` that differs from the defaults wherever a default could hide a fault."""
    text_config = {
        "vocab_size": len(vocabulary()[0]),
        "hidden_size": 24,
        "intermediate_size": 40,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "max_position_embeddings": 77,
    }
    vision_config = {
        "hidden_size": 36,
        "intermediate_size": 56,
        "num_hidden_layers": 2,
        "num_attention_heads": 6,
        "mit_intermediate_size": 44,
        "mit_num_hidden_layers": 1,
        "mit_num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 16,
        "num_frames": 8,
    }
    whole = {"projection_dim": 32, "prompt_alpha": 0.7, "prompt_num_attention_heads": 4, **top}
    vision_config["mit_hidden_size"] = whole["projection_dim"]
    return transformers.XCLIPConfig(
        text_config=text_config | (text or {}), vision_config=vision_config | (vision or {}), **whole
    )


def randomise(model: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter values that matter: no zero biases, no unit norms, no shared alpha."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = torch.randn(parameter.shape, generator=generator)
            if name == "logit_scale":
                parameter.fill_(2.5)
            elif name.endswith("alpha"):
                parameter.copy_(0.8 + values)
            elif parameter.ndim < 2:
                parameter.copy_(("norm" in name or "_ln" in name) * float(name.endswith("weight")) + 0.3 * values)
            else:
                parameter.copy_(values * 1.2 * parameter[0].numel() ** -0.5)


def model(config: Any, seed: int = 0, attention: str = "eager") -> Any:
    """A ``transformers.XCLIPModel`` with every weight random, in eval mode."""
    made = transformers.XCLIPModel._from_config(config, attn_implementation=attention).eval()
    randomise(made, seed)
    return made


def checkpoint(folder: Path, config: Any, seed: int = 0) -> Path:
    """A whole checkpoint folder: config, random weights, tokenizer, image processor."""
    model(config, seed).save_pretrained(folder)
    processor(config.vision_config.image_size).save_pretrained(folder)
    return folder


def processor(size: int, crop_size: int | None = None) -> transformers.XCLIPProcessor:
    """Their whole processor, over ``vocabulary``."""
    return transformers.XCLIPProcessor(image_processor(size, crop_size), tokenizer())


def token_ids(config: Any, lengths: Iterable[int], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random texts of these lengths as ``input_ids`` and ``attention_mask``, padded with the end token, as CLIP's."""
    generator = torch.Generator().manual_seed(seed)
    lengths, end = list(lengths), config.text_config.vocab_size - 1
    ids = torch.randint(1, end - 1, (len(lengths), max(lengths)), generator=generator)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, length - 1 :] = end
        mask[row, :length] = 1
    return ids, mask


def clips(config: Any, videos: int, seed: int = 0) -> Tensor:
    """Random ``pixel_values`` for that many videos."""
    vision = config.vision_config
    shape = (videos, vision.num_frames, vision.num_channels, vision.image_size, vision.image_size)
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def assert_agree(ours: Tensor, theirs: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Same shape and kind of numbers, and no value differs by more than ``tolerance`` of the largest."""
    assert ours.shape == theirs.shape, f"{what}: {list(ours.shape)}, theirs is {list(theirs.shape)}"
    assert ours.dtype == theirs.dtype, f"{what}: {ours.dtype}, theirs is {theirs.dtype}"
    largest, difference = theirs.abs().max().item(), (ours - theirs).abs().max().item()
    assert difference <= tolerance * largest, f"{what}: {difference:.3g} apart, the largest value is {largest:.3g}"
