"""What decoding a single video may cost: plain data."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import VideoError

DECODE_TIMEOUT = 120.0  # seconds without a new packet or picture after which decoding counts as hanging
MEGABYTE = 1 << 20
LEAST_MEMORY = 1024 * MEGABYTE  # of a decode worker, which takes some 400 MB of address space before it decodes

FULL_HD = 1920 * 1088  # pixels: what a frame may have that counts as one
SECONDS = 6 * 3600.0  # that decoding a video may take: 24 hours of video at four times its speed
SECONDS_A_WINDOW = 1.0  # more, for each window of a timeline that was reached

NEAR = 4  # a failure counts as the limit's where no more than a quarter of the memory was free


@dataclass(frozen=True)
class Limits:
    """What a single video may cost. Beyond, it is an error of code ``limit``."""

    pixels: int = 8192 * 4320  # of one frame
    # Decoded for a window: 24 hours at 25 a second, where a file cannot be sought in. Large ones count as several.
    frames: int = 2_500_000
    memory: int = 4096 * MEGABYTE  # bytes of address space of the process that decodes, where the system can limit it
    seconds: float | None = None  # that decoding takes, waiting not counted; None: SECONDS and SECONDS_A_WINDOW

    def weight(self, pixels: int) -> float:
        """As how many of ``frames`` one of so many pixels counts."""
        return max(1.0, pixels / FULL_HD)

    def most_seconds(self, windows: int) -> float:
        """How long decoding a video may take of which so many windows are done."""
        return self.seconds if self.seconds is not None else SECONDS + windows * SECONDS_A_WINDOW

    def too_slow(self, windows: int) -> VideoError:
        """The error of a video that takes longer."""
        return VideoError(
            f"decoding takes longer than the limit of {self.most_seconds(windows):g} s (--max-seconds): "
            "raise the limit, or analyse a part of the video with --start and --end",
            "limit",
        )

    def nearly_reached(self, memory: int) -> bool:
        """Whether a process with so many bytes of address space is so near the limit that its failures mean nothing."""
        return memory > self.memory - self.memory // NEAR

    def too_many_pixels(self, width: int, height: int) -> VideoError:
        """The error of frames of this size, which is over the limit."""
        message = f"frames of {width}x{height} pixels are larger than the limit of {self.pixels} pixels (--max-pixels)"
        return VideoError(message, "limit")


DEFAULT_LIMITS = Limits()
