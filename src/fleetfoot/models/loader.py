"""Loading weights into a network of the zoo: options, comparison, report."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fleetfoot.errors import KeyMismatchError
from fleetfoot.models.base import Backbone, Config
from fleetfoot.models.catalogue import configure, skeleton, variant
from fleetfoot.models.identification import identify, twins
from fleetfoot.weights import own
from fleetfoot.weights.files import WeightsFile
from fleetfoot.weights.layout import Layout
from fleetfoot.weights.loading import (
    CLASSIFIER,
    HEAD,
    Translation,
    Without,
    passed_over,
    translations,
)
from fleetfoot.weights.pretrained import PretrainedConfig, of_file

logger = logging.getLogger("fleetfoot")


def load_weights(
    name: str,
    file: WeightsFile,
    *,
    published: PretrainedConfig | None = None,
    features_only: bool = False,
    **options: Any,
) -> Backbone:
    """The network ``name`` with the tensors of ``file``; ``create_model`` says how options combine.

    Args:
        features_only: load everything except the head, which stays as it is; the file may have one
            or none.

    Raises:
        UnknownNameError: there is no such network or option.
        KeyMismatchError: the tensors are not those of this network.
        CorruptFileError: a value is beyond what float32 holds.
    """
    family, row = variant(name)
    configure(name, **options)  # a wrong option is reported before anything else
    tried: list[_Attempt] = []
    for translation in translations(file, family.name):
        attempt = _attempt(name, row, translation, published, features_only, options)
        tried.append(attempt)
        if not attempt.problems:
            break
    else:
        attempt = max(tried, key=lambda one: (len(one.translation.tensors), -len(one.problems)))
        part = attempt.translation.file
        raise KeyMismatchError(
            f"{file.path} (layout {attempt.translation.layout.name}) is no {name} of this "
            f"configuration:{attempt.problems}{_hint(name, part, attempt.translation.num_classes)}"
        )
    translation = attempt.translation
    passed = passed_over(one.translation for one in tried[:-1])
    model = family.build(attempt.config)
    report = translation.into(model, without=attempt.without, notes=(*passed, *attempt.notes))
    if features_only:
        report = replace(report, fresh=())
    model.load_report = report
    names = own.labels(file)
    whole = len(names) == translation.num_classes == attempt.config.num_classes
    labels = {"labels": names if whole else ()}
    asked = {"input_size": options["input_size"]} if "input_size" in options else {}
    model.pretrained_cfg = published or of_file(
        str(file.path),
        name,
        translation.layout.name,
        {**translation.layout.preprocessing, **own.preprocessing(file), **asked, **labels},
        attempt.config.input_size,
    )
    logger.log(logging.WARNING if report.notes else logging.INFO, "%s: %s", name, report)
    return model


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """One part of a file, compared with the network whose config it asks for."""

    translation: Translation
    config: Config
    without: Without
    notes: tuple[str, ...]
    problems: str


def _attempt(
    name: str,
    row: Config,
    translation: Translation,
    published: PretrainedConfig | None,
    features_only: bool,
    options: Mapping[str, Any],
) -> _Attempt:
    file, layout, chosen = translation.file, translation.layout, dict(options)
    if published:  # its row states what the keys do not
        layout = replace(layout, note="")
        translation = replace(translation, layout=layout)
    needed = {
        **layout.options,
        **(published.options if published else {}),
        **own.options(file, row),
    }
    notes = []
    chosen_by_user = own.is_checkpoint(file.metadata)  # whoever trained it chose them
    for option, value in needed.items():
        if option not in chosen and getattr(row, option) != value:
            chosen[option] = value
            if not chosen_by_user:
                notes.append(f"{option}={value!r}, which these weights need")
        elif chosen.get(option, value) != value:
            notes.append(f"{option}={chosen[option]!r} as requested; these weights need {value!r}")
    classes = translation.num_classes
    if "num_classes" not in chosen and classes not in (0, row.num_classes) and not features_only:
        chosen["num_classes"] = classes
        if not chosen_by_user:
            notes.append(f"num_classes={classes}, as in the file")
    config = configure(name, **chosen)
    without: Without = None
    if features_only:
        without = HEAD
    elif "num_classes" in chosen and config.num_classes != classes:
        without = CLASSIFIER
        if config.num_classes:
            notes.append(
                f"a fresh classifier of {config.num_classes} classes; the file has {classes}"
            )
    # compared before anything is built in memory: a file may ask for a network of any size. A
    # classifier that is left out is compared too, since its bias may show another form
    whole = bool(classes) and (not features_only or bool(twins(name)))
    compared = replace(config, num_classes=classes) if whole else config
    problems = translation.problems(
        skeleton(variant(name)[0], compared), without=None if whole else without
    )
    problems += _of_another_form(name, config, file, translation)
    if not classes and not problems and (others := _told_apart_by_nothing(name, file, layout)):
        notes.append(
            f"nothing in the file tells {name} from {' or '.join(others)}, whose tensors have the "
            "same names and shapes; in the wrong one, its answers are wrong"
        )
    return _Attempt(
        translation=translation,
        config=config,
        without=without,
        notes=tuple(notes),
        problems=problems,
    )


def _of_another_form(name: str, config: Config, file: WeightsFile, translation: Translation) -> str:
    """Why a file whose keys and shapes fit is of another network; "" if nothing says so."""
    layout = translation.layout
    for field, value in layout.requires.items():
        if getattr(config, field) != value:
            return (
                f"\n  The layout {layout.name} is that of networks with {field}={value!r}; {name} "
                f"has {getattr(config, field)!r} and computes another function of these tensors."
            )
    stated = file.metadata.get("model", "") if "fleetfoot" in file.metadata else ""
    if stated in twins(name):
        return f"\n  Its header says that it holds {stated}, another function of these tensors."
    return ""


def _told_apart_by_nothing(name: str, file: WeightsFile, layout: Layout) -> list[str]:
    if layout.requires or "model" in file.metadata:
        return []
    return twins(name)


def _hint(name: str, file: WeightsFile, classes: int) -> str:
    fits = [fit.name for fit in identify(file)]
    if fits and name not in fits:
        apart = "; nothing in the file tells them apart" if len(fits) > 1 else ""
        return f"\n  These are weights of {' or '.join(fits)}{apart}."
    trunks = [] if fits else [fit.name for fit in identify(file, without=HEAD)]
    if name in trunks:
        return (
            "\n  The file has the trunk of this network without its head: features_only=True "
            "takes it."
        )
    if trunks:
        apart = "; nothing in the file tells them apart" if len(trunks) > 1 else ""
        return f"\n  The file has the trunk of {' or '.join(trunks)}{apart}."
    if not classes:
        return "\n  The file has no classifier: num_classes=0 builds none, N a fresh one."
    return ""
