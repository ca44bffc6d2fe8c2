from __future__ import annotations

import errno
import fcntl
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from samples import BAD, GOOD

from xclip_cli.errors import ResultsError
from xclip_cli.output.data import write_csv
from xclip_cli.output.files import check_output, format_of, write
from xclip_cli.output.tables import FORMATS


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.json", "json"), ("a.JSONL", "jsonl"), ("a.ndjson", "jsonl"), ("a.csv", "csv"), ("a", None)],
)
def test_formats_by_suffix(name: str, expected: str | None) -> None:
    assert format_of(Path(name)) == expected


def test_outputs_that_would_destroy_something_are_refused(tmp_path: Path) -> None:
    there = tmp_path / "there.json"
    there.write_text("{}")
    with pytest.raises(ResultsError, match="exists: pass --force to replace it"):
        check_output(there, False, [])
    check_output(there, True, [])
    with pytest.raises(ResultsError, match="is one of the inputs"):
        check_output(there, True, [str(there)])
    with pytest.raises(ResultsError, match="is a folder"):
        check_output(tmp_path, True, [])
    with pytest.raises(ResultsError, match="the output folder .* does not exist"):
        check_output(tmp_path / "no" / "out.json", True, [])


def test_a_run_that_breaks_leaves_earlier_results_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("earlier")

    def breaking():
        yield GOOD
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        write(FORMATS["json"], breaking(), path, None)
    assert path.read_text() == "earlier"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.json"]


def test_devices_and_pipes_are_written_through(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    check_output(pipe, False, [])
    write(FORMATS["csv"], iter([GOOD]), pipe, None)
    assert os.read(reader, 100_000).startswith(b"video,status,")
    os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"

    def records():
        path.write_text("another run's")
        yield GOOD

    with pytest.raises(ResultsError, match="was just created by another program: these results are in"):
        write(FORMATS["csv"], records(), path, None)
    assert path.read_text() == "another run's"
    assert len(list(tmp_path.glob("out.*.csv"))) == 1


def test_a_long_name_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".csv")
    write(FORMATS["csv"], iter([GOOD]), path, None)
    assert path.read_text().startswith("video,")


@pytest.mark.parametrize("name", ["out.json", "out.csv", "out.txt"])
def test_one_run_at_a_time_writes_a_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    form = format_of(path)
    assert form

    def records():
        yield GOOD
        with pytest.raises(ResultsError, match=f"{name} is being written by another run"):
            write(FORMATS[form], [BAD], path, None, force=True)

    write(FORMATS[form], records(), path, None)
    assert path.read_text("utf-8")
    assert os.listdir(tmp_path) == [name]
    write(FORMATS[form], [BAD], path, None, force=True)
    assert "no such file" in path.read_text("utf-8")


def test_what_a_killed_run_left_is_no_obstacle(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    write(write_csv, [GOOD], path, None)
    whole = path.read_bytes()

    def records():
        (part,) = (entry for entry in tmp_path.iterdir() if entry.name != "out.csv")
        left.append(part)
        yield GOOD

    left: list[Path] = []
    write(write_csv, records(), path, None, force=True)
    left[0].write_bytes(b"x" * 10_000)
    write(write_csv, [GOOD], path, None, force=True)
    assert path.read_bytes() == whole


@pytest.mark.parametrize("plant", [os.symlink, os.link])
def test_a_link_in_the_way_of_the_new_file_is_not_followed(tmp_path: Path, plant: Any) -> None:
    """Where others may write, too, they may have put a link to a file of ours by a name that an earlier run used."""
    path, precious = tmp_path / "out.csv", tmp_path / "precious"
    precious.write_text("precious")

    def records():
        (part,) = (entry for entry in tmp_path.iterdir() if entry.name not in ("out.csv", "precious"))
        parts.append(part)
        yield GOOD

    parts: list[Path] = []
    write(write_csv, records(), path, None)
    plant(precious, parts[0])
    write(write_csv, [BAD], path, None, force=True)
    assert precious.read_text() == "precious"
    assert "no such file" in path.read_text("utf-8")


def test_a_link_to_nothing_is_no_new_file(tmp_path: Path) -> None:
    path, nothing = tmp_path / "out.json", tmp_path / "nothing"
    path.symlink_to(nothing)
    for force in (False, True):
        with pytest.raises(ResultsError, match=r"out.json is a broken link: give another file"):
            check_output(path, force, [])
    with pytest.raises(ResultsError, match="was just created by another program: these results are in"):
        write(FORMATS["json"], [GOOD], path, None)  # it was put there after the check
    assert not nothing.exists()


def refusing(monkeypatch: pytest.MonkeyPatch, *calls: str, error: int = errno.EBUSY) -> None:
    """Have calls of the system fail, as for a mounted file."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(error, os.strerror(error))

    for call in calls:
        monkeypatch.setattr(os, call, fail)


@pytest.mark.parametrize("there", [True, False])
@pytest.mark.parametrize("error", [errno.EBUSY, errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP])
def test_where_nothing_can_be_renamed_the_content_is_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool, error: int
) -> None:
    path = tmp_path / "out.csv"
    if there:
        path.write_text("earlier, and longer than what comes\n" * 1000)
    refusing(monkeypatch, "replace", "rename", "link", error=error)
    write(write_csv, [GOOD], path, None, force=there)
    assert "a cat" in path.read_text("utf-8")
    assert "earlier" not in path.read_text("utf-8")
    assert os.listdir(tmp_path) == ["out.csv"]


def test_results_that_can_go_nowhere_stay_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "out.csv"
    refusing(monkeypatch, "replace", "rename", "link", "fsync", error=errno.ENOSPC)
    with pytest.raises(
        ResultsError, match=r"cannot write \S*out.csv: No space left .*: these results are in"
    ) as raised:
        write(write_csv, [GOOD], path, None)
    assert "a cat" in Path(str(raised.value).split()[-1]).read_text("utf-8")


@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: int
) -> None:
    def none(*_: object) -> None:
        raise OSError(error, os.strerror(error))

    monkeypatch.setattr(fcntl, "flock", none)
    path = tmp_path / "out.csv"
    with caplog.at_level(logging.INFO):
        write(write_csv, [GOOD], path, None)
    assert "a cat" in path.read_text("utf-8")
    assert f"cannot lock {path} ({os.strerror(error)}): make sure that no other run writes it" in caplog.text
    assert os.listdir(tmp_path) == ["out.csv"]


def test_results_have_the_mode_that_the_user_gives_new_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write(write_csv, [GOOD], tmp_path / "out.csv", None)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.csv").stat().st_mode) == 0o640


def test_a_failure_half_way_leaves_earlier_results(tmp_path: Path) -> None:
    path = tmp_path / "out.csv"
    path.write_text("earlier")

    def records():
        yield GOOD
        raise OSError(28, "No space left on device")

    with pytest.raises(ResultsError, match="cannot write .*out.csv: No space left on device"):
        write(write_csv, records(), path, None, force=True)
    assert path.read_text() == "earlier"
    assert os.listdir(tmp_path) == ["out.csv"]
