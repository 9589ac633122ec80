"""Model files: what is saved is what is loaded, and nothing is ever lost."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
import safetensors
import torch
from safetensors.torch import save_file

from efficientad_ext import model_file
from efficientad_ext.architecture import parameter_shapes
from efficientad_ext.model_file import (
    FORMAT_VERSION,
    Model,
    load_model,
    model_layers,
    save_model,
    write_atomically,
)
from efficientad_ext.puad import Normalisation, Puad

INPUT_SIZE = (128, 160)


@pytest.fixture(scope="module")
def model() -> Model:
    states = {
        network: {key: torch.randn(shape) for key, shape in parameter_shapes(layers).items()}
        for network, layers in model_layers("small", INPUT_SIZE).items()
    }
    return Model(
        size="small",
        input_size=INPUT_SIZE,
        teacher=states["teacher"],
        student=states["student"],
        autoencoder=states["autoencoder"],
        teacher_mean=torch.randn(384),
        teacher_deviation=torch.rand(384) + 0.1,
        quantiles=(0.1, 0.1 + 0.2, 1e-7, math.pi),
        threshold=0.1 + 1e-16,
        map_threshold=0.3,
        training={"seed": 3, "steps": 70000, "teacher": "Büro/teacher.pth", "losses": [0.1, None]},
    )


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(model, path)
    return path


def rewritten(saved, path, **changes):
    """The saved model with other metadata; None removes an entry."""
    with safetensors.safe_open(saved, "pt") as file:
        header = {**json.loads(file.metadata()["efficientad"]), **changes}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    kept = {key: value for key, value in header.items() if value is not None}
    save_file(tensors, path, {"efficientad": json.dumps(kept)})
    return path


def test_what_is_saved_is_loaded(model, saved):
    loaded = load_model(saved)
    for field in dataclasses.fields(Model):
        before, after = getattr(model, field.name), getattr(loaded, field.name)
        if isinstance(before, torch.Tensor):
            assert torch.equal(before, after), field.name
        elif field.name in ("teacher", "student", "autoencoder"):
            assert list(before) == list(after)
            assert all(torch.equal(before[key], after[key]) for key in before)
        else:
            assert before == after, field.name
            assert type(before) is type(after), field.name


def some_puad(**changes):
    parts = {
        "mean": torch.randn(384, dtype=torch.float64),
        "factor": torch.rand(384, 384, dtype=torch.float64).tril() + torch.eye(384).double(),
        "picturable": Normalisation(0.1, 0.1 + 0.2),
        "unpicturable": Normalisation(-17.3, 1e-3),
        "weights": (0.25, 4.0),
        "source": "teacher",
    }
    return Puad(**{**parts, **changes})


def test_puad_is_saved_to_the_last_bit(model, tmp_path):
    puad = some_puad()
    save_model(dataclasses.replace(model, puad=puad), tmp_path / "with")
    loaded = load_model(tmp_path / "with").puad
    assert torch.equal(loaded.mean, puad.mean)
    assert torch.equal(loaded.factor, puad.factor)
    assert (loaded.picturable, loaded.unpicturable, loaded.weights, loaded.source) == (
        puad.picturable, puad.unpicturable, puad.weights, "teacher"
    )  # fmt: skip


def test_a_model_of_format_1_is_read(model, saved, tmp_path):
    old = rewritten(saved, tmp_path / "old", format_version=1, map_threshold=None, puad=None)
    loaded = load_model(old)
    assert loaded.threshold == loaded.map_threshold == model.threshold
    assert loaded.puad is None


def test_in_a_model_of_format_2_puads_features_are_the_students(model, tmp_path):
    save_model(dataclasses.replace(model, puad=some_puad()), tmp_path / "new")
    with safetensors.safe_open(tmp_path / "new", "pt") as file:
        puad = json.loads(file.metadata()["efficientad"])["puad"]
    assert puad.pop("source") == "teacher"
    old = rewritten(
        tmp_path / "new", tmp_path / "old", format_version=2, puad=puad, quantile_levels=None
    )
    loaded = load_model(old)
    assert loaded.feature_source == loaded.puad.source == "student"
    assert loaded.quantile_levels == (0.9, 0.995)


@pytest.mark.parametrize("levels", [None, (0.5, 0.99), (0.0, 1.0)])
def test_the_quantiles_levels_are_saved(model, tmp_path, levels):
    save_model(dataclasses.replace(model, quantile_levels=levels), tmp_path / "model")
    assert load_model(tmp_path / "model").quantile_levels == levels


@pytest.mark.parametrize("largest", [None, 123.5])
def test_the_largest_activation_is_saved(model, tmp_path, largest):
    save_model(dataclasses.replace(model, largest_activation=largest), tmp_path / "model")
    assert load_model(tmp_path / "model").largest_activation == largest


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": torch.zeros(384)}, "mean has type torch.float32; expected torch.float64"),
        ({"mean": torch.zeros(3).double()}, r"mean has shape \(3,\); expected \(384,\)"),
        ({"mean": torch.full((384,), math.nan).double()}, "mean has values that are NaN"),
        ({"factor": torch.ones(384, 384).double()}, "not a Cholesky factor"),
        ({"factor": torch.zeros(384, 384).double()}, "not a Cholesky factor"),
        ({"weights": (1.0, math.inf)}, r"weights\[1\] is inf; expected a finite number"),
        ({"weights": (1.0,)}, "expected 2 finite numbers"),
        ({"source": "autoencoder"}, "'autoencoder'; expected student or teacher"),
    ],
)
def test_puad_that_cannot_be(changes, message):
    with pytest.raises(ValueError, match=message):
        some_puad(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": np.zeros(384)}, "PUAD's mean is a ndarray; expected a torch.Tensor"),
        ({"picturable": (0.1, 0.2)}, "PUAD's picturable is a tuple; expected a Normalisation"),
        ({"weights": None}, "PUAD's weights is a NoneType; expected 2 finite numbers"),
    ],
)
def test_puad_of_something_else(changes, message):
    with pytest.raises(TypeError, match=message):
        some_puad(**changes)


def test_normalisations_that_cannot_be():
    with pytest.raises(ValueError, match="the mean of a score's normalisation is nan; expected"):
        Normalisation(math.nan, 1.0)
    with pytest.raises(ValueError, match=r"normalisation is 0\.0; expected a positive number"):
        Normalisation(0.0, 0.0)
    with pytest.raises(TypeError, match="normalisation is '1'; expected a number"):
        Normalisation(0.0, "1")


def test_a_short_repr(model):
    assert repr(model) == (
        f"Model(size='small', input_size=(128, 160), threshold={model.threshold}, puad=False, "
        "steps=70000, teacher='Büro/teacher.pth')"
    )
    long = dataclasses.replace(model, puad=some_puad(), training={"teacher": 1000 * "a"})
    assert "puad=True, teacher='aaa" in repr(long)
    assert "steps" not in repr(long)
    assert len(repr(long)) < 300
    assert repr(long.puad).startswith("Puad(picturable=Normalisation(mean=0.1, deviation=0.3")
    assert len(repr(long.puad)) < 300


def test_same_model_same_bytes(model, saved, tmp_path):
    save_model(load_model(saved), tmp_path / "again")
    reordered = dataclasses.replace(
        model,
        student=dict(reversed(model.student.items())),
        training=dict(reversed(model.training.items())),
    )
    save_model(reordered, tmp_path / "reordered")
    assert (tmp_path / "again").read_bytes() == saved.read_bytes()
    assert (tmp_path / "reordered").read_bytes() == saved.read_bytes()


def test_header_is_readable_and_first(saved):
    data = saved.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert next(iter(header)) == "__metadata__"
    described = json.loads(header["__metadata__"]["efficientad"])
    assert described["format_version"] == FORMAT_VERSION
    assert described["size"] == "small"
    assert described["input_size"] == [128, 160]
    assert described["quantiles"] == [0.1, 0.30000000000000004, 1e-07, math.pi]
    assert described["training"]["steps"] == 70000


def test_channels_last_and_sliced_parameters_are_saved_as_they_read(model, tmp_path):
    laid_out = {
        key: value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value
        for key, value in model.student.items()
    }
    wide = torch.randn(768)
    save_model(
        dataclasses.replace(model, student=laid_out, teacher_mean=wide[::2]), tmp_path / "model"
    )
    loaded = load_model(tmp_path / "model")
    assert all(torch.equal(loaded.student[key], model.student[key]) for key in model.student)
    assert torch.equal(loaded.teacher_mean, wide[::2])


def test_saving_what_is_no_model(tmp_path):
    with pytest.raises(TypeError, match="model is a str; expected a Model, which load_model reads"):
        save_model("model.safetensors", tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent.safetensors does not exist"):
        load_model(tmp_path / "absent.safetensors")


def test_folder_instead_of_a_file(tmp_path):
    with pytest.raises(ValueError, match="is a folder; expected a model file"):
        load_model(tmp_path)


@pytest.mark.parametrize("part", [0.0, 1e-7, 1e-5, 0.5, 0.999999])
def test_truncated_file(saved, tmp_path, part):
    data = saved.read_bytes()
    path = tmp_path / "half.safetensors"
    path.write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ValueError, match=r"half.safetensors is cut short or is not a safetensors"):
        load_model(path)


def value_error_of(path) -> str:
    try:
        load_model(path)
    except ValueError as error:
        return str(error)
    return ""


def test_damaged_header_never_escapes_as_another_error(saved, tmp_path):
    data = saved.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    path = tmp_path / "damaged.safetensors"
    for position in torch.randint(0, 8 + length, (20,)).tolist():
        damaged = bytearray(data)
        damaged[position] ^= 1 << int(torch.randint(0, 7, ()))
        path.write_bytes(damaged)
        # Without an error, the damage has left a model: with another digit, for example.
        assert re.fullmatch(r"|.*damaged\.safetensors.*", value_error_of(path), re.DOTALL)


@pytest.mark.parametrize("content", [b"hello", b"\x80\x04\x95pickle", os.urandom(4096)])
def test_foreign_bytes(tmp_path, content):
    path = tmp_path / "foreign.safetensors"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign.safetensors"):
        load_model(path)


def test_other_safetensors_file(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.ones(2)}, path)
    with pytest.raises(ValueError, match=r"other.safetensors .* not a model of efficientad-ext"):
        load_model(path)


def test_newer_version(saved, tmp_path):
    path = rewritten(saved, tmp_path / "new", format_version=FORMAT_VERSION + 1)
    with pytest.raises(
        ValueError,
        match=rf"newer version \(format {FORMAT_VERSION + 1}; this one reads up to "
        rf"{FORMAT_VERSION}\); upgrade efficientad-ext",
    ):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": "one"}, "format_version is 'one'"),
        ({"format_version": None}, "format_version is missing"),
        ({"threshold": None}, "threshold is missing"),
        ({"size": "large"}, "size is 'large'"),
        ({"size": "medium"}, "are not those of the teacher"),
        ({"input_size": [64, 64]}, "64x64 pixels; expected at least 128x128"),
        ({"input_size": 256}, r"input_size is 256; expected \(height, width\)"),
        ({"quantiles": [0.1, 0.2, 0.3]}, "expected 4 finite numbers"),
        ({"quantiles": [0.1, 0.2, 0.3, math.nan]}, r"quantiles\[3\] is nan"),
        ({"quantiles": [0.1, 0.2, 0.3, 0.3]}, "with a < b"),
        ({"quantile_levels": [0.9]}, "expected 2 finite numbers"),
        ({"quantile_levels": [0.9, 0.9]}, "a and b with 0 <= a < b <= 1"),
        ({"quantile_levels": [0.9, 99.5]}, "a and b with 0 <= a < b <= 1"),
        ({"threshold": math.inf}, "threshold is inf"),
        ({"training": []}, "training is a list; expected a dict"),
    ],
)
def test_unusable_metadata(saved, tmp_path, change, message):
    path = rewritten(saved, tmp_path / "unusable", **change)
    with pytest.raises(ValueError, match=f"unusable is not a usable model: .*{message}"):
        load_model(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": {}}, r"teacher \(small\): 0.weight is missing"),
        ({"teacher_mean": torch.zeros(3)}, r"teacher_mean has shape \(3,\); expected \(384,\)"),
        ({"teacher_mean": torch.zeros(384).double()}, "teacher_mean has type torch.float64"),
        ({"teacher_mean": torch.full((384,), math.nan)}, "teacher_mean has values that are NaN"),
        ({"teacher_deviation": torch.zeros(384)}, "not positive"),
        ({"input_size": (100, 256)}, "100x256 pixels"),
        ({"input_size": (256.0, 256.0)}, r"input_size is \(256.0, 256.0\); expected \(height, wi"),
        ({"quantiles": (0.1, 0.2)}, "expected 4 finite numbers"),
        ({"training": {"loss": math.nan}}, r"training\['loss'\] is nan; expected a finite number"),
        ({"quantiles": (0.2, 0.1, 0.0, 1.0)}, "with a < b"),
        ({"threshold": math.nan}, "threshold is nan"),
        ({"largest_activation": math.inf}, "largest_activation is inf"),
        ({"largest_activation": 0.0}, "largest_activation is 0"),
    ],
)
def test_model_checks_itself(model, change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(model, **change)


def test_model_with_a_nan_weight_is_refused(model):
    student = {key: value.clone() for key, value in model.student.items()}
    student["3.weight"][5, 4, 3, 2] = math.nan
    with pytest.raises(ValueError, match=r"3.weight of the student has values that are NaN"):
        dataclasses.replace(model, student=student)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"teacher": None}, "teacher is a NoneType; expected a dict of tensors"),
        ({"teacher_mean": np.zeros(384)}, "teacher_mean is a ndarray; expected a torch.Tensor"),
        ({"quantiles": 0.5}, "quantiles is a float; expected 4 finite numbers"),
        ({"quantiles": "abcd"}, r"quantiles\[0\] is 'a'; expected a number"),
        ({"quantile_levels": 0.9}, "quantile_levels is a float; expected 2 finite numbers"),
        ({"threshold": "0.5"}, "threshold is '0.5'; expected a number"),
        ({"map_threshold": torch.zeros(())}, r"map_threshold is tensor\(0\.\); expected a number"),
        ({"largest_activation": "12"}, "largest_activation is '12'; expected a number"),
        ({"puad": "x"}, "puad is a str; expected a Puad or None"),
        ({"training": None}, "training is a NoneType; expected a dict"),
        ({"training": {1: 2}}, "training has the key 1; expected a str"),
        (
            {"training": {"a": [{None: 1}]}},
            r"training\['a'\]\[0\] has the key None; expected a str",
        ),
        ({"training": {"path": Path("a")}}, r"training\['path'\] is a .*Path; expected what JSON"),
        ({"training": {"loss": torch.ones(1)}}, r"training\['loss'\] is a Tensor; expected what"),
    ],
)
def test_a_model_of_something_else(model, change, message):
    with pytest.raises(TypeError, match=message):
        dataclasses.replace(model, **change)


def test_a_weight_that_is_no_tensor(model):
    student = {**model.student, "3.bias": model.student["3.bias"].numpy()}
    with pytest.raises(TypeError, match=r"3\.bias of the student is a ndarray; expected a torch"):
        dataclasses.replace(model, student=student)


def test_numbers_of_numpy_become_pythons(model, tmp_path):
    one = np.float32(1)
    changed = dataclasses.replace(
        model,
        input_size=np.array([128, 160]),
        quantiles=np.arange(4, dtype=np.float32),
        quantile_levels=[np.float32(0.5), one],
        threshold=one,
        map_threshold=np.int64(2),
        largest_activation=np.float16(3),
        training={"steps": np.int64(4), "losses": (one, np.bool_(True)), "config": {"a": one}},
        puad=some_puad(
            picturable=Normalisation(one, one), unpicturable=Normalisation(0, one), weights=[1, one]
        ),
    )
    assert changed.training == {"steps": 4, "losses": [1.0, True], "config": {"a": 1.0}}
    save_model(changed, tmp_path / "model")
    loaded = load_model(tmp_path / "model")
    assert loaded.training == changed.training
    for field in ("input_size", "quantiles", "quantile_levels", "threshold", "map_threshold",
                  "largest_activation"):  # fmt: skip
        assert repr(getattr(loaded, field)) == repr(getattr(changed, field)), field
    for field in ("picturable", "unpicturable", "weights"):
        assert repr(getattr(loaded.puad, field)) == repr(getattr(changed.puad, field)), field


def test_a_record_that_became_unwritable(model, tmp_path):
    changed = dataclasses.replace(model)
    changed.training["note"] = object()
    with pytest.raises(TypeError, match=r"training\['note'\] is a object; expected what JSON has"):
        save_model(changed, tmp_path / "model")
    assert not list(tmp_path.iterdir())
    assert "note" not in model.training


@pytest.mark.parametrize("previous", [b"the previous model", None], ids=["previous", "first"])
@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_full_disk_loses_nothing(model, tmp_path, monkeypatch, step, previous):
    path = tmp_path / "model.safetensors"
    if previous is not None:
        path.write_bytes(previous)

    def no_space(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(model_file.os, step, no_space)
    with pytest.raises(
        OSError, match=r"model.safetensors could not be written, .*No space"
    ) as info:
        save_model(model, path)
    assert info.value.errno == errno.ENOSPC
    kept = [path] if previous is not None else []
    assert list(tmp_path.iterdir()) == kept
    assert all(file.read_bytes() == previous for file in kept)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_disk_that_fills_while_writing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    real_open = Path.open

    def open_full(file, mode):
        if mode != "xb":
            return real_open(file, mode)
        real_open(file, mode).close()
        return real_open(Path("/dev/full"), "wb")

    monkeypatch.setattr(Path, "open", open_full)
    with pytest.raises(OSError, match="the previous file is unchanged: No space"):
        write_atomically(path, b"x" * 100_000)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_interruption_while_saving_loses_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def interrupt(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(model_file.os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


def test_write_atomically_flushes_before_it_renames(tmp_path, monkeypatch):
    calls = []
    real_fsync, real_replace = os.fsync, os.replace

    def fsync(descriptor):
        calls.append("fsync")
        real_fsync(descriptor)

    def replace(source, target):
        calls.append("replace")
        assert Path(source).parent == Path(target).parent
        assert Path(source).read_bytes() == b"new"
        real_replace(source, target)

    monkeypatch.setattr(model_file.os, "fsync", fsync)
    monkeypatch.setattr(model_file.os, "replace", replace)
    path = tmp_path / "file"
    path.write_bytes(b"old")
    write_atomically(path, b"new")
    assert calls[:2] == ["fsync", "replace"]
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_write_atomically_keeps_a_link_and_the_usual_permissions(tmp_path):
    target, link, plain = tmp_path / "target", tmp_path / "link", tmp_path / "plain"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    plain.write_bytes(b"")
    assert target.stat().st_mode == plain.stat().st_mode


def test_write_atomically_into_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="absent/file does not exist; create it first"):
        write_atomically(tmp_path / "absent" / "file", b"data")
