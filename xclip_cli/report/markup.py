"""Pieces of HTML that all parts of the page are made of. Texts from outside go through ``text``, which escapes them."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape

from ..text import counted, printable

TEXT_LENGTH = 400  # characters shown of a text


def text(value: object, most: int = TEXT_LENGTH) -> str:
    """Anything from outside as HTML text or attribute value: only visible characters, ``most`` of them."""
    shown = printable(str(value)[:most])
    return escape(shown + ("…" if len(str(value)) > most else ""))


def path(video: str, links: Mapping[str, str]) -> str:
    """A path: its name, which leads to its file if that has an address, and, less prominent, its folder."""
    folder, slash, name = video.rpartition("/")
    breakable = text(folder + slash).replace("/", "/<wbr>")
    below = f'<span class="folder">{breakable}</span>' if slash else ""
    shown = f'<a href="{escape(links[video])}">{text(name)}</a>' if video in links else text(name)
    return f'<span class="path">{shown}{below}</span>'


def bar(share: float) -> str:
    """A bar that fills ``share`` (0 to 1) of its place."""
    return f'<span class="track"><span class="bar w{min(max(round(share * 100), 0), 100)}"></span></span>'


def more(hidden: Sequence[object], what: str, how: str = "") -> str:
    """How many there are besides those shown; nothing if all are."""
    return f'<p class="meta">and {counted(len(hidden), what)}{how}</p>' if hidden else ""


def data_url(kind: str, content: bytes) -> str:
    """An image of a ``kind`` (png, jpeg), to be written into the page."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
