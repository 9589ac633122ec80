from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from efficientad.cli import main
from efficientad.demo import run_demo
from efficientad.randomness import Purpose, generator
from efficientad.textures import DEFECTS, SIDE, cloth, make_dataset
from PIL import Image


def test_the_data_set_is_the_same_every_time(tmp_path: Path):
    for name in ("first", "second"):
        make_dataset(tmp_path / name, 2, 1, 1, 1, seed=9)
    files = sorted(
        path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*.png")
    )
    assert len(files) == 2 + 1 + 1 + 2 * len(DEFECTS)
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes()
    assert len({(tmp_path / "first" / file).read_bytes() for file in files}) == len(files)


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_changes_its_mask_and_nothing_else(defect):
    random = generator(0, Purpose.TEXTURES, 0)
    flawless = cloth(random)
    defective, mask = DEFECTS[defect](flawless, random)
    changed = (defective != flawless).any(-1)
    assert np.array_equal(changed, mask)
    assert 20 < mask.sum() < SIDE * SIDE / 20
    assert defective.min() >= 0
    assert defective.max() <= 1


def test_the_demo_finds_its_defects_and_leaves_a_picture(tmp_path: Path):
    """A run of a few steps: the defects are clear enough to be told from the flawless cloth."""
    result = run_demo(tmp_path, steps=20)
    assert result.figures.values["image_auroc"] > 0.9
    summary = json.loads((tmp_path / "results.json").read_text())
    assert summary["image_auroc"] == result.figures.values["image_auroc"]
    with Image.open(tmp_path / "demo.png") as picture:
        assert picture.format == "PNG"
        assert len(picture.getcolors(1 << 24) or []) > 1000
    assert (tmp_path / "model.safetensors").exists()
    assert not (tmp_path / "model.safetensors.checkpoint").exists()


def test_the_command_says_where_the_picture_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def short(output: Path, steps: int):
        assert (output, steps) == (tmp_path / "out", 7)
        from efficientad.datasets import LabelledImage
        from efficientad.evaluation import ScoredImage, summarize

        good, bad = LabelledImage(Path("g"), "good"), LabelledImage(Path("b"), "hole")
        return summarize([ScoredImage(good, 0.1, False), ScoredImage(bad, 0.7, True)])

    monkeypatch.setattr("efficientad.demo.run_demo", short)
    result = CliRunner().invoke(main, ["demo", "--output", str(tmp_path / "out"), "--steps", "7"])
    assert result.exit_code == 0
    assert "image AU-ROC: 1.0000" in result.stdout
    assert str(tmp_path / "out" / "demo.png") in result.stdout
