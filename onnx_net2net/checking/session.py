"""One session of onnxruntime: a job in, a reply out, both of plain values.

It imports nothing of this package, since the child process of `process.py` runs this file alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pickle
import signal
import sys
from collections.abc import Mapping
from typing import Any

Job = dict[str, Any]
"""source, names, feeds, providers, optimise."""
Reply = dict[str, Any]
"""values: outputs by sample, then by name; or error: its kind and its text."""


def answer(runtime: Any, job: Mapping[str, Any]) -> Reply:
    """Runs a model on all samples; what onnxruntime refuses becomes an error in the reply."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    level = runtime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if job["optimise"] else level.ORT_DISABLE_ALL
    try:
        session = runtime.InferenceSession(job["source"], options, providers=job["providers"], enable_fallback=0)
        used = session.get_providers()
        values = [session.run(job["names"], feed) for feed in job["feeds"]]
    except UnicodeDecodeError:  # onnxruntime quotes the model's own bytes
        return {"error": ("unclear", "")}
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime") or type(error) is RuntimeError:
            text = (str(error).strip().splitlines() or ["no reason given"])[0]
            return {"error": ("kernel" if type(error).__name__ == "NotImplemented" else "refused", text)}
        raise
    return {"values": values, "providers": list(used)}


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
