"""Damages small valid models at random and sees that every command ends in a message. Run from the repository's root.

Usage: python benchmarks/fuzz.py [--minutes M] [--seed N]

Half of the files have bytes changed; the others have fields of the message changed, which gets further in. Each
file is tried in a child process, so that a crash or an endless loop is seen as well. What fails is printed once
for each place, with the number that makes it again: python benchmarks/fuzz.py --only NUMBER
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from onnx import ModelProto

from tests.networks import BLOCKS, DRESSES, STARTS, Recipe, build
from tests.test_hostile import base, call_commands, call_library, flipped

SECONDS = 60
MEMORY = 6 << 30
INTEGERS = (0, 1, -1, 2, 3, 7, 99, 2**31 - 1, -(2**31), 2**62, -(2**62))


def model(rng: random.Random) -> ModelProto:
    """A small valid model."""
    if rng.random() < 0.3:
        return base()
    names = sorted(BLOCKS)
    blocks = tuple((rng.choice(names), rng.randrange(10000)) for _ in range(rng.randint(1, 3)))
    return build(Recipe(rng.choice(STARTS), blocks, rng.randint(13, 21), 0, rng.random() < 0.5, rng.choice(DRESSES)))


def damaged(number: int) -> bytes:
    """The file of a number."""
    rng = random.Random(number)
    content = model(rng).SerializeToString()
    if rng.random() < 0.5:
        for _ in range(rng.randint(1, 3)):
            content = rng.choice([flipped, cut, repeated, replaced])(content, rng)
        return content
    changed = ModelProto.FromString(content)
    for _ in range(rng.randint(1, 3)):
        mutate(changed, rng)
    return changed.SerializeToString()


def cut(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[at + rng.choice([1, 2, 4, 50]) :]


def repeated(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    return content[:at] + content[max(0, at - rng.choice([1, 4, 30])) :]


def replaced(content: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(content) + 1)
    size = rng.choice([1, 2, 8])
    return content[:at] + rng.randbytes(size) + content[at + size :]


def mutate(message: Any, rng: random.Random) -> None:
    """Changes one field somewhere inside a message."""
    while True:
        fields = [(field, value) for field, value in message.ListFields() if field.name != "raw_data"]
        if not fields:
            return
        field, value = rng.choice(fields)
        many = hasattr(value, "append") or hasattr(value, "add")
        if field.type != field.TYPE_MESSAGE:
            change(message, field, rng)
        elif rng.random() < 0.15:
            message.ClearField(field.name)
        elif many and rng.random() < 0.2:
            shift(value, rng)
        else:
            message = rng.choice(list(value)) if many else value
            continue
        return


def shift(values: Any, rng: random.Random) -> None:
    """Drops, repeats or exchanges one of several messages."""
    kind, at = rng.randrange(3), rng.randrange(len(values))
    if kind == 0:
        del values[at]
    elif kind == 1:
        values.append(values[at])
    else:
        values[at].CopyFrom(rng.choice(list(values)))


def change(message: Any, field: Any, rng: random.Random) -> None:
    """Another value for a number or a text."""
    value = getattr(message, field.name)
    if not isinstance(value, (str, bytes, int, float)):  # several
        at = rng.randrange(len(value))
        if rng.random() < 0.3:
            del value[at]
        else:
            value[at] = other(value[at], rng, list(value))
        return
    try:
        setattr(message, field.name, other(value, rng, []))
    except ValueError:  # a number that the field cannot hold
        message.ClearField(field.name)


def other(value: Any, rng: random.Random, beside: list[Any]) -> Any:
    if isinstance(value, str):
        return rng.choice(["", "x", "ghost", "Relu", "Concat", "Split", "Reshape", value + "_", *beside[:3]])
    if isinstance(value, bytes):
        return rng.choice([b"", b"\xff", value + b"!"])
    return rng.choice(INTEGERS) if isinstance(value, int) else rng.choice([0.0, -1.0, 1e30, float("nan")])


def attempt(number: int) -> str:
    """Tries one file in a child process; returns what is wrong, or an empty string."""
    with tempfile.TemporaryDirectory(prefix="fuzz.") as folder:
        report = Path(folder) / "report"
        child = os.fork()
        if not child:
            inside(number, Path(folder), report)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return f"it died of signal {signal.Signals(os.WTERMSIG(status)).name}"
        return report.read_text() if report.exists() else ""


def inside(number: int, folder: Path, report: Path) -> None:
    """The child process, which never returns."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.alarm(SECONDS)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    warnings.simplefilter("ignore")
    path = folder / "model.onnx"
    path.write_bytes(damaged(number))
    for call in (lambda file: call_library(file, MemoryError), call_commands):
        try:
            call(path)
        except BaseException as error:
            frames = [f for f in traceback.extract_tb(error.__traceback__) if "onnx_net2net" in f.filename]
            place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "the tests"
            text = str(error).strip().splitlines()[:1]
            report.write_text(f"{type(error).__name__} at {place}: {''.join(text)}")
            break
    os._exit(0)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    given = parser.parse_args()
    if given.only is not None:
        print(attempt(given.only) or "fine")
        return 0
    end = time.monotonic() + 60 * given.minutes
    places: Counter[str] = Counter()
    number = given.seed * 1_000_000
    while time.monotonic() < end:
        found = attempt(number)
        if found:
            place = found.partition(": ")[0]
            places[place] += 1
            if places[place] == 1:
                print(f"{found}\n    python benchmarks/fuzz.py --only {number}", flush=True)
        number += 1
    print(f"files: {number - given.seed * 1_000_000:,}, failures: {places.total():,} in {len(places)} places")
    for place, count in places.most_common():
        print(f"  {count:>6,}  {place}")
    return 1 if places else 0


if __name__ == "__main__":
    sys.exit(main())
