"""What typer's help lacks: docstrings wrapped to the terminal, a link to the documentation, and no types or defaults
that say nothing."""

from __future__ import annotations

import inspect
import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

RUN = "Run"  # the panel that --help and --config are in, if a command has it
DOCUMENTATION = "README.md"  # the only place that says where it is
SECTIONS = {  # of it, by command
    "classify": "classify",
    "timeline": "timeline",
    "embed": "search",
    "search": "search",
    "evaluate": "evaluate",
    "adapt": "adapt",
    "report": "classify",
    "merge": "many-machines",
    "demo": "classify",
    "doctor": "install",
    "labels": "your-own-labels",
    "models": "which-model",
    "index": "search",
    "cache": "how-fast",
    "config": "classify",
}


def help_of(docstring: str | None) -> str:
    """A docstring as the text of a help: typer keeps line breaks, so those within a paragraph are taken out.

    Indented lines, such as examples, stay lines; their style keeps typer from taking the indentation out.
    """
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(
        re.sub(r"^ .*", r"[not dim]\g<0>[/]", text, flags=re.MULTILINE) if "\n " in text else text.replace("\n", " ")
        for text in paragraphs
    )


def documentation_of(command_path: str) -> str:
    """Where a command is documented, by the words that call it."""
    section = SECTIONS.get(" ".join(command_path.split()[1:2]), "")
    return f"Documentation: {DOCUMENTATION}{section and '#' + section}"


class Command(TyperCommand):
    """A command whose help is tidy."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Its help, with a link to the documentation."""
        super().format_help(ctx, formatter)
        formatter.write(f" {documentation_of(ctx.command_path)}")  # typer prints it last; all else, rich has printed

    def get_params(self, ctx: Any) -> list[Any]:
        """Its flags and arguments, and ``--help``."""
        return _tidied(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands whose help is tidy."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Its help, with a link to the documentation."""
        super().format_help(ctx, formatter)
        formatter.write(f" {documentation_of(ctx.command_path)}")  # typer prints it last; all else, rich has printed

    def get_params(self, ctx: Any) -> list[Any]:
        """Its own flags, and ``--help``."""
        return _tidied(super().get_params(ctx))


def _tidied(params: list[Any]) -> list[Any]:
    """Parameters that show no default and no type where that says nothing, and ``--help`` in the panel for it."""
    has_run = any(getattr(param, "rich_help_panel", None) == RUN for param in params)
    for param in params:
        if param.default is None:
            param.show_default = False
        if getattr(param, "is_flag", False):
            param.metavar = ""
        if param.param_type_name == "argument":
            param.display_type_rich = lambda ctx: None
        if {"--help", "--config"} & {*param.opts}:
            param.rich_help_panel = RUN if has_run else None
    return params
