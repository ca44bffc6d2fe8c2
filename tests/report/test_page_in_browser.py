from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import Browser
from pages import HEADER, SHOWN, failure, hostile_page, page, picture, record, thousands

from xclip_cli.report.entries import Thumbnails


@pytest.fixture(scope="module", params=[True, False], ids=["script", "no script"])
def browser(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile"), script=request.param) as found:
        yield found


def opened(browser: Browser, html: str, folder: Path) -> Browser:
    """A page in the browser, which has said nothing and asked for nothing else."""
    path = folder / "report.html"
    path.write_text(html, "utf-8")
    browser.said.clear()
    browser.requested.clear()
    browser.open(path)
    browser.evaluate("new Promise(done => setTimeout(done, 200))" if browser.script else "0")
    assert browser.said == []
    assert browser.requested == [path.as_uri()]
    return browser


@pytest.mark.slow
def test_a_browser_shows_hostile_text_as_text(browser: Browser, tmp_path: Path) -> None:
    browser.view(1280)
    opened(browser, hostile_page(), tmp_path)
    assert browser.evaluate("document.title").startswith("<script>")
    names = browser.evaluate("[...document.querySelectorAll('.card .best')].map(each => each.textContent)")
    assert names[0] == SHOWN
    assert browser.evaluate("document.querySelectorAll('b, img:not([src^=\"data:\"])').length") == 0
    assert browser.evaluate("document.querySelectorAll('script').length") == 1


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_nothing_sticks_out(browser: Browser, tmp_path: Path, width: int, dark: bool) -> None:
    browser.view(width, dark=dark)
    opened(browser, hostile_page(), tmp_path)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    red, green, blue = map(int, re.findall(r"\d+", browser.evaluate("getComputedStyle(document.body).backgroundColor")))
    assert (red + green + blue < 3 * 60) == dark
    broken = "[...document.images].filter(each => each.complete && !each.naturalWidth).length"
    assert browser.evaluate(broken) == 0


@pytest.mark.slow
def test_the_list_filters_and_sorts_where_scripts_run(browser: Browser, tmp_path: Path) -> None:
    records = [record(f"{'ab'[i % 2]}{i:02}.mp4", [f"label {i % 3}"], [i / 40]) for i in range(30)]
    opened(browser, page(*records), tmp_path)
    shown = "[...document.querySelectorAll('.card:not([hidden]) .path')].map(each => each.textContent)"
    assert len(browser.evaluate(shown)) == 30
    assert browser.evaluate("document.querySelector('.tools').hidden") is not browser.script
    if not browser.script:
        return
    search = "const s = document.querySelector('[name=search]'); s.value = {!r}; s.dispatchEvent(new Event('input'))"
    choose = "const o = document.querySelector('[name={}]'); o.value = {!r}; o.dispatchEvent(new Event('change'))"
    browser.evaluate("{" + choose.format("order", "surest") + "}")
    assert browser.evaluate(shown)[:2] == ["b29.mp4", "a28.mp4"]
    browser.evaluate("{" + choose.format("label", "label 1") + "}")
    browser.evaluate("{" + search.format("A0") + "}")
    assert browser.evaluate(shown) == ["a04.mp4"]
    assert browser.evaluate("document.querySelector('.tools output').textContent") == "1 of 30"
    browser.evaluate("{" + search.format("") + "}")
    browser.evaluate("document.querySelector('[data-label] button').click()")
    assert len(browser.evaluate(shown)) == 10


def tab(browser: Browser, times: int = 1) -> str:
    """Press the key → the text of what has the focus."""
    for _ in range(times):
        for kind in ("rawKeyDown", "keyUp"):
            browser.call("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
    return str(browser.evaluate("document.activeElement.textContent.trim()"))


def enter(browser: Browser) -> None:
    for kind, more in (("keyDown", {"text": "\r"}), ("keyUp", {})):
        browser.call("Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, **more)


def many_and_failed() -> str:
    records = [record(f"v/{i:02}.mp4", [f"a label of usual length {i % 3}"], [i / 40]) for i in range(20)]
    links = {each.video: each.video for each in records}
    pictures = {"v/00.mp4": {1.5: picture((255, 255, 255))}}
    header = replace(HEADER, command="xclip classify v", began="2026-11-26T20:15:02+00:00")
    return page(header, *records, *map(failure, "abc"), thumbnails=Thumbnails(pictures, links=links))


@pytest.mark.slow
def test_the_keyboard_reaches_everything_and_shows_where_it_is(browser: Browser, tmp_path: Path) -> None:
    browser.view(1280)
    opened(browser, many_and_failed(), tmp_path)
    assert [tab(browser) for _ in range(4)] == ["xclip classify v", "Videos", "Overview", "Failures"]
    if browser.script:
        names = [(tab(browser), browser.evaluate("document.activeElement.name"))[1] for _ in range(4)]
        assert names == ["search", "label", "order", ""]
    assert "00.mp4" in tab(browser)
    assert browser.evaluate("document.activeElement.tagName") == "SUMMARY"
    style = browser.evaluate(
        "(s => [s.outlineStyle, s.outlineWidth, s.outlineOffset])(getComputedStyle(document.activeElement))"
    )
    assert style == ["solid", "2px", "-2px"]  # within the card, which clips what is outside
    enter(browser)
    assert browser.evaluate("document.querySelector('.card').open")
    assert tab(browser) == "00.mp4"
    assert browser.evaluate("document.activeElement.href") == (tmp_path / "v/00.mp4").as_uri()


@pytest.mark.slow
def test_the_way_to_the_failures_unfolds_them(browser: Browser, tmp_path: Path) -> None:
    browser.view(390)
    opened(browser, many_and_failed(), tmp_path)
    assert not browser.evaluate("document.querySelector('.failures').open")
    tab(browser, 4)
    enter(browser)
    browser.evaluate("0")
    assert browser.evaluate("document.querySelector('.failures').open")
    assert browser.evaluate("document.querySelector('.failures h2').getBoundingClientRect().top") >= 0


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 768, 1280])
def test_the_menus_show_what_is_chosen(browser: Browser, tmp_path: Path, width: int) -> None:
    browser.view(width)
    opened(browser, many_and_failed(), tmp_path)
    if not browser.script:
        return
    room = """[...document.querySelectorAll('.tools select')].map(each => {
        const pen = document.createElement('canvas').getContext('2d'), style = getComputedStyle(each);
        pen.font = style.font;
        const text = Math.max(...[...each.options].map(option => pen.measureText(option.text).width));
        return each.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight) - 16 - text;
    })"""  # 16: the arrow
    assert min(browser.evaluate(room)) >= 0
    boxes = browser.evaluate(
        "[...document.querySelector('.tools').children].map(each => each.getBoundingClientRect().toJSON())"
    )
    assert all(0 < box["left"] < box["right"] < width for box in boxes)
    if width == 390:
        assert all(box["height"] >= 44 for box in boxes[:4])  # as large as a finger


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_white_thumbnails_have_a_border(browser: Browser, tmp_path: Path, dark: bool) -> None:
    browser.view(1280, dark=dark)
    opened(browser, many_and_failed(), tmp_path)
    width, colour = browser.evaluate(
        "(s => [s.borderTopWidth, s.borderTopColor])(getComputedStyle(document.querySelector('.frames img')))"
    )
    *shade, opacity = map(float, re.findall(r"[\d.]+", colour))
    assert (width, shade) == ("1px", [255.0] * 3 if dark else [0.0] * 3)
    assert 0.15 < opacity < 0.5


@pytest.mark.slow
def test_printed_it_is_light_and_lists_the_failures(browser: Browser, tmp_path: Path) -> None:
    browser.view(794, dark=True)
    opened(browser, many_and_failed(), tmp_path)
    seen = "document.querySelector('#failures li').checkVisibility()"
    assert not browser.evaluate(seen)
    browser.call(
        "Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}]
    )
    assert browser.evaluate(seen)
    assert browser.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(29, 28, 26)"
    assert browser.evaluate("getComputedStyle(document.querySelector('.tools')).display") == "none"
    assert browser.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    browser.call("Emulation.setEmulatedMedia", media="")


@pytest.mark.slow
def test_thousands_are_shown(browser: Browser, tmp_path: Path) -> None:
    records, _ = thousands(5000)
    few = {each.video: {1.5: picture()} for each in records[:2000]}
    opened(browser, page(*records, thumbnails=Thumbnails(few)), tmp_path)
    assert browser.evaluate("document.querySelectorAll('.card').length") == 4900
