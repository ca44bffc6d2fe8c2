"""Whether two checkouts of xclip write the same: records, tables, pictures, messages and exit codes, byte for byte.

python -m tests.compare_records BEFORE AFTER --videos FOLDER [--clips N] [--keep FOLDER] [--only WORDS]

Each case is a command line, run by both over clips of FOLDER with the bundled model. Only the seconds that things took
are left out. Resumed files and reports begin with what BEFORE wrote. --keep keeps what came out: BEFORE is then not run
again, and ``diff -r`` shows more than the first line that differs. Exit 1 where anything differs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from itertools import product, zip_longest
from pathlib import Path

MAX_BYTES = 1_000_000  # of a clip
FIXED = shlex.split("--model bundled --device cpu --dtype float32 --threads 1 --workers 2 --batch-size 4")
SHOWN = 100  # characters before and after the first that differs

NUMBER = rb"[\d.]+(?:e[+-]?\d+)?"
MASKS = [
    (rb'("(?:decode|model)": )' + NUMBER, rb"\1#"),  # seconds of a record
    (rb" in " + NUMBER + rb" s \(" + NUMBER + rb" [^)]*\)", b" in # s (#)"),  # of a run
    (rb"(at least |, )" + NUMBER + rb" s (a |in all)", rb"\1# s \2"),  # of a plan
    (rb"/[^\s()]*/cache-\w+", b"CACHE"),
]

COMMANDS = ("classify", "timeline")
ALL = {command: f"{command} --from-file all.txt --top-k 0 -o out.jsonl" for command in COMMANDS}
MIXED = "one.mp4 missing.mp4 text.mp4 empty odd https://example.com/a.mp4 ./one.mp4 few '' nested damaged.mp4"
EITHER = """
    few --top-k 0 --template 'it is {}.' --template video -v | few --labels limits.json --multi-label -f table |
    few --labels limits.json --labels camera -o out.jsonl | few --start 3 --views 2x3 --none-of-these -f csv |
    few --start 1 --end 00:00:02.5 --label 'a black screen' --preprocess paper --no-cache |
    one.mp4 damaged.mp4 --save-frames frames -f table | few --save-frames frames --views 2x3 -q |
    few --max-pixels 100000 | few --max-frames 20 | nested --recursive | --from-file null.txt -0 | -- -dash.mp4 |
    MIXED -o out.jsonl | MIXED --fail-fast | MIXED --dry-run --views 2x3 | missing.mp4 | --from-file missing.txt |
    one.mp4 --label 'a dog' --model auto | one.mp4 --label 'a dog' --model auto --dry-run |
    few -o out.mp4 | few -o text.mp4 -f json | few -o out.jsonl --resume | few -o out.jsonl --resume --force |
    few --start 3 --end 2 | few --start soon | few --views 2x2 | few --none-of-these --multi-label |
    few --labels nowhere | few --template 'no place' | few --retry-failed"""
OTHERS = """
    classify few --labels labels.csv --label 'color bars' --label 'a frozen picture' --threshold 0.5 |
    classify few --labels moving-shapes --top-k 1 | timeline few --window 3 --stride 1.5 --min-duration 1.5 -f table |
    timeline few --min-score 0.5 --min-duration 2 --top-k 1 -o out.jsonl | timeline few -f srt |
    timeline one.mp4 -o out.srt | timeline one.mp4 -o out.vtt --none-of-these |
    timeline one.mp4 --window 0 | timeline one.mp4 --stride 3 --window 2 |
    labels list | labels show picture-state | labels check limits.json --template video --model bundled |
    models list --json | models info bundled | models verify bundled |
    report missing.jsonl -o page.html | report all.txt -o page.html"""


def torn(results: bytes) -> bytes:
    """As a run leaves it that is killed while it writes a record."""
    return results[: results.index(b"\n", len(results) // 2) - 20]


def within(results: bytes) -> bytes:
    """Up to the middle of the video that has the most windows."""
    lines = results.splitlines(keepends=True)
    windows = defaultdict(list)
    for number, record in enumerate(map(json.loads, lines)):
        if record.get("kind") == "window":
            windows[record["video"]].append(number)
    longest = max(windows.values(), key=len)
    return b"".join(lines[: longest[len(longest) // 2]])


EDITS = {"whole": lambda results: results, "torn": torn, "within": within, "no": lambda results: b"a dog\n"}


@dataclass(frozen=True)
class Case:
    """A command line, run in a folder with the inputs, and with an out.jsonl where it begins with one."""

    line: str
    begin: str = ""  # the case whose out.jsonl it begins with, as BEFORE wrote it
    edit: str = "whole"  # what of that file

    @property
    def name(self) -> str:
        return self.line + (f"  [{self.edit} out.jsonl of: {self.begin}]" if self.begin else "")

    @property
    def arguments(self) -> list[str]:
        """With what a case need not say."""
        words = shlex.split(self.line)
        if words[0] not in COMMANDS:
            return words
        labels = [] if "--label" in self.line else ["--labels", "picture-state"]
        return [words[0], *labels, *(FIXED if "--model" not in words else []), *words[1:]]


def cases() -> Iterator[Case]:
    """All, those first that others begin with."""
    yield from map(Case, ALL.values())
    for command in COMMANDS:
        limit, views = ("--threshold", "4x3") if command == "classify" else ("--min-score", "2x3")
        for options in (f"--views {views}", "--none-of-these", f"--multi-label {limit} 0.5"):
            yield Case(f"{command} --from-file all.txt -o out.jsonl {options}")
        for form, suffix in {"table": "txt", "json": "json", "jsonl": "jsonl", "csv": "csv"}.items():
            plain = f"{command} few -f {form}"
            yield from map(Case, (plain, f"{plain} --none-of-these --views 4x1 {limit} 0.2"))
            yield Case(f"{command} few odd missing.mp4 --multi-label {limit} 0.9 -o out.{suffix}")
        yield Case(f"{command} few odd missing.mp4 -f table -q")  # in colours
        for line in map(str.strip, EITHER.split("|")):
            yield Case(f"{command} {line.replace('MIXED', MIXED)}")
    for form, inputs in product(("srt", "vtt"), ("one.mp4 --min-score 0.8", "damaged.mp4", "missing.mp4")):
        yield Case(f"timeline {inputs} -f {form}")
    yield from map(Case, map(str.strip, OTHERS.split("|")))
    yield from begun()


def begun() -> Iterator[Case]:
    """Runs that go on with a file of BEFORE's, or would replace it, and reports of it."""
    for line, edit in product(ALL.values(), EDITS):
        if edit != "within" or line == ALL["timeline"]:
            yield Case(f"{line} --resume", line, edit)
            yield Case(f"{line} --resume --retry-failed", line, edit)
            yield Case("report out.jsonl -o page.html", line, edit)
    for line, other in zip(ALL.values(), reversed(ALL.values()), strict=True):
        yield Case(f"{line} --resume --views 2x3 --start 1", line)
        yield Case(f"{line} --resume", other)
        yield Case(line, line)
        yield Case(f"{line.replace('--from-file all.txt', 'few')} --force", line)
    yield Case("report out.jsonl -o page.html --thumbnails 9 --root videos -q", ALL["timeline"])
    yield Case("report out.jsonl -o page.html", f"timeline {MIXED} -o out.jsonl")


def choose(folder: Path, count: int) -> list[Path]:
    """Small clips of every suffix by turns, with those that are empty, encrypted or hardly more than a header."""
    kinds = defaultdict(list)
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            data = path.read_bytes()
            kind = "encrypted" if b"encv" in data else "tiny" if 0 < len(data) < 1000 else path.suffix.lower()
            kinds[kind if data else "empty"].append(path)
    for paths in kinds.values():
        paths.sort(key=lambda path: sha256(os.fsencode(path.relative_to(folder))).digest())
    turns = zip_longest(*(kinds[kind] for kind in sorted(kinds)))
    return sorted([path for turn in turns for path in turn if path][:count])


def write_inputs(folder: Path, clips: list[Path]) -> None:
    """What all cases are run beside; ``write_few`` adds the rest."""
    for name in ("videos", "empty", "few", "odd", "nested/below"):
        (folder / name).mkdir(parents=True)
    names = [f"videos/{number:02d}-{clip.name}" for number, clip in enumerate(clips)]
    for clip, name in zip(clips, names, strict=True):
        shutil.copyfile(clip, folder / name)
    (folder / "all.txt").write_text("\n".join(names))
    (folder / "null.txt").write_bytes("\0".join(names[::6]).encode())
    (folder / "text.mp4").write_text("no video\n")
    (folder / "labels.csv").write_text('id,name\n0,a black screen\n1,"a white screen"\n1,a black screen\n')
    dark = {"texts": ["a black screen", "a white screen"], "min_logit": 0.5}
    (folder / "limits.json").write_text(json.dumps({"dark": dark, "a normal picture": {"min_logit": 3}}))


def write_few(folder: Path, results: Path) -> None:
    """Some clips of some seconds, some that cannot be decoded, as the ``results`` of all say, and damaged ones."""
    records = [json.loads(line) for line in results.read_text().splitlines()[1:]]
    failed = [record["video"] for record in records if record["status"] != "ok"]
    good = [record for record in records if record["status"] == "ok" and not record["frames"]["repeated"]]
    some = [record["video"] for record in good if 3 <= record["end_seconds"] - record["start_seconds"] <= 12]
    for video in (*some[:: max(1, len(some) // 4)], *failed[:: max(1, len(failed) // 2)]):
        shutil.copyfile(folder / video, folder / "few" / Path(video).with_suffix(".mkv").name)
    one = next(folder / video for video in some if video.endswith(".mp4"))
    odd = (b"=1+1,\r\n.mp4", b"\x1b[31mred.mp4", b"\xff.mp4", "ü 🎬.mp4".encode())
    for name in (b"one.mp4", b"-dash.mp4", b"nested/a.mp4", b"nested/below/b.mp4", *(b"odd/" + name for name in odd)):
        shutil.copyfile(one, os.path.join(os.fsencode(folder), name))
    data = one.read_bytes()
    first, last = len(data) // 3, len(data) * 3 // 4
    for name in ("damaged.mp4", "few/damaged.mkv"):
        (folder / name).write_bytes(data[:first] + random.Random(0).randbytes(last - first) + data[last:])


class Checkout:
    """A checkout's program, and the folder of what it wrote."""

    def __init__(self, root: Path, made: Path, work: Path) -> None:
        self.root, self.made, self.work = root.resolve(), made, work
        project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
        module, function = project["scripts"]["xclip"].split(":")
        self.program = f"import sys; from {module} import {function}; sys.argv[0] = 'xclip'; {function}()"
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("XCLIP_", "HF_"))}
        self.environment |= {"PYTHONPATH": str(self.root), "PYTHONUTF8": "1", "COLUMNS": "80", "HF_HUB_OFFLINE": "1"}
        self.environment |= {key: tempfile.mkdtemp(prefix="cache-", dir=work) for key in ("XCLIP_CACHE", "HF_HOME")}
        found = self.python(work, "import xclip_cli; print(xclip_cli.__file__)").stdout.decode()
        if self.root not in Path(found).parents:
            sys.exit(f"{root}: its program would be that of {found}")

    def python(self, folder: Path, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
        command, env = [sys.executable, "-P", "-c", *words], {**self.environment, **more}
        return subprocess.run(command, cwd=folder, env=env, stdin=subprocess.DEVNULL, capture_output=True)

    def folder(self, case: Case) -> Path:
        return self.made / (re.sub(r"[^\w.=-]+", "_", case.name)[:60] + sha256(case.name.encode()).hexdigest()[:6])

    def run(self, case: Case, results: bytes) -> None:
        """Run a case beside the inputs and keep all that it wrote; unless the same was kept before."""
        kept = self.folder(case)
        files = sorted(path for path in (self.work / "inputs").rglob("*") if path.is_file())
        given = b"".join([results, *(os.fsencode(path.name) + path.read_bytes() for path in files)])
        made_of = json.dumps([str(self.root), case.arguments, sha256(given).hexdigest()])
        if (kept / "case.json").exists() and (kept / "case.json").read_text() == made_of:
            return
        shutil.rmtree(kept, ignore_errors=True)
        folder = self.work / "here"
        folder.mkdir()
        for path in (self.work / "inputs").iterdir():
            (folder / path.name).symlink_to(path)
        if case.begin:
            (folder / "out.jsonl").write_bytes(results)
        colours = {"FORCE_COLOR": "1", "TERM": "xterm-256color"} if case.line.endswith("-f table -q") else {}
        ended = self.python(folder, self.program, *case.arguments, **colours)
        for path in [path for path in folder.iterdir() if path.is_symlink()]:
            path.unlink()
        shutil.move(folder, kept)
        for name, data in (("exit", b"%d" % ended.returncode), ("stdout", ended.stdout), ("stderr", ended.stderr)):
            (kept / name).write_bytes(data)
        (kept / "case.json").write_text(made_of)

    def wrote(self, case: Case) -> dict[str, bytes]:
        """All files of a case by name, without what differs from run to run."""
        folder, masks = self.folder(case), [*MASKS, (re.escape(os.fsencode(self.root)), b"CHECKOUT")]
        paths = [path for path in folder.rglob("*") if path.is_file()]
        found = {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.name != "case.json"}
        for name, (mask, instead) in product([name for name in found if not name.endswith(".png")], masks):
            found[name] = re.sub(mask, instead, found[name])
        return found


def differences(before: dict[str, bytes], after: dict[str, bytes]) -> Iterator[str]:
    """The first line that differs of each file."""
    for name in sorted(before.keys() | after.keys()):
        if name not in before or name not in after:
            yield f"{name}: only {'AFTER' if name in after else 'BEFORE'} writes it"
        elif before[name] != after[name]:
            lines = zip_longest(before[name].split(b"\n"), after[name].split(b"\n"), fillvalue=b"(no line)")
            number, (first, second) = next((n, pair) for n, pair in enumerate(lines, start=1) if pair[0] != pair[1])
            same = next((i for i, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
            at = max(0, same - SHOWN)
            yield f"{name}, line {number}, from byte {at}:"
            yield from (f"  {line[at : at + 2 * SHOWN]!r}" for line in (first, second))


def compare(before: Checkout, after: Checkout, clips: list[Path], only: str) -> int:
    """Run all cases in both, say of each whether they differ → how many do."""
    write_inputs(before.work / "inputs", clips)
    needed = {next(cases()).name} | {case.begin for case in cases() if only in case.name}
    differing, wanted = 0, [case for case in cases() if only in case.name or case.name in needed]
    for number, case in enumerate(wanted):
        began = time.monotonic()
        results = EDITS[case.edit]((before.folder(Case(case.begin)) / "out.jsonl").read_bytes()) if case.begin else b""
        before.run(case, results)
        if not number:
            write_few(before.work / "inputs", before.folder(case) / "out.jsonl")
        after.run(case, results)
        found = list(differences(before.wrote(case), after.wrote(case)))
        outcome = f"{'DIFFERS' if found else 'ok     '} {time.monotonic() - began:5.1f} s  {case.name}"
        print(outcome, *found, sep="\n        ", flush=True)
        differing += bool(found)
    print(f"{len(wanted) - differing} of {len(wanted)} cases are the same, {differing} differ")
    return differing


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compare_records", description=__doc__)
    parser.add_argument("checkouts", metavar="CHECKOUT", type=Path, nargs=2, help="before and after")
    parser.add_argument("--videos", type=Path, required=True, help="a folder of clips")
    parser.add_argument("--clips", type=int, default=60)
    parser.add_argument("--keep", type=Path, help="a folder for what came out")
    parser.add_argument("--only", default="", help="only the cases whose command lines have these words")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        keep = (given.keep or Path(name, "made")).resolve()
        shutil.rmtree(keep / "after", ignore_errors=True)
        before, after = map(Checkout, given.checkouts, (keep / "before", keep / "after"), [Path(name)] * 2)
        sys.exit(bool(compare(before, after, choose(given.videos, given.clips), given.only)))


if __name__ == "__main__":
    main()
