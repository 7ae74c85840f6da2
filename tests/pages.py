"""What the tests of HTML pages share."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>${x}&amp;"


class Tags(HTMLParser):
    """Every start tag with its attributes, and whether the tags nest."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


PICTURE = r'\bsrc="data:image/(png|jpeg);base64,[A-Za-z0-9+/]+=*"'


def assert_loads_nothing(text: str) -> None:
    """No address but one within the page, and no script but the page's own may run."""
    text = re.sub(PICTURE, "", text)
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r"url\(|@import|\bsrc=|\bhref=(?!\"#)", text)
    assert "default-src 'none'" in text
    assert "unsafe" not in text
    script = re.search(r"<script>(.*)</script>", text, re.DOTALL).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text


def assert_runs_no(hostile: str) -> None:
    """The page made of hostile text has one script and no tag or handler of that text."""
    tags = Tags(hostile)
    assert tags.open == []
    assert [tag for tag, _ in tags.found].count("script") == 1
    pictures = [attributes["src"] or "" for tag, attributes in tags.found if tag == "img"]
    assert all(source.startswith("data:image/") for source in pictures)
    assert not any(name.startswith("on") for _, attributes in tags.found for name in attributes)
