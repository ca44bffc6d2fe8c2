"""Results → one self-contained HTML page. Pure: records and pictures in, HTML out.

The page needs neither network nor script: its only script adds filtering and sorting, and its policy forbids everything
else. All texts from outside (names, labels, messages) are escaped by ``markup.text``, and nothing else writes them.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path

from ..results.reading import Results
from ..results.records import Error, RunHeader
from ..text import counted
from .cards import card
from .entries import Entry, Thumbnails
from .markup import bar, path, text

PAGE_BYTES = 24_000_000  # what comes after is counted, and not listed
OPEN_CARDS = 12  # as many videos are shown unfolded
MODELS_SHOWN = 3
OVERVIEW_FROM = 3  # videos
LABELS_COUNTED = 15  # rows of the overview
SLOWEST_SHOWN = 10
REVISION_LENGTH = 12  # characters
COMMAND_LENGTH = 2000  # characters shown
CODES_SHOWN = 8  # of errors, in the heading of the failures

TOOLS = """<div class="tools" hidden>
<input type="search" name="search" placeholder="Filter by name, label or warning" aria-label="Filter">
<select name="label" aria-label="Best label"><option value="">All labels</option></select>
<select name="order" aria-label="Sort">
<option value="file">In run order</option><option value="name">By name</option>
<option value="surest">Most confident first</option><option value="unsure">Least confident first</option>
<option value="slowest">Slowest first</option>
</select>
<button type="button">Open all</button><output></output>
</div>
"""

_Failed = tuple[str, Error]  # a video, and why it failed


def render(results: Results, thumbnails: Thumbnails, title: str) -> str:
    """The page; ``title`` is the name of what is reported. It stays under 25 MB."""
    failures = [(video.video, video.error) for video in results.videos if video.error]
    entries = [Entry(video) for video in results.videos if video.looked_at]
    budget = Budget(PAGE_BYTES)
    failed = _failures(failures, not entries, thumbnails.links, budget)  # made first: there must be room for them
    sections = {
        "videos": _cards(results, entries, thumbnails, budget),
        "overview": _overview(entries, thumbnails.links),
        "failures": failed,
    }
    heading = _heading(results, entries, failures, title, [name for name, section in sections.items() if section])
    body = heading + "".join(sections.values()) + "\n" + _footer(results, thumbnails, budget)
    return document(title, body, _asset("report.css"), _asset("report.js"))


def document(title: str, body: str, style: str, script: str = "") -> str:
    """A page that asks for nothing: its policy allows this style and script alone."""
    # The widths of bars are classes: the policy forbids style attributes.
    style += "\n".join(f".w{percent} {{ width: {percent}%; }}" for percent in range(101)) + "\n"
    scripts = f"script-src {_hash(script)}; " if script else ""
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; {scripts}"
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<main class="page">
{body}
</main>
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


class Budget:
    """Keeps the page under its limit."""

    def __init__(self, left: int) -> None:
        self._left = left  # bytes
        self.omitted = 0  # parts for which there was no room

    def fitting(self, parts: Iterable[str]) -> Iterator[str]:
        """The parts that fit."""
        for part in parts:
            size = len(part.encode())
            if size > self._left:
                self.omitted += 1
            else:
                self._left -= size
                yield part


def _asset(name: str) -> str:
    """The page's style or script."""
    return Path(__file__).with_name(name).read_text("utf-8")


def _hash(content: str) -> str:
    """A style or script as the policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"


def origin(header: RunHeader, facts: Sequence[str]) -> str:
    """When a run began, what it was made with, and its command."""
    said = [_date(header.began), *facts, header.xclip and f"xclip {header.xclip}", header.versions]
    shown = " · ".join(text(fact) for fact in said if fact)
    command = (
        f'\n<pre class="command" tabindex="0">{text(header.command, COMMAND_LENGTH)}</pre>' if header.command else ""
    )
    return f'<p class="facts">{shown}</p>{command}'


def _date(began: str | None) -> str | None:
    """The date of a header, to be read; as it is if it is none."""
    try:
        return began and f"{datetime.fromisoformat(began):%Y-%m-%d %H:%M %Z}"
    except ValueError:
        return began


def _heading(
    results: Results, entries: Sequence[Entry], failures: Sequence[_Failed], title: str, sections: Sequence[str]
) -> str:
    labels = {entry.best.label for entry in entries if entry.best}
    warned = sum(bool(entry.warnings) for entry in entries if not entry.error)
    done = "searched" if any(entry.moments for entry in entries) else "classified"
    tiles = [("", len(results.videos), "videos"), ("", len(results.videos) - len(failures), done)]
    tiles += [("bad", len(failures), "failed")] if failures else []
    tiles += [("", len(labels), "best label" if len(labels) == 1 else "different best labels")]
    tiles += [("", warned, "with warnings")] if warned else []
    cells = "".join(
        f'<div class="panel {style}"><dt>{what}</dt><dd>{number:,}</dd></div>' for style, number, what in tiles
    )
    notices = "".join(f"<li>{text(notice)}</li>" for notice in results.notices)
    ways = "".join(f'<a href="#{name}">{name.capitalize()}</a>' for name in sections)
    header = results.header or RunHeader()
    return f"""<header>
<p class="mark">xclip report</p>
<h1>{text(title)}</h1>
{origin(header, _facts(header, entries))}
<dl class="tiles">{cells}</dl>
{f'<ul class="notices">{notices}</ul>' if notices else ""}
{f'<nav aria-label="On this page">{ways}</nav>' if len(sections) > 1 else ""}
</header>
"""


def _facts(header: RunHeader, entries: Sequence[Entry]) -> list[str]:
    """What the run was made with."""
    models = list(dict.fromkeys(prediction.model for entry in entries for prediction in entry.predictions))
    facts = models[:MODELS_SHOWN] + (["and other models"] if len(models) > MODELS_SHOWN else [])
    for value, form in (
        (header.revision and header.revision[:REVISION_LENGTH], "revision {}"),
        (None if header.labels is None else counted(header.labels, "label"), "{}"),
        (None if header.num_frames is None else counted(header.num_frames, "frame"), "{} per clip"),
        (header.views, "{} views"),
        (header.preprocess, "{} preprocessing"),
        (header.dtype, "{}"),
    ):
        facts += [] if value is None else [form.format(value)]
    return facts


def _failures(failures: Sequence[_Failed], unfolded: bool, links: Mapping[str, str], budget: Budget) -> str:
    if not failures:
        return ""
    rows = "".join(
        budget.fitting(
            f'<li>{path(video, links)}<span class="chip">{text(error.code)}</span>'
            f'<span class="why">{text(error.message)}</span></li>\n'
            for video, error in failures
        )
    )
    codes = Counter(error.code for _, error in failures)
    kinds = ", ".join(f"{count:,} {text(code)}" for code, count in codes.most_common(CODES_SHOWN))
    # The list has the id: a browser unfolds what is around the place that an address leads to.
    return f"""<section><details class="panel failures"{" open" if unfolded else ""}>
<summary><h2>{len(failures):,} failed: {kinds}</h2></summary><ul id="failures">{rows}</ul></details></section>
"""


def _overview(entries: Sequence[Entry], links: Mapping[str, str]) -> str:
    if len(entries) < OVERVIEW_FROM:
        return ""
    panels = [panel for panel in (_best_labels(entries), _slowest(entries, links)) if panel]
    style = "overview two" if len(panels) == 2 else "overview"
    return f'<section id="overview" class="{style}">{"".join(panels)}</section>\n' if panels else ""


def _best_labels(entries: Sequence[Entry]) -> str:
    counts = Counter(entry.best.label for entry in entries if entry.best)
    if not counts:
        return ""
    shown = counts.most_common(LABELS_COUNTED)
    most = shown[0][1]
    rows = "".join(
        f'<tr><td class="name" data-label>{text(label)}</td><td>{bar(count / most)}</td>'
        f'<td class="n">{count:,}</td></tr>\n'
        for label, count in shown
    )
    if others := counts.total() - sum(count for _, count in shown):
        rows += (
            f'<tr class="dim"><td class="name">{counted(len(counts) - LABELS_COUNTED, "other label")}</td><td></td>'
            f'<td class="n">{others:,}</td></tr>'
        )
    return f'<div class="panel"><h2>Best labels, by number of videos</h2><table>{rows}</table></div>'


def _slowest(entries: Sequence[Entry], links: Mapping[str, str]) -> str:
    timed = [(entry.video, entry.spent) for entry in entries if entry.spent]
    if not timed:
        return ""
    timed.sort(key=lambda each: -(each[1].decode + each[1].model))
    rows = "".join(
        f'<tr><td>{path(video, links)}</td><td class="n">{spent.decode:.2f}</td>'
        f'<td class="n">{spent.model:.2f}</td></tr>\n'
        for video, spent in timed[:SLOWEST_SHOWN]
    )
    return f"""<div class="panel"><h2>Slowest videos, in seconds</h2><table>
<thead><tr><th></th><th class="n">decoding</th><th class="n">model</th></tr></thead>{rows}</table></div>"""


def _cards(results: Results, entries: Sequence[Entry], thumbnails: Thumbnails, budget: Budget) -> str:
    if not entries:
        return ""
    unfolded = len(entries) <= OPEN_CARDS
    labels = results.header.labels if results.header else None
    cards = "".join(budget.fitting(card(entry, thumbnails, unfolded, labels) for entry in entries))
    return f'<section id="videos"><h2>Videos</h2>{TOOLS}<div class="cards">{cards}</div></section>\n'


def _footer(results: Results, thumbnails: Thumbnails, budget: Budget) -> str:
    meaning = (
        "how well a label fits compared with neutral texts, whatever the other labels score"
        if results.header and results.header.multi_label
        else "which of the given labels fits best (softmax over all of them)"
    )
    calibrated = any(video.prediction and video.prediction.calibrated for video in results.videos)
    caution = (
        "it was calibrated to be the probability that the label is right"
        if calibrated
        else "it is not calibrated, so it is not the probability that the label is right"
    )
    omitted = (
        f"<p>{counted(budget.omitted, 'video')} did not fit on this page, which stays under 25 MB: they are counted "
        "above, but not listed.</p>"
        if budget.omitted
        else ""
    )
    return f"""<footer>{omitted}
<p>A score says {meaning}; {caution}. The logit is the similarity that it
comes from.</p>
<p>{text(thumbnails.caption)}</p>
</footer>"""
