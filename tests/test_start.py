"""What starts quickly stays so: help and wrong usage import none of the large packages."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

import onnx_net2net
from onnx_net2net import cli as package
from onnx_net2net.cli import cli

ROOT = Path(__file__).parents[1]
HEAVY = ("google.protobuf", "numpy", "onnx", "onnx_graphsurgeon", "onnxruntime", "rich", "torch")
CALLS = """
import json, sys
import onnx_net2net
from onnx_net2net.cli import main
done = []
for call in json.loads(sys.argv[1]):
    sys.argv[1:] = call
    try:
        main()
    except SystemExit as end:
        done.append([call, end.code, [name for name in json.loads(sys.stdin.readline()) if name in sys.modules]])
print(json.dumps(done), file=sys.stderr)
"""


def child(code: str, *args: str, stdin: str = "") -> str:
    """What a fresh interpreter prints last on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", code, *args], input=stdin, text=True, capture_output=True, check=True, cwd=ROOT
    )
    return done.stderr.strip().splitlines()[-1]


def imported(calls: list[list[str]]) -> list[list[Any]]:
    """Each call with its exit code and the large packages that were imported by then."""
    results: list[list[Any]] = json.loads(
        child(CALLS, json.dumps(calls), stdin=(json.dumps(HEAVY) + "\n") * len(calls))
    )
    return results


def mistakes(command: click.Command) -> list[list[str]]:
    """Ways to get a command wrong that click finds out: options, arguments and values."""
    found = [["--nope"], ["x"] * 9]
    if any(param.required for param in command.params):
        found.append([])
    for param in command.params:
        if isinstance(param.type, (click.Choice, click.types._NumberRangeBase)):
            found.append(["x", "y", param.opts[-1], "?"])
    return found


def test_help_of_the_group_and_its_mistakes_import_nothing_large() -> None:
    done = imported([["--version"], ["-h"], ["--help"], [], ["--nope"], ["wide"], ["nothing", "x"]])
    assert [(code, heavy) for _, code, heavy in done] == [(0, [])] * 3 + [(2, [])] * 4


@pytest.mark.parametrize("name", cli.commands)
def test_help_and_mistakes_of_a_command_import_nothing_large(name: str) -> None:
    wrong = mistakes(cli.commands[name])
    done = imported([[name, *call] for call in [["--help"], *wrong]])
    assert [result for result in done if result[1:] != [2, []]] == [[[name, "--help"], 0, []]]


def test_a_command_that_works_imports_what_it_needs() -> None:
    (_, code, heavy), *_ = imported([["inspect", "no/such/file.onnx"]])
    assert code == 3
    assert set(heavy) >= {"numpy", "onnx"}


def test_the_group_knows_every_command() -> None:
    modules = {path.stem for path in Path(package.__file__).parent.glob("[!_]*.py")}
    assert set(cli.commands) == modules
    assert all(command.name == name for name, command in cli.commands.items())


def test_names_of_the_package_are_found_when_they_are_asked_for() -> None:
    code = "import sys, onnx_net2net as n; print(dir(n), 'numpy' in sys.modules, n.widen.__module__, file=sys.stderr)"
    listed, _, rest = child(code).rpartition("] ")
    assert rest == "False onnx_net2net.growing"
    assert all(repr(name) in listed for name in onnx_net2net.__all__)
    star = "from onnx_net2net import *; import sys; print(*sorted(dir()), file=sys.stderr)"
    assert set(child(star).split()) >= set(onnx_net2net.__all__)
    with pytest.raises(AttributeError, match="no attribute 'widden'"):
        _ = onnx_net2net.widden
