"""What a plan does not change stays as it was, byte for byte."""

from __future__ import annotations

from onnx import ModelProto, NodeProto

from onnx_net2net import Plan


def assert_untouched(teacher: ModelProto, student: ModelProto, plan: Plan) -> None:
    """Compares all that the plan does not mention, in order."""
    for field in {f.name for f, _ in (*teacher.ListFields(), *student.ListFields())} - {"graph"}:
        assert getattr(teacher, field) == getattr(student, field), field
    assert teacher.graph.output == student.graph.output
    for field in ("name", "doc_string", "quantization_annotation", "sparse_initializer", "metadata_props"):
        assert getattr(teacher.graph, field) == getattr(student.graph, field), field
    _values(teacher, student, plan)
    _initializers(teacher, student, plan)
    _nodes(teacher, student, plan)


def _new(plan: Plan) -> set[str]:
    return {c.name for c in plan.constants} | {s.name for s in plan.sizes} | _inserted(plan)


def _inserted(plan: Plan) -> set[str]:
    """All names that layers and copied blocks brought along."""
    return {name for item in (*plan.layers, *plan.blocks, *plan.inserted) for name in item.names}


def _fresh(plan: Plan) -> set[str]:
    """What only new nodes read: a product in front of a head is read by the head."""
    return _inserted(plan) - {item.names[2] for item in plan.inserted if item.kind == "scale"}


def _values(teacher: ModelProto, student: ModelProto, plan: Plan) -> None:
    changed = _new(plan) | {name for name, _ in plan.shapes}
    constant = {t.name for t in teacher.graph.initializer}
    for field in ("input", "value_info"):
        after = [v for v in getattr(student.graph, field) if v.name not in changed]
        kept = {v.name for v in after}
        before = [v for v in getattr(teacher.graph, field) if v.name not in changed]
        before = [v for v in before if v.name in kept or v.name not in constant]
        if field == "value_info":
            before = [v for v in before if v.name in kept or _alive(student, v.name)]
        assert [v.SerializeToString() for v in before] == [v.SerializeToString() for v in after], field


def _alive(student: ModelProto, name: str) -> bool:
    return any(name in (*node.input, *node.output) for node in student.graph.node)


def _initializers(teacher: ModelProto, student: ModelProto, plan: Plan) -> None:
    kept = {t.name for t in student.graph.initializer} - _new(plan)
    before = [t.SerializeToString() for t in teacher.graph.initializer if t.name in kept]
    after = [t.SerializeToString() for t in student.graph.initializer if t.name in kept]
    assert before == after
    gone = {t.name for t in teacher.graph.initializer} - kept - _new(plan)
    read = {name for node in student.graph.node for name in node.input}
    assert not gone & read
    order = [t.name for t in student.graph.initializer if t.name in {t.name for t in teacher.graph.initializer}]
    assert order == [t.name for t in teacher.graph.initializer if t.name in set(order)]


def _nodes(teacher: ModelProto, student: ModelProto, plan: Plan) -> None:
    """The teacher's nodes stand in the student in their order, but for inputs and sizes the plan rewrites."""
    slots = {use for c in plan.constants for use in c.uses} | {(s.node, s.where) for s in plan.sizes}
    slots |= {(n.node, n.where) for n in plan.numbers}
    slots |= {(s.node, s.instead_of) for s in plan.sizes if s.instead_of}
    dropped = {c.source for c in plan.constants} | {t.name for t in teacher.graph.initializer}
    inserted = _inserted(plan)  # all that is new reads something new, and nothing else does
    places = {item.after: item.tensor for item in (*plan.layers, *plan.blocks)}
    makers = {name: i for i, node in enumerate(teacher.graph.node) for name in node.output}
    places |= {makers[item.tensor]: item.tensor for item in plan.inserted if item.kind == "mean"}
    slots |= {use for item in plan.inserted for use in item.uses}
    mine = iter([node for node in student.graph.node if _fresh(plan).isdisjoint(node.input)])
    current = next(mine, None)
    for i, node in enumerate(teacher.graph.node):
        touched = {where for k, where in slots if k == i}
        if current is not None and _plain(node, touched, set()) == _plain(current, touched, inserted, places.get(i)):
            current = next(mine, None)
        else:  # only a constant that nothing reads any more may go
            assert all(name in dropped or not _alive(student, name) for name in node.output), node.name
    assert current is None, current


def _plain(node: NodeProto, touched: set[int | str], inserted: set[str], tensor: str | None = None) -> bytes:
    """The node without what was rewritten; ``tensor`` is what it made before something was inserted after it."""
    copy = NodeProto()
    copy.CopyFrom(node)
    for where in touched:
        if isinstance(where, int):
            while len(copy.input) <= where:
                copy.input.append("")
            copy.input[where] = "rewritten"
    kept = [a for a in copy.attribute if a.name not in touched]
    del copy.attribute[:]
    copy.attribute.extend(kept)
    for slot, name in enumerate(copy.output):
        if tensor is not None and name in inserted:
            copy.output[slot] = tensor
    return copy.SerializeToString()
