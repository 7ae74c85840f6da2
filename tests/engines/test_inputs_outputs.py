"""Several inputs and outputs, of any shape and nested in any way, on every engine that can."""

from __future__ import annotations

import math
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import torch
from torch import nn

from fleetfoot import runtime
from fleetfoot.engines import TOLERANCES, available, load, relative_error
from fleetfoot.engines.native import save_plan
from fleetfoot.errors import EngineError

ENGINES = ["eager", "onnxruntime", "openvino", "ncnn", "native"]
Pair = namedtuple("Pair", ["low", "high"])


def needs(engine: str) -> None:
    reason = available()[engine]
    if reason is not None:
        pytest.skip(reason)


class Two(nn.Module):
    """A picture and a row of numbers -> whatever ``answer`` makes of a map and a row."""

    def __init__(self, answer) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(5, 4)
        self.answer = answer

    def forward(self, image, vector, scale=None):
        row = self.linear(vector)
        found = self.conv(image) + row[:, :, None, None]
        return self.answer(found if scale is None else found * scale, row)


def as_dict(found, row):
    return {"map": found, "row": row}


def as_nested(found, row):
    return OrderedDict(out=found, more=[row, (found.relu(), {"deep": row.relu()})])


def as_tuple_of_one(found, row):
    return (found,)


def as_named(found, row):
    return Pair(low=row, high=found)


GENERATOR = torch.Generator().manual_seed(1)
IMAGE, VECTOR = torch.randn(2, 3, 8, 8, generator=GENERATOR), torch.randn(2, 5, generator=GENERATOR)
NAMED = {"vector": VECTOR, "image": IMAGE}  # not in the order of the parameters


def answer_of(model, *inputs):
    with torch.inference_mode():
        return model(*inputs)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("answer", [as_dict, as_nested, as_tuple_of_one, as_named])
def test_two_inputs_and_the_same_nest_as_eagers(engine, answer):
    needs(engine)
    model = Two(answer).eval()
    expected = answer_of(model, IMAGE, VECTOR)
    with load(engine, model, example=NAMED) as built:
        found = built.run(NAMED)
        assert type(found) is type(expected)
        assert relative_error(found, expected) < TOLERANCES["float32"]
        assert relative_error(built.run([IMAGE, VECTOR]), found) == 0
        other = built.run((IMAGE.flip(0), VECTOR.flip(0)))  # nothing of the example is left
    wanted = answer_of(model, IMAGE.flip(0), VECTOR.flip(0))
    assert relative_error(other, wanted) < TOLERANCES["float32"]


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino", "native"])
def test_inputs_of_other_ranks(engine):
    needs(engine)

    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(6, 4), nn.Linear(3, 4)

        def forward(self, x, rows):
            return self.first(x), self.second(rows)  # (B, N), (B, T, N)

    model = Rows().eval()
    inputs = (torch.randn(2, 6), torch.randn(2, 7, 3))
    with load(engine, model, example=inputs) as built:
        expected = answer_of(model, *inputs)
        assert relative_error(built.run(inputs), expected) < TOLERANCES["float32"]


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino"])
def test_whole_numbers_are_inputs_where_the_engine_can(engine):
    needs(engine)

    class Looked(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(9, 4)

        def forward(self, places, x):
            return self.table(places) + x[:, None]

    places = torch.tensor([[1, 8, 0], [3, 3, 2]])
    inputs = (places, torch.randn(2, 4))
    model = Looked().eval()
    with load(engine, model, example=inputs) as built:
        found = built.run(inputs)
        assert relative_error(found, answer_of(model, *inputs)) < TOLERANCES["float32"]
        with pytest.raises(ValueError, match="input 'places' must be int64 on the CPU, not int32"):
            built.run((places.int(), inputs[1]))
    for other in ("native", "ncnn"):
        needs(other)
        with pytest.raises(EngineError, match=f"{other} takes float32 inputs"):
            load(other, model, example=inputs)


@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino", "native"])
def test_an_input_by_name_after_one_that_keeps_its_default(engine):
    needs(engine)

    class Gap(nn.Module):
        def forward(self, image, mode=None, gain=None):
            assert mode is None
            return image.relu() * gain

    inputs = {"gain": torch.rand(2, 1, 8, 8), "image": IMAGE}
    with load(engine, Gap().eval(), example=inputs) as built:
        assert built.inputs.names == ("image", "gain")
        expected = IMAGE.relu() * inputs["gain"]
        assert relative_error(built.run(inputs), expected) < TOLERANCES["float32"]


def test_what_a_run_is_given_is_checked_by_name():
    with load("eager", Two(as_dict).eval(), example=NAMED) as built:
        with pytest.raises(ValueError, match="takes image, vector, not image"):
            built.run({"image": IMAGE})
        with pytest.raises(ValueError, match=r"takes 2 inputs \(image, vector\), not 1"):
            built.run(IMAGE)
        with pytest.raises(ValueError, match=r"input 'vector' has shape \(2, 4\).*for \(2, 5\)"):
            built.run((IMAGE, VECTOR[:, :4]))
        with pytest.raises(ValueError, match="input 'vector' must be a tensor, not a float"):
            built.run((IMAGE, 0.5))


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ([], "example holds no tensor"),
        ([IMAGE, 3], "'vector' is a int"),
        ({"picture": IMAGE}, "example gives picture to Two: .*'image'"),
        ([IMAGE, torch.empty(0, 5)], r"'vector' has shape \(0, 5\) on cpu"),
        ([IMAGE.to("meta"), VECTOR], r"'image' has shape .* on meta"),
    ],
)
def test_an_example_that_no_network_could_run_is_refused(example, message):
    with pytest.raises(ValueError, match=message):
        load("eager", Two(as_dict).eval(), example=example)


def test_what_the_native_engine_cannot_take_is_said_when_it_is_built():
    needs("native")
    with pytest.raises(EngineError, match=r"share no first dimension .* vector \(1, 5\)"):
        load("native", Two(as_dict).eval(), example=(IMAGE, VECTOR[:1]))

    class Spectrum(nn.Module):
        def forward(self, x):
            return torch.fft.rfft2(x).abs()

    with pytest.raises(EngineError, match="fft_rfft2"):
        load("native", Spectrum().eval(), example=torch.randn(1, 3, 4, 6))


@pytest.mark.parametrize("engine", ["onnxruntime", "native", "ncnn"])
def test_an_output_that_is_no_tensor_is_refused(engine):
    needs(engine)
    with pytest.raises(EngineError, match="whose outputs are tensors; Two also returns 3"):
        load(engine, Two(lambda found, row: (found, 3)).eval(), example=NAMED)


@pytest.mark.parametrize("answer", [as_dict, as_nested, as_tuple_of_one, as_named])
def test_a_plan_keeps_names_and_nest_without_torch(answer, tmp_path):
    needs("native")
    model = Two(answer).eval()
    save_plan(model, NAMED, tmp_path / "two.plan")
    expected = answer_of(model, IMAGE, VECTOR)
    with runtime.Plan.load(tmp_path / "two.plan") as plan, plan.context() as context:
        assert plan.input_names == ("image", "vector")
        found = context.run(IMAGE.numpy(), vector=VECTOR.numpy())
        assert plan.output_names[0] == {
            "as_dict": "map", "as_nested": "out", "as_tuple_of_one": "0", "as_named": "low",
        }[answer.__name__]  # fmt: skip
        with pytest.raises(ValueError, match="inputs vector are wanted by name, not row"):
            context.run(IMAGE.numpy(), row=VECTOR.numpy())
    assert type(found).__name__ == type(expected).__name__
    flat = [torch.from_numpy(np.asarray(leaf)) for leaf in leaves(found)]
    assert relative_error(flat, leaves(expected)) < TOLERANCES["float32"]
    assert str(shape(found)) == str(shape(expected))


def leaves(nest):
    if isinstance(nest, dict):
        return [leaf for item in nest.values() for leaf in leaves(item)]
    if isinstance(nest, (list, tuple)):
        return [leaf for item in nest for leaf in leaves(item)]
    return [nest]


def shape(nest):
    """The nest without its tensors."""
    if isinstance(nest, dict):
        return type(nest).__name__, {key: shape(item) for key, item in nest.items()}
    if isinstance(nest, (list, tuple)):
        return type(nest).__name__, [shape(item) for item in nest]
    return "tensor"


def test_a_plan_of_one_input_and_one_output_is_as_it_was(tmp_path):
    needs("native")
    save_plan(nn.Conv2d(3, 2, 1).eval(), IMAGE, tmp_path / "one.plan")
    assert b'"signature"' not in (tmp_path / "one.plan").read_bytes()
    with runtime.Plan.load(tmp_path / "one.plan") as plan, plan.context() as context:
        assert (plan.input_names, plan.output_names) == ((), ())
        assert context.run(IMAGE.numpy()).shape == (2, 2, 8, 8)


def test_a_plan_whose_names_were_changed_is_refused(tmp_path):
    needs("native")
    save_plan(Two(as_dict).eval(), NAMED, tmp_path / "two.plan")
    data = (tmp_path / "two.plan").read_bytes()
    changed = data.replace(b'\\"map\\"', b'\\"mop\\"', 1)
    assert changed != data
    with pytest.raises(EngineError, match="the checksum of the signature differs"):
        runtime.Plan.from_bytes(changed)


def test_errors_of_nests_counted_by_hand():
    one, two = torch.tensor([1.0, -4.0]), torch.tensor([10.0])
    assert relative_error({"a": one, "b": (two,)}, {"a": one, "b": (two,)}) == 0
    assert relative_error({"a": one + 1, "b": two}, {"a": one, "b": two}) == 0.25
    assert relative_error([one, two + 5], [one, two]) == 0.5  # over its own largest value
    assert relative_error([one, two], (one, two)) == math.inf
    assert relative_error({"a": one}, {"b": one}) == math.inf
    assert relative_error([one, 3], [one, 3]) == 0
    assert relative_error([one, 3], [one, 4]) == math.inf
