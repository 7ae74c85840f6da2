"""Parts that the pages share: elements built as a tree, never as text, so that a name cannot become
markup; and the script and style files of ``report``, which are put into the page.

A content security policy names these by hash: whatever a record says, the browser runs nothing else
and fetches nothing.
"""

from __future__ import annotations

import base64
import hashlib
from html import escape
from importlib.resources import files
from string import Template
from xml.etree.ElementTree import Element, tostring


def node(tag: str, *children: Element | str, **attributes: object) -> Element:
    """Makes an element. ``class_`` means class, ``data_row`` data-row; a None is left out."""
    made = Element(
        tag,
        {
            name.rstrip("_").replace("_", "-") if name != "viewBox" else name: str(value)
            for name, value in attributes.items()
            if value is not None
        },
    )
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def label(x: float, y: float, text: str, kind: str) -> Element:
    """Makes a text in a picture."""
    return node("text", text, x=round(x, 1), y=round(y, 1), class_=kind)


def markup(*elements: Element) -> str:
    return "\n".join(tostring(e, encoding="unicode", method="html") for e in elements)


def page(
    name: str,
    sheets: tuple[str, ...],
    colours: str,
    *,
    title: str,
    when: str,
    pictures: bool = False,
    script: str = "",
    **parts: str,
) -> str:
    """The page from the template ``name``.html, complete in one text.

    Args:
        sheets: names of the style files, the common one first.
        colours: CSS rules that follow the sheets.
        title, when: plain text, escaped here.
        pictures: whether the page shows pictures, which it contains as ``data:`` addresses.
        script: name of the page's script. Default: that of the template.
        parts: markup, by its name in the template.
    """
    code = "".join(_asset(f"{file}.js") for file in ("common", script or name))
    sheet = "".join(map(_asset, sheets)) + colours
    return Template(_asset(f"{name}.html")).substitute(
        policy=f"default-src 'none'; script-src {_hash(code)}; style-src {_hash(sheet)}"
        + "; img-src data:" * pictures,
        title=escape(title),
        when=escape(when),
        sheet=sheet,
        script=code,
        **parts,
    )


def _asset(name: str) -> str:
    return (files("fleetfoot.report") / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
