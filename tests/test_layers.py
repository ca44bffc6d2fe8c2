"""Imports point one way: cli -> output, batch -> classifier -> decoding -> video; model knows none of them."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import xclip_cli

PACKAGE = Path(xclip_cli.__file__).parent
VOCABULARY = {"errors", "results", "sampling", "text", "__version__"}  # plain data, importable from anywhere
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "results": set(),
    "sampling": set(),
    "text": set(),
    "labels": set(),
    "video": set(),
    "model": set(),
    "guard": {"video"},
    "decoding": {"guard", "video"},
    "cache": set(),
    "devices": set(),
    "frames": set(),
    "pipeline": {"decoding"},
    "run_file": set(),
    "classifier": {
        "cache",
        "decoding",
        "devices",
        "frames",
        "labels",
        "model",
        "pipeline",
        "video",
    },  # video for its types alone
    "batch": {"classifier", "devices", "labels", "model", "timeline"},
    "verification": {"model"},
    "output": {"run_file"},
    "timeline": set(),
    "timeline_output": {"output", "timeline"},
    "journal": set(),
    "report": {"journal", "timeline"},
    "thumbnails": {"decoding", "journal", "report", "video"},  # video for its types alone
    "bundled": {"model", "classifier"},
    "doctor": {"bundled", "cache", "classifier", "devices", "labels", "model", "verification"},
    "cli": {
        *("output", "batch", "cache", "classifier", "doctor", "labels", "model", "bundled", "run_file"),
        *("journal", "report", "thumbnails", "timeline", "timeline_output", "verification"),
    },
    "__main__": {"cli"},
    "__init__": {"classifier", "labels", "model"},
}


def imports(path: Path) -> set[str]:
    """The package's own modules that a file imports, anywhere in it."""
    package, found = ("xclip_cli", *path.relative_to(PACKAGE).parent.parts), set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            names = [[*base, *(node.module or "").split("."), alias.name] for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
        else:
            continue
        names = [[part for part in name if part] for name in names]
        found |= {name[1] for name in names if name[0] == "xclip_cli" and len(name) > 1}
    return found


def test_every_module_has_its_place() -> None:
    modules = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert modules == MAY_IMPORT.keys()


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_imports_point_one_way(layer: str) -> None:
    target = PACKAGE / layer
    for path in target.rglob("*.py") if target.is_dir() else [target.with_suffix(".py")]:
        assert imports(path) <= MAY_IMPORT[layer] | VOCABULARY | {layer}, path


def run(*arguments: str) -> set[str]:
    """The modules that a command of xclip has imported in the end."""
    code = (
        "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        "from xclip_cli.cli import main; sys.argv = ['xclip', *sys.argv[1:]]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return set(done.stderr.split())


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["classify", "--help"], ["labels", "list"], ["labels", "show", "ucf-101"]]
)
def test_light_commands_import_neither_torch_nor_av(arguments: list[str]) -> None:
    assert not run(*arguments) & {"torch", "av", "transformers"}


def test_reports_without_pictures_import_neither_torch_nor_av(tmp_path: Path) -> None:
    failed = {"schema": 1, "video": "b", "status": "error", "error": {"code": "x", "message": "x"}, "warnings": []}
    (tmp_path / "r.jsonl").write_text(json.dumps(failed))
    assert not run("report", str(tmp_path / "r.jsonl"), "-o", str(tmp_path / "r.html")) & {"torch", "av"}


@pytest.mark.parametrize("module", ["model.config", "model.checkpoints", "model.tokenizer", "classifier", "batch"])
def test_what_is_needed_before_the_weights_does_without_torch(module: str) -> None:
    code = f"import sys, xclip_cli.{module}; sys.exit(bool({{'torch', 'av'}} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
