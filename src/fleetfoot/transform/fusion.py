"""Fuse a whole network: fewer operations, the same function, and the proof.

First, module by module from the leaves up, sums of linear branches become one convolution
(``branches``). Then the data flow is read through all modules that can be followed (``trace``),
and each batch norm and layer scale goes into the convolution or linear layer before it, or else
into all those after it (``fold``); modules keep their class, names and forward. What cannot be
proved stays, with the reason. Last, the result runs beside the original (``certificate``).
"""

from __future__ import annotations

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.parameter import is_lazy

from fleetfoot.copying import Kept, check_nesting, copied, evaluated_, in_float64, to_float64_
from fleetfoot.errors import FoldError, NotTraceableError, first_line
from fleetfoot.transform import certificate as proof
from fleetfoot.transform.absorb import Region, find_scale, shared_tensors, take_out
from fleetfoot.transform.branches import Algebra, Branches, merge_sums, of_leaf, rebuilt
from fleetfoot.transform.certificate import Certificate
from fleetfoot.transform.fold import Affine, Layer, affine_of, is_batchnorm, is_replaced, loaded
from fleetfoot.transform.trace import (
    CONTAINERS,
    is_identity,
    is_leaf,
    trace_each,
    trace_through,
)

SMALL = 64
"""Height and width of the image on which a network that is only counted runs: most networks take
it, for they divide the size by 32."""


@dataclass(frozen=True)
class Folded:
    """One thing that is no longer in the network."""

    path: str
    """Where it was in the given network."""
    kind: str
    """``batch norm``, ``layer scale`` or ``branches``."""
    detail: str


@dataclass(frozen=True)
class Left:
    """What a transform could have changed and has not: a batch norm, a layer scale, a sum of
    branches, a convolution."""

    path: str
    type: str
    reason: str


@dataclass(frozen=True)
class Fused:
    """What ``fuse`` returns."""

    model: nn.Module
    """The fused network, in eval mode, with the given one's devices and dtypes."""
    folded: tuple[Folded, ...]
    left: tuple[Left, ...]
    certificate: Certificate

    def summary(self) -> str:
        """A few lines for people: what was folded, what was left and why, and the proof."""
        kinds = Counter(row.kind for row in self.folded)
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.items()) or "nothing"
        proved = self.certificate
        lines = [
            f"folded: {counts}",
            f"proof: float64, normal input {proved.input}{' (guessed)' if proved.guessed else ''}, "
            f"seed {proved.seed}: largest difference {proved.max_abs:.2g}, "
            f"{proved.max_rel:.2g} of the largest output, over {proved.values:,} values",
        ]
        lines.append(f"the network returned: {proved.returned}")
        if proved.parts:
            lines.append(f"compared part by part: {', '.join(proved.parts)}")
        reasons = Counter((row.type, row.reason) for row in self.left)
        lines += [f"left: {n} × {kind}: {reason}" for (kind, reason), n in reasons.items()]
        return "\n".join(lines)

    def record(self) -> dict[str, Any]:
        """The same for programs: plain lists, dicts, strings and numbers, without the network."""
        return {
            "folded": [asdict(row) for row in self.folded],
            "left": [asdict(row) for row in self.left],
            "certificate": asdict(self.certificate) | {"parts": list(self.certificate.parts)},
        }

    def __str__(self) -> str:
        return self.summary()


def fuse(model: nn.Module, example: Any = None) -> Fused:
    """``model`` with its batch norms, layer scales and parallel linear branches folded away.

    Batch norms go into the convolution or linear layer beside them, and sums of linear branches
    (MobileOne, RepMixer, RepCPE, large kernel, RepVGG, or any other) become one convolution. The
    result is a new network in eval mode; ``model`` stays as it was. It works on any module,
    wrappers and detectors too: parts whose forward torch.fx cannot follow are kept, and what is in
    them is fused on its own. Kernels are computed in float64 and rounded once, to the dtype of the
    kernel they replace.

    The proof is for a plain call in eval mode, ``model(x)``: other methods that use the same
    modules in another order are not looked at. A module with forward hooks is kept as it is, and
    its hooks run when the copies here do.

    Args:
        model: any network; it has to run in float64 on the CPU.
        example: an input that it takes, (B, C, H, W), or whatever its one argument is; a tuple
            holds several arguments. Only shapes are read from it. Without one the shape is guessed
            from the network, and the certificate says so.

    Raises:
        FoldError: the network does not run on the example or on any guess; or the fused network's
        output is not the given one's, in which case nothing is returned.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not {type(model).__name__}")
    check_nesting(model)
    if isinstance(model, torch.jit.ScriptModule):
        raise FoldError("model is compiled by torch.jit; fuse the module that it was made from")
    if any(is_lazy(t) for t in _state(model)):
        raise FoldError("model has lazy layers that have no size yet; run it once before fuse")
    with torch.no_grad():
        return _Fusion(model).fused(example)


def unproved(model: nn.Module, example: Any) -> nn.Module:
    """The network that ``fuse`` returns, without the proof, which takes most of the time: for
    counting, which needs its shapes alone. ``model`` is used up.

    Args:
        example: an input that it takes, as ``fuse`` takes it. An image is made smaller for the run
            that shows which modules are called, if the network takes it so.

    Raises:
        FoldError: the network does not run on the example.
    """
    with torch.no_grad():
        return _Fusion(model, copy=False).unproved(example)


def _state(module: nn.Module) -> Iterable[Tensor]:
    yield from module.parameters()
    yield from module.buffers()


class _Fusion:
    """The work on one network: a copy of it, and what is known of the copy's modules."""

    def __init__(self, model: nn.Module, *, copy: bool = True) -> None:
        self.given = model
        self.net = evaluated_(copied(model) if copy else model)
        self.paths = {module: path for path, module in self.net.named_modules()}
        places = [(m, name, _home(t)) for m in self.net.modules() for name, t in _own_state(m)]
        self.as_given = Kept(self.net)
        kept = to_float64_(self.net)
        self.homes = {dict(_own_state(m))[name]: home for m, name, home in places}
        self.homes |= {new: _home(old) for new, old in kept.items()}
        self.between_runs = Kept(self.net)
        self.stands_for: dict[nn.Module, nn.Module] = {}
        self.handed: defaultdict[nn.Module, set[str]] = defaultdict(set)
        self.layer_homes = {m: home for m, name, home in places if name == "weight"}
        self.seen = proof.Observation()
        self.algebras: dict[nn.Module, Branches | None] = {}
        self.graphs: dict[nn.Module, fx.Graph] = {}
        self.merged: dict[nn.Module, nn.Module] = {}
        self.scales: dict[nn.Module, Affine] = {}
        self.regions: list[str] = []
        self.folded: list[Folded] = []
        self.left: list[Left] = []
        self.why_left: dict[nn.Module, str] = {}

    def fused(self, example: Any) -> Fused:
        arguments = self._observed(example)
        self._change()
        parts = self._parts()
        with proof.written_out(self.net) as found:
            exact = self._compared(arguments, parts)
        self._note_what_is_written_out(found)
        self._forget_runs()
        self._send_home()
        certificate = Certificate(
            max_abs=exact.max_abs,
            max_rel=exact.max_rel,
            values=exact.values,
            parts=tuple(parts),
            input=proof.describe(arguments),
            guessed=example is None,
            returned=self._compared_as_returned(arguments, parts),
        )
        return Fused(self.net, tuple(self.folded), tuple(self.left), certificate)

    def unproved(self, example: Any) -> nn.Module:
        small = _smaller(example)
        try:
            self._observed(example if small is None else small)
        except FoldError:
            if small is None:
                raise
            self._observed(example)
        self._change()
        self._send_home()
        return self.net

    def _change(self) -> None:
        """Merges and folds what can be, in ``net``, after it was observed."""
        split = self._split_norm_acts()
        self.graphs = trace_each(self.net)
        self.net = self._merge(self.net)
        self._forget_runs()
        self._fold_regions()
        self._join_norm_acts(split)
        self._note_what_is_left()

    # --- the given network's run, and the fused one's beside it

    def _observed(self, example: Any) -> tuple[Any, ...]:
        failures: list[str] = []
        last: Exception | None = None
        for guess in proof.guesses(self.net) if example is None else [example]:
            arguments = proof.random_like(guess)
            try:
                self.seen = proof.observe(self.net, arguments)
            except Exception as why:  # anything that a stranger's forward can raise
                failures.append(f"{proof.describe(arguments)}: {type(why).__name__}: {why}")
                last = why
            else:
                return arguments
            finally:
                self._forget_runs()
        tried = "\n  ".join(failures)
        advice = "pass example=, an input that it takes" if example is None else (
            "it has to run in float64 on the CPU"
        )  # fmt: skip
        raise FoldError(
            f"the network runs on no input that was tried; {advice}\n  {tried}"
        ) from last

    def _compared(self, arguments: tuple[Any, ...], parts: list[str]) -> proof.Difference:
        """How far the two are apart in float64."""
        if parts:
            original = evaluated_(in_float64(self.given))
            difference = proof.compare_parts(original, self.net, arguments, parts)
        else:
            difference = proof.Difference()
            difference.add(proof.run(self.net, arguments), self.seen.output, "the network")
        if not difference.values:
            raise FoldError("the network answers with no value that could be compared")
        return difference

    def _compared_as_returned(self, arguments: tuple[Any, ...], parts: list[str]) -> proof.Returned:
        """How far the two are apart in the given network's own type, where both run once more."""
        dtype, device = self._own_type()
        kind = str(dtype).removeprefix("torch.")
        placed = proof.placed(arguments, dtype, device)
        given = evaluated_(copied(self.given))
        settled = Kept(self.net)
        try:
            reference = proof.run(given, placed)
        except Exception as why:  # anything that a stranger's forward can raise
            return proof.Returned(type=kind, not_run=f"{type(why).__name__}: {first_line(why)}")
        difference = proof.Difference(bound=torch.finfo(dtype).eps ** 0.25)
        try:
            if parts:
                given = evaluated_(copied(self.given))
                difference = proof.compare_parts(
                    given, self.net, placed, parts, bound=difference.bound
                )
            else:
                # a network may be so sensitive that its own type moves its answer by more than that
                own = proof.rounding(reference, self.seen.output)
                difference.bound = max(difference.bound, proof.ROUNDINGS * own)
                difference.add(proof.run(self.net, placed), reference, "the network")
        except FoldError as why:
            raise FoldError(f"in {kind}, {why}") from why
        except Exception as why:  # anything that a stranger's forward can raise
            raise FoldError(
                f"the fused network does not run in {kind}, in which the given one does: "
                f"{type(why).__name__}: {first_line(why)}"
            ) from why
        finally:
            settled.restore_()
        return proof.Returned(type=kind, max_abs=difference.max_abs, max_rel=difference.max_rel)

    def _own_type(self) -> tuple[torch.dtype, torch.device]:
        """Type and device of the first floating-point tensor of the given network."""
        floating = (t for t in _state(self.given) if t.is_floating_point())
        first = next(floating, None)
        return _home(torch.empty(0) if first is None else first)

    def _parts(self) -> list[str]:
        """The modules that hold all changes and whose data flow is known, none inside another;
        empty if that is the whole network."""
        held = set()
        for row in self.folded:
            around = [region for region in self.regions if _lies_in(row.path, region)]
            held.add(max(around, key=len, default=row.path))
        outermost = [p for p in held if not any(_lies_in(p, q) for q in held - {p})]
        return sorted(part for part in outermost if part)

    def _send_home(self) -> None:
        """Each tensor to the dtype and device it had; a new one to those of its layer's weight."""
        for module in self.net.modules():
            for name, tensor in _own_state(module):
                home = self.homes.get(tensor) or self.layer_homes.get(module)
                if home is None:  # a constant in some forward, which torch.fx keeps as a buffer
                    continue
                dtype, device = home
                sent = tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)
                if not sent.isfinite().all() and tensor.isfinite().all():
                    raise FoldError(
                        f"{self.paths[module]}: its folded {name} is too large for {dtype}"
                    )
                if isinstance(tensor, nn.Parameter):
                    tensor.data = sent
                else:
                    module._buffers[name] = sent
        self.as_given.restore_kept_()
        for new in self.stands_for:
            self._hand_on(new, self.as_given)

    def _forget_runs(self) -> None:
        """Takes away what runs and readings left on modules: tensors, or torch.fx's stand-ins for
        them, that a forward keeps for its next call; constants that torch.fx hung on them."""
        self.between_runs.restore_()

    def _note_what_is_left(self) -> None:
        for module in self.net.modules():
            if not is_batchnorm(module) and module not in self.why_left:
                continue
            reason = self.why_left.get(module)
            if reason is None and not self.seen.calls[module]:
                reason = "a plain call in eval mode does not reach it"
            self.left.append(
                Left(
                    self.paths[module],
                    type(module).__name__,
                    reason or "it is in a module whose data flow could not be read",
                )
            )

    def _note_what_is_written_out(self, found: dict[tuple[nn.Module, str], str]) -> None:
        noted = {row.path for row in self.left}
        for (module, name), kind in found.items():
            owner = self.paths[module]
            path = ".".join(part for part in (owner, name) if part)
            if path in noted or (name and owner in noted):  # a scale may be a module of its own
                continue
            where = f"the forward of {type(module).__name__}"
            self.left.append(Left(path, kind, f"{where} computes it, and could not be rewritten"))

    # --- changes to the tree

    def _stand_in(self, new: nn.Module, old: nn.Module) -> None:
        """``new`` will be where ``old`` was."""
        self.paths[new] = self.paths[old]
        self.seen.inherit(new, old)
        old = self.stands_for.get(old, old)
        self.stands_for[new] = old
        self._hand_on(new, self.between_runs)

    def _hand_on(self, new: nn.Module, kept: Kept) -> None:
        """Gives ``new`` the attributes of what it stands for: its owner may ask for its stride, or
        where its input comes from."""
        old = self.stands_for[new]
        constants = getattr(type(old), "__constants__", ()) if is_leaf(old) else ()
        for name, value in kept.attributes.get(old, ({}, {}))[0].items():
            handed = name in self.handed[new]
            if handed or not (name.startswith("_") or name in constants or hasattr(new, name)):
                setattr(new, name, value)
                self.handed[new].add(name)

    def _swap(self, swaps: dict[nn.Module, nn.Module]) -> None:
        """Puts each value where its key is, in all places."""
        for old, new in swaps.items():
            self._stand_in(new, old)
        self.net = swaps.get(self.net, self.net)
        for parent in list(self.net.modules()):
            for name, child in parent._modules.items():
                if child in swaps:
                    setattr(parent, name, swaps[child])

    def _split_norm_acts(self) -> dict[nn.Module, nn.Module]:
        """timm's batch norms that hold their activation, as a batch norm and an activation."""
        kinds = loaded(
            "timm.layers.norm_act", "BatchNormAct2d", "SyncBatchNormAct", "FrozenBatchNormAct2d"
        )
        split: dict[nn.Module, nn.Module] = {}
        module: Layer
        for module in self.net.modules():
            changed = module._forward_hooks or module._forward_pre_hooks or is_replaced(module)
            if type(module) not in kinds or changed:
                continue
            norm = nn.BatchNorm2d(0, eps=module.eps)
            norm._parameters = dict(module._parameters)
            norm._buffers = dict(module._buffers)
            self._stand_in(norm, module)
            layers = OrderedDict(bn=norm, drop=module.drop, act=module.act)
            split[module] = nn.Sequential(layers).eval()
        self._swap(split)
        return split

    def _join_norm_acts(self, split: dict[nn.Module, nn.Module]) -> None:
        """Undoes ``_split_norm_acts`` where the batch norm is still there."""
        swaps: dict[nn.Module, nn.Module] = {}
        for module, whole in split.items():
            norm, drop, act = whole.children()
            if not is_identity(norm):
                swaps[whole] = module
                if norm in self.why_left:
                    self.why_left[module] = self.why_left[norm]
            else:
                rest = nn.Sequential(OrderedDict(drop=drop, act=act)).eval()
                swaps[whole] = act if is_identity(drop) else rest
        self._swap(swaps)

    # --- sums of branches

    def _merge(self, module: nn.Module) -> nn.Module:
        """What stands for ``module`` when the sums in it and below it are merged."""
        if module not in self.merged:
            for name, child in module._modules.items():
                if child is not None and (new := self._merge(child)) is not child:
                    setattr(module, name, new)
            self.merged[module] = self._merge_own(module)
        return self.merged[module]

    def _merge_own(self, module: nn.Module) -> nn.Module:
        if not self.seen.calls[module]:
            return module
        graph = self.graphs.get(module)
        if graph is None:
            return module
        algebra = Algebra(module, graph, self._branches_of)
        self.algebras[module] = algebra.result()
        if self._reached_from_outside(module, graph):
            return module
        layers = list(module.modules())
        new, merged, refused = merge_sums(module, algebra)
        path = self.paths[module]
        self.left += [
            Left(path, type(module).__name__, reason) for reason in dict.fromkeys(refused)
        ]
        if not merged:
            return module
        home = next(self.layer_homes[m] for m in layers if m in self.layer_homes)
        norms = sum(is_batchnorm(m) for m in set(layers) - set(new.modules()))
        for i, one in enumerate(merged):
            self.paths[one.module] = path
            self.seen.calls[one.module] = self.seen.calls[module]
            self.layer_homes[one.module] = home
            with_norms = f" and {norms} batch norms" if norms and not i else ""
            self.folded.append(
                Folded(path, "branches", f"{one.branches}{with_norms} into {_shape(one.module)}")
            )
        self._stand_in(new, module)
        return new

    def _branches_of(self, module: nn.Module) -> Branches | None:
        if is_leaf(module):
            return of_leaf(module, self.seen.in_ranks.get(module, frozenset()))
        return self.algebras.get(module)

    def _reached_from_outside(self, module: nn.Module, graph: fx.Graph) -> bool:
        """Whether a part of ``module`` ran when ``module`` did not."""
        calls = Counter(
            module.get_submodule(str(node.target))
            for node in graph.nodes
            if node.op == "call_module"
        )
        return any(
            self.seen.calls[part] != n * self.seen.calls[module] for part, n in calls.items()
        )

    # --- batch norms and layer scales

    def _fold_regions(self) -> None:
        for module, value in self.algebras.items():
            if value is not None and value.is_affine and value.axis is not None:
                shift = torch.zeros_like(value.skip) if value.shift is None else value.shift
                channels = max(value.skip.numel(), shift.numel())
                self.scales[module] = Affine(
                    value.skip.expand(channels), shift.expand(channels), value.axis
                )
        waiting = [self.net]
        reached: set[nn.Module] = set()
        while waiting:
            module = waiting.pop()
            if module in reached:
                continue
            reached.add(module)
            if is_leaf(module) or isinstance(module, CONTAINERS) or not self.seen.calls[module]:
                waiting += module.children()
                continue
            try:
                graph, opaque = trace_through(module, self.scales)
            except NotTraceableError as why:
                self._note_opaque(module, str(why))
                waiting += module.children()
                continue
            for inner, why_not_followed in opaque.items():
                self._note_opaque(inner, why_not_followed)
                waiting += inner.children()
            self.regions.append(self.paths[module])
            self._fold_region(module, graph)
            self._forget_runs()

    def _note_opaque(self, module: nn.Module, why: str) -> None:
        for inner in module.modules():
            if is_batchnorm(inner):
                self.why_left[inner] = f"{type(module).__name__}.forward cannot be followed: {why}"

    def _fold_region(self, root: nn.Module, graph: fx.Graph) -> None:
        region = Region(root, graph, self.seen, shared_tensors(self.net.modules()))
        gone: dict[nn.Module, nn.Module] = {}
        for module in list(region.calls):
            if not is_batchnorm(module) and module not in self.scales:
                continue
            inside = [m for m in module.modules() if is_batchnorm(m)]
            try:
                layers = region.absorb_(module, self._affine(module))
            except FoldError as reason:
                self.why_left |= dict.fromkeys(inside or [module], str(reason))
                continue
            self._note(self.paths[module], "batch norm" if inside else "layer scale", layers)
            gone[module] = nn.Identity().eval()
        rewritten: dict[nn.Module, nn.Module] = {}
        for scale in region.inline_scales():
            own = self.graphs.get(scale.owner)
            twin = None if own is None else find_scale(own, scale.name)
            if own is None or twin is None or self._reached_from_outside(scale.owner, own):
                continue
            path = f"{self.paths[scale.owner]}.{scale.name}".lstrip(".")
            try:
                layers = region.absorb_scale_(scale)
            except FoldError as reason:
                self.left.append(Left(path, "layer scale", str(reason)))
                continue
            self._note(path, "layer scale", layers)
            take_out(own, *twin)
            rewritten[scale.owner] = scale.owner
        self._swap(gone)
        self._swap({owner: rebuilt(owner, self.graphs[owner]) for owner in rewritten})

    def _note(self, path: str, kind: str, layers: list[nn.Module]) -> None:
        into = ", ".join(self.paths[layer] for layer in layers)
        self.folded.append(Folded(path, kind, f"into {into}"))

    def _affine(self, module: nn.Module) -> Affine:
        if module in self.scales:
            return self.scales[module]
        ranks = self.seen.in_ranks.get(module, frozenset())
        if len(ranks) != 1:
            raise FoldError(f"its input has been seen with {sorted(ranks)} dimensions")
        return affine_of(module, *ranks)


def _smaller(example: Any) -> Tensor | None:
    """An image of ``SMALL`` pixels a side in place of one that is larger; None for all else."""
    if not isinstance(example, Tensor) or example.ndim != 4 or min(example.shape[2:]) <= SMALL:
        return None
    return example.new_zeros(*example.shape[:2], SMALL, SMALL)


def _lies_in(path: str, part: str) -> bool:
    return not part or path == part or path.startswith(f"{part}.")


def _home(tensor: Tensor) -> tuple[torch.dtype, torch.device]:
    return tensor.dtype, tensor.device


def _own_state(module: nn.Module) -> list[tuple[str, Tensor]]:
    """The parameters and buffers of ``module`` itself."""
    both = [*module._parameters.items(), *module._buffers.items()]
    return [(name, tensor) for name, tensor in both if tensor is not None]


def _shape(module: nn.Module) -> str:
    if isinstance(module, nn.Linear):
        return f"one Linear {module.in_features} to {module.out_features}"
    size = "×".join(str(k) for k in module.kernel_size)  # type: ignore[union-attr]
    groups = f", groups {module.groups}" if module.groups != 1 else ""
    return (
        f"one {type(module).__name__} {size}, {module.in_channels} to {module.out_channels}{groups}"
    )
