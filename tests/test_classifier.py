from __future__ import annotations

import dataclasses
import gc
import json
import os
import shutil
import subprocess
import sys
import textwrap
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import reference
import torch
from clips import numbered, write_clip
from PIL import Image
from records import assert_all_same, assert_same
from transformers import XCLIPModel

from xclip_cli import Classifier, Failure, Labels, LabelsError, ModelError, Prediction, VideoError, XClipError
from xclip_cli.engine.cache import FeatureCache
from xclip_cli.engine.encoder import PROMPTS_AT_ONCE
from xclip_cli.labels import BACKGROUND, make_labels
from xclip_cli.model.checkpoint.files import header_length, read_header
from xclip_cli.model.checkpoint.find import Checkpoint
from xclip_cli.model.modeling import XCLIPModel as OurModel
from xclip_cli.model.modeling import is_text_parameter
from xclip_cli.model.packing import PackedLinear, can_pack
from xclip_cli.video.sampling import Views

LABELS = ["abseiling", "air drumming", "answering questions", "a cat"]


def make(checkpoint: Path, labels: list[str] | Labels = LABELS, **settings: object) -> Classifier:
    return Classifier(checkpoint, labels=labels, dtype="float32", device="cpu", **settings)


def reference_logits(checkpoint: Path, path: Path, texts: list[str], indices: list[int]) -> torch.Tensor:
    """What the documented script of transformers gives for these frames."""
    with av.open(str(path)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    model, processor = XCLIPModel.from_pretrained(checkpoint).eval(), reference.processor(32)
    videos = [frames[index] for index in indices]
    inputs = processor(text=texts, videos=videos, return_tensors="pt", padding=True)
    with torch.no_grad():
        return model(**inputs).logits_per_video[0]


def test_predictions_are_those_of_the_reference(checkpoint: Path, clip: Path) -> None:
    with make(checkpoint) as classifier:
        prediction = classifier.classify(clip)
    expected = reference_logits(checkpoint, clip, LABELS, [int(i * 5 + 2.5) for i in range(8)])
    logits = {ranked.label: ranked.logit for ranked in prediction.predictions}
    # the resizing differs from Pillow's by a grey level here and there
    np.testing.assert_allclose([logits[label] for label in LABELS], expected, atol=0.02)
    scores = np.array([ranked.score for ranked in prediction.predictions])
    assert scores.sum() == pytest.approx(1, abs=1e-6)
    assert (np.diff(scores) <= 0).all()
    ours = torch.tensor([ranked.logit for ranked in prediction.predictions]).softmax(0)
    np.testing.assert_allclose(scores, ours, atol=1e-6)


def test_the_record_says_what_was_looked_at(checkpoint: Path, clip: Path) -> None:
    with make(checkpoint) as classifier:
        prediction = classifier.classify(clip, start="0.4", end=1.2)
    assert (prediction.video, prediction.model) == (str(clip), str(checkpoint))
    assert (prediction.start_seconds, prediction.end_seconds) == (0.4, 1.2)
    assert prediction.frames.times_seconds == pytest.approx([0.44 + 0.1 * i for i in range(8)], abs=0.021)
    counts = dataclasses.asdict(prediction.frames)
    del counts["times_seconds"]
    assert counts == {"requested": 8, "decoded": 8, "repeated": 0, "errors": 0, "rate": "25"}


def test_short_videos_are_counted(checkpoint: Path, tmp_path: Path) -> None:
    with make(checkpoint) as classifier:
        frames = classifier.classify(write_clip(tmp_path / "short.mp4", 3)).frames
    assert (frames.requested, frames.decoded, frames.repeated) == (8, 3, 5)


def test_frames_in_memory_give_what_the_file_gives(checkpoint: Path, tmp_path: Path) -> None:
    pictures = [numbered(i) for i in range(40)]
    path = write_clip(tmp_path / "lossless.mkv", codec="ffv1", pix_fmt="bgr0", pictures=pictures)
    with make(checkpoint) as classifier:
        of_file = classifier.classify(path)
        of_list, of_array = classifier.classify(pictures), classifier.classify(np.stack(pictures))
        assert of_list.predictions == of_array.predictions == of_file.predictions
        assert of_list.frames.times_seconds == (2, 7, 12, 17, 22, 27, 32, 37)
        with pytest.raises(VideoError, match="there are no frames"):
            classifier.classify([])
        with pytest.raises(ValueError, match="start and end select a part of a video file"):
            classifier.classify(pictures, start=1)


def test_several_texts_are_averaged_before_the_prompts(checkpoint: Path, clip: Path) -> None:
    texts = [["a cat", "a video of a cat"], ["a dog", "a video of a dog"]]
    with make(checkpoint, ["a cat", "a dog"], templates=["{}", "a video of {}"]) as classifier:
        prediction = classifier.classify(clip)
        raw = OurModel.from_pretrained(checkpoint)
        tokenizer = reference.tokenizer()
        means = []
        for of_label in texts:
            ids = tokenizer(of_label, padding=True, return_tensors="pt")["input_ids"]
            means.append(raw.get_text_features(ids).mean(0))
        with av.open(str(clip)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        pixels = classifier.encoder.image_processor([frames[i] for i in range(2, 40, 5)], "pt").pixel_values
        with torch.no_grad():
            video = raw.encode_video(pixels)
            logits = raw.similarity(torch.stack(means), video.features, video.visual_tokens).logits_per_video[0]
    assert {r.label: r.logit for r in prediction.predictions} == pytest.approx(
        {"a cat": float(logits[0]), "a dog": float(logits[1])}, abs=1e-4
    )


def test_many_texts_are_encoded_as_one_by_one(checkpoint: Path) -> None:
    names = [f"label {'very ' * (i % 7)}number {i}" for i in range(600)]
    model = OurModel.from_pretrained(checkpoint)
    with make(checkpoint, names) as classifier, torch.no_grad():
        together = classifier.text_features
        tokenizer = reference.tokenizer()
        for i in (0, 255, 256, 599):
            alone = model.get_text_features(torch.tensor([tokenizer(names[i])["input_ids"]]))[0]
            torch.testing.assert_close(together[i], alone, atol=1e-5, rtol=1e-5)


def test_all_videos_have_a_record_in_order(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    videos = [clip, broken, "missing.mp4", str(clip)]
    with make(checkpoint) as classifier:
        records = list(classifier.classify_all(videos))
        assert [record.video for record in records] == [str(video) for video in videos]
        assert [type(record) for record in records] == [Prediction, Failure, Failure, Prediction]
        assert [r.code for r in records if isinstance(r, Failure)] == ["unsupported", "missing"]
        assert_same(records[0], records[3])
        assert_same(records[0], classifier.classify(clip))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_ranks_alike(checkpoint: Path, clip: Path, dtype: str) -> None:
    with make(checkpoint) as exact, Classifier(checkpoint, labels=LABELS, dtype=dtype, device="cpu") as rough:
        expected, got = exact.classify(clip), rough.classify(clip)
    assert got.predictions[0].label == expected.predictions[0].label
    exact_logits = {r.label: r.logit for r in expected.predictions}
    assert all(abs(r.logit - exact_logits[r.label]) < 0.2 for r in got.predictions)


def test_what_fits_badly_is_said(checkpoint: Path, tmp_path: Path) -> None:
    tiny = write_clip(
        tmp_path / "tiny.mkv", codec="ffv1", pix_fmt="yuv444p", pictures=[numbered(i, 20, 12) for i in range(3)]
    )
    with make(checkpoint) as classifier:
        few, small = classifier.classify(tiny).warnings
        assert few == "only 3 different frames for a model that takes 8: frames were repeated"
        assert small.startswith("frames are only 12 px on the short side and are upscaled to 32")
        assert classifier.classify([numbered(0, 20, 12)] * 8).warnings == (small,)
    with Classifier(checkpoint, labels=LABELS, dtype="float16", device="cpu") as classifier:
        classifier.load()
        assert classifier.warnings == ("float16 is slow on a CPU and can overflow: use bfloat16 or float32",)


def test_preprocessing_is_chosen(checkpoint: Path, clip: Path) -> None:
    with make(checkpoint) as one, make(checkpoint, preprocess="paper") as other:
        assert one.classify(clip).predictions != other.classify(clip).predictions
        assert other.run_header(None, None, 5).preprocess == "paper"
    with pytest.raises(ValueError, match="preprocess 'x' is not one of hf, paper"):
        make(checkpoint, preprocess="x")


def test_ties_keep_the_order_of_the_labels(checkpoint: Path, clip: Path) -> None:
    labels = Labels(("b", "a", "c"), (("a cat",), ("a cat",), ("a cat",)))
    with make(checkpoint, labels) as classifier:
        assert [r.label for r in classifier.classify(clip).predictions] == ["b", "a", "c"]


def test_everything_wrong_is_found_before_weights_are_read(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    (folder / "model.safetensors").write_bytes(b"")
    with pytest.raises(
        LabelsError, match=r"a text has \d+ tokens, but the model .* takes at most 77: shorten 'word word"
    ):
        make(folder, ["ok", "word " * 100])
    with pytest.raises(LabelsError, match="^there are no labels: give at least one$"):
        make(folder, [])
    with pytest.raises(ValueError, match="dtype 'int4' is not one of auto, float32"):
        Classifier(folder, labels=LABELS, dtype="int4")
    with make(folder) as classifier, pytest.raises(ModelError, match="is not a safetensors file, or it is cut off"):
        classifier.load()


def test_a_tokenizer_whose_end_is_not_the_largest_id_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text("utf-8"))
    vocabulary = values["model"]["vocab"]
    largest = next(token for token, i in vocabulary.items() if i == vocabulary["a</w>"])
    end = vocabulary["<|endoftext|>"]
    vocabulary["<|endoftext|>"], vocabulary[largest] = vocabulary[largest], end
    for token in values["added_tokens"]:
        if token["content"] == "<|endoftext|>":
            token["id"] = vocabulary["<|endoftext|>"]
    values["post_processor"]["sep"][1] = vocabulary["<|endoftext|>"]
    path.write_text(json.dumps(values), "utf-8")
    with pytest.raises(ModelError, match="its end token must have the largest id"):
        make(folder, ["a cat"])


def test_devices(checkpoint: Path) -> None:
    with Classifier(checkpoint, labels=LABELS, device="warp9") as classifier:
        with pytest.raises(XClipError, match="unknown device 'warp9': give auto, cpu, cuda, cuda:N"):
            classifier.load()
    with Classifier(checkpoint, labels=LABELS, device="cuda:99") as classifier:
        with pytest.raises(XClipError, match=r"no CUDA device found: use --device cpu|there is no device cuda:99"):
            classifier.load()


def test_weights_that_give_no_number_fail_the_video(checkpoint: Path, clip: Path) -> None:
    with make(checkpoint) as classifier:
        classifier.encoder.model.logit_scale.data.fill_(float("nan"))
        with pytest.raises(VideoError, match="no finite score") as caught:
            classifier.classify(clip)
    assert caught.value.code == "not_finite"


def test_labels_the_model_was_not_trained_on_are_said(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    families = {"state": {"patterns": ["{}"], "parts": [["a black screen", "black"]]}}
    (folder / "phrases.json").write_text(json.dumps({"templates": ["{}"], "families": families}))
    with make(folder, ["a black screen", "A White screen"]) as classifier:
        (warning,) = classifier.classify(clip).warnings
    assert warning.endswith("can only guess: it was not trained on 'A White screen'")
    with make(folder, ["a black screen", "black"]) as classifier:
        assert classifier.warnings == ()
    with make(folder, ["a black screen", "black"], multi_label=True) as classifier:
        (warning,) = classifier.warnings
    assert warning.endswith("it was not trained on the neutral texts that labels are compared with")


def test_the_identity_tells_checkpoints_apart_and_copies_not(checkpoint: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(checkpoint, tmp_path / "copy")
    other = reference.checkpoint(tmp_path / "other", reference.config(text={"num_hidden_layers": 1}))
    identity = Checkpoint("a", checkpoint).identity
    assert Checkpoint("b", copy).identity == identity
    assert Checkpoint("c", other).identity != identity
    (copy / "config.json").write_text((copy / "config.json").read_text() + " ")
    assert Checkpoint("b", copy).identity != identity


def test_the_run_header(checkpoint: Path) -> None:
    with make(checkpoint) as one, make(checkpoint, LABELS[::-1]) as other:
        header = one.run_header(Fraction(1, 2), None, 5).to_json()
        assert (header["kind"], header["labels"], header["num_frames"], header["dtype"]) == ("run", 4, 8, "float32")
        assert (header["start"], header["end"], header["top_k"]) == ("1/2", None, 5)
        assert "video" not in header
        assert header["labels_sha256"] != other.run_header(None, None, 5).labels_sha256


def test_an_interrupted_call_does_not_mix_up_later_ones(checkpoint: Path, tmp_path: Path) -> None:
    dark = write_clip(tmp_path / "dark.mp4", pictures=[numbered(0)] * 8)
    bright = write_clip(tmp_path / "bright.mp4", pictures=[numbered(1023)] * 8)
    with make(checkpoint) as classifier:
        expected = classifier.classify(dark), classifier.classify(bright)
        resize = classifier.encoder.image_processor.resize_and_crops

        def interrupt(picture: object, crops: int) -> torch.Tensor:
            raise KeyboardInterrupt

        classifier.encoder.image_processor.resize_and_crops = interrupt  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            classifier.classify(bright)
        classifier.encoder.image_processor.resize_and_crops = resize  # type: ignore[method-assign]
        assert (classifier.classify(dark), classifier.classify(bright)) == expected


def test_an_unfinished_iterator_is_said_and_can_be_closed(checkpoint: Path, clip: Path, tmp_path: Path) -> None:
    other = write_clip(tmp_path / "other.mp4", 8)
    with make(checkpoint, batch_size=1) as classifier:
        records = classifier.classify_all([clip, clip, clip])
        next(records)
        for video in (other, [numbered(0)]):
            with pytest.raises(RuntimeError, match="an earlier iterator over videos is unfinished"):
                classifier.classify(video)
        records.close()  # type: ignore[attr-defined]
        assert classifier.classify(other).video == str(other)
        unbegun = classifier.classify_all([clip, clip])
        with pytest.raises(RuntimeError, match="an earlier iterator over videos is unfinished"):
            classifier.classify(other)
        unbegun.close()  # type: ignore[attr-defined]
        assert classifier.classify(other).video == str(other)
        for _ in classifier.classify_all([clip, clip]):
            break  # forgotten, it closes itself
        assert classifier.classify(other).video == str(other)
    with pytest.raises(RuntimeError, match="the decoders are closed"):
        classifier.classify(other)


def test_a_forgotten_classifier_leaves_no_worker(checkpoint: Path, clip: Path) -> None:
    classifier = make(checkpoint)
    classifier.classify(clip)
    (worker,) = classifier.encoder.decoders._workers
    process = worker._process
    del classifier, worker
    gc.collect()
    assert process.poll() is not None


@pytest.mark.parametrize(
    ("start", "end"), [(-1, None), (None, 0), (1.5, 0.5), (float("nan"), None), ("1:00", "0:30"), (None, -3)]
)
def test_windows_that_are_none(checkpoint: Path, clip: Path, start: object, end: object) -> None:
    with make(checkpoint) as classifier, pytest.raises(ValueError, match="is empty or begins before|is not a time"):
        classifier.classify(clip, start=start, end=end)  # type: ignore[arg-type]


def test_wrong_types_are_said(checkpoint: Path) -> None:
    with pytest.raises(TypeError, match=r"lists of strings, not one string \(for a built-in set pass load_labels"):
        make(checkpoint, "black")  # type: ignore[arg-type]
    with pytest.raises(LabelsError, match="is no text|are no text|that are not text"):
        make(checkpoint, [1, 2])  # type: ignore[list-item]
    with make(checkpoint) as classifier:
        with pytest.raises(TypeError, match="a video is a path or a list of frames"):
            classifier.classify(None)
        with pytest.raises(TypeError, match=r"frames must be arrays \[height, width, 3\] of bytes"):
            classifier.classify([np.zeros((8, 8, 3), np.float32)])
        with pytest.raises(TypeError, match="videos must be a list of paths"):
            classifier.classify_all("a.mp4")


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Videos of different lengths, shapes and content."""
    folder = tmp_path_factory.mktemp("shots")
    sizes = [(160, 96), (96, 160), (200, 96), (64, 64), (320, 96)]
    return [
        write_clip(folder / f"{i}.mp4", pictures=[numbered(i * 90 + j, *sizes[i % 5]) for j in range(8 + 5 * i)])
        for i in range(7)
    ]


@pytest.fixture(scope="module")
def plainly(checkpoint: Path, shots: list[Path]) -> dict[Views, list[Prediction]]:
    """What one video at a time gives, by views."""
    records: dict[Views, list[Prediction]] = {}
    for views in (Views(), Views(2, 3)):
        with make(checkpoint, workers=1, batch_size=1, threads=1, cache=False, views=views) as classifier:
            records[views] = [classifier.classify(path) for path in shots]
    return records


@pytest.mark.parametrize("views", [Views(), Views(2, 3)], ids=str)
@pytest.mark.parametrize(
    ("batch_size", "workers", "threads"), [(1, 4, 2), (2, 1, 1), (2, 4, 2), (4, 4, 1), (None,) * 3]
)
def test_how_fast_changes_no_record(
    checkpoint: Path,
    shots: list[Path],
    plainly: dict[Views, list[Prediction]],
    views: Views,
    batch_size: int | None,
    workers: int | None,
    threads: int | None,
) -> None:
    before = torch.get_num_threads()
    try:
        settings = {"batch_size": batch_size, "workers": workers, "threads": threads, "views": views}
        with make(checkpoint, **settings) as classifier:  # the features fresh, or stored by the test before
            assert_all_same(classifier.classify_all(shots), plainly[views])
            set_to = torch.get_num_threads()
            assert_all_same(classifier.classify_all(shots), plainly[views])
            assert set_to == torch.get_num_threads() == (threads or before)
    finally:
        torch.set_num_threads(before)


def test_a_long_run_is_as_single_calls(
    checkpoint: Path, shots: list[Path], plainly: dict[Views, list[Prediction]]
) -> None:
    """More videos than are looked at beforehand, so that the model is made ready for many."""
    with make(checkpoint, batch_size=2, workers=2) as classifier:
        assert_all_same(classifier.classify_all(shots * 6), plainly[Views()] * 6)


def test_packed_linears_give_the_same_numbers(checkpoint: Path) -> None:
    if not can_pack(torch.bfloat16, torch.device("cpu")):
        pytest.skip("this torch and processor pack no linear layers")
    with Classifier(checkpoint, labels=LABELS, dtype="bfloat16", device="cpu") as classifier, torch.inference_mode():
        clips = torch.randint(0, 256, (3, 8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        before = classifier.logits(clips)
        classifier.encoder.pack()
        assert any(isinstance(module, PackedLinear) for module in classifier.encoder.model.modules())
        torch.testing.assert_close(classifier.logits(clips), before, atol=1e-4, rtol=0)


def crops_by_pillow(frame: np.ndarray, size: int) -> list[np.ndarray]:
    """Resized so that the short side is ``size``, then the two ends of the long side and the middle."""
    height, width = frame.shape[:2]
    short = min(height, width)
    target = (int(size * width / short), int(size * height / short))
    whole = np.asarray(Image.fromarray(frame).resize(target, Image.Resampling.BILINEAR))
    extra = max(whole.shape[:2]) - size
    offsets = [0, extra // 2, extra // 2 * 2]
    if height > width:
        return [whole[at : at + size] for at in offsets]
    return [whole[:, at : at + size] for at in offsets]


@pytest.mark.parametrize("size", [(160, 96), (96, 160), (163, 96), (64, 64)], ids=lambda s: f"{s[0]}x{s[1]}")
@pytest.mark.parametrize("preprocess", ["hf", "paper"])
def test_three_crops_are_the_ends_and_the_middle(checkpoint: Path, size: tuple[int, int], preprocess: str) -> None:
    width, height = size
    # smooth, so that with or without antialias resizing gives nearly the same; no two places alike
    y, x = np.mgrid[:height, :width]
    frame = np.stack([255 * x / width, 255 * y / height, 127 + 127 * np.sin(x / 25 + y / 40)], -1).astype(np.uint8)
    with make(checkpoint, views=Views(1, 3), preprocess=preprocess) as classifier:
        crops, short = classifier.encoder._receive(frame)
    assert short == min(size)
    expected = crops_by_pillow(frame, 32)
    assert crops.shape == (3, 3, 32, 32)
    for ours, theirs in zip(crops, expected, strict=True):
        difference = np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs)
        assert difference.max() <= (1 if preprocess == "hf" else 6)


def test_views_are_averaged_as_in_the_paper(checkpoint: Path, shots: list[Path]) -> None:
    """4x3: the softmax of each view, computed by transformers on clips and crops cut by hand, averaged."""
    model, tokenizer = XCLIPModel.from_pretrained(checkpoint).eval(), reference.tokenizer()
    texts = tokenizer(LABELS, padding=True, return_tensors="pt")
    with make(checkpoint, views=Views(4, 3)) as classifier:
        predictions = [classifier.classify(path) for path in shots[1:3]]
    for path, prediction in zip(shots[1:3], predictions, strict=True):
        with av.open(str(path)) as container:
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        views = []
        for clip in range(4):
            indices = [int(Fraction(8 * i + 2 * clip + 1, 64) * len(frames)) for i in range(8)]
            assert [f / 25 for f in indices] == pytest.approx(
                prediction.frames.times_seconds[8 * clip : 8 * clip + 8], abs=1e-6
            )
            cut = [crops_by_pillow(frames[index], 32) for index in indices]
            views += [[crops[crop] for crops in cut] for crop in range(3)]
        clips = torch.from_numpy(np.array(views)).permute(0, 1, 4, 2, 3) / 255  # [views, T, 3, H, W]
        mean, std = (torch.tensor(v).view(3, 1, 1) for v in (reference.IMAGENET_MEAN, reference.IMAGENET_STD))
        with torch.no_grad():
            logits = model(pixel_values=(clips - mean) / std, **texts).logits_per_video
        expected = logits.softmax(dim=1).mean(dim=0)
        scores = {ranked.label: ranked.score for ranked in prediction.predictions}
        # Pillow's resizing differs by a grey level here and there
        np.testing.assert_allclose([scores[label] for label in LABELS], expected, atol=2e-3)
        assert prediction.frames.requested == 32
        assert [ranked.score for ranked in prediction.predictions] == sorted(scores.values(), reverse=True)
        assert sum(scores.values()) == pytest.approx(1, abs=1e-5)


def test_frames_in_memory_are_views_too(checkpoint: Path, clip: Path) -> None:
    with av.open(str(clip)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    with make(checkpoint, views=Views(4, 3)) as classifier:
        of_file, of_frames = classifier.classify(clip), classifier.classify(frames)
    assert [r.score for r in of_frames.predictions] == pytest.approx([r.score for r in of_file.predictions], abs=1e-5)


@pytest.mark.parametrize("top_k", [1, 3, 0, 99])
def test_top_k_cuts_the_list_and_nothing_else(checkpoint: Path, shots: list[Path], top_k: int) -> None:
    with make(checkpoint) as classifier:
        cut = list(classifier.classify_all(shots[:2], top_k))
        whole = list(classifier.classify_all(shots[:2]))
    assert_all_same(cut, [record.top(top_k) for record in whole])
    assert [len(record.predictions) for record in cut if isinstance(record, Prediction)] == [min(top_k or 4, 4)] * 2


def test_many_labels_are_compared_in_parts(checkpoint: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"label number {i}" for i in range(50)]
    with make(checkpoint, names) as classifier:
        whole = classifier.classify(clip)
        monkeypatch.setitem(PROMPTS_AT_ONCE, "cpu", 7)
        assert_same(classifier.classify(clip), whole)
        monkeypatch.setitem(PROMPTS_AT_ONCE, "cpu", 1)  # fewer than there are clips
        with make(checkpoint, names, views=Views(2, 1)) as other:
            assert sum(r.score for r in other.classify(clip).predictions) == pytest.approx(1, abs=1e-5)


def peak_megabytes(checkpoint: Path, clip: Path, labels: int) -> float:
    """Of a process of its own that classifies a video by so many labels."""
    code = """
        import resource, sys
        from xclip_cli import Classifier
        names = [f"{i:x}" for i in range(int(sys.argv[3]))]
        with Classifier(sys.argv[1], labels=names, dtype="float32", device="cpu", cache=False, threads=1) as classifier:
            assert len(classifier.classify(sys.argv[2], top_k=5).predictions) == 5
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << (20 if sys.platform == "darwin" else 10)))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(checkpoint), str(clip), str(labels)]
    return float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)


@pytest.mark.slow
def test_a_hundred_thousand_labels_fit_in_memory(clip: Path, tmp_path: Path) -> None:
    text = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    folder = reference.checkpoint(tmp_path / "tiny", reference.config(text=text))
    few, many = (peak_megabytes(folder, clip, count) for count in (1000, 100_000))
    print(f"1,000 labels {few:.0f} MB, 100,000 labels {many:.0f} MB")
    # a label is its name, tokens and features, not what the prompt generator makes of it
    assert many - few < 300


def test_stored_features_save_reading_the_text_tower(
    checkpoint: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path / "cache"))
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    with make(folder) as classifier:
        first = classifier.classify(clip)
        assert len(FeatureCache().entries()) == 1
    # What is never read may be nonsense: the same file, but its text tower spoilt.
    weights = folder / "model.safetensors"
    stat, data = weights.stat(), bytearray(weights.read_bytes())
    header = read_header(weights)
    body = header_length(weights) + 8
    spoilt = [name for name in header if is_text_parameter(name)]
    for name in spoilt:
        begin, end = header[name]["data_offsets"]
        data[body + begin : body + end] = b"\xff" * (end - begin)
    weights.write_bytes(bytes(data))
    os.utime(weights, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert len(spoilt) > 10
    with make(folder) as classifier:
        assert_same(classifier.classify(clip), first)
        assert all(p.is_meta for name, p in classifier.encoder.model.named_parameters() if is_text_parameter(name))
        assert not any(
            p.is_meta for name, p in classifier.encoder.model.named_parameters() if not is_text_parameter(name)
        )
    with make(folder, cache=False) as classifier, pytest.raises(ModelError, match="text_model.* not finite numbers"):
        classifier.classify(clip)


def test_no_cache_neither_reads_nor_writes(
    checkpoint: Path, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path / "cache"))
    with make(checkpoint, cache=False) as classifier:
        classifier.classify(clip)
    assert not (tmp_path / "cache").exists()


def features_key(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> str:
    """The key by which a classifier looks for its features."""
    keys: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(FeatureCache, "get", lambda self, key: keys.append(key))
        with classifier:
            classifier.load()
    (key,) = keys
    return key


def test_features_are_kept_by_all_that_they_depend_on(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XCLIP_CACHE", str(tmp_path / "cache"))
    two = ["a cat", "a dog"]
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    same = [make(folder, two), make(folder, tuple(two)), make(folder, two, views=Views(2, 3), threads=1)]
    assert len({features_key(classifier, monkeypatch) for classifier in same}) == 1
    others = [
        make(folder, two),
        make(folder, two[::-1]),
        make(folder, [*two, "a cow"]),
        make(folder, two, templates=["a photo of {}"]),
        make(folder, two, templates=["{}", "a photo of {}"]),
        # the same four texts, shared out in another way
        make(folder, Labels(("x", "y"), (("a cat",), ("a photo of a cat", "a dog", "a photo of a dog")))),
        Classifier(folder, labels=two, dtype="bfloat16", device="cpu"),
        make(checkpoint, two),
    ]
    keys = [features_key(classifier, monkeypatch) for classifier in others]
    # other weights in a file of the same header and size
    weights = folder / "model.safetensors"
    new = shutil.copy(weights, tmp_path / "new")
    os.replace(new, weights)
    keys.append(features_key(make(folder, two), monkeypatch))
    assert len(set(keys)) == len(keys)


def scored(classifier: Classifier, clip: Path) -> dict[str, tuple[float, float]]:
    return {ranked.label: (ranked.score, ranked.logit) for ranked in classifier.classify(clip).predictions}


def test_none_of_these_is_the_sum_of_the_neutral_texts(checkpoint: Path, clip: Path) -> None:
    with (
        make(checkpoint, [*LABELS, *BACKGROUND]) as plain,
        make(checkpoint, Labels.of(LABELS).with_background()) as ours,
    ):
        every, folded = scored(plain, clip), scored(ours, clip)
    assert folded.keys() == {*LABELS, "none of these"}
    for label in LABELS:
        assert folded[label] == pytest.approx(every[label], abs=1e-5)
    neutral = [every[text] for text in BACKGROUND]
    assert folded["none of these"][0] == pytest.approx(sum(score for score, _ in neutral), abs=1e-5)
    expected = torch.tensor([logit for _, logit in neutral]).logsumexp(0).item()
    assert folded["none of these"][1] == pytest.approx(expected, abs=1e-4)


def test_several_labels_are_scored_each_against_the_neutral_texts(checkpoint: Path, clip: Path) -> None:
    with make(checkpoint, [*LABELS, *BACKGROUND]) as plain, make(checkpoint, multi_label=True) as ours:
        every, each = scored(plain, clip), scored(ours, clip)
    assert each.keys() == set(LABELS)
    for label in LABELS:
        logits = torch.tensor([every[text][1] for text in (label, *BACKGROUND)])
        assert each[label] == pytest.approx((logits.softmax(0)[0].item(), every[label][1]), abs=1e-4)


def test_labels_that_are_not_sure_enough_are_withheld(checkpoint: Path, clip: Path) -> None:
    with make(checkpoint) as plain:
        every = plain.classify(clip)
    assert "withheld" not in every.to_json()
    first, second, *_ = every.predictions
    with make(checkpoint, threshold=(first.score + second.score) / 2) as limited:
        found = limited.classify(clip)
        assert [ranked.label for ranked in found.predictions] == [first.label]
        assert found.to_json()["withheld"] == 3
        assert limited.run_header(None, None, 0).threshold == limited.threshold
    floors = {first.label: first.logit + 0.01, second.label: second.logit - 0.01}
    labels = make_labels([(label, (label,)) for label in LABELS], ["{}"], floors)
    with make(checkpoint, labels) as floored:
        found = floored.classify(clip)
        assert found.predictions[0].label == second.label
        assert found.predictions[0].score == pytest.approx(second.score, abs=1e-6)
        assert found.withheld == 1
        header = floored.run_header(None, None, 0)
    with make(checkpoint) as plain:
        assert header.labels_sha256 != plain.run_header(None, None, 0).labels_sha256


def test_a_label_may_not_have_the_name_of_none() -> None:
    with pytest.raises(LabelsError, match="'none of these' is what --none-of-these answers"):
        Labels.of(["a cat", "none of these"]).with_background()
