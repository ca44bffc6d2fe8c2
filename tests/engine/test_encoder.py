"""The encoder without any labels, and texts without any video: together they are what a classifier computes."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from clips import write_clip

from xclip_cli import Classifier, Failure, LabelsError, VideoError
from xclip_cli.engine.encoder import Encoder
from xclip_cli.engine.encodings import Encodings
from xclip_cli.engine.texts import Texts
from xclip_cli.video.sampling import Views

LABELS = ["abseiling", "air drumming", "answering questions", "a cat"]


def make(checkpoint: Path, **settings: object) -> Encoder:
    return Encoder(checkpoint, dtype="float32", device="cpu", **settings)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_clip(folder / f"{count}.mp4", count) for count in (8, 20, 45)]


@pytest.mark.parametrize("views", [Views(), Views(2, 3)], ids=str)
def test_encodings_and_texts_give_the_classifiers_logits(checkpoint: Path, videos: list[Path], views: Views) -> None:
    with make(checkpoint, views=views) as encoder:
        encoded = list(encoder.encode_all(map(encoder.request, videos)))
        texts = Texts([[label] for label in LABELS], encoder.checkpoint, encoder.config, cache=False)
        features = texts.features(encoder.dtype, encoder.device)
        vision = encoder.config.vision_config
        for video, encodings in zip(videos, encoded, strict=True):
            assert isinstance(encodings, Encodings)
            assert encodings.video == str(video)
            assert encodings.features.shape == (views.count, encoder.config.projection_dim)
            assert encodings.tokens.shape == (views.count, vision.num_patches, encoder.config.projection_dim)
            assert len(encodings.info.times_seconds) == vision.num_frames * views.clips
        logits = [encoder.similarity(features, e.features, e.tokens).mean(0) for e in encoded]
    with Classifier(checkpoint, labels=LABELS, dtype="float32", device="cpu", views=views, cache=False) as classifier:
        for found, record in zip(logits, classifier.classify_all(videos), strict=True):
            expected = {ranked.label: ranked.logit for ranked in record.predictions}
            assert found.tolist() == pytest.approx([expected[label] for label in LABELS], abs=1e-5)


def test_one_video_is_encoded_as_among_others(checkpoint: Path, videos: list[Path], tmp_path: Path) -> None:
    with make(checkpoint, threads=1) as encoder:
        (among,) = encoder.encode_all([encoder.request(videos[1], 0.2, "0:00.7")])
        alone = encoder.encode(videos[1], 0.2, "0:00.7")
        assert (alone.video, alone.info.times_seconds) == (str(videos[1]), among.info.times_seconds)
        assert torch.equal(alone.features, among.features)
        assert torch.equal(alone.tokens, among.tokens)
        with pytest.raises(VideoError, match="none.mp4: no such file"):
            encoder.encode(tmp_path / "none.mp4")


def test_windows_are_encoded_in_order_and_failures_stand_in_their_place(
    checkpoint: Path, videos: list[Path], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with make(checkpoint, batch_size=2) as encoder:
        requests = [encoder.request(path, length=0.5, stride=0.25) for path in (videos[2], broken, videos[1])]
        found = list(encoder.encode_all(requests))
    starts = [e.info.start_seconds for e in found if isinstance(e, Encodings)]
    assert starts == [0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.3, 0, 0.25, 0.3]
    assert [i for i, e in enumerate(found) if isinstance(e, Failure)] == [7]


def test_no_labels_no_text_tower(checkpoint: Path) -> None:
    with make(checkpoint) as encoder:
        encoder.load()
        towers = {name.partition(".")[0] for name, p in encoder.model.named_parameters() if p.is_meta}
    assert towers == {"text_model", "text_projection"}


def test_a_groups_features_are_the_mean_over_its_texts(checkpoint: Path) -> None:
    with make(checkpoint) as encoder:
        one, other, both = (
            Texts(groups, encoder.checkpoint, encoder.config, cache=False).features(torch.float32, encoder.device)
            for groups in ([["a cat"]], [["a dog"]], [["a cat", "a dog"]])
        )
    torch.testing.assert_close(both[0], (one[0] + other[0]) / 2, atol=1e-5, rtol=1e-5)
    with pytest.raises(LabelsError, match="a text has 302 tokens"):
        Texts([["word " * 100]], encoder.checkpoint, encoder.config)


def test_windows_that_see_the_same_frames_are_computed_once(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two frames a minute apart, looked at every second."""
    path = write_clip(tmp_path / "far.mkv", 2, pts=[0, 60_000], time_base=Fraction(1, 1000), codec="ffv1")
    computed = []
    with make(checkpoint, batch_size=4) as encoder:
        whole = encoder.encode_clips
        monkeypatch.setattr(encoder, "encode_clips", lambda clips: computed.append(len(clips)) or whole(clips))
        found = list(encoder.encode_all([encoder.request(path, length=1, stride=1)]))
        monkeypatch.undo()
        alone = encoder.encode(path, 7, 8)
    assert len(found) > 50
    assert [e.info.start_seconds for e in found] == sorted({e.info.start_seconds for e in found})
    assert sum(computed) == len({e.info.times_seconds for e in found}) <= 3
    torch.testing.assert_close(found[7].features, alone.features, atol=1e-5, rtol=1e-5)


def test_large_patches_make_small_batches(checkpoint: Path) -> None:
    with make(checkpoint) as encoder:
        usual = encoder.clips_at_once
        encoder.config.vision_config.image_size = encoder.config.vision_config.patch_size = 1024
        assert encoder.clips_at_once == 1 < usual


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_receiving_pictures_starts_no_team_of_threads() -> None:
    """Torch would start one for each thread that receives, on a machine of many cores hundreds."""
    code = """
        import os, threading
        import numpy as np, torch
        from xclip_cli.engine.encoder import Encoder
        from xclip_cli.model.images import XCLIPImageProcessor
        from xclip_cli.video.sampling import Views
        torch.set_num_threads(8)
        count = lambda: len(os.listdir("/proc/self/task"))
        for crops in (1, 3):
            encoder, counts = Encoder("bundled", views=Views(1, crops)), []
            encoder.image_processor = XCLIPImageProcessor()
            def receive():
                counts.append(count())
                received, side = encoder._receive(np.zeros((480, 640, 3), np.uint8))
                counts.append(count())
                assert (received.shape, side) == ((crops, 3, 224, 224), 480)
            thread = threading.Thread(target=receive)
            thread.start()
            thread.join()
            assert counts[0] == counts[1], counts
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, timeout=120)
