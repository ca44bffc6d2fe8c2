"""HDR pictures → SDR, so that a scene looks the same to a model that was trained on SDR: arithmetic on arrays.

Reference white is 203 cd/m² (ITU-R BT.2408, table 1). PQ and HLG are made linear by ITU-R BT.2100 (tables 4 and 5; HLG
with the system gamma of a display of 1,000 cd/m²). Luminance above white is rolled off by the curve of ITU-R BT.2390
(section 5.4.1) from the brightest point of the picture: one that is nowhere brighter than white stays as it is. Colours
go from BT.2020 or P3 primaries to those of BT.709, and are stored for a display of BT.1886.
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
GAMMA = 2.4  # of SDR displays (ITU-R BT.1886)
STEPS = 4096  # of the tables for linear light
STRIP = 1 << 16  # pixels at a time: their values fit into a processor's cache

Floats = npt.NDArray[Any]

_M1, _M2, _C1, _C2, _C3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
_TO_BT709 = {  # from linear light of other primaries, computed from the chromaticities in H.273
    BT2020: [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]],
    P3: [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]],
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
    places: npt.NDArray[np.uint16] = (np.sqrt(np.clip(values, 0, 1)) * (STEPS - 1) + 0.5).astype(np.uint16)
    return places


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
    """For each step of linear light the byte that shows it on a display of BT.1886."""
    light = (np.arange(STEPS) / (STEPS - 1)) ** 2
    return np.round(light ** (1 / GAMMA) * 255).astype(np.uint8)


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
