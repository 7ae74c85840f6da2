"""Copies of a network: what is copied, what is shared, what is put back."""

from __future__ import annotations

import collections
import functools
import math
import threading
import types

import pytest
import torch
from torch import Tensor, nn

from fleetfoot.copying import Kept, copied, evaluated_, in_float64


class Holding(nn.Module):
    """A linear layer, and anything that somebody keeps beside it."""

    def __init__(self, held=None) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.held = held

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)


class Settings:
    """An object that somebody keeps, with what cannot be copied inside."""

    def __init__(self) -> None:
        self.maths = math
        self.widths = [1, 2]


class Stubborn:
    def __deepcopy__(self, memo):
        raise RuntimeError("no copies")


def _open_file():
    return open(__file__)


HELD = {
    "module": lambda: math,
    "lock": threading.Lock,
    "condition": threading.Condition,
    "file": _open_file,
    "generator": lambda: (i for i in range(3)),
    "iterator in a dict": lambda: {"a": [{"b": (i for i in range(3))}]},
    "settings": Settings,
    "namespace with a module": lambda: types.SimpleNamespace(cfg=types.SimpleNamespace(np=math)),
    "partial of a lock": lambda: functools.partial(print, threading.Lock()),
    "refuses": Stubborn,
    "local": threading.local,
    "event in a tuple": lambda: (threading.Event(), 3),
}


@pytest.mark.parametrize("make", HELD.values(), ids=HELD)
def test_what_cannot_be_copied_is_shared_and_the_rest_is_not(make):
    model = Holding(make())
    made = copied(model)

    with torch.no_grad():
        made.layer.weight.zero_()
    assert bool(model.layer.weight.any())
    assert made.layer.weight is not model.layer.weight
    assert type(made.held) is type(model.held)
    if hasattr(model.held, "close"):
        model.held.close()


def test_an_object_around_what_cannot_be_copied_is_itself_copied():
    model = Holding(Settings())
    made = copied(model)

    assert made.held is not model.held
    assert made.held.maths is math
    made.held.widths.append(3)
    assert model.held.widths == [1, 2]


def test_a_method_kept_beside_a_lock_is_the_copys_own():
    model = Holding([threading.Lock()])
    model.again = model.forward
    made = copied(model)
    assert made.again.__self__ is made


def test_tensors_held_twice_stay_one_and_histories_are_left_out():
    model = Holding(threading.Lock())
    model.tied = nn.Linear(3, 3)
    model.tied.weight = model.layer.weight
    model.kept = {"y": model(torch.ones(1, 3))}  # it carries a gradient's history
    made = copied(model)
    assert made.tied.weight is made.layer.weight
    torch.testing.assert_close(made.kept["y"], model.kept["y"].detach())


def test_a_network_that_refuses_to_be_copied_says_why():
    class Refusing(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("one of a kind")

    with pytest.raises(ValueError, match=r"Sequential cannot be copied: .*one of a kind"):
        copied(nn.Sequential(Refusing(3, 3)))


class Silent(nn.Sequential):
    def train(self, mode: bool = True) -> None:
        super().train(mode)


class WithoutMode(nn.Sequential):
    def train(self) -> None:
        for module in self:
            module.train()


@pytest.mark.parametrize("kind", [nn.Sequential, Silent, WithoutMode])
def test_eval_mode_does_not_rest_on_what_train_returns(kind):
    model = kind(nn.Dropout(), kind(nn.BatchNorm1d(3)))
    assert evaluated_(model) is model
    assert not any(module.training for module in model.modules())


def test_float64_takes_what_modules_keep_along():
    model = Holding({"cpu": [torch.eye(3), (torch.ones(3), "name")]})
    model.grid = torch.eye(3)
    model.steps = torch.arange(3)
    made = in_float64(model)

    assert made.grid.dtype is made.held["cpu"][0].dtype is made.held["cpu"][1][0].dtype
    assert made.grid.dtype is torch.float64
    assert made.steps.dtype is torch.int64
    assert model.grid.dtype is model.held["cpu"][0].dtype is torch.float32


class Table:
    def __init__(self) -> None:
        self.rows = {}


FILE_TABLE: dict = {}


class Filling(nn.Module):
    """Keeps something of each call in every place that a forward can write to."""

    class_table: dict = {}  # noqa: RUF012, this is what is tested

    def __init__(self) -> None:
        super().__init__()
        self.plain = {}
        self.nested = {"a": [1], "by": collections.defaultdict(list)}
        self.queue = collections.deque([0], maxlen=3)
        self.names = {"a"}
        self.table = Table()
        self.inside = ([],)
        self.register_buffer("count", torch.zeros(()))
        self.memory = torch.zeros(2)

    def forward(self, x: Tensor) -> Tensor:
        self.plain[str(x.dtype)] = x
        self.nested["by"]["x"].append(x)
        self.nested["a"][0] = 2
        self.queue.append(1)
        self.names.add("b")
        self.table.rows["x"] = x
        self.inside[0].append(x)
        self.count += 1
        self.memory[0] = 5
        self.later = x
        type(self).class_table["x"] = x
        FILE_TABLE["x"] = x
        return x


def test_all_that_a_run_keeps_is_put_back():
    model = nn.Sequential(Filling())
    (filling,) = model
    places = filling.plain, filling.nested, filling.table.rows
    kept = Kept(model)
    model(torch.ones(2))
    kept.restore_()

    assert (filling.plain, filling.nested["a"], filling.nested["by"]) == ({}, [1], {})
    assert (list(filling.queue), filling.names, filling.table.rows) == ([0], {"a"}, {})
    assert filling.inside == ([],)
    assert (float(filling.count), filling.memory.tolist()) == (0.0, [0.0, 0.0])
    assert not hasattr(filling, "later")
    assert Filling.class_table == FILE_TABLE == {}
    assert places[0] is filling.plain
    assert places[1] is filling.nested
    assert places[2] is filling.table.rows


def test_attributes_that_are_no_tensors_of_a_run_stay_in_a_files_tables():
    model = nn.Sequential(Filling())
    kept = Kept(model)
    FILE_TABLE["name"] = "somebody registered it meanwhile"
    try:
        kept.restore_()
        assert FILE_TABLE == {"name": "somebody registered it meanwhile"}
    finally:
        FILE_TABLE.clear()


def test_containers_that_hold_themselves_are_walked_once():
    model = Holding([threading.Lock()])
    model.held.append(model.held)
    Kept(model).restore_()
    made = copied(model)
    assert made.held is not model.held
    assert made.held[1] is made.held
