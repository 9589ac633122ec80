"""The model file: everything that detection needs, in one safetensors file with a readable header.

The header's metadata has one entry, `efficientad`, a JSON object with `format_version`, `size`,
`input_size`, `quantiles`, `quantile_levels`, `threshold`, `map_threshold`, `largest_activation`,
`puad` and `training`.
(One entry, because the safetensors package orders several at random, and the same model is to give
the same bytes.) The tensors are named `teacher.0.weight`, `student.0.weight`,
`autoencoder.0.weight`, ..., `teacher_mean` and `teacher_deviation`, and with PUAD `puad_mean` and
`puad_factor`. Nothing is ever unpickled.

Format 2 has `map_threshold` and `puad`, which is null for a model without. Format 3 has
`quantile_levels`, and in `puad` the `source` of its features, which is the student in format 2;
`largest_activation` is null, or not there, where it was not measured.
Formats 1 and 2 are still read.
"""

from __future__ import annotations

import contextlib
import json
import os
import reprlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from efficientad_ext._checks import check_size, check_type
from efficientad_ext._model_values import (
    check_tensor,
    checked_number,
    checked_numbers,
    checked_record,
)
from efficientad_ext.architecture import (
    FEATURE_CHANNELS,
    STUDENT_CHANNELS,
    Layers,
    Size,
    autoencoder_layers,
    check_input_size,
    feature_grid,
    pdn_layers,
    sequential_state,
)
from efficientad_ext.puad import FeatureSource, Normalisation, Puad

if TYPE_CHECKING:
    from types import ModuleType

FORMAT_VERSION = 3

QUANTILE_LEVELS = (0.9, 0.995)
"""The paper's a and b (EfficientAD, section 3.4)."""

_METADATA_KEY = "efficientad"
_NETWORKS = ("teacher", "student", "autoencoder")
_STATISTICS = ("teacher_mean", "teacher_deviation")
_IN_REPR = ("steps", "teacher")  # of the training record


@dataclass(frozen=True, eq=False)
class Model:
    """A trained and calibrated EfficientAD model; an instance is always complete and valid.

    Attributes:
        size: "small" or "medium".
        input_size: (height, width) in pixels of the networks' input, each at least 128.
        teacher: float32 parameters of the teacher, by their key in the `torch.nn.Sequential`.
        student: likewise, of the student (768 output channels).
        autoencoder: likewise, of the autoencoder.
        teacher_mean: (384,) float32, mean of each channel of the teacher's output.
        teacher_deviation: (384,) float32, standard deviation of each channel, positive.
        quantiles: (local a, local b, global a, global b), with a < b: the values of the local and
            of the global map that become 0 and 0.1 in the combined map (section 3.4).
        quantile_levels: (a, b), which quantiles of normal images' pixels they are; None where they
            are none, but the values of mean and mean + 0.1 standard deviations.
        threshold: an image whose score is greater is anomalous; with PUAD, whose final score is.
        map_threshold: where an anomalous image's map is greater, it is shown as the reason.
        puad: PUAD's statistics, or None for EfficientAD's score alone.
        training: a free-form record of how the model came about, of JSON values: a dict with keys
            of str.
        largest_activation: the largest absolute value between the networks' layers on calibration
            images, positive; None where it was not measured.

    Numbers, also in the record, may be numpy's; they become Python's.

    Raises:
        TypeError: a part is something else than it has to be.
        ValueError: a part is missing, of the wrong shape or element type, or not finite.
    """

    size: Size
    input_size: tuple[int, int]
    teacher: dict[str, Tensor]
    student: dict[str, Tensor]
    autoencoder: dict[str, Tensor]
    teacher_mean: Tensor
    teacher_deviation: Tensor
    quantiles: tuple[float, float, float, float]
    threshold: float
    map_threshold: float
    training: dict[str, Any]
    puad: Puad | None = None
    quantile_levels: tuple[float, float] | None = QUANTILE_LEVELS
    largest_activation: float | None = None

    @property
    def feature_source(self) -> FeatureSource:
        """Whose pooled features a detector gives: PUAD's, without PUAD the student's."""
        return "student" if self.puad is None else self.puad.source

    def __post_init__(self) -> None:
        input_size = check_size("input_size", self.input_size)
        check_input_size(*input_size)
        self._set("input_size", input_size)
        for network, layers in model_layers(self.size, input_size).items():
            parameters = getattr(self, network)
            check_type(network, parameters, Mapping, "a dict of tensors")
            for key, parameter in parameters.items():
                check_tensor(f"{key} of the {network}", parameter, torch.float32)
            state = sequential_state(parameters, layers, f"{network} ({self.size})")
            self._set(network, state)
        for name in _STATISTICS:
            check_tensor(name, getattr(self, name), torch.float32, (FEATURE_CHANNELS,))
        if not bool((self.teacher_deviation > 0).all()):
            raise ValueError("teacher_deviation has values that are not positive")
        local_a, local_b, global_a, global_b = checked_numbers("quantiles", self.quantiles, 4)
        if local_a >= local_b or global_a >= global_b:
            raise ValueError(
                f"quantiles is {self.quantiles}; expected (local a, local b, global a, global b) "
                "with a < b"
            )
        self._set("quantiles", (local_a, local_b, global_a, global_b))
        if self.quantile_levels is not None:
            a, b = checked_numbers("quantile_levels", self.quantile_levels, 2)
            check_quantile_levels((a, b))
            self._set("quantile_levels", (a, b))
        for name in ("threshold", "map_threshold"):
            self._set(name, checked_number(name, getattr(self, name)))
        if self.largest_activation is not None:
            largest = checked_number("largest_activation", self.largest_activation)
            if largest <= 0:
                raise ValueError(f"largest_activation is {largest}; expected a positive number")
            self._set("largest_activation", largest)
        check_type("puad", self.puad, Puad | None, "a Puad or None")
        check_type("training", self.training, dict, "a dict")
        self._set("training", checked_record("training", self.training))

    def __repr__(self) -> str:
        parts = {
            "size": self.size,
            "input_size": self.input_size,
            "threshold": self.threshold,
            "puad": self.puad is not None,
            **{name: self.training[name] for name in _IN_REPR if name in self.training},
        }
        described = (f"{name}={reprlib.repr(value)}" for name, value in parts.items())
        return f"Model({', '.join(described)})"

    def _set(self, name: str, value: Any) -> None:
        # A frozen dataclass's own way, for what is brought to the types that it has in a file.
        object.__setattr__(self, name, value)


def check_model(model: Any) -> None:
    """Raises TypeError unless it is a Model."""
    check_type("model", model, Model, "a Model, which load_model reads from a file")


def check_quantile_levels(levels: tuple[float, float]) -> None:
    """Raises ValueError unless these are two shares a < b between 0 and 1."""
    if len(levels) != 2 or not 0 <= levels[0] < levels[1] <= 1:
        raise ValueError(
            f"the quantiles' levels are {tuple(levels)}; expected a and b with 0 <= a < b <= 1"
        )


def model_layers(size: Size, input_size: tuple[int, int]) -> dict[str, Layers]:
    """The layers of `teacher`, `student` and `autoencoder`, as detection uses them (unpadded)."""
    return {
        "teacher": pdn_layers(size, FEATURE_CHANNELS),
        "student": pdn_layers(size, STUDENT_CHANNELS),
        "autoencoder": autoencoder_layers(feature_grid(*input_size)),
    }


def save_model(model: Model, path: str | os.PathLike[str]) -> None:
    """Writes a model file. The same model always gives the same bytes.

    Raises:
        TypeError, ValueError: `model` is no Model, or its record has become none of JSON values.
        OSError: the file cannot be written, see `write_atomically`.
    """
    check_model(model)
    header = {
        "format_version": FORMAT_VERSION,
        "size": model.size,
        "input_size": list(model.input_size),
        "quantiles": list(model.quantiles),
        "quantile_levels": None if model.quantile_levels is None else list(model.quantile_levels),
        "threshold": model.threshold,
        "map_threshold": model.map_threshold,
        "largest_activation": model.largest_activation,
        "puad": None if model.puad is None else _puad_header(model.puad),
        # Once more, since a dict can change.
        "training": checked_record("training", model.training),
    }
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    tensors = {name: getattr(model, name) for name in _STATISTICS}
    for network in _NETWORKS:
        for key, parameter in getattr(model, network).items():
            tensors[f"{network}.{key}"] = parameter
    if model.puad is not None:
        tensors |= {"puad_mean": model.puad.mean, "puad_factor": model.puad.factor}
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, _safetensors().save(contiguous, {_METADATA_KEY: text}))


def load_model(path: str | os.PathLike[str]) -> Model:
    """Reads a model file; its tensors are on the CPU.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is cut short, is not a model file, was written by a newer version, or
            holds parameters that do not fit its networks; the message names the file.
    """
    path = Path(path)
    tensors, metadata = _read_safetensors(path)
    if _METADATA_KEY not in metadata:
        raise ValueError(
            f"{path} is a safetensors file, but not a model of efficientad-ext; "
            "expected a file that `efficientad train` has written"
        )
    try:
        header = json.loads(metadata[_METADATA_KEY])
        version = header["format_version"]
        if not isinstance(version, int):
            raise ValueError(f"format_version is {version!r}; expected a number")
        if version <= FORMAT_VERSION:
            return _model_from(tensors, header)
    except KeyError as error:
        raise ValueError(
            f"{path} is not a usable model: {error.args[0]} is missing; train it anew"
        ) from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a usable model: {error}") from error
    raise ValueError(
        f"{path} was written by a newer version (format {version}; this one reads up to "
        f"{FORMAT_VERSION}); upgrade efficientad-ext"
    )


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that, whatever happens, its path holds the old content or the new one.

    The data goes to a temporary file in the same folder, is flushed to the disk, and then takes
    the file's name. A symbolic link is followed, not replaced.

    Raises:
        FileNotFoundError: the folder does not exist.
        OSError: the file cannot be written, for example because the disk is full; a previous file
            is unchanged and no temporary file is left.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise FileNotFoundError(f"the folder of {path} does not exist; create it first")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            kept = "the previous file is unchanged" if target.exists() else "nothing is left of it"
            reason = error.strerror or str(error)
            raise OSError(error.errno, f"{path} could not be written, {kept}: {reason}") from error
        raise
    _flush_folder(target.parent)


def _flush_folder(folder: Path) -> None:
    # Makes the new name survive a power failure; not every system can open a folder.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _safetensors() -> ModuleType:
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            "a model file needs the package safetensors; run: pip install safetensors"
        ) from error
    return safetensors.torch


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    load = _safetensors().load
    from safetensors import SafetensorError

    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a model file")
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise FileNotFoundError(f"the model file {path} does not exist") from error
    try:
        tensors = load(data)
    except (SafetensorError, KeyError) as error:
        raise ValueError(
            f"{path} is cut short or is not a safetensors file ({error}); "
            "copy it again, or train anew"
        ) from error
    # The package reads metadata from files only; the header is a length of 8 bytes and a JSON
    # object.
    length = int.from_bytes(data[:8], "little")
    return tensors, json.loads(data[8 : 8 + length]).get("__metadata__", {})


def _model_from(tensors: dict[str, Tensor], header: dict[str, Any]) -> Model:
    states: dict[str, dict[str, Tensor]] = {network: {} for network in _NETWORKS}
    for name, tensor in tensors.items():
        network, _, key = name.partition(".")
        if network in states:
            states[network][key] = tensor
    return Model(
        size=header["size"],
        input_size=header["input_size"],
        teacher=states["teacher"],
        student=states["student"],
        autoencoder=states["autoencoder"],
        teacher_mean=tensors["teacher_mean"],
        teacher_deviation=tensors["teacher_deviation"],
        quantiles=header["quantiles"],
        threshold=header["threshold"],
        # Format 1 had one threshold for both.
        map_threshold=header.get("map_threshold", header["threshold"]),
        training=header["training"],
        puad=_puad_from(tensors, header),
        quantile_levels=header.get("quantile_levels", QUANTILE_LEVELS),
        largest_activation=header.get("largest_activation"),
    )


def _puad_header(puad: Puad) -> dict[str, Any]:
    return {
        "picturable": [puad.picturable.mean, puad.picturable.deviation],
        "unpicturable": [puad.unpicturable.mean, puad.unpicturable.deviation],
        "weights": list(puad.weights),
        "source": puad.source,
    }


def _puad_from(tensors: dict[str, Tensor], header: dict[str, Any]) -> Puad | None:
    if header.get("puad") is None:
        return None
    puad = header["puad"]
    return Puad(
        tensors["puad_mean"],
        tensors["puad_factor"],
        Normalisation(*puad["picturable"]),
        Normalisation(*puad["unpicturable"]),
        puad["weights"],
        puad.get("source", "student"),
    )
