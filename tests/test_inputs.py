from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from xclip_cli import inputs
from xclip_cli.errors import ResultsError
from xclip_cli.inputs import expand_inputs, read_path_list
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
    assert inputs.notices() == ["ignored 2 files in folders that are no videos by their suffix"]


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
