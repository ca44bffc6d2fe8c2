"""Imports point one way: cli -> output, report, doctor, tasks -> engine, results, labels -> video, model."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import xclip_cli

PACKAGE = Path(xclip_cli.__file__).parent
# Plain data that crosses borders: importable from anywhere. It imports nothing above it.
VOCABULARY = [
    "__version__",
    "errors",
    "text",
    "segments",
    "results.records",
    "results.fields",
    "results.notebook",
    "video.sampling",
    "video.limits",
    "cores",
    "folders",
    "unfinished",
]
TASK = ["stored", "engine", "results", "labels", "model.checkpoint", "output.images"]
MAY_IMPORT: dict[str, list[str]] = {  # a room, and what it may import besides itself and the vocabulary
    "errors": [],
    "cores": [],
    "folders": [],
    "unfinished": [],
    "text": [],
    "segments": [],
    "labels": [],
    "inputs": ["results"],
    "video": [],
    "model": [],
    "engine": ["video", "model"],
    "results": [],
    "output": ["results"],
    "report": ["results", "video.pool", "output.images", "evaluation"],
    "stored": ["engine", "results"],
    "adaptation": [*TASK, "evaluation"],
    "classifier": [*TASK, "adaptation", "inputs", "timeline", "output.progress"],
    "classification": [*TASK, "classifier"],
    "cluster": ["results"],
    "timeline": [*TASK, "classifier", "output.subtitles"],  # the classifier for its type alone
    "embedding": TASK,
    "search": [*TASK, "classifier"],
    "scanning": ["results", "cluster", "search"],
    "precision": [*TASK, "classifier"],
    "evaluation": ["results", "labels", "inputs", "model.checkpoint.public"],
    "doctor": ["classifier", "engine", "labels", "model", "bundled", "video.pool"],
    "bundled": ["classifier", "model"],
    "cli": [
        *("labels", "inputs", "engine", "model", "results", "output", "report", "video.cutting"),
        *("classifier", "classification", "timeline", "embedding", "search", "scanning"),
        *("evaluation", "adaptation", "precision", "cluster", "doctor", "bundled"),
    ],
    "__init__": ["adaptation", "classifier", "engine.encoder", "labels", "model", "results.index", "timeline"],
    "__main__": ["cli"],
}


def modules() -> dict[str, Path]:
    """Every module by its name below the package, and its file."""
    paths = {path: path.relative_to(PACKAGE).with_suffix("").parts for path in sorted(PACKAGE.rglob("*.py"))}
    return {
        ".".join(parts if len(parts) == 1 else [p for p in parts if p != "__init__"]): p for p, parts in paths.items()
    }


def imports(path: Path, *, types: bool = True) -> Iterator[str]:
    """The package's own modules that a file imports, anywhere in it; without ``types`` less those for types alone."""
    package = ("xclip_cli", *path.relative_to(PACKAGE).parent.parts)
    tree = ast.parse(path.read_text("utf-8"))
    for_types = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if node in for_types and not types:
            continue
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names = [".".join([*base, *([node.module] if node.module else []), alias.name]) for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.removeprefix("xclip_cli.") for name in names if name.startswith("xclip_cli."))


def below(name: str, rooms: list[str]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


def test_every_module_has_its_room() -> None:
    assert {name for name in modules() if not below(name, list(MAY_IMPORT))} == set()
    assert [room for room in MAY_IMPORT if not any(below(name, [room]) for name in modules())] == []


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room: str) -> None:
    for name, path in modules().items():
        if below(name, [room]):
            assert [i for i in imports(path) if not below(i, [*MAY_IMPORT[room], *VOCABULARY, room])] == [], name


@pytest.mark.parametrize("name", [name for name in VOCABULARY if name != "__version__"])
def test_the_vocabulary_imports_nothing_above_it(name: str) -> None:
    path = modules()[name]
    assert [i for i in imports(path) if not below(i, VOCABULARY)] == []


def test_there_is_no_circle() -> None:
    known = modules()
    graph = {name: set(imports(path, types=False)) for name, path in known.items()}
    # ``from .room import name`` may name a module or what is in one
    owners = {
        name: {next((j for j in (i, i.rpartition(".")[0]) if j in known), "") for i in found} - {"", name}
        for name, found in graph.items()
    }
    TopologicalSorter(owners).prepare()


def run(*arguments: str) -> set[str]:
    """The modules that a command of xclip has imported in the end."""
    code = (
        "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        "from xclip_cli.cli.app import main; sys.argv = ['xclip', *sys.argv[1:]]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["classify", "--help"], ["labels", "list"], ["labels", "show", "ucf-101"]]
)
def test_light_commands_import_neither_torch_nor_av(arguments: list[str]) -> None:
    assert not run(*arguments) & {"torch", "av", "transformers", "pyarrow", "ray"}


def test_reports_without_pictures_import_neither_torch_nor_av(tmp_path: Path) -> None:
    failed = {"schema": 1, "video": "b", "status": "error", "error": {"code": "x", "message": "x"}, "warnings": []}
    (tmp_path / "r.jsonl").write_text(json.dumps(failed))
    assert not run("report", str(tmp_path / "r.jsonl"), "-o", str(tmp_path / "r.html")) & {"torch", "av"}


@pytest.mark.parametrize(
    "module", ["model.config", "model.checkpoint.find", "model.tokenizer", "classifier", "timeline", "inputs"]
)
def test_what_is_needed_before_the_weights_does_without_torch(module: str) -> None:
    code = f"import sys, xclip_cli.{module}; sys.exit(bool({{'torch', 'av'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_run_imports_what_it_needs(clip: Path) -> None:
    """A run that learns nothing, measures nothing and makes no index waits for none of that."""
    command = [sys.executable, "-X", "importtime", "-c", "from xclip_cli.cli.app import main; main()"]
    asked = ["classify", str(clip), "--labels", "picture-state", "--model", "bundled", "-q"]
    done = subprocess.run([*command, *asked], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "torch" in imported
    unneeded = ("adaptation", "cli.search", "evaluation", "results.index_writer", "results.reading", "search", "report")
    assert not imported & {f"xclip_cli.{name}" for name in unneeded}


LONG_MODULES = {"model.modeling", "bundled.generator"}  # a paper's worth each
MOST_LINES = 500  # of any other module
MOST_LINES_OF_A_FUNCTION = 60


def test_modules_and_functions_are_short_enough_to_be_read() -> None:
    for name, path in modules().items():
        text = path.read_text("utf-8")
        assert text.count("\n") <= MOST_LINES or name in LONG_MODULES, name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert (node.end_lineno or 0) - node.lineno < MOST_LINES_OF_A_FUNCTION, f"{name}.{node.name}"
