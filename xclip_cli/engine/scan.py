"""The similarity of few texts and many encodings: a second way of computing what ``XCLIPModel.similarity`` does.

In the prompt generator few queries look at many tokens. Its key and value matrices are absorbed into the queries, so
that no token is projected: per head, ``softmax(q W_k X^T) X W_v^T`` is computed from the outside in. The numbers are
the same, up to rounding.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from ..model.modeling import XCLIPModel


def is_faster(model: XCLIPModel, texts: int, tokens: int) -> bool:
    """Whether absorbing pays for so many texts, for encodings of so many tokens: it saves two products a token, and
    costs each text and head a longer vector. By count of multiplications, of which smaller products get fewer a second.
    """
    width, heads = model.config.projection_dim, model.config.prompt_num_attention_heads
    pays: bool = 2 * texts * (tokens * (heads - 1) + width) < tokens * width
    return pays


def absorbed_similarity(model: XCLIPModel, texts: Tensor, features: Tensor, tokens: Tensor) -> Tensor:
    """Text features [K, P], video features [B, P] and visual tokens [B, n, P] → logits [B, K]."""
    generator: Any = model.prompts_generator
    visual = generator.layernorm(tokens)
    stream = texts.to(tokens.dtype).unsqueeze(0)  # [1, K, P] until it has seen the videos
    for layer in generator.decoder:
        stream = stream + _attended(layer.cross_attn, layer.norm1(stream), visual)
        stream = stream + layer.mlp(layer.norm3(stream))
    return logits_of(model, texts.float() + (generator.alpha * stream).float(), features)


def logits_of(model: XCLIPModel, prompted: Tensor, features: Tensor) -> Tensor:
    """Text features with prompts [B, K, P] and video features [B, P] → logits [B, K]. Of the size of the first only
    one tensor is made, which unit vectors and their products would be more of."""
    wide = features.to(prompted.dtype)
    cosines = torch.einsum("bp,bkp->bk", wide, prompted)
    cosines = cosines / (prompted.norm(dim=-1) * wide.norm(dim=-1, keepdim=True))
    logits: Tensor = cosines * model.logit_scale.to(prompted.dtype).exp()
    return logits


def _attended(attention: Any, texts: Tensor, visual: Tensor) -> Tensor:
    """Texts [1 or B, K, P] look at tokens [B, n, P] → [B, K, P]."""
    batch, count, width = texts.shape
    heads = attention.heads
    queries = attention.q_proj(texts).view(batch * count, heads, -1).transpose(0, 1)  # [H, bK, d]
    keys = attention.k_proj.weight.view(heads, -1, width)  # [H, d, P]
    absorbed = (queries @ keys * (width // heads) ** -0.5).transpose(0, 1)  # [bK, H, P]
    absorbed = absorbed.reshape(batch, count * heads, width)
    # [B, KH, n]; of texts that have not seen the videos in one product for all of them
    scores = (visual @ absorbed[0].T).transpose(1, 2) if batch == 1 else absorbed @ visual.transpose(1, 2)
    seen = scores.float().softmax(dim=-1).to(visual.dtype) @ visual  # [B, KH, P]
    values = attention.v_proj.weight.view(heads, -1, width)
    seen = seen.view(-1, heads, width).transpose(0, 1) @ values.transpose(1, 2)  # [H, BK, d]
    out: Tensor = attention.proj(seen.transpose(0, 1).reshape(len(visual), count, width))
    return out
