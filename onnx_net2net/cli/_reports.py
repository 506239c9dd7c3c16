"""Reports of a check as files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from onnx_net2net.cli._job import data_files, same_file
from onnx_net2net.cli._options import FILE, together
from onnx_net2net.errors import UsageError

REPORTS = together(
    click.option("--junit", type=FILE, metavar="FILE.xml", help="Write the result as JUnit XML."),
    click.option("--markdown", type=FILE, metavar="FILE.md", help="Write a summary as Markdown."),
    click.option("--html", type=FILE, metavar="FILE.html", help="Write a page with plots that needs no other file."),
)


def take(given: dict[str, Any]) -> dict[str, str]:
    """Takes the options about reports out of ``given``: path by option."""
    found = {f"--{name}": given.pop(name) for name in ("junit", "markdown", "html")}
    return {option: path for option, path in found.items() if path is not None}


def write(reports: Mapping[str, str], document: Mapping[str, Any]) -> None:
    """Writes every report that is wanted, each in one step."""
    from onnx_net2net.io import atomic
    from onnx_net2net.reporting import junit, markdown, page

    makers: Mapping[str, Callable[[Mapping[str, Any]], bytes]] = {
        "--junit": junit,
        "--markdown": lambda made: markdown(made).encode(),
        "--html": lambda made: page(made).encode(),
    }
    for option, path in reports.items():
        made = makers[option](document)
        with atomic(Path(path)) as stream:
            stream.write(made)


def check_targets(targets: Mapping[str, str | None], models: Iterable[str], inputs: str | None) -> None:
    """Refuses outputs that would replace an input or each other, or that have nowhere to go."""
    taken = [path for model in models for path in (model, *_data_files(model))]
    if inputs and Path(inputs).exists():
        taken += [inputs, *map(str, Path(inputs).rglob("*"))] if Path(inputs).is_dir() else [inputs]
    for option, target in targets.items():
        if target is None:
            continue
        if any(same_file(target, path) for path in taken):
            wrong = "it would replace a file that is read or written"
            raise UsageError(wrong, "choose another file", op=option, tensor=target)
        if not Path(target).parent.is_dir():
            raise UsageError("there is no such folder", "make it first", op=option, tensor=target)
        taken.append(target)


def _data_files(model: str) -> list[str]:
    """The files that hold a model's weights; none where there is no model, which `load` says better."""
    try:
        return data_files(model)
    except Exception:  # onnx raises anything at all
        return []
