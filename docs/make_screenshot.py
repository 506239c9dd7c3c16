"""Writes docs/images/report.png: the HTML report of a check, as Chromium shows it.

Usage: python docs/make_screenshot.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.browser import NAMES, Browser, browser_here

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "docs" / "images" / "report.png"
WIDTH = 900
COMMANDS = (
    "widen digits_cnn.onnx -o wider.onnx --factor 1.5 --plan-out plan.json",
    "check digits_cnn.onnx wider.onnx --plan plan.json --per-layer --html report.html",
)


def picture(browser: str, folder: Path) -> bytes:
    """The report of a digits network and its wider student, all of it."""
    (folder / "digits_cnn.onnx").write_bytes((ROOT / "models" / "digits_cnn.onnx").read_bytes())
    for command in COMMANDS:
        line = [sys.executable, "-m", "onnx_net2net", *command.split(), "--quiet"]
        subprocess.run(line, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
    opened = Browser(browser, folder / "profile")
    try:
        opened.open(folder / "report.html", WIDTH, 100)
        opened.open(folder / "report.html", WIDTH, opened.ask("document.documentElement.scrollHeight"))
        return opened.screenshot()
    finally:
        opened.close()


if __name__ == "__main__":
    found = browser_here()
    if found is None:
        sys.exit(f"there is none of {', '.join(NAMES)} here")
    with TemporaryDirectory(ignore_cleanup_errors=True) as made:
        TARGET.write_bytes(picture(found, Path(made)))
