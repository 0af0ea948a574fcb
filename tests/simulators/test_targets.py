"""Toy targets: one contract for all, and each against what is known of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch
from scipy.integrate import quad

from implicit_simulators.targets import Dirac, Grid, Lines, Ring, SwissRoll, Target, toy_targets

MADE = {name: kind() for name, kind in toy_targets().items()}
WITH_DENSITY = ["ring", "grid", "swiss-roll"]


@pytest.fixture(params=MADE)
def target(request: pytest.FixtureRequest) -> Target:
    return MADE[request.param]


def test_names_agree():
    for name, kind in toy_targets().items():
        assert kind().name == kind.name == name


def test_samples_repeat_with_their_seed(target):
    x = target.sample(500, seed=3)
    assert x.shape == (500, target.dim)
    assert x.dtype == torch.float32
    assert torch.equal(target.sample(500, seed=3), x)
    assert torch.equal(target.sample(77, seed=3), x[:77])
    assert target.sample(0, seed=0).shape == (0, target.dim)
    if target.name != "dirac":
        assert not torch.equal(target.sample(500, seed=4), x)
        assert not torch.equal(target.sample(500), target.sample(500))


def test_global_generators_are_left_alone(target):
    before = torch.random.get_rng_state()
    target.sample(10, seed=0)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_settings_make_the_same_target(target):
    settings = json.loads(json.dumps(target.settings()))
    again = type(target)(**settings)
    assert torch.equal(again.sample(20, seed=0), target.sample(20, seed=0))
    assert type(target).__name__ in repr(target)


def test_modes_have_the_targets_dimension(target):
    assert target.modes.ndim == 2
    assert target.modes.shape[1] == target.dim


def test_a_negative_number_of_samples_is_refused(target):
    with pytest.raises(ValueError, match="n: expected a non-negative int; got -1"):
        target.sample(-1)


@pytest.mark.parametrize("name", sorted(set(MADE) - set(WITH_DENSITY)))
def test_points_and_lines_have_no_density(name):
    with pytest.raises(NotImplementedError, match=f"{name} has no density"):
        MADE[name].log_prob(MADE[name].sample(3, seed=0))


@pytest.mark.parametrize("name", ["lines", "swiss-roll", "dirac"])
def test_without_modes_there_is_no_quality(name):
    with pytest.raises(ValueError, match=f"quality: {name} has no modes"):
        MADE[name].quality(MADE[name].sample(3, seed=0))


@pytest.mark.parametrize("count", [1, 2, 8, 25])
def test_a_ring_has_as_many_modes_as_it_says(count):
    """``linspace(0, 2 pi, 8)`` makes seven: its last mode lies on its first."""
    ring = Ring(count)
    assert ring.modes.shape == (count, 2)
    np.testing.assert_allclose(ring.modes.norm(dim=1), 2.0, rtol=1e-6)
    distance = torch.cdist(ring.modes, ring.modes) + 10 * torch.eye(count)
    if count > 1:
        assert distance.min() == pytest.approx(4 * math.sin(math.pi / count), rel=1e-5)
    angle = torch.linspace(0, 2 * math.pi, 8)
    trap = 2 * torch.stack((angle.cos(), angle.sin()), 1)
    assert Ring(7).quality(trap)[0] == 7
    assert Ring(8).quality(trap) == (1, 0.25)


@pytest.mark.parametrize("target", [Ring(), Ring(8, 1.0, 0.01), Grid(), Grid(4, 1.0, 0.1)], ids=repr)
def test_mixtures_are_what_they_say(target):
    n = 20_000
    x = target.sample(n, seed=1).double()
    k = len(target.modes)
    nearest = torch.cdist(x, target.modes.double()).argmin(1)
    assert scipy.stats.chisquare(torch.bincount(nearest, minlength=k).numpy()).pvalue > 1e-3
    residual = (x - target.modes.double()[nearest]) / target.scale
    for column in residual.T:
        assert scipy.stats.kstest(column.numpy(), "norm").pvalue > 1e-3
    modes, good = target.quality(x)
    assert modes == k
    assert abs(good - (1 - math.exp(-4.5))) < 5 * (0.011 / n) ** 0.5
    assert target.quality(x, within=4.0)[1] == pytest.approx(1 - math.exp(-8), abs=5 * (3.4e-4 / n) ** 0.5)


@pytest.mark.parametrize("target", [Ring(), Grid()], ids=repr)
def test_density_of_a_mixture_is_the_sum(target):
    x = target.sample(50, seed=0).double() + 0.01
    laws = [scipy.stats.multivariate_normal(m.double().numpy(), target.scale**2) for m in target.modes]
    expected = np.log(np.mean([law.pdf(x.numpy()) for law in laws], axis=0))
    np.testing.assert_allclose(target.log_prob(x), expected, rtol=1e-9, atol=1e-9)


def test_the_published_grid():
    assert sorted(map(tuple, Grid().modes.tolist())) == [(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)]


def test_a_collapsed_generator_is_seen():
    ring = Ring()
    assert ring.quality(ring.modes[:1].expand(100, 2)) == (1, 1.0)
    assert ring.quality(torch.zeros(100, 2)) == (0, 0.0)
    assert ring.quality(torch.zeros(0, 2)) == (0, 0.0)
    with pytest.raises(ValueError, match=r"x: expected shape \(n, 2\); got \(3, 5\)"):
        ring.quality(torch.zeros(3, 5))


def test_swiss_roll_is_scikit_learns():
    from sklearn.datasets import make_swiss_roll

    theirs = make_swiss_roll(4000, noise=0.25, random_state=0)[0][:, [0, 2]] / 7.5
    ours = SwissRoll().sample(4000, seed=0).numpy()
    for project in (lambda x: x[:, 0], lambda x: x[:, 1], lambda x: np.hypot(*x.T)):
        assert scipy.stats.ks_2samp(project(ours), project(theirs)).pvalue > 1e-3


def test_density_of_the_swiss_roll_integrates_to_one():
    """By the trapezoidal rule with a step of 0.9 standard deviations, which is exact to 1e-9 for smooth functions."""
    axis = torch.arange(-2.34, 2.34, 0.06)
    points = torch.cartesian_prod(axis, axis).double()
    total = sum(SwissRoll(0.5).log_prob(part).exp().sum() for part in points.split(1000))
    assert float(total) * 0.06**2 == pytest.approx(1, abs=1e-6)


def test_density_of_the_swiss_roll_is_the_integral_along_the_curve():
    x = SwissRoll().sample(6, seed=0).double()
    x[5] = torch.tensor([0.0, -1.5 * math.pi / 7.5])  # where the curve begins
    ours = SwissRoll().log_prob(x).exp()
    for value, (a, b) in zip(ours.tolist(), x.tolist(), strict=True):

        def near(u, a=a, b=b):
            t = 1.5 * math.pi * (1 + 2 * u)
            square = (a - t * math.cos(t) / 7.5) ** 2 + (b - t * math.sin(t) / 7.5) ** 2
            return math.exp(-0.5 * square / (0.25 / 7.5) ** 2) / (2 * math.pi * (0.25 / 7.5) ** 2)

        expected = sum(quad(near, i / 50, (i + 1) / 50)[0] for i in range(50))
        assert value == pytest.approx(expected, rel=1e-3)


def test_lines_share_no_point_and_are_near():
    line = Lines()
    x = line.sample(2000, seed=0)
    assert (x[:, 0] == 0).all()
    assert scipy.stats.kstest(x[:, 1].numpy(), "uniform").pvalue > 1e-3
    known = line.distances(-0.3)
    assert known == {"wasserstein": 0.3, "js": math.log(2), "kl": math.inf, "tv": 1.0}
    assert set(line.distances(0.0).values()) == {0.0}
    # in the plane the optimal transport between the segments is level: heights are coupled in order
    other = Lines(-0.3).sample(2000, seed=1)
    y, z = (v[v[:, 1].argsort()] for v in (x, other))
    assert (y - z).norm(dim=1).mean() == pytest.approx(0.3, abs=0.01)


def test_line_generator_makes_a_line_that_can_be_moved():
    generator = Lines().generator(0.5)
    z = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0))
    x = generator(z)
    assert (x[:, 0] == 0.5).all()
    assert scipy.stats.kstest(x[:, 1].detach().numpy(), "uniform").pvalue > 1e-3
    x[:, 0].mean().backward()
    assert generator.theta.grad == pytest.approx(1.0)


def test_dirac_flow_is_the_games_gradient():
    theta, psi = torch.tensor(0.7, requires_grad=True), torch.tensor(-0.4, requires_grad=True)
    value = torch.nn.functional.logsigmoid(psi * theta) + math.log(0.5)
    by_theta, by_psi = torch.autograd.grad(value, (theta, psi))
    for penalty in (0.0, 0.3):
        speed = Dirac().flow(theta.detach(), psi.detach(), penalty)
        torch.testing.assert_close(speed, (-by_theta, by_psi - penalty * psi.detach()))


@pytest.mark.parametrize(("penalty", "end"), [(0.0, 1.25), (0.5, 0.0)])
def test_dirac_training_circles_or_converges(penalty, end):
    state = torch.tensor([1.0, 0.5], dtype=torch.float64)
    for _ in range(2000):  # Runge-Kutta steps of 0.05
        speeds = [torch.stack(Dirac().flow(*state, penalty))]
        for part in (0.5, 0.5, 1.0):
            speeds.append(torch.stack(Dirac().flow(*(state + 0.05 * part * speeds[-1]), penalty)))
        state = state + 0.05 / 6 * (speeds[0] + 2 * speeds[1] + 2 * speeds[2] + speeds[3])
    assert float((state**2).sum()) == pytest.approx(end, abs=1e-4)


def test_dirac_generator_can_be_moved():
    generator = Dirac().generator(2.0)
    x = generator(torch.zeros(5, 3))
    assert torch.equal(x, torch.full((5, 1), 2.0))
    x.sum().backward()
    assert generator.theta.grad == pytest.approx(5.0)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Ring(0), "count: expected a positive int; got 0"),
        (lambda: Ring(8, radius=0.0), "radius: expected a positive number"),
        (lambda: Ring(scale=-1.0), "scale: expected a positive number; got -1.0"),
        (lambda: Grid(side=1.5), "side: expected a positive int; got 1.5"),
        (lambda: Grid(spacing=0.0), "spacing: expected"),
        (lambda: Lines(math.inf), "offset: expected a finite number"),
        (lambda: SwissRoll(0.0), "noise: expected a positive number"),
    ],
)
def test_bad_settings_are_refused(make, match):
    with pytest.raises(ValueError, match=match):
        make()
