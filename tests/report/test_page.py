from __future__ import annotations

import base64
import hashlib
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
from pages import HEADER, SHOWN, failure, hostile_page, page, picture, record, thousands, timeline
from PIL import Image

from xclip_cli.report.cards import shades
from xclip_cli.report.entries import Thumbnails
from xclip_cli.results.records import (
    Error,
    Moment,
    Seconds,
    SegmentsRecord,
    WindowRecord,
)


class Reader(HTMLParser):
    """Texts and attributes of a page, and whether its tags fit each other."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "link", "img", "input", "wbr"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("style", "script") and data.strip():
            self.texts.append(data.strip())


def test_a_page_says_whether_scores_are_calibrated() -> None:
    for calibrated, said in ((None, "it is not calibrated"), (True, "it was calibrated to be the probability")):
        assert said in page(record("a.mp4", ["a cat"], [0.9], calibrated=calibrated))


def test_a_page_says_what_there_is() -> None:
    texts = Reader(
        page(
            HEADER,
            record("clips/a.mp4", ["a cat", "a dog"], [0.9, 0.1], warnings=("only 3 different frames",)),
            record("b.mp4", ["a dog", "a cat"], [0.75, 0.25]),
            record("c.mp4", ["a dog", "a cat"], [0.5, 0.5], seconds=Seconds(1.25, 3.5)),
            failure("d.mp4", "damaged", "none of 12 packets"),
        )
    ).texts
    text = " | ".join(texts)
    assert "the-model · 7 labels · float32 · xclip 1.2.3" in texts
    assert "videos | 4 | classified | 3 | failed | 1 | different best labels | 2 | with warnings | 1" in text
    assert "1 failed: 1 damaged | d.mp4 | damaged | none of 12 packets" in text
    assert "a dog | 2 | a cat | 1" in text
    assert "c.mp4 | 1.25 | 3.50" in text
    assert "a.mp4 | clips/ | a cat | 0.900" in text
    assert "a dog | 0.750 | 20.00 | a cat | 0.250 | 20.00" in text
    assert "only 3 different frames" in texts
    assert "0:00.0 to 0:04.0 · 4 frames · the-model · took 4.75 s" in texts


def test_videos_come_first_and_failures_are_folded_under_their_count() -> None:
    videos = [record(f"{i}.mp4", ["x"], [1.0]) for i in range(3)]
    failed = [failure("lost.mp4"), failure("gone.mp4"), failure("bad.mp4", "damaged", "none of 12 packets")]
    reader = Reader(page(failed[0], *videos, *failed[1:]))
    places = [reader.texts.index(each) for each in ("Videos", "0.mp4", "Best labels, by number of videos", "lost.mp4")]
    assert places == sorted(places)
    assert "3 failed: 2 missing, 1 damaged | lost.mp4 | missing | no such file | gone.mp4" in " | ".join(reader.texts)
    folds = [attributes for tag, attributes in reader.tags if tag == "details" and "failures" in str(attributes)]
    assert folds == [{"class": "panel failures"}]
    ways = [attributes["href"] for tag, attributes in reader.tags if tag == "a"]
    assert ways == ["#videos", "#overview", "#failures"]
    assert {way[1:] for way in map(str, ways)} <= {attributes.get("id") for _, attributes in reader.tags}
    assert '<details class="panel failures" open>' in page(*failed)  # there is nothing else to see


def test_a_page_says_when_how_and_with_what_its_records_were_made() -> None:
    one = record("a.mp4", ["x"], [1.0])
    made = {
        "command": "xclip classify 'a b.mp4'",
        "versions": "PyTorch 2.13.0, PyAV 18.1.0",
        "revision": "0123456789abcdef",
    }
    header = replace(HEADER, labels=1, num_frames=8, began="2026-11-26T20:15:02+00:00", **made)
    reader = Reader(page(header, one))
    assert (
        "2026-11-26 20:15 UTC · the-model · revision 0123456789ab · 1 label · 8 frames per clip · float32 · "
        "xclip 1.2.3 · PyTorch 2.13.0, PyAV 18.1.0"
    ) in reader.texts
    assert "xclip classify 'a b.mp4'" in reader.texts
    assert "yesterday · the-model" in page(replace(HEADER, began="yesterday"), one)
    assert '<pre class="command"' not in page(HEADER, one)


def test_names_lead_to_the_files_that_have_an_address() -> None:
    records = [
        *(record(f"v/{name}.mp4", ["x"], [1.0], seconds=Seconds(1, 1)) for name in "abc"),
        failure("v/d.mp4", "damaged"),
        failure("v/e.mp4"),
    ]
    addresses = {f"v/{name}.mp4": f"../{name}%20.mp4" for name in "abd"}
    reader = Reader(page(*records, thumbnails=Thumbnails(links=addresses)))
    leading = [str(attributes["href"]) for tag, attributes in reader.tags if tag == "a"][3:]
    cards, slowest, failures = leading[:2], leading[2:4], leading[4:]
    assert cards == slowest == ["../a%20.mp4", "../b%20.mp4"]
    assert failures == ["../d%20.mp4"]
    assert reader.texts.count("c.mp4") == 2


def test_a_page_of_moments_says_that_videos_were_searched() -> None:
    texts = " | ".join(Reader(page(HEADER, Moment("a dog", 1, "a.mp4", 0.0, 1.0, 0.5))).texts)
    assert "videos | 1 | searched | 1" in texts


def test_pictures_stand_with_their_times_and_reasons_where_there_are_none() -> None:
    red = picture()
    thumbnails = Thumbnails({"a.mp4": {0.5: red, 2.5: picture((0, 0, 255))}}, {"b.mp4": "no such file"}, "The rule.")
    html = page(record("a.mp4", ["x"], [1.0]), record("b.mp4", ["x"], [1.0]), thumbnails=thumbnails)
    reader = Reader(html)
    sources = [attributes for tag, attributes in reader.tags if tag == "img"]
    assert [image["alt"] for image in sources] == ["frame at 0:00.5", "frame at 0:02.5"]
    assert base64.b64decode(str(sources[0]["src"]).partition("base64,")[2]) == red
    assert "No thumbnails: no such file" in reader.texts
    assert "The rule." in reader.texts


def test_a_timeline_is_a_heat_map_with_segments() -> None:
    windows, segments = timeline("a.mp4")
    reader = Reader(page(*windows, segments, thumbnails=Thumbnails({"a.mp4": {2.0: picture()}})))
    rows = [attributes for tag, attributes in reader.tags if attributes.get("class") == "row"]
    heat = [np.asarray(Image.open(io.BytesIO(base64.b64decode(str(row["src"]).partition(",")[2])))) for row in rows]
    assert [row["alt"] for row in rows] == ["highest at 0:00.0, 1.00", "highest at 0:05.0, 1.00"]
    assert heat[0].shape == (1, 40, 4)
    assert heat[0][0, :, 3].tolist() == [255] * 20 + [0] * 20
    assert heat[1][0, :, 3].tolist() == [0] * 20 + [255] * 20
    text = " | ".join(reader.texts)
    assert "a cat | a dog | 0:00.0 | 0:02.5 | 0:05.0 | 0:07.5 | 0:10.0" in text
    assert "0:00.0 to 0:05.0 | a cat | 1.000 | 0:05.0 to 0:10.0 | a dog | 1.000" in text
    assert "0:00.0 to 0:10.0 · 10 windows · the-model" in text
    assert [attributes["alt"] for _, attributes in reader.tags if "jpeg" in str(attributes.get("src"))] == [
        "frame at 0:02.0",
        "frame at 0:02.0",
    ]  # when folded, and under the heat map


def test_labels_that_no_record_holds_are_counted() -> None:
    windows, segments = timeline("a.mp4")
    assert "and 4 labels with lower scores" in page(replace(HEADER, labels=14), *windows, segments)
    assert "with lower scores" not in page(replace(HEADER, labels=2), *windows, segments)


def test_timelines_that_are_not_whole_say_so() -> None:
    windows, segments = timeline("a.mp4")
    assert "the timeline is incomplete: the run ended after 10 of its windows" in page(*windows)
    assert "the timeline is incomplete: it has 9 of 10 windows" in page(*windows[1:], segments)
    assert "not complete" not in page(*windows, segments)
    twice = WindowRecord(replace(windows[0].result, end_seconds=9.5))
    assert "its windows do not form a timeline" in page(*windows, segments, twice)


def test_timelines_show_what_is_lost_and_where_they_broke_off() -> None:
    windows, _ = timeline("a.mp4")
    lost = failure("a.mp4", "damaged", "too damaged", start_seconds=3.0, end_seconds=4.0)
    windows[3] = WindowRecord(lost)
    whole = SegmentsRecord("a.mp4", (), 10)
    text = " | ".join(Reader(page(*windows, whole)).texts)
    assert "videos | 1 | classified | 1" in text
    assert "lost to an error (damaged) (in 1 of 10 windows)" in text
    assert "not complete" not in text
    broken = replace(whole, error=Error("crashed", "the decoder crashed"))
    html = page(*windows, broken)
    text = " | ".join(Reader(html).texts)
    assert "videos | 1 | classified | 0 | failed | 1" in text
    assert "1 failed: 1 crashed" in text
    assert "failed: the decoder crashed | lost to an error" in text
    assert html.count('class="heat"') == 1
    assert "not complete" not in text


def test_what_a_timeline_took_is_what_its_windows_took() -> None:
    windows, whole = timeline("a.mp4")
    windows = [WindowRecord(replace(window.result, seconds=Seconds(0.25, 0.5))) for window in windows]
    assert "took 7.50 s" in page(*windows, whole)


def test_the_page_says_what_its_scores_are() -> None:
    one = record("a.mp4", ["x"], [1.0])
    assert "A score says which of the given labels fits best" in page(HEADER, one)
    assert "A score says how well a label fits compared with neutral texts" in page(
        replace(HEADER, multi_label=True), one
    )


def test_a_row_of_shades_is_a_png() -> None:
    image = Image.open(io.BytesIO(shades([0.0, 0.5, 1.0])))
    assert (image.size, image.mode) == ((3, 1), "RGBA")
    assert [pixel[3] for pixel in np.asarray(image)[0].tolist()] == [0, 128, 255]


def test_hostile_text_stays_text() -> None:
    html = hostile_page()
    html.encode("utf-8")
    reader = Reader(html)
    known = {"class", "name", "content", "charset", "http-equiv", "lang", "rel", "href", "id", "open", "hidden", "type"}
    known |= {
        "tabindex",
        "src",
        "alt",
        "title",
        "value",
        "aria-label",
        "placeholder",
        "data-label",
        "data-score",
        "data-seconds",
    }
    assert {name for _, attributes in reader.tags for name in attributes} <= known
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert {tag for tag, _ in reader.tags if tag in ("b", "iframe", "object", "svg")} == set()
    assert all(str(a["src"]).startswith("data:image/") for tag, a in reader.tags if tag == "img")
    assert SHOWN in reader.texts


def test_the_policy_allows_the_pages_own_style_and_script_alone() -> None:
    html = page(record("a.mp4", ["x"], [1.0]))
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]+)"', html)
    for kind in ("style", "script"):
        (text,) = re.findall(f"<{kind}>(.*?)</{kind}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert "unsafe" not in policy
    assert not re.findall(r'https?://|\ssrc="(?!data:)|url\(|@import|\son\w+=|\sstyle="', html)


def test_long_texts_are_cut() -> None:
    html = page(record("a.mp4", ["long " * 100_000], [1.0]), failure("b" * 100_000, "c" * 100_000, "d" * 100_000))
    assert len(html) < 40_000
    assert "…" in html


def test_few_videos_are_unfolded_and_many_folded() -> None:
    few = [record(f"{i}.mp4", ["x"], [1.0]) for i in range(2)]
    many = [record(f"{i}.mp4", ["x"], [1.0]) for i in range(100)]
    assert page(*few).count('" open>') == 2
    assert page(*many).count('" open>') == 0


def test_five_thousand_videos_fit() -> None:
    records, thumbnails = thousands(5000)
    html = page(*records, thumbnails=thumbnails)
    assert len(html.encode()) < 25_000_000
    assert html.count('<details class="card"') == 4900
    assert "did not fit" not in html


def test_a_page_never_grows_over_its_limit() -> None:
    records, thumbnails = thousands(6000, 12_000)
    html = page(*records, thumbnails=thumbnails)
    assert 20_000_000 < len(html.encode()) < 25_000_000
    shown = html.count('<details class="card"')
    assert f"{5880 - shown:,} videos did not fit on this page" in html
