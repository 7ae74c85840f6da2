"""What a user names becomes cells: each pattern means something, each absence has a reason."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fleetfoot import cores as cores_module
from fleetfoot.engines import available
from fleetfoot.errors import EngineError, UnknownNameError
from fleetfoot.measure import grid as grid_module
from fleetfoot.measure.grid import (
    COMPARED_ENGINES,
    DEFAULT_MODELS,
    GRIDS,
    Grid,
    Setting,
    default_engines,
    networks,
)
from fleetfoot.measure.pace import PACES

ONE = Grid(models=("fasternet_t0",), engines=("eager",), settings=(Setting(batch=1, threads=1),))


def test_patterns_reach_the_zoo_and_the_libraries():
    assert networks(["fasternet_t?"]) == ["fasternet_t0", "fasternet_t1", "fasternet_t2"]
    assert "timm:ghostnet_100" in networks(["timm:ghostnet_*"])
    assert networks(["torchvision:resnet5*"]) == ["torchvision:resnet50"]


def test_a_network_named_twice_counts_once():
    assert networks(["fasternet_t0", "fasternet_t?"]).count("fasternet_t0") == 1


@pytest.mark.parametrize("pattern", ["none_*", "timm:none_*", "torchvision:*rcnn*", "apple:x"])
def test_a_pattern_that_means_nothing_is_an_error(pattern):
    with pytest.raises(UnknownNameError):
        networks(["fasternet_t0", pattern])


def test_each_number_of_threads_goes_with_each_batch():
    found = Grid.named(
        models=["fasternet_t0"], engines=["eager"], threads=[1], batches=[1, 8]
    ).cases()
    assert [(c.threads, c.batch) for c in found] == [(1, 1), (1, 8)]


def test_a_protocol_gives_what_is_not_named():
    found = Grid.named("fasternet", models=["fasternet_t0"], engines=["eager"]).cases()
    assert [(c.threads, c.batch) for c in found] == [(1, 1), (1, 32)]


def test_without_names_the_default_set_is_taken():
    found = Grid.named(engines=["eager"], threads=[1]).cells()
    assert list(dict.fromkeys(c.model for c in found.cases)) == list(DEFAULT_MODELS)


def test_an_engine_that_is_not_here_is_absent_with_its_reason(monkeypatch):
    monkeypatch.setattr(
        grid_module, "available", lambda: {"eager": None, "openvino": "not installed"}
    )
    found = replace(ONE, engines=("eager", "openvino")).cells()
    assert {c.engine for c in found.cases} == {"eager"}
    assert [(f.engine, f.reason) for f in found.absent] == [("openvino", "not installed")]


def test_no_engine_at_all_is_an_error_with_every_reason(monkeypatch):
    monkeypatch.setattr(grid_module, "available", lambda: {"openvino": "not installed"})
    with pytest.raises(EngineError, match="openvino: not installed"):
        replace(ONE, engines=("openvino",)).cells()


def test_cases_are_every_model_on_every_engine_in_every_setting():
    grid = Grid(
        models=("fasternet_t0", "torchvision:resnet18"),
        engines=("eager", "openvino"),
        settings=(Setting(1, 1), Setting(32, 1)),
    )
    found = grid.cases()
    assert len(found) == 2 * 2 * 2
    assert {(c.model, c.size) for c in found} == {
        ("fasternet_t0", 224), ("torchvision:resnet18", 224)
    }  # fmt: skip
    assert {c.size for c in replace(ONE, size=64).cases()} == {64}


def test_a_setting_leaves_out_the_networks_that_it_names():
    settings = (Setting(1, 1), Setting(32, 1, without=("fasternet_t0",)))
    found = replace(ONE, models=("fasternet_t0", "fasternet_t1"), settings=settings).cases()
    assert [(c.model, c.batch) for c in found] == [
        ("fasternet_t0", 1), ("fasternet_t1", 1), ("fasternet_t1", 32)
    ]  # fmt: skip


def test_all_is_every_engine_that_computes_something():
    assert {c.engine for c in replace(ONE, engines=("all",)).cases()} >= set(COMPARED_ENGINES)
    assert "nothing" not in {c.engine for c in replace(ONE, engines=("all",)).cases()}


def test_a_setting_without_threads_takes_the_usable_cores_up_to_four(monkeypatch):
    for cores, threads in ((1, 1), (2, 2), (64, 4)):
        for module in (grid_module, cores_module):
            monkeypatch.setattr(module, "usable_cores", lambda cores=cores: cores)
        (found,) = replace(ONE, settings=(Setting(1, None),)).cases()
        assert found.threads == threads


def test_more_threads_than_cores_are_refused_with_both_numbers(monkeypatch):
    monkeypatch.setattr(cores_module, "usable_cores", lambda: 2)
    for threads in (3, 8):
        with pytest.raises(ValueError, match=rf"threads must be 1 to 2, .* not {threads}"):
            replace(ONE, settings=(Setting(1, threads),)).cases()


@pytest.mark.parametrize(("batch", "threads"), [(0, 1), (1, 0), (-1, None)])
def test_a_setting_of_nothing_is_refused(batch, threads):
    with pytest.raises(ValueError, match="must be 1 or more, not"):
        Setting(batch, threads)


def test_wrong_names_are_answered_before_anything_is_built():
    with pytest.raises(UnknownNameError, match="unknown engine 'egaer'; did you mean 'eager'"):
        replace(ONE, engines=("egaer",)).cases()
    with pytest.raises(UnknownNameError, match="did you mean 'fasternet_t2'"):
        replace(ONE, models=("fasternet_t9",)).cases()
    with pytest.raises(UnknownNameError, match="unknown timm model"):
        replace(ONE, models=("timm:ghostnet_1000",), size=64).cases()
    with pytest.raises(ValueError, match="'nothing' is timed in every run"):
        replace(ONE, engines=("nothing",)).cases()
    with pytest.raises(UnknownNameError, match="did you mean 'quick'"):
        Grid.named("quik")


def test_every_protocol_is_a_grid_and_a_pace():
    assert set(GRIDS) == set(PACES) >= {"default", "fasternet", "quick"}
    # FasterNet, section 4: latency at batch 1, throughput at batch 32, one thread
    assert GRIDS["fasternet"].settings == (Setting(1, 1), Setting(32, 1))
    assert len(DEFAULT_MODELS) == len(set(DEFAULT_MODELS)) == 13


def test_default_engines_are_those_installed_and_the_others_have_a_reason(monkeypatch):
    present, absent = default_engines()
    assert "eager" in present
    assert set(present) | set(absent) == {"eager", "onnxruntime", "openvino", "native"}
    reasons = {**available(), "openvino": "not installed"}
    monkeypatch.setattr(grid_module, "available", lambda: reasons)
    present, absent = default_engines()
    assert "openvino" not in present
    assert absent["openvino"] == "not installed"
