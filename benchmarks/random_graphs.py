"""Widens and deepens random networks for a while and prints what came out. Run from the repository's root.

Usage: python benchmarks/random_graphs.py [--minutes M] [--seed N]

Each failure is shrunk, by leaving out blocks, and printed as a line that reproduces it.
"""

from __future__ import annotations

import argparse
import dataclasses
import random
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from onnx_net2net.planning.plan import SPLITS
from tests.networks import BLOCKS, BRIDGES, DRESSES, STARTS, Recipe, build
from tests.test_random import FACTORS, Ask, Outcome, examine

INNER = sorted(BLOCKS.keys() - set(BRIDGES))


def some(rng: random.Random, names: list[str], low: int, high: int) -> tuple[tuple[str, int], ...]:
    return tuple((rng.choice(names), rng.randrange(10000)) for _ in range(rng.randint(low, high)))


def recipe(rng: random.Random) -> Recipe:
    blocks = some(rng, INNER, 1, 6) + some(rng, list(BRIDGES), 0, 2) + some(rng, INNER, 0, 6)
    start, opset, dress = rng.choice(STARTS), rng.randint(13, 21), rng.choice(DRESSES)
    return Recipe(start, blocks, opset, rng.randrange(10000), rng.random() < 0.5, dress)


def ask(rng: random.Random) -> Ask:
    picks = tuple((rng.randrange(100), rng.randint(1, 7)) for _ in range(rng.randint(0, 6)))
    return Ask(rng.choice(FACTORS), picks, rng.choice(SPLITS), rng.randrange(1000))


def attempt(network: Recipe, wanted: Ask) -> tuple[str, Outcome]:
    """Why an examination failed, or an empty string; and what it compared."""
    try:
        return "", examine(build(network), wanted)
    except Exception as error:  # whatever it is, it is a finding
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else ''}", Outcome()


def shrunk(network: Recipe, wanted: Ask, kind: str) -> tuple[Recipe, Ask]:
    """A smaller network and request that fail in the same way."""
    again = True
    while again:
        again = False
        candidates = [(c, wanted) for c in smaller(network)] + [(network, a) for a in simpler(wanted)]
        for candidate in candidates:
            if attempt(*candidate)[0].partition(":")[0] == kind:
                network, wanted = candidate
                again = True
                break
    return network, wanted


def smaller(network: Recipe) -> list[Recipe]:
    found = [
        dataclasses.replace(network, blocks=network.blocks[:i] + network.blocks[i + 1 :])
        for i in range(len(network.blocks))
    ]
    if network.dress != "plain":
        found.append(dataclasses.replace(network, dress="plain"))
    return [*found, dataclasses.replace(network, dynamic=False)] if network.dynamic else found


def simpler(wanted: Ask) -> list[Ask]:
    found = [
        dataclasses.replace(wanted, picks=wanted.picks[:i] + wanted.picks[i + 1 :]) for i in range(len(wanted.picks))
    ]
    if wanted.factor is not None and wanted.picks:
        found.append(dataclasses.replace(wanted, factor=None))
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    rng = random.Random(given.seed)
    end = time.monotonic() + 60 * given.minutes
    total: Counter[str] = Counter()
    seen: set[str] = set()
    while time.monotonic() < end:
        network, wanted = recipe(rng), ask(rng)
        failure, outcome = attempt(network, wanted)
        total.update({"graphs": 1, "graphs widened": outcome.widened > 0, **dataclasses.asdict(outcome)})
        if failure:
            total["failures"] += 1
            kind = failure.partition(":")[0]
            network, wanted = shrunk(network, wanted, kind)
            reason = attempt(network, wanted)[0]
            if reason not in seen:
                seen.add(reason)
                print(f"{reason}\n    examine(build({network!r}), {wanted!r})", flush=True)
    names = ["graphs", "graphs widened", "widened", "pinned", "tensors", "layers", "blocks", "weak", "failures"]
    shown = {"widened": "axes widened", "pinned": "axes pinned", "tensors": "tensors compared", "layers": "layers"}
    print(", ".join(f"{shown.get(name, name)}: {total[name]:,}" for name in names))
    return 1 if total["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
