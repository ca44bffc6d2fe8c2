"""HDR pictures → SDR, so that a scene looks the same to a model that was trained on SDR: arithmetic on arrays.

Reference white is 203 cd/m² (ITU-R BT.2408, table 1). PQ and HLG are made linear by ITU-R BT.2100 (tables 4 and 5; HLG
with the system gamma of a display of 1,000 cd/m²). Luminance above what SDR can show is rolled off by the curve of ITU-R
BT.2390, section 5.4.1, from the brightest point of the picture: one that is nowhere brighter than white stays as it is.
Colours go from BT.2020 or P3 primaries to those of BT.709 and are stored by its transfer function.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from .sampling import Picture

PQ, HLG = 16, 18  # transfer characteristics (ITU-T H.273)
BT2020, P3 = 9, 12  # colour primaries (ITU-T H.273)

WHITE = 203.0  # cd/m²
BRIGHTEST = 10_000.0  # cd/m², of PQ
HLG_PEAK = 1000.0  # cd/m²
STEPS = 4096  # of the tables for linear light
STRIP = 1 << 16  # pixels at a time: their values fit into a processor's cache

Floats = npt.NDArray[Any]

_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
_TO_BT709 = {  # from linear light of other primaries, by ITU-R BT.2087 and SMPTE EG 432-1
    BT2020: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    P3: [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0197, -0.0786, 1.0979]],
}
_LUMINANCE = {BT2020: [0.2627, 0.6780, 0.0593], P3: [0.2290, 0.6917, 0.0793]}
_LUMINANCE_BT709 = [0.2126, 0.7152, 0.0722]


def tone_mapped(picture: npt.NDArray[np.uint16], transfer: int, primaries: int) -> Picture:
    """A picture of PQ or HLG values [H, W, 3] of 16 bits as SDR of 8 bits."""
    pixels = picture.reshape(-1, 3)
    mapped = np.empty(pixels.shape, np.uint8)
    weights = np.array(_LUMINANCE.get(primaries, _LUMINANCE_BT709), np.float32)
    to_bt709 = np.array(_TO_BT709.get(primaries, np.eye(3)), np.float32).T
    strips = [slice(i, i + STRIP) for i in range(0, len(pixels), STRIP)]
    peak = max((float(_light(pixels[strip], transfer, weights)[1].max()) for strip in strips), default=0.0)
    roll_off, stored = _roll_off(peak) if peak > 1 else None, _stored()
    for strip in strips:
        light, luminance = _light(pixels[strip], transfer, weights)
        if roll_off is not None:
            light *= roll_off[_steps(luminance / peak)][:, None]
        mapped[strip] = stored[_steps(light @ to_bt709)]
    return mapped.reshape(picture.shape)


def _light(values: npt.NDArray[np.uint16], transfer: int, weights: Floats) -> tuple[Floats, Floats]:
    """The light of pixels on a display, and their luminance; 1 is reference white."""
    light = _linear(transfer)[values]
    luminance = light @ weights
    if transfer == HLG:  # what is linear so far is the scene
        gain = (HLG_PEAK / WHITE) * np.maximum(luminance, 1e-6) ** 0.2
        return light * gain[:, None], luminance * gain
    return light, luminance


def _steps(values: Floats) -> npt.NDArray[np.uint16]:
    """Places in a table of STEPS, by the square root, of values from 0 to 1."""
    return (np.sqrt(np.clip(values, 0, 1)) * (STEPS - 1) + 0.5).astype(np.uint16)


@cache
def _linear(transfer: int) -> Floats:
    """For each value of 16 bits its linear light: of the display for PQ, where 1 is white; of the scene for HLG."""
    value = np.arange(1 << 16) / 65535
    if transfer == PQ:
        root = value ** (1 / _M2)
        light = (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1) * (BRIGHTEST / WHITE)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(value <= 0.5, value**2 / 3, (np.exp((value - c) / a) + b) / 12)
    return light.astype(np.float32)


def _pq(light: Floats) -> Floats:
    """The PQ values of light, where 1 is white."""
    power = (light * WHITE / BRIGHTEST) ** _M1
    values: Floats = ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2
    return values


@cache
def _stored() -> npt.NDArray[np.uint8]:
    """For each step of linear light the byte that BT.709 stores it as."""
    light = (np.arange(STEPS) / (STEPS - 1)) ** 2
    values = np.where(light < 0.018, 4.5 * light, 1.099 * light**0.45 - 0.099)
    return np.round(values * 255).astype(np.uint8)


def _roll_off(peak: float) -> Floats:
    """For each step of luminance from 0 to ``peak`` what brings it below white: the curve of BT.2390."""
    light = np.maximum((np.arange(STEPS) / (STEPS - 1)) ** 2, 1e-9) * peak
    brightest = _pq(np.array(peak))
    value, most = _pq(light) / brightest, float(_pq(np.array(1.0)) / brightest)
    knee = 1.5 * most - 0.5
    t = np.clip((value - knee) / (1 - knee), 0, 1)
    curve = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    root = (np.where(value < knee, value, curve) * brightest) ** (1 / _M2)
    mapped = (np.maximum(root - _C1, 0) / (_C2 - _C3 * root)) ** (1 / _M1) * (BRIGHTEST / WHITE)
    return (mapped / light).astype(np.float32)
