"""ONNX Runtime's graph matched with the exported one, on graphs written by hand as it writes
them."""

from __future__ import annotations

import pytest

onnx = pytest.importorskip("onnx")

from onnx import helper  # noqa: E402  # absent without the extra

from fleetfoot.engines.onnxgraph import (  # noqa: E402
    SCOPES,
    RuntimeGraph,
    main_first,
    module_paths,
)


def made(op: str, inputs: str, output: str, path: str | None = None, *, name: str = "", **more):
    node = helper.make_node(op, inputs.split(), [output], name=name or f"node_{output}", **more)
    if path is not None:
        scopes = ["", *([path] if path else []), output]
        node.metadata_props.add(key=SCOPES, value=repr(scopes))
    return node


def graph(*nodes):
    return helper.make_graph(nodes, "g", [], [])


EXPORTED = graph(
    made("Conv", "images w0", "c", "stem.conv"),
    made("Relu", "c", "r", "stem.act"),
    made("Conv", "r w1", "d", "block.conv"),
    made("Add", "d r", "s", "block"),
    made("HardSwish", "s", "h", "block.act"),
    made("MatMul", "h w2", "m", "fc"),
    made("Add", "m b", "linear", "fc"),
    made("Gelu", "linear", "g", "act"),
)
BLOCKED = {"domain": "com.microsoft.nchwc"}


def blocked(inputs: str, output: str, name: str, **more):
    values = [value.removeprefix("-") for value in inputs.split()]  # "-" stands for none
    return helper.make_node("Conv", values, [output], name=name, **BLOCKED, **more)


OPTIMISED = graph(
    # the activation was fused before the layout changed: the name is of what it gives
    blocked("images w", "t1", "r_nchwc", activation="Relu"),
    # sum and activation were fused after it: the name is of the convolution's own result
    blocked("t1 w - t1", "t2", "d_nchwc", activation="HardSwish"),
    helper.make_node("ReorderOutput", ["t2"], ["h"], name="ReorderOutput_token_7", **BLOCKED),
    made("Reshape", "h shape", "flat", name="gemm_input_reshape"),
    made("Gemm", "flat w2 b", "out", name="node_m/MatMulAddFusion"),
    made("Reshape", "out shape", "linear", name="gemm_output_reshape"),
    made("Gelu", "linear", "g", name="node_g"),
    made("Mystery", "g", "z", name="token_9"),
)


@pytest.mark.parametrize(
    ("node", "modules"),
    [
        ("r_nchwc", ("stem.conv", "stem.act")),
        ("d_nchwc", ("block.conv", "block.act", "block")),
        ("ReorderOutput_token_7", ("block.act",)),
        ("gemm_input_reshape", ("block.act",)),
        ("node_m/MatMulAddFusion", ("fc",)),
        ("gemm_output_reshape", ("fc",)),
        ("node_g", ("act",)),
        ("token_9", ()),
        ("in no graph", ()),
    ],
)
def test_a_node_holds_what_lies_between_what_it_reads_and_gives(node, modules):
    found = RuntimeGraph(EXPORTED, OPTIMISED).modules(node)
    assert found[:1] == modules[:1]
    assert set(found) == set(modules)


def test_a_node_without_a_note_lies_where_all_its_readers_do():
    found = module_paths(
        graph(
            made("Split", "x", "half"),
            made("Conv", "half w", "c", "stages.0.pconv.conv"),
            made("Concat", "c half", "y", "stages.0.pconv"),
            made("Mean", "y", "z", ""),
            made("Identity", "z", "answer"),
        )
    )
    assert found["node_half"] == found["half"] == "stages.0.pconv"
    assert found["node_c"] == "stages.0.pconv.conv"
    assert found["node_z"] == ""
    assert "node_answer" not in found


def test_the_main_operators_module_comes_first():
    assert main_first([("Relu", "act"), ("Conv", "conv"), ("Add", "act")]) == ("conv", "act")
    assert main_first([]) == ()
