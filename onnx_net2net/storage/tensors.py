"""Tensors whose values are read or computed when they are wanted, whole or some rows at a time."""

from __future__ import annotations

import math
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from onnx_net2net.errors import ModelError
from onnx_net2net.storage.ranges import Range

Array = NDArray[Any]
Rows = Callable[[NDArray[np.int64]], Array]
"""Gives some rows, in any order; what it gives is valid in its thread, until it is asked again there."""
INLINE = 1024
"""Bytes up to which a tensor stays in the model file."""
SIZES = 4096
"""Elements up to which integers, which may be sizes, stay there too."""
COLUMNS = 256
"""Columns of a transposed weight that are copied at a time."""
PACKED: dict[int, int] = {TensorProto.INT4: 4, TensorProto.UINT4: 4, TensorProto.FLOAT4E2M1: 4}
PACKED |= {getattr(TensorProto, name): 2 for name in ("INT2", "UINT2") if hasattr(TensorProto, name)}
"""Bits of types of which several numbers share a byte."""


def bytes_of(dtype: int, shape: tuple[int, ...]) -> int:
    """Bytes of the raw data of a tensor; 0 for strings, which have none."""
    count = math.prod(shape)
    if dtype == TensorProto.STRING:
        return 0
    if dtype in PACKED:
        return -(-count * PACKED[dtype] // 8)
    return count * int(np.dtype(helper.tensor_dtype_to_np_dtype(dtype)).itemsize)


def stays(dtype: int, shape: tuple[int, ...]) -> bool:
    """Whether a tensor stays in the model file: it is small, or may hold sizes."""
    structure = dtype in (TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL)
    return bytes_of(dtype, shape) <= INLINE or (structure and math.prod(shape) <= SIZES)


class Tensor(ABC):
    """A tensor that is not in memory.

    Attributes:
        dtype: Element type (``TensorProto.DataType``).
        shape: Its shape.
        by_rows: Whether some rows cost no more than their part of the whole.
    """

    by_rows = False

    def __init__(self, dtype: int, shape: tuple[int, ...]) -> None:
        self.dtype = dtype
        self.shape = shape

    @property
    def length(self) -> int:
        """Bytes of its raw data."""
        return bytes_of(self.dtype, self.shape)

    @property
    def axis(self) -> int:
        """The dimension of its rows: the first that is not one."""
        return next((i for i, n in enumerate(self.shape) if n != 1), 0)

    @abstractmethod
    def read(self) -> Array:
        """The whole value."""

    def open(self) -> Rows:
        """What gives its rows, for as long as it is kept."""
        value = dense(self.read())
        return lambda rows: np.take(value, rows, axis=self.axis)


def dense(value: Array) -> Array:
    """The same numbers in row-major order: of a transposed view, ``np.take`` copies all for a few rows.

    Copied some columns at a time, which stay in the processor's cache.
    """
    if value.flags.c_contiguous:
        return value
    copy = np.empty(value.shape, value.dtype)
    for start in range(0, value.shape[-1], COLUMNS):
        copy[..., start : start + COLUMNS] = value[..., start : start + COLUMNS]
    return copy


class Made(Tensor):
    """What a function makes, whenever it is asked."""

    def __init__(self, dtype: int, shape: tuple[int, ...], make: Callable[[], Array]) -> None:
        super().__init__(dtype, shape)
        self.make = make

    def read(self) -> Array:
        """What it makes now."""
        return self.make()


class Stored(Tensor):
    """What lies in a file."""

    def __init__(self, dtype: int, shape: tuple[int, ...], place: Range) -> None:
        super().__init__(dtype, shape)
        self.place = place
        self.by_rows = dtype not in PACKED and bool(shape)

    def read(self) -> Array:
        """The value, mapped: it takes memory only where it is touched."""
        return decode(self.place.read(), self.dtype, self.shape)

    def open(self) -> Rows:
        """What gives its rows; bytes are gathered, since numbers need not be aligned in a file."""
        if not self.by_rows:
            return super().open()
        dtype = helper.tensor_dtype_to_np_dtype(self.dtype)
        inner = self.shape[self.axis + 1 :]
        stored = np.frombuffer(self.place.read(), np.uint8).reshape(self.shape[self.axis], -1)
        buffers = Buffers()

        def rows(wanted: NDArray[np.int64]) -> Array:
            gathered: Array = (
                buffers.take("rows", stored, wanted).view(dtype).reshape(*(1,) * self.axis, len(wanted), *inner)
            )
            return gathered

        return rows


class Buffers(threading.local):
    """Memory that is used again: fresh pages cost more than the work on them."""

    def __init__(self) -> None:
        self.kept: dict[str, NDArray[np.uint8]] = {}

    def get(self, name: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Room for an array; what was there under this name before is lost."""
        needed = math.prod(shape) * np.dtype(dtype).itemsize
        if name not in self.kept or self.kept[name].nbytes < needed:
            self.kept[name] = np.empty(needed, np.uint8)
        room: Array = self.kept[name][:needed].view(dtype).reshape(shape)
        return room

    def take(self, name: str, value: Array, units: NDArray[np.int64], axis: int = 0) -> Array:
        """Gathers into such room."""
        shape = (*value.shape[:axis], len(units), *value.shape[axis + 1 :])
        return np.take(value, units, axis=axis, out=self.get(name, shape, value.dtype), mode="clip")


def decode(raw: memoryview, dtype: int, shape: tuple[int, ...]) -> Array:
    """The array that raw data stands for."""
    if dtype in PACKED:
        packed = TensorProto(data_type=dtype, dims=shape, raw_data=bytes(raw))
        return numpy_helper.to_array(packed)
    return np.frombuffer(raw, helper.tensor_dtype_to_np_dtype(dtype)).reshape(shape)


def encode(value: Array, dtype: int, shape: tuple[int, ...]) -> memoryview:
    """The raw data of an array.

    Raises:
        ModelError: If it is not of this type and shape, which would be a bug.
    """
    if value.shape != shape or value.dtype != helper.tensor_dtype_to_np_dtype(dtype):
        wrong = f"it came out as {value.dtype.name} {list(value.shape)} in place of {list(shape)}"
        raise ModelError(wrong, "report this as a bug", op="tensor")
    if dtype in PACKED:
        return memoryview(numpy_helper.from_array(value).raw_data)
    flat: Any = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
    return memoryview(flat)
