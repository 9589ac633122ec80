"""How detections are timed."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from efficientad import timing
from efficientad.cli import main
from efficientad.timing import Milliseconds, Timing, device_name, measure_times

from efficientad_ext import Detector
from efficientad_ext.model_file import load_model


def test_percentiles_are_times_that_were_measured():
    times = [float(number) for number in range(1, 201)]
    assert timing._summary(times[::-1]) == Milliseconds(100.5, 100.0, 180.0, 198.0)
    assert timing._summary([3.0]) == Milliseconds(3.0, 3.0, 3.0, 3.0)


def test_passes_to_warm_up_are_not_measured(tiny_model: Path, monkeypatch: pytest.MonkeyPatch):
    calls = []
    detect = timing.Detector.__call__

    def slow_at_first(self, images):
        calls.append(len(images))
        if calls.count(len(images)) <= 2:
            time.sleep(0.4)
        # One image stands for the batch.
        return detect(self, images[:1])

    monkeypatch.setattr(timing.Detector, "__call__", slow_at_first)
    begin = time.perf_counter()
    result = measure_times(load_model(tiny_model), passes=2)
    total = 1000 * (time.perf_counter() - begin)
    assert calls == [1] * 4 + [16] * 4
    measured = 2 * (result.latency.mean + result.batch.mean)
    # The four slow passes are not among the others.
    assert measured < total - 4 * 400
    assert result.latency.p50 <= result.latency.p99
    assert result.images_per_second == 16000 / result.batch.mean


def test_the_command(tmp_path: Path, tiny_model: Path):
    file = tmp_path / "times.json"
    arguments = ["time", str(tiny_model), "--passes", "1", "--json", str(file), "--device", "cpu"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    record = json.loads(file.read_text())
    timing_again = Timing.from_record(record)
    assert timing_again.record() == record
    assert result.stdout.splitlines() == timing_again.lines()
    assert record["device"] == device_name(torch.device("cpu")) != ""
    assert record["threads"] == torch.get_num_threads()
    precision = Detector.load(tiny_model).precision
    assert (record["precision"], record["size"], record["passes"]) == (precision, "small", 1)
    assert record["input_size"] == [128, 128]
    assert f"batch 16: mean {record['batch']['mean']:.3f} ms" in result.stdout


def test_no_pass_is_an_error(tiny_model: Path):
    with pytest.raises(ValueError, match="passes is 0; expected at least 1"):
        measure_times(load_model(tiny_model), passes=0)
