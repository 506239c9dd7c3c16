"""A model of 10 GB becomes one of more than 20 GB, within the memory of a few tensors; and kills do no harm.

Usage: python -m benchmarks.speed.large [--gigabytes 10] [--kills 50]     from the repository's root
"""

from __future__ import annotations

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

from benchmarks.speed.measure import OURS, ROOT, process
from benchmarks.speed.models import stack

GB = 10**9


def large(folder: Path, gigabytes: float) -> None:
    """Widens a model of so many gigabytes to more than twice as many, and verifies it block by block."""
    teacher, student = stack(folder, round(gigabytes * GB / 4 / 4096**2)), folder / "wide.onnx"
    plan = folder / "plan.json"
    took = process([*OURS, "widen", teacher, "--factor", 1.45, "--no-verify", "-o", student, "--plan-out", plan])
    sizes = [sum(p.stat().st_size for p in folder.glob(f"{name}*")) / GB for name in ("stack", "wide")]
    print(f"widened {sizes[0]:.1f} GB to {sizes[1]:.1f} GB in {took.seconds:.0f} s, peak {took.peak / 2**20:.0f} MiB")
    took = process([*OURS, "check", teacher, student, "--plan", plan, "--verify", "sample"])
    print(f"verified block by block in {took.seconds:.0f} s, peak {took.peak / 2**20:.0f} MiB")


def kills(folder: Path, count: int) -> int:
    """Kills widenings at random moments; the number of times that something was lost or wrong."""
    teacher, student = stack(folder, 6, side=1024), folder / "wide.onnx"
    before = _digests(folder, "stack")
    command = [*map(str, OURS), "widen", str(teacher), "--factor", "1.5", "--no-verify", "-o", str(student)]
    start = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    whole, good = time.perf_counter() - start, _digests(folder, "wide")
    rng, harm, left = random.Random(0), 0, 0
    for k in range(count):
        if k % 2:  # the other half of the kills find a student that is to be replaced
            for path in folder.glob("wide*"):
                path.unlink()
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            time.sleep(rng.uniform(0.2, 1.05) * whole)
            child.kill()
        lost = _digests(folder, "stack") != before
        harm += lost or not _right(folder, student, good)
        left += student.exists()
    print(f"{count} kills, {left} of them left a student, {harm} did harm")
    return harm


def _right(folder: Path, student: Path, good: dict[str, str]) -> bool:
    """Whether there is no student, or the one that an undisturbed run makes."""
    if not student.exists():
        return True
    found = _digests(folder, "wide")
    return all(found.get(name) == digest for name, digest in good.items())


def _digests(folder: Path, name: str) -> dict[str, str]:
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob(f"{name}.*"))}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=10)
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=".") as name:
        harm = kills(Path(name).resolve(), given.kills) if given.kills else 0
    needed = 3.2 * given.gigabytes * GB
    if given.gigabytes and shutil.disk_usage(".").free < needed:
        print(f"not enough room for a model of {given.gigabytes} GB and its student: {needed / GB:.0f} GB")
    elif given.gigabytes:
        with tempfile.TemporaryDirectory(dir=".") as name:
            large(Path(name).resolve(), given.gigabytes)
    return int(harm > 0)


if __name__ == "__main__":
    sys.exit(main())
