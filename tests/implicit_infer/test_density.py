"""Conditional densities: exact volumes and inverses, ensembles that are their members, and data of order one."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from implicit_infer.posteriors.density import ConditionalDensity, Ensemble, Observables, Recipe, Reduction
from implicit_infer.posteriors.density.annealing import anneal
from implicit_infer.posteriors.density.fitting import DensitySettings, distance_from_normal, fit_density
from implicit_infer.posteriors.density.reduction import dependent
from implicit_infer.posteriors.density.training import train_ensemble
from implicit_simulators.benchmark import SIR, SLCP, GaussianLinear, LotkaVolterra, SLCPDistractors

QUICK = DensitySettings(
    hidden=(16,), transforms=1, members=2, normal=Recipe(epochs=8, learning_rate=5e-3), bending=Recipe(epochs=4)
)


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def shaken(density, seed=0):
    """A density whose last layers are not zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in density.parameters():
            weight += 0.3 * torch.randn(weight.shape, generator=generator)
    return density


@pytest.mark.parametrize("flow", ["nsf", "maf", "none"])
def test_starts_as_a_standard_normal(flow):
    density = ConditionalDensity(3, 2, flow=flow, transforms=2, hidden=(8,))
    y, c = random(20, 3), random(20, 2, seed=1)
    exact = -0.5 * y.square().sum(1) - 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(density(y, c), exact, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("flow", ["nsf", "maf", "none"])
def test_log_density_is_the_volume_of_the_inverse(flow):
    """log q(y) = log N(z) - log |det dy/dz|, with the Jacobian by autograd."""
    density = shaken(ConditionalDensity(3, 2, flow=flow, transforms=2, hidden=(8,)).double())
    z, c = random(6, 3).double(), random(6, 2, seed=1).double()
    y = density.invert(z, c)
    jacobians = torch.stack(
        [
            torch.autograd.functional.jacobian(lambda z, i=i: density.invert(z[None], c[i : i + 1])[0], z[i])
            for i in range(6)
        ]
    )
    exact = -0.5 * z.square().sum(1) - 1.5 * math.log(2 * math.pi) - torch.linalg.slogdet(jacobians)[1]
    torch.testing.assert_close(density(y, c), exact, atol=1e-5, rtol=1e-5)


def test_ensemble_is_its_members():
    members = [shaken(ConditionalDensity(2, 3, transforms=1, hidden=(8,), seed=k), k) for k in range(3)]
    ensemble = Ensemble(members)
    y, c = random(10, 2), random(10, 3, seed=1)
    expected = torch.stack([member(y, c) for member in members])
    torch.testing.assert_close(ensemble(y, c), expected)
    own = ensemble(y.expand(3, -1, -1), c.expand(3, -1, -1), shared=False)
    torch.testing.assert_close(own, expected)
    torch.testing.assert_close(ensemble.mixture(y, c), expected.logsumexp(0) - math.log(3))
    torch.testing.assert_close(ensemble.member(1, "invert")(y, c), members[1].invert(y, c))


def test_ensemble_without_bend_is_normal():
    ensemble = Ensemble([shaken(ConditionalDensity(2, 1, transforms=1, hidden=(8,)))])
    ensemble.template.bent = False
    y, c = random(10, 2), random(10, 1, seed=1)
    mean, log_diagonal, root = (part[0] for part in [ensemble.member(0, "normal")(c[:1])][0])
    exact = torch.distributions.MultivariateNormal(mean, precision_matrix=root.mT @ root).log_prob(y)
    assert log_diagonal.isfinite().all()
    torch.testing.assert_close(ensemble(y, c[:1].expand(10, -1))[0], exact, rtol=1e-4, atol=1e-4)


def test_training_reaches_the_entropy_of_a_linear_gaussian():
    """y = c + noise: the least loss is the noise's entropy; 2,000 rows allow two hundredths of a nat."""
    c = random(2000, 1)
    y = c + 0.5 * random(2000, 1, seed=1)
    ensemble = Ensemble([ConditionalDensity(1, 1, flow="none", hidden=(16,), seed=k) for k in range(2)])
    course = train_ensemble(ensemble, y, c, Recipe(epochs=25, learning_rate=5e-3), seed=0)
    entropy = 0.5 * math.log(2 * math.pi * math.e * 0.25)
    error = 4 * (0.5 / 200) ** 0.5  # of a mean over 200 held-out rows, whose log density varies by 1/2
    assert all(abs(loss - entropy) < error + 0.03 for loss in course.best)
    assert course.finite


def test_no_flow_where_what_is_left_is_normal_and_one_where_it_is_not():
    c = random(1500, 1)
    normal = c + random(1500, 1, seed=1)
    uniform = c + 3 * torch.rand(1500, 1, generator=torch.Generator().manual_seed(2))
    found = []
    for y in (normal, (uniform - uniform.mean()) / uniform.std()):
        ensemble = Ensemble([QUICK.density(1, 1, seed=k) for k in range(2)])
        found.append(fit_density(ensemble, y, c, QUICK, 0, progress=False))
    assert not found[0]["bent"]
    assert found[1]["bent"]
    assert found[1]["bent_loss"] < found[1]["normal_loss"]
    assert found[0]["distance_from_normal"] < 0.03 < found[1]["distance_from_normal"]


def test_members_hold_out_different_rows_of_whole_groups():
    from implicit_infer.posteriors.density.training import _folds

    groups = torch.arange(40).repeat_interleave(3)
    training, held_out = _folds(120, 3, 0.1, groups, torch.Generator().manual_seed(0))
    assert training.shape == (3, 108)
    assert held_out.shape == (3, 12)
    for k in range(3):
        assert set(groups[training[k]].tolist()).isdisjoint(groups[held_out[k]].tolist())
    assert len(set(groups[held_out].flatten().tolist())) == 12


def test_kolmogorov_distance_of_a_shift():
    """The distance of N(m, 1) from N(0, 1) is 2 Phi(m / 2) - 1; its noise is about 1 / sqrt(n)."""
    ensemble = Ensemble([ConditionalDensity(1, 1, flow="none", hidden=(4,))])
    y = random(4096, 1) + 0.5
    exact = 2 * float(torch.special.ndtr(torch.tensor(0.25))) - 1
    assert abs(distance_from_normal(ensemble, y, torch.zeros(4096, 1), 0) - exact) < 2 / 64


def test_observables_of_counts_logs_and_plain_columns():
    sir, volterra = SIR(), LotkaVolterra()
    theta = sir.sample_prior(500, seed=0)
    counts = Observables(sir, theta, sir.simulate(theta, seed=0))
    assert counts.whole.all()
    theta = volterra.sample_prior(500, seed=0)
    populations = Observables(volterra, theta, volterra.simulate(theta, seed=0))
    assert (populations.kind == 1).sum() > populations.kind.numel() / 2  # logarithms
    linear = GaussianLinear(3)
    theta = linear.sample_prior(500, seed=0)
    plain = Observables(linear, theta, linear.simulate(theta, seed=0))
    assert not plain.kind.any()
    assert not plain.whole.any()


def test_free_observables_are_white_and_their_volume_exact():
    simulator = LotkaVolterra()
    theta = simulator.sample_prior(800, seed=0)
    x = simulator.simulate(theta, seed=0)
    maps = Observables(simulator, theta, x)
    raw, f = maps.rows(x), maps.features(maps.transform.inv(theta))
    w = maps.free(raw, f)
    assert (w.mean(0).abs() < 1e-3).all()
    # columns that a floor keeps from being singular are narrower
    assert (torch.cov(w.T).diagonal() < 1.01).all()
    one = raw[:1].double().requires_grad_()
    double = maps.double()
    jacobian = torch.autograd.functional.jacobian(lambda r: double.free(r, f[:1].double())[0], one)[:, 0]
    torch.testing.assert_close(double.log_det(one)[0], torch.linalg.slogdet(jacobian)[1], rtol=1e-6, atol=1e-6)


def test_screening_finds_the_eight_of_a_hundred():
    simulator = SLCPDistractors()
    theta = simulator.sample_prior(3000, seed=0)
    x = simulator.simulate(theta, seed=0)
    kept = dependent(x, theta)
    place = simulator.informative(torch.arange(100)[None])[0]
    assert kept[place].all()
    assert kept.sum() <= 10  # two false ones in a thousand tests would be rare


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000))
def test_screening_does_not_depend_on_the_scale(seed):
    x, theta = random(300, 4, seed=seed), random(300, 2, seed=seed + 1)
    x[:, 0] += theta[:, 0]
    assert torch.equal(dependent(x, theta), dependent(x.sinh() * 7 - 3, theta.exp()))


def test_reduction_projects_many_columns_and_says_so():
    theta = random(1000, 2)
    x = theta @ random(2, 60, seed=1) + 0.1 * random(1000, 60, seed=2)
    reduction = Reduction(x, theta)
    assert reduction.width == 2
    assert reduction(x).shape == (1000, 2)
    assert "regression" in reduction.note
    centred = theta - theta.mean(0)
    assert ((reduction(x) - centred).std(0) < 0.1).all()
    assert Reduction(x[:, :5], theta).note == ""


def test_points_are_rows():
    simulator = SLCP()
    theta = simulator.sample_prior(50, seed=0)
    x = simulator.simulate(theta, seed=0)
    maps = Observables(simulator, theta, x)
    torch.testing.assert_close(maps.rows(x), x.reshape(200, 2))


def test_annealing_finds_both_modes_in_proportion():
    """Two normals of weights .8 and .2, 10 sd apart, from a wide normal; 1,000 walkers allow 4 x .4 / sqrt(1000) each
    at the start and again at the end, and some for resampling."""

    def log_from(u):
        return -0.5 * (u / 6).square().sum(-1)

    def log_to(u):
        left, right = (-0.5 * (u - at).square().sum(-1) for at in (-5.0, 5.0))
        return torch.logaddexp(left + math.log(0.8), right + math.log(0.2))

    generator = torch.Generator().manual_seed(0)
    start = 6 * torch.randn((2, 1000, 1), generator=generator)
    state, steps = anneal(log_from, log_to, start, generator)
    share = (state[..., 0] < 0).float().mean(1)
    assert ((share - 0.8).abs() < 0.1).all()
    assert steps >= 2
    assert ((state[..., 0] + 5)[state[..., 0] < 0].std() - 1).abs() < 0.15
