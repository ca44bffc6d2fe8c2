"""A vision encoder in 8-bit integers, against floating point and against transformers."""

from __future__ import annotations

import copy
import ctypes
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import reference
import torch
from clips import write_clip
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from xclip_cli import Classifier, Index, XClipError
from xclip_cli.embedding import Embedding, index_settings
from xclip_cli.engine.devices import check_precision, choose_dtype
from xclip_cli.engine.encoder import Encoder
from xclip_cli.model import XCLIPModel
from xclip_cli.model.int8 import LOWEST, ROWS, InParts, Int8Linear, computes_int8, has_outlier, quantise
from xclip_cli.model.packing import pack_linears
from xclip_cli.search import search

CPU = torch.device("cpu")
native = pytest.mark.skipif(not computes_int8(), reason="this CPU does not multiply 8-bit integers natively")


def linear(rows: int = 48, columns: int = 64) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(columns, rows).requires_grad_(False)


def off(found: Tensor, expected: Tensor) -> Tensor:
    """How far each token is off, as a share of its length."""
    return (found.double() - expected.double()).norm(dim=-1) / expected.double().norm(dim=-1)


@native
@pytest.mark.parametrize("lowest", [None, LOWEST["quick_gelu"]])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_linear_layer_is_near_and_packing_changes_no_number(lowest: float | None, dtype: torch.dtype) -> None:
    layer, x = linear(), torch.randn(3, 17, 64)
    x = x if lowest is None else x * torch.sigmoid(1.702 * x)
    made = Int8Linear([layer], lowest)
    with torch.inference_mode():
        found = made(x.to(dtype))
        assert found.dtype == torch.float32
        assert off(found, layer(x)).max() < 0.015
        made.pack(51)
        assert torch.equal(made(x.to(dtype)), found)


@native
def test_a_token_and_a_channel_have_scales_of_their_own() -> None:
    """Large ones, and tokens of zeros, leave the others as exact as before."""
    layer, x = linear(), torch.randn(20, 64)
    x[3] *= 1000
    x[4] = 0
    layer.weight[5] *= 1000
    with torch.inference_mode():
        found, expected = Int8Linear([layer])(x), layer(x)
    others = [i for i in range(48) if i != 5]
    assert torch.equal(found[4], layer.bias)
    tokens = [i for i in range(20) if i != 4]
    assert off(found[tokens][:, others], expected[tokens][:, others]).max() < 0.02
    tokens.remove(3)
    assert off(found[tokens].T, expected[tokens].T).max() < 0.02


@native
def test_a_lower_bound_halves_the_step() -> None:
    layer, x = linear(), torch.randn(200, 64).relu()
    with torch.inference_mode():
        plain, bounded = (off(Int8Linear([layer], low)(x), layer(x)).mean() for low in (None, 0.0))
    assert bounded < 0.8 * plain


@native
def test_what_is_not_finite_stays_so() -> None:
    x = torch.randn(4, 64)
    x[0, 0], x[1, 0] = torch.nan, torch.inf
    with torch.inference_mode():
        found = Int8Linear([linear()])(x)
    assert not found[:2].isfinite().any()
    assert found[2:].isfinite().all()


def test_outliers_show_in_the_weights_that_give_them() -> None:
    norm, layer = nn.LayerNorm(64), linear()
    assert not has_outlier(norm)
    assert not has_outlier(layer)
    norm.weight.data[7] = 20.0
    layer.bias[3] = 40.0
    assert has_outlier(norm)
    assert has_outlier(layer)


HOLES = """
import os, torch
from xclip_cli.model.config import XCLIPVisionConfig
from xclip_cli.model.int8 import quantise
from xclip_cli.model.modeling import VisionTransformer

def held():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")

vision = VisionTransformer(XCLIPVisionConfig(num_hidden_layers=1))
kept = [torch.ones(20_000) for _ in range(4000)][::2]
before = held()
quantise(vision)
print(before - held())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="not glibc")
def test_what_was_freed_before_goes_back_to_the_system() -> None:
    done = subprocess.run([sys.executable, "-c", HOLES], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 100 << 20  # of 160 MB


def largest_made(run: Callable[[], object]) -> int:
    """The bytes of the largest tensor that is made meanwhile."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as made:
        run()
    return max(event.self_cpu_memory_usage for event in made.events())


@native
def test_no_tensor_is_larger_than_it_need_be() -> None:
    """Of a weight, which would leave a hole in memory, and between the two halves of an MLP."""
    layer = linear(3072, 1024).bfloat16()
    assert largest_made(lambda: Int8Linear([layer])) == 3072 * 1024
    assert largest_made(lambda: has_outlier(layer)) < 3072 * 1024
    mlp = InParts(nn.Sequential(Int8Linear([layer]), Int8Linear([linear(1024, 3072)])))
    tokens = torch.randn(2, 2 * ROWS, 1024)
    assert largest_made(lambda: mlp(tokens)) == tokens.nbytes
    assert torch.equal(mlp(tokens)[1], mlp.module(tokens[1]))


@native
@pytest.mark.parametrize("planted", [False, True])
def test_the_vision_encoder_is_near_transformers(planted: bool) -> None:
    """Layers whose input has outliers are left as they are: with them all others would be far off."""
    config = reference.config(vision={"hidden_size": 48, "num_attention_heads": 6, "num_hidden_layers": 3})
    theirs = reference.model(config)
    if planted:
        with torch.no_grad():
            for layer in theirs.vision_model.encoder.layers:
                layer.layer_norm1.weight[5] *= 40
                layer.layer_norm2.weight[9] *= 40
    ours = XCLIPModel(XCLIPModel.config_class.from_dict(config.to_dict())).eval()
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(2, 8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = theirs.vision_model(pixels.flatten(0, 1)).last_hidden_state
        rough = copy.deepcopy(ours).bfloat16()
        integers = copy.deepcopy(rough)
        quantise(integers.vision_model)
        found = integers.vision_model(pixels.bfloat16(), output_hidden_states=True)
        usual = off(rough.vision_model(pixels.bfloat16()).last_hidden_state, expected).mean()
        kept = sum(isinstance(module, Int8Linear) for module in integers.modules())
        assert kept == (9 if planted else 18)  # of the planted: what takes hidden units, and messages
        assert off(found.last_hidden_state, expected).mean() < 3 * usual
        assert {state.dtype for state in found.hidden_states} == {torch.bfloat16}
        pack_linears(integers.vision_model, 64)
        packed = integers.vision_model(pixels.bfloat16()).last_hidden_state
        assert torch.equal(packed, found.last_hidden_state) or planted  # other layers' products may round otherwise


def test_it_is_refused_where_it_is_not_native(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    with pytest.raises(XClipError, match="int8 needs a CPU with VNNI or AMX instructions.*use bfloat16 or float32"):
        check_precision("int8", [CPU])
    with pytest.raises(XClipError, match="int8 runs on CPUs only, not on cuda:0"):
        check_precision("int8", [torch.device("cuda", 0)])
    assert choose_dtype("auto", CPU) == torch.float32


@native
def test_an_index_of_it_is_searched_where_it_is_not_native(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its encodings are compared with texts as bfloat16's are; a file is refused."""
    video = str(write_clip(tmp_path / "a.mp4", 20))
    with Encoder(checkpoint, dtype="int8", device="cpu", threads=1) as encoder:
        with closing(Embedding(encoder, tmp_path / "index", index_settings(encoder))) as embedding:
            list(embedding.records([video]))
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    with Index.open(tmp_path / "index") as index:
        assert search(index, "a cat")
    with Classifier(checkpoint, labels=["a cat"], dtype="int8", cache=False) as classifier:
        with pytest.raises(XClipError, match="int8 needs a CPU with VNNI"):
            classifier.classify(video)


@native
def test_headers_and_indexes_name_it(checkpoint: Path, tmp_path: Path) -> None:
    """What an index holds scores as the file does, and is not to be mixed with bfloat16's."""
    video = str(write_clip(tmp_path / "a.mp4", 20))
    with Encoder(checkpoint, dtype="int8", device="cpu", threads=1) as encoder:
        assert encoder.description().endswith("on cpu, int8")
        settings = index_settings(encoder)
        assert settings.dtype == "int8"
        with closing(Embedding(encoder, tmp_path / "index", settings)) as embedding:
            list(embedding.records([video]))
    made = Classifier(checkpoint, labels=["a cat", "a dog"], dtype="int8", threads=1, cache=False)
    with made as classifier, Index.open(tmp_path / "index") as index:
        assert classifier.run_header(None, None, 0).dtype == "int8"
        (of_file,) = classifier.classify_all([video])
        (of_index,) = classifier.classify_all(index)
        (stored,) = index
        assert stored.tokens.any()
    assert of_index.predictions == of_file.predictions
    with Encoder(checkpoint, dtype="bfloat16", device="cpu") as other:
        assert settings.differences(index_settings(other)) == ["dtype int8, not bfloat16"]


@native
def test_it_quantises_when_it_loads_and_packs_for_many(checkpoint: Path, tmp_path: Path) -> None:
    """One video and many have the same numbers."""
    videos = [str(write_clip(tmp_path / f"{count}.mp4", count)) for count in (8, 20)]
    with Encoder(checkpoint, dtype="int8", device="cpu", threads=1) as encoder:
        alone = [encoder.encode(video) for video in videos]
        layers = [module for module in encoder.model.modules() if isinstance(module, Int8Linear)]
        assert layers
        assert not any(layer.packed for layer in layers)
        encoder.pack()
        assert all(layer.packed for layer in layers)
        for video, found in zip(videos, alone, strict=True):
            assert torch.equal(encoder.encode(video).features, found.features)


@native
@pytest.mark.slow
def test_full_size_with_outliers_is_within_a_half_more_than_bfloat16() -> None:
    """base-patch32's sizes, random weights; a few channels of norms and of hidden units 40 times the others."""
    torch.manual_seed(0)
    theirs = reference.transformers.XCLIPModel(reference.transformers.XCLIPConfig()).eval()
    with torch.no_grad():
        theirs.mit.position_embedding.mul_(0.1)  # as in the benchmarks
        theirs.logit_scale.fill_(4.6052)
        for number, layer in enumerate(theirs.vision_model.encoder.layers):
            outlier = (layer.layer_norm1, layer.layer_norm2, layer.mlp.fc1)[number % 3].weight
            outlier[[5, 133, 400, 701]] *= 40 if number % 2 else 1
    ours = XCLIPModel(XCLIPModel.config_class.from_dict(theirs.config.to_dict())).eval()
    ours.load_state_dict(theirs.state_dict())
    del theirs
    pixels = torch.rand(8, 1, 3, 7, 7).repeat_interleave(8, dim=1) + 0.3 * torch.randn(8, 8, 3, 7, 7)
    pixels = nn.functional.interpolate(pixels.flatten(0, 1), 224, mode="bicubic").unflatten(0, (8, 8))
    with torch.inference_mode():
        texts = torch.randn(50, 512)
        exact = _logits(ours, texts, pixels)
        rough = ours.bfloat16()
        usual = (_logits(rough, texts, pixels) - exact).abs()
        quantise(rough.vision_model)
        found = (_logits(rough, texts, pixels) - exact).abs()
    assert found.max() < 1.5 * usual.max()
    assert found.square().mean().sqrt() < 1.5 * usual.square().mean().sqrt()


def _logits(model: XCLIPModel, texts: Tensor, pixels: Tensor) -> Tensor:
    video = model.encode_video(pixels.to(model.dtype))
    logits: Tensor = model.similarity(texts, video.features, video.visual_tokens).logits_per_video
    return logits.float()
