"""Files of weights from elsewhere, read without unpickling anything but tensors."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads a safetensors file, or a .pth or .pt file of weights alone: tensors by name.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is not a state dict, is not whole, or would have to be unpickled.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the weights file {path} does not exist")
    content: Any
    if path.suffix == ".safetensors":
        try:
            content = load_file(path)
        except SafetensorError as error:
            raise ValueError(f"{path} is not a complete safetensors file: {error}") from None
    elif path.suffix in (".pth", ".pt"):
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # unpickling raises nearly anything on what is no pickle
            if isinstance(error, pickle.UnpicklingError) and "Unsupported global" in str(error):
                raise ValueError(
                    f"{path} holds more than weights and would have to be unpickled, which can run "
                    "any code; save the network's state_dict() and give that file"
                ) from None
            raise ValueError(
                f"{path} is not a file of weights that torch reads, or it is damaged"
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


def fingerprint(weights: Mapping[str, Tensor]) -> str:
    """A short digest of named weights."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
