from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from xclip_cli.report.links import links
from xclip_cli.report.thumbnails import beside, located


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for place in ("run/clips/a.mp4", "run/still.PNG", "run/page.html", "run/vector.svg", "run/none", "private.mp4"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    return tmp_path


def test_addresses_are_relative_to_the_page(folder: Path) -> None:
    place = partial(beside, folder=folder / "run")
    videos = ["clips/a.mp4", "still.PNG", "clips/gone.mp4"]
    assert links(videos, place, folder / "run/r.html") == {"clips/a.mp4": "clips/a.mp4", "still.PNG": "still.PNG"}
    assert links(videos, place, folder / "pages/r.html")["clips/a.mp4"] == "../run/clips/a.mp4"


def test_below_a_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = links(["/elsewhere/clips/a.mp4", "b.mp4"], partial(located, root=folder / "run"), folder / "r.html")
    assert found == {"/elsewhere/clips/a.mp4": "run/clips/a.mp4"}
    monkeypatch.chdir(folder)
    assert links(["a.mp4"], partial(located, root=Path("run/clips")), Path("r.html")) == {"a.mp4": "run/clips/a.mp4"}


def test_only_what_the_page_may_show(folder: Path) -> None:
    (folder / "run/link.mp4").symlink_to(folder / "private.mp4")
    outside = [
        "../private.mp4",
        str(folder / "private.mp4"),
        "link.mp4",
        "a\0.mp4",
        "\ud800.mp4",
        "x" * 5000 + ".mp4",
        "",
    ]
    assert links(outside, partial(beside, folder=folder / "run"), folder / "run/r.html") == {}


def test_no_address_leads_past_a_link_to_another_file(folder: Path) -> None:
    """The system goes to the folder above the link's target, and a browser to that above the link."""
    (folder / "run/deep/er").mkdir(parents=True)
    (folder / "run/deep/private.mp4").touch()
    (folder / "run/down").symlink_to("deep/er")
    video = "down/../private.mp4"
    place = partial(beside, folder=folder / "run")
    assert place(video) is not None
    assert links([video], place, folder / "run/r.html") == {}
    (folder / "run/private.mp4").touch()
    assert links([video], place, folder / "run/r.html") == {}


def test_files_that_a_browser_would_run_become_no_links(folder: Path) -> None:
    videos = ["page.html", "vector.svg", "none", "clips"]
    assert links(videos, partial(beside, folder=folder / "run"), folder / "run/r.html") == {}


@pytest.mark.parametrize(
    "name",
    [
        b"a b.mp4",
        b"javascript:alert(1)%2F#?&.mp4",
        b"\"><script>'\\.mp4",
        b"caf\xe9.mp4",
        "日本.mp4".encode(),
        b"\n.mp4",
    ],
)
def test_any_name_is_one_address(tmp_path: Path, name: bytes) -> None:
    video = os.fsdecode(name)
    try:
        (tmp_path / video).touch()
    except OSError:
        pytest.skip("the file system does not take this name")
    found = links([video], partial(beside, folder=tmp_path), tmp_path / "r.html")[video]
    assert set(found) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-~/%")
    assert unquote_to_bytes(found) == name
