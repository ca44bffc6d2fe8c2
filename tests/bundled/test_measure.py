"""The truth about real footage, and what is reported of a model's answers to it."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import av
import numpy as np
import pytest

from xclip_cli.bundled import generator, measure
from xclip_cli.bundled.measure import Footage
from xclip_cli.bundled.pictures import make_picture

TRUTH = Path(__file__).with_name("real_footage.tsv")
NORMAL, BLACK, CUT, BOXED = "a normal picture", "a black screen", "a cut to another scene", "a letterboxed picture"


def test_the_truth_names_known_states_and_splits_by_content() -> None:
    footage = measure.read_truth(TRUTH)
    assert len({seen.video for seen in footage}) == len(footage)
    for seen in footage:
        assert set(seen.states) | set(seen.arguable) <= set(generator.PICTURE_STATES)
        assert not set(seen.states) & set(seen.arguable), seen
        assert seen.states == (NORMAL,) or NORMAL not in seen.states, seen
        even = hashlib.sha256(seen.content.encode()).digest()[0] % 2 == 0  # decided by the content's name alone
        assert seen.half == ("guide" if even else "report"), seen


def test_what_is_arguable_has_a_reason() -> None:
    with TRUTH.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert [row["video"] for row in rows if row["arguable"] and not row["reason"]] == []


@pytest.mark.parametrize(("states", "said"), [("a bad picture", "a bad picture"), ("", "no state")])
def test_a_truth_of_unknown_states_is_refused(states: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "truth.tsv"
    path.write_text(
        f"video\tcontent\thalf\tstates\targuable\treason\na.mp4\ta\tguide\t{states}\t\t\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match=f"a.mp4 is given {said}; allowed are a black screen, "):
        measure.read_truth(path)


def test_recall_precision_and_false_alarms() -> None:
    footage = [
        Footage("1", "one", "guide", (NORMAL,), ()),
        Footage("2", "one", "guide", (NORMAL,), ()),
        Footage("3", "two", "guide", (NORMAL,), (BLACK,)),
        Footage("4", "three", "guide", (BOXED, CUT), ()),
        Footage("5", "four", "guide", (BLACK,), ()),
    ]
    given = [(NORMAL,), (BLACK,), (NORMAL,), (CUT, BLACK), (BLACK,)]
    lines = list(measure.report_unaltered(footage, given))
    assert lines[0] == "5 clips of 4 contents"
    assert "1 of 3 (33.3 %); each of 2 contents counted" in lines[1]
    assert lines[2].startswith("once: 25.0 %")
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in lines[5:]}
    assert rows[NORMAL] == ["2 of 3 (66.7 %)", "2 of 2 (100.0 %)", "0 of 2 (0.0 %) |"]
    assert rows[BLACK] == ["1 of 1 (100.0 %)", "1 of 3 (33.3 %)", "2 of 3 (66.7 %) |"]  # clip 3 is arguable
    assert rows[CUT] == ["1 of 1 (100.0 %)", "1 of 1 (100.0 %)", "0 of 4 (0.0 %) |"]
    assert rows[BOXED] == ["0 of 1 (0.0 %)", "none", "0 of 4 (0.0 %) |"]


def test_a_clip_in_two_states_may_be_called_either(monkeypatch: pytest.MonkeyPatch) -> None:
    family = (BOXED, CUT, NORMAL)
    both, one = Path("both.mp4"), Path("one.mp4")
    monkeypatch.setattr(measure, "write_clips", lambda *_: ([both, one], [(BOXED, CUT), (BOXED,)]))
    monkeypatch.setattr(measure, "answers", lambda paths, wordings, model: [[1, 1], [0, 2], [1, 0]])
    known, rephrased = measure.measure_family("states", family, 1, "bundled", 0)
    assert (known.right, known.asked, dict(known.mistakes)) == (1, 2, {(BOXED, CUT): 1})
    assert (rephrased.right, rephrased.asked, dict(rephrased.mistakes)) == (3, 4, {(BOXED, NORMAL): 1})


def test_a_real_clip_is_asked_for_as_many_states_as_it_shows(tmp_path: Path) -> None:
    generator.write_samples(tmp_path)
    footage = [
        Footage("color-bars.mp4", "bars", "guide", ("color bars",), ()),
        Footage("color-bars.mp4", "bars", "guide", ("color bars", NORMAL), ()),
        Footage("black-screen.avi", "black", "guide", (NORMAL,), (BLACK,)),
    ]
    bars, two, other = measure.called(footage, tmp_path, "bundled")
    assert bars == ("color bars",)
    assert two[0] == "color bars"
    assert len(two) == 2
    assert len(other) == 1
    assert other != (BLACK,)  # arguable: left out


def test_truth_without_a_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        measure.main(["--truth", str(TRUTH)])
    assert "give their folder, too, with --real FOLDER" in capsys.readouterr().err


def test_photographs_are_filmed_compressed_and_interlaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (90, 160, 3)).astype(np.uint8)
    for name in ("large.png", "folder/more.png", "even.png"):
        image = noise if name != "even.png" else np.full_like(noise, 128)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        with av.open(str(tmp_path / name), "w", format="image2") as container:
            stream = container.add_stream("png", rate=1)
            stream.height, stream.width, stream.pix_fmt = 90, 160, "rgb24"
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image)))
            container.mux(stream.encode())
    assert list(measure.read_stills(tmp_path)) == []  # too small for photographs
    monkeypatch.setattr(measure, "LEAST_STILL", 90)
    assert [still.shape for still in measure.read_stills(tmp_path)] == [(1, 240, 426, 3)] * 3
    measured = [(row.name, row.asked) for row in measure.measure_stills(tmp_path, "bundled")]
    assert measured == [  # the even one is arguable
        ("photographs filmed", 2),
        ("photographs filmed, strongly compressed", 2),
        ("photographs filmed, interlaced", 2),
    ]


def test_interlaced_frames_have_every_second_line_of_the_next() -> None:
    frames = np.arange(4, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(2, 2).repeat(3, 3)
    woven = measure.interlaced(frames)
    assert woven[..., 0, 0].tolist() == [[0, 1, 0, 1], [2, 3, 2, 3]]


def test_what_looks_the_same_out_of_focus_has_no_detail() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (1, 80, 80, 3), np.uint8).repeat(8, 0)
    ramp = np.linspace(0, 255, 80)[:, None, None] * np.array((1, 0.7, 0.2))
    assert not measure.without_detail(noise)
    assert measure.without_detail(noise[..., :1].repeat(3, -1))  # grey
    assert measure.without_detail(np.broadcast_to(ramp, (8, 80, 80, 3)).astype(np.uint8))


@pytest.mark.parametrize("suffix", measure.LOSSY)
def test_strong_compression_saves_on_bits(suffix: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    clip = generator.make_clip(rng, "a moving camera", [make_picture(rng)], count=12, height=144, width=176)
    well, strongly = tmp_path / f"well{suffix}", tmp_path / f"strongly{suffix}"
    generator.write_video(well, clip.frames, frames_per_second=25)
    generator.write_video(strongly, clip.frames, frames_per_second=25, strongly=True)
    assert strongly.stat().st_size < 0.85 * well.stat().st_size
