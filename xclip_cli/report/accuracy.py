"""An evaluation → one self-contained HTML page, without scripts: figures, classes, confusions, calibration, mistakes.

Texts from outside are escaped by ``markup.text``, as on the page of a run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..evaluation.metrics import Reliability
from ..evaluation.outcomes import TOP, Evaluation
from ..output.images import png
from ..results.records import RunHeader
from ..text import counted
from .entries import Thumbnails
from .markup import bar, data_url, more, path, text
from .page import PAGE_BYTES, Budget, document, origin

if TYPE_CHECKING:
    import numpy.typing as npt

MISTAKES_SHOWN = 24
CONFUSIONS_SHOWN = 15
MOST_CELLS = 600  # rows of the matrix: of more classes those with the most mistakes
MATRIX_PIXELS = 720  # about its side
LEAST_CELL, FAINTEST = 2, 0.3  # pixels and opacity, so that one can be seen
LARGEST_CELL, LEAST_NAMED = 36, 14  # pixels; and from which on rows have names beside them
NAMES_PIXELS, NAME_LENGTH = 190, 28  # room for them, and characters
RIGHT, WRONG = (20, 148, 132), (200, 60, 45)  # read on light and on dark ground
ACCURACIES = {"top1": "top-1", "top5": "top-5", "mean_class_accuracy": "mean class accuracy"}


def render(
    found: Evaluation, values: Mapping[str, Any], thumbnails: Thumbnails, title: str, remarks: Sequence[str] = ()
) -> str:
    """The page; ``values`` are the evaluation's figures, ``title`` the name of what was evaluated, ``remarks`` what
    else is said of them."""
    budget = Budget(PAGE_BYTES)
    order = [] if found.several else class_order(found)
    sections = [
        _heading(found.header or RunHeader(), values, title, remarks),
        _mistakes(found, thumbnails, budget),
        _confusions(values),
        _matrix(found, order),
        _reliability(found.reliability),
        _classes(found, order, budget),
        _footer(thumbnails, budget),
    ]
    folder = Path(__file__).parent
    style = "".join((folder / name).read_text("utf-8") for name in ("report.css", "accuracy.css"))
    return document(title, "\n".join(sections), style)


def class_order(found: Evaluation) -> list[int]:
    """The labels that have videos or are answers, those that are taken for each other side by side: by the second
    eigenvector of the graph of mistakes."""
    counts = found.confusion[:, :-1]
    chosen = np.flatnonzero(counts.sum(axis=1) + counts.sum(axis=0))
    wrong = (counts.sum(axis=1) + counts.sum(axis=0) - 2 * counts.diagonal())[chosen]
    chosen = np.sort(chosen[np.argsort(-wrong, kind="stable")][:MOST_CELLS])
    shares = counts[np.ix_(chosen, chosen)] / np.maximum(counts[chosen].sum(axis=1, keepdims=True), 1)
    links = shares + shares.T + 1e-6
    np.fill_diagonal(links, 0)
    spread = 1 / np.sqrt(links.sum(axis=1)) if len(chosen) > 1 else np.ones(1)
    _, vectors = np.linalg.eigh(np.eye(len(chosen)) - spread[:, None] * links * spread)
    second = vectors[:, min(1, len(chosen) - 1)] * spread
    return [int(chosen[i]) for i in np.argsort(second, kind="stable")]


def _heading(header: RunHeader, values: Mapping[str, Any], title: str, remarks: Sequence[str]) -> str:
    shown = (key for key in ACCURACIES if key != "top5" or values["labels"] > TOP)  # of fewer labels, all are in it
    tiles = "".join(_tile(ACCURACIES[key], values[key]) for key in shown)
    losses = {"log loss": values["log_loss"], "calibration error": values["calibration_error"]}
    if "f1" in values:
        losses = {"mean average precision": values["mean_average_precision"], "F1": values["f1"]["micro"]}
    tiles += "".join(
        f'<div class="panel"><dt>{name}</dt><dd>{"unavailable" if value is None else f"{value:.3f}"}</dd></div>'
        for name, value in losses.items()
    )
    facts = [counted(values["videos"], "video"), counted(values["labels"], "label")]
    facts += [f"{values['failed']:,} failed, and count as wrong"] if values["failed"] else []
    facts += [f"{values['missing']:,} of the ground truth have no record"] if values["missing"] else []
    facts += [values["model"]] if values["model"] else []
    facts += [f"{values['views']} views", f"{values['preprocess']} preprocessing"] if values["views"] else []
    notices = [f"{name} is unavailable: {why}" for name, why in values["unavailable"].items()]
    notices += [
        f"{ACCURACIES[key]}, mean ± sd of splits: {spread['mean'] * 100:.1f} ± {spread['sd'] * 100:.1f}"
        for key, spread in values.get("over_splits", {}).items()
        if spread
    ]
    notices += remarks
    said = "".join(f"<li>{text(notice)}</li>" for notice in notices)
    return f"""<header>
<p class="mark">xclip evaluate</p>
<h1>{text(title)}</h1>
{origin(header, facts)}
<dl class="tiles">{tiles}</dl>
{f'<ul class="notices">{said}</ul>' if said else ""}
</header>"""


def _tile(name: str, share: Mapping[str, Any] | None) -> str:
    if share is None or share["value"] is None:
        return f'<div class="panel"><dt>{name}</dt><dd>–</dd></div>'  # noqa: RUF001
    of_classified = share["of_classified"]["value"]
    rest = f"; {of_classified * 100:.1f} of those classified" if of_classified != share["value"] else ""
    limits = f"{share['low'] * 100:.1f} to {share['high'] * 100:.1f}{rest}"
    return f'<div class="panel"><dt>{name}, %<br>{limits}</dt><dd>{share["value"] * 100:.1f}</dd></div>'


def _mistakes(found: Evaluation, thumbnails: Thumbnails, budget: Budget) -> str:
    if not (numbers := found.mistakes(MISTAKES_SHOWN)):
        return ""
    cards = "".join(budget.fitting(_mistake(found, number, thumbnails) for number in numbers))
    wrong = int((~found.correct & (found.answered >= 0)).sum())
    others = f'<p class="meta">and {wrong - len(numbers):,} with lower scores</p>' if wrong > len(numbers) else ""
    return f"""<section id="mistakes"><h2>Most confident mistakes</h2>
<div class="mistakes">{cards}</div>{others}</section>"""


def _mistake(found: Evaluation, number: int, thumbnails: Thumbnails) -> str:
    video, right = found.paths[number], int(found.right[number])
    pictures = thumbnails.pictures.get(video, {})
    shown = "".join(f'<img src="{data_url("jpeg", pictures[time])}" alt="">' for time in sorted(pictures))
    missing = thumbnails.missing.get(video)
    place = f'<span class="shots">{shown}</span>' if shown else ""
    place = place or (f'<span class="none">No thumbnails: {text(missing)}</span>' if missing else "")
    is_called = text(found.labels[right]) if right >= 0 else "none of the labels"
    return f"""<div class="panel mistake">{place}{path(video, thumbnails.links)}
<p><span class="wrong">{text(found.labels[int(found.answered[number])])}</span> {found.confidence[number]:.3f}</p>
<p class="dim">right: {is_called}</p></div>
"""


def _confusions(values: Mapping[str, Any]) -> str:
    if not values["confusions"]:
        return ""
    most = values["confusions"][0]["videos"]
    rows = "".join(
        f'<tr><td class="name">{text(each["right"])}</td><td class="name">{text(each["answered"])}</td>'
        f'<td>{bar(each["videos"] / most)}</td><td class="n">{each["videos"]:,}</td></tr>\n'
        for each in values["confusions"][:CONFUSIONS_SHOWN]
    )
    return f"""<section class="overview" id="confusions"><div class="panel"><h2>Most frequent mistakes</h2><table>
<thead><tr><th>label</th><th>answer</th><th></th><th class="n">videos</th></tr></thead>{rows}</table></div></section>"""


def _matrix(found: Evaluation, order: Sequence[int]) -> str:
    """A row a right label, a column an answer, as opaque as its share of the row; with names where there is room, else
    where one points."""
    if len(order) < 2:
        return ""
    cell = min(max(MATRIX_PIXELS // len(order), LEAST_CELL), LARGEST_CELL)
    side, margin = cell * len(order), NAMES_PIXELS if cell >= LEAST_NAMED else 0
    image = data_url("png", matrix_picture(found.confusion, order))
    names = "".join(
        f'<text x="-6" y="{(i + 0.5) * cell + 4:.0f}" text-anchor="end">{text(_short(found.labels[k]))}</text>'
        for i, k in enumerate(order if margin else ())
    )
    pointed = "".join(
        f'<rect y="{i * cell}" width="{side}" height="{cell}" opacity="0"><title>{text(found.labels[k])}</title></rect>'
        for i, k in enumerate(() if margin else order)
    )
    left = len(found.labels) - len(order)
    rest = f" {counted(left, 'label')} without videos, or with fewer mistakes, are left out." if left else ""
    return f"""<section id="matrix"><div class="panel"><h2>Right labels down, answers across</h2>
<div class="wide" tabindex="0">
<svg width="{side + margin}" height="{side}" viewBox="{-margin} 0 {side + margin} {side}" role="img"
aria-label="confusion matrix"><rect class="ground" width="{side}" height="{side}"/>{names}
<image width="{side}" height="{side}" href="{image}"/>{pointed}</svg></div>
<p class="meta">Right answers are on the diagonal, mistakes off it; a stronger colour is a larger share of a label's
videos (its square root, so that rare mistakes show). Labels that are often confused are next to each other, in the
order of the list below.{rest}</p></div></section>"""


def _short(label: str) -> str:
    return label if len(label) <= NAME_LENGTH else label[: NAME_LENGTH - 1] + "…"


def matrix_picture(confusion: npt.NDArray[Any], order: Sequence[int]) -> bytes:
    """A PNG of a pixel a cell, of the labels in ``order``."""
    counts = confusion[np.ix_(order, order)]
    shares = np.sqrt(counts / np.maximum(confusion[list(order)].sum(axis=1, keepdims=True), 1))
    pixels = np.empty((len(order), len(order), 4), np.uint8)
    pixels[..., :3] = WRONG
    pixels[np.arange(len(order)), np.arange(len(order)), :3] = RIGHT
    pixels[..., 3] = np.rint(np.where(shares > 0, FAINTEST + (1 - FAINTEST) * shares, 0) * 255)
    return png(pixels, 9)


def _reliability(found: Reliability | None) -> str:
    """Bars of accuracy over confidence; where scores are right they end at the line."""
    if found is None or not found.counts.any():
        return ""
    bins, side = len(found.counts), 300
    width = side / bins
    bars = "".join(
        f'<rect class="bin" x="{i * width + 1:.1f}" y="{side * (1 - share):.1f}" width="{width - 2:.1f}" '
        f'height="{max(side * share, 1):.1f}" opacity="{0.35 + 0.65 * min(1, count / found.counts.max()):.2f}">'
        f"<title>{counted(int(count), 'video')}: {share * 100:.0f}% right at {confidence:.2f}</title></rect>"
        for i, (count, confidence, share) in enumerate(zip(*found, strict=True))
        if count
    )
    return f"""<section id="reliability"><div class="panel"><h2>How often answers are right, by score</h2>
<svg viewBox="-46 -8 362 342" role="img" aria-label="reliability diagram">
<rect class="ground" width="{side}" height="{side}"/>
{bars}<line class="ideal" x1="0" y1="{side}" x2="{side}" y2="0"/>
<text x="0" y="318">0</text><text x="{side}" y="318" text-anchor="end">1</text>
<text x="{side / 2}" y="330" text-anchor="middle">score of the best label</text>
<text x="-6" y="10" text-anchor="end">100%</text><text x="-6" y="{side}" text-anchor="end">0</text></svg>
<p class="meta">If scores were probabilities, all bars would end at the line; pale bars have few videos. The mean
distance from the line is the calibration error.</p></div></section>"""


def _classes(found: Evaluation, order: Sequence[int], budget: Budget) -> str:
    if not order:
        return ""
    known = [k for k in order if found.class_accuracies[k] is not None]
    rows = list(budget.fitting(_class(found, k) for k in known))
    others = more(range(sum(each is not None for each in found.class_accuracies) - len(rows)), "label")
    return f"""<section class="overview" id="classes"><div class="panel"><h2>By label</h2><table>
<thead><tr><th></th><th></th><th class="n">%</th><th class="n">95%</th><th class="n">videos</th></tr></thead>
{"".join(rows)}</table>{others}</div></section>"""


def _class(found: Evaluation, k: int) -> str:
    accuracy = found.class_accuracies[k]
    assert accuracy is not None  # it has videos
    limits = f"{accuracy.low * 100:.0f} to {accuracy.high * 100:.0f}"
    return (
        f'<tr><td class="name">{text(found.labels[k])}</td><td>{bar(accuracy.value)}</td>'
        f'<td class="n">{accuracy.value * 100:.1f}</td><td class="n dim">{limits}</td>'
        f'<td class="n">{int(found.confusion[k].sum()):,}</td></tr>\n'
    )


def _footer(thumbnails: Thumbnails, budget: Budget) -> str:
    left_out = f"<p>{counted(budget.omitted, 'row')} did not fit on this page.</p>" if budget.omitted else ""
    return f"""<footer>{left_out}<p>Intervals are 95% confidence intervals: Wilson's for shares, MOVER for means.</p>
<p>{text(thumbnails.caption)}</p></footer>"""
