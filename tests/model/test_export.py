"""Export: the exported program and the ONNX file give the same logits, also at other sizes than they were made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from reference import assert_agree, one_thread  # noqa: F401
from torch import Tensor, nn
from torch.export import Dim

from xclip_cli.model import XCLIPConfig, XCLIPModel, XCLIPTextModel, XCLIPVisionModel

SIZES = [(2, 3), (1, 1), (5, 4), (3, 11)]  # videos, texts


@pytest.fixture(scope="module")
def model() -> XCLIPModel:
    theirs = reference.model(reference.config())
    ours = XCLIPModel(XCLIPConfig.from_dict(theirs.config.to_dict()))
    ours.load_state_dict(theirs.state_dict())
    return ours.eval()


def inputs(model: XCLIPModel, videos: int, texts: int) -> dict[str, Tensor]:
    ids, mask = reference.token_ids(model.config, [7, *range(3, texts + 2)], seed=texts)
    return {"input_ids": ids, "pixel_values": reference.clips(model.config, videos), "attention_mask": mask}


def axes(length: bool = False) -> dict[str, Any]:
    texts, tokens = Dim("texts"), Dim("tokens", min=2, max=77)
    of_texts = {0: texts, 1: tokens} if length else {0: texts}
    return {"input_ids": of_texts, "pixel_values": {0: Dim("videos")}, "attention_mask": of_texts}


@pytest.mark.parametrize("grad", [True, False])
def test_torch_export_with_dynamic_batch_and_labels(model: XCLIPModel, grad: bool) -> None:
    with torch.set_grad_enabled(grad):
        program = torch.export.export(model, (), inputs(model, 2, 3), dynamic_shapes=axes(length=True))
    for videos, texts in SIZES:
        given = inputs(model, videos, texts)
        with torch.no_grad():
            output, expected = program.module()(**given), model(**given)
        assert type(output) is type(expected)
        assert list(output) == list(expected)
        assert_agree(output.logits_per_video, expected.logits_per_video, f"{videos} videos, {texts} texts")
        assert_agree(output.mit_output.pooler_output, expected.mit_output.pooler_output, "mit")


def test_torch_export_saves_and_loads(model: XCLIPModel, tmp_path: Path) -> None:
    program = torch.export.export(model, (), inputs(model, 2, 3), dynamic_shapes=axes())
    torch.export.save(program, tmp_path / "x.pt2")
    given = inputs(model, 3, 4)
    with torch.no_grad():
        output = torch.export.load(tmp_path / "x.pt2").module()(**given)
        assert_agree(output.logits_per_video, model(**given).logits_per_video, "logits")


def test_torch_export_of_the_towers(model: XCLIPModel) -> None:
    text, vision = XCLIPTextModel(model.config.text_config).eval(), XCLIPVisionModel(model.config.vision_config).eval()
    given = inputs(model, 3, 4)
    of_text = torch.export.export(text, (given["input_ids"],), dynamic_shapes=({0: Dim("texts")},))
    of_vision = torch.export.export(vision, (given["pixel_values"],), dynamic_shapes=({0: Dim("videos")},))
    other = inputs(model, 2, 5)
    with torch.no_grad():
        for program, tower, name in ((of_text, text, "input_ids"), (of_vision, vision, "pixel_values")):
            assert_agree(program.module()(other[name]).pooler_output, tower(other[name]).pooler_output, name)


class Logits(nn.Module):
    """The model with one tensor to come out."""

    def __init__(self, model: XCLIPModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, pixel_values: Tensor, attention_mask: Tensor) -> Tensor:
        logits: Tensor = self.model(input_ids, pixel_values, attention_mask).logits_per_video
        return logits


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["logits", "all outputs"])
@pytest.mark.filterwarnings("default")  # of the exporter, about itself
def test_onnx_gives_the_same_logits_at_other_sizes(model: XCLIPModel, whole: bool, tmp_path: Path) -> None:
    import onnxruntime

    path = tmp_path / "x.onnx"
    exported = model if whole else Logits(model).eval()
    torch.onnx.export(
        exported, (), path, kwargs=inputs(model, 2, 3), dynamo=True, dynamic_shapes=axes(length=True), verbose=False
    )
    session = onnxruntime.InferenceSession(path)
    assert [given.name for given in session.get_inputs()] == ["input_ids", "pixel_values", "attention_mask"]
    for videos, texts in SIZES:
        given = inputs(model, videos, texts)
        (logits, *_) = session.run(None, {name: value.numpy() for name, value in given.items()})
        with torch.no_grad():
            expected = model(**given).logits_per_video.numpy()
        assert np.abs(logits - expected).max() < 1e-4, (videos, texts)


@pytest.mark.slow
def test_torch_compile(model: XCLIPModel) -> None:
    compiled = torch.compile(Logits(model), backend="eager", dynamic=True, fullgraph=False)
    for videos, texts in SIZES[:3]:
        given = inputs(model, videos, texts)
        with torch.no_grad():
            assert_agree(compiled(**given), model(**given).logits_per_video, "logits")
