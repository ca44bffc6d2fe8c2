"""Truth: which labels are right for the videos of a dataset, from the forms that datasets come in.

The form is recognised by its shape: a folder per class (perhaps in folders of splits), ``metadata.csv|jsonl``
in a folder, CSV and JSON Lines with a path and a label, lists of ``path number`` with a file of class names, the lists
of UCF-101 and HMDB-51, and the CSV files of Kinetics. Whatever is wrong is a LabelsError that names file and line.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

from ..errors import LabelsError
from ..inputs import VIDEO_SUFFIXES
from ..text import listed, quoted

ONLY_SPLIT = ""  # of a dataset that has no splits
TESTED = (
    "test",
    "testing",
    "val",
    "valid",
    "validate",
    "validation",
)  # which splits are evaluated, where none is named
TRAINED = ("train", "training")  # and which are learned from
SPLITS = (*TRAINED, *TESTED)

_TIMES = re.compile(r"_\d{6}_\d{6}\Z")  # of Kinetics' names
_NEW_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
_NOT_A_LETTER = re.compile(r"[\W_]+")


def class_key(name: str) -> str:
    """What is the same in all spellings of a class: ``ApplyEyeMakeup``, ``apply_eye_makeup``, ``apply eye makeup``."""
    plain = unicodedata.normalize("NFC", name).casefold()
    return _NOT_A_LETTER.sub("", plain) or plain


def spoken(name: str) -> str:
    """A class's name as a text for the model: ``apply_eye_makeup`` and ``ApplyEyeMakeup`` with blanks."""
    words = name.replace("_", " ")
    return words if " " in words or not words[:1].isupper() else _NEW_WORD.sub(" ", words)


class Names:
    """Labels by any spelling: as they are, else by ``class_key`` if that is one label's alone."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(names)
        self._exact = {name: i for i, name in enumerate(self.names)}
        self._by_key: dict[str, int | None] = {}
        for i, name in enumerate(self.names):
            key = class_key(name)
            self._by_key[key] = None if key in self._by_key else i

    def find(self, name: str) -> int | None:
        """The number of a label; None if there is none, or more than one."""
        found = self._exact.get(name)
        return self._by_key.get(class_key(name)) if found is None else found


@dataclass(frozen=True)
class Truth:
    """The right labels of a dataset's videos."""

    classes: tuple[str, ...]
    videos: Mapping[str, tuple[str, ...]]  # a path, or the end of one, or a name without suffix → its labels
    form: str = "labels given"  # what it was recognised as
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # videos of each; empty: there are none
    repeated: tuple[str, ...] = ()  # videos listed more than once, with the same label
    several: bool = False  # whether a video may have several labels
    timed: bool = False  # whether names are those of Kinetics, id_start_end, of which files may have the id alone

    @classmethod
    def of(cls, labels: Mapping[str, str | Iterable[str]]) -> Self:
        """Build from one label, or several, per video."""
        videos = {path: (given,) if isinstance(given, str) else tuple(given) for path, given in labels.items()}
        several = any(not isinstance(given, str) for given in labels.values())
        return cls(_in_order(videos.values()), videos, several=several)

    def split_names(self, wanted: Sequence[str] = (), usual: Sequence[str] = TESTED) -> tuple[str, ...]:
        """The splits that are looked at: those ``wanted``, else the first ``usual`` kind, else all. Raises
        LabelsError."""
        if not self.splits:
            if wanted:
                raise LabelsError(f"there is no split {quoted(wanted[0])}: the ground truth has no splits")
            return (ONLY_SPLIT,)
        for name in wanted:
            if name not in self.splits:
                raise LabelsError(
                    f"there is no split {quoted(name)}: the ground truth has {listed(list(self.splits), 20)}"
                )
        if wanted:
            return tuple(dict.fromkeys(wanted))
        for kind in usual:
            if found := [name for name in self.splits if re.fullmatch(rf"{kind}\d*", name.lower())]:
                return tuple(found)
        return tuple(self.splits)

    def only(self, names: Sequence[str]) -> Truth:
        """The truth of these splits alone."""
        if not self.splits:
            return self
        splits = {name: self.splits[name] for name in names}
        videos = {video: self.videos[video] for split in splits.values() for video in split}
        return replace(self, splits=splits, videos=videos)

    def among(self, labels: Iterable[str]) -> Truth:
        """The truth without the videos that have other labels."""
        names = Names(labels)
        videos = {v: right for v, right in self.videos.items() if all(names.find(name) is not None for name in right)}
        splits = {name: tuple(v for v in split if v in videos) for name, split in self.splits.items()}
        return replace(self, classes=_in_order(videos.values()), videos=videos, splits=splits)

    def find(self, path: str) -> str | None:
        """Which of ``videos`` is at a path: the one whose name is the end of it, or the other way round.

        None if it is none of them. Raises LabelsError if it may be several.
        """
        parts = parts_of(path)
        found: list[tuple[int, str]] = []
        stem = _stem(parts[-1])
        places = [self._by_name.get(name, ()) for name in dict.fromkeys((parts[-1], stem))]
        for place in (*places, self._by_id.get(stem, ())):
            for theirs, video in place:
                shared = min(len(theirs), len(parts)) - 1
                if not shared or theirs[-shared - 1 : -1] == parts[-shared - 1 : -1]:
                    found.append((shared, video))
            if found:
                break
        best = [video for shared, video in found if shared == max(found)[0]]
        if len(best) > 1:
            raise LabelsError(
                f"{quoted(path)} could be {listed([quoted(b) for b in best], 3)} of the ground truth: give more of the "
                "path"
            )
        return best[0] if best else None

    @cached_property
    def _by_name(self) -> dict[str, list[tuple[tuple[str, ...], str]]]:
        names: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for video in self.videos:
            parts = parts_of(video)
            names.setdefault(parts[-1], []).append((parts, video))
        return names

    @cached_property
    def _by_id(self) -> dict[str, list[tuple[tuple[str, ...], str]]]:
        ids: dict[str, list[tuple[tuple[str, ...], str]]] = {}
        for video in self.videos if self.timed else ():
            ids.setdefault(_TIMES.sub("", video), []).append(((video,), video))
        return ids

    def check_labels(self, labels: Iterable[str]) -> None:
        """Raises LabelsError for classes that are none of the ``labels``: no answer could be right."""
        names, used = Names(labels), _in_order(self.videos.values())
        if unknown := [name for name in used if names.find(name) is None]:
            lost = set(unknown)
            videos = sum(not lost.isdisjoint(right) for right in self.videos.values())
            raise LabelsError(
                f"{len(unknown)} labels of the ground truth ({videos} videos) are not among the labels: "
                f"{listed(unknown, 10, quoted)}"
            )


def parts_of(path: str) -> tuple[str, ...]:
    """A path's folders and name."""
    return tuple(part for part in os.path.normpath(path).split("/") if part not in ("", ".", "..")) or ("",)


def _stem(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return stem if dot and f".{suffix.lower()}" in VIDEO_SUFFIXES else name


def _in_order(labels: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(label for each in labels for label in each))


class Collector:
    """Gathers the videos of a truth as they are read. ``form``: what it is."""

    def __init__(self, form: str, classes: Sequence[str] = ()) -> None:
        self.several = False  # whether a video may have several labels
        self.timed = False  # whether names are those of Kinetics
        self._form, self._classes = form, tuple(classes)
        self._videos: dict[str, tuple[str, ...]] = {}
        self._splits: dict[str, dict[str, None]] = {}
        self._repeated: list[str] = []

    def add(self, where: str, video: str, labels: tuple[str, ...], split: str = ONLY_SPLIT) -> None:
        """The next video. Raises LabelsError, that says ``where``, for one that has another label already."""
        known = self._videos.setdefault(video, labels)
        if known != labels:
            raise LabelsError(
                f"{where}: {quoted(video)} is {listed(labels, show=quoted)} here, but {listed(known, show=quoted)} "
                "before: list each video once (put several labels into one `labels` field)"
            )
        of_split = self._splits.setdefault(split, {})
        if video in of_split:
            self._repeated.append(video)
        of_split[video] = None

    def truth(self) -> Truth:
        """All of it. Raises LabelsError if that is nothing."""
        if not self._videos:
            raise LabelsError(f"there are no videos in {self._form}")
        splits = {name: tuple(videos) for name, videos in sorted(self._splits.items())}
        return Truth(
            self._classes or _in_order(self._videos.values()),
            self._videos,
            self._form,
            {} if list(splits) == [ONLY_SPLIT] else splits,
            tuple(self._repeated),
            self.several,
            self.timed,
        )
