"""The tables of ``docs/detectors.md``: parameters and operations of whole detectors, beside those
that papers and libraries print.

    python -m tools.detectors docs/detectors.md

Nothing runs on values, so a table takes seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from fleetfoot.count import Trace, trace
from fleetfoot.count.vocabulary import BATCH_NORMS
from fleetfoot.report import update_between_markers
from fleetfoot.report.record_tables import markdown_table
from fleetfoot.tasks.catalogue import create_model

SIZE = (800, 1280)


@dataclass(frozen=True, kw_only=True)
class Printed:
    """A network's figures in a paper's table."""

    name: str
    params: float
    """Millions."""
    gmacs: int
    """Thousands of millions, at ``SIZE``."""


FASTERNET = (
    Printed(name="maskrcnn:fasternet_s", params=49.0, gmacs=258),
    Printed(name="maskrcnn:fasternet_m", params=71.2, gmacs=344),
    Printed(name="maskrcnn:fasternet_l", params=110.9, gmacs=484),
)
"""FasterNet's table 3 (https://arxiv.org/abs/2303.03667)."""

TORCHVISION: dict[str, tuple[dict[str, Any], int]] = {
    "fcos:timm:resnet50": ({"num_classes": 91}, 32_269_600),
    "fasterrcnn:timm:resnet50": ({"num_classes": 90}, 41_755_286),
    "maskrcnn:timm:resnet50": ({"num_classes": 90}, 44_401_393),
}
"""torchvision's classes and number of parameters for each; 91 classes include a background in the
two-stage ones."""

PARTS = {
    "backbone": "backbone",
    "pyramid": "pyramid",
    "proposals": "rpn",
    "boxes": "roi_heads.box",
    "masks": "roi_heads.mask",
}
"""Names of a two-stage network's parts in the table, and of the modules that they are."""


def counted(name: str) -> Trace:
    """Trace of a whole detector at ``SIZE``, its second stage included."""
    with torch.device("meta"):
        network = create_model(name)
    return trace(network.whole(), torch.empty(1, 3, *SIZE, device="meta"))  # type: ignore[operator]


def macs_within(found: Trace, module: str) -> int:
    """Multiply-accumulates of the modules whose path starts with ``module``."""
    return sum(op.macs or 0 for op in found.operators if op.module.startswith(module))


def norm_operations(found: Trace) -> int:
    """Operations of the batch norms at two a value, as the usual counters have it."""
    norms = (op for op in found.operators if op.name in BATCH_NORMS)
    return sum(2 * torch.Size(op.shape).numel() for op in norms)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join(markdown_table(head, list(rows)))


def giga(value: float) -> str:
    return f"{value / 1e9:.2f}"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """A whole detector's count, beside a printed one."""

    printed: Printed
    found: Trace

    @property
    def mask_output(self) -> int:
        """Multiply-accumulates of the last two layers of the mask head."""
        return macs_within(self.found, "roi_heads.mask_predictor")

    @property
    def in_their_way(self) -> int:
        """The count with the norms and without the mask head's last two layers."""
        return self.found.macs - self.mask_output + norm_operations(self.found)


def compare(printed: Iterable[Printed] = FASTERNET) -> list[Compared]:
    return [Compared(printed=row, found=counted(row.name)) for row in printed]


def parts(rows: Iterable[Compared]) -> str:
    """A table of each network's multiply-accumulates by part.

    Raises:
        ValueError: the parts do not add up to the total.
    """
    lines = []
    for row in rows:
        shares = [macs_within(row.found, module) for module in PARTS.values()]
        if sum(shares) != row.found.macs:
            raise ValueError(f"{row.printed.name}: its parts are not its {row.found.macs:,} MACs")
        lines.append((row.printed.name, *map(giga, shares), giga(row.found.macs)))
    return table(("GMACs", *PARTS, "whole"), lines)


def beside_the_paper(rows: Iterable[Compared]) -> str:
    """A table that leads from our counts to the printed ones."""
    return table(
        (
            "network", "params", "printed, M", "GMACs", "- mask head's last two layers", "+ norms",
            "=", "printed, G", "difference",
        ),
        (
            (
                row.printed.name,
                f"{row.found.params:,}",
                f"{row.printed.params:g}",
                giga(row.found.macs),
                giga(row.mask_output),
                giga(norm_operations(row.found)),
                giga(row.in_their_way),
                str(row.printed.gmacs),
                f"{row.in_their_way / 1e9 - row.printed.gmacs:+.2f}",
            )
            for row in rows
        ),
    )  # fmt: skip


def beside_torchvision() -> str:
    """A table of our parameters beside torchvision's, whose count leaves out the scales and shifts
    of the backbone's norms."""
    lines = []
    for name, (options, printed) in TORCHVISION.items():
        with torch.device("meta"):
            network = create_model(name, **options)
        whole = sum(p.numel() for p in network.parameters())
        norms = sum(
            p.numel()
            for module in network.modules()
            if isinstance(module, torch.nn.BatchNorm2d)
            for p in module.parameters()
        )
        given = ", ".join(f"{key}={value}" for key, value in options.items())
        lines.append(
            (f"{name}, {given}", f"{whole:,}", f"{norms:,}", f"{whole - norms:,}", f"{printed:,}")
        )
    return table(("network", "params", "- norms", "=", "torchvision"), lines)


def markdown() -> str:
    """All tables with their headings."""
    rows = compare()
    height, width = SIZE
    return "\n\n".join(
        (
            "### Mask R-CNN by part",
            f"At {width} x {height}, 80 classes, with the second stage on 1,000 regions a picture "
            "and 100 masks:",
            parts(rows),
            "### Beside FasterNet's table",
            beside_the_paper(rows),
            "### Beside torchvision",
            beside_torchvision(),
        )
    )


def main(document: str) -> None:
    """Prints the tables, and puts them between the markers of ``document``."""
    text = markdown()
    print(text)
    changed = update_between_markers(document, text)
    print(f"\n{document}: {'updated' if changed else 'already what the code gives'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
