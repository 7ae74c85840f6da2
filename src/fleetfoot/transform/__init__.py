"""Transforms: a network in, a new network out, and what was done to it."""

from fleetfoot.transform.certificate import Certificate
from fleetfoot.transform.fold import fold_batchnorm
from fleetfoot.transform.fusion import Folded, Fused, Left, fuse
from fleetfoot.transform.merge import Kernel, merge
from fleetfoot.transform.replacement import Replaced, SwapOptions, Swapped, swap

__all__ = [
    "Certificate",
    "Folded",
    "Fused",
    "Kernel",
    "Left",
    "Replaced",
    "SwapOptions",
    "Swapped",
    "fold_batchnorm",
    "fuse",
    "merge",
    "swap",
]
