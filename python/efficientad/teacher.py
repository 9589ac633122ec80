"""Where the teacher comes from: the package, a file of weights, or a random stand-in."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from efficientad.randomness import Purpose, generator
from efficientad.weight_files import fingerprint, read_tensors
from efficientad_ext.architecture import (
    FEATURE_CHANNELS,
    Size,
    parameter_shapes,
    pdn_layers,
    sequential_state,
)
from efficientad_ext.model_file import write_atomically

logger = logging.getLogger(__name__)

# The random teacher is the same in every run, whatever the seed of the run is.
_RANDOM_TEACHER_SEED = 0

_RECORD_KEY = "efficientad-teacher"

# weights/README.md says how they were made.
_DEFAULT_TEACHERS = Path(__file__).with_name("weights")


@dataclass(frozen=True)
class Teacher:
    """A patch description network's weights, and where they come from.

    Attributes:
        size: "small" or "medium".
        weights: the state dict of ``pdn(size, 384)``.
        source: a few words for the record, such as the file's name.
        fingerprint: a digest of the weights.
    """

    size: Size
    weights: dict[str, Tensor]
    source: str
    fingerprint: str


def load_teacher(path: Path | str, size: Size) -> Teacher:
    """Reads a teacher from a safetensors file, or a .pth or .pt file of weights alone.

    The keys may be those of a plain ``nn.Sequential`` (``0.weight``, …) or ``conv1.weight``, ….

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there is no such size, or the file is not a state dict, would have to be
            unpickled, lacks a weight, or is a teacher of the other size.
    """
    layers = pdn_layers(size, FEATURE_CHANNELS)
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the teacher file {path} does not exist")
    content = read_tensors(path)
    try:
        found = sequential_state(content, layers, f"{size} teacher")
    except ValueError as error:
        raise ValueError(f"{path} is not a {size} teacher (is --size right?): {error}") from None
    weights = {name: tensor.to(torch.float32).contiguous() for name, tensor in found.items()}
    for name, tensor in weights.items():
        if not tensor.isfinite().all():
            raise ValueError(
                f"{path} cannot be used as a teacher: {name} has NaN or infinite values"
            )
    return Teacher(size, weights, path.name, fingerprint(weights))


def named_teacher(name: str, size: Size) -> Teacher:
    """What a command line means by a teacher: "default", "random", or a file of weights.

    Errors: those of ``load_teacher``.
    """
    if name == "default":
        return default_teacher(size)
    return random_teacher(size) if name == "random" else load_teacher(name, size)


def teacher_record(path: Path) -> dict[str, Any]:
    """How the teacher in a file was made: the record that ``save_teacher`` got, else nothing."""
    if path.suffix != ".safetensors":
        return {}
    with safe_open(path, framework="pt") as file:
        return dict(json.loads((file.metadata() or {}).get(_RECORD_KEY, "{}")))


def default_teacher(size: Size) -> Teacher:
    """The teacher that comes with the package, for runs that name no other.

    It was distilled from EfficientNet-Lite2 by ``distill``, and is stored as float16.
    """
    return load_teacher(default_teacher_file(size), size)


def default_teacher_file(size: Size) -> Path:
    """Where the teacher lies that comes with the package."""
    return _DEFAULT_TEACHERS / f"teacher_{size}.safetensors"


def save_teacher(
    path: Path, weights: Mapping[str, Tensor], record: Mapping[str, Any], half: bool = False
) -> None:
    """Writes a teacher file for ``load_teacher``.

    Args:
        path: the safetensors file to write.
        weights: the state dict of ``pdn(size, 384)``, padded or not.
        record: how the teacher was made, for the file's header; JSON values.
        half: store the weights as float16, in half the space.
    """
    stored = torch.float16 if half else torch.float32
    content = {
        name: tensor.detach().cpu().to(stored).contiguous() for name, tensor in weights.items()
    }
    write_atomically(path, save(content, {_RECORD_KEY: json.dumps(dict(record))}))


def random_teacher(size: Size) -> Teacher:
    """A stand-in for a distilled teacher: random weights, always the same ones.

    Weights are normal with variance 2 / fan-in (He et al. 2015), which keeps the scale of the
    activations through the layers; biases are zero. What it detects is far from what a distilled
    teacher detects, and it says so in the log.
    """
    logger.warning(
        "the teacher is a stand-in with random weights, not a distilled one: expect results well "
        "below the published ones"
    )
    random = generator(_RANDOM_TEACHER_SEED, Purpose.RANDOM_TEACHER)
    weights = {}
    for name, shape in parameter_shapes(pdn_layers(size, FEATURE_CHANNELS)).items():
        values = np.zeros(shape)
        if name.endswith(".weight"):
            fan_in = np.prod(shape[1:])
            values = random.standard_normal(shape) * np.sqrt(2 / fan_in)
        weights[name] = torch.from_numpy(values).to(torch.float32)
    return Teacher(size, weights, "random stand-in", fingerprint(weights))
