"""GPT-2 small and Llama 1B, with random weights: widened by groups of axes, streamed, and checked segment by segment.

Usage: python -m benchmarks.speed.decoders [gpt2|llama]...     from the repository's root; needs 25 GB of disk for llama
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.speed.measure import OURS, process

ASKED = {
    "gpt2": ["--width", "hidden=900", "--width", "heads=15", "--width", "ffn=x1.5"],
    "llama": ["--width", "hidden=2500", "--width", "ffn=x1.25"],
}
"""What each is asked to grow to: a hidden width that is no multiple, among others."""
TOKENS = 16


def network(name: str) -> Any:
    """The network, from its configuration alone."""
    import torch  # noqa: PLC0415  # only the child process that exports needs it
    import transformers  # noqa: PLC0415

    if name == "gpt2":
        made = transformers.GPT2LMHeadModel(transformers.GPT2Config(attn_implementation="eager"))
    else:
        shape = {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "vocab_size": 128256}
        heads = {"num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 64, "tie_word_embeddings": True}
        config = transformers.LlamaConfig(**shape, **heads, rms_norm_eps=1e-5, attn_implementation="eager")
        made = transformers.LlamaForCausalLM(config)

    class Words(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = made

        def forward(self, words: Any) -> Any:
            return self.inner(input_ids=words, use_cache=False).logits

    return Words().eval()


def export(name: str, path: Path) -> None:
    """Writes a network with its weights in a file beside it."""
    import torch  # noqa: PLC0415

    words = torch.ones(1, TOKENS, dtype=torch.long)
    torch.onnx.export(network(name), (words,), str(path), dynamo=True, external_data=True, verbose=False)


def report(name: str, folder: Path) -> None:
    """Prints one line for each step."""
    teacher, student, plan = folder / "teacher.onnx", folder / "student.onnx", folder / "plan.json"
    process([sys.executable, "-m", "benchmarks.speed.decoders", "--export", name, teacher])
    wide = ["widen", teacher, "-o", student, *ASKED[name], "--plan-out", plan, "--no-verify"]
    took = process([*OURS, *wide])
    sizes = [sum(p.stat().st_size for p in folder.glob(f"{part}.onnx*")) / 1e9 for part in ("teacher", "student")]
    asked = " ".join(ASKED[name])
    print(f"{name} {asked}: {sizes[0]:.2f} GB to {sizes[1]:.2f} GB in {took.seconds:.0f} s, ", end="")
    print(f"peak {took.peak / 2**20:.0f} MiB", flush=True)
    out = folder / "verdict.json"
    check = ["check", teacher, student, "--plan", plan, "--verify", "sample", "--json"]
    took = process(["sh", "-c", '"$@" > "$0"', out, *OURS, *check])
    found = json.loads(out.read_text(encoding="utf-8"))
    worst = max(tensor["max_rel"] for tensor in found["layers"]["tensors"])
    print(f"{name}: equivalent {found['equivalent']}, {found['notices'][0]}; largest error {worst:.1e} of ", end="")
    print(
        f"{len(found['layers']['tensors'])} tensors, in {took.seconds:.0f} s, peak {took.peak / 2**20:.0f} MiB",
        flush=True,
    )


def main() -> None:
    if sys.argv[1:2] == ["--export"]:
        export(sys.argv[2], Path(sys.argv[3]))
        return
    for name in sys.argv[1:] or ASKED:
        with tempfile.TemporaryDirectory(dir=".") as folder:
            report(name, Path(folder).resolve())


if __name__ == "__main__":
    main()
