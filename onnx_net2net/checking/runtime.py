"""onnxruntime: imported where it is needed, asked for providers, and run."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from onnx import ModelProto

from onnx_net2net.checking.inputs import Array, Feeds
from onnx_net2net.errors import MissingError, ModelError
from onnx_net2net.io import is_large, save

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


def import_runtime() -> Any:
    """onnxruntime, imported only where it is needed.

    Raises:
        MissingError: If it is not installed, or two of its packages overwrote each other.
    """
    try:
        import onnxruntime

        onnxruntime.InferenceSession  # noqa: B018  # a damaged install lacks it
    except (ImportError, AttributeError) as error:
        found = installed()
        if found:
            wrong = f"{' and '.join(found)} cannot be imported ({error})"
            raise MissingError(wrong, REINSTALL, op="onnxruntime") from error
        raise MissingError(
            "it is not installed",
            "pip install 'onnx-net2net[cpu]' (or [gpu]), or go without verification",
            op="onnxruntime",
        ) from error
    return onnxruntime


REINSTALL = "pip uninstall onnxruntime and onnxruntime-gpu, then install only one of them"


def installed() -> list[str]:
    """Which of onnxruntime's packages are installed; two of them overwrite each other's files."""
    from importlib.metadata import distributions

    names = {d.metadata["Name"] for d in distributions()}
    return sorted(names & {"onnxruntime", "onnxruntime-gpu"})


def available(runtime: Any, wanted: Sequence[str]) -> list[str]:
    """Onnxruntime's names of the providers that are wanted.

    Raises:
        MissingError: If one is not there.
    """
    names = [PROVIDERS.get(name.lower(), name) for name in wanted]
    present = runtime.get_available_providers()
    for name in names:
        if name not in present and len(installed()) > 1:
            raise MissingError(
                "two packages of onnxruntime overwrote each other", REINSTALL, op="provider", tensor=name
            )
        if name not in present:
            raise MissingError(
                f"it is not available here (there is {', '.join(present)})",
                "pip uninstall onnxruntime, then pip install 'onnx-net2net[gpu]' on a machine with a GPU",
                op="provider",
                tensor=name,
            )
    return names


class NoKernel(Exception):  # tells the caller to try another way
    """onnxruntime has no kernel for a type that the model uses."""


def run_on(
    runtime: Any,
    model: ModelProto,
    feeds: Sequence[Feeds],
    providers: Sequence[str],
    *,
    optimise: bool = True,
    who: str = "teacher",
) -> list[list[Array]]:
    """Outputs by output, then by sample."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    level = runtime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    names = [value.name for value in model.graph.output]
    try:
        with as_source(model) as source:
            session = runtime.InferenceSession(source, options, providers=list(providers), enable_fallback=0)
        _check_providers(session.get_providers(), providers)
        results = [session.run(names, feed) for feed in feeds]
    except UnicodeDecodeError as error:  # onnxruntime quotes the model's own bytes
        raise ModelError("onnxruntime cannot run it, and cannot say why", "check the model", op=who) from error
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime") or type(error) is RuntimeError:
            if type(error).__name__ == "NotImplemented":
                raise NoKernel(str(error).strip().splitlines()[0]) from error
            text = str(error).strip().splitlines()[0]
            raise ModelError(
                f"onnxruntime cannot run it ({text})",
                "check the model with onnx.checker, and the sizes of dynamic dimensions (--dim)",
                op=who,
            ) from error
        raise
    return [list(column) for column in zip(*results, strict=True)] if names else []


def _check_providers(used: Sequence[str], wanted: Sequence[str]) -> None:
    """Onnxruntime falls back to the CPU without an error where a provider's libraries do not load."""
    for name in wanted:
        if name not in used:
            raise MissingError(
                "onnxruntime fell back to another provider, as its libraries do not load here",
                "install 'onnx-net2net[gpu]' with CUDA and cuDNN on a machine with a GPU",
                op="provider",
                tensor=name,
            )


@contextlib.contextmanager
def as_source(model: ModelProto) -> Iterator[bytes | str]:
    """What onnxruntime can load: bytes, or over 2 GiB the path of a temporary file."""
    if not is_large(model):
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix="onnx_net2net.") as folder:
        path = Path(folder) / "model.onnx"
        save(model, path)
        yield str(path)
