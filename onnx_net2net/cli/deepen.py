"""`onnx-net2net deepen`."""

from __future__ import annotations

from typing import Any

import click

from onnx_net2net.cli._options import COUNT, EXPANDING, FILE, WRITING, alone, arrays, job_of, kernels
from onnx_net2net.errors import UsageError

MODES = ("identity", "residual", "prelu", "linear")


@click.command()
@EXPANDING
@click.option("--after", multiple=True, metavar="NAME", help="Insert after this activation or tensor. Repeatable.")
@click.option("--every", is_flag=True, help="Insert after every activation.")
@click.option("--block", multiple=True, metavar="NAME", help="Copy this residual block, or every one. Repeatable.")
@click.option("--mode", type=click.Choice(MODES), help="What makes a layer exact (default identity, else residual).")
@click.option("--kernel", metavar="K", help="Kernel of convolutions (default 3); 1x7,7x1 inserts two layers.")
@click.option("--group", metavar="N", help="Groups of convolutions, or depthwise (default 1).")
@click.option("--count", type=COUNT, metavar="N", help="How many layers, or copies of a block (default 1).")
@click.option("--span", type=COUNT, metavar="N", help="Copy N blocks that follow each other together (default 1).")
@click.option("--batch-norm", is_flag=True, help="Put BatchNormalization into identity layers.")
@click.option("--calibrate", type=FILE, metavar="X.npz", help="Samples by input name, to measure its statistics on.")
@click.option("--init", type=click.Choice(["random"]), help="Random layers, as a baseline; needs --no-verify.")
@WRITING
def deepen(**given: Any) -> None:
    """Write a STUDENT with further layers that computes the same function as TEACHER (Net2DeeperNet)."""
    job = job_of(given)
    alone("--every", given["every"], {"after": given["after"]})
    alone("--block", given["block"], {name: value for name, value in given.items() if name not in ALSO})
    every, block, group = given.pop("every"), given.pop("block"), given.pop("group")
    asked = {name: value for name, value in given.items() if value not in (None, ())}
    asked["after"] = "every" if every else given["after"]
    asked["block"] = "every" if block == ("every",) else block
    if given["kernel"]:
        asked["kernel"] = kernels(given["kernel"])
    if given["calibrate"]:
        asked["calibrate"] = arrays(given["calibrate"])
    if group and group != "depthwise" and not (group.isascii() and group.isdigit() and int(group)):
        raise UsageError(f"{group!r} is no number of groups", "write a positive number, or depthwise", op="--group")
    job.run("deepen", **asked, **({"group": group if group == "depthwise" else int(group)} if group else {}))


ALSO = ("block", "count", "seed", "span")
"""Options that --block takes."""
