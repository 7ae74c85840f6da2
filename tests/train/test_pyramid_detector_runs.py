"""Detectors on a pyramid from beginning to end: trained, resumed bit for bit, read back, fused, and
run on the native engine with the same detections."""

from __future__ import annotations

import pytest
import torch

from fleetfoot import runtime
from fleetfoot.data.settings import Scene
from fleetfoot.engines import load
from fleetfoot.network import resolve
from fleetfoot.tasks.detect.detections import Detections
from fleetfoot.train.config import Optim, Recipe, Run, Schedule
from fleetfoot.train.events import Saved
from fleetfoot.train.loop import train
from tools.kills import differences
from tools.kills.scenes import CLASSES, scenes

SIZE = 64
RECIPE = Recipe(
    name="shapes",
    task="detect",
    epochs=2,
    batch=4,
    scene=Scene(scale=(0.7, 1.3), multiscale=(1.0, 2.0), multiscale_every=1, mosaic=0.5, until=1),
    optim=Optim(lr=2e-3, clip=5.0),
    schedule=Schedule(warmup=1.0),
)
RUN = Run(workers=0, threads=1, save_seconds=1e9, save_updates=1)
REGIONS = {"box_width": 16, "anchor_sizes": (8, 16, 32, 48, 64), "proposals": (30, 30)}
OPTIONS = {
    "fcos": {"channels": 64, "depth": 1, "score_threshold": 0.01},
    "fasterrcnn": {"channels": 16, **REGIONS},
    "maskrcnn": {"channels": 16, **REGIONS},
}


class Stopped(BaseException):
    """What the end of a process is to a test within it."""


def stop_after_three(event: object) -> None:
    if isinstance(event, Saved) and event.update == 3:
        raise Stopped


def close(found: Detections, other: Detections) -> None:
    assert torch.equal(found.classes, other.classes)
    torch.testing.assert_close(found.boxes, other.boxes, rtol=0, atol=0.05)
    torch.testing.assert_close(found.scores, other.scores, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(runtime.missing() is not None, reason=str(runtime.missing()))
@pytest.mark.parametrize("name", OPTIONS)
def test_it_trains_goes_on_and_is_shipped(tmp_path, monkeypatch, name):
    monkeypatch.setattr("fleetfoot.train.journal.Journal.draw", lambda self, history: None)
    model, options = f"{name}:mobilenetv2_010", {"input_size": SIZE, **OPTIONS[name]}

    def trained(folder: str, **given: object):
        data = scenes("detect", train=8, val=2)
        return train(model, data, RECIPE, RUN, tmp_path / folder, options=dict(options), **given)

    outcome = trained("whole")
    assert outcome.finished
    figure = "mask_ap" if name == "maskrcnn" else "ap"
    assert f"eval_{figure}" in (tmp_path / "whole" / "summary.csv").read_text()
    with pytest.raises(Stopped):
        trained("parts", on_event=stop_after_three)
    trained("parts", resume="required")
    assert differences(tmp_path / "whole", tmp_path / "parts") == []

    network = resolve(str(outcome.checkpoint)).module
    assert network.pretrained_cfg.labels == CLASSES
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}
    assert {**network.options, **plain} == network.options
    x = torch.rand(1, 3, SIZE, SIZE)
    with torch.no_grad():
        expected = network(x)
    with load("native", network, example=x) as engine:  # it fuses, too
        outputs = engine.run(x)
    assert list(outputs) == list(expected)
    (found,), (wanted,) = (network.decode(one, (SIZE, SIZE)) for one in (outputs, expected))
    assert len(wanted) > 0
    close(found, wanted)
