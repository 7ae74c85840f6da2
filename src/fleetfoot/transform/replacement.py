"""Replace the K×K convolutions of any network by PConv and a 1×1.

Chen et al. 2023, "Run, Don't Walk", https://arxiv.org/abs/2303.03667, section 3: a PConv convolves
C / ratio of the channels, and the 1×1 that follows mixes them into all channels. Here the 1×1
has the convolution's outputs, its stride and its bias, so that every shape stays; what stood around
the convolution, its batch norm for one, stays with its weights. The new layers must be trained.

A depthwise convolution may have its 1×1 already. If that is the only layer after it, with at
most a batch norm between, a second 1×1 would add nothing, since two linear maps in a row are one:
the PConv alone takes the place. Where norm and activation stand between (MobileNets), the paper's
pair is kept whole, with a 1×1 of its own, unless ``pointwise="own"`` asks to use the one that is
there.

PConv has stride 1 in the paper, which changes resolution by convolutions of their own. So a strided
convolution is left, unless ``strided`` asks for a pair whose 1×1 has the stride.

B batch · Ci, Co channels in and out · P = Ci // ratio · K kernel · G groups
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fleetfoot.copying import check_nesting, copied, evaluated_
from fleetfoot.count.trace import Operator, Trace, trace
from fleetfoot.errors import SwapError, UnknownNameError
from fleetfoot.ops.branches import (
    BranchSum,
    ConditionalPositionalEncoding,
    LargeKernelConv,
    RepMixer,
)
from fleetfoot.ops.conv import SamePadConv2d
from fleetfoot.ops.pconv import PConv
from fleetfoot.transform import certificate as proof
from fleetfoot.transform.absorb import shared_tensors
from fleetfoot.transform.fold import loaded, why_not
from fleetfoot.transform.fusion import Left
from fleetfoot.transform.pointwise import following_pointwise
from fleetfoot.transform.substitute import (
    KINDS,
    Kind,
    Substitute,
    kind_of,
    sides,
    substitute,
    words,
)
from fleetfoot.weights.pretrained import PretrainedConfig

CONVS = ("pconv",)

SUMS = (BranchSum, RepMixer, ConditionalPositionalEncoding, LargeKernelConv)
"""Whose convolutions are branches that fold into one."""

Calls = dict[str, list[tuple[tuple[int, ...], tuple[int, ...]]]]
"""Shapes of input and output at each call of a module, by its path."""


@dataclass(frozen=True, kw_only=True)
class SwapOptions:
    """Which convolutions, and what takes their place.

    Raises:
        UnknownNameError: a name is none of those known.
        ValueError: ``ratio`` is below 1, or a kernel is even or below 3.
    """

    conv: str = "pconv"
    which: Kind | Literal["all"] = "all"
    """``depthwise`` has a group a channel, ``plain`` has one group, ``grouped`` is between."""
    kernels: tuple[int, ...] = (3,)
    """K of the convolutions that are taken; the PConv has the K of what it replaces."""
    only: tuple[str, ...] = ()
    """Shell patterns of module paths, as ``layer3.*``; all without one."""
    skip: tuple[str, ...] = ()
    """Shell patterns of module paths that are left. Default: none."""
    ratio: int = 4
    """The PConv convolves Ci // ratio channels. Where ratio does not divide Ci, the convolution is
    left, and the reason names the ratios that do."""
    pointwise: Literal["new", "own"] = "new"
    """``own``: a depthwise convolution's own 1×1, after norm and activation, serves as the pair's
    1×1 although they stand between."""
    strided: bool = False
    """Take strided convolutions too: a pair whose 1×1 has the stride."""
    init: Literal["fresh", "fit"] = "fresh"
    """``fresh``: torch's own random start. ``fit``: the pair's T-shaped kernel is the one nearest
    to the old kernel, by least squares over its weights."""

    def __post_init__(self) -> None:
        for name, known in (
            ("conv", CONVS),
            ("which", (*KINDS, "all")),
            ("pointwise", ("new", "own")),
            ("init", ("fresh", "fit")),
        ):
            if getattr(self, name) not in known:
                raise UnknownNameError.of(f"value of {name}", str(getattr(self, name)), known)
        if self.ratio < 1:
            raise ValueError(f"ratio must be 1 or more, not {self.ratio}")
        wrong = [kernel for kernel in self.kernels if kernel < 3 or kernel % 2 == 0]
        if wrong or not self.kernels:
            raise ValueError(f"kernels must be odd and 3 or more, as 3 or 5, not {self.kernels}")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one layer, or what took its place, costs in the traced pass."""

    params: int
    macs: int
    moved_bytes: int


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """One convolution that is no longer in the network."""

    path: str
    kind: Kind
    was: str
    now: str
    pointwise: str
    """"new", or the path of the 1×1 after it that was there before and keeps its weights."""
    between: tuple[str, ...]
    """What stands between the PConv and a 1×1 that was there before."""
    before: Cost
    after: Cost
    fit_error: float | None
    """With ``init="fit"``: size of what the new kernel misses of the old one, over the size of the
    old one (Frobenius norms): 0 is the same function, up to a bias."""


@dataclass(frozen=True, kw_only=True)
class Swapped:
    """What ``swap`` returns."""

    model: nn.Module
    """The new network; modes, devices and dtypes are the given one's."""
    options: SwapOptions
    replaced: tuple[Replaced, ...]
    left: tuple[Left, ...]
    """The other K×K convolutions, K > 1, each with the reason."""
    before: Trace
    after: Trace
    kept: tuple[str, ...]
    """Keys of the ``state_dict`` whose tensors are the given network's, bit for bit."""
    new: tuple[str, ...]
    """Keys of the new layers, which must be trained."""
    checked: str
    """Which shapes a run of both networks has shown to be the same."""

    def summary(self) -> str:
        """A few lines for people."""
        kinds = Counter(row.kind for row in self.replaced)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        lines = [
            f"replaced: {counts}",
            f"params {self.before.params:,} to {self.after.params:,}, MACs {self.before.macs:,} to "
            f"{self.after.macs:,}, bytes moved {self.before.memory_access_bytes:,} to "
            f"{self.after.memory_access_bytes:,}",
            f"weights: {len(self.kept)} tensors kept bit for bit, {len(self.new)} new: to be "
            "trained",
            f"shapes: {self.checked}",
        ]
        return "\n".join([*lines, *(f"left: {text}" for text in by_reason(self.left))])

    def record(self) -> dict[str, Any]:
        """The same for programs: plain lists, dicts, strings and numbers, without the network."""
        totals = {
            when: {
                "params": found.params,
                "macs": found.macs,
                "moved_bytes": found.memory_access_bytes,
                "coverage": found.coverage,
                "note": found.note,
            }
            for when, found in (("before", self.before), ("after", self.after))
        }
        return {
            "options": asdict(self.options),
            "replaced": [asdict(row) for row in self.replaced],
            "left": [asdict(row) for row in self.left],
            **totals,
            "kept": list(self.kept),
            "new": list(self.new),
            "checked": self.checked,
        }

    def __str__(self) -> str:
        return self.summary()


def by_reason(left: Iterable[Left]) -> list[str]:
    """One line a reason, with the paths that it holds for."""
    paths: dict[str, list[str]] = {}
    for row in left:
        paths.setdefault(row.reason, []).append(row.path or "(the network itself)")
    return [f"{reason}: {', '.join(names)}" for reason, names in paths.items()]


def swap(model: nn.Module, example: Any, options: SwapOptions | None = None) -> Swapped:
    """``model`` with K×K convolutions replaced by PConv and a 1×1; the given one stays as it was.

    Any ``nn.Module`` will do, a detector too. Candidates are its ``nn.Conv2d``, subclasses
    included, with K > 1. Both networks run once on ``example``, in eval mode: every new layer must
    answer with the shape that the old one would have, and so must the network. A network whose
    shapes follow from values, as a detector's, is compared in all sides of its outputs but the
    first.

    Args:
        example: an input that it takes, (B, C, H, W) or whatever its one argument is; a tuple
            holds several arguments.

    Raises:
        SwapError: nothing is replaced, and why for each candidate; or the new network does not
            run, or changes a shape.
        ValueError: a pattern matches no candidate, or the network does not run on ``example``.
        TypeError: ``model`` is no module.
    """
    options = options or SwapOptions()
    if isinstance(model, torch.jit.ScriptModule):
        raise SwapError("model is compiled by torch.jit; swap in the module it was made from")
    if isinstance(model, nn.Module):
        check_nesting(model)
        if any(is_lazy(tensor) for tensor in model.parameters()):
            raise SwapError("model has lazy layers that have no size yet; run it once before")
    before = trace(model, example)
    inputs = example if isinstance(example, tuple) else (example,)
    net = copied(model)
    candidates = {path: module for path, module in net.named_modules() if _is_candidate(module)}
    _check_patterns(options, candidates)
    seen = _observed(net, candidates, inputs)
    following = following_pointwise(net, across_activations=options.pointwise == "own")
    chosen, left = _selected(net, candidates, seen[0], options)
    if not chosen:
        raise SwapError(_nothing(model, left))
    made = {
        path: substitute(candidates[path], following.get(path), options.ratio, options.init)
        for path in chosen
    }
    places = put_(net, {candidates[path]: new.module for path, new in made.items()})
    try:
        checked = _compared(net, made, candidates, inputs, seen, shapes_vary=bool(before.note))
        after = trace(net, example)
    except SwapError:
        raise
    except Exception as why:  # anything that a stranger's forward can raise
        raise SwapError(
            f"the new network does not run: {type(why).__name__}: {why}. A block may ask its "
            "convolution for what the new layers lack; leave that block out by skip (--skip)"
        ) from why
    forget_accuracy_(net)
    within = {path: places[new.module] for path, new in made.items()}
    replaced = []
    for path, new in made.items():
        conv = candidates[path]
        replaced.append(
            Replaced(
                path=path,
                kind=kind_of(conv),
                was=words(conv),
                now=new.words,
                pointwise=new.pointwise or "new",
                between=new.between,
                before=_cost(before, conv, within[path]),
                after=_cost(after, new.module, within[path]),
                fit_error=new.fit_error,
            )
        )
    keys = net.state_dict().keys()
    prefixes = tuple(f"{place}." for many in within.values() for place in many)
    return Swapped(
        model=net,
        options=options,
        replaced=tuple(replaced),
        left=tuple(left),
        before=before,
        after=after,
        kept=tuple(key for key in keys if not key.startswith(prefixes)),
        new=tuple(key for key in keys if key.startswith(prefixes)),
        checked=checked,
    )


# --- which convolutions


def _is_candidate(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and max(module.kernel_size) > 1


def _check_patterns(options: SwapOptions, candidates: Mapping[str, nn.Module]) -> None:
    for name in ("only", "skip"):
        for pattern in getattr(options, name):
            if not any(fnmatchcase(path, pattern) for path in candidates):
                known = ", ".join(itertools.islice(candidates, 5)) or "none"
                more = f" and {len(candidates) - 5} more" if len(candidates) > 5 else ""
                raise ValueError(
                    f"{name} pattern {pattern!r} matches no convolution; there are {known}{more}"
                )


def _selected(
    net: nn.Module, candidates: Mapping[str, nn.Conv2d], calls: Calls, options: SwapOptions
) -> tuple[list[str], list[Left]]:
    """Paths that are replaced, and those that are left with the reason."""
    within_pconv = {m.conv for m in net.modules() if isinstance(m, PConv)}
    sums = [m for m in net.modules() if isinstance(m, SUMS)]
    within_sum = {part for m in sums for part in m.modules()}
    shared = shared_tensors(net.modules())
    chosen, left = [], []
    for path, conv in candidates.items():
        if conv in within_pconv:
            reason: str | None = "it is the convolution of a PConv"
        elif conv in within_sum:
            reason = "it is a branch of a sum; swap in the network that fuse returns"
        elif options.only and not _matches(path, options.only):
            reason = "it matches no pattern of only"
        elif _matches(path, options.skip):
            reason = "it matches a pattern of skip"
        elif options.which not in ("all", kind_of(conv)):
            reason = f"it is {kind_of(conv)}, and {options.which} was asked for"
        else:
            reason = _why_not(conv, options)
        if reason is None and any(tensor in shared for tensor in conv.parameters()):
            reason = "another module has its weights too"
        if reason is None and not calls[path]:
            reason = "a plain call in eval mode does not reach it"
        if reason is None and any(len(given) != 4 for given, _ in calls[path]):
            reason = "its input has no batch dimension"
        if reason is None:
            chosen.append(path)
        else:
            left.append(Left(path, type(conv).__name__, reason))
    return chosen, left


def _matches(path: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _why_not(conv: nn.Conv2d, options: SwapOptions) -> str | None:
    """Why a pair cannot stand for ``conv``, or was not asked to; None if it can."""
    if conv.kernel_size not in {(k, k) for k in options.kernels}:
        asked = " or ".join(sides((k, k)) for k in options.kernels)
        return f"its kernel is {sides(conv.kernel_size)}, and {asked} was asked for"
    if reason := why_not(conv):
        return reason
    kernel = conv.kernel_size[0]
    if conv.dilation != (1, 1):
        return f"its dilation is {sides(conv.dilation)}, which a PConv does not have"
    if conv.padding_mode != "zeros":
        return f"it pads by {conv.padding_mode!r}; a PConv pads with zeros"
    strided = conv.stride != (1, 1)
    if strided and not options.strided:
        return f"its stride is {sides(conv.stride)}; PConv has stride 1 (strided takes it too)"
    same = isinstance(conv, (SamePadConv2d, *loaded("timm.layers.conv2d_same", "Conv2dSame")))
    if same and strided:
        return "it pads more at the right than at the left, which a strided pair does not"
    if not same and conv.padding not in ("same", (kernel // 2, kernel // 2)):
        return f"its padding is {sides(conv.padding)}, so that it changes the size beyond stride"
    channels, ratio = conv.in_channels, options.ratio
    if channels % ratio:
        near = [r for r in range(1, channels + 1) if channels % r == 0]
        near = sorted(near, key=lambda r: (abs(r - ratio), -r))[:2]
        return (
            f"its {channels} channels are not divisible by ratio {ratio}; "
            f"{' and '.join(map(str, sorted(near)))} divide them"
        )
    return None


def _nothing(model: nn.Module, left: Sequence[Left]) -> str:
    name = type(model).__name__
    if not left:
        return f"{name} has no K×K convolution (nn.Conv2d with K > 1)"
    lines = "".join(f"\n  {text}" for text in by_reason(left))
    return f"nothing to replace in {name}; each of its {len(left)} convolutions is left:{lines}"


# --- the new network


def put_(net: nn.Module, swaps: Mapping[nn.Module, nn.Module]) -> dict[nn.Module, list[str]]:
    """Puts each value where its key was, in all places of ``net``; the paths of those.

    Raises:
        SwapError: the network is itself one of the keys.
    """
    if net in swaps:
        raise SwapError("the network is one convolution; fleetfoot.ops.pconv has what you need")
    places: dict[nn.Module, list[str]] = {new: [] for new in swaps.values()}
    for path, parent in list(net.named_modules(remove_duplicate=False)):
        for name, child in parent._modules.items():
            new = child and swaps.get(child, child)
            if new in places:
                parent._modules[name] = new
                places[new].append(f"{path}.{name}".lstrip("."))
    return places


def forget_accuracy_(net: nn.Module) -> None:
    """Drops the published accuracy, which is that of the network before."""
    published = vars(net).get("pretrained_cfg")
    if isinstance(published, PretrainedConfig):
        vars(net)["pretrained_cfg"] = replace(published, top1=None, top1_source="")


# --- runs


def _observed(
    net: nn.Module, paths: Iterable[str], inputs: tuple[Any, ...]
) -> tuple[Calls, dict[str, tuple[int, ...]]]:
    """Shapes at each call of the modules at ``paths``, and of the network's outputs."""
    net = evaluated_(copied(net))
    calls: Calls = {path: [] for path in paths}

    def noting(path: str) -> Any:
        def note(_: nn.Module, args: Any, kwargs: Any, out: Tensor) -> None:
            given: Tensor = (*args, *kwargs.values())[0]
            calls[path].append((tuple(given.shape), tuple(out.shape)))

        return note

    for path in calls:
        net.get_submodule(path).register_forward_hook(noting(path), with_kwargs=True)
    output = proof.run(net, inputs)
    return calls, {where: tuple(t.shape) for where, t in proof.tensors(output)}


def _compared(
    net: nn.Module,
    made: Mapping[str, Substitute],
    candidates: Mapping[str, nn.Conv2d],
    inputs: tuple[Any, ...],
    seen: tuple[Calls, dict[str, tuple[int, ...]]],
    *,
    shapes_vary: bool,
) -> str:
    """Runs the new network and says what was found to be the same.

    Raises:
        SwapError: a shape is not.
    """
    calls, outputs = _observed(net, made, inputs)
    for path, shapes in calls.items():
        conv = copied(candidates[path]).to("meta")
        for given, answered in shapes:
            expected = tuple(conv(torch.empty(given, device="meta", dtype=conv.weight.dtype)).shape)
            if answered != expected:
                raise SwapError(
                    f"{path} answers {given} with {answered}; the convolution answered {expected}"
                )
        if not shapes_vary and shapes != seen[0][path]:
            raise SwapError(f"{path} meets the shapes {shapes}, not {seen[0][path]} as before")
    first = 1 if shapes_vary else 0
    now, then = ({w: s[first:] for w, s in found.items()} for found in (outputs, seen[1]))
    if now != then:
        raise SwapError(f"the outputs have the shapes {now}, and had {then} before")
    text = f"the same at the replaced layers and the outputs ({len(outputs)}), in a run of both"
    if shapes_vary:
        text += "; the first side of an output follows from values and is not compared"
    return text


def _cost(found: Trace, module: nn.Module, places: Sequence[str]) -> Cost:
    def inside(operator: Operator) -> bool:
        return any(
            operator.module == place or operator.module.startswith(f"{place}.") for place in places
        )

    operators = [operator for operator in found.operators if inside(operator)]
    return Cost(
        params=sum(tensor.numel() for tensor in module.parameters()),
        macs=sum(operator.macs or 0 for operator in operators),
        moved_bytes=sum(operator.bytes_read + operator.bytes_written for operator in operators),
    )
