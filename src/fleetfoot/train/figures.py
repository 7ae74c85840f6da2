"""The figures of each task: what an evaluation measures, and which figure decides the best weights.

A figure's name is the end of its columns in ``summary.csv``: ``eval_top1`` is that of the weights,
``ema_top1`` that of their moving average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fleetfoot.tasks.network import Task

Kind = Task | Literal["classify"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number of an evaluation."""

    name: str
    title: str
    """For people, for example ``top-1``."""
    unit: str = ""
    rises: bool = True
    """Whether a higher number is a better one."""
    digits: int = 2
    """Digits after the point."""
    chart: str = ""
    """What its curve shows, in a word; "" for a figure without one."""

    @property
    def heading(self) -> str:
        """Title and unit, for a column of a table."""
        return f"{self.title} {self.unit}".strip()

    def text(self, value: float) -> str:
        """The number with its title and unit.

        >>> FIGURES["top1"].text(71.9)
        'top-1 71.90 %'
        """
        return f"{self.title} {self.number(value)} {self.unit}".rstrip()

    def number(self, value: float) -> str:
        return f"{value:.{self.digits}f}"


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What an evaluation of one task measures."""

    figures: tuple[Figure, ...]
    deciding: Figure
    """The figure by which the best weights are chosen."""


_LOSS = Figure(name="loss", title="loss", rises=False)


def _measured(figures: tuple[Figure, ...], *, loss: bool = False) -> Measured:
    """Figures whose first one decides."""
    return Measured(figures=(_LOSS, *figures) if loss else figures, deciding=figures[0])


MEASURED: dict[Kind, Measured] = {
    "classify": _measured(
        (
            Figure(name="top1", title="top-1", unit="%", chart="accuracy"),
            Figure(name="top5", title="top-5", unit="%"),
        ),
        loss=True,
    ),
    "detect": _measured(
        (
            Figure(name="ap", title="AP", unit="%", chart="average precision"),
            Figure(name="ap50", title="AP50", unit="%"),
            Figure(name="ap75", title="AP75", unit="%"),
            Figure(name="mask_ap", title="AP of masks", unit="%"),
            Figure(name="mask_ap50", title="AP50 of masks", unit="%"),
        )
    ),
    "segment": _measured(
        (
            Figure(name="miou", title="mIoU", unit="%", chart="intersection over union"),
            Figure(name="accuracy", title="accuracy of pixels", unit="%"),
        )
    ),
    "hand": _measured(
        (
            Figure(
                name="pa_mpjpe", title="PA-MPJPE", unit="mm", rises=False, chart="error of joints"
            ),
            Figure(name="pa_mpvpe", title="PA-MPVPE", unit="mm", rises=False),
            Figure(name="f_5", title="F@5 mm", digits=3),
            Figure(name="f_15", title="F@15 mm", digits=3),
        )
    ),
}
FIGURES: dict[str, Figure] = {
    figure.name: figure for measured in MEASURED.values() for figure in measured.figures
}
"""Every figure by its name; a name means the same in all tasks."""


def columns(task: Kind) -> tuple[str, ...]:
    """Columns of ``summary.csv``: those of timm's first."""
    names = [figure.name for figure in MEASURED[task].figures]
    return (
        "epoch", "train_loss", *(f"eval_{name}" for name in names), "lr",
        *(f"ema_{name}" for name in names), "size", "update", "images_per_s", "seconds",
    )  # fmt: skip
