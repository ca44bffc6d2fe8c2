"""Figures of a GPU: `python -m tests.benchmarks --only gpu`, under four minutes on one card.

Models have random weights; clips are made on the spot, in as many processes as there are cores. Where transformers is
installed, its model computes the same batches with the same numbers.

Videos are decoded on the CPU in any case: a card's decoder, through PyAV, took 0.5 s for 120 frames of 1080p, start-up
included, where one core takes 0.15 s.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from xclip_cli import Classifier, XCLIPConfig, XCLIPModel, XCLIPProcessor
from xclip_cli.cores import usable_cores
from xclip_cli.engine import lanes
from xclip_cli.model.images import XCLIPImageProcessor
from xclip_cli.video import pool
from xclip_cli.video.pool import AHEAD, Decoders
from xclip_cli.video.sampling import ClipRequest

from .inputs import encode
from .rows import Row

sys.path.insert(0, str(Path(__file__).parent.parent))
import takeover

LABELS = [f"label {number}" for number in range(400)]
LARGE_TEXT = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
LARGE_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}


@dataclass(frozen=True)
class Size:
    """A model, the batch it is measured with, and the figures to reach."""

    name: str
    batch: int
    clips_a_second: float
    against_transformers: float
    config: Callable[[], XCLIPConfig]


def config(patch: int, frames: int, large: bool = False) -> XCLIPConfig:
    """A released size."""
    mit = {"mit_hidden_size": 768, "mit_intermediate_size": 3072}
    vision = {"patch_size": patch, "num_frames": frames, **(LARGE_VISION | mit if large else {})}
    width = 768 if large else 512
    return XCLIPConfig(text_config=LARGE_TEXT if large else {}, vision_config=vision, projection_dim=width)


SIZES = (
    Size("base-patch32, 8 frames", 64, 5000, 1.5, lambda: config(32, 8)),
    Size("large-patch14, 8 frames", 32, 356, 1.3, lambda: config(14, 8, large=True)),
    Size("base-patch16, 32 frames", 16, 350, 1.3, lambda: config(16, 32)),
)


@dataclass(frozen=True)
class Clips:
    """Videos for the whole tool: so many are made, and each looked at so often."""

    width: int
    height: int
    made: int
    times: int
    share: float  # of what the decoders alone deliver, to reach


CLIPS = (Clips(320, 240, 64, 32, 0.75), Clips(1920, 1080, 32, 8, 0.8))
SECONDS = 4  # of a clip


def rows(device: torch.device, sizes: Sequence[Size], clips: Sequence[Clips], videos: int = 2000) -> Iterator[Row]:
    """All figures; the first of the sizes is also measured alone and in the whole tool."""
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SystemExit(f"torch {torch.__version__} sees no CUDA device")
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    peak = _products_a_second(device)
    yield Row(
        f"{card}: products in bfloat16", "1,000 TFLOP a second", peak / 1e15, "-", f"{peak / 1e12:,.0f} TFLOP a second"
    )
    for size in sizes:
        yield from _encoding(device, size, peak)
    yield from _parent(videos)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = _checkpoint(folder / "checkpoint", sizes[0].config())
        yield from _one_clip(device, sizes[0], checkpoint)
        for kind in clips:
            paths = _made(folder / f"{kind.width}x{kind.height}", kind)
            if kind is clips[0]:
                yield _right(device, checkpoint, paths[:12])
            yield from _whole_tool(device, checkpoint, kind, paths * kind.times)


def _products_a_second(device: torch.device) -> float:
    """Floating-point operations a second in matrix products of bfloat16."""
    side = 8192 if device.type == "cuda" else 256
    a = torch.randn(side, side, device=device, dtype=torch.bfloat16)
    return 2 * side**3 / _median(lambda: a @ a, device)


def _encoding(device: torch.device, size: Size, peak: float) -> Iterator[Row]:
    """Clips a second of the video encoder alone, its share of the products' rate, and its memory."""
    made = size.config()
    torch.manual_seed(0)
    model = XCLIPModel(made).to(device, torch.bfloat16).eval()
    vision = made.vision_config
    shape = (size.batch, vision.num_frames, vision.num_channels, vision.image_size, vision.image_size)
    clips = torch.randn(shape, device=device, dtype=torch.bfloat16)
    what, goal = f"{size.name}, batch {size.batch}: encode", f"≥ {size.clips_a_second:,.0f} clips a second"
    with torch.inference_mode():
        ours = size.batch / _median(lambda: model.encode_video(clips), device)
        share = 2 * made.video_macs() * ours / peak
        yield Row(what, goal, ours / size.clips_a_second, "≥ 1", f"{ours:,.0f} clips a second, {share:.2f} of products")
        theirs = _transformers(made, model, device)
        if theirs is not None:
            _assert_same(model.encode_video(clips).features, theirs.get_video_features(pixel_values=clips))
            rate = size.batch / _median(lambda: theirs.get_video_features(pixel_values=clips), device)
            goal, detail = f"≥ {size.against_transformers}", f"{ours:,.0f} / {rate:,.0f} clips a second"
            yield Row(what, "transformers, SDPA, bfloat16", ours / rate, goal, detail)
            del theirs
        if device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            held = torch.cuda.memory_allocated(device)
            model.encode_video(clips)
            held = torch.cuda.max_memory_allocated(device) - held
            guess = made.video_bytes(2) * size.batch
            yield Row(f"{what}: memory", "as it is guessed", held / guess, "≤ 1", f"{held / 2**20:,.0f} MiB")
            began = time.perf_counter()
            compiled = torch.compile(model.encode_video, dynamic=False) if size is SIZES[0] else None
            if compiled is not None:
                compiled(clips)
                torch.cuda.synchronize(device)
                took = time.perf_counter() - began
                rate = size.batch / _median(lambda: compiled(clips), device)
                detail = f"{rate:,.0f} / {ours:,.0f} clips a second, {took:.0f} s to compile"
                yield Row(f"{what}, torch.compile", "as it is", rate / ours, "> 1.1 to be worth a flag", detail)


def _transformers(made: XCLIPConfig, ours: XCLIPModel, device: torch.device) -> Any:
    """Their model with the same weights; None where it is not installed."""
    try:
        import transformers
    except ImportError:
        print("transformers is not installed: nothing to compare with", file=sys.stderr)
        return None
    config = transformers.XCLIPConfig(**{key: value for key, value in made.to_dict().items() if key != "model_type"})
    config._attn_implementation = "sdpa"
    theirs = transformers.XCLIPModel(config)
    theirs.load_state_dict(ours.state_dict(), strict=False)
    return theirs.to(device, torch.bfloat16).eval()


def _assert_same(ours: torch.Tensor, theirs: Any) -> None:
    """Features of the same clips; theirs are an object in version 5."""
    expected = getattr(theirs, "pooler_output", theirs).float()
    assert (ours.float() - expected).norm() < 0.03 * expected.norm(), "transformers gave other features"


def _one_clip(device: torch.device, size: Size, checkpoint: Path) -> Iterator[Row]:
    """From bytes on the device to logits of 400 labels."""
    with Classifier(checkpoint, labels=LABELS, device=str(device), cache=False) as classifier, torch.inference_mode():
        classifier.load()
        vision = classifier.encoder.config.vision_config
        shape = (1, vision.num_frames, 3, vision.image_size, vision.image_size)
        clip = torch.randint(0, 256, shape, dtype=torch.uint8, device=device)
        graph = _median(lambda: classifier.logits(clip).cpu(), device)
        texts, encoder = classifier.text_features, classifier.encoder
        eager = _median(lambda: encoder.similarity(texts, *encoder._forward(clip)).cpu(), device)
        detail = f"{graph * 1e3:.2f} ms; {eager * 1e3:.2f} ms without a graph"
        yield Row(f"{size.name}, one clip: pixels → 400 logits", "2.5 ms", graph / 2.5e-3, "≤ 1", detail)


def _right(device: torch.device, checkpoint: Path, paths: Sequence[str]) -> Row:
    """The logits of a device beside those of the CPU, in float32, and the best label in bfloat16."""
    found = {}
    for where, dtype in ((torch.device("cpu"), "float32"), (device, "float32"), (device, "bfloat16")):
        with Classifier(checkpoint, labels=LABELS[:40], device=str(where), dtype=dtype, cache=False) as classifier:
            found[where.type, dtype] = [
                {ranked.label: ranked.logit for ranked in record.predictions}  # type: ignore[union-attr]
                for record in classifier.classify_all(paths)
            ]
    exact, wide, rough = found["cpu", "float32"], found[device.type, "float32"], found[device.type, "bfloat16"]
    worst = max(abs(a[label] - b[label]) for a, b in zip(exact, wide, strict=True) for label in a)
    same = sum(max(a, key=a.__getitem__) == max(b, key=b.__getitem__) for a, b in zip(exact, rough, strict=True))
    detail = f"largest difference of a logit {worst:.1e}; bfloat16: same best label {same} of {len(exact)}"
    return Row("the same logits in float32", "the CPU's, within 1e-3", worst / 1e-3, "≤ 1", detail)


def _whole_tool(device: torch.device, checkpoint: Path, kind: Clips, paths: Sequence[str]) -> Iterator[Row]:
    """Videos a second after start-up, beside what the decoders alone deliver."""
    what, workers = f"classify, {kind.width}x{kind.height}, {SECONDS} s", usable_cores()
    rates = {}
    with Classifier(checkpoint, labels=LABELS[:40], device=str(device), cache=False) as classifier:
        classifier.load()
        requests = [classifier.request(path) for path in paths]
        alone, parent, pictures = _decoded(requests, workers)
        for count in (1, lanes.LANES_A_GPU) if device.type == "cuda" else (lanes.LANES_A_GPU,):
            before, lanes.LANES_A_GPU = lanes.LANES_A_GPU, count
            try:
                began = time.perf_counter()
                assert all(record.to_json()["status"] == "ok" for record in classifier.classify_all(requests))
                rates[count] = len(paths) / (time.perf_counter() - began)
            finally:
                lanes.LANES_A_GPU = before
    ours, others = rates[lanes.LANES_A_GPU], [f"{rate:,.0f} with {n} lane" for n, rate in rates.items() if n == 1]
    detail = ", ".join([f"{ours:,.0f} / {alone:,.0f} videos a second, {workers} workers", *others])
    yield Row(what, "the decoders alone", ours / alone, f"≥ {kind.share}", detail)
    each = parent / pictures
    yield Row(
        f"{what}: the parent's own time a picture", "40 µs", each / 40e-6, "≤ 1", f"{each * 1e6:.0f} µs, as it is"
    )


def _decoded(requests: Sequence[Any], workers: int) -> tuple[float, float, int]:
    """Videos a second of decoders whose pictures nobody looks at, the parent's own seconds, and the pictures."""
    seconds, own, videos, pictures = _collected(lambda _: None, requests, workers)
    return videos / seconds, own, pictures


def _collected(
    receive: Callable[[Any], object], requests: Sequence[Any], workers: int
) -> tuple[float, float, int, int]:
    """Seconds until all was collected, those of the parent's cores, the videos and their pictures."""
    waiting = iter(requests)
    with Decoders(receive, workers) as decoders:
        for request in (next(waiting) for _ in range(min(len(requests), workers * AHEAD))):
            decoders.submit(request)
        for _ in range(min(decoders.pending // 2, workers)):  # they have started
            decoders.collect()
        began, before = time.perf_counter(), time.process_time()
        videos, pictures = 0, 0
        while decoders.pending:
            if (request := next(waiting, None)) is not None:
                decoders.submit(request)
            collected = decoders.collect()
            assert collected is not None
            videos, pictures = videos + 1, pictures + collected[0].decoded
        return time.perf_counter() - began, time.process_time() - before, videos, pictures


# Stands in a worker's place (see ``takeover``), and has all pictures of a video ready when it is asked for them.
INSTANT = """
size = 320 * 240 * 3
mmap.mmap(ring, 0)[:8 * size] = os.urandom(8 * size)
pictures = {"pictures": [[i * size, 240, 320] for i in range(8)]}
answer = b"\\n".join(json.dumps(x).encode() for x in (pictures, {"clip": {**clip, "places": list(range(8))}}))
incoming, heard = socket.socket(fileno=files), b""
while True:
    if heard != b"ack\\n":
        os.close(socket.recv_fds(incoming, 1, 1)[1][0])
        say(answer)
    if not (heard := sys.stdin.buffer.readline()):
        break
"""
INSTANT_WORKERS = 16


def _parent(videos: int) -> Iterator[Row]:
    """What the parent's own time is, and what its threads gain, where pictures come faster than they can be resized."""
    resize, honest = XCLIPImageProcessor().resize_and_crop, (pool._BOOT, pool.usable_cores)
    requests = [ClipRequest(__file__, 8)] * videos
    what = f"{INSTANT_WORKERS} workers with pictures of 320x240 at hand"
    pool._BOOT = takeover.boot(INSTANT)
    try:
        rates: dict[int, list[float]] = {1: [], 2: []}
        own = min(_own_seconds(_collected(lambda _: None, requests, INSTANT_WORKERS)) for _ in range(3))
        yield Row(
            f"{what}: the parent's own time a picture", "40 µs", own / 40e-6, "≤ 1", f"{own * 1e6:.0f} µs, as it is"
        )
        for threads in (1, 2) * 3:
            pool.usable_cores = lambda threads=threads: threads  # type: ignore[misc]
            seconds, _, _, pictures = _collected(
                lambda picture: resize(picture).numpy().copy(), requests, INSTANT_WORKERS
            )
            rates[threads].append(pictures / seconds)
        one, two = (max(found) for found in rates.values())
        yield Row(f"{what}, resized: 2 threads", "1 thread", two / one, "> 1", f"{two:,.0f} / {one:,.0f} a second")
    finally:
        pool._BOOT, pool.usable_cores = honest


def _own_seconds(collected: tuple[float, float, int, int]) -> float:
    _, own, _, pictures = collected
    return own / pictures


def _checkpoint(folder: Path, made: XCLIPConfig) -> Path:
    """A folder with random weights, and the bundled model's tokenizer, whose vocabulary is smaller than any."""
    torch.manual_seed(0)
    model = XCLIPModel(made)
    with torch.no_grad():
        model.logit_scale.fill_(4.6052)
    model.save_pretrained(folder)
    processor = XCLIPProcessor.from_pretrained("bundled")
    size = made.vision_config.image_size
    kind = type(processor.image_processor)
    XCLIPProcessor(kind(size=size, crop_size=size), processor.tokenizer).save_pretrained(folder)
    return folder


def _made(folder: Path, kind: Clips) -> list[str]:
    """Clips, made in parallel; no two are alike."""
    folder.mkdir()
    jobs = [(folder / f"{seed:03}.mp4", kind.width, kind.height, SECONDS, seed) for seed in range(kind.made)]
    with get_context("spawn").Pool(os.cpu_count()) as processes:
        processes.starmap(encode, jobs)
    return [str(path) for path, *_ in jobs]


def _median(compute: Callable[[], object], device: torch.device, times: int = 15) -> float:
    """Seconds, of runs after some that do not count."""
    wait = (lambda: torch.cuda.synchronize(device)) if device.type == "cuda" else (lambda: None)
    seconds = []
    for number in range(times + 4):
        wait()
        began = time.perf_counter()
        compute()
        wait()
        if number >= 4:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
