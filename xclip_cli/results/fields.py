"""JSON values → dataclasses, each field checked against its type.

Results files may come from strangers: whatever is wrong is a ValueError that names the field. Unknown fields are
ignored. A field that is missing or null takes its default, or None if its type allows that. Fields whose metadata says
``json: False`` are not part of the JSON.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from fractions import Fraction
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST = 1e12  # of any number in a record
LISTS = (list, tuple)  # what a JSON array is after reading, and before writing

_TIME = re.compile(r"\d+(\.\d+|/0*[1-9]\d*)?", re.ASCII)  # as str(Fraction) writes it
_TIME_LENGTH = 1000  # characters

_Reader = Callable[[Any, str], Any]  # a JSON value and what errors call it → the checked value


def read(kind: type[T], values: Mapping[str, Any], name: str) -> T:
    """The dataclass ``kind`` from a JSON object that errors call ``name``. Raises ValueError."""
    made: T = _reader(kind)(values, name)  # type: ignore[arg-type]  # mypy: type[T] is not hashable
    return made


def read_field(kind: type[T], values: Mapping[str, Any], key: str, name: str) -> T:
    """The dataclass ``kind`` from the required field ``key`` of a JSON object called ``name``. Raises ValueError."""
    if key not in values:
        raise ValueError(f"{name} has no {key}")
    return read(kind, values[key], key)


@cache
def _reader(kind: Any) -> _Reader:
    """The reader of a type. It is made once: a results file may have millions of lines."""
    arguments = get_args(kind)
    if NoneType in arguments:  # T | None: null is a matter of the object it is in
        (given,) = (argument for argument in arguments if argument is not NoneType)
        return _reader(given)
    if get_origin(kind) is tuple:
        return _list_reader(_reader(arguments[0]))
    if is_dataclass(kind):
        return _object_reader(kind)
    return _plain_reader(kind, {str: "string", bool: "boolean"}[kind]) if kind in (str, bool) else _number_reader(kind)


def _list_reader(read_entry: _Reader) -> _Reader:
    def read_list(value: Any, name: str) -> Any:
        if not isinstance(value, LISTS):
            raise ValueError(f"{name} is not a list")
        entry = f"an entry of {name}"
        return tuple([read_entry(each, entry) for each in value])

    return read_list


def _object_reader(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    known = []  # key, reader, what it is where it is missing or null; MISSING: it must be there
    for field in fields(kind):
        if field.metadata.get("json", True):
            hint = hints[field.name]
            nullable = field.default is MISSING and NoneType in get_args(hint)
            known.append((field.name, _reader(hint), None if nullable else field.default))

    def read_object(values: Any, name: str) -> Any:
        if not isinstance(values, dict):
            raise ValueError(f"{name} is not an object")
        found = {}
        for key, read_value, default in known:
            value = values.get(key)
            if value is None and default is not MISSING:
                found[key] = default
            elif value is None and key not in values:
                raise ValueError(f"{name} has no {key}")
            else:
                found[key] = read_value(value, key)
        return kind(**found)

    return read_object


def _plain_reader(kind: type, what: str) -> _Reader:
    def read_plain(value: Any, name: str) -> Any:
        if not isinstance(value, kind):
            raise ValueError(f"{name} is not a {what}")
        return value

    return read_plain


def _number_reader(kind: type[int | float]) -> _Reader:
    """A JSON integer is a number wherever a float is; true and false are not."""
    allowed = int if kind is int else (int, float)

    def read_number(value: Any, name: str) -> Any:
        if not isinstance(value, allowed) or isinstance(value, bool) or not -LARGEST <= value <= LARGEST:  # nor NaN
            raise ValueError(f"{name} is not a number")
        return kind(value)

    return read_number


def is_time(value: Any) -> bool:
    """Whether a header's ``start`` or ``end`` is null or a number of exact seconds, bounded as numbers are."""
    if value is None:
        return True
    fits = isinstance(value, str) and len(value) <= _TIME_LENGTH and _TIME.fullmatch(value)
    return bool(fits) and Fraction(value) <= LARGEST
