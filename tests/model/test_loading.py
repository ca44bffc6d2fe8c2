"""The authors' files in use: by the library, by the command line, converted, described."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import reference
import torch
from conftest import Run
from hub import Hub, serving
from original import original_names, write_original
from torch.utils.flop_counter import FlopCounterMode
from transformers import XCLIPModel as ReferenceModel

from xclip_cli import Classifier, ModelError, XCLIPConfig, XCLIPModel, XCLIPTextModel
from xclip_cli.model.checkpoint.find import find_checkpoint
from xclip_cli.model.describe import describe
from xclip_cli.model.formats import HuggingFaceFolder, OriginalFile, open_checkpoint

CONFIG = reference.config(
    text={"hidden_size": 128, "num_attention_heads": 2, "max_position_embeddings": 77},
    vision={"hidden_size": 64, "num_attention_heads": 1, "mit_num_attention_heads": 3},
    projection_dim=192,
    prompt_num_attention_heads=3,
    prompt_layers=2,
)
LABELS = ["--label", "a cat", "--label", "a dog", "--label", "abseiling"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights as a Hugging Face folder ..."""
    return reference.checkpoint(tmp_path_factory.mktemp("folder"), CONFIG)


@pytest.fixture(scope="module")
def pth(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """... and as a file of the authors' code."""
    weights = original_names(ReferenceModel.from_pretrained(folder).state_dict())
    return write_original(tmp_path_factory.mktemp("pth") / "k400_16_8.pth", weights)


def logits(done: Any) -> dict[str, float]:
    assert done.returncode == 0, done.stderr
    return {p["label"]: p["logit"] for p in json.loads(done.stdout)["predictions"]}


def test_the_library_loads_the_file(pth: Path, folder: Path) -> None:
    ours, theirs = XCLIPModel.from_pretrained(pth), XCLIPModel.from_pretrained(folder)
    assert not ours.training
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], tensor), name
    with pytest.raises(ModelError, match="is a whole X-CLIP of its authors' code: load it as XCLIPModel, or convert"):
        XCLIPTextModel.from_pretrained(pth)


def test_a_file_that_lacks_a_tensor_is_refused_when_it_is_loaded(pth: Path, folder: Path, tmp_path: Path) -> None:
    weights = original_names(ReferenceModel.from_pretrained(folder).state_dict())
    del weights["visual.ln_pre.bias"]
    path = write_original(tmp_path / "k400.pth", weights)
    with pytest.raises(ModelError, match="is not an X-CLIP of the authors' code: missing visual.ln_pre.bias$"):
        XCLIPModel.from_pretrained(path)


def test_a_format_is_what_the_files_are(pth: Path, folder: Path, tmp_path: Path) -> None:
    """Not what they are called."""
    named = Path(shutil.copytree(folder, tmp_path / "folder.pth"))
    assert type(open_checkpoint(find_checkpoint(str(named)))) is HuggingFaceFolder
    assert XCLIPModel.from_pretrained(named).config == XCLIPModel.from_pretrained(folder).config
    assert type(open_checkpoint(find_checkpoint(str(pth)))) is OriginalFile


def test_the_command_line_gives_the_same_answer(xclip: Run, pth: Path, folder: Path, clip: Path) -> None:
    expected = logits(xclip("classify", clip, *LABELS, "--model", folder, "--dtype", "float32"))
    got = logits(xclip("classify", clip, *LABELS, "--model", pth, "--tokenizer", folder, "--dtype", "float32"))
    assert got == pytest.approx(expected, abs=1e-4)


def test_converting_gives_a_folder_that_both_libraries_load(
    xclip: Run, pth: Path, folder: Path, clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "converted"
    done = xclip("models", "convert", pth, out, "--tokenizer", folder)
    assert (done.returncode, done.stdout) == (0, f"{out}\n")
    expected = ReferenceModel.from_pretrained(folder).state_dict()
    for name, tensor in ReferenceModel.from_pretrained(out).state_dict().items():
        assert torch.equal(tensor, expected[name]), name
    expected_logits = logits(xclip("classify", clip, *LABELS, "--model", folder, "--dtype", "float32"))
    assert logits(xclip("classify", clip, *LABELS, "--model", out, "--dtype", "float32")) == pytest.approx(
        expected_logits, abs=1e-4
    )
    again = xclip("models", "convert", pth, out, "--tokenizer", folder)
    assert again.returncode == 2
    assert "give a new folder" in " ".join(again.stderr.split())


def test_heads_can_be_overridden(pth: Path, folder: Path, clip: Path) -> None:
    def first(model: Path, heads: int | None) -> float:
        with Classifier(
            model, labels=["a cat", "a dog"], tokenizer=str(folder), heads=heads, dtype="float32"
        ) as classifier:
            return classifier.classify(clip).predictions[0].logit

    assert first(pth, 2) == pytest.approx(first(folder, 2), abs=1e-4)
    assert abs(first(pth, 2) - first(pth, None)) > 1e-3
    with pytest.raises(ModelError, match="cannot have 5 heads"):
        Classifier(folder, labels=["a cat"], heads=5)


def test_the_tokenizer_comes_from_the_hub(xclip: Run, pth: Path, folder: Path, clip: Path, tmp_path: Path) -> None:
    """By default that of microsoft/xclip-base-patch32; only its tokenizer's files are fetched."""
    done = xclip("classify", clip, *LABELS, "--model", pth)
    assert done.returncode == 4
    assert "needs a tokenizer, but that of microsoft/xclip-base-patch32 is unavailable" in done.stderr
    assert "pass another with --tokenizer FOLDER" in done.stderr
    hub = Hub()
    hub.repositories["microsoft/xclip-base-patch32"] = Path(shutil.copytree(folder, tmp_path / "files"))
    with serving(hub):
        env = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "0", "NO_PROXY": "*"}
        fetched = logits(xclip("classify", clip, *LABELS, "--model", pth, env=env))
    assert hub.bytes_sent == 0
    assert fetched == logits(xclip("classify", clip, *LABELS, "--model", pth, env={"HF_HOME": str(tmp_path / "home")}))


def test_a_tokenizer_of_more_tokens_than_the_model_has_is_refused(pth: Path, folder: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    values = json.loads((other / "tokenizer.json").read_text("utf-8"))
    vocabulary = values["model"]["vocab"]
    vocabulary["<|endoftext|>"] = end = len(vocabulary) + 5
    values["added_tokens"] = []
    (other / "tokenizer.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(ModelError, match=f"has ids up to {end}, but its model has only {len(vocabulary)} tokens"):
        Classifier(pth, labels=["a cat"], tokenizer=str(other))


def test_info_describes_the_file(pth: Path, folder: Path) -> None:
    of_file, of_folder = describe(str(pth)), describe(str(folder))
    for key in ("num_frames", "image_size", "parameters", "gmac_per_clip", "mit", "prompts"):
        assert of_file[key] == of_folder[key]
    assert of_file["training"]["DATA"]["DATASET"] == "kinetics400"
    assert "--heads 8 computes what those compute" in of_file["notes"][0]
    assert of_folder["notes"] == []
    assert of_file["identity"] == find_checkpoint(str(pth)).identity != of_folder["identity"]


def test_counts_are_those_of_the_models() -> None:
    """Parameters as the public checkpoints have them; multiplications as torch counts them."""
    sizes = [
        (XCLIPConfig(), 196_585_729),
        (XCLIPConfig(vision_config={"patch_size": 16, "num_frames": 32}), 194_941_441),  # type: ignore[arg-type]
    ]
    for config, parameters in sizes:
        with torch.device("meta"):
            model = XCLIPModel(config)
        assert config.count_parameters() == sum(p.numel() for p in model.parameters()) == parameters
        vision = config.vision_config
        clip = torch.empty(1, vision.num_frames, 3, vision.image_size, vision.image_size, device="meta")
        with FlopCounterMode(display=False) as counted:
            model.encode_video(clip)
        assert config.video_macs() == counted.get_total_flops() / 2
