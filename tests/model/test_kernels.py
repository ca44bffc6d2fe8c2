"""What a GPU computes in its own way, proven without one: the same arithmetic, compiled or computed for a CPU."""

from __future__ import annotations

import subprocess
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from conftest import program
from reference import one_thread  # noqa: F401
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from xclip_cli.model import VideoMAEImageProcessor, XCLIPConfig, XCLIPModel, images, kernels, modeling
from xclip_cli.model.modeling import PatchEmbedding, quick_gelu

MAIN = """
#include <cmath>
#include <cstdio>
%s
int main() { float x; while (fread(&x, 4, 1, stdin)) { float y = quick_gelu(x); fwrite(&y, 4, 1, stdout); } }
"""


def test_the_kernel_of_quick_gelu_is_quick_gelu(tmp_path: Path) -> None:
    source, built = tmp_path / "kernel.cpp", tmp_path / "kernel"
    source.write_text(MAIN % kernels.QUICK_GELU)
    subprocess.run([program("c++", "g++", "clang++"), source, "-o", built], check=True)
    x = torch.cat([torch.linspace(-120, 120, 2401), torch.tensor([0.0, 1e-30, -1e-30, 3e38])])
    done = subprocess.run([built], input=x.numpy().tobytes(), capture_output=True, check=True)
    found = torch.frombuffer(bytearray(done.stdout), dtype=torch.float32)
    wide = x.double()
    torch.testing.assert_close(found.double(), wide * torch.sigmoid(1.702 * wide), rtol=1e-5, atol=1e-7)


def test_the_kernel_computes_inference_on_a_gpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    x, taken = torch.randn(3, 4), []

    def kernel(x: torch.Tensor) -> torch.Tensor:
        taken.append(x)
        return x * torch.sigmoid(1.702 * x)

    monkeypatch.setattr(modeling, "quick_gelu_kernel", lambda: kernel)
    with torch.inference_mode():
        expected = quick_gelu(x)
        assert not taken
        monkeypatch.setattr(modeling, "takes_kernels", lambda x: True)
        torch.testing.assert_close(quick_gelu(x), expected)
        assert len(taken) == 1
    quick_gelu(x.requires_grad_()).sum().backward()  # it has no gradient
    assert len(taken) == 1
    assert x.grad is not None


@pytest.mark.parametrize(("size", "height", "width"), [(4, 16, 16), (7, 31, 31), (14, 28, 45)])
def test_patches_as_a_product_are_the_convolution(size: int, height: int, width: int) -> None:
    """float64 is computed as on a GPU; pictures may leave a rest beside their patches."""
    torch.manual_seed(0)
    patches = PatchEmbedding(3, 20, kernel_size=size, stride=size, bias=False).double()
    pictures = torch.randn(5, 3, height, width, dtype=torch.float64, requires_grad=True)
    found, expected = patches(pictures), F.conv2d(pictures, patches.weight, stride=size)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    inputs, weight = pictures, patches.weight
    for ours, theirs in zip(
        torch.autograd.grad(found.square().sum(), (inputs, weight)),
        torch.autograd.grad(expected.square().sum(), (inputs, weight)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_patches_in_bfloat16_are_those_of_float32() -> None:
    torch.manual_seed(0)
    patches = PatchEmbedding(3, 20, kernel_size=8, stride=8, bias=False)
    pictures = torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        expected = patches(pictures)
        found = patches.bfloat16()(pictures.bfloat16()).float()
    assert (found - expected).norm() / expected.norm() < 5e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_pixels_normalised_in_one_kernel_are_those_in_steps(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    pictures = torch.randint(0, 256, (2, 3, 30, 20)).byte()
    processor = VideoMAEImageProcessor(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    expected = ((pictures.float() / 255 - mean) / std).to(dtype)
    found = processor.normalize(pictures, dtype)
    scale, shift = images._scale_and_shift(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), pictures.device)
    at_once = images.normalized_at_once(pictures, scale, shift, dtype)
    for pixels in (found, at_once):
        assert pixels.dtype == dtype
        torch.testing.assert_close(pixels, expected, atol=1e-6, rtol=torch.finfo(dtype).eps)


class Peak(TorchDispatchMode):
    """The most bytes that tensors hold at a time: of those made in the mode, on any device, meta included."""

    def __init__(self) -> None:
        super().__init__()
        self.held = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            storage = tensor.untyped_storage()
            if storage._cdata not in self._known:
                self._known.add(storage._cdata)
                self.held += storage.nbytes()
                self.most = max(self.most, self.held)
                weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())
        return made

    def _forget(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self.held -= size


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize(
    "vision", [{"patch_size": 32, "num_frames": 8}, {"patch_size": 16, "num_frames": 32}, {"patch_size": 14}], ids=str
)
def test_what_a_clip_holds_at_most_is_what_the_config_says(vision: dict[str, int], dtype: torch.dtype) -> None:
    config = XCLIPConfig(text_config={"num_hidden_layers": 1}, vision_config={**vision, "num_hidden_layers": 2})
    with torch.device("meta"):
        model = XCLIPModel(config).to(dtype).eval()
    clips, peak = torch.empty(4, config.vision_config.num_frames, 3, 224, 224, dtype=torch.uint8, device="meta"), Peak()
    with torch.inference_mode(), peak:
        pixel_values = torch.empty_like(clips, dtype=dtype)
        model.encode_video(pixel_values)
    held = peak.most / 4 + clips[0].nbytes
    assert 0.8 * config.video_bytes(dtype.itemsize) < held <= config.video_bytes(dtype.itemsize)
