"""What in a data set needs a look before training, in sentences, the gravest first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from fleetfoot.data.inspection import Inspection
from fleetfoot.data.scene_inspection import FAULTS, SceneInspection
from fleetfoot.data.survey import Group, Level, Survey
from fleetfoot.errors import counted, visible

IMBALANCE = 10
"""Largest class over smallest class of train, from which on it is a doubt."""
FEW = 10
"""Pictures or objects of a class in train, below which it is a doubt."""


@dataclass(frozen=True)
class Concern:
    """One sentence on a data set."""

    level: Level
    text: str


def concerns(found: Survey) -> tuple[Concern, ...]:
    """What to look at, the gravest first."""
    said = [*_wrong(found), *_repeats(found), *_notes(found)]
    if isinstance(found, Inspection):
        said += _uneven(found.classes, found.counts.get("train", ()), "picture")
    if isinstance(found, SceneInspection):
        said = [*_faults(found), *said, *_scenes(found)]
    return tuple(sorted(said, key=lambda one: ("wrong", "doubt", "note").index(one.level)))


def _wrong(found: Survey) -> Iterator[Concern]:
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


def _confused(found: Survey, groups: Iterable[Group]) -> str:
    pairs = Counter(tuple(sorted(group.classes)) for group in groups)
    named = [
        " and ".join(f"'{visible(found.classes[label])}'" for label in labels)
        for labels, _ in pairs.most_common(3)
    ]
    return "; ".join(named) + ("; and others" if len(pairs) > 3 else "")


def _repeats(found: Survey) -> Iterator[Concern]:
    for split in found.parts:
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


def _uneven(classes: Sequence[str], counts: Sequence[int], noun: str) -> Iterator[Concern]:
    """Classes of train with few pictures or objects, in themselves or beside others."""
    full = {label: number for label, number in enumerate(counts) if number}
    if not full:
        return
    least, most = min(full, key=full.__getitem__), max(full, key=full.__getitem__)
    if full[most] >= IMBALANCE * full[least]:
        yield Concern(
            "doubt",
            f"the classes of train are uneven: '{visible(classes[most])}' has "
            f"{counted(full[most], noun)}, '{visible(classes[least])}' has {full[least]:,}",
        )
    few = [classes[label] for label, number in full.items() if number < FEW]
    if few:
        yield Concern(
            "doubt",
            f"{counted(len(few), 'class', 'classes')} of train with fewer than {FEW} {noun}s, "
            f"for example '{visible(few[0])}'",
        )


def _faults(found: SceneInspection) -> Iterator[Concern]:
    """One sentence for each kind of fault that occurs."""
    for kind, (level, words) in FAULTS.items():
        faults = [one for one in found.faults if one.kind == kind]
        if faults:
            first = faults[0]
            yield Concern(
                level,
                f"{counted(len(faults), 'label')}: {words}, for example "
                f"{visible(first.place.name)} ({visible(first.where)}): {visible(first.text)}; "
                "correct or remove them",
            )


def _scenes(found: SceneInspection) -> Iterator[Concern]:
    """What to say of the objects or pixels of a set."""
    boxes = found.task == "detect"
    holding = found.holding.get("train", ())
    yield from _uneven(
        found.classes,
        found.counts.get("train", ()) if boxes else holding,
        "object" if boxes else "picture",
    )
    for name, number in found.empty.items():
        if number:
            yield Concern(
                "note",
                f"{number:,} of {counted(found.lengths[name], 'picture')} of {name} without "
                f"{'an object' if boxes else 'a labelled pixel'}",
            )
    for name, number in found.crowds.items():
        if number:
            yield Concern(
                "note",
                f"{counted(number, 'object')} of {name} that stand for many (crowds): they are "
                "neither trained on nor judged",
            )


def _notes(found: Survey) -> Iterator[Concern]:
    told = isinstance(found, SceneInspection)  # the faults tell of each box that is left out
    for note in found.notes:
        if told and note.startswith("left out") and "whose box" in note:
            continue
        doubtful = "no picture of" in note or "no object of" in note or note.startswith("left out")
        yield Concern("doubt" if doubtful else "note", note)
    good = found.opened - len(found.unreadable)
    if found.smaller:
        yield Concern(
            "note",
            f"{found.smaller:,} of {counted(good, 'picture')} ({_percent(found.smaller / good)} %) "
            f"have a side below {found.size} pixels and are enlarged when trained at that size",
        )
    for remark in found.remarks:
        yield Concern("note", remark)
    if found.quick:
        maps = isinstance(found, SceneInspection) and found.task == "segment"
        yield Concern(
            "note",
            f"only the headers of {counted(found.opened, 'picture')} were read"
            f"{', and no label map' * maps}; 'fleetfoot data' opens all, and looks for copies",
        )
    elif found.stopped:
        yield Concern(
            "note",
            f"stopped after {found.opened:,} of {counted(found.pictures, 'picture')}, which were "
            "drawn from all parts",
        )
