"""What an index holds of a video, as an encoder would give it of the file."""

from __future__ import annotations

from collections.abc import Iterator

from .engine.encoder import Encoder
from .engine.encodings import Encodings
from .results.index import StoredVideo
from .results.records import Failure


def stored_slots(video: StoredVideo, encoder: Encoder) -> Iterator[tuple[Encodings | Failure, int]]:
    """The windows of a video of an index as the encoder would give them, and what ended the video early; each with how
    many follow. Raises ResultsError."""
    from .engine.stored import to_tensors

    failure, views = video.failure, encoder.views.count
    following, row = len(video.windows) + (failure is not None), 0
    for window in video.windows:
        following -= 1
        if window.lost is not None:
            yield window.failure(video.video), following
            continue
        features, tokens = to_tensors(*video.rows(row, 1), encoder.dtype, encoder.device)
        yield Encodings(video.video, window.info, window.short_side, features[:views], tokens[:views], 0.0), following
        row += 1
    if failure is not None:
        yield failure, 0
