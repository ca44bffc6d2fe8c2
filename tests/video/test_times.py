"""The time line of a stream: arithmetic on what its packets say."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from xclip_cli.video.times import AHEAD, FURTHEST, LONG_AHEAD, Mender, TimeLine, Tracer

UNIT = Fraction(1, 100)  # of the times here; a picture lasts for 4
Packet = tuple[int | None, int | None, int, bool]  # pts, dts, duration, whether it is a keyframe


def shown(times: Iterable[int | None], keyframes: Iterable[int] = (0,), dts: bool = False) -> list[Packet]:
    """Packets that are shown at these times."""
    keys = set(keyframes)
    return [(time, time if dts else None, 4, i in keys) for i, time in enumerate(times)]


def mended(packets: Iterable[Packet], ahead: Fraction | None = LONG_AHEAD, reorders: bool = True) -> list[int | None]:
    """Their times on the time line."""
    mender = Mender(UNIT, ahead, reorders=reorders)
    return [mender.time(*packet) for packet in packets]


def line(packets: Iterable[Packet], ahead: Fraction | None = LONG_AHEAD, rate: int = 25) -> TimeLine:
    """What packets amount to; those of a negative duration hold no picture."""
    tracer = Tracer(UNIT, Mender(UNIT, ahead), Fraction(rate))
    for pts, dts, duration, is_keyframe in packets:
        tracer.add(pts, dts, abs(duration), is_keyframe, duration >= 0)
    return tracer.line()


GROUP = [0, 16, 4, 8, 12, 32, 20, 24, 28]  # as they are decoded: pictures in between come after the one behind them


def test_plain_times_stay() -> None:
    packets = shown([*GROUP, *(time + 36 for time in GROUP)], keyframes=(0, 9))
    assert mended(packets) == [packet[0] for packet in packets]
    found = line(packets)
    assert (found.is_plain, list(found.times), found.end, found.notes) == (True, list(range(0, 72, 4)), 72, ())


def test_an_open_group_is_no_jump() -> None:
    """After its keyframe come pictures that are shown before it."""
    times = [*GROUP, 48, 36, 40, 44]
    assert mended(shown(times, keyframes=(0, 9))) == times


@pytest.mark.parametrize("second", [0, 500, -10_000, 90_000_000])
def test_a_part_follows_the_one_before(second: int) -> None:
    first = [1000 + time for time in GROUP]
    packets = shown([*first, *(second + time for time in GROUP)], keyframes=(0, 9))
    times = [*first, *(1036 + time for time in GROUP)]
    assert mended(packets) == times
    found = line(packets)
    assert (found.parts, found.is_ranked, list(found.times), found.end) == (2, False, sorted(times), 1072)
    assert found.notes == ("the timestamps jump in one place, as in joined recordings: the parts were put end to end",)


def test_a_jump_within_a_group_goes_by_the_order_of_decoding() -> None:
    packets: list[Packet] = [(8, 0, 4, True), (20, 4, 4, False), (12, 8, 4, False), (16, 12, 4, False)]
    later = [(pts + 5000, dts + 5000, 4, False) for pts, dts in ((32, 16), (24, 20), (28, 24))]
    assert mended([*packets, *later], AHEAD) == [8, 20, 12, 16, 32, 24, 28]
    before = [(pts - 5000, dts - 5000, 4, False) for pts, dts in ((32, 16), (24, 20), (28, 24))]
    begun: list[Packet] = [(time + 8, time, 4, time in {0, 8}) for time in (0, 4, 8)]
    assert mended([*begun, *before], AHEAD) == [8, 12, 16, 28, 20, 24]


def test_where_nothing_is_reordered_any_packet_may_jump() -> None:
    times = [0, 4, 8, 12, -88, -84]
    assert mended(shown(times), reorders=False) == [0, 4, 8, 12, 16, 20]
    assert mended(shown(times), reorders=True) == times  # within a second of the keyframe, it may be


def test_a_jump_ahead_is_many_steps_and_longer_than_is_believable() -> None:
    times = [0, 4, 8, 12, 12 + 999, 12 + 1003]
    assert mended(shown(times), AHEAD) == times
    times = [0, 4, 8, 12, 12 + 1005, 12 + 1009]
    assert mended(shown(times), AHEAD) == [0, 4, 8, 12, 16, 20]
    assert mended(shown(times), LONG_AHEAD) == times
    assert mended(shown([0, 4, 8, 400_000]), None) == [0, 4, 8, 400_000]
    slides = [time * 4000 for time in range(8)]  # one each forty seconds
    assert mended(shown(slides), AHEAD) == slides


def test_a_single_wrong_time_costs_nothing() -> None:
    times = [*range(0, 40, 4), 10**9, *range(44, 80, 4)]
    assert mended(shown(times), AHEAD, reorders=False) == list(range(0, 80, 4))


def test_equal_times_are_kept() -> None:
    found = line(shown([0, 0, 1, 1, 2, 2], keyframes=(0, 3)))
    assert (list(found.times), found.end, found.is_plain) == ([0, 0, 1, 1, 2, 2], 6, True)


def test_packets_without_a_picture_extend_the_end() -> None:
    found = line([(0, 0, 4, True), (4, 4, -4, False), (8, 8, 4, True), (12, 12, -4, True), (16, 16, -4, True)])
    assert (found.packets, list(found.times), found.end) == (2, [0, 8], 20)


def test_without_times_pictures_are_counted() -> None:
    found = line([(None, None, 4, True)] * 5)
    assert (found.is_ranked, list(found.times), found.end, found.unit) == (True, [0, 4, 8, 12, 16], 20, UNIT)
    assert found.notes == ("5 of 5 frames have no timestamp: frames were counted instead, 25 per second",)
    uneven = line([(None, None, duration, True) for duration in (4, 6, 4, 6)])
    assert (list(uneven.times), uneven.end) == ([0, 4, 10, 14], 20)
    silent = line([(None, None, 0, True)] * 4, rate=50)
    assert (list(silent.times), silent.end, silent.unit) == ([0, 1, 2, 3], 4, Fraction(1, 50))


def test_rare_times_are_filled_in_by_counting() -> None:
    found = line([(None, None, 4, True), (1000, None, 4, False), *[(None, None, 4, False)] * 3, (1016, None, 4, False)])
    assert (found.is_ranked, list(found.times)) == (True, [996, 1000, 1004, 1008, 1012, 1016])
    assert found.notes[0].startswith("4 of 6 frames have no timestamp")


def test_times_of_decoding_stand_in() -> None:
    packets: list[Packet] = [(8, 0, 4, True), (None, 4, 4, False), (None, 12, 4, False), (20, 16, 4, False)]
    found = line(packets)
    assert (found.is_ranked, list(found.times), found.end) == (True, [0, 4, 12, 16], 20)


def test_times_that_jump_everywhere_mean_nothing() -> None:
    found = line(shown([time * 7919 % 1000 * 100 for time in range(60)], keyframes=range(60)))
    assert (found.is_ranked, list(found.times), found.end) == (True, list(range(0, 240, 4)), 240)
    assert found.notes == ("the frames' timestamps are out of order: frames were counted instead, 25 per second",)


def test_an_avi_lasts_as_many_units_as_its_index_says() -> None:
    tracer = Tracer(UNIT, Mender(UNIT, None), Fraction(100))
    for dts in (0, 1, 5):
        tracer.add(None, dts, 1, True, True)
    assert (list(tracer.decoded(0).times), tracer.decoded(0).end) == ([0, 1, 5], 6)
    assert tracer.decoded(9).end == 9


def test_a_stream_of_nothing() -> None:
    found = line([])
    assert (found.packets, found.last, found.end, found.later(0), found.ranked(3)) == (0, 0, 0, 0, 3)


NUMBERS = st.one_of(st.integers(-200, 2000), st.integers(-(1 << 63), (1 << 63) - 1), st.just(0))


@given(
    packets=st.lists(st.tuples(st.none() | NUMBERS, st.none() | NUMBERS, NUMBERS, st.booleans(), st.booleans())),
    ahead=st.sampled_from([None, AHEAD, LONG_AHEAD]),
    unit=st.sampled_from([Fraction(1), Fraction(1, 1000), Fraction(1, 1_200_000), Fraction(1, 1 << 31)]),
)
@example(packets=[(0, None, (1 << 62) + 1, False, False), (None, 0, 0, False, True)], ahead=None, unit=Fraction(1))
def test_whatever_packets_say_the_line_is_one(
    packets: list[tuple[int | None, int | None, int, bool, bool]], ahead: Fraction | None, unit: Fraction
) -> None:
    tracer = Tracer(unit, Mender(unit, ahead), Fraction(25))
    for packet in packets:
        tracer.add(*packet)
    for found in (tracer.line(), tracer.counted(), tracer.decoded(7)):
        assert found.packets == len(found.times) == sum(packet[4] for packet in packets)
        assert all(a <= b for a, b in zip(found.times, found.times[1:], strict=False))
        assert found.end >= found.last or not found.packets
        assert abs(found.end) <= 4 * FURTHEST
