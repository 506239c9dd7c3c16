"""A Plan as plain values, for JSON, and back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from onnx_net2net.algebra.axes import Axis, Dim, Prod, Sum
from onnx_net2net.algebra.filler import CONTENTS
from onnx_net2net.planning.borders import BorderPlan
from onnx_net2net.planning.parts import (
    INITS,
    INSERTING,
    MODES,
    AxisPlan,
    BlockCopy,
    ConstantPlan,
    FillPlan,
    Insertion,
    Layer,
    NumberPlan,
    SizePlan,
    SplitPlan,
)


def encode(value: Any) -> Any:
    """A value of a plan as what JSON knows."""
    if isinstance(value, Axis):
        return {"axis": value.name, "size": value.size}
    if isinstance(value, (Prod, Sum)):
        return {type(value).__name__.lower(): [encode(part) for part in value.parts]}
    if dataclasses.is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, (tuple, list)):
        return [encode(item) for item in value]
    return value


def decode(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a plan, but for the plans that follow it.

    Raises:
        ValueError: If they are not those of a plan; or another of the exceptions of what is not as expected.
    """
    body = {"blocks": [], "numbers": [], "inserted": [], "kept": [], "borders": [], **given}
    lists: dict[str, Callable[[Any], Any]] = {
        "axes": _decode_axis,
        "constants": _decode_constant,
        "sizes": lambda item: SizePlan(**{**item, "values": tuple(item["values"])}),
        "shapes": lambda item: (str(item[0]), tuple(item[1])),
        "numbers": lambda item: NumberPlan(**item),
        "borders": _decode_border,
        "layers": _decode_layer,
        "blocks": _decode_block,
        "inserted": _decode_insertion,
        "cloned": str,
        "kept": str,
    }
    known: dict[str, Any] = {name: tuple(decode(item) for item in body.pop(name)) for name, decode in lists.items()}
    if body.get("init", "exact") not in INITS:
        raise ValueError(f"{body['init']!r} is no start")
    return {**body, **known}


def _decode_dim(item: dict[str, Any]) -> Dim:
    if "axis" in item:
        return Axis(item["axis"], item["size"])
    ((kind, parts),) = item.items()
    inner = tuple(_decode_dim(part) for part in parts)
    return Prod(inner) if {"prod": True, "sum": False}[kind] else Sum(inner)


def _decode_axis(item: dict[str, Any]) -> AxisPlan:
    _check("whole number", int, item.get("filler", 0))
    return AxisPlan(**{**item, "map": tuple(item["map"]), "fractions": tuple(item["fractions"])})


def _decode_split(item: dict[str, Any]) -> SplitPlan:
    terms = ("ahead", "before", "over", "after", "behind")
    return SplitPlan(**{**item, **{key: _decode_dim(item[key]) for key in terms if key in item}})


def _decode_constant(item: dict[str, Any]) -> ConstantPlan:
    uses = tuple((i, slot) for i, slot in item["uses"])
    dims, splits = tuple(map(_decode_dim, item["dims"])), tuple(map(_decode_split, item["splits"]))
    fills = tuple(FillPlan(**fill) for fill in item.get("fills", ()))
    if any(fill.content not in CONTENTS for fill in fills):
        raise ValueError("filler has no such content")
    scale = item.get("scale", 1.0)
    _check("number", float, scale)
    return ConstantPlan(item["source"], item["name"], uses, dims, splits, fills, scale)


def _decode_border(item: dict[str, Any]) -> BorderPlan:
    units = tuple((axis, tuple(chosen)) for axis, chosen in item["units"])
    _check("whole number", int, *item["old"], *item["new"], *(n for axis, chosen in units for n in (axis, *chosen)))
    return BorderPlan(**{**item, "old": tuple(item["old"]), "new": tuple(item["new"]), "units": units})


def _decode_layer(item: dict[str, Any]) -> Layer:
    lists = {key: tuple(item.get(key, ())) for key in ("kernel", "names", "mean", "var")}
    layer = Layer(**{**item, **lists})
    numbers = (layer.after, layer.channels, layer.dtype, layer.group, layer.repeats, layer.rank)
    _check("whole number", int, *numbers, *layer.kernel)
    _check("text", str, layer.kind, layer.tensor, layer.mode, *layer.names)
    _check("number", float, *layer.mean, *layer.var)
    _check("flag", bool, layer.batch_norm, layer.random)
    if layer.mode not in MODES:
        raise ValueError(f"{layer.mode!r} is no mode")
    return layer


def _decode_block(item: dict[str, Any]) -> BlockCopy:
    lists: dict[str, Any] = {key: tuple(item[key]) for key in ("nodes", "constants", "names")}
    block = BlockCopy(**{**item, **lists, "zeroed": tuple((i, slot) for i, slot in item["zeroed"])})
    zeroed = (n for use in block.zeroed for n in use)
    _check("whole number", int, block.add, block.after, block.span, *block.nodes, *zeroed)
    _check("text", str, block.tensor, block.source, *block.constants, *block.names)
    return block


def _decode_insertion(item: dict[str, Any]) -> Insertion:
    uses = tuple((i, slot) for i, slot in item["uses"])
    node, constant, made = item["names"]
    insertion = Insertion(**{**item, "names": (node, constant, made), "uses": uses})
    _check("whole number", int, insertion.dtype, insertion.macs, *(n for use in uses for n in use))
    _check("text", str, insertion.tensor, insertion.axis, node, constant, made)
    _check("number", float, insertion.value)
    if insertion.kind not in INSERTING:
        raise ValueError(f"{insertion.kind!r} is no node to insert")
    return insertion


def _check(what: str, kind: type, *values: object) -> None:
    for value in values:
        if type(value) is not kind:
            raise TypeError(f"{value!r} is no {what}")
