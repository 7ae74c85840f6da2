"""A network with the inputs of one run, and the one function that makes it from a name.

B batch · C channels · H W space · L length · D depth
"""

from __future__ import annotations

import inspect
import logging
import math
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fleetfoot.copying import evaluated_
from fleetfoot.data.preprocess import Preprocess
from fleetfoot.errors import EngineError, FactoryError, KeyMismatchError, UnknownNameError
from fleetfoot.models import identify, list_models, load_weights
from fleetfoot.models.peers import is_peer
from fleetfoot.network import user
from fleetfoot.network.facts import Facts, facts_of, native_size
from fleetfoot.network.room import check_run, is_large, without_values, zeros
from fleetfoot.network.sizes import (
    DEFAULT_SIZE,
    Size,
    height_width,
    parse_inputs,
    parse_size,
    stated_size,
)
from fleetfoot.tasks.catalogue import create_model, full_name, is_task
from fleetfoot.weights import own
from fleetfoot.weights.files import read
from fleetfoot.weights.loading import load, nearest
from fleetfoot.weights.pretrained import PretrainedConfig, untrained

log = logging.getLogger("fleetfoot")

WEIGHTS_SUFFIXES = (
    ".pth",
    ".pt",
    ".tar",
    ".bin",
    ".ckpt",
    ".pkl",
    ".safetensors",
    ".npz",
    ".h5",
    ".keras",
)
"""Suffixes of files of weights: a name with one of them means such a file, existing or not."""
LENGTH, DEPTH = 256, 16
"""Default length of a one-dimensional input, and default depth of a three-dimensional one."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """A network in eval mode, the inputs of one run, and the known facts about it.

    >>> made = resolve("mobilenetv2_010", size="64x32")
    >>> {name: tuple(tensor.shape) for name, tensor in made.inputs.items()}
    {'x': (1, 3, 64, 32)}
    >>> {name: tuple(tensor.shape) for name, tensor in made.outputs.items()}
    {'output': (1, 1000)}
    """

    name: str
    module: nn.Module
    inputs: Mapping[str, Tensor]
    """Example inputs by the names of the forward's parameters, in the order of the parameters."""
    facts: Facts = field(default_factory=Facts)

    @classmethod
    def of(
        cls,
        name: str,
        module: nn.Module,
        *,
        size: Size | str | None = None,
        inputs: Mapping[str, Tensor] | str | None = None,
        channels: int | None = None,
        batch: int = 1,
        facts: Facts | None = None,
    ) -> Workload:
        """Makes a workload of a module, which is set to eval mode. The other arguments are those of
        ``resolve``."""
        evaluated_(module)
        if inputs is not None:
            if size is not None or channels is not None or batch != 1:
                raise ValueError(
                    "inputs state whole shapes; give no size, channels or batch with them"
                )
            made = parse_inputs(inputs) if isinstance(inputs, str) else dict(inputs)
        else:
            made = _default_inputs(name, module, size, channels, batch)
        return cls(
            name=name,
            module=module,
            inputs=_ordered(name, module, made),
            facts=facts or Facts(preprocessing=_preprocessing(module)),
        )

    @property
    def arguments(self) -> tuple[Any, ...]:
        """The inputs by position, with the forward's defaults for parameters between them."""
        parameters = _parameters(self.module)
        if len(self.inputs) == 1 or not parameters:
            return tuple(self.inputs.values())
        last = max(i for i, one in enumerate(parameters) if one.name in self.inputs)
        return tuple(
            self.inputs[one.name] if one.name in self.inputs else one.default
            for one in parameters[: last + 1]
        )

    @cached_property
    def outputs(self) -> dict[str, Tensor]:
        """Outputs of one run on the inputs, by name: ``output`` for a single tensor, otherwise its
        place in the nest, for example ``boxes`` or ``features.0``."""
        with torch.no_grad():
            return named_tensors(self.module(*self.arguments))

    @property
    def size(self) -> Size:
        """Height and width of the first input that has them.

        Raises:
            ValueError: no input has a height and a width.
        """
        for tensor in self.inputs.values():
            if tensor.ndim >= 4:
                return parse_size((tensor.shape[-2], tensor.shape[-1]))
        raise ValueError(f"{self.name} takes no image: {self.describe()}")

    @property
    def batch(self) -> int:
        return next(iter(self.inputs.values())).shape[0]

    def describe(self) -> str:
        """The inputs in words: the shape of a single input, or every input's name and shape.

        >>> resolve("mobilenetv2_010", size=64).describe()
        '(1, 3, 64, 64)'
        """
        shapes = {name: str(tuple(tensor.shape)) for name, tensor in self.inputs.items()}
        if len(shapes) == 1:
            return next(iter(shapes.values()))
        return ", ".join(f"{name} {shape}" for name, shape in shapes.items())

    def record(self) -> dict[str, Any]:
        """Name and inputs as plain values for a command's JSON: model, batch, channels and size of
        an image, or the shapes of other inputs."""
        first = next(iter(self.inputs.values()))
        if len(self.inputs) == 1 and first.ndim == 4:
            size = self.size
            return {
                "model": self.name,
                "batch": first.shape[0],
                "channels": first.shape[1],
                "size": size if isinstance(size, int) else list(size),
            }
        return {
            "model": self.name,
            "inputs": {
                name: {"shape": list(t.shape), "dtype": str(t.dtype).removeprefix("torch.")}
                for name, t in self.inputs.items()
            },
        }

    def image(self, engine: str) -> Tensor:
        """The input of a network that takes one batch of images (B, C, H, W) in float32.

        Raises:
            EngineError: the network takes something else; the message names ``engine``.
        """
        first = next(iter(self.inputs.values()))
        if len(self.inputs) != 1 or first.ndim != 4 or first.dtype != torch.float32:
            given = ", ".join(
                f"{name} {tuple(t.shape)} {str(t.dtype).removeprefix('torch.')}"
                for name, t in self.inputs.items()
            )
            raise EngineError(
                f"{engine} runs networks of one input (B, C, H, W) in float32; {self.name} takes "
                f"{given}"
            )
        return first

    def with_noise(self, seed: int = 0) -> Workload:
        """The same workload with floating-point inputs drawn from the normal distribution."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {
            name: torch.randn(t.shape, generator=generator, dtype=t.dtype)
            if t.is_floating_point()
            else t
            for name, t in self.inputs.items()
        }
        return replace(self, inputs=drawn)

    def preprocess(self, **overrides: Any) -> Preprocess:
        """The preprocessing that the network's weights expect, or else ImageNet's usual one at this
        size; in grey for a network of one channel.

        Raises:
            EngineError: the network takes something other than one image.
            ValueError: the weights expect a preprocessing that is not offered here, or the number
                of channels is neither 1 nor 3.
        """
        channels = self.image("preprocessing").shape[1]
        if channels not in (1, 3):
            raise ValueError(
                f"{self.name} takes {channels} channels; a picture has 3, or 1 in grey. Run it on "
                "tensors of your own: fleetfoot.engines.load builds it, its run takes (B, C, H, W)"
            )
        if getattr(self.module, "pretrained_cfg", None):
            made = Preprocess.of(self.module, **overrides)
        else:
            given = {name: value for name, value in overrides.items() if value is not None}
            made = Preprocess(**{"size": self.size, **given})
        return made.grey() if channels == 1 else made


def is_weights(name: str) -> bool:
    """Whether ``name`` means a file of weights: it ends as one, or looks like a path, or exists.

    >>> is_weights("runs/best.pth"), is_weights("timm:resnet18"), is_weights("nets/mine.py:build")
    (True, False, False)
    """
    if user.is_file(name) or is_peer(name) or is_task(name):
        return False
    return name.endswith(WEIGHTS_SUFFIXES) or os.sep in name or Path(name).is_file()


def resolve(
    name: str,
    *,
    size: Size | str | None = None,
    inputs: Mapping[str, Tensor] | str | None = None,
    channels: int | None = None,
    batch: int = 1,
    pretrained: bool | str = False,
    weights: str | os.PathLike[str] | None = None,
    key: str | None = None,
    accept_licence: bool = False,
    seed: int = 0,
    options: Mapping[str, Any] | None = None,
) -> Workload:
    """Makes the network that ``name`` means, in eval mode, with the inputs of one run.

    Args:
        name: a network of the zoo, ``timm:NAME``, ``torchvision:NAME``, a network of a task as
            ``HEAD:BACKBONE`` or ``HEAD``, ``path.py:factory`` with or without arguments, or a file
            of weights.
        size: height and width of the image: a number, a pair, or text such as ``256x192``. Default:
            the network's own size, or 224 if it states none.
        inputs: every input of a network that takes several, or none that is an image: tensors by
            name, or text such as ``x=1x3x224x224,mask=1x224x224:bool``.
        channels: channels of the image. Default: what the first convolution or linear layer that
            sees the input takes. A network of the zoo or timm is built for this number.
        batch: number of images in the input.
        pretrained, weights, key, accept_licence: arguments of ``create_model``; a user's network
            takes a file of weights only. ``key`` also chooses the part of a file of weights that is
            named as the network.
        seed: seed of the weights that no file gives.
        options: fields of the network's configuration, as ``create_model`` takes them.

    Raises:
        UnknownNameError: no network, option or factory has that name.
        FactoryError: a user's file gives no network.
        WeightsError: the weights cannot be found, read or used; or a file of weights fits no
            network, or several.
        ValueError: size or inputs have a wrong form, or the network takes more than one input and
            ``inputs`` is not given.
    """
    made = dict(options or {})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if user.is_file(name):
            module = _own(name, pretrained, weights, key, made)
            known = None
        elif is_weights(name):
            name_of, module = _from_file(name, pretrained, weights, key, made)
            known = name_of
        else:
            if channels not in (None, 3) and not name.startswith("torchvision:"):
                made.setdefault("in_chans", channels)
            module = create_model(
                name,
                pretrained=pretrained,
                weights=weights,
                key=key,
                accept_licence=accept_licence,
                **made,
            )
            known = full_name(name, made.get("backbone")) if is_task(name) else name
    asks = size is not None or inputs is not None or weights or made
    if known is not None and not is_task(known) and not asks:
        if not _trained_here(module):  # whose own size is that of its pictures
            size = native_size(known)
    workload = Workload.of(
        name, module, size=size, inputs=inputs, channels=channels, batch=batch, facts=Facts()
    )
    facts = Facts()
    if known is not None:
        try:
            facts = facts_of(known, workload.size)
        except ValueError:  # the network takes no image, so no accuracy is published at its size
            facts = Facts()
        if weights is not None or name != known:
            facts = replace(facts, top1=None, top1_source="")  # published for other weights
    return replace(workload, facts=replace(facts, preprocessing=_preprocessing(module)))


def named_tensors(answer: Any) -> dict[str, Tensor]:
    """The tensors in any nest of tuples, lists, mappings and dataclasses that torch knows, named by
    their places in it.

    >>> one = torch.zeros(1)
    >>> list(named_tensors(one)), list(named_tensors({"boxes": one, "maps": [one, one]}))
    (['output'], ['boxes', 'maps.0', 'maps.1'])
    """
    if isinstance(answer, Tensor):
        return {"output": answer}
    leaves, _ = pytree.tree_flatten_with_path(answer)
    return {_place(path): leaf for path, leaf in leaves if isinstance(leaf, Tensor)}


def _place(path: Sequence[Any]) -> str:
    parts = []
    for key in path:
        for attribute in ("key", "idx", "name"):
            if hasattr(key, attribute):
                parts.append(str(getattr(key, attribute)))
                break
    return ".".join(parts)


def _own(
    name: str,
    pretrained: bool | str,
    weights: str | os.PathLike[str] | None,
    key: str | None,
    made: dict[str, Any],
) -> nn.Module:
    if pretrained:
        raise ValueError(f"nobody published weights of {name}; give a file of weights")
    if made:
        given = ", ".join(f"{key}={value!r}" for key, value in made.items())
        raise ValueError(
            f"{name} takes its options as arguments: {name.partition('(')[0]}({given})"
        )
    module = user.create(name)
    if weights is not None:
        file = read(weights, key)
        report = load(module, file)
        if stated := own.preprocessing(file):
            made_for = untrained(DEFAULT_SIZE)
            vars(module)["pretrained_cfg"] = replace(
                made_for, source="file", repo=str(weights), labels=own.labels(file), **stated
            )
        log.log(logging.WARNING if report.notes else logging.INFO, "%s: %s", name, report)
    elif key is not None:
        raise ValueError(
            f"key={key!r} (--key) is a part of a file of weights; give weights=FILE too"
        )
    return module


def _from_file(
    name: str,
    pretrained: bool | str,
    weights: str | os.PathLike[str] | None,
    key: str | None,
    made: dict[str, Any],
) -> tuple[str, nn.Module]:
    """The network of the zoo, of a library or of a task whose weights a file holds, and its
    name."""
    if not Path(name).exists() and not name.endswith(WEIGHTS_SUFFIXES):
        raise UnknownNameError.of(
            "model", name, list_models(), hint=f"There is no file {name} either."
        )
    if pretrained or weights is not None:
        raise ValueError(f"{name} is a file of weights; give no second file of weights with it")
    if name.endswith(".plan"):
        raise FactoryError(f"{name} is a compiled plan; run it with fleetfoot.runtime")
    file = read(name, key)
    stated = file.metadata.get("model", "") if "fleetfoot" in file.metadata else ""
    if "swap" in file.metadata:
        raise KeyMismatchError(
            f"{name} holds a network after a swap; build it with fleetfoot.transform.swap_file.load"
        )
    found = [] if stated else identify(file)
    fits = [stated] if stated else sorted({fit.name for fit in found})
    if len(fits) != 1:
        if fits:
            said = f"fits {' and '.join(fits)}; nothing in it tells them apart"
        else:
            said = f"fits no network of the zoo ({nearest(file)})"
        raise KeyMismatchError(
            f"{name} {said}; name the network, and give the file as its weights: "
            f"{fits[0] if fits else 'path.py:factory'} --weights {name}"
        )
    if user.is_file(stated):  # naming a file of weights must not run another file
        raise KeyMismatchError(
            f"{name} holds weights of {stated}, a file of its author's; name the network, and give "
            f"the file as its weights: {stated} --weights {name}"
        )
    if is_task(fits[0]):
        return fits[0], create_model(fits[0], weights=name, key=key, **made)
    if is_peer(fits[0]):
        made = {**own.peer_options(file), **made}
        return fits[0], create_model(fits[0], weights=name, key=key, **made)
    if found and not found[0].num_classes:  # a file without a classifier
        made.setdefault("num_classes", 0)
    return fits[0], load_weights(fits[0], file, **made)


def _trained_here(module: nn.Module) -> bool:
    """Whether the weights are a checkpoint's: their file names the classes and states the input
    that they were trained for."""
    stated = _preprocessing(module)
    return stated is not None and bool(stated.labels)


def _preprocessing(module: nn.Module) -> PretrainedConfig | None:
    stated = getattr(module, "pretrained_cfg", None)
    return stated if isinstance(stated, PretrainedConfig) else None


def _parameters(module: nn.Module) -> list[inspect.Parameter]:
    """The parameters that a forward takes by position."""
    try:
        found = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # a forward that is not a Python function
        return []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [one for one in found if one.kind in kinds]


def _ordered(name: str, module: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The inputs in the order of the forward's parameters.

    Raises:
        ValueError: the forward has no parameter of that name, or needs one that is not given.
    """
    parameters = _parameters(module)
    if not parameters:
        return inputs
    names = [one.name for one in parameters]
    if unknown := [one for one in inputs if one not in names]:
        raise ValueError(f"{name} has no input {', '.join(unknown)}; it takes {', '.join(names)}")
    needed = [p.name for p in parameters if p.default is p.empty]
    if missing := [one for one in needed if one not in inputs]:
        first = next(iter(inputs.values()))
        shape = "x".join(map(str, first.shape))
        typed = ",".join(f"{one}={shape}:float32" for one in needed)
        raise ValueError(
            f"{name} also takes {', '.join(missing)}; give the shape and type of each input, for "
            f"example --inputs {typed}"
        )
    return {one: inputs[one] for one in names if one in inputs}


def _default_inputs(
    name: str,
    module: nn.Module,
    size: Size | str | None,
    channels: int | None,
    batch: int,
) -> dict[str, Tensor]:
    """Zeros: one image, or the input that the first layer takes instead."""
    if channels is not None and channels < 1:
        raise ValueError(f"channels must be 1 or more, not {channels}")
    asked = parse_size(size) if size is not None else stated_size(module)
    parameters = _parameters(module)
    called = parameters[0].name if parameters else "input"
    if len([p for p in parameters if p.default is p.empty]) > 1:
        height, width = height_width(asked or DEFAULT_SIZE)
        return {called: zeros(name, (batch, channels or 3, height, width))}  # refused, with advice
    shape = (batch, *_shape(module, asked, channels))
    check_run(name, module, shape)
    return {called: zeros(name, shape)}


def _shape(module: nn.Module, size: Size | None, channels: int | None) -> tuple[int, ...]:
    """Shape of the input that the first layer takes: (C, H, W), (C, L), (C, D, H, W) or (C,)."""
    height, width = height_width(size or DEFAULT_SIZE)
    tried = channels or 3
    device = "meta" if is_large((1, tried, height, width)) else "cpu"
    example = torch.zeros(1, tried, height, width, device=device)
    seen = _first_layer(module if device == "cpu" else without_values(module), example)
    if seen is None:  # a forward that asks for five dimensions before its first layer
        return (tried, DEPTH, height, width) if _is_video(module) else (tried, height, width)
    layer, shape = seen
    as_frame = (*example.shape[:2], 1, height, width)  # an image that it takes for a film of one
    untouched = shape in (tuple(example.shape), as_frame)
    if isinstance(layer, nn.Linear):
        if untouched and layer.in_features != width:
            return (layer.in_features,)
        if shape == (1, tried * height * width) and size is None and channels is None:
            return _square(layer.in_features) or (tried, height, width)
        wanted, got = layer.in_features, shape[-1]
    else:
        dimensions = layer.weight.ndim - 2
        wanted = layer.in_channels
        if untouched and dimensions == 1:
            return channels or wanted or tried, (LENGTH if size is None else height)
        if untouched and dimensions == 3:
            return channels or wanted or tried, DEPTH, height, width
        got = shape[1] if len(shape) == dimensions + 2 else 0
    each, rest = divmod(got, tried)  # a network may first fold pixels into channels
    if channels is None and wanted and each and not rest and not wanted % each:
        return wanted // each, height, width
    return tried, height, width


def _is_video(module: nn.Module) -> bool:
    kinds = {type(layer) for layer in module.modules()}
    return nn.Conv3d in kinds and nn.Conv2d not in kinds


def _square(values: int) -> tuple[int, ...] | None:
    """Shape of the square image with that many values: 3 channels, or else 1 or 4; None if there is
    none."""
    for channels in (3, 1, 4):
        side = math.isqrt(values // channels)
        if channels * side * side == values:
            return channels, side, side
    return None


class _Seen(BaseException):
    """Ends a forward at its first layer; no ``except Exception`` in a user's forward stops it."""

    def __init__(self, layer: nn.Module, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer, self.shape = layer, shape


_FIRST = (
    nn.Conv1d, nn.Conv2d, nn.Conv3d,
    nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d,
    nn.Linear,
)  # fmt: skip


def _first_layer(module: nn.Module, example: Tensor) -> tuple[Any, tuple[int, ...]] | None:
    """The first convolution or linear layer that a forward calls, and the shape of its input; None
    if the forward ends or fails before it calls one."""

    def end(layer: nn.Module, given: tuple[Any, ...]) -> None:
        if given and isinstance(given[0], Tensor):
            raise _Seen(layer, tuple(given[0].shape))

    layers = [one for one in module.modules() if isinstance(one, _FIRST)]
    handles = [one.register_forward_pre_hook(end, prepend=True) for one in layers]
    try:
        # not in inference mode, because a forward may keep tensors that it makes
        with torch.no_grad(), redirect_stdout(sys.stderr):
            module(example)
    except _Seen as seen:
        return seen.layer, seen.shape
    except Exception:  # anything that the network raises; the run that follows will report it
        return None
    finally:
        for handle in handles:
            handle.remove()
    return None


def resolved_size(name: str) -> Size:
    """The default input size of the network of that name. A network of the zoo, timm or torchvision
    is not built to find it.

    Raises:
        UnknownNameError, FactoryError, WeightsError, ValueError: the errors of ``resolve``.
    """
    if user.is_file(name) or is_weights(name) or is_task(name):
        return resolve(name).size
    return native_size(name)


def named_inputs(module: nn.Module, *tensors: Tensor) -> dict[str, Tensor]:
    """Tensors by the names of the forward's first parameters, in order."""
    names = [one.name for one in _parameters(module)] or [f"input{i}" for i in range(len(tensors))]
    return dict(zip(names, tensors, strict=False))
