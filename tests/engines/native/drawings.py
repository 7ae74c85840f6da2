"""Drawings of random networks: steps that name their inputs by number.

A drawing is data. From it a program is written, which is both what is run and what is printed when
it fails.

B batch · C channels · H W space
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from graph_steps import Settings, Shape, Weight, changed, put, weight
from torch import nn
from typed_steps import OPERATORS

from fleetfoot.engines.base import relative_error

KNOWN = {"torch": torch, "F": F, "put": put, "changed": changed}
"""What an expression may name beside values and weights."""
LARGEST = 20_000
"""Elements of a map: the graphs are many and small."""


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
        return eval(line, {**KNOWN, "self": holder, **known})  # type: ignore[no-any-return]


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
            "from graph_steps import changed, put, weight",
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
