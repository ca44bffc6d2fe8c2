"""Usage errors, each in a line like all other errors: typer draws a box of several."""

from __future__ import annotations

import re
from typing import Any

import typer

from ..text import printable, quoted

LONGEST = 1000  # characters of a usage error, which may quote anything
PLAIN = (  # what typer, click and pydantic say, in the words of our own errors
    ("^Value error, ", ""),
    (r"^Input should be greater than or equal to (\S+)", r"must be \1 or more"),
    (r"^Input should be less than or equal to (\S+)", r"must be \1 or less"),
    ("^Input should be a valid integer.*", "must be a whole number"),
    ("^Input should be a valid number.*", "must be a number"),
)


def show_usage_error(error: Any) -> None:
    """Tell a usage error, of which typer's versions have click's or their own, and end the program. Raises
    typer.Exit."""
    if type(error).__name__ == "NoArgsIsHelpError":  # all but the last line has been printed
        typer.echo(error.message)
        raise typer.Exit(error.exit_code) from error
    error.message, context = _plain(error), getattr(error, "ctx", None)
    said = error.format_message().rstrip(".").replace(". Did you mean", ": did you mean")
    if getattr(error, "possibilities", None) and "did you mean" not in said:
        said = f"{error.message}: did you mean {error.possibilities[0]}?"
    said = said[:1].lower() + said[1:]
    if _is_from_file(error):
        said += " (it comes from a file: see `xclip config show`)"
    elif said.startswith("invalid value: ") or "'--config'" in said:  # our own, which say what to do
        said = error.message
    elif context is not None:
        said += f"{'' if said.endswith('?') else ':'} see `{context.command_path} --help`"
    typer.echo(f"error: {printable(said, LONGEST)}", err=True)
    raise typer.Exit(error.exit_code) from error


def _plain(error: Any) -> str:
    """What is wrong, with the value where pydantic leaves it out."""
    said = error.message
    for pattern, words in PLAIN:
        said = re.sub(pattern, words, said)
    refused: list[Any] = getattr(error.__cause__, "errors", list)()
    return f"{quoted(refused[0]['input'])} {said}" if said.startswith("must be ") and refused else said


def _is_from_file(error: Any) -> bool:
    """Whether a usage error is about a value of xclip.toml."""
    context, flag = getattr(error, "ctx", None), getattr(error, "param", None)
    source = context.get_parameter_source(flag.name) if context is not None and flag is not None else None
    return source is not None and source.name == "DEFAULT_MAP"
