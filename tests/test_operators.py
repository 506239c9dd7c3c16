"""The table of operators in the docs is that of the live registry, and answers for every operator."""

from __future__ import annotations

import onnx
import pytest

import onnx_net2net
from docs import make_operators
from onnx_net2net.rules import all_rules, find

PAGE = make_operators.TARGET.read_text(encoding="utf-8")


def test_the_page_is_current() -> None:
    written, _, _ = PAGE.partition("## Operators without a rule")
    expected, _, _ = make_operators.document().partition("## Operators without a rule")
    assert written == expected, "run: python docs/make_operators.py"


@pytest.mark.parametrize("op", sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""}))
def test_every_operator_of_the_standard_is_answered(op: str) -> None:
    newest = onnx.defs.onnx_opset_version()
    ruled = find(op, "", newest) is not None
    old = {rule.op for rule in all_rules() if not rule.domain}
    assert ruled or op in old or f"\n- {op}\n" in PAGE or onnx.defs.get_schema(op).deprecated


def test_the_library_page_names_everything_public() -> None:
    page = make_operators.TARGET.with_name("api.md").read_text(encoding="utf-8")
    assert not [name for name in onnx_net2net.__all__ if name not in page and not name.startswith("__")]
