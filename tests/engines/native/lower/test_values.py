"""Views of values against PyTorch's own, over random chains."""

from __future__ import annotations

import itertools
import math
import random

import pytest
import torch

from fleetfoot.engines.native.graph import Tensor
from fleetfoot.engines.native.lower.values import Value, refine


def elements(value: Value) -> torch.Tensor:
    """Where in the tensor each element lies, by its factors."""
    factors = [factor for dim in value.dims for factor in dim]
    offsets = torch.full([count for count, _ in factors], value.offset)
    for i, (count, stride) in enumerate(factors):
        offsets += (torch.arange(count) * stride).reshape([-1] + [1] * (len(factors) - i - 1))
    return offsets.reshape(value.shape)


def random_shape(rng: random.Random, size: int) -> list[int]:
    shape = []
    while size > 1:
        n = rng.choice([n for n in range(2, size + 1) if size % n == 0])
        shape.append(n)
        size //= n
    shape.insert(rng.randrange(len(shape) + 1), 1)
    return shape


@pytest.mark.parametrize("seed", range(40))
def test_a_chain_of_views_finds_the_same_elements_as_torch(seed):
    rng = random.Random(seed)
    shape = random_shape(rng, 240)
    value = Value.dense(Tensor(kind="arena", size=240), shape, range(len(shape)))
    wanted = torch.arange(240).reshape(shape)
    for _ in range(12):
        step = rng.choice(("reshape", "reshape", "permute", "slice", "select", "expand"))
        dim = rng.randrange(wanted.ndim)
        count = wanted.shape[dim]
        if step == "permute":
            order = rng.sample(range(wanted.ndim), wanted.ndim)
            value, wanted = value.permute(order), wanted.permute(order)
        elif step == "reshape":
            shape = random_shape(rng, wanted.numel())
            done = value.reshape(shape)
            if done is not None:
                value, wanted = done, wanted.reshape(shape)
        elif step == "slice":
            start, by = rng.randrange(count), rng.randint(1, 2)
            done = value.slice(dim, start, count, by)
            if done is not None:
                value, wanted = done, wanted[(slice(None),) * dim + (slice(start, None, by),)]
        elif step == "select" and wanted.ndim > 3 and wanted.numel() // count > 8:
            index = rng.randrange(count)
            value, wanted = value.select(dim, index), wanted.select(dim, index)
        elif step == "expand" and count == 1 and wanted.numel() < 500:
            shape = [2 if i == dim else n for i, n in enumerate(wanted.shape)]
            value, wanted = value.expand(shape), wanted.expand(shape)
        assert value.shape == wanted.shape
        assert torch.equal(elements(value), wanted)


def test_a_merged_dimension_takes_no_memory():
    # channels-last map (1, 4, 6, 8) -> MobileViT's patches of 2 x 2: (4 pixels, 12 patches, 4)
    value = Value.dense(Tensor(kind="arena", size=192), (1, 4, 6, 8), (0, 2, 3, 1))
    cut = value.reshape((12, 2, 4, 2))  # channels and rows of patches become one dimension
    assert cut is not None
    tokens = cut.transpose(1, 2).reshape((1, 4, 12, 4))
    assert tokens is not None
    tokens = tokens.transpose(1, 3)
    maps = torch.arange(192).reshape(1, 6, 8, 4).permute(0, 3, 1, 2)
    wanted = maps.reshape(12, 2, 4, 2).transpose(1, 2).reshape(1, 4, 12, 4).transpose(1, 3)
    assert torch.equal(elements(tokens), wanted)


def test_refined_dimensions_have_the_same_sizes():
    rows = [((12, 5),), ((3, 40), (4, 1)), ((3, 0), (2, 7), (2, 1))]
    refined = refine(rows)
    assert refined == [((3, 20), (2, 10), (2, 5)), ((3, 40), (2, 2), (2, 1)), rows[2]]
    assert refine([((3, 4), (4, 100)), ((4, 3), (3, 100))]) is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_order_of_a_dense_value_is_the_one_it_was_made_in(order):
    shape = (2, 3, 4)
    value = Value.dense(Tensor(kind="arena", size=math.prod(shape)), shape, order)
    assert value.order() == order
    assert value.is_dense(order)
