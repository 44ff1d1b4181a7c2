"""One HTML file: sections of pictures and text, with all that they need, and nothing asked of any network."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from bokeh.core.types import ID
from bokeh.embed import json_item
from bokeh.resources import Resources

from throughtime.reporting.picture import Picture, table_html

__all__ = ["Section", "page"]


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        title: its heading; empty for none.
        text: HTML ahead of the pictures, with whatever came from outside escaped.
        pictures: in their order.
        after: HTML behind them, likewise.
    """

    title: str
    text: str = ""
    pictures: Sequence[Picture] = ()
    after: str = ""


def page(title: str, sections: Sequence[Section], *, subtitle: str = "", heading: bool = True) -> str:
    """The text of the file.

    A policy in the page lets the browser run its own scripts, known by their hashes, and ask nothing of anybody; so
    text of a corpus stays text, even where it looks like a script.

    Args:
        title: of the page; escaped here, as the subtitle is.
        sections: in their order.
        subtitle: a line below the title.
        heading: whether the title is shown.
    """
    pictures = [picture for section in sections for picture in section.pictures]
    scripts = _scripts(pictures) if pictures else []
    body = "".join(_section(section, place) for place, section in enumerate(sections))
    head = f"<header><h1>{escape(title)}</h1><p>{escape(subtitle)}</p></header>" if heading else ""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><meta name="generator" content="throughtime">'
        f'<link rel="icon" href="data:,"><title>{escape(title)}</title>'
        f"<style>{_own('page.css')}</style></head>\n<body>{head}<main>{body}</main>\n"
        + "\n".join(f"<script>{script}</script>" for script in scripts)
        + "\n</body></html>\n"
    )


def _section(section: Section, place: int) -> str:
    name = f"section-{place}"
    heading = f'<h2 id="{name}">{escape(section.title)}</h2>' if section.title else ""
    labelled = f' aria-labelledby="{name}"' if section.title else ""
    figures = "".join(_figure(picture) for picture in section.pictures)
    return f"<section{labelled}>{heading}{section.text}{figures}{section.after}</section>\n"


def _figure(picture: Picture) -> str:
    """The figure for those who see it; its sentence and its table for all."""
    name = escape(picture.name)
    sentence = escape(picture.sentence).replace(" %", "&nbsp;%")  # which no line begins with
    table = f"<details><summary>Numbers</summary>{table_html(picture.table)}</details>" if picture.table.rows else ""
    figure = (
        f'<figure id="{name}" tabindex="0" aria-labelledby="{name}-title {name}-says">'
        f'<h3 id="{name}-title">{escape(picture.title)}</h3>'
        f'<div class="plot" role="img" aria-labelledby="{name}-title {name}-says" id="{name}-plot"></div>'
        f'<figcaption id="{name}-says">{sentence}</figcaption>{table}</figure>'
    )
    if not picture.on_demand:
        return figure
    return f'<details class="more"><summary>{escape(picture.title)}</summary>{figure}</details>'


def _scripts(pictures: Sequence[Picture]) -> list[str]:
    """BokehJS itself, the figures, and what puts them in their places."""
    items = [json_item(picture.figure, ID(f"{picture.name}-plot")) for picture in pictures]
    return [
        *(_harmless(source) for source in Resources(mode="inline", components=["bokeh"]).js_raw),
        _harmless(f"const FIGURES = {json.dumps(items, allow_nan=False, separators=(',', ':'))};"),
        _own("page.js"),
    ]


def _harmless(script: str) -> str:
    """What ends a script element may stand in a string only, where a backslash changes nothing."""
    return script.replace("</", "<\\/").replace("<!--", "<\\!--")


def _policy(scripts: Sequence[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; base-uri 'none'"


def _own(name: str) -> str:
    return files("throughtime.reporting").joinpath(name).read_text(encoding="utf-8")
