"""Plans written out by hand, node by node: what the compiler makes is tested elsewhere."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fleetfoot import runtime


def plan_bytes(
    graph: dict[str, Any], constants: dict[str, np.ndarray], *, version: str = "3"
) -> bytes:
    """The file: its header ends, and each constant begins, at a multiple of 64 bytes."""
    header: dict[str, Any] = {}
    data = b""
    for name, values in constants.items():
        flat = np.zeros(-(-values.size // 16) * 16, np.float32)
        flat[: values.size] = values.ravel()
        header[name] = {
            "dtype": "F32",
            "shape": [flat.size],
            "data_offsets": [len(data), len(data) + flat.nbytes],
        }
        data += flat.tobytes()
    text = json.dumps(graph, separators=(",", ":"))
    digest = runtime.checksum(text.encode(), runtime.checksum(data))
    header["__metadata__"] = {
        "format": "fleetfoot-plan",
        "version": version,
        "checksum": f"{digest:016x}",
        "graph": text,
    }
    head = json.dumps(header).encode()
    head += b" " * (-(8 + len(head)) % 64)
    return len(head).to_bytes(8, "little") + head + data


def classifier(weight: np.ndarray, *, height: int = 4, width: int = 5, **file: Any) -> bytes:
    """The mean of relu(x) over H x W, then ``weight`` (N, 3) times it: (3, H, W) -> (N,)."""
    classes, channels = weight.shape
    packed = np.zeros((channels, 16), np.float32)  # one panel: K x 16
    packed[:, :classes] = weight.T
    space = height * width
    tensors = [
        {"kind": "input", "size": channels * space, "index": 0},
        {"kind": "arena", "size": channels * space, "offset": 0},
        {"kind": "arena", "size": channels, "offset": -(-channels * space * 4 // 64) * 64},
        {"kind": "constant", "size": packed.size, "name": "fc.weight"},
        {"kind": "output", "size": classes, "index": 0},
    ]
    dense = [channels, height, width], [space, width, 1]
    nodes = [
        {
            "op": "unary",
            "name": "act",
            "in": {"x": [0, 0, *dense]},
            "out": [1, 0, *dense],
            "attr": {"act": ["relu", 0.0, 0.0]},
        },
        {
            "op": "reduce",
            "name": "pool",
            "in": {"x": [1, 0, *dense]},
            "out": [2, 0, [channels], [1]],
            "attr": {"kind": "mean", "trailing": 2},
        },
        {
            "op": "conv",
            "name": "fc",
            "in": {
                "x": [2, 0, [1, 1, channels], [channels, channels, 1]],
                "weight": [3, 0, [packed.size], [1]],
            },
            "out": [4, 0, [1, 1, classes], [classes, classes, 1]],
            "attr": {
                "kernel": [1, 1],
                "stride": [1, 1],
                "padding": [0, 0],
                "dilation": [1, 1],
                "groups": 1,
            },
        },
    ]
    graph = {
        "model": "by_hand",
        "arena": tensors[2]["offset"] + 64,
        "rings": 0,
        "tensors": tensors,
        "inputs": [[0, 0, *dense]],
        "outputs": [[4, 0, [classes], [1]]],
        "nodes": nodes,
    }
    return plan_bytes(graph, {"fc.weight": packed}, **file)
