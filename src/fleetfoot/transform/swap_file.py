"""The file of a network that ``swap`` changed: its weights, and how to build it again.

A file of safetensors; its header names the network before and the swap.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from typing import Any

from torch import nn

import fleetfoot
from fleetfoot.copying import copied
from fleetfoot.errors import CorruptFileError, SwapError, WeightsError
from fleetfoot.models import configure, create_model
from fleetfoot.models.base import Backbone
from fleetfoot.models.catalogue import changed_options
from fleetfoot.models.peers import is_peer
from fleetfoot.network import is_file
from fleetfoot.transform.replacement import Swapped, forget_accuracy_, put_
from fleetfoot.transform.substitute import layers
from fleetfoot.weights import own
from fleetfoot.weights.files import read, write
from fleetfoot.weights.loading import load as load_state
from fleetfoot.weights.pretrained import PretrainedConfig


def save(
    swapped: Swapped, path: str | os.PathLike[str], *, base: str, overwrite: bool = False
) -> None:
    """Writes the weights as safetensors; the header says how to build the network again.

    Args:
        base: name of the network that was given to ``swap``, as ``create_model`` takes it, or
            ``path.py:factory``.

    Raises:
        WeightsError: ``path`` exists and ``overwrite`` is false, or it cannot be written.
    """
    model = swapped.model
    stated: dict[str, Any] = {
        **asdict(swapped.options),
        "alone": {row.path: row.pointwise != "new" for row in swapped.replaced},
    }
    changed: dict[str, Any] = {}
    if isinstance(model, Backbone) and not is_file(base):
        changed = changed_options(base, model.config)
        stated["num_classes"] = model.num_classes
    published = vars(model).get("pretrained_cfg")
    if isinstance(published, PretrainedConfig):
        header = own.header(base, changed, published, "swap")
    else:
        header = {"fleetfoot": fleetfoot.__version__, "model": base}
    header["swap"] = json.dumps(stated)
    write(path, model.state_dict(), header, overwrite=overwrite)


def load(path: str | os.PathLike[str], base: nn.Module | None = None) -> nn.Module:
    """The network of a file that ``save`` wrote, in train mode.

    Args:
        base: the network before the swap, which stays as it was; built from the name in the file
            without it. A network of a user's own file must be given, since naming a file of weights
            should not run another file.

    Raises:
        WeightsError: the file is none of ``save``'s, or its base must be given.
        CorruptFileError: its header does not fit the network.
        KeyMismatchError: its tensors do not.
    """
    file = read(path)
    if "swap" not in file.metadata or "model" not in file.metadata:
        raise WeightsError(f"{path}: no file of fleetfoot swap; its header names no swap")
    name = file.metadata["model"]
    try:
        stated = json.loads(file.metadata["swap"])
        ratio, alone = stated["ratio"], dict(stated["alone"])
        classes = stated.get("num_classes", 0)
        numbers = (ratio, classes, *map(int, alone.values()))
        if not all(isinstance(number, int) for number in numbers) or ratio < 1:
            raise ValueError(f"ratio {ratio!r}, num_classes {classes!r}")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptFileError(f"{path}: its header's swap is unsound: {error}") from error
    if base is not None:
        net = copied(base)
    elif is_file(name):
        raise WeightsError(
            f"{path}: its network is {name}, a file of its author's; build it and give it as base, "
            "swap_file.load(path, base=...)"
        )
    elif is_peer(name):
        net = create_model(name)
    else:
        net = create_model(name, **own.options(file, configure(name)), num_classes=classes)
    try:
        convs = {place: net.get_submodule(place) for place in alone}
        put_(net, {c: layers(c, ratio, alone=alone[p]) for p, c in convs.items()})  # type: ignore[arg-type]
    except (AttributeError, ValueError, SwapError) as error:
        raise CorruptFileError(f"{path}: its swap does not fit {name}: {error}") from error
    prefix = "".join(file.wrappers)  # what read took for a wrapper is the network's own
    state = {f"{prefix}{key}": tensor for key, tensor in file.state.items()}
    load_state(net.train(), replace(file, state=state, wrappers=()))
    forget_accuracy_(net)
    return net
