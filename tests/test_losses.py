from __future__ import annotations

import pytest
import torch
from efficientad.losses import P_HARD, student_halves, training_losses
from efficientad.networks import Networks, autoencoder, pdn
from torch import Tensor

from efficientad_ext.inference import autoencoder_input


@pytest.fixture(params=["small", "medium"])
def networks(request: pytest.FixtureRequest) -> Networks:
    torch.manual_seed(5)
    teacher = pdn(request.param, 384).requires_grad_(False)
    # A small input suffices here; the dropout would make the two formulations differ.
    return Networks(
        teacher.eval(),
        pdn(request.param, 768),
        autoencoder((6, 7)).eval(),
        torch.rand(384),
        torch.rand(384) + 0.5,
        torch.Generator(),
    )


def images() -> list[Tensor]:
    return [torch.randn(1, 3, 56, 60) for _ in range(3)]


def plain_losses(
    networks: Networks,
    image: Tensor,
    augmented: Tensor,
    penalty: Tensor | None,
    p_hard: float = P_HARD,
) -> list[Tensor]:
    """The training step as the paper writes it: one image, one network and one loss at a time."""

    def teacher(x: Tensor) -> Tensor:
        mean = networks.teacher_mean.view(1, -1, 1, 1)
        return (networks.teacher(x) - mean) / networks.teacher_deviation.view(1, -1, 1, 1)

    difference = (teacher(image) - networks.student(image)[:, :384]).square()
    hard = difference[difference >= torch.quantile(difference, p_hard)].mean()
    reconstruction = networks.autoencoder(autoencoder_input(augmented))
    losses = [
        hard,
        (teacher(augmented) - reconstruction).square().mean(),
        (reconstruction - networks.student(augmented)[:, 384:]).square().mean(),
    ]
    if penalty is not None:
        losses.append(networks.student(penalty)[:, :384].square().mean())
    return losses


@pytest.mark.parametrize("with_penalty", [True, False])
def test_losses_and_gradients_equal_the_plain_formulation(networks: Networks, with_penalty: bool):
    for network in (networks.teacher, networks.student, networks.autoencoder):
        network.double()
    networks.teacher_mean = networks.teacher_mean.double()
    networks.teacher_deviation = networks.teacher_deviation.double()
    image, augmented, penalty = [x.double() for x in images()]
    parameters = [*networks.student.parameters(), *networks.autoencoder.parameters()]
    losses = training_losses(networks, image, augmented, penalty if with_penalty else None)
    gradients = torch.autograd.grad(losses.total, parameters)
    expected = plain_losses(networks, image, augmented, penalty if with_penalty else None)
    found = [losses.hard, losses.autoencoder, losses.student_autoencoder]
    if with_penalty:
        assert losses.penalty is not None
        found.append(losses.penalty)
    else:
        assert losses.penalty is None
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=0)
    plain_gradients = torch.autograd.grad(torch.stack(expected).sum(), parameters)
    for one, other in zip(gradients, plain_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12 * float(other.abs().max()))


@pytest.mark.parametrize("p_hard", [0.0, 0.9, 0.99999])
def test_p_hard(networks: Networks, p_hard: float):
    image, augmented, penalty = images()
    with torch.no_grad():
        losses = training_losses(networks, image, augmented, penalty, p_hard)
        expected = plain_losses(networks, image, augmented, penalty, p_hard)
        plain = networks.normalized_teacher(image) - networks.student(image)[:, :384]
    torch.testing.assert_close(losses.hard, expected[0], rtol=1e-4, atol=0)
    if p_hard == 0:
        torch.testing.assert_close(losses.hard, plain.square().mean(), rtol=1e-4, atol=0)


def test_total_is_the_sum(networks: Networks):
    image, augmented, penalty = images()
    with torch.no_grad():
        losses = training_losses(networks, image, augmented, penalty)
    assert losses.penalty is not None
    parts = [losses.hard, losses.penalty, losses.autoencoder, losses.student_autoencoder]
    torch.testing.assert_close(losses.total, torch.stack(parts).sum())
    assert all(float(part) > 0 for part in parts)


def test_teacher_gets_no_gradient(networks: Networks):
    networks.teacher.requires_grad_(True)
    image, augmented, penalty = images()
    training_losses(networks, image, augmented, penalty).total.backward()
    assert all(parameter.grad is None for parameter in networks.teacher.parameters())
    assert all(parameter.grad is not None for parameter in networks.student.parameters())
    assert all(parameter.grad is not None for parameter in networks.autoencoder.parameters())


def test_student_halves_are_slices_of_the_full_output(networks: Networks):
    image, augmented, penalty = images()
    plain = torch.cat([image, penalty])
    with torch.no_grad():
        first, second = student_halves(networks.student, plain, augmented)
        full_plain, full_augmented = networks.student(plain), networks.student(augmented)
    torch.testing.assert_close(first, full_plain[:, :384], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(second, full_augmented[:, 384:], rtol=1e-4, atol=1e-6)


def test_bfloat16_autocast_stays_close_to_float32(networks: Networks):
    image, augmented, penalty = images()
    exact = training_losses(networks, image, augmented, penalty)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = training_losses(networks, image, augmented, penalty)
    assert rounded.total.dtype == torch.float32
    torch.testing.assert_close(rounded.total, exact.total, rtol=0.02, atol=0)
    assert float(rounded.total.detach()) != float(exact.total.detach())
