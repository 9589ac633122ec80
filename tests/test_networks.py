from __future__ import annotations

import pytest
import torch
from efficientad.networks import Dropout, autoencoder, initial_networks, pdn
from efficientad.randomness import Purpose, torch_seed
from efficientad.teacher import Teacher
from torch import nn
from torch.nn import functional

from efficientad_ext.architecture import (
    AveragePool,
    Convolution,
    ReLU,
    feature_grid,
    pdn_layers,
)
from efficientad_ext.inference import autoencoder_input


@pytest.mark.parametrize(
    ("size", "indices"), [("small", (0, 3, 6, 8)), ("medium", (0, 3, 6, 8, 10, 12))]
)
def test_pdn_has_the_public_keys(size, indices):
    keys = set(pdn(size, 384).state_dict())
    assert keys == {f"{index}.{kind}" for index in indices for kind in ("weight", "bias")}


def test_autoencoder_has_the_public_keys():
    convolutions = [*range(0, 11, 2), *range(12, 33, 4), 36, 38]
    keys = set(autoencoder((56, 56)).state_dict())
    assert keys == {f"{index}.{kind}" for index in convolutions for kind in ("weight", "bias")}


@pytest.mark.parametrize(
    ("network", "parameters"),
    [
        (pdn("small", 384), 2_693_248),
        (pdn("small", 768), 4_266_496),
        (pdn("medium", 384), 8_034_048),
        (pdn("medium", 768), 11_622_912),
        (autoencoder((56, 56)), 1_100_000),
    ],
)
def test_parameter_counts_are_those_of_the_paper(network, parameters):
    count = sum(parameter.numel() for parameter in network.parameters())
    assert count == pytest.approx(parameters, rel=5e-3)


def test_padded_pdn_gives_a_quarter_of_the_input():
    assert pdn("small", 384, padded=True)(torch.rand(1, 3, 256, 256)).shape == (1, 384, 64, 64)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("size", ["small", "medium"])
def test_pdn_computes_what_its_table_says(size, padded):
    """In float64 and at an odd size, against torch's functions, with the first layer's gradient."""
    network = pdn(size, 384, padded=padded).double()
    parameters = dict(network.named_parameters())
    expected = image = torch.randn(1, 3, 61, 54, dtype=torch.float64)
    for index, layer in enumerate(pdn_layers(size, 384, padded=padded)):
        match layer:
            case Convolution(_, _, _, stride, padding):
                weight, bias = parameters[f"{index}.weight"], parameters[f"{index}.bias"]
                expected = functional.conv2d(expected, weight, bias, stride, padding)
            case ReLU():
                expected = functional.relu(expected)
            case AveragePool(padding):
                expected = functional.avg_pool2d(expected, 2, 2, padding)
    actual = network(image)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-12)
    upstream = torch.randn_like(actual)
    gradients = [
        torch.autograd.grad(output, parameters["0.weight"], upstream)[0]
        for output in (actual, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("input_size", [(128, 128), (137, 200)])
def test_all_networks_share_one_grid_at_any_input_size(input_size, tiny_teacher: Teacher):
    networks = initial_networks("small", input_size, tiny_teacher.weights, 0, torch.device("cpu"))
    images = torch.rand(1, 3, *input_size)
    grid = feature_grid(*input_size)
    with torch.no_grad():
        assert networks.normalized_teacher(images).shape == (1, 384, *grid)
        assert networks.student(images).shape == (1, 768, *grid)
        assert networks.autoencoder(autoencoder_input(images)).shape == (1, 384, *grid)
        bottleneck = networks.autoencoder[:11](autoencoder_input(images))
    assert bottleneck.shape == (1, 64, 1, 1)


def test_initial_weights_are_torchs_from_a_generator_seeded_with_the_seed(tiny_teacher: Teacher):
    networks = initial_networks("small", (128, 128), tiny_teacher.weights, 5, torch.device("cpu"))
    torch.manual_seed(torch_seed(5, Purpose.INITIAL_WEIGHTS))
    for network in (networks.student, networks.autoencoder):
        for layer in network:
            if isinstance(layer, nn.Conv2d):
                expected = nn.Conv2d(layer.in_channels, layer.out_channels, layer.kernel_size)
                assert torch.equal(layer.weight, expected.weight)
                assert torch.equal(layer.bias, expected.bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_is_torchs_from_a_generator_of_its_own(dtype: torch.dtype):
    features = torch.randn(2, 64, 9, 8, dtype=dtype).contiguous(memory_format=torch.channels_last)
    dropout = Dropout(0.2, torch.Generator().manual_seed(3))
    results = []
    torch.manual_seed(3)
    for layer in (dropout, nn.Dropout(0.2)):
        x = features.clone().requires_grad_()
        output = layer(x)
        results.append((output, *torch.autograd.grad(output, x, features)))
    for actual, expected in zip(*results, strict=True):
        assert torch.equal(actual, expected)
    assert dropout.eval()(features) is features


def test_teacher_is_normalized_and_frozen(tiny_teacher: Teacher):
    networks = initial_networks("small", (128, 128), tiny_teacher.weights, 0, torch.device("cpu"))
    networks.teacher_mean.copy_(torch.rand(384))
    networks.teacher_deviation.copy_(torch.rand(384) + 0.5)
    images = torch.rand(2, 3, 128, 128)
    found = networks.normalized_teacher(images)
    assert not found.requires_grad
    plain = networks.teacher.double()(images.double())
    mean = networks.teacher_mean.double().view(1, -1, 1, 1)
    deviation = networks.teacher_deviation.double().view(1, -1, 1, 1)
    torch.testing.assert_close(found.double(), (plain - mean) / deviation, rtol=1e-4, atol=1e-5)


def test_too_small_an_input_is_refused(tiny_teacher: Teacher):
    with pytest.raises(ValueError, match="128"):
        initial_networks("small", (127, 256), tiny_teacher.weights, 0, torch.device("cpu"))
