"""The pictures of an evaluation's page for detectors and segmenters: curves of precision by recall,
boxes over a picture, and confusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from fleetfoot.report.eval_svg import MOST_NARROW, MOST_WIDE, Cell, draw_matrix, short
from fleetfoot.report.kit.markup import label, node

COLOURED = 8
"""Classes whose curves have a colour each; more are grey."""
BOLD = 0.64
"""Mean advance of a bold letter in em."""
LABELLED = 14
"""Boxes on a picture that are labelled; more would hide each other."""
NOTHING = "(nothing)"
"""Row of detections that are of nothing, and column of objects that nothing found."""

Curve = NDArray[np.float64]
"""Precision at recall 0, 0.01, ... 1, as shares."""


def curves(found: Sequence[tuple[int, str, Curve]], *, narrow: bool) -> Element:
    """Precision by recall at an overlap of a half: a line for each class, and their mean.

    Args:
        found: number, name and curve of each class that has objects.
    """
    width, height = (350, 330) if narrow else (460, 400)
    left, right, top, bottom = 44, width - 12, 26, height - 42
    across, up = right - left, bottom - top
    parts = []
    for tick in range(0, 101, 20):
        x, y = left + across * tick / 100, bottom - up * tick / 100
        parts.append(node("path", class_="grid", d=f"M{left} {y:.1f}H{right}"))
        parts.append(label(left - 7, y + 4, str(tick), "tick end"))
        parts.append(label(x, height - 26, str(tick), "tick middle"))

    def line(curve: Curve) -> str:
        points = [
            f"{left + across * n / 100:.1f} {bottom - up * value:.1f}"
            for n, value in enumerate(curve.tolist())
        ]
        return "M" + "L".join(points)

    for number, name, curve in found:
        kind = f"curve c{number}" if len(found) <= COLOURED else "curve grey"
        said = f"{name}: {100 * curve.mean():.1f} % AP50"
        parts.append(node("path", node("title", said), class_=kind, d=line(curve)))
    if len(found) > 1:
        mean = np.mean([curve for _, _, curve in found], axis=0)
        said = f"mean of {len(found)} classes: {100 * mean.mean():.1f} % AP50"
        parts.append(node("path", node("title", said), class_="curve mean", d=line(mean)))
    parts += [
        node("path", class_="axis", d=f"M{left} {top}V{bottom}H{right}"),
        label(6, 12, "precision, %", "title"),
        label((left + right) / 2, height - 6, "recall, %", "title middle"),
    ]
    return node(
        "svg",
        *parts,
        class_="chart narrow" if narrow else "chart wide lines",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label="Precision by recall, class by class",
    )


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box over a picture."""

    edges: tuple[float, float, float, float]
    kind: str
    """CSS class: how it was judged."""
    name: str
    """What stands beside it."""
    said: str
    """What it says under the pointer."""


def boxes(found: Sequence[Box], height: int, width: int) -> Element:
    """Boxes as a layer over a picture of that size."""
    size = max(width, height) / 26
    parts = []
    for one in found:
        left, top, right, bottom = one.edges
        parts.append(
            node(
                "rect",
                node("title", one.said),
                class_=one.kind,
                x=round(left, 1),
                y=round(top, 1),
                width=round(max(0.5, right - left), 1),
                height=round(max(0.5, bottom - top), 1),
            )
        )
    if len(found) <= LABELLED:
        for one in found:
            left, top, right, _ = one.edges
            text = short(one.name, 22)
            long = BOLD * size * len(text)
            x = max(2.0, min(left, width - long))
            y = top - 0.3 * size if top > 1.3 * size else top + size
            made = label(x, y, text, one.kind)
            made.set("font-size", f"{size:.1f}")
            parts.append(made)
    return node(
        "svg",
        *parts,
        class_="over",
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label=f"{len(found)} boxes",
    )


BONES = tuple((joint - 1 if (joint - 1) % 4 else 0, joint) for joint in range(1, 21))
"""Pairs of joints between which a skeleton has a bone: the wrist, then four joints a finger."""


def skeletons(hands: Sequence[tuple[str, NDArray[np.float64]]], height: int, width: int) -> Element:
    """Joints and bones of hands as a layer over a picture of that size.

    Args:
        hands: CSS class and joints (21, 2) of each, in pixels.
    """
    parts = []
    for kind, points in hands:
        rows = np.round(points, 1).tolist()
        line = "".join(f"M{rows[a][0]} {rows[a][1]}L{rows[b][0]} {rows[b][1]}" for a, b in BONES)
        parts.append(node("path", class_=f"bone {kind}", d=line))
        size = max(height, width) / 90
        parts += [node("circle", class_=f"joint {kind}", cx=x, cy=y, r=round(size, 1))
                  for x, y in rows]  # fmt: skip
    return node(
        "svg",
        *parts,
        class_="over",
        viewBox=f"0 0 {width} {height}",
        preserveAspectRatio="none",
        role="img",
        aria_label="joints",
    )


def confusion(
    counts: NDArray[np.int64], classes: Sequence[str], *, objects: bool, narrow: bool
) -> Element:
    """What is taken for what, in objects or in pixels.

    Args:
        counts: by true class (row) and found class (column); of objects the last row and column are
            ``NOTHING``.
    """
    names = [*classes, NOTHING] if objects else list(classes)
    chosen = shown_classes(counts, MOST_NARROW if narrow else MOST_WIDE, objects=objects)
    totals = counts.sum(axis=1)

    def cell(truth: int, found: int) -> Cell:
        count, total = int(counts[truth, found]), int(totals[truth])
        share = count / total if total else 0.0
        if objects and truth == found == len(classes):
            return Cell(share=0, text="", said="")
        if not count:
            return Cell(share=0, text="", said="")
        if objects:
            text = str(count)
            of = f"{count:,} of {total:,}"
            if truth == len(classes):
                said = f"{names[found]} found where nothing is: {count:,}"
            elif found == len(classes):
                said = f"{names[truth]} not found: {of}"
            elif truth == found:
                said = f"{names[truth]} found: {of}"
            else:
                said = f"{names[truth]} found as {names[found]}: {of}"
        else:
            text = f"{100 * share:.0f}" if share >= 0.005 else "·"
            taken = "right" if truth == found else f"taken for {names[found]}"
            said = f"{names[truth]} {taken}: {100 * share:.2f} % of its pixels"
        return Cell(share=share, text=text, said=said)

    return draw_matrix(
        [names[number] for number in chosen],
        [[cell(truth, found) for found in chosen] for truth in chosen],
        titles=("true class", "found as" if objects else "given class"),
        says="What is taken for what",
        narrow=narrow,
    )


def shown_classes(counts: NDArray[np.int64], most: int, *, objects: bool) -> list[int]:
    """The classes of a matrix: all that occur, if they are few; otherwise those of the most
    frequent confusions, by share of the true class. ``NOTHING`` is always among them."""
    count = len(counts) - objects
    occurs = [n for n in range(count) if counts[n].any() or counts[:, n].any()]
    last = [count] if objects else []
    if len(occurs) + len(last) <= most:
        return occurs + last
    wrong = counts[:count, :count] / np.maximum(1, counts[:count].sum(axis=1, keepdims=True))
    np.fill_diagonal(wrong, 0)
    picked: dict[int, None] = {}
    for flat in np.argsort(-wrong, axis=None, kind="stable").tolist():
        pair = dict.fromkeys(divmod(flat, count))
        if not wrong.flat[flat] or len(picked | pair) + len(last) > most:
            break
        picked |= pair
    return [*(sorted(picked) or occurs[: most - len(last)]), *last]


def spent(parts: Mapping[str, float]) -> Element:
    """A bar for each part of a network: its share of a picture's time.

    Args:
        parts: seconds by part, in the order in which they run.
    """
    width, height, left = 350, 26, 78
    total = sum(parts.values())
    rows = []
    for place, (name, seconds) in enumerate(parts.items()):
        y = place * height
        long = (width - left - 100) * seconds / total
        said = f"{1000 * seconds:.2f} ms, {100 * seconds / total:.0f} %"
        rows += [
            label(left - 8, y + 17, name, "tick end"),
            node(
                "rect",
                node("title", f"{name}: {said}"),
                class_="part",
                x=left,
                y=y + 5,
                width=round(max(1.0, long), 1),
                height=height - 9,
            ),
            label(left + max(1.0, long) + 7, y + 17, said, "tick"),
        ]
    return node(
        "svg",
        *rows,
        class_="chart parts",
        viewBox=f"0 0 {width} {height * len(parts)}",
        role="img",
        aria_label="Time of a picture by part of the network",
    )


def shares_within(errors: Sequence[float], *, title: str, narrow: bool) -> Element:
    """Share of pictures whose error is at most that of the axis.

    Args:
        errors: sorted, lowest first; one or more.
        title: that of the axis of errors.
    """
    width, height = (350, 300) if narrow else (460, 360)
    left, right, top, bottom = 44, width - 14, 26, height - 42
    most = max(1e-9, errors[-1]) * 1.05
    step = next(s for s in _STEPS if most / s <= 8)
    parts = []
    for tick in range(0, 101, 20):
        y = bottom - (bottom - top) * tick / 100
        parts.append(node("path", class_="grid", d=f"M{left} {y:.1f}H{right}"))
        parts.append(label(left - 7, y + 4, str(tick), "tick end"))
    for number in range(int(most / step) + 1):
        x = left + (right - left) * number * step / most
        parts.append(label(x, height - 26, f"{number * step:g}", "tick middle"))
    points = [f"M{left} {bottom}"]
    for number, error in enumerate(errors, 1):
        x = left + (right - left) * error / most
        points.append(f"H{x:.1f}V{bottom - (bottom - top) * number / len(errors):.1f}")
    middle = errors[len(errors) // 2]
    said = f"half of the {len(errors)} pictures are within {middle:.2f}"
    parts += [
        node("path", node("title", said), class_="curve mean", d="".join([*points, f"H{right}"])),
        node("path", class_="axis", d=f"M{left} {top}V{bottom}H{right}"),
        label(6, 12, "pictures, %", "title"),
        label((left + right) / 2, height - 6, title, "title middle"),
    ]
    return node(
        "svg",
        *parts,
        class_="chart narrow" if narrow else "chart wide lines",
        viewBox=f"0 0 {width} {height}",
        role="img",
        aria_label=f"Share of pictures by {title}",
    )


_STEPS = tuple(unit * 10.0**power for power in range(-3, 7) for unit in (1, 2, 5))
