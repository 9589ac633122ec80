from __future__ import annotations

import numpy as np
import pytest
import torch
from efficientad.procedural import coloured_noise, dead_leaves, procedural_image
from torch import Tensor


def images(count: int, size: tuple[int, int] = (128, 128)) -> list[Tensor]:
    return [procedural_image(size, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize("size", [(128, 128), (130, 201)])
def test_images_have_the_size_and_range_of_pixels(size: tuple[int, int]):
    for image in images(12, size):
        assert image.shape == (3, *size)
        assert image.dtype == torch.float32
        assert image.is_contiguous()
        assert image.min() >= 0
        assert image.max() <= 1
        assert image.std() > 0.02


def test_the_generator_decides_everything():
    one, again = images(6), images(6)
    assert all(torch.equal(image, other) for image, other in zip(one, again, strict=True))
    assert not torch.equal(one[0], one[1])


def test_together_they_have_the_brightness_and_the_colours_of_no_particular_thing():
    together = torch.stack(images(40))
    assert 0.35 < together.mean() < 0.65
    assert 0.15 < together.std() < 0.35
    saturation = together.amax(1) - together.amin(1)
    assert 0.05 < saturation.mean() < 0.5


def spectral_slope(plane: np.ndarray) -> float:
    """The exponent of frequency that fits the amplitudes, over two octaves and all directions."""
    size = plane.shape[0]
    window = np.hanning(size)[:, None] * np.hanning(size)
    amplitude = np.abs(np.fft.fft2((plane - plane.mean()) * window))
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    inside = (frequency > 1 / 16) & (frequency < 1 / 4)
    return float(np.polyfit(np.log(frequency[inside]), np.log(amplitude[inside]), 1)[0])


@pytest.mark.parametrize("kind", ["noise", "leaves", "textured leaves"])
def test_amplitudes_fall_about_as_one_over_frequency(kind: str):
    slopes = []
    for seed in range(12):
        random = np.random.default_rng(seed)
        if kind == "noise":
            pixels = coloured_noise((128, 128), random)
        else:
            pixels = dead_leaves((128, 128), random, textured=kind == "textured leaves")
        slopes.append(spectral_slope(pixels.mean(-1)))
    assert min(slopes) > -1.9
    assert max(slopes) < -0.4
    assert -1.6 < np.mean(slopes) < -0.8


def test_noise_has_mean_zero_and_deviation_one():
    noise = coloured_noise((96, 130), np.random.default_rng(3))
    assert noise.shape == (96, 130, 3)
    assert abs(float(noise.mean())) < 1e-3
    assert float(noise.std()) == pytest.approx(1, abs=1e-4)


def test_leaves_are_of_one_colour_each_unless_textured():
    def share_of_equal_neighbours(textured: bool) -> float:
        pixels = dead_leaves((128, 128), np.random.default_rng(4), textured)
        return float((pixels[:, 1:] == pixels[:, :-1]).all(-1).mean())

    assert share_of_equal_neighbours(textured=False) > 0.6
    assert share_of_equal_neighbours(textured=True) < 0.2
