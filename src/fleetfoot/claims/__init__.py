"""The papers' claims, tried again on this machine: ``CLAIMS`` by name, in the order in which they
are measured and shown."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from fleetfoot.claims import fasternet, mobilenet, reparam, shufflenet
from fleetfoot.claims.base import Claim
from fleetfoot.errors import UnknownNameError

CLAIMS: dict[str, Claim] = {
    claim.name: claim
    for claim in (
        fasternet.pconv_stack(),
        fasternet.pconv_pair(),
        shufflenet.g1(),
        shufflenet.g2(),
        shufflenet.g3(),
        shufflenet.g4(),
        mobilenet.separable(),
        fasternet.pairs(),
        fasternet.table3(),
        reparam.reparam(),
        reparam.repmixer_skip(),
        reparam.attention(),
    )
}


def chosen(patterns: Sequence[str] = ()) -> list[Claim]:
    """The claims that names or shell patterns match, in the order of ``CLAIMS``. Default: all.

    Raises:
        UnknownNameError: a pattern matches no claim.
    """
    names: set[str] = set()
    for pattern in patterns:
        matching = fnmatch.filter(CLAIMS, pattern)
        if not matching:
            raise UnknownNameError.of("claim", pattern, CLAIMS, hint="--list describes them.")
        names.update(matching)
    return [claim for name, claim in CLAIMS.items() if not patterns or name in names]
