from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from clips import number_of, numbered, write_clip
from PIL import Image

from xclip_cli.report.thumbnails import MAX_BYTES, Gallery, beside, jpeg, located
from xclip_cli.results.reading import Results
from xclip_cli.results.records import Failure, Frames, Prediction, Record, RunHeader, WindowRecord
from xclip_cli.video.pool import Decoders
from xclip_cli.video.sampling import ClipInfo, ClipRequest

TRAIL = [
    ("/data/a/b.mp4", "data/a/b.mp4"),
    ("a/b.mp4", "a/b.mp4"),
    ("../../b.mp4", "b.mp4"),
]


def seen(path: Path | str, num_frames: int, clips: int, **window: Fraction) -> tuple[ClipInfo, list[int]]:
    """What a model is shown of a video."""
    with Decoders(number_of) as decoders:
        decoders.submit(ClipRequest(str(path), num_frames, clips, **window))
        found = decoders.collect()
    assert found is not None
    return found


def record(path: Path | str, num_frames: int = 8, clips: int = 1, **window: Fraction) -> Prediction:
    """What classify says of a video's frames."""
    clip, _ = seen(path, num_frames, clips, **window)
    frames = Frames(num_frames, clip.decoded, 0, 0, clip.times_seconds)
    return Prediction(str(path), "m", None, clip.start_seconds, clip.end_seconds, frames, ())


def gallery(records: Iterable[Record | RunHeader], limit: int, root: Path = Path("/")) -> Gallery:
    return Gallery(Results.of(records), limit, partial(located, root=root))


def filled(*records: Record | RunHeader, limit: int = 100, root: Path = Path("/")) -> Gallery:
    made = gallery(records, limit, root)
    for _ in made.fill():
        pass
    return made


def number(content: bytes) -> int:
    return number_of(np.asarray(Image.open(io.BytesIO(content))))


@pytest.mark.parametrize(
    ("name", "rate", "window"),
    [
        ("a.mp4", 25, {}),
        ("a.mkv", Fraction(30000, 1001), {}),
        ("a.ts", Fraction(24000, 1001), {}),
        ("a.avi", Fraction(30000, 1001), {}),
        ("a.mp4", Fraction(30000, 1001), {"start": Fraction("0.25"), "end": Fraction("0.8")}),
        ("a.mp4", 25, {"start": Fraction(1, 3), "end": Fraction(4, 3)}),
    ],
)
@pytest.mark.parametrize(("with_header", "clips"), [(True, 1), (False, 1), (True, 3)])
def test_the_frames_are_those_that_were_seen(
    tmp_path: Path, name: str, rate: int | Fraction, window: dict[str, Fraction], with_header: bool, clips: int
) -> None:
    path = write_clip(tmp_path / name, 32, rate=rate)  # centres of segments fall on the starts of frames
    clip, numbers = seen(path, 8, clips, **window)
    header = RunHeader(**{key: str(window[key]) if window else None for key in ("start", "end")})
    pictures = filled(*[header] * with_header, record(path, 8, clips, **window)).thumbnails.pictures[str(path)]
    assert list(pictures) == sorted(set(clip.times_seconds))
    assert [number(content) for content in pictures.values()] == numbers


def test_few_of_many_frames_are_evenly_chosen(clip: Path) -> None:
    (pictures,) = filled(record(clip), limit=2).thumbnails.pictures.values()
    assert [number(content) for content in pictures.values()] == [12, 32]  # of 2, 7, 12, … 37


def test_frames_that_repeat_are_shown_once(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "short.mp4", 3)
    (pictures,) = filled(record(path)).thumbnails.pictures.values()
    assert [number(content) for content in pictures.values()] == [0, 1, 2]


def test_the_limit_is_shared_out(clip: Path, tmp_path: Path) -> None:
    records = [replace(record(clip), video=f"{i}.mp4") for i in range(5)]
    assert [len(request.chosen) for request in gallery(records, 100).requests] == [8] * 5
    assert [len(request.chosen) for request in gallery(records, 19).requests] == [3] * 5
    assert [request.video for request in gallery(records, 2).requests] == ["0.mp4", "1.mp4"]
    assert gallery(records, 0).requests == []


def test_the_caption_says_which_frames_are_shown(clip: Path) -> None:
    videos = [replace(record(clip), video=f"{i}.mp4") for i in range(30)]
    said = [gallery(videos, limit).thumbnails.caption for limit in (0, 1000, 100, 20)]
    assert said == [
        "No thumbnails: none were requested.",
        "Thumbnails: all of the frames that the model saw of each video.",
        "Thumbnails: 3 of the frames that the model saw of each video, evenly spaced: this page shows at most 100.",
        "Thumbnails: 1 of the frames that the model saw of each of the first 20 of 30 videos, evenly spaced: "
        "this page shows at most 20.",
    ]
    window = WindowRecord(record(clip))
    caption = gallery([window], 9).thumbnails.caption
    assert caption.startswith("Thumbnails: 9 of the frames that the model saw of each video")
    assert caption.endswith("Timelines show frames from their whole length.")
    elsewhere = Gallery(Results.of(videos), 100, lambda video: None)
    assert elsewhere.thumbnails.caption == "No thumbnails: no video of these results is at hand."


def test_a_timeline_gets_frames_from_all_over_it(clip: Path) -> None:
    base = record(clip)
    windows = [WindowRecord(replace(base, start_seconds=i / 5, end_seconds=i / 5 + 0.4)) for i in range(7)]
    (pictures,) = filled(*windows).thumbnails.pictures.values()
    assert [number(content) for content in pictures.values()] == [int((i + 0.5) * 40 / 12) for i in range(12)]


def test_what_cannot_be_decoded_any_more_says_why(clip: Path, tmp_path: Path) -> None:
    gone = replace(record(clip), video=str(tmp_path / "gone.mp4"))
    other = write_clip(tmp_path / "other.mp4", 20)
    changed = replace(record(clip), video=str(other))
    thumbnails = filled(gone, Failure("b.mp4", "x", "x"), changed, record(clip)).thumbnails
    assert thumbnails.missing == {
        gone.video: "no such file",
        str(other): "this is not the file that was classified: its frames have other times",
    }
    assert list(thumbnails.pictures) == [str(clip)]


def test_a_page_has_room_for_so_many_bytes(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("xclip_cli.report.thumbnails.jpeg", lambda picture, side: bytes(MAX_BYTES // 12))
    copies = [replace(record(clip, 4), video=f"{clip.parent}/./{'./' * i}{clip.name}") for i in range(5)]
    thumbnails = filled(*copies).thumbnails
    assert len(thumbnails.pictures) == 2  # of 4 frames: 4/3 of their bytes are written
    assert thumbnails.caption.endswith("The page has room only for those of the first 2 videos.")


@pytest.mark.parametrize(("video", "expected"), TRAIL)
def test_videos_are_found_where_they_have_moved(tmp_path: Path, video: str, expected: str) -> None:
    assert located(video, tmp_path) == str(tmp_path / expected)  # nothing is there: the whole path is named
    (tmp_path / "b.mp4").touch()
    assert located(video, tmp_path) == str(tmp_path / "b.mp4")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b.mp4").touch()
    if "a/" in video:
        assert located(video, tmp_path) == str(tmp_path / "a/b.mp4")


@pytest.mark.parametrize("video", ["", "/", "..", "a\0b", "x" * 5000])
def test_names_that_no_file_can_have(tmp_path: Path, video: str) -> None:
    assert located(video, tmp_path).startswith(str(tmp_path))


def test_a_path_of_many_folders_is_looked_for_in_little_time_and_memory(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").touch()
    tracemalloc.start()
    try:
        assert located("a/" * 20_000 + "b.mp4", tmp_path) == str(tmp_path / "b.mp4")
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


def test_a_strangers_file_chooses_no_pictures_of_ours(tmp_path: Path) -> None:
    """Only relative paths below the folder of the results are looked at, whatever links say."""
    folder = tmp_path / "downloaded"
    (folder / "videos").mkdir(parents=True)
    (folder / "videos" / "a.mp4").touch()
    (tmp_path / "private.mp4").touch()
    (folder / "link.mp4").symlink_to(tmp_path / "private.mp4")
    (folder / "up").symlink_to(tmp_path)
    (folder / "inside.mp4").symlink_to("videos/a.mp4")
    (folder / "circle").symlink_to("circle")
    for inside in ("videos/a.mp4", "inside.mp4", "videos/../videos/a.mp4", "not/there.mp4"):
        assert beside(inside, folder) == str(folder / inside)
    for outside in ("../private.mp4", str(tmp_path / "private.mp4"), "link.mp4", "up/private.mp4", "circle/a", "a\0b"):
        assert beside(outside, folder) is None
    records = [
        replace(Prediction("", "m", None, 0, 1, Frames(1, 1, 0, 0, (0.5,)), ()), video=v) for v in ("/x", "../y")
    ]
    made = Gallery(Results.of(records), 10, partial(beside, folder=folder))
    assert made.requests == []
    assert all("--root / uses absolute paths" in reason for reason in made.thumbnails.missing.values())
    assert len(made.thumbnails.missing) == 2


def test_a_record_of_a_million_frames_is_not_decoded() -> None:
    frames = Frames(1, 1, 0, 0, tuple(map(float, range(1_000_000))))
    made = gallery([Prediction("a.mp4", "m", None, 0, 1, frames, ())], 10)
    assert made.requests == []
    assert made.thumbnails.missing == {"a.mp4": "more than 10000 frames are recorded"}


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1080, 1920, (192, 108)),
        (1920, 1080, (81, 144)),
        (90, 120, (120, 90)),  # never enlarged
        (1, 1, (1, 1)),
        (2, 4000, (192, 1)),
        (4000, 2, (1, 144)),
    ],
)
def test_jpegs(height: int, width: int, expected: tuple[int, int]) -> None:
    image = Image.open(io.BytesIO(jpeg(np.full((height, width, 3), (200, 100, 50), np.uint8), 192)))
    assert (image.format, image.size) == ("JPEG", expected)
    assert np.asarray(image.convert("RGB"), np.float64)[0, 0] == pytest.approx([200, 100, 50], abs=6)


def test_jpegs_look_like_the_picture() -> None:
    picture = np.ascontiguousarray(numbered(0b1011001110, 1280, 720)[:, ::-1])
    found = np.asarray(Image.open(io.BytesIO(jpeg(picture, 320))), np.float64)
    expected = np.asarray(Image.fromarray(picture).resize((320, 180), Image.Resampling.BOX), np.float64)
    assert np.abs(found - expected).mean() < 3
