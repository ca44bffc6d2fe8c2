"""What an index among the inputs, or a head, means for the flags: it was made in a certain way, with one model."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

import typer

from ..video.sampling import Views
from .flags import DecodeFlags, InputFlags, ModelFlags
from .options import DType, Preprocess, usage_errors

if TYPE_CHECKING:
    from ..adaptation import Head
    from ..inputs import Inputs
    from ..results.lines import IndexSettings


def check_indexes(inputs: InputFlags, found: Inputs) -> None:
    """Raises typer.BadParameter where indexes and flags, or two indexes, do not go together."""
    if not found.indexes and inputs.only is not None:
        raise typer.BadParameter("--only selects videos of an index, but no index was given")
    if found.indexes and (inputs.start, inputs.end) != (None, None):
        raise typer.BadParameter(
            "--start and --end select a part to decode, but an index is not decoded: pass them to `xclip embed`"
        )
    for index in found.indexes[1:]:
        if differing := found.indexes[0].settings.differences(index.settings):
            raise typer.BadParameter(
                f"{found.indexes[0].folder} and {index.folder} have different settings: {'; '.join(differing)}"
            )


def stretch(inputs: InputFlags, made: IndexSettings | None) -> tuple[Fraction | None, Fraction | None]:
    """The part of each video: as the flags say, or as an index was made."""
    if made is None:
        return inputs.start, inputs.end
    return _time_of(made.start), _time_of(made.end)


def _time_of(text: str | None) -> Fraction | None:
    return None if text is None else Fraction(text)


def as_made(model: ModelFlags, made: IndexSettings | None) -> ModelFlags:
    """The flags that an index was made with, in the place of those that were not given. Raises typer.BadParameter
    where one was given that differs."""
    if made is None:
        return model
    if model.save_frames is not None:
        raise typer.BadParameter("--save-frames saves decoded frames, but an index is not decoded: pass the videos")
    usual, given = (
        ModelFlags(),
        {"views": str(model.views), "preprocess": model.preprocess.value, "heads": model.heads},
    )
    for name, value in given.items():
        if getattr(model, name) != getattr(usual, name) and value != getattr(made, name):
            raise typer.BadParameter(
                f"--{name} {value} does not match the index, which was made with {name} {getattr(made, name)}: omit "
                "the flag, or embed the videos again"
            )
    with usage_errors(ValueError):
        preprocess = Preprocess(made.preprocess)
    return replace(
        model,
        name=made.model_name if model.is_default else model.name,
        views=made.views_of,
        preprocess=preprocess,
        heads=made.heads,
        dtype=DType(made.dtype) if model.dtype == DType.auto else model.dtype,
    )


def as_decoded(decoding: DecodeFlags, made: IndexSettings | None) -> DecodeFlags:
    """The flags of decoding, with the video stream that an index was made of. Raises typer.BadParameter where another
    one was given."""
    if made is None:
        return decoding
    if decoding.stream not in (None, made.stream):
        held = "the main stream" if made.stream is None else f"stream {made.stream}"
        raise typer.BadParameter(
            f"--stream {decoding.stream} does not match the index, which was made from {held} of each file: omit the "
            "flag, or embed the videos again"
        )
    return replace(decoding, stream=made.stream)


def as_learned(model: ModelFlags, head: Head | None) -> ModelFlags:
    """The flags that a head was fitted with, in the place of those that were not given; it refuses others itself.
    Raises typer.BadParameter for values that do not exist."""
    if head is None:
        return model
    usual, fitted = ModelFlags(), head.settings
    with usage_errors(ValueError):  # a head may come from anybody
        views, preprocess = Views.parse(fitted.views), Preprocess(fitted.preprocess)
    return replace(
        model,
        name=fitted.model_name if model.is_default else model.name,
        views=views if model.views == usual.views else model.views,
        preprocess=preprocess if model.preprocess == usual.preprocess else model.preprocess,
        heads=fitted.heads if model.heads is None else model.heads,
    )
