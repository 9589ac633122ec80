"""The judgement of benchmark ratios."""

from __future__ import annotations

import importlib.util
import platform
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def gate():
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "gate.py"
    spec = importlib.util.spec_from_file_location("gate", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gate"] = module
    spec.loader.exec_module(module)
    return module


def test_regression_names_the_op_and_both_figures(gate):
    expectation = gate.Expectation(ratio=4.0, margin=0.25)
    assert gate.failure("some_op", 3.01, expectation) is None
    message = gate.failure("some_op", 2.5, expectation)
    assert "some_op" in message
    assert "2.50" in message
    assert "4.00" in message


def test_promised_floor_holds_whatever_was_measured_last(gate):
    expectation = gate.Expectation(ratio=2.1, margin=0.25, floor=2.0)
    assert "promised at least 2" in gate.failure("some_op", 1.9, expectation)


def test_unexplained_win_asks_for_an_update(gate):
    expectation = gate.Expectation(ratio=4.0, margin=0.25)
    assert gate.remark("some_op", 4.5, expectation) is None
    assert gate.UPDATE_COMMAND in gate.remark("some_op", 6.0, expectation)
    assert gate.UPDATE_COMMAND in gate.remark("new_op", 6.0, None)


def test_expectations_survive_a_round_trip(gate, tmp_path):
    expectations = {
        "cpu": {"b": gate.Expectation(1.5, 0.3, 1.0), "a": gate.Expectation(2.0)},
        "cuda": {"a": gate.Expectation(9.0)},
    }
    path = tmp_path / "expected.json"
    gate.save(expectations, path)
    assert gate.load(path) == expectations
    assert gate.load(tmp_path / "absent.json") == {}


def test_committed_file_can_be_read(gate):
    assert gate.of_processor(gate.load(), "cpu AuthenticAMD family 26 model 2")


def test_a_processor_is_held_to_its_own_expectations(gate):
    newer, older = {"a": gate.Expectation(2.0)}, {"a": gate.Expectation(1.0)}
    expectations = {"cpu X family 2": newer, "cpu X": older, "cuda": {}}
    assert gate.of_processor(expectations, "cpu X family 2 model 5") == newer
    assert gate.of_processor(expectations, "cpu X family 21 model 5") == older
    assert gate.of_processor(expectations, "cpu Y family 2 model 5") == {}
    assert gate.of_processor(expectations, "cuda") == {}


def test_the_processor_is_told_from_others(gate, tmp_path):
    told = tmp_path / "cpuinfo"
    told.write_text(
        "processor\t: 0\nvendor_id\t: X\ncpu family\t: 2\nmodel\t\t: 5\nmodel name\t: Z\n"
    )
    assert gate.processor(told) == "X family 2 model 5"
    assert gate.processor(tmp_path / "absent") == platform.machine()
