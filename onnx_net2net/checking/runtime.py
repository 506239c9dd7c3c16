"""onnxruntime: imported where it is needed, asked for providers, and run."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any, NoReturn, Protocol

from onnx import GraphProto, ModelProto, TensorProto, ValueInfoProto

from onnx_net2net.checking.inputs import Array, Feeds
from onnx_net2net.checking.session import Job, Reply, answer
from onnx_net2net.errors import MissingError, ModelError
from onnx_net2net.io import Model, is_large, opened, save
from onnx_net2net.storage.model import AnyModel, LazyModel, here
from onnx_net2net.storage.ranges import is_external
from onnx_net2net.storage.reader import read
from onnx_net2net.storage.sinks import Layout

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
        raise missing(error) from error
    return onnxruntime


def missing(error: Exception) -> MissingError:
    """What to say when onnxruntime cannot be imported."""
    found = installed()
    if found:
        return MissingError(f"{' and '.join(found)} cannot be imported ({error})", REINSTALL, op="onnxruntime")
    return MissingError(
        "it is not installed",
        "pip install 'onnx-net2net[cpu]' (or [gpu]), or go without verification",
        op="onnxruntime",
    )


GPU = "pip uninstall onnxruntime, then pip install 'onnx-net2net[gpu]' on a machine with a GPU"
REINSTALL = "pip uninstall onnxruntime and onnxruntime-gpu, then install only one of them"


def installed() -> list[str]:
    """Which of onnxruntime's packages are installed; two of them overwrite each other's files."""
    from importlib.metadata import distributions

    names = {d.metadata["Name"] for d in distributions()}
    return sorted(names & {"onnxruntime", "onnxruntime-gpu"})


class Stopped(ModelError):
    """onnxruntime did not come back: it crashed, took too long or took too much memory."""


class Runner(Protocol):
    """Where onnxruntime runs."""

    def available(self) -> list[str]:
        """The providers that onnxruntime has."""

    def ask(self, job: Job, who: str) -> Reply:
        """What `session.answer` says to a job; ``who`` is the model that it is about."""


class Here:
    """This process.

    Args:
        threads: Threads that work on one node; None for as many as there are cores.

    Raises:
        MissingError: If onnxruntime is not installed.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.runtime = import_runtime()
        self.threads = threads

    def available(self) -> list[str]:
        """The providers that onnxruntime has."""
        return list(self.runtime.get_available_providers())

    def ask(self, job: Job, who: str) -> Reply:
        """Runs a job at once."""
        return answer(self.runtime, {"threads": self.threads, **job})


def available(runner: Runner, wanted: Sequence[str]) -> list[str]:
    """Onnxruntime's names of the providers that are wanted.

    Raises:
        MissingError: If one is not there.
    """
    names = [PROVIDERS.get(name.lower(), name) for name in wanted]
    present = runner.available()
    for name in names:
        if name not in present and len(installed()) > 1:
            raise MissingError(
                "two packages of onnxruntime overwrote each other", REINSTALL, op="provider", tensor=name
            )
        if name not in present:
            raise MissingError(
                f"it is not available here (there is {', '.join(present)})",
                GPU,
                op="provider",
                tensor=name,
            )
    return names


class NoKernel(Exception):  # tells the caller to try another way
    """onnxruntime has no kernel for a type that the model uses."""


def run_on(
    runner: Runner,
    model: AnyModel,
    feeds: Sequence[Feeds],
    providers: Sequence[str],
    *,
    optimise: bool = True,
    who: str = "teacher",
) -> list[list[Array]]:
    """Outputs by output, then by sample."""
    names = [value.name for value in model.graph.output]
    with as_source(model) as source:
        return run_source(runner, source, names, feeds, providers, optimise=optimise, who=who)


def run_source(
    runner: Runner,
    source: bytes | str,
    names: Sequence[str],
    feeds: Sequence[Feeds],
    providers: Sequence[str],
    *,
    optimise: bool = True,
    who: str = "teacher",
) -> list[list[Array]]:
    """Outputs by name, then by sample, of what `as_source` gave.

    Raises:
        MissingError: If a provider is not there after all.
        ModelError: If it cannot be run.
        NoKernel: If onnxruntime lacks a kernel.
    """
    if not names:
        return []
    return by_name(ask(runner, source, names, feeds, providers, who, optimise=optimise))


def ask(
    runner: Runner,
    source: bytes | str,
    names: Sequence[str],
    feeds: Sequence[Feeds],
    providers: Sequence[str],
    who: str,
    *,
    tf32: bool = False,
    **more: bool,
) -> Reply:
    """The reply of a job that went well; see `session.answer`. Raises what `run_source` raises."""
    options = [(name, {"use_tf32": str(int(tf32))}) if name == PROVIDERS["cuda"] else name for name in providers]
    where: dict[str, Any] = {"source": bytes(source) if isinstance(source, bytes) else source}
    where |= {"rooted": True} if isinstance(source, Rooted) else {}
    where |= {"layouts": False} if isinstance(source, (Half, RootedHalf)) else {}
    job = {**where, "names": list(names), "feeds": list(feeds), "providers": options}
    reply = runner.ask({"optimise": True, **job, **more}, who)
    if "error" in reply:
        kind, text = reply["error"]
        _refuse(kind, text, who)
    _check_providers(reply["providers"], providers)
    return reply


def by_name(reply: Reply) -> list[list[Array]]:
    """The outputs of a reply by name, then by sample."""
    return [list(column) for column in zip(*reply["values"], strict=True)]


NO_GPU = re.compile(r"CUDA failure (3|35|46|100|101|80[0-4]|999)\b|CUDA wasn't able to be loaded|lib(cu|nv)\w+\.so")
"""What onnxruntime says where no GPU, or no driver for it, is at hand."""


def _refuse(kind: str, text: str, who: str) -> NoReturn:
    """Raises what an error in a reply stands for."""
    if kind == "kernel":
        raise NoKernel(text)
    if kind == "unclear":
        raise ModelError("onnxruntime cannot run it, and cannot say why", "check the model", op=who)
    if NO_GPU.search(text):
        raise MissingError(f"there is no GPU that works ({text[-200:]})", GPU, op="provider", tensor=PROVIDERS["cuda"])
    if "use_tf32" in text:
        wrong = f"this onnxruntime cannot leave TF32 off ({text[-200:]})"
        raise MissingError(wrong, "install onnxruntime-gpu 1.18 or later", op="provider", tensor=PROVIDERS["cuda"])
    raise ModelError(
        f"onnxruntime cannot run it ({text})",
        "check the model with onnx.checker, and the sizes of dynamic dimensions (--dim)",
        op=who,
    )


def _check_providers(used: Sequence[str], wanted: Sequence[str]) -> None:
    """Onnxruntime falls back to the CPU without an error where a provider's libraries do not load."""
    for name in wanted:
        if name not in used:
            raise MissingError(
                "onnxruntime fell back to another provider, as its libraries do not load here",
                GPU,
                op="provider",
                tensor=name,
            )


class Rooted(bytes):
    """A model that names files by their path below the root: `session.root` says so to onnxruntime."""


class Half(bytes):
    """A model with float16: onnxruntime 1.31 crashes when it looks for layouts that suit its fused matrix products."""


class RootedHalf(Rooted):
    """Both."""


KINDS = {(False, False): bytes, (True, False): Rooted, (False, True): Half, (True, True): RootedHalf}
"""What a source is, by whether it names files and whether it has float16."""


@contextlib.contextmanager
def settled(model: Model | LazyModel) -> Iterator[ModelProto]:
    """A model that onnxruntime can run: weights that are still to be computed go to a temporary file."""
    found = opened(model)
    if isinstance(found, ModelProto) or not found.made:
        proto, kept = here(found)  # onnxruntime reads files only
        yield proto
        del kept
        return
    with tempfile.TemporaryDirectory(prefix="onnx_net2net.") as folder:
        path = Path(folder) / "model.onnx"
        save(found, path, Layout(external=True))
        yield read(path).proto


@contextlib.contextmanager
def as_source(model: AnyModel) -> Iterator[bytes | str]:
    """What onnxruntime can load: bytes, which may refer to files, or over 2 GiB the path of a temporary file."""
    if isinstance(model, LazyModel):
        with settled(model) as proto, as_source(proto) as source:
            yield source
        return
    if not is_large(model):
        external = any(is_external(weight) for weight in model.graph.initializer)
        kind = KINDS[external, _has_float16(model)]
        yield kind((_within_root(model) if external else model).SerializeToString())
        return
    with tempfile.TemporaryDirectory(prefix="onnx_net2net.") as folder:
        path = Path(folder) / "model.onnx"
        save(model, path)
        yield str(path)


def _has_float16(model: ModelProto) -> bool:
    values = (value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output))
    return TensorProto.FLOAT16 in {*values, *(weight.data_type for weight in model.graph.initializer)}


def _within_root(model: ModelProto) -> ModelProto:
    """The model, its weights in files by their path below the root."""
    copy = ModelProto()
    copy.CopyFrom(model)
    for weight in filter(is_external, copy.graph.initializer):
        for entry in list(weight.external_data):
            if entry.key == "location":
                entry.value = str(PurePath(entry.value).relative_to(PurePath(entry.value).anchor))
            elif entry.key not in ("offset", "length"):
                weight.external_data.remove(entry)
    return copy


def exposing(source: bytes | str, names: Sequence[str]) -> bytes | str:
    """The same source with more outputs: protobuf reads one message after another as one, lists added up.

    A path gets a neighbour in its folder, which shares its data.
    """
    graph = GraphProto(output=[ValueInfoProto(name=name) for name in names])
    more: bytes = ModelProto(graph=graph).SerializeToString()
    if isinstance(source, bytes):
        return type(source)(source + more)
    path = Path(source).with_name("exposing.onnx")
    path.write_bytes(Path(source).read_bytes() + more)
    return str(path)
