"""Makes graphs whose attention is one node and stores them without their weights; see README.md.

Usage: python models/fused/fuse.py     from the repository's root; needs onnxruntime, sympy, torch and transformers
"""

from __future__ import annotations

import logging
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import ModelProto
from onnxruntime.transformers.optimizer import optimize_model

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parents[1]), str(FOLDER.parent / "exports")]

import library  # noqa: E402  # of ../exports
from export import bare, from_torch  # noqa: E402  # of ../exports

from tests.exports import export  # noqa: E402

KINDS = {
    "bert.torchscript": "bert",
    "gpt2.torchscript": "gpt2",
    "qwen3.torchscript": "gpt2",
    "t5.dynamo": "t5",
    "vit.dynamo": "vit",
}
"""The optimiser's name for each kind of network."""


OPSET = 24
"""The version from which torch writes Attention, for models that call its scaled dot product."""


def optimised() -> Iterator[tuple[str, ModelProto]]:
    """Exports, fused by onnxruntime's optimiser of transformers."""
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(export(name), path)
            made = optimize_model(str(path), model_type=kind, num_heads=4, hidden_size=32, opt_level=0)
            made.save_model_to_file(str(path))
            yield name.partition(".")[0], onnx.load(path)


def exported() -> Iterator[tuple[str, ModelProto]]:
    """Models of transformers by torch's exporter."""
    import torch  # noqa: PLC0415  # transformers looks at it first

    library.EAGER["attn_implementation"] = "sdpa"
    for build in (library.gpt2, library.llama):
        tokens = torch.randint(0, 50, (2, 12))
        given = (tokens, torch.ones(2, 12, dtype=torch.int64))
        yield f"{build.__name__}.opset{OPSET}", from_torch(build, given, OPSET, "dynamo")


def main() -> None:
    """Writes all of them."""
    logging.disable(logging.CRITICAL)
    warnings.filterwarnings("ignore")
    for name, made in (*optimised(), *exported()):
        model = bare(made)
        (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        print(f"{name}: {len(model.graph.node)} nodes, {model.ByteSize():,} bytes")


if __name__ == "__main__":
    main()
