"""From a file's tensors to a network's: all of them, or an error.

Each key of the file is used once. Missing, left-over and wrongly shaped keys are all listed in the
error, and a network is changed only when there are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from fleetfoot.errors import CorruptFileError, KeyMismatchError, visible
from fleetfoot.weights import own
from fleetfoot.weights.files import WeightsFile
from fleetfoot.weights.layout import Layout, ours
from fleetfoot.weights.layouts import LAYOUTS
from fleetfoot.weights.nest import averaged, rank

HEAD = "head."
CLASSIFIER = "head.classifier."
CLASSIFIER_WEIGHTS = ("weight", "linear.weight")
"""Keys of a classifier that is a linear layer, and of one that starts with it."""
AUXILIARY = "auxiliary_heads."
"""Heads that only training uses. If the network is built without them, they are left out and the
report says so."""
KNOWN_SHARE = 0.5
"""Share of a file's keys that a layout must know, at least, to be taken as the file's layout; the
exact comparison comes after."""
SAMPLE = 12
"""Keys that are compared first; a layout that knows few of them is not tried further."""
SMALLEST_PART = 0.1
"""Known keys of a part, as a share of those of the largest part, below which it is not tried: any
part of a network has a few names that some layout knows."""
SHOWN = 12
"""Number of keys that one line of a report lists."""
LISTED = 100
"""Number of keys of each kind that an error lists."""


Without = str | tuple[str, ...] | None
"""Start of the keys that a network and a file leave out: ``CLASSIFIER``, ``HEAD`` or several."""


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What was done with a file of weights. ``str()`` is one line for people."""

    path: str
    format: str
    wrappers: tuple[str, ...]
    layout: str
    used: int
    """Number of the file's tensors that went into the network."""
    fresh: tuple[str, ...] = ()
    """Tensors of the network that kept their random start."""
    ignored: tuple[str, ...] = ()
    """Tensors of the file that are not weights, or that this network does not need."""
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = (
            f"{self.used} tensors from {visible(self.path)} ({self.format}, layout {self.layout})"
        )
        if self.wrappers:
            text += f", unwrapped from {' '.join(map(visible, self.wrappers))}"
        if self.fresh:
            text += f"; fresh: {_listed(self.fresh)}"
        if self.ignored:
            text += f"; left out: {_listed(self.ignored)}"
        return "; ".join((text, *map(visible, self.notes)))


def _listed(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - SHOWN} more" if len(keys) > SHOWN else ""
    return ", ".join(visible(key) for key in keys[:SHOWN]) + more


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A file's tensors under our names, before comparison with a network."""

    file: WeightsFile
    layout: Layout
    tensors: Mapping[str, Tensor]
    """Tensors by our key, in our order of dimensions."""
    left_over: tuple[str, ...]
    ignored: tuple[str, ...]
    notes: tuple[str, ...] = ()
    """Which part of the file this is, if it holds several."""

    @property
    def num_classes(self) -> int:
        """Size of the file's classifier; 0 if it has none."""
        for name in CLASSIFIER_WEIGHTS:
            weight = self.tensors.get(f"{CLASSIFIER}{name}")
            if weight is not None and weight.ndim:
                return weight.shape[0]
        return 0

    def problems(self, expected: Mapping[str, Tensor], *, without: Without = None) -> str:
        """A list of every key that prevents loading into a network with ``expected``; "" if none.

        Only names and shapes are read, so ``expected`` may lie on the meta device.

        Args:
            without: start of the keys to leave out on both sides.
        """
        return _differences(self._chosen(expected, without), expected, self.left_over)

    def into(
        self, model: nn.Module, *, without: Without = None, notes: Iterable[str] = ()
    ) -> LoadReport:
        """Loads the tensors into ``model``, in its dtype and on its device.

        Args:
            without: start of the keys that stay as they are in the model and are left out of the
                file.
            notes: further remarks for the report.

        Raises:
            KeyMismatchError: a key is missing, left over or wrongly shaped; ``model`` is unchanged.
            CorruptFileError: a value is beyond what the model's dtype holds.
        """
        expected = model.state_dict()
        chosen = self._chosen(expected, without)
        if problems := _differences(chosen, expected, self.left_over):
            raise KeyMismatchError(
                f"{self.file.path} (layout {self.layout.name}) is not a {self.layout.family} "
                f"of this configuration:{problems}"
            )
        negative = [k for k, t in chosen.tensors.items() if _is_variance(k) and bool((t < 0).any())]
        if negative:  # under another name in the file, where it was not seen
            raise CorruptFileError(
                f"{self.file.path}: negative variances in {len(negative)} tensors, which a batch "
                f"norm turns into NaN: {_listed(negative)}"
            )
        if beyond := _beyond(chosen.tensors, expected):
            raise CorruptFileError(
                f"{self.file.path}: values that the network's type cannot hold, in "
                f"{len(beyond)} tensors: {_listed(beyond)}"
            )
        model.load_state_dict(
            {
                key: chosen.tensors[key].reshape(own.shape) if key in chosen.tensors else own
                for key, own in expected.items()
            }
        )
        counters = sum(
            _optional(key) and key not in chosen.tensors and key not in chosen.fresh
            for key in expected
        )
        remarks = [
            *self.notes,
            *notes,
            self.layout.note,
            f"{counters} batch counters are not in the file and start at 0" if counters else "",
        ]
        return LoadReport(
            path=str(self.file.path),
            format=self.file.format,
            wrappers=self.file.wrappers,
            layout=self.layout.name,
            used=len(self.tensors) - len(chosen.unused),
            fresh=chosen.fresh,
            ignored=(*self.ignored, *chosen.unused, *self._outside()),
            notes=tuple(remark for remark in remarks if remark),
        )

    def _outside(self) -> tuple[str, ...]:
        nest = self.file.nest
        if nest is None or own.is_checkpoint(self.file.metadata):
            return ()  # the other parts of a checkpoint are no surprise
        return nest.outside(self.file.prefix)

    def _chosen(self, expected: Mapping[str, Tensor], without: Without) -> _Chosen:
        """The tensors that go into a network with ``expected``, without those it does not need."""
        stay = () if without is None else (without,) if isinstance(without, str) else without
        auxiliary = any(key.startswith(AUXILIARY) for key in expected)
        left_out = stay if auxiliary else (*stay, AUXILIARY)
        unused = tuple(key for key in self.tensors if key.startswith(left_out))
        tensors = {key: tensor for key, tensor in self.tensors.items() if key not in unused}
        if self.layout.fill is not None:
            self.layout.fill(tensors, expected)
        fresh = tuple(key for key in expected if key.startswith(stay))
        return _Chosen(tensors, unused, fresh)


def _beyond(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> list[str]:
    """Keys of finite tensors that are not finite in the network's own type."""
    found = []
    for key, tensor in tensors.items():
        own = expected[key].dtype
        if (
            tensor.is_floating_point()
            and own.is_floating_point
            and tensor.dtype != own
            and torch.finfo(tensor.dtype).max > torch.finfo(own).max
            and not tensor.to(own).isfinite().equal(tensor.isfinite())
        ):
            found.append(key)
    return found


@dataclass(frozen=True)
class _Chosen:
    tensors: Mapping[str, Tensor]
    """Tensors that go into the network, by its keys."""
    unused: tuple[str, ...]
    """Keys of the file, in our names, that this network does not need."""
    fresh: tuple[str, ...]
    """Keys of the network that keep their start values."""


def _differences(chosen: _Chosen, expected: Mapping[str, Tensor], left_over: Iterable[str]) -> str:
    missing = [
        key
        for key in expected
        if key not in chosen.tensors and key not in chosen.fresh and not _optional(key)
    ]
    extra = [*left_over, *(key for key in chosen.tensors if key not in expected)]
    misshaped = [
        f"{key}: {tuple(tensor.shape)} in the file, {tuple(expected[key].shape)} here"
        for key, tensor in chosen.tensors.items()
        if key in expected and not _same_values(tensor.shape, expected[key].shape)
    ]
    kinds = {"missing": missing, "left over": extra, "wrongly shaped": misshaped}
    return "".join(
        f"\n  {len(keys)} {kind}:"
        + "".join(f"\n    {visible(key)}" for key in keys[:LISTED])
        + (f"\n    and {len(keys) - LISTED} more" if len(keys) > LISTED else "")
        for kind, keys in kinds.items()
        if keys
    )


def _is_variance(key: str) -> bool:
    return key.endswith("running_var")


def _optional(key: str) -> bool:
    """Whether ``key`` is a batch norm's count of batches: older files lack it, and no output
    depends on it."""
    return key.endswith("num_batches_tracked")


def _same_values(theirs: torch.Size, own: torch.Size) -> bool:
    """Whether shapes are equal or hold the same values in the same order, as a 1×1 convolution and
    a linear layer do."""
    if theirs == own:
        return True
    long, short = sorted((tuple(theirs), tuple(own)), key=len, reverse=True)
    return len(short) == 2 and len(long) == 4 and long == (*short, 1, 1)


def translations(
    file: WeightsFile, family: str, known: Sequence[Layout] = ()
) -> Iterator[Translation]:
    """The parts of a file that are in a layout of a family, under our names: averaged weights
    first, then those of which the most keys are known. None has to fit.

    Args:
        family: the family of the network that the tensors are for.
        known: the layouts to choose from; default: those of the family.

    Raises:
        KeyMismatchError: no part's keys are in a layout of this family, or only in one that cannot
            be used.
    """
    known = known or [layout for layout in LAYOUTS if layout.family == family]
    found = _places(file, known)
    if not found:
        raise KeyMismatchError(
            f"{file.path}: its keys are in no layout of {family} "
            f"({', '.join(lay.name for lay in known)}); {nearest(file)}"
        )
    for place in found:
        part = file.below(place.prefix)
        if own.is_checkpoint(file.metadata):
            said = "its averaged weights (others: key=model, --key model)"
            notes = (said,) * averaged(place.prefix)
        else:
            notes = _choice(place, found)
        yield replace(rename(part, place.layout), notes=notes)


def translate(file: WeightsFile, family: str, known: Sequence[Layout] = ()) -> Translation:
    """The first of ``translations``."""
    return next(translations(file, family, known))


def load(model: nn.Module, file: WeightsFile) -> LoadReport:
    """Loads a file whose keys are the network's own, as ``state_dict()`` has them, below any
    prefix.

    >>> from fleetfoot.weights import files
    >>> model = nn.Linear(2, 3)
    >>> files.write("linear.safetensors", model.state_dict())
    >>> load(model, files.read("linear.safetensors")).used
    2

    Raises:
        KeyMismatchError: a key is missing, left over or wrongly shaped; ``model`` is unchanged.
        CorruptFileError: a value is beyond what the model's dtype holds.
    """
    expected = model.state_dict()
    return fitting(own_translations(type(model).__name__, expected, file), expected).into(model)


def own_translations(kind: str, names: Iterable[str], file: WeightsFile) -> list[Translation]:
    """The parts of a file whose keys are those of a network, ``names``, as ``state_dict()`` has
    them. ``kind`` is the network's class."""
    keys = list(names)
    known = [ours(kind, keys, name="its own")]
    first = keys[0].partition(".")[0] + "." if keys else ""
    if first and all(key.startswith(first) for key in keys):  # the network is itself a wrapper
        bare = {key.removeprefix(first): key for key in keys}
        known.append(Layout(family=kind, name="its own", modules=bare))
    return list(translations(file, kind, known))


def fitting(
    found: Iterable[Translation],
    expected: Mapping[str, Tensor],
    *,
    without: Without = None,
) -> Translation:
    """The first translation that has no problems; if each has some, the one that is the largest."""
    tried: list[Translation] = []
    for one in found:
        if not one.problems(expected, without=without):
            return replace(one, notes=(*passed_over(tried), *one.notes))
        tried.append(one)
    return max(
        tried, key=lambda one: (len(one.tensors), -len(one.problems(expected, without=without)))
    )


def passed_over(tried: Iterable[Translation]) -> tuple[str, ...]:
    """Remarks on averaged weights that were tried first and did not fit."""
    return tuple(
        f"{one.file.prefix[:-1]} does not fit, so it was not taken"
        for one in tried
        if averaged(one.file.prefix)
    )


@dataclass(frozen=True)
class _Place:
    """A part of a file whose keys a layout knows."""

    prefix: str
    layout: Layout
    share: float
    keys: frozenset[str]


def _places(file: WeightsFile, known: Sequence[Layout]) -> list[_Place]:
    """The parts of which a layout knows more than half of the keys, in the order in which they are
    tried."""
    found = []
    for prefix, keys in _parts(file).items():
        best, share = _best(keys, known)
        if share > KNOWN_SHARE:
            found += [_Place(prefix, layout, share, frozenset(keys)) for layout in best]
    largest = max((one.share * len(one.keys) for one in found), default=0)
    return sorted(
        (one for one in found if one.share * len(one.keys) > SMALLEST_PART * largest),
        key=lambda one: (*rank(one.prefix)[:2], -one.share * len(one.keys), len(one.prefix)),
    )


def _parts(file: WeightsFile) -> dict[str, list[str]]:
    """Keys of the parts of a file, by prefix. A part whose keys are also a smaller prefix's is
    listed once."""
    if file.nest is None:
        return {file.prefix: list(file.state)}
    return {prefix: list(file.nest.below(prefix)) for prefix in file.nest.prefixes()}


def _best(keys: Sequence[str], known: Iterable[Layout]) -> tuple[list[Layout], float]:
    """The layouts that know the most of ``keys``, in their order, and the share that they know."""
    sample = keys[:: max(1, len(keys) // SAMPLE)]
    best: list[Layout] = []
    most = 0.0
    for layout in known:
        share = layout.share(keys) if layout.share(sample) else 0.0
        if math.isclose(share, most):
            best.append(layout)
        elif share > most:
            best, most = [layout], share
    return best, most


def _choice(place: _Place, found: Sequence[_Place]) -> tuple[str, ...]:
    """A remark on the choice, if other parts of the file hold the same keys."""
    same = [one.prefix for one in found if one.prefix != place.prefix and one.keys == place.keys]
    same = list(dict.fromkeys(same))
    if not same:
        return ()
    kind = ", averaged weights" if averaged(place.prefix) else ""
    others = ", ".join(prefix[:-1] or "the file's own mapping" for prefix in same[:3])
    taken = place.prefix[:-1] or "the file's own mapping"
    return (f"taken: {taken}{kind}; the same keys are also in {others} (key=..., --key ...)",)


def nearest(file: WeightsFile) -> str:
    """The layout that comes nearest to a file's keys, in words."""
    places = _places(file, LAYOUTS)
    if not places:
        return f"they begin with {', '.join(visible(key) for key in list(file.state)[:5])}"
    place = max(places, key=lambda one: one.share * len(one.keys))
    layout = place.layout
    unknown = [key for key in place.keys if not (layout.unused(key) or layout.key(key))]
    text = f"they look like {layout.family} in the layout {layout.name}"
    if unknown:
        text += (
            f", which knows {len(place.keys) - len(unknown)} of {len(place.keys)}, but not "
            f"{_listed(sorted(unknown)[:3])}"
        )
    return text


def rename(file: WeightsFile, layout: Layout) -> Translation:
    """The file's tensors under our names, read as the given layout.

    Raises:
        KeyMismatchError: weights in this layout cannot be used.
    """
    if layout.refused:
        raise KeyMismatchError(f"{file.path} (layout {layout.name}): {layout.refused}")
    tensors: dict[str, Tensor] = {}
    left_over: list[str] = []
    ignored: list[str] = []
    for theirs, tensor in file.state.items():
        key = layout.key(theirs)
        if layout.unused(theirs):
            ignored.append(theirs)
        elif key is None or key in tensors:
            left_over.append(theirs if key is None else f"{theirs} (a second {key})")
        else:
            tensors[key] = layout.turn(tensor)
    return Translation(
        file=file,
        layout=layout,
        tensors=tensors,
        left_over=tuple(left_over),
        ignored=tuple(ignored),
    )


def recognised(file: WeightsFile) -> tuple[WeightsFile, list[Layout]]:
    """The part of a file that layouts know whole, and every such layout, except those that cannot
    be used. The file as it is and no layout if there is no such part."""
    usable = [layout for layout in LAYOUTS if not layout.refused]
    places = [place for place in _places(file, usable) if math.isclose(place.share, 1)]
    if places:
        first = places[0].prefix
        return file.below(first), [place.layout for place in places if place.prefix == first]
    return file, []
