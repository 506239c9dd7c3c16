"""Recurrent layers. All gates and both directions share one hidden axis, and the recurrence contracts it."""

from collections.abc import Sequence
from functools import partial

from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand, Pin, Size, Terms
from onnx_net2net.algebra.unify import concatenation, fresh
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import register

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
POINTWISE = frozenset(
    "affine elu hardsigmoid leakyrelu relu scaledtanh sigmoid softplus softsign tanh thresholdedrelu".split()
)
"""Activations that work on each unit by itself; the standard names no others."""


def _notation(op: str) -> str:
    n = GATES[op]
    state = "h[D, B, H] c[D, B, H] P[D, 3H]" if op == "LSTM" else "h[D, B, H]"
    last = " Y_c[D, B, H]" if op == "LSTM" else ""
    gates, biases = f"{n if n > 1 else ''}H", f"{2 * n}H"
    return (
        f"X[!T, B, I] W[!D, {gates}, I] R[D, {gates}, H] B[D, {biases}] lengths[B] {state} -> "
        f"Y[T, D, B, H] Y_h[D, B, H]{last}  contract I @ W  contract H @ R  size H @ hidden_size"
    )


def layer(node: Node, gates: int, *, turned: bool = False) -> list[Fact]:
    """What holds of a layer with ``gates`` gates; in the notation 4H is H + H + H + H.

    Args:
        node: The layer.
        gates: How many gates it has.
        turned: Whether its weights are stored with the gates last.
    """
    _check_activations(node)
    if any(len(node.x(slot)) != 3 for slot in range(3)):
        raise Declined("its operands do not have rank 3")
    first = bool(node.attr("layout", 0))  # the batch
    x, w, r, along = node.x(0), node.x(1), node.x(2), 1 if turned else 2
    batch, time = (fresh(x[i].size) for i in ((0, 1) if first else (1, 0)))
    directions, taken, hidden = (fresh(term.size) for term in (w[0], w[along], r[along]))
    state = (batch, directions, hidden) if first else (directions, batch, hidden)
    every = (batch, time, directions, hidden) if first else (time, directions, batch, hidden)
    one, two, peeps = (concatenation(*[hidden] * n) for n in (gates, 2 * gates, 3))
    inputs = [
        (batch, time, taken) if first else (time, batch, taken),
        (directions, taken, one) if turned else (directions, one, taken),
        (directions, hidden, one) if turned else (directions, one, hidden),
        (directions, two),
        (batch,),
        state,
        state,
        (directions, peeps),
    ]
    written = [Size("hidden_size", ((0, hidden, 1),))] if "hidden_size" in node.attributes else []
    return [
        *_equal(node.inputs, inputs),
        *_equal(node.outputs, [every, state, state]),
        Contract(taken, (Operand(1, along, taken),)),
        Contract(hidden, (Operand(2, along, hidden),)),
        Pin(time, "it goes through it step by step"),
        Pin(directions, "it holds the directions"),
        *written,
    ]


def _check_activations(node: Node) -> None:
    names = [name.decode().lower() for name in node.attr("activations", [])]
    if strange := [name for name in names if name not in POINTWISE]:
        raise Declined(f"its activation {strange[0]} is not known")


def _equal(given: Sequence[Terms | None], wanted: Sequence[Terms]) -> list[Fact]:
    """Equates the dimensions of the operands that are given."""
    facts: list[Fact] = []
    for terms, named in zip(given, wanted, strict=False):
        if terms is not None and len(terms) != len(named):
            raise Declined("its operands do not have the ranks that the standard gives them")
        facts += [Equal(a, b) for a, b in zip(named, terms or (), strict=False)]
    return facts


for _op, _gates in GATES.items():
    register(_op, partial(layer, gates=_gates), _notation(_op), since=7)
