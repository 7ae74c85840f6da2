"""Folded weights in the training form: the same function in eval mode, to the last bit of storage.

MobileOne and FastViT are also released folded, with one convolution in place of a sum of branches.
The zoo has one form of a network, the training form, and it can hold such a convolution exactly:
one branch takes the kernel and a batch norm that changes nothing, the other branches become zero.
If a shortcut was folded in, a branch that carries the input subtracts it again:

- a sum of branches: the first convolution is the kernel, the rest zero;
- RepMixer, x + s · (mix(x) − norm(x)): s = 1 and norm the identity leave mix(x), the kernel;
- positional encoding, x + conv(x): the kernel less 1 at its centre. This is the only place where a
  value is rounded, by less than 2⁻²⁴; if the value at the centre is between ½ and 2, the difference
  is exact even there;
- a large kernel beside a small one: the large one is the kernel, the small one zero.

``transform.fuse`` of the result gives the released convolution again. Training can go on from it,
but a convolution of zeros followed by a scale of zero stays zero: neither has a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import torch
from torch import Tensor

FOLDED = "folded"
"""Last word, in the tables of ``weights.layouts``, of a module that the file holds folded."""

NORM_EPS = 1e-5
"""Epsilon of every batch norm of MobileOne and FastViT."""

NOTE = (
    "folded weights: exact for inference; training would go on with one live convolution in each "
    "sum, the others being zero"
)


@cache
def _unit_norm() -> tuple[float, float]:
    """A scale and a variance, both float32, with scale / sqrt(variance + eps) nearest to 1.

    variance = 1 − eps and scale 1 would be 3e-8 off, because 1 − eps is no float32. Among 2¹⁷
    scales there is one whose square less eps happens to be a float32 almost exactly: 1e-12 off.
    """
    scale = torch.linspace(1, 2, 1 << 17, dtype=torch.float32).double()
    variance = (scale.square() - NORM_EPS).float().double()
    best = int((scale / (variance + NORM_EPS).sqrt() - 1).abs().argmin())
    return scale[best].item(), variance[best].item()


def unfold(tensors: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Replaces each folded convolution, in place, by the tensors of its sum of branches.

    ``expected`` are the network's tensors; only their names and shapes are read. A folded
    convolution whose sum is not in the network stays, to be reported as left over.
    """
    for name in [key.removesuffix(".weight") for key in tensors if key.endswith("folded.weight")]:
        owner = name.removesuffix(f".{FOLDED}")
        weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
        if bias is None:  # a network's own bias is never folded away, so the file lacks a key
            continue
        if f"{owner}.branches.conv0.0.weight" in expected:
            made = _branch_sum(f"{owner}.branches", weight, bias, expected)
        elif f"{owner}.mix.branches.conv0.0.weight" in expected:
            made = _branch_sum(f"{owner}.mix.branches", weight, bias, expected)
            made |= _norm(f"{owner}.norm", torch.zeros_like(bias))
            made[f"{owner}.layer_scale"] = torch.ones_like(bias).reshape(-1, 1, 1)
        elif f"{owner}.large.0.weight" in expected:
            made = _zero(f"{owner}.small", expected) | _conv_norm(f"{owner}.large", weight, bias)
        elif f"{owner}.conv.weight" in expected:
            made = {f"{owner}.conv.weight": _less_identity(weight), f"{owner}.conv.bias": bias}
        else:
            continue
        del tensors[f"{name}.weight"], tensors[f"{name}.bias"]
        tensors |= made


def _branch_sum(
    owner: str, weight: Tensor, bias: Tensor, expected: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    return _zero(owner, expected) | _conv_norm(f"{owner}.conv0", weight, bias)


def _conv_norm(owner: str, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
    return {f"{owner}.0.weight": weight} | _norm(f"{owner}.1", bias)


def _norm(owner: str, shift: Tensor) -> dict[str, Tensor]:
    """A batch norm that adds ``shift`` and changes nothing else."""
    scale, variance = _unit_norm()
    return {
        f"{owner}.weight": torch.full_like(shift, scale, dtype=torch.float32),
        f"{owner}.bias": shift,
        f"{owner}.running_mean": torch.zeros_like(shift),
        f"{owner}.running_var": torch.full_like(shift, variance, dtype=torch.float32),
    }


def _zero(owner: str, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors for every key below ``owner`` with which its output is zero."""
    return {
        key: torch.full(own.shape, float(key.endswith("running_var")))
        for key, own in expected.items()
        if key.startswith(f"{owner}.") and own.is_floating_point()
    }


def _less_identity(weight: Tensor) -> Tensor:
    """A depthwise kernel minus the identity kernel. (C, 1, K, K) -> (C, 1, K, K)"""
    if weight.ndim != 4:
        return weight  # of the wrong shape, which the comparison that follows will report
    less = weight.clone()
    less[:, :, weight.shape[2] // 2, weight.shape[3] // 2] -= 1
    return less
