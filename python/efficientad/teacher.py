"""Where the teacher comes from: a file of weights, or random weights as a stand-in."""

from __future__ import annotations

import hashlib
import logging
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from efficientad.randomness import Purpose, generator
from efficientad_ext.architecture import (
    FEATURE_CHANNELS,
    Size,
    parameter_shapes,
    pdn_layers,
    sequential_state,
)

logger = logging.getLogger(__name__)

# The random teacher is the same in every run, whatever the seed of the run is.
_RANDOM_TEACHER_SEED = 0


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
        ValueError: if the file is not a state dict, would have to be unpickled, lacks a weight, or
            is a teacher of the other size.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"the teacher file {path} does not exist")
    layers = pdn_layers(size, FEATURE_CHANNELS)
    content = _read_tensors(path)
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
    return Teacher(size, weights, path.name, _fingerprint(weights))


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
    return Teacher(size, weights, "random stand-in", _fingerprint(weights))


def _read_tensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    content: Any
    if path.suffix == ".safetensors":
        try:
            content = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a complete safetensors file: {error}") from None
    elif path.suffix in (".pth", ".pt"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            raise ValueError(
                f"{path} holds more than weights and would have to be unpickled, which can run any "
                "code; save the network's state_dict() and give that file"
            ) from None
        except (RuntimeError, EOFError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{path} is not a file of weights that torch reads: {reason}"
            ) from None
    else:
        raise ValueError(
            f"{path} has the suffix {path.suffix!r}; expected .safetensors, .pth or .pt"
        )
    if not isinstance(content, dict) or not all(isinstance(v, Tensor) for v in content.values()):
        raise ValueError(
            f"{path} is not a state dict (names and tensors); save state_dict() instead"
        )
    return content


def _fingerprint(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
