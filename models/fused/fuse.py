"""Fuses some of the exports by onnxruntime's optimiser of transformers, and stores them without their weights.

Usage: python models/fused/fuse.py     from the repository's root; needs onnxruntime and sympy
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path

import onnx
from onnxruntime.transformers.optimizer import optimize_model

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parents[1]), str(FOLDER.parent / "exports")]

from export import bare  # noqa: E402  # of ../exports

from tests.exports import export  # noqa: E402

KINDS = {
    "bert.torchscript": "bert",
    "gpt2.torchscript": "gpt2",
    "qwen3.torchscript": "gpt2",
    "t5.dynamo": "t5",
    "vit.dynamo": "vit",
}
"""The optimiser's name for each kind of network."""


def main() -> None:
    """Writes all of them."""
    logging.disable(logging.CRITICAL)
    for name, kind in KINDS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            onnx.save(export(name), path)
            made = optimize_model(str(path), model_type=kind, num_heads=4, hidden_size=32, opt_level=0)
            made.save_model_to_file(str(path))
            model = bare(onnx.load(path))
        (FOLDER / f"{name.partition('.')[0]}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        foreign = sorted({node.op_type for node in model.graph.node if node.domain})
        print(f"{name}: {len(model.graph.node)} nodes, {model.ByteSize():,} bytes, {', '.join(foreign)}")


if __name__ == "__main__":
    main()
