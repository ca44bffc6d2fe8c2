"""Loading with every keyword, saving in every form, and what else people use a PreTrainedModel for."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
import transformers
from original import original_names, write_original
from reference import one_thread  # noqa: F401
from safetensors.torch import load_file
from torch import nn

import xclip_cli
from xclip_cli.errors import ModelError, XClipError
from xclip_cli.model import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoProcessor,
    AutoTokenizer,
    CLIPTokenizer,
    CLIPTokenizerFast,
    VideoMAEFeatureExtractor,
    VideoMAEImageProcessor,
    XCLIPConfig,
    XCLIPModel,
    XCLIPProcessor,
    XCLIPTextModel,
    XCLIPVisionModel,
)


class Classifier(XCLIPModel):
    """With a head of its own."""

    def __init__(self, config: XCLIPConfig, scale: float = 1.0) -> None:
        super().__init__(config)
        self.scale = scale
        self.head = nn.Linear(config.projection_dim, config.num_labels)
        self.post_init()

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return self.head(self.get_video_features(pixel_values)) * self.scale


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return reference.checkpoint(tmp_path_factory.mktemp("pretrained"), reference.config())


def inputs(model: XCLIPModel) -> dict[str, torch.Tensor]:
    ids, mask = reference.token_ids(model.config, (5, 4))
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": reference.clips(model.config, 2)}


# Loading


@pytest.mark.parametrize(
    ("keywords", "dtype"),
    [
        ({}, torch.float32),
        ({"dtype": torch.bfloat16}, torch.bfloat16),
        ({"torch_dtype": torch.float16}, torch.float16),
        ({"torch_dtype": "float64"}, torch.float64),
        ({"dtype": "torch.bfloat16"}, torch.bfloat16),
        ({"torch_dtype": "auto"}, torch.float32),
        ({"revision": "main", "cache_dir": "x", "token": None, "local_files_only": True}, torch.float32),
        ({"use_auth_token": None, "force_download": False, "low_cpu_mem_usage": True}, torch.float32),
        ({"device_map": "cpu"}, torch.float32),
        ({"device_map": {"": "cpu"}}, torch.float32),
        ({"device_map": torch.device("cpu")}, torch.float32),
        ({"device": "cpu", "trust_remote_code": False, "attn_implementation": "sdpa"}, torch.float32),
        ({"use_safetensors": True, "use_fast": True}, torch.float32),
    ],
    ids=str,
)
def test_keywords_of_loading(folder: Path, keywords: dict[str, Any], dtype: torch.dtype) -> None:
    model = XCLIPModel.from_pretrained(folder, **keywords)
    assert (model.dtype, model.device, model.training) == (dtype, torch.device("cpu"), False)


def test_the_first_accelerator_is_the_automatic_one(folder: Path) -> None:
    expected = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    assert XCLIPModel.from_pretrained(folder, device_map="auto").device.type == expected.type


@pytest.mark.parametrize(
    ("keywords", "kind", "message"),
    [
        ({"trust_remote_code": True}, ValueError, "trust_remote_code=True is not possible: no code of a checkpoint"),
        ({"attn_implementation": "eager"}, ValueError, "it is always 'sdpa'"),
        ({"load_in_8bit": True}, ValueError, "there is no quantisation"),
        ({"subfolder": "x"}, ValueError, "give the path of the folder itself"),
        ({"dtype": "float17"}, ValueError, "is not a floating-point dtype"),
        ({"dtype": torch.int8}, ValueError, "is not a floating-point dtype"),
        ({"device_map": {"text_model": "cpu", "vision_model": "meta"}}, ValueError, "loaded onto one device"),
        ({"device_map": "balanced!"}, ValueError, "give a device, or 'auto'"),
        ({"device": "cpu", "device_map": "cpu"}, ValueError, "give device or device_map, not both"),
        ({"no_such": 1}, TypeError, "XCLIPModel.from_pretrained does not know the keyword 'no_such'"),
        ({"use_safetensors": False}, ModelError, "it needs one of pytorch_model.bin"),
        ({"prompt_layers": 0}, ValueError, "prompt_layers is 0"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused_in_words(
    folder: Path, keywords: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        XCLIPModel.from_pretrained(folder, **keywords)


def test_config_and_overrides(folder: Path) -> None:
    config = XCLIPConfig.from_pretrained(folder, output_hidden_states=True)
    for given in (config, folder, str(folder / "config.json")):
        model = XCLIPModel.from_pretrained(folder, config=given, output_attentions=True, num_labels=4)
        assert model.config.output_attentions
        assert model.config.num_labels == 4
        assert model.config.output_hidden_states == (given is config)
    assert not config.output_attentions


def test_weights_alone_load_with_a_config(folder: Path, tmp_path: Path) -> None:
    """As a Trainer saves a model that is not transformers' own."""
    model = XCLIPModel.from_pretrained(folder)
    (tmp_path / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    again = XCLIPModel.from_pretrained(tmp_path, config=model.config)
    assert again.logit_scale.equal(model.logit_scale)
    with pytest.raises(ModelError, match="it has no config.json"):
        XCLIPModel.from_pretrained(tmp_path)


def test_a_head_of_ones_own(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ModelError, match=r"missing head\.bias, head\.weight"):
        Classifier.from_pretrained(folder)
    with caplog.at_level(logging.WARNING):
        model = Classifier.from_pretrained(folder, strict=False, num_labels=3, scale=2.0)
    assert "missing head.bias, head.weight" in caplog.text
    assert (model.scale, model.head.weight.shape) == (2.0, (3, 32))
    base = XCLIPModel.from_pretrained(folder)
    assert model.text_projection.weight.equal(base.text_projection.weight)
    model.save_pretrained(tmp_path)
    again = Classifier.from_pretrained(tmp_path)
    assert again.head.weight.equal(model.head.weight)
    assert again.config.num_labels == 3
    with pytest.raises(ModelError, match=r"unexpected head\.bias, head\.weight"):
        XCLIPModel.from_pretrained(tmp_path)
    _, info = XCLIPModel.from_pretrained(tmp_path, output_loading_info=True)
    assert info == {
        "missing_keys": [],
        "unexpected_keys": ["head.bias", "head.weight"],
        "mismatched_keys": [],
        "error_msgs": [],
    }


def test_a_head_on_the_vision_encoder(folder: Path, tmp_path: Path) -> None:
    class Tower(XCLIPVisionModel):
        def __init__(self, config: Any) -> None:
            super().__init__(config)
            self.head = nn.Linear(config.hidden_size, 2)

    model, info = Tower.from_pretrained(folder, output_loading_info=True)
    assert info["missing_keys"] == ["head.bias", "head.weight"]
    model.save_pretrained(tmp_path)
    assert Tower.from_pretrained(tmp_path).head.weight.equal(model.head.weight)


@pytest.fixture(scope="module")
def authors() -> XCLIPModel:
    """A model whose heads are those of the authors' code."""
    narrow = {"hidden_size": 64, "num_attention_heads": 1}
    config = XCLIPConfig.from_dict(
        reference.config(
            narrow, {**narrow, "mit_num_attention_heads": 1}, projection_dim=64, prompt_num_attention_heads=1
        ).to_dict()
    )
    return XCLIPModel(config).eval()


def test_a_head_on_an_authors_file(authors: XCLIPModel, tmp_path: Path) -> None:
    path = write_original(tmp_path / "x.pth", original_names(dict(authors.state_dict())))
    with pytest.raises(ModelError, match="missing head"):
        Classifier.from_pretrained(path)
    model = Classifier.from_pretrained(path, strict=False)
    assert model.head.weight.isfinite().all()
    assert model.text_projection.weight.equal(authors.text_projection.weight)
    with pytest.raises(ModelError, match="is pickled, and use_safetensors=True allows safetensors alone"):
        XCLIPModel.from_pretrained(path, use_safetensors=True)


def test_tensors_of_another_shape(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = XCLIPConfig.from_pretrained(folder)
    config.text_config.max_position_embeddings = 50
    with pytest.raises(
        ModelError, match=r"wrong shape: text_model\.embeddings\.position_embedding\.weight is \[77, 24\]"
    ):
        XCLIPModel.from_pretrained(folder, config=config)
    model = XCLIPModel.from_pretrained(folder, config=config, ignore_mismatched_sizes=True)
    assert model.text_model.embeddings.position_embedding.weight.shape == (50, 24)
    assert "of another shape, initialised: text_model.embeddings.position_embedding.weight" in caplog.text


@pytest.mark.parametrize("suffix", ["pth", "pt"])
def test_authors_files_of_wrapped_models(authors: XCLIPModel, tmp_path: Path, suffix: str) -> None:
    """torch's DistributedDataParallel puts a prefix before all names."""
    names = original_names(dict(authors.state_dict()))
    torch.save({"model": {f"module.{name}": tensor for name, tensor in names.items()}}, tmp_path / f"x.{suffix}")
    again = AutoModel.from_pretrained(tmp_path / f"x.{suffix}", torch_dtype="auto")
    with torch.no_grad():
        expected = authors(**inputs(authors)).logits_per_video
        assert torch.allclose(again(**inputs(authors)).logits_per_video, expected, atol=1e-5)


def test_errors_are_os_errors(tmp_path: Path) -> None:
    for build in (XCLIPModel, XCLIPProcessor, CLIPTokenizer, XCLIPConfig, AutoModel):
        with pytest.raises(OSError, match=str(tmp_path)) as caught:
            build.from_pretrained(tmp_path)
        assert isinstance(caught.value, XClipError)
        assert caught.value.__cause__ is None or not isinstance(caught.value.__cause__, XClipError)
    (tmp_path / "config.json").write_bytes(b" " * ((1 << 24) + 1))
    with pytest.raises(ModelError, match=r"^\S+ is larger than 16 MB"):
        XCLIPConfig.from_pretrained(tmp_path)


# Auto classes


def test_auto_classes(folder: Path, tmp_path: Path) -> None:
    assert type(AutoModel.from_pretrained(folder)) is XCLIPModel
    assert type(AutoConfig.from_pretrained(folder)) is XCLIPConfig
    assert type(AutoProcessor.from_pretrained(folder)) is XCLIPProcessor
    assert type(AutoTokenizer.from_pretrained(folder, padding_side="left")) is CLIPTokenizer
    assert isinstance(AutoImageProcessor.from_pretrained(folder), VideoMAEImageProcessor)
    assert type(AutoModel.from_config(XCLIPConfig.from_pretrained(folder))) is XCLIPModel
    for tower in (XCLIPTextModel, XCLIPVisionModel):
        tower.from_pretrained(folder).save_pretrained(tmp_path / tower.__name__)
        assert type(AutoModel.from_pretrained(tmp_path / tower.__name__)) is tower


@pytest.mark.parametrize("auto", [AutoModel, AutoConfig, AutoProcessor, AutoTokenizer, AutoImageProcessor])
def test_auto_classes_refuse_other_models(auto: Any, folder: Path, tmp_path: Path) -> None:
    XCLIPProcessor.from_pretrained(folder).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "clip"}', "utf-8")
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        ModelError, match=r"is of model_type 'clip': only X-CLIP checkpoints can be loaded \(xclip, xclip_"
    ):
        auto.from_pretrained(tmp_path)


def test_older_names() -> None:
    assert issubclass(CLIPTokenizerFast, CLIPTokenizer)
    assert VideoMAEFeatureExtractor().image_mean == VideoMAEImageProcessor().image_mean == [0.5, 0.5, 0.5]
    for name in ("AutoModel", "CLIPTokenizer", "VideoMAEImageProcessor", "VideoMAEFeatureExtractor"):
        assert getattr(xclip_cli, name).__module__.startswith("xclip_cli.model.")


# Saving


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("size", ["10GB", "60KB", 60_000, "0.06 MB"])
def test_forms_of_saving(folder: Path, tmp_path: Path, safe: bool, size: Any) -> None:
    if size == "0.06 MB":
        with pytest.raises(
            ValueError, match=r"max_shard_size='0\.06 MB' is not a number of bytes or a size such as '500MB'"
        ):
            XCLIPModel.from_pretrained(folder).save_pretrained(tmp_path, max_shard_size=size)
        return
    model = XCLIPModel.from_pretrained(folder)
    model.save_pretrained(tmp_path, safe_serialization=not safe)  # to be replaced
    model.save_pretrained(tmp_path, max_shard_size=size, safe_serialization=safe)
    files = sorted(path.name for path in tmp_path.iterdir() if path.name != "config.json")
    stem, suffix = ("model", "safetensors") if safe else ("pytorch_model", "bin")
    if size == "10GB":
        assert files == [f"{stem}.{suffix}"]
    else:
        assert files[-1] == f"{stem}.{suffix}.index.json"
        assert len(files) > 3
        assert max((tmp_path / name).stat().st_size for name in files[:-1]) < 120_000
    for library in (XCLIPModel, transformers.XCLIPModel):
        again = library.from_pretrained(tmp_path)
        assert again.text_projection.weight.equal(model.text_projection.weight)


def test_what_else_saving_takes(folder: Path, tmp_path: Path) -> None:
    model = XCLIPModel.from_pretrained(folder, dtype=torch.bfloat16)
    state = {name: tensor * 0 for name, tensor in model.state_dict().items()}
    model.save_pretrained(tmp_path / "a", state_dict=state)
    assert not load_file(tmp_path / "a" / "model.safetensors")["text_projection.weight"].any()
    saved = json.loads((tmp_path / "a" / "config.json").read_text("utf-8"))
    assert (saved["dtype"], saved["torch_dtype"], saved["architectures"]) == ("bfloat16", "bfloat16", ["XCLIPModel"])
    assert XCLIPModel.from_pretrained(tmp_path / "a", torch_dtype="auto").dtype == torch.bfloat16
    model.save_pretrained(tmp_path / "b", is_main_process=False)
    assert not (tmp_path / "b").exists()
    with pytest.raises(ValueError, match="push_to_hub=True is not possible: nothing is uploaded"):
        model.save_pretrained(tmp_path / "b", push_to_hub=True)


# What people use


def test_counting_and_freezing(folder: Path) -> None:
    model, theirs = XCLIPModel.from_pretrained(folder), transformers.XCLIPModel.from_pretrained(folder)
    assert model.num_parameters() == theirs.num_parameters() == model.config.count_parameters()
    model.text_model.requires_grad_(False)
    theirs.text_model.requires_grad_(False)
    assert model.num_parameters(only_trainable=True) == theirs.num_parameters(only_trainable=True)
    assert model.num_parameters(exclude_embeddings=True) == theirs.num_parameters(exclude_embeddings=True)


def test_embeddings(folder: Path, tmp_path: Path) -> None:
    model = XCLIPModel.from_pretrained(folder)
    table = model.get_input_embeddings()
    assert table is model.text_model.embeddings.token_embedding
    old, count = table.weight.detach().clone(), table.num_embeddings
    given = inputs(model)
    with torch.no_grad():
        expected = model(**given).logits_per_video
        new = model.resize_token_embeddings(count + 5, pad_to_multiple_of=64)
        assert model(**given).logits_per_video.equal(expected)
    assert new is model.get_input_embeddings()
    assert new.weight.shape == (832 if count < 827 else 896, 24)
    assert new.weight[:count].equal(old)
    assert new.weight[count:].std() > 0
    assert model.config.text_config.vocab_size == new.num_embeddings
    model.save_pretrained(tmp_path)
    assert XCLIPModel.from_pretrained(tmp_path).get_input_embeddings().weight.equal(new.weight)
    assert model.resize_token_embeddings(10).weight.equal(old[:10])
    vision = XCLIPVisionModel.from_pretrained(folder)
    assert vision.get_input_embeddings() is vision.vision_model.embeddings.patch_embedding
    with pytest.raises(ValueError, match="XCLIPVisionModel has no token embeddings to resize"):
        vision.resize_token_embeddings(10)


@pytest.mark.parametrize("options", [None, {"use_reentrant": False}, {"use_reentrant": True}])
def test_gradient_checkpointing(folder: Path, options: Any) -> None:
    gradients = []
    for enabled in (False, True):
        model = XCLIPModel.from_pretrained(folder).train()
        counts = []
        model.text_model.encoder.layers[0].mlp.register_forward_pre_hook(lambda *_, counts=counts: counts.append(1))
        if enabled:
            model.gradient_checkpointing_enable(options)
            model.enable_input_require_grads()
        assert model.is_gradient_checkpointing == enabled
        model(**inputs(model), return_loss=True).loss.backward()
        assert len(counts) == 1 + enabled
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
        model.gradient_checkpointing_disable()
        assert not model.is_gradient_checkpointing
    for name, gradient in gradients[0].items():
        if options is None or "vision_model" not in name:
            assert torch.allclose(gradients[1][name], gradient, atol=1e-6), name


def test_gradient_checkpointing_of_some_layers(folder: Path) -> None:
    model = XCLIPModel.from_pretrained(folder).train()
    model.gradient_checkpointing_enable(every_n_layers=2)
    counts = [0, 0]
    for i, layer in enumerate(model.text_model.encoder.layers):

        def count(*_: Any, i: int = i) -> None:
            counts[i] += 1

        layer.mlp.register_forward_pre_hook(count)
    model(**inputs(model), return_loss=True).loss.backward()
    assert counts == [2, 1]


def test_the_configs_flag_turns_checkpointing_on(folder: Path) -> None:
    config = XCLIPConfig.from_pretrained(folder, gradient_checkpointing=True)
    assert XCLIPModel(config).is_gradient_checkpointing
    assert XCLIPModel.from_pretrained(folder, config=config).is_gradient_checkpointing


def test_half_and_double(folder: Path) -> None:
    model = XCLIPModel.from_pretrained(folder)
    given = inputs(model)
    with torch.no_grad():
        expected = model(**given)
        exact = model.double()(**given | {"pixel_values": given["pixel_values"].double()}, return_loss=True)
        rough = model.half()(**given)
    for name in ("loss", "logits_per_video", "text_embeds", "video_embeds"):
        assert exact[name].dtype == torch.float64, name
    assert (exact.logits_per_video - expected.logits_per_video).abs().max() < 1e-5
    assert 1e-5 < (rough.logits_per_video - expected.logits_per_video).abs().max() < 0.3
    assert rough.text_model_output.last_hidden_state.dtype == torch.float16


def test_gradients_of_every_parameter_in_float64(folder: Path) -> None:
    """Within a millionth of the largest of all."""
    ours = XCLIPModel.from_pretrained(folder, dtype=torch.float64).train()
    theirs = transformers.XCLIPModel.from_pretrained(folder, dtype=torch.float64).train()
    ids, mask = reference.token_ids(ours.config, (5, 4, 9))
    pixels = reference.clips(ours.config, 3).double()
    for model in (ours, theirs):
        model(input_ids=ids, attention_mask=mask, pixel_values=pixels, return_loss=True).loss.backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    largest = max(gradient.abs().max().item() for gradient in expected.values())
    assert expected.keys() == dict(ours.named_parameters()).keys()
    for name, parameter in ours.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad - expected[name]).abs().max().item() <= 1e-6 * largest, name
        if expected[name].abs().max().item() > 1e-9 * largest:
            assert torch.allclose(parameter.grad, expected[name], rtol=1e-6, atol=1e-9 * largest), name


def test_a_function_as_activation(folder: Path) -> None:
    named = XCLIPModel.from_pretrained(folder, prompt_hidden_act="tanh")
    given = XCLIPModel.from_pretrained(folder, prompt_hidden_act=torch.tanh)
    with torch.no_grad():
        assert named(**inputs(named)).logits_per_video.equal(given(**inputs(named)).logits_per_video)


@pytest.mark.parametrize(
    "name", sorted(set(xclip_cli.model.config.ACTIVATIONS) & set(transformers.activations.ACT2CLS))
)
def test_activations_are_those_of_transformers(name: str) -> None:
    from xclip_cli.model.modeling import ACTIVATIONS

    x = torch.linspace(-8, 8, 999)
    assert torch.allclose(ACTIVATIONS[name](x), transformers.activations.ACT2FN[name](x), atol=1e-6)


def test_every_known_activation_is_there() -> None:
    from xclip_cli.model.modeling import ACTIVATIONS

    assert set(ACTIVATIONS) == set(xclip_cli.model.config.ACTIVATIONS)


def test_parts_return_what_is_asked_for(folder: Path) -> None:
    model = XCLIPModel.from_pretrained(folder)
    given = inputs(model)
    frames = given["pixel_values"].flatten(0, 1)
    calls = [(model.text_model, given["input_ids"]), (model.vision_model, frames), (model.mit, torch.ones(2, 8, 32))]
    with torch.no_grad():
        for part, argument in calls:
            output = part(argument, return_dict=True, output_hidden_states=True)
            packed = part(argument, return_dict=False)
            assert isinstance(packed, tuple)
            assert len(packed) == 2
            assert packed[1].equal(output.pooler_output)
            assert len(output.hidden_states) == len(part.encoder.layers) + 1
        kept = {"output_attentions": True, "output_hidden_states": True, "return_dict": False}
        assert isinstance(model.get_text_features(given["input_ids"], **kept), torch.Tensor)
        assert isinstance(model.get_video_features(given["pixel_values"], **kept), torch.Tensor)


@pytest.mark.parametrize("missing", ["input_ids", "pixel_values"])
def test_a_missing_argument_is_named(folder: Path, missing: str) -> None:
    model = XCLIPModel.from_pretrained(folder)
    given = inputs(model)
    del given[missing]
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        model(**given)
    method = model.get_text_features if missing == "input_ids" else model.get_video_features
    with pytest.raises(ValueError, match=f"{missing} is missing"):
        method()


def test_a_batch_moves_and_changes_dtype(folder: Path) -> None:
    processor = XCLIPProcessor.from_pretrained(folder)
    batch = processor(text="a", videos=list(np.zeros((2, 32, 32, 3), np.uint8)), return_tensors="pt")
    assert batch.to("cpu", torch.float16) is batch
    assert (batch.pixel_values.dtype, batch.input_ids.dtype) == (torch.float16, torch.int64)
    assert batch.to(torch.float64).pixel_values.dtype == torch.float64
    with pytest.raises(TypeError, match="XCLIPProcessor does not know the keyword 'do_flip'"):
        processor(videos=list(np.zeros((2, 32, 32, 3), np.uint8)), do_flip=True)
