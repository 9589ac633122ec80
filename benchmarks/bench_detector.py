"""End to end, from an image in memory to its full-size map and score."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from efficientad.networks import Networks, initial_networks
from efficientad.teacher import random_teacher
from torch.nn import functional

from efficientad_ext import Detector, reference

SIZE = (256, 256)
QUANTILES = (0.5, 1.5, 0.5, 1.5)

# On both sides nearly all of the time goes to torch's convolutions, for now.
NOT_SLOWER = 0.95


@pytest.fixture(scope="module")
def networks(device) -> Networks:
    return initial_networks("small", SIZE, random_teacher("small").weights, 0, device)


@pytest.fixture(scope="module")
def detector(device, networks) -> Detector:
    model = dataclasses.replace(networks.as_model("small", SIZE, {}), quantiles=QUANTILES)
    return Detector(model, device)


@torch.no_grad()
def plain_torch(networks: Networks, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same detection from torch's operations, channels-last and in float32."""
    pixels = images.movedim(-1, 1).float() / 255
    resized = functional.interpolate(
        pixels, size=SIZE, mode="bilinear", align_corners=False, antialias=True
    )
    mean, deviation = (
        torch.tensor(values, device=images.device).view(1, 3, 1, 1)
        for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    x = ((resized - mean) / deviation).contiguous(memory_format=torch.channels_last)
    teacher = networks.normalized_teacher(x)
    student = networks.student(x)
    autoencoder = networks.autoencoder.eval()(x)
    local_map = (teacher - student[:, :384]).square().mean(dim=1, keepdim=True)
    global_map = (autoencoder - student[:, 384:]).square().mean(dim=1, keepdim=True)
    return reference.normalize_and_combine(local_map, global_map, QUANTILES, SIZE)


@pytest.mark.parametrize("batch", [1, 16])
def test_end_to_end(compare, device, networks, detector, batch):
    images = torch.randint(0, 256, (batch, 480, 640, 3), dtype=torch.uint8, device=device)
    compare(
        f"detector small batch {batch}",
        lambda: detector(images),
        lambda: plain_torch(networks, images),
        floor=NOT_SLOWER,
    )
