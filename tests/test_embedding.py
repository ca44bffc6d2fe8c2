"""Embedding that is stopped within a video goes on there, and makes what one run makes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import write_clip

from xclip_cli.embedding import Embedding, index_settings
from xclip_cli.engine.encoder import Encoder
from xclip_cli.results import index_writer
from xclip_cli.results.index import Index

WINDOWS = {"window": Fraction(1), "stride": Fraction(2, 5)}


def begin(folder: Path, compact: bool = False) -> Embedding:
    encoder = Encoder("bundled", dtype="float32", device="cpu", threads=1, batch_size=2)
    return Embedding(encoder, folder, index_settings(encoder, compact, **WINDOWS))


def embed(folder: Path, paths: Sequence[str]) -> tuple[Path, int]:
    """An index, and how many windows were looked at for it."""
    task = begin(folder)
    left = [path for path in paths if path not in task.done(paths)]
    seen = list(task.records(left))
    task.close()
    return folder, len(seen)


@pytest.fixture(params=["killed", "closed"])
def stop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.gif", "gif"), ("a.ts", "mpeg2video")],
)
def test_it_goes_on_within_a_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str, name: str, codec: str
) -> None:
    monkeypatch.setattr(index_writer, "FLUSH_SECONDS", 0.0 if stop == "killed" else 1000.0)
    video = str(write_clip(tmp_path / name, 205, codec))
    whole, count = embed(tmp_path / "whole", [video])
    task = begin(tmp_path / "pieces")
    coming = iter(task.records([video]))
    for _ in range(count - 3):
        next(coming)
    if stop == "killed":
        task.encoder.close()
        task.writer._file.close()
    else:
        task.close()
    with Index.open(tmp_path / "pieces") as index:
        (stopped,) = index
        assert stopped.failure is not None
        assert stopped.failure.code == "unfinished"
        assert stopped.num_windows == count - 4
    pieces, rest = embed(tmp_path / "pieces", [video])
    assert rest == 4
    with Index.open(pieces) as ours, Index.open(whole) as theirs:
        (a,), (b,) = ours, theirs
        assert a.failure is None
        assert a.windows == b.windows
        assert np.allclose(a.features, b.features, atol=1e-4)
        assert np.allclose(a.tokens, b.tokens, atol=1e-3)


def test_a_video_that_has_changed_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "FLUSH_SECONDS", 0.0)
    video = write_clip(tmp_path / "a.mp4", 205)
    task = begin(tmp_path / "i")
    coming = iter(task.records([str(video)]))
    for _ in range(10):
        next(coming)
    task.close()
    write_clip(video, 60)
    folder, seen = embed(tmp_path / "i", [str(video)])
    with Index.open(folder) as index:
        (found,) = index
        assert (found.num_windows, found.windows[0].start_seconds, found.failure) == (seen, 0, None)
