"""A model's name → its checkpoint folder: bundled with the package, on disk, or in the hub's cache.

A checkpoint folder is the Hugging Face one: ``config.json``, weights, tokenizer files, ``preprocessor_config.json``.
Never imports torch.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ModelError

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

log = logging.getLogger(__name__)

BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent.parent / "bundled" / "checkpoint"
OPEN_LABELS_MODEL = "microsoft/xclip-base-patch16-zero-shot"  # what its authors recommend for labels of one's own

SAFETENSORS_NAME = "model.safetensors"
PICKLED_NAME = "pytorch_model.bin"
WEIGHT_NAMES = (SAFETENSORS_NAME, SAFETENSORS_NAME + ".index.json", PICKLED_NAME, PICKLED_NAME + ".index.json")
TEXT_NAMES = (  # everything of a checkpoint that is not weights
    "config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "merges.txt",
)
NEEDED_TEXT_NAMES = (  # beside the config, one of each
    ("preprocessor_config.json", "processor_config.json"),
    ("tokenizer.json", "vocab.json"),
)
WORDS_NAME = "words.txt"

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is there, and how to speak of it."""

    name: str  # as given: a hub id, a path or "bundled"
    folder: Path

    @cached_property
    def identity(self) -> str:
        """What tells two checkpoints apart, the same on every machine.

        The hub's hash of the weight files; for other folders a SHA-256 over config, tokenizer and the weights' header
        and size (hashing all weights would take longer than using them).
        """
        digest = hashlib.sha256()
        for path in find_weight_files(self.folder):
            target = path.resolve()
            if target.parent.name == "blobs":  # the hub's cache names files by their hash
                digest.update(target.name.encode())
            else:
                digest.update(_header(target) + struct.pack("<Q", target.stat().st_size))
        for name in TEXT_NAMES:
            path = self.folder / name
            if path.is_file():
                digest.update(path.read_bytes())
        return f"sha256:{digest.hexdigest()}"

    @cached_property
    def words(self) -> frozenset[str] | None:
        """Every word the model was trained on, where the checkpoint lists them."""
        path = self.folder / WORDS_NAME
        return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else None

    def unknown_words(self, texts: Iterable[str]) -> list[str]:
        """The words of ``texts`` that the model never saw, sorted; none where the checkpoint lists no words."""
        if self.words is None:
            return []
        return sorted({word for text in texts for word in _WORD.findall(text.lower())} - self.words)


def find_checkpoint(name: str, revision: str | None = None) -> Checkpoint:
    """The checkpoint called ``name``: ``bundled``, a folder, or a hub id, which is downloaded once.

    ``revision`` (hub ids only) is a branch, tag or commit. Raises ModelError.
    """
    if name == BUNDLED:
        if not BUNDLED_FOLDER.is_dir():
            raise ModelError(f"the bundled model is missing from this installation ({BUNDLED_FOLDER}): reinstall xclip")
        return Checkpoint(BUNDLED, BUNDLED_FOLDER)
    folder = Path(name).expanduser()
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{name} is not a checkpoint folder: it has no config.json")
        find_weight_files(folder)
        return Checkpoint(name, folder)
    if folder.exists():
        raise ModelError(f"{name} is a file; a model is a checkpoint folder, a hub id or {BUNDLED!r}")
    if not _HUB_ID.fullmatch(name) or name.startswith("."):
        raise ModelError(
            f"there is no model {name!r}: give a checkpoint folder that exists, a hub id such as "
            f"{OPEN_LABELS_MODEL}, or {BUNDLED!r}"
        )
    return Checkpoint(name, _hub_folder(name, revision))


def find_folder(name: str, revision: str | None = None) -> Path:
    """The folder to read a config, tokenizer or processor from: a local one may lack weights. Raises ModelError."""
    folder = Path(name).expanduser()
    return folder if name != BUNDLED and folder.is_dir() else find_checkpoint(name, revision).folder


def choose_model(texts: Iterable[str]) -> str:
    """The name that ``auto`` stands for: the bundled model if it knows every word of ``texts``, else the checkpoint
    that X-CLIP's authors recommend for labels of one's own."""
    return OPEN_LABELS_MODEL if find_checkpoint(BUNDLED).unknown_words(texts) else BUNDLED


def find_weight_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint folder: one, or its shards. safetensors is preferred. Raises ModelError."""
    for name in WEIGHT_NAMES:
        path = folder / name
        if not path.is_file():
            continue
        files = [folder / shard for shard in _shards(path)] if path.suffix == ".json" else [path]
        if absent := [file.name for file in files if not file.is_file()]:
            raise ModelError(f"{path} lists shards that are missing: {', '.join(absent)}")
        return files
    raise ModelError(f"no weights in {folder}: it needs one of {', '.join(WEIGHT_NAMES)}")


def _shards(index: Path) -> list[str]:
    try:
        names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of weight shards: {error!r}") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name:
            raise ModelError(f"{index} names a shard outside its folder: {name!r}")
    return names


def _header(path: Path) -> bytes:
    """What tells one weight file from another without reading it all."""
    with path.open("rb") as file:
        if path.suffix != ".safetensors":
            return file.read(1 << 16)
        (length,) = struct.unpack("<Q", file.read(8).ljust(8, b"\0"))
        return file.read(min(length, 1 << 24))


def _hub_folder(repo: str, revision: str | None) -> Path:
    """The snapshot of a hub repository, from the cache without any network, else downloaded into it."""
    import huggingface_hub
    from huggingface_hub import constants, errors

    try:
        cached = _cached_folder(repo, revision)
    except errors.HFValidationError as error:
        raise ModelError(f"{repo} is neither a folder nor a hub id: {str(error).splitlines()[0]}") from error
    if cached is not None:
        return cached
    if constants.HF_HUB_OFFLINE:
        raise ModelError(
            f"{repo} is not, or not wholly, in the cache ({constants.HF_HUB_CACHE}) and HF_HUB_OFFLINE is set: unset "
            f"it to download the model, or use the {BUNDLED!r} model"
        )
    # the hub library's own HTTP errors derive from those of its HTTP client, whichever that is
    client_error: Any = errors.HfHubHTTPError.__bases__[0]
    try:
        info = huggingface_hub.HfApi().model_info(repo, revision=revision, files_metadata=True)
        wanted = _files_to_download(info, repo)
        size = sum(file.size or 0 for file in info.siblings or [] if file.rfilename in wanted)
        log.info("downloading %s (%.0f MB) into %s", repo, size / 1e6, constants.HF_HUB_CACHE)
        return Path(huggingface_hub.snapshot_download(repo, revision=revision, allow_patterns=wanted))
    except errors.GatedRepoError as error:
        raise ModelError(
            f"{repo} is gated: accept its terms on its page at the hub, then log in with `hf auth login`"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"the hub has no model {repo}, or it is private: check the name, or log in with `hf auth login`"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{repo} has no revision {revision!r} on the hub") from error
    except (client_error, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise ModelError(
            f"cannot download {repo} from the hub ({reason}): check the network and try again, or use the "
            f"{BUNDLED!r} model, which needs none"
        ) from error


def _cached_folder(repo: str, revision: str | None) -> Path | None:
    """The snapshot of a hub repository in the cache, if all that a checkpoint needs is in it.

    Part of it may be there: a download broke off, or another program needed less.
    """
    import huggingface_hub

    config = huggingface_hub.try_to_load_from_cache(repo, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    try:
        find_weight_files(folder)
    except ModelError:
        return None
    return folder if all(any((folder / name).is_file() for name in names) for names in NEEDED_TEXT_NAMES) else None


def _files_to_download(info: ModelInfo, repo: str) -> list[str]:
    """The files of a repository that are needed, weights in one format."""
    names = {file.rfilename for file in info.siblings or []}
    weights = next((name for name in WEIGHT_NAMES if name in names), None)
    if weights is None or "config.json" not in names:
        raise ModelError(f"{repo} on the hub is not a checkpoint: it lacks config.json or weights")
    shards = []
    if weights.endswith(".json"):
        stem, suffix = weights.removesuffix(".index.json").split(".")
        shards = sorted(name for name in names if re.fullmatch(rf"{stem}-\d+-of-\d+\.{suffix}", name))
    return [name for name in TEXT_NAMES if name in names] + [weights, *shards]
