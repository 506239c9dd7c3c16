"""Reports of a check: JUnit XML, Markdown and HTML say what the verdict says, and open where they should."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from onnx import ModelProto, helper

from onnx_net2net import ModelError, verify, widen
from onnx_net2net.checking.histogram import EDGES, histogram
from onnx_net2net.reporting import check_document, failed_document, junit, markdown, page
from onnx_net2net.reporting.markdown import plain
from tests.law import fill, parse

NASTY = 'a<b>&"|`*_[x](y)\x00\x1b\ufffe$' + "n" * 60
SVG = "{http://www.w3.org/2000/svg}"
TWO = """(float[2,6] x) => (float[2,8] y, float[2,6] z) <float[6,5] w1, float[5,8] w2> {
    h = MatMul(x, w1)  r = Relu(h)  y = MatMul(r, w2)  z = Exp(x)
}"""


def teacher() -> ModelProto:
    return fill(parse(TWO))


def wrong() -> ModelProto:
    """One output is off."""
    return fill(parse(TWO.replace("Relu", "Abs")))


def nasty() -> ModelProto:
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], [NASTY])],
        "g",
        [helper.make_tensor_value_info("x", 1, [2, 3])],
        [helper.make_tensor_value_info(NASTY, 1, [2, 3])],
    )
    return helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])


def checked(first: ModelProto, second: ModelProto, name: str = "s.onnx") -> dict[str, Any]:
    return check_document("t.onnx", name, verify(first, second), (first, second))


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    layers = [{"name": f"t{k}", "op": "Conv", "max_rel": 10.0 ** (k - 9), "tolerance": 1e-5} for k in range(8)]
    layers += [{"name": NASTY, "op": "Relu", "max_rel": float("nan"), "tolerance": 1e-5, "failure": "it is NaN"}]
    return {
        "equal": checked(teacher(), widen(teacher(), factor=2).model),
        "different": checked(teacher(), wrong()),
        "nasty": checked(nasty(), nasty(), f"{NASTY}.onnx"),
        "unlike": checked(teacher(), nasty()),
        "by layer": {**checked(teacher(), wrong()), "layers": {"by": "name", "tensors": layers}},
        "impossible": failed_document(
            "t.onnx", "s.onnx", ModelError("onnxruntime cannot run it", "check it", op="teacher")
        ),
    }


def rows(names: str, table: Mapping[str, Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(names, list(table.values()), ids=list(table))


NAMES = ("equal", "different", "nasty", "unlike", "by layer", "impossible")


# JUnit

CASES = {
    "equal": ("equal", {"y": "", "z": ""}, (2, 0, 0)),
    "different": ("different", {"y": "failure", "z": ""}, (2, 1, 0)),
    "unlike": ("unlike", {"check": "failure"}, (1, 1, 0)),
    "impossible": ("impossible", {"check": "error"}, (1, 0, 1)),
}


@rows("name, cases, counts", CASES)
def test_junit(name: str, cases: dict[str, str], counts: tuple[int, ...], documents: dict[str, Any]) -> None:
    suite = ElementTree.fromstring(junit(documents[name])).find("testsuite")
    assert suite is not None
    found = {
        case.get("name"): [child.tag for child in case if child.tag != "system-out"] for case in suite.iter("testcase")
    }
    assert found == {case: [kind] * bool(kind) for case, kind in cases.items()}
    assert tuple(int(suite.get(key, "")) for key in ("tests", "failures", "errors")) == counts
    for wrong_ in (*suite.iter("failure"), *suite.iter("error")):
        assert wrong_.get("message", "") in documents[name]["reason"]


@pytest.mark.parametrize("name", NAMES)
def test_every_report_is_well_formed(name: str, documents: dict[str, Any]) -> None:
    ElementTree.fromstring(junit(documents[name]))
    ElementTree.fromstring(page(documents[name]))
    assert markdown(documents[name]).endswith("\n")


# Markdown


def test_markdown(documents: dict[str, Any]) -> None:
    text = markdown(documents["different"])
    assert text.startswith("### s.onnx: not equivalent\n")
    assert re.search(r"\n\*\*output 'y': it differs by .*\*\*\n", text)
    assert re.search(r"\| y \| [\d.e+-]+ \| [\d.e+-]+ \| [\d.e+-]+ \| it differs by", text)
    assert re.search(r"\| z \| 0 \| 0 \| [\d.e+-]+ \| equal \|", text)
    assert "- large: left out for output 'z', the teacher gives NaN or Inf" in text
    assert re.search(r"\| parameters \| 70 \| 140 \| x2.00 \|", markdown(documents["equal"]))


def test_markdown_tables_keep_their_columns_whatever_names_say(documents: dict[str, Any]) -> None:
    table = [line for line in markdown(documents["nasty"]).splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table[:3]}) == 1
    assert plain("a|b\n<c>") == r"a\|b \<c\>"


def test_the_first_tensor_that_differs_is_named(documents: dict[str, Any]) -> None:
    assert f"First tensor that differs: {plain(NASTY)} (Relu)." in markdown(documents["by layer"])


# HTML


def text_of(made: str) -> str:
    return " ".join("".join(ElementTree.fromstring(made).itertext()).split())


def test_html(documents: dict[str, Any]) -> None:
    made = page(documents["different"])
    assert "not equivalent: compared with t.onnx, 24 samples and 2 probes (zeros, one-hot) on CPU" in text_of(made)
    assert f"{documents['different']['outputs'][0]['max_rel']:.3g}" in text_of(made)
    plots = list(ElementTree.fromstring(made).iter(f"{SVG}svg"))
    assert [plot.get("aria-label", "").partition(" ")[0] for plot in plots] == [
        "error",
        "elements",
        "elements",
        "sizes",
    ]
    bars = [(bar.get("class"), float(bar.get("width", "").rstrip("%"))) for bar in plots[0].iter(f"{SVG}rect")]
    assert [kind for kind, _ in bars] == ["fail", "pass"]
    assert bars[0][1] > bars[1][1]


def test_html_shows_every_layer_if_they_were_compared(documents: dict[str, Any]) -> None:
    tree = ElementTree.fromstring(page(documents["by layer"]))
    circles = [
        (circle.get("class"), circle.get("cx"), float(circle.get("cy", ""))) for circle in tree.iter(f"{SVG}circle")
    ]
    points = [circle for circle in circles if circle[0] != "ring"]
    assert [kind for kind, _, _ in points] == ["pass"] * 8 + ["fail"]
    assert [at for kind, *at in circles if kind == "ring"] == [list(points[8][1:])]
    heights = [height for _, _, height in points]
    assert heights[:8] == sorted(heights[:8], reverse=True)
    assert heights[8] == min(heights)
    table = list(tree.iter("tbody"))[-1]
    assert [row[2].text for row in table] == ["equal"] * 8 + ["it is NaN"]


@pytest.mark.parametrize("name", NAMES)
def test_html_needs_nothing_from_elsewhere_and_runs_nothing(name: str, documents: dict[str, Any]) -> None:
    made = page(documents[name])
    tree = ElementTree.fromstring(made)
    assert not {element.tag.rpartition("}")[2] for element in tree.iter()} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
    }
    assert not [
        key for element in tree.iter() for key in element.attrib if key in ("src", "href") or key.startswith("on")
    ]
    assert "url(" not in made
    assert "@import" not in made
    assert "default-src 'none'" in made


# Differences

A = np.array([0.0, 0.5, -1.0, 2.0], np.float32)
COUNTS = {
    "equal": ([A], [A], {0.0: 4}),
    "one of four": ([A], [A + np.float32([0, 0, 0, 1.8e-3])], {0.0: 3, 1e-3: 1}),
    "two samples": ([A, A], [A, -A], {0.0: 5, 1.0: 2, float("inf"): 1}),
    "tiny": ([A.astype(float)], [A.astype(float) + 1e-13], {EDGES[0]: 4}),
    "other shapes": ([A], [A[:2]], {}),
    "NaN": ([A], [A * np.nan], {}),
    "text": ([np.array(["a"])], [np.array(["a"])], {}),
}


@rows("mine, theirs, counts", COUNTS)
def test_histogram(mine: Any, theirs: Any, counts: dict[float, int]) -> None:
    assert dict(histogram(mine, theirs)) == counts
