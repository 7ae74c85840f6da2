"""The network that a run trains: made by its name, with the classes of the data set and the
preprocessing of the recipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint as recompute

from fleetfoot.data.preprocess import Preprocess
from fleetfoot.errors import KeyMismatchError, TrainingError
from fleetfoot.models import Backbone, identify
from fleetfoot.models.catalogue import changed_options
from fleetfoot.models.peers import is_peer
from fleetfoot.network import Workload, is_file, is_weights, resolve
from fleetfoot.tasks.catalogue import HEADS, Head, create_model, full_name, is_task
from fleetfoot.tasks.network import TaskNetwork
from fleetfoot.train.config import Recipe
from fleetfoot.train.figures import Kind
from fleetfoot.weights.files import read
from fleetfoot.weights.pretrained import PretrainedConfig, untrained

SMALL = 64
"""Height and width in pixels up to which the whole picture is the input of a network without
preprocessing of its own: a centre crop, which is meant for photographs, would cut off what is
shown."""


@dataclass(frozen=True, kw_only=True)
class Built:
    """A network before its training."""

    name: str
    """As ``network.resolve`` takes it."""
    options: Mapping[str, Any]
    """Fields of its configuration that differ from the row of that name."""
    module: nn.Module = field(repr=False)
    preprocess: Preprocess
    """Preprocessing of the pictures in evaluation."""
    preprocessing: PretrainedConfig
    """The same, for the header of a checkpoint, with the licence of the first weights."""
    notes: tuple[str, ...] = ()
    """What was done with the weights."""


def build(
    model: str | Workload | nn.Module,
    classes: tuple[str, ...],
    recipe: Recipe,
    *,
    options: Mapping[str, Any] | None = None,
    accept_licence: bool = False,
    task: Kind = "classify",
) -> Built:
    """Makes the network with one output for each class, and the weights that ``init.weights``
    names.

    Args:
        model: a name that ``network.resolve`` takes; or a network of your own, which is trained as
            it is.
        options: fields of the network's configuration.

        task: what the data set is for.

    Raises:
        UnknownNameError: no network or option has that name.
        WeightsError: the weights cannot be fetched, read or used.
        TrainingError: the network is for another task, has another number of outputs than there are
            classes, or does not take pictures.
    """
    options, notes = dict(options or {}), list[str]()
    if isinstance(model, Workload):
        name, module = model.name, model.module
    elif isinstance(model, nn.Module):
        name, module = type(model).__name__, model
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.seed)
            name, module, notes = _made(model, len(classes), recipe, options, accept_licence)
    own = module.task if isinstance(module, TaskNetwork) else "classify"
    if own != task:
        raise TrainingError(f"{name} is a network for {own}, and the data set is for {task}")
    if isinstance(module, TaskNetwork):
        stated: dict[str, Any] = dict(module.options)
    elif isinstance(module, Backbone) and not isinstance(model, nn.Module):
        stated = changed_options(name, module.config)
    else:
        stated = {k: v for k, v in options.items() if k != "num_classes"}
    preprocess = _preprocess(name, module, recipe)
    licence = getattr(getattr(module, "pretrained_cfg", None), "licence", "")
    row = replace(
        untrained(preprocess.size),
        source="file",
        crop_pct=preprocess.crop_pct,
        resize_mode=preprocess.resize_mode,
        interpolation=preprocess.interpolation,
        antialias=preprocess.antialias,
        channel_order=preprocess.channel_order,
        pixel_scale=preprocess.pixel_scale,
        mean=preprocess.mean,
        std=preprocess.std,
        licence=licence,
        labels=classes,
    )
    if _channels(module) == 1:
        preprocess = preprocess.grey()
    _check(name, module, preprocess, len(classes))
    return Built(
        name=name,
        options=stated,
        module=module,
        preprocess=preprocess,
        preprocessing=row,
        notes=tuple(notes),
    )


def _made(
    name: str, classes: int, recipe: Recipe, options: dict[str, Any], accept_licence: bool
) -> tuple[str, nn.Module, list[str]]:
    weights: str | None = recipe.init.weights or None
    if is_task(name):
        return _task_network(name, classes, recipe, options, accept_licence)
    if is_weights(name):
        if weights is not None:
            raise TrainingError(
                f"{name} is a file of weights, and init.weights names {weights}; give one of them"
            )
        name, weights = _named(name), name
        if is_task(name):
            recipe = replace(recipe, init=replace(recipe.init, weights=weights))
            return _task_network(name, classes, recipe, options, accept_licence)
    if is_file(name):
        for setting, value in (("drop", recipe.drop), ("drop_path", recipe.drop_path)):
            if value is not None:
                raise TrainingError(
                    f"{setting} cannot be set for {name}; give it as an argument of the factory"
                )
        found = resolve(name, weights=weights, seed=recipe.seed, options=options)
        return name, found.module, [f"weights of {weights}" if weights else "fresh weights"]
    fixed: dict[str, Any] = {"num_classes": classes}
    for option, rate in (("drop_rate", recipe.drop), ("drop_path_rate", recipe.drop_path)):
        if rate is not None:
            if name.startswith("torchvision:"):
                raise TrainingError(
                    f"{option} cannot be set for {name}; torchvision's networks have their own"
                )
            fixed[option] = rate
    module = create_model(
        name,
        pretrained=weights == "pretrained",
        weights=None if weights == "pretrained" else weights,
        accept_licence=accept_licence,
        **{**options, **fixed},
    )
    report = getattr(module, "load_report", None)
    if report is None:
        return name, module, ["fresh weights"]
    source = "the published weights" if weights == "pretrained" else f"weights of {weights}"
    return name, module, [source, *report.notes]


def _task_network(
    name: str, classes: int, recipe: Recipe, options: dict[str, Any], accept_licence: bool
) -> tuple[str, nn.Module, list[str]]:
    """A network of a task. ``init.weights`` is ``pretrained`` for the backbone's published weights,
    a file of the whole network, or one of the backbone alone."""
    whole = full_name(name, options.pop("backbone", None))
    head, _, backbone = whole.partition(":")
    made = {**options, "num_classes": classes}
    if recipe.drop_path is not None:
        made |= _drop_path(HEADS[head], whole, recipe.drop_path, made)
    weights = recipe.init.weights
    if weights == "pretrained":
        model = create_model(whole, accept_licence=accept_licence, **made, pretrained_backbone=True)
        return whole, model, [f"the published weights of {backbone}, and a fresh head"]
    if not weights:
        return whole, create_model(whole, **made), ["fresh weights"]
    if is_task(_named_or_none(weights)):
        model = create_model(whole, weights=weights, **made)
        report = getattr(model, "load_report", None)
        return whole, model, [f"weights of {weights}", *(report.notes if report else ())]
    model = create_model(whole, backbone_weights=weights, **made)
    return whole, model, [f"weights of {weights} in the backbone, and a fresh head"]


def _drop_path(head: Head, name: str, rate: float, options: Mapping[str, Any]) -> dict[str, Any]:
    """The option of a head that sets stochastic depth in its backbone."""
    known = head.options
    if "drop_path_rate" in known:
        return {"drop_path_rate": rate}
    if "backbone_options" in known:
        return {"backbone_options": {**options.get("backbone_options", {}), "drop_path_rate": rate}}
    raise TrainingError(f"drop_path cannot be set for {name}; set drop_path=none")


def _named_or_none(file: str) -> str:
    """The network that the header of a file of weights states; "" if it states none."""
    found = read(file)
    return found.metadata.get("model", "") if "fleetfoot" in found.metadata else ""


def _named(file: str) -> str:
    """The network whose weights a file holds.

    Raises:
        KeyMismatchError: it is none of the zoo, or of several, or of a user's own.
    """
    if not Path(file).exists():
        resolve(file)  # says what is wrong with the name
    found = read(file)
    stated = found.metadata.get("model", "") if "fleetfoot" in found.metadata else ""
    names = [stated] if stated else sorted({fit.name for fit in identify(found)})
    if len(names) != 1 or is_file(names[0]) or "swap" in found.metadata:
        resolve(file)  # says which networks it fits
        raise KeyMismatchError(
            f"{file} does not say which network it is of; name the network, and give the file as "
            f"its weights: --model NAME --set init.weights={file}"
        )
    return names[0]


def _preprocess(name: str, module: nn.Module, recipe: Recipe) -> Preprocess:
    """The preprocessing of evaluation: the network's own, at the size and colours of the
    recipe."""
    own_size: int | None = None
    known = getattr(module, "pretrained_cfg", None)
    base = Preprocess.of(module) if known else Preprocess()
    own_size = base.height
    chosen = recipe.eval_size or (recipe.phases[-1].size if recipe.phases else recipe.size)
    if isinstance(module, TaskNetwork):  # the whole picture is its input, at a size of any shape
        return base if chosen is None else replace(base, size=chosen)
    size = chosen or own_size
    fresh = not known or getattr(known, "source", "none") == "none" or is_peer(name)
    changes: dict[str, Any] = {"size": size}
    if recipe.crop_pct is not None:
        changes["crop_pct"] = recipe.crop_pct
    elif size <= SMALL and fresh and not recipe.init.weights:
        changes["crop_pct"] = 1.0
    made = replace(base, **changes)
    return made.bgr_bytes() if recipe.bgr else made


def _channels(module: nn.Module) -> int:
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels
    return 3


def _check(name: str, module: nn.Module, preprocess: Preprocess, classes: int) -> None:
    """Runs two pictures through the network in eval mode, and lets a network of a task decode its
    outputs."""
    mode = module.training
    module.eval()
    like = next(module.parameters(), torch.zeros(0))
    pictures = 1 if isinstance(module, TaskNetwork) else 2
    example = torch.zeros(pictures, preprocess.channels, preprocess.height, preprocess.width)
    try:
        with torch.no_grad():
            logits = module(example.to(like))
            if isinstance(module, TaskNetwork):
                module.decode(logits, (preprocess.height, preprocess.width))
                return
    except Exception as error:
        raise TrainingError(
            f"{name} does not run on pictures of {tuple(example.shape[1:])}: {error}"
        ) from error
    finally:
        module.train(mode)
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, classes):
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise TrainingError(
            f"the output of {name} for 2 pictures is {shape}, and a classifier of the data set's "
            f"{classes} classes gives (2, {classes})"
            + (f"; for example '{name.partition('(')[0]}(...)'" if is_file(name) else "")
        )


# ---- Less memory: activations computed again in the backward pass


def recompute_(module: nn.Module) -> None:
    """Lets each stage keep only its input for the backward pass, and compute the rest again then.
    Gradients and statistics of batch norms are those of the usual pass.

    Raises:
        TrainingError: the network is not of the zoo, so its stages are not known.
    """
    inner = [one for one in module.modules() if isinstance(one, Backbone)]
    if not inner:
        raise TrainingError(
            f"checkpointing is offered for networks of the zoo, not for {type(module).__name__}: "
            "elsewhere batch norms would count each batch twice"
        )
    for stage in (stage for backbone in inner for stage in backbone.stages):
        # the instance's forward, so that the names of parameters stay
        stage.forward = partial(
            recompute,
            stage.forward,
            use_reentrant=False,
            context_fn=partial(_contexts, stage),
        )


def _contexts(stage: nn.Module) -> tuple[Any, Any]:
    return nullcontext(), _StatisticsStay(stage)


class _StatisticsStay:
    """While this lasts, batch norms do not move their running statistics: the same batch passes
    them a second time."""

    def __init__(self, stage: nn.Module) -> None:
        self._norms = [m for m in stage.modules() if isinstance(m, _BatchNorm)]
        self._kept: list[tuple[float | None, Any]] = []

    def __enter__(self) -> None:
        for norm in self._norms:
            count = norm.num_batches_tracked
            self._kept.append((norm.momentum, None if count is None else count.clone()))
            norm.momentum = 0.0

    def __exit__(self, *error: object) -> None:
        for norm, (momentum, count) in zip(self._norms, self._kept, strict=True):
            norm.momentum = momentum
            if count is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(count)
        self._kept.clear()
