from __future__ import annotations

from samples import RULES, answer, made

from xclip_cli.results.records import Failure, SegmentsRecord, WindowRecord
from xclip_cli.segments import Segment
from xclip_cli.text import Remarks
from xclip_cli.timeline import assemble


def test_records() -> None:
    prediction = answer(2, "a")
    assert WindowRecord(prediction).to_json() == {**prediction.to_json(), "kind": "window"}
    segments = (Segment(0.0, 2.0, "a", 0.5),)
    completing = SegmentsRecord("a.mp4", segments, num_windows=2, window_seconds=2.0, min_score=0.1)
    assert completing.to_json() == {
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
    assert whole.to_json()["error"]["message"] == "all 2 windows are lost; the first: too damaged"
    assert "start_seconds" not in whole.to_json()


def test_a_video_that_fails_on_the_way_keeps_what_was_made() -> None:
    crashed = Failure("a.mp4", "crashed", "the decoder crashed")
    answers = [(answer(0, "a", "dark"), 9), (answer(1, "b", "dark"), 8), (crashed, 0), (answer(0, "a"), 0)]
    *windows, broken, _, whole = assemble(answers, ("a", "b"), RULES)
    assert broken.completes
    assert broken.error
    values = broken.to_json()
    assert (values["kind"], values["status"], values["num_windows"]) == ("segments", "error", 2)
    assert values["error"]["message"] == "the decoder crashed; its timeline ends at 0:02.0, after 2 windows"
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
    assert texts[-1] == "and 91 other warnings about windows"
    assert len(texts) == 11
