"""README and the pages show what the records give and the rooms that there are, and README's
commands work as printed."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import fleetfoot
from fleetfoot.cli import app
from fleetfoot.report import markdown, read_joined, update_between_markers
from tools.peers import RECORDS, readme_table, settings_table

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BENCHMARKS = ROOT / "benchmarks"

QUICK = ("info",)
"""Commands of README that end within a second or two; the others are slow."""

_BLOCK = re.compile(
    r"^(<!-- command:\w+ -->\n)?```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(document: Path, language: str) -> list[str]:
    """Code blocks of a language, without those that a marker names: they set up an environment."""
    found = _BLOCK.findall(document.read_text(encoding="utf-8"))
    return [text for marker, name, text in found if name == language and not marker]


def command_lines(document: Path) -> list[str]:
    return [line for text in blocks(document, "bash") for line in text.splitlines() if line.strip()]


def _parameter(line: str) -> object:
    quick = shlex.split(line, comments=True)[1] in QUICK
    return pytest.param(
        line, id=line.split("#")[0].strip(), marks=() if quick else pytest.mark.slow
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where README's reader types, with nothing in it."""
    return tmp_path_factory.mktemp("reader")


@pytest.mark.parametrize("line", [_parameter(line) for line in command_lines(README)])
def test_readmes_commands_work_as_printed(line, folder):
    beside = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": f"{beside}{os.pathsep}{os.environ['PATH']}",
        "FLEETFOOT_CACHE": str(folder / "cache"),  # as on a machine that fleetfoot has never seen
        "HF_HUB_OFFLINE": "1",  # nothing is downloaded
    }

    done = subprocess.run(
        ["bash", "-c", line], cwd=folder, env=environment, capture_output=True, text=True
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.slow
@pytest.mark.engine("native")
def test_readmes_python_runs_as_printed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from fleetfoot.cli.models import compile_plan

    compile_plan("fasternet_t0", pretrained=False)
    names: dict[str, object] = {}
    for text in blocks(README, "python"):
        exec(compile(text, str(README), "exec"), names)

    assert names["fused"].left == ()
    assert names["logits"].shape == (1, 1000)


@pytest.mark.parametrize(
    "page", sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("benchmarks/**/*.md")]),
    ids=lambda page: str(page.relative_to(ROOT)),
)  # fmt: skip
def test_every_command_on_a_page_is_one_that_the_program_takes(page):
    root = typer.main.get_command(app)
    for line in command_lines(page):
        for part in line.split("&&"):
            words = shlex.split(part.partition(" > ")[0], comments=True)
            if words[:1] != ["fleetfoot"]:
                continue
            command, arguments = root, words[1:]
            while hasattr(command, "commands"):
                command, arguments = command.commands[arguments[0]], arguments[1:]
            command.make_context(words[1], list(arguments))  # fails on what it does not take


@pytest.mark.parametrize(
    "page", [README, *sorted(ROOT.glob("docs/*.md")), BENCHMARKS / "README.md"]
)
def test_every_link_between_pages_leads_to_a_file(page):
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


def unchanged(document: Path, text: str, folder: Path) -> bool:
    """Whether the text stands between the markers of the document already."""
    return not update_between_markers(shutil.copy(document, folder), text)


def test_the_readmes_table_is_the_one_that_the_record_gives(tmp_path):
    assert unchanged(README, readme_table(read_joined(BENCHMARKS / RECORDS[0])), tmp_path)


@pytest.mark.slow  # a bootstrap for each of 148 pairs
def test_the_engine_page_counts_what_the_records_give(tmp_path):
    records = [(name, read_joined(BENCHMARKS / name)) for name in RECORDS]
    assert unchanged(ROOT / "docs" / "engine.md", settings_table(records), tmp_path)


@pytest.mark.parametrize("name", RECORDS)
def test_the_long_tables_are_the_ones_that_the_record_gives(name, tmp_path):
    folder = BENCHMARKS / name
    assert unchanged(folder / "README.md", markdown(read_joined(folder)), tmp_path)


def test_the_index_names_generators_that_there_are():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`python -m ([\w.]+)", index))
    assert named >= {"tools.peers", "tools.targets", "tools.rules"}
    assert all(importlib.util.find_spec(name) for name in named)


def test_every_page_is_in_the_index():
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {page.name for page in ROOT.glob("docs/*.md")} - {"README.md"}
    assert pages <= set(re.findall(r"\]\((\w[\w-]*\.md)", index))


def test_every_room_has_its_phrase_in_the_tree():
    package = Path(fleetfoot.__file__).parent
    rooms = {p.parent.name + "/" for p in package.glob("*/__init__.py")}
    rooms |= {p.name for p in package.glob("*.py") if not p.name.startswith("__")}
    tree = README.read_text().partition("src/fleetfoot/\n")[2].partition("```")[0]

    assert {line.split()[0] for line in tree.splitlines() if line.startswith("  ")} == rooms
