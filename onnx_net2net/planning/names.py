"""New names that collide with none in the model."""

from __future__ import annotations

from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.proto import subgraphs


class Names:
    """Hands out names that nothing in the graph or its subgraphs uses yet."""

    def __init__(self, graph: Graph) -> None:
        inner = [body for node in graph.nodes for body in subgraphs(node)]
        self.taken: set[str] = set(graph.sparse)
        self.numbers: dict[str, int] = {}
        for body in (graph.proto, *inner):
            self.taken.update(value.name for value in (*body.input, *body.output, *body.value_info, *body.initializer))
            for node in body.node:
                self.taken.update((node.name, *node.input, *node.output))

    def new(self, base: str) -> str:
        """``base``, or ``base`` with a number."""
        name, n = base, self.numbers.get(base, 1)
        while name in self.taken:
            n += 1
            name = f"{base}_{n}"
        self.numbers[base] = n  # many may ask for the same
        self.taken.add(name)
        return name
