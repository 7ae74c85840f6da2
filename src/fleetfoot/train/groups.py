"""Which parameters of a network decay, how fast each of them learns, and which stay as they are.

A network is divided by *depth*: the stem is 0, the stages are 1 and following, the head comes last.

=====================================  ========================================================
a network of the zoo                   ``stem``, ``stages`` and ``head``
a network of timm                      its own ``group_matcher``: coarse for freezing, fine for
                                       layer decay, as timm does it
a network of a task                    its backbone's parts; what comes after them is the head
any other module                       its children in the order of their registration: layers
                                       before the first container are the stem, layers after the
                                       last one the head. If there are at most two containers, a
                                       first one that is a sequence of four or more (torchvision's
                                       ``features``) stands for its children
=====================================  ========================================================
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from fleetfoot.models import Backbone
from fleetfoot.models.base import FeatureExtractor
from fleetfoot.tasks.network import TaskNetwork
from fleetfoot.train.config import Optim


@dataclass(frozen=True)
class Group:
    """Parameters that share a learning rate and a weight decay."""

    names: tuple[str, ...]
    decays: bool
    lr_scale: float
    """Factor on the learning rate."""


def parameter_groups(model: nn.Module, optim: Optim) -> list[Group]:
    """The groups of a network's trainable parameters. Each is in exactly one of them; groups are in
    the order of depth, and those without decay come before those with it.

    Raises:
        ValueError: nothing is trainable, or layer decay cannot tell one depth from another.
    """
    if optim.layer_decay == 1.0:
        depths, last = {name: 0 for name, _ in model.named_parameters()}, 0
    else:
        depths = parameter_depths(model, coarse=False)
        last = max(depths.values())
        if last == 0:
            raise ValueError(
                f"optim.layer_decay {optim.layer_decay}: {type(model).__name__} has one part only, "
                "so no depth can be told from another; set optim.layer_decay=1"
            )
    depthwise = _depthwise_kernels(model) if optim.decay == "no_depthwise" else frozenset()
    patterns = tuple(getattr(model, "no_weight_decay", set)())  # timm's convention
    found: dict[tuple[int, bool], list[str]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decays = optim.decay == "all" or (
            parameter.ndim > 1
            and not name.endswith(".bias")
            and not any(fnmatch.fnmatch(name, pattern) for pattern in patterns)
            and name not in depthwise
        )
        found.setdefault((depths[name], decays), []).append(name)
    if not found:
        raise ValueError(f"{type(model).__name__} has no parameter to train: all are frozen")
    return [
        Group(tuple(names), decays, optim.layer_decay ** (last - depth))
        for (depth, decays), names in sorted(found.items())
    ]


def parameter_depths(model: nn.Module, *, coarse: bool = True) -> dict[str, int]:
    """Depth of each parameter by its name, from 0.

    Args:
        coarse: divide a network of timm by its stages, not by its blocks.
    """
    matcher: Any = getattr(model, "group_matcher", None)
    if matcher is not None:
        from timm.models import group_parameters

        return group_parameters(model, matcher(coarse=coarse), reverse=True)
    depths = {
        f"{place}.{name}" if place else name: depth
        for depth, part in enumerate(parts(model))
        for place, module in part.items()
        for name, _ in module.named_parameters()
    }
    # parameters that lie in the module itself belong to the stem
    return {name: depths.get(name, 0) for name, _ in model.named_parameters()}


def parts(model: nn.Module) -> list[dict[str, nn.Module]]:
    """Stem, stages and head of a network that has no ``group_matcher``, each as modules by place in
    the network. Parts without parameters are left out, except an empty stem."""
    if isinstance(model, TaskNetwork):
        body, place = model.backbone, "backbone"
        if isinstance(body, FeatureExtractor):
            body, place = body.backbone, "backbone.backbone"
        stem, *stages = parts(body)
        known = [stem, *filter(_has_parameters, stages)]
        rest = {name: one for name, one in _with_parameters(model).items() if name != "backbone"}
        return [*({f"{place}.{name}": one for name, one in part.items()} for part in known), rest]
    if isinstance(model, Backbone):
        named = {f"stages.{i}": stage for i, stage in enumerate(model.stages)}
        head = getattr(model, "head", None)
        tail: list[dict[str, nn.Module]] = [] if head is None else [{"head": head}]
        return [{"stem": model.stem}, *({place: stage} for place, stage in named.items()), *tail]
    children = list(_unfolded(model))
    containers = [i for i, (_, child) in enumerate(children) if any(True for _ in child.children())]
    if not containers:
        return [{place: child} for place, child in children]
    begin, end = containers[0], containers[-1] + 1
    stages = [{place: child} for place, child in children[begin:end]]
    tail = [dict(children[end:])] if children[end:] else []
    return [dict(children[:begin]), *stages, *tail]


def _unfolded(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The children that have parameters, with their places; a sequence of stages is replaced by its
    own children."""
    children = _with_parameters(model)
    containers = [name for name, child in children.items() if any(True for _ in child.children())]
    for name, child in children.items():
        inner = _with_parameters(child)
        if (
            len(containers) <= 2
            and name in containers[:1]
            and isinstance(child, nn.Sequential | nn.ModuleList)
            and len(inner) >= 4
        ):
            yield from ((f"{name}.{place}", stage) for place, stage in inner.items())
        else:
            yield name, child


def _has_parameters(part: dict[str, nn.Module]) -> bool:
    return any(True for module in part.values() for _ in module.parameters())


def _with_parameters(model: nn.Module) -> dict[str, nn.Module]:
    return {
        name: child
        for name, child in model.named_children()
        if any(True for _ in child.parameters())
    }


def _depthwise_kernels(model: nn.Module) -> frozenset[str]:
    return frozenset(
        f"{place}.weight" if place else "weight"
        for place, module in model.named_modules()
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
    )


# ---- Freezing


def freeze_(model: nn.Module, stages: int, *, all_norms: bool = False) -> tuple[str, ...]:
    """Freezes the stem and the first ``stages`` stages: their parameters receive no gradient, and
    their batch norms stay in eval mode when ``train()`` is called on the network. 0 changes
    nothing. Returns the names of the frozen parameters.

    Synchronised batch norms must be made before: converting a network makes new modules.

    Args:
        all_norms: every batch norm of the network stays in eval mode; those outside the frozen
            stages go on learning their weights and biases.

    Raises:
        ValueError: the network has fewer stages, so that its head would be frozen.
    """
    if all_norms:
        for module in model.modules():
            _hold_(module)
    if stages == 0:
        return ()
    depths = parameter_depths(model)
    count = max(depths.values()) - 1
    if stages < 0 or stages > count:
        raise ValueError(
            f"init.freeze is {stages}, and {type(model).__name__} has {max(count, 0)} stages "
            "before its head"
        )
    frozen = [name for name, depth in depths.items() if depth <= stages]
    parameters = dict(model.named_parameters())
    for name in frozen:
        parameters[name].requires_grad_(False)
    for place, module in model.named_modules():
        if isinstance(module, _BatchNorm) and _depth_of(place, depths) <= stages:
            _hold_(module)
    return tuple(frozen)


def _hold_(module: nn.Module) -> None:
    """Lets a batch norm stay in eval mode; does nothing to other modules."""
    if isinstance(module, _BatchNorm) and not is_frozen(module):
        module.__class__ = _frozen_kind(type(module))  # type: ignore[assignment, arg-type]
        module.eval()


def is_frozen(norm: nn.Module) -> bool:
    """Whether ``freeze_`` froze this batch norm."""
    return getattr(type(norm), "frozen_statistics", False)


def _depth_of(place: str, depths: dict[str, int]) -> int:
    """Depth of a batch norm: that of its parameters, or of its neighbours if it has none."""
    while True:
        start = f"{place}." if place else ""
        found = [depth for name, depth in depths.items() if name.startswith(start)]
        if found:
            return min(found)
        place = place.rpartition(".")[0]


@cache
def _frozen_kind(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of batch norms of this kind that ``train()`` leaves in eval mode. Only the class of
    an object changes, so that names of parameters, copies and folding are as before."""

    def train(self: nn.Module, mode: bool = True) -> nn.Module:
        return kind.train(self, False)

    members: dict[str, Any] = {"train": train, "frozen_statistics": True, "__doc__": kind.__doc__}
    return type(f"Frozen{kind.__name__}", (kind,), members)
