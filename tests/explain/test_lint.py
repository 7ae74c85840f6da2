"""The verdict of lint: what fails, what is left out and why, and a project's settings."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import pytest
import torch
from torch import nn

from fleetfoot.errors import UnknownNameError
from fleetfoot.explain.lint import Settings, lint, read_settings
from fleetfoot.explain.rules.examples import ROUND

GROUPED = nn.Conv2d(8, 8, 1, groups=4, bias=False).eval()
PLAIN = nn.Conv2d(16, 16, 1, bias=False).eval()
EXAMPLE = torch.zeros(1, 8, 10, 10)
MACHINE = replace(ROUND, threads=1)
# 6464 bytes at 10 GB/s; ungrouped it would move 3264
FLOOR_MS, PRICE_MS = 6464e-7, 3200e-7


def verdict(network=GROUPED, example=EXAMPLE, **settings):
    return lint(network, example, machine=MACHINE, measure=False, settings=Settings(**settings))


def test_a_finding_fails_and_a_network_without_one_passes():
    found = verdict()

    assert [one.rule for one in found.findings] == ["G2"]
    assert not found.passed
    assert found.basis == found.findings[0].basis == "modelled"
    assert found.latency_s == pytest.approx(FLOOR_MS * 1e-3)
    assert verdict(PLAIN, torch.zeros(1, 16, 10, 10)).passed


def test_time_alone_fails_too():
    example = torch.zeros(1, 16, 10, 10)
    slow = verdict(PLAIN, example, max_ms=1e-4)

    assert slow.too_slow
    assert not slow.passed
    assert verdict(PLAIN, example, max_ms=1.0).passed


def test_what_is_disabled_or_cheap_is_left_out_and_said():
    disabled = verdict(disable={"many-groups": "trained so"})
    cheap = verdict(min_price_ms=PRICE_MS * 1.01)

    assert disabled.passed
    assert disabled.as_json()["settings"]["disable"] == {"many-groups": "trained so"}
    assert cheap.passed
    assert cheap.below_min_price == 1
    assert not verdict(min_price_ms=PRICE_MS * 0.99).passed


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"disable": {"G2": " "}}, "G2 is disabled without a reason"),
        ({"max_ms": -1}, "max_ms must be 0 or more milliseconds, not -1"),
        ({"min_price_ms": "1"}, "min_price_ms must be 0 or more milliseconds, not '1'"),
    ],
)
def test_settings_refuse(wrong, message):
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_an_unknown_rule_is_suggested():
    with pytest.raises(UnknownNameError, match="G9"):
        Settings(disable={"G9": "why"})


@pytest.mark.engine("native")
def test_a_measured_verdict_has_the_engines_time():
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 4))
    found = lint(network.eval(), torch.zeros(1, 3, 8, 8), machine=MACHINE, seconds=0.1)

    assert (found.engine, found.basis) == ("native", "measured")
    assert found.latency_s > 0
    json.dumps(found.as_json(), allow_nan=False)


def write(folder, table):
    (folder / "pyproject.toml").write_text(f"[project]\nname = 'x'\n\n{table}")


toml = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is of 3.11")


@toml
def test_settings_come_from_the_nearest_pyproject(tmp_path):
    write(tmp_path, '[tool.fleetfoot.lint]\nmax-ms = 12\ndisable = {G4 = "no choice"}\n')
    below = tmp_path / "nets" / "deep"
    below.mkdir(parents=True)

    found = read_settings(below)
    assert (found.max_ms, found.min_price_ms, found.disable) == (12, 0.0, {"G4": "no choice"})
    write(below, "")
    assert read_settings(below) == Settings()  # the nearest has no table


@toml
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("max_ms = 1", "has no key max_ms; it has max-ms, min-price-ms, disable"),
        ('disable = ["G4"]', "disable must be a table of reasons"),
        ("max-ms = ", "is not valid TOML"),
        ('disable = {G4 = ""}', "G4 is disabled without a reason"),
    ],
)
def test_wrong_tables_are_errors(tmp_path, table, message):
    write(tmp_path, f"[tool.fleetfoot.lint]\n{table}\n")

    with pytest.raises(ValueError, match=message):
        read_settings(tmp_path)


def test_a_python_without_toml_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 10, 0))
    write(tmp_path, "")
    assert read_settings(tmp_path) == Settings()

    write(tmp_path, "[tool.fleetfoot.lint]\nmax-ms = 1\n")
    with pytest.raises(
        ValueError, match=r"which Python 3\.10 cannot read; run from another folder"
    ):
        read_settings(tmp_path)
