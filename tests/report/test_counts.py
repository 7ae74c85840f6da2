"""The card of a count says which form of the network it is of."""

from __future__ import annotations

import torch
from torch import nn

from fleetfoot.count import trace
from fleetfoot.report.counts import form, totals

CONV = nn.Conv2d(3, 4, 1)


def test_the_card_says_that_norms_are_not_folded():
    normed = trace(nn.Sequential(CONV, nn.BatchNorm2d(4)).eval(), torch.zeros(1, 3, 8, 8))
    bare = trace(CONV, torch.zeros(1, 3, 8, 8))

    assert dict(totals(normed))["form"] == (
        "as given: 1 batch norm and any branches are counted; bench, explain and pick count the "
        "folded network"
    )
    assert form(bare) == "as given, with no batch norm to fold"
