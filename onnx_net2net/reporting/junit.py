"""JUnit XML: a test case for each output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree

from onnx_net2net.reporting.text import headline, measures, runs

FOREIGN = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold, not even escaped."""


def junit(document: Mapping[str, Any]) -> bytes:
    """A check as JUnit XML, which most services for continuous integration read."""
    cases = [(output["name"], output.get("failure", ""), _numbers(output)) for output in document["outputs"]]
    if not any(failure for _, failure, _ in cases) and not document["equivalent"]:
        cases.append(("check", document["reason"], ""))
    kind = "error" if document.get("error") else "failure"
    failed = sum(bool(failure) for _, failure, _ in cases)
    counts = {"tests": len(cases), "failures": failed, "errors": 0, "skipped": 0}
    if kind == "error":
        counts |= {"failures": 0, "errors": failed}
    suites = ElementTree.Element("testsuites")
    named = {"name": _text(f"onnx-net2net check {document['teacher']} {document['student']}")}
    suite = ElementTree.SubElement(suites, "testsuite", named | {key: str(n) for key, n in counts.items()})
    for name, failure, numbers in cases:
        of = {"classname": _text(document["student"]), "name": _text(name)}
        case = ElementTree.SubElement(suite, "testcase", of)
        if failure:
            wrong = ElementTree.SubElement(case, kind, {"message": _text(failure), "type": headline(document)})
            wrong.text = _text(numbers)
        elif numbers:
            ElementTree.SubElement(case, "system-out").text = _text(numbers)
    notices = "\n".join(filter(None, [runs(document), *document["notices"]]))
    if notices:
        ElementTree.SubElement(suite, "system-out").text = _text(notices)
    ElementTree.indent(suites)
    written: bytes = ElementTree.tostring(suites, "utf-8", xml_declaration=True)
    return written + b"\n"


def _numbers(output: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in measures(output).items())


def _text(text: str) -> str:
    return FOREIGN.sub("\ufffd", text)
