from __future__ import annotations

import csv
import io
import json

import pytest
from samples import RULES, answer, made

from xclip_cli.errors import ResultsError
from xclip_cli.output.timelines import FORMATS
from xclip_cli.results.records import Failure, WindowRecord
from xclip_cli.timeline import TimelineRecord, assemble


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
    with pytest.raises(ResultsError, match="no segments for a.mp4: the decoder crashed"):
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


def test_json_has_a_line_a_window() -> None:
    first, *lines, last = written("json", made(answer(0, "a"), answer(1, None))).splitlines()
    assert (first, last) == ("[", "]")
    assert lines[0] == '{"windows": ['
    assert [json.loads(line.rstrip(","))["start_seconds"] for line in lines[1:3]] == [0, 1]
    assert lines[3].startswith('], "schema": 1, "video": "a.mp4", "status": "ok", "num_windows": 2, ')
