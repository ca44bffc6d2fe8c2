"""Edit lists, read by the parsers of others: OpenTimelineIO's CMX 3600 adapter, pycmx, and timecode's arithmetic."""

from __future__ import annotations

import io
import json
from fractions import Fraction
from urllib.parse import unquote, urlparse

import pycmx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from timecode import Timecode as Reference

from xclip_cli.errors import ResultsError
from xclip_cli.output.edits import Timecode, format_edl, format_otio
from xclip_cli.results.records import SegmentsRecord
from xclip_cli.segments import Segment

otio = pytest.importorskip("opentimelineio")
RATES = ["24000/1001", "24", "25", "30000/1001", "30", "50", "60000/1001", "60"]
NAMES = {"24000/1001": "23.976", "30000/1001": "29.97", "60000/1001": "59.94"}
HOSTILE = "\x1b[2Ja.mp4\n* FROM CLIP NAME: other\u202e"


def record(rate: str | None, *segments: Segment, video: str = "clips/a b.mp4") -> SegmentsRecord:
    return SegmentsRecord(video, segments, 3, rate=rate)


def reference(rate: str, frame: int) -> str:
    """As the library timecode counts, which begins at 1."""
    made = Reference(NAMES.get(rate, rate), frames=frame + 1)
    if rate == "24000/1001":
        made.drop_frame = False
    return str(made)


@given(st.sampled_from(RATES), st.integers(0, 24 * 3600 * 20))
def test_timecode_is_that_of_others(rate: str, frame: int) -> None:
    code = Timecode.at(Fraction(rate))
    assert code.text(frame).replace(";", ":") == reference(rate, frame).replace(";", ":")
    assert code.drop == (rate in ("30000/1001", "60000/1001"))


@pytest.mark.parametrize("rate", ["30000/1001", "60000/1001"])
def test_every_minute_of_an_hour_drops_as_others_do(rate: str) -> None:
    code, fps = Timecode.at(Fraction(rate)), float(Fraction(rate))
    for minute in range(61):
        for frame in range(round(minute * 60 * fps) - 4, round(minute * 60 * fps) + 5):
            if frame >= 0:
                theirs = otio.opentime.to_timecode(otio.opentime.RationalTime(frame, fps), fps, drop_frame=True)
                assert code.text(frame) == theirs


def test_known_places_of_drop_frame_timecode() -> None:
    code = Timecode.at(Fraction(30000, 1001))
    assert [code.text(n) for n in (0, 1799, 1800, 17981, 17982, 107892)] == [
        "00:00:00;00", "00:00:59;29", "00:01:00;02", "00:09:59;29", "00:10:00;00", "01:00:00;00",
    ]  # fmt: skip
    assert Timecode.at(Fraction(25)).text(25 * 3600 * 24) == "00:00:00:00"


@pytest.mark.parametrize(
    ("stated", "rate", "base", "drop"),
    [
        ("2997/100", "30000/1001", 30, True),
        ("19001/634", "30000/1001", 30, True),
        ("23976/1000", "24000/1001", 24, False),
        ("25", "25", 25, False),
        ("30", "30", 30, False),
        ("25/2", "25/2", 12, False),
        ("1/10", "1/10", 1, False),
    ],
)
def test_rates_as_files_state_them(stated: str, rate: str, base: int, drop: bool) -> None:
    assert Timecode.at(Fraction(stated)) == Timecode(Fraction(rate), base, drop)


SEGMENTS = (Segment(0.0, 1.5, "a cat", 0.9), Segment(2.0, 61.0, "a dog, asleep", 0.5), Segment(61.0, 700.04, "x", 1.0))


@pytest.mark.parametrize("rate", RATES)
def test_an_edl_is_read_by_others(rate: str) -> None:
    text = format_edl(record(rate, *SEGMENTS))
    fps = float(Fraction(rate))
    frames = [(round(s.start_seconds * fps), round(s.end_seconds * fps)) for s in SEGMENTS]
    edits = pycmx.parse_cmx3600(io.StringIO(text))
    events = list(edits.events)
    assert (edits.title, len(events)) == ("a b.mp4", 3)
    for number, (event, (start, end), segment) in enumerate(zip(events, frames, SEGMENTS, strict=True), start=1):
        (edit,) = event.edits
        assert (event.number, edit.source, edit.transition.kind, edit.channels.video) == (number, "AX", "C", True)
        assert (edit.source_in, edit.source_out) == (edit.record_in, edit.record_out)
        assert [edit.source_in.replace(";", ":"), edit.source_out.replace(";", ":")] == [
            reference(rate, frame).replace(";", ":") for frame in (start, end)
        ]
        assert edit.clip_name == "a b.mp4"
        assert f"* COMMENT: {segment.label} ({segment.score:.2f})" in text
    if rate in ("24000/1001",):
        return  # the adapter reads non-drop timecode of 23.976 as 24
    timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=fps)
    clips = list(timeline.find_clips())
    assert [clip.name for clip in clips] == ["a b.mp4"] * 3
    assert [
        (c.source_range.start_time.to_frames(), c.source_range.end_time_exclusive().to_frames()) for c in clips
    ] == (frames)


@pytest.mark.parametrize("rate", [*RATES, "25/2"])
def test_a_timeline_is_read_back_by_its_own_library(rate: str) -> None:
    timeline = otio.adapters.read_from_string(format_otio(record(rate, *SEGMENTS, video="/v/ü #?.mp4")), "otio_json")
    (track,) = timeline.video_tracks()
    fps = float(Fraction(rate))
    clips = list(timeline.find_clips())
    assert [clip.name for clip in clips] == [segment.label for segment in SEGMENTS]
    assert [type(child).__name__ for child in track] == ["Clip", "Gap", "Clip", "Clip"]
    for clip, segment in zip(clips, SEGMENTS, strict=True):
        start, end = round(segment.start_seconds * fps), round(segment.end_seconds * fps)
        assert (clip.source_range.start_time.value, clip.source_range.end_time_exclusive().value) == (start, end)
        assert clip.source_range.start_time.rate == fps
        assert clip.transformed_time_range(clip.source_range, track) == clip.source_range  # at its place in the video
        assert unquote(urlparse(clip.media_reference.target_url).path) == "/v/ü #?.mp4"
        assert dict(clip.metadata["xclip"]) == {"label": segment.label, "score": segment.score}


def test_names_and_labels_of_strangers() -> None:
    found = record("25", Segment(0, 1, HOSTILE, 0.5), video=f"v/{HOSTILE}")
    text = format_edl(found)
    assert not {"\x1b", "\u202e"} & set(text)
    (event,) = pycmx.parse_cmx3600(io.StringIO(text)).events
    assert event.edits[0].clip_name.endswith(r"other\u202e")
    json.loads(format_otio(found))
    assert len(list(otio.adapters.read_from_string(format_otio(found), "otio_json").find_clips())) == 1


@pytest.mark.parametrize("rate", [None, "0/0", "0", "-1", "x", "1/0"])
def test_no_rate_is_an_error_that_says_what_to_do(rate: str | None) -> None:
    for form in (format_edl, format_otio):
        with pytest.raises(ResultsError, match="the frame rate of clips/a b.mp4 is unknown"):
            form(record(rate, *SEGMENTS))
    with pytest.raises(ResultsError, match="an EDL takes fewer than 100 frames per second"):
        format_edl(record("120", *SEGMENTS))


@given(st.sampled_from(RATES), st.lists(st.tuples(st.floats(0, 0.05), st.floats(1e-6, 0.05)), max_size=20))
def test_rounding_makes_no_event_overlap_or_empty(rate: str, steps: list[tuple[float, float]]) -> None:
    segments, end = [], 0.0
    for gap, seconds in steps:
        segments.append(Segment(end + gap, end + gap + seconds, "a", 1.0))
        end += gap + seconds
    timeline = otio.adapters.read_from_string(format_otio(record(rate, *segments)), "otio_json")
    reached = 0
    for clip in timeline.find_clips():
        assert clip.source_range.start_time.value >= reached
        assert clip.source_range.duration.value >= 1
        reached = clip.source_range.end_time_exclusive().value
    assert len(list(timeline.find_clips())) == len(segments)
