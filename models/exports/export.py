"""Exports small networks by every exporter and stores them without their weights; see README.md.

Usage: python models/exports/export.py [GLOB]     GLOB over names such as "resnet.*" or "*.dynamo"
"""
# ruff: noqa: PLC0415  # each environment has only some of the frameworks

from __future__ import annotations

import fnmatch
import importlib.util
import io
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, TensorProto

FOLDER = Path(__file__).parent
KEPT = 64
"""Elements up to which the data of floating point numbers stays."""
DYNAMIC = {"bert": ("batch", "tokens"), "keras_resnet": (), "keras_mobilenet": ()}
"""Names of the dynamic axes of all inputs; only the batch is dynamic in those not listed."""
CACHES = ("gpt2_cache", "llama_cache")
"""Decoders with a cache, whose inputs have names and dynamic axes of their own."""
PAST = [f"past_key_values.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
PRESENT = [f"present.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
CACHED: dict[str, Mapping[int, str]] = {
    "input_ids": {0: "batch", 1: "tokens"},
    "attention_mask": {0: "batch", 1: "past + tokens"},
    **{name: {0: "batch", 2: "past"} for name in PAST},
}
"""Their inputs."""
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
Build = Callable[[], Any]


def architectures() -> dict[str, tuple[Build, tuple[Any, ...]]]:
    """Networks for torch's exporters, with an example of their inputs."""
    import convnets
    import frameworks
    import library
    import sequences
    import torch

    image, wide = torch.randn(2, 3, 32, 32), torch.randn(2, 3, 64, 64)
    gray, tokens = torch.randn(2, 1, 16, 16), torch.randint(0, 50, (2, 12))
    text = (tokens, torch.ones(2, 12, dtype=torch.int64))

    def cached(heads: int) -> tuple[Any, ...]:
        mask = torch.ones(2, 8, dtype=torch.int64)  # strides of a slice would be sizes that exporters do not know
        return (tokens[:, :3].contiguous(), mask, *(torch.randn(2, heads, 5, 8) for _ in PAST))

    from torch import nn

    rows: dict[str, tuple[Build, Any]] = {
        "resnet": (convnets.resnet, image), "resnext": (partial(convnets.resnet, 4), image),
        "densenet": (convnets.densenet, image), "inception": (convnets.inception, image),
        "shufflenet_v2": (convnets.shufflenet, image), "unet": (convnets.UNet, image),
        "super_resolution": (convnets.super_resolution, gray), "yolo": (convnets.Yolo, wide),
        "autoencoder": (convnets.autoencoder, gray), "tcn": (sequences.TCN, torch.randn(2, 6, 20)),
        "lstm": (sequences.Recurrent, tokens), "gru_both_ways": (partial(sequences.Recurrent, nn.GRU, True), tokens),
        "towers": (sequences.Towers, (torch.randn(2, 20), torch.randn(2, 20))), "encoder": (sequences.Encoder, tokens),
        "bert": (library.bert, text), "gpt2": (library.gpt2, text), "llama": (library.llama, text),
        "qwen3": (library.qwen3, text), "gemma": (library.gemma, text), "t5": (library.t5, (tokens, tokens[:, :7])),
        "whisper": (library.whisper, (torch.randn(2, 8, 20), tokens[:, :7])),
        "vit": (library.vit, image), "segformer": (library.segformer, wide), "mixer": (library.mixer, image),
        "mobilenet_v2": (library.mobilenet_v2, image), "mobilenet_v3": (library.mobilenet_v3, image),
        "efficientnet": (library.efficientnet, image), "regnet": (library.regnet, image),
        "convnext": (library.convnext, image), "swin": (library.swin, image),
        "keras_resnet": (frameworks.keras_resnet, torch.randn(2, 32, 32, 3)),
        "keras_mobilenet": (frameworks.keras_mobilenet, torch.randn(2, 32, 32, 3)),
        "gpt2_cache": (library.gpt2_cache, cached(4)), "llama_cache": (library.llama_cache, cached(2)),
        "lstm_tagger": (sequences.Tagger, tokens), "gru_tagger": (partial(sequences.Tagger, nn.GRU), tokens),
        "mixtral": (library.mixtral, text), "mamba": (library.mamba, tokens[:, :6]),
    }  # fmt: skip
    return {name: (build, given if isinstance(given, tuple) else (given,)) for name, (build, given) in rows.items()}


def scattered(model: Any) -> Any:
    """The network in evaluation mode, no parameter or statistic of it all alike: small ones are stored as they are."""
    import torch

    with torch.no_grad():
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if not value.is_floating_point() or value.numel() < 2:
                continue
            if value.dim() < 2 and float(value.max() - value.min()) == 0:
                around = 0.0 if name.endswith(("bias", "beta", "mean")) or float(value.max()) == 0 else 1.0
                value.copy_(around + torch.rand_like(value) - 0.5)
    return model.eval()


def from_torch(
    build: Build,
    given: tuple[Any, ...],
    opset: int,
    kind: str,
    axes: Mapping[str, Mapping[int, str]],
    outputs: Sequence[str] | None = None,
) -> ModelProto:
    """What an exporter of torch makes of a network, given the names and dynamic axes of its inputs."""
    import torch

    torch.manual_seed(0)
    model = scattered(build())
    names = list(axes)
    if kind in ("torchscript", "torchscript_raw"):
        mode = torch.onnx.TrainingMode.PRESERVE if kind.endswith("raw") else torch.onnx.TrainingMode.EVAL
        named = {name: dict(known or {0: "batch"}) for name, known in axes.items()}
        file = io.BytesIO()
        torch.onnx.export(
            model, given, file, dynamo=False, opset_version=opset, input_names=names, dynamic_axes=named,
            output_names=outputs, training=mode, do_constant_folding=not kind.endswith("raw"),
        )  # fmt: skip
        return onnx.load_from_string(file.getvalue())
    symbols = {name for known in axes.values() for name in known.values() if name.isidentifier()}
    sizes = {name: torch.export.Dim(name, min=1, max=512 if name == "batch" else 24) for name in symbols}
    shapes = tuple({i: sizes.get(n, torch.export.Dim.AUTO) for i, n in known.items()} for known in axes.values())
    made = torch.onnx.export(
        model, given, dynamo=True, opset_version=opset, input_names=names, optimize=kind == "dynamo",
        output_names=outputs, dynamic_shapes=shapes if symbols else None, verbose=False,
    )  # fmt: skip
    return made.model_proto


def from_optimum(build: Build, task: str) -> ModelProto:
    """What optimum makes of a network of transformers."""
    import library
    import torch

    torch.manual_seed(0)
    return library.from_optimum(lambda: scattered(build()), task)


def jobs() -> Iterator[tuple[str, Callable[[], ModelProto]]]:
    """Every (file name, what makes it) that this environment has the frameworks for."""
    import frameworks

    try:
        rows = architectures()
    except ImportError as error:
        print(f"torch's exporters are left out: {error}")
        rows = {}
    for i, (name, (build, given)) in enumerate(rows.items()):
        dynamic = dict(enumerate(DYNAMIC.get(name, ("batch",))))
        axes = CACHED if name in CACHES else {f"x{i}": dynamic for i in range(len(given))}
        outputs = ["logits", *PRESENT] if name in CACHES else None
        for kind, opset in (("torchscript", 17 + i % 4), ("dynamo", 18 + i % 3), ("dynamo_raw", 18 + (i + 1) % 3)):
            yield f"{name}.{kind}", partial(from_torch, build, given, opset, kind, axes, outputs)
        if name in ("resnet", "densenet", "mobilenet_v3"):
            yield f"{name}.torchscript_raw", partial(from_torch, build, given, 17, "torchscript_raw", axes)
    if rows and importlib.util.find_spec("optimum"):
        import library

        for name, (build, task) in library.OPTIMUM.items():
            yield name, partial(from_optimum, rows[build][0], task)
    for name, make in frameworks.TENSORFLOW.items():
        yield f"{name}.tf2onnx", partial(frameworks.from_tensorflow, make, 17)
    for name, make in frameworks.JAX.items():
        yield f"{name}.jax2onnx", partial(frameworks.from_jax, make, 20)


def bare(model: ModelProto) -> ModelProto:
    """The model without weights, documentation, traces and metadata."""
    _strip(model)
    for tensor in model.graph.initializer:
        if tensor.data_type in FLOATS and math.prod(tensor.dims) > KEPT:
            kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
            tensor.CopyFrom(kept)
    return model


def _strip(message: Any) -> None:
    """Clears doc_string and metadata_props of a message and of all in it."""
    for field, value in message.ListFields():
        if field.name in ("doc_string", "metadata_props"):
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for part in value if hasattr(value, "__len__") and not hasattr(value, "ListFields") else [value]:
                _strip(part)


def main(glob: str) -> None:
    """Exports what the glob names and lists what fails."""
    os.environ.setdefault("KERAS_BACKEND", "torch")
    warnings.filterwarnings("ignore")
    failed: list[str] = []
    for name, make in jobs():
        if not fnmatch.fnmatch(name, glob):
            continue
        try:
            model = bare(make())
        except Exception as error:  # exporters raise anything at all
            failed.append(f"- `{name}`: {type(error).__name__}: {(str(error).strip() or '?').splitlines()[0][:200]}")
            continue
        (FOLDER / f"{name}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        print(f"{name}: {len(model.graph.node)} nodes, {model.ByteSize():,} bytes", flush=True)
    print("\n".join(["failed:", *failed] if failed else ["nothing failed"]))


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "*")
