"""The models against those of transformers: same weights, same input, same numbers."""

from __future__ import annotations

import math
import pickle
from collections.abc import Mapping
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import reference
import torch
import transformers
from reference import assert_agree, one_thread  # noqa: F401

from xclip_cli.model import (
    XCLIPConfig,
    XCLIPModel,
    XCLIPTextConfig,
    XCLIPTextModel,
    XCLIPVisionConfig,
    XCLIPVisionModel,
)
from xclip_cli.model.modeling import DropPath, contrastive_loss

LENGTHS = (11, 4, 7, 9, 5)  # of the texts, in tokens

# Heads that are not width / 64, every activation, 8, 16 and 32 frames, patches that leave a rest.
CONFIGS = {
    "8 frames, quick_gelu": reference.config(),
    "16 frames, gelu": reference.config(
        text={"hidden_act": "gelu", "num_attention_heads": 12, "num_hidden_layers": 3, "layer_norm_eps": 1e-3},
        vision={
            "hidden_act": "gelu",
            "num_frames": 16,
            "image_size": 28,
            "patch_size": 14,
            "num_attention_heads": 2,
            "mit_num_hidden_layers": 3,
            "mit_num_attention_heads": 6,
        },
        projection_dim=24,
        prompt_num_attention_heads=3,
        prompt_hidden_act="relu",
        prompt_layers=1,
        prompt_alpha=-1.5,
    ),
    "32 frames, gelu_new": reference.config(
        text={"hidden_act": "gelu_new", "num_hidden_layers": 1},
        vision={
            "hidden_act": "gelu_new",
            "num_frames": 32,
            "image_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 9,
            "mit_num_attention_heads": 5,
            "layer_norm_eps": 1e-2,
        },
        projection_dim=40,
        prompt_num_attention_heads=10,
        prompt_hidden_act="gelu",
    ),
    "8 frames, relu, a rest beside the patches": reference.config(
        text={"hidden_act": "relu"},
        vision={"hidden_act": "relu", "image_size": 31, "patch_size": 7, "num_attention_heads": 1},
        prompt_hidden_act="selu",
        prompt_layers=3,
    ),
    "8 frames, selu": reference.config(
        text={"hidden_act": "selu", "hidden_size": 48, "num_attention_heads": 1},
        vision={"hidden_act": "selu", "mit_num_hidden_layers": 2, "mit_num_attention_heads": 16, "patch_size": 8},
        prompt_hidden_act="gelu_new",
        prompt_num_attention_heads=1,
    ),
}

SIZES = {  # the released sizes and their parameters
    "base, patch 32, 8 frames": ({}, {}, {}, 591, 196_585_729),
    "base, patch 32, 16 frames": ({}, {"num_frames": 16}, {}, 591, 196_589_825),
    "base, patch 16, 8 frames": ({}, {"patch_size": 16}, {}, 591, 194_929_153),
    "base, patch 16, 16 frames": ({}, {"patch_size": 16, "num_frames": 16}, {}, 591, 194_933_249),
    "base, patch 16, 32 frames": ({}, {"patch_size": 16, "num_frames": 32}, {}, 591, 194_941_441),
}
LARGE = (
    {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
    {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "mit_hidden_size": 768,
        "mit_intermediate_size": 3072,
        "patch_size": 14,
    },
    {"projection_dim": 768},
)
SIZES["large, patch 14, 8 frames"] = (*LARGE, 927, 575_673_601)
SIZES["large, patch 14, 336 pixels, 16 frames"] = (
    LARGE[0],
    {**LARGE[1], "image_size": 336, "num_frames": 16},
    LARGE[2],
    927,
    576_007_425,
)


def ours(theirs: Any) -> XCLIPModel:
    """Our model with the config and the weights of one of transformers."""
    model = XCLIPModel(XCLIPConfig.from_dict(theirs.config.to_dict()))
    model.load_state_dict(theirs.state_dict())
    return model.eval()


def recorded(theirs: Any, **inputs: Any) -> tuple[Any, Any]:
    """Their output, and the hidden states and attentions of their MIT, which it leaves out of it."""
    layers = theirs.mit.encoder.layers
    kept: Any = SimpleNamespace(hidden_states=[], attentions=[])
    hooks = [
        layers[0].register_forward_pre_hook(lambda _, args: kept.hidden_states.append(args[0])),
        *(layer.register_forward_hook(lambda _, __, out: kept.hidden_states.append(out)) for layer in layers),
        *(layer.self_attn.register_forward_hook(lambda _, __, out: kept.attentions.append(out[1])) for layer in layers),
    ]
    with torch.no_grad():
        output = theirs(**inputs)
    for hook in hooks:
        hook.remove()
    return output, kept


def assert_parts_agree(ours: Any, theirs: Any, what: str) -> None:
    """Every tensor of an encoder's output."""
    for name in ("last_hidden_state", "pooler_output"):
        assert_agree(ours[name], theirs[name], f"{what}.{name}")
    assert_layers_agree(ours, theirs, what)


def assert_layers_agree(ours: Any, theirs: Any, what: str) -> None:
    """Every layer's hidden state and attention."""
    for name in ("hidden_states", "attentions"):
        mine, other = getattr(ours, name), getattr(theirs, name)
        assert len(mine) == len(other) > 0
        for layer, pair in enumerate(zip(mine, other, strict=True)):
            assert_agree(*pair, f"{what}.{name}[{layer}]")


@pytest.fixture(scope="module", params=CONFIGS)
def pair(request: pytest.FixtureRequest) -> tuple[XCLIPModel, Any]:
    """Our model and theirs, the same weights in both."""
    theirs = reference.model(CONFIGS[request.param], seed=len(request.param))
    return ours(theirs), theirs


@pytest.fixture(scope="module")
def theirs() -> Any:
    return reference.model(reference.config())


@pytest.fixture(scope="module")
def model(theirs: Any) -> XCLIPModel:
    """A small model, the same for all tests: they must not change it."""
    return ours(theirs)


@pytest.fixture(scope="module")
def inputs(theirs: Any) -> dict[str, torch.Tensor]:
    ids, mask = reference.token_ids(theirs.config, LENGTHS)
    return {"input_ids": ids, "attention_mask": mask, "pixel_values": reference.clips(theirs.config, len(LENGTHS))}


# The same numbers as transformers


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_every_tensor_agrees(pair: tuple[XCLIPModel, Any], masked: bool) -> None:
    model, theirs = pair
    ids, mask = reference.token_ids(theirs.config, LENGTHS)
    pixels = reference.clips(theirs.config, len(LENGTHS))
    inputs = {"input_ids": ids, "attention_mask": mask if masked else None, "pixel_values": pixels}
    flags = {"return_loss": True, "output_hidden_states": True, "output_attentions": True}
    expected, expected_mit = recorded(theirs, **inputs, **flags)
    with torch.no_grad():
        output = model(**inputs, **flags)
    for name in ("loss", "logits_per_video", "logits_per_text", "text_embeds", "video_embeds"):
        assert_agree(output[name], expected[name], name)
    assert_parts_agree(output.text_model_output, expected.text_model_output, "text")
    assert_parts_agree(output.vision_model_output, expected.vision_model_output, "vision")
    for name in ("last_hidden_state", "pooler_output"):
        assert_agree(output.mit_output[name], expected.mit_output[name], f"mit.{name}")
    assert_layers_agree(output.mit_output, expected_mit, "mit")
    assert set(output.keys()) == set(expected.keys())


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_the_fast_path_agrees(pair: tuple[XCLIPModel, Any], attention: str) -> None:
    model, other = pair
    theirs = reference.model(other.config, attention=attention)
    theirs.load_state_dict(other.state_dict())
    ids, mask = reference.token_ids(theirs.config, (6, 3, 8))
    pixels = reference.clips(theirs.config, 2)
    with torch.no_grad():
        output = model(ids, pixels, mask)
        expected = theirs(input_ids=ids, pixel_values=pixels, attention_mask=mask)
    assert output.vision_model_output.attentions is None
    assert_agree(output.logits_per_video, expected.logits_per_video, "logits")
    for name in ("text_model_output", "vision_model_output", "mit_output"):
        assert_agree(output[name].last_hidden_state, expected[name].last_hidden_state, name)


def test_features_agree(pair: tuple[XCLIPModel, Any]) -> None:
    model, theirs = pair
    ids, mask = reference.token_ids(theirs.config, LENGTHS)
    pixels = reference.clips(theirs.config, 3)
    with torch.no_grad():
        for given in (mask, None):
            expected = theirs.get_text_features(ids, attention_mask=given).pooler_output
            assert_agree(model.get_text_features(ids, attention_mask=given), expected, "text features")
        expected = theirs.get_video_features(pixels).pooler_output
        assert_agree(model.get_video_features(pixels), expected, "video features")


def test_padding_on_the_left_agrees(model: XCLIPModel, theirs: Any) -> None:
    """Rows that see nothing but padding have no right answer, but must be the same one."""
    ids, mask = (x.flip(1) for x in reference.token_ids(theirs.config, LENGTHS))
    with torch.no_grad():
        expected = theirs.text_model(input_ids=ids, attention_mask=mask, output_hidden_states=True)
        for attentions in (True, False):
            output = model.text_model(ids, mask, output_attentions=attentions, output_hidden_states=True)
            assert_agree(output.last_hidden_state, expected.last_hidden_state, "last_hidden_state")


def test_the_mask_changes_padded_positions_and_nothing_else(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad():
        masked, bare = (model.text_model(ids, m).last_hidden_state for m in (mask, None))
    assert torch.allclose(masked[mask == 1], bare[mask == 1], atol=1e-5)
    assert (masked - bare)[mask == 0].abs().max() > 0.1


@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
def test_position_ids_agree(model: XCLIPModel, theirs: Any, inputs: dict[str, Any], masked: bool) -> None:
    ids, mask = inputs["input_ids"], inputs["attention_mask"] if masked else None
    for positions in (torch.arange(ids.shape[1]).flip(0)[None], torch.randint(0, 77, ids.shape)):
        arguments = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        with torch.no_grad():
            expected = theirs(**arguments, pixel_values=inputs["pixel_values"])
            output = model(**arguments, pixel_values=inputs["pixel_values"])
            features = model.get_text_features(**arguments)
            expected_features = theirs.get_text_features(**arguments).pooler_output
        assert_agree(output.text_model_output.last_hidden_state, expected.text_model_output.last_hidden_state, "text")
        assert_agree(output.logits_per_video, expected.logits_per_video, "logits")
        assert_agree(features, expected_features, "features")


def test_positions_default_to_counting(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    ids = inputs["input_ids"]
    with torch.no_grad():
        assert model.get_text_features(ids).equal(
            model.get_text_features(ids, position_ids=torch.arange(ids.shape[1])[None])
        )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_towers_alone_agree(config: Any) -> None:
    text = transformers.XCLIPTextModel._from_config(config.text_config, attn_implementation="eager").eval()
    vision = transformers.XCLIPVisionModel._from_config(config.vision_config, attn_implementation="eager").eval()
    reference.randomise(text)
    reference.randomise(vision)
    our_text = XCLIPTextModel(XCLIPTextConfig.from_dict(config.text_config.to_dict())).eval()
    our_vision = XCLIPVisionModel(XCLIPVisionConfig.from_dict(config.vision_config.to_dict())).eval()
    our_text.text_model.load_state_dict(text.state_dict())
    our_vision.vision_model.load_state_dict(vision.state_dict())
    ids, mask = reference.token_ids(config, LENGTHS)
    frames = reference.clips(config, 2).flatten(0, 1)
    flags = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        assert_parts_agree(our_text(ids, mask, **flags), text(input_ids=ids, attention_mask=mask, **flags), "text")
        assert_parts_agree(our_vision(frames, **flags), vision(pixel_values=frames, **flags), "vision")


@pytest.mark.parametrize("training", ["drop path", "prompt dropout", "attention dropout"])
def test_training_agrees_draw_for_draw(training: str, inputs: dict[str, Any]) -> None:
    """With the same seed both implementations drop the same things."""
    changes: dict[str, dict[str, Any]] = {
        "drop path": {"vision": {"drop_path_rate": 0.4}},
        "prompt dropout": {"prompt_attention_dropout": 0.3, "prompt_projection_dropout": 0.2},
        "attention dropout": {"text": {"attention_dropout": 0.2}, "vision": {"attention_dropout": 0.3}},
    }
    theirs = reference.model(reference.config(**changes[training]), attention="sdpa")
    model = ours(theirs)
    outputs = []
    for each in (model, theirs):
        torch.manual_seed(7)
        outputs.append(each.train()(**inputs, return_loss=True))
        torch.manual_seed(8)
        outputs.append(each(**inputs, return_loss=True))
        outputs.append(each.eval()(**inputs, return_loss=True))
    first, second, calm, their_first, their_second, their_calm = (output.logits_per_video for output in outputs)
    assert_agree(first, their_first, "training")
    assert_agree(second, their_second, "training, another seed")
    assert_agree(calm, their_calm, "eval")
    assert not torch.allclose(first, second)
    assert not torch.allclose(first, calm)


def test_gradients_agree_and_reach_every_parameter(inputs: dict[str, Any]) -> None:
    theirs = reference.model(reference.config())
    model = ours(theirs).train()
    theirs.train()
    for each in (model, theirs):
        each(**inputs, return_loss=True).loss.backward()
    expected = {name: parameter.grad for name, parameter in theirs.named_parameters()}
    rounding = 1e-7 * max(gradient.abs().max().item() for gradient in expected.values())
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        largest, difference = expected[name].abs().max().item(), (parameter.grad - expected[name]).abs().max().item()
        assert difference <= 1e-3 * largest + rounding, f"{name}: {difference:.3g} apart, the largest is {largest:.3g}"
        # Two sums are zero but for rounding: softmax cancels what all of a query's scores share, and the first
        # layer's messages are all alike.
        if largest > rounding:
            assert parameter.grad.abs().max() > rounding, name
        else:
            assert name.endswith("k_proj.bias") or ".layers.0.message_attn." in name, name


@pytest.mark.slow
def test_the_full_size_agrees() -> None:
    theirs = reference.model(transformers.XCLIPConfig())
    model = XCLIPModel(XCLIPConfig())
    assert model.config.to_dict().items() >= {"projection_dim": 512, "prompt_layers": 2}.items()
    model.load_state_dict(theirs.state_dict())
    model.eval()
    assert len(theirs.state_dict()) == 591
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 196_585_729
    ids, mask = reference.token_ids(theirs.config, (77, 5, 12))
    inputs = {"input_ids": ids, "attention_mask": mask, "pixel_values": reference.clips(theirs.config, 3)}
    flags = {"return_loss": True, "output_hidden_states": True, "output_attentions": True}
    expected, expected_mit = recorded(theirs, **inputs, **flags)
    with torch.no_grad():
        output = model(**inputs, **flags)
        fast = model(**inputs)
    for name in ("loss", "logits_per_video", "text_embeds", "video_embeds"):
        assert_agree(output[name], expected[name], name)
    assert_agree(fast.logits_per_video, expected.logits_per_video, "logits of the fast path")
    assert_parts_agree(output.text_model_output, expected.text_model_output, "text")
    assert_parts_agree(output.vision_model_output, expected.vision_model_output, "vision")
    assert_layers_agree(output.mit_output, expected_mit, "mit")


# Names, sizes and initial values


@pytest.mark.parametrize(("text", "vision", "top", "tensors", "parameters"), SIZES.values(), ids=SIZES)
def test_released_sizes(
    text: dict[str, Any], vision: dict[str, Any], top: dict[str, Any], tensors: int, parameters: int
) -> None:
    with torch.device("meta"):
        model = XCLIPModel(XCLIPConfig(text_config=text, vision_config=vision, **top))
        theirs = transformers.XCLIPModel(transformers.XCLIPConfig(text_config=text, vision_config=vision, **top))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in theirs.state_dict().items()}
    assert len(shapes) == tensors
    assert sum(math.prod(shape) for shape in shapes.values()) == parameters
    assert {name for name, _ in model.named_parameters()} == set(shapes)


def test_initial_values_are_those_of_transformers() -> None:
    """Deviations to within six standard errors; what is constant is the same constant.

    The prompt generator is the exception: it follows the documentation (``initializer_range`` for weight matrices, as
    in the paper's code), where transformers falls through to a deviation of 1.
    """
    theirs_config = reference.config(
        text={"hidden_size": 96, "initializer_range": 0.05, "initializer_factor": 1.7, "num_hidden_layers": 3},
        vision={
            "hidden_size": 144,
            "initializer_range": 0.013,
            "initializer_factor": 0.6,
            "mit_num_hidden_layers": 2,
        },
        projection_dim=64,
        initializer_factor=0.8,
        logit_scale_init_value=1.25,
    )
    torch.manual_seed(0)
    theirs = transformers.XCLIPModel(theirs_config)
    model = XCLIPModel(XCLIPConfig.from_dict(theirs_config.to_dict()))
    with torch.no_grad():
        for name, parameter in theirs.prompts_generator.named_parameters():
            if name.endswith("weight") and "norm" not in name:
                parameter.mul_(0.05)
    assert_initialised_alike(model, theirs)
    text_model = XCLIPTextModel(model.config.text_config)
    assert_initialised_alike(text_model.text_model, transformers.XCLIPTextModel(theirs_config.text_config))
    vision_model = XCLIPVisionModel(model.config.vision_config)
    assert_initialised_alike(vision_model.vision_model, transformers.XCLIPVisionModel(theirs_config.vision_config))


def assert_initialised_alike(ours: torch.nn.Module, theirs: torch.nn.Module) -> None:
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        other = expected.pop(name)
        if other.unique().numel() == 1:
            assert parameter.equal(other), name
        else:
            mine, their = parameter.std().item(), other.std().item()
            assert abs(math.log(mine / their)) < 6 * other.numel() ** -0.5, f"{name}: {mine:.4f}, theirs {their:.4f}"
            assert abs(parameter.mean().item()) < 6 * their * other.numel() ** -0.5, name
    assert not expected


# Outputs


DOCUMENTED_ORDER = [
    "loss",
    "logits_per_video",
    "logits_per_text",
    "text_embeds",
    "video_embeds",
    "text_model_output",
    "vision_model_output",
    "mit_output",
]


@pytest.mark.parametrize("loss", [True, False])
def test_tuples_are_in_the_documented_order(model: XCLIPModel, inputs: dict[str, Any], loss: bool) -> None:
    """That of ``return_dict=False`` leaves ``mit_output`` out, as it is documented; ``to_tuple`` keeps it."""
    with torch.no_grad():
        output = model(**inputs, return_loss=loss)
        packed = model(**inputs, return_loss=loss, return_dict=False)
    names = DOCUMENTED_ORDER if loss else DOCUMENTED_ORDER[1:]
    assert list(output) == list(output.keys()) == names
    assert isinstance(packed, tuple)
    assert len(packed) == len(names) - 1
    for made, expected in ((packed, names[:-1]), (output.to_tuple(), names)):
        for name, value in zip(expected, made, strict=True):
            if name.endswith("_output"):
                assert isinstance(value, tuple), name
                assert value[0].equal(output[name].last_hidden_state)
                assert value[1].equal(output[name].pooler_output)
            else:
                assert value.equal(output[name]), name


def test_outputs_are_mappings(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    with torch.no_grad():
        output = model(**inputs)
    assert output.loss is None
    assert output["logits_per_video"] is output.logits_per_video is output[0]
    assert output[1:3] == (output.logits_per_text, output.text_embeds)
    assert "loss" not in output
    assert "mit_output" in output
    assert isinstance(output, Mapping)
    assert next(iter(output.items())) == ("logits_per_video", output[0])
    assert output.get("loss", 7) == 7
    assert dict(**output).keys() == output.keys()
    assert len(output) == len(list(output.values())) == 7
    with pytest.raises(KeyError, match="loss"):
        output["loss"]
    assert output.logits_per_text.equal(output.logits_per_video.T)


def test_outputs_can_be_made_changed_copied_and_taken_apart(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    with torch.no_grad():
        output = model(**inputs)
    again = type(output)(dict(output))
    assert list(again) == list(output)
    again.loss = torch.ones(())
    assert again["loss"] is again.loss
    again["loss"] = None
    assert "loss" not in again
    for copy in (pickle.loads(pickle.dumps(output)), deepcopy(output)):
        assert copy.mit_output.pooler_output.equal(output.mit_output.pooler_output)
        assert list(copy) == list(output)
    parts, structure = torch.utils._pytree.tree_flatten(output)
    assert all(isinstance(part, torch.Tensor) for part in parts)
    assert torch.utils._pytree.tree_unflatten(parts, structure).logits_per_video is output.logits_per_video


def test_towers_return_tuples_too(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    text, vision = XCLIPTextModel(model.config.text_config), XCLIPVisionModel(model.config.vision_config)
    frames = inputs["pixel_values"].flatten(0, 1)
    for tower, given in ((text.eval(), inputs["input_ids"]), (vision.eval(), frames)):
        output = tower(given, output_hidden_states=True, output_attentions=True)
        packed = tower(given, output_hidden_states=True, output_attentions=True, return_dict=False)
        assert list(output) == ["last_hidden_state", "pooler_output", "hidden_states", "attentions"]
        assert [type(part) for part in packed] == [torch.Tensor, torch.Tensor, tuple, tuple]
        assert packed[1].equal(output.pooler_output)


def test_the_config_says_what_is_kept_where_the_call_does_not(theirs: Any, inputs: dict[str, Any]) -> None:
    settings = {"output_attentions": True, "output_hidden_states": True, "return_dict": False}
    model = XCLIPModel(XCLIPConfig.from_dict(theirs.config.to_dict() | settings)).eval()
    with torch.no_grad():
        packed = model(**inputs)
        output = model(**inputs, return_dict=True, output_attentions=False)
    assert [len(part) for part in packed[-2:]] == [4, 4]
    assert len(output.text_model_output.hidden_states) == model.config.text_config.num_hidden_layers + 1
    assert output.text_model_output.attentions is None


def test_attentions_are_probabilities_whenever_asked_for(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    with torch.no_grad():
        output = model(**inputs, output_attentions=True)
    vision, text = model.config.vision_config, model.config.text_config
    frames, tokens = len(LENGTHS) * vision.num_frames, vision.num_patches + 2  # class, patches, message
    shapes = {
        "text_model_output": (len(LENGTHS), text.num_attention_heads, 11, 11),
        "vision_model_output": (frames, vision.num_attention_heads, tokens, tokens),
        "mit_output": (len(LENGTHS), vision.mit_num_attention_heads, vision.num_frames, vision.num_frames),
    }
    for name, shape in shapes.items():
        for attention in output[name].attentions:
            assert attention.shape == shape
            assert torch.allclose(attention.sum(-1), torch.ones(()))


# The parts that forward is made of


def test_forward_is_made_of_the_public_parts(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    with torch.no_grad():
        whole = model(**inputs)
        text = model.encode_text(inputs["input_ids"], inputs["attention_mask"])
        video = model.encode_video(inputs["pixel_values"])
        parts = model.similarity(text.features, video.features, video.visual_tokens)
    assert parts.logits_per_video.equal(whole.logits_per_video)
    assert parts.text_embeds.equal(whole.text_embeds)
    assert parts.video_embeds.equal(whole.video_embeds)
    assert video.mit_output.pooler_output.equal(video.features)
    assert video.visual_tokens.shape == (5, model.config.vision_config.num_patches, model.config.projection_dim)


def test_labels_may_be_cut_into_chunks(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    """No label sees another, and no video another: each pair's logit is its own."""
    with torch.no_grad():
        whole = model(**inputs).logits_per_video
        for k in range(len(LENGTHS)):
            ids, mask = inputs["input_ids"][k : k + 1, : LENGTHS[k]], inputs["attention_mask"][k : k + 1, : LENGTHS[k]]
            alone = model(ids, inputs["pixel_values"][k : k + 1], mask).logits_per_video
            assert_agree(alone, whole[k : k + 1, k : k + 1], f"pair {k}")


def test_embeds_have_unit_length_and_texts_are_each_videos_own(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    with torch.no_grad():
        output = model(inputs["input_ids"], inputs["pixel_values"][:2])
    assert output.text_embeds.shape == (2, len(LENGTHS), model.config.projection_dim)
    assert torch.allclose(output.text_embeds.norm(dim=-1), torch.ones(()))
    assert torch.allclose(output.video_embeds.norm(dim=-1), torch.ones(()))
    assert (output.text_embeds[0] - output.text_embeds[1]).abs().max() > 0.01


def test_pooling_is_at_the_first_end_token(model: XCLIPModel) -> None:
    """Whatever pads: the end token again, or zeros as the original does."""
    ids, _ = reference.token_ids(model.config, LENGTHS)
    zeros = ids.clone()
    for row, length in enumerate(LENGTHS):
        zeros[row, length:] = 0
    with torch.no_grad():
        output = model.text_model(ids)
        assert torch.allclose(output.pooler_output, model.text_model(zeros).pooler_output, atol=1e-5)
    for row, length in enumerate(LENGTHS):
        assert output.pooler_output[row].equal(output.last_hidden_state[row, length - 1])


def test_frames_have_an_order(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    with torch.no_grad():
        ahead, back = model(**inputs), model(**inputs | {"pixel_values": inputs["pixel_values"].flip(1)})
    assert (ahead.logits_per_video - back.logits_per_video).abs().max() > 0.01


def test_loss_is_the_mean_of_both_directions() -> None:
    logits = torch.tensor([[3.0, 1.0], [0.0, 2.0]])
    rows = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(-2))]  # each video among the texts
    columns = [math.log(1 + math.exp(-3)), math.log(1 + math.exp(-1))]  # each text among the videos
    assert contrastive_loss(logits).item() == pytest.approx((sum(rows) / 2 + sum(columns) / 2) / 2)


# Training mode, precision


@pytest.mark.parametrize("tower", ["text", "vision"])
def test_dropout_is_active_in_training_alone(tower: str, inputs: dict[str, Any]) -> None:
    model = ours(reference.model(reference.config(**{tower: {"dropout": 0.2}})))
    assert model.config.to_dict()[f"{tower}_config"]["dropout"] == 0.2
    with torch.no_grad():
        calm, again = model(**inputs), model(**inputs)
        noisy, other = (model.train()(**inputs) for _ in range(2))
    untouched = {"text": "video_embeds", "vision": "text_model_output"}[tower]
    assert calm.logits_per_video.equal(again.logits_per_video)
    assert not torch.allclose(noisy.logits_per_video, calm.logits_per_video, atol=1e-3)
    assert not torch.allclose(noisy.logits_per_video, other.logits_per_video, atol=1e-3)
    same = [output[untouched] if tower == "text" else output[untouched][0] for output in (calm, noisy)]
    assert torch.allclose(*same, atol=1e-5)


def test_drop_path_drops_whole_samples_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    kept = drop(torch.ones(4000, 2, 3))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (kept == kept[:, :1, :1]).all()
    assert kept.mean().item() == pytest.approx(1, abs=0.05)
    assert drop.eval()(torch.ones(9)).equal(torch.ones(9))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("attentions", [True, False])
def test_half_precision_is_finite_and_compares_in_float32(dtype: torch.dtype, attentions: bool) -> None:
    theirs = reference.model(reference.config())
    ids, mask = reference.token_ids(theirs.config, LENGTHS)
    left = ids.flip(1), reference.clips(theirs.config, len(LENGTHS)), mask.flip(1)
    inputs = ids, reference.clips(theirs.config, len(LENGTHS)), mask
    model = ours(theirs)
    for arguments in (inputs, left):
        with torch.no_grad():
            exact = model.float()(*arguments, output_attentions=attentions)
            output = model.to(dtype)(*arguments, return_loss=True, output_attentions=attentions)
        assert output.text_model_output.last_hidden_state.dtype == dtype
        assert output.vision_model_output.last_hidden_state.isfinite().all()
        assert output.text_model_output.last_hidden_state.isfinite().all()
        for name in ("loss", "logits_per_video", "text_embeds", "video_embeds"):
            assert output[name].dtype == torch.float32, name
            assert output[name].isfinite().all(), name
        assert torch.allclose(output.text_embeds.norm(dim=-1), torch.ones(()))
        assert (output.logits_per_video - exact.logits_per_video).abs().max() < 0.05 * math.exp(2.5)


# Wrong input, in words


def test_frames_must_be_the_models(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    ids, pixels = inputs["input_ids"], inputs["pixel_values"]
    for frames in (2, 7, 16):
        wrong = torch.zeros(2, frames, *pixels.shape[2:])
        message = rf"got \[2, {frames}, 3, 32, 32\]: this model takes 8 frames per video, or 1"
        for call in (lambda x: model(ids, x), model.get_video_features, model.encode_video, model.vision_model):
            with pytest.raises(ValueError, match=message):
                call(wrong)


def test_a_still_is_repeated(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    """By the whole model and by its vision encoder; eight stills are eight videos, and not one of eight frames."""
    stills = inputs["pixel_values"][:, :1]
    moving = stills.expand(-1, 8, -1, -1, -1)
    vision = XCLIPVisionModel(model.config.vision_config).eval()
    with torch.no_grad():
        assert model(inputs["input_ids"], stills)[0].equal(model(inputs["input_ids"], moving)[0])
        expected = vision(moving.flatten(0, 1)).pooler_output
        assert vision(stills).pooler_output.equal(expected)
        assert vision(moving).pooler_output.equal(expected)
        assert vision(stills[0]).pooler_output.equal(vision(moving[:1]).pooler_output)
        eight = torch.cat([stills, stills[:3]])
        assert model.get_video_features(eight).shape[0] == 8
        assert_agree(model.get_video_features(eight)[:5], model.get_video_features(moving), "stills")


@pytest.mark.parametrize("shape", [(8, 3, 32, 32), (32, 32), (1, 1, 8, 3, 32, 32)], ids=str)
def test_pixels_must_have_five_dimensions(model: XCLIPModel, inputs: dict[str, Any], shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ValueError, match=r"pixel_values must be of shape \[videos, 8 frames, channels, height, width\]"
    ):
        model(inputs["input_ids"], torch.zeros(shape))


@pytest.mark.parametrize("frame", [(3, 64, 64), (3, 32, 16), (1, 32, 32), (32, 32, 3)], ids=str)
def test_pictures_must_be_of_the_models_size(model: XCLIPModel, inputs: dict[str, Any], frame: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"takes frames of shape \[frames, 3, 32, 32\].* got \[1, 8, "):
        model(inputs["input_ids"], torch.zeros(1, 8, *frame))


def test_the_vision_encoder_alone_takes_whole_clips(model: XCLIPModel) -> None:
    tower = XCLIPVisionModel(model.config.vision_config)
    with pytest.raises(ValueError, match="got 12 frames, which do not divide into clips of 8"):
        tower(torch.zeros(12, 3, 32, 32))
    with pytest.raises(ValueError, match=r"got \[1, 7, 3, 32, 32\]"):
        tower(torch.zeros(1, 7, 3, 32, 32))


def test_texts_must_not_be_too_long(model: XCLIPModel, inputs: dict[str, Any]) -> None:
    ids = torch.ones(1, 78, dtype=torch.long)
    for call in (lambda: model(ids, inputs["pixel_values"]), lambda: model.get_text_features(ids)):
        with pytest.raises(ValueError, match="78 tokens, the model takes at most 77"):
            call()
    assert model.get_text_features(ids[:, :77]).isfinite().all()


@pytest.mark.parametrize(("texts", "videos"), [(3, 5), (5, 2)])
def test_the_loss_needs_equal_counts(model: XCLIPModel, inputs: dict[str, Any], texts: int, videos: int) -> None:
    ids, pixels = inputs["input_ids"][:texts], inputs["pixel_values"][:videos]
    with pytest.raises(ValueError, match=f"got {texts} texts and {videos} videos: give equal counts"):
        model(ids, pixels, return_loss=True)
    assert model(ids, pixels).logits_per_video.shape == (videos, texts)


def test_a_model_takes_its_own_config() -> None:
    with pytest.raises(TypeError, match="XCLIPModel takes an XCLIPConfig, got XCLIPTextConfig"):
        XCLIPModel(XCLIPTextConfig())
