"""xclip beside the documented script of transformers, measured in one run: `make bench`, or `make bench-full`.

Each row is a ratio of medians of runs that took turns, so that what else the machine does weighs on both alike. It does
not weigh on both in the same measure: rows during which others used the cores are marked. Inputs are made once, by
other libraries, and kept (`--folder`). Nothing is downloaded. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import torch

from xclip_cli import Classifier
from xclip_cli.bundled import generator
from xclip_cli.engine.encoder import Encoder
from xclip_cli.model.int8 import computes_int8
from xclip_cli.video.sampling import ClipRequest

from . import cluster, gpu, index
from .inputs import LABELS, LONG_MINUTES, RATE, Inputs, default_folder
from .rows import Row, Ticks, busyness, load, ratio_row

sys.path.insert(0, str(Path(__file__).parent.parent))
from clips import read_pictures

HERE = Path(__file__).parent
XCLIP = Path(sys.executable).with_name("xclip")


def wall(command: list[str], env: dict[str, str]) -> float:
    """Seconds that a command takes."""
    start = time.perf_counter()
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def peak_memory(command: list[str], env: dict[str, str]) -> float:
    """The most memory, in MiB, that a command's processes held at a time: each page shared out among its users."""
    peak = 0
    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak = max(peak, sum(map(_pss, _tree(process.pid))))
            time.sleep(0.02)
    return peak / 1024


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            for child in children.read_text().split():
                yield from _tree(int(child))
        except OSError:  # it has ended
            return


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


class Warm:
    """Processes of `warm.py`, ready to run paths in turn."""

    def __init__(self, inputs: Inputs, *names: str) -> None:
        self._processes = {
            name: subprocess.Popen(
                [sys.executable, HERE / "warm.py", name, inputs.checkpoint, inputs.labels],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            for name in names
        }

    def run(self, name: str, paths: list[Path]) -> float:
        """Seconds."""
        process = self._processes[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps([str(path) for path in paths]) + "\n")
        process.stdin.flush()
        return float(process.stdout.readline())

    def close(self) -> None:
        """End them, and what they started: their time counts as ours once they were waited for."""
        for process in self._processes.values():
            process.communicate()


class Bench:
    """All measurements; ``full`` repeats them more often, and takes long files whole."""

    def __init__(self, inputs: Inputs, full: bool) -> None:
        self.inputs = inputs
        self.full = full
        self.rounds = 7 if full else 3
        self.env = {**os.environ, "HF_HUB_OFFLINE": "1"}

    def classify(self, video: Path, labels: str, *more: str) -> list[str]:
        """The command to classify a video with the full-size model."""
        return [
            str(XCLIP),
            "classify",
            str(video),
            "-l",
            labels,
            "-m",
            str(self.inputs.checkpoint),
            "-f",
            "json",
            *more,
        ]

    @property
    def peer(self) -> list[str]:
        """The documented script on the 1080p clip."""
        inputs = self.inputs
        return [sys.executable, *map(str, (HERE / "peer.py", inputs.checkpoint, inputs.clip, inputs.labels))]

    def gpu(self) -> Iterator[Row]:
        """The model and the whole tool on a card."""
        yield from gpu.rows(torch.device("cuda"), gpu.SIZES, gpu.CLIPS)

    def cluster(self) -> Iterator[Row]:
        """A cluster that is this machine."""
        yield from cluster.rows(self.inputs, 500 if self.full else 50, 20_000)

    def neighbour(self) -> Iterator[Row]:
        """Cold, beside a process that keeps one core busy, for both alike: such rows are marked, as they should be."""
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
            try:
                for row, goal in zip(self.cold(), ("≤ 0.39", "≤ 0.35"), strict=False):
                    yield replace(row, what=f"{row.what}, beside a busy process", goal=goal)
            finally:
                process.kill()

    def cold(self) -> Iterator[Row]:
        """One clip in a fresh process; the files are in the system's page cache for all."""
        first, second, many, peer = [], [], [], []
        command = self.classify(self.inputs.clip, str(self.inputs.labels))
        of_400 = self.classify(self.inputs.clip, "kinetics-400")
        with tempfile.TemporaryDirectory() as cache:
            env = {**self.env, "XCLIP_CACHE": cache}
            for warm_up in (command, of_400, self.peer):
                wall(warm_up, env)
            for turn in range(self.rounds):
                first.append(wall(command, {**env, "XCLIP_CACHE": f"{cache}/{turn}"}))
                second.append(wall(command, env))
                many.append(wall(of_400, env))
                peer.append(wall(self.peer, env))
            memory = peak_memory(command, {**env, "XCLIP_CACHE": f"{cache}/memory"})
            peers = peak_memory(self.peer, env)
        script = "documented transformers script, float32"
        yield ratio_row("one clip, 5 labels, cold process: time, first run", script, "≤ 0.37", first, peer)
        yield ratio_row("the same, second run", script, "≤ 0.33", second, peer)
        detail = f"{memory:.0f} MiB / {peers:.0f} MiB"
        yield Row("the same, first run: peak memory (PSS, all processes)", script, memory / peers, "≤ 0.75", detail)
        yield ratio_row("400 labels, second run: time", "5 labels, second run", "≤ 1.15", many, second)

    def _rates(self, *names: str) -> dict[str, float]:
        """Videos a second of what `warm.py` calls so, in warm processes that take turns."""
        clips = self.inputs.short_clips
        share = {  # a turn's; a run of ours begins and ends slowly
            name: len(clips) if self.full else 24 if name.startswith("ours") else 8 for name in names
        }
        seconds: dict[str, list[float]] = {name: [] for name in names}
        warm = Warm(self.inputs, *names)
        try:
            for name in names:
                warm.run(name, clips[:8])
            for _ in range(3 if self.full else 2):
                for name in names:
                    some = clips[: share[name]]
                    seconds[name].append(warm.run(name, some) / len(some))
        finally:
            warm.close()
        return {name: 1 / statistics.median(values) for name, values in seconds.items()}

    def throughput(self) -> Iterator[Row]:
        """Many short clips in warm processes."""
        rates = self._rates("ours", "transformers-float32", "transformers-bfloat16", "decode", "model")
        ours = rates["ours"]
        for dtype, goal in (("float32", "≥ 2.3"), ("bfloat16", "≥ 1.28")):
            theirs = rates[f"transformers-{dtype}"]
            detail = f"{ours:.2f} / {theirs:.2f} videos a second"
            yield Row("warm, short clips: rate", f"warm transformers loop, {dtype}", ours / theirs, goal, detail)
        each = 1 / rates["decode"], 1 / rates["model"]
        ceiling = len(os.sched_getaffinity(0)) / sum(each)
        detail = (
            f"{ours:.2f} / {ceiling:.2f} videos a second (decoding {each[0]:.3f}, model {each[1]:.3f} core seconds)"
        )
        yield Row("the same", "the ceiling: cores ÷ (decoding + model, each alone)", ours / ceiling, "≥ 0.95", detail)

    def long_video(self) -> Iterator[Row]:
        """8 frames of an hour."""
        path = str(self.inputs.long)
        request = ClipRequest(path, 8)
        ours, codec = [], []
        expected = read_pictures(request)[1]
        for _ in range(self.rounds):
            ours.append(_timed(lambda: read_pictures(request, threads=0)))
            if torchcodec_frames is not None:
                codec.append(_timed(lambda: torchcodec_frames(path, _centres(path))))
        minutes = LONG_MINUTES if self.full else 2
        straight = _timed(lambda: _decode_all(path, minutes * 60 * RATE)) * LONG_MINUTES / minutes
        how = "full sequential decode" + ("" if self.full else f" (measured on {minutes} minutes of it)")
        yield ratio_row(f"8 frames of a {LONG_MINUTES}-minute 720p video: time", how, "≤ 0.02", ours, [straight])
        if torchcodec_frames is not None:
            theirs = torchcodec_frames(path, _centres(path))
            same = all(np.abs(a.astype(int) - b).mean() < 2 for a, b in zip(expected, theirs, strict=True))
            assert same, "torchcodec gave other frames"
            yield ratio_row("the same", "torchcodec, exact seek mode, same frames", "≤ 1.2", ours, codec)

    def precision(self) -> Iterator[Row]:
        """The bundled model in bfloat16, and where it is native int8, and float32 on clips it was not trained on; int8
        beside bfloat16 on the full-size model."""
        dtypes = ["bfloat16", *(["int8"] if computes_int8() else [])]
        clips = 300 if self.full else 60
        rng = np.random.default_rng(20_000)
        pictures = [generator.make_picture(rng) for _ in range(40)]
        same, total = dict.fromkeys(dtypes, 0), 0
        for family in (generator.PICTURE_STATES, generator.CAMERA):
            made = [Classifier("bundled", labels=family, dtype=dtype) for dtype in ("float32", *dtypes)]
            for i in range(clips):
                clip = generator.make_clip(rng, family[i % len(family)], pictures, height=96, width=128)
                exact, *rough = (classifier.classify(list(clip.frames)).predictions[0].label for classifier in made)
                for dtype, label in zip(dtypes, rough, strict=True):
                    same[dtype] += exact == label
                total += 1
        for dtype, count in same.items():
            detail = f"{count} of {total} clips"
            yield Row(f"bundled model, {dtype}: same top-1", "float32", count / total, "≥ 0.995", detail)
        if computes_int8():
            yield from self._int8()

    def _int8(self) -> Iterator[Row]:
        rates = self._rates("ours-int8", "ours", "transformers-bfloat16")
        for name, goal in (("ours", "≥ 1.35"), ("transformers-bfloat16", "≥ 1.6")):
            detail = f"{rates['ours-int8']:.2f} / {rates[name]:.2f} videos a second"
            against = "bfloat16" if name == "ours" else "warm transformers loop, bfloat16"
            yield Row("warm, short clips, int8: rate", against, rates["ours-int8"] / rates[name], goal, detail)
        cold: dict[str, list[float]] = {"int8": [], "bfloat16": []}
        commands = {dtype: self.classify(self.inputs.clip, str(self.inputs.labels), "--dtype", dtype) for dtype in cold}
        for turn in range(self.rounds + 1):
            for dtype, command in commands.items():
                seconds = wall(command, self.env)
                if turn:
                    cold[dtype].append(seconds)
        yield ratio_row("one clip, cold process, int8: time, second run", "bfloat16", "≤ 1.1", *cold.values())
        many = [str(path) for path in self.inputs.short_clips[1:16]]
        ours, usual = (peak_memory([*command, *many], self.env) for command in commands.values())
        yield Row("16 clips, int8: peak memory", "bfloat16", ours / usual, "≤ 1", f"{ours:.0f} MiB / {usual:.0f} MiB")

    def indexes(self) -> Iterator[Row]:
        """Asking an index beside looking at the videos again: base-patch32, with clips, and with made-up encodings."""
        with tempfile.TemporaryDirectory() as name:
            yield from self._embedded(Path(name))
        with tempfile.TemporaryDirectory() as name:
            yield from self._searched(Path(name))
        yield from self._scanned()
        same, total = index.compact_agreement(5 if not self.full else 50)
        detail = f"{same} of {total} clips, {len(generator.PICTURE_STATES)} states"
        yield Row("an index, --compact, bundled model: same top-1", "the full index", same / total, "≥ 0.995", detail)

    def _embedded(self, folder: Path) -> Iterator[Row]:
        """The same clips, whole, three ways: by classify, by embed, and by classify of an index."""
        files = [str(path) for path in self.inputs.short_clips[: 100 if self.full else 12]]
        of_model, labels = ["-m", str(self.inputs.checkpoint)], folder / "labels.txt"
        labels.write_text("".join(f"{verb} {noun}\n" for verb in index.VERBS for noun in index.NOUNS))
        classify = [str(XCLIP), "classify", "-l", str(labels), *of_model, "-f", "jsonl"]
        made = index.made_index(folder / "1000", self.inputs.checkpoint, 1000)
        by_files, by_embed, by_index = [], [], []
        for turn in range(2 if self.full else 1):
            new = {**self.env, "XCLIP_CACHE": str(folder / f"cache {turn}")}  # no text is known
            by_files.append(wall([*classify, *files], new))
            by_embed.append(wall([str(XCLIP), "embed", *files, "-o", str(folder / f"{turn}"), *of_model], self.env))
        for turn in range(3):
            new = {**self.env, "XCLIP_CACHE": str(folder / f"new cache {turn}")}
            by_index.append(wall([*classify, str(made)], new))
        scaled = [seconds * 1000 / len(files) for seconds in by_files]
        what = f"classify of an index, 1,000 clips, {len(labels.read_text().splitlines())} new labels"
        yield ratio_row(what, f"of the files, measured on {len(files)}", "≤ 0.033", by_index, scaled)
        yield ratio_row("embed", "classify, the same videos", "≤ 1.05", by_embed, by_files)

    def _searched(self, folder: Path) -> Iterator[Row]:
        """Windows of 5 s: their size, searching them, and what memory that takes."""
        windows, checkpoint = 10_000 if self.full else 1000, self.inputs.checkpoint
        for compact, goal in ((True, "≤ 28"), (False, "≤ 53")):
            made = index.made_index(folder / f"{compact}", checkpoint, windows, 5, compact)
            size = index.bytes_a_window(made, windows) / 1000
            yield Row(f"an index{', --compact' if compact else ''}", "kB a window", size, goal, f"{size:.1f} kB")
        search = [str(XCLIP), "search", LABELS[0], str(made)]
        wall(search, self.env)
        ours, theirs = [], []
        for _ in range(self.rounds):
            ours.append(wall(search, self.env))
            theirs.append(wall([sys.executable, "-c", "import torch"], self.env))
        yield ratio_row(f"search, {windows:,} windows, second run", "import torch", "≤ 2.5", ours, theirs)
        peaks = []
        for count in (2 * windows, 10 * windows):
            scanned = index.made_index(folder / str(count), checkpoint, count, 5)
            peaks.append(index.private_memory(scanned))
            shutil.rmtree(scanned)
        small, large = peaks
        what, detail = f"memory of its own to scan {10 * windows:,} windows", f"{large:.0f} MB"
        yield Row(what, "MB", large, "≤ 600", detail)
        yield Row(what, f"{2 * windows:,}", large / small, "≤ 1.2", f"{detail} / {small:.0f} MB")

    def _scanned(self) -> Iterator[Row]:
        """The two ways to compare encodings with a text."""
        for dtype, goal in (("float32", "≥ 6"), ("bfloat16", "≥ 10")):
            with Encoder(self.inputs.checkpoint, dtype=dtype, device="cpu") as encoder:
                absorbed, usual = index.scan_rates(encoder)
            if dtype == "float32":
                exact = usual
            detail = f"{absorbed:,.0f} / {exact:,.0f} windows a second"
            yield Row(f"scan, one thread, one text, {dtype}", "similarity in float32", absorbed / exact, goal, detail)

    def steadiness(self) -> Iterator[Row]:
        """Memory of the parent over many videos: the bundled model, so that it takes a minute."""
        if not self.full:
            return
        sizes = []
        with Classifier("bundled", labels=list(generator.PICTURE_STATES)) as classifier:
            paths = [path for _ in range(10) for path in self.inputs.short_clips]
            for number, _ in enumerate(classifier.classify_all(paths), start=1):
                if number % 100 == 0:
                    sizes.append(sum(map(_pss, _tree(os.getpid()))) / 1024)
        largest = max(sizes[1:])
        detail = f"at most {largest:.0f} MiB / {sizes[0]:.0f} MiB"
        yield Row("memory over 2,000 videos", "after the first 100", largest / sizes[0], "≤ 1.05", detail)


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _decode_all(path: str, frames: int) -> None:
    with av.open(path) as container:
        container.streams.video[0].thread_type = "SLICE"
        for _ in zip(range(frames), container.decode(video=0), strict=False):
            pass


def _centres(path: str) -> list[int]:
    """Which frames ours takes of a video of constant rate."""
    total = LONG_MINUTES * 60 * RATE
    return [int(i * total / 8 + total / 16) for i in range(8)]


def _torchcodec() -> Callable[[str, list[int]], list[np.ndarray]] | None:
    """Frames by index through torchcodec, where it and the FFmpeg that it needs are installed."""
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, RuntimeError, OSError):
        return None

    def frames(path: str, indices: list[int]) -> list[np.ndarray]:
        decoder = VideoDecoder(path, seek_mode="exact", dimension_order="NHWC", num_ffmpeg_threads=1)
        return list(decoder.get_frames_at(indices).data.numpy())

    return frames


torchcodec_frames = _torchcodec()


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="more rounds, and long files whole: about half an hour")
    parser.add_argument("--folder", type=Path, default=default_folder(), help="where inputs are kept")
    parser.add_argument("--only", choices=[*PARTS, *ASKED_FOR], action="append", help="measure this part alone")
    given = parser.parse_args()
    bench = Bench(Inputs(given.folder), given.full)
    cores = len(os.sched_getaffinity(0))
    print(f"{platform.machine()}, {_processor()}, {cores} cores, torch {torch.__version__}, {load()}")
    print("\n| what | against | ratio | goal | measured |\n|---|---|---|---|---|", flush=True)
    for part in given.only or PARTS:
        before = Ticks.now()
        for row in getattr(bench, part)():
            detail = ", ".join(filter(None, [row.detail, busyness(before, Ticks.now())]))
            print(f"| {row.what} | {row.against} | **{row.ratio:.3g}** | {row.goal} | {detail} |", flush=True)


def _processor() -> str:
    """The name of the processor, and whether it multiplies bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    values = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {key.strip(): value.strip() for key, value in values.items()}
    native = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in fields.get("flags", "").split()]
    return " ".join([fields.get("model name", "unknown processor"), *native])


PARTS = ("cold", "throughput", "long_video", "precision", "indexes", "steadiness")
ASKED_FOR = ("neighbour", "gpu", "cluster")  # not measured unless they are

if __name__ == "__main__":
    main()
