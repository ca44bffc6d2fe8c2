"""Embedding that is stopped within a video goes on there, and makes what one run makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from clips import write_clip
from records import assert_same_encodings

from xclip_cli.embedding import ChunkEmbedding, Embedding, index_settings
from xclip_cli.engine.encoder import Encoder
from xclip_cli.errors import ResultsError
from xclip_cli.results import index_writer
from xclip_cli.results.index import Index
from xclip_cli.results.records import Failure

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
    monkeypatch.setattr(index_writer, "SAID_OF_ROWS", 0)  # a small model has small rows
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
        assert_same_encodings(a, b)


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


def chunk_embedding(chunks: Path, wanted: Embedding, **other: Any) -> ChunkEmbedding:
    """What a machine of a cluster holds. Its workers are those of this machine's, which close."""
    return ChunkEmbedding(
        wanted.encoder, index_settings(wanted.encoder, **{**WINDOWS, **other}), wanted.writer.settings, chunks
    )


def test_chunks_of_a_cluster_make_the_index_of_one_machine(tmp_path: Path) -> None:
    videos = [str(write_clip(tmp_path / f"{name}.mp4", 60 + 10 * place)) for place, name in enumerate("abcd")]
    Path(videos[2]).write_bytes(b"no video")
    whole, _ = embed(tmp_path / "whole", [*videos, "gone.mp4"])
    task = begin(tmp_path / "i")
    chunks = task.chunks()
    there = chunk_embedding(chunks, task)
    crash = Failure(videos[3], "crashed", "it ended the process")
    made = [*there.records(videos[:2]), *there.records([videos[2]]), crash, *there.records(["gone.mp4"])]
    assert len(list(chunks.iterdir())) == 3
    seen = list(task.gather(made))
    assert [record.video for record in seen if record.completes] == [*videos, "gone.mp4"]
    assert not list(chunks.iterdir())
    task.close()
    assert not chunks.exists()
    with Index.open(tmp_path / "i") as ours, Index.open(whole) as theirs:
        assert [video.video for video in ours] == [video.video for video in theirs]
        for a, b in zip(ours, theirs, strict=True):
            if a.video == crash.video:
                assert a.failure == crash
                continue
            assert_same_encodings(a, b)
            assert replace(ours.entries[a.video].line, rows=()) == replace(theirs.entries[a.video].line, rows=())


def test_a_chunk_replaces_what_changed_and_keeps_what_is_gone(tmp_path: Path) -> None:
    changes, goes = (write_clip(tmp_path / name, 60) for name in ("changes.mp4", "goes.mp4"))
    embed(tmp_path / "i", [str(changes), str(goes)])
    write_clip(changes, 90)
    goes.unlink()
    task = begin(tmp_path / "i")
    before = {video: entry.windows for video, entry in task.writer.entries.items()}
    there = chunk_embedding(task.chunks(), task)
    made = list(there.records([str(changes), str(goes)]))
    _, failure = (each for each in task.gather(made) if each.completes)
    task.close()
    assert failure.error.code == "missing"
    with Index.open(tmp_path / "i") as index:
        assert index[str(changes)].num_windows > before[str(changes)]
        assert index[str(goes)].num_windows == before[str(goes)]
        assert index[str(goes)].failure is None


def test_chunks_of_a_run_that_was_killed_are_deleted(tmp_path: Path) -> None:
    task = begin(tmp_path / "i")
    chunks = task.chunks()
    list(chunk_embedding(chunks, task).records([str(write_clip(tmp_path / "a.mp4", 60))]))
    task.encoder.close()
    task.writer._file.close()  # as when it is killed
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "a.txt").touch()
    chunks.with_name(f"{chunks.name}-link").symlink_to(tmp_path / "elsewhere")
    begin(tmp_path / "i").close()
    assert not chunks.exists()
    assert (tmp_path / "elsewhere" / "a.txt").exists()


def test_a_machine_that_cannot_take_part_says_why(tmp_path: Path) -> None:
    task = begin(tmp_path / "i")
    with pytest.raises(ResultsError, match="its encodings would differ: stride 2/5, not 1/5"):
        chunk_embedding(task.chunks(), task, stride=Fraction(1, 5))
    with pytest.raises(ResultsError, match=r"it lacks \S+/j: give an index in a folder that all machines share"):
        chunk_embedding(tmp_path / "j" / "chunks", task)
    task.close()
    assert not list((tmp_path / "i").glob(".*"))  # nothing is left of a run that did not begin
