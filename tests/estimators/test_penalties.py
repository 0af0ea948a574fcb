"""Penalties: one slope for each sample, closed forms for linear and quadratic critics, and a gradient of their own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from implicit_estimators.penalties import (
    PENALTIES,
    R1,
    R2,
    VARIANTS,
    Dragan,
    Penalty,
    Sum,
    WassersteinPenalty,
    ZeroCentred,
    check_rows,
    penalty,
    slopes,
)

every = pytest.mark.parametrize("name", PENALTIES)


def linear(x: torch.Tensor, condition: torch.Tensor | None = None) -> torch.Tensor:
    """Slope 1 everywhere."""
    return x.flatten(1).sum(1) / x[0].numel() ** 0.5


def quadratic(x: torch.Tensor) -> torch.Tensor:
    """Gradient x, so slope |x|."""
    return 0.5 * x.square().sum(1, keepdim=True)


def samples(n: int = 64, d: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=draw), 2 + torch.randn(n, d, generator=draw)


@pytest.mark.parametrize("n", [1, 64, 500])
@pytest.mark.parametrize("penalty", [WassersteinPenalty(), WassersteinPenalty(one_sided=True), Dragan()])
def test_a_critic_of_unit_slope_is_charged_nothing(penalty: Penalty, n: int) -> None:
    """A norm over the whole batch would charge 10 (sqrt(n) - 1)^2: 490 at n = 64."""
    real, fake = samples(n, 4)
    assert penalty.penalty(linear, real, fake, seed=0).item() == 0


@pytest.mark.parametrize("slope", [0.0, 0.5, 3.0])
def test_linear_critics_of_another_slope(slope: float) -> None:
    real, fake = samples()

    def critic(x: torch.Tensor) -> torch.Tensor:
        return slope * linear(x)

    charged = {name: kind().penalty(critic, real, fake, seed=0).item() for name, kind in PENALTIES.items()}
    two_sided, zero = 10 * (slope - 1) ** 2, 0.5 * slope**2
    expected = {"wgan-gp": two_sided, "dragan": two_sided, "r1": zero, "r2": zero, "zero-centred": zero}
    assert charged == pytest.approx(expected, rel=1e-5)
    one_sided = WassersteinPenalty(one_sided=True).penalty(critic, real, fake, seed=0).item()
    assert one_sided == pytest.approx(two_sided if slope > 1 else 0, rel=1e-5)


def test_quadratic_critics_in_closed_form() -> None:
    real, fake = samples()
    assert R1(3.0).penalty(quadratic, real, fake).item() == pytest.approx(1.5 * real.square().sum(1).mean().item())
    assert R2(3.0).penalty(quadratic, real, fake).item() == pytest.approx(1.5 * fake.square().sum(1).mean().item())


def test_points_between_are_uniform_on_each_segment() -> None:
    """E|u a + (1 - u) b|^2 = (|a|^2 + |b|^2 + a.b) / 3 for constant a, b; five standard errors."""
    n = 20_000
    a, b = torch.tensor([1.0, 2.0]), torch.tensor([-3.0, 0.5])
    penalty = ZeroCentred(2.0)
    real, fake = a.expand(n, 2), b.expand(n, 2)
    expected = (a @ a + b @ b + a @ b).item() / 3
    values = slopes(quadratic, penalty.points(real, fake, 0)).square()
    assert abs(values.mean().item() - expected) < 5 * values.std().item() / n**0.5
    assert penalty.penalty(quadratic, real, fake, seed=0).item() == pytest.approx(values.mean().item(), rel=1e-5)


def test_each_sample_has_its_own_point() -> None:
    shares = WassersteinPenalty().points(torch.zeros(100, 2), torch.ones(100, 2), 0)
    assert (shares[:, 0] == shares[:, 1]).all()  # on the segment
    assert len(shares[:, 0].unique()) > 90


def test_dragan_stays_near_the_data_in_its_own_units() -> None:
    real = torch.randn(50_000, 2, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 100.0])
    moved = Dragan(spread=0.5).points(real, real, 0) - real
    assert moved.std(0).tolist() == pytest.approx([0.5, 50.0], rel=0.03)


@every
def test_the_order_of_samples_does_not_matter(name: str) -> None:
    """With the same points for the same rows; exactly, up to the order of summation."""
    penalty = PENALTIES[name]()
    real, fake = samples()
    critic = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1))
    at = penalty.points(real, fake, 0)
    order = torch.randperm(len(at), generator=torch.Generator().manual_seed(1))
    straight, shuffled = (penalty.charge(slopes(critic, points)).mean() for points in (at, at[order]))
    assert straight.item() == pytest.approx(shuffled.item(), rel=1e-5)


@every
def test_the_size_of_the_batch_does_not_matter(name: str) -> None:
    """Every row twice costs the same as once: a mean over samples."""
    penalty = PENALTIES[name]()
    real, fake = samples()
    at = penalty.points(real, fake, 0)
    once, twice = (penalty.charge(slopes(quadratic, points)).mean() for points in (at, torch.cat([at, at])))
    assert once.item() == pytest.approx(twice.item(), rel=1e-6)


@every
def test_its_gradient_reaches_the_critic_and_is_right(name: str) -> None:
    """Double backward, against finite differences in float64."""
    penalty = PENALTIES[name]()
    real, fake = (s.double() for s in samples(16))
    weight = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(2)).requires_grad_()

    def charged(weight: torch.Tensor) -> torch.Tensor:
        return penalty.penalty(lambda x: (x @ weight).tanh().sum(1), real, fake, seed=0)

    assert torch.autograd.gradcheck(charged, (weight,))


@every
def test_gradients_are_only_in_the_samples_and_leave_them_alone(name):
    real, fake = samples()
    fake.requires_grad_()
    critic = nn.Linear(3, 1)
    PENALTIES[name](weight=2.0).penalty(critic, real, fake, seed=0).backward()
    assert fake.grad is None
    assert critic.weight.grad is not None
    assert not real.requires_grad


@every
def test_a_critic_with_no_slope_has_finite_gradients(name: str) -> None:
    """Dead units: the norm is 0, where the derivative of a square root is infinite."""
    real, fake = samples()
    first = nn.Linear(3, 4)
    critic = nn.Sequential(first, nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        first.bias.fill_(-1e3)
    PENALTIES[name]().penalty(critic, real, fake, seed=0).backward()
    assert all(torch.isfinite(p.grad).all() for p in critic.parameters() if p.grad is not None)
    constant = PENALTIES[name]().penalty(lambda x: torch.ones(len(x)), real, fake, seed=0)
    assert constant.item() == (10 if name in ("wgan-gp", "dragan") else 0)


@every
def test_conditions_are_passed_and_not_charged(name: str) -> None:
    """The condition's own slope, 100, does not count."""
    real, fake = samples()
    condition = torch.randn(64, 2, requires_grad=True)

    def steep(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
        return linear(x) + 100 * c.sum(1)

    plain = PENALTIES[name]().penalty(linear, real, fake, seed=0)
    given = PENALTIES[name]().penalty(steep, real, fake, seed=0, condition=condition)
    assert plain.item() == pytest.approx(given.item(), abs=1e-6)
    assert condition.grad is None


@every
def test_events_of_any_shape_and_no_grad(name: str) -> None:
    real, fake = torch.randn(8, 3, 5), torch.randn(8, 3, 5)
    with torch.no_grad():
        charged = PENALTIES[name]().penalty(linear, real, fake, seed=0)
    assert torch.isfinite(charged)


@every
def test_the_same_seed_gives_the_same_points_and_the_global_state_is_untouched(name: str) -> None:
    real, fake = samples()
    before = torch.get_rng_state()
    first, second = (PENALTIES[name]().points(real, fake, 7) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(before, torch.get_rng_state())
    if name in ("wgan-gp", "dragan", "zero-centred"):
        generator = torch.Generator().manual_seed(0)
        assert not torch.equal(*(PENALTIES[name]().points(real, fake, generator) for _ in range(2)))


def test_a_sum_is_the_sum_of_its_parts():
    real, fake = samples()
    both = penalty("r1+r2")
    assert both == Sum((R1(), R2())) == Sum()
    parts = [part.penalty(quadratic, real, fake).item() for part in (R1(), R2())]
    assert both.penalty(quadratic, real, fake, seed=0).item() == pytest.approx(sum(parts))
    # those of parts that draw come from one stream in turn
    drawn = Sum((WassersteinPenalty(), ZeroCentred(3.0))).penalty(quadratic, real, fake, seed=5)
    random = torch.Generator().manual_seed(5)
    expected = [part.penalty(quadratic, real, fake, random) for part in (WassersteinPenalty(), ZeroCentred(3.0))]
    assert drawn.item() == pytest.approx(sum(expected).item())
    alike = Sum((ZeroCentred(), ZeroCentred())).penalty(quadratic, real, fake, seed=5).item()
    assert alike != pytest.approx(2 * ZeroCentred().penalty(quadratic, real, fake, seed=5).item(), rel=1e-4)


def test_names_of_sums_and_settings() -> None:
    assert penalty("wgan-lp") == WassersteinPenalty(one_sided=True) == VARIANTS["wgan-lp"]
    assert penalty("wgan-lp + r1") == Sum((WassersteinPenalty(one_sided=True), R1()))
    assert penalty("dragan") == Dragan()
    assert penalty(R1(3.0)) == R1(3.0)
    with pytest.raises(ValueError, match=r"penalty: expected one of .*, or several joined by \+; got 'r1\+r3'"):
        penalty("r1+r3")
    with pytest.raises(ValueError, match="parts: expected at least one penalty; got none"):
        Sum(())


@pytest.mark.parametrize("name", [*PENALTIES, *VARIANTS, "r1+r2"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_images_of_any_number_of_channels(name: str, channels: int) -> None:
    real, fake = torch.randn(2, 6, channels, 4, 4, generator=torch.Generator().manual_seed(0))
    expected = {"r1": 0.5, "r2": 0.5, "zero-centred": 0.5, "r1+r2": 1.0}.get(name, 0.0)
    assert penalty(name).penalty(linear, real, fake, seed=0).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", [*PENALTIES, "r1+r2"])
def test_critics_that_mix_rows_are_refused(name: str) -> None:
    real, fake = samples()
    critic = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 1))
    with pytest.raises(ValueError, match="critic: expected one that treats rows independently; its BatchNorm1d mixes"):
        penalty(name).penalty(critic, real, fake, seed=0)
    assert torch.isfinite(penalty(name).penalty(critic.eval(), real, fake, seed=0))


def test_what_holds_a_critic_is_looked_into() -> None:
    class Holds:
        def __init__(self, module: nn.Module) -> None:
            self.module = module

    check_rows(Holds(nn.Linear(3, 1)))
    with pytest.raises(ValueError, match="its BatchNorm1d mixes"):
        check_rows(Holds(nn.BatchNorm1d(3)))


def test_names_are_the_classes_own() -> None:
    assert all(kind.name == name for name, kind in PENALTIES.items())


def test_bad_arguments_are_named() -> None:
    real, fake = samples()
    with pytest.raises(ValueError, match=r"real, fake: expected one shape \(n, ...\); got \(64, 3\), \(63, 3\)"):
        R1().penalty(quadratic, real, fake[:-1])
    with pytest.raises(ValueError, match="real, fake"):
        R1().penalty(quadratic, real[:0], fake[:0])
    with pytest.raises(ValueError, match="condition: expected 64 rows; got 2"):
        R1().penalty(quadratic, real, fake, condition=torch.zeros(2, 1))
    with pytest.raises(ValueError, match="critic: expected one value for each of 64 samples"):
        R1().penalty(lambda x: x, real, fake)


@pytest.mark.parametrize("weight", [0.5, 2.0])
def test_zero_centred_penalties_are_quadratic_where_the_critic_is_flat(weight):
    """At psi = 0 the critic psi x is flat: value and first derivative are 0, and the second is the weight."""
    psi = torch.zeros((), dtype=torch.float64, requires_grad=True)
    real = torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    value = R1(weight).penalty(lambda x: psi * x[:, 0], real, real)
    (first,) = torch.autograd.grad(value, psi, create_graph=True)
    (second,) = torch.autograd.grad(first, psi)
    assert (value.item(), first.item(), second.item()) == (0.0, 0.0, weight)


@pytest.mark.parametrize("name", PENALTIES)
def test_second_derivatives_are_finite_where_the_critic_is_flat(name):
    """A rectified critic is flat at half of the samples: its penalty can still be differentiated twice."""
    slope = torch.ones((), dtype=torch.float64, requires_grad=True)
    random = torch.Generator().manual_seed(0)
    real, fake = torch.randn(2, 20, 2, generator=random, dtype=torch.float64)
    value = PENALTIES[name]().penalty(lambda x: (slope * x[:, 0]).relu(), real, fake, random)
    (first,) = torch.autograd.grad(value, slope, create_graph=True)
    (second,) = torch.autograd.grad(first, slope)
    assert torch.isfinite(second)
