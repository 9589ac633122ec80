"""The state of an unfinished training run in one safetensors file; nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from efficientad.networks import Networks
from efficientad_ext.model_file import write_atomically

FORMAT = "efficientad-checkpoint"
FORMAT_VERSION = 1

Settings: TypeAlias = Mapping[str, str | int | float | bool | None]

_MOMENTS = ("exp_avg", "exp_avg_sq")


def checkpoint_path(output: Path) -> Path:
    """Where the checkpoint of a run lies that is to write ``output``."""
    return output.with_name(output.name + ".checkpoint")


def save_checkpoint(
    path: Path, networks: Networks, optimizer: torch.optim.Adam, step: int, settings: Settings
) -> None:
    """Writes everything that the rest of the run depends on; the previous file stays until then.

    Args:
        path: where to.
        networks: the student, the autoencoder and the teacher's statistics are saved; the teacher
            itself is named by its fingerprint in ``settings``.
        optimizer: Adam over the student and the autoencoder.
        step: the number of steps done.
        settings: what the run must agree on when it is resumed.
    """
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "step": str(step),
        "settings": json.dumps(dict(settings)),
    }
    tensors = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in _tensors(networks, optimizer).items()
    }
    write_atomically(path, save(tensors, metadata))


def restore_checkpoint(
    path: Path, networks: Networks, optimizer: torch.optim.Adam, settings: Settings
) -> int:
    """Brings the networks and the optimizer to the state in the file; returns the steps done.

    Raises:
        ValueError: if the file is not a whole checkpoint, or was made with other settings.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"{path} is not a checkpoint of a training run; delete or move it")
            _check_version(path, metadata["format_version"])
            _check_settings(path, json.loads(metadata["settings"]), settings)
            for name, tensor in _tensors(networks, optimizer).items():
                with torch.no_grad():
                    tensor.copy_(file.get_tensor(name))
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole checkpoint ({error}); delete it to start again"
        ) from None
    return int(metadata["step"])


def _check_version(path: Path, version: str) -> None:
    if int(version) > FORMAT_VERSION:
        raise ValueError(
            f"{path} was written by a newer version (format {version}; this one reads up to "
            f"{FORMAT_VERSION}); upgrade, or delete it to start again"
        )


def _check_settings(path: Path, found: Settings, wanted: Settings) -> None:
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            raise ValueError(
                f"{path} belongs to a run with another setting: {name} is {found.get(name)} there "
                f"and {wanted.get(name)} here; use the same settings, or delete it to start again"
            )


def _tensors(networks: Networks, optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """The tensors of the state by name; those that Adam has not made yet are made, as zeros."""
    tensors = {
        "teacher_mean": networks.teacher_mean,
        "teacher_deviation": networks.teacher_deviation,
    }
    for network in ("student", "autoencoder"):
        for name, parameter in getattr(networks, network).named_parameters():
            tensors[f"{network}.{name}"] = parameter
            state = optimizer.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                for moment in _MOMENTS:
                    state[moment] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
            tensors[f"adam.step.{network}.{name}"] = state["step"]
            for moment in _MOMENTS:
                tensors[f"adam.{moment}.{network}.{name}"] = state[moment]
    return tensors
