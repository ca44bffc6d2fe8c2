from __future__ import annotations

import csv
import io
import json
from fractions import Fraction
from itertools import pairwise

import av
import numpy as np
import pytest
import webvtt
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from xclip_cli.errors import ResultsError
from xclip_cli.output.timelines import FORMATS
from xclip_cli.results.records import Failure, Frames, Prediction, RankedLabel
from xclip_cli.timeline import (
    Drawing,
    Remarks,
    Rules,
    Segment,
    Timeline,
    TimelineRecord,
    Window,
    WindowRecord,
    assemble,
    combine,
    csv_rows,
    format_srt,
    format_vtt,
    leading,
    merge,
    resample,
    segments_of,
    segments_record,
    window_record,
    windows_of,
)
from xclip_cli.video.sampling import Windows


def test_scores_of_overlapping_windows_are_means() -> None:
    windows = [Window(0, 2, {"a": 1.0}), Window(1, 3, {"b": 1.0}), Window(2, 4, {"a": 0.5, "b": 0.5})]
    timeline = combine(windows)
    assert timeline.labels == ("a", "b")
    assert timeline.edges.tolist() == [0, 1.5, 2.5, 4]  # midway between the centres 1, 2 and 3
    assert timeline.scores.tolist() == [
        [pytest.approx((2 * 1 + 1 * 0) / 3), pytest.approx((2 * 0 + 1 * 1) / 3)],
        [pytest.approx((1 * 1 + 2 * 0 + 1 * 0.5) / 4), pytest.approx((1 * 0 + 2 * 1 + 1 * 0.5) / 4)],
        [pytest.approx((1 * 0 + 2 * 0.5) / 3), pytest.approx((1 * 1 + 2 * 0.5) / 3)],
    ]


def test_windows_that_do_not_overlap_keep_their_scores() -> None:
    timeline = combine([Window(0, 2, {"a": 0.9}), Window(2, 4, {"a": 0.2}), Window(6, 8, {"a": 0.4})])
    assert timeline.scores[:, 0].tolist() == pytest.approx([0.9, 0.2, 0.4])
    assert timeline.edges.tolist() == [0, 2, 5, 8]


@pytest.mark.parametrize(
    "windows",
    [
        [],
        [Window(1, 1, {"a": 1})],
        [Window(1, 2, {"a": 1}), Window(0, 1, {"a": 1})],
        [Window(0, 1, {}), Window(0, 1, {})],
    ],
)
def test_windows_that_are_no_timeline(windows: list[Window]) -> None:
    with pytest.raises(ValueError, match="no windows|must not be empty"):
        combine(windows)


def segments(text: str) -> list[Segment]:
    """``a 0 2`` or ``a 0 2 0.5`` → a segment, separated by commas."""
    rows = [part.split() for part in text.split(",") if part.strip()]
    return [Segment(float(row[1]), float(row[2]), row[0], float(row[3]) if len(row) > 3 else 1.0) for row in rows]


@pytest.mark.parametrize(
    ("given_segments", "min_duration", "expected"),
    [
        ("", 1, ""),
        ("a 0 1, a 1 2, b 2 3", 0, "a 0 2, b 2 3"),
        ("a 0 1, a 2 3", 0, "a 0 1, a 2 3"),  # a gap lies between
        ("a 0 3 0.5, a 3 4 0.9", 0, "a 0 4 0.6"),  # weighted by duration
        ("a 0 2, b 2 3, a 3 5", 2, "a 0 5"),  # a flicker
        ("a 0 2 0.4, b 2 3 0.9, a 3 5 0.8", 2, "a 0 5 0.6"),  # its own seconds alone count
        ("a 0 2, b 2 3, c 3 5", 2, "a 0 2, c 3 5"),  # not one: the time has no label
        ("a 0 2, b 3 4, a 4 6", 2, "a 0 2, a 4 6"),  # it does not touch both
        ("a 0 1, b 1 1.5, a 1.5 2.5", 2, "a 0 2.5"),  # the shortest goes first, which makes the others long enough
        ("a 0 1, b 1 2, a 2 3", 2, ""),  # of equals the first: nothing touches on both sides
        ("b 0 1", 2, ""),
        ("b 0 2", 2, "b 0 2"),
    ],
)
def test_merging(given_segments: str, min_duration: float, expected: str) -> None:
    found, wanted = merge(segments(given_segments), min_duration), segments(expected)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == [
        (s.label, s.start_seconds, s.end_seconds) for s in wanted
    ]
    assert [s.score for s in found] == pytest.approx([s.score for s in wanted])


def merged_slowly(parts: list[Segment], min_duration: float) -> list[tuple[str, float, float]]:
    """The same rules, spelled out: look for the shortest anew each time."""
    rows = [(s.label, s.start_seconds, s.end_seconds) for s in parts]

    def join(i: int, j: int) -> bool:
        return rows[i][0] == rows[j][0]

    i = 0
    while i + 1 < len(rows):
        if join(i, i + 1) and rows[i][2] == rows[i + 1][1]:
            rows[i : i + 2] = [(rows[i][0], rows[i][1], rows[i + 1][2])]
        else:
            i += 1
    while rows:
        seconds, i = min((row[2] - row[1], i) for i, row in enumerate(rows))
        if seconds >= min_duration:
            break
        inner = 0 < i < len(rows) - 1
        if inner and join(i - 1, i + 1) and rows[i - 1][2] == rows[i][1] and rows[i][2] == rows[i + 1][1]:
            rows[i - 1 : i + 2] = [(rows[i - 1][0], rows[i - 1][1], rows[i + 1][2])]
        else:
            del rows[i]
    return rows


@st.composite
def parts(draw: st.DrawFn) -> list[Segment]:
    """Segments in order of time, with and without gaps."""
    found, end = [], 0.0
    for _ in range(draw(st.integers(0, 12))):
        start = end + draw(st.sampled_from([0, 0, 0, 0.5]))
        end = start + draw(st.integers(1, 6)) / 4
        found.append(Segment(start, end, draw(st.sampled_from("abc")), draw(st.floats(0.1, 1))))
    return found


@given(parts(), st.sampled_from([0, 0.5, 1, 2]))
def test_merged_segments(given_parts: list[Segment], min_duration: float) -> None:
    found = merge(given_parts, min_duration)
    assert [(s.label, s.start_seconds, s.end_seconds) for s in found] == merged_slowly(given_parts, min_duration)
    assert all(s.seconds >= min_duration for s in found)
    lowest = min((s.score for s in given_parts), default=0)
    assert all(s.score >= lowest - 1e-9 for s in found)
    for first, second in pairwise(found):
        assert first.end_seconds <= second.start_seconds
        assert first.end_seconds < second.start_seconds or first.label != second.label
    assert merge(found, min_duration) == found


def test_ten_thousand_segments_merge_at_once() -> None:
    alternating = [Segment(i, i + 1 + i % 3 / 10, "ab"[i % 2], 1.0) for i in range(10_000)]
    assert merge(alternating, 2) == []


@st.composite
def timelines(draw: st.DrawFn) -> Timeline:
    stride, length = draw(st.sampled_from([(1, 1), (1, 2), (2, 1), (1, 3)]))
    bounds = Windows(Fraction(0), Fraction(draw(st.integers(1, 60)), 4), Fraction(length), Fraction(stride))
    share = st.floats(0, 1)
    return combine([Window(float(a), float(b), {"a": draw(share), "b": draw(share), "c": 0.4}) for a, b in bounds])


@given(timelines())
def test_segments_without_limits_cover_everything_once(timeline: Timeline) -> None:
    found = segments_of(timeline)
    assert found[0].start_seconds == timeline.edges[0]
    assert found[-1].end_seconds == timeline.edges[-1]
    for first, second in pairwise(found):
        assert first.end_seconds == second.start_seconds
        assert first.label != second.label


@given(timelines(), st.floats(0, 1), st.sampled_from([0, 1, 3]))
def test_limits_hold(timeline: Timeline, min_score: float, min_duration: float) -> None:
    for segment in segments_of(timeline, min_score, min_duration):
        assert segment.score >= min_score - 1e-9
        assert segment.seconds >= min_duration


def test_a_boundary_lies_midway_between_the_centres_of_windows_that_differ() -> None:
    windows = [Window(0, 4, {"a": 0.9, "b": 0.1}), Window(2, 6, {"a": 0.8, "b": 0.2}), Window(8, 12, {"a": 0, "b": 1})]
    found = segments_of(combine(windows))
    assert [(s.start_seconds, s.end_seconds, s.label) for s in found] == [(0, 7, "a"), (7, 12, "b")]


def test_records() -> None:
    record = {"schema": 1, "video": "a.mp4", "status": "ok", "start_seconds": 2.0, "end_seconds": 4.0}
    record["predictions"] = [{"label": "a", "score": 0.75, "logit": 20.0}]
    window = window_record(record)
    assert window == {**record, "kind": "window"}
    earlier = {**window, "start_seconds": 0.0, "end_seconds": 2.0}
    replaced = {**earlier, "predictions": [{"label": "b", "score": 0.5, "logit": 20.0}]}
    assert windows_of([window, earlier, replaced]) == [Window(0, 2, {"b": 0.5}), Window(2, 4, {"a": 0.75})]
    completing = segments_record("a.mp4", segments("a 0 2 0.5"), num_windows=2, window_seconds=2.0, min_score=0.1)
    assert completing == {
        "schema": 1,
        "kind": "segments",
        "video": "a.mp4",
        "status": "ok",
        "num_windows": 2,
        "window_seconds": 2.0,
        "min_score": 0.1,
        "segments": [{"start_seconds": 0.0, "end_seconds": 2.0, "label": "a", "score": 0.5}],
        "warnings": [],
    }


def test_lost_windows_have_no_weight() -> None:
    good, bad = {"a": 1.0}, {"b": 1.0}
    around = [Window(0, 2, good), Window(1, 3, None), Window(2, 4, bad), Window(4, 6, None), Window(6, 8, bad)]
    timeline = combine(around)
    assert timeline.scores.tolist() == [[1, 0], [0.5, 0.5], [0, 1], [0, 0], [0, 1]]
    assert [(s.start_seconds, s.end_seconds, s.label) for s in segments_of(timeline)] == [
        (0, 2.5, "a"),
        (2.5, 4, "b"),
        (6, 8, "b"),
    ]
    with pytest.raises(ValueError, match="no windows"):
        combine([Window(0, 2, None)])


RULES = Rules(Fraction(1), Fraction(1))


def answer(second: int, label: str | None, *warnings: str) -> Prediction | Failure:
    """Of a window of one second: a label, or a failure."""
    if label is None:
        return Failure("a.mp4", "damaged", "too damaged", start_seconds=float(second), end_seconds=second + 1.0)
    ranked = (RankedLabel(label, 0.75, 20.0),)
    frames = Frames(1, 1, 0, 0, (second + 0.5,))
    return Prediction("a.mp4", "m", None, float(second), second + 1.0, frames, ranked, warnings)


def made(*answers: Prediction | Failure, following: int = 0) -> list[TimelineRecord]:
    """The records of one video; its last window has so many behind it."""
    count = len(answers) + following
    return list(assemble(((a, count - i) for i, a in enumerate(answers, start=1)), ("a", "b"), RULES))


def test_a_lost_window_is_a_record_and_ends_nothing() -> None:
    *windows, whole = [record.to_json() for record in made(answer(0, "a", "dark"), answer(1, None), answer(2, "a"))]
    assert [(w["kind"], w["status"], w["start_seconds"], w["end_seconds"]) for w in windows] == [
        ("window", "ok", 0, 1),
        ("window", "error", 1, 2),
        ("window", "ok", 2, 3),
    ]
    assert windows[1]["error"]["code"] == "damaged"
    assert (whole["status"], whole["num_windows"]) == ("ok", 3)
    assert whole["warnings"] == ["dark (in 1 of 3 windows)", "lost to an error (damaged) (in 1 of 3 windows)"]
    assert [(s["start_seconds"], s["end_seconds"]) for s in whole["segments"]] == [(0, 1), (2, 3)]


def test_a_video_of_which_all_windows_are_lost_failed() -> None:
    *_, whole = made(answer(0, None), answer(1, None))
    assert isinstance(whole, Failure)
    assert whole.to_json()["error"]["message"] == "all 2 windows are lost, the first: too damaged"
    assert "start_seconds" not in whole.to_json()


def test_a_video_that_fails_on_the_way_keeps_what_was_made() -> None:
    crashed = Failure("a.mp4", "crashed", "the decoder crashed")
    answers = [(answer(0, "a", "dark"), 9), (answer(1, "b", "dark"), 8), (crashed, 0), (answer(0, "a"), 0)]
    *windows, broken, _, whole = assemble(answers, ("a", "b"), RULES)
    assert isinstance(broken, Failure)
    values = broken.to_json()
    assert (values["kind"], values["status"], values["num_windows"]) == ("segments", "error", 2)
    assert values["error"]["message"] == "the decoder crashed; its timeline ends at 0:02.0, behind 2 windows"
    assert [s["label"] for s in values["segments"]] == ["a", "b"]
    assert values["warnings"] == ["dark"]
    assert len(windows) == 2
    assert whole.to_json()["num_windows"] == 1  # the next video's
    assert list(assemble([(crashed, 0)], ("a",), RULES)) == [crashed]


def test_many_different_warnings_of_windows_are_counted() -> None:
    remarks = Remarks()
    for i in range(100):
        remarks.add(["always", f"{i} packets"])
    texts = remarks.texts()
    assert texts[0] == "always"
    assert "0 packets (in 1 of 100 windows)" in texts
    assert texts[-1] == "and 91 other warnings of windows"
    assert len(texts) == 11


def written(form: str, records: list[TimelineRecord]) -> str:
    out = io.StringIO()
    FORMATS[form](iter(records), out, None)
    return out.getvalue()


def test_every_format_has_what_a_video_that_fails_on_the_way_left() -> None:
    crashed = Failure("a.mp4", "crashed", "the decoder crashed")
    records = list(assemble([(answer(0, "a", "dark"), 9), (answer(1, None), 8), (crashed, 0)], ("a", "b"), RULES))
    (video,) = json.loads(written("json", records))
    assert [window["status"] for window in video["windows"]] == ["ok", "error"]
    assert (video["status"], video["error"]["code"], len(video["segments"])) == ("error", "crashed", 1)
    assert "kind" not in video
    assert "kind" not in video["windows"][0]
    rows = list(csv.DictReader(io.StringIO(written("csv", records))))
    assert [(row["status"], row["label"]) for row in rows] == [("ok", "a"), ("error", "")]
    table = written("table", records)
    assert "failed: the decoder crashed; its timeline ends at 0:02.0" in " ".join(table.split())
    assert "warning: dark (in 1 of 2 windows)" in table
    assert "a (0.75)" in written("srt", records)
    with pytest.raises(ResultsError, match="no subtitles for a.mp4: the decoder crashed"):
        written("srt", [crashed])


def test_json_is_whole_however_a_run_ends() -> None:
    whole = made(answer(0, "a"), answer(1, "b"))
    failure = Failure("b.mp4", "missing", "no such file")
    for records in ([], [failure], whole, [failure, *whole, failure], [*whole, *whole], whole[:1], [*whole, whole[0]]):
        videos = json.loads(written("json", list(records)))
        assert all(("windows" in video) == (video["video"] == "a.mp4") for video in videos)
        last = records[-1] if records else None
        assert [video for video in videos if video.get("error", {}).get("code") == "interrupted"] == (
            [videos[-1]] if isinstance(last, WindowRecord) else []
        )


def test_csv_rows() -> None:
    assert list(csv_rows("a.mp4", segments("a 0 2 0.5"))) == [
        {"video": "a.mp4", "status": "ok", "rank": 1, "start_seconds": 0, "end_seconds": 2, "label": "a", "score": 0.5}
    ]


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


@given(timelines(), st.integers(1, 50))
def test_resampling_keeps_the_mean(timeline: Timeline, columns: int) -> None:
    found = resample(timeline, columns)
    assert found.shape == (columns, len(timeline.labels))
    durations = np.diff(timeline.edges)
    expected = durations @ timeline.scores / durations.sum()
    assert found.mean(axis=0) == pytest.approx(expected, abs=1e-9)


def test_resampling() -> None:
    timeline = Timeline(("a",), np.array([0.0, 1.0, 4.0]), np.array([[1.0], [0.0]]))
    assert resample(timeline, 2)[:, 0].tolist() == pytest.approx([0.5, 0])
    assert resample(timeline, 4)[:, 0].tolist() == pytest.approx([1, 0, 0, 0])


def test_the_leading_labels_are_those_with_the_highest_peaks_in_order_of_time() -> None:
    timeline = combine([Window(0, 1, {"a": 0.2, "b": 0.5, "c": 0.3}), Window(1, 2, {"a": 0.9, "b": 0.0, "c": 0.1})])
    assert leading(timeline, 2) == [1, 0]


def drawn(timeline: Timeline, width: int = 80, blocks: bool = True, video: str = "a.mp4") -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    console.print(Drawing(video, timeline, segments_of(timeline), blocks))
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


LONG = combine([Window(i * 60, i * 60 + 60, {"a cat": float(i < 30), "a dog": float(i >= 30)}) for i in range(120)])


def test_the_drawing_fills_the_width() -> None:
    lines = drawn(LONG, 46)
    assert lines[0] == "a.mp4"
    assert lines[1] == "a cat " + "█" * 10 + " " * 30
    assert lines[2] == "a dog " + " " * 10 + "█" * 30
    assert lines[3].split() == ["0:00", "30:00", "1:00:00", "1:30:00"]
    assert [line.split() for line in lines[4:]] == [
        ["0:00.0", "30:00.0", "a", "cat", "1.000"],
        ["30:00.0", "2:00:00.0", "a", "dog", "1.000"],
    ]
    assert all(len(line) <= 46 for line in lines)


def test_the_drawing_in_ascii() -> None:
    text = "\n".join(drawn(LONG, blocks=False))
    assert text.isascii()
    assert "#" * 18 in text


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_drawing_fits(width: int) -> None:
    names = [f"a rather long label with the number {i}" for i in range(20)]
    timeline = combine([Window(i, i + 1, {name: (i == k) * 1.0 for k, name in enumerate(names)}) for i in range(5)])
    lines = drawn(timeline, width)
    assert all(len(line) <= width for line in lines)
    assert "and 15 labels with lower scores" in " ".join("\n".join(lines).split())


def test_a_drawing_without_segments_says_so() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(Drawing("a.mp4", LONG, []))
    assert "no segment is long and sure enough" in console.file.getvalue()  # type: ignore[attr-defined]


def test_hostile_text_cannot_steer_the_terminal() -> None:
    timeline = combine([Window(0, 1, {"\x1b[31mred [bold]x[/bold]": 1.0})])
    text = "\n".join(drawn(timeline, 200, video="\x1b[2J.mp4"))
    assert "\x1b" not in text
    assert "[bold]x[/bold]" in text
