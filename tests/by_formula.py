"""Weights and images that a formula gives, so that another program can be given the same ones.

Families that no library has are compared with their authors' code this way: the code was run once
with these weights on this image, and a test states the logits that it gave.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from fleetfoot.models import FAMILIES, create_model
from fleetfoot.weights.files import WeightsFile
from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts import OTHERS
from fleetfoot.weights.loading import translate


def spread(shape: Iterable[int], start: int) -> Tensor:
    """Values in [0, 1) that look random: multiples of a large number modulo 2³², whole until the
    last division and so the same everywhere."""
    shape = tuple(shape)
    count = torch.arange(math.prod(shape)) + 7919 * start
    return ((count * 2654435761 % 2**32).double() / 2**32).reshape(shape)


def filled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same names and shapes with values by the formula, in the order of the sorted names.

    Matrices and kernels keep the size of their input, norms and biases are near 1 and 0.
    """
    made = {}
    for i, (key, tensor) in enumerate(sorted(state.items())):
        leaf, values = key.rpartition(".")[2], spread(tensor.shape, i)
        if leaf == "num_batches_tracked":
            made[key] = torch.zeros((), dtype=torch.int64)
        elif tensor.ndim > 1:
            made[key] = (2 * values - 1) * math.sqrt(3 * tensor.shape[0] / tensor.numel())
        elif leaf in ("weight", "running_var"):
            made[key] = 0.7 + 0.6 * values
        else:
            made[key] = 0.4 * values - 0.2
    return made


def image(size: int = 64) -> Tensor:
    return 3 * spread((1, 3, size, size), 1) - 1.5


def authors_names(family: str, ours: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A network's state under its authors' names: their table, read from right to left. Of several
    that have all of its modules, the one that has the fewest others."""
    tables = [
        {ours: theirs for theirs, ours in layout.modules.items()}
        for layout in OTHERS
        if (layout.family, layout.name) == (family, "authors")
    ]
    for table in sorted(tables, key=len):
        back = Layout(family=family, name="back", modules=table)
        named = {back.key(key): tensor for key, tensor in ours.items()}
        if None not in named:
            return {key: tensor for key, tensor in named.items() if key is not None}
    raise AssertionError(f"no table of {family}'s authors has all of these modules")


def authors(name: str) -> nn.Module:
    """The network in float64 with weights by the formula under its authors' names."""
    family = next(family.name for family in FAMILIES if name in family.variants)
    with torch.device("meta"):
        ours = create_model(name).state_dict()
    shapes = authors_names(family, ours)
    model = create_model(name).double().eval()
    translate(WeightsFile("formula", "test", filled(shapes), (), (), {}), family).into(model)
    return model
