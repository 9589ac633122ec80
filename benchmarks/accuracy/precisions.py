"""What fewer bits cost: image AU-ROC and error of the map by precision, on a labelled test set.

    python benchmarks/accuracy/precisions.py MODEL DATA [--precisions NAME...] [--stride N]
        [--output FILE.json]

float32 is what the others are compared with. int8 is simulated on torch's convolutions in float32:
weights rounded to 8 bits by output channel, feature maps to 8 bits by layer, their ranges the
largest values on the validation images, and all networks' last layers left as they are. Every
precision takes the model's calibration as it is.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from efficientad.datasets import find_test_set
from efficientad.metrics import image_auroc
from efficientad.progress import with_progress
from efficientad.run_images import find_normal_images
from torch import Tensor
from torch.nn import functional

from efficientad_ext import ops
from efficientad_ext.architecture import AveragePool, Convolution, ReLU, Upsample
from efficientad_ext.detector import Detector
from efficientad_ext.engine import Engine
from efficientad_ext.images import load_image
from efficientad_ext.inference import Networks
from efficientad_ext.model_file import Model, load_model

PRECISIONS = ("bfloat16", "float16", "int8")
RANGE_IMAGES = 32  # validation images that the ranges of feature maps are taken from


class Simulated8Bits(Networks):
    """The networks with feature maps and weights rounded to 8 bits."""

    def __init__(self, model: Model, images: Sequence[Tensor]) -> None:
        super().__init__(model, torch.device("cpu"), torch.float32, images_per_pass=1)
        self._ranges: dict[tuple[str, int], float] = {}
        self._measuring = True
        for parameters in self._parameters.values():
            for key in list(parameters)[:-2:2]:  # not the last layer's
                parameters[key] = rounded_weight(parameters[key])
        for image in images:
            self(image)
        self._measuring = False

    def _features(self, network: str, x: Tensor) -> Tensor:
        layers, parameters = self._layers[network], self._parameters[network]
        convolutions = [i for i, layer in enumerate(layers) if isinstance(layer, Convolution)]
        for index, layer in enumerate(layers):
            if isinstance(layer, Convolution):
                if index not in (convolutions[0], convolutions[-1]):
                    x = self._rounded(x, (network, index))
                weight, bias = parameters[f"{index}.weight"], parameters[f"{index}.bias"]
                x = functional.conv2d(x, weight, bias, layer.stride, layer.padding)
            elif isinstance(layer, ReLU):
                x = functional.relu(x)
            elif isinstance(layer, AveragePool):
                x = functional.avg_pool2d(x, 2, 2, layer.padding)
            elif isinstance(layer, Upsample):
                x = ops.upsample_bilinear(x, layer.size)
        return x

    def _rounded(self, x: Tensor, layer: tuple[str, int]) -> Tensor:
        if self._measuring:
            largest = float(x.abs().amax())
            self._ranges[layer] = max(self._ranges.get(layer, 0.0), largest)
            return x
        # Behind a ReLU nothing is negative: 255 steps above zero.
        lowest, steps = (0, 255) if bool((x >= 0).all()) else (-127, 127)
        step = self._ranges[layer] / steps
        return (x / step).round().clamp(lowest, steps) * step


def rounded_weight(weight: Tensor) -> Tensor:
    step = weight.abs().amax(dim=(1, 2, 3), keepdim=True).clamp(min=1e-12) / 127
    return (weight / step).round() * step


def with_networks(model: Model, networks: Networks | Engine) -> Detector:
    detector = Detector(model, precision="float32")
    detector._networks = networks
    return detector


def simulated_8_bits(model: Model, data: Path) -> Networks:
    _, validation = find_normal_images(data, model.input_size, model.training["seed"])
    images = [
        ops.resize_normalize(torch.from_numpy(load_image(path)), model.input_size)
        for path in validation[:RANGE_IMAGES]
    ]
    return Simulated8Bits(model, images)


def detectors(model: Model, data: Path, precisions: Sequence[Any]) -> dict[str, Detector]:
    found = {"float32": Detector(model, precision="float32")}
    for precision in precisions:
        found[precision] = with_networks(
            model,
            simulated_8_bits(model, data)
            if precision == "int8"
            else Engine(model, precision=precision, batch_size=1, features=True),
        )
    return found


def measure(
    model: Model, data: Path, stride: int, precisions: Sequence[str]
) -> dict[str, dict[str, float]]:
    found = detectors(model, data, precisions)
    scores: dict[str, dict[str, list[float]]] = {
        name: {"score": [], "picturable_score": []} for name in found
    }
    differences = dict.fromkeys(found, 0.0)
    norm, anomalous = 0.0, []
    for image in with_progress("precisions", "image", find_test_set(data).images[::stride]):
        pixels = load_image(image.path)
        anomalous.append(image.anomalous)
        expected = None
        for name, detector in found.items():
            detection = detector(pixels)
            expected = detection.map if expected is None else expected
            differences[name] += float((detection.map - expected).square().sum())
            for score, values in scores[name].items():
                values.append(float(getattr(detection, score)[0]))
        assert expected is not None
        norm += float(expected.square().sum())
    return {
        name: {
            "map error": (differences[name] / norm) ** 0.5,
            **{score: image_auroc(values, anomalous) for score, values in scores[name].items()},
        }
        for name in found
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path, help="the folder that the model was trained on")
    parser.add_argument("--precisions", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--stride", type=int, default=1, help="take every so many-th test image")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    figures: dict[str, Any] = measure(
        load_model(arguments.model), arguments.data, arguments.stride, arguments.precisions
    )
    for name, figure in figures.items():
        print(
            f"{name:9} image AU-ROC {100 * figure['score']:.2f}, EfficientAD alone "
            f"{100 * figure['picturable_score']:.2f}, map error {figure['map error']:.1e}"
        )
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
