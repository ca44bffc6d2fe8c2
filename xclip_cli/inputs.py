"""Many videos: what the inputs stand for, and one record for each of them, in order."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import TypeVar

from .classifier import Classifier
from .engine.devices import choose_device, choose_dtype, dtype_name, measured_macs_per_second
from .errors import ResultsError, VideoError
from .labels import Labels
from .model.checkpoint.find import find_cached, hub_name
from .model.checkpoint.public import public_checkpoints
from .model.loading import load_config
from .results.records import Failure, Record
from .text import listed, pace
from .timeline import Rules, TimelineRecord, WindowRecord, assemble
from .video.sampling import Views

# What a folder expands to. Stills are classified too, but only when named.
VIDEO_SUFFIXES = (
    *(".3g2", ".3gp", ".asf", ".avi", ".flv", ".gif", ".ivf", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg"),
    *(".mpg", ".mts", ".mxf", ".ogv", ".ts", ".vob", ".webm", ".wmv"),
)

FAILURES_LISTED = 20  # at the end of a run
MAX_LIST = 1 << 28  # bytes of a list of paths

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")


@dataclass
class Inputs:
    """What is to be classified: paths, and failures that are known without decoding, in the order given."""

    items: list[str | Failure] = field(default_factory=list)
    ignored: int = 0  # files of folders that are no videos
    repeated: list[str] = field(default_factory=list)  # paths given more than once

    @property
    def paths(self) -> list[str]:
        """What there is to decode."""
        return [item for item in self.items if isinstance(item, str)]

    @property
    def names(self) -> list[str]:
        """Of all of them."""
        return [item if isinstance(item, str) else item.video for item in self.items]

    def without(self, videos: set[str]) -> Inputs:
        """The same, less some videos."""
        items = [item for item, name in zip(self.items, self.names, strict=True) if name not in videos]
        return replace(self, items=items)

    def notices(self) -> list[str]:
        """What a user should know of the inputs."""
        notices = [f"given more than once, classified once: {path}" for path in self.repeated]
        if self.ignored:
            notices.append(f"ignored {self.ignored} files in folders that are no videos by their suffix")
        return notices


def expand_inputs(given: Iterable[str], recursive: bool = False) -> Inputs:
    """Folders become the videos in them, sorted; every other input stands for itself, once."""
    inputs, seen = Inputs(), set()
    for path in given:
        if _URL.match(path) and not _is(Path.exists, path):
            message = "a URL: xclip reads files only; download it first, for example with curl or yt-dlp"
            found: Sequence[str | Failure] = [Failure.of(path, VideoError(message, "url"))]
        elif path and _is(Path.is_dir, path):
            found = _videos_in(path, recursive, inputs)
        else:
            found = [path]
        for item in found:
            name = item if isinstance(item, str) else item.video
            key = os.path.abspath(name)  # noqa: PTH100 - pathlib's would follow links
            if key in seen:
                inputs.repeated.append(name)
            else:
                seen.add(key)
                inputs.items.append(item)
    return inputs


def _is(test: Callable[[Path], bool], path: str) -> bool:
    """A question about a path that may be too long, or in a folder that may not be searched: then no."""
    try:
        return test(Path(path))
    except (OSError, ValueError):
        return False


def _videos_in(folder: str, recursive: bool, inputs: Inputs) -> Sequence[str | Failure]:
    """The videos of a folder, sorted by path; hidden files and folders are left out."""
    videos: list[str] = []
    failures: list[Failure] = []

    def refuse(error: OSError) -> None:
        message = f"the folder cannot be read: {error.strerror}"
        failures.append(Failure.of(str(error.filename), VideoError(message, "permission")))

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(name for name in folders if recursive and not name.startswith("."))
        visible = [name for name in files if not name.startswith(".")]
        matching = [name for name in visible if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        inputs.ignored += len(visible) - len(matching)
        videos += [str(Path(parent, name)) for name in matching]
    if not videos and not failures:
        below = "" if recursive else " (pass --recursive to look into its folders)"
        return [Failure.of(folder, VideoError(f"the folder holds no videos{below}", "empty_folder"))]
    return sorted([*videos, *failures], key=lambda item: item if isinstance(item, str) else item.video)


def read_path_list(source: str, nul: bool = False) -> list[str]:
    """Paths from a file, or from stdin for ``-``: one a line, or separated by NUL bytes. Raises ResultsError."""
    if source == "-" and sys.stdin is None:
        raise ResultsError("stdin is closed: there is no list of videos to read")
    try:
        with nullcontext(sys.stdin.buffer) if source == "-" else Path(source).open("rb") as file:
            data = file.read(MAX_LIST + 1)
    except OSError as error:
        raise ResultsError(f"cannot read the list of videos {source}: {error.strerror}") from error
    if len(data) > MAX_LIST:
        raise ResultsError(f"the list of videos {source} is larger than {MAX_LIST >> 20} MB: give it in parts")
    parts = data.split(b"\0") if nul else [line.removesuffix(b"\r") for line in data.split(b"\n")]
    return [os.fsdecode(part) for part in parts if part]


def classify_inputs(
    classifier: Classifier,
    inputs: Inputs,
    start: Fraction | None = None,
    end: Fraction | None = None,
    top_k: int = 0,
    stop: threading.Event | None = None,
) -> Iterator[Record]:
    """One record for each input, in order. The first videos decode while torch and the weights are loaded, which is
    done when this returns. Where ``stop`` is set, no more videos are begun. Raises ModelError."""
    stop = stop or threading.Event()
    requests = (classifier.request(path, start, end) for path in inputs.paths if not stop.is_set())
    records = classifier.classify_all(requests, top_k)
    if inputs.paths:
        classifier.load()
    return _in_order(inputs.items, records)


def timelines(
    classifier: Classifier,
    inputs: Inputs,
    rules: Rules,
    start: Fraction | None = None,
    end: Fraction | None = None,
    top_k: int = 0,
    stop: threading.Event | None = None,
) -> Iterator[TimelineRecord]:
    """The records of the windows of each input, in order, and behind them one of its segments; or a Failure.

    Otherwise as ``classify_inputs``.
    """
    stop = stop or threading.Event()
    requests = (
        classifier.request(path, start, end, rules.window, rules.stride) for path in inputs.paths if not stop.is_set()
    )
    answers = classifier.classify_windows(requests)
    if inputs.paths:
        classifier.load()
    of_windows = ((answer.record, answer.following) for answer in answers if answer.record is not None)
    return _in_order(inputs.items, assemble(of_windows, classifier.answers, rules, top_k))


R = TypeVar("R")


def _in_order(items: Iterable[str | Failure], records: Iterator[R]) -> Iterator[R | Failure]:
    """Failures known beforehand between the ``records`` of all other items, which may end early."""
    for item in items:
        record = item if isinstance(item, Failure) else next(records, None)
        while isinstance(record, WindowRecord):
            yield record
            record = next(records, None)
        if record is None:
            return
        yield record


def plan(
    inputs: Inputs, labels: Labels, model: str, device: str, dtype: str, preprocess: str, views: Views, unit: str
) -> Iterator[str]:
    """What a run would do, a line each: nothing is downloaded, decoded or loaded.

    ``unit`` is what the model looks at: each video, or each window of a video.
    """
    failures = [item for item in inputs.items if isinstance(item, Failure)]
    yield f"videos: {len(inputs.paths)}" + (f", and {len(failures)} inputs that are none" if failures else "")
    for failure in failures:
        yield f"  {failure.video}: {failure.message}"
    missing = [path for path in inputs.paths if not _is(Path.is_file, path)]
    for path in missing:
        yield f"  {path}: no such file"
    yield f"labels: {len(labels.names)}, {len(labels.all_texts)} texts"
    for warning in labels.warnings:
        yield f"  warning: {warning}"
    found = find_cached(model)
    if found is None:
        repo, revision = hub_name(model)
        public = public_checkpoints().get(repo)
        size = f", about {public.megabytes} MB" if public else ""
        yield f"model: {repo}{f' at {revision}' if revision else ''}, not cached: it would be downloaded{size}"
        macs = public.gmac * 1e9 if public else None
    else:
        config = load_config(found)
        vision, macs = config.vision_config, config.video_macs()
        yield f"model: {found.name}{f' at {found.revision}' if found.revision else ''}, in {found.folder}"
        yield f"  {vision.num_frames} frames of {vision.image_size} pixels, {views} views, preprocessing {preprocess}"
        if unknown := found.unknown_words(labels.all_texts):
            yield f"  warning: it was not trained on {listed(unknown)}"
    where = choose_device(device)
    computed_in = choose_dtype(dtype, where)
    yield f"device: {where}, {dtype_name(computed_in)}"
    if macs is not None:
        seconds = macs * views.count / measured_macs_per_second(where, computed_in)
        count = len(inputs.paths) - len(missing)
        in_all = f", {seconds * count:.2g} s in all" if unit == "video" else ""
        yield f"time: at least {seconds:.2g} s a {unit}{in_all}, beside start-up and decoding"


class Run:
    """Counts a run's records as they pass, and ends it in good order on Ctrl-C.

    ``earlier``: how many videos were classified, and how many failed, in the run that this one goes on with.
    """

    def __init__(self, fail_fast: bool = False, earlier: tuple[int, int] = (0, 0)) -> None:
        self.fail_fast = fail_fast
        self.earlier = earlier
        self.succeeded = 0
        self.failed = 0
        self._failures: list[Failure] = []  # the first ones
        self.stop = threading.Event()  # set where no more videos should be begun
        self.interrupted = False
        self._began = time.monotonic()

    def counted(self, records: Iterator[R], say: Callable[[str], None] = lambda text: None) -> Iterator[R]:
        """The records. Ctrl-C lets those in flight finish, a second one ends at once; with ``fail_fast`` the first
        failure does."""

        def interrupt(*_: object) -> None:
            if self.interrupted:
                raise KeyboardInterrupt
            self.interrupted = True
            self.stop.set()
            say("interrupted: finishing what is in flight; Ctrl-C again stops at once")

        before = signal.signal(signal.SIGINT, interrupt)
        try:
            for record in records:
                if isinstance(record, Failure):
                    self.failed += 1
                    self._failures += [record] if self.failed <= FAILURES_LISTED else []
                elif not isinstance(record, WindowRecord):
                    self.succeeded += 1
                yield record
                if self.fail_fast and self.failed:
                    return
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            signal.signal(signal.SIGINT, before)

    @property
    def exit_code(self) -> int:
        """0 all classified, 1 none, 3 some."""
        if not self.failed + self.earlier[1]:
            return 0
        return 3 if self.succeeded + self.earlier[0] else 1

    def failures(self) -> Iterator[str]:
        """What failed, a line each, and how many more did."""
        for failure in self._failures:
            yield f"  failed: {failure.video}: {failure.message}"
        if self.failed > len(self._failures):
            yield f"  and {self.failed - len(self._failures)} more"

    def summary(self) -> str:
        """One line."""
        seconds = time.monotonic() - self._began
        total = self.succeeded + self.failed
        failed = f", {self.failed} failed" if self.failed else ""
        speed = pace(total, seconds, "video")
        return f"{self.succeeded} of {total} videos classified{failed} in {seconds:.1f} s ({speed})"
