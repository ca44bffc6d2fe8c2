"""A long run: memory and descriptors stay flat, and one that is killed time and again ends with the same records.

python -m tests.soak [--count N] [--kills N] [--seed S] [--only classify|embed] prints figures as JSON; exit 1 where a
promise is broken.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from clips import write_clip
from records import assert_all_same, assert_same

from xclip_cli import Classifier
from xclip_cli.engine.encoder import results_of
from xclip_cli.errors import ResultsError
from xclip_cli.labels import load_labels
from xclip_cli.results.index import Index
from xclip_cli.results.index_writer import check_index
from xclip_cli.results.lines import LINES_NAME, is_index
from xclip_cli.results.run_file import differences

MAX_GROWTH = 1.15  # of memory, from the second third of a run to the last
MAX_FILES = 50  # open in the parent
LONG_FRAMES = 6000  # of one video that takes several lives
PARTS = ("classify", "embed")
FORMS = {"mp4": "libx264", "webm": "libvpx", "avi": "mpeg4", "mkv": "ffv1", "gif": "gif"}
OFTEN_FLUSHED = (  # so that kills meet parts and lines on their way
    "import xclip_cli.results.index_writer as writer; writer.FLUSH_SECONDS = 0.5;"
    "from xclip_cli.cli.app import main; main()"
)
PROGRAM = Path(sys.executable).with_name("xclip")


def write_videos(folder: Path, count: int) -> None:
    """Videos of a few forms, each many times as a link."""
    sources = []
    for suffix, codec in FORMS.items():
        for frames in (5, 12, 30):
            sources.append(write_clip(folder.parent / f"{frames}.{suffix}", frames, codec))
    for i in range(count):
        source = sources[i % len(sources)]
        os.link(source, folder / f"{i:06d}{source.suffix}")


def command(folder: Path, out: Path, *more: str) -> list[str]:
    fixed = ["--labels", "picture-state", "--model", "bundled", "--dtype", "float32", "--workers", "2", "-q"]
    return [str(PROGRAM), "classify", str(folder), *fixed, "-o", str(out), *more]


def sample(pid: int) -> tuple[int, int, int] | None:
    """Megabytes of a process and of its children, and files it has open; None where it has ended."""
    try:
        children = [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
        return megabytes(pid), sum(map(megabytes, children)), len(os.listdir(f"/proc/{pid}/fd"))
    except (OSError, ValueError, IndexError):
        return None


def megabytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") >> 20


def long_run(folder: Path, out: Path) -> dict[str, Any]:
    """Classify all, watching."""
    began = time.monotonic()
    process = subprocess.Popen(command(folder, out))
    samples = []
    while process.poll() is None:
        found = sample(process.pid)
        if found and out.exists() and out.stat().st_size > 2000:  # it is under way
            samples.append(found)
        time.sleep(0.2)
    assert process.returncode == 0
    third = len(samples) // 3
    parent, workers, files = zip(*samples, strict=True)
    return {
        "seconds": round(time.monotonic() - began, 1),
        "samples": len(samples),
        "parent_megabytes": {"second third": max(parent[third : 2 * third]), "last third": max(parent[-third:])},
        "workers_megabytes": {"second third": max(workers[third : 2 * third]), "last third": max(workers[-third:])},
        "open_files": {"second third": max(files[third : 2 * third]), "last third": max(files[-third:])},
    }


def killed_run(folder: Path, out: Path, expected: int, kills: int, rng: random.Random) -> int:
    """Classify all, killed at random moments and gone on with → how often it was killed."""
    done = 0
    for _ in range(kills):
        process = subprocess.Popen(command(folder, out, "--resume"))
        size = out.stat().st_size if out.exists() else 0
        wanted = size + rng.random() * 1.6 * expected / kills
        while process.poll() is None and (not out.exists() or out.stat().st_size < wanted):
            time.sleep(0.002)
        if process.poll() is None:
            process.kill()
            done += 1
        process.wait()
    subprocess.run(command(folder, out, "--resume"), check=True)
    return done


def embed(folder: Path, index: Path) -> list[str]:
    fixed = ["--model", "bundled", "--dtype", "float32", "--workers", "2", "-q", "--window", "1", "--stride", "0.5"]
    return [sys.executable, "-c", OFTEN_FLUSHED, "embed", str(folder), "-o", str(index), *fixed]


def different_copies(folder: Path, target: Path) -> list[Path]:
    """The videos again, no two of which have the same content, and a long one."""
    target.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        (target / path.name).write_bytes(path.read_bytes() + number.to_bytes(8))
    write_clip(target / "long.mp4", LONG_FRAMES)
    return sorted(target.iterdir())


def killed_embedding(copies: list[Path], folder: Path, kills: int, rng: random.Random) -> dict[str, Any]:
    """Embed videos, some more in each life, which a kill ends at a random moment: while it begins, embeds, joins parts
    or ends. Others read meanwhile → how often it was killed, and what an index of one run has different."""
    videos, index, whole = folder / "growing", folder / "pieces.index", folder / "whole.index"
    videos.mkdir()
    shares, broken, killed, read = [copies[i :: kills + 1] for i in range(kills + 1)], list[str](), 0, 0
    longest = 0.0
    for share in shares:
        for path in share:
            os.link(path, videos / path.name)
        began = time.monotonic()
        process = subprocess.Popen(embed(videos, index))
        end = began + rng.random() * longest if longest else math.inf  # the first life shows how long they are
        while process.poll() is None and time.monotonic() < end:
            read += readable(index, broken)
            time.sleep(0.05)
        longest = longest or time.monotonic() - began
        if process.poll() is None:
            process.kill()
            killed += 1
        process.wait()
        readable(index, broken)
        if is_index(index):
            with Index.open(index) as found:
                broken += [f"after kill {killed}: {text}" for text in check_index(found).values()]
    subprocess.run(embed(videos, index), check=True)
    subprocess.run(embed(videos, whole), check=True)
    return {"kills": killed, "reads": read, "broken": [*broken, *different_answers(index, whole)]}


def readable(index: Path, broken: list[str]) -> bool:
    """Whether there is an index yet; what of it cannot be read is ``broken``."""
    if not is_index(index) or not (index / LINES_NAME).exists():
        return False
    try:
        with Index.open(index) as found:
            for video in found:
                if len(video.windows) < video.num_windows or not np.isfinite(video.features).all():
                    broken.append(f"{video.video}: its windows and rows do not go together")
    except ResultsError as error:
        broken.append(str(error))
    return True


def different_answers(index: Path, whole: Path) -> list[str]:
    """What two indexes of the same videos say differently, of videos and of all their windows."""
    found = []
    with (
        Classifier("bundled", labels=load_labels(["picture-state"]), dtype="float32", device="cpu") as classifier,
        Index.open(index) as ours,
        Index.open(whole) as theirs,
    ):
        if ours.entries.keys() != theirs.entries.keys():
            found.append(f"{len(ours)} videos in pieces, {len(theirs)} in one")
        for video in theirs:
            both = ours[video.video], video
            if both[0].failure or both[0].windows != both[1].windows:
                found.append(f"{video.video}: its windows differ")
                continue
            answers = [results_of(classifier.classify_stored([one], windows=True)) for one in both]
            try:
                assert_all_same(*answers)
            except AssertionError as error:
                found.append(f"{video.video}: {error}"[:500])
    return found


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def soak(count: int, kills: int, seed: int, parts: list[str]) -> dict[str, Any]:
    """The runs → figures, and what broke a promise."""
    found: dict[str, Any] = {"count": count, "seed": seed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "videos"
        folder.mkdir()
        write_videos(folder, count)
        broken = []
        if "classify" in parts:
            figures = classifying(folder, count, kills, seed)
            broken += figures.pop("broken")
            found |= figures
        if "embed" in parts and kills:
            copies = different_copies(folder, Path(name) / "copies")
            found["embed"] = killed_embedding(copies, Path(name), kills, random.Random(seed))
            broken += found["embed"].pop("broken")
        left = sorted(path.name for path in Path(name).rglob(".*"))
        if left:
            broken.append(f"left behind: {left}")
    return {**found, "broken": broken[:20]}


def classifying(folder: Path, count: int, kills: int, seed: int) -> dict[str, Any]:
    """A long run of classify, and one in pieces → figures, and what broke a promise."""
    whole, pieces = folder.with_name("whole.jsonl"), folder.with_name("pieces.jsonl")
    found, broken = long_run(folder, whole), []
    for key in ("parent_megabytes", "workers_megabytes"):
        if found[key]["last third"] > found[key]["second third"] * MAX_GROWTH:
            broken.append(f"{key} grew: {found[key]}")
    if max(found["open_files"].values()) > MAX_FILES:
        broken.append(f"open files: {found['open_files']}")
    if not kills:
        return {**found, "broken": broken}
    found["kills"] = killed_run(folder, pieces, whole.stat().st_size, kills, random.Random(seed))
    (header, *ours), (expected, *theirs) = records(pieces), records(whole)
    if differences(header, expected, "{}: {}, {}") or len(ours) != len(theirs) or len(theirs) != count:
        broken.append(f"{len(ours)} records in pieces, {len(theirs)} in one, of {count}")
    for a, b in zip(ours, theirs, strict=False):
        try:
            assert_same(a, b)
        except AssertionError as error:
            broken.append(f"{a['video']}: {error}"[:500])
    return {**found, "broken": broken}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="videos")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=PARTS, action="append", help="this part alone")
    given = parser.parse_args()
    found = soak(given.count, given.kills, given.seed, given.only or [*PARTS])
    print(json.dumps(found, indent=2))
    sys.exit(bool(found["broken"]))


if __name__ == "__main__":
    main()
