"""Whole commands: start-up, and a widening beside other tools that read and write the same file."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import onnx

from benchmarks.speed.measure import OURS, Row, by_turns, process
from tests.zoo import light

BIN = Path(sys.executable).parent
MIB = 2**20
LARGEST = 768 * 768 * 9 * 4
"""Bytes of the student's largest weight: 768 filters of 3 x 3 over 768 channels."""


def start_up(_folder: Path, runs: int) -> Iterator[Row]:
    """What needs no model takes about as long as Python and click."""
    click = [sys.executable, "-c", "import click"]
    for arguments in (["--version"], ["--help"], ["widen", "--help"], ["widen", "--no-such-option"]):
        wrong = arguments[-1] == "--no-such-option"
        command = ["sh", "-c", '"$@" || true', "sh", *OURS, *arguments] if wrong else [*OURS, *arguments]
        took, base = by_turns(4 * runs, partial(_seconds, command), partial(_seconds, click))
        name = f"onnx-net2net {' '.join(arguments)}"
        yield Row("start-up", name, took * 1e3, "ms", 2, took / base, f"import click ({base * 1e3:.0f} ms)")


def resnet(folder: Path, runs: int) -> Iterator[Row]:
    """ResNet-50 of the onnx wheel's light models, with weights: read, changed and written by each tool."""
    path = folder / "resnet50.onnx"
    onnx.save(light("resnet50"), path)
    size = path.stat().st_size
    commands = {
        "onnx-net2net widen --factor 1.5 --no-verify": [*OURS, "widen", path, "--factor", 1.5, "--no-verify", "-o"],
        "onnxslim": [BIN / "onnxslim", path],
        "onnxsim": [BIN / "onnxsim", path],
    }
    known = {name: command for name, command in commands.items() if shutil.which(str(command[0]))}
    peaks: dict[str, int] = dict.fromkeys(known, 0)

    def run(name: str) -> float:
        took = process([*known[name], folder / "out.onnx"])
        peaks[name] = max(peaks[name], took.peak)
        return took.seconds

    times = dict(zip(known, by_turns(runs, *(partial(run, name) for name in known)), strict=True))
    ours, *others = known
    base = process([sys.executable, "-c", "import numpy, onnx, onnx_net2net.growing"]).peak
    for name in others:
        target = 1 if name == "onnxslim" else float("nan")
        told = f"{name} ({times[name]:.2f} s, peak {peaks[name] / MIB:.0f} MiB)"
        yield Row("ResNet-50, inline", ours, times[ours], "s", target, times[ours] / times[name], told)
    allowed = base + 1.9 * size + LARGEST
    told = f"imports + 1.9 x teacher + the largest tensor ({allowed / MIB:.0f} MiB)"
    yield Row("ResNet-50, inline", "its peak memory", peaks[ours] / MIB, "MiB", 1, peaks[ours] / allowed, told)


def _seconds(command: Sequence[object]) -> float:
    return process(command).seconds
