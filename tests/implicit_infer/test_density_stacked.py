"""Flows of all members at once: zuko's values and gradients by other operations, and the members' own one by one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from zuko.transforms import MonotonicRQSTransform

from implicit_infer.posteriors.density import ConditionalDensity, Ensemble, Recipe, Reduction
from implicit_infer.posteriors.density.spline import in_torch, rational_quadratic
from implicit_infer.posteriors.density.training import train_ensemble
from implicit_infer.posteriors.npe import Seen


class Plain(nn.Module):
    """A density without a way of its own to compute several, which torch vectorises."""

    def __init__(self, density):
        super().__init__()
        self.density = density

    def forward(self, y, c):
        return self.density(y, c)


def random(*shape, seed=0, dtype=torch.float32):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def shaken(density, seed):
    """A density whose last layers are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in density.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return density


def of_zuko(x, phi, bins):
    widths, heights, slopes = phi.unflatten(-1, (x.shape[-1], -1)).split((bins, bins, bins - 1), -1)
    y, log_slope = MonotonicRQSTransform(widths, heights, slopes).call_and_ladj(x)
    return y, log_slope.sum(-1)


def outcomes(spline, x, phi, bins, dtype):
    """Values and gradients of a random sum of them, in double precision."""
    x, phi = x.to(dtype).requires_grad_(), phi.to(dtype).requires_grad_()
    y, log_det = spline(x, phi, bins)
    assert y.dtype == log_det.dtype == dtype
    weighted = (y * random(*y.shape, seed=8)).sum() + (log_det * random(*log_det.shape, seed=9)).sum()
    return [part.detach().double() for part in (y, log_det, *torch.autograd.grad(weighted, (x, phi)))]


@pytest.mark.parametrize("bins", [1, 2, 8])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-10), (torch.float32, 2e-3)])
def test_spline_is_zukos_inside_and_outside(bins, dtype, tolerance):
    """Of numbers that reach to three bounds; float32 has 1e-7 of its own, times slopes of up to a thousand."""
    x = 4 * random(60, 3, seed=1).float().double()
    phi = (2 * random(60, 3 * (3 * bins - 1), seed=2)).float().double()
    assert (x.abs() > 5).any()
    assert (x.abs() < 5).any()
    found = outcomes(rational_quadratic, x, phi, bins, dtype)
    exact = outcomes(of_zuko, x, phi, bins, torch.float64)
    for ours, theirs in zip(found, exact, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    outside = x.abs() > 5
    torch.testing.assert_close(found[0][outside], x[outside], rtol=0, atol=0)


def test_spline_at_its_ends_and_at_what_is_not_a_number():
    phi = random(5, 5, seed=3)
    x = torch.tensor([-5.0, 5.0, 1e30, float("inf"), float("nan")])[:, None]
    y, log_det = rational_quadratic(x, phi, 2)
    torch.testing.assert_close(y, x, equal_nan=True)
    assert log_det.abs().max() == 0
    y, log_det = rational_quadratic(torch.zeros(1, 1), torch.full((1, 5), math.nan), 2)
    assert y.isnan().all()
    assert log_det.isnan().all()


def test_spline_has_first_and_second_derivatives():
    x, phi = random(4, 2, seed=1).double().requires_grad_(), random(4, 10, seed=2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x, phi: rational_quadratic(x, phi, 2), (x, phi))
    assert torch.autograd.gradgradcheck(lambda x, phi: rational_quadratic(x, phi, 2), (x, phi))


def test_second_derivatives_of_the_compiled_spline():
    """Their torch formulas are those of the double precision test; float32 has 1e-7, times third powers of slopes."""
    found = []
    for dtype in (torch.float32, torch.float64):
        x, phi = random(9, 2, seed=1).to(dtype).requires_grad_(), random(9, 10, seed=2).to(dtype).requires_grad_()
        y, log_det = rational_quadratic(x, phi, 2)
        (slope,) = torch.autograd.grad(y.sum() + log_det.sum(), x, create_graph=True)
        found.append([part.double() for part in torch.autograd.grad(slope.square().sum(), (x, phi))])
    for single, double in zip(*found, strict=True):
        torch.testing.assert_close(single, double, rtol=1e-3, atol=1e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.floats(0.1, 30))
def test_spline_rises_from_bound_to_bound(seed, bins, scale):
    x = torch.linspace(-6, 6, 400)[:, None]
    phi = (scale * random(1, 3 * bins - 1, seed=seed)).expand(400, -1)
    y, log_det = rational_quadratic(x, phi, bins)
    inside = x[:, 0].abs() < 5
    assert (y.diff(dim=0) > -1e-5).all()  # an ulp of five is 5e-7
    assert y[inside].abs().max() <= 5 + 1e-5
    assert log_det[~inside].abs().max() == 0
    torch.testing.assert_close(rational_quadratic(x.double(), phi.double(), bins)[0].float(), y, rtol=1e-3, atol=1e-3)


def test_spline_wants_as_many_numbers_as_it_has_parts():
    with pytest.raises(ValueError, match="phi: expected 23 numbers"):
        rational_quadratic(torch.zeros(4, 2), torch.zeros(4, 45), 8)


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("flow", ["nsf", "maf", "none"])
def test_members_together_are_the_members_vectorised(flow, width, shared):
    members = [
        shaken(ConditionalDensity(width, 2, flow=flow, transforms=2, hidden=(8, 9), seed=k), k).double()
        for k in range(3)
    ]
    native, plain = Ensemble(members), Ensemble([Plain(member) for member in members])
    lead = () if shared else (3,)
    y, c = random(*lead, 12, width).double(), random(*lead, 12, 2, seed=1).double()
    losses = [ensemble(y, c, shared=shared) for ensemble in (native, plain)]
    torch.testing.assert_close(*losses, rtol=1e-9, atol=1e-9)
    for loss in losses:
        loss.mean().backward()
    for ours, theirs in zip(native.stacked, plain.stacked, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-7, atol=1e-9)
    for k, member in enumerate(members):
        z = random(12, width, seed=2).double()
        own = c if shared else c[k]
        log_prob = native(member.invert(z, own), own)[k]
        torch.testing.assert_close(log_prob, member(member.invert(z, own), own), rtol=1e-9, atol=1e-9)


def test_one_row_of_conditions_for_several_of_y():
    members = [shaken(ConditionalDensity(2, 2, transforms=1, hidden=(8,), seed=k), k) for k in range(2)]
    y, c = random(5, 12, 2), random(12, 2, seed=1)
    found = Ensemble(members)(y, c)
    assert found.shape == (2, 5, 12)
    torch.testing.assert_close(found, torch.stack([member(y, c) for member in members]), rtol=1e-4, atol=1e-4)


def test_members_behind_a_view_together():
    x, theta = random(200, 20), random(200, 2, seed=1)
    x[:, :2] += 2 * theta
    reduction = Reduction(x, theta)
    assert reduction.width < 20
    members = [
        Seen(reduction, shaken(ConditionalDensity(2, reduction.width, transforms=1, hidden=(8,), seed=k), k))
        for k in range(2)
    ]
    expected = torch.stack([member(theta, x) for member in members])
    torch.testing.assert_close(Ensemble(members)(theta, x), expected, rtol=1e-4, atol=1e-4)


def test_training_takes_the_same_steps_either_way():
    """In double precision, ten steps apart from rounding."""
    courses = []
    y, c = random(200, 2).double(), random(200, 1, seed=1).double()
    for wrap in (nn.Module.double, lambda member: Plain(member.double())):
        ensemble = Ensemble([wrap(ConditionalDensity(2, 1, transforms=1, hidden=(8,), seed=k)) for k in range(2)])
        courses.append(train_ensemble(ensemble, y, c, Recipe(epochs=2, learning_rate=1e-2), seed=0))
    torch.testing.assert_close(courses[0].training, courses[1].training, rtol=1e-9, atol=1e-9)
    assert courses[0].training[1] < courses[0].training[0]


def test_torch_formulas_in_single_precision():
    """What other devices compute, against the kernel: rounding, times slopes of up to some tens."""
    x, phi = 3 * random(50, 2), random(50, 46, seed=1)
    for ours, other in zip(rational_quadratic(x, phi, 8), in_torch(x, phi, 8, 5.0, 1e-3), strict=True):
        torch.testing.assert_close(ours, other, rtol=1e-4, atol=1e-4)
