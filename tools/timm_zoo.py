"""Runs timm's ``train.py`` as it is, with networks of fleetfoot's zoo among timm's.

    python -m tools.timm_zoo path/to/train.py --model zoo_shufflenet_v2_x0_5 ...

A network of the zoo has the prefix ``zoo_``. timm's ``--model-kwargs`` are fields of its
configuration.
"""

from __future__ import annotations

import runpy
import sys
from dataclasses import asdict
from typing import Any

from timm.models import _registry

from fleetfoot.models import create_model, list_models

PREFIX = "zoo_"


def register() -> None:
    """Adds every network of the zoo to timm's registry."""
    for name in list_models():
        _registry._model_entrypoints[PREFIX + name] = _entrypoint(name)


def _entrypoint(name: str) -> Any:
    def create(pretrained: bool = False, **options: Any) -> Any:
        wanted = {key: value for key, value in options.items() if key not in _OF_TIMM}
        model: Any = create_model(name, **{k: v for k, v in wanted.items() if v is not None})
        config = asdict(model.pretrained_cfg)
        side = config["input_size"]
        height, width = (side, side) if isinstance(side, int) else side
        stated = {**config, "input_size": (3, height, width)}
        model.pretrained_cfg = model.default_cfg = stated  # timm reads mappings
        return model

    return create


_OF_TIMM = {
    "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "global_pool", "bn_momentum", "bn_eps",
    "scriptable", "img_size",
}  # fmt: skip
"""Arguments that timm hands to every network."""


if __name__ == "__main__":
    register()
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
