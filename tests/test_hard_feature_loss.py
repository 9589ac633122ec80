from __future__ import annotations

import pytest
import torch

from efficientad_ext import ops, reference

pytestmark = pytest.mark.usefixtures("poisoned_memory")

P_HARD = [0.0, 0.5, 0.9, 0.999, 1.0]


def pair(shape, dtype, device, in_layout=lambda tensor: tensor):
    teacher, student = torch.randn(2, *shape).to(dtype)
    return in_layout(teacher).to(device), in_layout(student).to(device)


def reference_loss(teacher, student, p_hard):
    """The loss in float64, on differences that are rounded as the op's accumulator rounds them."""
    if teacher.dtype != torch.float64:
        teacher, student = teacher.float(), student.float()
    root = (teacher - student).square().double().sqrt()
    return reference.hard_feature_loss(root, torch.zeros_like(root), p_hard)


@pytest.mark.parametrize("p_hard", P_HARD)
@pytest.mark.parametrize(
    "shape", [(1, 20, 7, 9), (2, 3, 5, 1), (1, 1, 1, 1), (3, 4, 1, 1)], ids=str
)
def test_matches_reference(backend, dtype, in_layout, shape, p_hard, assert_matches):
    teacher, student = pair(shape, dtype, backend, in_layout)
    actual = ops.hard_feature_loss(teacher, student, p_hard)
    assert actual.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert_matches(actual, reference_loss(teacher, student, p_hard), actual.dtype)


@pytest.mark.parametrize("p_hard", P_HARD)
def test_many_elements(backend, p_hard, assert_matches):
    """More elements than are sampled, and than one unit of work has."""
    teacher, student = pair((2, 48, 31, 33), torch.float32, backend)
    expected = reference_loss(teacher, student, p_hard)
    assert_matches(ops.hard_feature_loss(teacher, student, p_hard), expected, torch.float32)
    last = torch.channels_last
    teacher = teacher.contiguous(memory_format=last)
    wide = torch.cat([student, student * 9], dim=1).contiguous(memory_format=last)
    actual = ops.hard_feature_loss(teacher, wide[:, :48], p_hard)
    assert_matches(actual, expected, torch.float32)


def test_ties(backend):
    """Most differences equal the quantile; all of them are selected."""
    difference = torch.ones(1, 4, 100, 100)
    difference[0, 0, 0, :50] = 5.0
    difference[0, 1, :2] = 0.5
    zeros = torch.zeros_like(difference)
    for p_hard in (0.1, 0.9, 0.999):
        actual = ops.hard_feature_loss(difference.to(backend), zeros.to(backend), p_hard)
        expected = reference.hard_feature_loss(difference.double(), zeros.double(), p_hard)
        torch.testing.assert_close(actual.cpu().double(), expected, rtol=1e-6, atol=0)


def test_sample_that_misses(backend):
    """A few extreme elements among equal ones, which no sample sees."""
    difference = torch.full((1, 1, 250, 250), 0.25)
    difference.view(-1)[[17, 40_000, 62_499]] = torch.tensor([7.0, 8.0, 9.0])
    zeros = torch.zeros_like(difference)
    p_hard = 62_497 / 62_499
    actual = ops.hard_feature_loss(difference.to(backend), zeros.to(backend), p_hard)
    assert actual.item() == pytest.approx((49 + 64 + 81) / 3, rel=1e-6)


@pytest.mark.parametrize("p_hard", [0.0, 0.9, 0.999])
def test_nan_shows(backend, p_hard):
    teacher, student = pair((1, 16, 40, 40), torch.float32, backend)
    student[0, 5, 20, 20] = float("nan")
    assert ops.hard_feature_loss(teacher, student, p_hard).isnan()


@pytest.mark.parametrize("p_hard", [0.0, 0.7, 0.95])
def test_gradient(backend, in_layout, p_hard):
    teacher, student = pair((2, 2, 3, 2), torch.float64, backend, in_layout)
    teacher, student = teacher.detach().requires_grad_(), student.detach().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda t, s: ops.hard_feature_loss(t, s, p_hard), (teacher, student)
    )


def test_gradient_matches_reference(backend, dtype, in_layout, assert_matches):
    teacher, student = pair((2, 48, 9, 11), dtype, backend, in_layout)
    student = student.detach().requires_grad_()
    (3 * ops.hard_feature_loss(teacher, student, 0.9)).backward()
    expected = student.detach().double().requires_grad_()
    (3 * reference.hard_feature_loss(teacher.double(), expected, 0.9)).backward()
    assert student.grad.dtype == dtype
    # In a short type two differences round to one; which elements are selected is the same.
    assert_matches(student.grad, expected.grad, dtype)


def test_gradient_of_an_expanded_tensor(backend):
    teacher = torch.randn(2, 8, 4, 4, dtype=torch.float64, device=backend)
    pixel = torch.randn(1, 8, 1, 1, dtype=torch.float64, device=backend, requires_grad=True)
    student = pixel.expand_as(teacher)
    (gradient,) = torch.autograd.grad(ops.hard_feature_loss(teacher, student, 0.5), pixel)
    loss = reference.hard_feature_loss(teacher, student, 0.5)
    torch.testing.assert_close(gradient, *torch.autograd.grad(loss, pixel))


def test_fake_tensors(in_layout):
    teacher, student = pair((1, 3, 4, 5), torch.bfloat16, "cpu", in_layout)
    student.requires_grad_()
    torch.library.opcheck(
        torch.ops.efficientad_ext.hard_feature_loss.default,
        (teacher, student, 0.9),
    )
    selection = torch.tensor([0.5, 10.0], dtype=torch.float64)
    torch.library.opcheck(
        torch.ops.efficientad_ext.hard_feature_loss_gradient.default,
        (torch.tensor(2.0), teacher, student.detach(), selection),
    )


def test_same_bits_for_any_number_of_threads():
    teacher, student = pair((2, 96, 40, 41), torch.float32, "cpu")
    threads = torch.get_num_threads()
    try:
        losses = []
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            losses += [ops.hard_feature_loss(teacher, student, p) for p in (0.0, 0.5, 0.999)]
    finally:
        torch.set_num_threads(threads)
    assert losses[:3] == losses[3:6] == losses[6:]


@pytest.mark.parametrize(
    ("teacher", "student", "p_hard", "sentence"),
    [
        (torch.zeros(0, 2, 3, 4), torch.zeros(0, 2, 3, 4), 0.9, "mean of no elements"),
        (torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), 1.5, "from 0 to 1"),
        (torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 3, 4), float("nan"), "from 0 to 1"),
        (torch.zeros(1, 2, 3, 4), torch.zeros(1, 1, 3, 4), 0.9, "expected the same shape"),
    ],
)
def test_bad_input(teacher, student, p_hard, sentence):
    with pytest.raises(ValueError, match=sentence):
        ops.hard_feature_loss(teacher, student, p_hard)
