"""One small dataset in every form that datasets come in, with the quirks of the real ones."""

from __future__ import annotations

import csv
import io
import json
import shutil
from pathlib import Path

# A video's name without suffix, and its class; as in HMDB-51 and Kinetics, names have blanks, signs and leading dashes.
CLASSES = ("brush hair", "ride bike", "shake hands")
VIDEOS = {
    "April_09_brush_hair_u_nm_np1_ba_goo_0": "brush hair",
    "Brushing my hair, again (2)_brush_hair_h_nm_np1": "brush hair",
    "#437_How_To_Ride_A_Bike_ride_bike_f_cm_np1": "ride bike",
    "-x8Ar9 _qk 3": "ride bike",
    "Veoh_Alpha_Dog_1_shake_hands_u_nm_np1_ri_med_25": "shake hands",
    "hände schütteln": "shake hands",
}


def camel(name: str) -> str:
    return "".join(word.capitalize() for word in name.split())


def snake(name: str) -> str:
    return name.replace(" ", "_")


def write_text(path: Path, lines: list[str], end: str = "\n") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def write_csv(path: Path, header: str, rows: list[tuple[str, ...]]) -> Path:
    text = io.StringIO()
    csv.writer(text).writerows([tuple(header.split(",")), *rows])
    return write_text(path, text.getvalue().splitlines())


def spread(folder: Path, clip: Path, place: dict[str, str]) -> Path:
    """The dataset's videos, copies of one clip, each at its place below the folder."""
    for where in place.values():
        (folder / where).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(clip, folder / where)
    return folder


def plain_csv(folder: Path) -> Path:
    rows = [(f"{snake(label)}/{name}.avi", label) for name, label in VIDEOS.items()]
    return write_csv(folder / "truth.csv", "path,label", rows)


def json_lines(folder: Path) -> Path:
    rows = [json.dumps({"file_name": f"{name}.avi", "label": snake(label)}) for name, label in VIDEOS.items()]
    return write_text(folder / "truth.jsonl", rows)


def videox(folder: Path) -> Path:
    """A list of paths with blanks and numbers, and an `id,name` file beside it; lines end as on Windows."""
    write_csv(folder / "labels.csv", "id,name", [(str(i), name) for i, name in enumerate(CLASSES)])
    rows = [f"{snake(label)}/{name}.avi {CLASSES.index(label)}" for name, label in VIDEOS.items()]
    return write_text(folder / "val.txt", rows, "\r\n")


def mmaction(folder: Path) -> Path:
    write_text(folder / "label_map_hmdb.txt", [snake(name) for name in CLASSES])
    rows = [f"{snake(label)}/{name}.avi {CLASSES.index(label)}" for name, label in VIDEOS.items()]
    return write_text(folder / "val_list_videos.txt", rows)


def ucf(folder: Path) -> Path:
    """Two splits for testing: the class is the folder, and lists for training count from 1."""
    write_text(folder / "classInd.txt", [f"{i} {camel(name)}" for i, name in enumerate(CLASSES, start=1)], "\r\n")
    names = list(VIDEOS.items())
    for number, tested in ((1, names[::2]), (2, names[1::2])):
        lines = [f"{camel(label)}/{name}.avi" for name, label in tested]
        write_text(folder / f"testlist0{number}.txt", lines, "\r\n")
        trained = [f"{camel(a)}/{n}.avi {CLASSES.index(a) + 1}" for n, a in names if (n, a) not in tested]
        write_text(folder / f"trainlist0{number}.txt", trained)
    return folder


def hmdb(folder: Path) -> Path:
    """A list a class and split; each line ends with a blank. 0 is unused, 1 for training, 2 for testing."""
    names = list(VIDEOS.items())
    for number, tested in ((1, names[::2]), (2, names[1::2])):
        for label in CLASSES:
            lines = [f"{n}.avi {2 if (n, a) in tested else 1} " for n, a in names if a == label]
            write_text(folder / f"{snake(label)}_test_split{number}.txt", [*lines, f"unused {label}.avi 0 "])
    return folder


def kinetics(folder: Path) -> Path:
    rows = [(label, name, "7", "17", "val") for name, label in VIDEOS.items()]
    return write_csv(folder / "val.csv", "label,youtube_id,time_start,time_end,split", rows)


BARE_PLACES = {name: f"{snake(label)}/{name}.mp4" for name, label in VIDEOS.items()}
KINETICS_PLACES = {name: f"{snake(label)}/{name}_000007_000017.mp4" for name, label in VIDEOS.items()}
PLACES = {name: f"{snake(label)}/{name}.avi" for name, label in VIDEOS.items()}
CAMEL_PLACES = {name: f"{camel(label)}/{name}.avi" for name, label in VIDEOS.items()}

FORMS = {
    "csv": (plain_csv, PLACES),
    "jsonl": (json_lines, PLACES),
    "videox": (videox, PLACES),
    "mmaction2": (mmaction, PLACES),
    "ucf": (ucf, CAMEL_PLACES),
    "hmdb": (hmdb, PLACES),
    "kinetics": (kinetics, KINETICS_PLACES),
    "kinetics without times": (kinetics, BARE_PLACES),
}
