"""One session of onnxruntime: a job in, a reply out, both of plain values.

It imports nothing of this package, since the child process of `process.py` runs this file alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import pickle
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

Job = dict[str, Any]
"""source, names, feeds, providers, optimise; rooted: whether source names files by their path below the root; layouts:
whether optimisations may change layouts; threads: how many work on one node (None: one for each core); trace: whether
to say where nodes ran; alone: whether to try it without any other provider first."""
Reply = dict[str, Any]
"""values: outputs by sample, then by name; providers; if traced placed: (provider, operator, node), and alone: whether
it went without any other provider; or error: its kind and its text."""
RECORD, ALONE = "session.record_ep_graph_assignment_info", "session.disable_cpu_ep_fallback"
FOLDER = "session.model_external_initializers_file_folder_path"
"""Settings of onnxruntime; versions that do not know one ignore it."""


def answer(runtime: Any, job: Mapping[str, Any]) -> Reply:
    """Runs a model on all samples; what onnxruntime refuses becomes an error in the reply."""
    try:
        _preload(runtime, job["providers"])
        with tempfile.TemporaryDirectory(prefix="onnx_net2net.") if job.get("trace") else _nowhere() as folder:
            alone = _start(runtime, job, folder, ALONE) if job.get("alone") else None
            session = alone or _start(runtime, job, folder)
            values = [session.run(job["names"], feed) for feed in job["feeds"]]
            reply = {"values": values, "providers": list(session.get_providers()), "alone": alone is not None}
            return reply | ({"placed": _placed(session)} if folder else {})
    except UnicodeDecodeError:  # onnxruntime quotes the model's own bytes
        return {"error": ("unclear", "")}
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime") or type(error) is RuntimeError:
            text = (str(error).strip().splitlines() or ["no reason given"])[0]
            return {"error": ("kernel" if type(error).__name__ == "NotImplemented" else "refused", text)}
        raise


def _nowhere() -> contextlib.AbstractContextManager[None]:
    return contextlib.nullcontext()


def _preload(runtime: Any, providers: Sequence[Any]) -> None:
    """Loads CUDA's libraries out of the packages that pip installed; what it prints is for nobody."""
    named = [name if isinstance(name, str) else name[0] for name in providers]
    if "CUDAExecutionProvider" in named and hasattr(runtime, "preload_dlls"):
        with contextlib.redirect_stdout(io.StringIO()):
            runtime.preload_dlls()


def _start(runtime: Any, job: Mapping[str, Any], folder: str | None, *settings: str) -> Any:
    """A session; None if it does not start with these settings."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    level = runtime.GraphOptimizationLevel
    full = level.ORT_ENABLE_ALL if job.get("layouts", True) else level.ORT_ENABLE_EXTENDED
    options.graph_optimization_level = full if job["optimise"] else level.ORT_DISABLE_ALL
    if folder and hasattr(runtime.InferenceSession, "get_provider_graph_assignment_info"):
        settings = (*settings, RECORD)
    elif folder:
        options.enable_profiling = True
        options.profile_file_prefix = os.path.join(folder, "profile")
    if job.get("rooted"):
        root(options)
    if job.get("threads"):
        options.intra_op_num_threads = job["threads"]
    for name in settings:
        options.add_session_config_entry(name, "1")
    try:
        return runtime.InferenceSession(job["source"], options, providers=job["providers"], enable_fallback=0)
    except Exception as error:
        if ALONE in settings and "fallback" in str(error):
            return None
        raise


def root(options: Any) -> None:
    """Lets a model in memory name files by their path below the root; since onnxruntime 1.21."""
    options.add_session_config_entry(FOLDER, os.path.abspath(os.sep))


def _placed(session: Any) -> list[tuple[str, str, str]]:
    """Where each node is: as it was assigned, or in versions that do not tell, as it was profiled."""
    if hasattr(session, "get_provider_graph_assignment_info"):
        groups = session.get_provider_graph_assignment_info()
        return [(group.ep_name, node.op_type, node.name) for group in groups for node in group.get_nodes()]
    with open(session.end_profiling(), encoding="utf-8", errors="replace") as stream:
        events = json.load(stream)
    ended = "_kernel_time"
    nodes = [(event["args"], event["name"].removesuffix(ended)) for event in events if event["name"].endswith(ended)]
    return list(dict.fromkeys((args["provider"], args["op_name"], name) for args, name in nodes))


def serve() -> None:
    """The child's side: says what onnxruntime has, and then answers jobs until the parent has no more."""
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not get between the replies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it too, and ends this process
    _die_with_the_parent()
    jobs = sys.stdin.buffer
    sys.path[:] = pickle.load(jobs)
    try:
        import onnxruntime as runtime  # noqa: PLC0415  # only now is it known where to look

        _send(replies, {"available": list(runtime.get_available_providers())})
    except (ImportError, AttributeError) as error:
        _send(replies, {"missing": str(error)})
        return
    with contextlib.suppress(EOFError):
        while True:
            _send(replies, _reply(runtime, pickle.load(jobs)))


def _reply(runtime: Any, job: Job) -> Reply:
    try:
        reply = answer(runtime, job)
    except MemoryError:
        return {"error": ("memory", "")}
    except Exception as error:  # the parent has to hear of it, whatever it is
        return {"error": ("refused", f"{type(error).__name__}: {error}")}
    if "values" in reply:
        reply["values"] = [[_plain(value) for value in sample] for sample in reply["values"]]
    return reply


def _plain(value: Any) -> Any:
    """The value, or where it is none that a pipe takes, its type in words."""
    known = type(value).__module__ in ("builtins", "numpy")
    return value if known else str(type(value))


def _send(stream: Any, reply: Reply) -> None:
    pickle.dump(reply, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def _die_with_the_parent() -> None:
    """On Linux: ends with the parent, even one that is killed, and is the first to go when memory runs out."""
    if not sys.platform.startswith("linux"):
        return
    parent_death = 1
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(parent_death, signal.SIGKILL)
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as score:
        score.write("1000")


if __name__ == "__main__":
    serve()
