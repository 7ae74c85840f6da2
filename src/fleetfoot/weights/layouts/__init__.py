"""All known key layouts, one table each.

The names on the left of a table were read from released files and code (keys are facts); those on
the right are this package's modules. The right sides of a family's tables together are all of its
modules, so they are the table of our own layout too.
"""

from __future__ import annotations

import re

from fleetfoot.weights.layout import Layout, ours
from fleetfoot.weights.layouts import (
    branched,
    cyclemlp,
    fasternet,
    keras,
    micronet,
    mobile_former,
    mobilenets,
    shufflenets,
)

OTHERS: tuple[Layout, ...] = (
    *fasternet.LAYOUTS,
    *branched.LAYOUTS,
    *mobilenets.LAYOUTS,
    *keras.LAYOUTS,
    *shufflenets.LAYOUTS,
    *cyclemlp.LAYOUTS,
    *micronet.LAYOUTS,
    *mobile_former.LAYOUTS,
)


def _own(family: str) -> Layout:
    """Our own layout of a family, with any number in place of each one: our catalogue has more
    depths than the released files. Tables of whole keys, without leaves, and those of
    refused layouts name nothing else."""
    tables = [x.modules for x in OTHERS if x.family == family and x.leaves and not x.refused]
    return ours(family, {re.sub(r"\d+", "*", name) for table in tables for name in table.values()})


LAYOUTS: tuple[Layout, ...] = (
    *(_own(family) for family in dict.fromkeys(layout.family for layout in OTHERS)),
    *OTHERS,
)
