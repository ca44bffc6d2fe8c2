from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from xclip_cli.output.sidecars import JOURNAL, places


def test_the_tree_below_a_folder_is_mirrored() -> None:
    videos = ["clips/a.mp4", "clips/a.mov", "clips/below/a.mp4"]
    assert places(videos, ["clips/"], ".srt") == ["a.mp4.srt", "a.mov.srt", "below/a.mp4.srt"]
    assert places(videos, ["clips/below", "clips"], ".srt") == ["a.mp4.srt", "a.mov.srt", "below/a.mp4.srt"]
    assert places(["v/a.mp4"], ["."], ".srt") == places(["/v/a.mp4"], ["/"], ".srt") == ["v/a.mp4.srt"]
    assert places(["./a.mp4", "v//./b.mp4"], [".", "v"], ".srt") == ["a.mp4.srt", "v/b.mp4.srt"]
    assert places(["a/x.mp4"], ["a"], ".json") == places(["a/x.mp4"], [], ".json") == ["x.mp4.json"]


def test_other_videos_are_mirrored_from_the_folder_that_holds_them_all() -> None:
    assert places(["/v/x/1.mp4", "/v/y/1.mp4"], [], ".csv") == ["x/1.mp4.csv", "y/1.mp4.csv"]
    assert places(["../1.mp4", "1.mp4"], [], ".csv") == ["1.mp4.csv", f"{Path.cwd().name}/1.mp4.csv"]
    assert places(["-", "/v/1.mp4", "http://x/y/2.mp4"], [], ".csv") == ["-.csv", "1.mp4.csv", "2.mp4.csv"]


def test_names_that_clash_are_told_apart() -> None:
    one, other = places(["a/x.mp4", "b/x.mp4"], ["a", "b"], ".srt")
    assert one != other
    assert one.startswith("x.mp4-")
    assert one.endswith(".srt")
    assert places(["b/x.mp4", "a/x.mp4"], ["a", "b"], ".srt") == [other, one]  # whatever their order
    upper, lower = places(["a/X.mp4", "b/x.mp4"], ["a", "b"], ".srt")
    assert upper.casefold() != lower.casefold()
    # a folder with the name of a video's file, and of the run's
    assert places(["v/a.mp4", "v/a.mp4.srt/b.mp4", f"v/{JOURNAL}/c.mp4"], ["v"], ".srt")[0] == "a.mp4.srt"
    below = [path.split("/")[0] for path in places(["v/a.mp4.srt/b.mp4", f"v/{JOURNAL}/c.mp4"], ["v"], ".srt")]
    assert below == ["a.mp4.srt_", f"{JOURNAL}_"]
    marked = places(["a/x", "b/x"], ["a", "b"], ".srt")[0].removesuffix(".srt")
    taken = places([f"c/{marked}", "a/x", "b/x"], ["a", "b", "c"], ".srt")
    assert len(set(taken)) == 3


NAMES = st.text(st.sampled_from("aA.\x1b\u202e\n\udce9\u0301é-_~ $"), min_size=1, max_size=5)
ODD = st.sampled_from(["..", ".", "a" * 255, "é" * 127, "results.jsonl", "x.srt", "~", "$HOME"])
PATHS = st.builds(lambda parts, root: root + "/".join(parts), st.lists(NAMES | ODD, min_size=1, max_size=4),
                  st.sampled_from(["", "/", "../", "clips/", "clips/../", "http://"]))  # fmt: skip


@given(st.lists(PATHS, max_size=8, unique=True), st.lists(st.sampled_from(["clips", ".", "/", "clips/a"]), max_size=2))
def test_every_file_stays_inside_and_is_its_own(videos: list[str], folders: list[str]) -> None:
    found = places(videos, folders, ".srt")
    for path in found:
        parts = path.split("/")
        assert not {"", ".", ".."} & set(parts), path
        assert not os.path.isabs(path)
        assert not {"\x1b", "\u202e", "\n", "\udce9"} & set(path)
        assert max(len(os.fsencode(part)) for part in parts) <= 255
        assert parts[-1].endswith(".srt")
        assert not any(part.endswith((".srt", ".jsonl")) for part in parts[:-1])
    assert len({unicodedata.normalize("NFC", path).casefold() for path in found}) == len(videos)


def test_deep_trees_are_flattened() -> None:
    (path,) = places(["v/" + "/".join(["folder"] * 500) + "/a.mp4"], ["v"], ".csv")
    assert path.startswith("a.mp4-")
