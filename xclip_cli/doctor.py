"""What this installation is and whether it works: versions, hardware, caches, and a clip classified on every device."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from . import __version__
from .classifier import Classifier
from .cores import usable_cores
from .engine.cache import FeatureCache
from .engine.devices import AUTO, choose_dtype, dtype_name
from .errors import VideoError
from .labels import load_labels
from .model.checkpoint.find import BUNDLED, find_cached
from .model.checkpoint.public import public_checkpoints
from .model.verify import Check
from .text import one_line
from .video.pool import confinement

PACKAGES = ("av", "torch", "numpy", "tokenizers", "safetensors", "huggingface-hub", "rich", "typer")
CLIP_LABEL = "color bars"
CLIP_LABELS = "picture-state"  # the shipped set that it is told from
PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"


@dataclass(frozen=True)
class Hole:
    """A known fault of FFmpeg that matters to a program that opens strangers' videos."""

    name: str
    fixed_in: tuple[int, ...]
    fault: str
    defence: str  # why xclip is not open to it


HOLES = (
    Hole(
        "CVE-2026-107697",
        (8, 1, 3),
        "its HLS demuxer opens whatever a playlist names, over any protocol",
        "xclip opens no playlists, only containers that hold the video themselves, and no file but the one given",
    ),
)


@dataclass(frozen=True)
class Report:
    """What was found. It holds no secret: of a token only whether there is one, of the home folder only ``~``."""

    facts: dict[str, Any]
    notes: list[str]
    checks: list[Check]

    @property
    def healthy(self) -> bool:
        """Whether everything works."""
        return all(check.passed for check in self.checks)

    def to_json(self) -> dict[str, Any]:
        """For bug reports."""
        return {
            "healthy": self.healthy,
            **self.facts,
            "notes": self.notes,
            "checks": [asdict(check) for check in self.checks],
        }


def examine() -> Report:
    """Look at everything. What fails is a check of the report; nothing is downloaded, and no connection opened."""
    facts: dict[str, Any] = {"xclip": __version__, "python": platform.python_version(), "packages": _packages()}
    notes: list[str] = []
    checks: list[Check] = []

    def look(what: str, at: Callable[[], Any]) -> Any:
        """A fact; None, and a failed check, if it is unavailable: this is a place to report bugs from."""
        try:
            facts[what] = at()
            return facts[what]
        except Exception as error:
            checks.append(Check(f"inspects {what}", False, _fault(error)))
            return None

    look("temporary_files", lambda: _without_home(tempfile.gettempdir()))
    ffmpeg = look("ffmpeg", _ffmpeg)
    look("platform", _platform)
    look("hub", _hub)
    look("text_features", _text_features)
    look("decoder_confinement", confinement)  # what a decoder that is taken over cannot do
    cpu, devices = look("cpu", _cpu), look("devices", _devices)
    if ffmpeg is not None:
        notes += _ffmpeg_notes(ffmpeg["version"])
    if cpu is not None and devices is not None:
        notes += _device_notes(devices)
        if ffmpeg is not None and "temporary_files" in facts:
            checks += _proofs(["cpu", *(device["name"] for device in devices)])
    return Report(facts, notes, checks)


def _check(what: str, attempt: Callable[[], str]) -> Check:
    """What ``attempt`` returns is the detail; whatever it raises is the fault."""
    try:
        return Check(what, True, attempt())
    except Exception as error:
        return Check(what, False, _fault(error))


def _fault(error: Exception) -> str:
    return f"{type(error).__name__}: {one_line(error)}"


def _packages() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "missing"
    return found


def _ffmpeg() -> dict[str, Any]:
    """The FFmpeg that PyAV brings along."""
    import av

    libraries = {name: ".".join(map(str, version)) for name, version in av.library_versions.items()}
    return {"version": av.ffmpeg_version_info, "libraries": libraries}


def _ffmpeg_notes(version: str) -> Iterator[str]:
    """The known holes of a version. A version that is no number, such as a nightly build's, is taken for an old one."""
    numbers = re.match(r"n?(\d+(?:\.\d+)*)", version)
    found = tuple(map(int, numbers[1].split("."))) if numbers else ()
    for hole in HOLES:
        if found < hole.fixed_in:
            fixed = ".".join(map(str, hole.fixed_in))
            yield f"FFmpeg {version} has {hole.name} (before {fixed}: {hole.fault}); not reachable: {hole.defence}"


def _platform() -> dict[str, Any]:
    return {
        "system": platform.platform(),
        "machine": platform.machine(),
        "cpus": usable_cores(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
    }


def _cpu() -> dict[str, Any]:
    import torch

    dtype = choose_dtype(AUTO, torch.device("cpu"))
    return {
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "native_bfloat16": dtype == torch.bfloat16,
        "auto_dtype": dtype_name(dtype),
    }


def _devices() -> list[dict[str, Any]]:
    """The CUDA devices that torch sees."""
    import torch

    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        found.append(
            {
                "name": f"cuda:{index}",
                "model": properties.name,
                "capability": f"{properties.major}.{properties.minor}",
                "memory_gigabytes": round(properties.total_memory / 1e9, 1),
                "auto_dtype": dtype_name(choose_dtype(AUTO, torch.device("cuda", index))),
            }
        )
    return found


def _device_notes(devices: list[dict[str, Any]]) -> Iterator[str]:
    import torch

    if not devices and Path("/proc/driver/nvidia/version").exists():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        yield f"there is an NVIDIA driver, but PyTorch {torch.__version__}, built {built}, sees no device"


def _hub() -> dict[str, Any]:
    """How the hub is set up, and what of it is here."""
    import huggingface_hub
    from huggingface_hub import constants

    endpoint = urlsplit(constants.ENDPOINT)
    return {
        "offline": constants.HF_HUB_OFFLINE,
        "endpoint": endpoint._replace(netloc=endpoint.netloc.rpartition("@")[2]).geturl(),
        "home": _without_home(constants.HF_HOME),
        "cache": _without_home(constants.HF_HUB_CACHE),
        "cache_writable": _is_writable(Path(constants.HF_HUB_CACHE)),
        "token": huggingface_hub.get_token() is not None,
        "cached": [name for name in public_checkpoints() if find_cached(name) is not None],
    }


def _text_features() -> dict[str, Any]:
    """The cache of labels' text features."""
    cache = FeatureCache()
    return {
        "folder": None if cache.folder is None else _without_home(str(cache.folder)),
        "writable": cache.folder is not None and _is_writable(cache.folder),
        "label_sets": len(cache.entries()),
        "bytes": cache.size(),
    }


def _is_writable(folder: Path) -> bool:
    """Whether files can be written to a folder, which may have to be made first."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return there.is_dir() and os.access(there, os.W_OK)


def _without_home(path: str) -> str:
    """A path for a bug report, which need not say who the user is."""
    try:
        return str(Path("~", Path(path).relative_to(Path.home())))
    except (ValueError, RuntimeError):  # elsewhere, or there is no home
        return path


def _proofs(devices: list[str]) -> Iterator[Check]:
    """Decoding, model and each device, with a clip whose label is known; and that a playlist stays closed."""
    with tempfile.TemporaryDirectory(prefix="xclip-") as folder:
        clip = Path(folder, "clip.mp4")
        written = _check("encodes a clip", lambda: _write_clip(clip))
        yield written
        if written.passed:
            for device in devices:
                yield _check(f"classifies it on {device}", lambda device=device: _classify(clip, device))  # type: ignore[misc]
            yield _check("opens no playlists", lambda: _refuse_playlist(clip))


def _write_clip(path: Path) -> str:
    import numpy as np

    from .bundled.generator import make_clip, write_video

    frames = make_clip(np.random.default_rng(0), CLIP_LABEL, [], count=24, height=240, width=320).frames
    write_video(path, frames)
    return f"{len(frames)} frames of {CLIP_LABEL}, {path.stat().st_size} bytes"


def _classify(clip: Path, device: str) -> str:
    with Classifier(BUNDLED, labels=load_labels([CLIP_LABELS]), device=device) as classifier:
        best = classifier.classify(clip).predictions[0]
        found = f"{best.label} ({best.score:.3f}) in {classifier.encoder.precision}"
    if best.label != CLIP_LABEL:
        raise ValueError(f"it shows {CLIP_LABEL}, but the answer is {found}")
    return found


def _refuse_playlist(clip: Path) -> str:
    playlist = clip.with_name("playlist.m3u8")
    playlist.write_text(PLAYLIST.format(clip.name))
    with Classifier(BUNDLED, labels=load_labels([CLIP_LABELS]), device="cpu") as classifier:
        try:
            classifier.classify(playlist)
        except VideoError as error:
            if error.code == "unsupported":
                return "an HLS playlist is refused"
            raise
    raise ValueError("an HLS playlist was opened")
