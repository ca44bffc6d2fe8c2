"""Flags that commands take one by one, and what flags are made of: their choices, and how their texts are read."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..engine.devices import AUTO, DEVICES
from ..folders import neighbours
from ..text import parse_time, quoted
from ..video.sampling import Views
from .help import RUN

if TYPE_CHECKING:
    from ..inputs import Shard

MOST_THREADS = 1024
MODEL_VARIABLE = "XCLIP_MODEL"  # of the environment: another default


@contextmanager
def usage_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Errors of these kinds are the user's of the command line: raises typer.BadParameter for them."""
    try:
        yield
    except kinds as error:
        raise typer.BadParameter(str(error)) from error


def either(choices: Iterable[str]) -> str:
    """``a, b or c``: for choices so many that typer's list of them would leave no room for the help beside it."""
    *others, last = choices
    return f"{', '.join(others)} or {last}"


def seconds(text: str) -> Fraction:
    """A time given as a flag, in exact seconds. Raises typer.BadParameter."""
    with usage_errors(ValueError):
        return parse_time(text)


def read_views(text: str | Views) -> Views:
    """Views given as a flag. Raises typer.BadParameter."""
    with usage_errors(ValueError):
        return text if isinstance(text, Views) else Views.parse(text)


def read_shard(text: str | Shard) -> Shard:
    """A share given as a flag. Raises typer.BadParameter."""
    from ..inputs import Shard

    with usage_errors(ValueError):
        return text if isinstance(text, Shard) else Shard.parse(text)


class UsualModel(str):
    """The name of a model that nobody chose for this run: a variable, a file, or nothing did."""


def tell_usual(ctx: typer.Context, param: typer.CallbackParam, name: str) -> str:
    """The name of a model, as UsualModel where it is not from the command line."""
    source = ctx.get_parameter_source(param.name or "")
    return name if source is not None and source.name == "COMMANDLINE" else UsualModel(name)


def check_device(name: str) -> str:
    """The name of a device, or of several. Raises typer.BadParameter."""
    if not re.fullmatch(r"auto|all|cpu|cuda(:\d{1,3})?(,cuda(:\d{1,3})?){0,99}", name):
        raise typer.BadParameter(f"{quoted(name)} is not {DEVICES}")
    return name


def offer_devices(incomplete: str) -> list[str]:
    """What completes the start of a device."""
    return [name for name in (AUTO, "cpu", "cuda", "all") if name.startswith(incomplete)]


def form_of(given: StrEnum | None, path: Path | None, known: Collection[str], elsewhere: str = "jsonl") -> str:
    """The format that is ``given``, else that of the output's suffix, else table on a terminal and ``elsewhere`` if
    there is none. ``known``: those that a suffix may name. Raises typer.BadParameter where it names no format.
    """
    from ..output.files import format_of, is_terminal

    if given is not None:
        return given.value
    if path is None:
        return "table" if is_terminal(None) else elsewhere
    if str(path) == "-":
        raise typer.BadParameter("-o -: omit -o to write to stdout")
    found = format_of(path)
    if found is None or found not in known:
        suffixes = ", ".join(f".{name}" for name in known if name != "table")
        hint = " (`xclip timeline` writes those)" if path.suffix.lower() in (".srt", ".vtt", ".edl", ".otio") else ""
        raise typer.BadParameter(f"{path} has no suffix that names a format{hint}: use {suffixes}, or pass --format")
    return found


def switch_off_hub(wanted: bool = True) -> bool:
    """Have huggingface_hub open no connection, if ``wanted``, which is returned; it reads its settings once, when it is
    imported."""
    if wanted:
        os.environ["HF_HUB_OFFLINE"] = "1"
    return wanted


def offer_labels(incomplete: str) -> list[str]:
    """What completes the start of a label set's name, or of a label file's."""
    return _offered(incomplete, "labels")


def offer_templates(incomplete: str) -> list[str]:
    """What completes the start of a template set's name, or of a template file's."""
    return _offered(incomplete, "templates")


def _offered(incomplete: str, kind: str) -> list[str]:
    from ..labels import LABEL_FILES, shipped

    files = neighbours(Path(incomplete + "_"), LABEL_FILES)
    return [name for name in (*shipped(kind), *files) if name.startswith(incomplete)]


def offer_models(incomplete: str) -> list[str]:
    """What completes the start of a model's name, or of a checkpoint's folder."""
    from ..model.checkpoint.files import CONFIG_NAME
    from ..model.checkpoint.find import BUNDLED
    from ..model.checkpoint.public import public_checkpoints

    public = [*public_checkpoints(), *(one.short_name for one in public_checkpoints().values())]
    names = [name for name in (AUTO, BUNDLED, *public) if name.startswith(incomplete)]
    with suppress(OSError, ValueError):
        parent = Path(incomplete + "_").parent
        names += [str(path.parent) for path in parent.glob(f"*/{CONFIG_NAME}") if str(path).startswith(incomplete)]
    return names


class OutputFormat(StrEnum):
    """How results are written."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"
    parquet = "parquet"


class Preprocess(StrEnum):
    """Which protocol frames are resized and cropped by."""

    hf = "hf"
    paper = "paper"


class DType(StrEnum):
    """What the model computes in."""

    auto = "auto"
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    int8 = "int8"


# Flags that commands take one by one, too.
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Force = Annotated[bool, typer.Option("--force", rich_help_panel="Output", help="Replace an existing output file.")]
Quiet = Annotated[
    bool,
    typer.Option(
        "--quiet", "-q", rich_help_panel=RUN, help="Print only errors, and how many videos failed, on stderr."
    ),
]
Offline = Annotated[
    bool,
    typer.Option("--offline", callback=switch_off_hub, help="Never use the network, only what is cached."),
]
Null = Annotated[
    bool,
    typer.Option("--null", "-0", rich_help_panel="Inputs", help="Paths in --from-file are separated by NUL bytes."),
]
Start = Annotated[
    Fraction | None,
    typer.Option(parser=seconds, metavar="TIME", help="Start of the part to analyse: seconds or HH:MM:SS.mmm."),
]
End = Annotated[Fraction | None, typer.Option(parser=seconds, metavar="TIME", help="End of the part to analyse.")]
OutputDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        file_okay=False,
        help="Write one file per video to this folder, in the same subfolders as the videos, and all results to its "
        "results.jsonl, which --resume continues.",
    ),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", help="Continue the -o .jsonl file, or that of --output-dir, skipping the videos recorded in it."
    ),
]
RetryFailed = Annotated[bool, typer.Option("--retry-failed", help="With --resume: also retry the videos that failed.")]
ModelName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        autocompletion=offer_models,
        help="A hub id or its short name (name@revision), a folder, or 'bundled'.",
    ),
]
Root = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        exists=True,
        file_okay=False,
        rich_help_panel="Output",
        help="Where the videos are now, for the thumbnails and links of a page: they are found there by their paths, "
        "or by the last parts of their paths; / uses absolute paths as they are. Without it, only videos below the "
        "folder of the results file or index are shown.",
    ),
]
SaveClips = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        file_okay=False,
        help="Also save each segment or moment as a file, from the keyframe before it, without re-encoding.",
    ),
]


def sentences(word: str) -> Any:
    """The option that puts each ``word`` into sentences."""
    return typer.Option(
        metavar="TEXT|FILE|NAME",
        autocompletion=offer_templates,
        help=f"A sentence with {{}} for the {word}, or a file or built-in set of sentences; several are averaged. "
        f"Default: the bare {word}.",
    )


Templates = Annotated[list[str] | None, sentences("label")]
Tokenizer = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|NAME",
        help="Tokenizer for a .pth file of the authors, which has none. Default: base-patch32's, from the hub.",
    ),
]
Heads = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Attention heads of the MIT and the prompt generator. Default: the checkpoint's (see `xclip models "
        "info`).",
    ),
]


HeadFile = Annotated[
    Path | None,
    typer.Option(
        "--head",
        metavar="FILE",
        help="Corrections learned from examples (see `xclip adapt`), for the model that they were learned with. "
        "Without labels, those of the head are used.",
    ),
]
