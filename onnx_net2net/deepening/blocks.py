"""Residual blocks: x + branch(x), found in the graph, and a copy of some that adds nothing until it is trained.

The copy follows its block. Its last projection is zero, and so is its branch: y + 0 = y. Behind an activation f of the
sum, f(f(s) + 0) = f(s) where f is idempotent.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from onnx import NodeProto, helper

from onnx_net2net.deepening.activations import activations
from onnx_net2net.errors import Declined, RequestError
from onnx_net2net.inference.axis_map import AxisMap, Slot
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.nodes import view
from onnx_net2net.inference.proto import FLOATS, label, subgraphs
from onnx_net2net.planning.names import Names
from onnx_net2net.planning.plan import BlockCopy
from onnx_net2net.storage.inserting import Built
from onnx_net2net.storage.tensors import stays

MOST = 2000
"""Nodes of a block at most."""
DEEP = 64
"""Nodes that zeros may run through on their way to the sum."""


@dataclass(frozen=True, slots=True)
class Block:
    """A residual block, or several that follow each other.

    Attributes:
        add: Position of the node that adds the branch, the first one's.
        source: The tensor that it is added to, and that the branch starts from.
        after: Position of the node that a copy follows: the sum, or an activation of it.
        tensor: What that node makes.
        nodes: Positions of the nodes that a copy repeats.
        zeroed: (node, input slot) of the weights that make the branch of a copy zero.
        refusal: Why no copy is exact.
        span: How many blocks these are.
    """

    add: int
    source: str
    after: int
    tensor: str
    nodes: tuple[int, ...]
    zeroed: tuple[Slot, ...] = ()
    refusal: str = ""
    span: int = 1


class Blocks:
    """The residual blocks of one model.

    Args:
        found: What inference found out about it.
    """

    def __init__(self, found: AxisMap) -> None:
        self.graph = found.graph

    def every(self) -> list[Block]:
        """Every block, in graph order."""
        return list(self._every)

    @cached_property
    def _every(self) -> list[Block]:
        return [block for i in range(len(self.graph.nodes)) if (block := self._block(i)) is not None]

    def named(self, name: str) -> Block:
        """The block of which a node or tensor is the sum.

        Raises:
            RequestError: If there is none, or a copy of it would not be exact.
        """
        for i, node in enumerate(self.graph.nodes):
            if not name or name not in (node.name, *node.output[:1]):
                continue
            block = self._block(i)
            if block is None:
                wrong = "it is not the sum of a tensor and a branch that starts from it"
                raise RequestError(wrong, "inspect lists the blocks", op=label(node))
            if block.refusal:
                raise RequestError(block.refusal, "choose another block; inspect lists them", op=label(node))
            return block
        raise RequestError("no node or tensor has this name", "inspect lists the blocks", op="block", tensor=name)

    def at(self, add: int) -> Block:
        """The block of which this node is the sum.

        Raises:
            Declined: If there is none that can be copied.
        """
        block = self._block(add) if 0 <= add < len(self.graph.nodes) else None
        if block is None or block.refusal:
            raise Declined("it is the sum of no block that can be copied")
        return block

    def runs(self, blocks: Sequence[Block], span: int) -> tuple[list[Block], dict[str, str]]:
        """Blocks, so many at a time, none in two runs; and those with which no run begins, with the reason."""
        taken: set[int] = set()
        found, skipped = [], {}
        for block in blocks:
            if block.add not in taken:
                try:
                    chain = self._chain(block, span)
                except Declined as why:
                    skipped[block.tensor] = str(why)
                    continue
                taken.update(link.add for link, _ in chain)
                found.append(_joined(chain))
        return found, skipped

    def run(self, first: Block, span: int) -> Block:
        """So many blocks that follow each other, as one.

        Raises:
            Declined: If fewer follow, or no copy of one of them is exact.
        """
        return _joined(self._chain(first, span))

    def _chain(self, first: Block, span: int) -> list[tuple[Block, Sequence[int]]]:
        """Blocks of which each starts from what the one before makes, with the nodes in between."""
        chain: list[tuple[Block, Sequence[int]]] = [(first, ())]
        while len(chain) < span:
            last = chain[-1][0]
            following = self._starting.get(last.tensor)
            if following is None:
                raise Declined(f"{len(chain)} of {span} blocks follow each other: none starts from {last.tensor}")
            chain.append(following)
        refusal = next((f"{block.tensor}: {block.refusal}" for block, _ in chain if block.refusal), "")
        if refusal:
            raise Declined(refusal)
        return chain

    @cached_property
    def _starting(self) -> dict[str, tuple[Block, Sequence[int]]]:
        """By tensor, the first block that starts from it or from a mere copy, with the nodes that make that."""
        found: dict[str, tuple[Block, Sequence[int]]] = {}
        for block in self._every:
            for name, kept in self._origins(block.source):
                found.setdefault(name, (block, kept))
        return found

    @cached_property
    def _activations(self) -> dict[str, tuple[int, bool]]:
        """Results of activations: the node, and whether a copy of it may follow it."""
        return {self.graph.nodes[item.node].output[0]: (item.node, item.idempotent) for item in activations(self.graph)}

    def _block(self, add: int) -> Block | None:
        """The block that ends with a node, or None."""
        rule = self.graph.rule(add)
        operands = list(self.graph.nodes[add].input)
        if rule is None or not rule.sums or len(operands) != 2 or set(operands) & self.graph.constants:
            return None
        for shortcut, branch in (operands, operands[::-1]):
            for source, kept in self._origins(shortcut):
                nodes = self._between(source, branch)
                if nodes:
                    return self._examine(add, source, branch, tuple(sorted({*nodes, *kept})))
        return None

    def _origins(self, name: str) -> Iterator[tuple[str, list[int]]]:
        """A tensor, and those that it is a mere copy of, with the nodes in between."""
        kept: list[int] = []
        while len(kept) < DEEP:
            yield name, kept
            i = self.graph.producer.get(name, -1)
            rule = self.graph.rule(i) if i >= 0 else None
            node = self.graph.nodes[i]
            if rule is None or not rule.keeps or self.graph.dtype(name) != self.graph.dtype(node.input[0]):
                return
            name, kept = node.input[0], [*kept, i]

    def _between(self, source: str, branch: str) -> tuple[int, ...]:
        """Positions of the nodes on the ways from one tensor to another."""
        start = self.graph.producer.get(source, -1)
        before: set[int] = set()
        pending = [branch]
        while pending:
            if len(before) > MOST:
                return ()
            i = self.graph.producer.get(pending.pop(), -1)
            if i > start and i not in before:
                before.add(i)
                pending += filter(None, (*self.graph.nodes[i].input, *self.graph.captured[i]))
        reached = {source}
        nodes = []
        for i in sorted(before):
            node = self.graph.nodes[i]
            if reached & {*node.input, *self.graph.captured[i]}:
                reached |= set(filter(None, node.output))
                nodes.append(i)
        return tuple(nodes) if branch in reached and branch != source else ()

    def _examine(self, add: int, source: str, branch: str, nodes: tuple[int, ...]) -> Block:
        """What a copy of a block is like, or why there is none."""
        total = self.graph.nodes[add].output[0]
        block = Block(add, source, add, total, (*nodes, add))
        shapes = {self.graph.shape(name) for name in (source, branch, total)}

        def refuse(why: str) -> Block:
            return Block(block.add, block.source, block.after, block.tensor, block.nodes, (), why)

        if None in shapes or len(shapes) > 1 or self.graph.dtype(total) not in FLOATS:
            return refuse("its branch is of another shape, or not of a floating point type")
        if any(True for i in nodes for _ in subgraphs(self.graph.nodes[i])):
            return refuse("its branch holds subgraphs")
        following = self._following(total)
        if following is not None:
            after, idempotent = following
            if idempotent:
                block = Block(add, source, after, self.graph.nodes[after].output[0], (*block.nodes, after))
            elif source in self._activations:
                name = label(self.graph.nodes[after])
                return refuse(f"a copy behind {name} needs f(f(x)) = f(x)")
        zeroed = _Zeros(self.graph, frozenset(nodes)).of(branch)
        if not zeroed:
            return refuse("no weights at the end of its branch can make it zero")
        return Block(add, source, block.after, block.tensor, block.nodes, tuple(sorted(zeroed)))

    def _following(self, total: str) -> tuple[int, bool] | None:
        """The activation that is all that reads a sum, and whether it is idempotent."""
        if not self.graph.is_private(total) or total not in self.graph.consumers:
            return None
        name = self.graph.nodes[self.graph.consumers[total][0][0]].output[0]
        return self._activations.get(name)


def _joined(chain: Sequence[tuple[Block, Sequence[int]]]) -> Block:
    """Blocks that follow each other as one, which ends where the last one does."""
    (first, _), (last, _) = chain[0], chain[-1]
    nodes = {i for block, between in chain for i in (*between, *block.nodes)}
    zeroed = {use for block, _ in chain for use in block.zeroed}
    return replace(
        last, add=first.add, source=first.source, nodes=tuple(sorted(nodes)), zeroed=tuple(sorted(zeroed)),
        span=len(chain),
    )  # fmt: skip


class _Zeros:
    """Looks for the weights that make a tensor zero, against the flow of the graph."""

    def __init__(self, graph: Graph, inside: frozenset[int]) -> None:
        self.graph = graph
        self.inside = inside
        self.known: dict[str, list[Slot]] = {}

    def of(self, name: str, depth: int = 0) -> list[Slot]:
        """Uses of weights with zeros in which a computed tensor is zero; none if there are none."""
        if name not in self.known:
            self.known[name] = []
            i = self.graph.producer.get(name, -1)
            if i in self.inside and self.graph.nodes[i].output[0] == name and depth < DEEP:
                self.known[name] = self._behind(i, depth)
        return self.known[name]

    def _behind(self, i: int, depth: int) -> list[Slot]:
        rule = self.graph.rule(i)
        try:
            sets = rule.vanishes(view(self.graph, i)) if rule is not None else []
        except Declined:
            return []
        inputs = self.graph.nodes[i].input
        for slots in sets:
            given = [slot for slot in slots if slot < len(inputs) and inputs[slot]]
            found = [self._use(i, slot, depth) for slot in given]
            if found and all(found):
                return [use for uses in found for use in uses]
        return []

    def _use(self, i: int, slot: int, depth: int) -> list[Slot]:
        name = self.graph.nodes[i].input[slot]
        if name not in self.graph.constants:
            return self.of(name, depth + 1)
        return [(i, slot)] if _is_trained(self.graph, name) else []


def copy_of(graph: Graph, block: Block, names: Names) -> BlockCopy:
    """The plan of a copy of a block."""
    zeroed = set(block.zeroed)
    uses = [(i, slot) for i in block.nodes for slot in range(len(graph.nodes[i].input))]
    read = [graph.tensor(use) for use in uses if use not in zeroed]
    constants = dict.fromkeys(name for name in read if name in graph.constants and _is_trained(graph, name))
    copy = BlockCopy(
        block.add, block.after, block.tensor, block.source, block.nodes, tuple(constants), block.zeroed, (), block.span
    )
    return replace(copy, names=tuple(names.new(base) for _, base in new_names(graph.nodes, copy)))


def _is_trained(graph: Graph, name: str) -> bool:
    """Whether a constant is a weight, rather than a number such as the 0.5 of a Gelu."""
    shape = graph.shape(name)
    return graph.dtype(name) in FLOATS and shape is not None and any(n > 1 for n in shape)


def new_names(nodes: Sequence[NodeProto], copy: BlockCopy) -> Iterator[tuple[tuple[str, str | Slot], str]]:
    """What gets a new name in a copy, each with the name to start from: first of all what the copy reads."""
    yield ("tensor", copy.source), f"{copy.tensor}_deeper_input"
    for name in copy.constants:
        yield ("constant", name), f"{name}_deeper"
    for i, slot in copy.zeroed:
        yield ("zero", (i, slot)), f"{nodes[i].input[slot]}_deeper_zero"
    for i in copy.nodes:
        if nodes[i].name:
            yield ("node", (i, 0)), f"{nodes[i].name}_deeper"
        for name in filter(None, nodes[i].output):
            if name != copy.tensor:
                yield ("tensor", name), f"{name}_deeper"


def duplicate(graph: Graph, copy: BlockCopy, after: str, *, lazy: bool = False) -> Built:
    """The nodes and weights of a copy that gives the tensor ``after``; of lazy weights what reads them."""
    keys = [key for key, _ in new_names(graph.nodes, copy)]
    new: dict[tuple[str, str | Slot], str] = dict(zip(keys, copy.names, strict=True))
    new["tensor", copy.tensor] = after
    made = Built()
    for name in copy.constants:
        tensor = graph.tensor_of(name) if lazy else None
        small = tensor is None or stays(tensor.dtype, tensor.shape)
        made.weights[new["constant", name]] = graph.value(name) if small else tensor
    for use in copy.zeroed:
        name = graph.tensor(use)
        dtype = helper.tensor_dtype_to_np_dtype(graph.dtype(name))
        made.weights[new["zero", use]] = np.zeros(graph.shape(name) or (), dtype)
    for i in copy.nodes:
        node = NodeProto()
        node.CopyFrom(graph.nodes[i])
        node.name = new["node", (i, 0)] if node.name else ""
        for slot, name in enumerate(node.input):
            same = new.get(("tensor", name), new.get(("constant", name), name))
            node.input[slot] = new.get(("zero", (i, slot)), same)
        for slot, name in enumerate(node.output):
            node.output[slot] = new.get(("tensor", name), name)
        made.nodes.append(node)
    return made
