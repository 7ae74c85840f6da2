"""From a file's tensors to a network's: all of them, or an error.

Each key of the file is used once. Missing, left-over and wrongly shaped keys are all listed in the
error, and a network is changed only when there are none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fleetfoot.errors import KeyMismatchError
from fleetfoot.weights.files import WeightsFile
from fleetfoot.weights.layout import Layout, ours
from fleetfoot.weights.layouts import LAYOUTS

CLASSIFIER = "head.classifier."
CLASSIFIER_WEIGHTS = ("weight", "linear.weight")
"""Keys of a classifier that is a linear layer, and of one that starts with it."""
AUXILIARY = "auxiliary_heads."
"""Heads that only training uses. If the network is built without them, they are left out and the
report says so."""
KNOWN_SHARE = 0.5
"""Share of a file's keys that a layout must know, at least, to be taken as the file's layout; the
exact comparison comes after."""


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
        text = f"{self.used} tensors from {self.path} ({self.format}, layout {self.layout})"
        if self.wrappers:
            text += f", unwrapped from {' '.join(self.wrappers)}"
        if self.fresh:
            text += f"; fresh: {', '.join(self.fresh)}"
        if self.ignored:
            text += f"; left out: {', '.join(self.ignored)}"
        return "; ".join((text, *self.notes))


@dataclass(frozen=True, kw_only=True)
class Translation:
    """A file's tensors under our names, before comparison with a network."""

    file: WeightsFile
    layout: Layout
    tensors: Mapping[str, Tensor]
    """Tensors by our key, in our order of dimensions."""
    left_over: tuple[str, ...]
    ignored: tuple[str, ...]

    @property
    def num_classes(self) -> int:
        """Size of the file's classifier; 0 if it has none."""
        for name in CLASSIFIER_WEIGHTS:
            weight = self.tensors.get(f"{CLASSIFIER}{name}")
            if weight is not None and weight.ndim:
                return weight.shape[0]
        return 0

    def problems(self, expected: Mapping[str, Tensor], *, fresh_classifier: bool = False) -> str:
        """A list of every key that prevents loading into a network with ``expected``; "" if none.

        Only names and shapes are read, so ``expected`` may lie on the meta device.
        """
        return _differences(self._chosen(expected, fresh_classifier), expected, self.left_over)

    def into(
        self, model: nn.Module, *, fresh_classifier: bool = False, notes: Iterable[str] = ()
    ) -> LoadReport:
        """Loads the tensors into ``model``, in its dtype and on its device.

        Args:
            fresh_classifier: leave the model's classifier as it is and the file's out.
            notes: further remarks for the report.

        Raises:
            KeyMismatchError: a key is missing, left over or wrongly shaped; ``model`` is unchanged.
        """
        expected = model.state_dict()
        chosen = self._chosen(expected, fresh_classifier)
        if problems := _differences(chosen, expected, self.left_over):
            raise KeyMismatchError(
                f"{self.file.path} (layout {self.layout.name}) is not a {self.layout.family} "
                f"of this configuration:{problems}"
            )
        model.load_state_dict(
            {
                key: chosen.tensors[key].reshape(own.shape) if key in chosen.tensors else own
                for key, own in expected.items()
            }
        )
        counters = sum(_optional(key) and key not in chosen.tensors for key in expected)
        remarks = [
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
            ignored=(*self.ignored, *chosen.unused),
            notes=tuple(remark for remark in remarks if remark),
        )

    def _chosen(self, expected: Mapping[str, Tensor], fresh_classifier: bool) -> _Chosen:
        """The tensors that go into a network with ``expected``, without those it does not need."""
        left_out = [CLASSIFIER] if fresh_classifier else []
        if not any(key.startswith(AUXILIARY) for key in expected):
            left_out.append(AUXILIARY)
        unused = tuple(key for key in self.tensors if key.startswith(tuple(left_out)))
        tensors = {key: tensor for key, tensor in self.tensors.items() if key not in unused}
        if self.layout.fill is not None:
            self.layout.fill(tensors, expected)
        fresh = tuple(key for key in expected if fresh_classifier and key.startswith(CLASSIFIER))
        return _Chosen(tensors, unused, fresh)


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
        f"\n  {len(keys)} {kind}:" + "".join(f"\n    {key}" for key in keys)
        for kind, keys in kinds.items()
        if keys
    )


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


def translate(file: WeightsFile, family: str, known: Sequence[Layout] = ()) -> Translation:
    """The file's tensors under our names, by the layout that its keys show.

    Args:
        family: the family of the network that the tensors are for.
        known: the layouts to choose from; default: those of the family.

    Raises:
        KeyMismatchError: the keys are in no layout of this family, or in one that cannot be used.
    """
    known = known or [layout for layout in LAYOUTS if layout.family == family]
    layout, share = _best(file, known)
    if share <= KNOWN_SHARE:
        other, other_share = _best(file, LAYOUTS)
        guess = (
            f"they look like {other.family} in the layout {other.name}"
            if other_share > KNOWN_SHARE
            else f"they begin with {', '.join(list(file.state)[:5])}"
        )
        raise KeyMismatchError(
            f"{file.path}: its keys are in no layout of {family} "
            f"({', '.join(lay.name for lay in known)}); {guess}"
        )
    return rename(file, layout)


def load(model: nn.Module, file: WeightsFile, *, fresh_classifier: bool = False) -> LoadReport:
    """Loads a file whose keys are the network's own, as ``state_dict()`` has them.

    >>> from fleetfoot.weights import files
    >>> model = nn.Linear(2, 3)
    >>> files.write("linear.safetensors", model.state_dict())
    >>> load(model, files.read("linear.safetensors")).used
    2

    Raises:
        KeyMismatchError: a key is missing, left over or wrongly shaped; ``model`` is unchanged.
    """
    kind = type(model).__name__
    translation = translate(file, kind, [ours(kind, model.state_dict(), name="its own")])
    return translation.into(model, fresh_classifier=fresh_classifier)


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


def _best(file: WeightsFile, known: Iterable[Layout]) -> tuple[Layout, float]:
    """The layout that knows the most of the file's keys, and the share that it knows."""
    shares = ((layout, layout.share(file.state)) for layout in known)
    return max(shares, key=lambda pair: pair[1])


def recognised(file: WeightsFile) -> list[Layout]:
    """Every layout that knows all of the file's keys, except those that cannot be used."""
    return [x for x in LAYOUTS if not x.refused and math.isclose(x.share(file.state), 1)]
