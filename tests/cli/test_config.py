"""xclip.toml: the user's own defaults of flags."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Run
from typer.testing import CliRunner

from xclip_cli.cli.app import app
from xclip_cli.cli.config import INSTEAD, Config, commands, flags_of, user_file

PROGRAM = typer.main.get_command(app)
CONTEXT = typer.Context(PROGRAM)
FLAGS = {words: flags_of(command, CONTEXT) for words, command in commands(PROGRAM)}


def written(folder: Path, text: str) -> Path:
    path = folder / "xclip.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(folder: Path, text: str, asking: tuple[str, ...] | None = None) -> str:
    with pytest.raises(typer.BadParameter) as caught:
        Config(written(folder, text), PROGRAM, CONTEXT, asking)
    return caught.value.message.removeprefix(f"{folder / 'xclip.toml'}: ")


def shown(*arguments: str, env: dict[str, str] | None = None) -> Any:
    done = CliRunner().invoke(app, ["config", "show", "--json", *arguments], env={"XCLIP_MODEL": None, **(env or {})})
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def in_toml(flag: Any) -> Any:
    if flag.is_flag:
        return True
    return ["1", "2"] if flag.multiple else "1"


def test_every_flag_of_every_command_can_be_set(tmp_path: Path) -> None:
    assert len(FLAGS) > 20
    for words, flags in FLAGS.items():
        values = {name: in_toml(flag) for name, flag in flags.items()}
        table = "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())
        path = written(tmp_path, f"[{'.'.join(words)}]\n{table}")
        assert tomllib.loads(path.read_text())[words[0]] is not None
        config = Config(path, PROGRAM, CONTEXT)
        settings = config.settings(words)
        assert {name: setting.value for name, setting in settings.items()} == values
        assert {setting.where for setting in settings.values()} <= {".".join(words)}
        assert all(config.settings(other) == {} for other in FLAGS if other != words)


def test_what_all_commands_share_stands_at_the_top(tmp_path: Path) -> None:
    path = written(tmp_path, 'quiet = true\nwindow = 4\n[timeline]\nwindow = "0:06.5"\nlabels = "a.txt"\n')
    config = Config(path, PROGRAM, CONTEXT)
    found = {name: (setting.value, setting.where) for name, setting in config.settings(("timeline",)).items()}
    assert found == {
        "quiet": (True, ""), "window": ("0:06.5", "timeline"), "labels": (["a.txt"], "timeline"),
    }  # fmt: skip
    assert config.settings(("embed",))["window"].value == "4"
    assert {*config.settings(("classify",))} == {"quiet"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("modle = 'x'", "no command has a flag 'modle': did you mean 'model'?"),
        ("top_k = 3", "no command has a flag 'top_k': did you mean 'top-k'?"),
        ("[timeline]\nwindw = 3", "xclip timeline has no flag 'windw': did you mean 'window'?"),
        ("[classify]\nwindow = 3", "xclip classify has no flag 'window'"),
        ("[tmeline]\nwindow = 3", "there is no command 'tmeline': did you mean 'timeline'?"),
        ("[models.pul]\nquiet = true", "there is no command 'models pul': did you mean 'pull'?"),
        ("zzzzz = 1", "no command has a flag 'zzzzz': `xclip --help` lists commands"),
        ("quiet = 'yes'", "'quiet' must be true or false, without quotes"),
        ("model = true", "'model' must be a string or a number"),
        ("[timeline]\nwindow = [1, 2]", "'window' of [timeline] must be a string or a number"),
        ("labels = [['a']]", "'labels' must be a string or a number, or a list of them"),
        ("help = true", "no command has a flag 'help'"),
        ("config = 'other.toml'", "no command has a flag 'config'"),
        ("videos = ['a.mp4']", "no command has a flag 'videos'"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_the_nearest(tmp_path: Path, text: str, message: str) -> None:
    assert refused(tmp_path, text).startswith(message)


def test_a_command_answers_for_what_concerns_it(tmp_path: Path) -> None:
    """Tables of other commands are for these, and `config show`, to look into; names of tables are for all."""
    text = "quiet = true\n[timeline]\nwindw = 3\n[models.pull]\nquiett = true\n"
    for words in (("classify",), ("models", "info"), ("config", "show")):
        Config(written(tmp_path, text), PROGRAM, CONTEXT, words)
    for asking in (("timeline",), None):
        assert "xclip timeline has no flag 'windw': did you mean 'window'?" in refused(tmp_path, text, asking)
    assert "xclip models pull has no flag 'quiett'" in refused(tmp_path, text, ("models", "pull"))
    for words in FLAGS:
        assert "no command has a flag 'modle': did you mean 'model'?" in refused(tmp_path, "modle = 1", words)
        assert "no command has a flag 'videos'" in refused(tmp_path, "videos = ['a']", words)
        assert "did you mean 'timeline'?" in refused(tmp_path, "[tmeline]\na = 1", words)
        Config(written(tmp_path, "window = 4\nhead = 'h'"), PROGRAM, CONTEXT, words)  # some command has it


PROGRAM_OF_ONE = """
import sys
from xclip_cli.cli.app import app
app(["labels", "list", "--config", sys.argv[1]], standalone_mode=False)
print([name for name in ("search", "embed", "models", "labels") if f"xclip_cli.cli.{name}" in sys.modules])
"""


def test_a_run_with_a_file_waits_for_no_other_command(tmp_path: Path) -> None:
    path = written(tmp_path, "[embed]\nwindow = 2\n[models.pull]\nquiet = true\n")
    command = [sys.executable, "-c", PROGRAM_OF_ONE, path]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "['labels']"


def test_files_that_are_none(tmp_path: Path, xclip: Run) -> None:
    assert "is not valid TOML" in refused(tmp_path, "model = ")
    assert "is not valid TOML" in refused(tmp_path, "a = " + "[" * 100_000)
    (tmp_path / "big.toml").write_text("#" * (2 << 20))
    (tmp_path / "latin.toml").write_bytes(b"model = '\xe9'")
    for name, message in (
        ("big.toml", "larger than 1 MB"),
        ("latin.toml", "is not valid TOML"),
        ("none.toml", "No such file"),
    ):
        done = xclip("labels", "list", "--config", tmp_path / name)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
    assert xclip("labels", "list", "--config", os.devnull).returncode == 0


def test_texts_as_users_write_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths below the home folder, which a shell would spell out; a mark of Windows' editors; times of TOML."""
    monkeypatch.setenv("HOME", str(tmp_path))
    path = written(tmp_path, "\ufefflabels = ['~/a.txt', '~b']\nhead = '~/h'\n[timeline]\nstart = 00:01:30\n")
    found = {name: setting.value for name, setting in Config(path, PROGRAM, CONTEXT).settings(("timeline",)).items()}
    assert found == {"labels": [f"{tmp_path}/a.txt", "~b"], "head": f"{tmp_path}/h", "start": "00:01:30"}


def test_the_users_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "quiet = true")  # of the current folder, which a stranger may have made
    written(tmp_path / "xclip", "quiet = true")
    assert user_file() is None
    assert shown()["commands"] == {}
    path = written(tmp_path / "settings" / "xclip", "quiet = true")
    assert user_file() == path
    assert shown()["file"] == str(path)
    monkeypatch.setenv("XDG_CONFIG_HOME", ".")  # relative folders are none
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert user_file() is None
    assert shown()["looked for"] == str(tmp_path / "home" / ".config" / "xclip" / "xclip.toml")


def test_show_says_where_each_value_came_from(tmp_path: Path) -> None:
    path = written(tmp_path, "model = 'base-patch32'\n[timeline]\nwindow = 4\nmodel = 'bundled'\n")
    found = shown("--config", str(path))["commands"]
    assert found["timeline"] == {
        "window": {"value": "4", "source": f"{path} [timeline]"},
        "model": {"value": "bundled", "source": f"{path} [timeline]"},
    }
    assert found["classify"] == {"model": {"value": "base-patch32", "source": str(path)}}
    found = shown("--config", str(path), env={"XCLIP_MODEL": "large-patch14"})["commands"]
    assert found["timeline"]["model"] == {"value": "large-patch14", "source": "XCLIP_MODEL"}
    every = shown("timeline", "--config", str(path))["commands"]["timeline"]
    assert every.keys() == FLAGS[("timeline",)].keys()
    assert every["top-k"] == {"value": 5, "source": "default"}
    text = CliRunner().invoke(app, ["config", "show", "--config", str(path)], env={"XCLIP_MODEL": None}).output
    assert f"window: 4  ({path} [timeline])" in text
    assert "recursive: false  (default)" in CliRunner().invoke(app, ["config", "show", "classify"]).output
    assert "did you mean" not in CliRunner().invoke(app, ["config", "show", "foo"]).output
    done = CliRunner().invoke(app, ["config", "show", "timline"])
    assert (done.exit_code, "did you mean 'timeline'?" in " ".join(done.output.split())) == (2, True)


def test_flags_win_over_variables_and_those_over_the_file(xclip: Run, clip: Path, tmp_path: Path) -> None:
    text = "model = 'bundled'\nlabels = ['picture-state']\ntop-k = 2\n[classify]\nformat = 'csv'\n"
    path = written(tmp_path / "settings", text)
    command = ["classify", clip, "--config", path]
    done = xclip(*command)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3
    (record,) = map(json.loads, xclip(*command, "--format", "jsonl", "--top-k", "1").stdout.splitlines())
    assert (record["model"], len(record["predictions"])) == ("bundled", 1)
    done = xclip(*command, env={"XCLIP_MODEL": "./of-the-variable"})
    assert (done.returncode, "of-the-variable" in done.stderr) == (4, True)
    assert xclip(*command, "--model", "bundled", env={"XCLIP_MODEL": "./of-the-variable"}).returncode == 0
    # the same file as the user's own, and another command
    env = {"XDG_CONFIG_HOME": str(tmp_path / "home")}
    written(tmp_path / "home" / "xclip", text + "[timeline]\nwindow = 0.5\n")
    *_, last = map(json.loads, xclip("timeline", clip, env=env).stdout.splitlines())
    assert last["window_seconds"] == 0.5
    assert xclip("classify", clip, "--config", os.devnull, env=env).returncode == 2  # no labels


def test_the_model_of_an_index_goes_before_the_files(xclip: Run, clip: Path, tmp_path: Path, checkpoint: Path) -> None:
    assert xclip("embed", clip, "-m", checkpoint, "--dtype", "float32", "-o", "i.index").returncode == 0
    path = written(tmp_path, "model = 'bundled'\n")
    done = xclip("classify", "i.index", "--label", "a cat", "--label", "a dog", "--config", path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["model"] == str(checkpoint)


INDEX = """
model = 'bundled'
labels = ['picture-state']
views = '2x1'
preprocess = 'paper'
heads = 7
stream = 1
save-frames = 'frames'
[timeline]
window = 4
stride = 3
"""


def test_what_an_index_settles_goes_before_the_file(xclip: Run, clip: Path, tmp_path: Path, checkpoint: Path) -> None:
    embed = ["embed", clip, "-m", checkpoint, "--dtype", "float32"]
    assert xclip(*embed, "-o", "whole.index").returncode == 0
    assert xclip(*embed, "-o", "windows.index", "--window", "0.5").returncode == 0
    path = written(tmp_path, INDEX)
    for command, index in (("classify", "whole.index"), ("timeline", "windows.index")):
        done = xclip(command, index, "--label", "a cat", "--label", "a dog", "--config", path)
        assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["window_seconds"] == 0.5
    assert not (tmp_path / "cwd" / "frames").exists()
    for flag, value in (("window", "4"), ("views", "2x1"), ("stream", "1")):  # given, they must fit
        done = xclip("timeline", "windows.index", "--label", "x", "--config", path, f"--{flag}", value)
        assert (done.returncode, f"--{flag} {value} does not match the index" in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize("usual", ["file", "variable"])
def test_a_model_that_is_given_is_not_taken_for_a_default(
    xclip: Run, clip: Path, tmp_path: Path, checkpoint: Path, usual: str
) -> None:
    """Also where it is the one of the file, or the variable."""
    assert xclip("embed", clip, "-m", checkpoint, "--dtype", "float32", "-o", "i.index").returncode == 0
    path = written(tmp_path, "model = 'bundled'\n" if usual == "file" else "")
    env = {} if usual == "file" else {"XCLIP_MODEL": "bundled"}
    command = ["classify", "i.index", "--label", "a cat", "--label", "a dog", "--config", path]
    assert xclip(*command, env=env).returncode == 0
    assert xclip(*command, env=env | {"XCLIP_MODEL": env.get("XCLIP_MODEL", "")}).returncode == 0
    done = xclip(*command, "--model", "bundled", env=env)
    assert (done.returncode, "contains model" in done.stderr) == (1, True), done.stderr


def labels_of(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return sorted(ranked["label"] for ranked in json.loads(done.stdout.splitlines()[-1])["predictions"])


VALUES = {"views": "2x1", "preprocess": "paper", "protocol": "ucf-101"}


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (words, given)
        for words in (("classify",), ("timeline",), ("evaluate",))
        for given in INSTEAD
        if given in FLAGS[words]
    ],
)
def test_each_flag_stands_in_the_place_of_others(
    words: tuple[str], given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (word,), flags, taken = words, FLAGS[words], list[dict[str, Any]]()
    monkeypatch.setattr(PROGRAM.commands[word], "callback", lambda **values: taken.append(values))
    others = {other: VALUES.get(other, in_toml(flags[other])) for other in INSTEAD[given] if other in flags}
    text = "".join(f"{name} = {json.dumps(value)}\n" for name, value in others.items())
    value = [] if flags[given].is_flag else [VALUES.get(given, "1")]
    command = [word, "a.mp4", "--config", str(written(tmp_path, f"workers = 3\n{text}"))]
    for arguments in (command, [*command, f"--{given}", *value], [word, "a.mp4"]):
        PROGRAM.main(arguments, standalone_mode=False)
    of_file, with_flag, plain = ([values[flags[other].name] for other in others] for values in taken)
    assert all(one != usual for one, usual in zip(of_file, plain, strict=True))
    assert with_flag == plain
    assert [values["workers"] for values in taken] == [3, 3, None]


def test_the_command_line_stands_in_the_place_of_what_contradicts_it(xclip: Run, clip: Path, tmp_path: Path) -> None:
    model = {"XCLIP_MODEL": "bundled"}
    path = written(tmp_path, "labels = ['picture-state']\noutput-dir = 'beside'\nnone-of-these = true\n")
    command = ["classify", clip, "--config", path]
    given = ["--label", "a black screen", "--label", "color bars", "--multi-label"]
    assert xclip(*command, *given, "-o", "r.jsonl", env=model).returncode == 0
    assert not (tmp_path / "cwd" / "beside").exists()
    header, record = map(json.loads, (tmp_path / "cwd" / "r.jsonl").read_text().splitlines())
    assert (header["labels"], header["multi_label"], header["none_of_these"]) == (2, True, None)
    path = written(tmp_path, "label = ['a cat', 'a dog']\noutput = 'file.jsonl'\nmulti-label = true\n")
    done = xclip(*command, "--labels", "picture-state", "--none-of-these", "--output-dir", "beside", env=model)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "cwd" / "file.jsonl").exists()
    header, record = map(json.loads, (tmp_path / "cwd" / "beside" / "results.jsonl").read_text().splitlines())
    assert "a cat" not in [ranked["label"] for ranked in record["predictions"]]
    assert header["none_of_these"] is True


def test_a_head_has_its_own_labels(xclip: Run, clip: Path, tmp_path: Path) -> None:
    for label in ("a black screen", "color bars"):
        (tmp_path / "cwd" / "examples" / label).mkdir(parents=True)
        (tmp_path / "cwd" / "examples" / label / "1.mp4").write_bytes(clip.read_bytes())
    done = xclip("adapt", "examples", "-m", "bundled", "-o", "h.safetensors", "--force")
    assert done.returncode == 0, done.stderr
    path = written(tmp_path, "labels = ['picture-state']\nmodel = 'base-patch32'\nviews = '2x1'\n")
    done = xclip("classify", clip, "--head", "h.safetensors", "--config", path, "--format", "jsonl")
    assert labels_of(done) == ["a black screen", "color bars"]


def test_a_suffix_goes_before_the_format_of_the_file(xclip: Run, clip: Path, tmp_path: Path) -> None:
    path = written(tmp_path, "model = 'bundled'\nlabels = 'picture-state'\nformat = 'csv'\n")
    for name, start in (("a.jsonl", "{"), ("a.csv", "video,"), ("a", "video,")):
        done = xclip("classify", clip, "--config", path, "-o", name)
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "cwd" / name).read_text().startswith(start)
    done = xclip("classify", clip, "--config", path, "-o", "b.jsonl", "--format", "csv")
    assert (tmp_path / "cwd" / "b.jsonl").read_text().startswith("video,")
    assert xclip("classify", clip, "--config", path).stdout.startswith("video,")
    # evaluate's is of the figures, and its -o of the records
    truth = written(tmp_path / "cwd" / "t", f"path,label\n{clip},a normal picture\n")
    evaluate = ["evaluate", clip, "--truth", truth.rename(truth.with_name("t.csv")), "--config", path]
    done = xclip(*evaluate, "-o", "r.jsonl")
    assert (done.returncode, done.stdout.startswith("{")) == (0, False), done.stderr
    done = xclip(*evaluate, "-o", "s.jsonl", "--summary", "s.json")
    assert json.loads((tmp_path / "cwd" / "s.json").read_text())


def test_config_show_takes_its_own_flags_from_the_file(tmp_path: Path) -> None:
    path = written(tmp_path, "json = true\n")
    done = CliRunner().invoke(app, ["config", "show", "--config", str(path)])
    assert json.loads(done.output)["file"] == str(path)


def test_bad_values_are_told_as_on_the_command_line(xclip: Run, tmp_path: Path) -> None:
    path = written(tmp_path, "[timeline]\nwindow = '\\u001b]0;PWNED'\n")
    done = xclip("timeline", "a.mp4", "--label", "x", "--config", path)
    assert done.returncode == 2
    said = done.stderr
    assert "--window" in said
    assert "is not a time" in said
    assert "xclip config show" in said
    assert "\x1b" not in done.stderr
    path = written(tmp_path, '"\\u001b]0;PWNED" = 1\n')
    assert "\x1b" not in xclip("labels", "list", "--config", path).stderr
