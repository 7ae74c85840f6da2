"""The modules of nodes in ONNX graphs: in an exported graph, and in ONNX Runtime's own graph, whose
nodes hold nodes of the exported one.

Torch's exporter stores the path of modules with every node. ONNX Runtime drops the paths, fuses
nodes and names the results after their output values, with suffixes for its blocked layouts. So its
graph is matched with the exported one by values: a node holds everything between its inputs and its
outputs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from itertools import takewhile
from typing import Any

SCOPES = "pkg.torch.onnx.name_scopes"
BLOCKED = "com.microsoft.nchwc"
"""Domain of ONNX Runtime's operators on maps in blocks of channels."""
MAIN = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Attention", "LSTM", "GRU")
"""Operators that decide the first module of a node that holds several."""
MOVES = ("ReorderInput", "ReorderOutput", "Transpose", "Reshape", "Cast", "Identity")
"""Operators that ONNX Runtime inserts between nodes."""


def module_paths(graph: Any) -> dict[str, str]:
    """Path of each node's module, by the node's name and by the names of its output values.

    A node that the exporter's optimiser made, for example a split, has no path: it gets the module
    that contains all of its readers. Without readers it is left out.
    """
    found: dict[str, str] = {}
    readers: dict[str, list[str]] = {}
    """Paths of the modules that read a value, by the value's name."""
    for node in reversed(graph.node):
        notes = {note.key: note.value for note in node.metadata_props}
        behind = [path for value in node.output for path in readers.get(value, [])]
        if SCOPES in notes:
            *modules, _ = ast.literal_eval(notes[SCOPES])  # the last is the operator's own
            path = str(modules[-1]) if modules else ""
        elif behind:
            path = _common(behind)
        else:
            continue
        found |= {name: path for name in (*node.output, node.name)}
        for value in node.input:
            readers.setdefault(value, []).append(path)
    return found


def _common(paths: list[str]) -> str:
    """Path of the innermost module that contains all of ``paths``."""
    levels = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels))


def main_first(nodes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Paths of ``nodes``, each (kind, path), without repetition; the main operator's is first."""
    ordered = sorted(nodes, key=lambda node: node[0] not in MAIN)
    return tuple(dict.fromkeys(path for _, path in ordered))


class RuntimeGraph:
    """The modules of each node of ONNX Runtime's ``optimised`` graph of ``exported``."""

    def __init__(self, exported: Any, optimised: Any) -> None:
        self._paths = module_paths(exported)
        self._makers = {value: node for node in exported.node for value in node.output}
        self._named = {node.name: node for node in exported.node}
        self._readers: dict[str, list[Any]] = {}
        for node in exported.node:
            for value in node.input:
                self._readers.setdefault(value, []).append(node)
        self._same: dict[str, str] = {}
        """Name in the exported graph of a value that has another name in the optimised graph."""
        self._taken: set[str] = set()
        self._modules: dict[str, tuple[str, ...]] = {}
        for node in optimised.node:
            self._modules[node.name] = self._of(node)

    def modules(self, name: str) -> tuple[str, ...]:
        """Paths of the modules of a node in the optimised graph, by its name; empty if unknown."""
        return self._modules.get(name, ())

    def _of(self, node: Any) -> tuple[str, ...]:
        inputs = [self._known(value) for value in node.input if value]
        given = self._given(node, inputs)
        if given is None:
            return ()
        for value in node.output:
            self._same[value] = given
        held = self._between(given, set(inputs))
        if held:
            self._taken.update(part.name for part in held)
            return main_first(
                (part.op_type, self._paths[part.name]) for part in held if part.name in self._paths
            )
        maker = self._makers.get(given)  # it moves a value that another node made
        if maker is None or maker.name not in self._paths:
            return ()
        return (self._paths[maker.name],)

    def _known(self, value: str) -> str:
        return self._same.get(value, value)

    def _given(self, node: Any, inputs: list[str]) -> str | None:
        """Name in the exported graph of the node's output."""
        for value in node.output:
            if value in self._makers:
                return str(value)
        blocked = node.domain == BLOCKED
        if blocked and node.name.endswith("_nchwc"):
            given = node.name.removesuffix("_nchwc")
            if given in self._makers:
                return self._behind(node, given)
        base, _, fusion = node.name.partition("/")  # for example "node_MatMul_7/MatMulAddFusion"
        if base in self._named and (fusion or self._named[base].op_type == node.op_type):
            given = str(self._named[base].output[0])
            return self._through(given, "Add") if fusion == "MatMulAddFusion" else given
        if node.op_type in MOVES and inputs:
            return inputs[0]
        return None

    def _behind(self, node: Any, given: str) -> str:
        """The final output of a blocked convolution: it may add its fourth input and apply an
        activation after that, but keeps the name of its earlier output."""
        if len(node.input) > 3 and node.input[3]:
            given = self._through(given, "Add")
        for attribute in node.attribute:
            if attribute.name == "activation":
                given = self._through(given, attribute.s.decode())
        return given

    def _through(self, value: str, kind: str) -> str:
        """The output of the value's only reader if that is of the given kind."""
        readers = self._readers.get(value, [])
        if len(readers) == 1 and readers[0].op_type == kind:
            return str(readers[0].output[0])
        return value

    def _between(self, given: str, inputs: set[str]) -> list[Any]:
        """The exported nodes between ``inputs`` and ``given``, without those that another node
        holds."""
        held: dict[str, Any] = {}
        waiting, seen = [given], set(inputs)
        while waiting:
            value = waiting.pop()
            maker = self._makers.get(value)
            if value in seen or maker is None:
                continue
            seen.add(value)
            if maker.name in self._taken:
                continue
            held[maker.name] = maker
            waiting.extend(maker.input)
        return list(held.values())
