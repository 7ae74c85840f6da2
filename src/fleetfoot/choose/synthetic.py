"""Small networks drawn at random, from which a latency model learns what layers cost.

Each is a chain, that is one to three blocks of one kind at one resolution, or a whole network of
three to five stages. Blocks have the forms found in mobile networks, with random widths, sizes and
options; none is a published network. They are built as if folded: with biases instead of norms,
except where no convolution comes before the norm. A number always gives the same network.

B batch · C channels · H W space · L tokens · D depth of a head
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from fleetfoot.ops.pconv import PConv
from fleetfoot.ops.shuffle import ChannelShuffle

WHOLE_EVERY = 3
"""One network in this many is a whole network."""
SIDES = (7, 7, 8, 10, 12, 14, 14, 16, 20, 24, 28, 28, 32, 40, 48, 56, 56, 64, 80, 112)
MOST_MACS = 3e8
"""Most multiply-accumulates of one block of a chain."""


@dataclass(frozen=True)
class Synthetic:
    name: str
    """Name of the network, such as "chain 12: inverted" or "network 14: basic, attention"."""
    model: nn.Module
    size: int
    """Height and width of its input, which has 3 channels."""


def synthetic(number: int) -> Synthetic:
    """The network of this number, in eval mode."""
    rng = random.Random(f"fleetfoot {number}")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        whole = number % WHOLE_EVERY == WHOLE_EVERY - 1
        made = _network(number, rng) if whole else _chain(number, rng)
        for module in made.model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                fan_in = module.weight[0].numel()
                nn.init.normal_(module.weight, std=math.sqrt(1 / fan_in))  # keeps the maps' scale
    made.model.eval()
    return made


def _conv(ci: int, co: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(ci, co, kernel, stride, kernel // 2, groups=groups)


def _act(rng: random.Random) -> nn.Module:
    kinds = (nn.ReLU, nn.ReLU, nn.ReLU6, nn.Hardswish, nn.SiLU, nn.GELU)
    return rng.choice(kinds)()


def _round(channels: float, multiple: int = 8) -> int:
    return max(multiple, round(channels / multiple) * multiple)


class _Sum(nn.Module):
    """Residual sum: x + body(x)."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


class _Gate(nn.Module):
    """Squeeze-excite."""

    def __init__(self, channels: int, rng: random.Random) -> None:
        super().__init__()
        hidden = _round(channels / rng.choice((4, 4, 8, 16)))
        self.reduce, self.expand = _conv(channels, hidden), _conv(hidden, channels)
        self.act = rng.choice((nn.ReLU, nn.SiLU))()
        self.gate = rng.choice((nn.Sigmoid, nn.Hardsigmoid))()

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))))


class _Concat(nn.Module):
    """Concatenates the outputs of all branches."""

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


class _Split(nn.Module):
    """Splits the channels, applies a branch to each part, and concatenates the outputs."""

    def __init__(self, *branches: tuple[int, nn.Module]) -> None:
        super().__init__()
        self.sizes = [size for size, _ in branches]
        self.branches = nn.ModuleList(branch for _, branch in branches)

    def forward(self, x: Tensor) -> Tensor:
        parts = torch.split(x, self.sizes, 1)
        return torch.cat([b(p) for b, p in zip(self.branches, parts, strict=True)], 1)


class _Ghost(nn.Module):
    """Half of the channels come from a 1×1, the other half from them by a depthwise convolution."""

    def __init__(self, ci: int, co: int, act: nn.Module) -> None:
        super().__init__()
        half = co // 2
        self.primary = nn.Sequential(_conv(ci, half), act)
        self.cheap = nn.Sequential(_conv(half, half, 3, groups=half), act)

    def forward(self, x: Tensor) -> Tensor:
        primary = self.primary(x)
        return torch.cat((primary, self.cheap(primary)), 1)


class _Last(nn.Module):
    """Applies ``body`` with the channels last. (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Attention(nn.Module):
    """Self-attention, by torch's fused operator or step by step. (B, L, C) -> (B, L, C)"""

    def __init__(self, channels: int, heads: int, fused: bool) -> None:
        super().__init__()
        self.heads, self.fused = heads, fused
        self.norm = nn.LayerNorm(channels)
        self.qkv, self.project = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, length, c = x.shape
        qkv = self.qkv(self.norm(x)).reshape(b, length, 3, self.heads, c // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # (B, heads, L, D)
        if self.fused:
            mixed = functional.scaled_dot_product_attention(q, k, v)
        else:
            scale = (c // self.heads) ** -0.5
            mixed = torch.softmax((q * scale) @ k.transpose(-2, -1), -1) @ v
        return self.project(mixed.transpose(1, 2).reshape(b, length, c))


class _Tokens(nn.Module):
    """Applies ``body`` to the pixels as tokens. (B, C, H, W) -> (B, C, H, W)"""

    def __init__(self, *body: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*body)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        y = self.body(x.flatten(2).transpose(1, 2))
        return y.transpose(1, 2).reshape(b, c, h, w)


class _Latents(nn.Module):
    """Adds to x what a few learnt tokens, which read the pixels by attention, write back."""

    def __init__(self, channels: int, rng: random.Random) -> None:
        super().__init__()
        width, heads = rng.choice((64, 128, 192)), rng.choice((1, 2))
        self.heads = heads
        self.tokens = nn.Parameter(torch.randn(1, rng.choice((3, 4, 6)), width))
        self.query, self.read = nn.Linear(width, channels), nn.Linear(channels, width)
        self.mixing = _Sum(_Attention(width, 2, rng.random() < 0.5))
        mlp = (nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU())
        self.mlp = _Sum(nn.Sequential(*mlp, nn.Linear(2 * width, width)))
        self.key, self.value = nn.Linear(width, channels), nn.Linear(width, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        pixels = x.flatten(2).transpose(1, 2)  # (B, H·W, C)
        tokens = self.tokens.expand(b, -1, -1)
        tokens = tokens + self.read(self._attend(self.query(tokens), pixels, pixels))
        tokens = self.mlp(self.mixing(tokens))
        written = self._attend(pixels, self.key(tokens), self.value(tokens))
        return x + written.transpose(1, 2).reshape(b, c, h, w)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of ``q`` over ``k`` and ``v``. (B, L, C), (B, S, C), (B, S, C) -> (B, L, C)"""
        q, k, v = (t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (q, k, v))
        scores = (q @ k.transpose(-2, -1)) * q.shape[-1] ** -0.5
        return (torch.softmax(scores, -1) @ v).transpose(1, 2).flatten(2)


class _PoolMix(nn.Module):
    """Mean of the neighbouring pixels minus the pixel itself."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x) - x


class _Head(nn.Module):
    """Classifier: an optional 1×1, the mean over pixels, a linear layer. (B, C, H, W) -> (B, N)"""

    def __init__(self, channels: int, classes: int, hidden: int = 0) -> None:
        super().__init__()
        self.widen = nn.Sequential(_conv(channels, hidden), nn.ReLU()) if hidden else nn.Identity()
        self.classify = nn.Linear(hidden or channels, classes) if classes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.widen(x).mean((2, 3)))


Block = Callable[[int, random.Random], nn.Module]
"""Makes a block (B, C, H, W) -> (B, C, H, W) from C and the random generator."""


def _plain(c: int, rng: random.Random) -> nn.Module:
    return nn.Sequential(_conv(c, c, 3), _act(rng))


def _basic(c: int, rng: random.Random) -> nn.Module:
    act = _act(rng)
    return nn.Sequential(_Sum(nn.Sequential(_conv(c, c, 3), act, _conv(c, c, 3))), act)


def _bottleneck(c: int, rng: random.Random) -> nn.Module:
    act, inner = _act(rng), _round(c / rng.choice((1, 2, 4)))
    groups = inner // rng.choice((8, 16)) if rng.random() < 0.5 and inner % 16 == 0 else 1
    middle: list[nn.Module] = [_conv(inner, inner, 3, groups=groups), act]
    if rng.random() < 0.25:
        middle.append(_Gate(inner, rng))
    return nn.Sequential(_Sum(nn.Sequential(_conv(c, inner), act, *middle, _conv(inner, c))), act)


def _inverted(c: int, rng: random.Random) -> nn.Module:
    act, inner, kernel = _act(rng), c * rng.choice((2, 3, 4, 6)), rng.choice((3, 3, 3, 5, 7))
    layers = [_conv(c, inner), act, _conv(inner, inner, kernel, groups=inner), act]
    if rng.random() < 0.4:
        layers.append(_Gate(inner, rng))
    return _Sum(nn.Sequential(*layers, _conv(inner, c)))


def _separable(c: int, rng: random.Random) -> nn.Module:
    act, kernel = _act(rng), rng.choice((3, 3, 5))
    layers: list[nn.Module] = [_conv(c, c, kernel, groups=c), act, _conv(c, c), act]
    if rng.random() < 0.2:
        layers.insert(2, _Gate(c, rng))
    return nn.Sequential(*layers)


def _partial(c: int, rng: random.Random) -> nn.Module:
    inner = c * rng.choice((2, 2, 3))
    return _Sum(nn.Sequential(PConv(c), _conv(c, inner), _act(rng), _conv(inner, c)))


def _large_kernel(c: int, rng: random.Random) -> nn.Module:
    kernel, inner = rng.choice((5, 7, 7)), c * rng.choice((2, 3, 4))
    mixing = _conv(c, c, 3, groups=c) if rng.random() < 0.6 else nn.Identity()
    layers = (_conv(c, c, kernel, groups=c), _conv(c, inner), _act(rng), _conv(inner, c))
    return nn.Sequential(mixing, _Sum(nn.Sequential(*layers)))


def _normed(c: int, rng: random.Random) -> nn.Module:
    kernel, inner = rng.choice((3, 5, 7)), c * rng.choice((2, 4))
    mixing = _conv(c, c, kernel, groups=c)
    if rng.random() < 0.5:
        mlp: nn.Module = _Last(nn.LayerNorm(c), nn.Linear(c, inner), nn.GELU(), nn.Linear(inner, c))
    else:
        mlp = nn.Sequential(_Last(nn.LayerNorm(c)), _conv(c, inner), nn.GELU(), _conv(inner, c))
    return _Sum(nn.Sequential(mixing, mlp))


def _shuffled_half(c: int, rng: random.Random) -> nn.Module:
    half, act = c // 2, rng.choice((nn.ReLU, nn.Hardswish))()
    branch = nn.Sequential(
        _conv(half, half), act, _conv(half, half, rng.choice((3, 3, 5)), groups=half),
        _conv(half, half), act,
    )  # fmt: skip
    return nn.Sequential(_Split((half, nn.Identity()), (half, branch)), ChannelShuffle(c, 2))


def _shuffled_groups(c: int, rng: random.Random) -> nn.Module:
    groups = rng.choice((2, 4, 8))
    c_inner = _round(c / rng.choice((1, 4)), groups)
    body = nn.Sequential(
        _conv(c, c_inner, groups=groups), nn.ReLU(), ChannelShuffle(c_inner, groups),
        _conv(c_inner, c_inner, 3, groups=c_inner), _conv(c_inner, c, groups=groups),
    )  # fmt: skip
    return nn.Sequential(_Sum(body), nn.ReLU())


def _ghost(c: int, rng: random.Random) -> nn.Module:
    inner, act = c * rng.choice((2, 3, 6)), nn.ReLU()
    layers: list[nn.Module] = [_Ghost(c, inner, act)]
    if rng.random() < 0.4:
        layers.append(_Gate(inner, rng))
    return _Sum(nn.Sequential(*layers, _Ghost(inner, c, nn.Identity())))


def _dense(c: int, rng: random.Random) -> nn.Module:
    growth, layers, width, normed = _round(c / 4), [], c, rng.random() < 0.5
    for _ in range(rng.choice((2, 3, 4))):
        parts = (nn.ReLU(), _conv(width, growth), nn.ReLU(), _conv(growth, growth, 3))
        # a norm before the activation has no convolution to be folded into
        norm = [nn.BatchNorm2d(width)] if normed else []
        layer = nn.Sequential(*norm, *parts)
        layers.append(_Concat(nn.Identity(), layer))
        width += growth
    return nn.Sequential(*layers, _conv(width, c))


def _attention(c: int, rng: random.Random) -> nn.Module:
    c_heads = next(n for n in rng.sample((4, 8, 2, 1), 4) if c % n == 0)
    fused, inner = rng.random() < 0.5, c * rng.choice((2, 4))
    act = rng.choice((nn.GELU, nn.GELU, nn.SiLU, nn.Hardswish))()
    mlp = nn.Sequential(nn.LayerNorm(c), nn.Linear(c, inner), act, nn.Linear(inner, c))
    return _Tokens(_Sum(_Attention(c, c_heads, fused)), _Sum(mlp))


def _latents(c: int, rng: random.Random) -> nn.Module:
    act, inner = _act(rng), c * rng.choice((2, 3))
    layers = (_conv(c, inner), act, _conv(inner, inner, 3, groups=inner), act, _conv(inner, c))
    return nn.Sequential(_Latents(c, rng), _Sum(nn.Sequential(*layers)))


def _pool_mixing(c: int, rng: random.Random) -> nn.Module:
    inner = c * rng.choice((2, 4))
    mixing = nn.Sequential(nn.GroupNorm(1, c), _PoolMix())
    mlp = nn.Sequential(nn.GroupNorm(1, c), _conv(c, inner), _act(rng), _conv(inner, c))
    return nn.Sequential(_Sum(mixing), _Sum(mlp))


def _mixed_kernels(c: int, rng: random.Random) -> nn.Module:
    inner, count, act = c * rng.choice((1, 3, 6)), rng.choice((2, 3, 4)), _act(rng)
    sizes = [inner // count] * (count - 1)
    sizes.append(inner - sum(sizes))
    parts = [(n, _conv(n, n, 3 + 2 * i, groups=n)) for i, n in enumerate(sizes)]
    return _Sum(nn.Sequential(_conv(c, inner), act, _Split(*parts), act, _conv(inner, c)))


def _branched(c: int, rng: random.Random) -> nn.Module:
    act, quarter = nn.ReLU(), _round(c / 4, 4)
    pool = nn.MaxPool2d(3, 1, 1)
    branches = (
        nn.Sequential(_conv(c, quarter), act),
        nn.Sequential(_conv(c, quarter), act, _conv(quarter, quarter, 3), act),
        nn.Sequential(_conv(c, quarter), act, _conv(quarter, quarter, rng.choice((3, 5))), act),
        nn.Sequential(pool, _conv(c, max(1, c - 3 * quarter)), act),
    )
    return nn.Sequential(_Concat(*branches), _conv(3 * quarter + max(1, c - 3 * quarter), c), act)


def _squeezed(c: int, rng: random.Random) -> nn.Module:
    act, inner, half = nn.ReLU(), _round(c / 8), c // 2
    both = _Concat(nn.Sequential(_conv(inner, half), act),
                   nn.Sequential(_conv(inner, c - half, 3), act))  # fmt: skip
    return nn.Sequential(_conv(c, inner), act, both)


BLOCKS: dict[str, tuple[Block, float]] = {
    "plain": (_plain, 9),
    "basic": (_basic, 18),
    "bottleneck": (_bottleneck, 5),
    "inverted": (_inverted, 8),
    "separable": (_separable, 1.5),
    "partial": (_partial, 5),
    "large kernel": (_large_kernel, 8),
    "normed": (_normed, 8),
    "shuffled half": (_shuffled_half, 0.5),
    "shuffled groups": (_shuffled_groups, 0.5),
    "ghost": (_ghost, 4),
    "dense": (_dense, 4),
    "attention": (_attention, 10),
    "latents": (_latents, 6),
    "pool mixing": (_pool_mixing, 6),
    "mixed kernels": (_mixed_kernels, 8),
    "branched": (_branched, 4),
    "squeezed": (_squeezed, 1.5),
}
"""Kinds of block, each with its approximate multiply-accumulates over pixels x channels²."""
WIDE = ("inverted", "normed", "large kernel", "mixed kernels", "ghost", "attention")
"""Blocks that multiply their width inside, and are therefore drawn narrower."""
TOKENS_SIDE = 24
"""Side of the largest map whose pixels attend to each other: 576 tokens."""


def _stem(c: int, stride: int, rng: random.Random) -> list[nn.Module]:
    """A stem from 3 channels to c, at 1/stride of the size."""
    if stride == 4 and rng.random() < 0.6:
        if rng.random() < 0.4:
            return [nn.Conv2d(3, c, 4, 4), _act(rng)]
        first: nn.Module = _conv(3, c, rng.choice((3, 3, 7)), 2)
        if rng.random() < 0.5:
            return [first, _act(rng), nn.MaxPool2d(3, 2, 1)]
        return [first, _act(rng), _conv(c, c, 3, 2), _act(rng)]
    return [_conv(3, c, rng.choice((3, 3, 5, 7)), stride), _act(rng)]


def _down(ci: int, co: int, rng: random.Random) -> nn.Module:
    """Halves the size, from ci to co channels."""
    act = _act(rng)
    kind = rng.choice(("conv", "merge", "inverted", "separable", "pool", "grouped"))
    if kind == "conv":
        return nn.Sequential(_conv(ci, co, 3, 2), act)
    if kind == "merge":
        return nn.Conv2d(ci, co, 2, 2)
    if kind == "separable":
        return nn.Sequential(_conv(ci, ci, 3, 2, ci), act, _conv(ci, co), act)
    if kind == "pool":
        pool = rng.choice((nn.MaxPool2d(3, 2, 1), nn.AvgPool2d(2, 2)))
        return nn.Sequential(pool, _conv(ci, co), act)
    if kind == "grouped" and co % ci == 0:
        return nn.Sequential(_conv(ci, co, rng.choice((3, 7)), 2, ci), _conv(co, co), act)
    inner = ci * rng.choice((3, 4, 6))
    layers = (_conv(ci, inner), act, _conv(inner, inner, rng.choice((3, 5)), 2, inner), act)
    return nn.Sequential(*layers, _conv(inner, co))


def _width(kind: str, side: int, rng: random.Random) -> int:
    """Channels for which maps hold 4,096 to a million values and a block is affordable."""
    low, high = max(8, 2**12 / side**2), min(1024, 2**20 / side**2)
    if kind in WIDE:
        high /= 2
    high = max(low, min(high, math.sqrt(MOST_MACS / BLOCKS[kind][1]) / side))
    c = math.exp(rng.uniform(math.log(low), math.log(high)))
    multiple = rng.choice((4, 8, 8, 16, 16, 32))
    return _round(c, 8 if kind in ("shuffled groups", "attention", "latents") else multiple)


def _chain(number: int, rng: random.Random) -> Synthetic:
    """A chain. The kinds take turns, so that any number of chains has about as many of each."""
    turn = number // WHOLE_EVERY * (WHOLE_EVERY - 1) + number % WHOLE_EVERY
    kind = list(BLOCKS)[turn % len(BLOCKS)]
    sides = [s for s in SIDES if kind != "attention" or s <= TOKENS_SIDE]
    side, stride = rng.choice(sides), rng.choice((2, 2, 4))
    c = _width(kind, side, rng)
    blocks = [BLOCKS[kind][0](c, rng) for _ in range(rng.choice((1, 2, 3)))]
    classes = rng.choice((0, 0, 100, 1000))
    model = nn.Sequential(*_stem(c, stride, rng), *blocks, _Head(c, classes))
    return Synthetic(f"chain {number}: {kind}", model, side * stride)


def _network(number: int, rng: random.Random) -> Synthetic:
    """A whole network of about 20 million to 2,500 million multiply-accumulates: stages of one kind
    of block each, then a classifier."""
    size, stride = rng.choice((96, 128, 160, 192, 224, 224, 224, 256)), rng.choice((2, 4, 4))
    stages = rng.choice((3, 4)) + (stride == 2)
    macs = math.exp(rng.uniform(math.log(2e7), math.log(2.5e9)))
    c = _round(min(96, rng.choice((0.5, 0.7, 1.0, 1.4)) * math.sqrt(macs) / size / 2.2))
    layers, side, used = _stem(c, stride, rng), size // stride, []
    for stage in range(stages):
        if stage:
            wider = _round(min(768, c * rng.choice((1.5, 2, 2))))
            layers.append(_down(c, wider, rng))
            c, side = wider, (side + 1) // 2
        affordable = [
            kind
            for kind, (_, cost) in BLOCKS.items()
            if (kind != "attention" or side <= TOKENS_SIDE)
            and cost * (side * c) ** 2 <= 2 * macs / stages
        ]
        kind = rng.choice(affordable or ["separable"])
        used.append(kind)
        block, cost = BLOCKS[kind]
        depth = min(6, max(1, round(macs / stages / (cost * (side * c) ** 2))))
        layers += [block(c, rng) for _ in range(depth)]
    hidden = rng.choice((0, 0, _round(2 * c), 1024, 1280))
    layers.append(_Head(c, 1000, hidden))
    return Synthetic(f"network {number}: {', '.join(used)}", nn.Sequential(*layers), size)
