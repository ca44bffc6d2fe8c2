"""Checkpoints as the authors' training saves them."""

from __future__ import annotations

import sys
import types
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

TRAINING = {
    "BASE": [""],
    "DATA": {"NUM_FRAMES": 5, "DATASET": "kinetics400"},
    "MODEL": {"ARCH": "ViT-B/8", "RESUME": None},
}


def original_names(state: dict[str, Tensor]) -> OrderedDict[str, Tensor]:
    """A Hugging Face state dict as the authors' modules name and lay out the same weights."""
    theirs: OrderedDict[str, Tensor] = OrderedDict()

    def both(name: str, ours: str) -> None:
        theirs[f"{name}.weight"], theirs[f"{name}.bias"] = state[f"{ours}.weight"], state[f"{ours}.bias"]

    def attention(name: str, ours: str) -> None:  # as torch.nn.MultiheadAttention
        for kind in ("weight", "bias"):
            theirs[f"{name}.in_proj_{kind}"] = torch.cat([state[f"{ours}.{x}_proj.{kind}"] for x in "qkv"])
        both(f"{name}.out_proj", f"{ours}.out_proj")

    def blocks(name: str, ours: str, messages: bool = False) -> None:
        for i in range(len({key.split(".")[ours.count(".") + 1] for key in state if key.startswith(f"{ours}.")})):
            if messages:
                both(f"{name}.{i}.message_fc", f"{ours}.{i}.message_fc")
                both(f"{name}.{i}.message_ln", f"{ours}.{i}.message_ln")
                attention(f"{name}.{i}.message_attn", f"{ours}.{i}.message_attn")
            attention(f"{name}.{i}.attn", f"{ours}.{i}.self_attn")
            both(f"{name}.{i}.ln_1", f"{ours}.{i}.layer_norm1")
            both(f"{name}.{i}.mlp.c_fc", f"{ours}.{i}.mlp.fc1")
            both(f"{name}.{i}.mlp.c_proj", f"{ours}.{i}.mlp.fc2")
            both(f"{name}.{i}.ln_2", f"{ours}.{i}.layer_norm2")

    theirs["positional_embedding"] = state["text_model.embeddings.position_embedding.weight"]
    theirs["text_projection"] = state["text_projection.weight"].T.contiguous()
    theirs["logit_scale"] = state["logit_scale"]
    theirs["prompts_visual_proj"] = state["prompts_visual_projection"]
    theirs["prompts_generator.alpha"] = state["prompts_generator.alpha"]
    both("prompts_generator.norm", "prompts_generator.layernorm")
    for name in state:
        if name.startswith("prompts_generator.decoder."):
            theirs[name] = state[name]
    theirs["mit.positional_embedding"] = state["mit.position_embedding"]
    blocks("mit.resblocks", "mit.encoder.layers")
    theirs["visual.class_embedding"] = state["vision_model.embeddings.class_embedding"]
    theirs["visual.positional_embedding"] = state["vision_model.embeddings.position_embedding.weight"]
    theirs["visual.proj"] = state["visual_projection.weight"].T.contiguous()
    theirs["visual.conv1.weight"] = state["vision_model.embeddings.patch_embedding.weight"]
    both("visual.ln_pre", "vision_model.pre_layernorm")
    blocks("visual.transformer.resblocks", "vision_model.encoder.layers", messages=True)
    both("visual.ln_post", "vision_model.post_layernorm")
    blocks("transformer.resblocks", "text_model.encoder.layers")
    theirs["token_embedding.weight"] = state["text_model.embeddings.token_embedding.weight"]
    both("ln_final", "text_model.final_layer_norm")
    both("prompts_visual_ln", "prompts_visual_layernorm")
    return theirs


def write_original(path: Path, weights: dict[str, Tensor], **options: Any) -> Path:
    """What the authors' training saves: weights, optimizer, scheduler, progress and a config of a class of yacs."""
    parameters = [torch.nn.Parameter(torch.ones(3, 2)), torch.nn.Parameter(torch.ones(4))]
    optimizer = torch.optim.AdamW(parameters, lr=8e-6)
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    yacs, module = types.ModuleType("yacs"), types.ModuleType("yacs.config")

    class CfgNode(dict[str, Any]):  # as yacs: a dict whose marks are attributes
        def __init__(self, values: dict[str, Any]) -> None:
            super().__init__({k: CfgNode(v) if isinstance(v, dict) else v for k, v in values.items()})
            self.__dict__["__immutable__"] = True
            self.__dict__["__deprecated_keys__"] = set()

    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    module.CfgNode = CfgNode  # type: ignore[attr-defined]
    sys.modules |= {"yacs": yacs, "yacs.config": module}
    try:
        run = {
            "model": weights,
            "optimizer": optimizer.state_dict(),
            "lr_scheduler": {"t_initial": 30, "base_values": [8e-6], "warmup": partial(max, 0), "step": np.int64(3)},
            "max_accuracy": np.float64(80.4),
            "epoch": 29,
            "config": CfgNode(TRAINING),
        }
        torch.save(run, path, **options)
    finally:
        del sys.modules["yacs"], sys.modules["yacs.config"]
    return path
