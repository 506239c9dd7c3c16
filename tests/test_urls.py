"""Teachers and students by URL: the bytes of local ones, fetched once and only as far as they are wanted."""

from __future__ import annotations

import gc
import itertools
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import ModelProto

from onnx_net2net import MissingError, ModelError, NotEquivalentError, UsageError, deepen, inspect, io, verify, widen
from onnx_net2net.cli import cli
from onnx_net2net.family import expand_all
from onnx_net2net.storage import remote, tensors, writer
from onnx_net2net.storage.model import LazyModel
from onnx_net2net.storage.urls import beside, is_url, name_of, place
from tests.large import model as model_of
from tests.test_storage import STEPS, STORED, chain

fsspec = pytest.importorskip("fsspec")
MemoryFileSystem = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem
MemoryFile = pytest.importorskip("fsspec.implementations.memory").MemoryFile
AbstractBufferedFile = pytest.importorskip("fsspec.spec").AbstractBufferedFile


class Counted(MemoryFileSystem):  # type: ignore[misc, valid-type]
    """Notes which ranges are read."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    read: ClassVar[list[tuple[str, int, int]]] = []
    denied: ClassVar[bool] = False
    short: ClassVar[bool] = False
    failure: ClassVar[tuple[str, BaseException] | None] = None

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        name = path.rsplit("://", maxsplit=1)[-1].strip("/")
        return f"/{name}" if name else ""

    def info(self, path: str, **options: Any) -> Any:
        if self.denied:
            raise PermissionError("Forbidden")
        return super().info(path, **options)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> bytes:
        assert start is not None
        assert end is not None
        self.read.append((path, start, end))
        found: bytes = super().cat_file(path, start, end, **options)
        return found[: len(found) // 2] if self.short else found

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        stream = super()._open(path, mode=mode, **options)
        return self.failing(path, stream) if mode == "wb" else stream

    def failing(self, path: str, stream: Any) -> Any:
        if self.failure is not None and path.endswith(self.failure[0]):
            error = self.failure[1]

            def write(data: bytes) -> int:
                type(stream).write(stream, data[: len(data) // 2])
                raise error

            stream.write = write
        return stream


class Closing(Counted):
    """Knows no transactions: publishes what was written when a file is closed, by whomever."""

    protocol = "closing"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode != "wb":
            return super()._open(path, mode=mode, **options)
        return self.failing(path, Published(self, path, mode, autocommit=options.get("autocommit", True)))


class Published(AbstractBufferedFile):  # type: ignore[misc, valid-type]
    def _initiate_upload(self) -> None:
        self.parts: list[bytes] = []

    def _upload_chunk(self, final: bool = False) -> bool:
        self.parts.append(self.buffer.getvalue())
        if final:
            self.fs.store[self.path] = MemoryFile(self.fs, self.path, b"".join(self.parts))
        return True

    def discard(self) -> None:
        """Nothing that it could take back."""


@pytest.fixture(autouse=True)
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for kind in (MemoryFileSystem, Counted, Closing):
        monkeypatch.setattr(kind, "store", {})
        monkeypatch.setattr(kind, "pseudo_dirs", [""])
    for kind in (Counted, Closing):
        fsspec.register_implementation(kind.protocol, kind, clobber=True)
    monkeypatch.setattr(Counted, "read", [])
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield
    gc.collect()
    assert os.listdir(tmp_path / "temporary") == []


@pytest.fixture
def ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small models are read range by range."""
    monkeypatch.setattr(io, "LARGE", 1)
    for name, size in (("WHOLE", 1), ("FETCHED", 1), ("INLINE", 64)):
        monkeypatch.setattr(f"onnx_net2net.storage.reader.{name}", size)
    monkeypatch.setattr(tensors, "INLINE", 64)
    monkeypatch.setattr(writer, "BLOCK", 512)
    for name, size in (("BLOCK", 256), ("MOST", 700), ("AT_ONCE", 2)):
        monkeypatch.setattr(remote, name, size)


def send(folder: Path, url: str) -> None:
    """Uploads all files of a folder."""
    system, path = fsspec.core.url_to_fs(url)
    for file in folder.iterdir():
        system.pipe_file(f"{path.rstrip('/')}/{file.name}", file.read_bytes())


def names(url: str = "memory://") -> list[str]:
    system, path = fsspec.core.url_to_fs(url)
    return sorted(system._strip_protocol(name).strip("/") for name in system.find(path))


def contents(url: str) -> dict[str, bytes]:
    system, path = fsspec.core.url_to_fs(url)
    return {name.rpartition("/")[2]: system.open(name).read() for name in system.find(path)}


def teacher(folder: Path, how: str = "inline", model: ModelProto | None = None) -> Path:
    (folder / "in").mkdir(exist_ok=True)
    STORED[how](chain() if model is None else model, folder / "in" / "t.onnx")
    return folder / "in" / "t.onnx"


LAYOUTS: dict[str, dict[str, Any]] = {"inline": {}, "external": {"external": True}, "sharded": {"shard_size": 6000}}


def round_trip(steps: str, how: str, layout: str, folder: Path, verified: bool = False) -> None:
    local = teacher(folder, how)
    send(local.parent, "memory://in")
    (folder / "out").mkdir()
    STEPS[steps](local).save(folder / "out" / "s.onnx", verify=verified, **LAYOUTS[layout])
    saved = STEPS[steps]("memory://in/t.onnx").save("memory://out/s.onnx", verify=verified, **LAYOUTS[layout])
    assert saved == "memory://out/s.onnx"
    assert contents("memory://out") == {file.name: file.read_bytes() for file in (folder / "out").iterdir()}
    assert len(contents("memory://out")) > (0 if layout == "inline" else 2 if layout == "sharded" else 1)


@pytest.mark.usefixtures("ranges")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("steps", ["wider", "both"])
def test_students_are_those_of_local_files(steps: str, how: str, layout: str, tmp_path: Path) -> None:
    round_trip(steps, how, layout, tmp_path, verified=how == "external" and steps == "wider")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", STORED)
def test_small_models_are_read_whole(how: str, layout: str, tmp_path: Path) -> None:
    round_trip("wider", how, layout, tmp_path)


@pytest.mark.usefixtures("ranges")
def test_the_library_takes_urls(tmp_path: Path) -> None:
    send(teacher(tmp_path, "external").parent, "memory://a/b")
    url = "memory://a/b/t.onnx"
    assert isinstance(io.opened(url), LazyModel)
    assert io.load(url) == io.load(tmp_path / "in" / "t.onnx")
    assert inspect(url).to_dict() == inspect(chain()).to_dict()
    deepen(url, after="every").save("memory://a/d.onnx")
    verdict = verify(url, "memory://a/d.onnx", scope="sample", isolate=True)
    assert verdict, verdict.reason
    assert names("memory://a") == ["a/b/t.onnx", "a/b/t.onnx.data", "a/d.onnx"]


def test_other_formats_and_models_in_memory(tmp_path: Path) -> None:
    widen(chain(), factor=2).save("memory://s.json")
    widen(chain(), factor=2).save(tmp_path / "s.json")
    assert contents("memory://")["s.json"] == (tmp_path / "s.json").read_bytes()
    assert verify(chain(), "memory://s.json")
    widen(chain(), factor=2).save("memory://s.onnx", external=True)
    assert len(names()) == 3
    assert verify(chain(), "memory://s.onnx")


@pytest.fixture
def wide() -> ModelProto:
    """10 MB, most of them in three weights."""
    nodes = ["a = MatMul (x, w)", "b = Relu (a)", "c = MatMul (b, v)", "d = Relu (c)", "y = MatMul (d, u)"]
    return model_of(nodes, {"w": (3, 600), "v": (600, 4000), "u": (4000, 3)})


@pytest.mark.parametrize("how", STORED)
def test_nothing_is_fetched_twice_or_in_vain(how: str, wide: ModelProto, tmp_path: Path) -> None:
    send(teacher(tmp_path, how, wide).parent, "counted://")
    size = sum(len(data) for data in contents("counted://").values())
    model = io.opened("counted://t.onnx")
    assert isinstance(model, LazyModel)
    assert inspect(model).axes
    fetched = sum(end - start for _, start, end in Counted.read)
    print(f"{how}: {fetched} of {size} bytes to inspect")
    assert fetched < size / 20
    widen(model, factor=1.1).save("counted://s.onnx")
    taken = sorted(entry for entry in Counted.read if "s.onnx" not in entry[0])
    for (name, _, end), (other, start, _) in itertools.pairwise(taken):
        assert name != other or end <= start
    total = sum(end - start for _, start, end in taken)
    assert size - 2 * remote.BLOCK <= total <= size


# What is wrong, and what is said


def broken(url: str) -> str:
    with pytest.raises((ModelError, MissingError)) as caught:
        io.opened(url)
    return f"{type(caught.value).__name__}: {caught.value}"


def test_errors_of_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    send(teacher(tmp_path).parent, "counted://in")
    assert "ModelError: URL (memory://no.onnx): there is no such object; check the URL" in broken("memory://no.onnx")
    assert "it is a folder" in broken("counted://in")
    assert "Protocol not known: nosuch" in broken("nosuch://t.onnx")
    fsspec.register_implementation("needy", "no_such_module.FS", errtxt="Install needyfs to use it", clobber=True)
    said = broken("needy://t.onnx")
    assert said.startswith("MissingError")
    assert "Install needyfs" in said
    with monkeypatch.context() as patch:
        patch.setattr(Counted, "short", True)
        assert "were asked for" in broken("counted://in/t.onnx")
    with monkeypatch.context() as patch:
        patch.setattr(Counted, "denied", True)
        assert "it may not be read (Forbidden); check your credentials" in broken("counted://in/t.onnx")
    fsspec.filesystem("memory").pipe_file("/x.onnx", b"no model at all")
    assert "memory://x.onnx" in broken("memory://x.onnx")
    with monkeypatch.context() as patch:
        for name in [name for name in sys.modules if name.partition(".")[0] == "fsspec"]:
            patch.delitem(sys.modules, name)
        patch.setitem(sys.modules, "fsspec", None)
        said = broken("memory://t.onnx")
        assert said.startswith("MissingError")
        assert "pip install 'onnx-net2net[remote]'" in said


@pytest.mark.usefixtures("ranges")
@pytest.mark.parametrize("how", STORED)
def test_an_object_that_changes_is_noticed(how: str, tmp_path: Path) -> None:
    send(teacher(tmp_path, how).parent, "memory://in")
    made = widen("memory://in/t.onnx", factor=2)
    send(tmp_path / "in", "memory://in")
    with pytest.raises(ModelError, match="has changed since it was read"):
        made.save("memory://s.onnx", verify=False)
    assert widen("memory://in/t.onnx", factor=2).save("memory://s.onnx", verify=False)


@pytest.mark.parametrize(
    "location", ["../secret", "a/../../secret", "/secret", "memory://secret", "x::memory://secret", "..\\secret", "."]
)
def test_data_elsewhere_is_refused(location: str, tmp_path: Path) -> None:
    path = teacher(tmp_path, "external")
    model = onnx.load(path, load_external_data=False)
    for weight in model.graph.initializer:
        for entry in weight.external_data:
            entry.value = location if entry.key == "location" else entry.value
    system = fsspec.filesystem("memory")
    system.pipe_file("/in/t.onnx", model.SerializeToString())
    for name in ("/secret", "/in/secret"):
        system.pipe_file(name, (tmp_path / "in" / "t.onnx.data").read_bytes())
    assert "is not in the model's folder" in broken("memory://in/t.onnx")
    if location in ("/secret", "memory://secret"):
        with pytest.raises(ModelError, match="pass the model by path"):
            io.load(model)
    path.write_bytes(model.SerializeToString())
    assert "ModelError" in broken(str(path))


def test_data_that_is_not_there(tmp_path: Path) -> None:
    send(teacher(tmp_path, "external").parent, "memory://in")
    fsspec.filesystem("memory").rm_file("/in/t.onnx.data")
    assert "its data file 't.onnx.data' cannot be read" in broken("memory://in/t.onnx")


# Uploads


@pytest.mark.usefixtures("ranges")
@pytest.mark.parametrize("error", [OSError("the line is cut"), KeyboardInterrupt(), ValueError("odd")])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("protocol", ["counted", "closing"])
@pytest.mark.parametrize("large", [True, False])
def test_an_upload_that_fails_leaves_nothing(
    large: bool, protocol: str, layout: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not large:
        monkeypatch.setattr(io, "LARGE", 1 << 30)
    made = widen(teacher(tmp_path), factor=2)
    wanted = KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ModelError
    for there in (False, True):  # an older student stays
        if there:
            with fsspec.open(f"{protocol}://out/s.onnx", "wb") as stream:
                stream.write(b"older")
        for name in ("s.onnx",) if layout == "inline" else ("s.onnx", ".data"):
            with monkeypatch.context() as patch:
                patch.setattr(Counted, "failure", (name, error))
                with pytest.raises(wanted):
                    made.save(f"{protocol}://out/s.onnx", verify=False, **LAYOUTS[layout])
            gc.collect()
            assert contents(f"{protocol}://out") == ({"s.onnx": b"older"} if there else {})
    made.save(f"{protocol}://out/s.onnx", verify=False, **LAYOUTS[layout])  # nothing is left in the way
    assert io.load(f"{protocol}://out/s.onnx").graph.initializer


@pytest.mark.usefixtures("ranges")
def test_what_fails_its_verification_is_not_uploaded(tmp_path: Path) -> None:
    path = teacher(tmp_path)
    made = widen(path, factor=2)
    made.lazy_exact = widen(path, factor=2, init="random-pad").lazy_exact
    with pytest.raises(NotEquivalentError, match="nothing was written"):
        made.save("memory://s.onnx")
    assert names() == []


def test_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    made = widen(chain(), factor=2)
    with pytest.raises(ModelError, match="there is no such object"):
        made.save("zip://s.onnx::memory://no.zip", verify=False)
    monkeypatch.setattr(Counted, "failure", ("s.onnx", PermissionError("Access Denied")))
    with pytest.raises(ModelError, match=r"it may not be written \(Access Denied\); check your credentials"):
        made.save("counted://s.onnx", verify=False)
    with pytest.raises(UsageError, match="a family is written to a folder"):
        list(expand_all(["memory://t.onnx"], {"steps": [{"do": "widen", "factor": 2}]}, output_dir="memory://out"))


# Names


def test_names() -> None:
    assert all(map(is_url, ["s3://b/t.onnx", "memory://t.onnx", "simplecache::gs://b/t", "zip://t.onnx::s3://b/a.zip"]))
    local = ["t.onnx", "C://t.onnx", "./s3://t", "a/s3://t", "file:///t", "file://t", "a::b", "://t", Path("s3://t")]
    assert not any(map(is_url, local))
    assert place("file:///a/t.onnx") == Path("/a/t.onnx")
    assert place("local:///a/t.onnx") == Path("/a/t.onnx")
    assert place("./s3://t.onnx") == Path("s3:/t.onnx")
    assert name_of("https://h/a/t.onnx?key=a/b") == "t.onnx"
    assert name_of("zip://a/t.onnx::s3://b/c.zip") == "t.onnx"
    rows = {
        "memory://t.onnx": "memory://d/w.bin",
        "s3://b/a/t.onnx": "s3://b/a/d/w.bin",
        "simplecache::s3://b/t.onnx": "simplecache::s3://b/d/w.bin",
        "zip://a/t.onnx::s3://b/c.zip": "zip://a/d/w.bin::s3://b/c.zip",
        "https://h/a/t.onnx?key=1": "https://h/a/d/w.bin?key=1",
    }
    assert {url: beside(url, "d/w.bin") for url in rows} == rows


def test_a_local_file_with_such_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("memory:").mkdir()
    onnx.save(chain(), "memory:/t.onnx")
    assert "there is no such object" in broken("memory://t.onnx")
    assert io.load("./memory://t.onnx") == io.load(Path("memory://t.onnx")) == chain()


def test_files_by_url(tmp_path: Path) -> None:
    path = teacher(tmp_path, "external")
    saved = widen(f"file://{path}", factor=2).save(f"file://{tmp_path}/s.onnx", external=True)
    assert saved == tmp_path / "s.onnx"
    assert verify(f"file://{path}", saved)


def test_chains_of_file_systems(tmp_path: Path) -> None:
    send(teacher(tmp_path, "external").parent, "memory://in")
    cache = tmp_path / "cache"
    cache.mkdir()
    fsspec.config.conf["simplecache"] = {"cache_storage": str(cache)}
    try:
        widen("simplecache::memory://in/t.onnx", factor=2).save("simplecache::memory://s.onnx", external=True)
    finally:
        del fsspec.config.conf["simplecache"]
    assert verify("memory://in/t.onnx", "memory://s.onnx")
    with fsspec.open("memory://a.zip", "wb") as stream:
        import zipfile

        with zipfile.ZipFile(stream, "w") as archive:
            for file in (tmp_path / "in").iterdir():
                archive.write(file, f"a/{file.name}")
    assert io.load("zip://a/t.onnx::memory://a.zip") == io.load(tmp_path / "in" / "t.onnx")


def test_fsspec_is_imported_for_urls_only(tmp_path: Path) -> None:
    code = "import sys, onnx_net2net as n; n.inspect(sys.argv[1]); import onnx_net2net.cli; assert 'fsspec' not in sys.modules"
    subprocess.run([sys.executable, "-c", code, str(teacher(tmp_path))], check=True, cwd=Path(__file__).parents[1])


# The command line


def run(command: str, code: int = 0) -> Result:
    result = CliRunner().invoke(cli, shlex.split(command))
    assert result.exit_code == code, result.output
    return result


@pytest.mark.usefixtures("ranges")
def test_commands_take_urls(tmp_path: Path) -> None:
    path = teacher(tmp_path, "external")
    send(path.parent, "memory://in")
    run("widen memory://in/t.onnx -o memory://out/s.onnx --factor 2 --shard-size 6K --seed 3")
    run(f"widen {path} -o file://{tmp_path}/s.onnx --factor 2 --shard-size 6K --seed 3")
    assert contents("memory://out") == {file.name: file.read_bytes() for file in tmp_path.glob("s.onnx*")}
    run("inspect memory://in/t.onnx")
    run(f"check memory://in/t.onnx memory://out/s.onnx --samples 1 --junit {tmp_path}/r.xml")
    assert run("check memory://in/t.onnx memory://no.onnx", 3).output.count("no such object") == 1
    for output in ("memory://in/t.onnx", "memory://in/t.onnx.data"):
        assert "would replace" in run(f"widen memory://in/t.onnx -o {output} --factor 2 --no-verify", 2).output
    run("deepen memory://in/t.onnx --after r --mode residual --dry-run")
    (tmp_path / "r.toml").write_text('[[steps]]\ndo = "widen"\nfactor = 2\n')
    run(f"expand memory://in/t.onnx {tmp_path}/r.toml -o memory://e.onnx --no-verify")
    (tmp_path / "family").mkdir()
    run(f"expand memory://in/t.onnx {tmp_path}/r.toml --output-dir {tmp_path}/family --no-verify")
    assert names("memory://e.onnx") == ["e.onnx"]
    assert (tmp_path / "family" / "t.onnx").exists()
