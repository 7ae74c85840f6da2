"""docs/rules.md is what the rules say of themselves."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fleetfoot.explain import price_check
from fleetfoot.explain.rules import RULES
from fleetfoot.explain.rules.examples import EXAMPLES
from fleetfoot.report import update_between_markers
from tools import rules

ROOT = Path(__file__).resolve().parents[2]


def test_the_document_is_current(tmp_path):
    copy = Path(shutil.copy(ROOT / "docs" / "rules.md", tmp_path))
    records = price_check.read(ROOT / "benchmarks" / "prices")

    assert not update_between_markers(copy, rules.markdown(records))


def test_every_rule_has_an_example_and_all_sections():
    assert set(EXAMPLES) == set(RULES)
    for rule in RULES.values():
        for _, name in (*rules.SECTIONS, ("", "reference")):
            text = getattr(rule, name)
            assert text.strip()
            assert "{" not in text


@pytest.mark.parametrize("code", RULES)
def test_a_section_shows_the_network_and_its_finding(code):
    text = rules._section(RULES[code])

    assert text.startswith(f"### {code} {RULES[code].name}\n")
    assert f"class {EXAMPLES[code].broken.__name__}(" in text
    assert rules.example_finding(EXAMPLES[code]).text[:40] in text
