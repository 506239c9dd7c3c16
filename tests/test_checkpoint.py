"""Checkpoint files: what is written is read back, and what is none is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from onnx_net2net import MissingError, ModelError
from onnx_net2net.training import checkpoint
from onnx_net2net.training.checkpoint import read_state, write_state

rng = np.random.default_rng(0)
TYPES = [np.float32, np.float64, np.float16, np.int64, np.int8, np.uint8, np.bool_]
STATE = {f"layer.{np.dtype(kind).name}": rng.normal(0, 9, (3, 2)).astype(kind) for kind in TYPES}
STATE |= {"step": np.array(7), "empty": np.zeros((0, 4), np.float32)}
BRAIN = {"half": np.array([1.5, -2, 3], ml_dtypes.bfloat16)}


def alike(left: Any, right: Any) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        assert (value.dtype, value.shape) == (right[name].dtype, right[name].shape)
        assert value.tobytes() == right[name].tobytes()


@pytest.mark.parametrize("suffix", [".npz", ".safetensors", ".pt"])
def test_what_is_written_is_read_back(suffix: str, tmp_path: Path) -> None:
    if suffix == ".pt":
        pytest.importorskip("torch", reason="needs the extra torch")
    state = STATE | (BRAIN if suffix != ".npz" else {})
    write_state(state, tmp_path / f"a{suffix}")
    alike(read_state(tmp_path / f"a{suffix}"), state)
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"]


def test_views_are_written_as_they_look(tmp_path: Path) -> None:
    state = {"turned": np.arange(6.0).reshape(2, 3).T, "scalar": np.array(2.5)}
    write_state(state, tmp_path / "a.safetensors")
    alike(read_state(tmp_path / "a.safetensors"), state)


def damaged(path: Path) -> None:
    path.write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00nonsense")


FILES: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "nothing": ("a.npz", lambda path: None, "there is no such file"),
    "no format": ("a.txt", damaged, ".txt is not a format of checkpoints; use .safetensors, .npz"),
    "no suffix": ("a", damaged, "no suffix is not a format"),
    "damaged npz": ("a.npz", damaged, "save the checkpoint again"),
    "damaged safetensors": ("a.safetensors", damaged, "save the checkpoint again"),
    "pickles": ("a.npz", lambda path: np.savez(path, a=np.array([{}], object)), "allow_pickle=False"),
}


@pytest.mark.parametrize("row", FILES)
def test_what_is_no_checkpoint_is_refused(row: str, tmp_path: Path) -> None:
    name, make, wanted = FILES[row]
    make(tmp_path / name)
    with pytest.raises(ModelError, match=wanted):
        read_state(tmp_path / name)


def test_nothing_is_half_written(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="it cannot be written"):
        write_state(STATE, tmp_path / "no" / "a.npz")
    with pytest.raises(ModelError, match=r"\(half\): an .npz file has no type bfloat16; write .safetensors"):
        write_state(BRAIN, tmp_path / "a.npz")
    with pytest.raises(ModelError, match="is not a format"):
        write_state(STATE, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_a_missing_library_is_named(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(checkpoint.importlib, "import_module", fail)
    path = tmp_path / f"a{suffix}"
    damaged(path)
    for action in (lambda: read_state(path), lambda: write_state({}, path)):
        with pytest.raises(MissingError, match=r"is not installed; pip install 'onnx-net2net\["):
            action()


def test_nested_checkpoints_of_torch(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    inner = {"w": torch.ones(2, 3), "b": torch.zeros(2, dtype=torch.bfloat16)}
    rows = {
        "plain": (inner, "", None),
        "named": ({"model": inner, "step": 3}, "model", None),
        "unnamed": (
            {"model": inner, "optimizer": {}, "step": 3},
            "",
            "nested among other things; say under which key: model",
        ),
        "deep": ({"state": {"ema": inner}}, "state.ema", None),
        "wrong key": ({"model": inner}, "ema", "it has no ema; it holds model"),
        "numbers": ({"epoch": 3}, "", "it is not a dictionary of tensors"),
        "a tensor": (torch.ones(2), "", "it is not a dictionary of tensors"),
    }
    for name, (saved, under, wrong) in rows.items():
        path = tmp_path / f"{name}.pt"
        torch.save(saved, path)
        if wrong is None:
            assert read_state(path, under=under)["b"].dtype == ml_dtypes.bfloat16
        else:
            with pytest.raises(ModelError, match=wrong):
                read_state(path, under=under)
    damaged(tmp_path / "a.pt")
    with pytest.raises(ModelError, match="save the checkpoint again"):
        read_state(tmp_path / "a.pt")


def test_files_that_would_run_code_are_refused(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra torch")
    torch.save({"w": torch.ones(2), "code": Path("x")}, tmp_path / "a.pt")
    with pytest.raises(ModelError, match=r"file|checkpoint"):
        read_state(tmp_path / "a.pt")
