"""The losses of EfficientAD's training step (section 3.2 to 3.4 of the paper, and its appendix)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from efficientad.convolution import convolution
from efficientad.networks import Networks, full_precision
from efficientad_ext import ops
from efficientad_ext.architecture import FEATURE_CHANNELS
from efficientad_ext.inference import autoencoder_input

P_HARD = 0.999


@dataclass(frozen=True)
class Losses:
    """The scalar losses of one step.

    ``hard`` is the hard feature loss, ``penalty`` the pretraining penalty (None in a run without
    penalty images), ``autoencoder`` L_AE and ``student_autoencoder`` L_STAE.
    """

    hard: Tensor
    penalty: Tensor | None
    autoencoder: Tensor
    student_autoencoder: Tensor

    @property
    def total(self) -> Tensor:
        """The sum, which the student and the autoencoder minimise together."""
        total = self.hard + self.autoencoder + self.student_autoencoder
        return total if self.penalty is None else total + self.penalty


def training_losses(
    networks: Networks,
    image: Tensor,
    augmented: Tensor,
    penalty: Tensor | None,
    p_hard: float = P_HARD,
) -> Losses:
    """The losses of a batch of training images I, their augmented versions I', and images P.

    Args:
        networks: teacher, student and autoencoder.
        image: I, (N, 3, H, W), normalised.
        augmented: I', likewise.
        penalty: P, likewise; None for a run without penalty images.
        p_hard: of which quantile of the squared differences on those above make the hard feature
            loss, in [0, 1); with 0 it is the mean of all of them.
    """
    count = image.shape[0]
    teacher = networks.normalized_teacher(torch.cat([image, augmented]))
    plain = image if penalty is None else torch.cat([image, penalty])
    imitating_teacher, imitating_autoencoder = student_halves(networks.student, plain, augmented)
    reconstruction = full_precision(networks.autoencoder(autoencoder_input(augmented)))
    # Split rather than sliced: the gradients of slices are maps of zeros to be filled and added.
    imitating, penalized = imitating_teacher.split([count, plain.shape[0] - count])
    return Losses(
        hard=ops.hard_feature_loss(teacher[:count], imitating, p_hard),
        penalty=None if penalty is None else _mean_square(penalized, torch.zeros_like(penalized)),
        autoencoder=_mean_square(reconstruction, teacher[count:]),
        student_autoencoder=_mean_square(reconstruction, imitating_autoencoder),
    )


def student_halves(
    student: nn.Sequential, plain: Tensor, augmented: Tensor
) -> tuple[Tensor, Tensor]:
    """The half of the student's output that each image's loss needs, and no more.

    All images pass through the student's body as one batch. Of the last convolution, I and P need
    the first 384 channels, which imitate the teacher, and I' the last 384, which imitate the
    autoencoder.

    Returns:
        (first half for ``plain``, second half for ``augmented``), each (N, 384, h, w).
    """
    last = student[-1]
    assert isinstance(last, nn.Conv2d)
    assert last.bias is not None
    hidden = student[:-1](torch.cat([plain, augmented]))
    of_plain, of_augmented = hidden.split([plain.shape[0], augmented.shape[0]])
    weights, biases = last.weight.split(FEATURE_CHANNELS), last.bias.split(FEATURE_CHANNELS)
    teacher_half = convolution(of_plain, weights[0], biases[0])
    autoencoder_half = convolution(of_augmented, weights[1], biases[1])
    return full_precision(teacher_half), full_precision(autoencoder_half)


def _mean_square(a: Tensor, b: Tensor) -> Tensor:
    """The mean of (a - b)²; torch's own is several times as slow on a CPU, backward above all."""
    return ops.squared_difference_map(a, b).mean()
