"""The pictures on an evaluation's page: what is on them beside what the network found, the worst
first."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fleetfoot.data.scenes import IGNORED, Hand, Scenes
from fleetfoot.errors import visible
from fleetfoot.evaluate.judges.detect import DetectJudge
from fleetfoot.evaluate.task_record import TaskEvaluation
from fleetfoot.report.evaluations import percent
from fleetfoot.report.kit.hues import RGB, class_rgb
from fleetfoot.report.kit.markup import node
from fleetfoot.report.kit.thumbnail import thumbnail
from fleetfoot.report.task_svg import Box, boxes, skeletons
from fleetfoot.tasks.detect.matching import Verdict
from fleetfoot.tasks.detect.metric import Seen, pixels

SIDE = 440
"""Longest side of a picture, in pixels."""
PICTURES = 12
"""Pictures on the sheet."""
VEIL = 0.55
"""Opacity of a mask over its picture."""

HIT, MISS, MIXED = (29, 100, 180), (216, 78, 20), (140, 60, 190)
"""Colours of masks that are right, wrong or missed, and of another class."""

Mask = NDArray[np.bool_]


def detections(evaluation: TaskEvaluation, part: Scenes | None) -> list[Element]:
    """The pictures with the most mistakes, each twice: objects as they are, and as found."""
    record, answers = evaluation
    judge = answers.judge
    assert isinstance(judge, DetectJudge)
    cards = []
    for number in judge.worst(PICTURES):
        seen, verdict = judge.meter.pictures[number], judge.verdicts[number]
        address = None if part is None else thumbnail(part.pictures[number], SIDE)
        truth, found = _objects(seen, verdict, record.classes), _found(seen, verdict, record)
        layers: list[tuple[str, Sequence[Box], Sequence[tuple[Mask, RGB]]]] = [
            ("as it is", truth, _truth_masks(seen, verdict)),
            ("as found", found, _found_masks(seen, verdict)),
        ]
        frames = [
            _frame(
                address,
                visible(answers.names[number]),
                title,
                (seen.height, seen.width),
                *([_veil(masks)] if masks else []),
                over=boxes(drawn, seen.height, seen.width),
            )
            for title, drawn, masks in layers
        ]
        cards.append(_card(frames, answers.names[number], _counts(verdict)))
    return cards


def _counts(verdict: Verdict) -> str:
    parts = {
        "right": len(verdict.right),
        "missed": len(verdict.missed),
        "wrong": len(verdict.wrong),
        "as another class": len(verdict.confused),
    }
    said = ", ".join(f"{count} {name}" for name, count in parts.items() if count)
    return f"{said}; F1 {percent(100 * verdict.f1)} %"


def _objects(seen: Seen, verdict: Verdict, classes: Sequence[str]) -> list[Box]:
    mixed = {place: row for row, place in verdict.confused}
    found = set(verdict.found.tolist())
    made = []
    for n, box in enumerate(seen.boxes.tolist()):
        name = visible(classes[int(seen.classes[n])])
        if seen.crowd[n]:
            kind, said = "crowd", f"{name}, a crowd: not judged"
        elif n in found:
            kind, said = "hit", f"{name}: found"
        elif n in mixed:
            other = visible(classes[int(seen.found_classes[mixed[n]])])
            kind, said = "mixed", f"{name}: found as {other}"
        else:
            kind, said = "miss", f"{name}: missed"
        made.append(Box(edges=tuple(box), kind=kind, name=name, said=said))
    return made


def _found(seen: Seen, verdict: Verdict, record: Any) -> list[Box]:
    mixed = dict(verdict.confused)
    made = []
    for rows, kind in (
        (verdict.in_crowd.tolist(), "crowd"),
        (verdict.right.tolist(), "hit"),
        (list(mixed), "mixed"),
        (verdict.wrong.tolist(), "miss"),
    ):
        for row in rows:
            name = visible(record.classes[int(seen.found_classes[row])])
            score = f"{seen.scores[row]:.2f}"
            words = {"crowd": "within a crowd: not judged", "hit": "right", "miss": "wrong"}
            said = words.get(kind, "")
            if kind == "mixed":
                truth = visible(record.classes[int(seen.classes[mixed[row]])])
                said = f"it is {truth}"
            box = tuple(seen.found_boxes[row].tolist())
            made.append(
                Box(edges=box, kind=kind, name=f"{name} {score}", said=f"{name} {score}: {said}")
            )
    return made


def _truth_masks(seen: Seen, verdict: Verdict) -> list[tuple[Mask, RGB]]:
    if not seen.masks:
        return []
    colours = dict.fromkeys(verdict.missed.tolist(), MISS)
    colours |= dict.fromkeys(verdict.found.tolist(), HIT)
    colours |= {place: MIXED for _, place in verdict.confused}
    return [(pixels(seen, seen.masks[n]), colour) for n, colour in colours.items()]


def _found_masks(seen: Seen, verdict: Verdict) -> list[tuple[Mask, RGB]]:
    if not seen.found_masks:
        return []
    colours = dict.fromkeys(verdict.wrong.tolist(), MISS)
    colours |= dict.fromkeys(verdict.right.tolist(), HIT)
    colours |= {row: MIXED for row, _ in verdict.confused}
    return [(pixels(seen, seen.found_masks[n]), colour) for n, colour in colours.items()]


def _veil(masks: Sequence[tuple[Mask, RGB]]) -> str:
    """Masks as the address of a picture to lay over another."""
    height, width = masks[0][0].shape
    drawn = np.zeros((height, width, 4), np.uint8)
    for mask, colour in masks:
        drawn[mask] = (*colour, round(255 * VEIL))
    return address_of(Image.fromarray(drawn, "RGBA"))


def label_maps(
    evaluation: TaskEvaluation, part: Scenes | None, answers: Mapping[int, Any]
) -> list[Element]:
    """The pictures with the fewest right pixels: the picture, its true map, the network's map, and
    where they differ.

    Args:
        answers: the network's map of each picture that is shown, by its number.
    """
    held = evaluation.answers
    rows = held.judge.rows()
    cards = []
    for number, found in answers.items():
        if part is None:
            break
        given = np.asarray(found)
        truth = part.targets[number].drawn(*given.shape)  # type: ignore[union-attr]
        address = thumbnail(part.pictures[number], SIDE)
        name = visible(held.names[number])
        judged = truth != IGNORED
        wrong = judged & (truth != given)
        errors = np.zeros((*given.shape, 3), np.uint8)
        errors[judged & ~wrong] = (225, 228, 232)
        errors[~judged] = (150, 154, 160)
        errors[wrong] = [class_rgb(n) for n in given[wrong].tolist()]
        maps = (
            ("as it is", coloured(truth)),
            ("as found", coloured(given)),
            ("where they differ", Image.fromarray(errors)),
        )
        frames = [_frame(address, name, "the picture", given.shape)]
        frames += [
            _frame(address_of(_small(image)), f"{name}, {title}", title, given.shape)
            for title, image in maps
        ]
        row = rows[number]
        said = f"{percent(row['accuracy'])} % of the pixels right, mIoU {percent(row['miou'])} %"
        cards.append(_card(frames, held.names[number], said))
    return cards


def hands(
    evaluation: TaskEvaluation, part: Scenes | None, answers: Mapping[int, Any]
) -> list[Element]:
    """The hands that are farthest off, with the joints as they are and as found.

    Args:
        answers: what the network found in each picture that is shown, by its number.
    """
    held = evaluation.answers
    rows = held.judge.rows()
    cards = []
    for number, found in answers.items():
        if part is None:
            break
        target = part.targets[number]
        assert isinstance(target, Hand)
        address = thumbnail(part.pictures[number], SIDE)
        opened = part.pictures[number].open().image
        size = (opened.height, opened.width)
        over = skeletons([("hit", target.points), ("miss", found.points.numpy())], *size)
        name = visible(held.names[number])
        row = rows[number]
        said = f"PA-MPJPE {row['pa_mpjpe']:.2f} mm, {row['points']:.1f} px in the picture"
        frames = [
            _frame(address, name, "the picture", size),
            _frame(address, name, "joints as they are and as found", size, over=over),
        ]
        cards.append(_card(frames, held.names[number], said))
    return cards


def coloured(numbers: NDArray[Any]) -> Image.Image:
    """A label map in the colours of its classes; black where there is none."""
    table = np.array([class_rgb(n) for n in range(IGNORED)] + [(0, 0, 0)], np.uint8)
    return Image.fromarray(table[numbers])


def _small(image: Image.Image) -> Image.Image:
    factor = min(1.0, SIDE / max(image.size))
    size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
    return image.resize(size, Image.Resampling.NEAREST)


def address_of(image: Image.Image) -> str:
    """A picture of few colours as a ``data:`` address of a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _frame(
    address: str | None,
    alt: str,
    title: str,
    size: Sequence[int],
    *veils: str,
    over: Element | None = None,
) -> Element:
    """A picture with what lies over it, and a title below."""
    height, width = size
    if address is None:
        # the boxes keep their places on an empty picture
        shown = [node("svg", class_="blank", viewBox=f"0 0 {width} {height}")]
    else:
        shown = [node("img", src=address, alt=alt)]
    shown += [node("img", src=one, alt="", class_="over") for one in veils]
    if over is not None:
        shown.append(over)
    return node(
        "div", node("div", *shown, class_="layers"), node("p", title, class_="small"), class_="view"
    )


def _card(frames: Sequence[Element], name: str, said: str) -> Element:
    return node(
        "li",
        node("div", *frames, class_=f"views of-{len(frames)}"),
        node("p", node("b", visible(name)), f" {said}"),
    )
