"""The index: what is written is read, by other libraries too; writers, readers and kills; strangers' indexes."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from xclip_cli.engine.stored import to_arrays, to_tensors
from xclip_cli.errors import ResultsError, VideoError
from xclip_cli.results import index_writer, lines, parts
from xclip_cli.results.index import Index
from xclip_cli.results.index_writer import IndexWriter, check_index, content_hash
from xclip_cli.results.lines import IndexSettings, Span, StoredWindow, VideoLine, is_index
from xclip_cli.results.parts import Rows
from xclip_cli.results.records import Error
from xclip_cli.video.sampling import Windows

MADE = IndexSettings(
    "some/model", "sha256:0123", num_frames=2, tokens=3, width=4, dtype="bfloat16", window="1", stride="1/2"
)


def encodings(seed: int, count: int, made: IndexSettings = MADE) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, made.width, generator=generator)
    tokens = torch.randn(count, made.tokens, made.width, generator=generator)
    return features, tokens.to(getattr(torch, made.dtype))


def rows(seed: int, count: int, made: IndexSettings = MADE) -> Rows:
    return Rows(*to_arrays(*encodings(seed, count, made), made.compact))


def windows(count: int, *lost: int) -> list[StoredWindow]:
    facts = {"times_seconds": (0.25, 0.75), "places": (0, 1), "errors": 1, "warnings": ("w",), "short_side": 96}
    return [
        StoredWindow(i / 2, i / 2 + 1, lost="all damaged") if i in lost else StoredWindow(i / 2, i / 2 + 1, **facts)
        for i in range(count)
    ]


def put(writer: IndexWriter, video: str, seed: int, count: int, *lost: int) -> None:
    writer.add(rows(seed, (count - len(lost)) * writer.views, writer.settings))
    writer.finish(VideoLine(video, size=seed + 1, modified=1.5, hash=f"h{seed}"), windows(count, *lost))


def made(folder: Path, *counts: int, **changes: Any) -> Path:
    """An index of videos a, b, …, of so many windows."""
    with IndexWriter(folder, replace(MADE, **changes)) as writer:
        for seed, count in enumerate(counts):
            put(writer, "abcdefgh"[seed], seed, count)
    return folder


def part_files(folder: Path) -> list[Path]:
    return sorted((folder / "parts").iterdir())


def assert_holds(folder: Path, **counts: int) -> None:
    """Exactly these videos, each with its windows; the seed of a video is its place in the alphabet."""
    with Index.open(folder) as index:
        assert {video.video: video.num_windows for video in index} == counts
        for video in index:
            expected = rows("abcdefgh".index(video.video), counts[video.video] * index.views, index.settings)
            for ours, theirs in zip(video.rows(), expected, strict=True):
                assert np.array_equal(ours, theirs)
        assert check_index(index) == {}


@pytest.mark.parametrize(
    "changes",
    [{"dtype": "float32"}, {"dtype": "bfloat16"}, {"dtype": "float16"}, {"compact": True}, {"views": "2x3"}],
    ids=str,
)
def test_what_is_written_is_read(tmp_path: Path, changes: dict[str, Any]) -> None:
    settings = replace(MADE, **changes)
    folder = made(tmp_path / "i", 3, 1, **changes)
    assert is_index(folder)
    views = settings.views_of.count
    with Index.open(folder) as index:
        assert index.settings == settings
        assert (len(index), index.num_windows) == (2, 4)
        assert [video.video for video in index] == ["a", "b"]
        assert list(index["a"].windows) == windows(3)
        features, tokens = encodings(0, 3 * views, settings)
        assert np.array_equal(index["a"].features, features.numpy().reshape(3, views, 4))
        assert index["a"].tokens.shape == (3, views, 3, 4)
        tolerance = tokens.abs().max().item() / 127 if settings.compact else 0
        assert np.allclose(index["a"].tokens.reshape(-1, 3, 4), tokens.float().numpy(), atol=tolerance, rtol=0)
        back = to_tensors(*index["a"].rows(), tokens.dtype, torch.device("cpu"))
        assert torch.equal(back[0], features)
        assert settings.compact or torch.equal(back[1], tokens)
    # the parts are what the format's own library reads
    (part,) = part_files(folder)
    theirs = load_file(part)
    assert theirs["features"].shape == (4 * views, 4)
    assert theirs["tokens"].dtype == (torch.int8 if settings.compact else tokens.dtype)
    assert torch.equal(theirs["features"][: 3 * views], features)
    assert settings.compact or torch.equal(theirs["tokens"][: 3 * views], tokens)


def test_lines_of_every_kind(tmp_path: Path) -> None:
    with IndexWriter(tmp_path / "i", MADE) as writer:
        put(writer, "a", 0, 4, 1, 3)
        writer.finish(VideoLine("odd \udcff\n", error=Error("missing", "no such file"), warnings=("w",)))
        put(writer, "c", 2, 1)
        put(writer, "a", 5, 1)
        writer.forget(["c"])
    with Index.open(tmp_path / "i") as index:
        assert [video.video for video in index] == ["a", "odd \udcff\n"]  # a later line replaces an earlier one
        assert index["a"].num_windows == 1
        failure = index["odd \udcff\n"].failure
        assert failure is not None
        assert (failure.code, failure.message, failure.warnings) == ("missing", "no such file", ("w",))
    with IndexWriter(tmp_path / "i", MADE) as writer:
        put(writer, "a", 0, 4, 1, 3)
    with Index.open(tmp_path / "i") as index:
        assert [window.lost for window in index["a"].windows] == [None, "all damaged", None, "all damaged"]
        lost = index["a"].windows[1].failure("a")
        assert (lost.code, lost.start_seconds, lost.end_seconds) == ("damaged", 0.5, 1.5)
        assert np.array_equal(index["a"].rows(1, 1).features, rows(0, 2).features[1:])


def test_full_parts_are_closed_and_blocks_cross_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parts, index_writer):
        monkeypatch.setattr(module, "PART_BYTES", 5 * MADE.layout.row_bytes)
    monkeypatch.setattr(index_writer, "SMALL_PART", 0)
    folder = made(tmp_path / "i", 3, 9, 2)
    assert len(part_files(folder)) == 3
    assert_holds(folder, a=3, b=9, c=2)
    with Index.open(folder) as index:
        blocks = list(index.blocks(index, 4))
        assert [len(block.features) for block in blocks] == [4, 1, 4, 1, 4]
        together = np.concatenate([block.features for block in blocks])
        assert np.array_equal(together, np.concatenate([rows(i, n).features for i, n in enumerate((3, 9, 2))]))


def test_nothing_is_lost_that_was_flushed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = IndexWriter(tmp_path / "i", MADE)
    put(writer, "a", 0, 2)
    writer.flush()
    put(writer, "b", 1, 2)
    assert_holds(tmp_path / "i", a=2)  # no line names rows that are in no part
    monkeypatch.setattr(index_writer, "FLUSH_SECONDS", 0.0)
    writer.add(rows(2, 1))
    assert_holds(tmp_path / "i", a=2, b=2)
    writer.finish(VideoLine("c"), windows(1))
    assert_holds(tmp_path / "i", a=2, b=2, c=1)
    writer._file.close()  # as if killed: half a part and half a line stay
    (tmp_path / "i" / "parts" / ".xclip-0.safetensors").write_bytes(b"half")
    with (tmp_path / "i" / "videos.jsonl").open("ab") as file:
        file.write(b'{"video": "d", "ro')
    assert_holds(tmp_path / "i", a=2, b=2, c=1)
    with IndexWriter(tmp_path / "i", MADE) as again:
        put(again, "d", 3, 2)
    assert_holds(tmp_path / "i", a=2, b=2, c=1, d=2)
    assert len(part_files(tmp_path / "i")) == 1  # the small ones are joined


def test_one_writer_and_many_readers(tmp_path: Path) -> None:
    folder = made(tmp_path / "i", 2)
    with IndexWriter(folder, MADE) as writer:
        with pytest.raises(ResultsError, match="is being written by another run"):
            IndexWriter(folder, MADE)
        reader = Index.open(folder)
        put(writer, "b", 1, 2)
    assert len(part_files(folder)) == 3  # joined, and the old ones kept for the reader
    assert np.array_equal(reader["a"].rows().tokens, rows(0, 2).tokens)
    assert "b" not in reader
    reader.close()
    with IndexWriter(folder, MADE):
        pass
    assert len(part_files(folder)) == 1
    assert_holds(folder, a=2, b=2)


KILLED = """
import sys
sys.path[:0] = [{tests!r}, {tests!r} + "/results"]
from test_index import MADE, IndexWriter, Path, put
with IndexWriter(Path({folder!r}), MADE) as writer:
    for seed in range(8):
        if "abcdefgh"[seed] not in writer.entries:
            put(writer, "abcdefgh"[seed], seed, 40)
            writer.flush()
        print(seed, flush=True)
"""


@pytest.mark.slow
def test_killed_at_any_moment(tmp_path: Path) -> None:
    folder = tmp_path / "i"
    code = KILLED.format(tests=str(Path(__file__).parent.parent), folder=str(folder))
    for turn in range(4):
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        for _ in range(2 * turn + 1):
            process.stdout.readline()
        time.sleep(0.001 * turn)
        process.kill()
        process.communicate()
        with Index.open(folder) as index:
            assert set(index.entries) >= set("abcdefgh"[: 2 * turn])
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    assert_holds(folder, **dict.fromkeys("abcdefgh", 40))


@pytest.fixture
def small_disk() -> Iterator[int]:
    """No file may be larger than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield 20_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_is_one_line_and_a_usable_index(tmp_path: Path, small_disk: int) -> None:
    folder = made(tmp_path / "i", 2, 2)
    resource.setrlimit(resource.RLIMIT_FSIZE, (small_disk, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    writer = IndexWriter(folder, MADE)
    put(writer, "c", 2, 2)
    writer.flush()

    def fill() -> None:
        for _ in range(100):
            put(writer, "d", 3, 100)
            writer.flush()

    with pytest.raises(ResultsError, match=r"cannot write the index .*/i: File too large; what it held before is safe"):
        fill()
    writer.close()
    assert not [path for path in part_files(folder) if path.name.startswith(".")]
    with Index.open(folder) as index:
        assert set(index.entries) >= {"a", "b", "c"}
        assert check_index(index) == {}
    with IndexWriter(folder, MADE) as writer:
        put(writer, "e", 4, 1)


def test_half_a_line_is_not_finished_when_the_disk_has_room_again(tmp_path: Path, small_disk: int) -> None:
    folder = made(tmp_path / "i", 1)
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    with IndexWriter(folder, MADE) as writer:
        resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / "videos.jsonl").stat().st_size + 4000, hard))
        with pytest.raises(ResultsError, match="cannot write the index"):
            writer.record(VideoLine("b", error=Error("missing", "m" * 6000)))
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert_holds(folder, a=1)


@pytest.mark.parametrize("what", ["add", "line"])
def test_an_interrupted_writer_leaves_a_usable_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Ctrl-C may come within any line of Python, and what is closed on the way out must not be made worse by that."""
    folder = made(tmp_path / "i", 1)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    writer = IndexWriter(folder, MADE)
    put(writer, "b", 1, 2)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):  # noqa: PT012 - both may be interrupted
        if what == "add":
            writer.add(rows(2, 1))
            patched.setattr(writer._part, "_behind", {"features": None})
        else:
            patched.setattr(index_writer, "Entry", interrupted)
            writer.flush()
        try:
            writer.add(rows(2, 3))
        except AttributeError as error:  # tokens were written, and nothing else
            raise KeyboardInterrupt from error
    writer.close()
    with Index.open(folder) as index:
        assert check_index(index) == {}
    with IndexWriter(folder, MADE) as writer:
        assert writer.damaged == {}
        put(writer, "b", 1, 1)
    assert_holds(folder, a=1, b=1)


def test_a_line_longer_than_is_read_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lines, index_writer):
        monkeypatch.setattr(module, "MAX_LINE", 2000)
    monkeypatch.setattr(index_writer, "MANY_WINDOWS", 10)
    with IndexWriter(tmp_path / "i", MADE) as writer:
        put(writer, "a", 0, 3)
        with pytest.raises(VideoError, match="it has 40 windows, more than an index can hold: embed it with a longer"):
            put(writer, "b", 1, 40)
        put(writer, "c", 2, 3)
    with Index.open(tmp_path / "i") as index:
        assert [(video.video, video.num_windows) for video in index] == [("a", 3), ("c", 3)]


def test_a_video_that_is_unfinished_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(index_writer, "SAID_OF_ROWS", 0)
    folder, found = tmp_path / "i", windows(5, 1)  # the second is lost
    writer = IndexWriter(folder, MADE)
    assert writer.add(rows(0, 4))
    writer.so_far(VideoLine("a", size=1), found[:4])
    writer._file.close()  # as if killed
    with Index.open(folder) as index:
        failure = index["a"].failure
        assert failure is not None
        assert failure.code == "unfinished"
        assert failure.message == "embedding was stopped at 0:02: the same `xclip embed` continues from there"
        assert np.array_equal(index["a"].rows().features, rows(0, 4).features[:3])
    with IndexWriter(folder, MADE) as again:
        assert index_writer.is_unfinished(again.entries["a"])
        assert again.resume("a") == found[:4]
        again.add(rows(0, 4).part(3, 1))
        again.finish(VideoLine("a", size=1), found)
    with Index.open(folder) as index:
        assert index["a"].failure is None
        assert [window.lost for window in index["a"].windows] == [None, "all damaged", None, None, None]
        assert np.array_equal(index["a"].rows().features, rows(0, 4).features)


def test_a_damaged_part_is_named_and_its_videos_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_writer, "SMALL_PART", 0)
    folder = made(tmp_path / "i", 2)
    with IndexWriter(folder, MADE) as writer:
        put(writer, "b", 1, 2)
    with Index.open(folder) as index:
        name = index.entries["b"].line.rows[0].part
        path = folder / "parts" / name
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
        assert list(check_index(index)) == [name]
        assert "its checksum is wrong" in check_index(index)[name]
    with IndexWriter(folder) as writer:
        assert writer.damaged == {}  # the header says what the size is
        assert writer.forget_parts([name]) == ["b"]
    assert_holds(folder, a=2)
    (cut,) = part_files(folder)  # the other went with its videos
    cut.write_bytes(cut.read_bytes()[:-1])
    with Index.open(folder) as index:
        with pytest.raises(ResultsError, match=r"the part .* is damaged: it has .* bytes, its header says"):
            index["a"].rows()
    with IndexWriter(folder) as writer:
        assert writer.damaged == {cut.name: ["a"]}
    assert_holds(folder)


def test_prune_and_merge(tmp_path: Path) -> None:
    first, second = made(tmp_path / "1", 3, 1, 2), tmp_path / "2"
    with IndexWriter(second, MADE) as writer:
        put(writer, "c", 7, 1)
        put(writer, "d", 3, 4)
        writer.finish(VideoLine("e", error=Error("missing", "m")))
    with IndexWriter(first) as writer:
        writer.forget(["b"])
        size = sum(path.stat().st_size for path in part_files(first))
        writer.tidy(wasteful=True)
        assert sum(path.stat().st_size for path in part_files(first)) == size - MADE.layout.row_bytes
        with Index.open(second) as other:
            assert writer.take(other) == (2, 1)
            assert writer.take(other) == (0, 3)
    with Index.open(first) as index:
        assert list(index.entries) == ["a", "c", "d", "e"]
        assert np.array_equal(index["c"].rows().features, rows(2, 2).features)
        assert np.array_equal(index["d"].rows().features, rows(3, 4).features)
    other_way = made(tmp_path / "3", 1, views="4x3", preprocess="paper")
    with IndexWriter(first) as writer, Index.open(other_way) as other:
        with pytest.raises(
            ResultsError, match="have different settings: the latter has preprocess hf, not paper; views"
        ):
            writer.take(other)


def test_copies_of_a_video_share_rows_also_when_they_move(tmp_path: Path) -> None:
    folder = made(tmp_path / "i", 3)
    with IndexWriter(folder) as writer:
        entry = writer.entries["a"]
        writer.record(replace(entry.line, video="copy"), writer.windows_of(entry))
        put(writer, "b", 1, 1)
    with Index.open(folder) as index:
        assert index.entries["copy"].line.rows == index.entries["a"].line.rows
        assert np.array_equal(index["copy"].rows().features, rows(0, 3).features)
        (part,) = part_files(folder)
        assert parts.part_rows(part, MADE.layout) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"identity": "sha256:f"}, r"model some/model \(sha256:0123\), not some/model \(sha256:f\)"),
        ({"views": "4x3"}, "views 1x1, not 4x3"),
        ({"preprocess": "paper"}, "preprocess hf, not paper"),
        (
            {"window": "2", "stride": "1"},
            "window 1, not 2; stride 1/2, not 1",
        ),
        ({"dtype": "float32"}, "dtype bfloat16, not float32"),
        ({"compact": True}, "compact False, not True"),
        ({"stream": 1}, "stream none, not 1"),
    ],
)
def test_other_settings_are_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = made(tmp_path / "i", 1)
    with pytest.raises(ResultsError, match=message):
        IndexWriter(folder, replace(MADE, **changes))
    with IndexWriter(folder, replace(MADE, xclip="9")):
        pass


def test_other_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"pages": []}')
    assert not is_index(tmp_path)
    for given_settings in (None, MADE):
        with pytest.raises(ResultsError, match="is not an index: give one, or a folder that does not exist"):
            IndexWriter(tmp_path, given_settings)
    with pytest.raises(ResultsError, match=r"is not a usable index: index\.json does not describe an index"):
        Index.open(tmp_path)
    assert os.listdir(tmp_path) == ["index.json"]


def test_content_is_told_by_size_and_three_places(tmp_path: Path) -> None:
    data = bytearray(os.urandom(5 << 20))
    path = tmp_path / "v"
    path.write_bytes(data)
    first = content_hash(str(path), len(data))
    hashes = {first}
    for place in (0, len(data) // 2, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        hashes.add(content_hash(str(path), len(data)))
    assert len(hashes) == 4


BAD_SETTINGS = [
    ({"format": 2}, "its format is 2, but this version of xclip reads 1"),
    ({"family": "other\x1b[2J"}, "its encodings are those of other"),
    ({"dtype": "int4"}, "its dtype is not"),
    ({"tokens": 10**9, "width": 10**9}, "its encodings have impossible sizes"),
    ({"stream": -1}, "its stream is not"),
    ({"preprocess": "x\x1b[2J"}, "an impossible name"),
    ({"model": "m" * 10_000}, "an impossible name"),
    ({"width": 0}, "its encodings have impossible sizes"),
    ({"views": "9x9"}, "not a number of views"),
    ({"window": "1", "stride": "1/0"}, "not a time"),
    ({"stride": None}, "a window without a stride"),
    ({"window": "65", "stride": "1"}, "overlap more than"),
    ({"model": 5}, "model is not a string"),
]
BAD_LINES = [
    ({"rows": [{"part": "../x.safetensors", "first": 0, "count": 1}]}, "is not the name of a part"),
    ({"rows": [{"part": "a\x1b.safetensors", "first": 0, "count": 1}]}, "is not the name of a part"),
    ({"rows": [{"part": "a.safetensors", "first": -1, "count": 1}]}, "begins before the part"),
    ({"rows": [{"part": "a.safetensors", "first": 0, "count": 10**11}]}, "1 windows of 1 views have 100000000000 rows"),
    ({"rows": []}, "1 windows of 1 views have 0 rows"),
    ({"rows": [], "windows": []}, "neither windows nor an error"),
    ({"windows": 3}, "windows is not a list"),
    ({"video": 3}, "video is not a string"),
    ({"size": float("nan")}, "size is not a number"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_SETTINGS, ids=[m for _, m in BAD_SETTINGS])
def test_bad_settings(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = made(tmp_path / "i", 1)
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ResultsError, match=message) as raised:
        Index.open(folder)
    assert str(raised.value).isprintable()


@pytest.mark.parametrize(("changes", "message"), BAD_LINES, ids=[m for _, m in BAD_LINES])
def test_bad_lines(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    folder = made(tmp_path / "i", 1)
    path = folder / "videos.jsonl"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes) + "\n")
    with pytest.raises(ResultsError, match=message) as raised:
        Index.open(folder)
    assert "videos.jsonl, line 1: " in str(raised.value)
    assert str(raised.value).isprintable()


WINDOWS_OF_NO_VIDEO = {
    "backwards": [(1, 2), (0, 1)],
    "twice": [(0, 1), (0, 1)],
    "empty": [(0, 1), (1, 1)],
    "nested": [(0, 9), (1, 8)],
    "all over each other": [(i / 1000, 100 + i) for i in range(100)],
}


@pytest.mark.parametrize("times", WINDOWS_OF_NO_VIDEO.values(), ids=WINDOWS_OF_NO_VIDEO)
def test_windows_that_are_none_of_a_video(tmp_path: Path, times: list[tuple[float, float]]) -> None:
    folder = tmp_path / "i"
    with IndexWriter(folder, replace(MADE, window="1", stride="1")) as writer:
        writer.finish(VideoLine("a"), [StoredWindow(start, end, lost="x") for start, end in times])
    with Index.open(folder) as index, pytest.raises(ResultsError, match="out of order, or overlap too much"):
        _ = index["a"].windows


def test_windows_that_overlap_as_much_as_may_be(tmp_path: Path) -> None:
    folder, made_with = tmp_path / "i", replace(MADE, window="64", stride="1")
    found = [*Windows(Fraction(0), Fraction(401, 3), Fraction(64), Fraction(1))]
    with IndexWriter(folder, made_with) as writer:
        writer.finish(VideoLine("a"), [StoredWindow(float(start), float(end), lost="x") for start, end in found])
        writer.finish(VideoLine("empty"), [StoredWindow(0, 0, lost="x")])
    with Index.open(folder) as index:
        assert [len(index[video].windows) for video in ("a", "empty")] == [len(found), 1]


def test_a_video_that_was_looked_at_whole_has_one_record(tmp_path: Path) -> None:
    folder, whole = tmp_path / "i", replace(MADE, window=None, stride=None)
    for more in ({"windows": windows(2)}, {"windows": windows(1), "error": Error("damaged", "m")}):
        with IndexWriter(folder, whole) as writer:
            count = len(more["windows"])
            writer.add(rows(0, count))
            writer.finish(VideoLine("a", error=more.get("error")), more["windows"])
        with pytest.raises(ResultsError, match="encoded whole has more than one window, or a window and an error"):
            Index.open(folder)
        shutil.rmtree(folder)


def test_a_line_that_names_rows_that_are_not_there(tmp_path: Path) -> None:
    folder = made(tmp_path / "i", 1)
    path = folder / "videos.jsonl"
    line = json.loads(path.read_text())
    line["rows"][0]["first"] = 7
    path.write_text(json.dumps(line) + "\n")
    with Index.open(folder) as index, pytest.raises(ResultsError, match="it has 1 rows, but the index names 8"):
        index["a"].rows()


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple[Path, bytes]]]:
    folder = made(tmp_path_factory.mktemp("victim") / "i", 2, 1)
    paths = [folder / "index.json", folder / "videos.jsonl", *part_files(folder)]
    return folder, [(path, path.read_bytes()) for path in paths]


@given(st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_strangers_indexes_are_read_or_refused_in_one_line(
    victim: tuple[Path, list[tuple[Path, bytes]]], data: st.DataObject
) -> None:
    folder, files = victim
    path, content = data.draw(st.sampled_from(files))
    changed = bytearray(content)
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, min(len(changed), 400)))
        length = data.draw(st.integers(0, 8))
        changed[at : at + length] = data.draw(st.binary(max_size=8))
    path.write_bytes(changed)
    try:
        with Index.open(folder) as index:
            for video in index:
                assert len(video.windows) >= video.num_windows
                assert video.features.shape[2] == index.settings.width
                assert video.tokens.dtype == np.float32
    except ResultsError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 1000
    finally:
        path.write_bytes(content)


@pytest.mark.parametrize("name", ["index.json", "videos.jsonl", "part"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = made(tmp_path / "i", 1)
    path = part_files(folder)[0] if name == "part" else folder / name
    path.unlink()
    os.mkfifo(path)
    assert is_index(folder) == (name != "index.json")
    with pytest.raises(ResultsError, match="it is not a regular file"), Index.open(folder) as index:
        index["a"].rows()
    if name == "part":
        with Index.open(folder) as index:
            assert "it is not a regular file" in check_index(index)[path.name]
        with IndexWriter(folder) as writer:
            assert writer.damaged == {path.name: ["a"]}
    else:
        with pytest.raises(ResultsError, match="not a file of an index|is not an index"):
            IndexWriter(folder)


def test_an_index_does_not_make_us_write_or_delete_elsewhere(tmp_path: Path) -> None:
    other = tmp_path / "model"
    other.mkdir()
    for name in ("model.safetensors", "text"):
        (other / name).write_text("precious")  # a line without an end, as of a writer that was killed
    for name, target in (("videos.jsonl", other / "text"), ("parts", other)):
        folder = made(tmp_path / name, 1)
        (folder / name).rename(tmp_path / f"real {name}")
        (folder / name).symlink_to(target)
        with pytest.raises(ResultsError, match=f"{name} is a link, or not a file of an index"):
            IndexWriter(folder)
    folder = tmp_path / "new"
    folder.mkdir()
    for planted in (".xclip-index.json", ".xclip-videos.jsonl"):
        (folder / planted).symlink_to(other / "text")
    with IndexWriter(folder, MADE) as writer:
        put(writer, "a", 0, 1)
        writer.tidy(wasteful=True)
    assert {path.read_text() for path in other.iterdir()} == {"precious"}
    assert_holds(folder, a=1)


def test_spans_are_checked() -> None:
    for values in (("x", 0, 1), ("a.safetensors", 0, 0)):
        with pytest.raises(ValueError, match="part|empty"):
            Span(*values)
