"""Groups of flags: what typer makes of them, and that they say what the library says."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import typer
from conftest import Run
from typer.testing import CliRunner

from xclip_cli.classifier import Classifier
from xclip_cli.cli.app import app
from xclip_cli.cli.cluster import ClusterFlags
from xclip_cli.cli.flags import DecodeFlags, InputFlags, LabelFlags, ModelFlags, OutputFlags
from xclip_cli.cli.options import DType, OutputFormat, Preprocess, check_device, either
from xclip_cli.cli.takes_flags import takes_flags
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
    colours: Annotated[list[str] | None, typer.Option()] = None


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


def test_offline_is_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    calls: list[bool] = []

    def look(model: ModelFlags) -> None:
        calls.append(model.offline)

    for arguments in ([], ["--offline"]):
        assert CliRunner().invoke(program(look), arguments).exit_code == 0
        assert (os.environ.get("HF_HUB_OFFLINE") == "1") == bool(arguments)
    assert calls == [False, True]
    monkeypatch.delenv("HF_HUB_OFFLINE")


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
        (lambda: InputFlags(start=Fraction(2), end=Fraction(1)), "--start (2 s) must be before --end (1 s)"),
        (lambda: ClusterFlags(actors=2), "--actors requires --ray"),
        (lambda: ClusterFlags(ray_address="a:1"), "--ray-address requires --ray"),
        (lambda: ClusterFlags(ray=True, actor_gpus=1.5), "--actor-gpus 1.5: give a fraction of one GPU, or a whole"),
        (lambda: InputFlags().expand(), "no inputs: pass at least one video or folder"),
        (
            lambda: LabelFlags(none_of_these=True, multi_label=True),
            "--none-of-these cannot be combined with --multi-label",
        ),
        (lambda: OutputFlags(Path("a.srt")).form(tables.FORMATS), "a.srt has no suffix that names a format"),
        (lambda: OutputFlags(Path("a.csv"), resume=True).form(tables.FORMATS), "--resume continues a results file"),
        (lambda: OutputFlags(retry_failed=True).form(tables.FORMATS), "--retry-failed requires --resume"),
        (lambda: TimelineOutputFlags().check("vtt", Inputs(["a", "b"])), "vtt holds one video"),
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


NUMBERS = [
    *(("classify", flag, value) for flag in ("--threshold", "--timeout") for value in ("nan", "inf", "1e400")),
    *(("timeline", flag, value) for flag in ("--min-duration", "--min-score") for value in ("nan", "inf", "-inf")),
    *(
        ("classify", flag, "9" * 400)
        for flag in (
            "--top-k",
            "--workers",
            "--batch-size",
            "--threads",
            "--max-pixels",
            "--max-frames",
            "--max-memory",
        )
    ),
    *(("timeline", flag, "9" * 400) for flag in ("--start", "--end", "--window", "--stride")),
    ("classify", "--max-memory", "9" * 400),
    ("classify", "--device", "cuda:" + "9" * 400),
    ("classify", "--views", "9" * 400 + "x1"),
]


@pytest.mark.parametrize(("command", "flag", "value"), NUMBERS)
def test_absurd_numbers_are_refused(command: str, flag: str, value: str) -> None:
    done = CliRunner().invoke(app, [command, "a.mp4", "-l", "picture-state", "-m", "bundled", flag, value])
    assert done.exit_code == 2, done.output
    assert isinstance(done.exception, SystemExit)
    assert flag in done.output


STEERING = "\x1b]0;PWNED\x07\u202e\udce9"


@pytest.mark.parametrize(
    "arguments",
    [
        [f"--{STEERING}"],
        [STEERING],
        ["classify", f"--no-{STEERING}"],
        ["classify", "a.mp4", "-l", "picture-state", "--top-k", STEERING],
        ["classify", "a.mp4", "-l", "picture-state", "--format", STEERING],
        ["classify", "a.mp4", "-l", "picture-state", "--start", STEERING],
        ["classify", "a.mp4", "-l", "picture-state", "--device", STEERING],
        ["classify", "a.mp4", "-l", "picture-state", "-o", f"{STEERING}/x.csv"],
        ["classify", f"--quiet={STEERING}"],
        ["labels", STEERING],
        ["labels", "show", "a", STEERING],
        ["labels", "show", STEERING],
        ["report", "a", "-o", "b", "--root", STEERING],
    ],
)
def test_usage_errors_cannot_steer_the_terminal(xclip: Run, arguments: list[str]) -> None:
    done = xclip(*arguments)
    assert done.returncode == 2
    assert not {"\x1b", "\x07", "\u202e"} & set(done.stdout + done.stderr)
    assert "Error" in done.stderr or done.stderr.startswith("error: ")


def test_labels_that_are_shown_cannot_steer_the_terminal(xclip: Run, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text(f"a cat\n{STEERING[:-1]} می\u200cشود\n", "utf-8")
    assert xclip("labels", "show", path).stdout == "a cat\n\\x1b]0;PWNED\\x07\\u202e می\u200cشود\n"


def test_labels_check_tells_signs_of_more_than_labels(xclip: Run, tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_text("1. a cat\n2. a dog\n")
    done = xclip("labels", "check", path)
    assert (done.returncode, done.stdout) == (0, "2 labels, 2 texts: 1 warning\n")
    assert done.stderr.startswith("warning: 2 labels are numbered, such as '2. a dog'")


@pytest.mark.parametrize("name", ["auto", "all", "cpu", "cuda", "cuda:7", "cuda:0,cuda:1", "cuda:2,cuda,cuda:0"])
def test_names_of_devices_are_taken(name: str) -> None:
    assert check_device(name) == name


@pytest.mark.parametrize(
    "name", ["", "gpu", "cuda:", "cuda:0,", ",cuda", "cpu,cuda", "all,cpu", "cuda:0 cuda:1", "cuda;1"]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(
        typer.BadParameter, match=r"is not auto, cpu, cuda, cuda:N, several CUDA devices \(cuda:0,cuda:1\)"
    ):
        check_device(name)
