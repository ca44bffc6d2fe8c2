"""Pictures come out upright, in every pixel format and size."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from clips import number_of, numbered, paper_indices, read_frames, write_clip

from xclip_cli.video.pictures import OTHER_MATRICES, Converter
from xclip_cli.video.tonemap import BT2020, HLG, PQ, tone_mapped


def numbers(path: Path, count: int = 8) -> list[int]:
    """What the frames of a clip show."""
    return [number_of(picture) for picture in read_frames(path, count)[0]]


def turned(picture: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """A display matrix applied pixel by pixel: x' = a x + c y, y' = b x + d y."""
    a, b, c, d = matrix
    height, width = picture.shape[:2]
    ys, xs = np.mgrid[:height, :width]
    new_x, new_y = a * xs + c * ys, b * xs + d * ys
    new_x, new_y = new_x - new_x.min(), new_y - new_y.min()
    out = np.zeros((new_y.max() + 1, new_x.max() + 1, 3), np.uint8)
    out[new_y, new_x] = picture
    return out


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1),
        (-1, 0, 0, 1),
        (1, 0, 0, -1),
        (-1, 0, 0, -1),
        (0, 1, 1, 0),
        (0, 1, -1, 0),
        (0, -1, 1, 0),
        (0, -1, -1, 0),
    ],
)
def test_display_matrices(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    corner = numbered(5, 64, 32)
    corner[:8, :8] = (250, 20, 20)
    a, b, c, d = (v << 16 for v in matrix)
    plain = write_clip(tmp_path / "plain.mp4", pictures=[corner] * 3)
    path = write_clip(tmp_path / "turned.mp4", pictures=[corner] * 3, matrix=[a, b, 0, c, d, 0, 0, 0, 1 << 30])
    np.testing.assert_array_equal(read_frames(path, 1)[0][0], turned(read_frames(plain, 1)[0][0], matrix))


def test_a_crooked_display_matrix_is_ignored_and_said(tmp_path: Path) -> None:
    matrix = [46341, 46341, 0, -46341, 46341, 0, 0, 0, 1 << 30]
    path = write_clip(tmp_path / "crooked.mp4", 3, matrix=matrix)
    pictures, info = read_frames(path)
    assert pictures[0].shape == numbered(0).shape
    assert info.warnings == ("the rotation in the file is not a multiple of 90 degrees and was ignored",)


@pytest.mark.parametrize("pixel_format", ["yuv444p", "gray", "yuv420p10le", "yuv422p"])
def test_pixel_formats(tmp_path: Path, pixel_format: str) -> None:
    path = write_clip(tmp_path / "clip.mkv", 10, codec="ffv1", pix_fmt=pixel_format)
    assert numbers(path) == paper_indices(10, 8)


@pytest.mark.parametrize("size", [(2, 2), (3, 5), (2, 4096), (4096, 2)])
def test_odd_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    picture = np.full((size[1], size[0], 3), 90, np.uint8)
    path = write_clip(tmp_path / "odd.mkv", codec="ffv1", pix_fmt="yuv444p", pictures=[picture] * 2)
    assert read_frames(path, 2)[0][0].shape == picture.shape


# Colours


def colours(height: int = 96, width: int = 160) -> np.ndarray:
    """Smooth ramps of all colours, which no subsampling of chroma hurts."""
    y, x = np.mgrid[:height, :width]
    ramps = np.stack([x / width, y / height, (x + y) / (height + width)], 2)
    return np.round(30 + 190 * ramps).astype(np.uint8)


@pytest.mark.parametrize("matrix", [1, 5, 6, 9])
@pytest.mark.parametrize("colour_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_matrices_and_ranges_that_are_known(matrix: int, colour_range: ColorRange) -> None:
    rgb = av.VideoFrame.from_ndarray(colours(), format="rgb24")
    frame = rgb.reformat(format="yuv444p", dst_colorspace=matrix, dst_color_range=colour_range)
    frame.colorspace, frame.color_range = matrix, colour_range
    picture, warnings = Converter().picture(frame)
    assert np.abs(picture.astype(int) - colours()).max() <= 4
    assert warnings == []


@pytest.mark.parametrize("matrix", [*OTHER_MATRICES, 3, 99])
def test_a_matrix_that_is_not_known_is_read_as_the_nearest(matrix: int) -> None:
    rgb = av.VideoFrame.from_ndarray(colours(), format="rgb24")
    frame = rgb.reformat(format="yuv420p", dst_colorspace=9)
    frame.color_primaries, frame.colorspace = BT2020, 9
    expected = Converter().picture(frame)[0]
    frame.colorspace = matrix
    picture, (warning,) = Converter().picture(frame)
    name = OTHER_MATRICES.get(matrix, (f"the unknown matrix {matrix}", 0))[0]
    read_as = "BT.2020" if matrix in OTHER_MATRICES else "BT.601"
    assert warning == f"the colours are stored as {name}, which was read as {read_as}: they may be off"
    if matrix in OTHER_MATRICES:
        np.testing.assert_array_equal(picture, expected)


def as_hdr(picture: np.ndarray, transfer: int, white: float = 203.0) -> np.ndarray:
    """SDR as HDR of 16 bits: display light of BT.1886, BT.2020 primaries, PQ or HLG (BT.2100)."""
    to_bt2020 = [[0.627404, 0.329283, 0.043313], [0.069097, 0.919540, 0.011362], [0.016391, 0.088013, 0.895595]]
    light = (picture / 255) ** 2.4 @ np.array(to_bt2020).T * white
    if transfer == PQ:
        power = (light / 10000) ** (2610 / 16384)
        value = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    else:
        display = light / 1000
        luminance = np.maximum(display @ [0.2627, 0.6780, 0.0593], 1e-9)[..., None]
        scene = display * luminance ** (1 / 1.2 - 1)
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        value = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    return np.round(value * 65535).astype(np.uint16)


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_hdr_looks_as_sdr_does(transfer: int) -> None:
    """Where nothing is brighter than white, the very same picture comes out."""
    mapped = tone_mapped(as_hdr(colours(), transfer), transfer, BT2020)
    assert np.abs(mapped.astype(int) - colours()).max() <= 2


@pytest.mark.parametrize("transfer", [PQ, HLG])
def test_lights_brighter_than_white_are_rolled_off(transfer: int) -> None:
    ramp = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    mapped = tone_mapped(as_hdr(ramp, transfer, white=800), transfer, BT2020)[0, :, 0].astype(int)
    plain = np.round(np.minimum((ramp[0, :, 0] / 255) ** 2.4 * 800 / 203, 1) ** (1 / 2.4) * 255).astype(int)
    assert (np.diff(mapped) >= 0).all()
    assert np.abs(mapped[:90] - plain[:90]).max() <= 2  # what is dark stays as it is
    assert mapped[-1] == pytest.approx(255, abs=1)
    assert set(plain[150:]) == {255}
    assert len(set(mapped[150:])) > 15  # and what is bright keeps its steps


@pytest.mark.parametrize(("name", "transfer"), [("PQ", "smpte2084"), ("HLG", "arib-std-b67")])
def test_hdr_files_become_sdr_and_say_so(tmp_path: Path, name: str, transfer: str) -> None:
    params = f"log-level=none:colorprim=bt2020:transfer={transfer}:colormatrix=bt2020nc:crf=8"
    code = {"PQ": PQ, "HLG": HLG}[name]
    path = tmp_path / "hdr.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=25, options={"x265-params": params})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p10le"
        for i in range(8):
            frame = av.VideoFrame.from_ndarray(as_hdr(colours(), code), format="rgb48le")
            frame = frame.reformat(format="yuv420p10le", dst_colorspace=9)
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, info = read_frames(path)
    assert info.warnings == (f"HDR ({name}) was converted to SDR",)
    assert np.abs(frames[3].astype(int) - colours()).mean() < 3


@pytest.mark.slow
def test_pq_is_converted_as_the_ffmpeg_command_does(tmp_path: Path) -> None:
    if not shutil.which("ffmpeg"):
        pytest.skip("there is no ffmpeg command")
    picture = as_hdr(colours(), PQ)
    (tmp_path / "hdr.raw").write_bytes(picture.tobytes())
    tags = "format=gbrp16le,setparams=color_primaries=bt2020:color_trc=smpte2084:colorspace=gbr:range=pc"
    chain = f"{tags},zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709:t=bt709,format=gbrp,format=rgb24"
    command = ["ffmpeg", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb48le", "-s", "160x96", "-i", "hdr.raw"]
    command += ["-vf", chain, "-f", "rawvideo", "-"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    theirs = np.frombuffer(done.stdout, np.uint8).reshape(96, 160, 3).astype(int)
    ours = tone_mapped(picture, PQ, BT2020).astype(int)
    assert np.abs(ours - theirs).max() <= 1
