"""Filler: what constants have to hold so that an axis under statistics can grow to any size, or why it cannot.

Three walks over the nodes that the axis, or a power of eta, goes through: forwards, what the filler of each tensor
could hold; backwards, what statistics need of it (`demand.py`); and forwards again, what it then holds, and which
powers of eta constants have to take on (`settle.py`). Where they end at a tensor that cannot hold the mean, they are
taken once more with nodes that make it, which the user has to allow.
"""

from __future__ import annotations

from collections.abc import Collection

from onnx_net2net.algebra.axes import atoms
from onnx_net2net.errors import Declined
from onnx_net2net.inference.axis_map import AxisInfo, AxisMap, Filling
from onnx_net2net.inference.demand import place_makers, wanted
from onnx_net2net.inference.network import Network
from onnx_net2net.inference.settle import check_borders, settle
from onnx_net2net.inference.walk import Walk


def fill_up(found: AxisMap, names: Collection[str] | None = None) -> None:
    """Finds out for axes under statistics whether filler lets them grow to any size; notes how, or why not.

    Args:
        found: The teacher's axes.
        names: The axes that are looked at; None for all.
    """
    network = Network(found)
    known = (
        (axis.name, name) for name in sorted(found.lifted) for dim in found.dims.get(name, ()) for axis in atoms(dim)
    )
    seen = dict(known)
    for name in found.axes if names is None else names:
        info = found.axes[name]
        if name in seen:
            info.unfilled = f"callers would see filler in {seen[name]}"
        elif info.uniform and not info.pins:
            _fill(network, info)


def allow_nodes(found: AxisMap) -> None:
    """Lets axes grow with the help of inserted nodes, where nothing else lets them have filler."""
    for info in found.axes.values():
        info.filling = info.filling or info.aided


def _fill(network: Network, info: AxisInfo) -> None:
    info.filling = info.aided = None
    try:
        info.filling = _filling(Walk(network, info.axis))
        return
    except Declined as why:
        info.unfilled = plain = str(why)
    try:
        walk = Walk(network, info.axis)
        info.aided = _filling(walk, nodes=True)
        count = len(info.aided.makers)
        info.unfilled += f"; {count} inserted node{'s'[: count - 1]} can make it (--allow-nodes)"
    except Declined as why:
        info.unfilled += f"; and with inserted nodes {why}" if str(why) != plain else ""


def _filling(walk: Walk, *, nodes: bool = False) -> Filling:
    """How an axis grows to any size.

    Raises:
        Declined: If it cannot.
    """
    walk.start()
    if nodes:
        place_makers(walk)
    filling = settle(walk, wanted(walk))
    check_borders(walk, filling.powers)
    return filling
