"""Samples from files and from the user's own code, and back into a file."""

from __future__ import annotations

import importlib
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_net2net.checking.inputs import PROBES, Array, Feeds, Samples, graph_inputs
from onnx_net2net.errors import RequestError, UsageError
from onnx_net2net.io import atomic

FUNCTION = re.compile(r"([A-Za-z_][\w.]*):([A-Za-z_][\w.]*)")
PROTO = re.compile(r"input_(\d+)\.pb")


def read(source: str, model: ModelProto) -> Samples:
    """The samples that a file, a folder or a function holds.

    Args:
        source: An ``.npz`` file; a folder of ``.npy`` files, or of ONNX test data (``input_0.pb``), or of several such
            folders; one ``.npy`` or ``.pb`` file for a model of one input; or ``module:function``, which returns or
            yields arrays by input name. In files of several samples names begin with the sample's: ``0/x``.
        model: The model, whose inputs say which names are wanted.

    Raises:
        RequestError: If nothing of that kind is there.
        UsageError: If the function cannot be found or fails.
    """
    path = Path(source)
    match = FUNCTION.fullmatch(source)
    if match and not path.exists():
        return Samples(_call(source, match[1], match[2]))
    try:
        if path.is_dir():
            return _folder(path, model)
        if path.suffix in (".npy", ".pb"):
            return Samples([{_only(model, source): _array(path)[1]}])
        with np.load(path) as arrays:
            return _grouped(dict(arrays), model)
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile, DecodeError) as error:
        raise RequestError(
            "it holds no arrays by name", "write it with numpy.savez", op="file", tensor=source
        ) from error


def write(samples: Samples, path: Path) -> None:
    """Saves samples as an ``.npz`` file that `read` takes again; the file appears whole or not at all."""
    named = {str(k): feed for k, feed in enumerate(samples.plain)} | samples.probes
    arrays = {f"{sample}/{name}": value for sample, feed in named.items() for name, value in feed.items()}
    with atomic(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in arrays.items():
            entry = zipfile.ZipInfo(f"{key}.npy")  # without the time of day, so that equal samples give equal files
            with archive.open(entry, "w", force_zip64=True) as place:
                np.lib.format.write_array(place, np.asarray(value), allow_pickle=False)


def _grouped(arrays: Mapping[str, Array], model: ModelProto) -> Samples:
    """One sample, or several if all names begin with a sample's."""
    wanted = {value.name for value in graph_inputs(model)}
    if wanted <= arrays.keys() or not all("/" in name for name in arrays):
        return Samples([dict(arrays)])
    groups: dict[str, Feeds] = {}
    for key, value in arrays.items():
        sample, _, name = key.partition("/")
        groups.setdefault(sample, {})[name] = value
    plain = sorted(groups.keys() - set(PROBES), key=_place)
    return Samples([groups[name] for name in plain], {name: groups[name] for name in PROBES if name in groups})


def _place(name: str) -> tuple[int, str]:
    """Samples in the order of the numbers in their names."""
    digits = re.search(r"\d+$", name)
    return int(digits[0]) if digits else -1, name


def _folder(path: Path, model: ModelProto) -> Samples:
    """The samples in a folder: the one that its files make, or one for each of its folders."""
    if any(PROTO.fullmatch(file.name) for file in path.iterdir()):
        return Samples([_protos(path, model)])
    inner = sorted((folder for folder in path.iterdir() if folder.is_dir()), key=lambda folder: _place(folder.name))
    sets = [folder for folder in inner if any(PROTO.fullmatch(file.name) for file in folder.iterdir())]
    if sets:
        return Samples([_protos(folder, model) for folder in sets])
    files = sorted(path.rglob("*.npy"))
    if not files:
        wrong, way = "it holds no .npy and no input_0.pb files", "name them after the inputs"
        raise RequestError(wrong, way, op="folder", tensor=str(path))
    return _grouped({file.relative_to(path).with_suffix("").as_posix(): np.load(file) for file in files}, model)


def _protos(folder: Path, model: ModelProto) -> Feeds:
    """ONNX test data: a tensor's own name if it is an input's, else its place among the inputs."""
    names = [value.name for value in graph_inputs(model)]
    feed: Feeds = {}
    for file in folder.iterdir():
        match = PROTO.fullmatch(file.name)
        if match:
            name, value = _array(file)
            place = int(match[1])
            if name not in names and place >= len(names):
                wrong = f"the model has {len(names)} inputs"
                raise RequestError(wrong, "remove it, or name its tensor", op="file", tensor=str(file))
            feed[name if name in names else names[place]] = value
    return feed


def _array(path: Path) -> tuple[str, Array]:
    """Name and value of a tensor in a file; numpy's files hold no name."""
    if path.suffix == ".npy":
        return "", np.load(path)
    tensor = TensorProto()
    tensor.ParseFromString(path.read_bytes())
    if tensor.data_type == TensorProto.UNDEFINED:
        wrong = "it holds no tensor"
        raise RequestError(wrong, "sequences can be given from Python", op="file", tensor=str(path))
    return tensor.name, numpy_helper.to_array(tensor)


def _only(model: ModelProto, source: str) -> str:
    """The input of a model that has one."""
    names = [value.name for value in graph_inputs(model)]
    if len(names) != 1:
        wrong = f"it is one tensor, and the model has {len(names)} inputs"
        raise RequestError(wrong, "give an .npz file or a folder", op="file", tensor=source)
    return names[0]


def _call(source: str, module: str, function: str) -> list[Feeds]:
    """What the user's function returns or yields."""
    sys.path.insert(0, "")  # modules beside the caller's files are found, as with python -m
    try:
        found: Any = importlib.import_module(module)
        for part in function.split("."):
            found = getattr(found, part)
        made = found()
        samples: list[Feeds] = [dict(made)] if isinstance(made, Mapping) else list(made)
    except Exception as error:  # the user's code raises anything at all
        wrong = f"{type(error).__name__}: {error}"
        raise UsageError(wrong, "name a function without arguments", op="inputs", tensor=source) from error
    finally:
        sys.path.remove("")
    if not samples:
        raise UsageError("it gives no samples", "yield arrays by input name", op="inputs", tensor=source)
    return samples
