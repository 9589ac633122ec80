"""The report in a real browser, without a network: what is rendered, and what is asked for.

Where the environment variable EFFICIENTAD_SCREENSHOTS names a folder, the screenshot is also put
there, for people to look at.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from base64 import b64decode
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from efficientad.figures import title
from PIL import Image
from scipy.signal import fftconvolve

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # What the browser itself wants to know from elsewhere, it cannot ask.
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--hide-scrollbars",
    "--dump-dom",
)
WIDTH, HEIGHT = 1280, 2600


@dataclass(frozen=True)
class Visit:
    """What a browser makes of a page.

    Attributes:
        dom: the document after loading, as HTML.
        screenshot: (H, W, 3) uint8.
        console: errors and warnings.
        requests: the addresses that the page asked a network for.
    """

    dom: str
    screenshot: np.ndarray
    console: list[str]
    requests: list[str]


def visit(page: Path, folder: Path) -> Visit:
    found = [path for path in map(shutil.which, BROWSERS) if path is not None]
    if not found:
        pytest.skip(f"there is no browser on PATH; looked for {', '.join(BROWSERS)}")
    screenshot, network = folder / "screenshot.png", folder / "network.json"
    profile = folder / "profile"
    profile.mkdir()
    completed = subprocess.run(
        [
            found[0],
            *OPTIONS,
            f"--user-data-dir={profile}",
            f"--window-size={WIDTH},{HEIGHT}",
            f"--screenshot={screenshot}",
            f"--log-net-log={network}",
            page.as_uri(),
        ],
        capture_output=True,
        encoding="utf-8",
        timeout=240,
        check=True,
    )
    with Image.open(screenshot) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    return Visit(
        completed.stdout,
        pixels,
        re.findall(r":CONSOLE[:(].*", completed.stderr),
        page_requests(json.loads(network.read_text(encoding="utf-8"))),
    )


def page_requests(log: dict[str, Any]) -> list[str]:
    """Of all requests, those that a page is the reason for, and not the browser itself."""
    start = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    parameters = [event.get("params", {}) for event in log["events"] if event["type"] == start]
    return [one["url"] for one in parameters if one.get("initiator") not in (None, "not an origin")]


@pytest.fixture(scope="module")
def visited(tiny_report: Path, tmp_path_factory: pytest.TempPathFactory) -> Visit:
    folder = tmp_path_factory.mktemp("browser")
    result = visit(tiny_report / "a/<b>/report.html", folder)
    if places := os.environ.get("EFFICIENTAD_SCREENSHOTS"):
        Path(places).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "screenshot.png", Path(places, "report.png"))
    return result


def test_its_figures_are_those_of_the_json(
    visited: Visit, tiny_report: Path, page_parser: type[Any]
):
    summary = json.loads((tiny_report / "f.json").read_text())
    page = page_parser(visited.dom)
    assert json.loads(page.json) == summary
    figures = {name: value for name, value in summary.items() if isinstance(value, float)}
    assert {"image_auroc", "au_pro", "detected", "false_alarms"} <= set(figures)
    for name, value in figures.items():
        if name not in ("detected", "false_alarms"):
            assert f"{title(name)}{value:.4f}" in page.text
    assert f"anomalous images detected{summary['detected']:.1%}" in page.text
    assert f"good images reported{summary['false_alarms']:.1%}" in page.text
    for image in summary["images"]:
        assert f"{image['score']:.4f}verdict {image['verdict']}, is {image['label']}" in page.text


def test_it_asks_for_nothing_and_complains_about_nothing(visited: Visit):
    assert visited.requests == []
    assert visited.console == []


def place_of(picture: np.ndarray, screenshot: np.ndarray) -> tuple[int, int, float]:
    """Where a picture is in the screenshot: row, column, and the mean squared difference there."""
    needle, hay = picture.mean(axis=-1), screenshot.mean(axis=-1)
    squares = fftconvolve(hay**2, np.ones_like(needle), mode="valid")
    products = fftconvolve(hay, needle[::-1, ::-1], mode="valid")
    difference = (squares - 2 * products + (needle**2).sum()) / needle.size
    row, column = np.unravel_index(difference.argmin(), difference.shape)
    return int(row), int(column), float(difference.min())


def test_the_screenshot_shows_the_first_images_pictures(visited: Visit, page_parser: type[Any]):
    assert visited.screenshot.shape == (HEIGHT, WIDTH, 3)
    images = page_parser(visited.dom).attributes("img")
    places = []
    for caption in ("image", "map"):
        url = next(image["src"] for image in images if image["alt"] == caption)
        with Image.open(BytesIO(b64decode(url.partition("base64,")[2]))) as picture:
            places.append(place_of(np.asarray(picture.convert("RGB")), visited.screenshot))
    assert all(difference < 4 for _, _, difference in places)  # decoders round differently
    (row, column, _), (map_row, map_column, _) = places
    assert map_row == row
    assert map_column > column + 100


def test_the_screenshot_shows_the_charts(visited: Visit):
    """Blue of the curves, and the red dot of the threshold."""
    charts = visited.screenshot[:700].astype(int)
    for colour in ((0, 90, 181), (220, 50, 32)):
        assert (np.abs(charts - colour).max(axis=-1) <= 2).sum() > 20


def test_what_a_page_should_not_do_is_seen(tmp_path: Path):
    """The checks above find what they are for."""
    page = tmp_path / "page.html"
    page.write_text(
        '<!DOCTYPE html><img src="http://elsewhere.example/x.png">'
        "<script>console.error('planted')</script>"
    )
    result = visit(page, tmp_path)
    assert result.requests == ["http://elsewhere.example/x.png"]
    assert any("planted" in line for line in result.console)
    assert (result.screenshot == 255).mean() > 0.99
