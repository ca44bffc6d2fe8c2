"""xclip.toml: the user's own defaults of flags."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from conftest import Run
from typer.testing import CliRunner

from xclip_cli.cli.app import app
from xclip_cli.cli.config import Config, commands, flags_of, user_file

PROGRAM = typer.main.get_command(app)
CONTEXT = typer.Context(PROGRAM)
FLAGS = {words: flags_of(command, CONTEXT) for words, command in commands(PROGRAM)}


def written(folder: Path, text: str) -> Path:
    path = folder / "xclip.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(folder: Path, text: str) -> str:
    with pytest.raises(typer.BadParameter) as caught:
        Config(written(folder, text), PROGRAM, CONTEXT)
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
        assert message in " ".join(done.stderr.replace("│", "").split())
    assert xclip("labels", "list", "--config", os.devnull).returncode == 0


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


def test_bad_values_are_told_as_on_the_command_line(xclip: Run, tmp_path: Path) -> None:
    path = written(tmp_path, "[timeline]\nwindow = '\\u001b]0;PWNED'\n")
    done = xclip("timeline", "a.mp4", "--label", "x", "--config", path)
    assert done.returncode == 2
    said = " ".join(done.stderr.replace("│", " ").split())
    assert "--window" in said
    assert "is not a time" in said
    assert "xclip config show" in said
    assert "\x1b" not in done.stderr
    path = written(tmp_path, '"\\u001b]0;PWNED" = 1\n')
    assert "\x1b" not in xclip("labels", "list", "--config", path).stderr
