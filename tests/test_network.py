"""A user's own network by file and factory: what is taken, and what each mistake answers."""

from __future__ import annotations

import sys

import pytest
from torch import nn

from fleetfoot.errors import FactoryError, UnknownNameError
from fleetfoot.network import create, is_file, network

TEXT = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn
import neighbour

@dataclass
class Config:
    width: int = 4

class Net(nn.Linear):
    def __init__(self, config: Config = Config()):
        super().__init__(config.width, neighbour.OUT)

def build():
    return Net()

def asks(width, *rest, depth=2, **more):
    return nn.Identity()

def raises():
    raise KeyError("weights")

def answers_with_text():
    return "net"

ready = nn.Identity()
number = 3
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "neighbour.py").write_text("OUT = 5\n")
    path = tmp_path / "mine.py"
    path.write_text(TEXT)
    yield path
    sys.modules.pop("neighbour", None)


@pytest.mark.parametrize("factory", ["build", "Net"])
def test_a_function_and_a_class_give_a_network(file, factory):
    before = list(sys.path)

    made = create(f"{file}:{factory}")

    assert isinstance(made, nn.Linear)
    assert made.out_features == 5
    assert sys.path == before


def test_a_module_that_is_there_is_taken(file):
    assert isinstance(network(f"{file}:ready"), nn.Identity)


def test_other_names_are_the_catalogues():
    assert not is_file("timm:resnet18")
    assert is_file("a/b.py:build")
    assert type(network("mobilenetv2_010")).__name__ == "MobileNetV2"


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (":asks", r"asks asks for width; name a factory that needs no arguments"),
        (":raises", r"raises raised KeyError: 'weights'"),
        (":answers_with_text", r"gave a str, not an nn.Module"),
        (":number", r"is a int; name a function or a class"),
        ("", r"names no factory; write .*mine.py:FACTORY"),
    ],
)
def test_a_factory_that_gives_no_network_is_an_error(file, factory, message):
    with pytest.raises(FactoryError, match=message):
        create(f"{file}{factory}")


def test_an_unknown_factory_suggests(file):
    with pytest.raises(UnknownNameError, match="did you mean 'build'"):
        create(f"{file}:biuld")


def test_a_missing_file_is_named():
    with pytest.raises(FactoryError, match=r"absent.py is not a file here"):
        create("absent.py:build")


@pytest.mark.parametrize("text", ["import nothing_of_that_name", "def f(:", "raise SystemExit(3)"])
def test_a_file_that_does_not_import_says_why(tmp_path, text):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(FactoryError, match=r"bad\.py does not import: "):
        create(f"{tmp_path / 'bad.py'}:build")
