"""Text for people: names that may hold anything, times, and how fast things go."""

from __future__ import annotations


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
