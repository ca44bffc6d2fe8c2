"""The benchmarks on models and clips so small that their figures mean nothing: they run, and say what they should."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from benchmarks import gpu
from benchmarks.rows import Ticks, busyness

from xclip_cli import XCLIPConfig


def tiny() -> XCLIPConfig:
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**small, "image_size": 32, "patch_size": 16, "mit_hidden_size": 32, "mit_intermediate_size": 64}
    return XCLIPConfig(text_config=small, vision_config={**vision, "mit_num_attention_heads": 2}, projection_dim=32)


@pytest.mark.slow
def test_the_figures_of_a_gpu_are_measured_in_one_run() -> None:
    size, clips = gpu.Size("tiny", 2, 5000, 1.5, tiny), gpu.Clips(64, 48, 2, 2, 0.75)
    rows = list(gpu.rows(torch.device("cpu"), [size], [clips], videos=40))
    assert [row.what for row in rows] == [
        "cpu: products in bfloat16",
        "tiny, batch 2: encode",
        "tiny, batch 2: encode",
        "16 workers with pictures of 320x240 at hand: the parent's own time a picture",
        "16 workers with pictures of 320x240 at hand, resized: 2 threads",
        "tiny, one clip: pixels → 400 logits",
        "the same logits in float32",
        "classify, 64x48, 4 s",
        "classify, 64x48, 4 s: the parent's own time a picture",
    ]
    assert rows[2].against.startswith("transformers")
    assert all(row.ratio >= 0 for row in rows)


def test_a_machine_is_busy_by_what_others_took_of_its_cores() -> None:
    now = Ticks.now()
    assert now is not None
    cores = os.cpu_count() or 1
    later = replace(now, moment=now.moment + 10, everybody=now.everybody + 9 * cores, ours=now.ours + 8.9 * cores)
    assert busyness(now, later) == ""
    assert busyness(None, later) == ""
    busy = replace(later, ours=now.ours + 6 * cores)
    assert busyness(now, busy) == "busy: others 30% of the cores, stolen 0%"
    assert busyness(now, replace(later, stolen=now.stolen + cores)) == "busy: others 1% of the cores, stolen 10%"
