"""Where many tasks run: here one after the other, or on an engine that others made: joblib, Dask, Ray, any Executor.

Each of them is an Executor of the standard library, or is made one here. A task goes out as a call with plain values,
and only what it returns comes back.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from typing import Any, TypeAlias, TypeVar

from onnx_net2net.errors import MissingError, ModelError, UsageError

Engine: TypeAlias = str | Executor
Task = TypeVar("Task")
Answer = TypeVar("Answer")
SERIAL, CLUSTERS = "serial", ("dask", "ray")
NAMES = (SERIAL, "joblib", *CLUSTERS)
HERE = "127.0.0.1"
QUOTED = 200
"""Characters of an engine's own words that a message quotes."""


def run_each(
    call: Callable[[Task, int | None], Answer], tasks: Sequence[Task], engine: Engine = SERIAL, jobs: int | None = None
) -> Iterator[Answer | ModelError]:
    """What ``call`` makes of each task, in their order; an error where the engine lost one, as when its worker died.

    Whoever stops listening, or is interrupted, cancels all that has not begun, and ends the workers that this started.

    Args:
        call: A function that workers can import. It gets a task, and how many threads it may use (None: all).
        tasks: The tasks, which workers can unpickle.
        engine: ``serial``, ``joblib``, ``dask`` or ``ray``; ``dask=ADDRESS`` or ``ray=ADDRESS`` for a cluster that is
            there; or an Executor, which stays open.
        jobs: How many tasks run at a time, where this starts the workers; by default one for each core.

    Raises:
        MissingError: If the engine is not installed, or there is no cluster at its address.
        UsageError: If there is no such engine, or it does not take what is asked of it.
    """
    if engine == SERIAL and jobs is None:
        for task in tasks:
            yield call(task, None)
        return
    with _pool(engine, jobs, len(tasks)) as (pool, threads):
        futures: list[Future[Answer]] = [_submitted(pool, call, task, threads) for task in tasks]
        try:
            for future in futures:
                answer: Answer | ModelError = _answer(future)
                yield answer
        finally:
            for future in futures if pool is engine else ():  # all others end with their workers
                future.cancel()


def is_here(engine: Engine) -> bool:
    """Whether tasks run in this process, one after the other, so that they need not be sent."""
    return engine == SERIAL


def _submitted(pool: Executor, call: Callable[..., Answer], task: Any, threads: int) -> Future[Answer]:
    try:
        return pool.submit(call, task, threads)
    except RuntimeError as error:  # a worker died before this was sent
        lost: Future[Answer] = Future()
        lost.set_exception(error)
        return lost


def _answer(future: Future[Answer]) -> Answer | ModelError:
    try:
        return future.result()
    except Exception as error:
        words = " ".join(str(error).split())[:QUOTED]
        wrong = f"its worker did not finish ({type(error).__name__}{': ' * bool(words)}{words})"
        return ModelError(wrong, "see that workers have this package and enough memory", op="engine")


@contextlib.contextmanager
def _pool(engine: Engine, jobs: int | None, tasks: int) -> Iterator[tuple[Executor, int]]:
    """An Executor for so many tasks, and how many threads each may use: a slot of a cluster counts as one core."""
    name, address = engine.partition("=")[::2] if isinstance(engine, str) else ("", "")
    if isinstance(engine, str) and (name not in NAMES or ("=" in engine) != bool(address)):
        raise UsageError(f"there is no {engine!r}", f"write one of {', '.join(NAMES)}", op="engine")
    if address and name not in CLUSTERS:
        raise UsageError("it takes no address", f"write {name}", op="engine", tensor=f"{name}={address}")
    if jobs is not None and (address or name in ("", SERIAL)):
        cure = "add --engine joblib" if name == SERIAL else "the engine says how many"
        raise UsageError("it is for workers that are started here", cure, op="jobs")
    if jobs is not None and jobs < 1:
        raise UsageError(f"{jobs} is no number of workers", "give 1 or more", op="jobs")
    if not isinstance(engine, str):
        yield engine, 1
        return
    count = max(1, min(jobs or cores(), tasks))
    start: Any = {"joblib": _joblib, "dask": _dask, "ray": _ray}[name]
    with start(address, count) as pool:
        yield pool, 1 if address else max(1, cores() // count)


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _import(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        way_out = f"pip install 'onnx-net2net[{extra}]'"
        raise MissingError(
            f"it cannot be imported ({error})", way_out, op="engine", tensor=name.partition(".")[0]
        ) from error


def _ignore_interrupts() -> None:
    """For workers: a terminal tells all processes of an interrupt, and the first of them ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def _joblib(_address: str, jobs: int) -> Iterator[Executor]:
    """Processes of this machine, which notice when one of them dies."""
    loky = _import("joblib.externals.loky", "engines")
    pool, done = loky.ProcessPoolExecutor(max_workers=jobs, initializer=_ignore_interrupts), False
    try:
        yield pool
        done = True
    finally:
        for worker in () if done else list(pool._processes.values()):  # shutdown(kill_workers=True) is for short queues
            worker.terminate()
        pool.shutdown(wait=True)


@contextlib.contextmanager
def _dask(address: str, jobs: int) -> Iterator[Executor]:
    """A cluster at an address, or one of processes of this machine that nobody else can reach."""
    distributed = _import("distributed", "engines")
    local = {"n_workers": jobs, "threads_per_worker": 1, "host": HERE, "dashboard_address": f"{HERE}:0"}
    quiet = {"silence_logs": logging.CRITICAL}  # what becomes of tasks says enough
    with _reached("dask", address):
        client = distributed.Client(**({"address": address} if address else local | quiet), set_as_default=False)
    with client:
        if not address:
            client.run(_ignore_interrupts)
        yield client.get_executor(pure=False)


@contextlib.contextmanager
def _ray(address: str, jobs: int) -> Iterator[Executor]:
    """A cluster at an address, or one of processes of this machine."""
    ray = _import("ray", "ray")
    if ray.is_initialized():
        raise UsageError("it runs already", "pass engine=RayExecutor(ray)", op="ray")
    with _reached("ray", address):
        ray.init(
            **({"address": address} if address else {"num_cpus": jobs}),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    try:
        yield RayExecutor(ray)
    finally:
        ray.shutdown()


class RayExecutor(Executor):
    """Ray as an Executor. Its own futures do not cancel what they stand for."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Sends a call to a worker."""
        reference = self._ray.remote(fn).remote(*args, **kwargs)
        future: Future[Any] = reference.future()
        future.add_done_callback(lambda done: self._ray.cancel(reference, force=True) if done.cancelled() else None)
        return future


@contextlib.contextmanager
def _reached(name: str, address: str) -> Iterator[None]:
    """Says so where nothing answers at an address."""
    try:
        yield
    except (OSError, RuntimeError, ValueError) as error:
        if not address:
            raise
        words = (str(error).strip().splitlines() or [type(error).__name__])[0][:QUOTED]
        wrong = f"no cluster answers there ({words})"
        raise MissingError(wrong, "start one, or check its address", op=name, tensor=address) from error
