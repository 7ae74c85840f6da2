"""The examples in docstrings give what they show. None of them needs a connection."""

import doctest
from importlib import import_module

import pytest

from fleetfoot import runtime

MODULES = (
    "artifact",
    "choose.front",
    "cli.models",
    "data.annotations",
    "data.augment",
    "data.composing",
    "data.layouts.assembly",
    "data.layouts.shards",
    "data.order",
    "data.placement",
    "data.preprocess",
    "data.workers",
    "engines",
    "engines.base",
    "engines.inputs",
    "errors",
    "evaluate.compare",
    "evaluate.matching",
    "evaluate.score",
    "evaluate.tally",
    "explain.explanation",
    "explain.lint",
    "machine.machine",
    "machine.roofline",
    "models.catalogue",
    "models.creation",
    "ops.pconv",
    "predict",
    "report.eval_svg",
    "report.evaluations",
    "runtime",
    "tasks.classify",
    "weights.files",
    "weights.formats",
    "weights.layouts.keras",
    "weights.loading",
    "weights.pickles",
    "weights.pretrained",
    "weights.top1",
)  # fmt: skip
NATIVE = ("engines", "runtime")


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_docstrings_hold(name, tmp_path, monkeypatch):
    if name in NATIVE and (reason := runtime.missing()):
        pytest.skip(reason)
    monkeypatch.chdir(tmp_path)  # some write a file
    found = doctest.testmod(import_module(f"fleetfoot.{name}"))
    assert found.attempted
    assert not found.failed
