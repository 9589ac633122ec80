"""End to end, from an image in memory to its full-size map and score."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from efficientad.networks import Networks, initial_networks
from efficientad.teacher import random_teacher
from plain_detector import QUANTILES, PlainDetector

from efficientad_ext import Detector
from efficientad_ext.model_file import Model

SIZE = (256, 256)

# In float32 the engine multiplies a quarter as often; in bfloat16 both sides' convolutions are
# alike.
TWICE, NOT_SLOWER = 2.0, 0.95


@pytest.fixture(scope="module")
def networks(device) -> Networks:
    return initial_networks("small", SIZE, random_teacher("small").weights, 0, device)


@pytest.fixture(scope="module")
def model(networks) -> Model:
    return dataclasses.replace(networks.as_model("small", SIZE, {}), quantiles=QUANTILES)


@pytest.mark.parametrize(
    ("batch", "precision", "name"),
    [
        (1, "float32", "detector small batch 1"),
        (16, "float32", "detector small batch 16"),
        (1, "bfloat16", "detector small batch 1 bfloat16"),
    ],
)
@torch.no_grad()
def test_end_to_end(compare, device, networks, model, batch, precision, name):
    detector = Detector(model, device, precision=precision)
    plain = PlainDetector(copy.deepcopy(networks), SIZE, getattr(torch, precision))
    images = torch.randint(0, 256, (batch, 480, 640, 3), dtype=torch.uint8, device=device)
    compare(
        name,
        lambda: detector(images),
        lambda: plain(images),
        floor=TWICE if precision == "float32" and device.type == "cpu" else NOT_SLOWER,
    )
