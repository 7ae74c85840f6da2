"""The plan file: weights and graph of a compiled network, ready to be mapped into memory.

It is a safetensors file (https://github.com/huggingface/safetensors, "Format"), so any reader of
this format can read the weights. The graph is JSON text in its metadata, beside a version and a
checksum over the data and the graph, so that a damaged file is refused. ``docs/engine.md`` lists
the nodes.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fleetfoot.engines.native.arena import Memory
from fleetfoot.engines.native.graph import Graph, Node, Tensor, View
from fleetfoot.files import replacing

VERSION = 3
LINE = 64
"""Alignment in bytes of the start of the data and of each tensor."""

Checksum = Callable[[bytes, int], int]
"""A function for XXH64 of bytes with a seed."""

DTYPES = {"float32": "F32", "int32": "I32"}


def to_bytes(graph: Graph, memory: Memory, *, checksum: Checksum) -> bytes:
    """The content of the plan file.

    ``graph`` must be packed and placed (``pack.py``, ``arena.py``).

    Raises:
        ValueError: an attribute is NaN or infinite.
    """
    tensors = list(graph.tensors())
    constants = [tensor for tensor in tensors if tensor.kind == "constant"]
    header: dict[str, Any] = {}
    pieces: list[bytes] = []
    begin = 0
    for tensor in constants:
        assert tensor.data is not None
        piece = np.ascontiguousarray(tensor.data).tobytes()
        assert len(piece) % LINE == 0, f"{tensor.name} is not packed"
        assert tensor.name not in header, f"two constants are named {tensor.name}"
        header[tensor.name] = {
            "dtype": DTYPES[str(tensor.data.dtype)],
            "shape": list(tensor.data.shape),
            "data_offsets": [begin, begin + len(piece)],
        }
        pieces.append(piece)
        begin += len(piece)
    data = b"".join(pieces)
    text = graph_text(graph, memory)
    digest = checksum(text.encode(), checksum(data, 0))
    header["__metadata__"] = {
        "format": "fleetfoot-plan",
        "version": str(VERSION),
        "checksum": f"{digest:016x}",
        "graph": text,
    }
    if graph.signature:
        digest = checksum(graph.signature.encode(), 0)
        header["__metadata__"] |= {
            "signature": graph.signature,
            "signature_checksum": f"{digest:016x}",
        }
    head = _json(header).encode()
    head += b" " * (-(8 + len(head)) % LINE)
    return len(head).to_bytes(8, "little") + head + data


def write(
    graph: Graph, memory: Memory, path: str | os.PathLike[str], *, checksum: Checksum
) -> None:
    """Writes the plan to ``path`` completely, or nothing if that fails.

    Raises:
        OSError: the file cannot be written.
        ValueError: an attribute is NaN or infinite.
    """
    content = to_bytes(graph, memory, checksum=checksum)
    with replacing(Path(path)) as draft:
        draft.write_bytes(content)


def graph_text(graph: Graph, memory: Memory) -> str:
    """The graph as JSON: tensors by number, views as [tensor, offset, shape, strides].

    Raises:
        ValueError: an attribute is NaN or infinite (except a clamp's bounds and a fill's value).
    """
    number = {tensor: i for i, tensor in enumerate(graph.tensors())}
    indices = {view.tensor: i for i, view in enumerate(graph.inputs)}
    indices |= {view.tensor: i for i, view in enumerate(graph.outputs)}

    def view(v: View) -> list[Any]:
        return [number[v.tensor], v.offset, list(v.shape), list(v.strides)]

    def node(n: Node) -> dict[str, Any]:
        attributes = {key: _attribute(n, key, value) for key, value in n.attributes.items()}
        inputs = {role: view(v) for role, v in n.inputs.items()}
        record: dict[str, Any] = {
            "op": n.op,
            "name": n.name,
            "in": inputs,
            "out": view(n.out),
            "attr": attributes,
        }
        if n.nodes:
            record["nodes"] = [node(inner) for inner in n.nodes]
        return record

    return _json(
        {
            "model": graph.model,
            "arena": memory.arena,
            "rings": memory.rings,
            "tensors": [_tensor(tensor, indices) for tensor in number],
            "inputs": [view(v) for v in graph.inputs],
            "outputs": [view(v) for v in graph.outputs],
            "nodes": [node(n) for n in graph.nodes],
        }
    )


def _tensor(tensor: Tensor, indices: dict[Tensor, int]) -> dict[str, Any]:
    record: dict[str, Any] = {"kind": tensor.kind, "size": tensor.size}
    if tensor.kind != "constant" and tensor.type != "f32":  # a constant's data has a type
        record["type"] = "i32"
    if tensor.kind in ("arena", "ring"):
        record["offset"] = tensor.offset
    if tensor.kind in ("input", "output"):
        record["index"] = indices[tensor]
    if tensor.kind == "constant":
        record["name"] = tensor.name
    if tensor.kind == "ring":
        record["ring"] = tensor.ring
    return record


def _attribute(node: Node, key: str, value: Any) -> Any:
    """An attribute as JSON. A clamp's bounds and a fill's value may be infinite."""
    if isinstance(value, (list, tuple)):
        infinite = bool(value) and value[0] == "clamp"
        return [_number(node, key, item, infinite) for item in value]
    return _number(node, key, value, node.op == "fill")


def _number(node: Node, key: str, value: Any, infinite: bool) -> Any:
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, float) or math.isfinite(value):
        return value
    if infinite and not math.isnan(value):
        return "inf" if value > 0 else "-inf"
    raise ValueError(
        f"{node.op} of {node.name}: {key} is {value}; a plan holds finite numbers only"
    )


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
