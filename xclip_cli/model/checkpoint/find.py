"""A model's name → its checkpoint folder: bundled with the package, on disk, or in the hub's cache.

A checkpoint folder is the Hugging Face one: ``config.json``, weights, tokenizer files, ``preprocessor_config.json``.
Never imports torch.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from ...errors import ModelError
from ...text import listed, quoted
from . import hub
from .files import CONFIG_NAME, TEXT_NAMES, find_weight_files, header_bytes, read_text
from .hub import USUAL_ACCESS, HubAccess
from .public import OPEN_LABELS_MODEL, full_name, nearest, public_checkpoints

AUTO = "auto"  # the name that leaves the choice to the labels
BUNDLED = "bundled"
BUNDLED_FOLDER = Path(__file__).parent.parent.parent / "bundled" / "checkpoint"

PHRASES_NAME = "phrases.json"
MOST_PHRASES = 100_000  # of a family
ORIGINAL_SUFFIXES = (".pth", ".pt")  # of files of the authors' code

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WORD = re.compile(r"\w+")
_ARTICLES = {"a", "an", "the"}


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
            if target.parent.name == "blobs" and hub.is_in_cache(target):  # which names files by their hash
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
    def phrases(self) -> Phrases | None:
        """What the model was trained to tell apart, where the checkpoint says it. Raises ModelError."""
        path = self.folder / PHRASES_NAME
        return Phrases.read(path) if path.is_file() else None

    def why_a_guess(self, texts: Iterable[str]) -> str | None:
        """Why the model can only guess which of ``texts`` fits a video, as what it did; None where it was trained to
        tell them apart, or the checkpoint does not say. Raises ModelError."""
        return None if self.phrases is None else self.phrases.why_a_guess(texts)


@dataclass(frozen=True)
class Phrases:
    """The phrases that a model was trained to tell apart, by family: across families it never compared any."""

    families: dict[str, frozenset[str]]  # of bare words (see _bare)
    openings: tuple[str, ...]  # what templates put before a phrase, in bare words, the longest first

    @classmethod
    def read(cls, path: Path) -> Phrases:
        """From a file ``{"templates": ["a video of {}", …], "families": {name: {"patterns": ["a {} {}", …], "parts":
        [[…], […]]}, …}}``: a family's phrases are all choices of its parts in all its patterns. Raises ModelError."""
        try:
            values = json.loads(read_text(path))
            families = {
                name: frozenset(map(_bare, _spelled_out(family["patterns"], family["parts"])))
                for name, family in values["families"].items()
            }
            openings = {_bare(template.removesuffix("{}")) for template in values["templates"]} - {""}
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise ModelError(f"{path} does not list phrases: {type(error).__name__}: {error}") from error
        return cls(families, tuple(sorted(openings, key=len, reverse=True)))

    def why_a_guess(self, texts: Iterable[str]) -> str | None:
        """As `Checkpoint.why_a_guess`."""
        of = {text: self._families_of(text) for text in texts}
        strange = [text for text, families in of.items() if not families]
        if strange:
            return f"was not trained on {listed(strange, 2, quoted)}"
        if not frozenset(self.families).intersection(*of.values()):
            mixed = sorted(frozenset().union(*of.values()))
            return f"was not trained to tell labels of {listed(mixed)} from each other"
        return None

    def _families_of(self, text: str) -> frozenset[str]:
        bare = _bare(text)
        opening = next((opening for opening in self.openings if bare.startswith(f"{opening} ")), None)
        spoken = {bare, bare if opening is None else bare.removeprefix(f"{opening} ")}
        return frozenset(name for name, phrases in self.families.items() if not spoken.isdisjoint(phrases))


def _spelled_out(patterns: Sequence[str], parts: Sequence[Sequence[str]]) -> Iterator[str]:
    """Every choice of ``parts`` in every pattern. Raises ValueError."""
    if len(patterns) * math.prod(map(len, parts)) > MOST_PHRASES:
        raise ValueError(f"a family of more than {MOST_PHRASES} phrases")
    for pattern in patterns:
        between = pattern.split("{}")
        for chosen in itertools.product(*parts):
            yield "".join(itertools.chain(*zip(between, (*chosen, ""), strict=True)))


def _bare(text: str) -> str:
    """A phrase's words without case, articles and marks."""
    return " ".join(word for word in _WORD.findall(text.casefold()) if word not in _ARTICLES)


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
    """``name``, or for ``auto`` the bundled model if it was trained to tell ``texts`` apart, else the checkpoint that
    X-CLIP's authors recommend for labels of one's own. Raises ModelError where the bundled model is missing."""
    if name != AUTO:
        return Choice(name)
    why = find_checkpoint(BUNDLED).why_a_guess(texts)
    if why is None:
        return Choice(BUNDLED, "it was trained to tell these labels apart")
    return Choice(OPEN_LABELS_MODEL, f"the bundled model {why}")


def name_of(model: str | os.PathLike[str]) -> str:
    """A model's name. What is given as a path is one, whatever its name means otherwise."""
    name = os.fspath(model)
    taken = not isinstance(model, str) and (name == BUNDLED or _is_taken(name))
    return f"{os.curdir}{os.sep}{name}" if taken else name


def _is_taken(name: str) -> bool:
    return name == AUTO or full_name(name.partition("@")[0]) in public_checkpoints()


def _existing(name: str) -> Path | None:
    """``name`` as a path, if there is something there. The names that everybody's results are known by are never a
    path, whatever the current folder holds: ``./`` before one makes it a path."""
    if _is_taken(name):
        return None
    try:
        path = Path(name).expanduser()
        return path if path.exists() else None
    except ValueError:  # a NUL byte
        return None
    except (OSError, RuntimeError) as error:  # too long, no permission, or the home of nobody
        if isinstance(error, PermissionError) and _HUB_ID.fullmatch(name):
            return None  # the current folder may not be entered
        raise ModelError(f"cannot read {name}: {error}") from error
