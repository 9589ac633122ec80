"""What PUAD's second score costs: a detection with it, and the same steps without its feature."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from efficientad.networks import initial_networks
from efficientad.teacher import random_teacher

from efficientad_ext import Detector, ops
from efficientad_ext.architecture import FEATURE_CHANNELS
from efficientad_ext.engine import Engine
from efficientad_ext.model_file import Model
from efficientad_ext.puad import Normalisation, Puad

SIZE = (256, 256)
QUANTILES = (0.5, 1.5, 0.5, 1.5)

AT_MOST_5_PERCENT_MORE = 0.952  # 1 / 1.05, rounded


@pytest.fixture(scope="module")
def model(device) -> Model:
    if device.type != "cpu":
        pytest.skip("on a GPU the engine pools the feature within its graph")
    networks = initial_networks("small", SIZE, random_teacher("small").weights, 0, device)
    return dataclasses.replace(
        networks.as_model("small", SIZE, {}), quantiles=QUANTILES, puad=random_puad()
    )


def random_puad() -> Puad:
    samples = torch.randn(500, FEATURE_CHANNELS, dtype=torch.float64)
    factor = torch.linalg.cholesky(samples.T @ samples / len(samples))
    neutral = Normalisation(0.0, 1.0)
    return Puad(torch.zeros(FEATURE_CHANNELS, dtype=torch.float64), factor, neutral, neutral)


def test_cost_of_puad(compare, model):
    # Several, which the detector takes one after the other: the engine's calls vary by percents.
    images = torch.randint(0, 256, (4, 480, 640, 3), dtype=torch.uint8)
    detector = Detector(model, precision="float32")
    # A detector of a model without PUAD would not do: it computes the pooled feature all the same.
    engine = Engine(model, precision="float32", batch_size=1)

    def without() -> torch.Tensor:
        return torch.cat([engine(ops.resize_normalize(image, SIZE)).map for image in images])

    torch.testing.assert_close(without(), detector(images).map)
    compare(
        "puad small batch 1",
        lambda: detector(images),
        without,
        floor=AT_MOST_5_PERCENT_MORE,
    )
