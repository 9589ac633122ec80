from __future__ import annotations

from pathlib import Path

import pytest
import torch
from efficientad import precision as precision_module
from efficientad.precision import convolutions_in, precision_on
from efficientad.teacher import Teacher
from efficientad.training import TrainingConfig, train
from torch import nn

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def on_a_processor_with(monkeypatch: pytest.MonkeyPatch, *instruction_sets: str) -> None:
    config = {"cpu_instruction_sets": ["portable", *instruction_sets]}
    monkeypatch.setattr(precision_module, "build_config", lambda: config)


@pytest.mark.parametrize(
    ("instruction_sets", "chosen"),
    [
        ((), "float32"),
        (("avx2", "avx512"), "float32"),
        (("avx2", "avx512", "avx512_bf16"), "float32"),
        (("avx2", "avx512", "avx512_bf16", "amx_bf16"), "bfloat16"),
    ],
)
def test_auto_is_what_the_processor_is_fastest_in(monkeypatch, instruction_sets, chosen):
    on_a_processor_with(monkeypatch, *instruction_sets)
    assert precision_on(CPU, "auto") == chosen


@pytest.mark.parametrize(("capability", "chosen"), [((7, 5), "float32"), ((8, 0), "bfloat16")])
def test_auto_is_what_the_gpu_multiplies(monkeypatch, capability, chosen):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    assert precision_on(GPU, "auto") == chosen


def test_who_asks_for_slow_bfloat16_is_told(monkeypatch, warnings_logged):
    on_a_processor_with(monkeypatch, "avx2")
    assert precision_on(CPU, "bfloat16") == "bfloat16"
    assert "this processor has no multiplications in bfloat16" in warnings_logged.text
    warnings_logged.clear()
    on_a_processor_with(monkeypatch, "avx512_bf16")
    assert precision_on(CPU, "bfloat16") == "bfloat16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Old GPU")
    assert not warnings_logged.records
    assert precision_on(GPU, "bfloat16") == "bfloat16"
    assert "Old GPU has no multiplications in bfloat16" in warnings_logged.text
    warnings_logged.clear()
    assert precision_on(GPU, "float32") == "float32"
    assert not warnings_logged.records


@pytest.mark.parametrize("around", [False, True])
def test_weights_are_those_of_the_moment_also_within_another_autocast(around: bool):
    layer = nn.Conv2d(3, 8, 3)
    x = torch.randn(1, 3, 9, 9)
    with torch.autocast("cpu", torch.bfloat16, enabled=around):
        for _ in range(2):
            with convolutions_in("bfloat16", CPU):
                output = layer(x)
            expected = nn.functional.conv2d(
                x.bfloat16(), *(p.bfloat16() for p in layer.parameters())
            )
            assert output.dtype == torch.bfloat16
            assert torch.equal(output, expected)
            with torch.no_grad():
                layer.weight.add_(1)


def test_a_model_tells_the_precision_that_auto_came_to(
    tmp_path: Path, tiny_data: Path, tiny_teacher: Teacher, monkeypatch
):
    on_a_processor_with(monkeypatch)
    config = TrainingConfig(input_size=(128, 128), steps=1)
    assert config.precision == "auto"
    model = train(tiny_data, tmp_path / "model.safetensors", tiny_teacher, config, puad=False)
    assert model.training["precision"] == "float32"
