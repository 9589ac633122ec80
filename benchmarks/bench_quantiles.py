from __future__ import annotations

import math

import torch

from efficientad_ext import ops

CALIBRATION = [0.9, 0.995]


def by_topk(x, fractions):
    """The fastest way in torch: the largest elements, as many as the smallest fraction needs."""
    smallest = math.floor(min(fractions) * (x.numel() - 1))
    largest = x.topk(x.numel() - smallest).values
    results = []
    for fraction in fractions:
        position = fraction * (x.numel() - 1)
        lower = x.numel() - 1 - math.floor(position)
        upper = x.numel() - 1 - math.ceil(position)
        results.append(torch.lerp(largest[lower], largest[upper], position - math.floor(position)))
    return torch.stack(results)


def test_calibration_against_quantile(compare, device):
    x = torch.randn(384 * 56 * 56, device=device)
    fractions = torch.tensor(CALIBRATION, device=device)
    compare(
        "quantiles 0.9 0.995 by_quantile",
        lambda: ops.quantiles(x, CALIBRATION),
        lambda: torch.quantile(x, fractions),
        floor=20.0,
    )


def test_calibration_against_topk(compare, device):
    x = torch.randn(384 * 56 * 56, device=device)
    compare(
        "quantiles 0.9 0.995 by_topk",
        lambda: ops.quantiles(x, CALIBRATION),
        lambda: by_topk(x, CALIBRATION),
        floor=1.0,
    )


def test_far_quantile_against_topk(compare, device):
    x = torch.randn(384 * 56 * 56, device=device)
    compare(
        "quantiles 0.999 by_topk",
        lambda: ops.quantiles(x, 0.999),
        lambda: by_topk(x, [0.999]),
        floor=1.0,
    )


def test_median_against_kthvalue(compare, device):
    x = torch.randn(384 * 56 * 56 + 1, device=device)
    compare(
        "quantiles 0.5 by_kthvalue",
        lambda: ops.quantiles(x, 0.5),
        lambda: x.kthvalue(x.numel() // 2 + 1),
        floor=1.0,
    )
