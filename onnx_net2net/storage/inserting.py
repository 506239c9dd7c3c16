"""What inserted layers and nodes bring with them: new nodes, and new initializers of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from onnx import ModelProto, NodeProto, helper, numpy_helper

from onnx_net2net.storage.model import promise
from onnx_net2net.storage.tensors import Made, Tensor, stays


@dataclass(slots=True)
class Built:
    """New nodes, in order, and new initializers by name: arrays, or what reads them (`Tensor`)."""

    nodes: list[NodeProto] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)


class Weights:
    """Adds initializers to a model, in place.

    Args:
        proto: The model.
        lazy: Whether large ones are left out and made when they are wanted.

    Attributes:
        made: What makes those that were left out.
    """

    def __init__(self, proto: ModelProto, lazy: bool) -> None:
        self.proto = proto
        self.lazy = lazy
        self.made: dict[str, Tensor] = {}

    def add(self, values: Mapping[str, Any], again: Callable[[str], Any]) -> None:
        """Adds weights by name; ``again`` makes one once more."""
        for name, value in values.items():
            tensor = self._tensor(value, partial(again, name))
            self._add(name, value if tensor is None else tensor)

    def _tensor(self, value: Any, again: Callable[[], Any]) -> Tensor | None:
        """What reads or makes a weight when it is wanted, or None for one that is small."""
        if not self.lazy or isinstance(value, Tensor):
            return value if self.lazy else None
        dtype = helper.np_dtype_to_tensor_dtype(value.dtype)
        return None if stays(dtype, value.shape) else Made(dtype, value.shape, again)

    def _add(self, name: str, value: Any) -> None:
        if isinstance(value, Tensor):
            self.made[name] = value
            tensor = self.proto.graph.initializer.add(name=name)
            promise(tensor, value)
        else:
            tensor = numpy_helper.from_array(value, name)
            self.proto.graph.initializer.append(tensor)
        if self.proto.ir_version < 4:
            self.proto.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, tensor.dims))
