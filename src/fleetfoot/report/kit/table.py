"""Tables of the HTML pages: a caption, a row of heads, and rows of cells made by the page."""

from __future__ import annotations

from collections.abc import Iterable
from xml.etree.ElementTree import Element

from fleetfoot.report.kit.markup import node


def table(
    caption: str, heads: Iterable[Element], rows: Iterable[Element], **attributes: object
) -> Element:
    """Draws a table. Attributes are those of ``node``."""
    return node(
        "table",
        node("caption", caption),
        node("thead", node("tr", *heads)),
        node("tbody", *rows),
        **attributes,
    )


def head(title: str, *, number: bool) -> Element:
    """The head of a column, aligned with its numbers or its words."""
    return node("th", title, scope="col", class_="number" if number else None)


def sorting_head(title: str, unit: str, hint: str, *, number: bool, ascending: bool) -> Element:
    """The head of a column that the page's script sorts by; ``ascending`` if the rows are sorted by
    it at first. ``hint`` is what the head says under the pointer; "" for nothing."""
    return node(
        "th",
        node("button", title, node("small", unit), type="button", title=hint or None),
        scope="col",
        aria_sort="ascending" if ascending else "none",
        class_="number" if number else None,
    )


def scrolling(name: str, content: Element) -> Element:
    """A table that scrolls sideways if it is wider than the page."""
    return node("div", content, class_="scroll", tabindex=0, role="region", aria_label=name)
