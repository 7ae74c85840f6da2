"""Resolving a network: ``resolve`` turns whatever a user names into a ``Workload``.

==============================  ==============================================================
``fastvit_t8``                  a network of the zoo
``ssdlite:fasternet_t0``        a network of a task: its head and its backbone (``tasks.catalogue``)
``timm:resnet18``               a network of timm; ``torchvision:resnet50`` one of torchvision
``nets/mine.py:build``          what a function or class of the user's file returns, or a module in
                                it; ``nets/mine.py:Net(depth=2)`` gives it arguments
``weights/some.pth``            a file of weights, the network recognised from its keys
==============================  ==============================================================
"""

from fleetfoot.network.facts import Facts, native_size, published
from fleetfoot.network.sizes import (
    Size,
    height_width,
    parse_inputs,
    parse_size,
    size_text,
    stated_size,
)
from fleetfoot.network.user import create, is_file
from fleetfoot.network.workload import Workload, is_weights, named_inputs, resolve, resolved_size

__all__ = [
    "Facts",
    "Size",
    "Workload",
    "create",
    "height_width",
    "is_file",
    "is_weights",
    "named_inputs",
    "native_size",
    "parse_inputs",
    "parse_size",
    "published",
    "resolve",
    "resolved_size",
    "size_text",
    "stated_size",
]
