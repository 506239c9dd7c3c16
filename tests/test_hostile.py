"""Hostile files: every one ends in a message or in success, in the library and on the command line."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from onnx import ModelProto

from onnx_net2net import ModelError, Net2NetError, deepen, inspect, verify, widen
from onnx_net2net.cli import cli
from tests.hostile_rows import CHANGES, FINE, GIGANTIC, LONG, NO_TEXT, Change, base, dims, encoded, named, outside

ROOT = Path(__file__).parents[1]


def call_library(path: Path, *also: type[Exception]) -> None:
    """Every entry point ends well or in an error of ours."""
    for call in (
        lambda: inspect(path).to_dict(),
        lambda: widen(path, factor=2).exact,
        lambda: deepen(path, after="every").exact,
        lambda: verify(path, path, samples=1).to_dict(),
    ):
        with contextlib.suppress(Net2NetError, *also):
            call()


def call_commands(path: Path) -> list[int]:
    """Exit codes of the commands; each ends well or with a line that says what is wrong."""
    student = path.with_name("student.onnx")
    commands = (["inspect", path], ["widen", path, "-o", student, "--factor", "2"], ["check", path, path])
    return [command(*words).exit_code for words in commands]


def command(*words: object) -> Result:
    result = CliRunner().invoke(cli, list(map(str, words)))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2, 3), result.output
    lines = result.stderr.strip().splitlines()
    if result.exit_code:
        assert 1 <= len(lines) <= 2, lines
        assert lines[-1].startswith("error: "), lines
    assert "Traceback" not in result.output
    return result


def put(folder: Path, content: bytes | ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(content if isinstance(content, bytes) else content.SerializeToString())
    return path


def changed(folder: Path, change: Change) -> Path:
    """A model file after a change, with what it may refer to beside it."""
    (folder / "data.bin").write_bytes(b"1234" * 10)
    (folder / "link.bin").symlink_to("/etc/passwd")
    model = base()
    change(model)
    return put(folder, model)


@pytest.mark.parametrize("row", CHANGES)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_models(row: str, tmp_path: Path) -> None:
    path = changed(tmp_path, CHANGES[row])
    call_library(path)
    codes = call_commands(path)
    assert any(codes) == (row not in FINE), codes


@pytest.mark.parametrize("row", GIGANTIC)
def test_memory_is_bounded(row: str, tmp_path: Path) -> None:
    path = changed(tmp_path, GIGANTIC[row])
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))\n"
        "from pathlib import Path\n"
        "from tests.test_hostile import call_commands, call_library\n"
        "call_library(Path(sys.argv[1]), MemoryError); print(call_commands(Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", script, path], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert any(digit in done.stdout for digit in "123")


def test_nothing_outside_the_folder_is_read(tmp_path: Path) -> None:
    for place in ("../../../../../../etc/passwd", "/etc/passwd", "link.bin"):
        folder = tmp_path / str(len(place))
        folder.mkdir()
        path = changed(folder, lambda m, place=place: (outside(m, location=place), dims(m, "w1", 1)))
        with pytest.raises(ModelError):
            widen(path, factor=2)


@pytest.mark.parametrize("row", NO_TEXT)
def test_names_that_are_no_text(row: str, tmp_path: Path) -> None:
    path = put(tmp_path, encoded().replace(*NO_TEXT[row]))
    call_library(path)
    assert 3 in call_commands(path)


@pytest.mark.parametrize("start", range(0, 100, 20))
def test_truncated(start: int, tmp_path: Path) -> None:
    content = encoded()
    for part in range(start, start + 20, 2):
        path = put(tmp_path, content[: len(content) * part // 100])
        call_library(path)
        command("inspect", path)


@pytest.mark.parametrize("seed", range(6))
def test_random_bytes(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    for _ in range(10):
        path = put(tmp_path, rng.randbytes(rng.choice([1, 10, 100, 1000])))
        call_library(path)
        command("inspect", path)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_flipped_bits(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    for _ in range(10):
        path = put(tmp_path, flipped(encoded(), rng))
        call_library(path)
        call_commands(path)


def flipped(content: bytes, rng: random.Random) -> bytes:
    """The content with one to three bits flipped, mostly where structure is."""
    value = bytearray(content)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(min(len(value), 700)) if rng.random() < 0.7 else rng.randrange(len(value))
        value[at] ^= 1 << rng.randrange(8)
    return bytes(value)


def field(number: int, content: bytes) -> bytes:
    """One field of a protobuf message."""
    size, head = len(content), [number << 3 | 2]
    while size > 127:
        head.append(size & 127 | 128)
        size >>= 7
    return bytes([*head, size]) + content


@pytest.mark.parametrize("depth", [100, 10_000])
def test_nested_deeper_than_protobuf_reads(depth: int, tmp_path: Path) -> None:
    graph = b""
    for _ in range(depth):
        graph = field(1, field(4, b"If") + field(5, field(1, b"then_branch") + field(6, graph)))
    path = put(tmp_path, encoded() + field(7, graph))
    call_library(path)
    assert call_commands(path) == [3, 3, 3]


@pytest.mark.parametrize("row", LONG)
def test_long_graphs(row: str) -> None:
    model = LONG[row]()
    made = widen(model, factor=2).exact
    assert {t.name: t.dims[0] for t in made.graph.initializer}["w2"] == 2 * named(model, "w2").dims[0]
