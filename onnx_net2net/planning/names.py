"""New names that collide with none in the model."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import subgraphs


class Names:
    """Hands out names that nothing in the graph or its subgraphs uses yet.

    Args:
        graph: The graph.
        also: Other names that are taken.
    """

    def __init__(self, graph: Graph, also: Iterable[str] = ()) -> None:
        self.graph = graph
        self.also = also
        self.numbers: dict[str, int] = {}

    @cached_property
    def taken(self) -> set[str]:
        """All names in use; few plans ask for them."""
        found = {*self.graph.sparse, *self.also}
        inner = [body for node in self.graph.nodes for body in subgraphs(node)]
        for body in (self.graph.proto, *inner):
            found.update(value.name for value in (*body.input, *body.output, *body.value_info, *body.initializer))
            for node in body.node:
                found.update((node.name, *node.input, *node.output))
        return found

    def new(self, base: str) -> str:
        """``base``, or ``base`` with a number."""
        name, n = base, self.numbers.get(base, 1)
        while name in self.taken:
            n += 1
            name = f"{base}_{n}"
        self.numbers[base] = n  # many may ask for the same
        self.taken.add(name)
        return name
