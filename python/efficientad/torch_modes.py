"""The modes of torch that a caller may be in, and that results must not depend on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def default_modes() -> Iterator[None]:
    """Within the block, or in the function that it decorates, torch's modes are the default ones.

    That is: no ``torch.autocast``, gradients as outside of ``torch.no_grad`` and
    ``torch.inference_mode``, and new tensors in float32 and on the CPU. The caller's modes come
    back behind it. Of these, the default element type is the whole process's.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with (
            torch.device("cpu"),
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        torch.set_default_dtype(dtype)
