from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xclip_cli import inputs
from xclip_cli.errors import ResultsError
from xclip_cli.inputs import Shard, entry_of, expand_inputs, read_path_list
from xclip_cli.results.records import Failure


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.mp4", "a.MKV", "notes.txt", ".hidden.mp4", "still.png", "sub/c.webm", ".git/d.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_folders_become_their_videos(tree: Path) -> None:
    inputs = expand_inputs([str(tree)])
    assert inputs.items == [str(tree / "a.MKV"), str(tree / "b.mp4")]
    assert inputs.ignored == 2
    assert inputs.notices() == ["ignored 2 files without a video suffix"]


def test_folders_of_folders(tree: Path) -> None:
    inputs = expand_inputs([str(tree)], recursive=True)
    assert inputs.items == [str(tree / name) for name in ("a.MKV", "b.mp4", "sub/c.webm")]


def test_files_that_are_named_are_always_taken(tree: Path) -> None:
    given = [str(tree / name) for name in ("notes.txt", ".hidden.mp4", "still.png", "missing.mp4")]
    assert expand_inputs(given).items == given


def test_a_folder_without_videos_is_one_failure(tree: Path) -> None:
    (failure,) = expand_inputs([str(tree / "empty")]).items
    assert isinstance(failure, Failure)
    assert (failure.video, failure.code) == (str(tree / "empty"), "empty_folder")
    assert "--recursive" in failure.message


@pytest.mark.parametrize("name", ["y" * 300 + ".mp4", "a/" * 3000, "", "nul\0.mp4"])
def test_names_that_no_file_can_have_are_taken_as_they_are(name: str) -> None:
    assert expand_inputs([name]).items == [name]


def test_a_folder_that_cannot_be_read_costs_itself_alone(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refusing(path: str) -> object:
        if str(path).endswith("sub"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    items = expand_inputs([str(tree)], recursive=True).items
    failures = [item for item in items if isinstance(item, Failure)]
    assert [item for item in items if isinstance(item, str)] == [str(tree / "a.MKV"), str(tree / "b.mp4")]
    assert [(failure.video, failure.code) for failure in failures] == [(str(tree / "sub"), "permission")]


def test_folders_may_be_nested_deeper_than_calls(tmp_path: Path) -> None:
    deepest = tmp_path / "nested" / "/".join("d" * 1500)
    try:
        subprocess.run(["mkdir", "-p", str(deepest)], check=True)
        (deepest / "a.mp4").touch()
        (tmp_path / "nested" / "link").symlink_to("..")  # to a folder: not followed
        assert expand_inputs([str(tmp_path)], recursive=True).items == [str(deepest / "a.mp4")]
    finally:
        subprocess.run(["rm", "-rf", str(tmp_path / "nested")], check=True)  # shutil's calls itself a folder a level


def test_one_file_by_two_spellings_is_one(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    inputs = expand_inputs(["b.mp4", "./b.mp4", str(tree / "b.mp4"), "sub/../b.mp4"])
    assert inputs.items == ["b.mp4"]
    assert len(inputs.repeated) == 3


def test_urls_are_refused_with_a_hint() -> None:
    (failure,) = expand_inputs(["https://example.org/a.mp4"]).items
    assert isinstance(failure, Failure)
    assert failure.code == "url"
    assert "download it first" in failure.message


def test_a_file_that_looks_like_a_url_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("http:") / "a.mp4"
    path.parent.mkdir()
    path.touch()
    assert expand_inputs(["http://a.mp4"]).items == ["http://a.mp4"]


def test_what_is_given_twice_is_classified_once(tree: Path) -> None:
    inputs = expand_inputs([str(tree / "b.mp4"), str(tree), "x", "x"])
    assert inputs.items == [str(tree / "b.mp4"), str(tree / "a.MKV"), "x"]
    assert inputs.repeated == [str(tree / "b.mp4"), "x"]


@pytest.mark.parametrize(
    ("data", "nul", "paths"),
    [
        (b"a.mp4\nb c.mp4\r\n\n-d.mp4", False, ["a.mp4", "b c.mp4", "-d.mp4"]),
        (b"a\nb.mp4\0caf\xe9.mp4\0", True, ["a\nb.mp4", "caf\udce9.mp4"]),
        (b"", False, []),
        (b"\xef\xbb\xbfa.mp4\r\nb.mp4\r\n", False, ["a.mp4", "b.mp4"]),
        (b"\xef\xbb\xbfa.mp4\0b.mp4\0", True, ["a.mp4", "b.mp4"]),
    ],
)
def test_lists_of_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: bytes, nul: bool, paths: list[str]
) -> None:
    path = tmp_path / "list"
    path.write_bytes(data)
    assert read_path_list(str(path), nul) == paths
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert read_path_list("-", nul) == paths


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_list_of_another_encoding_is_refused_as_a_label_file_is(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "list"
    path.write_bytes("videos/a.mp4\n".encode(encoding))
    with pytest.raises(
        ResultsError, match="the list of videos .* is UTF-.*: save it as UTF-8, for example with `iconv"
    ):
        read_path_list(str(path))


def test_a_path_is_what_it_names(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    (tree / "link").symlink_to(tree / "sub")
    (tree / "b-link.mp4").symlink_to(tree / "b.mp4")
    (tree / "sub" / "b.mp4").touch()
    same = {entry_of(path) for path in ("b.mp4", "./b.mp4", str(tree / "b.mp4"), "sub/../b.mp4", "link/../b.mp4")}
    assert same == {str(tree.resolve() / "b.mp4")}
    assert entry_of("link/b.mp4") == entry_of("sub/b.mp4") != entry_of("b.mp4")
    assert entry_of("b-link.mp4") != entry_of("b.mp4")  # a link is a name of its own
    assert entry_of("nul\0/a.mp4") == "nul\0/a.mp4"


def test_recorded_videos_are_known_by_any_spelling(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)
    given = expand_inputs(["b.mp4", str(tree / "a.MKV"), "empty", "new.mp4"])
    todo = given.spelled_as({str(tree / "b.mp4"), "./a.MKV", "sub/../empty"})
    assert todo.names == [str(tree / "b.mp4"), "./a.MKV", "sub/../empty", "new.mp4"]
    assert todo.without({"./a.MKV", str(tree / "b.mp4"), "sub/../empty"}).items == ["new.mp4"]


def test_a_list_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot read the list of videos .*No such file"):
        read_path_list(str(tmp_path / "no"))


def test_a_list_without_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "MAX_LIST", 1 << 20)
    with pytest.raises(ResultsError, match="the list of videos /dev/zero is larger than 1 MB"):
        read_path_list("/dev/zero")


MORE_SUFFIXES = "m2v divx f4v rm rmvb dv wtv y4m nut h264 hevc qt ogm m2t insv MP4"


@pytest.mark.parametrize("suffix", MORE_SUFFIXES.split())
def test_a_folder_s_videos_have_many_suffixes(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"clip.{suffix}").touch()
    assert expand_inputs([str(tmp_path)]).items == [str(tmp_path / f"clip.{suffix}")]


def test_linked_folders_are_entered_once(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside / "real", outside / "deep"):
        folder.mkdir(parents=True)
    for file in (inside / "real" / "a.mp4", outside / "b.mp4", outside / "deep" / "c.mp4"):
        file.touch()
    (inside / "again").symlink_to(inside / "real")
    (inside / "other").symlink_to(outside)
    (inside / "third").symlink_to(outside / "deep")
    (inside / "real" / "loop").symlink_to(inside)
    (outside / "deep" / "loop").symlink_to(outside)
    (inside / "broken").symlink_to(tmp_path / "nothing")
    found = expand_inputs([str(inside)], recursive=True).items
    assert found == [str(inside / name) for name in ("other/b.mp4", "other/deep/c.mp4", "real/a.mp4")]
    assert len(expand_inputs([str(inside)]).items) == 1  # not without --recursive


def test_shards_share_out_all_inputs_and_each_once() -> None:
    given = [f"videos/{number}.mp4" for number in range(1000)]
    inputs = expand_inputs([*given, "https://example.com/a.mp4"])
    shards = [inputs.sharded(Shard.parse(f"{number}/7")).names for number in range(1, 8)]
    assert sorted(name for names in shards for name in names) == sorted(inputs.names)
    assert all(100 < len(names) < 190 for names in shards)
    for names in shards:
        assert names == [name for name in inputs.names if name in names]


def test_a_shard_is_the_same_everywhere_and_for_ever() -> None:
    # by `printf %s NAME | sha256sum`: the first 16 digits, as a number, modulo 4
    shards = {"a.mp4": 1, "c.mp4": 2, "caf\udce9.webm": 3, "/mnt/c.mp4": 4}
    for name, number in shards.items():
        assert [name in Shard(i, 4) for i in range(1, 5)] == [i == number for i in range(1, 5)], name
