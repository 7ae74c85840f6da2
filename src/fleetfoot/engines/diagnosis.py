"""Finding the first node at which an engine differs from eager, after its output was found wrong.

The network's exported graph is cut after a node, and the engine is built from the part before the
cut. Maps on which everything after them depends (a block's sum) are tried first, by bisection; then
the search goes back, from the first that differs, to a node that differs while all its inputs
agree. That takes about a dozen builds of parts of the network.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from fleetfoot.engines.base import Engine, Options, relative_error
from fleetfoot.engines.inputs import Inputs
from fleetfoot.errors import EngineError

LONGEST_S = 120.0
"""Time limit of the search, in seconds, after which the earliest node known to differ is its
result: some engines take a minute to build one."""


def first_difference(
    engine: Engine,
    model: nn.Module,
    weights: Mapping[str, Tensor],
    picture: Inputs,
    output: int,
    tolerance: float,
) -> str:
    """The first node at which ``engine`` differs from eager by more than ``tolerance`` on
    ``picture``: its operator and its module's path. "" if it cannot be found: the network cannot be
    exported, or no part of it differs by itself.

    Args:
        weights: values in place of the model's own, by name.
        output: which of the network's outputs differs.
    """
    from fleetfoot.engines.native.lower.lower import exported

    try:
        graph = exported(model, picture).module()
    except EngineError:
        return ""
    for name, value in weights.items():
        _replace(graph, name, value)
    search = _Search(engine, graph, picture, tolerance)
    try:
        search.run(output)
    except TimeoutError:
        pass  # the result so far is used
    return search.said()


def module_path(node: fx.Node) -> str:
    """Path of the module whose forward called the operator."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    return str(stack[-1][0]) if stack else ""


def _replace(graph: nn.Module, name: str, value: Tensor) -> None:
    path, _, attribute = name.rpartition(".")
    try:
        owner = graph.get_submodule(path)
    except AttributeError:
        return  # the network does not use it
    if attribute in owner._parameters:
        owner._parameters[attribute] = nn.Parameter(value, requires_grad=False)
    elif attribute in owner._buffers:
        owner._buffers[attribute] = value


class _Search:
    def __init__(
        self, engine: Engine, graph: fx.GraphModule, picture: Inputs, tolerance: float
    ) -> None:
        self._engine, self._graph = type(engine), graph
        self._options = Options(
            threads=engine.info.threads,
            precision=engine.info.precision,
            layout=engine.info.layout,
            device=engine.info.device,
        )
        self._picture, self._tolerance = list(picture.tensors), tolerance
        self._nodes = [node for node in graph.graph.nodes if node.op != "call_module"]  # guards
        self._known: dict[fx.Node, bool | None] = {}
        self._found: fx.Node | None = None
        self._ended = False
        self._latest = time.monotonic() + LONGEST_S

    def run(self, output: int) -> None:
        """Searches for the first node that differs.

        Raises:
            TimeoutError: the search takes too long.
        """
        (last,) = (node for node in self._nodes if node.op == "output")
        node = pytree.tree_leaves(last.args[0])[output]
        if not isinstance(node, fx.Node):
            return
        found = node if self._differs(node) else self._nearest(node)
        if found is None:
            return
        self._found = found
        cuts = [*(cut for cut in self._narrow(found) if self._may(cut)), found]
        first, last_good = len(cuts) - 1, -1
        while first - last_good > 1:
            middle = (first + last_good) // 2
            if self._differs(cuts[middle]):
                first, self._found = middle, cuts[middle]
            else:
                last_good = middle
        while (earlier := self._nearest(self._found)) is not None:
            self._found = earlier
        self._ended = True

    def said(self) -> str:
        if self._found is None:
            return ""
        path = module_path(self._found)
        where = f"{self._found.target} at {path}" if path else str(self._found.target)
        return where if self._ended else f"{where}, or one before it"

    def _nearest(self, node: fx.Node) -> fx.Node | None:
        """A node that differs among the inputs of ``node``. If the part before an input cannot be
        built, the inputs of that one are searched."""
        waiting, seen = list(node.all_input_nodes), set()
        while waiting:
            source = waiting.pop()
            if source in seen:
                continue
            seen.add(source)
            differs = self._differs(source) if self._may(source) else None
            if differs:
                return source
            if differs is None:
                waiting.extend(source.all_input_nodes)
        return None

    def _may(self, node: fx.Node) -> bool:
        """Whether the node gives a map of the picture that can be compared."""
        value = node.meta.get("val")
        return (
            node.op == "call_function"
            and isinstance(value, Tensor)
            and value.is_floating_point()
            and value.ndim > 0
            and len(value) == len(self._picture[0])
        )

    def _narrow(self, end: fx.Node) -> list[fx.Node]:
        """Nodes before ``end``, in order, that lie on every path from the input to ``end``."""
        needed, waiting = set(), [end]
        while waiting:
            node = waiting.pop()
            if node not in needed:
                needed.add(node)
                waiting.extend(node.all_input_nodes)
        varying: set[fx.Node] = set()
        order = []
        for node in self._nodes:
            if node.op == "placeholder" or not varying.isdisjoint(node.all_input_nodes):
                varying.add(node)
                if node in needed:
                    order.append(node)
        places = {node: i for i, node in enumerate(order)}
        furthest, cuts = 0, []
        for i, node in enumerate(order[:-1]):
            if furthest <= i:
                cuts.append(node)  # nothing before it is read after it
            furthest = max(furthest, *(places[user] for user in node.users if user in places))
        return cuts

    def _differs(self, node: fx.Node) -> bool | None:
        """Whether the engine differs at ``node``; None if it cannot be built for the part of the
        network before it."""
        if node not in self._known:
            if time.monotonic() > self._latest:
                raise TimeoutError
            self._known[node] = self._compared(self._part(node))
        return self._known[node]

    def _compared(self, part: nn.Module) -> bool | None:
        try:
            with self._engine.of_part(part, self._picture, self._options) as engine:
                answer = engine.run(self._picture)
            return not relative_error(answer, part(*self._picture)) <= self._tolerance
        except Exception:  # each runtime raises its own kinds, and the next node may build
            return None

    def _part(self, last: fx.Node) -> fx.GraphModule:
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for node in self._nodes:
            copies[node] = graph.node_copy(node, copies.__getitem__)
            if node is last:
                break
        graph.output(copies[last])
        graph.eliminate_dead_code()
        return fx.GraphModule(self._graph, graph).eval()
