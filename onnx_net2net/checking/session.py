"""One session of onnxruntime: a job in, a reply out, both of plain values.

It imports nothing of this package, since the child process of `process.py` starts from this file alone.
"""

from __future__ import annotations

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
