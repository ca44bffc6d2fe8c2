"""What an encoder gives, and what it tells others."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from ..video.sampling import ClipInfo

Time = str | float | Fraction  # "HH:MM:SS.mmm", or seconds


class FrameSaver(Protocol):
    """Where the frames go that the model sees, if anybody wants them."""

    def save(self, video: str, seconds: float, crops: Any) -> None:
        """Keep the crops [crops, 3, H, W] of one frame."""


@dataclass(frozen=True)
class Encodings:
    """What the model keeps of one window of a video: an encoding a view, and what was decoded."""

    video: str
    info: ClipInfo
    short_side: int  # of the smallest picture, in pixels
    features: Tensor  # [views, P], of the whole clip; on the encoder's device
    tokens: Tensor  # [views, n, P], of its patches: what texts are prompted with
    seconds: float  # that the model took, an even share of the batch's
