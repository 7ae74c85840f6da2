"""What is evaluated for a task beside classification: a network whose fixed part runs in one engine
or several, and what its classes are called.

B batch · K classes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fleetfoot.copying import copied, evaluated_
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.engines import Engine
from fleetfoot.errors import EngineError
from fleetfoot.evaluate.matching import match
from fleetfoot.evaluate.subject import Form, HoldsEngines, built_engines, digest
from fleetfoot.network import Workload
from fleetfoot.tasks.classify import Labels
from fleetfoot.tasks.network import TaskNetwork
from fleetfoot.transform import fuse


@dataclass(frozen=True, kw_only=True)
class TaskSubject(HoldsEngines):
    """A network of a task in engines. ``close`` or a ``with`` block ends them."""

    name: str
    network: TaskNetwork
    """In the form that runs; it decodes what the engines give."""
    form: Form
    weights: str
    """Digest of the parameters as they were given."""
    params: int
    preprocess: Preprocess
    batch: int
    """Pictures in a run."""
    runners: tuple[Engine, ...]
    failures: tuple[tuple[str, str], ...] = ()
    """Engines that could not be built, each with the reason."""
    notes: tuple[str, ...] = field(default=())


def of_task(
    workload: Workload,
    *,
    form: Form = "folded",
    names: Sequence[str] = ("eager",),
    threads: int = 1,
    precision: str = "float32",
    device: str = "cpu",
    batch: int = 1,
    overrides: Mapping[str, Any] | None = None,
    on_build: Callable[[str], None] = lambda engine: None,
) -> TaskSubject:
    """A network of a task in the engines ``names``.

    Args:
        form: whether batch norms and linear branches are folded first.
        threads, precision, device: options of ``engines.load``.
        overrides: fields of the preprocessing that differ from the network's own.
        on_build: called with the name of each engine before it is built.

    Raises:
        EngineError: the network is of no task; or the one engine of ``names``, or every one of
            several, cannot run it. Of several, the others are in ``failures``.
        FoldError: the fold cannot be proved.
    """
    given = workload.module
    if not isinstance(given, TaskNetwork):
        raise EngineError(
            f"{workload.name} is no network for detect, segment or hand; leave --task out to judge "
            "it as a classifier"
        )
    preprocess = workload.preprocess(**(overrides or {}))
    example = torch.zeros(batch, preprocess.channels, preprocess.height, preprocess.width)
    ready = fuse(given, example[:1]).model if form == "folded" else evaluated_(copied(given))
    assert isinstance(ready, TaskNetwork), "a fold keeps the class of the network"
    runners, failures = built_engines(
        workload.name,
        ready,
        example,
        names,
        threads=threads,
        precision=precision,
        device=device,
        on_build=on_build,
    )
    return TaskSubject(
        name=workload.name,
        network=ready,
        form=form,
        weights=digest(given),
        params=sum(one.numel() for one in given.parameters()),
        preprocess=preprocess,
        batch=batch,
        runners=runners,
        failures=failures,
    )


@dataclass(frozen=True, kw_only=True)
class Classes:
    """Which class of the data each class of a network is."""

    numbers: NDArray[np.int64] | None
    """Class of the data by class of the network, -1 for none, (K,); None if they are the same."""
    how: str
    """What they were matched by, for people; "" for a task without classes."""


def classes_of(
    network: TaskNetwork,
    data: str,
    classes: Sequence[str],
    model: str,
    *,
    file: Path | None = None,
    labels: Path | None = None,
) -> Classes:
    """Matches the classes of a data set and of a network, as ``matching.match`` does.

    Args:
        file: maps the data's classes to the network's.
        labels: names of the network's classes. Default: those that its weights state.

    Raises:
        ValueError: some class of the data is none of the network's, two are the same one, or the
            network gives each pixel one of more classes than the data has.
    """
    if network.task == "hand":
        return Classes(numbers=None, how="")
    stated = network.pretrained_cfg.labels
    if labels is None and len(stated) == network.num_classes:
        names = Labels(stated)
    elif labels is not None:
        names = Labels.of(network.num_classes, labels)
    else:
        count = network.num_classes
        names = Labels(tuple(f"class {n}" for n in range(count)), numbered=True)
    matched = match(data, classes, model, names, file=file)
    numbers = np.full(network.num_classes, -1, np.int64)
    for number, output in enumerate(matched.numbers.tolist()):
        if numbers[output] >= 0:
            raise ValueError(
                f"{classes[numbers[output]]!r} and {classes[number]!r} of {data} are both "
                f"{names.names[output]!r} of {model}; objects and pixels are judged class by class"
            )
        numbers[output] = number
    if network.task == "segment" and (numbers < 0).any():
        odd = names.names[int(np.argmax(numbers < 0))]
        raise ValueError(
            f"{model} may give a pixel the class {odd!r}, which {data} does not have; judge it on "
            "data with the same classes"
        )
    same = np.array_equal(numbers, np.arange(len(classes)))
    return Classes(numbers=None if same else numbers, how=matched.how)
