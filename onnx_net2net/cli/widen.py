"""`onnx-net2net widen`."""

from __future__ import annotations

from typing import Any

import click

from onnx_net2net.cli._options import (
    ALLOW,
    AMOUNT,
    COUNT,
    EXPANDING,
    WRITING,
    OptionalValue,
    alone,
    io_change,
    job_of,
    pairs,
)

SPLITS = ("even", "uneven", "scatter", "first")
TYINGS = ("clone", "keep")


@click.command(cls=OptionalValue)
@EXPANDING
@click.option("--factor", type=float, metavar="F", help="Widen every channel axis that can grow by this factor.")
@click.option("--width", multiple=True, metavar="NAME=SIZE", help="Size of an axis: 512, x1.5 or +64. Repeatable.")
@click.option("--only", multiple=True, metavar="GLOB", help="What --factor takes. Repeatable.")
@click.option("--skip", multiple=True, metavar="GLOB", help="What --factor leaves out. Repeatable.")
@click.option("--split", type=click.Choice(SPLITS), help="How copies share outgoing weights (default uneven).")
@click.option("--noise", type=AMOUNT, metavar="SIGMA", help="Noise on copies, relative to the weights; not exact.")
@click.option("--round-to", type=COUNT, metavar="N", help="Round sizes from factors up to a multiple of this.")
@click.option("--target-params", metavar="P", help="Find the factor for so many parameters: 2x, 30M or a number.")
@click.option("--target-macs", metavar="M", help="The same for multiply-accumulates of one run.")
@click.option("--allow-nodes", is_flag=True, help="Insert nodes where only they let a stream under norms grow.")
@click.option("--tied", type=click.Choice(TYINGS), help="What becomes of tied weights: two tensors, or one (clone).")
@click.option("--init", type=click.Choice(["random-pad"]), help="Random new units, as a baseline; needs --no-verify.")
@ALLOW
@WRITING
def widen(**given: Any) -> None:
    """Write a STUDENT with wider layers that computes the same function as TEACHER (Net2WiderNet)."""
    job = job_of(given)
    if given["factor"] is None:
        alone("--width without --factor", given["width"], {name: given[name] for name in ("only", "skip")})
    if not given["allow_nodes"]:
        del given["allow_nodes"]
    widths = pairs(given.pop("width"), "--width", "[^=]+")
    given["allow_io_change"] = io_change(given["allow_io_change"])
    job.run("widen", widths=widths, **{name: value for name, value in given.items() if value is not None})
