"""What is measured on: made once, by other libraries than xclip, and kept in a folder."""

from __future__ import annotations

import os
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parent.parent))  # for reference

LABELS = ["eating spaghetti", "playing guitar", "riding a bike", "driving a car", "cooking on a stove"]
RATE = 25  # frames a second
SHORT_CLIPS, SHORT_SECONDS = 200, 5
LONG_MINUTES = 60


def default_folder() -> Path:
    """Where inputs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "xclip-benchmarks"


class Inputs:
    """The files, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def checkpoint(self) -> Path:
        """X-CLIP base-patch32 at full size with random weights, as transformers writes it."""
        import reference
        import torch

        def make(path: Path) -> None:
            torch.manual_seed(0)
            model = reference.transformers.XCLIPModel(reference.transformers.XCLIPConfig())
            with torch.no_grad():
                model.mit.position_embedding.mul_(0.1)  # no weight of the released ones drowns the picture
                model.logit_scale.fill_(4.6052)  # the released checkpoints' 100
            path.mkdir()
            model.save_pretrained(path)
            reference.processor(224).save_pretrained(path)

        return self._made("checkpoint", make)

    @property
    def clip(self) -> Path:
        """10 seconds of 1080p H.264, a keyframe in 250."""
        return self._made("1080p.mp4", lambda path: encode(path, 1920, 1080, 10, seed=0))

    @property
    def long(self) -> Path:
        """An hour of 720p H.264: a minute, repeated packet by packet."""

        def make(path: Path) -> None:
            minute = path.with_name("minute.mp4")
            encode(minute, 1280, 720, 60, seed=1)
            _repeat(minute, path, LONG_MINUTES)
            minute.unlink()

        return self._made("hour.mp4", make)

    @property
    def short_clips(self) -> list[Path]:
        """Short clips of the size that datasets of actions have."""

        def make(path: Path) -> None:
            path.mkdir()
            for i in range(SHORT_CLIPS):
                encode(path / f"{i:03}.mp4", 340, 256, SHORT_SECONDS, seed=10 + i)

        return sorted(self._made("short", make).iterdir())

    @property
    def labels(self) -> Path:
        """A file of five labels."""
        return self._made("labels.txt", lambda path: path.write_text("\n".join(LABELS) + "\n", "utf-8"))

    def _made(self, name: str, make: object) -> Path:
        path = self.folder / name
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / f"part-{name}"
            print(f"making {path}", file=sys.stderr)
            make(part)  # type: ignore[operator]
            part.rename(path)
        return path


def encode(path: Path, width: int, height: int, seconds: int, seed: int) -> None:
    """A camera that wanders over a large picture of coloured noise like that of photographs."""
    rng = np.random.default_rng(seed)
    picture = _noise(rng, 2 * height, 2 * width)
    steps = np.cumsum(np.cumsum(rng.normal(size=(seconds * RATE, 2)), axis=0), axis=0)
    span = np.maximum(np.abs(steps).max(axis=0), 1)
    places = ((steps / span + 1) / 2 * [height, width]).astype(int)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=RATE, options={"g": "250", "preset": "veryfast", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for top, left in places:
            view = np.ascontiguousarray(picture[top : top + height, left : left + width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(view, format="rgb24")))
        container.mux(stream.encode(None))


def _noise(rng: np.random.Generator, height: int, width: int) -> npt.NDArray[np.uint8]:
    """Colours whose amplitude falls with the frequency, as in photographs."""
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1
    waves = rng.normal(size=(3, *frequency.shape)) + 1j * rng.normal(size=(3, *frequency.shape))
    values = np.fft.irfft2(waves / frequency**1.2, s=(height, width))
    values /= values.std(axis=(1, 2), keepdims=True)
    return np.clip(127 + 50 * values, 0, 255).astype(np.uint8).transpose(1, 2, 0).copy()


def _repeat(source: Path, path: Path, times: int) -> None:
    with av.open(str(source)) as one, av.open(str(path), "w") as container:
        theirs = one.streams.video[0]
        stream = container.add_stream_from_template(theirs)
        assert theirs.time_base is not None
        length = int(Fraction(theirs.frames, RATE) / theirs.time_base)
        for turn in range(times):
            one.seek(0, stream=theirs)
            for packet in one.demux(theirs):
                if packet.size:
                    assert packet.pts is not None
                    assert packet.dts is not None
                    packet.pts += turn * length
                    packet.dts += turn * length
                    packet.stream = stream
                    container.mux(packet)
