"""The program: its commands, a line each, and ``main``, the only place that shows an error."""

from __future__ import annotations

import inspect
import io
import os
import re
import shlex
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer

from .. import __version__
from ..errors import LabelsError, ModelError, XClipError
from .config import ConfigFile, Configured
from .exits import FAILURE, NO_MODEL, USAGE
from .help import Group, help_of
from .interrupt import end, on_interrupt
from .takes_flags import takes_flags
from .usage import LONGEST, show_usage_error


class _Program(Group):
    """Tells usage errors as all other errors are told."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings | {"commands": _Commands()})

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the program's own flags."""
        with _told_errors():
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the program's own flags, and the words that stand for them."""
        if ctx.resilient_parsing or not args:
            return super().parse_args(ctx, args)
        first, *rest = args
        if first == "help":
            args = [*rest, "--help"]
        elif first == "version":
            args = ["--version"]
        elif command := _meant(args, [flag for param in self.get_params(ctx) for flag in param.opts]):
            from ..text import printable

            typer.echo(f"error: {printable(command, LONGEST)}", err=True)
            raise typer.Exit(USAGE)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        with _told_errors(), on_interrupt(end):
            return super().invoke(ctx)


def _meant(args: list[str], flags: list[str]) -> str | None:
    """What to type for a command line without a command, if it has videos; None where it has a command, or none is
    guessed: a mistyped one is never taken for a video."""
    first = args[0]
    if first in (*COMMANDS, *GROUPS, *flags):
        return None
    candidates = [first] if not first.startswith("-") else args
    if any(word in (*COMMANDS, *GROUPS) for word in candidates) or not any(map(_is_video, candidates)):
        return None
    has_labels = any(re.match("-l|--label|--head", word) for word in args)
    if "://" in first:  # what a URL leads to can be read from a pipe
        args = ["-", *args[1:]]
    command = shlex.join(["xclip", "classify", *args, *([] if has_labels else ["--labels", "a cat, a dog"])])
    yours = "" if has_labels else " with labels of your own"
    piped = f"yt-dlp -o - {shlex.quote(first)} | " if "://" in first else ""
    return f"no command given: to classify videos{yours}, type: {piped}{command}"


def _is_video(word: str) -> bool:
    """Whether a word names what can be classified: by its suffix, or because it is there."""
    from ..inputs import VIDEO_SUFFIXES

    return word.lower().endswith(VIDEO_SUFFIXES) or (not word.startswith("-") and os.path.exists(word))  # noqa: PTH110 - any text


@contextmanager
def _told_errors() -> Iterator[None]:
    """Usage errors are told in a line; who stops reading our output is told nothing."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in Python's buffer would fail again at exit
        raise typer.Exit(128 + signal.SIGPIPE) from None
    except Exception as error:
        if hasattr(error, "format_message"):
            show_usage_error(error)
        raise


NO_ROOM = re.compile("failed to map|cannot allocate memory", re.IGNORECASE)  # said of a library that is too large
TERMINAL_SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")
# How often OpenMP's threads look for work before they sleep. By default (300,000 times) they keep the cores from others
# who have work, even from each other. Seconds of a clip's forward on two cores, quiet and beside a busy process: 0.245
# and 0.83 by default, 0.254 and 0.48 with 2,000, 0.262 and 0.46 with 500, 0.276 and 0.46 with none.
SPINS = "500"
ABOUT_SPINS = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
FORCED_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "TTY_COMPATIBLE", "GITHUB_ACTIONS")


CONFIG = inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=ConfigFile)


# The commands: each is a function in a module of its own, by its name; of a group's, all are in one module.
COMMANDS = ("classify", "timeline", "embed", "search", "evaluate", "adapt", "report", "merge", "demo", "doctor")
GROUPS = {
    "labels": (
        "List, show and check label sets.",
        {"list": "list_labels", "show": "show_labels", "check": "check_labels"},
    ),
    "models": (
        "List, describe, download, remove, check and convert models.",
        {
            "list": "list_models",
            "info": "show_model",
            "pull": "pull_model",
            "path": "show_path",
            "remove": "remove_model",
            "verify": "verify_model",
            "convert": "convert_model",
        },
    ),
    "index": (
        "Describe, check, prune and merge the indexes of `xclip embed`.",
        {"info": "show_index", "check": "check_index", "prune": "prune_index", "merge": "merge_indexes"},
    ),
    "cache": (
        "Show and clear the cache of the labels' text features.",
        {"info": "show_cache", "clear": "clear_cache"},
    ),
    "config": ("Show your own defaults for flags, from xclip.toml.", {"show": "show_config"}),
}


class _Commands(Mapping[str, Any]):
    """The commands by name, each imported when it is asked for: a run does not wait for the flags of all others."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            if name not in (*COMMANDS, *GROUPS):
                raise KeyError(name)
            text, functions = GROUPS.get(name, (None, {name: name}))
            module = import_module(f".{name}", __package__)
            made = typer.Typer(name=name, cls=Group, no_args_is_help=True, rich_markup_mode="rich", help=text)
            for called, function in functions.items():
                _add(made, getattr(module, function), called)
            group = typer.main.get_group(made)
            self._made[name] = group if text else group.commands[name]
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        yield from (*COMMANDS, *GROUPS)

    def __len__(self) -> int:
        return len(COMMANDS) + len(GROUPS)


def _add(group: typer.Typer, command: Callable[..., None], name: str) -> None:
    also = [] if CONFIG.name in inspect.signature(command).parameters else [CONFIG]
    group.command(name, cls=Configured, help=help_of(command.__doc__))(takes_flags(command, *also))


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"xclip {__version__}")
        raise typer.Exit


app = typer.Typer(
    name="xclip",
    cls=_Program,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _root(
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Zero-shot video classification with X-CLIP: rank your own labels for each video.

    Examples:
      xclip demo
      xclip classify video.mp4 --labels labels.txt

    Environment: XCLIP_MODEL, XCLIP_CACHE, XCLIP_DEBUG=1, HF_HOME, HF_ENDPOINT.
    """


app.callback(help=help_of(_root.__doc__))(_root)


def main() -> None:
    """Run the program: errors of ours, and the system's, are one line on stderr; bugs keep their traceback."""
    if os.name == "nt":
        sys.exit("error: xclip runs on Linux and macOS: on Windows use WSL")
    _prepare_process()
    try:
        _require_folder()
        app()
    except SystemExit as exit_:
        if "torch" in sys.modules and isinstance(exit_.code, int):
            _leave(exit_.code)
        raise
    except (XClipError, OSError) as error:
        if os.environ.get("XCLIP_DEBUG"):
            raise
        from ..text import printable

        print(f"error: {printable(_one_line(error))}", file=sys.stderr)
        codes: dict[type[Exception], int] = {LabelsError: USAGE, ModelError: NO_MODEL}
        sys.exit(codes.get(type(error), FAILURE))
    except (MemoryError, ImportError) as error:
        if isinstance(error, ImportError) and not NO_ROOM.search(str(error)):
            raise
        print("error: not enough memory: check the limits of this process (`ulimit -a`)", file=sys.stderr)
        sys.exit(FAILURE)
    except Exception:
        traceback.print_exc()
        print("this is a bug in xclip: please report it with the output of `xclip doctor --json`", file=sys.stderr)
        sys.exit(FAILURE)


def _require_folder() -> None:
    """Raises XClipError where the current folder is gone: libraries that torch loads end the process over that."""
    try:
        Path.cwd()
    except FileNotFoundError as error:
        raise XClipError("the current folder was deleted: change to another") from error


def _leave(code: int) -> None:
    """End the process now: to take torch apart object by object takes Python half a second, and nothing needs it."""
    with suppress(OSError, ValueError):  # a closed pipe, which was reported when it was written to
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    os._exit(code)


def _prepare_process() -> None:
    """Make sure of what a program takes for granted."""
    for descriptor in range(3):  # a closed one would be taken by the next file that is opened
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the decode workers need them too
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names may hold bytes that no encoding has
    for name in TERMINAL_SIZES:  # what is no size of a terminal is believed by the libraries that draw
        if not re.fullmatch(r"[1-9][0-9]{0,3}", os.environ.get(name, "1")):
            del os.environ[name]
    if any(_is_file(descriptor) for descriptor in (1, 2)):  # escapes in a file are characters
        for name in FORCED_COLOURS:
            os.environ.pop(name, None)
    if not any(name in os.environ for name in ABOUT_SPINS):
        os.environ["GOMP_SPINCOUNT"] = SPINS  # read when torch is imported
    sys.unraisablehook = _raise_no_more
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what is open is closed


def _raise_no_more(found: sys.UnraisableHookArgs) -> None:
    """Ctrl-C in the middle of a destructor, which Python would show and forget."""
    if issubclass(found.exc_type, KeyboardInterrupt):
        end()
    sys.__unraisablehook__(found)


def _is_file(descriptor: int) -> bool:
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return str(error)
