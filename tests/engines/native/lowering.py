"""Checks of what ``lower`` makes of a network: run by the interpreter, against eager in float64."""

from __future__ import annotations

import copy

import torch
from interpreter import interpret
from torch import nn
from torch.utils import _pytree as pytree

from fleetfoot.engines.base import relative_error
from fleetfoot.engines.native.graph import Graph
from fleetfoot.engines.native.lower.lower import lower

TOLERANCE = 1e-6
"""Both sides compute in float64 with the same float32 weights. What differs is rounded once to
float32 at compile time: batch norms as scale and shift, position biases; 1e-7 is seen."""


def agrees(model: nn.Module, picture: torch.Tensor) -> Graph:
    """Asserts that the graph's outputs are the network's; gives the graph."""
    model = model.eval()
    graph = lower(model, picture)
    found = interpret(graph, [picture[0].numpy()])
    with torch.no_grad():
        wanted = pytree.tree_leaves(copy.deepcopy(model).double()(picture.double()))
    assert len(found) == len(wanted)
    for out, reference in zip(found, wanted, strict=True):
        assert reference.std() > 0 or reference.numel() == 1, "an output that shows nothing"
        assert relative_error(torch.from_numpy(out)[None], reference) < TOLERANCE
    return graph


class Does(nn.Module):
    """A network that does one thing."""

    def __init__(self, function, **parts: nn.Module | torch.Tensor) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)

    def forward(self, x: torch.Tensor):
        return self.function(self, x)


def in_channels_last(function) -> Does:
    """``function`` on the map of a convolution, whose channels lie together."""
    return Does(lambda self, x: function(self.conv(x)), conv=nn.Conv2d(3, 12, 1))
