"""Networks pretrained on ImageNet, from which a teacher is distilled."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

from efficientad.arguments import check_choice
from efficientad.backbones.efficientnet_lite2 import EfficientNetLite2, installed_weights
from efficientad.backbones.wide_resnet101_2 import WideResNet101
from efficientad.torch_modes import default_modes
from efficientad.weight_files import read_tensors

BackboneName: TypeAlias = Literal["efficientnet_lite2", "wide_resnet101_2"]
BACKBONES: tuple[BackboneName, ...] = ("efficientnet_lite2", "wide_resnet101_2")

Backbone: TypeAlias = EfficientNetLite2 | WideResNet101


@default_modes()
def load_backbone(name: BackboneName, weights: Path | str | None = None) -> Backbone:
    """A pretrained network, frozen, whose forward pass gives its features at strides 8 and 16.

    Args:
        name: "efficientnet_lite2" or "wide_resnet101_2".
        weights: a file of its weights: safetensors, or .pth or .pt with a state dict. May be left
            out for efficientnet_lite2 where the extra ``[distill]`` is installed.

    Raises:
        FileNotFoundError: if there is no such file, or none is given and none installed.
        ValueError: for another name, or if the file is not the weights of that network.
    """
    check_choice("backbone", name, BACKBONES)
    if weights is None and name == "wide_resnet101_2":
        raise FileNotFoundError(
            "wide_resnet101_2 needs a file of its weights, such as the one that torchvision "
            "downloads; give it with --backbone-weights"
        )
    path = installed_weights() if weights is None else Path(weights)
    state = read_tensors(path)
    network = EfficientNetLite2 if name == "efficientnet_lite2" else WideResNet101
    try:
        return network(state).eval()
    except ValueError as error:
        raise ValueError(f"{path} does not fit --backbone {name}: {error}") from None
