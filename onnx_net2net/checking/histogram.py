"""How the differences of an output are spread: how many elements differ by how much of its largest value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_net2net.checking.inputs import Array

EDGES = tuple(float(f"{10.0 ** (half / 2):.3g}") for half in range(-20, 1))
"""Upper ends of the bins, two for each power of ten."""

Histogram = tuple[tuple[float, int], ...]
"""(upper end, elements up to it and above the one before); 0 counts those that are equal to the bit."""


def histogram(mine: Sequence[Array], theirs: Sequence[Array]) -> Histogram:
    """Counts the elements of all samples by |a - b| / max|a|; empty where they cannot be compared."""
    counts = np.zeros(len(EDGES) + 2, np.int64)
    for a, b in zip(mine, theirs, strict=True):
        if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)) or a.shape != b.shape:
            return ()
        try:
            first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
        except (ValueError, TypeError):  # text and the like
            return ()
        if not (np.isfinite(first).all() and np.isfinite(second).all()):
            return ()
        apart = np.abs(first - second).ravel()
        scale = float(np.abs(first).max(initial=0.0)) or 1.0
        places = 1 + np.searchsorted(EDGES, apart / scale)
        counts += np.bincount(np.where(apart == 0, 0, places), minlength=len(counts))
    ends = (0.0, *EDGES, float("inf"))
    return tuple((end, int(n)) for end, n in zip(ends, counts, strict=True) if n)
