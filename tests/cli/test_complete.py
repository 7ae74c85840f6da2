"""What Tab offers: every name, without torch, in the three shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from fleetfoot.choose.calibrate import CALIBRATED
from fleetfoot.cli import complete
from fleetfoot.engines import ENGINES
from fleetfoot.measure.pace import PACES
from fleetfoot.models import list_models

MAIN = "import sys; from fleetfoot.cli import main; sys.argv[0] = 'fleetfoot'; main()"


def asked(shell: str, **variables: str) -> list[str]:
    env = {**os.environ, complete.SHELL: f"complete_{shell}", **variables}
    done = subprocess.run(
        [sys.executable, "-c", MAIN], env=env, capture_output=True, text=True, check=False
    )
    assert not done.stderr
    return done.stdout.split()


def bash(*words: str) -> list[str]:
    return asked("bash", COMP_WORDS="\n".join(words), COMP_CWORD=str(len(words) - 1))


def test_the_names_are_those_of_the_package():
    assert complete.ZOO.read_text().split() == list_models()
    assert set(complete.ENGINES) == set(ENGINES) - {"nothing"}
    assert set(complete.PROTOCOLS) == set(PACES)
    assert set(complete.MODELLED) == set(CALIBRATED)
    offered = complete.networks("timm:")
    assert len(offered) > 200


def test_names_of_networks_begin_with_what_was_typed():
    assert complete.networks("mobileone_") == [f"mobileone_s{n}" for n in range(5)]
    assert complete.networks("ti") == ["timm:"]
    assert "timm:mobilenetv4_conv_small.e2400_r224_in1k" in complete.networks("timm:mobilenetv4")
    assert complete.networks("nets/mine.py") == []  # the shell offers files then


def test_of_several_the_last_is_completed_and_none_is_offered_twice():
    assert complete.engines("ea") == ["eager"]
    assert complete.engines("native,o") == ["native,onnxruntime", "native,openvino"]
    assert complete.engines("openvino,o") == ["openvino,onnxruntime"]


def test_a_shell_is_answered_without_torch():
    code = f"import sys\nsys.modules['torch'] = None\nsys.modules['timm'] = None\n{MAIN}"
    env = {**os.environ, complete.SHELL: "complete_bash", "COMP_WORDS": "fleetfoot\ncount\nfastern",
           "COMP_CWORD": "2"}  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert "fasternet_t0" in done.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("fleetfoot", "comp"), {"compare", "compile"}),
        (("fleetfoot", "count", "mobileone_s"), {f"mobileone_s{n}" for n in range(5)}),
        (("fleetfoot", "bench", "fasternet_t0", "mobileone_s0"), {"mobileone_s0"}),
        (("fleetfoot", "explain", "fasternet_t0", "--engine", "o"), {"onnxruntime", "openvino"}),
        (("fleetfoot", "bench", "--protocol", "q"), {"quick"}),
        (("fleetfoot", "lint", "--check-p"), {"--check-prices"}),
        # bash splits at colons, and puts what is offered after the last of them
        (("fleetfoot", "count", "timm", ":", "shvit_s1"), {"shvit_s1.in1k"}),
    ],
)
def test_bash(words, offered):
    assert set(bash(*words)) == offered


def test_after_a_bare_colon_every_name_is_offered():
    assert "shvit_s1.in1k" in bash("fleetfoot", "count", "timm", ":")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells(shell):
    typed = "fleetfoot count timm:shvit_s1"
    found = asked(shell, _TYPER_COMPLETE_ARGS=typed, _TYPER_COMPLETE_FISH_ACTION="get-args")
    assert "timm:shvit_s1.in1k" in " ".join(found).replace("\\", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_script_works_in_bash(tmp_path):
    tool = tmp_path / "fleetfoot"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{MAIN}" "$@"\n')
    tool.chmod(0o755)
    lines = [
        f"PATH={tmp_path}:$PATH",
        'eval "$(fleetfoot --show-completion bash)"',
        "COMP_WORDS=(fleetfoot count timm : shvit_s1) COMP_CWORD=4",
        "_fleetfoot_completion fleetfoot",
        'echo "${COMPREPLY[@]}"',
    ]
    env = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(
        ["bash", "-c", "\n".join(lines)], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["shvit_s1.in1k"]
