"""Writes docs/experiment.md and its images from the numbers."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path

import onnx
import onnxruntime
import sklearn
import torch

from benchmarks.experiment import plots
from benchmarks.experiment.answers import answers
from benchmarks.experiment.data import NOISE as PIXELS
from benchmarks.experiment.data import SHIFT, TRAIN
from benchmarks.experiment.numbers import Case, Numbers, middle, read, spread
from benchmarks.experiment.runs import NEAR, PROCESSES, Settings
from benchmarks.experiment.students import NOISE
from benchmarks.experiment.training import BATCH, EVERY, GRID, RATES
from onnx_net2net._version import __version__

TEXT = Path(__file__).with_name("page.md")
PERCENT = "{:.1f}".format


def machine(seconds: float, processor: float) -> dict[str, object]:
    """What the numbers were measured with."""
    model = next((line.partition(":")[2].strip() for line in _cpu() if line.startswith("model name")), "")
    return {
        "date": date.today().isoformat(),
        "minutes": round(seconds / 60, 1),
        "busy": round(processor / 60, 1),
        "load": round(os.getloadavg()[0], 1),
        "system": f"{platform.system()} {platform.machine()}",
        "processor": f"{model or platform.processor() or 'unknown processor'}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "scikit-learn": sklearn.__version__,
        "onnx-net2net": __version__,
    }


def _cpu() -> list[str]:
    known = Path("/proc/cpuinfo")
    return known.read_text(encoding="utf-8").splitlines() if known.exists() else []


def write(root: Path) -> None:
    """Writes the page and its images from what lies in benchmarks/results/."""
    results = root / "benchmarks" / "results"
    numbers = Numbers(read(results / "experiment.csv"))
    plots.draw(root / "docs" / "images", numbers, read(results / "experiment_curves.csv"))
    (root / "docs" / "experiment.md").write_text(text(results), encoding="utf-8")


def text(results: Path) -> str:
    """The page, from the numbers in a folder."""
    numbers = Numbers(read(results / "experiment.csv"))
    (told,) = read(results / "experiment_machine.csv")
    settings = Settings()
    page = TEXT.read_text(encoding="utf-8")
    parts = {
        "ANSWERS": answers(numbers),
        "TABLES": "\n\n".join(_tables(numbers)),
        "RATES": _rates(numbers),
        "MACHINE": ", ".join(f"{name} {value}" for name, value in told.items() if name not in PROSE),
        "BATCH": BATCH,
        "EVERY": EVERY,
        "NEAR": f"{NEAR:.0%}",
        "NOISE": NOISE,
        "PIXELS": PIXELS,
        "SHIFT": "one pixel" if SHIFT == 1 else f"{SHIFT} pixels",
        "TRAIN": TRAIN,
        "HELD": 1797 - TRAIN,
        "GRID": ", ".join(f"{rate:g}" for rate in GRID),
        "TEACHER_RATES": ", ".join(f"{rate:g} ({', '.join(case)})" for case, rate in RATES.items()),
        "PROCESSES": PROCESSES,
        "SEEDS": len(numbers.seeds),
        "TUNING": len(settings.tuning),
        "TEACHER_STEPS": _both(settings.teacher_steps),
        "STEPS": _both(settings.steps),
        **{name.upper(): told[name] for name in PROSE},
    }
    for name in sorted(parts, key=len, reverse=True):
        page = page.replace(f"<{name}>", str(parts[name]))
    return page


PROSE = ("date", "minutes", "busy", "load", "processor", "system")
"""What the page says in sentences."""


def _both(steps: object) -> str:
    assert isinstance(steps, dict)
    return " and ".join(f"{count} ({name})" for name, count in sorted(steps.items()))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown: the first column is text, the others are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _tables(numbers: Numbers) -> Iterable[str]:
    for case in numbers.cases:
        yield f"### {case[0]}, {case[1]}"
        yield _teachers(numbers, case)
        for change in ("wide", "deep"):
            count = numbers.of(case, change, "scratch")[0]["parameters"]
            yield f"{change.capitalize()} students, {count} parameters:"
            yield _students(numbers, case, change)


def _teachers(numbers: Numbers, case: Case) -> str:
    first = numbers.of(case, "none", "teacher")[0]
    best, spent = (numbers.values(case, "none", "teacher", column) for column in ("best", "seconds"))
    on = numbers.values(case, "none", "teacher trained on", "final")
    rate = _rate(numbers, case, "none", "teacher trained on")
    return (
        f"The teacher has {first['parameters']} parameters and took {spread(spent, '{:.1f}'.format)} s. Its best "
        f"accuracy is {_percents(best)}%; trained on as it is, at {rate} of its rate, it ends at {_percents(on)}%."
    )


def _students(numbers: Numbers, case: Case, change: str) -> str:
    head = ["start", "step 0", "final", "mean", "steps to teacher", "s", f"steps to {NEAR:.0%} of scratch", "s"]
    whole, tenth = "{:.0f}".format, "{:.1f}".format
    shown: list[tuple[str, Callable[[list[float]], str]]] = [
        ("step0", _percents),
        ("final", _percents),
        ("mean", _percents),
        ("teacher_steps", lambda values: middle(values, whole)),
        ("teacher_seconds", lambda values: middle(values, tenth)),
        ("scratch_steps", lambda values: middle(values, whole)),
        ("scratch_seconds", lambda values: middle(values, tenth)),
    ]
    rows = [
        [method, *(show(numbers.values(case, change, method, column)) for column, show in shown)]
        for method in numbers.methods(change)
    ]
    return table(head, rows)


def _percents(values: Sequence[float]) -> str:
    return spread([100 * value for value in values], PERCENT)


def _rate(numbers: Numbers, case: Case, change: str, method: str) -> str:
    return f"{float(numbers.of(case, change, method)[0]['rate']):g}"


def _rates(numbers: Numbers) -> str:
    """The learning rate of each method; what lies at the end of the grid may want to go further."""
    rows = [
        [f"{method} ({change})", *(_rate(numbers, case, change, method) for case in numbers.cases)]
        for change in ("none", "wide", "deep")
        for method in numbers.methods(change)
        if method != "teacher"
    ]
    exact = ("uneven", "even + noise", "scatter", "first", "identity")
    chosen = [row[1:] for row in rows if row[0].partition(" (")[0] in exact]
    taken = Counter(rate for row in chosen for rate in row)
    counts = ", ".join(f"{taken[f'{rate:g}']} took {rate:g}" for rate in GRID)
    head = ["start", *(f"{network}, {optimizer}" for network, optimizer in numbers.cases)]
    return f"{table(head, rows)}\n\nOf the {taken.total()} choices for students that start as their teacher, {counts}."
