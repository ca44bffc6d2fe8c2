"""The card of a video: its frames, labels and scores, and a heat map with segments if it has a timeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ..output.images import png
from ..results.records import Moment, RankedLabel
from ..segments import Timeline, leading, resample
from ..text import clock, counted
from .entries import Entry, Thumbnails
from .markup import bar, data_url, more, path, text

if TYPE_CHECKING:
    import numpy.typing as npt

FEW_FRAMES = 4  # as many frames are shown larger
LABELS_SHOWN = 10  # of a video; also rows of a heat map
SEGMENTS_SHOWN = 200
HEAT_COLUMNS = 240
HEAT_COLOUR = (20, 148, 132)  # read on light and on dark ground


def card(entry: Entry, thumbnails: Thumbnails, unfolded: bool, labels: int | None = None) -> str:
    """A video, folded to a line or not. ``labels``: how many the run had, if that is known."""
    best = entry.best
    label, score = (text(best.label), f"{best.score:.3f}") if best else ("no label", "")
    attributes = f' data-score="{best.score if best else -1:.6f}" data-seconds="{entry.seconds or 0:.3f}"'
    pictures = thumbnails.pictures.get(entry.video, {})
    body = _body(entry, pictures, labels)
    return f"""<details class="card"{attributes}{" open" if unfolded else ""}><summary>
{_frames(entry, pictures)}{path(entry.video, thumbnails.links)}
<span class="best">{label}</span><span class="score">{score}</span>
{_missing(thumbnails.missing.get(entry.video))}</summary><div class="body">{body}</div></details>
"""


def _body(entry: Entry, pictures: Mapping[float, bytes], labels: int | None) -> str:
    has_timeline = entry.num_windows is not None or bool(entry.windows)
    parts = [_heat_map(entry, pictures, labels), _segment_list(entry)] if has_timeline else []
    parts += [_ranks(entry.prediction.predictions)] if entry.prediction else []
    parts += [_moment_list(entry.moments)] if entry.moments else []
    warnings = "".join(f"<li>{text(warning)}</li>" for warning in entry.warnings)
    parts += [f'<ul class="warnings">{warnings}</ul>'] if warnings else []
    return "".join([*parts, f'<p class="meta">{_facts(entry)}</p>'])


def _missing(reason: str | None) -> str:
    return f'<span class="gone">No thumbnails: {text(reason)}</span>' if reason else ""


def _frames(entry: Entry, pictures: Mapping[float, bytes]) -> str:
    """The frames that were looked at; a folded card shows the middle one. A timeline's are under its heat map."""
    times = sorted(pictures)
    middle = len(times) // 2
    if entry.windows:
        frames = [_frame(time, pictures[time], poster=True) for time in times[middle : middle + 1]]
        return f'<span class="frames aside">{"".join(frames)}</span>'
    frames = [_frame(time, pictures[time], i == middle) for i, time in enumerate(times)]
    return f'<span class="frames{" few" if len(frames) <= FEW_FRAMES else ""}">{"".join(frames)}</span>'


def _frame(time: float, jpeg: bytes, poster: bool) -> str:
    at = clock(time, 1)
    style = "frame poster" if poster else "frame"
    picture = f'<img src="{data_url("jpeg", jpeg)}" alt="frame at {at}">'
    return f'<span class="{style}">{picture}<span class="at">{at}</span></span>'


def _ranks(predictions: Sequence[RankedLabel]) -> str:
    rows = "".join(
        f'<tr><td class="name">{text(ranked.label)}</td><td>{bar(ranked.score)}</td>'
        f'<td class="n">{ranked.score:.3f}</td><td class="n dim">{ranked.logit:.2f}</td></tr>\n'
        for ranked in predictions[:LABELS_SHOWN]
    )
    others = more(predictions[LABELS_SHOWN:], "label", " with lower scores")
    return f"""<table class="ranks"><thead><tr><th class="name">label</th><th></th><th class="n">score</th>
<th class="n">logit</th></tr></thead><tbody>{rows}</tbody></table>{others}"""


def _facts(entry: Entry) -> str:
    """What was looked at, in a line."""
    facts: list[str] = []
    if prediction := entry.prediction:
        frames = prediction.frames
        facts += [f"{clock(prediction.start_seconds, 1)} to {clock(prediction.end_seconds, 1)}"]
        facts += [counted(frames.requested, "frame")]
        facts += [f"{frames.repeated:,} of them repeated"] if frames.repeated else []
        facts += [f"{frames.errors:,} damaged, skipped"] if frames.errors else []
        facts += [prediction.model]
    if entry.windows:
        first = min(window.start_seconds for window in entry.windows)
        last = max(window.end_seconds for window in entry.windows)
        facts += [f"{clock(first, 1)} to {clock(last, 1)}", counted(len(entry.windows), "window")]
        models = [window.prediction.model for window in entry.windows if window.prediction]
        facts += models[:1] if entry.timeline else []
    facts += [f"took {entry.seconds:.2f} s"] if entry.seconds is not None else []
    return " · ".join(map(text, facts))


def _heat_map(entry: Entry, pictures: Mapping[float, bytes], labels: int | None) -> str:
    """A row per label, shaded by score over time, with the frames under their times."""
    timeline = entry.timeline
    if timeline is None or not timeline.labels:
        return ""
    columns = min(HEAT_COLUMNS, 4 * len(timeline.scores))
    shares = resample(timeline, columns)
    rows = "".join(
        f'<span class="name" title="{text(timeline.labels[k])}">{text(timeline.labels[k])}</span>'
        f'<img class="row" alt="{_in_words(timeline, k)}" src="{data_url("png", shades(shares[:, k]))}">\n'
        for k in leading(timeline, LABELS_SHOWN)
    )
    first, last = float(timeline.edges[0]), float(timeline.edges[-1])
    ticks = [clock(first + (last - first) * part / 4, 0 if last - first >= 60 else 1) for part in range(5)]
    times = sorted(time for time in pictures if first <= time <= last)
    style = "strip twelve" if len(times) == 12 else "strip"
    strip = "".join(f'<img src="{data_url("jpeg", pictures[time])}" alt="frame at {clock(time, 1)}">' for time in times)
    # of some labels the records say nothing: they were never among the --top-k
    others = more(range(LABELS_SHOWN, max(labels or 0, len(entry.labels))), "label", " with lower scores")
    return f"""<div class="heat">{rows}<span class="axis">{"".join(f"<span>{tick}</span>" for tick in ticks)}</span>
<div class="{style}">{strip}</div></div>{others}"""


def _in_words(timeline: Timeline, k: int) -> str:
    peak = int(timeline.scores[:, k].argmax())
    return f"highest at {clock(float(timeline.edges[peak]), 1)}, {timeline.scores[peak, k]:.2f}"


def _segment_list(entry: Entry) -> str:
    segments = entry.segments
    if not segments:
        return '<p class="meta">No segment passed the thresholds.</p>' if entry.num_windows else ""
    rows = "".join(
        f'<tr><td class="when">{clock(segment.start_seconds, 1)} to {clock(segment.end_seconds, 1)}</td>'
        f'<td>{text(segment.label)}</td><td class="n">{segment.score:.3f}</td></tr>\n'
        for segment in segments[:SEGMENTS_SHOWN]
    )
    others = more(segments[SEGMENTS_SHOWN:], "later segment")
    return f"""<div class="scroll" tabindex="0"><table class="segments"><thead><tr><th>time</th><th>label</th>
<th class="n">score</th></tr></thead><tbody>{rows}</tbody></table></div>{others}"""


def _moment_list(moments: Sequence[Moment]) -> str:
    rows = "".join(
        f'<tr><td class="when">{clock(moment.start_seconds, 1)} to {clock(moment.end_seconds, 1)}</td>'
        f'<td>{text(moment.query)}</td><td class="n">{moment.rank:,}</td><td class="n">{moment.score:.3f}</td></tr>\n'
        for moment in moments[:SEGMENTS_SHOWN]
    )
    others = more(moments[SEGMENTS_SHOWN:], "other moment")
    return f"""<div class="scroll" tabindex="0"><table class="segments"><thead><tr><th>time</th><th>query</th>
<th class="n">rank</th><th class="n">score</th></tr></thead><tbody>{rows}</tbody></table></div>{others}"""


def shades(shares: npt.ArrayLike) -> bytes:
    """A PNG of one row: a pixel a share (0 to 1), of one colour, as opaque as the share."""
    opacity = np.rint(np.asarray(shares, np.float64) * 255)
    pixels = np.empty((1, len(opacity), 4), np.uint8)
    pixels[..., :3] = HEAT_COLOUR
    pixels[..., 3] = opacity
    return png(pixels, 9)
