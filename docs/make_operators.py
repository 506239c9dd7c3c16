"""Writes docs/operators.md from the live registry.

Usage: python docs/make_operators.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnx

sys.path.insert(0, str(Path(__file__).parents[1]))

from onnx_net2net.rules import Rule, all_rules, find

TARGET = Path(__file__).with_name("operators.md")
HEAD = """# Operators

How axes run through each operator, generated from the rules by `python docs/make_operators.py`. The notation is
explained in `onnx_net2net/algebra/spec.py` and [algebra.md](algebra.md): the same letter is the same axis, `*` merges
axes, `+` concatenates, `...` stands for further dimensions, `!` pins, `contract K @ W` says which constant absorbs the
fractions, `uniform d` needs equally many copies of every unit, and `size` names a number that is rewritten. "Since" is
the first opset for which a rule holds. A dimension that a rule does not speak of is pinned, and so is all that an
operator without a rule touches; so is a node of a form that its rule declines (training mode, blocks of scales, sizes
that are computed in ways that cannot be followed), always with the reason.
"""


def escape(text: str) -> str:
    """Text that a Markdown table can hold."""
    return text.replace("|", "\\|")


def row(rule: Rule) -> str:
    """One line of the table."""
    marks = ["idempotent: a layer can follow"] if rule.idempotent.__name__ != "never" else []
    marks += ["its elements are followed in arithmetic on shapes"] if rule.follow or rule.unread else []
    marks += ["passes factors on to its input"] if rule.passes else []
    name = rule.op if not rule.domain else f"{rule.domain}.{rule.op}"
    return f"| {name} | {rule.since} | `{escape(rule.notation)}` | {'; '.join(marks)} |"


def pinning() -> list[str]:
    """Operators of the installed onnx that have no rule."""
    newest = onnx.defs.onnx_opset_version()
    names = {s.name for s in onnx.defs.get_all_schemas() if s.domain == "" and not s.deprecated}
    return sorted(name for name in names if find(name, "", newest) is None)


def document() -> str:
    """The whole page."""
    rules = sorted(all_rules(), key=lambda rule: (rule.domain, rule.op, rule.since))
    table = ["| operator | since | rule | further |", "|---|---:|---|---|", *map(row, rules)]
    without = "\n".join(f"- {name}" for name in pinning())
    return (
        f"{HEAD}\n## Operators with a rule\n\n" + "\n".join(table) + "\n\n## Operators without a rule\n\n"
        f"These pin what they touch (operators of onnx {onnx.__version__}):\n\n{without}\n"
    )


if __name__ == "__main__":
    TARGET.write_text(document(), encoding="utf-8")
