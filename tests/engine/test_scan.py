"""The second way of computing similarity gives what the first does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import one_thread  # noqa: F401

from xclip_cli import XCLIPConfig, XCLIPModel
from xclip_cli.engine.scan import absorbed_similarity, is_faster

TINY = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}


def model(width: int, heads: int, layers: int, scale: float, seed: int, dtype: torch.dtype) -> XCLIPModel:
    torch.manual_seed(seed)
    config = XCLIPConfig(
        text_config=TINY,
        vision_config={**TINY, "mit_hidden_size": width, "mit_num_attention_heads": heads},
        projection_dim=width,
        prompt_num_attention_heads=heads,
        prompt_layers=layers,
        logit_scale_init_value=scale,
        prompt_alpha=1.0,
    )
    made = XCLIPModel(config)
    with torch.no_grad():
        for name, parameter in made.prompts_generator.named_parameters():
            if "norm" in name:  # no gain of 1, no bias of 0
                parameter.add_(torch.randn_like(parameter) / 4)
            else:
                parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5)
    return made.to(dtype).eval()


@settings(max_examples=60, deadline=None)
@given(
    heads=st.sampled_from([1, 2, 4]),
    depth=st.sampled_from([4, 8]),
    layers=st.integers(1, 3),
    tokens=st.integers(1, 30),
    texts=st.integers(1, 9),
    videos=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_absorbed_is_similarity(
    heads: int, depth: int, layers: int, tokens: int, texts: int, videos: int, seed: int
) -> None:
    made = model(heads * depth, heads, layers, 0.0, seed, torch.float32)
    t, v, x = (torch.randn((*shape, heads * depth)) for shape in ((texts,), (videos,), (videos, tokens)))
    with torch.inference_mode():
        expected = made.similarity(t, v, x).logits_per_video
        torch.testing.assert_close(absorbed_similarity(made, t, v, x), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("texts", [1, 5])
def test_absorbed_in_bfloat16_is_as_near_to_float32_as_similarity(texts: int) -> None:
    made = model(64, 4, 2, 0.0, 0, torch.float32)
    t, v, x = torch.randn(texts, 64), torch.randn(50, 64), torch.randn(50, 20, 64).bfloat16()
    with torch.inference_mode():
        exact = made.similarity(t, v, x.float()).logits_per_video
        made = made.bfloat16()
        ours = (absorbed_similarity(made, t, v, x) - exact).abs().mean()
        theirs = (made.similarity(t, v, x).logits_per_video - exact).abs().mean()
    assert ours <= theirs * 1.2


def test_it_is_used_for_few_texts() -> None:
    made = model(64, 4, 2, 0.0, 0, torch.float32)
    assert is_faster(made, 1, 49)
    assert not is_faster(made, 400, 49)
