"""Pictures for a report: the frames that the model saw, decoded again, as small JPEGs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np

from ..cores import usable_cores
from ..errors import VideoError
from ..results.reading import Results, VideoResult, exactly
from ..video.pool import AHEAD, Decoders
from ..video.sampling import ClipRequest
from .entries import Thumbnails

if TYPE_CHECKING:
    import numpy.typing as npt

MAX_BYTES = 16_000_000  # of all pictures, as they are written into the page
LARGE, SMALL = 320, 192  # pixels of a picture's width; the height is at most 3/4 of it
FEW = 200  # as many pictures are large
TIMELINE_FRAMES = 12  # under a heat map
MAX_TIMES = 10_000  # frames that a record may name
MOST_ENDS = 100  # of a path that are looked for below a root
ELSEWHERE = (
    "without --root, only relative paths below the folder of the results file or index are read; --root DIR searches "
    "DIR for any path or the end of it, --root / uses absolute paths as they are"
)
QUALITY = 4  # of FFmpeg's scale for JPEG: 2 is the best, 31 the worst


@dataclass(frozen=True)
class PictureRequest:
    """The pictures that are wanted of one video."""

    video: str
    clip: ClipRequest  # whose frames they are
    times: tuple[float, ...] | None  # of the different frames that were seen; None: any will do
    chosen: tuple[int, ...]  # which of them


class Gallery:
    """Pictures for all videos of a report: ``limit`` at most, shared out evenly.

    ``place`` says where a video's file is; None: that is not to be looked at.
    """

    def __init__(self, results: Results, limit: int, place: Callable[[str], str | None]) -> None:
        videos = [video for video in results.videos if video.looked_at]
        share = max(limit // len(videos), 1) if videos else 0
        self.place = place
        self.requests: list[PictureRequest] = []
        self._pictures: dict[str, dict[float, bytes]] = {}
        self._missing: dict[str, str] = {}
        for video in videos[:limit]:
            path = place(video.video)
            if path is None:
                self._missing[video.video] = ELSEWHERE
            elif video.prediction and len(video.prediction.frames.times_seconds) > MAX_TIMES:
                self._missing[video.video] = f"more than {MAX_TIMES} frames are recorded"
            else:
                self.requests += picture_requests(results, video, share, path)
        self._caption = caption(self.requests, len(videos), limit, share)
        self._side = LARGE if sum(len(request.chosen) for request in self.requests) <= FEW else SMALL

    @property
    def thumbnails(self) -> Thumbnails:
        """The pictures so far."""
        return Thumbnails(self._pictures, self._missing, self._caption)

    def fill(self) -> Iterator[None]:
        """Decode, one step a video. Ends early when the pictures take as many bytes as a page should hold."""
        size = 0
        for video, found in decode_pictures(self.requests, self._side, usable_cores()):
            if isinstance(found, str):
                self._missing[video] = found
            else:
                size += sum(map(len, found.values())) * 4 // 3
                if size > MAX_BYTES:
                    self._caption += f" The page has room only for those of the first {len(self._pictures):,} videos."
                    return
                self._pictures.setdefault(video, {}).update(found)
            yield


def caption(requests: Sequence[PictureRequest], videos: int, limit: int, share: int) -> str:
    """Which pictures are on a page, for its reader."""
    if not limit:
        return Thumbnails().caption
    if not requests:
        return "No thumbnails: no video of these results is at hand."
    every = all(each.times is not None and len(each.chosen) == len(each.times) for each in requests)
    which = "all" if every else f"{share:,}"
    whose = "each video" if len(requests) == videos else f"each of the first {len(requests):,} of {videos:,} videos"
    limits = "" if every else f", evenly spaced: this page shows at most {limit:,}"
    rest = " Timelines show frames from their whole length." if any(each.times is None for each in requests) else ""
    return f"Thumbnails: {which} of the frames that the model saw of {whose}{limits}.{rest}"


def picture_requests(results: Results, video: VideoResult, share: int, path: str) -> Iterator[PictureRequest]:
    """What to decode of a video, whose file is at ``path``, for ``share`` pictures: of moments, the middle of each."""
    if video.prediction is not None or video.windows or not video.moments:
        yield picture_request(results, video, share, path)
    for moment in video.moments[:share]:
        start, end = exactly(moment.start_seconds), exactly(moment.end_seconds)
        yield PictureRequest(video.video, ClipRequest(path, 1, start=start, end=end), None, (0,))


def picture_request(results: Results, video: VideoResult, share: int, path: str) -> PictureRequest:
    """What to decode of a video, whose file is at ``path``, for ``share`` pictures."""
    if video.prediction is None:
        count = min(share, TIMELINE_FRAMES)
        start = min((exactly(window.start_seconds) for window in video.windows), default=None)
        end = max((exactly(window.end_seconds) for window in video.windows), default=None)
        return PictureRequest(video.video, ClipRequest(path, count, start=start, end=end), None, tuple(range(count)))
    times = video.prediction.frames.times_seconds
    different = tuple(sorted(set(times)))
    count = min(share, len(different))
    chosen = tuple((2 * i + 1) * len(different) // (2 * count) for i in range(count))
    start, end = results.stretch(video.prediction)
    # The frames of several clips lie between each other: together they are those of one clip with as many frames.
    return PictureRequest(video.video, ClipRequest(path, len(times), start=start, end=end), different, chosen)


def located(video: str, root: Path) -> str:
    """Where a video is below ``root``: by its path, or the longest end of it that is a file there."""
    path = PurePath(video)
    parts = [part for part in path.parts if part not in (path.anchor, "..")]
    whole = str(root.joinpath(*parts))
    ends = (str(root.joinpath(*parts[i:])) for i in range(max(1, len(parts) - MOST_ENDS), len(parts)))
    return next((place for place in chain([whole], ends) if os.path.isfile(place)), whole)  # noqa: PTH113 - no name is an error


def beside(video: str, folder: Path) -> str | None:
    """Where a video is, if its path is relative and its file, links followed, below ``folder``; else None.

    A results file, or an index, may come from a stranger, who must not choose which of our pictures a page shows.
    """
    place = folder / video
    if PurePath(video).is_absolute():
        return None
    try:
        return str(place) if place.resolve().is_relative_to(folder.resolve()) else None
    except (OSError, ValueError, RuntimeError):  # no path, or links in a circle
        return None


def decode_pictures(
    requests: Sequence[PictureRequest], side: int, workers: int
) -> Iterator[tuple[str, dict[float, bytes] | str]]:
    """Each video with its JPEGs by their times in seconds, or why it has none. The next videos decode meanwhile."""
    ahead = workers * AHEAD
    with Decoders(lambda picture: jpeg(picture, side), workers) as decoders:
        for request in requests[:ahead]:
            decoders.submit(request.clip)
        for i, request in enumerate(requests):
            yield request.video, _collected(decoders, request)
            for following in requests[i + ahead : i + ahead + 1]:
                decoders.submit(following.clip)


def _collected(decoders: Decoders[bytes], request: PictureRequest) -> dict[float, bytes] | str:
    """The chosen frames of the oldest submitted clip by their times, or why there are none."""
    try:
        found = decoders.collect()
    except VideoError as error:
        return str(error)
    assert found is not None  # there is nothing else to wake it
    clip, jpegs = found
    times = sorted(set(clip.times_seconds))
    if request.times is not None and tuple(times) != request.times:
        return "this is not the file that was classified: its frames have other times"
    return {times[i]: jpegs[i] for i in request.chosen if i < len(times)}


def jpeg(picture: npt.NDArray[np.uint8], side: int) -> bytes:
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
