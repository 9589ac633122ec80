"""The report, read back: no browser is needed for what it says, where it loads from, and order."""

from __future__ import annotations

import json
import re
from base64 import b64decode
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from efficientad import report
from efficientad.cli import main
from efficientad.datasets import LabelledImage
from efficientad.evaluation import ScoredImage, evaluate
from efficientad.figures import title
from efficientad.histogram import score_histogram
from efficientad.report import charts, gallery, page
from PIL import Image

from efficientad_ext.detector import Detector


@pytest.fixture(scope="module")
def parsed(tiny_report: Path, page_parser: type[Any]) -> Any:
    return page_parser((tiny_report / "a/<b>/report.html").read_text(encoding="utf-8"))


def test_its_figures_are_those_of_the_json(tiny_report: Path, parsed: Any):
    summary = json.loads((tiny_report / "f.json").read_text())
    assert json.loads(parsed.json) == summary
    for name in ("image_auroc", "image_average_precision", "image_f1_max", "pixel_auroc", "au_pro"):
        assert f"{title(name)}{summary[name]:.4f}" in parsed.text
    assert f"anomalous images detected{summary['detected']:.1%}" in parsed.text


def test_it_is_one_file_that_loads_nothing(tiny_report: Path, parsed: Any):
    assert [path.name for path in (tiny_report / "a/<b>").iterdir()] == ["report.html"]
    for tag, attributes in parsed.elements:
        assert tag not in ("link", "iframe", "object", "embed", "a")
        assert not {"href", "srcset", "onload", "onerror"} & set(attributes)
        if "src" in attributes:
            assert (attributes["src"] or "").startswith("data:image/")
    [style] = re.findall(
        r"<style>(.*?)</style>", (tiny_report / "a/<b>/report.html").read_text(), re.S
    )
    assert "url(" not in style
    assert "@import" not in style
    policies = [one["content"] for one in parsed.attributes("meta") if "http-equiv" in one]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_every_picture_can_be_decoded(parsed: Any):
    images = parsed.attributes("img")
    captions = [image["alt"] for image in images]
    # Nine images, six of them with a mask.
    for caption, count in {
        "image": 9,
        "map": 9,
        "local map": 9,
        "global map": 9,
        "mask": 6,
    }.items():
        assert captions.count(caption) == count
    for image in images:
        with Image.open(
            BytesIO(b64decode((image["src"] or "").partition("base64,")[2]))
        ) as picture:
            picture.load()
            assert max(picture.size) <= 176
            if image["alt"] == "mask":
                assert 0 < np.asarray(picture).mean() < 0.5


def test_wrong_verdicts_come_first_and_each_part_is_sorted(
    tiny_report: Path, parsed: Any, tiny_data: Path
):
    records = {
        one["path"]: one for one in json.loads((tiny_report / "f.json").read_text())["images"]
    }
    kinds = [one["class"] for one in parsed.attributes("article")]
    assert kinds == sorted(kinds, key=["false-reject", "miss", "right"].index)
    shown = re.findall(
        r"(-?[\d.]+)verdict (\w+), is ([a-z]+?)picturable score (-?[\d.]+)"
        r"unpicturable \(PUAD\) ([\d.]+?\.\d{4})(\S+?\.png)",
        parsed.text,
    )
    paths = {path: str(tiny_data / "test" / path) for *_, path in shown}
    assert set(paths.values()) == set(records)
    scores: dict[str | None, list[float]] = {}
    for kind, (score, verdict, label, picturable, unpicturable, path) in zip(
        kinds, shown, strict=True
    ):
        path = paths[path]
        assert (verdict, label) == (records[path]["verdict"], records[path]["label"])
        assert score == f"{records[path]['score']:.4f}"
        assert picturable == f"{records[path]['picturable_score']:.4f}"
        assert unpicturable == f"{records[path]['unpicturable_score']:.4f}"
        wrong = (verdict == "anomalous") != (label != "good")
        expected = {"anomalous": "false-reject", "normal": "miss"}[verdict] if wrong else "right"
        assert kind == expected
        scores.setdefault(kind, []).append(records[path]["score"])
    assert all(values == sorted(values, reverse=True) for values in scores.values())


def scored(label: str, score: float, threshold: float = 0.5) -> ScoredImage:
    return ScoredImage(LabelledImage(Path(f"{score}.png"), label), score, score > threshold)


def test_of_too_many_images_the_telling_ones_are_kept():
    random = np.random.default_rng()
    images = [scored(random.choice(["good", "dent"]), score) for score in random.random(60)]
    sections = gallery.choose(images, 0.5, room=7)
    assert [section.kind for section in sections] == ["false-reject", "miss", "right"]
    assert sum(len(section.images) + section.left_out for section in sections) == 60
    kinds = [
        "right" if one.verdict == one.image.anomalous else "false-reject" if one.verdict else "miss"
        for one in images
    ]
    for section in sections:
        of_kind = [one for one, kind in zip(images, kinds, strict=True) if kind == section.kind]
        of_kind.sort(key=lambda one: abs(one.score - 0.5), reverse=section.kind != "right")
        assert {one.score for one in section.images} == {one.score for one in of_kind[:7]}
        scores = [one.score for one in section.images]
        assert scores == sorted(scores, reverse=True)


def numbers(svg: ElementTree.Element, path: str, name: str) -> np.ndarray:
    return np.array([float(element.attrib[name]) for element in svg.iterfind(path)])


def test_the_histogram_counts_every_image():
    random = np.random.default_rng()
    normal, anomalous = random.normal(size=70).tolist(), random.normal(2, 1, size=50).tolist()
    svg = ElementTree.fromstring(charts.histogram_chart(score_histogram(normal, anomalous, 1.0)))
    for name, values in (("normal", normal), ("anomalous", anomalous)):
        heights = numbers(svg, f"g[@class='{name}']/rect", "height")
        total = heights.sum() / len(values)  # the height of one image
        assert np.allclose(heights / total, (heights / total).round(), atol=0.05)
    labels = [element.text for element in svg.iterfind("text")]
    assert "image score" in labels


@pytest.mark.parametrize("scores", [([0.3], []), ([], [0.3]), ([0.3], [0.3])])
def test_a_histogram_of_one_score(scores):
    svg = ElementTree.fromstring(charts.histogram_chart(score_histogram(*scores, threshold=0.3)))
    assert len(list(svg.iterfind("g/rect"))) == len(scores[0]) + len(scores[1])


def test_a_curve_is_drawn_where_it_runs():
    x = np.sort(np.random.default_rng().random(5000)) * 0.3
    y = np.sort(np.random.default_rng().random(5000))
    svg = ElementTree.fromstring(charts.curve_chart((x, y), ("a <", "b"), 0.3, (0.15, 0.5)))
    [line] = svg.iterfind("polyline")
    points = np.array([point.split(",") for point in line.attrib["points"].split()], float)
    assert len(points) < 1000  # what cannot be seen is left out
    drawn_x = (points[:, 0] - 52) / (360 - 52 - 12) * 0.3
    drawn_y = 1 - (points[:, 1] - 12) / (280 - 12 - 44)
    assert np.abs(np.interp(drawn_x, x, y) - drawn_y).max() < 0.01
    assert (points[0] == [np.round(52 + x[0] / 0.3 * 296, 1), np.round(236 - y[0] * 224, 1)]).all()
    assert numbers(svg, "circle", "cx")[0] == pytest.approx(52 + 148, abs=0.1)


@pytest.mark.parametrize("span", [(0.0, 1.0), (0.0, 0.3), (-3.7, 12.9), (0.01, 0.0102), (0, 1234)])
def test_ticks_are_few_round_and_inside(span):
    ticks = charts._ticks(*span)
    assert 2 <= len(ticks) <= 7
    assert all(span[0] <= tick <= span[1] for tick in ticks)


def test_ticks_at_the_ends_and_at_zero():
    assert charts._ticks(0.0, 0.3) == [0.0, 0.1, 0.2, 0.3]
    assert [f"{tick:g}" for tick in charts._ticks(-1.0, 1.0)] == ["-1", "0", "1"]


def test_labels_from_the_disk_are_escaped(tmp_path: Path, tiny_model: Path, page_parser: type[Any]):
    root = tmp_path / "part"
    for kind in ("good", "<img src=x>"):
        (root / "test" / kind).mkdir(parents=True)
        pixels = np.random.default_rng().integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "test" / kind / "a&b.png")
    detector = Detector.load(tiny_model)
    file = report.write_report(tmp_path, detector, evaluate(detector, root), "</title><b>")
    parsed = page_parser(file.read_text(encoding="utf-8"))
    assert all((one["src"] or "").startswith("data:") for one in parsed.attributes("img"))
    assert "is <img src=x>" in parsed.text
    assert "<img src=x>/a&b.png" in parsed.text
    assert "</title><b>: evaluation" in parsed.text


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_computed(
    tmp_path: Path, tiny_model: Path, tiny_data: Path
):
    (tmp_path / "file").write_text("mine")
    arguments = ["evaluate", tiny_model, tiny_data, "--report", tmp_path / "file/report"]
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert "files cannot be written to the folder" in result.stderr
    assert (tmp_path / "file").read_text() == "mine"


def test_a_report_that_fails_leaves_the_previous_one(
    tmp_path: Path, tiny_model: Path, tiny_data: Path, monkeypatch: pytest.MonkeyPatch
):
    detector = Detector.load(tiny_model)
    evaluation = evaluate(detector, tiny_data)
    (tmp_path / "report.html").write_text("previous")
    monkeypatch.setattr(page, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.write_report(tmp_path, detector, evaluation, "x")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert (tmp_path / "report.html").read_text() == "previous"
