"""The same calls on transformers and on xclip: equal, or listed here with the reason."""

from __future__ import annotations

import json
import pickle
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import reference
import torch
from reference import one_thread  # noqa: F401

import xclip_cli

from . import calls, environments

HERE = Path(__file__).parent
TOLERANCE = 5e-5  # of the largest value
GREY_LEVEL = 0.02  # the same, where pixels are resampled

# What differs from every version.
ALWAYS = {
    "tokenizer: no text at all": "no texts are no ids; there an error from the inside",
    "image processor: videos=": "the documented name of preprocess; there __call__ has another",
}
OLDER = {  # from versions 4
    **ALWAYS,
    "tokenizer files": "there special_tokens_map.json too, which says what tokenizer_config.json says",
    "image processor: unknown keyword": "refused; there swallowed",
    "processor: do_rescale": "there a mean below 1 becomes 0 in bytes and the pixels infinite, or they are left out",
    "model: mit": "an output unless a tuple is asked for, as of the other parts",
    "model: double": "there an error from the inside",
    "load: missing folder": "an OSError; there not",
    "save: not the main process": "nothing is written; there the weights are, without a config",
}
DIFFERENCES: dict[str, dict[str, str]] = {
    "4.34.1": {
        **OLDER,
        "tokenizer: decode default": "spaces before punctuation stay unless they are to go, as in later versions",
        "tokenizer: batch_decode": "the same",
        "tokenizer: batch_decode keywords": "the same",
        "tokenizer: batch_decode a tensor": "the same",
        "processor: batch_decode": "the same",
        "image processor: no rescale": "there a mean below 1 becomes 0 in bytes, and the pixels infinite",
        "processor: images=": "the older page has it",
        "processor: a still": "the older page has it",
        "load: torch_dtype, a string": "later versions have it",
        "save: safetensors": "safetensors by default, as in later versions",
        "save: shards": "safetensors, and other names",
        "save: shards of bytes": "the same",
        "save: pickled shards": "the tensors are cut into other shards",
    },
    "4.57.1": {
        **OLDER,
        **dict.fromkeys(
            [
                f"processor: {name}"
                for name in ("videos", "both", "both, np", "do_normalize", "to", "keys", "save, load")
            ],
            "there the pictures of videos= are left out without a word",
        ),
        "processor: positions": "the documented order",
        "model: tuple, positions": "there interpolate_pos_encoding comes before return_dict",
        "model: video features": "there an error from the inside",
        "model: video features, keywords": "the same",
    },
    "5": {
        **ALWAYS,
        "XCLIPTextConfig(positional)": "documented for 4.34; there keywords alone",
        "XCLIPVisionConfig(positional)": "the same",
        "XCLIPConfig(positional)": "the same",
        "XCLIPConfig(positional) text": "the same",
        "XCLIPConfig.from_text_vision_configs": "documented for 4.34; there gone",
        "tokenizer: decode keywords": "spaces go when asked for; there they stay",
        "tokenizer files": "vocab.json and merges.txt too, for versions 4",
        "image processor: data_format last": "documented; there without effect",
        "processor: positions": "the documented order",
        "processor: by older name": "documented for 4.22; there gone",
        "model: tuple": "the documented order; there another since 5.23",
        "model: tuple, loss": "the same",
        "model: tuple, positions": "documented; there output_attentions and so on are keywords alone",
        "model: unknown keyword": "refused; there swallowed",
        "save: pickled": "written as asked for; there always safetensors",
        "save: pickled shards": "the same",
    },
}


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint as the hub had it in 2022, which every version reads, written without xclip."""
    folder = tmp_path_factory.mktemp("differential")
    reference.model(reference.config()).save_pretrained(folder)
    tokens, merges = reference.vocabulary()
    (folder / "vocab.json").write_text(json.dumps(tokens), "utf-8")
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *map(" ".join, merges)]) + "\n", "utf-8")
    special = {"bos_token": reference.START, "eos_token": reference.END}
    special |= {"pad_token": reference.END, "unk_token": reference.END}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 77, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), "utf-8")
    pictures = {
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "resample": 2,
        "image_mean": reference.IMAGENET_MEAN,
        "image_std": reference.IMAGENET_STD,
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "feature_extractor_type": "VideoMAEFeatureExtractor",
        "processor_class": "XCLIPProcessor",
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(pictures), "utf-8")
    return folder


@cache
def ours(folder: Path) -> dict[str, Any]:
    return calls.run("xclip_cli", folder)


def equal(ours: Any, theirs: Any, tolerance: float) -> bool:
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(equal(ours[key], theirs[key], tolerance) for key in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(equal, ours, theirs, [tolerance] * len(ours)))
    if isinstance(ours, np.ndarray) and isinstance(theirs, np.ndarray):
        if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
            return False
        if not np.issubdtype(ours.dtype, np.floating) or not ours.size:
            return bool((ours == theirs).all())
        return bool(np.abs(ours - theirs).max() <= tolerance * np.abs(theirs).max())
    return type(ours) is type(theirs) and bool(ours == theirs)


def differing(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, str]:
    """Calls that do not have the same outcome; two errors are the same."""
    found = {}
    for name, (kind, value) in theirs.items():
        our_kind, our_value = ours[name]
        tolerance = GREY_LEVEL if "~" in name else TOLERANCE
        if kind != our_kind or (kind == "ok" and not equal(our_value, value, tolerance)):
            found[name] = f"ours {our_kind} {our_value!s:.300}, theirs {kind} {value!s:.300}"
    return found


def assert_as_listed(ours: dict[str, Any], theirs: dict[str, Any], listed: dict[str, str]) -> None:
    found = differing(ours, theirs)
    assert {name: text for name, text in found.items() if name not in listed} == {}
    assert [name for name in listed if name not in found] == []  # of what is equal now, the list is out of date


def test_there_are_enough_calls(folder: Path) -> None:
    assert len(calls.CALLS) >= 250
    assert max(map(len, DIFFERENCES.values())) < 30


def test_calls_agree_with_version_5(folder: Path) -> None:
    assert_as_listed(ours(folder), calls.run("transformers", folder), DIFFERENCES["5"])


@pytest.mark.slow
@pytest.mark.parametrize("version", ["4.34.1", "4.57.1"])
def test_calls_agree_with_versions_4(version: str, folder: Path, tmp_path: Path) -> None:
    environments.run(version, HERE / "calls.py", "transformers", folder, tmp_path / "out")
    assert_as_listed(ours(folder), pickle.loads((tmp_path / "out").read_bytes()), DIFFERENCES[version])


def write_for_a_round_trip(folder: Path, tmp_path: Path) -> dict[str, torch.Tensor]:
    """All that we save, and inputs for it → what we compute of them."""
    whole = xclip_cli.XCLIPModel.from_pretrained(folder)
    inputs = {
        "input_ids": torch.tensor([[812, 30, 40, 813, 813], [812, 7, 813, 813, 813]]),
        "pixel_values": reference.clips(whole.config, 2),
        "video": torch.randint(0, 256, (8, 32, 32, 3), dtype=torch.uint8),
    }
    inputs["frames"] = inputs["pixel_values"].flatten(0, 1)
    torch.save(inputs, tmp_path / "inputs.pt")
    whole.save_pretrained(tmp_path / "ours" / "XCLIPModel")
    processor = xclip_cli.XCLIPProcessor.from_pretrained(folder)
    processor.save_pretrained(tmp_path / "ours" / "XCLIPModel")
    text = xclip_cli.XCLIPTextModel.from_pretrained(folder)
    text.save_pretrained(tmp_path / "ours" / "XCLIPTextModel")
    vision = xclip_cli.XCLIPVisionModel.from_pretrained(folder)
    vision.save_pretrained(tmp_path / "ours" / "XCLIPVisionModel")
    with torch.no_grad():
        return {
            "XCLIPModel": whole(inputs["input_ids"], inputs["pixel_values"]).logits_per_video,
            "XCLIPTextModel": text(inputs["input_ids"]).pooler_output,
            "XCLIPVisionModel": vision(inputs["frames"]).pooler_output,
            "pixel_values": processor(videos=list(inputs["video"].numpy()), return_tensors="pt").pixel_values,
        }


def assert_round_trip(expected: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Theirs compute the same of what we have saved, and we of what they have."""
    inputs, theirs = torch.load(tmp_path / "inputs.pt"), torch.load(tmp_path / "results.pt")
    for name, value in expected.items():
        assert (theirs[name] - value).abs().max() <= 1e-5 * value.abs().max(), name
    texts = ["a photo of a cat", "It's 2 o'clock", "Naïve café — 東京"]
    ids = xclip_cli.CLIPTokenizer.from_pretrained(tmp_path / "ours" / "XCLIPModel")(texts, padding=True)["input_ids"]
    assert theirs["CLIPTokenizerFast"].tolist() == theirs["AutoTokenizer"].tolist() == ids
    assert theirs["CLIPTokenizer"][:2, :8].tolist() == [row[:8] for row in ids[:2]]  # the slow one splits 東京
    for name in ("CLIPTokenizerFast", "AutoTokenizer", "processor"):
        again = xclip_cli.CLIPTokenizer.from_pretrained(tmp_path / "theirs" / name)
        assert again(texts, padding=True)["input_ids"] == ids, name
    processor = xclip_cli.XCLIPProcessor.from_pretrained(tmp_path / "theirs" / "processor")
    pixels = processor(videos=list(inputs["video"].numpy()), return_tensors="pt").pixel_values
    assert pixels.equal(expected["pixel_values"])
    given = {
        "XCLIPModel": ("input_ids", "pixel_values"),
        "XCLIPTextModel": ("input_ids",),
        "XCLIPVisionModel": ("frames",),
    }
    for name, keys in given.items():
        model = getattr(xclip_cli, name).from_pretrained(tmp_path / "theirs" / name)
        with torch.no_grad():
            output = model(*(inputs[key] for key in keys))
        value = output.logits_per_video if name == "XCLIPModel" else output.pooler_output
        assert (value - expected[name]).abs().max() <= 1e-5 * expected[name].abs().max(), name


def test_round_trip_with_version_5(folder: Path, tmp_path: Path) -> None:
    from . import round_trip

    expected = write_for_a_round_trip(folder, tmp_path)
    round_trip.main(tmp_path)
    assert_round_trip(expected, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["4.34.1", "4.57.1"])
def test_round_trip_with_versions_4(version: str, folder: Path, tmp_path: Path) -> None:
    expected = write_for_a_round_trip(folder, tmp_path)
    environments.run(version, HERE / "round_trip.py", tmp_path)
    assert_round_trip(expected, tmp_path)
