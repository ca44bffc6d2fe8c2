"""xclip doctor."""

from __future__ import annotations

import json

import typer

from .exits import FAILURE
from .options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """Check that decoding and the model work on this machine.

    Also shows versions, devices and caches. Exits with 1 if a check fails.

    Examples:
      xclip doctor
      xclip doctor --json
    """
    from ..doctor import examine
    from ..output.tables import format_fields
    from ..text import printable

    report = examine()
    if as_json:
        typer.echo(json.dumps(report.to_json(), indent=2))
    else:
        typer.echo(format_fields(report.facts))
        for note in report.notes:
            typer.echo(printable(f"note: {note}"))
        for check in report.checks:
            typer.echo(printable(check.line()))
    raise typer.Exit(0 if report.healthy else FAILURE)
