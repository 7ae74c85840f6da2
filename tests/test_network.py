"""A workload from every form of name, with its inputs, and what each mistake answers."""

from __future__ import annotations

import doctest
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fleetfoot.errors import EngineError, FactoryError, KeyMismatchError, UnknownNameError
from fleetfoot.models import create_model
from fleetfoot.network import (
    Workload,
    create,
    facts,
    is_file,
    is_weights,
    native_size,
    parse_inputs,
    parse_size,
    resolve,
    sizes,
    stated_size,
    user,
    workload,
)
from fleetfoot.network.user import place_of
from fleetfoot.network.workload import named_tensors
from fleetfoot.weights.files import write

TEXT = """
from __future__ import annotations
from dataclasses import dataclass
from torch import nn
import neighbour

print("loading")

@dataclass
class Config:
    width: int = 4

class Net(nn.Linear):
    def __init__(self, config: Config = Config()):
        super().__init__(config.width, neighbour.OUT)

def build():
    print("building")
    return Net()

def asks(width, *rest, depth=2, **more):
    return nn.Linear(width, depth)

def raises():
    raise KeyError("weights")

def ends():
    raise SystemExit(0)

def answers_with_text():
    return "net"

class Late(nn.Module):
    def forward(self, x):
        import only_when_it_runs
        print("running")
        return x * only_when_it_runs.FACTOR

class Fails(nn.Module):
    def forward(self, x):
        return x.no_such_method()

ready = nn.Identity()
number = 3
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "neighbour.py").write_text("OUT = 5\n")
    (tmp_path / "only_when_it_runs.py").write_text("FACTOR = 3\n")
    path = tmp_path / "mine.py"
    path.write_text(TEXT)
    before = list(sys.path)
    yield path
    sys.path[:] = before
    for name in ("neighbour", "only_when_it_runs"):
        sys.modules.pop(name, None)


def shapes(workload: Workload) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in workload.inputs.items()}


@pytest.mark.parametrize("factory", ["build", "Net"])
def test_a_function_and_a_class_give_a_network(file, factory):
    before = list(sys.path)

    made = create(f"{file}:{factory}")

    assert isinstance(made, nn.Linear)
    assert made.out_features == 5
    assert sys.path[: len(before)] == before  # at the end, where it hides no other package
    assert set(sys.path[len(before) :]) == {str(file.parent)}


def test_a_module_that_is_there_is_taken(file):
    assert isinstance(resolve(f"{file}:ready").module, nn.Identity)


def test_a_factory_takes_literals(file):
    assert create(f"{file}:asks(3, depth=7)").weight.shape == (7, 3)
    assert create(f"{file}:Net()").out_features == 5


def test_what_a_file_prints_goes_to_stderr(file, capsys):
    made = resolve(f"{file}:build")
    late = resolve(f"{file}:Late", size=2)
    assert late.outputs

    said = capsys.readouterr()
    assert said.out == ""
    assert made.name == f"{file}:build"
    assert [said.err.count(word) for word in ("loading", "building")] == [2, 1]
    assert "running" in said.err


def test_a_forward_imports_its_neighbour_when_it_runs(file):
    made = resolve(f"{file}:Late", size=2).with_noise()
    sys.modules.pop("only_when_it_runs", None)

    torch.testing.assert_close(made.outputs["output"], 3 * made.inputs["x"])


def test_a_file_in_a_package_imports_its_parts(tmp_path):
    package = tmp_path / "nets_of_a_test" / "inner"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").write_text("")
    (package / "__init__.py").write_text("")
    (package.parent / "part.py").write_text("WIDTH = 6\n")
    (package / "net.py").write_text(
        "from torch import nn\nfrom ..part import WIDTH\n"
        "from nets_of_a_test.part import WIDTH as SAME\n"
        "def build():\n    return nn.Conv2d(3, WIDTH, 1)\n"
    )
    assert create(f"{package / 'net.py'}:build").out_channels == 6

    other = tmp_path / "elsewhere" / "nets_of_a_test"  # another repository with the same name
    other.mkdir(parents=True)
    (other / "__init__.py").write_text("")
    (other / "net.py").write_text("from torch import nn\ndef build():\n    return nn.ReLU()\n")
    assert isinstance(create(f"{other / 'net.py'}:build"), nn.ReLU)


def test_the_kinds_of_names():
    assert not is_file("timm:resnet18")
    assert is_file("a/b.py:build")
    assert is_file("a/b.py:Net(path='c.py:d')")
    assert not is_weights("mobilenetv2_010")
    assert is_weights("runs/best.pth")


def test_a_network_of_the_zoo_has_its_facts():
    made = resolve("mobilenetv2_100")

    assert type(made.module).__name__ == "MobileNetV2"
    assert not made.module.training
    assert shapes(made) == {"x": (1, 3, 224, 224)}
    assert (made.facts.family, made.facts.task) == ("mobilenet_v2", "classify")
    assert made.facts.top1 == pytest.approx(72.97, abs=2)
    assert "at 224 pixels" in resolve("mobilenetv2_100", size="96x64").facts.top1_source
    assert made.facts.preprocessing is made.module.pretrained_cfg


def test_weights_follow_from_the_seed_and_nothing_else_does():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    made = [resolve("mobilenetv2_010", seed=seed) for seed in (0, 0, 1)]

    assert torch.equal(torch.rand(1), expected)
    first, same, other = (next(one.module.parameters()) for one in made)
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


def test_a_peer_of_a_fixed_size_gets_it():
    made = resolve("timm:vit_tiny_patch16_384")

    assert shapes(made) == {"x": (1, 3, 384, 384)}
    assert stated_size(made.module) == native_size("timm:vit_tiny_patch16_384") == 384
    assert made.preprocess().size == 384


def test_a_video_network_gets_a_clip():
    made = resolve("torchvision:r3d_18")
    assert shapes(made) == {"x": (1, 3, 16, 112, 112)}


def test_a_file_of_weights_says_its_network(tmp_path):
    path = tmp_path / "some.safetensors"
    given = create_model("mobilenetv2_010", num_classes=7)
    write(path, given.state_dict())

    made = resolve(str(path))

    assert made.outputs["output"].shape == (1, 7)
    assert torch.equal(next(made.module.parameters()), next(given.parameters()))
    assert (made.facts.family, made.facts.top1) == ("mobilenet_v2", None)


def test_a_file_of_no_known_network_says_what_to_type(tmp_path):
    path = tmp_path / "some.safetensors"
    write(path, nn.Linear(2, 2).state_dict())
    with pytest.raises(KeyMismatchError, match=r"fits no network .* path\.py:factory --weights "):
        resolve(str(path))
    with pytest.raises(UnknownNameError, match="unknown model 'nets/none'"):
        resolve("nets/none")


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        (nn.Conv2d(1, 4, 3), (1, 224, 224)),
        (nn.Conv2d(4, 4, 3), (4, 224, 224)),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 4, 3)), (3, 224, 224)),
        (nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4, 4, 3)), (1, 224, 224)),
        (nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), (1, 28, 28)),
        (nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), (3, 32, 32)),
        (nn.Linear(17, 10), (17,)),
        (nn.Conv1d(5, 4, 3), (5, 256)),
        (nn.Conv3d(2, 4, 3), (2, 16, 224, 224)),
        (nn.ReLU(), (3, 224, 224)),
    ],
)
def test_the_first_layer_says_what_it_takes(first, expected):
    assert shapes(Workload.of("net", first)) == {"input": (1, *expected)} or shapes(
        Workload.of("net", first)
    ) == {"x": (1, *expected)}


def test_the_first_layer_is_the_one_that_sees_the_input():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.last = nn.Conv2d(8, 2, 1)  # stands first, runs last
            self.stem = nn.Conv2d(1, 8, 1)

        def forward(self, x):
            return self.last(self.stem(x))

    assert shapes(Workload.of("net", Net(), size="6x4")) == {"x": (1, 1, 6, 4)}
    assert not any(module._forward_pre_hooks for module in Net().modules())


@pytest.mark.parametrize("asks", ["for five dimensions", "for a film of one frame"])
def test_a_network_of_films_takes_a_film(asks):
    class Films(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Conv3d(3, 4, 1)

        def forward(self, x):
            if asks == "for five dimensions":
                _, _, depth, _, _ = x.shape
                assert depth > 1
            return self.stem(x if x.ndim == 5 else x.unsqueeze(2))

    assert shapes(Workload.of("net", Films(), size="8x6")) == {"x": (1, 3, 16, 8, 6)}


class Two(nn.Module):
    def forward(self, x, scale=2, *, mask=None):
        return {"sum": x * scale, "parts": [x, x]}


class Needs(nn.Module):
    def forward(self, x, factor=3, other=None):
        return x * factor + other

    def train(self, mode=True):  # as OpenMMLab writes it: it gives nothing
        super().train(mode)


def test_a_second_input_is_asked_for_and_taken():
    class Both(nn.Module):
        def forward(self, image, mask):
            return image * mask

    with pytest.raises(ValueError, match=r"takes mask; .*--inputs image=1x3x8x8:float32,mask=1x3x"):
        Workload.of("net", Both(), size=8)

    made = Workload.of("net", Both(), inputs="mask=1x1x8x8:bool,image=1x3x8x8")
    assert list(shapes(made)) == ["image", "mask"]
    assert made.inputs["mask"].dtype == torch.bool
    assert made.outputs["output"].shape == (1, 3, 8, 8)
    with pytest.raises(EngineError, match=r"native runs networks of one input .*mask \(1, 1, 8, 8"):
        made.image("native")
    with pytest.raises(ValueError, match="net has no input images; it takes image, mask"):
        Workload.of("net", Both(), inputs="images=1x3x8x8")


def test_a_default_stands_between_two_inputs():
    made = Workload.of("net", Needs(), inputs={"other": torch.ones(2), "x": torch.ones(2)})

    assert made.arguments[1] == 3
    assert made.outputs["output"].tolist() == [4.0, 4.0]
    assert not made.module.training


def test_outputs_have_the_names_of_their_places():
    assert list(Workload.of("net", Two(), size=4).outputs) == ["sum", "parts.0", "parts.1"]
    assert list(named_tensors((torch.ones(1),))) == ["0"]


@pytest.mark.parametrize(
    ("text", "size"), [("256", 256), ("256x192", (256, 192)), ("64X64", 64), ((8, 4), (8, 4))]
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "12x", "1x2x3", "-4", "a", "4x0"])
def test_no_sizes(text):
    with pytest.raises(ValueError, match=r"size must be (256 or 256x192|1 pixel or more)"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "x", "1x3x8x8", "x=", "x=1xa", "x=1x2,x=1x2", "x=1x-2"])
def test_no_inputs(text):
    with pytest.raises(ValueError, match="inputs are written name=shape:type"):
        parse_inputs(text)
    with pytest.raises(ValueError, match="'Tensor' is not a tensor type"):
        parse_inputs("x=1x2:Tensor")


def test_inputs_state_whole_shapes():
    with pytest.raises(ValueError, match="give no size, channels or batch with them"):
        Workload.of("net", Two(), inputs="x=1x2", size=4)


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (":asks", r"needs width; name a factory that needs no arguments.*:asks\(width=\.\.\.\)"),
        (":asks(depth=2)", r"cannot be called: missing a required argument: 'width'"),
        (":asks(open('x'))", r"is not a factory; write a name, or a call with literals only"),
        (":asks(**{'width': 3})", r"is not a factory; write a name, or a call with literals only"),
        (":raises", r"raises raised KeyError: 'weights' \(mine.py, line \d+: raise KeyError"),
        (":ends", r"ends raised SystemExit: 0 \(mine.py"),
        (":answers_with_text", r"returned a str; it must return an nn.Module"),
        (":number", r"is a int; name a function or a class"),
        ("", r"names no factory; write .*mine.py:FACTORY, for example .*mine.py:Fails"),
    ],
)
def test_a_factory_that_gives_no_network_is_an_error(file, factory, message):
    with pytest.raises(FactoryError, match=message):
        create(f"{file}{factory}")


def test_an_error_of_a_forward_has_its_line(file):
    made = resolve(f"{file}:Fails", size=2)
    with pytest.raises(AttributeError) as raised:
        _ = made.outputs
    assert place_of(raised.value).endswith(": return x.no_such_method())")
    assert place_of(ValueError("of another place")) == ""


def test_an_unknown_factory_suggests(file):
    with pytest.raises(UnknownNameError, match="did you mean 'build'"):
        create(f"{file}:biuld")


def test_a_missing_file_is_named():
    with pytest.raises(FactoryError, match=r"there is no file \S*absent.py"):
        create("absent.py:build")


@pytest.mark.parametrize("text", ["import nothing_of_that_name", "def f(:", "raise SystemExit(3)"])
def test_a_file_that_does_not_import_says_why(tmp_path, text):
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(FactoryError, match=rf"bad\.py cannot be imported: .*line 1: {text[:5]}"):
        create(f"{tmp_path / 'bad.py'}:build")


def test_options_and_published_weights_are_not_a_users_files(file):
    with pytest.raises(ValueError, match=r"takes its options as arguments: .*build\(depth=2\)"):
        resolve(f"{file}:build", options={"depth": 2})
    with pytest.raises(ValueError, match="nobody published weights"):
        resolve(f"{file}:build", pretrained=True)


@pytest.mark.parametrize("module", [sizes, user, workload, facts])
def test_the_examples_of_docstrings_hold(module):
    found = doctest.testmod(module)
    assert found.attempted
    assert not found.failed


@pytest.mark.parametrize(
    ("stated", "size"),
    [(96, 96), ((3, 112, 96), (112, 96)), ([64], 64), ((48, 48), 48), (True, None), ("x", None)],
)
@pytest.mark.parametrize("place", ["pretrained_cfg", "config"])
def test_a_stated_size_may_be_one_number(place, stated, size):
    for cfg in ({"input_size": stated}, SimpleNamespace(input_size=stated)):
        module = nn.Conv2d(3, 4, 1)
        setattr(module, place, cfg)
        assert stated_size(module) == size
