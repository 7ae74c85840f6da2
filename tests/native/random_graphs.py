"""Random graphs on the C++ core against eager in float64.

A drawing is data: steps that name their inputs by number. From it a program is written, which is
both what is run and what is printed when it fails. A failing drawing is cut down to a smallest one
that fails in the same way. Ten thousand:

    python tests/native/random_graphs.py --count 10000 --start 0 --into failures/

Each graph is compiled as the engine does by itself, without strips, and with strips of several
heights. Each plan answers two inputs, one after the other, in one context, and the first again
after the context's memory was filled with NaN: what it reads without having written shows in one of
the three.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from graph_steps import OPERATORS, Settings, Shape, Weight, weight
from torch import nn
from torch.utils import _pytree as pytree

from fleetfoot import runtime
from fleetfoot.engines.base import relative_error
from fleetfoot.engines.native.compile import CompileOptions, StripOptions, finish, lower
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
LARGEST = 20_000
"""Elements of a map: the graphs are many and small."""


# ---- A drawing and its program


@dataclass(frozen=True)
class Step:
    op: str
    inputs: tuple[int, ...]
    """0 is the picture, i the result of step i."""
    settings: Settings


@dataclass(frozen=True)
class Drawing:
    seed: int
    shape: Shape
    """Of the picture: (C, H, W)."""
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]

    def kinds(self) -> list[str]:
        return [step.op for step in self.steps]


class MisfitError(Exception):
    """A step does not take such inputs."""


class Writer:
    """Writes a drawing as a program, step by step, and computes each step as it is written."""

    def __init__(self, seed: int, shape: Shape) -> None:
        self.seed = seed
        self.shape = shape
        self.lines: list[str] = []
        self.weights: list[Weight] = []
        rng = torch.Generator().manual_seed(seed)
        x = torch.randn((1, *shape), generator=rng)
        self.values = [x]
        """In float32, as eager computes them."""
        self.exact = [x.double()]

    def add(self, step: Step, *, shows: bool = False) -> None:
        """Raises MisfitError: it does not fit its inputs, or, if that is asked for, a fault would
        not show in its result."""
        shapes = [tuple(self.values[i].shape) for i in step.inputs]
        if any(len(shape) not in OPERATORS[step.op].ranks for shape in shapes):
            raise MisfitError("of another rank")
        first = len(self.weights)
        try:
            text, weights = OPERATORS[step.op].write(shapes, step.settings)
            names = {f"w{i}": f"self.w{first + i}" for i in range(len(weights))}
            line = text.format(*(_name(i) for i in step.inputs), **names)
            value, exact = (
                self._computed(line, values, weights, double)
                for values, double in ((self.values, False), (self.exact, True))
            )
        except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
            raise MisfitError(str(error)) from error  # what PyTorch says to shapes that do not fit
        if not exact.numel() or exact.numel() > LARGEST:
            raise MisfitError("empty or large")
        if shows and not _shows(value, exact):
            raise MisfitError("it would show no fault")
        self.lines.append(line)
        self.weights += weights
        self.values.append(value)
        self.exact.append(exact)

    def _computed(
        self, line: str, values: list[torch.Tensor], weights: list[Weight], double: bool
    ) -> torch.Tensor:
        first, holder = len(self.weights), nn.Module()
        for i, (kind, shape) in enumerate(weights):
            setattr(holder, f"w{first + i}", weight(self.seed, first + i, kind, *shape))
        if double:
            holder.double()
        known = {_name(i): value for i, value in enumerate(values)}
        # an expression of OPERATORS, which is also what is printed
        return eval(line, {"torch": torch, "F": F, "self": holder, **known})  # type: ignore[no-any-return]


def _shows(value: torch.Tensor, exact: torch.Tensor) -> bool:
    """Whether a value would show a fault: neither vanishing, nor huge, nor rounded so much that
    eager itself is unsure of it."""
    return 0.02 < exact.abs().max().item() < 200 and relative_error(value, exact) < 3e-6


def _name(value: int) -> str:
    return f"v{value}" if value else "x"


def written(drawing: Drawing) -> Writer:
    """Raises MisfitError: the steps do not fit each other."""
    writer = Writer(drawing.seed, drawing.shape)
    for step in drawing.steps:
        writer.add(step)
    return writer


def program(drawing: Drawing, trial: str | None = None, note: str = "") -> str:
    """The drawing as a Python program that checks itself."""
    writer = written(drawing)
    trials = "" if trial is None else f", trials=[{trial!r}]"
    weights = [
        f"        self.w{i} = weight({drawing.seed}, {i}, {kind!r}, {', '.join(map(str, shape))})"
        for i, (kind, shape) in enumerate(writer.weights)
    ]
    return "\n".join(
        [
            f'"""Random graph {drawing.seed}{note}"""',
            "",
            "import torch",
            "import torch.nn.functional as F",
            "from graph_steps import weight",
            "from random_graphs import check",
            "from torch import nn",
            "",
            "",
            "class Network(nn.Module):",
            "    def __init__(self):",
            "        super().__init__()",
            *weights,
            "",
            "    def forward(self, x):",
            *(f"        v{i} = {line}" for i, line in enumerate(writer.lines, 1)),
            f"        return {', '.join(map(_name, drawing.outputs))}",
            "",
            "",
            'if __name__ == "__main__":',
            f"    print(check(Network(), {drawing.shape}{trials}))",
            "",
        ]
    )


def network(drawing: Drawing) -> nn.Module:
    names: dict[str, Any] = {"__name__": "drawn"}
    exec(program(drawing), names)
    module: nn.Module = names["Network"]()
    return module.eval()


# ---- Drawing


def draw(seed: int) -> Drawing:
    random = Random(seed)
    height = random.randint(1, 17)
    width = random.choice([height, random.randint(1, 17)])
    channels = random.choice([1, 2, 3, 3, 3, 4, 8, random.randint(1, 40)])
    growing = _Growing(random, seed, (channels, height, width))
    wanted = random.randint(2, 16)
    for _ in range(20 * wanted):
        if len(growing.steps) >= wanted:
            break
        if random.random() < 0.2:
            growing.block(random.choice(BLOCKS))
        else:
            growing.step(random.choices(list(OPERATORS), [o.share for o in OPERATORS.values()])[0])
    return Drawing(seed, growing.writer.shape, tuple(growing.steps), growing.outputs())


NORMS = ("layer_norm", "group_norm", "batch_norm", "softmax", "reduce_subtract", "response_norm")
BLOCKS: list[list[str | tuple[str, ...]]] = [
    ["conv", "cat", "conv", "cat"],
    ["conv", NORMS, "conv", "cat", "conv", "cat"],
    [NORMS, "conv", "activation", "conv", "cat"],
    ["conv", "activation", "conv", "activation", "cat", "conv"],
    ["split", "conv", "depthwise", "conv", "cat", "shuffle"],
    ["split", "conv", "cat", ("shuffle", "select"), "split"],
    [NORMS, "conv", "activation", "conv", "add"],
    ["tokens", "layer_norm_last", "linear", "token_product", "to_map"],
]
"""What real networks chain: DenseNet, RDNet, VoVNet, ShuffleNet, ConvNeXt, transformers. Every step
reads what the one before it made, and of older values what fits; one of several kinds is drawn."""


class _Growing:
    """A drawing while it grows."""

    def __init__(self, random: Random, seed: int, shape: Shape) -> None:
        self.random = random
        self.writer = Writer(seed, shape)
        self.steps: list[Step] = []

    def block(self, kinds: Sequence[str | tuple[str, ...]]) -> None:
        begin = len(self.writer.values) - 1
        for one in kinds:
            kind = one if isinstance(one, str) else self.random.choice(one)
            if not self.step(kind, block=begin) and not self.step(kind):
                return

    def step(self, kind: str, *, block: int | None = None) -> bool:
        """Whether one step of that kind was added: to any value or, in a block that began with the
        value ``block``, to the newest."""
        operator, random = OPERATORS[kind], self.random
        count = len(self.writer.values)
        fitting = [
            i for i in range(count) if self.shape(i) and len(self.shape(i)) in operator.ranks
        ]
        if not fitting:
            return False
        if block is not None:
            first = fitting[-1]
        else:
            first = random.choices(fitting, [1 + 3 * (i > count - 4) for i in fitting])[0]
        inputs = [first, *self.others(operator.takes, first, fitting, block)]
        if operator.takes == "several":
            random.shuffle(inputs)
        if operator.takes != "one" and len(inputs) < 2:
            return False
        settings = operator.draw(random, [self.shape(i) for i in inputs])
        step = Step(kind, tuple(inputs), settings)
        try:
            self.writer.add(step, shows=True)
        except MisfitError:
            return False
        self.steps.append(step)
        return True

    def shape(self, value: int) -> Shape:
        return tuple(self.writer.values[value].shape)

    def others(
        self, takes: str, first: int, fitting: Sequence[int], block: int | None
    ) -> list[int]:
        """Partners of an input, older and newer ones, perhaps itself; a concatenation that ends a
        block often takes all or some of that block's values."""
        shape, random = self.shape(first), self.random
        if takes == "one":
            return []
        if takes == "several":
            near = [i for i in fitting if self.shape(i)[2:] == shape[2:]]
            if block is not None and random.random() < 0.7:
                own = [i for i in near if i >= block and i != first] or near
                return random.sample(own, random.randint(1, len(own)))[:5]
            return random.choices(near, k=random.choice([1, 1, 1, 2, 2, 3, 4]))
        alike: Callable[[Shape], bool] = {
            "alike": lambda other: other == shape,
            "sharing": lambda other: other[2:] == shape[2:],
            "mixed": lambda other: True,
        }[takes]
        near = [
            i for i in fitting if alike(self.shape(i)) and (i != first or random.random() < 0.2)
        ]
        return [random.choice(near)] if near else []

    def outputs(self) -> tuple[int, ...]:
        """What nothing reads, some of what is read too, rarely the picture or one of them twice."""
        random, count = self.random, len(self.writer.values)
        read = {i for step in self.steps for i in step.inputs}
        found = [i for i in range(1, count) if i not in read][-4:]
        found += random.sample(range(1, count), min(count - 1, random.choice([0, 0, 1, 2])))
        if random.random() < 0.05 or not found:
            found.append(0)
        found = list(dict.fromkeys(found))
        if random.random() < 0.05:
            found.append(random.choice(found))
        random.shuffle(found)
        return tuple(found)


# ---- The check


@dataclass(frozen=True)
class Fault:
    kind: str
    """"wrong", "stale" (the memory's old content matters), "threads", or an error's type."""
    trial: str
    detail: str

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
    found = context.run(picture.numpy())
    return found if isinstance(found, list) else [found]


# ---- Cutting down


def shrunk(drawing: Drawing, fails: Callable[[Drawing], bool]) -> Drawing:
    """A drawing that fails, while none of those that are one cut smaller does."""
    found = True
    while found:
        found = False
        for smaller in _cuts(drawing):
            try:
                written(smaller)
            except MisfitError:
                continue
            if fails(smaller):
                drawing, found = smaller, True
                break
    return drawing


def _cuts(drawing: Drawing) -> Iterator[Drawing]:
    """Drawings that are smaller by one cut, the largest cuts first."""
    for i in drawing.outputs:
        if len(drawing.outputs) > 1:
            yield _living(replace(drawing, outputs=(i,)))
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
    channels = {i: s.settings["channels"] for i, s in enumerate(drawing.steps) if s.op == "conv"}
    for i, step in enumerate(drawing.steps):
        plain = {**PLAIN, "channels": channels.get(i, 0)}
        if step.op == "conv" and step.settings != plain:
            yield _changed(drawing, i, Step("conv", step.inputs, plain))
        elif step.op != "conv":
            made = written(drawing).values[i + 1].shape
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
        answer.drawing, lambda d: (found := again(d)) is not None and found.kind == fault.kind
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
            key = f"{answer.fault.kind}: {answer.fault.detail[:60]}"
            key = answer.fault.kind if answer.fault.kind in ("wrong", "stale", "threads") else key
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
    print(
        f"graphs {options.start} to {options.start + options.count - 1}: "
        f"{sum(faults.values())} faults {dict(faults)}, "
        f"{sum(lacking.values())} lack an operator {dict(lacking)}, {time.monotonic() - began:.0f} s"
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
