"""Groups of flags, spelled out as the parameters that typer reads."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from ..text import one_line

LARGEST = 10**9  # of any number that is given as a flag


def takes_flags(command: Callable[..., None], *also: inspect.Parameter) -> Callable[..., None]:
    """The command as typer can read it: in the place of each group of flags stands one parameter a field.

    A field's default is its flag's; a field without one is required. The options of a group
    that has a ``panel`` stand under that title in the help; the fields in its ``omitted`` are no flags. ``also``: flags
    which the command is not given. Raises TypeError where two flags have one name.
    """
    hints = get_type_hints(command, include_extras=True)
    parameters = inspect.signature(command).parameters
    groups: dict[str, Any] = {name: hints[name] for name in parameters if is_dataclass(hints[name])}
    flags: list[inspect.Parameter] = []
    for name, parameter in parameters.items():
        if name in groups:
            flags += _flags_of(groups[name])
        else:
            flags.append(parameter.replace(kind=parameter.KEYWORD_ONLY, annotation=hints[name]))
    flags += also
    counts = Counter(flag.name for flag in flags)
    if twice := [name for name, count in counts.items() if count > 1]:
        raise TypeError(f"{command.__name__} has two flags called {' and two called '.join(twice)}")

    def spelled_out(**given: Any) -> None:
        for other in also:
            del given[other.name]
        for name, value in given.items():
            _check_number(name, value)
        packed = {name: group(**{f.name: given.pop(f.name) for f in _shown(group)}) for name, group in groups.items()}
        command(**packed, **given)

    spelled_out.__name__, spelled_out.__doc__ = command.__name__, command.__doc__
    spelled_out.__signature__ = inspect.Signature(flags)  # type: ignore[attr-defined]
    spelled_out.__annotations__ = {flag.name: flag.annotation for flag in flags}
    return spelled_out


def _check_number(name: str, value: object) -> None:
    """Raises typer.BadParameter for a number that nothing counts to, and for what is none (inf, nan)."""
    if isinstance(value, int | float) and not abs(value) <= LARGEST:  # not a number is in no order
        raise typer.BadParameter(
            f"{one_line(value, 40)} is not a number up to {LARGEST:,}", param_hint=f"--{name.replace('_', '-')}"
        )


def _shown(group: Any) -> list[Field[Any]]:
    return [field for field in fields(group) if field.name not in getattr(group, "omitted", ())]


def _flags_of(group: Any) -> Iterator[inspect.Parameter]:
    """The fields of a group as parameters."""
    annotations = get_type_hints(group, include_extras=True)
    panel = getattr(group, "panel", None)
    for one in _shown(group):
        yield inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if one.default is MISSING else one.default,
            annotation=_in_panel(annotations[one.name], panel),
        )


def _in_panel(annotation: Any, panel: str | None) -> Any:
    """A flag's annotation with its option in a panel of the help; arguments have a panel of their own."""
    for declared in getattr(annotation, "__metadata__", ()):
        if panel is not None and isinstance(declared, OptionInfo):
            option = copy(declared)
            option.rich_help_panel = panel
            return Annotated[annotation.__origin__, option]
    return annotation
