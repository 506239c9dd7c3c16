"""The HTML report of a check as a browser shows it: what is drawn, how large it is, and that nothing is fetched."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
import pytest
from click.testing import CliRunner
from onnx import ModelProto

from onnx_net2net.cli import cli
from tests.browser import NAMES, Browser, browser_here, pixels
from tests.law import fill, parse

pytestmark = pytest.mark.xdist_group("browser")

LONG = 'a <b>&"name"' + "/of_a_layer" * 8
NET = """(float[2,6] x) => (float[2,8] y, float[2,6] z) <float[6,5] w1, float[5,8] w2> {
    h = MatMul(x, w1)  r = Relu(h)  y = MatMul(r, w2)  z = Tanh(x)
}"""
CHECKS = {
    "passing": ("wide.onnx --plan plan.json --per-layer", 0, "equivalent"),
    "failing": ("other.onnx --per-layer", 1, "not equivalent"),
    "unreadable": ("none.onnx", 3, "the check could not be made"),
}
SHOWN = [name for name in CHECKS if name != "unreadable"]
GREEN, RED, WHITE, BLACK = (47, 125, 79), (179, 53, 43), (255, 255, 255), (21, 24, 28)
COMPLAINTS = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
TABLES = """[...document.querySelectorAll("table")].map(
    table => [...table.rows].map(row => [...row.cells].map(cell => cell.textContent)))"""
BOXES = """[...document.querySelectorAll("svg")].map(svg => [svg, ...svg.querySelectorAll("rect, circle, line, text")].map(
    shape => { const b = shape.getBoundingClientRect();
               return {tag: shape.tagName, kind: shape.getAttribute("class"), text: shape.lastChild?.textContent ?? "",
                       left: b.left, right: b.right, top: b.top, bottom: b.bottom}; }))"""
Reports = Mapping[str, tuple[Path, Any]]


def net(body: str = NET) -> ModelProto:
    """The network, one output under a long and odd name."""
    model = fill(parse(body))
    model.graph.node[-1].output[0] = model.graph.output[1].name = LONG
    return model


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Reports:
    """Report and JSON document of each check."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("reports")
        patch.chdir(folder)
        onnx.save(net(), "t.onnx")
        onnx.save(net(NET.replace("Relu", "Abs")), "other.onnx")
        Path("none.onnx").write_text("no model")
        made = CliRunner().invoke(cli, "widen t.onnx -o wide.onnx --factor 2 --plan-out plan.json".split())
        assert made.exit_code == 0, made.output
        found = {}
        for name, (args, code, _) in CHECKS.items():
            done = CliRunner().invoke(cli, ["check", "t.onnx", *args.split(), "--html", f"{name}.html", "--json"])
            assert done.exit_code == code, done.output
            found[name] = folder / f"{name}.html", json.loads(done.stdout) if done.stdout else None
        return found


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    path = browser_here()
    if path is None:
        pytest.skip(f"there is none of {', '.join(NAMES)} here")
    opened = Browser(path, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def seen(browser: Browser, *methods: str) -> list[Any]:
    return [event["params"] for event in browser.events if event["method"] in methods]


@pytest.mark.parametrize("name", CHECKS)
def test_the_page_asks_for_nothing_and_has_no_errors(name: str, browser: Browser, reports: Reports) -> None:
    browser.open(reports[name][0])
    assert browser.ask("document.querySelector('.verdict strong').innerText") == CHECKS[name][2]
    assert browser.ask("getComputedStyle(document.querySelector('.verdict')).borderLeftStyle") == "solid"
    asked = [request["request"]["url"] for request in seen(browser, "Network.requestWillBeSent")]
    assert asked == [reports[name][0].resolve().as_uri()]
    assert not seen(browser, *COMPLAINTS)


def test_its_own_policy_keeps_out_what_is_put_into_it(browser: Browser, reports: Reports, tmp_path: Path) -> None:
    foreign = "<script>document.title = 'it ran'</script><img src='http://localhost:9/x.png'/></body>"
    path = tmp_path / "report.html"
    path.write_text(reports["passing"][0].read_text("utf-8").replace("</body>", foreign), "utf-8")
    browser.open(path)
    assert browser.ask("document.title") == "wide.onnx: equivalent"
    told = [str(entry["entry"]["text"]) for entry in seen(browser, "Log.entryAdded")]
    assert ["Content Security Policy" in text for text in told] == [True, True]


@pytest.mark.parametrize("name", SHOWN)
def test_tables_say_what_json_says(name: str, browser: Browser, reports: Reports) -> None:
    path, document = reports[name]
    browser.open(path)
    (titles, *rows), (others, *more), *_, (_, *tensors) = browser.ask(TABLES)
    assert len(rows) == len(document["outputs"]) == 2
    for row, output in zip(rows, document["outputs"], strict=True):
        cells = {title: cell for title, cell in zip(titles, row, strict=True) if cell}
        assert cells.pop("output") == output["name"]
        assert cells.pop("result") == output.get("failure", "equal")
        probes = {f"{probe} probe": error for probe, error in output["probes"].items()}
        numbers = {key: output[key] for key in ("max_abs", "max_rel", "tolerance")} | probes
        assert cells == {key: f"{value:.3g}" for key, value in numbers.items()}
    for row, output in zip(more, document["outputs"], strict=True):
        cells = dict(zip(others, row, strict=True))
        assert cells["output"] == output["name"]
        assert (cells["ulps"], cells["noise"]) == (f"{output['ulps']:,}", f"{output['noise']:.3g}")
    wanted = [[t["name"], t["failure"] or "equal", f"{t['max_rel']:.3g}"] for t in document["layers"]["tensors"]]
    assert [[row[0], row[2], row[3]] for row in tensors] == wanted
    assert browser.ask("document.querySelector('details').open") == (name == "failing")


@pytest.mark.parametrize("width", [1000, 400])
@pytest.mark.parametrize("name", SHOWN)
def test_plots_are_drawn_to_scale(name: str, width: int, browser: Browser, reports: Reports) -> None:
    path, document = reports[name]
    browser.open(path, width)
    errors, histogram, _, sizes, profile = plots = browser.ask(BOXES)
    for svg, *shapes in plots:
        assert svg["right"] - svg["left"] > 0.75 * width
        for shape in shapes:
            assert 0 <= shape["left"] <= shape["right"] <= width, shape
            assert svg["top"] - 10 <= shape["top"] <= shape["bottom"] <= svg["bottom"] + 10, shape
    bars = [wide(shape) / wide(errors[0]) for shape in errors if shape["tag"] == "rect"]
    assert bars == pytest.approx([scaled(output["max_rel"]) for output in document["outputs"]], abs=0.01)
    marks = [(shape["left"] - errors[0]["left"]) / wide(errors[0]) for shape in errors if shape["kind"] == "limit"]
    assert marks == pytest.approx([scaled(output["tolerance"]) for output in document["outputs"]], abs=0.01)
    columns = [shape for shape in histogram if shape["kind"] == "count"]
    heights = [shape["bottom"] - shape["top"] for shape in columns if shape["bottom"] > shape["top"]]
    counts = [bin_["elements"] for bin_ in document["outputs"][0]["histogram"]]
    assert [height / sum(heights) for height in heights] == pytest.approx([n / sum(counts) for n in counts], abs=0.02)
    edge = next((shape["left"] + shape["right"]) / 2 for shape in histogram if shape["text"] == "1e-6")
    assert edge == pytest.approx(next(c["right"] for c in columns if "up to 1e-06:" in c["text"]), abs=2)
    pairs = [wide(shape) for shape in sizes if shape["tag"] == "rect"]
    grown = [document[what]["after"] / document[what]["before"] for what in ("parameters", "bytes")]
    assert [pairs[1] / pairs[0], pairs[3] / pairs[2]] == pytest.approx(grown, rel=0.02)
    points = [shape["bottom"] for shape in profile if shape["tag"] == "circle" and shape["kind"] != "ring"]
    highest = max(document["layers"]["tensors"], key=lambda tensor: tensor["max_rel"])
    assert len(points) == len(document["layers"]["tensors"])
    assert points.index(min(points)) == document["layers"]["tensors"].index(highest)


def wide(shape: Mapping[str, Any]) -> float:
    return float(shape["right"] - shape["left"])


def scaled(error: float) -> float:
    """Where an error stands on the scale from 1e-10 to 10."""
    return max((math.log10(error) + 10) / 11, 0.003) if error else 0.003


@pytest.mark.parametrize("name", CHECKS)
def test_a_narrow_window_scrolls_no_way_but_down(name: str, browser: Browser, reports: Reports) -> None:
    browser.open(reports[name][0], 400)
    assert browser.ask("document.documentElement.scrollWidth") == 400


@pytest.mark.parametrize(("name", "colour", "other"), [("passing", GREEN, RED), ("failing", RED, None)])
def test_a_screenshot_is_not_blank(
    name: str, colour: tuple[int, ...], other: tuple[int, ...] | None, browser: Browser, reports: Reports
) -> None:
    browser.open(reports[name][0], 600, 400)
    width, height, counts = pixels(browser.screenshot())
    assert (width, height) == (600, 400)
    assert len(counts) > 50
    assert counts[WHITE] > width * height / 2
    assert counts[colour] > 500
    assert other not in counts


def test_dark_on_the_screen_and_light_on_paper(browser: Browser, reports: Reports) -> None:
    backgrounds = []
    for media in ("screen", "print"):
        browser.open(reports["failing"][0], 400, 200, scheme="dark", media=media)
        width, height, counts = pixels(browser.screenshot())
        backgrounds += [colour for colour, n in counts.items() if n > width * height / 2]
    assert backgrounds == [BLACK, WHITE]
    assert browser.pdf().startswith(b"%PDF")
