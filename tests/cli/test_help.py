"""Every command's help, as it looks at two widths."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from xclip_cli.cli.app import app
from xclip_cli.cli.help import DOCUMENTATION, help_of

PROGRAM = typer.main.get_command(app)


def commands(group: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Groups and commands, each by the words that call it."""
    yield path, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*path, name))


ALL = dict(commands(PROGRAM))
LEAVES = {path: command for path, command in ALL.items() if not hasattr(command, "commands")}

every_command = pytest.mark.parametrize("path", ALL, ids=" ".join)
both_widths = pytest.mark.parametrize("width", [80, 120])


def help_at(width: int, path: tuple[str, ...]) -> str:
    done = CliRunner().invoke(app, [*path, "--help"], prog_name="xclip", env={"COLUMNS": str(width)})
    assert done.exit_code == 0
    return done.output


def flags_of(path: tuple[str, ...]) -> list[Any]:
    return ALL[path].get_params(typer.Context(ALL[path]))


def test_there_are_commands() -> None:
    assert {("classify",), ("timeline",), ("models", "info"), ("cache", "clear")} <= LEAVES.keys()


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_command_has_an_example(path: tuple[str, ...]) -> None:
    examples = help_at(80, path).partition("Examples:")[2].partition("╭")[0]
    assert f"xclip {' '.join(path)}" in examples


@both_widths
@every_command
def test_no_line_is_too_long_and_no_type_says_nothing(path: tuple[str, ...], width: int) -> None:
    text = help_at(width, path)
    assert max(map(len, text.splitlines())) <= width
    assert not re.search(r"<bool>|BOOLEAN|<list|default: None|not dim", text)


@both_widths
@every_command
def test_every_flags_row_is_whole(path: tuple[str, ...], width: int) -> None:
    """Its names and what it takes are on one line, and no word of its help is torn."""
    text = help_at(width, path)
    words = set(text.replace("│", " ").split())
    for flag in flags_of(path):
        if flag.param_type_name == "option":
            names = [name for name in flag.opts if name.startswith("--")]
            pattern = rf"^│[ *]+{re.escape(','.join(names))} .*{re.escape(flag.metavar or '')}.*│$"
            assert re.search(pattern, text, re.MULTILINE), names
        assert set((flag.help or "").split()) <= words, flag.opts


@both_widths
@every_command
def test_paragraphs_fill_the_width(path: tuple[str, ...], width: int) -> None:
    """No line of them ends where the next word would have fitted."""
    described = help_at(width, path).partition("╭")[0].splitlines()
    for line, following in pairwise(described):
        listed = any(text.startswith("   ") or text.rstrip().endswith(":") for text in (line, following))
        if line.strip() and following.strip() and not listed and not line.rstrip().endswith("."):
            assert len(line.rstrip()) + 1 + len(following.split()[0]) > width - 1, line


@pytest.mark.parametrize("path", [("classify",), ("timeline",)], ids=" ".join)
def test_everyday_panels_come_first_and_help_last(path: tuple[str, ...]) -> None:
    panels = re.findall(r"╭─ ([\w ]+) ─", help_at(80, path))
    assert panels[:3] == ["Arguments", "Inputs", "Labels"]
    assert panels[-4:] == ["Model", "Decoding", "Cluster", "Run"]
    assert "Options" not in panels
    assert "--help" in help_at(80, path).partition("╭─ Run ")[2]


def test_a_docstring_as_help() -> None:
    assert help_of("""One
        line.

        Examples:
          xclip a
          xclip b
        """) == "One line.\n\nExamples:\n[not dim]  xclip a[/]\n[not dim]  xclip b[/]"  # fmt: skip
    assert help_of(None) == ""


LIGHT = [
    *(["labels", "check", "ucf-101"], ["models", "list"], ["models", "info", "bundled"], ["models", "path", "bundled"]),
    *(["cache", "info"], ["cache", "clear"], ["timeline", "--help"], ["models", "info", "--help"]),
]


@pytest.mark.parametrize("arguments", LIGHT, ids=" ".join)
def test_light_commands_import_neither_torch_nor_av(arguments: list[str]) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        "from xclip_cli.cli.app import main; sys.argv = ['xclip', *sys.argv[1:]]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert not set(done.stderr.split()) & {"torch", "av", "transformers"}


def test_completion_imports_neither_torch_nor_av() -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        "sys.argv = ['xclip']; from xclip_cli.cli.app import main; main()"
    )
    asked = {"_XCLIP_COMPLETE": "complete_bash", "COMP_WORDS": "xclip classify --dtype ", "COMP_CWORD": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["auto", "float32", "bfloat16", "float16", "int8"]
    assert not set(done.stderr.split()) & {"torch", "av"}


EXAMPLES = {  # of the help, those that need nothing but the bundled model, in order
    ("demo",): ["xclip demo clips"],
    ("classify",): ["xclip classify clips --labels picture-state"],
    ("timeline",): ["xclip timeline clips/fade-in.mp4 -l picture-state --window 0.5"],
    ("embed",): [
        "xclip embed clips -o clips.index --model bundled --window 1",
        "xclip timeline clips.index --labels picture-state",
    ],
    ("search",): ['xclip search "color bars" clips.index'],
    ("report",): [
        "xclip classify clips --labels picture-state -o results.jsonl",
        "xclip report results.jsonl -o report.html",
    ],
    ("merge",): [
        "xclip classify clips -l picture-state --shard 1/2 -o part-1.jsonl",
        "xclip classify clips -l picture-state --shard 2/2 -o part-2.jsonl",
        "xclip merge part-1.jsonl part-2.jsonl -o all.jsonl",
    ],
    ("index", "info"): ["xclip index info clips.index"],
    ("index", "check"): ["xclip index check clips.index"],
    ("labels", "check"): ["xclip labels check picture-state --model bundled"],
    ("models", "verify"): ["xclip models verify bundled"],
}


def test_examples_run(tmp_path: Path) -> None:
    for path, commands in EXAMPLES.items():
        shown = help_at(120, path)
        for command in commands:
            assert command in shown
            words = [sys.executable, "-m", "xclip_cli", *shlex.split(command)[1:]]
            done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
            assert done.returncode == 0, (command, done.stderr)


@every_command
def test_every_command_links_to_its_section_of_the_documentation(path: tuple[str, ...]) -> None:
    text = (Path(__file__).parents[2] / DOCUMENTATION).read_text("utf-8")
    titles = re.findall(r"^#+ (.+)", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    link = re.search(rf"Documentation: {DOCUMENTATION}(?:#(\S+))?", help_at(80, path))
    assert link
    assert bool(link[1]) == bool(path)
    assert not path or link[1] in anchors


def test_the_programs_help_fits_a_screen() -> None:
    assert len(help_at(80, ()).splitlines()) <= 40


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_flags_of_a_run_are_in_the_last_panel_with_the_help(path: tuple[str, ...]) -> None:
    panels = {flag.opts[0]: flag.rich_help_panel for flag in flags_of(path) if flag.param_type_name == "option"}
    assert panels["--help"] == panels["--config"] == panels.get("--quiet")
