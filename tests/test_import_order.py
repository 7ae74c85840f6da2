"""Rooms import only rooms above them, in the order in which a model meets them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import fleetfoot

PACKAGE = Path(fleetfoot.__file__).parent
ROOMS = [
    "errors", "interrupts", "streams", "files", "cgroups", "cores", "memory", "copying", "artifact",
    "runtime", "readers", "ops", "weights", "models", "tasks", "data", "network", "count",
    "machine", "transform", "engines", "evaluate", "measure", "train", "explain", "choose",
    "claims", "predict", "score", "serve", "report", "cli", "__main__",
]  # fmt: skip


def room_of(dotted: str) -> str:
    return dotted.split(".")[1] if "." in dotted else ""


def imported_rooms(tree: ast.AST) -> set[str]:
    rooms = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fleetfoot"):
            if node.module == "fleetfoot":
                rooms |= {alias.name for alias in node.names if alias.name in ROOMS}
            else:
                rooms.add(room_of(node.module))
        elif isinstance(node, ast.Import):
            rooms |= {room_of(a.name) for a in node.names if a.name.startswith("fleetfoot.")}
    return rooms


FILES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "__init__.py" or p.parent != PACKAGE)


@pytest.mark.parametrize("file", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_up(file):
    here = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert here in ROOMS, f"{here} is in no place in the order of rooms"
    tree = ast.parse(file.read_text())
    relative = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level]
    assert not relative, "imports are absolute, so that the order can be read from them"
    below = [room for room in imported_rooms(tree) if ROOMS.index(room) > ROOMS.index(here)]
    assert not below, f"{here} imports from below itself: {below}"


def test_a_downward_import_would_be_seen():
    tree = ast.parse("def f():\n    from fleetfoot.cli import main\n")
    assert imported_rooms(tree) == {"cli"}
