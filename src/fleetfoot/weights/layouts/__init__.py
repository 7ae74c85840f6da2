"""Every known key layout, a table each.

The names on the left of a table were read from released files and code (keys are facts); those on
the right are this package's modules.
"""

from __future__ import annotations

from fleetfoot.weights.layout import Layout
from fleetfoot.weights.layouts import branched, fasternet, mobilenets, shufflenets

LAYOUTS: tuple[Layout, ...] = (
    *fasternet.LAYOUTS,
    *branched.LAYOUTS,
    *mobilenets.LAYOUTS,
    *shufflenets.LAYOUTS,
)
