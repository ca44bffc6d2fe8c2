"""Text for people: names that may hold anything, times, and how fast things go."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from fractions import Fraction

REMARKS_LISTED = 10  # of the different ones that a video's windows have

_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control characters and undecodable bytes as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def clock(seconds: float, decimals: int = 0) -> str:
    """Seconds as ``M:SS`` or ``H:MM:SS``, with ``decimals`` digits of a second."""
    scale = 10**decimals
    whole, rest = divmod(round(seconds * scale), scale)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    start = f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{start}.{rest:0{decimals}}" if decimals else start


def pace(count: int, seconds: float, of: str) -> str:
    """How fast things go: ``3.4 videos/s``, or ``20.6 s/video`` where that is less than one a second."""
    if not count:
        return f"no {of} yet"
    return f"{count / seconds:.1f} {of}s/s" if count >= seconds else f"{seconds / count:.1f} s/{of}"


class Remarks:
    """What the windows of a video warn of: each text once, with how many of them it is said of."""

    def __init__(self) -> None:
        self._counts = Counter[str]()
        self._windows = 0

    def add(self, warnings: Iterable[str]) -> None:
        """The next window's."""
        self._windows += 1
        self._counts.update(dict.fromkeys(warnings, 1))

    def texts(self) -> list[str]:
        """The most frequent ones, and how many there are besides."""
        texts = [
            text if count == self._windows else f"{text} (in {count:,} of {self._windows:,} windows)"
            for text, count in self._counts.most_common(REMARKS_LISTED)
        ]
        hidden = len(self._counts) - len(texts)
        return texts + ([f"and {hidden:,} other warnings of windows"] if hidden else [])


def parse_time(text: str) -> Fraction:
    """Seconds, or ``HH:MM:SS.mmm`` with hours optional → exact seconds. Raises ValueError."""
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        return Fraction(text)
    raise ValueError(f"{text!r} is not a time: give seconds, such as 12.5, or HH:MM:SS.mmm, such as 1:02:03.5")
