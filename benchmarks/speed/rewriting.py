"""Weights of gigabytes: a widening beside a plain write of the student, and beside what the disk and memory allow."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks.speed.measure import OURS, Process, Row, by_turns, exponent, process
from benchmarks.speed.models import SIDE, stack

SECTION = "rewriting"
FACTOR = 1.5
CHUNK = 1 << 24
"""Bytes that a plain write writes at a time."""
MIB = 2**20


def rewriting(folder: Path, runs: int, gigabytes: float = 4) -> Iterator[Row]:
    """A 4 GiB model of 4096 x 4096 products, widened by half, against the floor that the machine sets."""
    layers = max(2, round(gigabytes * 16))
    teacher, student = stack(folder, layers), folder / "wide.onnx"
    peaks: list[int] = []

    def widening(threads: int = 1) -> float:
        took = _widen(teacher, student, threads)
        peaks.append(took.peak)
        return took.seconds

    sizes = [_bytes(teacher), 0]
    _fresh(student, widening)
    sizes[1] = _bytes(student)
    written = folder / "wide.onnx.data"
    took, two, plain, kept, read, gather = by_turns(
        runs,
        partial(_fresh, student, widening),
        partial(_fresh, student, partial(widening, 2)),
        partial(_fresh, student, partial(_write, written, sizes[1])),
        partial(_fresh, student, partial(_write, written, sizes[1], kept=True)),
        partial(_read, Path(f"{teacher}.data")),
        partial(_gather, Path(f"{teacher}.data"), layers),
    )
    floor = read + gather + kept
    _remove(student)
    _remove(teacher)
    name = f"widen x{FACTOR} of {sizes[0] / 2**30:.1f} GiB to {sizes[1] / 2**30:.1f} GiB, whole process"
    yield Row(SECTION, name, took, "s", 4, took / plain, f"plain write of the student's bytes ({plain:.2f} s)")
    parts = f"read {read:.2f} + gather {gather:.2f} + write {kept:.2f} s, kept by the disk (fsync) as the student is"
    yield Row(SECTION, name, took, "s", 1.5, took / floor, parts)
    yield Row(SECTION, f"{name}, two threads", two, "s", beside=parts, ratio=two / floor)
    base = process([*OURS[:1], "-c", "import numpy, onnx, onnx_net2net.growing"]).peak
    allowed = base + 2 * _largest(FACTOR) + 64 * MIB
    limit = f"imports + 2 x the largest tensor + 64 MiB ({allowed / MIB:.0f} MiB)"
    yield Row(SECTION, "its peak memory", max(peaks) / MIB, "MiB", 1, max(peaks) / allowed, limit)


def growth(folder: Path, runs: int) -> Iterator[Row]:
    """Time and memory over bytes, at weights of 2048 x 2048."""
    counts, seconds, peaks, sizes = (8, 16, 32, 64), [], [], []
    for layers in counts:
        teacher, student = stack(folder, layers, side=2048), folder / "wide.onnx"
        done: list[Process] = []
        for _ in range(runs):
            done.append(_widen(teacher, student))
            _remove(student)
        sizes.append(_bytes(teacher))
        seconds.append(min(took.seconds for took in done))
        peaks.append(max(took.peak for took in done))
        _remove(teacher)
        name = f"widen x{FACTOR} of {sizes[-1] / MIB:.0f} MiB"
        yield Row("growth with bytes", name, seconds[-1], "s", beside=f"peak {peaks[-1] / MIB:.0f} MiB")
    yield Row("growth with bytes", "exponent of the time", exponent(sizes, seconds), "", 1.1)
    yield Row("growth with bytes", "exponent of the memory", exponent(sizes, peaks), "", 0.1)


def _widen(teacher: Path, student: Path, threads: int = 1) -> Process:
    return process([*OURS, "widen", teacher, "--factor", FACTOR, "--no-verify", "--threads", threads, "-o", student])


def _largest(factor: float) -> int:
    return round(SIDE * factor) ** 2 * 4


def _bytes(model: Path) -> int:
    return sum(path.stat().st_size for path in model.parent.glob(f"{model.name}*"))


def _remove(model: Path) -> None:
    for path in model.parent.glob(f"{model.name}*"):
        path.unlink()


def _fresh(model: Path, call: Callable[[], float]) -> float:
    """A call with nothing at its target, and nothing that still has to be written."""
    _remove(model)
    os.sync()
    return call()


def _write(path: Path, size: int, *, kept: bool = False) -> float:
    """The seconds that as many random bytes take to write, and for the disk to have them if they are to be kept."""
    chunk = np.random.default_rng(0).bytes(CHUNK)
    start = time.perf_counter()
    with path.open("wb", buffering=0) as stream:
        for at in range(0, size, CHUNK):
            stream.write(memoryview(chunk)[: size - at])
        if kept:
            os.fsync(stream.fileno())
    return time.perf_counter() - start


def _read(path: Path) -> float:
    """The seconds that a file takes to read, into one buffer."""
    buffer = bytearray(CHUNK)
    start = time.perf_counter()
    with path.open("rb", buffering=0) as stream:
        while stream.readinto(buffer):
            pass
    return time.perf_counter() - start


def _gather(path: Path, layers: int) -> float:
    """The seconds of taking rows and columns of each weight into buffers that are there, the last axis contiguous."""
    wide = round(SIDE * FACTOR)
    index = np.random.default_rng(0).permutation(np.arange(wide) % SIDE)
    rows, result = np.empty((wide, SIDE), np.float32), np.empty((wide, wide), np.float32)
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        weight = np.array(np.frombuffer(mapped, np.float32, SIDE * SIDE).reshape(SIDE, SIDE))
    start = time.perf_counter()
    for _ in range(layers):
        np.take(weight, index, 0, out=rows, mode="clip")
        np.take(rows, index, 1, out=result, mode="clip")
    return time.perf_counter() - start
