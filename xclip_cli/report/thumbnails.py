"""Pictures for a report: the frames that the model saw, decoded again by the decode worker, as small JPEGs."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from ..errors import VideoError
from ..results.reading import Results, VideoResult, exactly
from ..video.pool import AHEAD, Decoders, usable_cores
from ..video.sampling import ClipRequest
from .page import Thumbnails

if TYPE_CHECKING:
    from ..video.sampling import Picture

MAX_BYTES = 16_000_000  # of all pictures, as they are written into the page
LARGE, SMALL = 320, 192  # pixels of a picture's width; the height is at most 3/4 of it
FEW = 200  # as many pictures are large
TIMELINE_FRAMES = 12  # under a heat map
QUALITY = 4  # of FFmpeg's scale for JPEG: 2 is the best, 31 the worst


@dataclass(frozen=True)
class Wanted:
    """Pictures of one video."""

    video: str
    request: ClipRequest
    times: tuple[float, ...] | None  # of the different frames that were seen; None: any will do
    chosen: tuple[int, ...]  # which of them


class Gallery:
    """Pictures for all videos of a report: ``limit`` at most, shared out evenly; videos are looked for below ``root``,
    where that is given."""

    def __init__(self, results: Results, limit: int, root: Path | None = None) -> None:
        videos = [video for video in results.videos if video.looked_at]
        share = max(limit // len(videos), 1) if videos else 0
        self.wanted = [wish(results, video, share, root) for video in videos[:limit]]
        self._pictures: dict[str, dict[float, bytes]] = {}
        self._missing: dict[str, str] = {}
        self._rule = rule(self.wanted, len(videos), limit, share)
        self._side = LARGE if sum(len(wanted.chosen) for wanted in self.wanted) <= FEW else SMALL

    @property
    def thumbnails(self) -> Thumbnails:
        """What there is so far."""
        return Thumbnails(self._pictures, self._missing, self._rule)

    def fill(self) -> Iterator[None]:
        """Decode; one step a video. Ends early when there are as many bytes as a page should hold."""
        size = 0
        for wanted, found in decoded(self.wanted, self._side, usable_cores()):
            if isinstance(found, str):
                self._missing[wanted.video] = found
            else:
                size += sum(map(len, found.values())) * 4 // 3
                if size > MAX_BYTES:
                    self._rule += f" The page has no room for those behind the first {len(self._pictures):,} videos."
                    return
                self._pictures[wanted.video] = found
            yield


def rule(wanted: Sequence[Wanted], videos: int, limit: int, share: int) -> str:
    """Which pictures are on a page, for its reader."""
    if not limit:
        return "There are no pictures: they were not asked for."
    which = "all" if all(each.times is None or len(each.chosen) == len(each.times) for each in wanted) else f"{share:,}"
    whose = "each video" if len(wanted) == videos else f"each of the first {len(wanted):,} of {videos:,} videos"
    limits = "" if which == "all" else f", evenly chosen: {limit:,} at most are on this page"
    rest = " Timelines show frames from all over them." if any(each.times is None for each in wanted) else ""
    return f"Pictures: {which} of the frames that the model saw of {whose}{limits}.{rest}"


def wish(results: Results, video: VideoResult, share: int, root: Path | None) -> Wanted:
    """What to decode of a video for ``share`` pictures."""
    path = located(video.video, root)
    if video.record is None or video.error:
        count = min(share, TIMELINE_FRAMES)
        start = min((exactly(window["start_seconds"]) for window in video.windows), default=None)
        end = max((exactly(window["end_seconds"]) for window in video.windows), default=None)
        return Wanted(video.video, ClipRequest(path, count, start=start, end=end), None, tuple(range(count)))
    times = video.record["frames"]["times_seconds"]
    different = tuple(sorted(set(times)))
    count = min(share, len(different))
    chosen = tuple((2 * i + 1) * len(different) // (2 * count) for i in range(count))
    start, end = results.window(video.record)
    # The frames of several clips lie between each other: together they are those of one clip with as many frames.
    return Wanted(video.video, ClipRequest(path, len(times), start=start, end=end), different, chosen)


def located(video: str, root: Path | None) -> str:
    """Where a video is: as given, or below ``root`` by its path or the longest end of it that is a file there."""
    if root is None:
        return video
    path = PurePath(video)
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    places = [str(root.joinpath(*parts[i:])) for i in range(len(parts))] or [str(root)]
    return next((place for place in places if os.path.isfile(place)), places[0])  # noqa: PTH113 - no name is an error


def decoded(wishes: Sequence[Wanted], side: int, workers: int) -> Iterator[tuple[Wanted, dict[float, bytes] | str]]:
    """Of each video the JPEGs by their times in seconds, or why there are none. The next videos decode meanwhile."""
    ahead = workers * AHEAD
    with Decoders(lambda picture: jpeg(picture, side), workers) as decoders:
        for wanted in wishes[:ahead]:
            decoders.submit(wanted.request)
        for i, wanted in enumerate(wishes):
            yield wanted, _collected(decoders, wanted)
            for following in wishes[i + ahead : i + ahead + 1]:
                decoders.submit(following.request)


def _collected(decoders: Decoders[bytes], wanted: Wanted) -> dict[float, bytes] | str:
    """The oldest submitted clip's chosen frames by their times, or why there are none."""
    try:
        found = decoders.collect()
    except VideoError as error:
        return str(error)
    assert found is not None  # there is nothing else to wake it
    clip, jpegs = found
    times = sorted(set(clip.times_seconds))
    if wanted.times is not None and tuple(times) != wanted.times:
        return "the file is not the one that was classified: its frames are at other times"
    return {times[i]: jpegs[i] for i in wanted.chosen if i < len(times)}


def jpeg(picture: Picture, side: int) -> bytes:
    """A picture [H, W, 3] as a JPEG that fits into ``side`` by 3/4 ``side`` pixels."""
    import av
    from av.video.reformatter import ColorRange, Interpolation

    height, width = picture.shape[:2]
    scale = min(side / width, side * 3 / 4 / height, 1)
    encoder = av.CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height = max(round(width * scale), 1), max(round(height * scale), 1)
    encoder.pix_fmt = "yuvj420p"
    encoder.time_base = Fraction(1)
    encoder.qmin = encoder.qmax = QUALITY
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
    small = frame.reformat(
        encoder.width, encoder.height, "yuvj420p", dst_color_range=ColorRange.JPEG, interpolation=Interpolation.AREA
    )
    return b"".join(bytes(packet) for packet in (*encoder.encode(small), *encoder.encode(None)))
