"""The configs against those of transformers, and against the files that the hub holds."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import reference
import transformers

from xclip_cli.errors import ModelError
from xclip_cli.model import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig

CLASSES = {
    XCLIPConfig: transformers.XCLIPConfig,
    XCLIPTextConfig: transformers.XCLIPTextConfig,
    XCLIPVisionConfig: transformers.XCLIPVisionConfig,
}

# The documented parameters and their defaults.
TEXT = {
    "vocab_size": 49408,
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "initializer_factor": 1.0,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
VISION = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "mit_hidden_size": 512,
    "mit_intermediate_size": 2048,
    "mit_num_hidden_layers": 1,
    "mit_num_attention_heads": 8,
    "num_channels": 3,
    "image_size": 224,
    "patch_size": 32,
    "num_frames": 8,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
    "initializer_factor": 1.0,
    "drop_path_rate": 0.0,
}
TOP = {
    "projection_dim": 512,
    "prompt_layers": 2,
    "prompt_alpha": 0.1,
    "prompt_hidden_act": "quick_gelu",
    "prompt_num_attention_heads": 8,
    "prompt_attention_dropout": 0.0,
    "prompt_projection_dropout": 0.0,
    "logit_scale_init_value": 2.6592,
}
NEW_HERE = {"dropout", "extra", "text_config", "vision_config", "return_dict"}  # not attributes of theirs, or not alike


def values(config: Any, names: Any) -> dict[str, Any]:
    return {name: getattr(config, name) for name in names}


def shared_values(config: Any, like: type) -> dict[str, Any]:
    """What our class and theirs both know."""
    return values(config, {f.name for f in fields(like)} - NEW_HERE)


def assert_same(ours: XCLIPConfig, theirs: Any) -> None:
    """Equal at the top and in both towers."""
    assert shared_values(ours, XCLIPConfig) == shared_values(theirs, XCLIPConfig)
    for name, tower in (("text_config", XCLIPTextConfig), ("vision_config", XCLIPVisionConfig)):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert isinstance(mine, tower)
        assert shared_values(mine, tower) == shared_values(other, tower)


def written(folder: Path, contents: Any) -> Path:
    (folder / "config.json").write_text(contents if isinstance(contents, str) else json.dumps(contents), "utf-8")
    return folder


@pytest.mark.parametrize(
    ("cls", "documented"), [(XCLIPTextConfig, TEXT), (XCLIPVisionConfig, VISION), (XCLIPConfig, TOP)]
)
def test_documented_defaults(cls: type, documented: dict[str, Any]) -> None:
    config = cls()
    assert values(config, documented) == documented
    assert shared_values(config, cls) == shared_values(CLASSES[cls](), cls)
    assert config.model_type == CLASSES[cls].model_type


def test_every_parameter_of_transformers_is_known() -> None:
    for cls, theirs in CLASSES.items():
        documented = set(theirs.__annotations__) - {"sub_configs_defaults"}
        assert documented <= {f.name for f in fields(cls)}


def test_defaults_of_the_whole_are_those_of_the_parts() -> None:
    assert_same(XCLIPConfig(), transformers.XCLIPConfig())
    assert XCLIPConfig(text_config=None, vision_config=None) == XCLIPConfig()


@pytest.mark.parametrize("kind", ["objects", "dicts", "from_text_vision_configs"])
def test_towers_are_given_as_objects_or_dicts(kind: str) -> None:
    text, vision = {"hidden_size": 64, "vocab_size": 9}, {"num_frames": 16, "mit_hidden_size": 64}
    if kind == "dicts":
        config = XCLIPConfig(text_config=text, vision_config=vision, projection_dim=64)
    else:
        build = XCLIPConfig if kind == "objects" else XCLIPConfig.from_text_vision_configs
        config = build(
            text_config=XCLIPTextConfig(**text), vision_config=XCLIPVisionConfig(**vision), projection_dim=64
        )
    assert_same(config, transformers.XCLIPConfig(text_config=text, vision_config=vision, projection_dim=64))


@pytest.mark.parametrize(
    ("text", "text_dict", "vision", "vision_dict"),
    [
        (None, {"hidden_size": 64}, None, {"num_frames": 32}),
        ({"hidden_size": 128, "vocab_size": 99}, {"hidden_size": 64}, {"num_frames": 16}, {"num_frames": 32}),
        ({"vocab_size": 99}, {}, {"image_size": 336, "num_frames": 16}, {"patch_size": 16}),
        ({"vocab_size": 99}, None, {"num_frames": 16}, None),
        ({"vocab_size": 99}, {"vocab_size": 7}, {"patch_size": 14}, None),
    ],
)
def test_older_keywords_win_as_in_transformers(text: Any, text_dict: Any, vision: Any, vision_dict: Any) -> None:
    """Even by their defaults: what ``text_config_dict`` does not name is the class's default, not ``text_config``'s."""
    given = {
        "text_config": text,
        "vision_config": vision,
        "text_config_dict": text_dict,
        "vision_config_dict": vision_dict,
    }

    def arguments() -> dict[str, Any]:  # transformers writes into the dicts it is given
        return {key: dict(value) for key, value in given.items() if value is not None}

    theirs = transformers.XCLIPConfig(**arguments())
    for config in (XCLIPConfig(**arguments()), XCLIPConfig.from_dict(arguments() | {"model_type": "xclip"})):
        assert_same(config, theirs)
        assert not config.to_dict().keys() & {"text_config_dict", "vision_config_dict"}


def test_older_keywords_win_over_objects_too() -> None:
    config = XCLIPConfig(
        text_config=XCLIPTextConfig(vocab_size=99, extra={"note": "kept"}), text_config_dict={"hidden_size": 64}
    )
    assert (config.text_config.vocab_size, config.text_config.hidden_size) == (49408, 64)
    assert config.text_config.extra["note"] == "kept"


def test_a_config_keeps_nothing_of_what_it_was_given() -> None:
    text, given = XCLIPTextConfig(), {"num_frames": 16}
    config = XCLIPConfig(text_config=text, vision_config=given)
    config.text_config.hidden_size, config.vision_config.num_frames = 64, 4
    assert text.hidden_size == 512
    assert given == {"num_frames": 16}


def test_unknown_keys_survive_a_round_trip(tmp_path: Path) -> None:
    hub = json.loads(transformers.XCLIPConfig(text_config={"num_labels": 5}).to_json_string(use_diff=False))
    hub |= {"extra": 1, "torch_dtype": "float32"}
    hub["vision_config"]["problem_type"] = "video"
    config = XCLIPConfig.from_folder(written(tmp_path, hub))
    config.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "config.json").read_text("utf-8"))
    for tower in ("text_config", "vision_config"):
        assert {**saved[tower], **hub.pop(tower)} == saved[tower]
    assert {**saved, **hub} == saved
    assert saved["text_config"]["id2label"].keys() == {"0", "1", "2", "3", "4"}
    assert XCLIPConfig.from_folder(tmp_path / "again") == config


@pytest.mark.parametrize("cls", CLASSES)
def test_both_libraries_read_each_others_files(cls: Any, tmp_path: Path) -> None:
    theirs = {
        XCLIPConfig: reference.config(),
        XCLIPTextConfig: reference.config().text_config,
        XCLIPVisionConfig: reference.config().vision_config,
    }[cls]
    theirs.save_pretrained(tmp_path / "theirs")
    config = cls.from_pretrained(tmp_path / "theirs")
    config.save_pretrained(tmp_path / "ours")
    again = CLASSES[cls].from_pretrained(tmp_path / "ours")
    for other in (theirs, again):
        assert shared_values(config, cls) == shared_values(other, cls)
    if cls is XCLIPConfig:
        assert_same(config, again)
    assert cls.from_pretrained(str(tmp_path / "ours")) == config


def test_a_towers_config_is_read_from_a_whole_models_file(tmp_path: Path) -> None:
    whole = reference.config(text={"hidden_size": 48}, vision={"num_frames": 16})
    whole.save_pretrained(tmp_path)
    assert XCLIPTextConfig.from_folder(tmp_path) == XCLIPConfig.from_folder(tmp_path).text_config
    assert XCLIPVisionConfig.from_folder(tmp_path) == XCLIPConfig.from_folder(tmp_path).vision_config
    assert XCLIPTextConfig.from_folder(tmp_path).hidden_size == 48
    assert XCLIPVisionConfig.from_folder(tmp_path).num_frames == 16


def test_hub_configs_of_2022(tmp_path: Path) -> None:
    """The old class name; blocks filled with generation defaults, twice; sizes as lists."""
    generation = {"do_sample": False, "id2label": {"0": "LABEL_0"}, "length_penalty": 1.0, "torch_dtype": None}
    text = generation | {"model_type": "xclip_text_model", "hidden_size": 768, "num_attention_heads": 12}
    vision = generation | {
        "model_type": "xclip_vision_model",
        "image_size": [336, 336],
        "patch_size": [14, 14],
        "mit_hidden_size": 768,
        "num_frames": 16,
    }
    hub = {
        "architectures": ["XClipModel"],
        "model_type": "xclip",
        "projection_dim": 768,
        "text_config": text | {"hidden_size": 512},
        "text_config_dict": text,
        "vision_config": vision,
        "vision_config_dict": vision,
        "transformers_version": "4.22.0.dev0",
    }
    config = XCLIPConfig.from_folder(written(tmp_path, hub))
    assert (config.text_config.hidden_size, config.projection_dim) == (768, 768)
    assert (config.vision_config.image_size, config.vision_config.patch_size) == (336, 14)
    assert config.vision_config.num_patches == 24 * 24
    assert config.prompt_num_attention_heads == 8  # what the file leaves out is the default, whatever the width
    assert config.extra["architectures"] == ["XClipModel"]
    assert config.text_config.extra["length_penalty"] == 1.0


def test_numbers_come_from_the_file_not_from_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "xclip-base-patch16-32-frames"
    XCLIPConfig(vision_config={"num_frames": 5}).save_pretrained(folder)
    assert XCLIPConfig.from_pretrained(folder).vision_config.num_frames == 5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: XCLIPTextConfig(hidden_size=10, num_attention_heads=3), "hidden_size 10 does not divide into"),
        (lambda: XCLIPVisionConfig(mit_num_attention_heads=7), "mit_hidden_size 512 does not divide into mit_num"),
        (lambda: XCLIPConfig(prompt_num_attention_heads=3), "projection_dim 512 does not divide into prompt_num"),
        (lambda: XCLIPTextConfig(num_attention_heads=0), "num_attention_heads is 0, it must be a whole number"),
        (lambda: XCLIPTextConfig(vocab_size="many"), "vocab_size is 'many', it must be a whole number of at least 1"),
        (lambda: XCLIPVisionConfig(num_frames=-8), "num_frames is -8"),
        (lambda: XCLIPVisionConfig(num_frames=True), "num_frames is True"),
        (lambda: XCLIPConfig(prompt_layers=1.5), "prompt_layers is 1.5"),
        (lambda: XCLIPTextConfig(hidden_act="swoosh"), "hidden_act 'swoosh' is not one of quick_gelu, gelu, gelu_new"),
        (lambda: XCLIPConfig(prompt_hidden_act=dict), "prompt_hidden_act <class 'dict'> is not one of"),
        (lambda: XCLIPVisionConfig(image_size=[224, 336]), r"image_size \[224, 336\] is not square"),
        (lambda: XCLIPVisionConfig(patch_size=(16, 16, 16)), r"patch_size \(16, 16, 16\) is not square"),
        (lambda: XCLIPVisionConfig(image_size=16), "patch_size 32 is larger than image_size 16"),
        (lambda: XCLIPConfig(projection_dim=768), "mit_hidden_size 512 must equal projection_dim 768"),
    ],
)
def test_values_that_make_no_model(build: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"model_type": "clip"}, "config.json is of model_type 'clip', not 'xclip': only X-CLIP checkpoints"),
        ({"architectures": ["XCLIPModel"]}, "is of model_type None"),
        ({"model_type": "xclip_text_model"}, "is of model_type 'xclip_text_model', not 'xclip'"),
        ({"model_type": "xclip", "projection_dim": 7}, "does not describe an X-CLIP model: projection_dim 7 does not"),
        ({"model_type": "xclip", "vision_config": 5}, "does not describe an X-CLIP model"),
        ({"model_type": "xclip", "vision_config": {"image_size": None}}, "does not describe an X-CLIP model"),
        ({"model_type": "xclip", "text_config_dict": ["vocab_size"]}, "does not describe an X-CLIP model"),
        ({"model_type": "xclip", "text_config": {"hidden_act": ["gelu"]}}, "does not describe an X-CLIP model"),
        (["xclip"], "config.json holds list, not a JSON object"),
        ('{"model_type": "xcl', "cannot read .*config.json: "),
    ],
)
def test_files_that_describe_no_model(contents: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        XCLIPConfig.from_folder(written(tmp_path, contents))


def test_towers_are_not_read_from_each_others_files(tmp_path: Path) -> None:
    XCLIPTextConfig().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="of model_type 'xclip_text_model', not 'xclip_vision_model'"):
        XCLIPVisionConfig.from_folder(tmp_path)


def test_no_file_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot read .*config\.json: .*No such file"):
        XCLIPConfig.from_folder(tmp_path)


def test_unknown_keywords_are_kept_as_attributes_and_saved(tmp_path: Path) -> None:
    config = XCLIPVisionConfig(my_note="kept", stacks="mine")
    assert config.my_note == "kept"
    assert config.stacks == {"vision_model.encoder.layers": 12}  # never in place of what the class has
    config.later = [1]
    config.save_pretrained(tmp_path)
    again = XCLIPVisionConfig.from_pretrained(tmp_path)
    assert (again.my_note, again.later, again.extra["stacks"]) == ("kept", [1], "mine")
    assert again == config
    with pytest.raises(AttributeError, match="XCLIPVisionConfig has no attribute 'num_framse'"):
        config.num_framse  # noqa: B018


def test_documented_positions() -> None:
    text = XCLIPTextConfig(100, 24, 40, 2, 3, 77, "gelu", 1e-3, 0.1, 0.05, 2.0, 7, 8, 9)
    assert values(text, ["attention_dropout", "initializer_range", "initializer_factor"]) == {
        "attention_dropout": 0.1,
        "initializer_range": 0.05,
        "initializer_factor": 2.0,
    }
    assert (text.pad_token_id, text.bos_token_id, text.eos_token_id, text.dropout) == (7, 8, 9, 0.0)
    vision = XCLIPVisionConfig(36, 56, 2, 6, 32, 44, 1, 2, 3, 32, 16, 4, "relu", 1e-4, 0.1, 0.05, 2.0, 0.3)
    assert (vision.num_frames, vision.hidden_act, vision.drop_path_rate) == (4, "relu", 0.3)
    whole = XCLIPConfig(text, vision, 32, 1, 0.5, "gelu", 4, 0.1, 0.2, 3.0)
    assert (whole.prompt_layers, whole.prompt_hidden_act, whole.logit_scale_init_value) == (1, "gelu", 3.0)


def test_a_config_of_ones_own(tmp_path: Path) -> None:
    class Mine(XCLIPConfig):
        def __init__(self, classes: int = 3, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.classes = classes

    config = Mine(classes=5, prompt_layers=1, note="x")
    assert (config.classes, config.prompt_layers, config.note) == (5, 1, "x")
    config.save_pretrained(tmp_path)
    again = Mine.from_pretrained(tmp_path)
    assert (again.classes, again.prompt_layers, again.note) == (5, 1, "x")


def test_labels_of_a_head() -> None:
    assert XCLIPConfig().num_labels == transformers.XCLIPConfig().num_labels == 2
    config = XCLIPConfig(num_labels=3)
    assert config.id2label == transformers.XCLIPConfig(num_labels=3).id2label
    assert config.label2id == {"LABEL_0": 0, "LABEL_1": 1, "LABEL_2": 2}
    config.id2label = {0: "a", 1: "b"}
    assert config.num_labels == 2
    assert XCLIPConfig.from_dict(config.to_dict()).id2label == {0: "a", 1: "b"}


def test_json_and_updates(tmp_path: Path) -> None:
    config = XCLIPConfig(prompt_layers=3, vision_config={"num_frames": 16}, note=1)
    difference = config.to_diff_dict()
    assert difference.items() >= {"prompt_layers": 3, "prompt_alpha": 0.1, "note": 1, "model_type": "xclip"}.items()
    assert difference["vision_config"]["num_frames"] == 16
    assert not {"return_dict", "output_attentions"} & difference.keys()
    assert json.loads(config.to_json_string()) == config.to_diff_dict()
    assert json.loads(config.to_json_string(use_diff=False)) == config.to_dict()
    config.to_json_file(tmp_path / "config.json")
    assert XCLIPConfig.from_json_file(tmp_path / "config.json") == config
    found, unused = XCLIPConfig.get_config_dict(tmp_path, revision="main", other=1)
    assert (found, unused) == (config.to_diff_dict(), {"other": 1})
    config.update({"prompt_layers": 1, "note": 2})
    assert (config.prompt_layers, config.note) == (1, 2)
    with pytest.raises(ValueError, match="prompt_layers is 0"):
        config.update({"prompt_layers": 0, "note": 3})
    assert config.note == 2
    assert config.use_return_dict
    assert not XCLIPConfig(return_dict=False).use_return_dict


def test_overrides_when_read(tmp_path: Path) -> None:
    XCLIPConfig().save_pretrained(tmp_path)
    assert XCLIPConfig.from_pretrained(tmp_path, output_attentions=True).output_attentions
    config, unused = XCLIPConfig.from_pretrained(tmp_path, return_unused_kwargs=True, prompt_layers=1, other=2)
    assert (config.prompt_layers, unused) == (1, {"other": 2})
    with pytest.raises(ValueError, match="trust_remote_code=True is not possible: no code of a checkpoint is ever run"):
        XCLIPConfig.from_pretrained(tmp_path, trust_remote_code=True)


def test_a_function_as_activation(tmp_path: Path) -> None:
    config = XCLIPConfig(prompt_hidden_act=abs)
    with pytest.raises(ValueError, match="config.json cannot hold <built-in function abs>: give the name of a known"):
        config.save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_reading_a_config_does_not_import_torch(tmp_path: Path) -> None:
    XCLIPConfig().save_pretrained(tmp_path)
    code = (
        "import sys; from xclip_cli.model import XCLIPConfig; XCLIPConfig.from_pretrained(sys.argv[1]);"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
