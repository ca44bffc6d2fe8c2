"""Groups of flags: what typer makes of them, and that they say what the library says."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import typer
from typer.testing import CliRunner

from xclip_cli.classifier import Classifier
from xclip_cli.cli.flags import (
    DecodeFlags,
    DType,
    InputFlags,
    LabelFlags,
    ModelFlags,
    OutputFlags,
    OutputFormat,
    Preprocess,
    either,
    takes_flags,
)
from xclip_cli.cli.timeline import SegmentFlags, TimelineFormat, TimelineOutputFlags
from xclip_cli.engine.devices import DTYPES
from xclip_cli.inputs import Inputs
from xclip_cli.model.config import PREPROCESSINGS
from xclip_cli.output import tables, timelines


@dataclass(frozen=True)
class Plants:
    panel: ClassVar[str] = "Plants of the garden"

    tree: Annotated[str, typer.Option()]
    leaves: Annotated[int, typer.Option("--leaves", "-l")] = 3
    colours: Annotated[list[str], typer.Option()] = field(default_factory=lambda: ["green"])


@dataclass(frozen=True)
class Animals:
    name: Annotated[str | None, typer.Argument()] = None
    loud: Annotated[bool, typer.Option("--loud")] = False


@dataclass(frozen=True)
class More:
    leaves: int = 1


def program(command: Callable[..., None]) -> typer.Typer:
    app = typer.Typer()
    app.command()(takes_flags(command))
    return app


def call(*arguments: str) -> tuple[int, list[Any]]:
    """The exit code, and what a command with two groups and a flag of its own is called with."""
    calls: list[Any] = []

    def grow(plants: Plants, animals: Animals, times: int = 1) -> None:
        calls.append((plants, animals, times))

    return CliRunner().invoke(program(grow), arguments).exit_code, calls


def test_a_command_gets_its_groups() -> None:
    code, calls = call("--tree", "oak", "-l", "5", "cat", "--loud", "--times", "2", "--colours", "red")
    assert (code, calls) == (0, [(Plants("oak", 5, ["red"]), Animals("cat", True), 2)])


def test_defaults_are_those_of_the_fields() -> None:
    assert call("--tree", "oak") == (0, [(Plants("oak"), Animals(), 1)])


def test_a_field_without_a_default_is_required() -> None:
    assert call("--leaves", "5") == (2, [])


def test_two_flags_of_one_name_are_refused() -> None:
    def groups(plants: Plants, more: More) -> None: ...

    def own(plants: Plants, leaves: int = 1) -> None: ...

    for command in (groups, own):
        with pytest.raises(TypeError, match=f"{command.__name__} has two flags called leaves"):
            takes_flags(command)


def test_options_stand_in_their_groups_panel() -> None:
    def grow(plants: Plants, animals: Animals) -> None:
        """Grow."""

    help_ = CliRunner().invoke(program(grow), ["--help"], env={"COLUMNS": "80"}).output
    panel = help_.partition("Plants of the garden")[2]
    assert "--leaves" in panel
    assert "--loud" not in panel
    assert "Grow." in help_


def test_names_and_docstrings_stay() -> None:
    spelled_out = takes_flags(call)
    assert (spelled_out.__name__, spelled_out.__doc__) == (call.__name__, call.__doc__)


def test_choices_in_words() -> None:
    assert either(["a", "b", "c"]) == "a, b or c"
    assert either(["a", "b"]) == "a or b"


def test_settings_are_the_classifiers_keywords_and_defaults() -> None:
    keywords = inspect.signature(Classifier).parameters
    labels = LabelFlags(label=["a"]).settings()
    assert labels.pop("labels").names == ("a",)
    for name, value in (labels | ModelFlags().settings() | DecodeFlags().settings()).items():
        assert value == keywords[name].default, name
    assert ModelFlags().name == keywords["model"].default


def test_choices_are_the_librarys() -> None:
    assert tuple(DType) == tuple(DTYPES)
    assert set(Preprocess) == set(PREPROCESSINGS)
    assert set(OutputFormat) == set(tables.FORMATS)
    assert set(TimelineFormat) == set(timelines.FORMATS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InputFlags(start=Fraction(2), end=Fraction(1)), "--start 2 s is not before --end 1 s"),
        (lambda: InputFlags().expand(), "give at least one video or folder"),
        (lambda: LabelFlags(none_of_these=True, multi_label=True), "--none-of-these goes without --multi-label"),
        (lambda: OutputFlags(Path("a.srt")).form(tables.FORMATS), "a.srt has no suffix that names a format"),
        (lambda: OutputFlags(Path("a.csv"), resume=True).form(tables.FORMATS), "--resume goes on with a results file"),
        (lambda: OutputFlags(retry_failed=True).form(tables.FORMATS), "--retry-failed goes with --resume"),
        (lambda: TimelineOutputFlags().check("vtt", Inputs(["a", "b"])), "vtt holds the subtitles of one video"),
        (lambda: SegmentFlags(window=Fraction(0)).rules(Fraction(10)), "window and stride must be longer than 0 s"),
    ],
)
def test_a_group_checks_itself(make: Callable[[], object], message: str) -> None:
    with pytest.raises(typer.BadParameter) as caught:
        make()
    assert message in caught.value.message


def test_formats_are_asked_for_or_named_by_the_suffix() -> None:
    assert OutputFlags(Path("a.txt"), OutputFormat.json).form(tables.FORMATS) == "json"
    assert OutputFlags(Path("a.txt")).form(tables.FORMATS) == "table"
    assert TimelineOutputFlags(Path("a.srt")).form(timelines.FORMATS) == "srt"


def test_labels_get_neutral_texts_where_they_are_asked_for() -> None:
    assert not LabelFlags(label=["a"]).wanted.background
    assert LabelFlags(label=["a"], none_of_these=True).wanted.background
    assert LabelFlags(label=["a"], multi_label=True).wanted.background


def test_a_window_and_a_stride_have_usual_lengths() -> None:
    rules = SegmentFlags().rules(Fraction(10))
    assert (rules.window, rules.stride) == (10, 5)
    rules = SegmentFlags(window=Fraction(4), min_score=0.5).rules(Fraction(10))
    assert (rules.window, rules.stride, rules.min_score) == (4, 2, 0.5)
