from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise

import av
import webvtt
from hypothesis import given
from hypothesis import strategies as st

from xclip_cli.output.subtitles import format_srt, format_vtt
from xclip_cli.segments import Segment

HOSTILE = "<b>a</b> {\\an8} & --> x\n\n2\r\n\x00 \udce9 <c.loud>"
SUBTITLES = [Segment(0, 1.5, HOSTILE, 0.9), Segment(1.5, 3601.0004, "a dog", 0.5), Segment(360_000, 360_001, "late", 1)]


def ffmpeg_reads(text: str, name: str) -> list[tuple[int, int, str]]:
    """Start, end and shown text of each cue, as players built on FFmpeg see them."""
    found = []
    with av.open(io.BytesIO(text.encode()), format=name) as container:
        stream = container.streams.subtitles[0]
        assert stream.time_base == Fraction(1, 1000)
        for packet in container.demux(stream):
            if packet.size:
                (shown,) = packet.decode()
                found.append((packet.pts, packet.pts + packet.duration, shown.dialogue.decode()))
    return found


def test_vtt_is_read_by_others() -> None:
    text = format_vtt(SUBTITLES)
    captions = webvtt.from_string(text, strict=True).captions
    assert [(c.start, c.end) for c in captions] == [
        ("00:00:00.000", "00:00:01.500"),
        ("00:00:01.500", "01:00:01.000"),
        ("100:00:00.000", "100:00:01.000"),
    ]
    assert [c.raw_text for c in captions] == [
        r"&lt;b&gt;a&lt;/b&gt; {\an8} &amp; --&gt; x\n\n2\r\n\x00 \udce9 &lt;c.loud&gt; (0.90)",
        "a dog (0.50)",
        "late (1.00)",
    ]
    shown = ffmpeg_reads(text, "webvtt")
    assert [cue[:2] for cue in shown[:2]] == [(0, 1500), (1500, 3601000)]
    assert shown[0][2].startswith("<b>a</b> ")
    assert webvtt.from_string(format_vtt([])).captions == []


def test_srt_is_read_by_others() -> None:
    text = format_srt(SUBTITLES)
    captions = webvtt.from_buffer(io.BytesIO(text.encode()), format="srt").captions
    assert [(c.start, c.end) for c in captions] == [
        ("00:00:00.000", "00:00:01.500"),
        ("00:00:01.500", "01:00:01.000"),
        ("100:00:00.000", "100:00:01.000"),
    ]
    shown = ffmpeg_reads(text, "srt")
    assert [cue[:2] for cue in shown] == [(0, 1500), (1500, 3601000), (360_000_000, 360_001_000)]
    plain = shown[0][2].replace("\N{WORD JOINER}", "")
    braced = "\N{FULLWIDTH LEFT CURLY BRACKET}\\an8\N{FULLWIDTH RIGHT CURLY BRACKET}"
    assert plain == rf"<b>a</b> {braced} & --> x\n\n2\r\n\x00 \udce9 <c.loud> (0.90)"
    assert format_srt([]) == ""


@given(st.lists(st.tuples(st.floats(0, 0.003), st.floats(1e-6, 0.003)), max_size=20))
def test_rounding_makes_no_cue_overlap_or_empty(steps: list[tuple[float, float]]) -> None:
    given_segments, end = [], 0.0
    for gap, seconds in steps:
        given_segments.append(Segment(end + gap, end + gap + seconds, "a", 1.0))
        end += gap + seconds
    captions = webvtt.from_string(format_vtt(given_segments), strict=True).captions
    assert len(captions) == len(given_segments)
    bounds = [(c.start_time.in_milliseconds(), c.end_time.in_milliseconds()) for c in captions]
    assert all(first < last for first, last in bounds)
    assert all(first[1] <= second[0] for first, second in pairwise(bounds))
