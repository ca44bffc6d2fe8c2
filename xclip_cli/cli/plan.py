"""What a run would do, for --dry-run."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..engine.devices import check_precision, choose_devices, choose_dtype, measured_macs_per_second, precision_name
from ..inputs import Inputs
from ..labels import Labels
from ..model.checkpoint.find import find_cached, hub_name
from ..model.checkpoint.public import public_checkpoints
from ..model.loading import load_config
from ..results.records import Failure
from ..video.sampling import STDIN
from .flags import ModelFlags


def plan(inputs: Inputs, labels: Labels | None, name: str, model: ModelFlags, unit: str) -> Iterator[str]:
    """What a run would do, a line each: nothing is downloaded, decoded or loaded.

    ``labels`` None: there are none. ``name`` is the model's, and ``unit`` what it looks at: each video, or each window
    of a video.
    """
    failures = [item for item in inputs.items if isinstance(item, Failure)]
    yield f"videos: {len(inputs.paths)}" + (f", and {len(failures)} inputs that cannot be used" if failures else "")
    for failure in failures:
        yield f"  {failure.video}: {failure.message}"
    named = [path for path in inputs.paths if path not in STDIN]
    missing = [path for path in named if not os.path.isfile(path)]  # noqa: PTH113 - pathlib's may raise
    for path in missing:
        yield f"  {path}: no such file"
    if inputs.stored:
        yield f"videos from indexes, not decoded: {len(inputs.stored)}"
    if labels is not None:
        yield f"labels: {len(labels.names)}, {len(labels.all_texts)} texts"
        for warning in labels.warnings:
            yield f"  warning: {warning}"
    found = find_cached(name)
    if found is None:
        repo, revision = hub_name(name)
        public = public_checkpoints().get(repo)
        size = f" (about {public.megabytes} MB)" if public else ""
        yield f"model: {repo}{f' at {revision}' if revision else ''}, not cached: would be downloaded{size}"
        macs = public.gmac * 1e9 if public else None
    else:
        config = load_config(found)
        vision, macs = config.vision_config, config.video_macs()
        yield f"model: {found.name}{f' at {found.revision}' if found.revision else ''}, in {found.folder}"
        yield (
            f"  {vision.num_frames} frames of {vision.image_size} pixels, {model.views} views, "
            f"preprocessing {model.preprocess.value}"
        )
        if labels is not None and (why := found.why_a_guess(labels.all_texts)):
            yield f"  warning: it can only guess: it {why}"
    where = choose_devices(model.device)
    check_precision(model.dtype.value, where)
    computed_in = precision_name(model.dtype.value, choose_dtype(model.dtype.value, *where))
    yield f"device: {', '.join(map(str, where))}, {computed_in}"
    if macs is not None:
        seconds = macs * model.views.count / sum(measured_macs_per_second(device, computed_in) for device in where)
        count = len(inputs.paths) - len(missing)
        in_all = f", {seconds * count:.2g} s in total" if unit == "video" else ""
        yield f"time: at least {seconds:.2g} s per {unit}{in_all}, plus start-up and decoding"
