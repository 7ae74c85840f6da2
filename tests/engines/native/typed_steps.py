"""Steps of random graphs with bools and whole numbers, and with the rare operators; and the table
of all steps.

What rounding could move by a step, such as a floor or an argmax itself, would differ between
float32 and float64. So places and conditions come in expressions that are continuous in their
input: an element read at the place of the largest one is the largest one.
"""

from __future__ import annotations

from collections.abc import Sequence

import graph_steps
from graph_steps import Operator, Settings, Shape, Written, drawn, expression


def along(text: str, **choices: Sequence[object]) -> Operator:
    """A step along one dimension."""
    return Operator(expression(text), drawn(dim=[1, 2, 3], **choices), share=0.25)


def write_largest(shapes: Sequence[Shape], s: Settings) -> Written:
    count = max(1, shapes[0][s["dim"]] // 2)
    return f"{{0}}.topk({count}, {s['dim']}, largest={s['largest']})[0]", []


def write_lookup(shapes: Sequence[Shape], s: Settings) -> Written:
    """Rows by places that were computed from constants and the shape alone, some twice."""
    size = shapes[0][s["dim"]]
    places = f"torch.arange({size}) * 3 // 2 % {size}"
    return f"{{0}}.index_select({s['dim']}, {places})", []


TYPED: dict[str, Operator] = {
    "where": Operator(
        expression("torch.where({0} > <at>, <at> + 0.5 * ({0} - <at>), {0})"),
        drawn(at=[-0.5, 0.0, 0.25]),
        share=0.4,
    ),
    "mask": Operator(
        expression("(({0} > 0) & ~({0} > 9)).type_as({0}) * {0}"), ranks=(3, 4), share=0.4
    ),
    "logic": Operator(
        expression(
            "torch.where(({0} > -0.3) & ({0} < 0.4) | ({0} != {0}), {0}, {0}.clamp(-0.3, 0.4))"
        ),
        share=0.3,
    ),
    "masked_fill": Operator(
        expression("{0}.masked_fill({0} > <at>, <at>)"), drawn(at=[0.25, 0.5]), share=0.3
    ),
    "clamp_tensor": Operator(
        expression("{0}.clamp({1} - 0.5, {1} + 0.5)"), takes="alike", share=0.25
    ),
    "functions": Operator(
        expression("{0}.sin() + {0}.atan() - {0}.abs().log1p()"), ranks=(3, 4), share=0.3
    ),
    "sort": along("{0}.sort(<dim>, descending=<down>)[0]", down=[False, True]),
    "topk": Operator(write_largest, drawn(dim=[1, 2, 3], largest=[True, False]), share=0.25),
    "argsort": along("torch.take_along_dim({0}, {0}.argsort(<dim>), <dim>)"),
    "argmax": along("{0} - {0}.gather(<dim>, {0}.argmax(<dim>, keepdim=True))"),
    "argmin": along("{0} - {0}.gather(<dim>, {0}.argmin(<dim>, keepdim=True))"),
    "scatter": along(
        "torch.zeros_like({0}).scatter(<dim>, {0}.argsort(<dim>), {0}.sort(<dim>)[0])"
    ),
    "cumsum": along("0.3 * {0}.cumsum(<dim>)"),
    "running_extreme": along("{0}.cummax(<dim>)[0] - {0}.cummin(<dim>)[0]"),
    "logsumexp": along("{0} - {0}.logsumexp(<dim>, keepdim=True)"),
    "variance": along("{0} / ({0}.var(<dim>, correction=0, keepdim=True) + 0.5)"),
    "flip": along("{0}.flip(<dim>)"),
    "lookup": Operator(write_lookup, drawn(dim=[1, 2, 3]), share=0.25),
    "triangle": Operator(expression("{0}.tril(1) + 0.5 * {0}.triu(-1)"), share=0.2),
}
OPERATORS: dict[str, Operator] = {**graph_steps.OPERATORS, **TYPED}
