"""Operators that resize maps or sample them: interpolation in 1 to 3 dimensions, and grid_sample.

Nearest, bilinear and bicubic have a kernel of their own. Other modes are separable: each dimension
is resampled by a table of weights, which PyTorch itself computes when the plan is made.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from fleetfoot.engines.native.graph import View
from fleetfoot.engines.native.lower.builder import Builder
from fleetfoot.engines.native.lower.operators.arguments import Operand
from fleetfoot.engines.native.lower.operators.products import product
from fleetfoot.engines.native.lower.operators.volumes import slices_of, volume_of
from fleetfoot.engines.native.lower.operators.windows import CHANNELS_LAST, gathered
from fleetfoot.engines.native.lower.values import Value
from fleetfoot.errors import LackingError


def resize(mode: str) -> Callable[..., Value]:
    """Lowers upsample_*.vec in one or two dimensions: (x, size, align_corners where the mode has
    it, scale factors). The kernel's scale is in input pixels for an output pixel."""

    def lowered(build: Builder, x: Value, *arguments: Any) -> Value:
        *aligned, factors = arguments[1:]
        return _resized(build, x, build.shape, mode, bool(aligned and aligned[0]), factors)

    return lowered


def _resized(
    build: Builder,
    x: Value,
    shape: Sequence[int],
    mode: str,
    align: bool,
    factors: Sequence[float] | None,
) -> Value:
    """``x`` (B, C, H, W), or (B, C, W) as one row, resized to ``shape``."""
    if len(shape) == 3:
        row = build.reshaped(x, (*x.shape[:2], 1, x.shape[2]))
        two = (*shape[:2], 1, shape[2])
        out = _resized(build, row, two, mode, align, factors and [1.0, *factors])
        return build.reshaped(out, shape)
    scale = []
    for i in (0, 1):
        have, wanted = x.shape[2 + i], shape[2 + i]
        if align:
            scale.append((have - 1) / (wanted - 1) if wanted > 1 else 0.0)
        else:
            scale.append(1 / factors[i] if factors else have / wanted)
    out = build.fresh(shape, CHANNELS_LAST)
    for source, target in zip(build.maps(x), build.maps(out), strict=True):
        build.emit(
            "resize", {"x": source}, target, mode=mode, align_corners=int(align), scale=scale
        )
    return out


def nearest_3d(mode: str) -> Callable[..., Value]:
    """Lowers upsample_nearest3d.vec and _upsample_nearest_exact3d.vec: slices are chosen, then each
    is resized."""

    def lowered(
        build: Builder, x: Value, size: Sequence[int] | None, factors: Sequence[float] | None
    ) -> Value:
        batch, channels, depth, height, width = build.shape
        ramp = torch.arange(float(x.shape[2])).reshape(1, 1, -1)
        rows = _UPSAMPLE[mode](ramp, None if factors else [depth], factors and factors[:1])
        x = gathered(build, x, 2, rows.flatten().long())
        shape = (batch * depth, channels, height, width)
        out = _resized(build, slices_of(build, x), shape, mode, False, factors and factors[1:])
        return volume_of(build, out, batch)

    return lowered


_UPSAMPLE: dict[str, Callable[..., torch.Tensor]] = {
    "nearest": torch.ops.aten.upsample_nearest1d.vec,
    "nearest_exact": torch.ops.aten._upsample_nearest_exact1d.vec,
}


def trilinear(
    build: Builder,
    x: Value,
    size: Sequence[int] | None,
    align: bool,
    factors: Sequence[float] | None,
) -> Value:
    """Lowers upsample_trilinear3d.vec: each slice is resized, then they are blended."""
    batch, channels, depth, height, width = build.shape
    have = x.shape[2]
    flat = (batch * have, channels, height, width)
    x = _resized(build, slices_of(build, x), flat, "bilinear", align, factors and factors[1:])
    columns = build.reshaped(x, (batch, have, channels, height * width)).transpose(1, 2)
    eye = torch.eye(have, dtype=torch.float64).unsqueeze(0)
    table = torch.ops.aten.upsample_linear1d.vec(
        eye, None if factors else [depth], align, factors and factors[:1]
    )
    return build.reshaped(_resampled(build, columns, 2, table[0].T), build.shape)


def antialiased(
    operator: Callable[..., torch.Tensor],
) -> Callable[..., Value]:
    """Lowers _upsample_bilinear2d_aa.vec and _upsample_bicubic2d_aa.vec."""

    def lowered(
        build: Builder,
        x: Value,
        size: Sequence[int] | None,
        align: bool,
        factors: Sequence[float] | None,
    ) -> Value:
        shape = build.shape
        for dim in (2, 3):
            have = x.shape[dim]
            table = operator(
                torch.eye(have, dtype=torch.float64)[None, None],
                None if factors else [shape[dim], have],
                align,
                [factors[dim - 2], 1.0] if factors else None,
            )
            x = _resampled(build, x, dim, table[0, 0])
        return x

    return lowered


def _resampled(build: Builder, x: Value, dim: int, table: torch.Tensor) -> Value:
    """A map whose rows (``dim`` 2) or columns (3) are weighted sums of those of ``x``.

    Args:
        table: (out, in), the weight of each input row in each output row.
    """
    first, weight = _taps(table)
    shape = (*x.shape[:dim], len(table), *x.shape[dim + 1 :])
    out = build.fresh(shape, CHANNELS_LAST)
    roles = {
        "weight": View.dense(build.constant(weight, "weight").tensor, tuple(weight.shape)),
        "index": View.dense(build.constant(first, "index").tensor, (len(first),)),
    }
    taps = weight.shape[1]
    for source, target in zip(build.maps(x), build.maps(out), strict=True):
        build.emit("resample", {"x": source, **roles}, target, axis=dim - 2, taps=taps)
    return out


def _taps(table: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(first, weight): the weights of ``table`` that are not zero lie among those of as many rows
    for each output row, from ``first`` on. Zeros among them are not read."""
    size = table.shape[1]
    used = [row.nonzero().flatten() for row in table]
    spans = [(int(u.min()), int(u.max())) if len(u) else (0, 0) for u in used]
    taps = max(last - first + 1 for first, last in spans)
    firsts = torch.tensor([min(first, size - taps) for first, _ in spans])
    return firsts, torch.stack([row[i : i + taps] for row, i in zip(table, firsts, strict=True)])


def grid_sample(
    build: Builder, x: Value, grid: Operand, mode: int, padding: int, align: bool
) -> Value:
    """Lowers grid_sampler and grid_sampler_2d."""
    shape = build.shape
    if len(shape) != 4:
        raise LackingError("in three dimensions")
    points = build.value(grid).permute((0, 3, 1, 2))  # (B, 2, H, W), two numbers a pixel
    out = build.fresh(shape, CHANNELS_LAST)
    for source, at, target in zip(
        build.maps(build.value(x)), build.maps(points), build.maps(out), strict=True
    ):
        build.emit(
            "sample",
            {"x": source, "grid": at},
            target,
            mode=("bilinear", "nearest", "bicubic")[mode],
            padding=("zeros", "border", "reflection")[padding],
            align_corners=int(align),
        )
    return out


def affine_grid(build: Builder, theta: Value, size: Sequence[int], align: bool) -> Value:
    """Lowers affine_grid_generator: each position (x, y, 1) of the result times ``theta``
    (B, 2, 3)."""
    if len(size) != 4:
        raise LackingError("in three dimensions")
    shape = build.shape
    plain = torch.ops.aten.affine_grid_generator(torch.eye(2, 3)[None], [1, *size[1:]], align)
    points = torch.cat((plain.reshape(1, -1, 2), torch.ones(1, size[2] * size[3], 1)), 2)
    found = product(build, build.value(points), theta.transpose(1, 2))
    return build.reshaped(found, shape)


OPERATORS: dict[str, Callable[..., Any]] = {
    "upsample_nearest1d.vec": resize("nearest"),
    "upsample_nearest2d.vec": resize("nearest"),
    "upsample_nearest3d.vec": nearest_3d("nearest"),
    "_upsample_nearest_exact1d.vec": resize("nearest_exact"),
    "_upsample_nearest_exact2d.vec": resize("nearest_exact"),
    "_upsample_nearest_exact3d.vec": nearest_3d("nearest_exact"),
    "upsample_linear1d.vec": resize("bilinear"),
    "upsample_bilinear2d.vec": resize("bilinear"),
    "upsample_bicubic2d.vec": resize("bicubic"),
    "upsample_trilinear3d.vec": trilinear,
    "_upsample_bilinear2d_aa.vec": antialiased(torch.ops.aten._upsample_bilinear2d_aa.vec),
    "_upsample_bicubic2d_aa.vec": antialiased(torch.ops.aten._upsample_bicubic2d_aa.vec),
    "affine_grid_generator.default": affine_grid,
    "grid_sampler.default": grid_sample,
    "grid_sampler_2d.default": grid_sample,
}
