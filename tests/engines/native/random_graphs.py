"""Random graphs on the C++ core against eager in float64.

A drawing that fails is cut down to a smallest one that fails in the same way, and printed as a
program. Ten thousand:

    python tests/engines/native/random_graphs.py --count 10000 --start 0 --into failures/

Each graph is compiled as the engine does by itself, without strips, and with strips of several
heights. Each plan answers two inputs, one after the other, in one context, and the first again
after the context's memory was filled with NaN: what it reads without having written shows in one of
the three.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from drawings import Drawing, MisfitError, Step, draw, network, program, written
from graph_steps import Settings, Shape
from torch import nn
from torch.utils import _pytree as pytree

from fleetfoot import runtime
from fleetfoot.engines.base import relative_error
from fleetfoot.engines.native.compile import CompileOptions, StripOptions, finish
from fleetfoot.engines.native.lower.lower import lower
from fleetfoot.errors import UnsupportedOperatorError

TOLERANCE = 2e-5
"""Of an output's largest value. A graph of 20 steps in float32 differs by 1e-7 to 3e-6; a wrong
channel, row or NaN by 1e-2 and more, since no weight is trivial."""
AMPLIFIED = 16
"""Norms of nearly equal values and products amplify rounding: where eager in float32 itself is far
from eager in float64, the engine, which sums in another order, may be so many times as far."""

HEIGHTS = (1, 2, 3, 5, 1000)
TRIALS: dict[str, StripOptions | None] = {
    "default": StripOptions(),
    "no strips": None,
    **{f"strips of {rows}": StripOptions(rows=rows) for rows in HEIGHTS},
}


# ---- The check


@dataclass(frozen=True)
class Fault:
    kind: str
    """"wrong", "stale" (the memory's old content matters), "threads", or an error's type."""
    trial: str
    detail: str

    @property
    def key(self) -> str:
        """What faults of one kind have in common."""
        if self.kind in ("wrong", "stale", "threads"):
            return self.kind
        return re.sub(r"\d+", "N", f"{self.kind}: {self.detail[:60]}")

    def __str__(self) -> str:
        return f"{self.kind} ({self.trial}): {self.detail}"


def check(
    module: nn.Module,
    shape: Shape,
    *,
    trials: Sequence[str] = tuple(TRIALS),
    every_set: bool = True,
    threads: bool = True,
) -> Fault | None:
    """What is wrong with the plans of a network, first found first.

    Args:
        every_set: on all instruction sets of this machine, else the fastest alone.
        threads: with two threads, too, which must give the same bits.

    Raises:
        UnsupportedOperatorError: the engine says that it lacks an operator.
    """
    module = module.eval()
    rng = torch.Generator().manual_seed(1)
    pictures = [torch.randn((1, *shape), generator=rng) for _ in range(2)]
    with torch.no_grad():
        exact = copy.deepcopy(module).double()
        wanted = [pytree.tree_leaves(exact(x.double())) for x in pictures]
        eager = [pytree.tree_leaves(module(x)) for x in pictures]
    allowed = [
        [
            max(TOLERANCE, AMPLIFIED * relative_error(value, reference))
            for value, reference in zip(values, references, strict=True)
        ]
        for values, references in zip(eager, wanted, strict=True)
    ]
    sets = runtime.instruction_sets() if every_set else runtime.instruction_sets()[:1]
    trial = "lowering"
    try:
        lowered = lower(module, pictures[0])
        for trial in trials:
            graph = copy.deepcopy(lowered)
            compiled = finish(graph, options=CompileOptions(strips=TRIALS[trial]))
            content = compiled.bytes(checksum=runtime.checksum)
            with runtime.Plan.from_bytes(content) as plan:
                for name in sets:
                    fault = _ran(plan, name, pictures, wanted, allowed, threads)
                    if fault is not None:
                        return Fault(fault[0], trial, f"{fault[1]} on {name}")
    except UnsupportedOperatorError:
        raise
    except Exception as error:  # whatever the compiler or the loader runs into is a fault of theirs
        return Fault(type(error).__name__, trial, " ".join(str(error).split())[:300])
    return None


def _ran(
    plan: runtime.Plan,
    name: str,
    pictures: Sequence[torch.Tensor],
    wanted: Sequence[list[torch.Tensor]],
    allowed: Sequence[list[float]],
    threads: bool,
) -> tuple[str, str] | None:
    """A fault's kind and detail."""
    with plan.context(1, name) as context:
        found = [_run(context, picture) for picture in pictures]
        for i, (outputs, references) in enumerate(zip(found, wanted, strict=True)):
            for j, (out, reference) in enumerate(zip(outputs, references, strict=True)):
                error = relative_error(torch.from_numpy(out), reference)
                if not error <= allowed[i][j]:
                    said = f"output {j} differs by {error:.1e}, {allowed[i][j]:.0e} is allowed"
                    return "wrong", f"{said}, input {i}"
        context.poison()
        again = _run(context, pictures[0])
        for j, (out, before) in enumerate(zip(again, found[0], strict=True)):
            if out.tobytes() != before.tobytes():
                count = int(np.isnan(out).sum())
                return "stale", f"output {j} has {count} NaN of {out.size} after NaN in memory"
    if not threads:
        return None
    with plan.context(2, name) as context:
        context.poison()
        for j, (out, before) in enumerate(zip(_run(context, pictures[0]), found[0], strict=True)):
            if out.tobytes() != before.tobytes():
                return "threads", f"output {j} has other bits from two threads"
    return None


def _run(context: runtime.Context, picture: torch.Tensor) -> list[np.ndarray]:
    return context.run_flat([picture.numpy()])


# ---- Cutting down


def shrunk(drawing: Drawing, fails: Callable[[Drawing], bool]) -> Drawing:
    """A drawing that fails, while none of those that are one cut smaller does."""
    place, quiet = 0, 0
    cuts = list(_cuts(drawing))
    while quiet < len(cuts):  # round and round, going on after each cut where it was found
        smaller = cuts[place % len(cuts)]
        if _fits(smaller) and fails(smaller):
            drawing, quiet = smaller, 0
            cuts = list(_cuts(drawing))
        else:
            place, quiet = place % len(cuts) + 1, quiet + 1
    return drawing


def _fits(drawing: Drawing) -> bool:
    try:
        written(drawing)
    except MisfitError:
        return False
    return True


def _cuts(drawing: Drawing) -> Iterator[Drawing]:
    """Drawings that are smaller by one cut, the largest cuts first."""
    for i in range(1, len(drawing.steps) + 1):
        alone = _living(replace(drawing, outputs=(i,)))
        if len(alone.steps) < len(drawing.steps) or len(drawing.outputs) > 1:
            yield alone
    if len(drawing.outputs) > 2:
        for pair in itertools.combinations(drawing.outputs, 2):
            yield _living(replace(drawing, outputs=pair))
    for i in range(len(drawing.outputs)):
        if len(drawing.outputs) > 1:
            outputs = drawing.outputs
            yield _living(replace(drawing, outputs=outputs[:i] + outputs[i + 1 :]))
    for i in reversed(range(len(drawing.steps))):
        step = drawing.steps[i]
        for value in dict.fromkeys(step.inputs):
            yield _without(drawing, i, value)
    for i, step in enumerate(drawing.steps):
        if len(step.inputs) > 2:
            for j in range(len(step.inputs)):
                fewer = replace(step, inputs=step.inputs[:j] + step.inputs[j + 1 :])
                yield _living(_changed(drawing, i, fewer))
    values = written(drawing).values
    channels = {i: s.settings["channels"] for i, s in enumerate(drawing.steps) if s.op == "conv"}
    for i, step in enumerate(drawing.steps):
        plain = {**PLAIN, "channels": channels.get(i, 0)}
        if step.op == "conv" and step.settings != plain:
            yield _changed(drawing, i, Step("conv", step.inputs, plain))
        elif step.op != "conv":
            made = values[i + 1].shape
            if len(made) == 4:
                plain["channels"] = made[1]
                for value in dict.fromkeys(step.inputs):
                    yield _living(_changed(drawing, i, Step("conv", (value,), plain)))
    for axis in (1, 2, 0):
        for size in dict.fromkeys((1, drawing.shape[axis] // 2, drawing.shape[axis] - 1)):
            if 1 <= size < drawing.shape[axis]:
                shape = list(drawing.shape)
                shape[axis] = size
                yield replace(drawing, shape=tuple(shape))
    for i, count in channels.items():
        for size in dict.fromkeys((1, count // 2, count - 1)):
            if 1 <= size < count:
                settings = {**drawing.steps[i].settings, "channels": size}
                yield _changed(drawing, i, replace(drawing.steps[i], settings=settings))


PLAIN: Settings = {
    "kernel": (1, 1),
    "stride": 1,
    "padding": 0,
    "dilation": 1,
    "groups": 1,
    "bias": False,
}
"""A 1 x 1 convolution: the smallest step that lets a value pass."""


def _changed(drawing: Drawing, index: int, step: Step) -> Drawing:
    steps = drawing.steps
    return replace(drawing, steps=(*steps[:index], step, *steps[index + 1 :]))


def _without(drawing: Drawing, index: int, value: int) -> Drawing:
    """Step ``index`` left out; its readers read ``value`` instead."""

    def moved(i: int) -> int:
        i = value if i == index + 1 else i
        return i - (i > index + 1)

    steps = [
        replace(step, inputs=tuple(map(moved, step.inputs)))
        for i, step in enumerate(drawing.steps)
        if i != index
    ]
    outputs = tuple(map(moved, drawing.outputs))
    return _living(replace(drawing, steps=tuple(steps), outputs=outputs))


def _living(drawing: Drawing) -> Drawing:
    """Without the steps that lead to no output."""
    read = set(drawing.outputs)
    for i in reversed(range(len(drawing.steps))):
        if i + 1 in read:
            read.update(drawing.steps[i].inputs)
    kept = [i for i in range(len(drawing.steps)) if i + 1 in read]
    place = {0: 0, **{i + 1: n for n, i in enumerate(kept, 1)}}
    steps = [
        replace(drawing.steps[i], inputs=tuple(place[j] for j in drawing.steps[i].inputs))
        for i in kept
    ]
    outputs = tuple(place[i] for i in drawing.outputs)
    return replace(drawing, steps=tuple(steps), outputs=outputs)


# ---- Many


@dataclass(frozen=True)
class Answer:
    """What became of one drawing."""

    drawing: Drawing
    fault: Fault | None = None
    lacking: str = ""
    """The operator that the engine says it lacks."""


def tried(drawing: Drawing, *, trials: Sequence[str] = tuple(TRIALS)) -> Answer:
    """A share of the drawings runs on every instruction set, and a share on two threads."""
    seed = drawing.seed
    try:
        fault = check(
            network(drawing),
            drawing.shape,
            trials=trials,
            every_set=seed % 3 == 0,
            threads=seed % 4 == 0,
        )
    except UnsupportedOperatorError as error:
        return Answer(drawing, lacking=str(error).splitlines()[0])
    return Answer(drawing, fault)


def cut_down(answer: Answer) -> Answer:
    """The smallest drawing found that fails in the same way, and how it does."""
    fault = answer.fault
    assert fault is not None

    def again(drawing: Drawing) -> Fault | None:
        return tried(drawing, trials=[fault.trial] if fault.trial in TRIALS else []).fault

    small = shrunk(
        answer.drawing, lambda d: (found := again(d)) is not None and found.key == fault.key
    )
    return Answer(small, again(small))


def printed(answer: Answer) -> str:
    """A failing drawing as a program that shows its fault."""
    fault = answer.fault
    assert fault is not None
    trial = fault.trial if fault.trial in TRIALS else None
    return program(answer.drawing, trial, f".\n\n{fault}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300, help="how many graphs")
    parser.add_argument("--start", type=int, default=0, help="first seed")
    parser.add_argument("--into", type=Path, help="folder for the failing programs")
    parser.add_argument("--same", type=int, default=3, help="failures of one kind to cut down")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.monotonic()
    faults: Counter[str] = Counter()
    lacking: Counter[str] = Counter()
    for number, seed in enumerate(range(options.start, options.start + options.count), 1):
        answer = tried(draw(seed))
        if answer.lacking:
            lacking[answer.lacking] += 1
        if answer.fault is not None:
            key = answer.fault.key
            faults[key] += 1
            print(f"{seed}: {answer.fault}", flush=True)
            if faults[key] <= options.same:
                text = printed(cut_down(answer))
                print(text, flush=True)
                if options.into is not None:
                    options.into.mkdir(parents=True, exist_ok=True)
                    (options.into / f"graph_{seed}.py").write_text(text)
        if number % 100 == 0:
            rate = number / (time.monotonic() - began)
            print(f"{number} of {options.count}, next --start {seed + 1}; {rate:.1f}/s", flush=True)
    last = options.start + options.count - 1
    print(
        f"graphs {options.start} to {last} in {time.monotonic() - began:.0f} s: "
        f"{sum(faults.values())} faults {dict(faults)}, "
        f"{sum(lacking.values())} lack an operator {dict(lacking)}"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
