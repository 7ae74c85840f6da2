"""Networks that are not as a textbook has them, several of each kind: what a forward keeps, what
cannot be copied, what a layer carries, what has replaced a forward, what scales channels.

B batch · C channels
"""

from __future__ import annotations

import collections
import functools
import logging
import math
import threading
import types
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from fleetfoot.copying import Kept, copied
from fleetfoot.count import trace
from fleetfoot.transform import fuse

IMAGE = torch.zeros(1, 3, 12, 12)


def norm(channels: int = 4) -> nn.BatchNorm2d:
    """A batch norm with statistics: a fresh one is nearly the identity."""
    made = nn.BatchNorm2d(channels)
    with torch.no_grad():
        for tensor in (made.weight, made.running_var):
            tensor.uniform_(0.5, 2)
        for tensor in (made.bias, made.running_mean):
            tensor.normal_()
    return made


def conv(given: int = 3, made: int = 4) -> nn.Conv2d:
    return nn.Conv2d(given, made, 3, padding=1)


def norms(model: nn.Module) -> int:
    return sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())


def same(fused, model: nn.Module) -> None:
    """The returned network answers as the given one does, in float32."""
    x = torch.randn(IMAGE.shape)
    with torch.no_grad():
        got, expected = fused.model(x), model(x)
    assert got.dtype == expected.dtype == torch.float32
    # float32: a handful of layers, each rounded to 6e-8 of values near 1
    assert float((got - expected).abs().max() / expected.abs().max()) < 1e-5


class Net(nn.Module):
    """A convolution and its norm, then ``keep``, which may keep something of the run."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = conv(), norm()

    def keep(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.keep(self.norm(self.conv(x)))


# --- what a forward keeps, in each kind of place


class Slotted:
    __slots__ = ("by_size", "last")

    def __init__(self) -> None:
        self.by_size: dict = {}


class InSlots(Net):
    def __init__(self) -> None:
        super().__init__()
        self.cache = Slotted()

    def keep(self, x):
        if not hasattr(self.cache, "last"):
            self.cache.last = x.new_full(x.shape[-1:], 2)
        return x * self.cache.by_size.setdefault(x.shape[-1], self.cache.last)


class InAList(Net):
    def __init__(self) -> None:
        super().__init__()
        self.grids = [None]

    def keep(self, x):
        if self.grids[0] is None:
            self.grids[0] = x.new_full(x.shape[-1:], 2)
        return x * self.grids[0]


class InOrder(Net):
    def __init__(self) -> None:
        super().__init__()
        self.by_device = collections.OrderedDict()

    def keep(self, x):
        return x * self.by_device.setdefault(x.device, x.new_full(x.shape[-1:], 2))


WEAK: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
BY_NAME = collections.defaultdict(list)


class InAWeakTable(Net):
    def keep(self, x):
        return x * WEAK.setdefault(self, x.new_full(x.shape[-1:], 2))


class InADefaultDict(Net):
    def keep(self, x):
        if not BY_NAME["grid"]:
            BY_NAME["grid"].append(x.new_full(x.shape[-1:], 2))
        return x * BY_NAME["grid"][0]


class Store:
    def __init__(self) -> None:
        self.rows: dict = {}


STORE = Store()


class InAnObjectOfTheFile(Net):
    def keep(self, x):
        if "grid" not in STORE.__dict__:
            STORE.grid = x.new_full(x.shape[-1:], 2)
        return x * STORE.grid


@functools.lru_cache
def grid_of(size: int, like: type) -> Tensor:
    return torch.full((size,), 2.0, dtype=RUNS[-1])


RUNS: list[torch.dtype] = []


class InALruCache(Net):
    def keep(self, x):
        RUNS[:] = [x.dtype]
        return x * grid_of(x.shape[-1], Tensor)


class InALruCacheOfAMethod(Net):
    @functools.lru_cache  # noqa: B019, this is what is tested
    def grid(self, size: int) -> Tensor:
        return torch.full((size,), 2.0, dtype=RUNS[-1])

    def keep(self, x):
        RUNS[:] = [x.dtype]
        return x * self.grid(x.shape[-1])


class InALruCacheOfTheInstance(Net):
    def __init__(self) -> None:
        super().__init__()
        self.grid = functools.lru_cache(grid_of.__wrapped__)

    def keep(self, x):
        RUNS[:] = [x.dtype]
        return x * self.grid(x.shape[-1], Tensor)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    "kind",
    [InSlots, InAList, InOrder, InAWeakTable, InADefaultDict, InAnObjectOfTheFile, InALruCache,
     InALruCacheOfAMethod, InALruCacheOfTheInstance],
)  # fmt: skip
def test_what_a_forward_keeps_is_as_it_was(kind, warm):
    WEAK.clear()
    BY_NAME.clear()
    vars(STORE).pop("grid", None)
    grid_of.cache_clear()
    model = nn.Sequential(kind().eval(), conv(4), norm()).eval()
    if warm:
        with torch.no_grad():
            model(IMAGE)
    fused = fuse(model, IMAGE)

    assert norms(fused.model) == 0
    same(fused, model)
    assert trace(fused.model, IMAGE).macs == trace(model, IMAGE).macs
    with torch.no_grad():
        assert model(IMAGE).dtype == torch.float32


def test_slots_and_caches_are_put_back():
    model = InSlots()
    kept = Kept(model)
    model(IMAGE)
    assert hasattr(model.cache, "last")
    kept.restore_()
    assert not hasattr(model.cache, "last")
    assert model.cache.by_size == {}

    grid_of.cache_clear()
    model = InALruCache()
    kept = Kept(model)
    kept.restore_()
    model(IMAGE)
    Kept(model).restore_()
    assert grid_of.cache_info().currsize == 1  # nothing ran in between: it stays
    kept.restore_()
    assert grid_of.cache_info().currsize == 0


# --- modes


class Quiet(Net):
    def train(self, mode=True):
        super().train(mode)


class Whole(nn.Module):
    """The root's ``train`` returns itself, but those of its parts return nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(Quiet(), nn.Sequential(conv(4), norm()))
        self.extra = Quiet()

    def forward(self, x):
        return self.stages(x) + self.extra(x)


@pytest.mark.parametrize("kind", [Quiet, Whole])
def test_a_train_that_returns_nothing_in_any_place(kind):
    model = kind()
    model.eval()
    fused = fuse(model, IMAGE)
    assert norms(fused.model) == 0
    same(fused, model)


# --- what cannot be copied


def numbers():
    yield 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: math,
        threading.RLock,
        threading.Condition,
        threading.Event,
        numbers,
        lambda: open(__file__),
        lambda: logging.getLogger("a user's"),
        lambda: memoryview(b"a"),
        lambda: types.SimpleNamespace(lock=threading.Lock(), backend=math),
        lambda: {"config": [math, {"lock": threading.Lock()}]},
        lambda: (threading.Lock(), math),
        lambda: functools.partial(math.sqrt, 2),
    ],
    ids=["module", "rlock", "condition", "event", "generator", "file", "logger", "memoryview",
         "namespace", "nested", "tuple", "partial"],
)  # fmt: skip
def test_what_a_network_holds_as_configuration_is_no_hindrance(make):
    model = Net().eval()
    model.held = make()
    fused = fuse(model, IMAGE)
    assert norms(fused.model) == 0
    same(fused, model)
    assert hasattr(copied(model), "held")
    if hasattr(model.held, "close"):
        model.held.close()


# --- attributes that a forward reads from its layers


class Parsed(nn.Module):
    """YOLO's way: each layer says where its input comes from."""

    def __init__(self) -> None:
        super().__init__()
        act = nn.ReLU  # without it the whole network is one sum of linear branches
        parts = (conv(), norm(), act()), (conv(4),), (norm(), act()), (nn.Identity(),)
        layers = [nn.Sequential(*part) for part in parts]
        for i, (layer, source) in enumerate(zip(layers, (-1, -1, -1, [-1, 0]), strict=True)):
            layer.i, layer.f, layer.type, layer.np = i, source, type(layer).__name__, 0
        self.model = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        made: list[Tensor] = []
        for layer in self.model:
            if isinstance(layer.f, list):
                x = sum(x if j == -1 else made[j] for j in layer.f)
            x = layer(x)
            made.append(x)
        return x


def test_what_layers_say_of_themselves_is_kept_through_folding_twice():
    model = Parsed().eval()
    once = fuse(model, IMAGE)
    twice = fuse(copied(once.model), IMAGE)
    for fused in (once, twice):
        assert norms(fused.model) == 0
        assert [layer.i for layer in fused.model.model] == [0, 1, 2, 3]
        assert [layer.f for layer in fused.model.model] == [-1, -1, -1, [-1, 0]]
        same(fused, model)


# --- forwards and weights that are not the class's own


def replaced(name, change):
    model = nn.Sequential(conv(), norm(), nn.ReLU(), conv(4), norm()).eval()
    change(dict(conv=model[0], norm=model[1])[name])
    return model


def on_instance(layer):
    layer.forward = lambda x: x


def as_a_method(layer):
    layer.forward = types.MethodType(lambda self, x: x + 1, layer)


def doubled(layer):
    layer.register_forward_hook(lambda module, args, output: 2 * output)


def shifted(layer):
    layer.register_forward_pre_hook(lambda module, args: (args[0] + 1,))


class Twice(nn.Module):
    def forward(self, x):
        return 2 * x


def parametrised(layer):
    parametrize.register_parametrization(layer, "weight", Twice())


def old_weight_norm(layer):
    torch.nn.utils.weight_norm(layer)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        *(("norm", change) for change in (on_instance, as_a_method, doubled, shifted)),
        *(("conv", change) for change in (doubled, shifted, parametrised)),
    ],
)
def test_what_was_replaced_is_left_or_folded_rightly(name, change):
    model = replaced(name, change)
    fused = fuse(model, IMAGE)
    assert isinstance(fused.model[4], nn.Identity)  # the rest is folded
    same(fused, model)
    if change in (doubled, shifted) and name == "norm":
        assert any(row.path == "1" for row in fused.left)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "change", [parametrizations.weight_norm, parametrizations.spectral_norm, old_weight_norm]
)
def test_normalised_weights_of_a_convolution(change):
    model = replaced("conv", change)
    fused = fuse(model, IMAGE)
    assert isinstance(fused.model[4], nn.Identity)
    same(fused, model)


# --- layer scales, in each way of writing one


class Scaled(Net):
    def __init__(self, way) -> None:
        super().__init__()
        self.gamma, self.way = nn.Parameter(torch.rand(4) + 0.5), way

    def keep(self, x):
        return self.way(x, self.gamma)


WAYS = {
    "view": lambda x, g: x * g.view(1, -1, 1, 1),
    "reshape": lambda x, g: x * g.reshape(-1, 1, 1),
    "unsqueeze": lambda x, g: x * g.unsqueeze(-1).unsqueeze(-1),
    "None": lambda x, g: x * g[None, :, None, None],
    "ellipsis": lambda x, g: g[:, None, None] * x,
    "torch.mul": lambda x, g: torch.mul(x, g.view(1, -1, 1, 1)),
    "multiply": lambda x, g: torch.multiply(g.view(1, -1, 1, 1), x),
    "mul": lambda x, g: x.mul(g.view(1, -1, 1, 1)),
    "mul_": lambda x, g: x.mul_(g.view(1, -1, 1, 1)),
    "permute": lambda x, g: (x.permute(0, 2, 3, 1) * g).permute(0, 3, 1, 2),
    "transpose": lambda x, g: (x.transpose(1, 3) * g).transpose(1, 3),
    "expand": lambda x, g: x * g.view(1, -1, 1, 1).expand_as(x),
}


@pytest.mark.parametrize("way", WAYS)
def test_layer_scales_are_folded_or_listed(way):
    model = Scaled(WAYS[way]).eval()
    fused = fuse(model, IMAGE)
    same(fused, model)
    folded = any(row.kind == "layer scale" for row in fused.folded)
    listed = any(row.path == "gamma" for row in fused.left)
    assert folded != listed


# --- libraries


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["regnet_x", "regnet_y"])
def test_torchvisions_regnets_fold(kind):
    import torchvision

    for name in torchvision.models.list_models(include=f"{kind}_*"):
        if name.endswith(("400mf", "800mf", "1_6gf", "3_2gf")):
            model = torchvision.models.get_model(name).eval()
            assert norms(fuse(model, torch.zeros(1, 3, 64, 64)).model) == 0, name
