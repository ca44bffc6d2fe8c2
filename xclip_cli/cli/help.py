"""What typer's help lacks: docstrings wrapped to the terminal, and parameters that show only what says something."""

from __future__ import annotations

import inspect
import re
from typing import Any

from typer.core import TyperCommand, TyperGroup


def help_of(docstring: str | None) -> str:
    """A docstring as the text of a help: typer keeps line breaks, so those within a paragraph are taken out.

    Indented lines, such as examples, stay lines; their style keeps typer from taking the indentation out.
    """
    paragraphs = inspect.cleandoc(docstring or "").split("\n\n")
    return "\n\n".join(
        re.sub(r"^ .*", r"[not dim]\g<0>[/]", text, flags=re.MULTILINE) if "\n " in text else text.replace("\n", " ")
        for text in paragraphs
    )


class Command(TyperCommand):
    """A command whose help is tidy."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its flags and arguments, and ``--help``."""
        return _tidied(super().get_params(ctx))


class Group(TyperGroup):
    """A group of commands whose help is tidy."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Its own flags, and ``--help``."""
        return _tidied(super().get_params(ctx))


def _tidied(params: list[Any]) -> list[Any]:
    """Parameters that show no default and no type where that says nothing, and ``--help`` in the last panel."""
    panels = dict.fromkeys(panel for param in params if (panel := getattr(param, "rich_help_panel", None)))
    for param in params:
        if param.default is None:
            param.show_default = False
        if getattr(param, "is_flag", False):
            param.metavar = ""
        if param.param_type_name == "argument":
            param.display_type_rich = lambda ctx: None
        if {"--help", "--config"} & {*param.opts}:
            param.rich_help_panel = next(reversed(panels), None)
    return params
