"""Every example of the two pages of the Hugging Face documentation, with nothing changed but the import line.

Where the pages lie in ``../shared/docs`` the examples are taken from them; ``tests/model/pages.json`` has the same
examples for everywhere else, and is held equal to them. Hub names stand for a local checkpoint folder, downloads for
local files.
"""

from __future__ import annotations

import json
import re
import sys
import types
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
import transformers
from PIL import Image
from reference import assert_agree, one_thread  # noqa: F401

KEPT = Path(__file__).with_name("pages.json")
PAGES = sorted((Path(__file__).parents[3] / "shared" / "docs" / "seeds").glob("*.txt"))
EXAMPLES: list[str] = json.loads(KEPT.read_text("utf-8"))
CHECKED = ("outputs", "text_features", "video_features", "pixel_values")  # what an example leaves to compare


def examples(page: str) -> list[str]:
    """The code of a page: one example for each run of lines that begin as at a prompt."""
    code: list[list[str]] = [[]]
    for line in page.splitlines():
        if line.startswith((">>>", "...")):
            code[-1].append(line[4:])
        elif line.strip() and not line.startswith("tensor(") and code[-1]:
            code.append([])
    return ["\n".join(lines) for lines in code if any("import" in line for line in lines)]


@pytest.mark.skipif(not PAGES, reason="the pages are not in this checkout")
def test_the_kept_examples_are_those_of_the_pages() -> None:
    found = [example for page in PAGES for example in examples(page.read_text("utf-8", errors="replace"))]
    assert found == EXAMPLES


def test_there_are_fourteen() -> None:
    assert len(EXAMPLES) == 14


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint in place of the named one."""
    return reference.checkpoint(tmp_path_factory.mktemp("pages"), reference.config())


@pytest.fixture
def downloads(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A local clip for the one on the hub, and a local picture for the one on the web."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda **_: str(clip))
    picture = BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)).save(picture, "png")
    picture.seek(0)
    requests = types.ModuleType("requests")
    requests.get = lambda url, stream: types.SimpleNamespace(raw=picture)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "requests", requests)


def run(example: str, library: str, folder: Path) -> dict[str, Any]:
    code = re.sub(r"^from transformers import", f"from {library} import", example, flags=re.MULTILINE)
    code = code.replace('"microsoft/xclip-base-patch32"', repr(str(folder)))
    names: dict[str, Any] = {}
    exec(compile(code, "example", "exec"), names)
    return names


@pytest.mark.usefixtures("downloads")
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, folder: Path) -> None:
    names = run(EXAMPLES[number], "xclip_cli", folder)
    kinds = {type(value).__module__.split(".")[0] for value in names.values()} & {"transformers"}
    assert not kinds
    if "XCLIPTextConfig" in names or "XCLIPVisionConfig" in names:
        assert names["configuration"] is names["model"].config
        return
    assert any(name in names for name in CHECKED)
    if "probs" in names:
        assert torch.allclose(names["probs"].sum(dim=1), torch.ones(()))


# Transformers 5 itself runs fewer of these: towers load with random weights, and stills are refused. So the numbers
# are compared with its whole model, given what the example gave to ours.
@pytest.mark.usefixtures("downloads")
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_gives_the_numbers_of_transformers(number: int, folder: Path) -> None:
    names = run(EXAMPLES[number], "xclip_cli", folder)
    if "inputs" not in names and "pixel_values" not in names:
        pytest.skip("this example only builds a model")
    theirs = transformers.XCLIPModel.from_pretrained(folder).eval()
    inputs = dict(names.get("inputs", {}))
    pixels = inputs.pop("pixel_values", names.get("pixel_values"))
    if pixels is not None and pixels.ndim == 5 and pixels.shape[1] == 1:
        pixels = pixels.expand(-1, theirs.config.vision_config.num_frames, -1, -1, -1)
    with torch.no_grad():
        if "text_features" in names:
            expected = theirs.get_text_features(**inputs).pooler_output
            assert_agree(names["text_features"].detach(), expected, "text features")
        elif "video_features" in names:
            expected = theirs.get_video_features(pixels).pooler_output
            assert_agree(names["video_features"].detach(), expected, "video features")
        elif "logits_per_video" in names:
            expected = theirs(**inputs, pixel_values=pixels).logits_per_video
            assert_agree(names["logits_per_video"].detach(), expected, "logits")
        elif pixels is not None:
            expected = theirs.vision_model(pixels.flatten(0, 1) if pixels.ndim == 5 else pixels)
            assert_agree(names["last_hidden_state"].detach(), expected.last_hidden_state, "vision encoder")
        else:
            expected = theirs.text_model(**inputs)
            assert_agree(names["pooled_output"].detach(), expected.pooler_output, "text encoder")
