"""Sinkhorn divergence: Gaussians in closed form, exact transport in the limit, gradients, and safe iterations."""

from __future__ import annotations

import math
import warnings
from itertools import permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_estimators.discrepancies import EnergyDistance, SinkhornDivergence, scaling
from implicit_estimators.discrepancies.scaling import _by_logarithms, solve


def draws(n: int, m: int, dim: int, seed: int, dtype: torch.dtype = torch.float64):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(n, dim, generator=random, dtype=dtype), torch.randn(m, dim, generator=random, dtype=dtype)


def gaussian_transport(a: float, s: float, b: float, t: float, epsilon: float) -> float:
    """OT_eps of N(a, s^2) and N(b, t^2) with squared cost (Janati et al., 2020, theorem 1, in one dimension)."""
    half = epsilon / 2
    d = math.sqrt(4 * s**2 * t**2 + half**2)
    return (a - b) ** 2 + s**2 + t**2 - d + half * (1 - math.log(2 * half)) + half * math.log(d + half)


@pytest.mark.parametrize("epsilon", [0.3, 2.0])
def test_two_gaussians_in_closed_form(epsilon: float) -> None:
    """At 300 quantiles of each; what discretisation leaves is below 1 %."""
    grid = (torch.arange(300, dtype=torch.float64) + 0.5) / 300
    z = torch.distributions.Normal(grid.new_zeros(()), 1.0).icdf(grid)
    (a, s), (b, t) = (1.0, 1.0), (-0.5, 2.0)
    x, y = a + s * z, b + t * z
    settings = {"epsilon": epsilon, "tolerance": 1e-5, "iterations": 1000}
    cross, own_x, own_y = (
        gaussian_transport(*p, *q, epsilon) for p, q in (((a, s), (b, t)), ((a, s), (a, s)), ((b, t), (b, t)))
    )
    plain = SinkhornDivergence(**settings, debiased=False).divergence(x, y)
    assert float(plain) == pytest.approx(cross, rel=0.01)
    assert float(SinkhornDivergence(**settings).divergence(x, y)) == pytest.approx(
        cross - (own_x + own_y) / 2, rel=0.01
    )


@pytest.mark.parametrize("power", [1, 2])
def test_small_epsilon_tends_to_exact_transport(power: int) -> None:
    """Six points of each, so that all 720 matchings can be tried; the bias is at most eps log 6."""
    x, y = draws(6, 6, 2, 100)
    costs = torch.cdist(x, y) ** power
    exact = min(float(costs[torch.arange(6), list(order)].mean()) for order in permutations(range(6)))
    epsilon = 1e-2
    found = SinkhornDivergence(epsilon, power, iterations=5000, tolerance=1e-5).transport(x, y)
    assert found.converged
    assert exact - 1e-6 <= float(found.cost) <= exact + epsilon * math.log(6)
    assert exact - 1e-6 <= float(found.value) <= exact + epsilon * math.log(6)


@pytest.mark.parametrize("power", [1, 2])
def test_large_epsilon_tends_to_a_kernel_distance(power: int) -> None:
    """Half of the energy distance, or the squared distance of means; the rest is of order cost^2 / eps."""
    x, y = draws(20, 30, 3, 100)
    y = y + 1
    value = float(SinkhornDivergence(1e5, power).divergence(x, y))
    energy = float(EnergyDistance(unbiased=False).squared(x, y)) / 2
    assert value == pytest.approx(energy if power == 1 else float((x.mean(0) - y.mean(0)).square().sum()), abs=1e-2)


def test_a_translation() -> None:
    """Debiased with squared cost, a shift costs exactly |delta|^2 at any epsilon, wherever iterations converged."""
    x, _ = draws(25, 1, 3, 100)
    shift = torch.tensor([3.0, -1.0, 0.5], dtype=x.dtype)
    for epsilon in (1.0, 10.0):
        value = SinkhornDivergence(epsilon, tolerance=1e-6, iterations=5000).divergence(x + shift, x)
        assert float(value) == pytest.approx(float(shift.square().sum()), abs=1e-5)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("debiased", [True, False])
def test_its_gradient_is_that_of_finite_differences(power: int, debiased: bool) -> None:
    x, y = (s.requires_grad_() for s in draws(4, 3, 2, 100))
    sinkhorn = SinkhornDivergence(3.0, power, iterations=1000, tolerance=1e-9, debiased=debiased)
    assert torch.autograd.gradcheck(sinkhorn.divergence, (x, y), atol=1e-5, rtol=1e-4)


@settings(max_examples=10)
@given(
    st.integers(1, 3),
    st.integers(1, 10),
    st.integers(1, 10),
    st.sampled_from([1, 2]),
    st.floats(5, 20),
    st.floats(-50, 50),
    st.integers(0, 10**6),
)
def test_order_roles_and_isometries(dim, n, m, power, epsilon, offset, seed) -> None:
    """Not negative, and 0 for the same samples, to the tolerance of the iterations."""
    x, y = draws(n, m, dim, seed)
    turn = torch.linalg.qr(draws(dim, dim, dim, seed)[0])[0]
    sinkhorn = SinkhornDivergence(epsilon, power, iterations=5000, tolerance=1e-7)
    value = float(sinkhorn.divergence(x, y))
    assert value >= -1e-6
    assert float(sinkhorn.divergence(y, x)) == pytest.approx(value, abs=1e-6)
    assert float(sinkhorn.divergence(x.flip(0), y.roll(1, 0))) == pytest.approx(value, abs=1e-6)
    assert float(sinkhorn.divergence(x @ turn + offset, y @ turn + offset)) == pytest.approx(value, abs=1e-6)
    assert float(sinkhorn.divergence(x, x)) == pytest.approx(0, abs=1e-6)


def test_the_plan() -> None:
    """Rows and columns have even weights, and the plan is the one that the potentials tell."""
    x, y = draws(20, 30, 2, 100)
    found = SinkhornDivergence(0.5, tolerance=1e-8, iterations=5000).transport(x, y)
    assert torch.allclose(found.plan.sum(0), torch.full((30,), 1 / 30, dtype=x.dtype))
    assert torch.allclose(found.plan.sum(1), torch.full((20,), 1 / 20, dtype=x.dtype), atol=1e-9)
    costs = torch.cdist(x, y).square()
    entropy = float((found.plan * (found.plan * 600).log()).sum())
    assert float(found.value) == pytest.approx(float((found.plan * costs).sum()) + 0.5 * entropy, rel=1e-8)
    assert float(found.cost) == pytest.approx(float((found.plan * costs).sum()), rel=1e-12)


@pytest.mark.parametrize("symmetric", [True, False])
def test_iterations_on_the_kernel_are_those_by_logarithms(symmetric: bool) -> None:
    x, y = draws(12, 12, 2, 100)
    costs = torch.cdist(x, x if symmetric else y).square()
    zero = costs.new_zeros(12)
    f, g, _ = _by_logarithms(costs, zero, zero, 2.0, 400, symmetric)
    found = solve(costs, 2.0, 400, 1e-12, symmetric)
    gap = found.first - f
    assert torch.allclose(gap, gap.mean().expand(12), atol=1e-9)  # potentials are told up to a constant
    assert found.value() == pytest.approx(float(f.mean() + g.mean()), rel=1e-9)


@pytest.mark.parametrize("power", [1, 2])
def test_small_epsilon_is_safe_in_float32(power: int) -> None:
    """Costs of 1,000 epsilon underflow in any kernel; values agree with float64 to the digits that costs have."""
    x, y = draws(40, 30, 3, 100)
    sinkhorn = SinkhornDivergence(0.01, power, iterations=500, tolerance=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        exact = float(sinkhorn.divergence(4 * x, 4 * y + 5))
        leaf = (4 * x).float().requires_grad_()
        value = sinkhorn.divergence(leaf, (4 * y + 5).float())
    value.backward()
    assert float(value.detach()) == pytest.approx(exact, rel=1e-5)
    assert leaf.grad is not None
    assert torch.isfinite(leaf.grad).all()


def test_where_the_kernel_fails_logarithms_take_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """From potentials of 0 at an epsilon that makes every entry of the kernel 0 in float32."""
    made = []

    def counted(*arguments):
        made.append(arguments)
        return _by_logarithms(*arguments)

    monkeypatch.setattr(scaling, "_by_logarithms", counted)
    x, y = draws(30, 30, 2, 100)
    costs = torch.cdist(x, y + 20).square()
    zero = costs.new_zeros(30)
    found = [
        scaling._descend(some, zero.to(some), zero.to(some), 1.0, 100, 1e-4, False) for some in (costs.float(), costs)
    ]
    assert made
    (f, g, error, _), (f64, g64, _, _) = found
    assert error <= 1e-4
    assert float(f.mean() + g.mean()) == pytest.approx(float(f64.mean() + g64.mean()), rel=1e-5)


def test_far_samples_are_safe_in_float32() -> None:
    """One far sample has a cost of two million epsilon."""
    x, y = draws(30, 30, 2, 100)
    x[0] += 300.0
    sinkhorn = SinkhornDivergence(0.1, iterations=400, tolerance=1e-3)
    single, double = sinkhorn.transport(x.float(), y.float()), sinkhorn.transport(x, y)
    assert single.converged
    assert float(single.value) == pytest.approx(float(double.value), rel=1e-5)


def test_running_out_of_iterations_is_said() -> None:
    x, y = draws(30, 30, 2, 100)
    sinkhorn = SinkhornDivergence(0.05, iterations=20)
    with pytest.warns(UserWarning, match="after 20 iterations the plan's weights are off by"):
        few = sinkhorn.divergence(x, y)
    found = sinkhorn.transport(x, y)
    assert not found.converged
    assert found.iterations == 20
    assert torch.isfinite(few)
    # a dual value is a lower bound at every iteration
    assert float(found.value) < float(SinkhornDivergence(0.05, iterations=3000, tolerance=1e-4).transport(x, y).value)


def test_epsilon_placed_by_the_samples() -> None:
    x, y = draws(50, 50, 3, 100)
    sinkhorn = SinkhornDivergence.placed(x, y, share=0.1, iterations=200)
    assert sinkhorn.epsilon == pytest.approx(0.1 * float(torch.cdist(x, y).square().median()), rel=1e-6)
    assert sinkhorn.iterations == 200
    assert SinkhornDivergence.placed(10 * x, 10 * y).epsilon == pytest.approx(50 * sinkhorn.epsilon, rel=1e-6)
    with pytest.raises(ValueError, match="x, y: expected samples that do not all coincide"):
        SinkhornDivergence.placed(x[:1], x[:1])


def test_against_peers() -> None:
    """POT's plan at the same epsilon, and its exact cost; where it is installed."""
    ot = pytest.importorskip("ot", reason="POT is a peer, not a dependency")
    x, y = draws(20, 25, 2, 100)
    costs = torch.cdist(x, y).square()
    a, b = torch.full((20,), 1 / 20, dtype=x.dtype).numpy(), torch.full((25,), 1 / 25, dtype=x.dtype).numpy()
    plan = ot.sinkhorn(a, b, costs.numpy(), 0.5, numItermax=5000, stopThr=1e-12)
    found = SinkhornDivergence(0.5, tolerance=1e-10, iterations=5000).transport(x, y)
    assert torch.allclose(found.plan, torch.from_numpy(plan), atol=1e-9)
    close = SinkhornDivergence(0.02, tolerance=1e-4, iterations=2000).transport(x, y)
    assert float(close.cost) == pytest.approx(ot.emd2(a, b, costs.numpy()), abs=0.02 * math.log(25))


def test_what_is_refused() -> None:
    x, y = draws(10, 10, 2, 100)
    for arguments, message in [
        ({"epsilon": 0.0}, "epsilon: expected a positive number; got 0.0"),
        ({"power": 3}, "power: expected 1 or 2; got 3"),
        ({"iterations": 0}, "iterations: expected a positive int; got 0"),
        ({"tolerance": -1.0}, "tolerance: expected a number not below 0; got -1.0"),
    ]:
        with pytest.raises(ValueError, match=message):
            SinkhornDivergence(**arguments)
    x[3, 1] = math.nan
    with pytest.raises(ValueError, match="x: expected finite values; 1 of 10"):
        SinkhornDivergence().divergence(x, y)
