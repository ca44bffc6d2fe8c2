"""The user's own defaults of flags: ``xclip.toml`` in the user's folder for settings, or a file of --config.

A key is a flag's long name without its dashes, at the top for all commands that have it, or in the table of one command
(``[timeline]``, ``[models.pull]``). Its value means what it would mean on the command line. A flag wins over an
XCLIP_* variable, that over a command's table, and that over the top; and over what contradicts it of other flags in the
file (``INSTEAD``). The current folder is never looked at for a file: a stranger may have made it.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..folders import config_folder
from .help import Command
from .options import AsJson

NAME = "xclip.toml"
MOST_BYTES = 1 << 20
NOT_FLAGS = ("help", "version", "config", "install-completion", "show-completion")  # of a file
INSTEAD = {  # of a flag on the command line: those that the file then says nothing of
    "labels": ("label",),
    "label": ("labels",),
    "head": ("labels", "label", "views", "preprocess", "heads"),  # a head has its own
    "protocol": ("labels", "label", "views", "preprocess"),
    "none-of-these": ("multi-label",),
    "multi-label": ("none-of-these",),
    "output": ("output-dir",),
    "output-dir": ("output",),
    "resume": ("force",),
    "force": ("resume", "retry-failed"),
}
OF_AN_INDEX = ("window", "stride", "start", "end", "stream", "views", "preprocess", "heads", "save-frames")

Words = tuple[str, ...]  # that call a command: ("models", "pull")


@dataclass(frozen=True)
class Setting:
    """What a file says of one flag of a command."""

    value: Any  # as click takes it: texts, as on the command line, lists of them, true or false
    where: str  # in the file: "" at the top, or the table


def user_file() -> Path | None:
    """The user's file, if there is one."""
    folder = config_folder()
    path = None if folder is None else folder / NAME
    return path if path is not None and os.path.isfile(path) else None  # noqa: PTH113 - a folder may be closed to us


def read_config(path: Path) -> dict[str, Any]:
    """The values of a file. Raises typer.BadParameter."""
    import tomllib

    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise typer.BadParameter(f"{path} is larger than {MOST_BYTES >> 20} MB, the limit for settings")
        return tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise typer.BadParameter(f"{path} is not valid TOML: {error}") from error


def commands(command: Any, words: Words = ()) -> Iterator[tuple[Words, Any]]:
    """A command, or all that a group has, each with the words that call it."""
    if not hasattr(command, "commands"):
        yield words, command
        return
    for name, one in command.commands.items():
        yield from commands(one, (*words, name))


def flags_of(command: Any, ctx: Any) -> dict[str, Any]:
    """The flags of a command that a file may set, by their long names."""
    long = ((opt[2:], flag) for flag in command.get_params(ctx) for opt in flag.opts if opt.startswith("--"))
    return {name: flag for name, flag in long if name not in NOT_FLAGS}


class Config:
    """A file's settings, checked: of what concerns ``asking``, one command, or else all. A run does not wait for the
    flags of all other commands. Raises typer.BadParameter."""

    def __init__(self, path: Path, program: Any, ctx: Any, asking: Words | None = None) -> None:
        self.path, self._program, self._ctx, self._asking = path, program, ctx, asking
        self._values = read_config(path)
        self._check(self._values, ())

    def settings(self, words: Words) -> dict[str, Setting]:
        """What the file says of the flags of a command, by their long names."""
        found, table, flags = {}, self._values, self._flags(words)
        for depth in range(len(words) + 1):
            where = ".".join(words[:depth])
            for key, value in table.items():
                if key in flags and not isinstance(value, dict):
                    found[key] = Setting(self._value(key, value, flags[key], where), where)
            table = table.get(words[depth], {}) if depth < len(words) else {}
            table = table if isinstance(table, dict) else {}
        return found

    def _at(self, words: Words) -> Any:
        """A command, or group of them."""
        found = self._program
        for word in words:
            found = found.commands[word]
        return found

    def _flags(self, words: Words) -> dict[str, Any]:
        return flags_of(self._at(words), self._ctx)

    def _check(self, table: Mapping[str, Any], words: Words) -> None:
        tables = [*getattr(self._at(words), "commands", ())]
        asking = {} if self._asking is None else self._flags(self._asking)
        for key, value in table.items():
            if isinstance(value, dict):
                if key not in tables:
                    raise typer.BadParameter(self._unknown(key, True, tables, words))
                below = (*words, key)
                if self._asking is None or self._asking[: len(below)] == below:
                    self._check(value, below)
                continue
            every = [asking] if key in asking else [flags_of(one, self._ctx) for _, one in commands(self._at(words))]
            if not any(key in flags for flags in every):
                raise typer.BadParameter(self._unknown(key, False, [name for flags in every for name in flags], words))
            for flags in every:
                if key in flags:
                    self._value(key, value, flags[key], ".".join(words))

    def _unknown(self, key: str, table: bool, known: Iterable[str], words: Words) -> str:
        near = difflib.get_close_matches(key, sorted({*known}), 1, 0.5)
        hint = f"did you mean {near[0]!r}?" if near else "`xclip --help` lists commands, `xclip COMMAND --help` flags"
        what = " ".join((*words, key))
        if table:
            return f"{self.path}: there is no command {what!r}: {hint}"
        owner = f"xclip {' '.join(words)} has no" if words else "no command has a"
        return f"{self.path}: {owner} flag {key!r}: {hint}"

    def _value(self, key: str, value: Any, flag: Any, where: str) -> Any:
        """A value as click takes it. Raises typer.BadParameter."""
        place = f"{self.path}: {key!r}{f' of [{where}]' if where else ''}"
        is_switch, several = getattr(flag, "is_flag", False), getattr(flag, "multiple", False)
        if is_switch:
            if not isinstance(value, bool):
                raise typer.BadParameter(f"{place} must be true or false, without quotes")
            return value
        values = value if isinstance(value, list) and several else [value]
        if any(isinstance(one, bool | list | dict) for one in values):
            raise typer.BadParameter(f"{place} must be a string or a number{', or a list of them' if several else ''}")
        texts = [os.path.expanduser(one) if str(one).startswith("~/") else str(one) for one in values]  # noqa: PTH111 - a text
        return texts if several else texts[0]


def _words(ctx: Any) -> Words:
    words: Words = ()
    while ctx.parent is not None:
        words, ctx = (ctx.info_name, *words), ctx.parent
    return words


def use_config(ctx: typer.Context, given: Path | None) -> Path | None:
    """Have the command's flags take their defaults from the file that was ``given``, or the user's. Raises
    typer.BadParameter."""
    path, words = user_file() if given is None else given, _words(ctx)
    program = ctx.find_root().command
    if ctx.resilient_parsing or path is None or not hasattr(program, "commands"):
        return given
    flags = flags_of(ctx.command, ctx)
    settings = Config(path, program, ctx, words).settings(words)
    ctx.default_map = {flags[name].name: setting.value for name, setting in settings.items()}
    return given


class Configured(Command):
    """A command with flags that a file may set."""

    def invoke(self, ctx: Any) -> Any:
        """Run it, without what the file says against the command line."""
        flags = flags_of(self, ctx)
        sources = {name: source.name for name, f in flags.items() if (source := ctx.get_parameter_source(f.name))}
        settled = [other for name in INSTEAD if sources.get(name) == "COMMANDLINE" for other in INSTEAD[name]]
        of_file = {name for name, source in sources.items() if source == "DEFAULT_MAP"}
        if of_file.intersection(OF_AN_INDEX) and _has_index(ctx.params.get("videos") or ()):
            settled += OF_AN_INDEX
        written = "summary" if "summary" in flags else "output"
        if sources.get(written) == "COMMANDLINE" and _names_format(ctx.params[flags[written].name]):
            settled.append("format")
        for name in of_file.intersection(settled):
            del ctx.default_map[flags[name].name]
            flags[name].handle_parse_result(ctx, {}, [])
        return super().invoke(ctx)


def _names_format(path: str | Path) -> bool:  # a str in earlier versions of typer
    from ..output.files import format_of

    return format_of(Path(path)) is not None


def _has_index(videos: Iterable[str]) -> bool:
    from ..results.lines import is_index

    return any(map(is_index, videos))


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        dir_okay=False,
        is_eager=True,
        callback=use_config,
        help="Read default flags from this file instead of your xclip.toml (see `xclip config show`).",
    ),
]


def show_config(
    ctx: typer.Context,
    command: Annotated[
        list[str] | None,
        typer.Argument(metavar="COMMAND", help="Also show the flags of this command that nothing sets."),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    r"""Show what xclip.toml and XCLIP_MODEL set, and where each value comes from.

    The file is ~/.config/xclip/xclip.toml (on macOS ~/Library/Application Support/xclip/xclip.toml), or that of
    --config. It contains flags by their long names, for all commands or, in a table, for one. A flag overrides
    XCLIP_MODEL, which overrides the file.

    Such a file:
      labels = \["kinetics-400"]
      \[timeline]
      window = 4

    Examples:
      xclip config show
      xclip config show timeline
      xclip config show models pull --json
    """
    from ..output.tables import format_fields

    path, program = user_file() if config is None else config, ctx.find_root().command
    known = dict(commands(program))
    words = tuple(command or ())
    if words and words not in known:
        near = difflib.get_close_matches(" ".join(words), [" ".join(other) for other in known], 1, 0.5)
        raise typer.BadParameter(
            f"there is no command {' '.join(words)!r}" + (f": did you mean {near[0]!r}?" if near else "")
        )
    read = None if path is None else Config(path, program, ctx)
    shown = {" ".join(w): _effective(known[w], w, read, ctx, every=bool(words)) for w in ([words] if words else known)}
    shown = {name: flags for name, flags in shown.items() if flags}
    folder = config_folder()
    values = {
        "file": None if path is None else str(path),
        "looked for": None if folder is None else str(folder / NAME),
    }
    if as_json:
        typer.echo(json.dumps({**values, "commands": shown}, indent=2))
        return
    typer.echo(format_fields({**values, "file": values["file"] or "none"}))
    for name, flags in shown.items():
        typer.echo(format_fields({name: {flag: _said(**one) for flag, one in flags.items()}}))


def _said(value: Any, source: str) -> str:
    shown = "none" if value is None else ", ".join(value) if isinstance(value, list) else str(value)
    return f"{shown.lower() if isinstance(value, bool) else shown}  ({source})"  # as a file spells it


def _effective(command: Any, words: Words, read: Config | None, ctx: Any, every: bool) -> dict[str, Any]:
    """Of each flag its value without the command line, and where it came from; not ``every``: those that are set."""
    settings, found = {} if read is None else read.settings(words), {}
    for name, flag in flags_of(command, ctx).items():
        if (variable := flag.envvar) and os.environ.get(variable):
            found[name] = {"value": os.environ[variable], "source": variable}
        elif read is not None and name in settings:
            where = f" [{settings[name].where}]" if settings[name].where else ""
            found[name] = {"value": settings[name].value, "source": f"{read.path}{where}"}
        elif every:
            default = None if callable(flag.default) else flag.default
            value = default if default is None or isinstance(default, bool | int | float) else str(default)
            found[name] = {"value": value, "source": "default"}
    return found
