"""Figures and sentences on a set for one of the tasks, for the card and the page."""

from __future__ import annotations

from fleetfoot.data.scene_inspection import SceneInspection
from fleetfoot.errors import counted
from fleetfoot.report.summary import digits


def title(found: SceneInspection) -> str:
    """The size of the set, for example "3 classes, 364 pictures, 4,886 objects"."""
    if found.task == "hand":
        return f"{counted(found.pictures, 'picture')} with a hand each"
    classes = counted(len(found.classes), "class", "classes")
    said = f"{classes}, {counted(found.pictures, 'picture')}"
    if found.task == "segment":
        return f"{said} with label maps"
    return f"{said}, {counted(sum(map(sum, found.counts.values())), 'object')}"


def titles(found: SceneInspection) -> tuple[str, ...]:
    """The heads of the table of parts."""
    if found.task == "hand":
        return ("part", "pictures")
    if found.task == "segment":
        return ("part", "pictures", "classes", "least", "median", "most", "no class")
    return ("part", "pictures", "empty", "objects", "classes", "least", "median", "most")


def part_rows(found: SceneInspection) -> list[tuple[str, ...]]:
    """A row for each part, under ``titles``. The least, median and most are objects of a class, or
    the share of the labelled pixels, among the classes that have any."""
    made: list[tuple[str, ...]] = []
    for name, counts in found.counts.items():
        full = sorted(number for number in counts if number)
        middle = (full[(len(full) - 1) // 2] + full[len(full) // 2]) / 2 if full else 0
        ends = (full[0] if full else 0, middle, full[-1] if full else 0)
        pictures = f"{found.lengths[name]:,}"
        if found.task == "hand":
            made.append((name, pictures))
        elif found.task == "segment":
            labelled, left = sum(counts), found.ignored[name]
            shares = [percent(end, labelled) for end in ends]
            no_class = percent(left, labelled + left)
            held = "-" if found.quick else f"{len(full):,}"
            made.append((name, pictures, held, *shares, no_class))
        else:
            cells = (found.empty[name], sum(counts), len(full), *ends)
            made.append((name, pictures, *(f"{cell:,g}" for cell in cells)))
    return made


def percent(part: float, whole: float) -> str:
    """A share in per cent, to three digits; "-" of nothing."""
    if not whole:
        return "-"
    return f"{digits(100 * part / whole)} %" if part else "0 %"


def facts(found: SceneInspection) -> dict[str, str]:
    """Objects in words."""
    if found.per_picture is None:
        return {}
    of = found.per_picture
    small, middle, large = found.object_sizes
    objects = small + middle + large
    made = {
        "objects a picture": f"{of.least:g} to {of.most:g}, median {of.median:g}",
        "object sizes": f"{percent(small, objects)} below 32² pixels, {percent(middle, objects)} "
        f"up to 96², {percent(large, objects)} above",
    }
    masked = sum(found.masked.values())
    everything = objects + sum(found.crowds.values())
    made["masks"] = f"{masked:,} of {counted(everything, 'object')}" if masked else "none"
    return made
