"""One table of ATen operators: each in one class, and none that another table knows is missing."""

from __future__ import annotations

from itertools import combinations

import torch

from fleetfoot.choose.latency import KIND_OF
from fleetfoot.count import vocabulary
from fleetfoot.count.exact import EXACT, WITHOUT
from fleetfoot.count.formulas import FIRST_OUTPUT_ONLY, MACS

KNOWN = frozenset().union(*vocabulary.CLASSES)


def test_every_set_of_names_is_a_class_or_made_of_classes():
    for name, value in vars(vocabulary).items():
        if isinstance(value, frozenset):
            parts = [one for one in vocabulary.CLASSES if one <= value]
            assert frozenset().union(*parts) == value, name


def test_an_operator_is_in_one_class():
    for one, other in combinations(vocabulary.CLASSES, 2):
        assert not one & other


def test_the_formulas_know_no_operator_that_has_no_class():
    for table in (EXACT.keys(), MACS.keys(), WITHOUT, FIRST_OUTPUT_ONLY, KIND_OF.keys()):
        assert table <= KNOWN


def test_every_operator_with_a_class_is_counted_or_said_to_be_free_or_unknown():
    counted = EXACT.keys() | MACS.keys() | WITHOUT | vocabulary.FREE
    # a trace sees einsum and matmul as the products that they are made of
    assert KNOWN - counted == {
        "aten.matmul", "aten.einsum", "aten.split_copy", "aten.split_with_sizes_copy",
    }  # fmt: skip


def test_the_names_are_of_operators_that_torch_has():
    missing = [
        name
        for name in sorted(KNOWN)
        if name.startswith("aten.") and not hasattr(torch.ops.aten, name.removeprefix("aten."))
    ]
    assert not missing
