"""Transforms: a network in, a new network out, and what was done to it."""

from fleetfoot.transform.certificate import Certificate
from fleetfoot.transform.fold import fold_batchnorm
from fleetfoot.transform.fusion import Folded, Fused, Left, fuse
from fleetfoot.transform.merge import Kernel, merge

__all__ = [
    "Certificate",
    "Folded",
    "Fused",
    "Kernel",
    "Left",
    "fold_batchnorm",
    "fuse",
    "merge",
]
