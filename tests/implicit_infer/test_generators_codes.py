"""Codes of a known map are normal where they should be, and told where they are not."""

import math

import pytest
import torch

from implicit_infer.generators.codes import codes_of, normality
from implicit_infer.generators.networks import FlowGenerator


def normal(n=2000, d=4, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_normal_codes_are_normal():
    measured = normality(normal(), seed=1)
    # the mean of four Kolmogorov statistics; one has a spread of 0.26 / sqrt(n) around its mean of 0.87 / sqrt(n)
    assert abs(measured.kolmogorov - measured.by_chance) < 4 * 0.26 / math.sqrt(4 * 2000)
    assert abs(measured.energy) < 0.005  # of order 2 / n for equal laws
    assert abs(measured.kurtosis) < 4 * math.sqrt(24 / (4 * 2000))
    assert abs(measured.log_spread) < 4 / math.sqrt(2 * 4 * 2000)


def test_shifts_scales_and_shapes_are_seen():
    shifted = normality(normal() + 1)
    assert abs(shifted.kolmogorov - (2 * torch.special.ndtr(torch.tensor(0.5)) - 1)) < 0.03  # 1.36 / sqrt(2000)
    assert shifted.energy > 0.2
    assert normality(math.e * normal()).log_spread == pytest.approx(1, abs=4 / math.sqrt(2 * 4 * 2000))
    flat = math.sqrt(12) * (torch.rand(2000, 4, generator=torch.Generator().manual_seed(0)) - 0.5)
    assert normality(flat).kurtosis == pytest.approx(-1.2, abs=0.05)


def test_energy_of_a_shift_in_one_dimension():
    # E|y - z| of N(m, 2), and twice E|z - z'| = 2 / sqrt(pi)
    shift, n = 3.0, 2000
    law = torch.distributions.Normal(0.0, math.sqrt(2))
    between = 2 * math.sqrt(2) * float(law.log_prob(torch.tensor(shift)).exp()) * math.sqrt(2) + shift * (
        1 - 2 * float(law.cdf(torch.tensor(-shift)))
    )
    unit = 2 / math.sqrt(math.pi)
    measured = normality(normal(n, 1) + shift).energy
    assert measured == pytest.approx((2 * between - unit) / unit - 1, abs=8 * 2 / unit / math.sqrt(n))


def test_codes_that_are_not_finite_are_said_to_be():
    measured = normality(torch.tensor([[0.0], [math.inf], [1.0]]))
    assert math.isnan(measured.kolmogorov)
    assert math.isnan(measured.energy)
    with pytest.raises(ValueError, match="codes: expected shape"):
        normality(torch.zeros(3))


def test_codes_of_a_flows_own_draws_are_its_noise():
    flow = FlowGenerator(2, transforms=2, hidden=(4,), seed=0)
    codes = codes_of(flow, flow.sample(50, seed=3))
    assert codes.dtype == torch.float64
    expected = torch.randn(50, 2, generator=torch.Generator().manual_seed(3)).double()
    assert torch.allclose(codes, expected, atol=1e-5)
