"""The tables against the networks as the paper's appendix lists them, and the feature geometry."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from efficientad_ext.architecture import (
    FEATURE_STRIDE,
    FIRST_FEATURE_CENTRE,
    RECEPTIVE_FIELD,
    AveragePool,
    Convolution,
    Dropout,
    Layer,
    Layers,
    ReLU,
    Upsample,
    autoencoder_layers,
    blind_border,
    check_input_size,
    feature_grid,
    named_layout,
    parameter_shapes,
    pdn_layers,
    sequential_state,
)


def expected_pdn(size: str, out: int, padded: bool) -> nn.Sequential:
    three, one = (3, 1) if padded else (0, 0)
    first, second = (128, 256) if size == "small" else (256, 512)
    body = [
        nn.Conv2d(3, first, 4, padding=three),
        nn.ReLU(),
        nn.AvgPool2d(2, 2, padding=one),
        nn.Conv2d(first, second, 4, padding=three),
        nn.ReLU(),
        nn.AvgPool2d(2, 2, padding=one),
    ]
    if size == "small":
        head = [nn.Conv2d(256, 256, 3, padding=one), nn.ReLU(), nn.Conv2d(256, out, 4)]
    else:
        head = [
            nn.Conv2d(512, 512, 1),
            nn.ReLU(),
            nn.Conv2d(512, 512, 3, padding=one),
            nn.ReLU(),
            nn.Conv2d(512, out, 4),
            nn.ReLU(),
            nn.Conv2d(out, out, 1),
        ]
    return nn.Sequential(*body, *head)


def expected_autoencoder(grid: tuple[int, int]) -> nn.Sequential:
    encoder: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 64)):
        encoder += [nn.Conv2d(inputs, outputs, 4, 2, 1), nn.ReLU()]
    encoder.append(nn.Conv2d(64, 64, 8))
    decoder: list[nn.Module] = []
    for edge in (3, 8, 15, 32, 63, 127):
        decoder += [
            nn.Upsample((edge, edge), mode="bilinear"),
            nn.Conv2d(64, 64, 4, 1, 2),
            nn.ReLU(),
            nn.Dropout(0.2),
        ]
    return nn.Sequential(
        *encoder,
        *decoder,
        nn.Upsample(grid, mode="bilinear"),
        nn.Conv2d(64, 64, 3, 1, 1),
        nn.ReLU(),
        nn.Conv2d(64, 384, 3, 1, 1),
    )


def describes(layer: Layer, module: nn.Module) -> bool:
    if isinstance(module, nn.Conv2d):
        square = module.kernel_size[0]
        return layer == Convolution(
            module.in_channels,
            module.out_channels,
            square,
            module.stride[0],
            int(module.padding[0]),
        )
    if isinstance(module, nn.AvgPool2d):
        return layer == AveragePool(int(module.padding))
    if isinstance(module, nn.Upsample):
        return isinstance(layer, Upsample) and layer.size == module.size
    if isinstance(module, nn.Dropout):
        return layer == Dropout(module.p)
    return isinstance(module, nn.ReLU) and layer == ReLU()


def assert_describes(layers: Layers, network: nn.Sequential) -> None:
    assert len(layers) == len(network)
    for index, (layer, module) in enumerate(zip(layers, network, strict=True)):
        assert describes(layer, module), (index, layer, module)
    assert parameter_shapes(layers) == {
        key: tuple(value.shape) for key, value in network.state_dict().items()
    }
    assert list(parameter_shapes(layers)) == list(network.state_dict())


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("out_channels", [384, 768])
@pytest.mark.parametrize("size", ["small", "medium"])
def test_pdn_is_the_papers(size, out_channels, padded):
    assert_describes(
        pdn_layers(size, out_channels, padded=padded), expected_pdn(size, out_channels, padded)
    )


@pytest.mark.parametrize("grid", [(56, 56), (24, 32)])
def test_autoencoder_is_the_papers(grid):
    network = expected_autoencoder(grid)
    assert_describes(autoencoder_layers(grid), network)
    with torch.no_grad():
        output = network(torch.rand(1, 3, 256, 256))
        bottleneck = network[:11](torch.rand(1, 3, 256, 256))
    assert tuple(output.shape) == (1, 384, *grid)
    assert bottleneck.numel() == 64


def test_unknown_size_is_an_error():
    with pytest.raises(ValueError, match=r"'large'; expected .small. or .medium."):
        pdn_layers("large", 384)


@pytest.mark.parametrize("size", ["small", "medium"])
def test_feature_grid_is_what_the_network_makes(size):
    channels = {3: 3}
    network = nn.Sequential(
        *(
            nn.Conv2d(channels.get(layer.in_channels, 1), 1, layer.kernel)
            if isinstance(layer, Convolution)
            else nn.AvgPool2d(2, 2)
            if isinstance(layer, AveragePool)
            else nn.ReLU()
            for layer in pdn_layers(size, 384)
        )
    )
    with torch.no_grad():
        for height in range(RECEPTIVE_FIELD, RECEPTIVE_FIELD + 5):
            for width in (RECEPTIVE_FIELD, 128, 131):
                made = network(torch.rand(1, 3, height, width)).shape[2:]
                assert feature_grid(height, width) == tuple(made)
    assert feature_grid(256, 256) == (56, 56)


def test_feature_grid_of_less_than_a_receptive_field_is_an_error():
    with pytest.raises(ValueError, match=r"32x200.*33x33"):
        feature_grid(32, 200)


def test_feature_centres_are_where_the_gradient_says():
    """Positive weights: a feature depends exactly on the pixels in its receptive field."""
    network = expected_pdn("small", 384, padded=False).double()
    # One channel of each layer is enough, and much faster.
    thin = nn.Sequential(
        *(
            nn.Conv2d(1, 1, module.kernel_size).double()
            if isinstance(module, nn.Conv2d)
            else module
            for module in network
        )
    )
    for parameter in thin.parameters():
        nn.init.uniform_(parameter, 0.5, 1.0)
    height, width = 47, 54
    rows, columns = feature_grid(height, width)
    for i in range(rows):
        for j in range(columns):
            image = torch.rand(1, 1, height, width, dtype=torch.float64, requires_grad=True)
            thin(image)[0, 0, i, j].backward()
            touched = image.grad[0, 0].nonzero()
            first, last = touched.amin(0), touched.amax(0)
            assert (last - first + 1).tolist() == [RECEPTIVE_FIELD] * 2
            centre = ((first + last) / 2).tolist()
            assert centre == [
                FIRST_FEATURE_CENTRE + FEATURE_STRIDE * i,
                FIRST_FEATURE_CENTRE + FEATURE_STRIDE * j,
            ]


@pytest.mark.parametrize(("height", "width"), [(256, 256), (128, 131), (130, 129), (33, 512)])
def test_blind_border_is_outside_all_centres(height, width):
    rows, columns = feature_grid(height, width)
    border = blind_border(height, width)
    centres_y = [16 + 4 * i for i in range(rows)]
    centres_x = [16 + 4 * j for j in range(columns)]
    assert [border.top, border.left] == [min(centres_y), min(centres_x)]
    assert border.bottom == len(range(max(centres_y) + 1, height))
    assert border.right == len(range(max(centres_x) + 1, width))


@pytest.mark.parametrize("size", [(127, 256), (256, 127), (1, 1)])
def test_too_small_input_is_an_error(size):
    with pytest.raises(ValueError, match=f"{size[0]}x{size[1]} pixels; expected at least 128x128"):
        check_input_size(*size)
    check_input_size(128, 128)


def random_state(layers: Layers) -> dict[str, torch.Tensor]:
    return {key: torch.randn(shape) for key, shape in parameter_shapes(layers).items()}


@pytest.mark.parametrize(
    ("layers", "some_names"),
    [
        (pdn_layers("small", 384), {"conv1.weight": "0.weight", "conv4.bias": "8.bias"}),
        (pdn_layers("medium", 384), {"conv2.weight": "3.weight", "conv6.bias": "12.bias"}),
        (
            autoencoder_layers((56, 56)),
            {
                "encoder.enconv1.weight": "0.weight",
                "encoder.enconv6.bias": "10.bias",
                "decoder.deconv1.weight": "12.weight",
                "decoder.deconv6.weight": "32.weight",
                "decoder.deconv7.weight": "36.weight",
                "decoder.deconv8.bias": "38.bias",
            },
        ),
    ],
    ids=["small", "medium", "autoencoder"],
)
def test_both_public_layouts_are_read(layers, some_names):
    state = random_state(layers)
    names = named_layout(layers)
    assert some_names.items() <= names.items()
    renamed = {name: state[key] for name, key in names.items()}
    assert len(renamed) == len(state)
    shuffled = dict(sorted(renamed.items(), key=lambda item: item[0][::-1]))
    for given in (state, shuffled):
        read = sequential_state(given, layers, "network")
        assert list(read) == list(state)
        assert all(read[key] is state[key] for key in state)


def test_foreign_state_is_an_error():
    layers = pdn_layers("small", 384)
    state = random_state(layers)
    without = {key: value for key, value in state.items() if key != "6.bias"}
    with pytest.raises(ValueError, match=r"teacher: 6.bias is missing"):
        sequential_state(without, layers, "teacher")
    with pytest.raises(ValueError, match="teacher: extra is unknown"):
        sequential_state({**state, "extra": torch.zeros(1)}, layers, "teacher")
    wide = random_state(pdn_layers("small", 768))
    with pytest.raises(ValueError, match=r"8.weight of the teacher has shape \(768, .*\(384, "):
        sequential_state(wide, layers, "teacher")
