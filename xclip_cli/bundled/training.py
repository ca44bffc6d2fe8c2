"""Trains the bundled model on clips of `generator`, drawn as it goes: `python -m xclip_cli.bundled.training`.

Step i's batch depends only on the seed and i, so a run that was stopped goes on as if nothing had happened: give it the
same `--work` folder. The learning rate warms up, stays, and falls to nothing; what is saved is the running mean of the
weights. At the end a table of accuracies by family is printed (see `measure`).
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, models, trainers
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset

from ..model.checkpoint.find import PHRASES_NAME
from ..model.config import XCLIPConfig, XCLIPTextConfig, XCLIPVisionConfig
from ..model.modeling import XCLIPModel
from ..model.outputs import VideoEncoding
from ..model.processor import XCLIPImageProcessor, XCLIPProcessor
from ..model.tokenizer import END, END_OF_WORD, START, CLIPTokenizer
from . import generator, measure, phrasings, pictures

CHECKPOINT = Path(__file__).with_name("checkpoint")
WIDTH = 128
TEXT_LENGTH = 24  # tokens
IMAGE_SIZE, PATCH_SIZE = 40, 8
TRAINED_LENGTH = 16  # tokens of the longest text in training: what comes after a text's end is never looked at
# Shares of moving shapes and of picture states in a batch; the rest is camera moves. Shapes come first.
SHARES, LATER_SHARES = (0.32, 0.42), (0.14, 0.5)
LATER = 1500  # the first step of LATER_SHARES, and of states and camera moves drawn larger and shrunk as files are
# How often a state is drawn, where it is not twice: those without footage are learned within minutes, some others are
# easily taken for each other, and what is normal has to be told from everything else.
OFTEN = {
    **dict.fromkeys(generator.WITHOUT_FOOTAGE, 1),
    "color bars": 2,
    "television static": 2,
    "a frozen picture": 5,
    "a cut to another scene": 5,
    "a black-and-white picture": 4,
    "blocky compression damage": 4,
    "a letterboxed picture": 3,
    "a normal picture": 10,
}
STATES_DRAWN = tuple(state for state in generator.PICTURE_STATES for _ in range(OFTEN.get(state, 2)))
TRAINED_SHAPES = [label for label in generator.MOVING_SHAPES if label not in generator.HELD_OUT_SHAPES]
SHAPES_A_STEP = 40  # among how many of TRAINED_SHAPES a step's clips are told apart
DRAWN_SIZES = 56, 96  # short sides of clips drawn larger, in pixels
ASPECTS = (1, 1, 11 / 9, 4 / 3, 16 / 9)
PICTURES = 400  # drawn once for this many steps and shared by their clips
PHOTOGRAPHED = 0.5  # the share of them that are photographs
STEPS_A_SET_OF_PICTURES = 500
STEPS_A_SAVE = 100  # after so many steps the state of the run is written down


# ---- the model -------------------------------------------------------------------------------------------------------


def make_config(vocabulary_size: int) -> XCLIPConfig:
    """1.8 million parameters; all four parts of X-CLIP at a small size."""
    text = XCLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=TEXT_LENGTH,
        hidden_act="gelu",
    )
    vision = XCLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=2,
        mit_hidden_size=WIDTH,
        mit_intermediate_size=4 * WIDTH,
        mit_num_hidden_layers=2,
        mit_num_attention_heads=2,
        image_size=IMAGE_SIZE,
        patch_size=PATCH_SIZE,
        num_frames=generator.NUM_FRAMES,
        hidden_act="gelu",
    )
    return XCLIPConfig(
        text_config=text,
        vision_config=vision,
        projection_dim=WIDTH,
        prompt_layers=1,
        prompt_alpha=0.1,
        prompt_hidden_act="gelu",
        prompt_num_attention_heads=2,
    )


def make_tokenizer(texts: Sequence[str]) -> CLIPTokenizer:
    """A byte-pair tokenizer in CLIP's format whose merges cover the words of `texts`."""
    pieces = CLIPTokenizer.from_vocabulary({START: 0, END: 1}, []).backend
    trained = Tokenizer(models.BPE(end_of_word_suffix=END_OF_WORD))
    trained.normalizer, trained.pre_tokenizer = pieces.normalizer, pieces.pre_tokenizer
    alphabet = sorted(ByteLevel.alphabet())  # the 256 characters that stand for bytes
    letters = [*alphabet, *(letter + END_OF_WORD for letter in alphabet)]
    # Letters get fixed ids first: the trainer breaks ties by id, and would number them differently in each process.
    trainer = trainers.BpeTrainer(
        vocab_size=4096, end_of_word_suffix=END_OF_WORD, special_tokens=letters, show_progress=False
    )
    trained.train_from_iterator(texts, trainer)
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]]
    # CLIP's order: letters, letters that end a word, merges, and the end token last, where X-CLIP looks for it
    tokens = [*letters, *(a + b for a, b in merges), START, END]
    return CLIPTokenizer.from_vocabulary(
        {token: i for i, token in enumerate(tokens)}, merges, model_max_length=TEXT_LENGTH
    )


def cosine_waves(count: int, size: int) -> Tensor:
    """The `count` smoothest two-dimensional cosine waves on a square of `size`, of unit norm, [count, size, size]."""
    frequency = torch.arange(size, dtype=torch.float32)
    waves = torch.cos(math.pi * (torch.arange(size) + 0.5) * frequency[:, None] / size)
    waves = waves / waves.norm(dim=1, keepdim=True)
    order = (frequency[:, None] ** 2 + frequency[None, :] ** 2).flatten().argsort(stable=True)[:count]
    return torch.einsum("ky,kx->kyx", waves[order // size], waves[order % size])


@torch.no_grad()
def initialise(model: XCLIPModel, pixel_values: Tensor) -> None:
    """Initial weights from which a model of this size learns; from the documented ones it barely does.

    Order in time enters X-CLIP only through the MIT's position embeddings: at 0.02 left and right are never told apart,
    at the documented 1.0 they drown the picture. `pixel_values` [B, T, 3, H, W] are clips to measure with.
    """
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=module.in_features**-0.5)
    text, vision = model.text_model.embeddings, model.vision_model.embeddings
    nn.init.normal_(text.token_embedding.weight, std=0.5)
    nn.init.normal_(text.position_embedding.weight, std=0.1)
    nn.init.normal_(model.mit.position_embedding, std=0.5)
    # Patches start as their smoothest components, brightness finer than color, each scaled to vary as much as the
    # others do: unscaled, the mean brightness hides all detail. Positions start as smooth functions of the place.
    luma, chroma = cosine_waves(WIDTH // 2, PATCH_SIZE), cosine_waves(WIDTH // 4, PATCH_SIZE)
    filters = [
        wave * torch.tensor(color)[:, None, None]
        for waves, color in ((luma, (0.58, 0.58, 0.58)), (chroma, (0.71, 0.0, -0.71)), (chroma, (0.41, -0.82, 0.41)))
        for wave in waves
    ]
    weight = torch.stack(filters)
    spread = F.conv2d(pixel_values.flatten(0, 1), weight, stride=PATCH_SIZE).std(dim=(0, 2, 3))
    vision.patch_embedding.weight.copy_(weight / spread[:, None, None, None])
    side = IMAGE_SIZE // PATCH_SIZE
    places = cosine_waves(side * side, side).flatten(1).T  # [patches, waves]
    mixing = torch.randn(side * side, WIDTH) / torch.arange(1, side * side + 1)[:, None] ** 0.5
    vision.position_embedding.weight[1:] = places @ mixing
    nn.init.normal_(vision.position_embedding.weight[0], std=0.1)
    nn.init.normal_(vision.class_embedding, std=0.1)


# ---- batches ---------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def pictures_of(seed: int, number: int, folder: Path) -> list[pictures.Picture]:
    """Set `number` of the pictures that scenes are made of."""
    rng = np.random.default_rng([seed, 1, number])
    photographs, photographed = pictures.photographs(folder), round(PHOTOGRAPHED * PICTURES)
    drawn = [pictures.make_picture(rng) for _ in range(PICTURES - photographed)]
    return drawn + [pictures.photograph_picture(rng, pictures.pick(rng, photographs)) for _ in range(photographed)]


@dataclass(frozen=True)
class Batch:
    """Clips and what is known of them (see `generator.Clip`); moving shapes come first."""

    frames: Tensor  # uint8 [B, T, 3, H, W]
    labels: list[tuple[str, ...]]
    distances: Tensor  # [B, T, T]
    tracks: Tensor  # [B, T, 4]


class Batches(Dataset[Batch]):
    """Item i is step i's batch."""

    def __init__(self, seed: int, batch_size: int, photographs: Path) -> None:
        self.seed, self.batch_size, self.photographs = seed, batch_size, photographs

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng([self.seed, 2, step])
        to_input = make_image_processor()
        scenes = pictures_of(self.seed, step // STEPS_A_SET_OF_PICTURES, self.photographs)
        shares = SHARES if step < LATER else LATER_SHARES
        shapes, states = (round(share * self.batch_size) for share in shares)
        families: list[Sequence[str]] = [TRAINED_SHAPES] * shapes + [STATES_DRAWN] * states
        families += [generator.CAMERA] * (self.batch_size - len(families))
        clips = [self.draw(rng, step, pictures.pick(rng, family), scenes) for family in families]
        return Batch(
            torch.stack([torch.stack([to_input.resize_and_crop(frame) for frame in clip.frames]) for clip in clips]),
            [clip.labels for clip in clips],
            torch.from_numpy(np.stack([clip.distances for clip in clips])),
            torch.from_numpy(np.stack([clip.track for clip in clips])),
        )

    def draw(self, rng: np.random.Generator, step: int, label: str, scenes: list[pictures.Picture]) -> generator.Clip:
        """A clip of `label` at the model's size, or at any size: edges then fall between the model's pixels."""
        if step < LATER or label in generator.MOVING_SHAPES:
            return generator.make_clip(rng, label, scenes, height=IMAGE_SIZE, width=IMAGE_SIZE, supersample=2)
        short = int(rng.integers(*DRAWN_SIZES))
        long = int(short * rng.choice(ASPECTS))
        height, width = (long, short) if rng.random() < 0.2 else (short, long)
        return generator.make_clip(rng, label, scenes, height=height, width=width)


# ---- the loss --------------------------------------------------------------------------------------------------------

SMOOTHING = 0.02  # of a right answer that is shared out among all choices
# A false alarm is worse than a fault overlooked: most footage is normal. So much more its clips count.
WEIGHTS = {"a normal picture": 10.0}


@dataclass(frozen=True)
class Question:
    """Which of `choices` is it?, put to the first clips of a batch."""

    name: str
    choices: list[str]
    answers: list[list[int]]  # for each clip the right places in choices; none where it does not show what is asked for

    def targets(self) -> Tensor:
        """What the scores should be, times the clip's weight: as much for each of its right answers, [clips, choices];
        zeros where there is none."""
        targets = torch.zeros(len(self.answers), len(self.choices))
        for row, right in zip(targets, self.answers, strict=True):
            if right:
                row[:] = SMOOTHING / len(row)
                row[right] += (1 - SMOOTHING) / len(right)
                row *= max(WEIGHTS.get(self.choices[place], 1.0) for place in right)
        return targets


def questions(rng: np.random.Generator, labels: list[tuple[str, ...]]) -> list[Question]:
    """What a step asks about clips of these labels. All sizes are the same at each step: new ones are slow on a CPU."""
    asked = []
    for name, family in (("state", generator.PICTURE_STATES), ("camera", generator.CAMERA)):
        answers = [[family.index(label) for label in own if label in family] for own in labels]
        asked.append(Question(name, list(family), answers))
    shapes = [own[0] for own in labels if own[0] in generator.MOVING_SHAPES]
    choices = list(dict.fromkeys([*shapes, *rng.permutation(TRAINED_SHAPES).tolist()]))[:SHAPES_A_STEP]
    asked.append(Question("combination", choices, [[choices.index(label)] for label in shapes]))
    parts = {"color": phrasings.COLOR_LABELS, "shape": phrasings.SHAPE_LABELS, "motion": phrasings.MOTION_LABELS}
    for i, (name, values) in enumerate(parts.items()):
        answers = [[list(values.values()).index(generator.MOVING_SHAPES[label][i])] for label in shapes]
        asked.append(Question(name, list(values), answers))
    return asked


class Tutor(nn.Module):
    """Questions about single frames, for training only: many answers a clip where its labels give one.

    The class token is asked for a shape's name, color, place and size; each frame's token after the MIT for how far
    the camera has moved from it in every other frame.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shape = nn.Linear(WIDTH, len(generator.SHAPES))
        self.color = nn.Linear(WIDTH, len(generator.COLORS))
        self.place = nn.Linear(WIDTH, 3)
        self.distances = nn.Linear(WIDTH, generator.NUM_FRAMES)

    def forward(self, video: VideoEncoding, batch: Batch) -> Tensor:
        """The sum of the losses over the clips."""
        far: Tensor = self.distances(video.mit_output.last_hidden_state).float()
        loss = len(far) * F.binary_cross_entropy_with_logits(far, batch.distances.to(far.device))
        names = [generator.MOVING_SHAPES[own[0]] for own in batch.labels if own[0] in generator.MOVING_SHAPES]
        track = batch.tracks[: len(names)].to(far.device)
        place, visible = track[..., :3] / 0.2, track[..., 3]
        frames = video.vision_model_output.pooler_output.view(len(far), generator.NUM_FRAMES, WIDTH)[: len(names)]
        errors: Tensor = (self.place(frames).float() - place).square().mean(-1)
        for head, i, values in ((self.color, 0, list(generator.COLORS)), (self.shape, 1, list(generator.SHAPES))):
            answers = torch.tensor([[values.index(parts[i])] * generator.NUM_FRAMES for parts in names])
            answers = answers.to(far.device)
            errors = errors + F.cross_entropy(head(frames).float().movedim(-1, 1), answers, reduction="none")
        return loss + (errors * visible).mean(1).sum()


def step_loss(
    model: XCLIPModel,
    tutor: Tutor,
    processor: XCLIPProcessor,
    batch: Batch,
    asked: list[Question],
    rng: np.random.Generator,
) -> tuple[Tensor, dict[str, float]]:
    """The mean loss over clips of the questions about them, and each question's accuracy."""
    texts = [phrasings.random_text(rng, label) for question in asked for label in question.choices]
    input_ids = processor(text=texts, padding=True, return_tensors="pt")["input_ids"]
    input_ids = F.pad(input_ids, (0, TRAINED_LENGTH - input_ids.shape[1]), value=processor.tokenizer.pad_token_id)
    features = model.encode_text(input_ids.to(model.device)).features
    video = model.encode_video(processor.image_processor.normalize(batch.frames.to(model.device)))
    losses, accuracy = [tutor(video, batch)], {}
    first = 0
    for question in asked:
        own = features[first : first + len(question.choices)]
        first += len(question.choices)
        count = len(question.answers)
        logits = model.similarity(own, video.features[:count], video.visual_tokens[:count]).logits_per_video
        targets = question.targets().to(logits.device)
        losses.append(F.cross_entropy(logits.float(), targets, reduction="sum"))
        right = targets.gather(1, logits.argmax(1, keepdim=True)) > 3 * SMOOTHING
        accuracy[question.name] = (right.sum() / targets.any(1).sum()).item()
    return torch.stack(losses).sum() / len(batch.labels), {"tutor": losses[0].item() / len(batch.labels), **accuracy}


# ---- the run ---------------------------------------------------------------------------------------------------------


def learning_rate(step: int, steps: int, peak: float) -> float:
    """Warm-up of 100 steps, constant, linearly to zero over the last third."""
    return peak * min(1.0, (step + 1) / 100, 3 * (steps - step) / steps)


def make_optimizers(model: XCLIPModel, tutor: Tutor) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the transformers, which learn in fewer steps with it; AdamW for everything else."""
    inner = {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.ndim == 2 and "embedding" not in name
    }
    others = [parameter for name, parameter in model.named_parameters() if name not in inner]
    others += tutor.parameters()
    return [
        torch.optim.Muon(list(inner.values()), weight_decay=0.05, momentum=0.95, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, weight_decay=0.0, betas=(0.9, 0.98)),
    ]


@contextlib.contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """The fastest arithmetic for a model this small: on a CPU bfloat16, and plain attention, as torch's fused one is
    several times slower for rows this short; on a GPU, which waits for one small kernel after another, no casts."""
    if device.type != "cpu":
        yield
        return
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def save_checkpoint(model: XCLIPModel, processor: XCLIPProcessor, folder: Path) -> None:
    """Writes the whole checkpoint beside `folder`, then puts it in its place."""
    new, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + ".old")
    for left_over in (new, old):
        shutil.rmtree(left_over, ignore_errors=True)
    model.half().save_pretrained(new)
    processor.save_pretrained(new)
    phrases = {"templates": phrasings.TEMPLATES, "families": phrasings.families()}
    (new / PHRASES_NAME).write_text(json.dumps(phrases, indent=1) + "\n", encoding="utf-8")
    if folder.exists():
        folder.rename(old)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def train(arguments: argparse.Namespace) -> None:
    """Trains from where `arguments.work` left off, and writes the checkpoint to `arguments.output`."""
    torch.manual_seed(arguments.seed)
    device = torch.device(arguments.device)
    tokenizer = make_tokenizer(phrasings.training_texts())
    processor = XCLIPProcessor(make_image_processor(), tokenizer)
    model = XCLIPModel(make_config(len(tokenizer)))
    drawn = Batches(arguments.seed, arguments.batch_size, arguments.photographs)
    state_path = arguments.work / "state.pt"
    if not state_path.exists():
        initialise(model, processor.image_processor.normalize(drawn[0].frames))
    tutor = Tutor().to(device)
    model.to(device).train()
    mean = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.995))  # type: ignore[no-untyped-call]
    optimizers = make_optimizers(model, tutor)
    parts: tuple[Any, ...] = (model, tutor, mean, *optimizers)  # what goes on where it was
    first = 0
    if state_path.exists():
        state = torch.load(state_path, map_location=device, weights_only=True)
        first = state["step"]
        for part, saved in zip(parts, state["parts"], strict=True):
            part.load_state_dict(saved)
    arguments.work.mkdir(parents=True, exist_ok=True)
    batches = DataLoader(
        drawn,
        batch_size=None,
        sampler=range(first, arguments.steps),
        num_workers=arguments.workers,
        prefetch_factor=4 if arguments.workers else None,
    )
    seen: dict[str, list[float]] = {}
    start = time.monotonic()
    for step, batch in enumerate(batches, first):
        for group in (group for optimizer in optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(step, arguments.steps, arguments.learning_rate)
        with computing(device):
            rng = np.random.default_rng([arguments.seed, 3, step])
            loss, accuracy = step_loss(model, tutor, processor, batch, questions(rng, batch.labels), rng)
        model.zero_grad()
        tutor.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        mean.update_parameters(model)
        for name, value in {"loss": loss.item(), **accuracy}.items():
            seen.setdefault(name, []).append(value)
        if (step + 1) % 50 == 0:
            table = "  ".join(f"{name} {np.mean(values):.3f}" for name, values in seen.items())
            print(f"step {step + 1}  {table}  {(time.monotonic() - start) / 50:.2f} s/step", flush=True)
            seen, start = {}, time.monotonic()
        if (step + 1) % STEPS_A_SAVE == 0 or step + 1 == arguments.steps:
            state = {"step": step + 1, "parts": [part.state_dict() for part in parts]}
            torch.save(state, state_path.with_suffix(".new"))
            state_path.with_suffix(".new").replace(state_path)
    assert isinstance(mean.module, XCLIPModel)
    save_checkpoint(mean.module, processor, arguments.output)


def make_image_processor() -> XCLIPImageProcessor:
    """How frames become the model's input: short side to IMAGE_SIZE, bilinear, the middle cut out, values in -2..2."""
    return XCLIPImageProcessor(size=IMAGE_SIZE, crop_size=IMAGE_SIZE, image_mean=[0.5] * 3, image_std=[0.25] * 3)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line: `python -m xclip_cli.bundled.training --help`."""
    parser = argparse.ArgumentParser(description="Train the bundled model on synthetic clips.")
    parser.add_argument("--steps", type=int, default=11000)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1, help="processes that draw clips")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--photographs", type=Path, default=pictures.WHEELS, help="where the wheels are that have them")
    parser.add_argument("--work", type=Path, default=Path("build/bundled-model"), help="where a stopped run is kept")
    parser.add_argument("--output", type=Path, default=CHECKPOINT)
    parser.add_argument("--clips", type=int, default=10, help="a label, to measure the result on; 0 for no measuring")
    arguments = parser.parse_args(argv)
    train(arguments)
    if arguments.clips:
        measure.main(["--model", str(arguments.output), "--clips", str(arguments.clips)])


if __name__ == "__main__":
    main()
