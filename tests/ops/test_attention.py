"""Attention against its formula, written out head by head."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fleetfoot.ops.attention import Attention, CrossAttention
from oracle_macs import macs_of


def test_attention_equals_the_formula_of_every_head():
    attention = Attention(96).double()  # three heads of 32
    nn.init.normal_(attention.qkv.weight)  # a softmax that is far from even
    x = torch.randn(2, 96, 3, 5, dtype=torch.float64)

    tokens = x.flatten(2).transpose(1, 2)  # (B, N, C)
    q, k, v = (tokens @ weight.T for weight in attention.qkv.weight.split(96))
    mixed = torch.zeros_like(tokens)
    for head in range(3):
        d = slice(32 * head, 32 * head + 32)
        scores = q[..., d] @ k[..., d].transpose(1, 2) / 32**0.5  # (B, N, N)
        mixed[..., d] = torch.softmax(scores, dim=-1) @ v[..., d]
    expected = attention.project(mixed).transpose(1, 2).reshape(2, 96, 3, 5)

    torch.testing.assert_close(attention(x), expected)


def test_one_token_can_only_look_at_itself():
    attention = Attention(32).double()
    x = torch.randn(2, 32, 1, 1, dtype=torch.float64)
    value = x.flatten(1) @ attention.qkv.weight[64:].T
    torch.testing.assert_close(attention(x).flatten(1), attention.project(value))


def test_attention_knows_no_positions():
    attention = Attention(64).double()
    x = torch.randn(1, 64, 4, 4, dtype=torch.float64)
    order = torch.randperm(16)

    def shuffled(y):
        return y.flatten(2)[..., order].reshape(y.shape)

    torch.testing.assert_close(attention(shuffled(x)), shuffled(attention(x)))


def test_its_work_is_four_products_of_layers_and_two_of_tokens():
    made = macs_of(Attention(64), torch.empty(2, 64, 3, 4))
    assert made.layers == 2 * 12 * 4 * 64 * 64  # B · N · 4 · C²
    assert made.attention == 2 * (12 * 12 * 64 + 12 * 12 * 64)


def test_gradients_reach_queries_keys_and_values():
    attention = Attention(32).double()
    x = torch.randn(2, 32, 3, 3, dtype=torch.float64)
    attention(x).square().sum().backward()
    assert all(part.any() for part in attention.qkv.weight.grad.split(32))
    assert attention.project.weight.grad.any()
    assert attention.project.bias.grad.any()


def test_channels_that_make_no_whole_heads_are_an_error():
    with pytest.raises(ValueError, match=r"channels \(48\) must be divisible by head_channels"):
        Attention(48)


def test_cross_attention_equals_the_formula_of_every_head():
    q, k, v = (torch.randn(2, n, 12, dtype=torch.float64) for n in (3, 7, 7))
    mixed = CrossAttention(heads=3)(q, k, v)
    for head in range(3):
        d = slice(4 * head, 4 * head + 4)
        shares = torch.softmax(q[..., d] @ k[..., d].transpose(1, 2) / 4**0.5, dim=-1)  # (B, 3, 7)
        torch.testing.assert_close(mixed[..., d], shares @ v[..., d])
