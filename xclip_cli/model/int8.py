"""Linear layers in 8-bit integers, for a CPU that multiplies those natively: half of bfloat16's time.

A weight has a scale a row (an output channel), an input one a token, found as it comes. Products are oneDNN's, through
the operations that torch uses for quantised models. What lies between them is as always, but that the residual stream
is float32: that costs nothing here, as inputs are quantised from float32, and makes up for part of the error.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .modeling import Attention, TransformerStack, VisionTransformer, attend
from .outputs import BaseModelOutput

LARGEST = 127  # of a weight
ZERO = 128  # lies between a signed byte and an unsigned one
SIGNED, UNSIGNED = 126.5, 254.0  # an input's largest number, in steps: scales are rounded, no byte may overflow
INTEGERS = 1.5 * 2.0**23  # a small number added to this in float32 is rounded, and stands in the lowest bits
QUANTISED_AT_ONCE = 1 << 19  # numbers
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
    """A linear layer for inference, [..., in] → [..., out] in ``dtype``; it has the weights of several, one after the
    other. ``lowest``: no input is below it, where that is known."""

    def __init__(self, linears: Sequence[nn.Linear], dtype: torch.dtype, lowest: float | None = None) -> None:
        super().__init__()
        bias = torch.cat([linear.bias.detach().float() for linear in linears])
        parts = [_rounded(linear.weight.detach()) for linear in linears]
        self.weight, self.scales = (torch.cat(part) for part in zip(*parts, strict=True))  # [out, in], [out]
        self.zeros = torch.zeros(len(bias), dtype=torch.int64)
        self.dtype, self.lowest, self.packed = dtype, lowest, False
        if lowest is not None:  # x - lowest is what is quantised: what that adds to each output is taken away again
            self.sums = self.weight.sum(dim=1, dtype=torch.int32)
            bias += lowest * self.sums * self.scales
        self.bias = bias.to(dtype)

    def pack(self, rows: int) -> None:
        """Lay the weight out as the product wants it, of so many ``rows`` mostly: takes about as long as a clip does,
        and gives the same numbers sooner."""
        self.weight, self.packed = torch.ops.onednn.qlinear_prepack(self.weight, [rows, self.weight.shape[1]]), True

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        given = x.flatten(0, -2)
        levels = torch.empty(given.shape, dtype=torch.int8)
        scales = torch.empty(len(given), 1, dtype=self.dtype)
        # In parts: larger ones leave the caches, and the system takes their memory back and clears it each time.
        rows = max(1, QUANTISED_AT_ONCE // given.shape[1])
        for first in range(0, len(given), rows):
            part = slice(first, first + rows)
            self._quantise(given[part].to(torch.float32, copy=True), levels[part], scales[part])
        product = self._packed_product(levels) if self.packed else self._product(levels)
        # In place: to a large tensor of its own the system would give memory that it clears first.
        return torch.addcmul(self.bias, product, scales, out=product).view(*x.shape[:-1], -1)

    def _quantise(self, x: Tensor, levels: Tensor, scales: Tensor) -> None:
        """Inputs [M, in] in float32, which are overwritten → bytes [M, in], and the scale of each row [M, 1] in the
        output's dtype."""
        if self.lowest is not None:
            x.sub_(self.lowest)
        largest, span = (_largest(x), SIGNED) if self.lowest is None else (x.amax(dim=1, keepdim=True), UNSIGNED)
        # Rounded first to what outputs are multiplied with: a scale that is exact there adds no error.
        scales.copy_(largest.clamp_min_(TINY).div_(span))
        signed, signed_inputs = not self.packed, self.lowest is None
        x.mul_(1 / scales.float()).add_(INTEGERS + ZERO * (signed_inputs - signed))
        levels.copy_(x.view(torch.int32))

    def _product(self, levels: Tensor) -> Tensor:
        """Bytes [M, in], signed → [M, out]."""
        product = torch._int_mm(levels, self.weight.t())
        if self.lowest is not None:
            product += ZERO * self.sums
        return (product * self.scales).to(self.dtype)

    def _packed_product(self, levels: Tensor) -> Tensor:
        """The same of unsigned bytes: oneDNN has fast products of these only."""
        zero = ZERO if self.lowest is None else 0
        product: Tensor = torch.ops.onednn.qlinear_pointwise(
            levels.view(torch.uint8),
            *(1.0, zero),
            *(self.weight, self.scales, self.zeros),
            *(None, 1.0, 0, self.dtype, "none", [], ""),
        )
        return product


def _rounded(weight: Tensor) -> tuple[Tensor, Tensor]:
    """A weight as int8, with a scale a row."""
    wide = weight.to(torch.float32, copy=True)
    scales = _largest(wide).clamp_min_(TINY).div_(LARGEST)
    return wide.div_(scales).round_().to(torch.int8), scales.flatten()


def _largest(x: Tensor) -> Tensor:
    """The largest number of each row, by its absolute value, [rows, 1]: faster than a maximum of absolute values."""
    return torch.maximum(x.amax(dim=1, keepdim=True), -x.amin(dim=1, keepdim=True))


class WideLinear(nn.Module):
    """A linear layer that is left as it is, between tensors in float32."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.linear = linear
        self._computed_in, self._dtype = linear.weight.dtype, dtype

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] → [..., out]."""
        out: Tensor = self.linear(x.to(self._computed_in))
        return out.to(self._dtype)


class Int8Attention(nn.Module):
    """Self-attention whose input is quantised once for queries, keys and values."""

    def __init__(self, attention: Attention, out_proj: nn.Module) -> None:
        super().__init__()
        self.heads = attention.heads
        parts = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.projections = Int8Linear(parts, attention.v_proj.weight.dtype)
        self.out_proj = out_proj

    def forward(
        self, x: Tensor, mask: Tensor | None = None, causal: bool = False, weights: bool = False
    ) -> tuple[Tensor, Tensor | None]:
        """As ``Attention``, in float32 → float32."""
        q, k, v = self.projections(x).chunk(3, dim=-1)
        out, attention = attend(q, k, v, self.heads, 0.0, mask, causal, weights)
        return self.out_proj(out), attention


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
    stack = encoder.encoder
    for layer in stack.layers:
        attention, mlp, dtype = layer.self_attn, layer.mlp, layer.mlp.fc1.weight.dtype
        _widen(layer.message_attn)
        layer.message_fc = WideLinear(layer.message_fc, torch.float32)
        if has_outlier(layer.layer_norm1):
            _widen(attention)
        else:
            out_proj = _linear(attention.out_proj, attention.v_proj, torch.float32)
            layer.self_attn = Int8Attention(attention, out_proj)
        mlp.fc2 = _linear(mlp.fc2, mlp.fc1, torch.float32, LOWEST.get(mlp.activation.kind))
        mlp.fc1 = _linear(mlp.fc1, layer.layer_norm2, dtype)
        for norm in (layer.layer_norm1, layer.layer_norm2, layer.message_ln):
            norm.float()
    encoder.encoder = WideStack(stack)


def has_outlier(source: nn.LayerNorm | nn.Linear) -> bool:
    """Whether a few channels of what a layer gives are far larger than the others, by its weights."""
    weight, bias = source.weight.detach(), source.bias.detach()
    squares = weight.view(len(bias), -1).norm(dim=1, dtype=torch.float32).square_() + bias.float().square()
    return bool(squares.max() > OUTLIER**2 * squares.median())


def _linear(
    linear: nn.Linear, source: nn.LayerNorm | nn.Linear, dtype: torch.dtype, lowest: float | None = None
) -> nn.Module:
    """In integers, unless the input, which is ``source``'s, has outliers."""
    return WideLinear(linear, dtype) if has_outlier(source) else Int8Linear([linear], dtype, lowest)


def _widen(attention: Any) -> None:
    """Leave all layers of an attention as they are."""
    for part in ("q_proj", "k_proj", "v_proj"):
        linear = getattr(attention, part)
        setattr(attention, part, WideLinear(linear, linear.weight.dtype))
    attention.out_proj = WideLinear(attention.out_proj, torch.float32)
