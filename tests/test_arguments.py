"""Settings and arguments of another type: numpy's numbers are numbers, the rest one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from efficientad.calibration import CalibrationConfig, calibrate
from efficientad.datasets import find_dataset, find_test_set
from efficientad.distillation import DistillationConfig, distill
from efficientad.evaluation import evaluate
from efficientad.teacher import Teacher, default_teacher
from efficientad.threshold import RATE, choose_threshold
from efficientad.training import TrainingConfig, train
from tiny_distillation import TinyBackbone

from efficientad_ext.model_file import load_model

NUMPY_CONFIG = TrainingConfig(
    input_size=(np.int64(128), np.int32(132)),  # type: ignore[arg-type]
    steps=np.int64(1),  # type: ignore[arg-type]
    seed=np.uint8(3),  # type: ignore[arg-type]
    p_hard=np.float32(0.5),  # type: ignore[arg-type]
)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (NUMPY_CONFIG, TrainingConfig(input_size=(128, 132), steps=1, seed=3, p_hard=0.5)),
        (
            DistillationConfig(steps=np.int64(5), batch_size=np.int16(2), seed=np.uint64(1)),
            DistillationConfig(steps=5, batch_size=2, seed=1),
        ),
        (CalibrationConfig([np.float32(0.5), np.float16(0.75)]), CalibrationConfig((0.5, 0.75))),
    ],
)
def test_numpy_numbers_become_pythons(config: Any, expected: Any):
    assert config == expected
    # JSON knows no others.
    assert json.dumps(asdict(config)) == json.dumps(asdict(expected))


def test_a_model_from_numpy_settings_is_saved(
    tmp_path: Path, tiny_data: Path, tiny_teacher: Teacher
):
    output = tmp_path / "model.safetensors"
    calibration = CalibrationConfig((np.float32(0.5), np.float32(0.75)))
    rate: Any = np.float32(0.25)
    train(tiny_data, output, tiny_teacher, NUMPY_CONFIG, calibration, false_reject_rate=rate)
    model = load_model(output)
    assert model.training["p_hard"] == 0.5
    assert model.training[RATE] == 0.25
    assert model.quantile_levels == (0.5, 0.75)


@pytest.mark.parametrize("config", [TrainingConfig, DistillationConfig])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 2.0}, r"^steps is 2\.0; expected a whole number$"),
        ({"steps": "2"}, "^steps is '2'; expected a whole number$"),
        ({"seed": 1.5}, r"^seed is 1\.5; expected a whole number$"),
        ({"seed": None}, "^seed is None; expected a whole number$"),
    ],
)
def test_what_is_no_whole_number_is_refused_at_once(config, changes, message):
    with pytest.raises(TypeError, match=message):
        config(**changes)


def test_other_settings_of_another_type_are_refused_at_once():
    with pytest.raises(TypeError, match=r"^batch_size is 4\.0; expected a whole number$"):
        DistillationConfig(batch_size=4.0)
    with pytest.raises(TypeError, match=r"^p_hard is '0\.9'; expected a number$"):
        TrainingConfig(p_hard="0.9")
    with pytest.raises(ValueError, match=r"^input_size is .*; expected \(height, width\) in whole"):
        TrainingConfig(input_size=(128.0, 128.0))
    with pytest.raises(
        ValueError, match=r"^input_size is 128; expected \(height, width\) in whole"
    ):
        TrainingConfig(input_size=128)
    with pytest.raises(TypeError, match=r"^one of quantile_levels is '0\.9'; expected a number$"):
        CalibrationConfig(("0.9", 0.995))
    with pytest.raises(TypeError, match=r"^quantile_levels is a float; expected numbers$"):
        CalibrationConfig(0.9)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"teacher": "t.pth"}, TypeError, "teacher is a str; .* load_teacher reads"),
        ({"config": {}}, TypeError, "config is a dict; expected a TrainingConfig$"),
        (
            {"calibration": (0.9, 0.995)},
            TypeError,
            "calibration is a tuple; expected a CalibrationConfig$",
        ),
        ({"false_reject_rate": "1 %"}, TypeError, "false_reject_rate is '1 %'; expected a number$"),
        (
            {"penalty_images": None},
            TypeError,
            'penalty_images is a NoneType; expected a folder, "procedural" or "none"$',
        ),
        ({"penalty_images": "no-folder"}, FileNotFoundError, "no-folder does not exist"),
        ({"device": "cuda:99"}, ValueError, "there is no device cuda:99 here; use cpu$"),
        ({"device": "meta"}, ValueError, "'meta' is not a device; expected cpu, cuda or"),
        ({"device": 7}, ValueError, "'7' is not a device; expected cpu, cuda or"),
    ],
)
def test_train_refuses_arguments_before_it_reads_images(
    tmp_path: Path, tiny_teacher: Teacher, arguments: dict[str, Any], error: Any, message: str
):
    given = {"teacher": tiny_teacher, "config": NUMPY_CONFIG, **arguments}
    with pytest.raises(error, match=f"^{message}"):
        train(tmp_path / "no-data", tmp_path / "model.safetensors", **given)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": "photos"}, TypeError, "images is 'photos'; expected a list of folders$"),
        (
            {"backbone": "efficientnet_lite2"},
            TypeError,
            "backbone is a str; .* load_backbone",
        ),
        ({"config": {}}, TypeError, "config is a dict; expected a DistillationConfig$"),
        ({"initial_teacher": 5}, TypeError, "initial_teacher is a int; expected a teacher"),
        ({"device": "cuda:99"}, ValueError, "there is no device cuda:99 here; use cpu$"),
    ],
)
def test_distill_refuses_arguments(
    tmp_path: Path, photos: Path, arguments: dict[str, Any], error: Any, message: str
):
    given = {"images": [photos], "backbone": TinyBackbone(), **arguments}
    with pytest.raises(error, match=f"^{message}"):
        distill(output=tmp_path / "teacher.safetensors", **given)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "m.safetensors"}, TypeError, "model is a str; .* load_model reads"),
        ({"images": "a.png"}, TypeError, r"images is 'a\.png'; expected a list of image files$"),
        (
            {"puad_images": Path("images")},
            TypeError,
            r"puad_images is .*Path\('images'\); expected a list of image files$",
        ),
        ({"config": (0.9, 0.995)}, TypeError, "config is a tuple; expected a Calibration"),
        ({"false_reject_rate": None}, TypeError, "false_reject_rate is None; expected a number$"),
        ({"device": "cuda:99"}, ValueError, "there is no device cuda:99 here; use cpu$"),
    ],
)
def test_calibrate_refuses_arguments(
    tiny_model: Path, arguments: dict[str, Any], error: Any, message: str
):
    given = {"model": load_model(tiny_model), "images": [Path("a.png")], **arguments}
    with pytest.raises(error, match=f"^{message}"):
        calibrate(**given)


def test_a_threshold_is_chosen_from_numbers():
    assert choose_threshold(np.arange(3, dtype=np.float32)) == 2
    with pytest.raises(TypeError, match=r"^one of scores is 'm'; expected a number$"):
        choose_threshold("model.safetensors")
    with pytest.raises(TypeError, match=r"^one of scores is tensor\(0\.\); expected a number$"):
        choose_threshold(torch.zeros(3))
    with pytest.raises(TypeError, match=r"^scores is a float; expected numbers$"):
        choose_threshold(0.5)


def test_a_default_teacher_of_no_size_names_the_sizes():
    with pytest.raises(ValueError, match=r'^size is \'x\'; expected "small" or "medium"$'):
        default_teacher("x")


@pytest.mark.parametrize("find", [find_dataset, find_test_set])
def test_a_layout_that_does_not_exist_names_those_that_do(find: Any, tiny_data: Path):
    expected = "^layout is 'foo'; expected mvtec_ad, mvtec_loco, visa or folder$"
    with pytest.raises(ValueError, match=expected):
        find(tiny_data, "foo")


@pytest.mark.parametrize("name", ["str", "PosixPath", "Model"])
def test_evaluate_wants_a_detector(tiny_model: Path, tiny_data: Path, name: str):
    given = {"str": str(tiny_model), "PosixPath": tiny_model, "Model": load_model(tiny_model)}
    expected = f"^detector is a {name}; expected a Detector, which Detector.load reads from a"
    with pytest.raises(TypeError, match=expected):
        evaluate(given[name], tiny_data)
