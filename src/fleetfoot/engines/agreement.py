"""The comparison of every engine with eager, before the engine is used.

``engines.load`` and ``save_plan`` call ``compare``. The engine and eager run the same random
pictures, drawn from a fixed seed. A difference beyond ``TOLERANCES`` is a ``DisagreementError``
that names the first node that differs (``diagnosis.py``), unless eager itself is as far from what
the network answers in float64: sums in another order may grow in a network to any size.

The weights of an untrained network hide mistakes: a branch with a layer scale of 1e-6 changes the
output by 1e-6 whatever it computes, and an omitted bias of zeros is not noticed. So parameters
whose values are all below ``HIDDEN`` are drawn anew at the size of trained ones, and an engine that
can cheaply be built with other weights, ours, is compared with those too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from fleetfoot.copying import in_float64
from fleetfoot.engines.base import TOLERANCES, Engine, relative_errors
from fleetfoot.engines.diagnosis import first_difference
from fleetfoot.engines.inputs import Inputs
from fleetfoot.errors import DisagreementError, EngineError
from fleetfoot.machine.peaks import torch_threads

SEED = 0
HIDDEN = 1e-3
"""Limit of a parameter's largest magnitude, below which the parameter hides what it is multiplied
with or added to: the output would change by less than ten times the tolerance of float32. Fresh
layer scales are 1e-6 to 1e-4, fresh biases 0; weights of fresh convolutions reach 5e-3 or more."""

ROUNDING = 4.0
"""Factor by which an engine may be farther from the network's output in float64 than eager is:
0.7 to 3 was seen where rounding alone makes them differ."""


@dataclass(frozen=True)
class Agreement:
    """The difference of an engine's output for random pictures from eager's: ``relative_error``."""

    error: float
    hidden: int = 0
    """Number of parameters that are nearly zero everywhere, so that they may hide a mistake."""
    redrawn: float | None = None
    """The difference after the hidden parameters are drawn anew. None: there are none, the engine
    would have to be built a second time, or eager's output is not finite with them."""

    def __str__(self) -> str:
        text = f"its output differs from eager's by {self.error:.1e} of the largest value"
        if self.redrawn is not None:
            text += (
                f", and by {self.redrawn:.1e} with the {self.hidden} parameters that are nearly "
                "zero drawn anew"
            )
        elif self.hidden:
            text += f"; {self.hidden} parameters are nearly zero and may hide a larger difference"
        return text


def compare(engine: Engine, model: nn.Module) -> None:
    """Compares ``engine``, built from ``model``, with eager, and stores the result in its
    ``agreement``. Does nothing if that was done before, or if there is nothing to compare.

    Raises:
        DisagreementError: the outputs differ by more than ``TOLERANCES`` allows, and by more than
            rounding explains.
        EngineError: the engine fails, or eager's output has no finite value to compare with.
    """
    if not engine.compared or engine.agreement is not None:
        return
    inputs = engine.inputs.random(SEED)
    with torch_threads(engine.info.threads), torch.no_grad():
        expected = inputs.copied.call(model)
        if not _finite(expected):
            raise EngineError(
                f"{engine.name} cannot be compared with eager: the output of "
                f"{type(model).__name__} to random pictures has no finite value"
            )
        error = _error(engine, model, {}, inputs, expected)
        weights = redrawn(model)
        second = None
        if weights and (other := engine.with_weights(weights)) is not None:
            with other:
                given = inputs.copied
                expected = torch.func.functional_call(model, weights, given.args, given.kwargs)
                if _finite(expected):
                    second = _error(other, model, weights, inputs, expected)
    engine.agreed(Agreement(error, len({id(value) for value in weights.values()}), second))


def redrawn(model: nn.Module) -> dict[str, Tensor]:
    """New values, the same on every call, for the parameters of ``model`` and the means of its
    batch norms that are nearly zero everywhere, by name.

    Weights of several inputs are drawn so that outputs are about as large as inputs; scales, biases
    and means between 0.1 and 1 with either sign. A tensor with several names stays one tensor.
    """
    rng = torch.Generator().manual_seed(SEED)
    drawn: dict[int, Tensor] = {}
    found: dict[str, Tensor] = {}
    means = (
        (name, buffer)
        for name, buffer in model.named_buffers(remove_duplicate=False)
        if name.endswith("running_mean")
    )
    for name, value in (*model.named_parameters(remove_duplicate=False), *means):
        if not value.is_floating_point() or not value.numel() or value.abs().max() >= HIDDEN:
            continue
        if id(value) not in drawn:
            drawn[id(value)] = _trained_size(value, rng).to(value)
        found[name] = drawn[id(value)]
    return found


def _trained_size(like: Tensor, rng: torch.Generator) -> Tensor:
    uniform = 2 * torch.rand(like.shape, generator=rng) - 1
    inputs = like[0].numel() if like.ndim and len(like) > 1 else 1
    if inputs > 1:
        return uniform * (3 / inputs) ** 0.5
    return uniform.sign() * (0.1 + 0.9 * uniform.abs())


def _error(
    engine: Engine,
    model: nn.Module,
    weights: Mapping[str, Tensor],
    inputs: Inputs,
    expected: Any,
) -> float:
    """The largest error of any output of ``engine``, with ``weights`` in place of the model's own.

    Raises:
        DisagreementError: the error is more than the tolerance.
        EngineError: the engine fails, or its outputs have another structure.
    """
    answer = engine.run(inputs.tensors)
    nests = [pytree.tree_structure(nest) for nest in (answer, expected)]
    if nests[0] != nests[1]:
        raise EngineError(
            f"{engine.name} gives the outputs of {type(model).__name__} as {nests[0]}, and eager "
            f"as {nests[1]}"
        )
    errors = relative_errors(answer, expected)
    worst, tolerance = errors.index(max(errors)), TOLERANCES[engine.info.precision]
    if errors[worst] <= tolerance or _rounding(model, weights, inputs, answer, expected):
        return errors[worst]
    place = first_difference(engine, model, weights, inputs.one, worst, tolerance)
    raise DisagreementError(
        engine=engine.name,
        network=type(model).__name__,
        error=errors[worst],
        tolerance=tolerance,
        precision=engine.info.precision,
        place=place or (f"output {worst}" if len(errors) > 1 else "the output"),
        redrawn=len({id(value) for value in weights.values()}),
    )


def _rounding(
    model: nn.Module, weights: Mapping[str, Tensor], inputs: Inputs, answer: Any, expected: Any
) -> bool:
    """Whether ``answer`` is as near to the network's output in float64 as ``expected``, eager's in
    its own type, up to the factor ``ROUNDING``."""
    given = inputs.with_tensors(
        [one.cpu().double() if one.is_floating_point() else one.cpu() for one in inputs.tensors]
    )
    wide = {
        name: value.cpu().double() if value.is_floating_point() else value.cpu()
        for name, value in weights.items()
    }
    try:
        exact = torch.func.functional_call(in_float64(model), wide, given.args, given.kwargs)
    except Exception:  # a network that only runs in its own type: nothing is known of its rounding
        return False
    exact, answer, expected = pytree.tree_map(_on_cpu, (exact, answer, expected))
    pairs = zip(relative_errors(answer, exact), relative_errors(expected, exact), strict=True)
    return all(found <= ROUNDING * own for found, own in pairs)


def _on_cpu(value: Any) -> Any:
    return value.cpu() if isinstance(value, Tensor) else value


def _finite(outputs: Any) -> bool:
    """Whether each output is a tensor with at least one finite value."""
    return all(
        isinstance(out, Tensor) and bool(out.isfinite().any())
        for out in pytree.tree_leaves(outputs)
    )
