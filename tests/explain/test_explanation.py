"""An explanation: its figures, its JSON, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor, nn

from fleetfoot import engines
from fleetfoot.errors import EngineError, FoldError, RecordError, UnknownNameError
from fleetfoot.explain.explanation import Explanation, explain, folded, from_json, to_json
from fleetfoot.explain.findings import Finding
from fleetfoot.network import resolve
from layers_by_hand import NODES, Net, Told, X, machine

FINDING = Finding(
    rule="T1", name="test", module="fc", number=3.0, bound=4.0, unit="channels", price_s=1e-6,
    text="It has 3 channels, and 4 are wanted.", change="Give it 4.",
)  # fmt: skip


@pytest.fixture
def told(monkeypatch):
    """Every engine that is loaded takes the times of ``NODES``."""
    monkeypatch.setattr(engines, "load", lambda *args, **options: Told(NODES))


@pytest.fixture
def found(told) -> Explanation:
    return explain(
        Net().eval(), X, machine=machine(), engine="eager", name="net", folded=True, seconds=0.01
    )


def test_the_figures_of_a_hand_counted_network(found):
    assert (found.model, found.folded, found.input_shape) == ("net", True, (1, 4, 8, 8))
    assert found.macs == 4 * 4 * 64 + 4 * 3
    assert found.nodes_s == found.profiled_s == pytest.approx(16e-6)
    assert found.unmapped == ("d",)
    assert found.unmapped_share == pytest.approx(1 / 16)
    assert found.floor_s == pytest.approx(sum(layer.floor.seconds for layer in found.layers))
    assert found.flops_per_s == pytest.approx(2 * found.macs / found.latency_s)
    assert found.peak_flops_per_s == 100e9
    # block.conv by its operations; the mean, which moves 1040 bytes, and fc by their bytes
    assert found.bound_shares == pytest.approx({"compute": 10 / 16, "memory": 6 / 16, "start": 0.0})


def test_its_json_comes_back_equal(found):
    with_finding = replace(found, findings=(FINDING,), fold_note="not folded: odd")
    assert from_json(to_json(with_finding)) == with_finding


def test_its_json_holds_what_follows_from_it(found):
    raw = json.loads(to_json(found))
    assert raw["floor_s"] == found.floor_s
    assert raw["bound_shares"] == found.bound_shares
    (conv, *_) = raw["layers"]
    assert conv["module"] == "block.conv"
    assert conv["macs"] == 1024
    assert conv["floor"]["bound"] == "compute"
    assert conv["floor"]["seconds"] == found.layers[0].floor.seconds


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw: raw.update(schema=0), "schema is 0; this fleetfoot reads .* schema 1"),
        (lambda raw: raw.pop("engine"), "missing field .*engine"),
        (lambda raw: raw.update(extra=1), "unknown field .*extra"),
        (lambda raw: raw["layers"][0].pop("time_s"), r"missing field .*layers\[0\].*time_s"),
        (lambda raw: raw.update(latency_s=1.0), "latency_s is 1, but its parts give"),
        (lambda raw: raw.update(macs=1), "macs is 1, but its parts give 1036"),
    ],
)
def test_json_that_is_no_explanation_is_refused(found, change, said):
    raw = json.loads(to_json(found))
    change(raw)
    with pytest.raises(RecordError, match=said):
        from_json(json.dumps(raw))


def test_text_that_is_no_json_is_refused():
    with pytest.raises(RecordError, match="not JSON"):
        from_json("{")


def test_a_machine_of_other_threads_is_refused():
    with pytest.raises(ValueError, match=r"measured with 2 threads, .* to run with 1"):
        explain(Net().eval(), X, machine=machine(threads=2), engine="eager")


def test_a_precision_that_the_machine_lacks_is_refused():
    with pytest.raises(ValueError, match="'bfloat16' was not measured"):
        explain(Net().eval(), X, machine=machine(), engine="eager", precision="bfloat16")


def test_an_engine_that_does_not_exist_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'openvino'"):
        explain(Net().eval(), X, machine=machine(), engine="openvin")


def test_an_engine_that_is_missing_says_why(monkeypatch):
    kind = engines.ENGINES["openvino"]
    monkeypatch.setattr(kind, "missing", lambda: EngineError("openvino is not here"))
    with pytest.raises(EngineError, match="openvino is not here"):
        explain(Net().eval(), X, machine=machine(), engine="openvino")


def test_a_network_that_does_not_run_on_the_input_is_said():
    with pytest.raises(ValueError, match=r"Net cannot be counted at input \(1, 3, 8, 8\)"):
        explain(Net().eval(), torch.zeros(1, 3, 8, 8), machine=machine(), engine="eager")


def test_a_network_whose_shapes_follow_from_values_is_noted():
    class Sieve(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[x > 0].sum().reshape(1, 1)

    example = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = explain(Sieve().eval(), example, machine=machine(), engine="eager", seconds=0.05)
    assert "does not run without values" in found.trace_note
    assert found.nodes_s > 0


# --- the network by its name


def test_a_network_of_the_zoo_is_folded():
    given = resolve("shufflenet_v2_x0_5", size=64)
    made, note = folded(given)
    assert note == ""
    assert not any(isinstance(m, nn.BatchNorm2d) for m in made.module.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in given.module.modules())


def test_a_users_network_that_cannot_be_folded_runs_as_it_is(tmp_path, monkeypatch):
    def refuse(*_):
        raise FoldError("no proof")

    monkeypatch.setattr("fleetfoot.explain.explanation.fuse", refuse)
    file = tmp_path / "own.py"
    file.write_text("from torch import nn\ndef build():\n    return nn.Conv2d(3, 4, 1)\n")
    given = resolve(f"{file}:build", size=8)
    made, note = folded(given)
    assert (made, note) == (given, "not folded: no proof")
    assert not made.module.training
    with pytest.raises(FoldError, match="no proof"):
        folded(resolve("shufflenet_v2_x0_5", size=64))


def test_explaining_leaves_no_hooks_on_the_network():
    model = Net().eval()
    explain(model, X, machine=machine(), engine="eager", seconds=0.01)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_asdict_of_an_explanation_is_json(found):
    json.dumps(asdict(found), allow_nan=False)
