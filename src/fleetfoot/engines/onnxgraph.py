"""Which module each node of an exported ONNX graph came from, and which of these nodes a node of
ONNX Runtime's own graph holds.

Torch's exporter notes the path of modules with every node. ONNX Runtime drops the note, fuses nodes
and names what it makes after the values that they gave, with suffixes for its blocked layouts; so
its graph is matched with the exported one by values: a node holds all that lies between what it
reads and what it gives.
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
"""Operators whose module a node that holds several is named after."""
MOVES = ("ReorderInput", "ReorderOutput", "Transpose", "Reshape", "Cast", "Identity")
"""What ONNX Runtime puts between nodes of its own accord."""


def module_paths(graph: Any) -> dict[str, str]:
    """Path of the module of each node, by the node's name and by those of the values that it gives.

    A node that the exporter's optimiser made anew, a split for one, has no note: it belongs to the
    module in which all of its readers lie. Without readers it is left out.
    """
    found: dict[str, str] = {}
    readers: dict[str, list[str]] = {}
    """Paths of the modules that read a value."""
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
    """Of the innermost module in which all of them lie."""
    levels = zip(*(path.split(".") for path in paths), strict=False)
    return ".".join(names[0] for names in takewhile(lambda names: len(set(names)) == 1, levels))


def main_first(nodes: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Paths of ``nodes``, each (kind, path), once and that of the main operator first."""
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
        """The exported graph's name of a value that the optimised graph calls otherwise."""
        self._taken: set[str] = set()
        self._modules: dict[str, tuple[str, ...]] = {}
        for node in optimised.node:
            self._modules[node.name] = self._of(node)

    def modules(self, name: str) -> tuple[str, ...]:
        """Of the node of that name in the optimised graph; none where that is not known."""
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
        """The exported graph's name of what the node gives."""
        for value in node.output:
            if value in self._makers:
                return str(value)
        blocked = node.domain == BLOCKED
        if blocked and node.name.endswith("_nchwc"):
            given = node.name.removesuffix("_nchwc")
            if given in self._makers:
                return self._behind(node, given)
        base, _, fusion = node.name.partition("/")  # as "node_MatMul_7/MatMulAddFusion"
        if base in self._named and (fusion or self._named[base].op_type == node.op_type):
            given = str(self._named[base].output[0])
            return self._through(given, "Add") if fusion == "MatMulAddFusion" else given
        if node.op_type in MOVES and inputs:
            return inputs[0]
        return None

    def _behind(self, node: Any, given: str) -> str:
        """A blocked convolution may add its fourth input, and have an activation behind it, and
        keeps the name of what it gave before."""
        if len(node.input) > 3 and node.input[3]:
            given = self._through(given, "Add")
        for attribute in node.attribute:
            if attribute.name == "activation":
                given = self._through(given, attribute.s.decode())
        return given

    def _through(self, value: str, kind: str) -> str:
        """What the one reader of the value gives, where it is of that kind."""
        readers = self._readers.get(value, [])
        if len(readers) == 1 and readers[0].op_type == kind:
            return str(readers[0].output[0])
        return value

    def _between(self, given: str, inputs: set[str]) -> list[Any]:
        """The exported nodes that make ``given`` of ``inputs``, those that another node holds
        left out."""
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
