"""The forms that a dataset's labels come in, each recognised by its shape, → Truth."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import LabelsError
from ..inputs import expand_inputs
from ..labels import read_text
from ..text import listed, quoted
from .truth import ONLY_SPLIT, SPLITS, Collector, Truth

PATH_FIELDS = ("path", "file_name", "filename", "video", "file")
LABEL_FIELDS = ("label", "labels", "class", "class_name")
KINETICS_FIELDS = ("youtube_id", "time_start", "time_end")
CLASS_INDEX = "classInd.txt"  # of UCF-101
MOST_DIGITS = 9  # of a class's number
METADATA = ("metadata.csv", "metadata.jsonl")

_UCF_LIST = re.compile(r"(train|test)list0?(\d{1,9})\.txt")
_HMDB_LIST = re.compile(r"(.+)_test_split(\d{1,9})\.txt")
_HMDB_SPLITS = {"1": "train", "2": "test"}  # 0: the video is in neither

Row = tuple[str, dict[str, Any]]  # where it is, and its fields


def read_truth(path: Path, classes: Sequence[str] = ()) -> Truth:
    """The truth at a path; ``classes`` are what numbers mean where no file says so. Raises LabelsError."""
    if path.is_dir():
        return _read_folder(path)
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return _read_csv(path, classes)
    if suffix in (".jsonl", ".ndjson", ".json"):
        return _from_rows(path, _json_rows(path), "JSON Lines", classes)
    if _UCF_LIST.fullmatch(path.name):
        return _read_ucf(path.parent, [path])
    if _HMDB_LIST.fullmatch(path.name):
        raise LabelsError(f"{path} is one class of HMDB-51: give the folder of all its lists, {path.parent}")
    return _read_numbers(path, classes)


def _read_folder(folder: Path) -> Truth:
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise LabelsError(f"cannot read the ground truth {folder}: {error.strerror}") from error
    if ucf := [file for file in files if _UCF_LIST.fullmatch(file.name)]:
        return _read_ucf(folder, ucf)
    if hmdb := [file for file in files if _HMDB_LIST.fullmatch(file.name)]:
        return _read_hmdb(folder, hmdb)
    metadata = [place / name for place in (folder, *filter(Path.is_dir, files)) for name in METADATA]
    if found := [file for file in metadata if file.is_file()]:
        return _read_metadata(folder, found)
    return _read_class_folders(folder)


def _read_class_folders(folder: Path) -> Truth:
    collector, stray = Collector(f"{folder}, a folder per class"), list[str]()
    found = [item for item in expand_inputs([str(folder)], recursive=True).items if isinstance(item, str)]
    parts = {video: Path(video).relative_to(folder).parts for video in found}
    firsts = {each[0] for each in parts.values()}
    has_splits = bool(firsts) and all(name.lower() in SPLITS for name in firsts)
    for video, each in parts.items():
        split, rest = (each[0], each[1:]) if has_splits else (ONLY_SPLIT, each)
        if len(rest) < 2:
            stray.append(video)
        else:
            collector.add(video, str(Path(*each)), (rest[0],), split)
    if stray:
        raise LabelsError(
            f"{len(stray)} videos of {folder} are not in a class folder, such as {quoted(stray[0])}: move them into "
            "one, or pass --truth FILE"
        )
    return collector.truth()


def _read_ucf(folder: Path, lists: Sequence[Path]) -> Truth:
    """``testlist0N.txt`` has paths, whose folder is the class; ``trainlist0N.txt`` has numbers behind them, too."""
    classes = _numbered_names(folder / CLASS_INDEX) if (folder / CLASS_INDEX).is_file() else {}
    collector = Collector(f"UCF-101's lists in {folder}", list(classes.values()))
    for path in lists:
        kind, number = _UCF_LIST.fullmatch(path.name).groups()  # type: ignore[union-attr]
        for where, line in _lines(path):
            video, label = line, None
            if kind == "train":
                video, label = _split_number(where, line, classes)
            label = label or video.replace("\\", "/").rpartition("/")[0].rpartition("/")[2]
            if not label or (classes and label not in classes.values()):
                raise LabelsError(f"{where}: the folder of {quoted(line)} is not a class in {CLASS_INDEX}")
            collector.add(where, video, (label,), f"{kind}{int(number)}")
    return collector.truth()


def _read_hmdb(folder: Path, lists: Sequence[Path]) -> Truth:
    collector = Collector(f"HMDB-51's lists in {folder}")
    for path in lists:
        label, number = _HMDB_LIST.fullmatch(path.name).groups()  # type: ignore[union-attr]
        for where, line in _lines(path):
            video, blank, kind = line.rpartition(" ")
            if not blank or kind not in ("0", "1", "2"):
                raise LabelsError(f"{where}: expected a file name and 0, 1 (train) or 2 (test), got {quoted(line)}")
            if kind in _HMDB_SPLITS:
                collector.add(where, video.strip(), (label,), f"{_HMDB_SPLITS[kind]}{number}")
    return collector.truth()


def _read_metadata(folder: Path, files: Sequence[Path]) -> Truth:
    collector = None
    for path in files:
        rows = _csv_rows(path) if path.suffix == ".csv" else _json_rows(path)
        below = path.parent.relative_to(folder)
        split = below.name if below.name.lower() in SPLITS else ONLY_SPLIT
        collector = _collect(rows, f"{listed([file.name for file in files])} in {folder}", (), below, split, collector)
    assert collector is not None
    return collector.truth()


def _read_csv(path: Path, classes: Sequence[str]) -> Truth:
    rows = list(_csv_rows(path))
    if rows and all(name in rows[0][1] for name in KINETICS_FIELDS):
        return _read_kinetics(path, rows)
    return _from_rows(path, rows, "CSV", classes)


def _read_kinetics(path: Path, rows: Iterable[Row]) -> Truth:
    collector = Collector(f"{path}, a CSV of Kinetics")
    collector.timed = True
    for where, row in rows:
        label, name = row.get("label", ""), row["youtube_id"]
        try:
            start, end = (round(float(row[key])) for key in ("time_start", "time_end"))
        except (ValueError, OverflowError) as error:
            raise LabelsError(f"{where}: time_start and time_end must be seconds") from error
        if not label or not name:
            raise LabelsError(
                f"{where}: the label or the youtube_id is missing (lists of test sets may have no labels)"
            )
        collector.add(where, f"{name}_{start:06d}_{end:06d}", (label,), row.get("split", ""))
    return collector.truth()


def _from_rows(path: Path, rows: Iterable[Row], kind: str, classes: Sequence[str]) -> Truth:
    return _collect(rows, f"{path}, {kind} of paths and labels", classes).truth()


def _collect(
    rows: Iterable[Row],
    form: str,
    classes: Sequence[str],
    below: Path = Path(),
    split: str = ONLY_SPLIT,
    collector: Collector | None = None,
) -> Collector:
    for where, row in rows:
        path_field = next((name for name in PATH_FIELDS if name in row), None)
        label_field = next((name for name in LABEL_FIELDS if name in row), None)
        if path_field is None or label_field is None:
            raise LabelsError(
                f"{where}: expected a field {listed(PATH_FIELDS[:2])} (or {listed(PATH_FIELDS[2:])}) and a field "
                f"{listed(LABEL_FIELDS[:2])}, got {listed(list(row), 8, quoted)}"
            )
        video, given = row[path_field], row[label_field]
        several = isinstance(given, list) or label_field == "labels"
        if collector is None:
            collector = Collector(form, classes if isinstance(given, int) else ())
        collector.several = collector.several or several
        if isinstance(given, str) and several:
            given = [part.strip() for part in re.split(r"[;|]", given) if part.strip()]
        labels = tuple(_named(where, each, classes) for each in (given if isinstance(given, list) else [given]))
        if not isinstance(video, str) or not video or (not labels and not several):
            raise LabelsError(f"{where}: the path or the label is empty")
        collector.add(where, str(below / video), labels, str(row.get("split") or split))
    return collector or Collector(form)


def _named(where: str, label: object, classes: Sequence[str]) -> str:
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(classes):
        return classes[label]
    if not isinstance(label, str) or not label.strip():
        raise LabelsError(f"{where}: {quoted(label)} is not a label")
    return label.strip()


def _read_numbers(path: Path, classes: Sequence[str]) -> Truth:
    """Lines of ``path number``: paths may have blanks, the number is behind the last one."""
    beside = _names_beside(path)
    if len(beside) > 1:
        raise LabelsError(f"{listed([str(b) for b in beside])} could each name the classes of {path}: keep one")
    names = _numbered_names(beside[0]) if beside else dict(enumerate(classes))
    if not names:
        raise LabelsError(
            f"{path} is a list with class numbers, but no file next to it names them (`id,name`, label_map*.txt, "
            f"{CLASS_INDEX}): add one, or pass --labels with the labels in the order of their numbers"
        )
    source = f"names from {beside[0].name}" if beside else "numbers count the labels"
    collector = Collector(f"{path}, a list of paths and numbers ({source})", list(names.values()))
    for where, line in _lines(path):
        video, label = _split_number(where, line, names)
        collector.add(where, video, (label,))
    return collector.truth()


def _names_beside(path: Path) -> list[Path]:
    """Files that say what the numbers of a list mean."""
    tables = [file for file in sorted(path.parent.glob("*.csv")) if _header(file)[:2] == ["id", "name"]]
    others = [*sorted(path.parent.glob("label_map*.txt")), path.parent / CLASS_INDEX]
    return tables or [file for file in others if file.is_file() and file != path][:1]


def _header(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return [name.strip().lower() for name in file.readline(1000).decode("utf-8-sig").split(",")]
    except (OSError, ValueError):
        return []


def _numbered_names(path: Path) -> dict[int, str]:
    """``id,name`` rows, ``number name`` lines, or a name a line, counted from 0."""
    if path.suffix.lower() == ".csv":
        pairs = [(where, row["id"], row["name"]) for where, row in _csv_rows(path)]
    elif path.name == CLASS_INDEX:
        pairs = [(where, *line.split(" ", 1)) for where, line in _lines(path) if " " in line]  # type: ignore[misc]
    else:
        pairs = [(where, str(i), line) for i, (where, line) in enumerate(_lines(path))]
    names: dict[int, str] = {}
    for where, number, name in pairs:
        if not _is_number(number.strip()) or int(number) in names or not name.strip():
            raise LabelsError(f"{where}: expected a number that no other line has, and a name")
        names[int(number)] = name.strip()
    return names


def _is_number(text: str) -> bool:
    """Of a class; Python refuses to read some thousand digits."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


def _split_number(where: str, line: str, names: dict[int, str]) -> tuple[str, str]:
    video, _, number = line.replace("\t", " ").rpartition(" ")
    if not video or not _is_number(number):
        raise LabelsError(f"{where}: expected a path and a number, got {quoted(line)}")
    if int(number) not in names:
        raise LabelsError(f"{where}: the class {number} has no name; there are {len(names)} names")
    return video.strip(), names[int(number)]


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(re.split(r"\r\n|\r|\n", read_text(path)), start=1):
        if line.strip():
            yield f"{path}:{number}", line.strip()


def _csv_rows(path: Path) -> Iterator[Row]:
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        for row in reader:
            if not row:
                continue
            if len(row) != len(header):
                raise LabelsError(f"{path}:{reader.line_num}: has {len(row)} fields, but its header has {len(header)}")
            yield f"{path}:{reader.line_num}", dict(zip(header, map(str.strip, row), strict=True))
    except csv.Error as error:
        raise LabelsError(f"{path}:{reader.line_num}: {error}") from error


def _json_rows(path: Path) -> Iterator[Row]:
    for where, line in _lines(path):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise LabelsError(f"{where}: not JSON: {error} (expected JSON Lines, one object per line)") from error
        if not isinstance(row, dict):
            raise LabelsError(f"{where}: must be an object with a path and a label")
        yield where, row
