"""What in a data set needs a look before training, in sentences, the gravest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from fleetfoot.data.inspection import Group, Inspection
from fleetfoot.errors import counted, visible

Level = Literal["wrong", "doubt", "note"]

IMBALANCE = 10
"""Largest class over smallest class of train, from which on it is a doubt."""
FEW = 10
"""Pictures of a class in train, below which it is a doubt."""


@dataclass(frozen=True)
class Concern:
    """One sentence on a data set."""

    level: Level
    """``wrong``: an accuracy will be wrong, or a picture cannot be used; ``doubt``: likely to hurt;
    ``note``: to be known."""
    text: str


def concerns(found: Inspection) -> tuple[Concern, ...]:
    """What to look at, the gravest first."""
    said = [*_wrong(found), *_doubts(found), *_notes(found)]
    return tuple(sorted(said, key=lambda one: ("wrong", "doubt", "note").index(one.level)))


def _wrong(found: Inspection) -> Iterator[Concern]:
    for leak in found.leaks:
        total = leak.equal + leak.alike
        verb = "is" if total == 1 else "are"
        share = f"{total:,} of {counted(leak.pictures, 'picture')} of {leak.split} "
        share += f"({_percent(total / leak.pictures)} %) {verb} in train too"
        how = f"{leak.equal:,} as an equal file, {leak.alike:,} by looks"
        yield Concern(
            "wrong" if leak.equal else "doubt",
            f"{share} ({how}): the accuracy on {leak.split} will be too high; keep copies, and "
            "shots of one scene, in one part",
        )
    two_classes = [group for group in found.groups if len(group.classes) > 1]
    for kind, words in (("equal", "of equal files"), ("alike", "of pictures that look alike")):
        groups = [group for group in two_classes if group.kind == kind]
        if groups:
            yield Concern(
                "wrong" if kind == "equal" else "doubt",
                f"{counted(len(groups), 'group')} {words} in two classes or more: "
                f"{_confused(found, groups)}; decide for one",
            )
    if found.unreadable:
        first = found.unreadable[0]
        yield Concern(
            "wrong",
            f"{counted(len(found.unreadable), 'picture')} cannot be read, for example "
            f"{visible(first.place.name)}: {visible(first.reason)}",
        )


def _percent(share: float) -> str:
    """A share as a percentage to two digits: 0.51, 3.2, 45, 100."""
    return f"{100 * share:.0f}" if share >= 0.1 else f"{100 * share:.2g}"


def _confused(found: Inspection, groups: Iterable[Group]) -> str:
    pairs = Counter(tuple(sorted(group.classes)) for group in groups)
    named = [
        " and ".join(f"'{visible(found.classes[label])}'" for label in labels)
        for labels, _ in pairs.most_common(3)
    ]
    return "; ".join(named) + ("; and others" if len(pairs) > 3 else "")


def _doubts(found: Inspection) -> Iterator[Concern]:
    for split, counts in found.counts.items():
        repeated = [
            [place for place in group.places if place.split == split] for group in found.groups
        ]
        spare = {place for places in repeated for place in places[1:]}
        if spare:
            yield Concern(
                "note",
                f"{counted(len(spare), 'picture')} of {split} that repeat others of {split}, or "
                "look like them",
            )
        if split != "train":
            continue
        full = {label: number for label, number in enumerate(counts) if number}
        if not full:
            continue
        least, most = min(full, key=full.__getitem__), max(full, key=full.__getitem__)
        if full[most] >= IMBALANCE * full[least]:
            yield Concern(
                "doubt",
                f"the classes of train are uneven: '{visible(found.classes[most])}' has "
                f"{counted(full[most], 'picture')}, '{visible(found.classes[least])}' has "
                f"{full[least]:,}",
            )
        few = [found.classes[label] for label, number in full.items() if number < FEW]
        if few:
            yield Concern(
                "doubt",
                f"{counted(len(few), 'class', 'classes')} of train with fewer than {FEW} pictures, "
                f"for example '{visible(few[0])}'",
            )


def _notes(found: Inspection) -> Iterator[Concern]:
    for note in found.notes:
        yield Concern("doubt" if "no picture of" in note else "note", note)
    good = found.opened - len(found.unreadable)
    if found.smaller:
        yield Concern(
            "note",
            f"{found.smaller:,} of {counted(good, 'picture')} ({100 * found.smaller / good:.0f} %) "
            f"have a side below {found.size} pixels and are enlarged when trained at that size",
        )
    for remark in found.remarks:
        yield Concern("note", remark)
    if found.quick:
        yield Concern(
            "note",
            f"only the headers of {counted(found.opened, 'picture')} were read; 'fleetfoot data' "
            "opens all, and looks for copies",
        )
    elif found.stopped:
        yield Concern(
            "note",
            f"stopped after {found.opened:,} of {counted(found.pictures, 'picture')}, which were "
            "drawn from all parts",
        )
