"""Measures the bundled model: `python -m xclip_cli.bundled.measure [--real FOLDER [--truth FILE]]`.

Clips of a seed that training never used are encoded to files of several codecs and sizes, and read back and classified
the way `xclip classify` does it, so that all that lies between a clip and an answer is part of the figure.
"""

from __future__ import annotations

import argparse
import csv
import math
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..classifier import Classifier
from ..results.records import Prediction
from . import generator, phrasings, pictures

SEED = 1_000_003  # of the clips measured on
SIZES = ((240, 320), (180, 320), (240, 240), (320, 180), (270, 480), (144, 176))
FRAME_RATES = (24, 25, 30, 15)
FRAME_COUNTS = (24, 30, 40, 48)


@dataclass(frozen=True)
class Tally:
    """Answers to one question."""

    name: str
    right: int
    asked: int
    mistakes: Counter[tuple[str, str]]  # (shown, answered) → how often

    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the share of right answers, which takes the clips for independent."""
        z, share = 1.96, self.right / self.asked
        middle = share + z**2 / (2 * self.asked)
        reach = z * math.sqrt(share * (1 - share) / self.asked + z**2 / (4 * self.asked**2))
        scale = 1 + z**2 / self.asked
        return (middle - reach) / scale, (middle + reach) / scale

    def __str__(self) -> str:
        low, high = (100 * bound for bound in self.interval())
        worst = "; ".join(f"{shown} → {said} {n}x" for (shown, said), n in self.mistakes.most_common(5))
        share = 100 * self.right / self.asked
        return f"| {self.name} | {share:.1f} % | {low:.0f} to {high:.0f} % | {self.asked} | {worst} |"


def tally(name: str, shown: Sequence[str], answered: Sequence[str]) -> Tally:
    """Compares what clips show with what they were called."""
    mistakes = Counter((s, a) for s, a in zip(shown, answered, strict=True) if s != a)
    return Tally(name, len(shown) - mistakes.total(), len(shown), mistakes)


def answers(paths: Sequence[Path], wordings: Sequence[Sequence[str]], model: str) -> list[list[int]]:
    """For each wording of the same labels: which label each video is given, as its place in the wording.

    Labels do not see each other, so all wordings are asked about at once and each is ranked by itself.
    """
    with Classifier(model, labels=list(dict.fromkeys(text for texts in wordings for text in texts))) as classifier:
        records = list(classifier.classify_all(paths))
    given: list[list[int]] = [[] for _ in wordings]
    for record in records:
        if not isinstance(record, Prediction):
            raise RuntimeError(f"{record.video} could not be classified: {record.message}")
        logits = {ranked.label: ranked.logit for ranked in record.predictions}
        for i, texts in enumerate(wordings):
            given[i].append(max(range(len(texts)), key=lambda place: logits[texts[place]]))
    return given


# ---- synthetic clips -------------------------------------------------------------------------------------------------


def write_clips(folder: Path, labels: Sequence[str], seed: int) -> tuple[list[Path], list[tuple[str, ...]]]:
    """One video a label, of every size, codec and length in turn, and all that each shows."""
    rng = np.random.default_rng(seed)
    scenes = [pictures.make_picture(rng, 512) for _ in range(40)]
    suffixes = list(generator.ENCODERS)
    paths, shown = [], []
    for i, label in enumerate(labels):
        height, width = SIZES[rng.integers(len(SIZES))]
        count, rate = FRAME_COUNTS[rng.integers(len(FRAME_COUNTS))], FRAME_RATES[rng.integers(len(FRAME_RATES))]
        clip = generator.make_clip(rng, label, scenes, count=count, height=height, width=width)
        path = folder / f"{i:04d}{suffixes[rng.integers(len(suffixes))]}"
        generator.write_video(path, clip.frames, frames_per_second=rate if path.suffix != ".mpg" else 25)
        paths.append(path)
        shown.append(clip.labels)
    return paths, shown


def measure_family(name: str, family: Sequence[str], clips_a_label: int, model: str, seed: int) -> Iterator[Tally]:
    """The family's labels against each other, as they are and in two phrasings kept from training. A clip in two states
    may be called either."""
    asked = [label for label in family for _ in range(clips_a_label)]
    unseen = [[phrasings.held_out_phrasings(label)[i] for label in family] for i in range(2)]
    with tempfile.TemporaryDirectory() as folder:
        paths, shown = write_clips(Path(folder), asked, seed)
        given = answers(paths, [family, *unseen], model)

    def pairs_of(places: Sequence[int]) -> list[tuple[str, str]]:
        """For each clip what it shows, of two states the one that was answered, and the answer."""
        said = [family[place] for place in places]
        return [(a if a in labels else labels[0], a) for labels, a in zip(shown, said, strict=True)]

    known, *rephrased = map(pairs_of, given)
    for kind, held_out in (("", False), (", never trained on", True)):
        pairs = [(s, a) for s, a in known if (s in generator.HELD_OUT_SHAPES) is held_out]
        if pairs:
            yield tally(name + kind, *zip(*pairs, strict=True))
    pairs = [pair for wording in rephrased for pair in wording]
    yield tally(f"{name}, unseen phrasings", *zip(*pairs, strict=True))


# ---- real footage ----------------------------------------------------------------------------------------------------

# Color footage without cuts, looked for in `--real FOLDER`: owner+repository/path of its public repository.
STILL_CAMERA = (
    "DAMO-NLP-SG+Video-LLaMA/examples/silence_girl.mp4",
    "KwaiVGI+LivePortrait/assets/examples/driving/d18.mp4",
    "KwaiVGI+LivePortrait/assets/examples/driving/d7.mp4",
    "PKU-YuanGroup+Video-LLaVA/videollava/serve/examples/sample_demo_22.mp4",
    "PKU-YuanGroup+Video-LLaVA/videollava/serve/examples/sample_demo_3.mp4",
    "PKU-YuanGroup+Video-LLaVA/videollava/serve/examples/sample_demo_9.mp4",
    "TencentARC+ST-LLM/example/cooking.mp4",
    "Zulko+moviepy/tests/resource/1.mp4",
    "intel-iot-devkit+sample-videos/asl_gestures/again.mkv",
    "intel-iot-devkit+sample-videos/asl_gestures/book.mkv",
    "intel-iot-devkit+sample-videos/asl_gestures/eat.mkv",
    "intel-iot-devkit+sample-videos/asl_gestures/milk.mkv",
    "intel-iot-devkit+sample-videos/bottle-detection.mp4",
    "talmolab+sleap/tests/data/videos/dance.mp4",
)
OTHER_FOOTAGE = (
    "DAMO-NLP-SG+Video-LLaMA/examples/dog_barking.mp4",
    "DAMO-NLP-SG+Video-LLaMA/examples/skateboarding_dog.mp4",
    "DAMO-NLP-SG+VideoLLaMA2/videollama2/serve/examples/output_v_3V9tzjyr51I.mp4",
    "DepthAnything+Video-Depth-Anything/assets/example_videos/davis_rollercoaster.mp4",
    "LiheYoung+Depth-Anything/assets/examples_video/davis_dolphins.mp4",
    "OpenGVLab+InternVideo/Data/InternVid/example1.mp4",
    "PKU-YuanGroup+Video-LLaVA/videollava/serve/examples/sample_demo_1.mp4",
    "STVIR+pysot/demo/bag.avi",
    "TencentARC+ST-LLM/example/monkey.mp4",
    "YBYBZhang+ControlVideo/data/moonwalk.mp4",
    "androidx+media/extensions/media2/src/androidTest/res/raw/video_desks.3gp",
    "androidx+media/libraries/test_data/src/test/assets/media/avi/sample.avi",
    "androidx+media/libraries/test_data/src/test/assets/media/mp4/sample_sef_slow_motion.mp4",
    "androidx+media/libraries/test_data/src/test/assets/media/vp9/bear-vp9.webm",
    "gaomingqi+Track-Anything/test_sample/test-sample2.mp4",
    "gaomingqi+Track-Anything/test_sample/test-sample4.mp4",
    "kedro-org+kedro-plugins/kedro-datasets/kedro_datasets_experimental/tests/video/data/video.mp4",
    "mdn+interactive-examples/live-examples/media/cc0-videos/flower.webm",
    "mdn+interactive-examples/live-examples/media/examples/stream-of-water.mp4",
    "mozilla+nestegg/test/media/bug1592193.webm",
    "omerbt+TokenFlow/data/wolf.mp4",
    "omerbt+TokenFlow/data/woman-running.mp4",
    "quic+sense/reactive_gesture_test_1.mp4",
    "tensorflow+io/R-package/tests/testthat/testdata/small.mp4",
    "udacity+CarND-LaneLines-P1/test_videos/solidWhiteRight.mp4",
)


def read_footage(path: Path, count: int = 32, short_side: int = 240) -> generator.Frames:
    """The last `count` of the video's first 2 * `count` frames, scaled down to even sides, [T, H, W, 3]."""
    import av

    frames = []
    with av.open(str(path), metadata_errors="ignore") as container:
        for frame in container.decode(video=0):
            scale = min(1.0, short_side / min(frame.width, frame.height))
            width, height = (int(side * scale) // 2 * 2 for side in (frame.width, frame.height))
            frames.append(frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA"))
            if len(frames) == 2 * count:
                break
    return np.stack(frames[-count:])


def refilm(rng: np.random.Generator, frames: generator.Frames, move: str) -> generator.Frames:
    """What a camera that makes `move` sees of a screen on which the footage runs, mirrored at its edges."""
    count, height, width, _ = frames.shape
    side = 512
    pixels = side / generator.PICTURE_SPAN / min(height, width)  # how often a pixel of the frame repeats

    def mirrored(length: int) -> NDArray[np.intp]:
        place = (np.arange(side) / pixels).astype(np.intp) % (2 * length)
        return np.asarray(np.minimum(place, 2 * length - 1 - place))

    path = generator.camera_path(rng, move, generator.frame_times(count))
    middle = height / min(height, width) / 2, width / min(height, width) / 2
    filmed = []
    for t in range(count):
        picture = pictures.pack(frames[t][mirrored(height)][:, mirrored(width)])
        here = generator.CameraPath(
            x=path.x[t : t + 1] - path.x.mean() + np.float32(middle[1]),
            y=path.y[t : t + 1] - path.y.mean() + np.float32(middle[0]),
            zoom=path.zoom[t : t + 1] * np.float32(1.3),
            roll=path.roll[t : t + 1],
        )
        filmed.append(generator.draw_scene(picture, here, [], height, width, supersample=1))
    return np.concatenate(filmed)


def measure_real(root: Path, model: str, rounds: int) -> Iterator[Tally]:
    """Picture states and camera moves applied to real footage."""
    rng = np.random.default_rng(SEED)
    footage = {name: read_footage(root / name) for name in (*STILL_CAMERA, *OTHER_FOOTAGE)}
    suffixes = list(generator.ENCODERS)
    for name, labels in (
        ("real footage, states", generator.PICTURE_STATES),
        ("real footage, camera", generator.CAMERA),
    ):
        with tempfile.TemporaryDirectory() as folder:
            paths: list[Path] = []
            shown: list[str] = []
            for title, frames in footage.items():
                for label in labels * rounds:
                    changed = change_footage(rng, title, frames, label, list(footage.values()))
                    paths.append(Path(folder) / f"{len(paths):04d}{suffixes[rng.integers(len(suffixes))]}")
                    generator.write_video(paths[-1], changed, frames_per_second=25)
                    shown.append(label)
            (places,) = answers(paths, [labels], model)
            yield tally(name, shown, [labels[place] for place in places])


def change_footage(
    rng: np.random.Generator, title: str, frames: generator.Frames, label: str, others: list[generator.Frames]
) -> generator.Frames:
    """The footage in the state, or filmed with the move, that `label` names."""
    if label == "a frozen picture":  # the picture must move before it stops
        frames = refilm(rng, frames, "a moving camera")
    if label == "a cut to another scene":
        same_size = [other for other in others if other.shape == frames.shape and other is not frames]
        other = same_size[rng.integers(len(same_size))] if same_size else frames[:, ::-1, ::-1]
        return generator.apply_state(rng, label, frames, other)
    if label in generator.PICTURE_STATES:
        return generator.apply_state(rng, label, frames, frames)
    if label == "a static shot":
        return frames if title in STILL_CAMERA else generator.add_noise(rng, frames[:1].repeat(len(frames), 0), 2.0)
    return refilm(rng, frames if title in STILL_CAMERA else frames[:1].repeat(len(frames), 0), label)


# ---- real footage as it is -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Footage:
    """What a person saw in a real clip: one row of a truth file, which is tab-separated with a header."""

    video: str  # relative to the folder of the footage
    content: str  # copies and other parts of the same footage share it
    half: str  # "guide": may be looked at while a model is made; "report": only measured. A content is in one of them
    states: tuple[str, ...]  # what a person ticks
    arguable: tuple[str, ...]  # what a person might tick as well: it counts neither as right nor as wrong


def read_truth(path: Path) -> list[Footage]:
    """The rows of a truth file: columns video, content, half, states, arguable, reason; states with ", " between.

    Raises:
        ValueError: a row names a state that there is not, or none.
    """

    def states(cell: str) -> tuple[str, ...]:
        return tuple(state for state in cell.split(", ") if state)

    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            seen = Footage(
                row["video"], row["content"], row["half"], states(row["states"]), states(row["arguable"] or "")
            )
            unknown = [state for state in (*seen.states, *seen.arguable) if state not in generator.PICTURE_STATES]
            if unknown or not seen.states:
                raise ValueError(
                    f"{path}: {seen.video} is given {', '.join(unknown) or 'no state'}; "
                    f"allowed are {', '.join(generator.PICTURE_STATES)}"
                )
            rows.append(seen)
    return rows


def called(footage: Sequence[Footage], root: Path, model: str) -> list[tuple[str, ...]]:
    """What the model calls each clip: its best labels, as many as a person ticked, arguable ones left out."""
    with Classifier(model, labels=generator.PICTURE_STATES) as classifier:
        records = list(classifier.classify_all([root / seen.video for seen in footage]))
    given = []
    for seen, record in zip(footage, records, strict=True):
        if not isinstance(record, Prediction):
            raise RuntimeError(f"{record.video} could not be classified: {record.message}")
        ranked = [prediction.label for prediction in record.predictions if prediction.label not in seen.arguable]
        given.append(tuple(ranked[: len(seen.states)]))
    return given


def share(part: int, whole: int) -> str:
    """`part` of `whole`, with the percentage."""
    return f"{part} of {whole} ({100 * part / whole:.1f} %)" if whole else "none"


def report_unaltered(footage: Sequence[Footage], given: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Lines of a table: false alarms on normal clips, then each state's recall, precision and false alarms."""
    normal = "a normal picture"
    wrong = [normal not in answer for seen, answer in zip(footage, given, strict=True) if seen.states == (normal,)]
    by_content: dict[str, list[bool]] = {}
    for seen, answer in zip(footage, given, strict=True):
        if seen.states == (normal,):
            by_content.setdefault(seen.content, []).append(normal not in answer)
    once = sum(sum(alarms) / len(alarms) for alarms in by_content.values())
    yield f"{len(footage)} clips of {len({seen.content for seen in footage})} contents"
    yield f"false alarms on normal clips: {share(sum(wrong), len(wrong))}; each of {len(by_content)} contents counted "
    yield f"once: {100 * once / max(1, len(by_content)):.1f} %\n"
    yield "| state | found (recall) | rightly called so (precision) | false alarms, of the clips that do not show it |"
    yield "|---|---|---|---|"
    for state in generator.PICTURE_STATES:
        shown = [state in answer for seen, answer in zip(footage, given, strict=True) if state in seen.states]
        others = [
            state in answer
            for seen, answer in zip(footage, given, strict=True)
            if state not in (*seen.states, *seen.arguable)
        ]
        right, alarms = sum(shown), sum(others)
        yield (
            f"| {state} | {share(right, len(shown))} | {share(right, right + alarms)} | {share(alarms, len(others))} |"
        )


def measure_unaltered(root: Path, truth: Path, model: str, *, names: bool) -> Iterator[str]:
    """Each half's table, and with `names` the clips of the guide half that are called something else."""
    footage = read_truth(truth)
    for half in ("guide", "report"):
        own = [seen for seen in footage if seen.half == half]
        given = called(own, root, model)
        yield f"\nreal footage as it is, {half} half: "
        yield from report_unaltered(own, given)
        for seen, answer in zip(own, given, strict=True):
            if names and half == "guide" and set(answer) != set(seen.states):
                yield f"{seen.video}: {', '.join(seen.states)} → {', '.join(answer)}"


# ---- photographs filmed ----------------------------------------------------------------------------------------------

STILL_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
LOSSY = [suffix for suffix in generator.ENCODERS if suffix != ".mkv"]
LEAST_STILL = 600  # pixels of the short side: smaller files are icons and previews


def read_stills(folder: Path, short_side: int = 240) -> Iterator[generator.Frames]:
    """The pictures in a folder and those in it, scaled down to even sides, [1, H, W, 3] each."""
    import av

    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in STILL_SUFFIXES):
        with av.open(str(path)) as container:
            frame = next(iter(container.decode(video=0)), None)
        if frame is not None and min(frame.width, frame.height) >= LEAST_STILL:
            scale = short_side / min(frame.width, frame.height)
            width, height = (int(side * scale) // 2 * 2 for side in (frame.width, frame.height))
            shrunk = frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA")
            yield np.asarray(shrunk, np.uint8)[None]


def without_detail(frames: generator.Frames) -> bool:
    """Whether a clip of a photograph is all but grey or even, or looks the same out of focus: its state is arguable."""
    frames = frames[generator.sampled_frames(len(frames))]
    soft = generator.blur(frames, generator.LEAST_BLUR * min(frames.shape[1:3]))
    return generator.in_doubt("a normal picture", frames, frames) or generator.in_doubt(
        "a blurry picture", frames, soft
    )


def interlaced(frames: generator.Frames) -> generator.Frames:
    """Half as many frames, each woven of the even lines of one and the odd lines of the next."""
    woven = frames[::2].copy()
    woven[:, 1::2] = frames[1::2, 1::2]
    return woven


def measure_stills(folder: Path, model: str) -> Iterator[Tally]:
    """Photographs as a camera sees them that stands, moves or shakes, in files of several codecs: all is normal."""
    rng = np.random.default_rng(SEED)
    paths: dict[str, list[Path]] = {"": [], ", strongly compressed": [], ", interlaced": []}
    with tempfile.TemporaryDirectory() as written:
        for i, still in enumerate(read_stills(folder)):
            filmed = refilm(rng, still.repeat(48, 0), generator.CAMERA[rng.integers(len(generator.CAMERA))])
            suffix = LOSSY[rng.integers(len(LOSSY))]
            if without_detail(filmed):
                continue
            for how, files in paths.items():
                files.append(Path(written) / f"{i:04d}{how}{suffix}")
                frames = interlaced(filmed) if how == ", interlaced" else filmed[::2]
                generator.write_video(files[-1], frames, frames_per_second=25, strongly=how == ", strongly compressed")
        for how, files in paths.items():
            (places,) = answers(files, [generator.PICTURE_STATES], model)
            labels = [generator.PICTURE_STATES[place] for place in places]
            yield tally(f"photographs filmed{how}", ["a normal picture"] * len(labels), labels)


def milliseconds_a_clip(model: str) -> float:
    """Model time for one clip, warm: the frames' way from pixels to scores, decoding left out."""
    with Classifier(model, labels=generator.PICTURE_STATES) as classifier:
        frames = np.zeros((generator.NUM_FRAMES, 240, 320, 3), np.uint8)
        for _ in range(5):
            classifier.classify(frames)
        start = time.perf_counter()
        for _ in range(20):
            classifier.classify(frames)
        return (time.perf_counter() - start) / 20 * 1000


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: `python -m xclip_cli.bundled.measure --help`."""
    parser = argparse.ArgumentParser(description="Measure the bundled model on encoded clips it was not trained on.")
    parser.add_argument("--model", default="bundled", help="a checkpoint folder, or bundled")
    parser.add_argument(
        "--clips", type=int, default=20, help="clips a label; a tenth of it for moving shapes, at least 1"
    )
    families = ("states", "camera", "shapes", "altered")
    parser.add_argument(
        "--families", nargs="*", choices=families, default=families, help="altered: states given to clips of --real"
    )
    parser.add_argument("--real", type=Path, help="a folder with real clips: those named in this file are altered")
    parser.add_argument("--truth", type=Path, help="what a person sees in the clips of --real (see read_truth)")
    parser.add_argument(
        "--stills", type=Path, help="a folder of photographs that are filmed: nothing is wrong with them"
    )
    parser.add_argument("--names", action="store_true", help="name the clips of the guide half that are mistaken")
    arguments = parser.parse_args(argv)
    if arguments.truth:
        if not arguments.real:
            parser.error("--truth FILE says what is in real clips: give their folder, too, with --real FOLDER")
        for line in measure_unaltered(arguments.real, arguments.truth, arguments.model, names=arguments.names):
            print(line, flush=True)
    print("\n| clips | top-1 | 95 % interval | number | most frequent mistakes |\n|---|---|---|---|---|")
    synthetic = {
        "states": (generator.PICTURE_STATES, arguments.clips),
        "camera": (generator.CAMERA, 3 * arguments.clips),
        "shapes": (tuple(generator.MOVING_SHAPES), max(1, arguments.clips // 10)),
    }
    for i, (name, (labels, clips)) in enumerate(synthetic.items()):
        if name in arguments.families:
            for result in measure_family(name, labels, clips, arguments.model, SEED + i):
                print(result, flush=True)
    if arguments.real and "altered" in arguments.families:
        for result in measure_real(arguments.real, arguments.model, rounds=1):
            print(result, flush=True)
    if arguments.stills:
        for result in measure_stills(arguments.stills, arguments.model):
            print(result, flush=True)
    print(f"\none clip, warm: {milliseconds_a_clip(arguments.model):.1f} ms")


if __name__ == "__main__":
    main()
