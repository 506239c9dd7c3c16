"""Checkpoints of training frameworks as numpy arrays by name: .safetensors, .npz and PyTorch's .pt."""

from __future__ import annotations

import importlib
import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from onnx_net2net.errors import MissingError, ModelError
from onnx_net2net.io import atomic

Array = NDArray[Any]
State = dict[str, Array]
TORCH = (".pt", ".pth", ".bin", ".ckpt")
WRAPPERS = ("state_dict", "model", "model_state_dict", "module", "params")
"""Keys under which training scripts keep the weights among other things."""


def read_state(path: str | os.PathLike[str], *, under: str = "") -> State:
    """Reads the tensors of a checkpoint.

    Args:
        path: A ``.safetensors``, ``.npz``, ``.pt`` or ``.pth`` file.
        under: Key of a nested PyTorch checkpoint that holds the weights, such as ``model``; dots go deeper.

    Raises:
        ModelError: If the file is not such a checkpoint, or holds the weights under a key that has to be named.
        MissingError: If the library that reads the format is not installed.
    """
    source = Path(path)
    if not source.is_file():
        raise ModelError("there is no such file", "check the path", op="checkpoint", tensor=str(source))
    try:
        if source.suffix == ".safetensors":
            return _read_safetensors(source)
        if source.suffix == ".npz":
            with np.load(source, allow_pickle=False) as stored:
                return {name: stored[name] for name in stored.files}
    except (ValueError, OSError, zipfile.BadZipFile, _safetensors_error()) as error:
        raise _unreadable(source, error) from error
    if source.suffix in TORCH:
        return _flat(load_torch(source), under, str(source))
    raise ModelError(
        f"{source.suffix or 'no suffix'} is not a format of checkpoints",
        "use .safetensors, .npz, .pt or .pth",
        op="checkpoint",
        tensor=str(source),
    )


def write_state(state: Mapping[str, Array], path: str | os.PathLike[str]) -> None:
    """Writes tensors in the format that the name says; the file appears only when it is complete.

    Raises:
        ModelError: If the name says no known format, or the file cannot be written.
        MissingError: If the library that writes the format is not installed.
    """
    target = Path(path)
    whole = {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in state.items()}
    if target.suffix == ".safetensors":
        data = _safetensors("numpy").save(whole, metadata={"format": "pt"})
    elif target.suffix == ".npz":
        if strange := [name for name, value in whole.items() if value.dtype.kind == "V"]:
            wrong = f"an .npz file has no type {whole[strange[0]].dtype.name}"
            raise ModelError(wrong, "write .safetensors", op="checkpoint", tensor=strange[0])
        stream = io.BytesIO()
        np.savez(stream, **whole)  # type: ignore[arg-type]
        data = stream.getvalue()
    elif target.suffix in TORCH:
        data = torch_bytes({name: to_torch(value) for name, value in whole.items()})
    else:
        wrong = f"{target.suffix or 'no suffix'} is not a format of checkpoints"
        raise ModelError(wrong, "use .safetensors, .npz, .pt or .pth", op="checkpoint", tensor=str(target))
    write_bytes(data, target)


def write_bytes(data: bytes, target: Path) -> None:
    """Writes a file in one step.

    Raises:
        ModelError: If it cannot be written; an existing file is then left as it was.
    """
    try:
        with atomic(target) as stream:
            stream.write(data)
    except OSError as error:
        wrong = f"it cannot be written ({error.strerror or error})"
        raise ModelError(wrong, "choose another place", op="file", tensor=str(target)) from error


def load_torch(source: Path) -> Any:
    """What a PyTorch file holds, on the CPU; files that would run code are refused.

    Raises:
        ModelError: If it is not such a file, or holds more than tensors and plain values.
        MissingError: If torch is not installed.
    """
    try:
        return _torch().load(source, map_location="cpu", weights_only=True)
    except MissingError:
        raise
    except Exception as error:  # damaged archives raise anything at all
        raise _unreadable(source, error) from error


def torch_bytes(value: Any) -> bytes:
    """A PyTorch file as bytes.

    Raises:
        MissingError: If torch is not installed.
    """
    stream = io.BytesIO()
    _torch().save(value, stream)
    return stream.getvalue()


def from_torch(tensor: Any) -> Array:
    """A numpy array with the numbers of a torch tensor, bfloat16 included."""
    torch = _torch()
    plain = tensor.detach().cpu().contiguous()
    if plain.dtype == torch.bfloat16:
        return np.asarray(plain.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
    return np.asarray(plain.numpy())


def to_torch(value: Array) -> Any:
    """The reverse of `from_torch`."""
    torch = _torch()
    if value.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(value.view(np.int16).copy()).view(torch.bfloat16)
    return torch.from_numpy(np.array(value))


def _flat(loaded: Any, under: str, source: str) -> State:
    """The tensors of a loaded PyTorch checkpoint, by name."""
    for key in filter(None, under.split(".")):
        if not isinstance(loaded, Mapping) or key not in loaded:
            keys = ", ".join(map(str, loaded)) if isinstance(loaded, Mapping) else "no keys"
            raise ModelError(f"it has no {key}", f"it holds {keys}", op="checkpoint", tensor=source)
        loaded = loaded[key]
    torch = _torch()
    if isinstance(loaded, Mapping) and loaded:
        tensors = {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
        if len(tensors) == len(loaded):
            return {name: from_torch(value) for name, value in tensors.items()}
        nested = [str(name) for name, value in loaded.items() if isinstance(value, Mapping)]
        wanted = [name for name in WRAPPERS if name in nested] or nested
        if wanted:
            way_out = f"say under which key: {', '.join(wanted)}"
            raise ModelError("its weights are nested among other things", way_out, op="checkpoint", tensor=source)
    raise ModelError("it is not a dictionary of tensors", "save a state_dict", op="checkpoint", tensor=source)


def _read_safetensors(source: Path) -> State:
    """Reads by hand what numpy has no name for: the library hands out bytes, the header says the types."""
    library = importlib.import_module("safetensors") if _safetensors("numpy") else None
    assert library is not None
    raw = library.deserialize(source.read_bytes())
    return {
        name: np.frombuffer(bytearray(entry["data"]), _dtype(entry["dtype"])).reshape(entry["shape"])
        for name, entry in raw
    }


def _dtype(name: str) -> np.dtype[Any]:
    """The numpy type of a type in a safetensors header."""
    special: dict[str, Any] = {
        "BF16": ml_dtypes.bfloat16,
        "F8_E4M3": ml_dtypes.float8_e4m3fn,
        "F8_E5M2": ml_dtypes.float8_e5m2,
        "BOOL": np.bool_,
    }
    kind = {"F": "f", "I": "i", "U": "u", "C": "c"}.get(name[0], "")
    if name not in special and not (kind and name[1:].isdigit()):
        raise ValueError(f"its type {name} is not known")
    found: np.dtype[Any] = np.dtype(special[name] if name in special else f"<{kind}{int(name[1:]) // 8}")
    return found


def _unreadable(source: Path, error: Exception) -> ModelError:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return ModelError(reason, "save the checkpoint again", op="checkpoint", tensor=str(source))


def _safetensors(part: str) -> Any:
    try:
        return importlib.import_module(f"safetensors.{part}")
    except ImportError as error:
        raise MissingError(
            "safetensors is not installed", "pip install 'onnx-net2net[checkpoints]'", op="checkpoint"
        ) from error


def _safetensors_error() -> type[Exception]:
    try:
        found: type[Exception] = importlib.import_module("safetensors").SafetensorError
    except ImportError:
        return ValueError
    return found


def _torch() -> Any:
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise MissingError("torch is not installed", "pip install 'onnx-net2net[torch]'", op="checkpoint") from error
