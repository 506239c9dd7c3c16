"""Terms: indices, copies and fractions follow the algebra."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_net2net.algebra.axes import UNIT, Axis, Prod, Sum, copies, fractions, index, new_size, show, size

A, B = Axis("a", 2), Axis("b", 3)
MAPS = {"a": np.array([0, 1, 0]), "b": np.array([0, 1, 2, 2])}
VECTORS = {"a": np.array([0.25, 1.0, 0.75]), "b": np.array([1.0, 1.0, 0.4, 0.6])}
ROWS = {
    "axis": (A, [0, 1, 0], [2, 1, 2]),
    "unit": (UNIT, [0], [1]),
    "product": (Prod((A, B)), [0, 1, 2, 2, 3, 4, 5, 5, 0, 1, 2, 2], [2, 2, 4, 4, 1, 1, 2, 2, 2, 2, 4, 4]),
    "concatenation": (Sum((A, B)), [0, 1, 0, 2, 3, 4, 4], [2, 1, 2, 1, 1, 2, 2]),
    "nested": (Prod((Sum((A, UNIT)), A)), [0, 1, 0, 2, 3, 2, 0, 1, 0, 4, 5, 4], [4, 2, 4, 2, 1, 2, 4, 2, 4, 2, 1, 2]),
}


@pytest.mark.parametrize(("dim", "wanted", "counts"), ROWS.values(), ids=ROWS.keys())
def test_index_and_copies(dim, wanted, counts) -> None:  # type: ignore[no-untyped-def]
    assert index(dim, MAPS).tolist() == wanted
    assert copies(dim, MAPS).tolist() == counts
    assert new_size(dim, MAPS) == len(wanted)
    assert index(dim, {}).tolist() == list(range(size(dim)))


@pytest.mark.parametrize(("dim", "wanted", "counts"), ROWS.values(), ids=ROWS.keys())
def test_fractions_sum_to_one_over_copies(dim, wanted, counts) -> None:  # type: ignore[no-untyped-def]
    shares = fractions(dim, MAPS, VECTORS)
    np.testing.assert_allclose(np.bincount(wanted, shares), 1)


def test_show() -> None:
    assert show(Prod((Sum((A, B)), A))) == "(a + b) * a"
