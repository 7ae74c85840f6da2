"""Inspections of data sets, made by hand."""

from __future__ import annotations

from typing import Any

from fleetfoot.data.inspection import Inspection
from fleetfoot.data.survey import Group, Place, Spread, Unreadable


def seen(**changes: Any) -> Inspection:
    """An inspection that found nothing wrong, with these changes."""
    same = Spread(300.0, 300.0, 300.0)
    made: dict[str, Any] = {
        "name": "pets",
        "layout": "folders train/<class>",
        "notes": (),
        "classes": ("cat", "dog"),
        "counts": {"train": (80, 80), "val": (20, 20)},
        "quick": False,
        "opened": 200,
        "stopped": False,
        "size": 224,
        "smaller": 0,
        "widths": same,
        "heights": same,
        "aspects": Spread(1.0, 1.0, 1.0),
        "file_bytes": Spread(900.0, 2000.0, 12345.0),
        "formats": {"JPEG": 190, "PNG": 10},
        "kinds": {},
        "unreadable": (),
        "groups": (),
        "leaks": (),
        "remarks": (),
        "seconds": 3.2,
    }
    return Inspection(**made | changes)


def group(kind: Any, *places: tuple[str, int]) -> Group:
    """A group of pictures, given as part and class of each."""
    return Group(
        kind,
        tuple(
            Place(split, i, f"{split}/{i}.png", label) for i, (split, label) in enumerate(places)
        ),
    )


def unreadable(name: str, reason: str) -> Unreadable:
    return Unreadable(Place("train", 0, name, 0), reason)
