"""Search finds what was planted into long generated videos; ``python -m tests.planted`` also looks at real footage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import planted
import pytest


@pytest.mark.slow
def test_planted_moments_of_long_videos_are_found(tmp_path: Path) -> None:
    plants = planted.write_planted(tmp_path)
    videos = sorted({video for places in plants.values() for video, _ in places})
    assert (len(videos), sum(map(len, plants.values()))) == (20, 60)
    found = planted.recalls(planted.embedded(videos, tmp_path / "index"), plants, {})
    assert np.mean(list(found.values())) >= 0.9, found
