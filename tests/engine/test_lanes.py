"""Lanes without a GPU: graphs, streams and memory that runs out are stand-ins, and a second device is torch's meta."""

from __future__ import annotations

import ctypes
import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from xclip_cli import Classifier, ModelError, XClipError
from xclip_cli.engine import lanes
from xclip_cli.engine.devices import choose_devices, choose_dtype
from xclip_cli.engine.encoder import Encoder
from xclip_cli.engine.encodings import Encodings
from xclip_cli.engine.lanes import GRAPHS, Graphs, Lane, Lanes
from xclip_cli.model.loading import load_model
from xclip_cli.model.modeling import XCLIPModel

CPU, META = torch.device("cpu"), torch.device("meta")
GPUS = torch.device("cuda", 0), torch.device("cuda", 1)


def squares(given: Tensor) -> tuple[Tensor, Tensor]:
    return given**2, given.sum(dim=1)


class Recorded(Graphs):
    """As a GPU does it: starting the graph computes the recorded steps anew, into the memory that they had."""

    def __init__(self, compute: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        super().__init__(compute)
        self.recordings = 0

    def _record(self, run: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
        self.recordings += 1
        made = run()
        for tensor in made:
            tensor.fill_(-1)  # recording computes nothing

        def start() -> Any:
            for tensor, value in zip(made, run(), strict=True):
                tensor.copy_(value)
            return made

        return start


def test_a_shape_that_repeats_is_recorded_and_gives_the_same() -> None:
    graphs = Recorded(squares)
    rows = [torch.randn(2 + i % 2, 5) for i in range(8)]
    found = [graphs(row) for row in rows]
    for row, results in zip(rows, found, strict=True):  # none was overwritten by a later one
        for result, expected in zip(results, squares(row), strict=True):
            assert result.equal(expected)
    assert graphs.recordings == 2
    graphs(torch.randn(1, 5))
    assert graphs.recordings == 2  # it came once


def test_so_many_graphs_and_no_more() -> None:
    graphs = Recorded(squares)
    for _ in range(3):
        for count in range(1, GRAPHS + 4):
            given = torch.randn(count, 5)
            assert graphs(given)[0].equal(given**2)
    assert graphs.recordings == GRAPHS


MAPPED = """
import ctypes, torch
from xclip_cli.engine.lanes import Lane

info = ctypes.CDLL(None).mallinfo2
# The fourth number: blocks that come from the system and go back there, one by one.
info.restype = type("mallinfo2", (ctypes.Structure,), {"_fields_": [("all", ctypes.c_size_t * 10)]})
Lane(torch.device("cpu"), None).enter(1)
before = info().all[3]
tensor = torch.empty(1 << 24, dtype=torch.uint8)
print(info().all[3] - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="not glibc, or an old one")
def test_a_lane_on_a_cpu_keeps_the_memory_of_large_tensors() -> None:
    """In a process of its own, where no other test has freed any."""
    done = subprocess.run([sys.executable, "-c", MAPPED], capture_output=True, text=True, check=True)
    assert int(done.stdout) == 0


class Streams:
    """What a lane asks CUDA for, written down."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[Any, ...]] = []
        for name in ("set_device", "set_stream", "empty_cache"):
            monkeypatch.setattr(torch.cuda, name, lambda *values, name=name: self.asked.append((name, *values)))
        monkeypatch.setattr(torch.cuda, "default_stream", lambda device: f"default of {device}")
        monkeypatch.setattr(torch.cuda, "Stream", lambda device: self)

    def wait_stream(self, other: str) -> None:
        self.asked.append(("wait for", other))

    def synchronize(self) -> None:
        self.asked.append(("synchronize",))


def test_a_gpus_lane_works_in_a_stream_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    threads = torch.get_num_threads()
    lane = Lane(GPUS[1], squares, own_stream=True)
    lane.enter(threads)
    assert streams.asked == [
        ("set_device", GPUS[1]),
        ("wait for", "default of cuda:1"),
        ("set_stream", streams),
    ]
    streams.asked.clear()

    class Made:
        def record_stream(self, stream: str) -> None:
            streams.asked.append(("used on", stream))

    lane.hand_over(Made())  # type: ignore[arg-type]
    assert streams.asked == [("used on", "default of cuda:1"), ("synchronize",)]
    lane.make_room()
    assert streams.asked[2:] == [("empty_cache",)]
    assert lane._graphs is None
    torch.set_num_threads(threads)


def test_gpus_take_turns_and_lanes_are_kept() -> None:
    assert Lanes(GPUS, squares).count(16) == 4
    assert Lanes([CPU], squares).count(3) == 3
    both = Lanes([CPU, META], squares)
    made = both.of_a_run(4)
    assert [lane.device for lane in made] == [CPU, META, CPU, META]
    assert both.of_a_run(3) == made[:3]
    both.enter(made[1], torch.get_num_threads())
    assert both.here is made[1]
    others: list[Lane] = []
    thread = threading.Thread(target=lambda: others.extend([both.here, both.here]))
    thread.start()
    thread.join()
    assert others[0] is others[1]
    assert others[0] not in made
    assert others[0].device == CPU


def test_each_device_has_a_model(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(checkpoint: Any, config: Any, dtype: torch.dtype, device: torch.device, wanted: Any) -> XCLIPModel:
        model = load_model(checkpoint, config, dtype, CPU, wanted)
        return model.to(device) if device == META else model

    monkeypatch.setattr("xclip_cli.engine.encoder.load_model", load)
    with Encoder(checkpoint, dtype="float32", device="cpu") as encoder:
        encoder.devices = (CPU, META)
        encoder.load()
        assert {next(model.prompts_generator.parameters()).device for model in encoder._models.values()} == {CPU, META}
        vision, texts = encoder.config.vision_config, torch.randn(3, encoder.config.projection_dim)
        clips = torch.zeros(2, vision.num_frames, 3, vision.image_size, vision.image_size, dtype=torch.uint8)
        for device in encoder.devices:
            features, tokens = encoder._forward(clips.to(device))
            logits = encoder.similarity(texts, features, tokens)
            assert (logits.device, logits.shape) == (device, (2, 3))
        assert encoder.description().endswith(" on cpu, meta, float32")


# Memory


def windows(encoder: Encoder, count: int) -> list[Any]:
    """Decoded clips that differ."""
    rng = np.random.default_rng(0)
    frames = encoder.config.vision_config.num_frames
    return [encoder.decoded_frames(list(rng.integers(0, 256, (frames, 40, 50, 3), np.uint8))) for _ in range(count)]


def features_of(encoded: Sequence[Encodings]) -> list[Tensor]:
    return [each.features for each in encoded]


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("room", [1, 3, 7])
def test_too_little_memory_halves_the_batch_and_is_said_once(
    room: int, error: RuntimeError, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    sizes: list[int] = []
    encode = XCLIPModel.encode_video

    def encode_some(self: XCLIPModel, pixel_values: Tensor) -> Any:
        sizes.append(len(pixel_values))
        if len(pixel_values) > room:
            raise error
        return encode(self, pixel_values)

    with Encoder(checkpoint, dtype="float32", device="cpu") as encoder:
        encoder.load()
        expected = encoder.compute(windows(encoder, 8), features_of)
        monkeypatch.setattr(XCLIPModel, "encode_video", encode_some)
        with caplog.at_level(logging.WARNING, "xclip_cli"):
            found = [encoder.compute(windows(encoder, 8), features_of) for _ in range(2)]
    for results in found:
        torch.testing.assert_close(torch.cat(results), torch.cat(expected), atol=1e-5, rtol=1e-5)
    assert [size for size in sizes if size > room] == [size for size in (8, 4, 2) if size > room]
    assert [record.message for record in caplog.records] == ["cpu is short of memory: computing 4 clips at once, not 8"]


def test_what_is_made_of_encodings_is_made_again_where_memory_ran_out(checkpoint: Path) -> None:
    tries: list[int] = []

    def finish(encoded: Sequence[Encodings]) -> list[Tensor]:
        tries.append(encoder.clips_at_once)
        if len(tries) < 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return features_of(encoded)

    with Encoder(checkpoint, dtype="float32", device="cpu") as encoder:
        encoder.load()
        assert len(encoder.compute(windows(encoder, 4), finish)) == 4
    assert tries[1:] == [2, 1]


def test_too_little_for_one_clip_is_an_error_in_one_line(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(self: XCLIPModel, pixel_values: Tensor) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(XCLIPModel, "encode_video", encode)
    with Encoder(checkpoint, dtype="float32", device="cpu") as encoder:
        encoder.load()
        with pytest.raises(ModelError, match="^cpu has too little free memory for one clip: free some"):
            encoder.compute(windows(encoder, 3), features_of)


def test_too_little_for_texts_is_an_error_in_one_line(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(self: XCLIPModel, input_ids: Tensor) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(XCLIPModel, "encode_text", encode)
    with Classifier(checkpoint, labels=["a", "b"], device="cpu", cache=False) as classifier:
        with pytest.raises(ModelError, match="^cpu has too little free memory for 2 texts at once: free some"):
            classifier.load()


def test_lanes_that_run_out_of_memory_together_halve_it_once() -> None:
    both, together = Lanes([CPU], squares), threading.Barrier(2)
    both.most, found = 8, []

    def compute() -> int:
        at_once = both.most
        if at_once > 4:
            together.wait(20)
            raise torch.OutOfMemoryError("CUDA out of memory")
        return at_once

    threads = [threading.Thread(target=lambda: found.append(both.fitted(compute, lambda: both.most))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [4, 4]


def test_other_errors_are_not_taken_for_it(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def encode(self: XCLIPModel, pixel_values: Tensor) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(XCLIPModel, "encode_video", encode)
    with Encoder(checkpoint, dtype="float32", device="cpu") as encoder:
        encoder.load()
        with pytest.raises(RuntimeError, match="^a bug$"):
            encoder.compute(windows(encoder, 1), features_of)


def test_batches_fit_into_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    free = {GPUS[0]: 1000, GPUS[1]: 300}
    monkeypatch.setattr(lanes, "free_bytes", free.__getitem__)
    both = Lanes(GPUS, squares)
    both.measure(GPUS[0], 10)
    assert both.most == 40  # 0.8 of it, shared by two lanes
    both.measure(GPUS[1], 10)
    assert both.most == 12  # the fullest counts
    both.measure(GPUS[1], 10_000)
    assert both.most == 1


# Names of devices


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0) if device.index else (7, 5))


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("auto", "cuda:0"),
        ("cpu", "cpu"),
        ("cuda", "cuda:0"),
        ("cuda:2", "cuda:2"),
        ("cuda:2,cuda", "cuda:2 cuda:0"),
        ("all", "cuda:0 cuda:1 cuda:2"),
    ],
)
def test_names_of_devices(name: str, found: str) -> None:
    assert " ".join(map(str, choose_devices(name))) == found


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cuda:3", "there is no device cuda:3: PyTorch sees 3 CUDA devices, numbered from 0"),
        ("cuda:0,cuda:7", "there is no device cuda:7: PyTorch sees 3 CUDA devices, numbered from 0"),
        ("cuda:1,cuda:1", "cuda:1,cuda:1 is not a list of different CUDA devices, such as cuda:0,cuda:1"),
        ("cuda,cuda:0", "cuda,cuda:0 is not a list of different CUDA devices, such as cuda:0,cuda:1"),
        ("cpu,cuda:0", "cpu,cuda:0 is not a list of different CUDA devices, such as cuda:0,cuda:1"),
        ("mps", "unknown device 'mps': give auto, cpu, cuda, cuda:N, several CUDA devices"),
    ],
)
def test_what_is_no_device(name: str, message: str) -> None:
    with pytest.raises(XClipError, match=message):
        choose_devices(name)


def test_all_devices_where_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(XClipError, match="no CUDA device found: use --device cpu"):
        choose_devices("all")


@pytest.mark.usefixtures("three_gpus")
def test_auto_is_a_dtype_that_all_devices_compute() -> None:
    assert choose_dtype("auto", *GPUS) == torch.float32  # the first is too old
    assert choose_dtype("auto", GPUS[1]) == torch.bfloat16
