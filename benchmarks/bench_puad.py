"""What PUAD's second score costs: a detection with it, and the same steps without its feature."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from efficientad.networks import initial_networks
from efficientad.teacher import random_teacher

from efficientad_ext import Detector, ops
from efficientad_ext.architecture import FEATURE_CHANNELS
from efficientad_ext.inference import forward, with_output_normalisation
from efficientad_ext.model_file import Model, model_layers
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


class WithoutPuad:
    """The steps of a detection, from image to map and EfficientAD's score, and no others.

    A `Detector` of a model without PUAD would not do: it computes the pooled feature all the same.
    """

    def __init__(self, model: Model) -> None:
        teacher = with_output_normalisation(
            model.teacher, model.teacher_mean, model.teacher_deviation
        )
        self._layers = model_layers("small", SIZE)
        self._parameters = {
            name: {
                key: value.contiguous(memory_format=torch.channels_last)
                if value.dim() == 4
                else value
                for key, value in parameters.items()
            }
            for name, parameters in (
                ("teacher", teacher),
                ("student", model.student),
                ("autoencoder", model.autoencoder),
            )
        }

    @torch.no_grad()
    def __call__(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = ops.resize_normalize(image, SIZE).contiguous(memory_format=torch.channels_last)
        teacher, student, autoencoder = (
            forward(self._layers[name], parameters, x)
            for name, parameters in self._parameters.items()
        )
        local_map = ops.squared_difference_map(teacher, student[:, :FEATURE_CHANNELS])
        global_map = ops.squared_difference_map(autoencoder, student[:, FEATURE_CHANNELS:])
        return ops.normalize_and_combine(local_map, global_map, QUANTILES, SIZE, input_size=SIZE)


def test_cost_of_puad(compare, model):
    image = torch.randint(0, 256, (1, 480, 640, 3), dtype=torch.uint8)
    detector, without = Detector(model), WithoutPuad(model)
    torch.testing.assert_close(without(image[0])[0], detector(image[0]).map)
    compare(
        "puad small batch 1",
        lambda: detector(image[0]),
        lambda: without(image[0]),
        floor=AT_MOST_5_PERCENT_MORE,
    )
