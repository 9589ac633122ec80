from __future__ import annotations

import pickle
from pathlib import Path

import efficientad
import pytest
import torch
from efficientad.networks import pdn
from efficientad.teacher import (
    Teacher,
    default_teacher,
    load_teacher,
    random_teacher,
    teacher_record,
)
from efficientad.training import TrainingConfig, train
from safetensors import safe_open
from safetensors.torch import save_file

from efficientad_ext.architecture import SIZES, Size


def save(weights: dict[str, torch.Tensor], path: Path) -> Path:
    if path.suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    return path


@pytest.mark.parametrize("suffix", [".safetensors", ".pth", ".pt"])
@pytest.mark.parametrize("named", [False, True])
def test_both_public_layouts_are_read_from_every_kind_of_file(
    tmp_path: Path, tiny_teacher: Teacher, suffix: str, named: bool
):
    weights = tiny_teacher.weights
    if named:
        names = {"0": "conv1", "3": "conv2", "6": "conv3", "8": "conv4"}
        weights = {
            f"{names[name.partition('.')[0]]}.{name.partition('.')[2]}": tensor
            for name, tensor in weights.items()
        }
    loaded = load_teacher(save(weights, tmp_path / f"teacher{suffix}"), "small")
    assert loaded.fingerprint == tiny_teacher.fingerprint
    assert loaded.source == f"teacher{suffix}"
    for name, tensor in tiny_teacher.weights.items():
        assert torch.equal(loaded.weights[name], tensor)
    pdn("small", 384).load_state_dict(loaded.weights)


def test_a_teacher_of_the_other_size_is_refused(tmp_path: Path, tiny_teacher: Teacher):
    path = save(tiny_teacher.weights, tmp_path / "teacher.safetensors")
    with pytest.raises(ValueError, match="not a medium teacher"):
        load_teacher(path, "medium")


def test_a_missing_weight_is_named(tmp_path: Path, tiny_teacher: Teacher):
    weights = dict(tiny_teacher.weights)
    del weights["6.bias"]
    with pytest.raises(ValueError, match=r"6\.bias is missing"):
        load_teacher(save(weights, tmp_path / "teacher.pth"), "small")


def test_nan_weights_are_refused(tmp_path: Path, tiny_teacher: Teacher):
    weights = dict(tiny_teacher.weights)
    weights["3.bias"] = torch.full((256,), float("nan"))
    with pytest.raises(ValueError, match=r"3\.bias has NaN"):
        load_teacher(save(weights, tmp_path / "teacher.pth"), "small")


class Payload:
    """Unpickling this would create the file that it names."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


def test_a_file_that_needs_unpickling_is_refused_and_not_run(tmp_path: Path):
    target = tmp_path / "harm"
    path = tmp_path / "teacher.pth"
    torch.save({"0.weight": Payload(target)}, path)
    with pytest.raises(ValueError, match="unpickled"):
        load_teacher(path, "small")
    path.write_bytes(pickle.dumps({"0.weight": Payload(target)}, protocol=2))
    with pytest.raises(ValueError, match=r"teacher\.pth"):
        load_teacher(path, "small")
    assert not target.exists()


def test_a_whole_module_is_refused(tmp_path: Path):
    path = tmp_path / "teacher.pth"
    torch.save(pdn("small", 384), path)
    with pytest.raises(ValueError, match=r"state_dict\(\)"):
        load_teacher(path, "small")


@pytest.mark.parametrize("content", [b"", b"hello, I am text\n", b"<html></html>", b"\x80\x02}"])
def test_what_is_no_file_of_weights_is_refused(tmp_path: Path, content: bytes):
    path = tmp_path / "teacher.pt"
    path.write_bytes(content)
    message = r"teacher\.pt is not a file of weights that torch reads, or it is damaged$"
    with pytest.raises(ValueError, match=message):
        load_teacher(path, "small")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_a_file_cut_in_half_is_refused(tmp_path: Path, tiny_teacher: Teacher, suffix: str):
    path = save(tiny_teacher.weights, tmp_path / f"teacher{suffix}")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match="teacher"):
        load_teacher(path, "small")


def test_missing_file_and_foreign_suffix(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_teacher(tmp_path / "none.pth", "small")
    path = tmp_path / "teacher.onnx"
    path.touch()
    with pytest.raises(ValueError, match=r"\.safetensors, \.pth or \.pt"):
        load_teacher(path, "small")


def test_random_teacher_is_repeatable_and_says_what_it_is(warnings_logged):
    first, second = random_teacher("medium"), random_teacher("medium")
    assert first.fingerprint == second.fingerprint
    assert sum("stand-in" in record.message for record in warnings_logged.records) == 2
    assert first.source == "random stand-in"


@pytest.mark.parametrize("size", ["small", "medium"])
def test_random_teacher_keeps_the_scale_of_its_activations(size):
    network = pdn(size, 384)
    network.load_state_dict(random_teacher(size).weights)
    # White noise: the averaging pools divide its variance by about four each.
    with torch.no_grad():
        features = network(torch.randn(1, 3, 64, 64))
    scale = float(features.square().mean().sqrt())
    assert 0.1 < scale < 10


WEIGHTS = Path(efficientad.__file__).with_name("weights")


@pytest.mark.parametrize(("size", "most_bytes"), [("small", 6_000_000), ("medium", 17_000_000)])
def test_a_default_teacher_comes_with_the_package(size: Size, most_bytes: int):
    teacher = default_teacher(size)
    assert teacher.size == size
    path = WEIGHTS / teacher.source
    assert path.stat().st_size < most_bytes
    with safe_open(path, "pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118


@pytest.mark.parametrize("size", SIZES)
def test_the_model_card_tells_what_the_file_tells(size: Size):
    record = teacher_record(WEIGHTS / f"teacher_{size}.safetensors")
    card = (WEIGHTS / "README.md").read_text()
    row = next(line for line in card.splitlines() if line.startswith(f"| `teacher_{size}"))
    _, initial, steps, batch, photos, loss = (cell.strip() for cell in row.strip("|").split("|"))
    assert ("initial teacher" in record) == (initial != "random weights")
    assert int(steps.replace(",", "")) == record["steps"] == record["held-out loss"][-1][0]
    assert int(batch) == record["batch size"]
    assert int(photos.replace(",", "")) == record["images"]
    assert float(loss) == round(record["held-out loss"][-1][1], 4)


@pytest.mark.parametrize("size", SIZES)
def test_training_takes_the_default_teacher(tmp_path: Path, tiny_data: Path, size: Size):
    config = TrainingConfig(size, input_size=(128, 128), steps=1)
    model = train(tiny_data, tmp_path / "model.safetensors", config=config, puad=False)
    assert model.training["teacher's fingerprint"] == default_teacher(size).fingerprint
