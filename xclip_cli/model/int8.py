"""Linear layers in 8-bit integers, for a CPU that multiplies those natively: half of bfloat16's time.

A weight has a scale a row (an output channel), an input one a token, found as it comes. Products are oneDNN's, through
the operations that torch uses for quantised models. What lies between them is as always, but in float32: that costs
less than to convert to bfloat16 and back, as inputs are quantised from float32, and makes up for part of the error.
"""

from __future__ import annotations

import ctypes
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .modeling import Activation, Attention, TransformerStack, VisionTransformer, attend
from .outputs import BaseModelOutput

LARGEST = 127  # of what may be below zero
ZERO = 128  # lies between a signed byte and an unsigned one
INTEGERS = 1.5 * 2.0**23  # a small number added to this in float32 is rounded, and stands in the lowest bits
ROWS = 256  # at once, of what need not all be there at a time: larger tensors are no faster
WEIGHTS_AT_ONCE = 1 << 18  # among tensors that stay, large ones that come and go leave holes as large as all of them
TINY = torch.finfo(torch.float32).tiny
NATIVE = ("avx512_vnni", "avx_vnni", "amx_int8")  # a processor has one of these, or it emulates
LOWEST = {"quick_gelu": -0.1637, "gelu": -0.17, "relu": 0.0}  # that an activation gives: more of the range is left
OUTLIER = 6.0  # times the median of an input's channels, by what gives them: one such, and the layer is left as it is


def computes_int8() -> bool:
    """Whether this torch and this processor have what it takes."""
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    operations = torch.ops.onednn
    there = hasattr(operations, "qlinear_prepack") and hasattr(operations, "qlinear_pointwise")
    return there and hasattr(torch, "_int_mm") and any(capabilities.get(name) for name in NATIVE)


class Int8Linear(nn.Module):
    """A linear layer for inference, [..., in] → [..., out] in float32; it has the weights of several, one after the
    other. ``lowest``: no input is below it, where that is known."""

    def __init__(self, linears: Sequence[nn.Linear], lowest: float | None = None) -> None:
        super().__init__()
        bias = torch.cat([linear.bias.detach().float() for linear in linears])
        self.weight = torch.empty(len(bias), linears[0].in_features, dtype=torch.int8)
        self.scales, self.sums = torch.empty(len(bias)), torch.empty(len(bias), dtype=torch.int32)  # of each row
        self.zeros = torch.zeros(len(bias), dtype=torch.int64)
        self.lowest, self.packed = lowest, False
        parts = [part for linear in linears for part in _parts(linear.weight.detach())]
        sizes = [len(part) for part in parts]
        places = (torch.split(made, sizes) for made in (self.weight, self.scales, self.sums))
        for part, *place in zip(parts, *places, strict=True):
            _round(part, *place)
        if lowest is not None:  # x - lowest is what is quantised: what that adds to each output is taken away again
            bias += lowest * self.sums * self.scales
        self.bias = bias

    def pack(self, rows: int) -> None:
        """Lay the weight out as the product wants it, of so many ``rows`` mostly: takes about as long as a clip does,
        and gives the same numbers sooner."""
        self.weight, self.packed = torch.ops.onednn.qlinear_prepack(self.weight, [rows, self.weight.shape[1]]), True

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        levels, scales = self._quantised(x.flatten(0, -2).float())
        product = self._packed_product(levels) if self.packed else self._product(levels)
        return torch.addcmul(self.bias, product, scales, out=product).view(*x.shape[:-1], -1)

    def _quantised(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs [M, in] as bytes, and the scale of each row [M, 1]."""
        if self.lowest is None:
            scales = _largest(x).clamp_min_(TINY).div_(LARGEST)
            x, zero = x * scales.reciprocal(), ZERO
        else:
            x, zero = x - self.lowest, 0
            scales = x.amax(dim=1, keepdim=True).clamp_min_(TINY).div_(LARGEST + ZERO)
            x.mul_(scales.reciprocal())
        x.add_(INTEGERS + zero - (0 if self.packed else ZERO))
        return x.view(torch.int32).to(torch.int8), scales

    def _product(self, levels: Tensor) -> Tensor:
        """Bytes [M, in], signed → [M, out]."""
        product = torch._int_mm(levels, self.weight.t())
        if self.lowest is not None:
            product += ZERO * self.sums
        return product.float().mul_(self.scales)

    def _packed_product(self, levels: Tensor) -> Tensor:
        """The same of unsigned bytes: oneDNN has fast products of these only."""
        zero = ZERO if self.lowest is None else 0
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            levels.view(torch.uint8),
            *(1.0, zero),
            *(self.weight, self.scales, self.zeros),
            *(None, 1.0, 0, torch.float32, "none", [], ""),
        )
        return product


def _round(weight: Tensor, rounded: Tensor, scales: Tensor, sums: Tensor) -> None:
    """A part of a weight as int8, the scale of each row, and the sum of its integers."""
    wide = weight.float()
    scale = _largest(wide).clamp_min_(TINY).div_(LARGEST)
    whole = (wide * scale.reciprocal()).round_()
    rounded.copy_(whole)
    scales.copy_(scale.flatten())
    sums.copy_(whole.sum(dim=1))


def _parts(weight: Tensor) -> tuple[Tensor, ...]:
    """Some of its rows at a time."""
    return torch.split(weight, max(1, WEIGHTS_AT_ONCE // weight.shape[1]))


def _largest(x: Tensor) -> Tensor:
    """The largest number of each row, by its absolute value, [rows, 1]: faster than a maximum of absolute values."""
    return torch.maximum(x.amax(dim=1, keepdim=True), -x.amin(dim=1, keepdim=True))


class WideLinear(nn.Module):
    """A linear layer that is left as it is, between tensors in float32."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.linear, self._dtype = linear, linear.weight.dtype

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        out: Tensor = self.linear(x.to(self._dtype))
        return out.float()


class Int8Attention(nn.Module):
    """Self-attention whose input is quantised once for queries, keys and values."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.heads = attention.heads
        self.projections = Int8Linear([attention.q_proj, attention.k_proj, attention.v_proj])
        self.out_proj = _linear(attention.out_proj, attention.v_proj)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """As ``Attention``, in float32."""
        q, k, v = self.projections(x).chunk(3, dim=-1)
        out, attention = attend(q, k, v, self.heads, 0.0, mask, causal, weights)
        return self.out_proj(out), attention


class InParts(nn.Module):
    """What computes tokens each by itself, of some at a time: [..., D] → [..., D]."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        """As the module."""
        tokens = x.flatten(0, -2)
        parts = tokens.chunk(math.ceil(len(tokens) / ROWS))
        return torch.cat([self.module(part) for part in parts]).view(x.shape)


def quick_gelu(x: Tensor) -> Tensor:
    """CLIP's approximation of GELU, in place of what it is given: x * sigmoid(1.702 * x) in fewer passes."""
    return F.silu(x.mul_(1.702), inplace=True).mul_(1 / 1.702)


class WideStack(nn.Module):
    """Layers whose residual stream is float32."""

    def __init__(self, stack: TransformerStack) -> None:
        super().__init__()
        self.stack = stack

    def forward(self, x: Tensor, *arguments: Any, **options: Any) -> BaseModelOutput:
        """As ``TransformerStack``, whose results are in the input's dtype."""
        made: BaseModelOutput = self.stack(x.float(), *arguments, **options)
        states = made.hidden_states
        return dataclasses.replace(
            made,
            last_hidden_state=made.last_hidden_state.to(x.dtype),
            hidden_states=None if states is None else tuple(state.to(x.dtype) for state in states),
        )


def quantise(vision: VisionTransformer) -> None:
    """Have a vision encoder compute in integers; for inference only.

    A layer whose input has outliers, as the weights that give it show, is left as it is: the step of an input is a
    share of its largest number, and all others would lose most of their digits.
    """
    encoder: Any = vision  # of typed modules, some of which are replaced by others
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the steps are small: a team of threads would wait for each other for longer
    try:
        for layer in encoder.encoder.layers:
            _quantise(layer)
    finally:
        torch.set_num_threads(threads)
    encoder.encoder = WideStack(encoder.encoder)
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's: what was freed lies between what stays
        trim(0)


def _quantise(layer: Any) -> None:
    layer.message_fc = WideLinear(layer.message_fc)
    layer.message_attn = _attention(layer.message_attn, layer.message_ln)
    layer.self_attn = _attention(layer.self_attn, layer.layer_norm1)
    mlp = layer.mlp
    mlp.fc2 = _linear(mlp.fc2, mlp.fc1, LOWEST.get(mlp.activation.kind))
    mlp.fc1 = _linear(mlp.fc1, layer.layer_norm2)
    if mlp.activation.kind == "quick_gelu":
        mlp.activation = Activation(quick_gelu)
    layer.mlp = InParts(mlp)
    for norm in (layer.layer_norm1, layer.layer_norm2, layer.message_ln):
        norm.float()


def has_outlier(source: nn.LayerNorm | nn.Linear) -> bool:
    """Whether a few channels of what a layer gives are far larger than the others, by its weights."""
    weight, bias = source.weight.detach(), source.bias.detach()
    of_rows = [part.float().square().sum(dim=1) for part in _parts(weight.view(len(bias), -1))]
    squares = torch.cat(of_rows) + bias.float().square()
    return bool(squares.max() > OUTLIER**2 * squares.median())


def _linear(linear: nn.Linear, source: nn.LayerNorm | nn.Linear, lowest: float | None = None) -> nn.Module:
    """In integers, unless the input, which is ``source``'s, has outliers."""
    return WideLinear(linear) if has_outlier(source) else Int8Linear([linear], lowest)


def _attention(attention: Any, source: nn.LayerNorm) -> nn.Module:
    """In integers, or all its layers as they are."""
    if not has_outlier(source):
        return Int8Attention(attention)
    for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
        setattr(attention, part, WideLinear(getattr(attention, part)))
    return attention  # type: ignore[no-any-return]
