"""Rows of the command line's tests: models as ONNX text, and commands with what they print and how they exit."""

from __future__ import annotations

import re
from typing import Any

import onnx_net2net

WIDEN, DEEPEN, CHECK = "widen t.onnx -o s.onnx", "deepen t.onnx -o s.onnx", "check t.onnx t.onnx"
EXPAND = "expand t.onnx r.toml -o s.onnx"
GROW = "weights t.onnx --plan wide.json --checkpoint t.npz"
GROWN = f"{GROW} -o s.npz"
EACH = {
    "inspect": "inspect t.onnx",
    "widen": f"{WIDEN} --factor 2",
    "deepen": f"{DEEPEN} --every",
    "expand": EXPAND,
    "weights": GROWN,
    "check": CHECK,
}
WRITERS = {name: EACH[name] for name in ("widen", "deepen", "expand")}
FAMILY = "--set steps.0.factor=1.5,2 --set seed=1"
CNN = """net (float[N,3,8,8] image) => (float[N,4] scores) {
  c1 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(image, w1, b1)  a1 = Relu(c1)
  c2 = Conv<kernel_shape=[3,3], pads=[1,1,1,1]>(a1, w2, b2)  s = Sigmoid(c2)
  g = GlobalAveragePool(s)  f = Flatten(g)
  h = Gemm(f, w3, b3)  r = Relu(h)  scores = Gemm(r, w4)
}"""
WEIGHTS = {"w1": (6, 3, 3, 3), "b1": (6,), "w2": (8, 6, 3, 3), "b2": (8,), "w3": (8, 5), "b3": (5,), "w4": (5, 4)}
NORM = """net (float[2,3] x) => (float[2,4] y) {
  h = MatMul(x, w1)  r = Relu(h)  n = LayerNormalization(r, w2, w3)  m = MatMul(n, w4)  y = MatMul(m, w5)
}"""
NORMED = {"w1": (3, 6), "w2": (6,), "w3": (6,), "w4": (6, 5), "w5": (5, 4)}
POST_NORM = """net (int64[2,3] ids) => (float[2,3,5] y) {
  t = Gather(table, ids)  n = LayerNormalization(t, g1, b1)  p = MatMul(n, w)  q = Tanh(p)  u = MatMul(q, v)
  s = Add(n, u)  m = LayerNormalization(s, g2, b2)  turned = Transpose<perm=[1,0]>(table)  y = MatMul(m, turned)
}"""
POST_NORMED = {"table": (5, 4), "g1": (4,), "b1": (4,), "w": (4, 6), "v": (6, 4), "g2": (4,), "b2": (4,)}
MADE = CNN.replace("c1 =", "size = Constant<value = int64[1] {6}>()  b1 = ConstantOfShape(size)  c1 =").replace(
    "f = Flatten(g)", "shape = Constant<value = int64[2] {0, -1}>()  f = Reshape(g, shape)"
)
MARKUP = "[red]w:1:" + "x" * 200

REPORTS = {
    "version": ("--version", onnx_net2net.__version__),
    "inspect axes": (EACH["inspect"], r"w1:0 +6 +free +c1, a1, w1 and 2 more"),
    "inspect pins": (EACH["inspect"], r"\d+ +its shape must stay"),
    "inspect places": (EACH["inspect"], r"a1 +Conv +6 +identity, residual, prelu, linear"),
    "inspect blocks": ("inspect block.onnx", r"s +x +s +3"),
    "inspect summary": (EACH["inspect"], r"3 can be widened, .* 3 places for a layer"),
    "inspect every axis": (f"{EACH['inspect']} -v", r"w4:1 +4 +pinned .*graph output 'scores'"),
    "widen sizes": (f"{WIDEN} --factor 1.5", r"parameters +673 +1,372 +x2\.04\s+file size +3\.\d kB +6\.\d kB"),
    "widen axes": (f"{WIDEN} --factor 1.5", r"axes widened +3\s+axes pinned +1 by graph output 'scores': its shape"),
    "widen verdict": (f"{WIDEN} --factor 1.5", r"equivalent: max_rel .*, tolerance [2-9].*e-06 .*\s+written: s.onnx"),
    "widen every axis": (f"{WIDEN} --factor 1.5 -v", r"w2:0 +8 +-> +12"),
    "widen every pin": (f"{WIDEN} --factor 1.5 -v", r"w1:2 +3 +Conv 'c1': positions"),
    "widen drift": (f"{WIDEN} --factor 2 --noise 0.1", r"drift from noise: max_rel \d"),
    "widen unverified": (f"{WIDEN} --factor 2 --no-verify", "not verified"),
    "widen dry run": ("widen t.onnx --width w2=9 --dry-run", r"w2:0 +8 +-> +9"),
    "deepen layers": (
        EACH["deepen"],
        r"Conv 3x3 after a1: identity\s+Conv 3x3 after s: residual\s+Gemm after r: identity",
    ),
    "deepen linear": (f"{EACH['deepen']} --mode linear", r"Gemm after r: linear, redundant until it is trained"),
    "deepen skipped": (f"{EACH['deepen']} --mode identity", r"places skipped +s: an identity layer after it needs"),
    "deepen groups": (
        f"{EACH['deepen']} --group 2 --batch-norm",
        r"Conv 3x3 in 2 groups after a1: identity, with Batch",
    ),
    "deepen block": ("deepen block.onnx -o s.onnx --block s", r"blocks copied +3 nodes from x, after s"),
    "deepen random": (f"{EACH['deepen']} --init random --no-verify", r"Conv 3x3 after a1: random[\s\S]*not verified"),
    "widen random": (f"{WIDEN} --factor 2 --init random-pad --no-verify", r"axes widened +3[\s\S]*not verified"),
    "widen with nodes": (
        "widen post.onnx -o s.onnx --width table:1=9 --allow-nodes --tied keep",
        r"nodes inserted +the mean over table:1 after n: 486 multiply-accumulates\s+a factor of 0.5 after m, in place of "
        r"fractions in a tied weight\s+tied weights kept +table\s+constants in several versions +none",
    ),
    "widen with two tables": (
        "widen post.onnx -o s.onnx --width table:1=8 --tied clone",
        r"nodes inserted +none\s+tied weights kept +none\s+constants in several versions +table",
    ),
    "inspect what nodes can make": ("inspect post.onnx", r"1 inserted node can make it \(--allow-nodes\)"),
    "expand": (EXPAND, r"axes widened +3[\s\S]*Conv 3x3 after a1: identity[\s\S]*equivalent: [\s\S]*written: s.onnx"),
    "expand a family": (f"expand t.onnx r.toml {FAMILY}", r"2 +1 +[\d,]+ +[\d,]+ +[\d.e-]+ +[2-9][.0-9]*e-06 +yes"),
    "check": (
        CHECK,
        r"scores +0 +0 +[2-9][.0-9]*e-06 +equal[\s\S]*scores +0 +0 +1 +100.0%[\s\S]*equivalent: .*24 samples and 3 probes on CPUExecutionProvider",
    ),
    "check per layer": (
        "check t.onnx wide.onnx --plan wide.json --per-layer",
        r"c2 +Conv +\S+ +\S+ +\S+ +equal[\s\S]*1e-08 \|[ #]*\n +\+-{9}\n9 tensors matched by plan: none diverges",
    ),
    "weights sizes": (GROWN, r"w2 +in 6 -> 12, out 8 -> 16\s"),
    "weights total": (GROWN, r"673 -> 2,290 numbers in 7 tensors\s+written: s.npz"),
    "weights tensors": (f"{GROWN} -v", r"w3 +\[8, 5\] +-> +\[16, 10\] +by name"),
    "weights of layers": (
        "weights t.onnx --plan deep.json --checkpoint t.npz -o s.npz",
        r"\[6, 6, 3, 3\]: a Conv after a1",
    ),
    "weights dry run": (f"{GROW} --dry-run", "nothing written"),
    "markup": ("inspect markup.onnx", re.escape(MARKUP)),
}


def new_sizes(made: Any) -> dict[str, int]:
    return {axis["name"]: axis["new"] for axis in made["axes"]["widened"]}


def kernels(made: Any) -> list[list[int]]:
    return [layer["kernel"] for layer in made["layers"]]


def modes(made: Any) -> list[str]:
    return [layer["mode"] for layer in made["layers"]]


def verdict(made: Any) -> tuple[bool, int, float | str]:
    tolerance = made["outputs"][0]["tolerance"]
    return made["equivalent"], made["samples"], "measured" if 2e-6 <= tolerance < 1e-5 else tolerance


def probed(made: Any) -> dict[str, float]:
    return dict(made["outputs"][0]["probes"])


def hows(made: Any) -> set[str]:
    return {change["how"] for change in made["changes"]}


DOCUMENTS = {
    "factor": (f"{WIDEN} --factor 2", 0, new_sizes, {"w1:0": 12, "w2:0": 16, "w3:1": 10}),
    "round-to": (f"{WIDEN} --factor 1.5 --round-to 8", 0, new_sizes, {"w1:0": 16, "w2:0": 16, "w3:1": 8}),
    "only": (f"{WIDEN} --factor 2 --only 'w1*' --only h", 0, new_sizes, {"w1:0": 12, "w3:1": 10}),
    "skip": (f"{WIDEN} --factor 2 --skip 'w1*' --skip h", 0, new_sizes, {"w2:0": 16}),
    "width": (f"{WIDEN} --width w1=7 --width h=+2", 0, new_sizes, {"w1:0": 7, "w3:1": 7}),
    "width of an axis": (f"{WIDEN} --width w1:0=x1.5", 0, new_sizes, {"w1:0": 9}),
    "width with =": ("widen equals.onnx -o s.onnx --width w=1=10", 0, new_sizes, {"w=1:0": 10}),
    "both": (f"{WIDEN} --factor 2 --width w1=7", 0, new_sizes, {"w1:0": 7, "w2:0": 16, "w3:1": 10}),
    "kernel by default": (f"{DEEPEN} --after a1", 0, kernels, [[3, 3]]),
    "kernel": (f"{DEEPEN} --after a1 --kernel 5", 0, kernels, [[5, 5]]),
    "kernel of two sides": (f"{DEEPEN} --after a1 --kernel 1x3", 0, kernels, [[1, 3]]),
    "two layers": (f"{DEEPEN} --after a1 --kernel 1x7,7x1", 0, kernels, [[1, 7], [7, 1]]),
    "two places": (f"{DEEPEN} --after a1 --after r", 0, kernels, [[3, 3], []]),
    "every place": (f"{DEEPEN} --every --seed 4", 0, kernels, [[3, 3], [3, 3], []]),
    "count": (f"{DEEPEN} --after r --count 3", 0, kernels, [[], [], []]),
    "depthwise": (f"{DEEPEN} --after a1 --group depthwise", 0, lambda made: made["layers"][0]["group"], 6),
    "mode": (f"{DEEPEN} --after a1 --after s --mode prelu", 0, modes, ["prelu", "prelu"]),
    "calibrated": (f"{DEEPEN} --after a1 --batch-norm --calibrate x.npz", 0, modes, ["identity"]),
    "blocks": ("deepen block.onnx -o s.onnx --block every --count 2", 0, lambda made: len(made["blocks"]), 2),
    "block to name": ("inspect block.onnx", 0, lambda made: made["blocks"][0]["block"], "s"),
    "target": (f"{WIDEN} --target-params 1.9x", 0, lambda made: made["parameters"]["after"] // 100, 12),
    "target of work": (f"{WIDEN} --target-macs 2x", 0, lambda made: len(made["axes"]["widened"]), 3),
    "recipe": (
        EXPAND,
        0,
        lambda made: (new_sizes(made), modes(made)),
        ({"w1:0": 9, "w2:0": 12, "w3:1": 8}, ["identity", "residual", "identity"]),
    ),
    "target of a recipe": (
        "expand t.onnx open.toml -o s.onnx --target-params 2x",
        0,
        lambda made: made["parameters"]["after"] // 100,
        13,
    ),
    "family": (
        f"expand t.onnx r.toml {FAMILY}",
        0,
        lambda made: [row["steps.0.factor"] for row in made["rows"]],
        [1.5, 2],
    ),
    "teachers and a folder": (
        "expand t.onnx wide.onnx r.toml --output-dir empty --seed 1",
        0,
        lambda made: [(row["teacher"], row["output"], row["equivalent"], row["code"]) for row in made["rows"]],
        [(name, f"empty/{name}", True, 0) for name in ("t.onnx", "wide.onnx")],
    ),
    "teachers of which one is not there": (
        "expand t.onnx none.onnx r.toml --dry-run",
        3,
        lambda made: [(row["output"], row["code"], bool(row["reason"])) for row in made["rows"]],
        [(None, 0, False), (None, 3, True)],
    ),
    "targets of teachers": (
        "expand t.onnx wide.onnx open.toml --dry-run --target-params 2x",
        0,
        lambda made: [row["parameters"] // 100 for row in made["rows"]],
        [13, 46],
    ),
    "threads": (f"{CHECK} --threads 1", 0, lambda made: made["equivalent"], True),
    "family unverified": (
        f"expand t.onnx r.toml {FAMILY} --no-verify",
        0,
        lambda made: made["rows"][0]["equivalent"],
        None,
    ),
    "samples": (f"{CHECK} --samples 5", 0, verdict, (True, 5, "measured")),
    "inputs": (f"{CHECK} --inputs x.npz", 0, verdict, (True, 1, "measured")),
    "inputs of a folder": (f"{CHECK} --inputs folder", 0, verdict, (True, 1, "measured")),
    "inputs of test data": (f"{CHECK} --inputs data", 0, verdict, (True, 2, "measured")),
    "inputs of a function": (f"{CHECK} --inputs my_data:samples", 0, verdict, (True, 2, "measured")),
    "saved inputs": (
        f"{CHECK} --save-inputs used.npz",
        0,
        lambda made: list(probed(made)),
        ["zeros", "large", "one-hot"],
    ),
    "sizes": ("check t.onnx wide.onnx", 0, lambda made: made["parameters"]["before"], 673),
    "no probes": (f"{CHECK} --no-probes", 0, probed, {}),
    "range": ("check t.onnx wide.onnx --range image=-2.5:1e1", 0, verdict, (True, 24, "measured")),
    "a range that hides": ("check plain.onnx relu.onnx --range x=0:1", 0, verdict, (True, 24, "measured")),
    "the same without": ("check plain.onnx relu.onnx", 1, lambda made: made["equivalent"], False),
    "a probe that finds": ("check plain.onnx clip.onnx", 1, lambda made: "on the large probe" in made["reason"], True),
    "a probe that is left out": ("check exp.onnx exp.onnx", 0, lambda made: made["notices"][0][:15], "large: left out"),
    "rtol": ("check t.onnx noisy.onnx --rtol 10", 0, verdict, (True, 24, 10)),
    "atol": ("check t.onnx noisy.onnx --atol 100", 0, verdict, (True, 24, 0)),
    "atol of 0": ("check t.onnx noisy.onnx --atol 0", 1, verdict, (False, 24, 0)),
    "rtol of an output": ("check t.onnx noisy.onnx --rtol scores=10", 0, verdict, (True, 24, 10)),
    "rtol of an output and of the rest": (
        "check t.onnx noisy.onnx --rtol scores=10 --rtol 1e-9",
        0,
        verdict,
        (True, 24, 10),
    ),
    "claimed to have grown": (f"{CHECK} --grown", 1, lambda made: "nothing grew" in made["reason"], True),
    "grown": (GROWN, 0, lambda made: made["modules"]["w2"], "in 6 -> 12, out 8 -> 16"),
    "grown by value": (f"{GROWN} --checkpoint named.npz", 0, hows, {"by value"}),
    "grown as told": (f"{GROWN} --name w2=w2", 0, hows, {"by name", "as told"}),
    "grown later": (f"{GROWN} --checkpoint later.npz --reference named.npz", 0, hows, {"by value"}),
    "kept": (f"{GROWN} --checkpoint more.npz --keep 'aux*'", 0, lambda made: list(made["kept"]), ["aux.w"]),
    "provider": (f"{CHECK} --provider CPU", 0, lambda made: made["providers"], ["CPUExecutionProvider"]),
    "dim": ("check four.onnx four.onnx --dim N=4", 0, verdict, (True, 24, "measured")),
    "dim by place": ("check four.onnx four.onnx --dim x:0=4", 0, verdict, (True, 24, "measured")),
    "per layer": ("check t.onnx bent.onnx --per-layer", 1, lambda made: made["layers"]["first"], "h"),
    "where it breaks": ("check t.onnx bent.onnx", 1, lambda made: made["layers"]["first"], "h"),
    "by name": (
        "check t.onnx wide.onnx --per-layer",
        0,
        lambda made: (made["layers"]["by"], made["layers"]["skipped"]),
        ("name", {"the shapes differ": 8}),
    ),
    "by plan": (
        "check t.onnx wide.onnx --per-layer --plan wide.json",
        0,
        lambda made: (made["layers"]["by"], made["layers"]["skipped"]),
        ("plan", {}),
    ),
    "timeout": (f"{CHECK} --timeout 100", 0, verdict, (True, 24, "measured")),
    "max memory": (f"{CHECK} --max-memory 2g", 0, verdict, (True, 24, "measured")),
    "segments": ("check t.onnx t.onnx --verify sample", 0, verdict, (True, 3, 1e-5)),
    "segments of an expansion": (
        "widen t.onnx -o s.onnx --factor 1.5 --verify sample",
        0,
        lambda made: "in 1 segments" in made["verification"]["notices"][0],
        True,
    ),
    "nan": ("check t.onnx nan.onnx", 1, lambda made: made["outputs"][0]["max_rel"], None),
    "unlike values": ("check t.onnx other.onnx", 1, lambda made: "it differs by" in made["reason"], True),
    "unlike outputs": ("check t.onnx renamed.onnx", 1, lambda made: "the outputs differ" in made["reason"], True),
    "constant nodes": ("widen made.onnx --factor 1.5 --dry-run", 0, lambda made: made["parameters"]["before"], 673),
    "skipped": ("widen norm.onnx -o s.onnx --factor 1.5", 0, lambda made: made["axes"]["skipped"][0]["name"], "w1:1"),
    "dry run": (f"{WIDEN} --factor 2 --dry-run", 0, lambda made: (made["verification"], made["output"]), (None, None)),
}

MISTAKES = {
    "no command": ("", 2, "Missing command"),
    "unknown command": ("grow", 2, "No such command 'grow'"),
    "no teacher": ("inspect", 2, "Missing argument 'TEACHER'"),
    "factor that is no number": (f"{WIDEN} --factor x", 2, "'x' is not a valid float"),
    "no leave to insert": (
        "widen post.onnx --width table:1=9 --dry-run",
        3,
        "1 inserted node can make it (--allow-nodes)",
    ),
    "plan and nodes": (f"{WIDEN} --plan p --allow-nodes", 2, "excludes --allow-nodes"),
    "plan and tied": (f"{WIDEN} --plan p --tied keep", 2, "excludes --tied"),
    "tied otherwise": (f"{WIDEN} --factor 2 --tied up", 2, "'up' is not one of 'clone', 'keep'"),
    "negative noise": (f"{EACH['widen']} --noise -1", 2, "--noise"),
    "widen nothing": (WIDEN, 2, "nothing is asked for"),
    "widen to nowhere": ("widen t.onnx --factor 2", 2, "give -o STUDENT"),
    "plan and factor": (f"{WIDEN} --plan p --factor 2", 2, "excludes --factor"),
    "plan and seed": (f"{WIDEN} --plan p --seed 0", 2, "excludes --seed"),
    "plan and every": (f"{DEEPEN} --plan p --every", 2, "excludes --every"),
    "every and after": (f"{DEEPEN} --every --after a1", 2, "excludes --after"),
    "only without factor": (f"{WIDEN} --width w1=7 --only w1", 2, "excludes --only"),
    "inputs and samples": (f"{CHECK} --inputs x --samples 1", 2, "excludes --samples"),
    "inputs and range": (f"{CHECK} --inputs x --range image=0:1", 2, "excludes --range"),
    "inputs and probes": (f"{CHECK} --inputs x --no-probes", 2, "excludes --no-probes"),
    "range without end": (f"{CHECK} --range image=1", 2, "'image=1' is not NAME=LOW:HIGH"),
    "range of words": (f"{CHECK} --range image=a:b", 2, "is not NAME=LOW:HIGH"),
    "range of another": (f"{CHECK} --range picture=0:1", 2, "range (picture): there is no such input"),
    "range turned": (f"{CHECK} --range image=1:0", 2, "1:0 is no range"),
    "inputs over the teacher": (f"{CHECK} --save-inputs ./t.onnx", 2, "it would replace a file"),
    "inputs over inputs": (f"{CHECK} --inputs x.npz --save-inputs x.npz", 2, "it would replace a file"),
    "inputs to nowhere": (f"{CHECK} --save-inputs no/x.npz", 2, "there is no such folder"),
    "function that fails": (f"{CHECK} --inputs my_data:fail", 2, "my_data:fail): ValueError: not today"),
    "no function": (f"{CHECK} --inputs my_data:none", 2, "AttributeError"),
    "an empty folder": (f"{CHECK} --inputs empty", 3, "it holds no .npy and no input_0.pb files"),
    "report over the teacher": (f"{CHECK} --html ./t.onnx", 2, "it would replace a file"),
    "report over inputs": (f"{CHECK} --inputs folder --junit folder/image.npy", 2, "it would replace a file"),
    "two reports in one": (f"{CHECK} --junit r --markdown ./r", 2, "it would replace a file"),
    "report to nowhere": (f"{CHECK} --markdown no/r.md", 2, "there is no such folder"),
    "report to a folder": (f"{CHECK} --html folder", 2, "is a directory"),
    "quiet and verbose": (f"{CHECK} -q -v", 2, "excludes --verbose"),
    "width without size": (f"{WIDEN} --width w1", 2, "'w1' is not NAME=SIZE"),
    "width without name": (f"{WIDEN} --width =7", 2, "'=7' is not NAME=SIZE"),
    "width that is no size": (f"{WIDEN} --width w1=big", 2, "'big' is not a size"),
    "width twice": (f"{WIDEN} --width w1=7 --width w1=8", 2, "'w1' comes twice"),
    "dim of zero": (f"{CHECK} --dim N=0", 2, "'N=0' is not NAME=SIZE"),
    "no recipe": ("expand t.onnx -o s.onnx", 2, "no recipe is named"),
    "recipe and plan": ("expand t.onnx r.toml --plan p -o s.onnx", 2, "excludes --recipe"),
    "recipe that is none": ("expand t.onnx text.txt -o s.onnx", 2, "it is not TOML"),
    "set without values": ("expand t.onnx r.toml --set seed", 2, "'seed' is not KEY=VALUE,VALUE"),
    "set twice": ("expand t.onnx r.toml --set seed=1 --set seed=2", 2, "'seed' comes twice"),
    "set of nothing": ("expand t.onnx r.toml --set steps.7.factor=1", 2, "it has no steps.7.factor"),
    "set and a student": (f"{EXPAND} --set seed=1", 2, "excludes --output"),
    "table of one": (f"{EXPAND} --table t.csv", 2, "--table: it is for several students"),
    "engine for one": (f"{EXPAND} --engine joblib", 2, "--engine: it is for several students"),
    "jobs of no engine": (f"expand t.onnx r.toml {FAMILY} --jobs 2", 2, "add --engine joblib"),
    "no such engine": (f"expand t.onnx r.toml {FAMILY} --engine x", 2, "there is no 'x'"),
    "two teachers to one student": ("expand t.onnx wide.onnx r.toml -o s.onnx", 2, "excludes --output"),
    "two teachers to nowhere": ("expand t.onnx wide.onnx r.toml", 2, "give --output-dir DIR"),
    "two teachers and a plan": ("expand t.onnx wide.onnx --plan p", 2, "excludes --recipe"),
    "a folder and a plan": ("expand t.onnx --plan wide.json --output-dir empty", 2, "excludes --output-dir"),
    "a folder and a student": (f"{EXPAND} --output-dir empty", 2, "excludes --output"),
    "a folder that is not there": ("expand t.onnx r.toml --output-dir no", 2, "there is no such folder"),
    "a folder of teachers": ("expand t.onnx r.toml --output-dir .", 2, "it would replace a teacher"),
    "a table over a student": (
        "expand t.onnx r.toml --output-dir empty --table empty/t.onnx",
        2,
        "it would replace a student",
    ),
    "table over the teacher": ("expand t.onnx r.toml --set seed=1 --table t.onnx", 2, "it would replace an input"),
    "verified and not": (f"{EACH['widen']} --verify sample --no-verify", 2, "it contradicts --no-verify"),
    "random units": (f"{EACH['widen']} --init random-pad", 2, "add --no-verify"),
    "target and factor": (f"{EACH['widen']} --target-params 2x", 2, "exclude each other"),
    "even kernel": (f"{DEEPEN} --every --kernel 2", 2, "no centre tap"),
    "no kernel": (f"{DEEPEN} --every --kernel 3x", 2, "'3x' is not a kernel"),
    "no folder": ("widen t.onnx -o no/s.onnx --factor 2", 2, "no such folder"),
    "a folder": ("widen t.onnx -o . --factor 2", 2, "is a directory"),
    "plan over plan": (f"{WIDEN} --plan ./s.onnx", 2, "it would replace the plan"),
    "plan and student": (f"{EACH['widen']} --plan-out ./s.onnx", 2, "it would replace the plan"),
    "no checkpoint": ("weights t.onnx --plan wide.json -o s.npz", 2, "Missing option '--checkpoint'"),
    "weights to nowhere": (GROW, 2, "give -o FILE"),
    "weights over weights": (f"{GROW} -o ./t.npz", 2, "it would replace a file that is read"),
    "optimizer to nowhere": (f"{GROWN} --optimizer a.pt", 2, "give both or neither"),
    "optimizer over weights": (f"{GROWN} --optimizer a.pt --optimizer-out ./s.npz", 2, "it would replace"),
    "strict about nothing": (f"{GROWN} --strict", 2, "excludes --strict"),
    "name without initializer": (f"{GROWN} --name w2", 2, "'w2' is not NAME=SIZE"),
    "no checkpoint there": (f"{GROWN} --checkpoint none.npz", 3, "checkpoint (none.npz): there is no such file"),
    "strange checkpoint": (f"{GROWN} --checkpoint text.txt", 3, ".txt is not a format"),
    "checkpoint of another": (f"{GROWN} --checkpoint more.npz", 3, "the model holds no aux.w [2, 6]"),
    "unknown initializer": (f"{GROWN} --name w2=w9", 3, "there is no constant w9"),
    "weights under a stray plan": (
        "weights pinned.onnx --plan wide.json --checkpoint t.npz -o s.npz",
        3,
        "another model",
    ),
    "weights under no plan": ("weights t.onnx --plan text.txt --checkpoint t.npz -o s.npz", 3, "it is not a plan"),
    "weights to a strange format": (f"{GROW} -o s.onnx", 3, ".onnx is not a format"),
    "no model": ("inspect none.onnx", 3, "no such file"),
    "not a model": ("inspect text.txt", 3, "file (text.txt)"),
    "rtol of no output": (f"{CHECK} --rtol none=1", 2, "rtol (none): there is no such output; there is scores"),
    "rtol that is none": (f"{CHECK} --rtol scores=x", 2, "--rtol: 'x' is not a number from 0 on"),
    "rtol twice": (f"{CHECK} --rtol 1 --rtol 2", 2, "--rtol: '*' comes twice"),
    "no student": ("check t.onnx none.onnx", 3, "no such file"),
    "unknown width": (f"{WIDEN} --width w9=7", 3, "(w9): no axis, tensor, initializer or node"),
    "pinned width": (f"{WIDEN} --width scores=9", 3, "it cannot grow, graph output 'scores'"),
    "glob without match": (f"{EACH['widen']} --only z", 3, "no axis grows as asked"),
    "nothing grows": ("widen pinned.onnx -o s.onnx --factor 2", 3, "pinned by graph output 'y': its shape must"),
    "no layer fits": ("deepen pinned.onnx -o s.onnx --every", 3, "it has no activation"),
    "not idempotent": (f"{DEEPEN} --after s --mode identity", 3, "Sigmoid (s): an identity layer after it"),
    "no such mode": (f"{DEEPEN} --every --mode x", 2, "--mode"),
    "no groups": (f"{DEEPEN} --every --group 0", 2, "'0' is no number of groups"),
    "groups that do not divide": (f"{DEEPEN} --after a1 --group 4", 3, "its 6 channels do not make 4 groups"),
    "calibrated without normalisation": (f"{EACH['deepen']} --calibrate x.npz", 2, "ask for both"),
    "calibrated on too little": (f"{EACH['deepen']} --batch-norm --calibrate y.npz", 2, "no value for ['image']"),
    "random and verified": (f"{EACH['deepen']} --init random", 2, "add --no-verify"),
    "block and kernel": (f"{DEEPEN} --block s --kernel 3", 2, "excludes --kernel"),
    "no block": (f"{DEEPEN} --block s", 3, "Sigmoid 's': it is not the sum"),
    "no plan": (f"{WIDEN} --plan none.json", 3, "file (none.json): No such file"),
    "wide plan": (f"{DEEPEN} --plan wide.json", 3, "give it to widen"),
    "deep plan": (f"{WIDEN} --plan deep.json", 3, "give it to deepen"),
    "stray plan": ("widen pinned.onnx -o s.onnx --plan wide.json", 3, "made for another model"),
    "not a plan": (f"{WIDEN} --plan text.txt", 3, "it is not a plan"),
    "no inputs": (f"{CHECK} --inputs none.npz", 3, "file (none.npz): No such file"),
    "no time": (f"{CHECK} --timeout 0", 2, "--timeout"),
    "no size": (f"{CHECK} --max-memory 2T", 2, "'2T' is not a size"),
    "too little memory": (f"{CHECK} --max-memory 1M", 3, "onnxruntime took more than 1 MiB of memory"),
    "check by a stray plan": (
        f"{CHECK.replace('t.onnx', 'pinned.onnx')} --plan wide.json",
        3,
        "made for another model",
    ),
    "check by no plan": (f"{CHECK} --plan text.txt", 3, "it is not a plan"),
    "check by a plan that is not there": (f"{CHECK} --plan none.json", 3, "file (none.json): No such file"),
    "not inputs": (f"{CHECK} --inputs text.txt", 3, "it holds no arrays"),
    "strictly the CPU": (f"{CHECK} --strict", 2, "all nodes run on the CPU anyway"),
    "strictly no provider": (f"{CHECK} --strict --provider cuda", 4, "onnx-net2net[gpu]"),
    "no provider": (f"{CHECK} --provider abacus", 4, "provider (abacus): it is not available"),
}

RAISED = {"interrupt": (KeyboardInterrupt, 130, ""), "memory": (MemoryError, 3, "error: there is not enough memory")}
