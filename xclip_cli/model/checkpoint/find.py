"""A model's name → its checkpoint folder: bundled with the package, on disk, or in the hub's cache.

A checkpoint folder is the Hugging Face one: ``config.json``, weights, tokenizer files, ``preprocessor_config.json``.
Never imports torch.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ...errors import ModelError
from ...text import listed
from . import hub
from .files import CONFIG_NAME, TEXT_NAMES, find_weight_files, header_bytes, read_text
from .hub import USUAL_ACCESS, HubAccess
from .public import full_name, nearest

AUTO = "auto"  # the name that leaves the choice to the labels
BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent.parent.parent / "bundled" / "checkpoint"
OPEN_LABELS_MODEL = "microsoft/xclip-base-patch16-zero-shot"  # what its authors recommend for labels of one's own

WORDS_NAME = "words.txt"
ORIGINAL_SUFFIXES = (".pth", ".pt")  # of files of the authors' code

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that is there, and how to speak of it."""

    name: str  # a hub id, a path as given, or "bundled"
    folder: Path  # or the file, of the authors' own checkpoints
    revision: str | None = None  # the commit, of a hub id

    @cached_property
    def identity(self) -> str:
        """What tells two checkpoints apart, the same on every machine.

        The hub's hash of the weight files; for other folders a SHA-256 over config, tokenizer and the weights' header
        and size (hashing all weights would take longer than using them).
        """
        digest = hashlib.sha256()
        for path in self.weight_files:
            target = path.resolve()
            if target.parent.name == "blobs":  # the hub's cache names files by their hash
                digest.update(target.name.encode())
            else:
                digest.update(header_bytes(target) + struct.pack("<Q", target.stat().st_size))
        for name in TEXT_NAMES:
            path = self.folder / name
            if path.is_file():
                with path.open("rb") as file:
                    while part := file.read(1 << 20):
                        digest.update(part)
        return f"sha256:{digest.hexdigest()}"

    @cached_property
    def local_identity(self) -> str:
        """What tells two checkpoints on this machine apart, also two whose weight files have the same header."""
        stats = [path.resolve().stat() for path in self.weight_files]
        return json.dumps([self.identity, [[stat.st_size, stat.st_mtime_ns, stat.st_ino] for stat in stats]])

    @property
    def weight_files(self) -> list[Path]:
        """Where the weights are. Raises ModelError."""
        return find_weight_files(self.folder)

    @cached_property
    def words(self) -> frozenset[str] | None:
        """Every word the model was trained on, where the checkpoint lists them. Raises ModelError."""
        path = self.folder / WORDS_NAME
        return frozenset(read_text(path).split()) if path.is_file() else None

    def unknown_words(self, texts: Iterable[str]) -> list[str]:
        """The words of ``texts`` that the model never saw, sorted; none where the checkpoint lists no words."""
        if self.words is None:
            return []
        return sorted({word for text in texts for word in _WORD.findall(text.lower())} - self.words)


class Choice(NamedTuple):
    """The model to use."""

    name: str  # for ``find_checkpoint``
    reason: str | None = None  # why this one; None where it was named


def find_checkpoint(
    name: str, revision: str | None = None, bar: type | None = None, access: HubAccess = USUAL_ACCESS
) -> Checkpoint:
    """The checkpoint called ``name``: ``bundled``, a folder, an authors' ``.pth``, or a hub id, downloaded once.

    A public checkpoint's short name stands for its hub id. ``revision`` (also as ``name@revision``) is a branch, tag or
    commit of the hub. ``bar`` is a tqdm class that shows a download, ``access`` how to reach the hub. Raises
    ModelError.
    """
    cached = find_cached(name, revision, access)
    if cached is not None:
        return cached
    repo, revision = hub_name(name, revision)
    folder = hub.download(repo, revision, bar, access)
    return Checkpoint(repo, folder, folder.name)


def find_cached(name: str, revision: str | None = None, access: HubAccess = USUAL_ACCESS) -> Checkpoint | None:
    """The checkpoint called ``name`` if it is there without any network. Raises ModelError for what is no name."""
    local = find_local(name)
    if local is not None:
        return local
    repo, revision = hub_name(name, revision)
    folder = None if access.force_download else hub.cached_folder(repo, revision, access)
    return None if folder is None else Checkpoint(repo, folder, folder.name)


def find_local(name: str) -> Checkpoint | None:
    """The bundled checkpoint, a folder's or a file's; None where ``name`` can only be the hub's. Raises ModelError."""
    if name == BUNDLED:
        if not BUNDLED_FOLDER.is_dir():
            raise ModelError(f"the bundled model is missing from this installation ({BUNDLED_FOLDER}): reinstall xclip")
        return Checkpoint(BUNDLED, BUNDLED_FOLDER)
    path = _existing(name)
    if path is None and name.endswith(ORIGINAL_SUFFIXES):
        raise ModelError(f"there is no file {name}")
    if path is None:
        return None
    if path.is_file() and path.suffix in ORIGINAL_SUFFIXES:
        return Checkpoint(name, path)
    if not path.is_dir():
        raise ModelError(
            f"{name} is a file; a model is a checkpoint folder, a hub id, {BUNDLED!r} or a "
            f"{' or '.join(ORIGINAL_SUFFIXES)} file of X-CLIP's authors"
        )
    if not (path / CONFIG_NAME).is_file():
        raise ModelError(f"{name} is not a checkpoint folder: it has no config.json")
    find_weight_files(path)
    return Checkpoint(name, path)


def hub_name(name: str, revision: str | None = None) -> tuple[str, str | None]:
    """A hub id and its revision, from an id or a public checkpoint's short name, with or without @revision.

    Raises ModelError, with the nearest known names, for what can be neither.
    """
    name, _, pinned = name.partition("@")
    repo = full_name(name)
    if not _HUB_ID.fullmatch(repo) or repo.startswith("."):
        raise ModelError(
            f"there is no model {name!r}: {nearest(name)}give a checkpoint folder that exists, a hub id such as "
            f"{OPEN_LABELS_MODEL}, or {BUNDLED!r}"
        )
    return repo, revision or pinned or None


def find_folder(name: str, revision: str | None = None, access: HubAccess = USUAL_ACCESS) -> Path:
    """The folder to read a config, tokenizer or processor from: a local one may lack weights. Raises ModelError."""
    path = None if name == BUNDLED else _existing(name)
    if path is not None and path.is_dir():
        return path
    return find_checkpoint(name, revision, access=access).folder


def choose_model(name: str, texts: Iterable[str]) -> Choice:
    """``name``, or for ``auto`` the bundled model if it was trained on every word of ``texts``, else the checkpoint
    that X-CLIP's authors recommend for labels of one's own. Raises ModelError where the bundled model is missing."""
    if name != AUTO:
        return Choice(name)
    unknown = find_checkpoint(BUNDLED).unknown_words(texts)
    if not unknown:
        return Choice(BUNDLED, "it was trained on every word of the labels")
    return Choice(OPEN_LABELS_MODEL, f"the bundled model was not trained on {listed(unknown)}")


def _existing(name: str) -> Path | None:
    """``name`` as a path, if there is something there."""
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except ValueError:  # a NUL byte
        return None
    except (OSError, RuntimeError) as error:  # too long, no permission, or the home of nobody
        raise ModelError(f"cannot read {name}: {error}") from error
