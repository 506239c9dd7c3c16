"""`onnx-net2net deepen`."""

from __future__ import annotations

from typing import Any

import click

from onnx_net2net.cli._options import EXPANDING, WRITING, alone, job_of, kernels


@click.command()
@EXPANDING
@click.option("--after", multiple=True, metavar="NAME", help="Insert after this activation or tensor. Repeatable.")
@click.option("--every", is_flag=True, help="Insert after every activation where it is exact.")
@click.option("--kernel", metavar="K", help="Kernel of convolutions (default 3); 1x7,7x1 inserts two layers.")
@WRITING
def deepen(**given: Any) -> None:
    """Write a STUDENT with identity layers that computes the same function as TEACHER (Net2DeeperNet)."""
    job = job_of(given)
    alone("--every", given["every"], {"after": given["after"]})
    after = "every" if given["every"] else given["after"]
    job.run("deepen", after=after, kernel=kernels(given["kernel"]), seed=given["seed"] or 0)
