"""Options, parts and names of detectors on a pyramid."""

from __future__ import annotations

import json

import pytest
import torch

from fleetfoot.errors import UnknownNameError
from fleetfoot.tasks.catalogue import HEADS, create_model, is_task


@pytest.mark.parametrize("name", ["fcos", "fasterrcnn", "maskrcnn"])
def test_options_state_the_network(name):
    asked = {
        "num_classes": 4,
        "channels": 64,
        "input_size": (64, 96),
        "max_detections": 7,
        "backbone_options": {"drop_path_rate": 0.1},
    }
    with torch.device("meta"):
        made = create_model(f"{name}:fasternet_t0", **asked)
        stated = json.loads(json.dumps(made.options))
        again = create_model(name, **stated)
    assert set(stated) == {"backbone", *asked}
    assert {k: v.shape for k, v in made.state_dict().items()} == {
        k: v.shape for k, v in again.state_dict().items()
    }
    assert again.backbone.config.drop_path_rate == 0.1
    assert made.pretrained_cfg.input_size == (64, 96)
    assert made.pretrained_cfg.resize_mode == "letterbox"
    assert json.loads(json.dumps(again.options)) == stated


def test_the_parts_are_modules_of_the_network():
    for name in ("fcos", "fasterrcnn", "maskrcnn"):
        assert is_task(name)
        assert HEADS[name].task == "detect"
        with torch.device("meta"):
            made = create_model(f"{name}:fasternet_t0")
        assert list(made.parts()) == ["backbone", "neck", "head"]
        for modules in made.parts().values():
            for module in modules:
                made.get_submodule(module)


@pytest.mark.parametrize("name", ["fcos", "maskrcnn"])
def test_an_unknown_option_is_named(name):
    with pytest.raises(UnknownNameError, match=f"option of {name} 'chanels'.*'channels'"):
        create_model(name, backbone="fasternet_t0", chanels=64)
    with pytest.raises(ValueError, match="states its backbone; backbone='fastvit_t8' is another"):
        create_model(f"{name}:fasternet_t0", backbone="fastvit_t8")
