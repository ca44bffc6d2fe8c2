"""Pages of reports, and the records and pictures they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from xclip_cli.report.entries import Thumbnails
from xclip_cli.report.page import render
from xclip_cli.report.thumbnails import jpeg
from xclip_cli.results.reading import Results
from xclip_cli.results.records import (
    Failure,
    Frames,
    Prediction,
    RankedLabel,
    Record,
    RunHeader,
    Seconds,
    SegmentsRecord,
    WindowRecord,
)
from xclip_cli.segments import WindowScores, combine, segments_of
from xclip_cli.video.sampling import Windows

HEADER = RunHeader(xclip="1.2.3", model="the-model", labels=7, dtype="float32")
HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x1b[2J\udce9</style></title>--><b>"
SHOWN = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&\\u202e\\x1b[2J\\udce9</style></title>--><b>"


def record(video: str, labels: Sequence[str], scores: Sequence[float], **fields: Any) -> Prediction:
    ranked = tuple(RankedLabel(label, score, 20.0) for label, score in zip(labels, scores, strict=True))
    frames = Frames(4, 4, 0, 0, (0.5, 1.5, 2.5, 3.5))
    return replace(Prediction(video, "the-model", None, 0.0, 4.0, frames, ranked), **fields)


def failure(video: str, code: str = "missing", message: str = "no such file", **fields: Any) -> Failure:
    return Failure(video, code, message, **fields)


def timeline(video: str, labels: tuple[str, str] = ("a cat", "a dog")) -> tuple[list[WindowRecord], SegmentsRecord]:
    """Ten windows, the first label and then the second, and the segments they make."""
    windows = [
        WindowScores(float(a), float(b), dict(zip(labels, (float(a < 5), float(a >= 5)), strict=True)))
        for a, b in Windows(Fraction(0), Fraction(10), Fraction(1), Fraction(1))
    ]
    records = [
        WindowRecord(
            record(
                video, labels, [*(w.scores or {}).values()], start_seconds=w.start_seconds, end_seconds=w.end_seconds
            )
        )
        for w in windows
    ]
    return records, SegmentsRecord(video, tuple(segments_of(combine(windows))), 10)


def picture(colour: tuple[int, int, int] = (200, 30, 30)) -> bytes:
    return jpeg(np.full((90, 160, 3), colour, np.uint8), 192)


def page(*records: Record | RunHeader, thumbnails: Thumbnails | None = None, title: str = "results.jsonl") -> str:
    return render(Results.of(records), thumbnails or Thumbnails(), title)


def hostile_page() -> str:
    windows, segments = timeline(f"t{HOSTILE}", (HOSTILE, "x"))
    return page(
        replace(HEADER, **dict.fromkeys(("model", "xclip", "revision", "began", "command", "versions"), HOSTILE)),
        record(f"{HOSTILE}/{HOSTILE}.mp4", [HOSTILE, "x"], [0.9, 0.1], warnings=(HOSTILE,), model=HOSTILE),
        record("b.mp4", [HOSTILE, "x"], [0.9, 0.1]),
        record("c.mp4", ["x", HOSTILE], [0.9, 0.1], seconds=Seconds(1, 1)),
        failure(HOSTILE, HOSTILE, HOSTILE),
        *windows,
        segments,
        thumbnails=Thumbnails({"b.mp4": {0.5: picture()}}, {"c.mp4": HOSTILE}, HOSTILE),
        title=HOSTILE,
    )


def thousands(count: int, jpeg_bytes: int = 5000) -> tuple[list[Prediction | Failure], Thumbnails]:
    """Records as a real run has them, some failed, and pictures for as many as fit."""
    labels = [f"a label of usual length, number {i}" for i in range(50)]
    records: list[Prediction | Failure] = [
        failure(f"a/folder/{i:05}.mp4")
        if i % 50 == 0
        else record(f"a/folder/{i:05}.mp4", [labels[(i + k) % 50] for k in range(5)], [0.5, 0.2, 0.1, 0.1, 0.1])
        for i in range(count)
    ]
    noise = picture() + bytes(jpeg_bytes - len(picture()))
    videos = [each.video for each in records if each.error is None][:2000]
    return records, Thumbnails({video: {1.5: noise} for video in videos})
