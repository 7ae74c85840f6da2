"""The steps that random graphs are made of: each writes itself as an expression of PyTorch.

A step's settings are numbers that its expression is written from; whatever follows from its inputs
(a kernel's input channels) is taken from their shapes, so that a step still fits after its inputs
have shrunk, or PyTorch refuses it.

B batch · C channels · H W space · N tokens
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import torch

Shape = tuple[int, ...]
Settings = dict[str, Any]
Weight = tuple[str, Shape]
"""Kind and shape of a weight; see ``weight``."""
Written = tuple[str, list[Weight]]
"""An expression with a place for each input, {0}, {1}, and each weight, {w0}, {w1}."""


def weight(seed: int, index: int, kind: str, *shape: int) -> torch.nn.Parameter:
    """The weight that ``seed`` and ``index`` tell, at the size that training gives: a kernel keeps
    its input's scale, no statistic is trivial, and no two channels are alike, so that a channel in
    the wrong place shows."""
    rng = torch.Generator().manual_seed(1000 * seed + index)
    drawn = torch.rand(shape, generator=rng)
    if kind == "kernel":
        fan_in = max(1, drawn[0].numel())
        drawn = torch.randn(shape, generator=rng) * (1.5 / fan_in) ** 0.5
    elif kind == "scale":
        drawn = (0.5 + drawn) * (1 - 2 * (torch.rand(shape, generator=rng) < 0.3).float())
    elif kind == "variance":
        drawn = 0.3 + 1.5 * drawn
    else:
        assert kind == "bias", kind
        drawn = drawn - 0.5
    return torch.nn.Parameter(drawn, requires_grad=False)


def put(x: torch.Tensor, key: Any, value: Any) -> torch.Tensor:
    """A copy of ``x`` with a part of it written in place."""
    x = x.clone()
    x[key] = value
    return x


def changed(x: torch.Tensor, key: Any, name: str) -> torch.Tensor:
    """A copy of ``x`` with a part of it changed in place by the method ``name``."""
    x = x.clone()
    getattr(x[key], name)()
    return x


@dataclass(frozen=True)
class Operator:
    """One kind of step."""

    write: Callable[[Sequence[Shape], Settings], Written]
    draw: Callable[[Random, Sequence[Shape]], Settings] = lambda random, shapes: {}
    takes: str = "one"
    """Inputs: "one", "alike" (two of one shape), "sharing" (two that differ at most in channels),
    "several" (two to five that differ at most in channels), "mixed" (two of the same rank)."""
    ranks: tuple[int, ...] = (4,)
    """Ranks of the inputs, batch included."""
    share: float = 1.0
    """How often it is drawn, compared with others."""


def expression(text: str, *weights: Weight) -> Callable[[Sequence[Shape], Settings], Written]:
    """A step whose expression has no settings or only inserts them, as <name>."""

    def write(shapes: Sequence[Shape], settings: Settings) -> Written:
        written = text
        for name, value in settings.items():
            written = written.replace(f"<{name}>", repr(value))
        return written, list(weights)

    return write


def drawn(**choices: Sequence[Any]) -> Callable[[Random, Sequence[Shape]], Settings]:
    """Each setting from its choices."""
    return lambda random, shapes: {name: random.choice(values) for name, values in choices.items()}


# ---- Windows


def write_conv(shapes: Sequence[Shape], s: Settings) -> Written:
    kernel = s["kernel"]
    weights = [("kernel", (s["channels"], shapes[0][1] // s["groups"], *kernel))]
    if s["bias"]:
        weights.append(("bias", (s["channels"],)))
    options = "".join(
        f", {name}={s[name]!r}"
        for name, default in (("stride", 1), ("padding", 0), ("dilation", 1), ("groups", 1))
        if s[name] != default
    )
    bias = ", {w1}" if s["bias"] else ""
    return f"F.conv2d({{0}}, {{w0}}{bias}{options})", weights


def draw_conv(random: Random, shapes: Sequence[Shape]) -> Settings:
    channels = draw_channels(random, shapes[0][1])
    if random.random() < 0.55:
        kernel, stride, dilation, groups = (1, 1), 1, 1, 1
        padding: Any = 0
        if random.random() < 0.1:
            stride = 2
    else:
        kernel = random.choice([(3, 3), (3, 3), (3, 3), (5, 5), (1, 3), (3, 1), (2, 2)])
        stride = random.choice([1, 1, 1, 2, (2, 1)])
        dilation = random.choice([1, 1, 1, 2])
        padding = random.choice([tuple(k // 2 * dilation for k in kernel), 1, 0])
        groups = 1
    if random.random() < 0.2:
        groups = random.choice([2, 3, 4])
        channels = max(1, channels // groups) * groups
    return {
        "channels": channels,
        "kernel": kernel,
        "stride": stride,
        "padding": padding,
        "dilation": dilation,
        "groups": groups,
        "bias": random.random() < 0.7,
    }


def draw_channels(random: Random, have: int) -> int:
    """The same number often, so that residuals and gates find partners."""
    return random.choice([have, have, random.randint(1, 12), random.randint(1, 40), 8, 16])


def write_depthwise(shapes: Sequence[Shape], s: Settings) -> Written:
    channels, kernel = shapes[0][1], s["kernel"]
    weights = [
        ("kernel", (channels * s["multiplier"], 1, kernel, kernel)),
        ("bias", (channels * s["multiplier"],)),
    ]
    return (
        f"F.conv2d({{0}}, {{w0}}, {{w1}}, stride={s['stride']}, padding={kernel // 2}, "
        f"groups={channels})",
        weights,
    )


def write_transposed(shapes: Sequence[Shape], s: Settings) -> Written:
    groups, kernel = s["groups"], s["kernel"]
    weights = [("kernel", (shapes[0][1], s["channels"] // groups, *kernel))]
    if s["bias"]:
        weights.append(("bias", (s["channels"],)))
    options = "".join(
        f", {name}={s[name]!r}" for name in ("stride", "padding", "output_padding", "dilation")
    )
    bias = ", {w1}" if s["bias"] else ""
    return f"F.conv_transpose2d({{0}}, {{w0}}{bias}{options}, groups={groups})", weights


def draw_transposed(random: Random, shapes: Sequence[Shape]) -> Settings:
    have = shapes[0][1]
    groups = random.choice([1, 1, 1, 2, have])
    stride = random.choice([1, 2, 2, 2, 3])
    kernel = random.choice([(2, 2), (3, 3), (4, 4), (4, 4), (5, 3), (1, 1)])
    return {
        "channels": have
        if groups == have
        else max(1, draw_channels(random, have) // groups) * groups,
        "kernel": kernel,
        "stride": stride,
        "padding": random.choice([0, (kernel[0] // 2, kernel[1] // 2)]),
        "output_padding": random.randint(0, stride - 1),
        "dilation": random.choice([1, 1, 1, 2]),
        "groups": groups,
        "bias": random.random() < 0.7,
    }


def write_padded_conv(shapes: Sequence[Shape], s: Settings) -> Written:
    """A window after zeros that may be more on one side than it is large."""
    kernel = s["kernel"]
    weights = [("kernel", (s["channels"], shapes[0][1], kernel, kernel))]
    return f"F.conv2d(F.pad({{0}}, {s['sides']!r}), {{w0}}, stride={s['stride']})", weights


def pooled(kind: str) -> Callable[[Sequence[Shape], Settings], Written]:
    def write(shapes: Sequence[Shape], s: Settings) -> Written:
        text = f"F.{kind}_pool2d({{0}}, {s['kernel']}, {s['stride']}, {s['padding']}"
        text += ", ceil_mode=True" if s["ceil"] else ""
        text += ", count_include_pad=False" if kind == "avg" and s["exclude"] else ""
        return text + ")", []

    return write


def draw_pool(random: Random, shapes: Sequence[Shape]) -> Settings:
    kernel = random.choice([2, 3, 3])
    return {
        "kernel": kernel,
        "stride": random.choice([1, 1, 2]),
        "padding": random.choice([0, kernel // 2]),
        "ceil": random.random() < 0.2,
        "exclude": random.random() < 0.5,
    }


def write_resize(shapes: Sequence[Shape], s: Settings) -> Written:
    height, width = (max(1, round(n * s["factor"])) for n in shapes[0][2:])
    align = "" if s["mode"].startswith("nearest") else f", align_corners={s['align']}"
    column = shapes[0][3] == width == 1  # torch 2.15 is wrong there: each row is the first one's
    if s["antialias"] and align and not column:
        align += ", antialias=True"
    return f"F.interpolate({{0}}, ({height}, {width}), mode={s['mode']!r}{align})", []


# ---- Norms, reductions, gates


def write_batch_norm(shapes: Sequence[Shape], s: Settings) -> Written:
    shape = (shapes[0][1],)
    weights = [(kind, shape) for kind in ("bias", "variance", "scale", "bias")]
    return "F.batch_norm({0}, {w0}, {w1}, {w2}, {w3})", weights


def write_layer_norm(shapes: Sequence[Shape], s: Settings) -> Written:
    channels = shapes[0][1]
    norm = f"F.layer_norm({{0}}.permute(0, 2, 3, 1), ({channels},), {{w0}}, {{w1}}, {EPS})"
    return norm + ".permute(0, 3, 1, 2)", [("scale", (channels,)), ("bias", (channels,))]


def write_layer_norm_last(shapes: Sequence[Shape], s: Settings) -> Written:
    count = shapes[0][-1]
    norm = f"F.layer_norm({{0}}, ({count},), {{w0}}, {{w1}}, {EPS})"
    return norm, [("scale", (count,)), ("bias", (count,))]


EPS = 0.01
"""For norms and roots: with the usual 1e-5, two channels that are nearly equal make rounding grow
300 times, and what an engine does wrong would not stand out."""


def write_group_norm(shapes: Sequence[Shape], s: Settings) -> Written:
    channels = shapes[0][1]
    norm = f"F.group_norm({{0}}, {s['groups']}, {{w0}}, {{w1}}, {EPS})"
    return norm, [("scale", (channels,)), ("bias", (channels,))]


def write_response_norm(shapes: Sequence[Shape], s: Settings) -> Written:
    """ConvNeXt V2's: a map by its channels' lengths."""
    shape = (shapes[0][1], 1, 1)
    length = f"({{0}}.square().mean((2, 3), keepdim=True) + {EPS}).sqrt()"
    return (
        f"{{0}} + {{w0}} * ({{0}} * {length} / ({length}.mean(1, keepdim=True) + {EPS})) + {{w1}}",
        [("scale", shape), ("bias", shape)],
    )


def write_squeeze_gate(shapes: Sequence[Shape], s: Settings) -> Written:
    """Squeeze and excite."""
    channels = shapes[0][1]
    inner = max(1, channels // s["ratio"])
    pool = s["pool"].replace("x", "{0}")
    squeezed = f"F.relu(F.conv2d({pool}, {{w0}}, {{w1}}))"
    return (
        f"{{0}} * F.{s['gate']}(F.conv2d({squeezed}, {{w2}}, {{w3}}))",
        [
            ("kernel", (inner, channels, 1, 1)),
            ("bias", (inner,)),
            ("kernel", (channels, inner, 1, 1)),
            ("bias", (channels,)),
        ],
    )


def write_gate(shapes: Sequence[Shape], s: Settings) -> Written:
    """The gate of a part by 1 x 1 convolution of itself."""
    channels = shapes[0][1]
    return (
        "{0} * torch.sigmoid(F.conv2d({1}, {w0}, {w1}))",
        [("kernel", (channels, shapes[1][1], 1, 1)), ("bias", (channels,))],
    )


def per_channel(text: str, kind: str) -> Callable[[Sequence[Shape], Settings], Written]:
    def write(shapes: Sequence[Shape], s: Settings) -> Written:
        return text, [(kind, (shapes[0][1], 1, 1))]

    return write


DIMS = ["1", "2", "3", "(2, 3)", "(1, 2)", "(1, 2, 3)"]


def reduced(text: str) -> Callable[[Sequence[Shape], Settings], Written]:
    def write(shapes: Sequence[Shape], s: Settings) -> Written:
        value = f"{{0}}.{s['kind']}({s['dims']}, keepdim=True)"
        if s["kind"] == "sum":  # as large as a mean: sums of sums would leave float32's range
            value = f"(0.1 * {value})"
        return text.replace("REDUCED", value), []

    return write


# ---- Channels and shapes


def write_slice(shapes: Sequence[Shape], s: Settings) -> Written:
    """A run of a dimension, given in eighths of it, or each second place."""
    size = shapes[0][s["dim"]]
    begin = size * s["begin"] // 8
    end = max(begin + 1, size * s["end"] // 8)
    step = f":{s['step']}" if s["step"] > 1 else ""
    colons = ":, " * s["dim"]
    return f"{{0}}[{colons}{begin}:{end}{step}]", []


def draw_slice(random: Random, shapes: Sequence[Shape]) -> Settings:
    begin = random.choice([0, 0, 1, 2, 4, random.randint(0, 7)])
    return {
        "dim": random.choice([1, 1, 1, 2, 3]),
        "begin": begin,
        "end": random.choice([8, random.randint(begin + 1, 8)]),
        "step": random.choice([1, 1, 1, 2]),
    }


def part_of(shape: Shape, s: Settings) -> str:
    """The key of a part, drawn by ``draw_slice``."""
    size = shape[s["dim"]]
    begin = size * s["begin"] // 8
    end = max(begin + 1, size * s["end"] // 8)
    step = f", {s['step']}" if s["step"] > 1 else ""
    return f"({'slice(None), ' * s['dim']}slice({begin}, {end}{step}))"


def write_put(shapes: Sequence[Shape], s: Settings) -> Written:
    """A part of one map written into the same place of another."""
    key = part_of(shapes[0], s)
    return f"put({{0}}, {key}, {{1}}[{key}])", []


def write_put_at(shapes: Sequence[Shape], s: Settings) -> Written:
    """Channels of one map written to channels of another, by index."""
    channels = shapes[0][1]
    random = Random(s["seed"])
    places = random.sample(range(channels), random.randint(1, channels))
    return f"put({{0}}, (slice(None), {places}), {{1}}[:, :{len(places)}])", []


def write_changed(shapes: Sequence[Shape], s: Settings) -> Written:
    return f"changed({{0}}, {part_of(shapes[0], s)}, {s['name']!r})", []


def draw_changed(random: Random, shapes: Sequence[Shape]) -> Settings:
    name = random.choice(["relu_", "neg_", "zero_", "sigmoid_", "square_"])
    return {**draw_slice(random, shapes), "name": name}


def write_windows(shapes: Sequence[Shape], s: Settings) -> Written:
    """Windows that overlap, by their means."""
    return f"{{0}}.unfold({s['dim']}, {s['size']}, {s['step']}).mean(-1)", []


def write_split(shapes: Sequence[Shape], s: Settings) -> Written:
    size = shapes[0][s["dim"]]
    if s["way"] == "chunk":
        return f"{{0}}.chunk({s['parts']}, {s['dim']})[{s['index']}]", []
    part = max(1, size // s["parts"])
    return f"{{0}}.split({part}, {s['dim']})[{s['index']}]", []


def write_shuffle(shapes: Sequence[Shape], s: Settings) -> Written:
    groups = s["groups"]
    if s["way"] == "reshape":
        channels, height, width = shapes[0][1:]
        inner = channels // groups
        return (
            f"{{0}}.reshape({{0}}.shape[0], {groups}, {inner}, {height}, {width})"
            f".transpose(1, 2).reshape({{0}}.shape)",
            [],
        )
    return f"{{0}}.unflatten(1, ({groups}, -1)).transpose(1, 2).flatten(1, 2)", []


def write_select(shapes: Sequence[Shape], s: Settings) -> Written:
    """Channels in an order drawn from ``seed``; some may be missing or twice."""
    channels = shapes[0][1]
    random = Random(s["seed"])
    order = random.choices(range(channels), k=channels)
    if s["all"]:
        order = random.sample(range(channels), channels)
    return f"{{0}}[:, {order}]", []


def write_cat(shapes: Sequence[Shape], s: Settings) -> Written:
    parts = ", ".join(f"{{{i}}}" for i in range(len(shapes)))
    return f"torch.cat(({parts}), {s['dim']})", []


def write_reshape(shapes: Sequence[Shape], s: Settings) -> Written:
    channels, height, width = shapes[0][1:]
    form = {
        "rows to channels": (channels * height, 1, width),
        "channels to columns": (height, width, channels),
        "columns to rows": (channels, height * width, 1),
        "rows to columns": (channels, 1, height * width),
    }[s["form"]]
    return f"{{0}}.reshape({{0}}.shape[0], {', '.join(map(str, form))})", []


def write_pixel_shuffle(shapes: Sequence[Shape], s: Settings) -> Written:
    return f"F.{s['way']}({{0}}, 2)", []


# ---- Tokens


def write_to_map(shapes: Sequence[Shape], s: Settings) -> Written:
    """Tokens (B, N, C) as a map, as high as N's largest divisor of at most its root."""
    count = shapes[0][1]
    height = max(n for n in range(1, count + 1) if count % n == 0 and n * n <= count)
    return f"{{0}}.transpose(1, 2).unflatten(2, ({height}, {count // height}))", []


def write_linear(shapes: Sequence[Shape], s: Settings) -> Written:
    weights = [("kernel", (s["channels"], shapes[0][-1])), ("bias", (s["channels"],))]
    return "F.linear({0}, {w0}, {w1})", weights


def write_attention(shapes: Sequence[Shape], s: Settings) -> Written:
    """Of a map with itself, over space; values keep the channels."""
    channels, height, width = shapes[0][1:]
    heads, inner = s["heads"], s["heads"] * s["inner"]
    if channels % heads:
        heads, inner = 1, s["inner"]
    q, k, v = (
        f"F.conv2d({{0}}, {{w{i}}}).flatten(2).unflatten(1, ({heads}, -1)).transpose(2, 3)"
        for i in range(3)
    )
    weights = [("kernel", (n, channels, 1, 1)) for n in (inner, inner, channels)]
    if s["way"] == "sdpa":
        mixed = f"F.scaled_dot_product_attention({q}, {k}, {v})"
    else:
        mixed = f"((0.5 * {q} @ {k}.transpose(2, 3)).softmax(-1) @ {v})"
    return f"{mixed}.transpose(2, 3).flatten(1, 2).unflatten(2, ({height}, {width}))", weights


OPERATORS: dict[str, Operator] = {
    "conv": Operator(write_conv, draw_conv, share=8),
    "depthwise": Operator(
        write_depthwise,
        drawn(kernel=[1, 3, 3, 5, 7], stride=[1, 1, 1, 2], multiplier=[1, 1, 1, 2]),
        share=1.5,
    ),
    "transposed": Operator(write_transposed, draw_transposed, share=1.2),
    "padded_conv": Operator(
        write_padded_conv,
        lambda random, shapes: {
            "channels": draw_channels(random, shapes[0][1]),
            "kernel": random.choice([1, 3]),
            "stride": random.choice([1, 1, 2]),
            "sides": tuple(random.choices([0, 1, 2, 3], k=4)),
        },
        share=0.5,
    ),
    "max_pool": Operator(pooled("max"), draw_pool, share=0.6),
    "avg_pool": Operator(pooled("avg"), draw_pool, share=0.6),
    "adaptive_pool": Operator(
        expression("F.adaptive_avg_pool2d({0}, <size>)"), drawn(size=[1, 2, (3, 2), 5]), share=0.4
    ),
    "resize": Operator(
        write_resize,
        drawn(
            factor=[0.5, 0.7, 1.5, 2],
            mode=["nearest", "nearest-exact", "bilinear", "bicubic"],
            align=[False, True],
            antialias=[False, False, True],
        ),
        share=0.6,
    ),
    "pad": Operator(
        expression("F.pad({0}, <sides>)"),
        lambda random, shapes: {"sides": tuple(random.choices([0, 0, 1, 2], k=4))},
        share=0.4,
    ),
    "pad_value": Operator(
        expression("F.pad({0}, <sides>, value=<value>)"),
        lambda random, shapes: {
            "sides": tuple(random.choices([0, 1, -1], k=random.choice([4, 4, 6]))),
            "value": random.choice([0, 0.5]),
        },
        share=0.3,
    ),
    "pad_mode": Operator(
        expression("F.pad({0}, <sides>, mode=<mode>)"),
        lambda random, shapes: {
            "sides": tuple(random.choices([0, 1, 2], k=4)),
            "mode": random.choice(["reflect", "replicate", "circular"]),
        },
        share=0.3,
    ),
    "batch_norm": Operator(write_batch_norm, share=1.2),
    "layer_norm": Operator(write_layer_norm, share=1.2),
    "layer_norm_last": Operator(write_layer_norm_last, ranks=(3, 4), share=0.4),
    "group_norm": Operator(write_group_norm, drawn(groups=[1, 1, 2, 4]), share=0.8),
    "instance_norm": Operator(expression(f"F.instance_norm({{0}}, eps={EPS})"), share=0.3),
    "response_norm": Operator(write_response_norm, share=0.3),
    "softmax": Operator(
        expression("4 * {0}.softmax(<dim>)"), drawn(dim=[1, 1, 2, -1]), ranks=(3, 4), share=0.8
    ),
    "softmax_space": Operator(
        expression("3 * {0}.flatten(2).softmax(2).reshape({0}.shape)"), share=0.4
    ),
    "reduce": Operator(
        reduced("REDUCED"), drawn(kind=["mean", "amax", "amin", "sum"], dims=DIMS), share=0.6
    ),
    "reduce_subtract": Operator(
        reduced("{0} - REDUCED"), drawn(kind=["mean", "amax", "sum"], dims=DIMS), share=0.8
    ),
    "reduce_multiply": Operator(
        reduced("{0} * REDUCED"), drawn(kind=["mean", "amax", "sum"], dims=DIMS), share=0.5
    ),
    "squeeze_gate": Operator(
        write_squeeze_gate,
        drawn(
            ratio=[1, 2, 4],
            pool=["x.mean((2, 3), keepdim=True)", "F.adaptive_avg_pool2d(x, 1)"],
            gate=["sigmoid", "hardsigmoid"],
        ),
        share=0.8,
    ),
    "gate": Operator(write_gate, takes="sharing", share=0.7),
    "activation": Operator(
        lambda shapes, s: (f"F.{s['name']}({{0}})", []),
        drawn(name=["relu", "relu6", "silu", "gelu", "hardswish", "sigmoid", "tanh", "elu"]),
        ranks=(3, 4),
        share=2,
    ),
    "scale": Operator(per_channel("{0} * {w0}", "scale"), share=0.5),
    "shift": Operator(per_channel("{0} + {w0}", "bias"), share=0.4),
    "prelu": Operator(
        lambda shapes, s: ("F.prelu({0}, {w0})", [("scale", (shapes[0][1] if s["each"] else 1,))]),
        drawn(each=[True, True, False]),
        ranks=(3, 4),
        share=0.8,
    ),
    "affine_number": Operator(expression("0.5 - 1.25 * {0}"), ranks=(3, 4), share=0.3),
    "add": Operator(expression("{0} + {1}"), takes="alike", ranks=(3, 4), share=2.5),
    "subtract": Operator(expression("{0} - {1}"), takes="alike", ranks=(3, 4), share=0.5),
    "multiply": Operator(expression("{0} * {1}"), takes="alike", ranks=(3, 4), share=0.7),
    "maximum": Operator(
        expression("torch.maximum({0}, {1})"), takes="alike", ranks=(3, 4), share=0.3
    ),
    "broadcast_add": Operator(
        expression("{0} + {1}[:, :, :1, :1].mean(1, keepdim=True)"), takes="mixed", share=0.3
    ),
    "cat": Operator(write_cat, drawn(dim=[1]), takes="several", share=5),
    "cat_space": Operator(write_cat, drawn(dim=[2, 3]), takes="alike", share=0.4),
    "stack": Operator(
        expression("torch.stack(({0}, {1}), 2).flatten(1, 2)"), takes="alike", share=0.5
    ),
    "slice": Operator(write_slice, draw_slice, share=1.5),
    "split": Operator(
        write_split,
        drawn(way=["chunk", "split"], parts=[2, 2, 3, 4], dim=[1, 1, 1, 2, 3], index=[0, 1, -1]),
        share=1.5,
    ),
    "shuffle": Operator(
        write_shuffle, drawn(way=["reshape", "unflatten"], groups=[2, 2, 3, 4]), share=1.2
    ),
    "select": Operator(
        write_select,
        lambda random, shapes: {"seed": random.randint(0, 9999), "all": random.random() < 0.6},
        share=0.5,
    ),
    "put": Operator(write_put, draw_slice, takes="alike", share=0.5),
    "put_at": Operator(
        write_put_at,
        lambda random, shapes: {"seed": random.randint(0, 9999)},
        takes="alike",
        share=0.3,
    ),
    "changed": Operator(write_changed, draw_changed, share=0.5),
    "windows": Operator(
        write_windows, drawn(dim=[1, 2, 3], size=[1, 2, 3], step=[1, 2]), share=0.3
    ),
    "roll": Operator(
        expression("torch.roll({0}, <by>, <dim>)"), drawn(by=[1, -1, 2], dim=[1, 2, 3]), share=0.4
    ),
    "permute": Operator(
        lambda shapes, s: (f"{{0}}.permute(0, {', '.join(map(str, s['dims']))})", []),
        lambda random, shapes: {"dims": tuple(random.sample([1, 2, 3], 3))},
        share=0.6,
    ),
    "reshape": Operator(
        write_reshape,
        drawn(
            form=["rows to channels", "channels to columns", "columns to rows", "rows to columns"]
        ),
        share=0.5,
    ),
    "pixel_shuffle": Operator(
        write_pixel_shuffle, drawn(way=["pixel_shuffle", "pixel_unshuffle"]), share=0.4
    ),
    "tokens": Operator(expression("{0}.flatten(2).transpose(1, 2)"), share=0.6),
    "to_map": Operator(write_to_map, ranks=(3,), share=1.5),
    "linear": Operator(
        write_linear,
        lambda random, shapes: {"channels": draw_channels(random, shapes[0][-1])},
        ranks=(3, 4),
        share=0.5,
    ),
    "token_product": Operator(
        expression("(0.3 * {0} @ {1}.transpose(1, 2)).softmax(-1) @ {1}"),
        takes="alike",
        ranks=(3,),
        share=1,
    ),
    "attention": Operator(
        write_attention,
        drawn(heads=[1, 2], inner=[1, 4, 8], way=["sdpa", "product"]),
        share=0.7,
    ),
}
