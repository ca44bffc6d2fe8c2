from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from records import assert_same

from xclip_cli.engine.cache import SHAPE, FeatureCache
from xclip_cli.folders import cache_folder


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "features")


def features(seed: int, rows: int = 4) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, 16)).astype(np.float32)


def test_what_was_put_is_got(cache: FeatureCache) -> None:
    assert cache.get("a") is None
    assert not cache.folder.exists()
    for seed, key in enumerate(["a", "b/../c", "", "é" * 5000]):
        cache.put(key, features(seed))
    for seed, key in enumerate(["a", "b/../c", "", "é" * 5000]):
        got = cache.get(key)
        assert got is not None
        np.testing.assert_array_equal(got, features(seed))
    assert cache.get("c") is None
    assert len(cache.entries()) == 4
    assert cache.size() == sum(path.stat().st_size for path in cache.folder.iterdir())


def test_the_latest_stays(cache: FeatureCache) -> None:
    cache.put("a", features(0))
    cache.put("a", features(1, rows=9))
    got = cache.get("a")
    assert got is not None
    np.testing.assert_array_equal(got, features(1, rows=9))
    assert len(list(cache.folder.iterdir())) == 1


@pytest.mark.parametrize("length", ["whole", 0, 1, 31, 32, 40, -1])
@pytest.mark.parametrize("flip", [None, 0, 31, 33, 60, -1])
def test_damage_is_ignored_and_written_over(
    cache: FeatureCache, length: int | str, flip: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    cache.put("a", features(0))
    (path,) = cache.entries()
    data = bytearray(path.read_bytes())
    if flip is not None:
        data[flip] ^= 1
    if length != "whole":
        del data[int(length) :]
    damaged = bytes(data) != path.read_bytes()
    path.write_bytes(bytes(data))
    with caplog.at_level(logging.INFO):
        assert (cache.get("a") is None) == damaged
    assert ("damaged" in caplog.text) == damaged
    cache.put("a", features(1))
    got = cache.get("a")
    assert got is not None
    np.testing.assert_array_equal(got, features(1))


def test_a_folder_that_others_write_to(cache: FeatureCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry is used only if it is a file of ours, or of the folder's owner, and under its own name."""
    cache.put("a", features(0))
    cache.put("b", features(1))
    assert cache.folder is not None
    first, second = cache._path(cache.folder, "a"), cache._path(cache.folder, "b")
    whole = first.read_bytes()
    second.replace(first)  # another's features, of the same shape
    assert cache.get("a") is None
    (tmp_path / "elsewhere").write_bytes(whole)
    first.unlink()
    first.symlink_to(tmp_path / "elsewhere")
    assert cache.get("a") is None
    (tmp_path / "elsewhere").replace(first)
    assert cache.get("a") is not None
    if os.geteuid() == 0:
        os.chown(first, 12345, -1)
        assert cache.get("a") is None
        os.chown(cache.folder, 12345, -1)
        assert cache.get("a") is not None


def test_the_longest_unused_go_first(tmp_path: Path) -> None:
    one = FeatureCache(tmp_path)
    one.put("0", features(0))
    size = one.size()
    cache = FeatureCache(tmp_path, limit=3 * size + 1)
    for i in (1, 2):
        cache.put(str(i), features(i))
    for age, path in enumerate(cache.entries()):  # clocks of file systems may be coarse
        os.utime(path, (1000 + age, 1000 + age))
    assert cache.get("0") is not None  # which counts as a use
    cache.put("3", features(3))
    assert [key for key in "0123" if cache.get(key) is not None] == ["0", "2", "3"]
    assert cache.size() <= cache.limit
    cache.put("large", features(4, rows=1000))
    assert cache.get("large") is None
    assert [key for key in "0123" if cache.get(key) is not None] == ["0", "2", "3"]


def test_clearing(cache: FeatureCache) -> None:
    assert cache.clear() == 0
    for i in range(3):
        cache.put(str(i), features(i))
    (cache.folder / "tmpabc").write_bytes(b"what a killed run left")
    assert cache.clear() == 4
    assert cache.entries() == []
    assert cache.get("0") is None
    assert (cache.size(), list(cache.folder.iterdir())) == (0, [])


def test_a_folder_that_takes_nothing_costs_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    cache = FeatureCache(blocked / "features")
    with caplog.at_level(logging.INFO):
        cache.put("a", features(0))
    assert f"cannot cache the text features in {cache.folder}: " in caplog.text
    assert cache.get("a") is None
    assert (cache.entries(), cache.size(), cache.clear()) == ([], 0, 0)


def test_a_full_disk_leaves_nothing_behind(
    cache: FeatureCache, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(self: Path, target: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with caplog.at_level(logging.INFO):
        cache.put("a", features(0))
    assert "No space left on device" in caplog.text
    assert list(cache.folder.iterdir()) == []


def test_two_processes_at_once(tmp_path: Path) -> None:
    """Both write, read and delete the same few keys: nothing but whole arrays is read, and nothing left over."""
    code = """
        import sys
        from pathlib import Path
        import numpy as np
        from xclip_cli.engine.cache import FeatureCache
        cache = FeatureCache(Path(sys.argv[1]), limit=3 * 1300)
        hits = 0
        for i in range(400):
            key = i % 5
            cache.put(str(key), np.full((4, 64), key, np.float32))
            got = cache.get(str((i * 7) % 5))
            if got is not None:
                hits += 1
                assert (got == (i * 7) % 5).all()
        print(hits)
    """
    command = [sys.executable, "-W", "error", "-c", textwrap.dedent(code), str(tmp_path / "shared")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    for process in running:
        out, errors = process.communicate(timeout=120)
        assert (process.returncode, errors) == (0, "")
        assert int(out) > 100
    cache = FeatureCache(tmp_path / "shared", limit=3 * 1300)
    assert 1 <= len(cache.entries()) <= 3
    assert set(cache.folder.iterdir()) == set(cache.entries())


@pytest.mark.skipif(sys.platform != "linux", reason="the folder is another on other systems")
def test_where_it_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    monkeypatch.setenv("XCLIP_CACHE", "/y")
    assert cache_folder() == Path("/y")
    assert FeatureCache().folder == Path("/y/text-features")
    monkeypatch.setenv("XCLIP_CACHE", "")
    assert cache_folder() == Path("/x/xclip")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which is to be ignored
    assert cache_folder() == tmp_path / ".cache" / "xclip"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == tmp_path / ".cache" / "xclip"
    monkeypatch.setenv("HOME", "relative")
    assert cache_folder() is None


def test_without_a_home_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("XCLIP_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "relative")
    cache = FeatureCache()
    with caplog.at_level(logging.INFO):
        cache.put("a", features(0))
    assert "cannot cache the text features: there is no home folder; set XCLIP_CACHE to a folder" in caplog.text
    assert (cache.get("a"), cache.entries(), cache.clear(), os.listdir()) == (None, [], 0, [])


@pytest.mark.parametrize("mask", [0o022, 0o007, 0o077])
def test_entries_are_readable_by_whom_the_umask_lets(cache: FeatureCache, mask: int) -> None:
    before = os.umask(mask)
    try:
        cache.put("a", features(0))
    finally:
        os.umask(before)
    (path,) = cache.entries()
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask


def test_what_others_put_in_a_shared_cache_is_no_features(cache: FeatureCache) -> None:
    """A pipe would be waited for; sizes may be any."""
    cache.put("a", features(0))
    (path,) = cache.entries()
    whole = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    assert cache.get("a") is None
    path.unlink()
    for shape in ((1 << 31, 1 << 31), (0, 0), (4, 17)):
        content = SHAPE.pack(*shape) + whole[32 + SHAPE.size :]
        path.write_bytes(hashlib.sha256(content).digest() + content)
        assert cache.get("a") is None


def test_the_cache_on_the_command_line(xclip: Run, checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    env = {"XCLIP_CACHE": str(folder)}
    run = ["classify", clip, "--label", "a cat", "--label", "a dog", "--model", checkpoint]
    plain = xclip(*run, "--no-cache", env=env)
    assert plain.returncode == 0
    assert not folder.exists()
    first, second = (xclip(*run, env=env) for _ in range(2))
    assert first.returncode == 0
    found, again, expected = (json.loads(done.stdout) for done in (first, second, plain))
    assert {**found, "seconds": None} == {**again, "seconds": None}
    assert_same(found, expected)
    (entry,) = (folder / "text-features").iterdir()
    info = json.loads(xclip("cache", "info", "--json", env=env).stdout)
    assert info == {
        "folder": str(folder / "text-features"),
        "label sets": 1,
        "bytes": entry.stat().st_size,
        "limit in bytes": 1 << 30,
    }
    assert "label sets" in xclip("cache", "info", env=env).stdout
    assert xclip("cache", "clear", env=env).stdout == "deleted 1 files\n"
    assert list((folder / "text-features").iterdir()) == []
