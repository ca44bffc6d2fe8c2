from __future__ import annotations

import io
import logging
import re
import time
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from samples import BAD, GOOD, answer, made

from xclip_cli.output.notes import Notes
from xclip_cli.results.records import Error, SegmentsRecord, WindowRecord


def progress(
    records: list[Any], width: int = 80, quiet: bool = False, terminal: bool = True, verbose: bool = False, **how: Any
) -> str:
    notes, out = Notes(quiet, verbose), io.StringIO()
    notes._console = Console(file=out, force_terminal=terminal, width=width, color_system=None)
    assert list(notes.progress(iter(records), how.pop("total", 1), **how)) == records
    return out.getvalue()


def window(share: float, end_seconds: float) -> WindowRecord:
    return WindowRecord(replace(GOOD, end_seconds=end_seconds), share)


def test_progress_within_a_long_video(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    windows = [window(0.25, 2700.0), window(0.5, 5400.0)]
    text = progress(windows, part="window")
    assert re.search(r"classifying ━+╸ +0/1 at 1:30:00 \d\.\d windows/s \d:\d\d:\d\d", text)
    assert progress(windows, part="window", terminal=False) == ""
    assert progress(windows, part="window", quiet=True) == ""
    assert "3/9" in progress([GOOD] * 3, total=9)
    seconds = iter(range(0, 1000, 20))
    assert "20.0 s/video" in progress([GOOD] * 3, total=9)
    assert progress([GOOD]) == ""


def test_the_progress_of_a_narrow_terminal_keeps_within_it() -> None:
    for width in (40, 80):
        text = progress([window(0.5, 5400.0)] * 3, width, total=10_000, part="window")
        lines = re.split(r"[\r\n]", re.sub(r"\x1b\[[?\d;]*[A-Za-z]", "", text))
        assert max(map(len, lines)) <= width


def test_the_videos_that_fail_are_said_but_not_the_windows_that_are_lost() -> None:
    broken = SegmentsRecord("a.mp4", (), 1, error=Error("crashed", "the decoder crashed"))
    records = [*made(answer(0, "a"), answer(1, None))[:2], broken]
    text = progress(records, part="window", terminal=False, verbose=True)
    assert text == "failed: a.mp4: the decoder crashed\n"
    assert progress([GOOD, BAD], terminal=False, verbose=True) == "failed: b\\udce9.mp4: no such file\n"
    assert progress([GOOD, BAD], terminal=False) == ""  # which are told of in the end


def test_a_log_has_a_line_of_progress_every_few_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 10_000, 3))
    monkeypatch.setattr(time, "monotonic", lambda: next(seconds))
    said = progress([GOOD] * 9, total=9, terminal=False, verbose=True).splitlines()
    assert said == ["classifying 4/9 3.0 s/video", "classifying 8/9 3.0 s/video"]
    (line, *_) = progress([window(0.5, 5400.0)] * 9, part="window", terminal=False, verbose=True).splitlines()
    assert re.fullmatch(r"classifying 0/1 at 1:30:00 \d+\.\d s/window", line)
    assert "classifying" not in progress([GOOD] * 9, total=9, terminal=False)
    assert progress([GOOD] * 9, total=9, terminal=False, verbose=True, quiet=True) == ""


def test_a_video_is_done_with_the_record_that_completes_it() -> None:
    first, last, whole = made(answer(0, "a"), answer(1, "a"))
    assert last.share == 1
    assert "0/1" in progress([first, last], part="window")
    assert "1/1" in progress([first, last, whole], part="window")


def test_what_the_library_logs_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    Notes()
    logging.getLogger("xclip_cli.model.checkpoint.hub").info("downloading")
    assert capsys.readouterr().err == "downloading\n"


def test_names_of_emoji_stay_names(capsys: pytest.CaptureFixture[str]) -> None:
    Notes().say("failed: :cat:.mp4")
    assert capsys.readouterr().err == "failed: :cat:.mp4\n"
