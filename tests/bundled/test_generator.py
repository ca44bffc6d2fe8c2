"""The clip generator: what a clip is labelled with is what its eight sampled frames show."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from xclip_cli.bundled import generator, phrasings
from xclip_cli.bundled.generator import CAMERA, HELD_OUT_SHAPES, MOVING_SHAPES, PICTURE_STATES, Frames
from xclip_cli.bundled.pictures import make_picture

SIZE = {"height": 48, "width": 64}


@pytest.fixture(scope="module")
def pictures() -> list[generator.Picture]:
    rng = np.random.default_rng(0)
    return [make_picture(rng, 128) for _ in range(6)]


def sampled(label: str, pictures: list[generator.Picture], seed: int, count: int = 48) -> Frames:
    """The frames of a clip that X-CLIP would get."""
    clip = generator.make_clip(np.random.default_rng(seed), label, pictures, count=count, **SIZE)
    assert clip.labels[0] == label
    assert clip.frames.shape == (count, 48, 64, 3)
    assert clip.frames.dtype == np.uint8
    return clip.frames[generator.sampled_frames(count)]


def changes(frames: Frames) -> np.ndarray:
    """Mean difference in grey levels between neighbouring frames, [T - 1]."""
    return np.abs(np.diff(frames.astype(float), axis=0)).mean((1, 2, 3))


def brightness(frames: Frames) -> np.ndarray:
    """Mean grey level of each frame, [T]."""
    return frames.mean((1, 2, 3))


@pytest.mark.parametrize(
    ("count", "expected"),
    [(8, [0, 1, 2, 3, 4, 5, 6, 7]), (16, [1, 3, 5, 7, 9, 11, 13, 15]), (48, [3, 9, 15, 21, 27, 33, 39, 45])],
)
def test_sampled_frames_are_segment_centres(count: int, expected: list[int]) -> None:
    assert generator.sampled_frames(count).tolist() == expected


@pytest.mark.parametrize("label", [*PICTURE_STATES, *CAMERA, "a red circle moving left"])
def test_same_seed_same_clip(label: str, pictures: list[generator.Picture]) -> None:
    first, again, other = (sampled(label, pictures, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_same_seed_same_picture() -> None:
    one, same = (make_picture(np.random.default_rng(3), 64) for _ in range(2))
    assert np.array_equal(one, same)


@pytest.mark.parametrize("seed", range(5))
def test_states_show_in_the_sampled_frames(seed: int, pictures: list[generator.Picture]) -> None:
    of = {label: sampled(label, pictures, seed) for label in PICTURE_STATES}
    assert brightness(of["a black screen"]).max() < 20
    assert brightness(of["a white screen"]).min() > 230
    assert changes(of["color bars"]).max() < 4
    assert np.unique(of["color bars"][0, 10] // 64, axis=0).shape[0] >= 4
    assert changes(of["television static"]).min() > 2
    assert brightness(of["a fade in from black"])[0] < 0.35 * brightness(of["a fade in from black"])[-1]
    assert brightness(of["a fade out to black"])[-1] < 0.35 * brightness(of["a fade out to black"])[0]
    assert np.ptp(of["a black-and-white picture"].astype(int), axis=-1).mean() < 5
    letterboxed = of["a letterboxed picture"]
    assert letterboxed[:, [0, 1, -2, -1]].mean() < 6
    assert letterboxed[:, 16:32].mean() > 20


@pytest.mark.parametrize("seed", range(8))
def test_a_frozen_picture_moves_and_then_stops(seed: int, pictures: list[generator.Picture]) -> None:
    steps = changes(sampled("a frozen picture", pictures, seed))
    assert steps[:2].min() > 1.5 * steps[-3:].max()


def test_a_freeze_may_leave_a_little_noise_as_encoders_do(pictures: list[generator.Picture]) -> None:
    left = [changes(sampled("a frozen picture", pictures, seed))[-3:].max() for seed in range(20)]
    assert 0 < np.count_nonzero(left) < 20
    assert max(left) < 2


def test_cuts_are_from_one_frame_to_the_next() -> None:
    one, other = np.full((48, 48, 64, 3), 60, np.uint8), np.full((48, 48, 64, 3), 200, np.uint8)
    cuts = []
    for seed in range(20):
        cut = generator.apply_state(np.random.default_rng(seed), "a cut to another scene", one, other)
        steps = changes(cut[generator.sampled_frames(48)])
        assert set(steps) <= {0, 140}
        cuts.append(np.count_nonzero(steps))
    assert {1, 2, 3} <= set(cuts)  # a scene may also go on close or mirrored, which plain frames do not show


def test_what_the_sampled_frames_hardly_show_is_in_doubt() -> None:
    dark, grey = np.full((48, 96, 128, 3), 60, np.uint8), np.full((48, 96, 128, 3), 66, np.uint8)
    light = np.full_like(dark, 160)
    one_block = dark.copy()
    one_block[:, 40:52, 60:72] = 160
    at_the_side = dark.copy()
    at_the_side[:, :, :12] = 160  # a small model looks at the middle square only
    few_frames = dark.copy()
    few_frames[[0, 47]] = 160  # between the sampled frames
    cut, blocky, frozen = "a cut to another scene", "blocky compression damage", "a frozen picture"
    assert generator.in_doubt(cut, dark, np.concatenate([dark[:24], grey[24:]]))
    assert not generator.in_doubt(cut, dark, np.concatenate([dark[:24], light[24:]]))
    assert generator.in_doubt(cut, dark, few_frames)
    flicker = np.where((np.arange(48) // 6 % 2 == 0)[:, None, None, None], dark, light)
    assert generator.in_doubt(cut, dark, flicker)  # no step is larger than the others
    assert generator.in_doubt(blocky, dark, one_block)
    assert generator.in_doubt(blocky, dark, at_the_side)
    assert not generator.in_doubt(blocky, dark, light)
    black = np.zeros_like(dark)
    barred = dark.copy()
    barred[:, :16] = barred[:, -16:] = 0
    assert generator.in_doubt("a letterboxed picture", black, black)
    assert not generator.in_doubt("a letterboxed picture", dark, barred)
    assert generator.in_doubt("a blurry picture", dark, dark)
    assert generator.in_doubt("flashing lights", dark, np.concatenate([dark[:24], light[24:]]))
    assert not generator.in_doubt("flashing lights", dark, flicker)
    assert generator.in_doubt("a fade in from black", dark, dark)
    assert not generator.in_doubt("a fade in from black", dark, np.concatenate([black[:24], dark[24:]]))
    assert generator.in_doubt("a normal picture", dark, dark)  # nothing to see
    assert generator.in_doubt(frozen, dark, dark)
    assert not generator.in_doubt(frozen, dark, np.concatenate([flicker[:15], dark[15:]]))


def test_a_clip_may_be_in_two_states(pictures: list[generator.Picture]) -> None:
    seen = set()
    for seed in range(30):
        clip = generator.make_clip(np.random.default_rng(seed), "a letterboxed picture", pictures, **SIZE)
        assert clip.labels[0] == "a letterboxed picture"
        states = [label for label in clip.labels if label in PICTURE_STATES]
        seen.update(states[1:])
        if "a black-and-white picture" in states:
            assert np.ptp(clip.frames.astype(int), axis=-1).max() == 0
    assert seen == set(generator.ALSO["a letterboxed picture"])


def test_strong_compression_is_no_damage(pictures: list[generator.Picture]) -> None:
    """It changes little of what a small model sees: far less than what counts as damage."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        frames, _ = generator.footage(rng, pictures, "a static shot", 8, 96, 128)
        squeezed = generator.compressed(rng, frames)
        assert squeezed.shape == frames.shape
        assert not np.array_equal(squeezed, frames)
        assert generator.in_doubt("blocky compression damage", frames, squeezed)


@pytest.mark.parametrize("seed", range(6))
def test_a_test_pattern_is_made_of_colored_bars(seed: int) -> None:
    frames = generator.test_pattern(np.random.default_rng(seed), 8, 48, 64)
    assert frames.shape == (8, 48, 64, 3)
    strong = np.ptp(frames.astype(int), axis=-1) > 100
    assert strong.mean() > 0.15
    assert len(np.unique(frames[strong] // 100, axis=0)) >= 3


@pytest.mark.parametrize("count", [8, 24, 48, 75])
def test_flashes_are_never_hidden_between_the_sampled_frames(count: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        on = generator.flash_pattern(rng, generator.frame_times(count))[generator.sampled_frames(count)]
        assert np.count_nonzero(np.diff(on)) >= 3


def test_blur_takes_away_detail_and_keeps_brightness() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (2, 48, 64, 3)).astype(np.uint8)
    blurred = generator.blur(frames, 3.0)
    assert blurred.std() < 0.2 * frames.std()
    assert abs(blurred.mean() - frames.mean()) < 2
    flat = np.full((1, 48, 64, 3), 100, np.uint8)
    assert np.abs(generator.blur(flat, 3.0).astype(int) - 100).max() <= 1  # no dark edges


def test_blocks_take_their_mean() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (1, 50, 61, 3)).astype(np.uint8)
    blocks = generator.block_means(frames, 8)
    assert blocks.shape == frames.shape
    assert np.array_equal(blocks[0, :8, :8], np.broadcast_to(blocks[0, 0, 0], (8, 8, 3)))
    assert abs(int(blocks[0, 49, 60, 0]) - frames[0, 48:, 56:, 0].mean()) <= 1


@pytest.mark.parametrize("seed", range(6))
def test_camera_paths_are_what_they_are_called(seed: int) -> None:
    times = generator.frame_times(48)
    seen = generator.sampled_frames(48)

    def roughness(move: str) -> tuple[float, float]:
        """How far the sampled path goes, and how far it is from a smooth one."""
        path = generator.camera_path(np.random.default_rng(seed), move, times)
        values = np.stack([path.x, path.y, np.log(path.zoom), path.roll])[:, seen].astype(float)
        smooth = [np.polyval(np.polyfit(times[seen], v, 2), times[seen]) for v in values]
        return float(np.ptp(values, axis=1).max()), float(np.std(values - smooth, axis=1).max())

    assert roughness("a static shot") == pytest.approx((0, 0), abs=1e-6)
    distance, rough = roughness("a moving camera")
    assert distance > 0.1
    assert rough < 0.01
    assert roughness("a shaky camera")[1] > 0.008


@pytest.mark.parametrize("count", [8, 48])
def test_a_wandering_camera_goes_far_and_never_loses_the_view_at_once(count: int) -> None:
    farthest = []
    for seed in range(30):
        path = generator.wander(np.random.default_rng(seed), generator.frame_times(count))
        places = np.stack([path.x, path.y], -1)[generator.sampled_frames(count)]
        assert np.linalg.norm(np.diff(places, axis=0), axis=-1).max() <= 0.66  # short sides: some of it stays in view
        assert 0.49 < path.zoom.min() <= path.zoom.max() < 2.02
        farthest.append(np.linalg.norm(places - places[0], axis=-1).max())
    assert max(farthest) > 1.5


def test_only_a_normal_picture_settles_and_no_clip_that_wanders_is_called_a_move(
    pictures: list[generator.Picture], monkeypatch: pytest.MonkeyPatch
) -> None:
    times, moves = generator.frame_times(8), "a moving camera"
    taken = {
        state: [generator.unruly_path(np.random.default_rng(seed), state, moves, times) for seed in range(40)]
        for state in ("a normal picture", "a letterboxed picture", "a cut to another scene")
    }
    normal, letterboxed, cut = (sum(path is not None for path in paths) for paths in taken.values())
    assert normal > letterboxed > cut == 0
    assert generator.unruly_path(np.random.default_rng(0), "a normal picture", "a static shot", times) is None

    monkeypatch.setattr(generator, "unruly_path", lambda rng, state, move, times: generator.wander(rng, times))
    for seed in range(6):
        clip = generator.make_clip(np.random.default_rng(seed), "a normal picture", pictures, **SIZE)
        assert clip.labels == ("a normal picture",)


def test_slides_come_and_go_and_stand_still_meanwhile(pictures: list[generator.Picture]) -> None:
    times = generator.frame_times(8)
    shown = set()
    for seed in range(20):
        for thing in generator.slides(np.random.default_rng(seed), pictures, times):
            assert np.ptp(thing.x) == np.ptp(thing.y) == np.ptp(thing.radius) == 0
            assert np.count_nonzero(np.diff(thing.visible)) <= 2
            shown.add((bool(thing.visible[0]), bool(thing.visible[-1])))
    assert shown == {(False, False), (False, True), (True, False), (True, True)}


@pytest.mark.parametrize("fade", ["a fade in from black", "a fade out to black"])
def test_a_cut_is_not_lost_in_a_fade(fade: str, pictures: list[generator.Picture]) -> None:
    found = 0
    for seed in range(30):
        clip = generator.make_clip(np.random.default_rng(seed), fade, pictures, **SIZE)
        if "a cut to another scene" in clip.labels:
            found += 1
            assert changes(generator.as_seen(clip.frames)).max() > 18  # 25, before compression and grain
    assert found


def test_the_light_of_a_normal_picture_may_be_unsteady_but_does_not_flash(pictures: list[generator.Picture]) -> None:
    unsteady = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        still = np.full((8, 48, 64, 3), 1, np.uint8) * rng.integers(40, 200, (1, 48, 64, 3)).astype(np.uint8)
        steps = np.abs(np.diff(brightness(generator.film(rng, still, noise=0.0))))
        assert steps.max() < 15
        unsteady += steps.max() > 1
    assert 3 <= unsteady <= 25


@pytest.mark.parametrize("motion", generator.MOTIONS)
@pytest.mark.parametrize("seed", range(4))
def test_shapes_do_what_they_are_said_to_do(motion: str, seed: int) -> None:
    x, y, radius, visible = generator.shape_tracks(np.random.default_rng(seed), motion, generator.frame_times(8))
    dx, dy, grown = x[-1] - x[0], y[-1] - y[0], radius[-1] / radius[0]
    assert (np.abs(x) + radius <= 0.5).all()
    assert (np.abs(y) + radius <= 0.5).all()
    expected = {
        "moving left": dx < -0.15 and dy == 0,
        "moving right": dx > 0.15 and dy == 0,
        "moving up": dy < -0.15 and dx == 0,  # y points down
        "moving down": dy > 0.15 and dx == 0,
        "growing": grown > 1.4,
        "shrinking": grown < 0.7,
        "standing still": dx == dy == 0 and grown == 1,
        "blinking": dx == dy == 0 and np.count_nonzero(np.diff(visible)) >= 3,
    }
    assert expected[motion]
    assert visible.all() == (motion != "blinking")


def test_a_shape_has_its_color_and_goes_its_way(pictures: list[generator.Picture]) -> None:
    frames = sampled("a red square moving right", pictures, 4).astype(int)
    red = (frames[..., 0] > 180) & (frames[..., 1] < 90) & (frames[..., 2] < 90)
    columns = [np.nonzero(mask)[1].mean() for mask in red]
    assert np.diff(columns).min() > 0


def test_held_out_combinations() -> None:
    assert len(MOVING_SHAPES) == 8 * 4 * 8
    assert len(HELD_OUT_SHAPES) == pytest.approx(len(MOVING_SHAPES) / 6, abs=1)
    shown = [parts for label, parts in MOVING_SHAPES.items() if label not in HELD_OUT_SHAPES]
    for first, second, pairs in ((0, 1, 8 * 4), (0, 2, 8 * 8), (1, 2, 4 * 8)):
        assert len({(parts[first], parts[second]) for parts in shown}) == pairs  # every pair occurs in training


def test_training_never_sees_what_is_held_out() -> None:
    texts = set(phrasings.training_texts())
    for label in HELD_OUT_SHAPES:
        assert not texts & {label, *phrasings.trained_phrasings(label), *phrasings.held_out_phrasings(label)}
    trained = {phrasing for label in phrasings.TRAINED for phrasing in phrasings.trained_phrasings(label)}
    for label in phrasings.HELD_OUT:
        assert not trained & set(phrasings.held_out_phrasings(label))


def test_every_label_has_phrasings_and_knows_their_words() -> None:
    known = set(phrasings.words(phrasings.training_texts()))
    for label in (*PICTURE_STATES, *CAMERA, *MOVING_SHAPES):
        assert phrasings.trained_phrasings(label)[0] == label or label in MOVING_SHAPES
        assert set(phrasings.words([label, *phrasings.held_out_phrasings(label)])) <= known


@pytest.mark.parametrize("suffix", generator.ENCODERS)
def test_videos_decode_to_what_was_written(suffix: str, tmp_path: Path, pictures: list[generator.Picture]) -> None:
    clip = generator.make_clip(np.random.default_rng(0), "a moving camera", pictures, count=12, height=96, width=128)
    path = tmp_path / f"clip{suffix}"
    generator.write_video(path, clip.frames, frames_per_second=25)
    with av.open(str(path)) as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert decoded.shape == clip.frames.shape
    assert np.abs(decoded.astype(int) - clip.frames).mean() < (1 if suffix == ".mkv" else 25)


def test_an_unknown_label_is_refused(pictures: list[generator.Picture]) -> None:
    with pytest.raises(ValueError, match=r"no clip can be made of 'a cat'"):
        generator.make_clip(np.random.default_rng(0), "a cat", pictures, **SIZE)


@pytest.mark.parametrize("seed", range(4))
def test_margins_between_states(seed: int, pictures: list[generator.Picture]) -> None:
    def colorfulness(frames: Frames) -> float:
        return float(np.ptp(frames.astype(int), axis=-1).mean())

    def sharpness(frames: Frames) -> float:
        luma = generator.luma(frames)
        return float(np.abs(np.diff(luma, axis=2)).mean() / luma.std())

    normal = sampled("a normal picture", pictures, seed)
    grey = sampled("a black-and-white picture", pictures, seed)
    assert colorfulness(normal) > 4
    assert colorfulness(grey) == 0
    assert sharpness(normal) > sharpness(generator.blur(normal, 0.04 * 48))


def test_distances_between_views(pictures: list[generator.Picture]) -> None:
    def distances(label: str, seed: int) -> np.ndarray:
        return generator.make_clip(np.random.default_rng(seed), label, pictures, count=24, **SIZE).distances

    for seed in range(4):
        assert (distances("a static shot", seed) == 0).all()
        moving, frozen, cut = (distances(x, seed) for x in ("a moving camera", "a frozen picture", PICTURE_STATES[8]))
        for table in (moving, frozen, cut):
            assert np.array_equal(table, table.T)
            assert (np.diag(table) == 0).all()
        assert (np.diff(moving[0]) >= 0).all()  # on and on
        assert moving[0, -1] > 0.9
        assert frozen[0, 1] > 0
        assert (frozen[-3:, -3:] == 0).all()
        assert cut[0, -1] == cut[1, -2] == 1


def test_a_track_is_of_the_sampled_frames(pictures: list[generator.Picture]) -> None:
    for count in (8, 48):
        clip = generator.make_clip(np.random.default_rng(0), "a red square moving up", pictures, count=count, **SIZE)
        x, y, radius, visible = clip.track.T
        assert len(x) == 8
        assert np.ptp(x) == 0
        assert (np.diff(y) < 0).all()
        assert (radius > 0.15).all()
        assert (visible == 1).all()
