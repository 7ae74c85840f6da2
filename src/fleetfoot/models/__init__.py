"""The catalogue: every network of the zoo by name, and the calls that make one.

A name that timm or torchvision uses means the same network here; other forms carry a suffix
(``shufflenet_v2_x1_0`` is torchvision's network, ``shufflenet_v2_x1_0_authors`` the authors').
"""

from __future__ import annotations

import fnmatch
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from fleetfoot.errors import KeyMismatchError, UnknownNameError
from fleetfoot.models import (
    cyclemlp,
    fasternet,
    fastvit,
    micronet,
    mobile_former,
    mobilenet_v1,
    mobilenet_v2,
    mobilenet_v3,
    mobileone,
    peers,
    shufflenet_v1,
    shufflenet_v2,
    shufflenet_v2_large,
    shufflenet_v2_plus,
)
from fleetfoot.models.base import Backbone, Config, FeatureExtractor, FeatureInfo
from fleetfoot.weights import hub, own
from fleetfoot.weights.files import WeightsFile, read, write
from fleetfoot.weights.loading import LoadReport, recognised, rename, translate
from fleetfoot.weights.pretrained import PRETRAINED, PretrainedConfig, choose, of_file
from fleetfoot.weights.published import published_top1

__all__ = [
    "FAMILIES",
    "Backbone",
    "Config",
    "Family",
    "FeatureExtractor",
    "FeatureInfo",
    "Fit",
    "Inspection",
    "ModelInfo",
    "configure",
    "convert",
    "create_model",
    "family_of",
    "identify",
    "inspect_weights",
    "list_models",
    "load_weights",
    "model_info",
]

logger = logging.getLogger("fleetfoot")


@dataclass(frozen=True)
class Family:
    """One file of ``models/``: its table of variants and the class that builds them."""

    name: str
    variants: Mapping[str, Config]
    build: Callable[[Any], Backbone]
    paper: str


FAMILIES = tuple(
    Family(name, file.VARIANTS, build, f"https://arxiv.org/abs/{paper}")
    for name, file, build, paper in (
        ("fasternet", fasternet, fasternet.FasterNet, "2303.03667"),
        ("fastvit", fastvit, fastvit.FastViT, "2303.14189"),
        ("mobileone", mobileone, mobileone.MobileOne, "2206.04040"),
        ("mobilenet_v1", mobilenet_v1, mobilenet_v1.MobileNetV1, "1704.04861"),
        ("mobilenet_v2", mobilenet_v2, mobilenet_v2.MobileNetV2, "1801.04381"),
        ("mobilenet_v3", mobilenet_v3, mobilenet_v3.MobileNetV3, "1905.02244"),
        ("shufflenet_v1", shufflenet_v1, shufflenet_v1.ShuffleNetV1, "1707.01083"),
        ("shufflenet_v2", shufflenet_v2, shufflenet_v2.ShuffleNetV2, "1807.11164"),
        (
            "shufflenet_v2_plus",
            shufflenet_v2_plus,
            shufflenet_v2_plus.ShuffleNetV2Plus,
            "1904.00420",
        ),
        (
            "shufflenet_v2_large",
            shufflenet_v2_large,
            shufflenet_v2_large.ShuffleNetV2Large,
            "1807.11164",
        ),
        ("cyclemlp", cyclemlp, cyclemlp.CycleMLP, "2107.10224"),
        ("micronet", micronet, micronet.MicroNet, "2108.05894"),
        ("mobile_former", mobile_former, mobile_former.MobileFormer, "2108.05895"),
    )
)


def _catalogue(families: Sequence[Family]) -> dict[str, Family]:
    found: dict[str, Family] = {}
    for family in families:
        for name in family.variants:
            if name in found:
                raise ValueError(
                    f"the model name {name!r} is in two families: {found[name].name}, {family.name}"
                )
            found[name] = family
    return found


_FAMILY_OF = _catalogue(FAMILIES)


def list_models(
    pattern: str | Sequence[str] = "*", *, family: str | None = None, pretrained: bool = False
) -> list[str]:
    """Names in the catalogue, sorted by family and row.

    Args:
        pattern: one shell pattern or several (``"fastvit_sa*"``); a name that matches any is
            listed.
        family: only that family.
        pretrained: only names with published weights.

    Raises:
        UnknownNameError: no family has that name.
    """
    if family is not None and family not in {known.name for known in FAMILIES}:
        raise UnknownNameError.of("family", family, [known.name for known in FAMILIES])
    patterns = [pattern] if isinstance(pattern, str) else pattern
    return [
        name
        for name, owner in _FAMILY_OF.items()
        if (family is None or owner.name == family)
        and any(fnmatch.fnmatchcase(name, one) for one in patterns)
        and (not pretrained or name in PRETRAINED)
    ]


def _variant(name: str) -> tuple[Family, Config]:
    if name not in _FAMILY_OF:
        raise UnknownNameError.of(
            "model", name, _FAMILY_OF, hint="The command 'fleetfoot models' lists them all."
        )
    family = _FAMILY_OF[name]
    return family, family.variants[name]


def family_of(name: str) -> str:
    """The family of a network of the catalogue.

    Raises:
        UnknownNameError: no model has that name.
    """
    return _variant(name)[0].name


def configure(name: str, **options: Any) -> Config:
    """The row ``name`` with ``options`` in place of its fields.

    Raises:
        UnknownNameError: no model has that name, or its family has no such option.
    """
    _, config = _variant(name)
    known = [field.name for field in fields(config)]
    for option in options:
        if option not in known:
            raise UnknownNameError.of(
                f"option of {name}", option, known, hint=f"{name} takes {', '.join(known)}."
            )
    return replace(config, **options)


def create_model(
    name: str,
    *,
    pretrained: bool | str = False,
    weights: str | os.PathLike[str] | None = None,
    accept_licence: bool = False,
    features_only: bool = False,
    out_indices: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """A network by name, in train mode, as timm's function of that name makes one.

    It carries ``pretrained_cfg``, the preprocessing, terms and score of its weights, and
    ``load_report``, what was done with their file (``None`` for a fresh network).

    Args:
        pretrained: ``True`` for the network's default published weights, or the tag of others
            (``"apple_dist_in1k"``).
        weights: a file of weights instead, in any known layout; options that the layout needs are
            set unless given here, and ``num_classes`` is the file's unless given here: another
            number keeps the body and makes a fresh classifier.
        accept_licence: yes to a licence that does not allow every use.
        features_only: the feature maps without a head.
        out_indices: which of them; see ``FeatureExtractor``.
        options: fields of the family's config: ``num_classes`` (0: no classifier), ``in_chans``,
            ``drop_path_rate``, ``input_size`` and the family's own.

    Raises:
        UnknownNameError: no such network, option or tag.
        ValueError: both ``pretrained`` and ``weights`` are given.
        WeightsError: the weights cannot be had, read, or used in this network.
    """
    if pretrained and weights is not None:
        raise ValueError(f"give pretrained ({pretrained!r}) or weights ({weights}), not both")
    if peers.is_peer(name):
        return peers.create(
            name,
            pretrained=pretrained,
            weights=weights,
            accept_licence=accept_licence,
            features_only=features_only,
            out_indices=out_indices,
            **options,
        )
    config = configure(name, **options)  # a wrong option is said before anything is fetched
    if weights is not None:
        model = load_weights(name, read(weights), **options)
    elif pretrained:
        published = choose(name, pretrained if isinstance(pretrained, str) else None)
        path = hub.fetch(published, accept_licence=accept_licence)
        model = load_weights(name, read(path), published=published, **options)
    else:
        model = _variant(name)[0].build(config)
    return FeatureExtractor(model, out_indices) if features_only else model


def load_weights(
    name: str, file: WeightsFile, *, published: PretrainedConfig | None = None, **options: Any
) -> Backbone:
    """The network ``name`` with the tensors of ``file``; ``create_model`` says how options combine.

    Raises:
        UnknownNameError: no such network or option.
        KeyMismatchError: the tensors are not those of this network.
    """
    family, row = _variant(name)
    configure(name, **options)  # a wrong option is said before anything else
    translation = translate(file, family.name)
    layout = translation.layout
    if published:  # whose row says what the keys do not
        layout = replace(layout, note="")
        translation = replace(translation, layout=layout)
    needed = {
        **layout.options,
        **(published.options if published else {}),
        **own.options(file, row),
    }
    notes = []
    for option, value in needed.items():
        if option not in options and getattr(row, option) != value:
            options[option] = value
            notes.append(f"{option}={value!r}, which these weights need")
        elif options.get(option, value) != value:
            notes.append(f"{option}={options[option]!r} as asked; these weights need {value!r}")
    classes = translation.num_classes
    if "num_classes" not in options and classes not in (0, row.num_classes):
        options["num_classes"] = classes
        notes.append(f"num_classes={classes}, as in the file")
    asked = {"input_size": options["input_size"]} if "input_size" in options else {}
    config = configure(name, **options)
    fresh = "num_classes" in options and config.num_classes != classes
    if fresh and config.num_classes:
        notes.append(f"a fresh classifier of {config.num_classes} classes; the file has {classes}")
    # compared before anything is built in memory: a file may ask for a network of any size
    if problems := translation.problems(_skeleton(family, config), fresh_classifier=fresh):
        raise KeyMismatchError(
            f"{file.path} (layout {layout.name}) is no {name} of this configuration:{problems}"
            f"{_hint(name, file, classes)}"
        )
    model = family.build(config)
    report = translation.into(model, fresh_classifier=fresh, notes=notes)
    model.load_report = report
    model.pretrained_cfg = published or of_file(
        str(file.path),
        name,
        layout.name,
        {**layout.preprocessing, **own.preprocessing(file), **asked},
        config.input_size,
    )
    logger.log(logging.WARNING if report.notes else logging.INFO, "%s: %s", name, report)
    return model


def _skeleton(family: Family, config: Config) -> Mapping[str, Tensor]:
    """Names and shapes of a network's tensors, without their memory."""
    with torch.device("meta"):
        return family.build(config).state_dict()


@cache
def _shapes(name: str, num_classes: int) -> Mapping[str, Tensor]:
    family, row = _variant(name)
    return _skeleton(family, replace(row, num_classes=num_classes))


def _hint(name: str, file: WeightsFile, classes: int) -> str:
    fits = [fit.name for fit in identify(file) if fit.name != name]
    if fits:
        return f"\n  These are weights of {' or '.join(fits)}."
    if not classes:
        return "\n  The file has no classifier: num_classes=0 builds none, N a fresh one."
    return ""


@dataclass(frozen=True)
class Fit:
    """A network of the catalogue that a file's tensors fit, name by name and shape by shape."""

    name: str
    layout: str
    num_classes: int


def identify(file: WeightsFile) -> list[Fit]:
    """Every network of the catalogue whose tensors a file holds, at any number of classes.

    Names and shapes alone decide, so networks that differ in nothing else are all listed.
    """
    fits = []
    for layout in recognised(file):
        translation = rename(file, layout)
        classes = translation.num_classes
        fits += [
            Fit(name, layout.name, classes)
            for name in list_models(family=layout.family)
            if not translation.problems(_shapes(name, classes))
        ]
    return fits


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What a file of weights is."""

    path: str
    format: str
    wrappers: tuple[str, ...]
    beside: tuple[str, ...]
    """Entries of the file beside the weights."""
    tensors: int
    params: int
    """Values in floating point, batch norm statistics included."""
    layouts: tuple[str, ...]
    """Layouts that know every key, with their families: ``timm (fastvit)``."""
    fits: tuple[Fit, ...]
    """Networks of the catalogue whose tensors these are."""
    licence: str
    """Files do not state their terms; "unknown" unless the header of ours does."""


def inspect_weights(path: str | os.PathLike[str]) -> Inspection:
    """Reads a file of weights and says what it is.

    Raises:
        WeightsError: it cannot be read.
    """
    file = read(path)
    fits = tuple(identify(file))
    return Inspection(
        path=str(path),
        format=file.format,
        wrappers=file.wrappers,
        beside=file.beside,
        tensors=len(file.state),
        params=file.params,
        layouts=tuple(f"{layout.name} ({layout.family})" for layout in recognised(file)),
        fits=fits,
        licence=file.metadata.get("licence", "unknown"),
    )


def convert(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    model: str | None = None,
    overwrite: bool = False,
    **options: Any,
) -> LoadReport:
    """Writes the weights of ``source`` as safetensors in our own layout, with what they need said
    in the header.

    Args:
        model: the network that they are of; may be left out where they fit only one.
        options: as ``create_model``'s; what the keys do not show (``small_input=True``).

    Raises:
        UnknownNameError: no such network or option.
        WeightsError: ``source`` cannot be read, fits no network or several, or ``target`` exists.
    """
    file = read(source)
    if model is None:
        names = sorted({fit.name for fit in identify(file)})
        if len(names) != 1:
            raise KeyMismatchError(
                f"{file.path} fits {' and '.join(names) or 'no network of the catalogue'}; "
                "say which with model=NAME (--model NAME)"
            )
        (model,) = names
    made = load_weights(model, file, **options)
    row = _variant(model)[1]
    changed = {
        field.name: getattr(made.config, field.name)
        for field in fields(made.config)
        if getattr(made.config, field.name) != getattr(row, field.name)
        and field.name != "num_classes"  # which the classifier's shape says
    }
    header = own.header(model, changed, made.pretrained_cfg, file.path.name)
    write(target, made.state_dict(), header, overwrite=overwrite)
    assert made.load_report is not None
    return made.load_report


@dataclass(frozen=True, kw_only=True)
class ModelInfo:
    """What is known of a network without running it."""

    name: str
    family: str
    """The zoo's family, or the library of a peer."""
    paper: str
    """Address of the family's paper; "" for a peer."""
    params: int
    """Learned values in training form."""
    config: Config | None
    """``None`` for a peer."""
    feature_info: tuple[FeatureInfo, ...]
    """Empty for a peer."""
    pretrained: tuple[PretrainedConfig, ...]
    """Its published weights, the default first."""
    top1: float | None
    """Published ImageNet-1k top-1, percent."""
    top1_source: str


def model_info(name: str) -> ModelInfo:
    """What is known of a network: size, maps, weights and their terms, published accuracy.

    Raises:
        UnknownNameError: no model has that name.
    """
    if peers.is_peer(name):
        with torch.device("meta"):
            built: nn.Module = peers.create(name)
        known: dict[str, Any] = {
            "family": name.partition(":")[0],
            "paper": "",
            "config": None,
            "feature_info": (),
            "pretrained": peers.published(name),
        }
    else:
        family, config = _variant(name)
        with torch.device("meta"):
            built = family.build(config)
        known = {
            "family": family.name,
            "paper": family.paper,
            "config": config,
            "feature_info": built.feature_info,
            "pretrained": PRETRAINED.get(name, ()),
        }
    top1, source = published_top1(name) or (None, "")
    params = sum(p.numel() for p in built.parameters())
    return ModelInfo(name=name, params=params, top1=top1, top1_source=source, **known)
