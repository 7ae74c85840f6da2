"""A layer's feature maps and the matrix of their similarities, as one picture."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fleetfoot.errors import visible
from fleetfoot.models.maps import ALIKE, Similarity
from fleetfoot.report.plots import INK, SOFT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_MAPS = 64
"""Largest number of maps that are drawn; the matrix shows all."""


def summary(found: Similarity) -> str:
    """The similarities in one sentence."""
    count = len(found.constant)
    dead = f"; {count} constant map{'s' * (count > 1)} left out" if count else ""
    return (
        f"similarity of neighbours {found.neighbours:.2f}, of all pairs {found.pairs:.2f}; "
        f"{100 * found.alike:.0f} % of the channels have another that is ≥ {ALIKE:g} alike{dead}"
    )


def features_figure(maps: Tensor, found: Similarity, title: str, notes: str = "") -> Figure:
    """The first maps of (C, H, W) in the order of their channels, each from its least to its
    largest value; beside them the matrix, and below them ``notes``."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = maps[:MOST_MAPS].float()
    side = math.ceil(math.sqrt(len(shown)))
    figure = Figure(figsize=(9.6, 5.4), facecolor="white")
    FigureCanvasAgg(figure)
    plain: dict[str, Any] = {"parse_math": False}  # names of files may hold "$"
    figure.text(0.02, 0.95, visible(title), **plain, fontsize=11, fontweight="bold", color=INK)
    figure.text(0.02, 0.912, summary(found), fontsize=8, color=SOFT)
    figure.text(0.02, 0.02, visible(notes), **plain, fontsize=8, color=INK)
    grid = figure.add_gridspec(
        side, side, left=0.02, right=0.49, top=0.87, bottom=0.08, wspace=0.06, hspace=0.06
    )
    for number, one in enumerate(shown):
        axes = figure.add_subplot(grid[number // side, number % side])
        axes.imshow(one.numpy(), cmap="viridis", interpolation="nearest")
        axes.set_axis_off()
    axes = figure.add_axes((0.55, 0.11, 0.38, 0.72))
    image = axes.imshow(found.matrix.numpy(), cmap="magma", vmin=0, vmax=1, interpolation="nearest")
    axes.set_title("|correlation| of each two channels", fontsize=8.5, color=SOFT)
    axes.tick_params(labelsize=7, colors=SOFT)
    bar = figure.colorbar(image, ax=axes, fraction=0.045, pad=0.03)
    bar.ax.tick_params(labelsize=7, colors=SOFT)
    bar.outline.set_visible(False)
    left_out = len(maps) - len(shown)
    caption = f"channels 0 to {len(shown) - 1}" + (f" of {len(maps)}" if left_out else "")
    figure.text(0.02, 0.88, caption, fontsize=7.5, color=SOFT)
    return figure
