"""The state of an unfinished run in one safetensors file; nothing is pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from efficientad.output import require_file_place
from efficientad_ext.model_file import write_atomically

FORMAT = "efficientad-checkpoint"
FORMAT_VERSION = 2

Settings: TypeAlias = Mapping[str, str | int | float | bool | None]

_MOMENTS = ("exp_avg", "exp_avg_sq")


def checkpoint_path(output: Path) -> Path:
    """Where the checkpoint of a run lies that is to write ``output``."""
    return output.with_name(output.name + ".checkpoint")


def check_output(output: Path, resume: bool) -> None:
    """Raises an error where a run could not write its output, or would overwrite a checkpoint.

    Raises:
        FileNotFoundError, ValueError, OSError: see ``require_file_place``.
        FileExistsError: if there is a checkpoint, but ``resume`` is not asked for.
    """
    require_file_place(output)
    checkpoint = checkpoint_path(output)
    if checkpoint.exists() and not resume:
        raise FileExistsError(
            f"{checkpoint} holds an unfinished run; continue it with --resume, or delete it"
        )


def adam_state(parameters: Mapping[str, Tensor], optimizer: torch.optim.Adam) -> dict[str, Tensor]:
    """The parameters and Adam's moments by name; moments not made yet are made, as zeros."""
    tensors = {}
    for name, parameter in parameters.items():
        tensors[name] = parameter
        state = optimizer.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            for moment in _MOMENTS:
                state[moment] = torch.zeros_like(parameter, memory_format=torch.preserve_format)
        tensors[f"adam.step.{name}"] = state["step"]
        for moment in _MOMENTS:
            tensors[f"adam.{moment}.{name}"] = state[moment]
    return tensors


class Progress(NamedTuple):
    """How far a run is: the steps done, and what else it wants to know again, as JSON values."""

    step: int
    record: Mapping[str, Any] = MappingProxyType({})


def save_checkpoint(
    path: Path, tensors: Mapping[str, Tensor], progress: Progress, settings: Settings
) -> None:
    """Writes everything that the rest of the run depends on; the previous file stays until then.

    Args:
        path: where to.
        tensors: the state of the run, such as ``adam_state`` and statistics.
        progress: how far the run is.
        settings: what the run must agree on when it is resumed.
    """
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "step": str(progress.step),
        "record": json.dumps(dict(progress.record)),
        "settings": json.dumps(dict(settings)),
    }
    content = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(content, metadata))


def restore_checkpoint(path: Path, tensors: Mapping[str, Tensor], settings: Settings) -> Progress:
    """Fills the tensors with the state in the file; returns how far the run is.

    Raises:
        ValueError: if the file is not a whole checkpoint, or was made with other settings.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT:
                raise ValueError(f"{path} is not a checkpoint of a training run; delete or move it")
            _check_version(path, metadata["format_version"])
            check_settings(path, json.loads(metadata["settings"]), settings)
            with torch.no_grad():
                for name, tensor in tensors.items():
                    tensor.copy_(file.get_tensor(name))
    except SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole checkpoint ({error}); delete it to start again"
        ) from None
    return Progress(int(metadata["step"]), json.loads(metadata["record"]))


def _check_version(path: Path, version: str) -> None:
    if int(version) != FORMAT_VERSION:
        raise ValueError(
            f"{path} was written by another version of this program (format {version}; this one "
            f"reads {FORMAT_VERSION}); use that one, or delete it to start again"
        )


def check_settings(path: Path, found: Settings, wanted: Settings) -> None:
    """Raises ValueError if the run that left this file was to do something else."""
    for name in {**wanted, **found}:
        if found.get(name) != wanted.get(name):
            raise ValueError(
                f"{path} belongs to a run with another setting: {name} is {found.get(name)} there "
                f"and {wanted.get(name)} here; use the same settings, or delete it to start again"
            )
