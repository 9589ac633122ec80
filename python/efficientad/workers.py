"""The processes that share one run: one, or as many as ``torchrun`` has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Workers:
    """This process's place among the workers.

    Attributes:
        rank: from 0; worker 0 writes the files.
        count: how many workers there are.
        device: where this one computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this worker writes files and reports."""
        return self.rank == 0

    def replicate(self, network: nn.Module) -> nn.Module:
        """The network, with gradients averaged over all workers in every backward pass."""
        if self.count == 1:
            return network
        devices = [self.device] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, devices)

    def gather(self, values: Tensor) -> list[Tensor]:
        """The tensors of all workers, in the order of their ranks; all of one shape."""
        if self.count == 1:
            return [values]
        gathered = [torch.empty_like(values) for _ in range(self.count)]
        distributed.all_gather(gathered, values.contiguous())
        return gathered

    def any(self, flag: bool) -> bool:
        """Whether the flag is set in any worker: the same answer in all of them."""
        if self.count == 1:
            return flag
        found = torch.tensor(int(flag), device=self.device)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return bool(found)


@contextmanager
def joined_workers(device: torch.device) -> Iterator[Workers]:
    """Joins the workers that ``torchrun`` has started, if it has, for the time of the block.

    Args:
        device: where to compute; among several workers, "cuda" stands for each one's own GPU.
    """
    if not distributed.is_torchelastic_launched():
        yield Workers(0, 1, device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Workers(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()
