"""JSON values → dataclasses, each field checked against its type.

Unknown fields are ignored. A field that is missing or null takes its default, or None where it may be None. A field
whose metadata says ``json: False`` is not in the JSON. Results files may come from strangers: whatever is wrong is a
ValueError that names the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

LARGEST = 1e12  # of any number in a record

_Reader = Callable[[Any, str], Any]  # a JSON value and what to call it → the value


def read(kind: type[T], values: Any, name: str) -> T:
    """The dataclass ``kind`` from a JSON object, called ``name`` in errors. Raises ValueError."""
    found: T = _reader(kind)(values, name)
    return found


def read_field(kind: type[T], values: Any, key: str, name: str) -> T:
    """The dataclass ``kind`` from one required field of an object called ``name``. Raises ValueError."""
    if not isinstance(values, dict):
        raise ValueError(f"{name} is no object")
    if key not in values:
        raise ValueError(f"{name} has no {key}")
    return read(kind, values[key], key)


@cache
def _reader(kind: Any) -> _Reader:
    """What reads a type, made once: a results file may have millions of lines."""
    arguments = get_args(kind)
    if NoneType in arguments:
        (inner,) = (_reader(argument) for argument in arguments if argument is not NoneType)
        return lambda value, name: None if value is None else inner(value, name)
    if get_origin(kind) is tuple:
        return _list_reader(_reader(arguments[0]))
    return _object_reader(kind) if is_dataclass(kind) else _value_reader(kind)


def _list_reader(item: _Reader) -> _Reader:
    def read_list(value: Any, name: str) -> Any:
        if not isinstance(value, list):
            raise ValueError(f"{name} is no list")
        entry = f"an entry of {name}"
        return tuple(item(each, entry) for each in value)

    return read_list


def _object_reader(kind: Any) -> _Reader:
    hints = get_type_hints(kind)
    known = [
        (
            field.name,
            _reader(hints[field.name]),
            field.default is not MISSING or NoneType in get_args(hints[field.name]),
        )
        for field in fields(kind)
        if field.metadata.get("json", True)
    ]
    absent = {field.name: None for field in fields(kind) if field.default is MISSING}  # of those that may be

    def read_object(values: Any, name: str) -> Any:
        if not isinstance(values, dict):
            raise ValueError(f"{name} is no object")
        found = {}
        for key, reader, optional in known:
            value = values.get(key)
            if value is not None or (key in values and not optional):
                found[key] = reader(value, key)
            elif not optional:
                raise ValueError(f"{name} has no {key}")
            elif key in absent:
                found[key] = None
        return kind(**found)

    return read_object


def _value_reader(kind: Any) -> _Reader:
    """Of a text, a truth value or a number; an int is a number wherever a float is."""
    if kind is str or kind is bool:
        what = "text" if kind is str else "truth value"

        def read_plain(value: Any, name: str) -> Any:
            if not isinstance(value, kind):
                raise ValueError(f"{name} is no {what}")
            return value

        return read_plain
    allowed = int if kind is int else (int, float)

    def read_number(value: Any, name: str) -> Any:
        if not isinstance(value, allowed) or isinstance(value, bool) or not abs(value) <= LARGEST:  # nor NaN
            raise ValueError(f"{name} is no number")
        return kind(value)

    return read_number
