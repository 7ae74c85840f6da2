"""A checkpoint: everything that a training run needs to go on from the end of an update, in one
safetensors file.

==================  ============================================================================
tensor              content
==================  ============================================================================
``model.KEY``       the network's parameters and buffers, by its own keys
``ema.KEY``         their moving averages, if the recipe keeps them
``optim.NAME.KEY``  the optimiser's state of the parameter NAME, for example ``exp_avg``
==================  ============================================================================

The header holds what every file of weights in our own layout holds (``weights.own``), the names of
the classes, ``training`` (JSON of ``Training``) and ``hash``, a digest of all of it. So every
command that takes a file of weights takes a checkpoint, averages first.

No random state is saved, because every draw is a function of the seed and the update's number.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from fleetfoot.errors import CheckpointError, CorruptFileError, RecordError, visible
from fleetfoot.files import flush_folder, parsed, plain, read_object, replacing, to_json
from fleetfoot.train.config import Recipe, Run
from fleetfoot.train.figures import FIGURES, Kind
from fleetfoot.weights import own
from fleetfoot.weights.files import WeightsFile
from fleetfoot.weights.pretrained import PretrainedConfig, untrained

FORMAT = 2
"""Version of the form in which ``training`` is written."""
CLASSIFIERS_ONLY = 1
"""The version before, which knew no task but classification; it is read too."""
PARTS = ("model", "ema", "optim")


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """What is known of one epoch: a row of ``summary.csv``."""

    epoch: int
    update: int
    """Updates done at its end."""
    train_loss: float
    figures: Mapping[str, float | None] = field(default_factory=dict)
    """What was measured, by column: ``eval_top1`` of the weights, ``ema_top1`` of the averaged
    ones. None: the network gave nothing finite to measure."""
    lr: float
    """Learning rate of the last update."""
    size: int | tuple[int, int]
    """Height and width of the pictures in training; one number if they are equal."""
    images_per_s: float
    """Pictures trained on in a second, without evaluation."""
    seconds: float
    """Time in training and evaluation."""

    def cell(self, column: str) -> Any:
        """What stands in a column of ``summary.csv``; None if it was not measured."""
        return self.figures.get(column) if column not in _CELLS else getattr(self, column)

    def figure(self, name: str) -> float | None:
        """A figure of the averaged weights if they are kept, otherwise of the weights; None if it
        was not measured."""
        average = self.figures.get(f"ema_{name}")
        return self.figures.get(f"eval_{name}") if average is None else average


_CELLS = frozenset(one.name for one in fields(Epoch)) - {"figures"}


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best evaluation so far by one figure; of several equal ones, that with the lowest
    loss."""

    update: int
    epoch: int
    figure: str
    """Name of the figure (``train.figures``)."""
    value: float
    loss: float | None
    """None if the evaluation measures no loss, or if no answer of the network was finite."""

    def is_better_than(self, other: Best | None) -> bool:
        return other is None or self._rank > other._rank

    @property
    def _rank(self) -> tuple[float, float]:
        value = self.value if FIGURES[self.figure].rises else -self.value
        return value, -math.inf if self.loss is None else -self.loss

    @property
    def text(self) -> str:
        """The value with its title and unit."""
        return FIGURES[self.figure].text(self.value)


@dataclass(frozen=True, kw_only=True)
class Data:
    """The data set that a run saw."""

    name: str
    classes: tuple[str, ...]
    train: str
    """Fingerprint of the pictures that are trained on."""
    evaluated: str = ""
    """Fingerprint of the pictures that are evaluated; "" without any."""
    task: Kind = "classify"


@dataclass(frozen=True, kw_only=True)
class Training:
    """State of a run at the end of an update, except tensors."""

    update: int
    """Updates done; also the number of the next one."""
    epochs: int
    """Epochs that are finished: evaluated, if they were to be, and in ``history``."""
    recipe: Recipe
    run: Run
    data: Data
    loss_sum: float = 0.0
    """Sum of the losses of the present epoch's updates."""
    loss_count: int = 0
    seconds: float = 0.0
    """Time spent in training so far, over all parts of the run."""
    best: Best | None = None
    history: tuple[Epoch, ...] = ()
    skipped: tuple[int, ...] = ()
    """Numbers of updates whose pictures are left out, because the loss was not finite there."""
    rollbacks: int = 0
    """Rollbacks that followed one another within an epoch."""
    rolled_back_at: int = 0
    """Update whose loss led to the last of them."""
    bad_images: tuple[tuple[str, str], ...] = ()
    """Path and fault of each picture that could not be used."""
    scaler: Mapping[str, float] | None = None
    """State of the gradient scaler, for fp16."""
    optimiser: Mapping[str, Any] = field(default_factory=dict)
    """What the optimiser keeps beside tensors: ``state`` by parameter, and ``groups``."""
    reestimated: bool = False
    """Whether batch norms were estimated anew, which ends a run."""
    versions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A network in the middle of its training."""

    model: str
    """The network's name, as ``network.resolve`` takes it."""
    options: Mapping[str, Any]
    """Fields of its configuration that differ from the row of that name."""
    preprocessing: PretrainedConfig
    """Preprocessing of the pictures in evaluation, and the licence of the first weights."""
    training: Training
    weights: Mapping[str, Tensor] = field(repr=False)
    average: Mapping[str, Tensor] = field(repr=False)
    """Empty without averages."""
    optimiser: Mapping[str, Tensor] = field(repr=False)
    """By parameter and entry: ``stem.weight.exp_avg``."""


def file_name(update: int) -> str:
    """Name of the checkpoint after that many updates.

    >>> file_name(1234)
    'update-00001234.safetensors'
    """
    return f"update-{update:08d}.safetensors"


def write(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint in a new file beside ``path``, flushes it, puts it in the place of
    ``path`` in one step, and flushes the folder. If anything fails, ``path`` stays as it was.

    Raises:
        CheckpointError: the file cannot be written: no space, no permission.
    """
    tensors = {
        f"{part}.{key}": tensor.detach().to("cpu").contiguous()
        for part, state in zip(
            PARTS, (checkpoint.weights, checkpoint.average, checkpoint.optimiser), strict=True
        )
        for key, tensor in state.items()
    }
    # safetensors refuses two names for one memory; a network may tie its weights
    seen: set[int] = set()
    for key, tensor in tensors.items():
        if tensor.numel() and tensor.data_ptr() in seen:
            tensors[key] = tensor.clone()
        seen.add(tensor.data_ptr())
    training = {"format": FORMAT, **asdict(checkpoint.training)}
    metadata = {
        **own.header(
            checkpoint.model,
            checkpoint.options,
            checkpoint.preprocessing,
            source="a run of fleetfoot train",
        ),
        own.LABELS: to_json(checkpoint.training.data.classes),
        "training": to_json(training),
    }
    metadata["hash"] = digest(tensors, metadata)
    try:
        with replacing(path) as draft:
            safetensors.torch.save_file(tensors, draft, metadata=metadata)
        flush_folder(path.parent)
    except (OSError, safetensors.SafetensorError) as error:
        raise CheckpointError(
            f"{path} cannot be written: {_reason(error)}; the checkpoints before it are as they "
            "were. Make room or choose another place, and go on with --resume"
        ) from error


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """A digest of everything that a file holds, except the digest itself."""
    made = hashlib.blake2b(digest_size=32)

    def add(raw: bytes | memoryview) -> None:
        made.update(len(raw).to_bytes(8, "little"))
        made.update(raw)

    for name in sorted(metadata):
        if name != "hash":
            add(name.encode())
            add(metadata[name].encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        add(name.encode())
        add(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
        add(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return made.hexdigest()


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint, and verifies its digest.

    Raises:
        CorruptFileError: the file is torn or damaged.
        CheckpointError: the file is no checkpoint, or one of another version of fleetfoot.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
    except Exception as error:  # of several kinds, some of torch's; all mean that the file is bad
        raise CorruptFileError(f"{path} is torn or damaged: {visible(error)}") from error
    if "training" not in metadata:
        raise CheckpointError(
            f"{path} is a file of weights, but no checkpoint: it holds no state of a run. Train "
            f"from it by --set init.weights={path}"
        )
    if metadata.get("hash") != digest(tensors, metadata):
        raise CorruptFileError(f"{path} is damaged: its content is not what its hash says")
    training = _training(path, metadata)
    split: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, key = name.partition(".")
        split[part][key] = tensor
    return Checkpoint(
        model=metadata["model"],
        options=json.loads(metadata["options"], object_hook=own.tuples),
        preprocessing=_preprocessing(WeightsFile(path, "safetensors", {}, (), (), metadata)),
        training=training,
        weights=split["model"],
        average=split["ema"],
        optimiser=split["optim"],
    )


def _preprocessing(header: WeightsFile) -> PretrainedConfig:
    licence = header.metadata.get("licence", "")
    row = replace(untrained(224), **own.preprocessing(header), labels=own.labels(header))
    return replace(row, licence="" if licence == "unknown" else licence)


def _training(path: Path, metadata: Mapping[str, str]) -> Training:
    by = f"{path} was written by fleetfoot {metadata.get('fleetfoot', 'of an unknown version')}"
    instead = (
        "Go on with that version; or take its weights alone into a new run by --set "
        f"init.weights={path}"
    )
    try:
        raw = read_object(metadata["training"])
        form = raw.pop("format", None)
        if form == CLASSIFIERS_ONLY:
            raw = _from_classifiers_only(raw)
        elif form != FORMAT:
            raise CheckpointError(
                f"{by}, in another form than this version reads ({FORMAT}). {instead}"
            )
        return parsed(raw, Training, "training")
    except RecordError as error:
        raise CheckpointError(f"{by}, whose settings differ: {error}. {instead}") from error


def _from_classifiers_only(raw: dict[str, Any]) -> dict[str, Any]:
    """``training`` in its present form, from the version before."""
    measured = [f"{kind}_{name}" for kind in ("eval", "ema") for name in ("loss", "top1", "top5")]
    history = []
    for row in raw.get("history", ()):
        figures = {name: row.pop(name) for name in measured if name in row}
        history.append({**row, "figures": {k: v for k, v in figures.items() if v is not None}})
    best = raw.get("best")
    if best is not None:
        best = {**best, "figure": "top1", "value": best["top1"]}
        del best["top1"]
    data = {"task": "classify", **raw.get("data", {})}
    # settings that did not exist have their defaults, which change nothing
    recipe = {**plain(asdict(Recipe())), **raw.get("recipe", {})}
    return {**raw, "history": history, "best": best, "data": data, "recipe": recipe}
