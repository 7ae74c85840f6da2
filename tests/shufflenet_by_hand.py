"""ShuffleNet's units from their papers' figures, with torch.nn.functional alone.

Nothing of the package is used: weights are taken by key, shuffles are written as lists of indices.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

Weights = dict[str, Tensor]


def below(weights: Weights, prefix: str) -> Weights:
    """The entries under ``prefix.``, without it."""
    start = prefix + "."
    return {key.removeprefix(start): w for key, w in weights.items() if key.startswith(start)}


def conv_norm(x, weights: Weights, *, stride=1, groups=1, eps=1e-5):
    """Convolution padded to keep the size at stride 1, and batch norm in eval mode."""
    kernel = weights["0.weight"]
    y = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2, groups=groups)
    return F.batch_norm(
        y,
        weights["1.running_mean"],
        weights["1.running_var"],
        weights["1.weight"],
        weights["1.bias"],
        eps=eps,
    )


def depthwise(x, weights: Weights, *, stride=1):
    return conv_norm(x, weights, stride=stride, groups=x.shape[1])


def by_columns(x, rows: int):
    """Channels written as a matrix of ``rows`` rows, read by columns: the papers' shuffle."""
    columns = x.shape[1] // rows
    return x[:, [row * columns + column for column in range(columns) for row in range(rows)]]


def by_rows(x, rows: int):
    """Channels written as a matrix by columns, read by rows: the inverse of ``by_columns``."""
    columns = x.shape[1] // rows
    return x[:, [column * rows + row for row in range(rows) for column in range(columns)]]


def even_odd(x):
    channels = x.shape[1]
    return x[:, list(range(0, channels, 2))], x[:, list(range(1, channels, 2))]


def hard_swish(x):
    return x * torch.clamp(x + 3, 0, 6) / 6
