"""The processor against the one of transformers, which resizes with Pillow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import reference
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image
from transformers.models.videomae.image_processing_pil_videomae import VideoMAEImageProcessorPil

from xclip_cli.errors import ModelError
from xclip_cli.model import CLIPTokenizer, XCLIPImageProcessor, XCLIPProcessor

SIZES = [
    (224, 224),
    (240, 320),
    (320, 240),
    (225, 337),
    (337, 225),
    (480, 853),
    (100, 75),
    (75, 100),
    (17, 301),
    (301, 17),
    (2, 90),
    (90, 2),
    (4, 5),
    (1, 1),
    (223, 225),
]

HUB_SETTINGS = {  # of all released checkpoints, in full
    "do_center_crop": True,
    "do_normalize": True,
    "do_resize": True,
    "feature_extractor_type": "VideoMAEFeatureExtractor",
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
    "processor_class": "XCLIPProcessor",
    "resample": 2,
    "size": 224,
}


def picture(height: int, width: int, kind: str = "noise", seed: int = 0) -> NDArray[np.uint8]:
    """[height, width, 3]: noise, slow waves or hard edges."""
    if kind == "noise":
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    y, x = np.mgrid[:height, :width]
    waves = [127 + 127 * np.sin(x / 7 + y / 5), 255 * x / width, 255 * y / height]
    edges = [255 * ((x // 3 + y // 5) % 2), 255 * (x % 2), 255 * (y // 4 % 2)]
    return np.stack(waves if kind == "waves" else edges, axis=-1).astype(np.uint8)


def video(frames: int = 3, height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    """[frames, height, width, 3]."""
    return np.stack([picture(height, width, seed=seed) for seed in range(frames)])


def difference(ours: torch.Tensor, theirs: Any) -> int:
    assert ours.dtype == torch.uint8
    assert tuple(ours.shape) == theirs.shape
    return int((ours.int() - torch.from_numpy(np.array(theirs)).int()).abs().max())


@pytest.fixture(scope="module")
def theirs() -> Any:
    return reference.processor(32)


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("processor")
    theirs.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def processor(folder: Path) -> XCLIPProcessor:
    return XCLIPProcessor.from_pretrained(folder)


# Pixels


@pytest.mark.parametrize("kind", ["noise", "waves", "edges"])
@pytest.mark.parametrize("shape", SIZES, ids=str)
@pytest.mark.parametrize("size", [224, 30])
def test_pixels_are_pillows_to_one_grey_level(shape: tuple[int, int], kind: str, size: int) -> None:
    frame = picture(*shape, kind)
    theirs = reference.image_processor(size, do_rescale=False, do_normalize=False)
    expected = theirs(frame, return_tensors="np", input_data_format="channels_last")["pixel_values"][0][0]
    assert difference(XCLIPImageProcessor(size=size, crop_size=size).resize_and_crop(frame), expected) <= 1


@pytest.mark.parametrize("shape", [(240, 320), (90, 60), (61, 20)], ids=str)
def test_bicubic_pixels_are_pillows_to_two_grey_levels(shape: tuple[int, int]) -> None:
    frame = picture(*shape)
    expected = reference.image_processor(64, resample=3, do_rescale=False, do_normalize=False)(frame)["pixel_values"]
    processor = XCLIPImageProcessor(size=64, crop_size=64, resample=3)
    assert difference(processor.resize_and_crop(frame), expected[0][0]) <= 2


def test_nearest_pixels_are_pillows() -> None:
    frame = picture(96, 160)
    expected = reference.image_processor(32, resample=0, do_rescale=False, do_normalize=False)(frame)["pixel_values"]
    processor = XCLIPImageProcessor(size=32, crop_size=32, resample=0)
    assert difference(processor.resize_and_crop(frame), expected[0][0]) == 0


@pytest.mark.parametrize(
    ("shape", "size", "crop"),
    [
        ((50, 70), 40, 40),
        ((50, 70), 40, 24),
        ((70, 50), 41, 24),
        ((50, 70), 20, 33),
        ((33, 90), 20, 24),
        ((7, 7), 8, 9),
    ],
    ids=str,
)
def test_crops_and_black_borders_are_where_theirs_are(shape: tuple[int, int], size: int, crop: int) -> None:
    frame = picture(*shape)
    theirs = reference.image_processor(size, crop, do_rescale=False, do_normalize=False)
    expected = np.array(theirs(frame)["pixel_values"][0][0])
    ours = XCLIPImageProcessor(size=size, crop_size=crop).resize_and_crop(frame)
    assert difference(ours, expected.astype(np.uint8)) <= 1
    border = (ours == 0).all(dim=0)
    assert border.equal(torch.from_numpy((expected == 0).all(axis=0)))
    assert border.any() == (crop > size)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"do_normalize": False},
        {"do_rescale": False},
        {"rescale_factor": 1 / 127.5},
        {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3]},
        {"do_center_crop": False},
        {"do_resize": False},
        {"do_resize": False, "do_center_crop": False},
    ],
    ids=str,
)
def test_every_setting_does_what_theirs_does(settings: dict[str, Any]) -> None:
    frames = list(video(2, 32, 48))
    expected = reference.image_processor(32, 24, **settings)(frames, return_tensors="pt")["pixel_values"]
    processor = XCLIPImageProcessor.from_dict({**HUB_SETTINGS, "size": 32, "crop_size": 24, **settings})
    ours = processor(frames, return_tensors="pt").pixel_values
    assert ours.dtype == torch.float32
    assert ours.shape == expected.shape
    assert torch.allclose(ours, expected.float(), rtol=1e-5, atol=1e-5)  # 32 high already: no pixel is resampled


def test_the_defaults_are_the_released_checkpoints() -> None:
    assert XCLIPImageProcessor() == XCLIPImageProcessor.from_dict(HUB_SETTINGS)
    black, white = XCLIPImageProcessor()(
        [np.zeros((9, 9, 3), np.uint8), np.full((9, 9, 3), 255, np.uint8)], return_tensors="pt"
    ).pixel_values[0]
    for channel, (mean, std) in enumerate(zip([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], strict=True)):
        assert black[channel].unique().tolist() == pytest.approx([-mean / std])
        assert white[channel].unique().tolist() == pytest.approx([(1 - mean) / std])


# Forms of input


FORMS = {
    "list of arrays": list,
    "tuple of arrays": tuple,
    "array": lambda frames: frames,
    "batch of one, as an array": lambda frames: frames[None],
    "batch of one, as a list of arrays": lambda frames: [frames],
    "batch of one, as a list of lists": lambda frames: [list(frames)],
    "list of Pillow images": lambda frames: [Image.fromarray(frame) for frame in frames],
    "batch of Pillow images": lambda frames: [[Image.fromarray(frame) for frame in frames]],
    "tensor": torch.from_numpy,
    "list of tensors": lambda frames: list(torch.from_numpy(frames)),
    "channels first": lambda frames: frames.transpose(0, 3, 1, 2),
    "list of channels first": lambda frames: list(frames.transpose(0, 3, 1, 2)),
    "tensor, channels first": lambda frames: torch.from_numpy(frames).permute(0, 3, 1, 2),
    "batch of tensors": lambda frames: [torch.from_numpy(frames)],
    "tensor of a batch": lambda frames: torch.from_numpy(frames)[None],
    "mirrored twice": lambda frames: frames[:, :, ::-1].copy()[:, :, ::-1],
    "blue first, turned round": lambda frames: frames[..., ::-1].copy()[..., ::-1],
    "read only": lambda frames: np.frombuffer(frames.tobytes(), np.uint8).reshape(frames.shape),
    "wide integers": lambda frames: frames.astype(np.int64),
    "16 bits": lambda frames: frames.astype(np.uint16),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keyword", ["videos", "images"])
def test_one_video_in_every_form(processor: XCLIPProcessor, theirs: Any, form: str, keyword: str) -> None:
    frames = video()
    expected = theirs(videos=list(frames), return_tensors="pt")["pixel_values"]
    pixels = processor(**{keyword: FORMS[form](frames)}, return_tensors="pt")["pixel_values"]
    assert pixels.shape == expected.shape == (1, 3, 3, 32, 32)
    assert pixels.dtype == torch.float32
    assert (pixels - expected).abs().max() < 1.01 / 255 / 0.224  # a grey level


BATCHES = {
    "list of lists": lambda batch: [list(frames) for frames in batch],
    "list of arrays": list,
    "array": np.stack,
    "tensor": lambda batch: torch.from_numpy(np.stack(batch)),
    "list of tensors": lambda batch: [torch.from_numpy(frames) for frames in batch],
    "tuples of Pillow images": lambda batch: tuple(tuple(map(Image.fromarray, frames)) for frames in batch),
}


@pytest.mark.parametrize("form", BATCHES)
def test_a_batch_in_every_form(processor: XCLIPProcessor, theirs: Any, form: str) -> None:
    batch = [video(2), 255 - video(2)]
    expected = theirs(videos=[list(frames) for frames in batch], return_tensors="pt")["pixel_values"]
    pixels = processor(videos=BATCHES[form](batch), return_tensors="pt").pixel_values
    assert pixels.shape == expected.shape == (2, 2, 3, 32, 32)
    assert (pixels - expected).abs().max() < 1.01 / 255 / 0.224


def test_videos_of_a_batch_may_differ_in_size(processor: XCLIPProcessor) -> None:
    wide, tall = video(2, 40, 60), video(2, 60, 40)
    both = processor(videos=[list(wide), list(tall)], return_tensors="pt").pixel_values
    assert both[0].equal(processor(videos=list(wide), return_tensors="pt").pixel_values[0])
    assert both[1].equal(processor(videos=list(tall), return_tensors="pt").pixel_values[0])


def test_videos_as_before_and_images_as_still_before(processor: XCLIPProcessor) -> None:
    """The second place is ``videos``; where both names are given, ``videos`` it is."""
    frames, other = list(video()), list(255 - video())
    expected = processor(videos=frames, return_tensors="pt").pixel_values
    assert processor(["a dog"], frames, "pt").pixel_values.equal(expected)
    assert processor(videos=frames, images=other, return_tensors="pt").pixel_values.equal(expected)


def test_floats_are_bytes_first(processor: XCLIPProcessor, theirs: Any) -> None:
    """Whole numbers are those bytes; numbers from 0 to 1 are made bytes, and small again once resized."""
    frames = video()
    expected = processor(videos=frames, return_tensors="pt").pixel_values
    for dtype in (np.float32, np.float64):
        assert processor(videos=frames.astype(dtype), return_tensors="pt").pixel_values.equal(expected)
    small = np.random.default_rng(0).random((2, 40, 60, 3), np.float32)
    for rescale in (False, True):
        arguments = {"videos": list(small), "return_tensors": "pt", "do_rescale": rescale}
        reference_pixels = theirs(**arguments)["pixel_values"]
        assert (processor(**arguments).pixel_values - reference_pixels).abs().max() < 1.01 / 255 / 0.224
    with pytest.raises(
        ValueError, match=r"a frame of floats must hold whole numbers .* to be resized; got 0\.\d* to 12"
    ):
        processor(videos=list(small * 12.5))


# What comes back


@pytest.mark.parametrize("kind", ["pt", "np", None])
def test_texts_and_videos_together(processor: XCLIPProcessor, theirs: Any, kind: str | None) -> None:
    texts = ["playing sports", "eating spaghetti", "go shopping in a big shop"]
    arguments = {"text": texts, "videos": list(video()), "padding": True}
    expected = theirs(**arguments, return_tensors="pt")
    inputs = processor(**arguments, return_tensors=kind)
    assert set(inputs) == set(expected) == set(processor.model_input_names)
    array = {"pt": torch.Tensor, "np": np.ndarray, None: list}[kind]
    for name in ("input_ids", "attention_mask"):
        assert isinstance(inputs[name], array)
        assert torch.as_tensor(inputs[name]).equal(expected[name])
    if kind == "pt":
        assert inputs["input_ids"].dtype == inputs["attention_mask"].dtype == torch.int64
    assert isinstance(inputs["pixel_values"], array)
    assert np.shape(inputs["pixel_values"]) == tuple(expected["pixel_values"].shape)


def test_either_alone(processor: XCLIPProcessor) -> None:
    assert set(processor(text="a dog", return_tensors="pt")) == {"input_ids", "attention_mask"}
    assert set(processor(videos=list(video()))) == {"pixel_values"}


def test_a_single_text(processor: XCLIPProcessor, theirs: Any) -> None:
    expected = theirs(text="a dog", return_tensors="pt")
    assert processor(text="a dog", return_tensors="pt").input_ids.equal(expected["input_ids"])


@pytest.mark.parametrize(
    "arguments", [{"padding": "max_length"}, {"padding": True, "truncation": True, "max_length": 4}]
)
def test_arguments_reach_the_tokenizer(processor: XCLIPProcessor, theirs: Any, arguments: dict[str, Any]) -> None:
    texts = ["a dog runs through the snow", "dog"]
    ours, expected = (each(text=texts, return_tensors="pt", **arguments) for each in (processor, theirs))
    assert ours["input_ids"].equal(expected["input_ids"])
    assert ours["attention_mask"].equal(expected["attention_mask"])


def test_what_comes_back_is_a_dict_with_attributes(processor: XCLIPProcessor) -> None:
    inputs = processor(text="a dog", videos=list(video()), return_tensors="pt")
    assert inputs.pixel_values is inputs["pixel_values"]
    moved = inputs.to("meta")
    assert moved is inputs
    assert {value.device.type for value in dict(**moved).values()} == {"meta"}
    with pytest.raises(AttributeError, match="labels"):
        inputs.labels  # noqa: B018
    assert processor(text="a dog").to("meta").input_ids == processor(text="a dog")["input_ids"]


def test_texts_come_back(processor: XCLIPProcessor, theirs: Any) -> None:
    ids = processor(text=["a dog runs", "a dog"], padding=True, return_tensors="pt").input_ids
    assert processor.batch_decode(ids) == theirs.batch_decode(ids)
    assert processor.batch_decode(ids, skip_special_tokens=True) == ["a dog runs", "a dog"]
    assert processor.decode(ids[0], skip_special_tokens=True) == "a dog runs"


# Files


def hub_folder(folder: Path, processor_folder: Path, settings: dict[str, Any], image_size: int | None = None) -> Path:
    """A checkpoint folder with these image settings and, if wanted, a model of that image size."""
    (folder / "tokenizer.json").write_bytes((processor_folder / "tokenizer.json").read_bytes())
    (folder / "preprocessor_config.json").write_text(json.dumps(settings), "utf-8")
    if image_size is not None:
        reference.config(vision={"image_size": image_size}).save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("settings", "size", "crop"),
    [
        (HUB_SETTINGS, 224, 224),
        (HUB_SETTINGS | {"size": 336}, 336, 336),
        (HUB_SETTINGS | {"size": {"shortest_edge": 256}}, 256, 256),
        (HUB_SETTINGS | {"size": {"shortest_edge": 256}, "crop_size": 224}, 256, 224),
        (HUB_SETTINGS | {"size": 256, "crop_size": {"height": 224, "width": 224}}, 256, 224),
        (HUB_SETTINGS | {"crop_size": None, "size": {"shortest_edge": 240}}, 240, 240),
    ],
    ids=["2022", "336 pixels", "new size", "new size, old crop", "old size, new crop", "null"],
)
def test_old_and_new_fields(settings: dict[str, Any], size: int, crop: int, folder: Path, tmp_path: Path) -> None:
    image_processor = XCLIPProcessor.from_pretrained(hub_folder(tmp_path, folder, settings)).image_processor
    assert image_processor.size == {"shortest_edge": size}
    assert image_processor.crop_size == {"height": crop, "width": crop}
    assert image_processor([picture(300, 400)], "np").pixel_values.shape == (1, 1, 3, crop, crop)


@pytest.mark.parametrize("crop", [{}, {"crop_size": {"height": 224, "width": 224}}], ids=["no crop_size", "crop 224"])
def test_the_crop_is_the_models_image_size(crop: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    """The checkpoint of 336 pixels says so in ``size`` alone, and saved again by transformers it says 224."""
    hub_folder(tmp_path, folder, HUB_SETTINGS | {"size": {"shortest_edge": 336}} | crop, image_size=336)
    processor = XCLIPProcessor.from_pretrained(tmp_path)
    expected = reference.image_processor(336)(picture(340, 400), return_tensors="pt")["pixel_values"]
    pixels = processor(videos=[picture(340, 400)], return_tensors="pt").pixel_values
    assert pixels.shape == expected.shape == (1, 1, 3, 336, 336)
    assert (pixels - expected).abs().max() < 1.01 / 255 / 0.224


def test_settings_inside_processor_config(theirs: Any, folder: Path, tmp_path: Path) -> None:
    """Where transformers writes them today."""
    assert "image_processor" in json.loads((folder / "processor_config.json").read_text("utf-8"))
    assert not (folder / "preprocessor_config.json").is_file()
    image_processor = XCLIPProcessor.from_pretrained(folder).image_processor
    assert image_processor == XCLIPImageProcessor(size=32, crop_size=32)


def test_the_older_file_wins(folder: Path, tmp_path: Path) -> None:
    hub_folder(tmp_path, folder, HUB_SETTINGS)
    (tmp_path / "processor_config.json").write_bytes((folder / "processor_config.json").read_bytes())
    assert XCLIPProcessor.from_pretrained(tmp_path).image_processor.size == {"shortest_edge": 224}


def test_transformers_reads_what_we_save(processor: XCLIPProcessor, theirs: Any, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path / "new" / "folder")
    saved = tmp_path / "new" / "folder"
    image_processor = VideoMAEImageProcessorPil.from_pretrained(saved)
    for name in ("size", "crop_size", "image_mean", "image_std", "resample", "do_center_crop", "rescale_factor"):
        assert getattr(image_processor, name) == getattr(theirs.image_processor, name), name
    again = transformers.XCLIPProcessor(image_processor, transformers.CLIPTokenizer.from_pretrained(saved))
    arguments = {"text": ["a dog", "a cat runs"], "videos": list(video()), "padding": True, "return_tensors": "pt"}
    expected, found = theirs(**arguments), again(**arguments)
    for name in expected:
        assert found[name].equal(expected[name]), name


def test_we_read_what_we_save(folder: Path, tmp_path: Path) -> None:
    settings = {"size": 48, "crop_size": 40, "image_std": [0.1, 0.2, 0.3], "resample": 3, "do_rescale": False}
    processor = XCLIPProcessor(XCLIPImageProcessor(**settings), CLIPTokenizer.from_folder(folder))
    processor.save_pretrained(tmp_path)
    again = XCLIPProcessor.from_pretrained(str(tmp_path))
    assert again.image_processor == processor.image_processor
    assert again(text="a dog")["input_ids"] == processor(text="a dog")["input_ids"]


def test_the_older_name_of_the_image_processor(folder: Path) -> None:
    image_processor, tokenizer = XCLIPImageProcessor(), CLIPTokenizer.from_folder(folder)
    processor = XCLIPProcessor(feature_extractor=image_processor, tokenizer=tokenizer)
    assert processor.image_processor is image_processor
    with pytest.raises(ValueError, match="needs an image_processor and a tokenizer"):
        XCLIPProcessor(image_processor)


# Errors


@pytest.mark.parametrize(
    ("videos", "message"),
    [
        ([], "videos contains no frames"),
        ([[]], "videos contains no frames"),
        (np.zeros((0, 9, 9, 3), np.uint8), "videos contains no frames"),
        (np.zeros((9, 3), np.uint8), r"need 3 dimensions \(a still\), 4 \(one video\) or 5 \(a batch\), got 2"),
        (np.zeros((1, 1, 1, 9, 9, 3), np.uint8), "got 6"),
        ([np.zeros((9, 9), np.uint8)], r"a frame must be \[height, width, 3\] or \[3, height, width\], got \[9, 9\]"),
        ([np.zeros((9, 9, 4), np.uint8)], r"or \[3, height, width\], got \[9, 9, 4\]"),
        ([Image.new("L", (9, 8))], r"got \[8, 9\]"),
        (Image.new("RGBA", (9, 8)), r"got \[8, 9, 4\]: a Pillow image of another mode becomes one by convert\('RGB'\)"),
        ("video.mp4", "a list of frames, an array, or a batch of those, got 'video.mp4'"),
        (["frame.png"], r"a frame must be an array, .*, got 'frame\.png': read the file first"),
        (np.full((1, 9, 9, 3), 300), "a frame of whole numbers must lie in 0 to 255, got 300 to 300"),
        (np.full((1, 9, 9, 3), -1, np.int16), "must lie in 0 to 255, got -1 to -1"),
        ([video(2), video(3)], r"the videos of a batch need equal frame counts, got \[2, 3\]"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_wrong_videos(processor: XCLIPProcessor, videos: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        processor(videos=videos, return_tensors="pt")


def test_frames_of_different_sizes_without_a_crop() -> None:
    frames = [picture(40, 60), picture(60, 40)]
    with pytest.raises(ValueError, match="the frames differ in size once resized: they need a crop"):
        XCLIPImageProcessor(size=32, do_center_crop=False)(frames, "pt")


def test_wrong_calls(processor: XCLIPProcessor) -> None:
    with pytest.raises(ValueError, match="give text, videos, or both"):
        processor()
    with pytest.raises(ValueError, match="return_tensors 'tf' is not one of 'pt', 'np', None"):
        processor(text="a dog", return_tensors="tf")
    with pytest.raises(ValueError, match="the texts differ in length: pass padding=True"):
        processor(text=["a dog", "a dog runs"], return_tensors="pt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"size": {"longest_edge": 224}},
            r"size \{'longest_edge': 224\} is neither a number n nor \{height: n, width: n\} or \{shortest_edge: n\}",
        ),
        ({"crop_size": {"height": 224}}, "crop_size {'height': 224} is neither a number n nor {height: n, width: n}"),
        ({"size": 0}, "size is 0, it must be a whole number of at least 1"),
        ({"size": "big"}, "size is 'big'"),
        ({"resample": 1}, r"resample 1 is not one of \[0, 2, 3\]"),
        ({"image_mean": [0.5]}, "image_mean and image_std need three values each"),
        ({"image_std": 0}, "are unusable"),
    ],
    ids=str,
)
def test_settings_that_make_no_processor(settings: dict[str, Any], message: str, folder: Path, tmp_path: Path) -> None:
    hub_folder(tmp_path, folder, HUB_SETTINGS | settings)
    with pytest.raises(ModelError, match=message):
        XCLIPProcessor.from_folder(tmp_path)


def test_folders_without_their_files(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"no image processor in .*: it needs preprocessor_config\.json or processor_c"
    ):
        XCLIPProcessor.from_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(HUB_SETTINGS), "utf-8")
    with pytest.raises(ModelError, match="no tokenizer in"):
        XCLIPProcessor.from_folder(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text("{", "utf-8")
    with pytest.raises(ModelError, match=r"cannot read .*preprocessor_config\.json"):
        XCLIPProcessor.from_folder(tmp_path)


# The paper's protocol


@pytest.mark.parametrize("size", [(720, 1280), (1280, 720), (240, 320), (361, 640), (100, 77), (256, 256), (257, 300)])
def test_the_papers_preprocessing_is_that_of_the_authors_code(size: tuple[int, int]) -> None:
    """Resized by OpenCV, as mmcv does for them: short side 256, long side rounded, no antialias; centre crop 224."""
    height, width = size
    frame = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8), (3, 3), 0)
    scale = 256 / min(size)
    resized = cv2.resize(frame, (int(width * scale + 0.5), int(height * scale + 0.5)), interpolation=cv2.INTER_LINEAR)
    top, left = (resized.shape[0] - 224) // 2, (resized.shape[1] - 224) // 2
    expected = resized[top : top + 224, left : left + 224]
    ours = XCLIPImageProcessor().variant("paper").resize_and_crop(frame).permute(1, 2, 0).numpy()
    difference = np.abs(ours.astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.3  # OpenCV computes in fixed point and rounds down a little


def test_the_papers_preprocessing_at_336_pixels() -> None:
    paper = XCLIPImageProcessor(size=336, crop_size=336).variant("paper")
    assert (paper.size, paper.crop_size) == ({"shortest_edge": 384}, {"height": 336, "width": 336})
    assert "antialias" not in paper.to_dict()


def test_unknown_preprocessings_are_refused() -> None:
    assert XCLIPImageProcessor().variant("hf") == XCLIPImageProcessor()
    with pytest.raises(ValueError, match="preprocessing 'x' is not one of hf, paper"):
        XCLIPImageProcessor().variant("x")
