"""Results → one self-contained HTML page. Pure: records and pictures in, HTML out.

The page needs neither network nor script: its only script adds filtering and sorting, and its policy forbids everything
else. All texts from outside (names, labels, messages) are escaped by ``_text``, and nothing else writes them.
"""

from __future__ import annotations

import base64
import hashlib
import struct
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from ..results.reading import Json, Results, VideoResult
from ..text import clock, printable
from ..timeline import Remarks, Segment, Timeline, combine, leading, lost, resample, windows_of

PAGE_BYTES = 24_000_000  # what comes after is counted, and not listed
TEXT_LENGTH = 400  # characters shown of a text
OPEN_CARDS = 12  # as many videos are shown unfolded
FEW_FRAMES = 4  # as many frames are shown larger
FAILURES_SHOWN = 8  # the others are folded away
LABELS_SHOWN = 10  # of a video; also rows of a heat map
MODELS_SHOWN = 3
OVERVIEW_FROM = 3  # videos
LABELS_COUNTED = 15  # rows of the overview
SLOWEST_SHOWN = 10
SEGMENTS_SHOWN = 200
HEAT_COLUMNS = 240
HEAT_COLOUR = (20, 148, 132)  # read on light and on dark ground


@dataclass
class Thumbnails:
    """Pictures for a report."""

    pictures: Mapping[str, Mapping[float, bytes]] = field(default_factory=dict)  # video → time in seconds → JPEG
    missing: Mapping[str, str] = field(default_factory=dict)  # video → why there are none
    rule: str = "There are no pictures: they were not asked for."  # which frames are shown


def render(results: Results, thumbnails: Thumbnails, title: str) -> str:
    """The page; ``title`` is the name of what is reported. It stays under 25 MB."""
    failures = [video for video in results.videos if video.error]
    entries = [_Entry(video) for video in results.videos if video.looked_at]
    style, script = _asset("css"), _asset("js")
    policy = f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
    budget = _Budget(PAGE_BYTES - sum(map(len, (style, script))))
    sections = [
        _heading(results, entries, failures, title),
        _failures(failures, budget),
        _overview(entries),
        _cards(entries, thumbnails, budget),
    ]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{_text(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<div class="page">
{"".join(sections)}
{_footer(results, thumbnails, budget)}
</div>
<script>{script}</script>
</body>
</html>
"""


class _Budget:
    """Keeps the page under its limit."""

    def __init__(self, left: int) -> None:
        self._left = left
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


def _asset(suffix: str) -> str:
    """The page's style or script; the list of bar widths, which policies forbid as attributes, is made here."""
    text = Path(__file__).with_name(f"report.{suffix}").read_text("utf-8")
    if suffix == "css":
        text += "\n".join(f".w{percent} {{ width: {percent}%; }}" for percent in range(101)) + "\n"
    return text


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


def _text(value: object) -> str:
    """Anything from outside as HTML text or attribute value: visible characters alone, of bounded length."""
    shown = printable(str(value)[:TEXT_LENGTH])
    return escape(shown + ("…" if len(str(value)) > TEXT_LENGTH else ""))


def _path(video: str) -> str:
    """A path: the name, and less prominent its folder."""
    folder, slash, name = video.rpartition("/")
    breakable = _text(folder + slash).replace("/", "/<wbr>")
    below = f'<span class="folder">{breakable}</span>' if slash else ""
    return f'<span class="path">{_text(name)}{below}</span>'


def _bar(share: float) -> str:
    """A bar of ``share`` (0 to 1) of its place."""
    return f'<span class="track"><span class="bar w{min(max(round(share * 100), 0), 100)}"></span></span>'


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


@dataclass(frozen=True)
class _Best:
    """What a video is, in a line."""

    label: str
    score: float


class _Entry:
    """A video of the report, and what is worked out of its records."""

    def __init__(self, result: VideoResult) -> None:
        self.video = result.video
        self.error = result.error
        self.record = None if result.error else result.record
        self.windows = result.windows
        self.num_windows = result.segments["num_windows"] if result.segments else None
        rows = result.segments["segments"] if result.segments else []
        self.segments = [Segment(**{key: row[key] for key in Segment.__dataclass_fields__}) for row in rows]
        self.timeline = self._timeline()
        self.best = self._best()
        self.warnings = self._warnings()
        self.spent = self._spent()

    @property
    def seconds(self) -> float | None:
        """What the video took in all."""
        return None if self.spent is None else self.spent["decode"] + self.spent["model"]

    def _spent(self) -> dict[str, float] | None:
        """What the video took, in seconds, if that is known."""
        parts = [record for record in (self.record, *self.windows) if record]
        known = [part["seconds"] for part in parts if part.get("seconds")]
        return {key: sum(seconds[key] for seconds in known) for key in ("decode", "model")} if known else None

    def _timeline(self) -> Timeline | None:
        try:
            return combine(windows_of(self.windows))
        except ValueError:
            return None

    def _best(self) -> _Best | None:
        """The best label, or the one that lasts longest."""
        if self.record and self.record["predictions"]:
            first = self.record["predictions"][0]
            return _Best(first["label"], first["score"])
        seconds: dict[str, float] = {}
        weighted: dict[str, float] = {}
        for segment in self.segments:
            seconds[segment.label] = seconds.get(segment.label, 0) + segment.seconds
            weighted[segment.label] = weighted.get(segment.label, 0) + segment.seconds * segment.score
        if not any(seconds.values()):
            return None
        label = max(seconds, key=lambda label: seconds[label])
        return _Best(label, weighted[label] / seconds[label])

    def _warnings(self) -> list[str]:
        """All warnings, each once."""
        warnings = [f"failed: {self.error['message']}"] if self.error else []
        warnings += self.record["warnings"] if self.record else []
        remarks = Remarks()
        for window in self.windows:
            remarks.add([*window["warnings"], *([lost(window["error"]["code"])] if "error" in window else [])])
        warnings += remarks.texts()
        there = len(self.windows)
        if there and self.num_windows is None:
            warnings.append(f"the timeline is not complete: the run ended after {there:,} of its windows")
        elif self.num_windows is not None and self.num_windows != there:
            warnings.append(f"the timeline is not complete: {there:,} of {self.num_windows:,} windows are there")
        if self.windows and self.timeline is None:
            warnings.append("its windows make no timeline: they do not begin and end in order of time")
        return list(dict.fromkeys(warnings))


def _heading(results: Results, entries: Sequence[_Entry], failures: Sequence[VideoResult], title: str) -> str:
    labels = {entry.best.label for entry in entries if entry.best}
    warned = sum(bool(entry.warnings) for entry in entries if not entry.error)
    tiles = [("", len(results.videos), "videos"), ("", len(results.videos) - len(failures), "classified")]
    tiles += [("bad", len(failures), "failed")] if failures else []
    tiles += [("", len(labels), "best label" if len(labels) == 1 else "different best labels")]
    tiles += [("", warned, "with warnings")] if warned else []
    cells = "".join(
        f'<div class="panel {style}"><dt>{what}</dt><dd>{number:,}</dd></div>' for style, number, what in tiles
    )
    notices = "".join(f"<li>{_text(notice)}</li>" for notice in results.notices)
    return f"""<header>
<p class="mark">xclip report</p>
<h1>{_text(title)}</h1>
<p class="facts">{_facts(results)}</p>
<dl class="tiles">{cells}</dl>
{f'<ul class="notices">{notices}</ul>' if notices else ""}
</header>
"""


def _facts(results: Results) -> str:
    """What the run was made with."""
    header = results.header or {}
    records = (record for video in results.videos for record in (video.record, *video.windows) if record)
    models = list(dict.fromkeys(record["model"] for record in records if "model" in record))
    facts = models[:MODELS_SHOWN] + (["and other models"] if len(models) > MODELS_SHOWN else [])
    for key, form in (
        ("labels", "{} labels"),
        ("num_frames", "{} frames a clip"),
        ("views", "{} views"),
        ("preprocess", "{} preprocessing"),
        ("dtype", "{}"),
        ("xclip", "xclip {}"),
    ):
        if header.get(key) is not None:
            facts.append(form.format(header[key]))
    return " · ".join(map(_text, facts))


def _failures(failures: Sequence[VideoResult], budget: _Budget) -> str:
    if not failures:
        return ""
    rows = []
    for video in failures:
        error = video.error or {}
        rows.append(
            f'<li>{_path(video.video)}<span class="chip">{_text(error["code"])}</span>'
            f'<span class="why">{_text(error["message"])}</span></li>\n'
        )
    rows = list(budget.fitting(rows))
    first, rest = rows[:FAILURES_SHOWN], rows[FAILURES_SHOWN:]
    codes = Counter(str((video.error or {})["code"]) for video in failures)
    kinds = ", ".join(f"{count:,} {_text(code)}" for code, count in codes.most_common(8))
    more = f"<details><summary>and {len(rest):,} more</summary><ul>{''.join(rest)}</ul></details>" if rest else ""
    return f"""<section id="failures"><h2>Failed: {kinds}</h2>
<div class="panel failures"><ul>{"".join(first)}</ul>{more}</div></section>
"""


def _overview(entries: Sequence[_Entry]) -> str:
    counts = Counter(entry.best.label for entry in entries if entry.best)
    timed = sorted((entry for entry in entries if entry.seconds is not None), key=lambda entry: -(entry.seconds or 0))
    if len(entries) < OVERVIEW_FROM:
        return ""
    panels = []
    if counts:
        most = counts.most_common(1)[0][1]
        rows = "".join(
            f'<tr><td class="name" data-label>{_text(label)}</td><td>{_bar(count / most)}</td>'
            f'<td class="n">{count:,}</td></tr>\n'
            for label, count in counts.most_common(LABELS_COUNTED)
        )
        others = counts.total() - sum(count for _, count in counts.most_common(LABELS_COUNTED))
        if others:
            rows += (
                f'<tr class="dim"><td class="name">{_count(len(counts) - LABELS_COUNTED, "other label")}</td><td></td>'
                f'<td class="n">{others:,}</td></tr>'
            )
        panels.append(f'<div class="panel"><h2>Best labels, by number of videos</h2><table>{rows}</table></div>')
    if timed:
        panels.append(_slowest(timed))
    style = "overview two" if len(panels) == 2 else "overview"
    return f'<section class="{style}">{"".join(panels)}</section>\n' if panels else ""


def _slowest(slowest: Sequence[_Entry]) -> str:
    rows = "".join(
        f'<tr><td>{_path(entry.video)}</td><td class="n">{entry.spent["decode"]:.2f}</td>'
        f'<td class="n">{entry.spent["model"]:.2f}</td></tr>\n'
        for entry in slowest[:SLOWEST_SHOWN]
        if entry.spent
    )
    return f"""<div class="panel"><h2>Slowest videos, in seconds</h2><table>
<thead><tr><th></th><th class="n">decoding</th><th class="n">model</th></tr></thead>{rows}</table></div>"""


TOOLS = """<div class="tools" hidden>
<input type="search" name="search" placeholder="Filter by name, label or warning" aria-label="Filter">
<select name="label" aria-label="Best label"><option value="">All labels</option></select>
<select name="order" aria-label="Order">
<option value="file">In the order of the run</option><option value="name">By name</option>
<option value="surest">Surest first</option><option value="unsure">Least sure first</option>
<option value="slowest">Slowest first</option>
</select>
<button type="button">Open all</button><output></output>
</div>
"""


def _cards(entries: Sequence[_Entry], thumbnails: Thumbnails, budget: _Budget) -> str:
    if not entries:
        return ""
    unfolded = len(entries) <= OPEN_CARDS
    cards = "".join(budget.fitting(_card(entry, thumbnails, unfolded) for entry in entries))
    return f'<section id="videos"><h2>Videos</h2>{TOOLS}<div class="cards">{cards}</div></section>\n'


def _card(entry: _Entry, thumbnails: Thumbnails, unfolded: bool) -> str:
    best = entry.best
    label, score = (_text(best.label), f"{best.score:.3f}") if best else ("no label", "")
    attributes = f' data-score="{best.score if best else -1:.6f}" data-seconds="{entry.seconds or 0:.3f}"'
    pictures = thumbnails.pictures.get(entry.video, {})
    body = [] if entry.num_windows is None and not entry.windows else [_heat_map(entry, pictures), _segment_list(entry)]
    body += [_ranks(entry.record["predictions"])] if entry.record else []
    warnings = "".join(f"<li>{_text(warning)}</li>" for warning in entry.warnings)
    body += [f'<ul class="warnings">{warnings}</ul>'] if warnings else []
    body += [f'<p class="meta">{_meta(entry)}</p>']
    return f"""<details class="card"{attributes}{" open" if unfolded else ""}><summary>
{_frames(entry, pictures)}{_path(entry.video)}<span class="best">{label}</span><span class="score">{score}</span>
{_gone(thumbnails.missing.get(entry.video))}</summary><div class="body">{"".join(body)}</div></details>
"""


def _gone(reason: str | None) -> str:
    return f'<span class="gone">No pictures: {_text(reason)}</span>' if reason else ""


def _frames(entry: _Entry, pictures: Mapping[float, bytes]) -> str:
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
    picture = f'<img src="{_data("jpeg", jpeg)}" alt="frame at {at}">'
    return f'<span class="{style}">{picture}<span class="at">{at}</span></span>'


def _data(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _ranks(predictions: Sequence[Json]) -> str:
    rows = "".join(
        f'<tr><td class="name">{_text(ranked["label"])}</td><td>{_bar(ranked["score"])}</td>'
        f'<td class="n">{ranked["score"]:.3f}</td><td class="n dim">{ranked["logit"]:.2f}</td></tr>\n'
        for ranked in predictions[:LABELS_SHOWN]
    )
    more = _more(predictions[LABELS_SHOWN:], "label", " with lower scores")
    return f"""<table class="ranks"><thead><tr><th class="name">label</th><th></th><th class="n">score</th>
<th class="n">logit</th></tr></thead><tbody>{rows}</tbody></table>{more}"""


def _more(hidden: Sequence[object], what: str, how: str = "") -> str:
    """How many there are besides those shown."""
    return f'<p class="meta">and {_count(len(hidden), what)}{how}</p>' if hidden else ""


def _meta(entry: _Entry) -> str:
    """What was looked at, in a line."""
    facts: list[str] = []
    if record := entry.record:
        frames = record["frames"]
        facts += [f"{clock(record['start_seconds'], 1)} to {clock(record['end_seconds'], 1)}"]
        facts += [_count(frames["requested"], "frame")]
        facts += [f"{frames['repeated']:,} of them repeated"] if frames["repeated"] else []
        facts += [f"{frames['errors']:,} damaged ones skipped"] if frames["errors"] else []
        facts += [record["model"]]
    if entry.windows:
        first = min(window["start_seconds"] for window in entry.windows)
        last = max(window["end_seconds"] for window in entry.windows)
        facts += [f"{clock(first, 1)} to {clock(last, 1)}", _count(len(entry.windows), "window")]
        facts += [next(window["model"] for window in entry.windows if "model" in window)] if entry.timeline else []
    facts += [f"took {entry.seconds:.2f} s"] if entry.seconds is not None else []
    return " · ".join(map(_text, facts))


def _heat_map(entry: _Entry, pictures: Mapping[float, bytes]) -> str:
    """A row a label, shaded by score over time, with the frames under their times."""
    timeline = entry.timeline
    if timeline is None or not timeline.labels:
        return ""
    columns = min(HEAT_COLUMNS, 4 * len(timeline.scores))
    shares = resample(timeline, columns)
    rows = "".join(
        f'<span class="name" title="{_text(timeline.labels[k])}">{_text(timeline.labels[k])}</span>'
        f'<img class="row" alt="{_in_words(timeline, k)}" src="{_data("png", shades(shares[:, k].tolist()))}">\n'
        for k in leading(timeline, LABELS_SHOWN)
    )
    first, last = float(timeline.edges[0]), float(timeline.edges[-1])
    ticks = [clock(first + (last - first) * part / 4, 0 if last - first >= 60 else 1) for part in range(5)]
    times = sorted(time for time in pictures if first <= time <= last)
    style = "strip twelve" if len(times) == 12 else "strip"
    strip = "".join(f'<img src="{_data("jpeg", pictures[time])}" alt="frame at {clock(time, 1)}">' for time in times)
    more = _more(timeline.labels[LABELS_SHOWN:], "label", " with lower scores")
    return f"""<div class="heat">{rows}<span class="axis">{"".join(f"<span>{tick}</span>" for tick in ticks)}</span>
<div class="{style}">{strip}</div></div>{more}"""


def _in_words(timeline: Timeline, k: int) -> str:
    peak = int(timeline.scores[:, k].argmax())
    return f"highest at {clock(float(timeline.edges[peak]), 1)}, {timeline.scores[peak, k]:.2f}"


def _segment_list(entry: _Entry) -> str:
    segments = entry.segments
    if not segments:
        return '<p class="meta">No segment is long and sure enough.</p>' if entry.num_windows else ""
    rows = "".join(
        f'<tr><td class="when">{clock(segment.start_seconds, 1)} to {clock(segment.end_seconds, 1)}</td>'
        f'<td>{_text(segment.label)}</td><td class="n">{segment.score:.3f}</td></tr>\n'
        for segment in segments[:SEGMENTS_SHOWN]
    )
    more = _more(segments[SEGMENTS_SHOWN:], "later segment")
    return f"""<div class="scroll"><table class="segments"><thead><tr><th>time</th><th>label</th>
<th class="n">score</th></tr></thead><tbody>{rows}</tbody></table></div>{more}"""


def shades(shares: Sequence[float]) -> bytes:
    """A PNG of one row: a pixel a share (0 to 1), of one colour, as opaque as the share."""
    pixels = b"".join(bytes((*HEAT_COLOUR, round(share * 255))) for share in shares)
    header = struct.pack(">IIBBBBB", len(shares), 1, 8, 6, 0, 0, 0)  # 8 bits each of red, green, blue and opacity
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" + pixels, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )


def _footer(results: Results, thumbnails: Thumbnails, budget: _Budget) -> str:
    meaning = (
        "how a label does against neutral texts, whatever the other labels do"
        if (results.header or {}).get("multi_label")
        else "which of the given labels fits best (softmax over all of them)"
    )
    omitted = (
        f"<p>{_count(budget.omitted, 'video')} found no room on this page, which stays under 25 MB: they are counted "
        "above, and not listed.</p>"
        if budget.omitted
        else ""
    )
    return f"""<footer>{omitted}
<p>A score says {meaning}; it is no probability that the label is
right, and it is not calibrated. The logit is the similarity behind it.</p>
<p>{_text(thumbnails.rule)}</p>
</footer>"""
