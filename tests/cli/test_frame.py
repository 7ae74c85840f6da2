"""The frame of the command line: what it loads, how it ends, and the small commands."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fleetfoot.cli import app


def fleetfoot(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fleetfoot", *words], capture_output=True, text=True, check=False
    )


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from typer.testing import CliRunner; from fleetfoot.cli import app\n"
        "result = CliRunner().invoke(app, ['--help'])\n"
        "assert 'predict' in result.output\n"
        "print(*sorted({'torch', 'numpy', 'timm', 'PIL', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_what_a_user_did_wrong_is_one_line_and_exit_code_2():
    done = fleetfoot("info", "fasternet_t5")

    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("fleetfoot: unknown model 'fasternet_t5'; did you mean 'faste")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["models", "fasternet_t*"], ["fasternet_t0", "fasternet_t1", "fasternet_t2"]),
        (["models", "--family", "mobileone", "--json"], [f"mobileone_s{i}" for i in range(5)]),
    ],
)
def test_models_lists_by_pattern_and_family(words, expected):
    said = CliRunner().invoke(app, words).output

    assert (json.loads(said) if "--json" in words else said.split()) == expected


def test_a_pattern_that_matches_nothing_is_said():
    result = CliRunner().invoke(app, ["models", "nothing_*"])

    assert result.exit_code == 1
    assert "no model matches 'nothing_*'" in result.output


def test_info_has_the_figures():
    found = json.loads(CliRunner().invoke(app, ["info", "fastvit_t8", "--json"]).output)

    assert found["params"] == 4_026_232
    assert [m["reduction"] for m in found["feature_info"]] == [4, 8, 16, 32]
    assert "Apple" in found["pretrained"][0]["licence"]


def test_fuse_prints_the_certificate():
    record = json.loads(CliRunner().invoke(app, ["fuse", "mobileone_s1", "--json"]).output)

    assert record["certificate"]["max_rel"] < 1e-9
    assert record["left"] == []
    assert "largest difference" in CliRunner().invoke(app, ["fuse", "fasternet_t0"]).output


def test_engines_says_which_are_absent_and_why():
    found = json.loads(CliRunner().invoke(app, ["engines", "--json"]).output)

    assert found["eager"] is None
    assert set(found) >= {"compiled", "onnxruntime", "openvino"}


@pytest.mark.parametrize("width", [40, 60])
def test_help_fits_a_narrow_terminal_and_cuts_no_name(width):
    env = {**os.environ, "COLUMNS": str(width)}
    done = subprocess.run(
        [sys.executable, "-m", "fleetfoot", "bench", "--help"],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert max(map(len, done.stdout.splitlines())) <= width + 10  # a least width of the parser
    assert "…" not in done.stdout
    for name in ("--engines", "--protocol", "--no-fold", "'timm:ghostnet_*'"):
        assert name in done.stdout
