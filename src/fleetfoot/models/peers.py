"""Networks of timm and torchvision through the zoo's own functions: ``timm:ghostnet_100``,
``torchvision:resnet50``.

The zoo is compared with them, and they are as their libraries build them. Their published weights
are fetched like the zoo's, pinned and with their licence reported.
"""

from __future__ import annotations

import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fleetfoot.errors import KeyMismatchError, UnknownNameError
from fleetfoot.weights import hub, own
from fleetfoot.weights.files import WeightsFile, read
from fleetfoot.weights.loading import LoadReport, Translation, fitting, load, own_translations
from fleetfoot.weights.pretrained import PretrainedConfig, untrained
from fleetfoot.weights.top1 import published_top1

logger = logging.getLogger("fleetfoot")

PREFIXES = ("timm", "torchvision")

FREE_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0")
"""Licences that allow every use. A peer's weights under any other need an explicit yes."""


def is_peer(name: str) -> bool:
    """Whether ``name`` carries a library's prefix.

    >>> is_peer("timm:resnet18"), is_peer("fasternet_t0"), is_peer("ssdlite:timm:resnet18")
    (True, False, False)
    """
    return name.startswith(tuple(f"{library}:" for library in PREFIXES))


def of_name(bare: str) -> list[str]:
    """The networks of timm and torchvision called ``bare``, with their prefixes."""
    import timm
    import torchvision

    found = [f"torchvision:{bare}"] if bare in torchvision.models.list_models() else []
    return [f"timm:{bare}", *found] if timm.is_model(bare) else found


class _WeightsOnMeta(TorchFunctionMode):
    """Gives layers' weights no memory; other tensors keep their values."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def skeleton(name: str) -> nn.Module:
    """The library's network without the memory of its weights. RegNet, for example, computes its
    widths from tensors: where no tensor has values, such a network cannot be built.

    Raises:
        UnknownNameError: the prefix is no library's, or the library has no such network.
    """
    try:
        with torch.device("meta"):
            return create(name)
    except (NotImplementedError, RuntimeError):
        with _WeightsOnMeta():
            return create(name)


def create(
    name: str,
    *,
    pretrained: bool | str = False,
    weights: str | os.PathLike[str] | None = None,
    key: str | None = None,
    accept_licence: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """Creates the library's own network, in train mode, with the zoo's ``pretrained_cfg``.

    Args:
        pretrained: ``True`` for the library's default weights, or the name of others: timm's tag or
            torchvision's name.
        weights: a file with the library's own keys. The number of classes is the file's unless an
            option states it: another number makes a fresh classifier, 0 none.
        key: the part of the file to take, if it holds several sets of weights.

    Raises:
        UnknownNameError: the prefix is no library's, or the library has no such network or weights.
        ValueError: the library's network does not take an option.
        WeightsError: the weights cannot be fetched, read, or used in this network.
    """
    library, bare = _parted(name)

    def build(**chosen: Any) -> nn.Module:
        made = {**options, **chosen}
        if library == "timm":
            return _timm(bare, features_only, out_indices, made)
        return _torchvision(bare, features_only, out_indices, made)

    rows = published(name)
    chosen = rows[0] if rows else untrained(224)
    if pretrained:
        if isinstance(pretrained, str):
            chosen = next((row for row in rows if row.tag == pretrained), chosen)
            if chosen.tag != pretrained:
                raise UnknownNameError.of(f"tag of {name}", pretrained, [row.tag for row in rows])
        elif not rows:
            raise UnknownNameError(f"{library} has no weights of {bare!r} that could be fetched")
        weights = hub.fetch(chosen, accept_licence=accept_licence)
    stated: dict[str, Any] = {}
    if weights is None:
        model, report = build(), None
    else:
        file = read(weights, key)
        stated = {**own.preprocessing(file), "labels": own.labels(file)}
        made = _features_with_weights if features_only else _with_weights
        model, report = made(name, build, options, file)
    if not pretrained:
        chosen = replace(
            chosen,
            tag="",
            source="none" if weights is None else "file",
            repo="" if weights is None else str(weights),
            top1=None,
            top1_source="",
            licence="",
            licence_url="",
            research_only=False,
            **stated,
        )
    vars(model).update(pretrained_cfg=chosen, load_report=report)
    return model


Build = Callable[..., nn.Module]
"""Builds the network, with some options in place of those that were asked for."""


def _with_weights(
    name: str, build: Build, options: Mapping[str, Any], file: WeightsFile
) -> tuple[nn.Module, LoadReport]:
    """The network with a file's tensors, with as many classes as the file has or as were asked
    for."""
    model = build()
    kind, expected = type(model).__name__, model.state_dict()
    try:
        found = own_translations(kind, expected, file)
        fit = fitting(found, expected)
        misfit = fit.problems(expected)
    except KeyMismatchError:
        found, misfit = [], "no key is known"
    if found and not misfit:
        return model, _said(name, fit.into(model))
    wanted = options.get("num_classes")
    shapes = _classifier(build, expected if wanted == 0 else None)
    found = own_translations(kind, {**expected, **dict.fromkeys(shapes)}, file)
    fit = fitting(found, expected, without=tuple(shapes))
    classes = _classes(fit, shapes)
    if wanted is None and classes:
        model = build(num_classes=classes)
        note = f"num_classes={classes}, as in the file"
        return model, _said(name, fit.into(model, notes=[note]))
    if wanted is not None and shapes:
        note = f"a fresh classifier of {wanted} classes; the file has {classes or 'none'}"
        report = fit.into(model, without=tuple(shapes), notes=[note] if wanted else [])
        return model, _said(name, report)
    return model, _said(name, fit.into(model))


def _said(name: str, report: LoadReport) -> LoadReport:
    logger.log(logging.WARNING if report.notes else logging.INFO, "%s: %s", name, report)
    return report


def _classifier(build: Build, without: Mapping[str, Tensor] | None) -> dict[str, tuple[int, int]]:
    """Keys whose first dimension grows with the number of classes: their slope, and what is left at
    0 classes. Empty if the network takes no number of classes. ``without`` are the tensors of the
    network of 0 classes: what it lacks belongs to the classifier too."""
    few, more = 3, 5
    try:
        with torch.device("meta"):
            first = build(num_classes=few).state_dict()
            second = build(num_classes=more).state_dict()
    except (TypeError, ValueError, NotImplementedError, RuntimeError):
        return {}
    found = {}
    for key, tensor in second.items():
        if without is not None and key not in without:
            found[key] = (0, 0)
        if key in first and tensor.shape != first[key].shape:
            slope = (tensor.shape[0] - first[key].shape[0]) // (more - few)
            found[key] = (slope, tensor.shape[0] - slope * more)
    return found


def _classes(fit: Translation, shapes: Mapping[str, tuple[int, int]]) -> int:
    """Number of classes of a file; 0 if its classifier's tensors are absent or do not agree."""
    seen = set()
    for key, (slope, rest) in shapes.items():
        tensor = fit.tensors.get(key)
        if tensor is None or not tensor.ndim or not slope or (tensor.shape[0] - rest) % slope:
            return 0
        seen.add((tensor.shape[0] - rest) // slope)
    return seen.pop() if len(seen) == 1 else 0


def _features_with_weights(
    name: str, build: Build, options: Mapping[str, Any], file: WeightsFile
) -> tuple[nn.Module, LoadReport]:
    """timm's network of feature maps with the tensors of a file, which is that network's own or a
    whole network's. timm renames modules in such a network, so it takes the tensors itself, from a
    whole network into which they were loaded."""
    model = build()
    try:
        return model, _said(name, load(model, file))
    except KeyMismatchError:
        import timm

        whole = {k: v for k, v in options.items() if k not in ("features_only", "out_indices")}
        bare = _parted(name)[1]

        def build_whole(**chosen: Any) -> nn.Module:
            made: nn.Module = timm.create_model(bare, **{**whole, **chosen})
            return made

        full, report = _with_weights(name, build_whole, whole, file)
    state = full.state_dict()
    model = build(pretrained=True, pretrained_cfg_overlay={"state_dict": state})
    return model, report


def _parted(name: str) -> tuple[str, str]:
    library, _, bare = name.partition(":")
    if library not in PREFIXES:
        raise UnknownNameError.of("library prefix", library, PREFIXES)
    return library, bare


def _timm(
    bare: str, features_only: bool, out_indices: Sequence[int] | None, options: dict[str, Any]
) -> nn.Module:
    import timm

    if not timm.is_model(bare):
        raise UnknownNameError.of("timm model", bare, timm.list_models())
    if features_only:
        options |= {"features_only": True}
        if out_indices is not None:
            options["out_indices"] = tuple(out_indices)
    made: nn.Module = timm.create_model(bare, **options)
    return made


def _torchvision(
    bare: str, features_only: bool, out_indices: Sequence[int] | None, options: dict[str, Any]
) -> nn.Module:
    import torchvision

    if bare not in torchvision.models.list_models():
        raise UnknownNameError.of("torchvision model", bare, torchvision.models.list_models())
    if features_only or out_indices is not None:
        raise ValueError(
            f"torchvision:{bare}: features_only is not offered for torchvision's networks; "
            "use torchvision.models.feature_extraction.create_feature_extractor"
        )
    builder = torchvision.models.get_model_builder(bare)
    if "weights_backbone" in inspect.signature(builder).parameters:
        options.setdefault("weights_backbone", None)  # a detector would download one by default
    made: nn.Module = builder(**options)
    return made


def published(name: str) -> tuple[PretrainedConfig, ...]:
    """The library's published weights of a network, its default first.

    Raises:
        UnknownNameError: the prefix is no library's, or the library has no such network.
    """
    library, bare = _parted(name)
    return _of_timm(bare) if library == "timm" else _of_torchvision(bare)


def _of_timm(bare: str) -> tuple[PretrainedConfig, ...]:
    import timm

    architecture, _, tag = bare.partition(".")
    if not timm.is_model(architecture):
        raise UnknownNameError.of("timm model", bare, timm.list_models())
    names = timm.list_pretrained(f"{architecture}.*") or []
    default = timm.get_pretrained_cfg(architecture)
    first = f"{architecture}.{tag or (default.tag if default else '')}"
    rows = []
    for full in sorted(names, key=lambda full: full != first):
        cfg = timm.get_pretrained_cfg(full)
        if cfg is None or not cfg.hf_hub_id:  # timm's few outside the hub are not fetched
            continue
        top1, source = published_top1(f"timm:{full}") or (None, "")
        licence = cfg.license or "unstated"
        height, width = cfg.input_size[-2:]
        rows.append(
            PretrainedConfig(
                tag=cfg.tag or "",
                source="timm",
                repo=cfg.hf_hub_id,
                filename=cfg.hf_hub_filename or "model.safetensors",
                licence=licence,
                licence_url=f"https://huggingface.co/{cfg.hf_hub_id}",
                research_only=licence not in FREE_LICENCES,
                top1=top1,
                top1_source=source,
                input_size=height if height == width else (height, width),
                crop_pct=cfg.crop_pct,
                resize_mode="squash" if cfg.crop_mode == "squash" else "shortest",
                interpolation="bilinear" if cfg.interpolation == "bilinear" else "bicubic",
                mean=tuple(cfg.mean),
                std=tuple(cfg.std),
                layout="timm",
            )
        )
    return tuple(rows)


def _of_torchvision(bare: str) -> tuple[PretrainedConfig, ...]:
    import torchvision

    if bare not in torchvision.models.list_models():
        raise UnknownNameError.of("torchvision model", bare, torchvision.models.list_models())
    known = torchvision.models.get_model_weights(bare)
    default = getattr(known, "DEFAULT", None)
    rows = []
    for one in sorted(known, key=lambda one: one is not default):
        file = one.url.rpartition("/")[2]
        transform = one.transforms()
        sizes: dict[str, Any] = {}
        if hasattr(transform, "crop_size"):  # segmentation and detection take whole images
            crop, resize = transform.crop_size[-1], transform.resize_size[-1]
            sizes = {
                "input_size": crop,
                "crop_pct": crop / resize,
                "interpolation": transform.interpolation.value,
                "mean": tuple(transform.mean),
                "std": tuple(transform.std),
            }
        rows.append(
            PretrainedConfig(
                tag=one.name,
                source="torchvision",
                repo=one.url,
                filename=file,
                sha256=file.removesuffix(".pth").rpartition("-")[2],
                licence="bsd-3-clause",
                licence_url="https://github.com/pytorch/vision/blob/main/LICENSE",
                top1=one.meta.get("_metrics", {}).get("ImageNet-1K", {}).get("acc@1"),
                top1_source=f"torchvision's model page, {one.name}",
                layout="torchvision",
                **sizes,
            )
        )
    return tuple(rows)
