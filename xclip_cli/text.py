"""Text for people: names that may hold anything, times, and how fast things go."""

from __future__ import annotations

import codecs
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import TypeVar

REMARKS_LISTED = 10  # of the different ones that a video's windows have
LONGEST_TIME = 40  # characters of a time that somebody gives: more digits than any video needs

# What steers a terminal, ends a line or turns text around, and what no encoding has: the control characters (Unicode's
# category Cc), the separators of lines and paragraphs (Zl, Zp), all that have the property Bidi_Control, implicit marks
# included, and half characters (Cs). All others belong to some script, joiners and wide or unbreakable spaces too.
_STEERING = re.compile("[\0-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_SPACES = re.compile(r"\s+", re.ASCII)
_CLOCK = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")

MARKS = {  # that a file of another encoding than UTF-8 may begin with; the longer ones first
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


T = TypeVar("T")


def printable(text: str, most: int | None = None) -> str:
    """Text that can neither steer a terminal nor turn what stands beside it around: what could is shown as escapes.

    Of a text of more than ``most`` characters only these are kept, and an ellipsis.
    """
    kept = text if most is None else text[:most]
    shown = _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), kept)
    return shown if len(kept) == len(text) else shown + "…"


def encodable(text: str) -> str:
    """Text that every encoding of Unicode has: undecodable bytes of file names become escapes, as in tables."""
    return text.encode("utf-8", "backslashreplace").decode()


def one_line(said: object, most: int = 200) -> str:
    """What a file, or an error about it, says: printable, on one line, and at most ``most`` characters long."""
    line = _SPACES.sub(" ", str(said)).strip() or type(said).__name__
    line = line if len(line) <= most else line[: most - 3] + "..."
    return _STEERING.sub("?", line)


def quoted(name: object) -> str:
    """A name in quotes, with escapes, cut to 80 characters."""
    if not isinstance(name, str):
        text = printable(repr(name))
    else:
        quote = '"' if "'" in name and '"' not in name else "'"
        escaped = name[:80].replace("\\", "\\\\").replace(quote, f"\\{quote}")
        text = quote + printable(escaped) + quote
    return text if len(text) <= 80 else text[:76] + "...'"


def other_encoding(data: bytes) -> str | None:
    """What a text file that is not UTF-8 says or shows that it is: by its mark, or by a NUL in each Latin character."""
    for mark, encoding in MARKS.items():
        if data.startswith(mark):
            return encoding
    start = data[:1000]
    for order, halves in (("LE", start[1::2]), ("BE", start[::2])):
        if len(start) >= 4 and halves.count(0) > 0.8 * len(halves) and start.count(0) < 0.6 * len(start):
            return f"UTF-16{order}"
    return None


def listed(words: Sequence[T], limit: int = 5, show: Callable[[T], str] = str) -> str:
    """The first of many words, each as ``show`` makes it: ``a, b and 3 more``."""
    more = len(words) - limit
    return ", ".join(map(show, words[:limit])) + (f" and {more} more" if more > 0 else "")


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


def sized(number: int) -> str:
    """Bytes: ``12.3 MB``, or ``45.6 kB`` of less than one."""
    return f"{number / 1e6:,.1f} MB" if number >= 1e6 else f"{number / 1e3:,.1f} kB"


def counted(number: int, what: str) -> str:
    """A number of things: ``1 video``, ``2,000 videos``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


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
        return texts + ([f"and {hidden:,} other warnings about windows"] if hidden else [])


def parse_time(text: str) -> Fraction:
    """Seconds, or ``HH:MM:SS.mmm`` with hours optional → exact seconds. Raises ValueError."""
    if len(text) > LONGEST_TIME:
        raise ValueError(f"{quoted(text)} is longer than any time: give at most {LONGEST_TIME} characters")
    if clock := _CLOCK.fullmatch(text):
        hours, minutes, seconds = clock.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    if re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        return Fraction(text)
    raise ValueError(f"{quoted(text)} is not a time: give seconds, such as 12.5, or HH:MM:SS.mmm, such as 1:02:03.5")


def exact_time(time: str | float | Fraction | None) -> Fraction | None:
    """A time as a caller may give it, in exact seconds; None stays. Raises ValueError."""
    if time is None:
        return None
    if isinstance(time, float) and not math.isfinite(time):
        raise ValueError(f"{time} is not a time")
    return parse_time(time) if isinstance(time, str) else Fraction(time)
