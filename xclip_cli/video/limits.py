"""What decoding a single video may cost: plain data."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import VideoError

DECODE_TIMEOUT = 120.0  # seconds without a new packet or picture after which decoding counts as hanging
MEGABYTE = 1 << 20
LEAST_MEMORY = 1024 * MEGABYTE  # of a decode worker, which takes some 400 MB of address space before it decodes

NEAR = 4  # a failure counts as the limit's where no more than a quarter of the memory was free


@dataclass(frozen=True)
class Limits:
    """What a single video may cost. Beyond, it is an error of code ``limit``."""

    pixels: int = 8192 * 4320  # of one frame
    frames: int = 2_500_000  # decoded for a window: 24 hours at 25 frames a second, where a file cannot be sought in
    memory: int = 4096 * MEGABYTE  # bytes of address space of the process that decodes, where the system can limit it

    def nearly_reached(self, memory: int) -> bool:
        """Whether a process with so many bytes of address space is so near the limit that its failures mean nothing."""
        return memory > self.memory - self.memory // NEAR

    def too_many_pixels(self, width: int, height: int) -> VideoError:
        """The error of frames of this size, which is over the limit."""
        message = f"frames of {width}x{height} pixels are larger than the limit of {self.pixels} pixels (--max-pixels)"
        return VideoError(message, "limit")


DEFAULT_LIMITS = Limits()
