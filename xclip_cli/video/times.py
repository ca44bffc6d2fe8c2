"""One time line for a stream, whatever its timestamps are: arithmetic alone, in the stream's own unit of time.

Timestamps jump where recordings were joined or a clock was set; they are missing, rare, equal or out of order.
``Mender`` takes one packet after another and moves those after a jump, so that each part follows the one before.
``Tracer`` takes in all packets of a stream and says what they amount to, a ``TimeLine``. Scanning, decoding straight
through and seeking share them, so that they cannot disagree.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

# Seconds. The first two are those of the ffmpeg command (ts_discontinuity_detect, -dts_delta_threshold).
BACK = Fraction(1, 10)  # by how much a picture may be late, where pictures are decoded in the order they are shown in
AHEAD = Fraction(10)  # longer than this no picture is shown, in containers whose clock may be set anew
LATE = Fraction(1)  # by how much a picture may be late, where pictures are reordered
LONG_AHEAD = Fraction(300)  # as AHEAD, in containers where a still part of a screen recording has no packets

UNUSUAL = 50  # usual steps between pictures that a jump ahead is at least
MOST_PARTS = 8  # that are always believed; with more, and one for four packets, the times mean nothing
FURTHEST = 1 << 60  # what is further from 0 is no time; so sums of them stay within 64 bits
UNKNOWN = -(1 << 63)


@dataclass(frozen=True)
class TimeLine:
    """When the pictures of a stream are shown, and where it ends."""

    packets: int  # that hold a picture
    times: Sequence[int] = field(default=(), repr=False)  # when they are shown, sorted
    end: int = 0  # where the last one ends
    unit: Fraction = Fraction(1)  # of all times, in seconds
    # Whether pictures have these times in the order in which they are shown, because their own mean nothing.
    is_ranked: bool = False
    parts: int = 1  # after each of which timestamps begin anew
    notes: tuple[str, ...] = ()  # what was mended, for people

    @property
    def is_plain(self) -> bool:
        """Whether each picture's own timestamp is its time."""
        return not self.is_ranked and self.parts == 1

    @property
    def last(self) -> int:
        """When the last picture is shown; 0 where there is none."""
        return self.times[-1] if self.times else 0

    def ranked(self, number: int) -> int:
        """When the picture of this number, in the order in which they are shown, is shown."""
        return self.times[min(number, len(self.times) - 1)] if self.times else number

    def later(self, time: int) -> int:
        """How many pictures are shown after ``time``."""
        return len(self.times) - bisect_right(self.times, time)


class Mender:
    """Moves the times of packets, which come in the order in which they are decoded, so that none jumps.

    A jump back is a keyframe that is shown before a packet that came before it, or any packet that is shown before
    one from before the latest keyframe. A jump ahead is longer than ``ahead`` seconds and many times the usual step.
    """

    def __init__(self, unit: Fraction, ahead: Fraction | None = LONG_AHEAD, *, reorders: bool = True) -> None:
        """``unit`` of times, in seconds; ``ahead`` None: no time jumps; ``reorders``: whether pictures may
        be decoded in another order than they are shown in."""
        self._back, self._late = int(BACK / unit), int(LATE / unit)
        self._ahead = None if ahead is None else int(ahead / unit)
        self._reorders = reorders
        self.parts = 1
        self.offset = 0  # by which this part is moved
        self._packets = 0  # of this part
        self._first = 0  # of its times
        self._latest = 0  # of all times
        self._end = 0  # of the picture that is shown then
        self._before_keyframe = 0  # the latest time before the latest keyframe
        self._decoded: int | None = None  # when the packet before was decoded

    def time(self, pts: int | None, dts: int | None, duration: int, is_keyframe: bool) -> int | None:
        """When a packet is shown on the time line; None if it does not say."""
        if pts is None or abs(pts) > FURTHEST:
            return None
        time = pts + self.offset
        if not self._packets or self._jumps(time, is_keyframe):
            if self._packets:
                self.parts += 1
                time = self._following(pts, dts, duration)
                self.offset = time - pts
            self._packets, self._first = 0, time
            self._latest = self._before_keyframe = self._end = time
        elif is_keyframe:
            self._before_keyframe = self._latest
        self._packets += 1
        if time >= self._latest:
            self._latest, self._end = time, max(self._end, time + min(max(duration, 0), FURTHEST))
        self._decoded = None if dts is None else dts + self.offset
        return time

    @property
    def _step(self) -> int:
        """The usual one between the packets of this part."""
        return (self._latest - self._first) // max(1, self._packets - 1)

    def _jumps(self, time: int, is_keyframe: bool) -> bool:
        if self._ahead is None:
            return False
        if time < self._latest - self._back and (is_keyframe or not self._reorders):
            return True
        if time < self._before_keyframe - self._late:
            return True
        return self._packets > 1 and time - self._end > max(self._ahead, UNUSUAL * self._step)

    def _following(self, pts: int, dts: int | None, duration: int) -> int:
        """When the packet is shown that a new part begins with."""
        end = min(self._end if self._end > self._latest else self._latest + self._step, FURTHEST)
        if dts is None or self._decoded is None:
            return end
        # The order of decoding tells how many pictures are shown before this one.
        time = self._decoded + (duration or self._step) + pts - dts
        return time if abs(time - end) <= self._late else end


class Tracer:
    """Takes in the packets of a stream, in the order in which they are decoded, and says what its time line is."""

    def __init__(self, unit: Fraction, mender: Mender, rate: Fraction) -> None:
        """``unit`` of times, in seconds; ``rate``: pictures per second, for packets that say nothing at all."""
        self._unit = unit
        self._mender = mender
        self._rate = rate
        # Of the packets that hold a picture:
        self._shown = array("q")  # mended, or UNKNOWN
        self._decoded = array("q")  # or UNKNOWN
        self._durations = array("q")
        self._unknown = 0  # times in ``_shown``
        self._repeated = UNKNOWN  # where the latest packet ends that repeats a picture

    def add(self, pts: int | None, dts: int | None, duration: int, is_keyframe: bool, is_picture: bool) -> None:
        """The next packet. One that holds no picture has the one before it shown again."""
        duration = min(max(duration, 0), FURTHEST)
        time = self._mender.time(pts, dts, duration, is_keyframe)
        if not is_picture:
            if time is not None:
                self._repeated = max(self._repeated, time + duration)
            return
        self._unknown += time is None
        self._shown.append(UNKNOWN if time is None else time)
        self._decoded.append(UNKNOWN if dts is None or abs(dts) > FURTHEST else dts + self._mender.offset)
        self._durations.append(duration)

    def line(self) -> TimeLine:
        """By when pictures are shown; where that is not known, by when they are decoded, or by counting."""
        count, jumps = len(self._shown), self._mender.parts - 1
        if jumps > MOST_PARTS and jumps * 4 > count:
            return self._with_note(self._by_decoding() or self.counted(), "the frames' timestamps are out of order")
        if self._unknown:
            said = f"{self._unknown} of {count} frames have no timestamp"
            if self._unknown == count:
                return self._with_note(self._by_decoding() or self.counted(), said)
            return self._with_note(self._by_decoding() or self._filled(), said)
        if not count:
            return TimeLine(0, unit=self._unit)
        places = "in one place" if jumps == 1 else f"in {jumps} places"
        note = f"the timestamps jump {places}, as in joined recordings: the parts were put end to end"
        return replace(self._of(self._shown), parts=jumps + 1, notes=(note,) if jumps else ())

    def decoded(self, units: int) -> TimeLine:
        """By when pictures are decoded, for containers that count in ``units`` of time and store no other times."""
        line = self._by_decoding() or self.counted()
        return replace(line, end=max(line.end, units)) if line.unit == self._unit else line

    def counted(self) -> TimeLine:
        """By how long pictures are shown; where they do not say, by their rate."""
        count = len(self._durations)
        if not count or min(self._durations) <= 0 or sum(self._durations) > FURTHEST:
            return TimeLine(count, range(count), count, 1 / self._rate, is_ranked=True)
        times, end = array("q"), 0
        for duration in self._durations:
            times.append(end)
            end += duration
        return TimeLine(count, times, end, self._unit, is_ranked=True)

    def _by_decoding(self) -> TimeLine | None:
        """None where the packets do not say it, or not in order."""
        times = self._decoded
        if UNKNOWN in times or any(times[i] >= times[i + 1] for i in range(len(times) - 1)):
            return None
        return replace(self._of(times), is_ranked=True)

    def _filled(self) -> TimeLine:
        """By the times that are known, and counting between them."""
        times, step = array("q"), round(1 / self._rate / self._unit)
        known = (
            self._shown if set(self._decoded) == {UNKNOWN} else self._decoded
        )  # the order to count in is the latter's
        first = next(i for i, time in enumerate(known) if time != UNKNOWN)
        time = known[first] - first * step
        for own, duration in zip(known, self._durations, strict=True):
            time = time if own == UNKNOWN else own
            times.append(time)
            time = min(time + (duration or step), FURTHEST)
        return replace(self._of(times), is_ranked=True)

    def _of(self, shown: Sequence[int]) -> TimeLine:
        """The time line of pictures that are shown at these times."""
        times = array("q", sorted(shown))
        if not times:
            return TimeLine(0, unit=self._unit, is_ranked=True)
        last = times[-1]
        duration = self._durations[shown.index(last)]
        if not duration:  # then as long as the one before
            before = bisect_right(times, last - 1)
            duration = last - times[before - 1] if before else 0
        return TimeLine(len(times), times, max(last + duration, self._repeated), self._unit)

    def _with_note(self, line: TimeLine, said: str) -> TimeLine:
        seconds = (line.end - line.times[0]) * line.unit if line.packets else 0
        rate = f", {float(line.packets / seconds):.4g} per second" if seconds else ""
        return replace(line, notes=(f"{said}: frames were counted instead{rate}",))
