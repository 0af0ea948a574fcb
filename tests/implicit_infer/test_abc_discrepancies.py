"""Discrepancies of whole data sets agree with other programs, many sets with one call, and see what they should."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.distributions import Independent, Uniform

from implicit_estimators.discrepancies import MMD, EnergyDistance
from implicit_estimators.kernels import median_distance
from implicit_infer.abc import RejectionABC
from implicit_infer.abc.discrepancies import (
    AmortisedClassifier,
    Classifier,
    CramerVonMises,
    Energy,
    Hilbert,
    KernelMMD,
    NearestNeighbourKL,
    SetDistance,
    Sinkhorn,
    Wasserstein,
)
from implicit_infer.abc.discrepancies import base as sets_base
from implicit_infer.abc.discrepancies.hilbert import hilbert_index
from implicit_infer.abc.discrepancies.sinkhorn import transport_cost
from implicit_infer.abc.distances import robust_scale
from implicit_infer.posteriors.method import Question
from implicit_simulators import Simulator

DISTANCES = {
    "mmd": KernelMMD(),
    "mmd-unbiased": KernelMMD(unbiased=True),
    "mmd-features": KernelMMD(random_features=500),
    "energy": Energy(),
    "wasserstein": Wasserstein(),
    "hilbert": Hilbert(),
    "sinkhorn": Sinkhorn(iterations=30),
    "debiased-sinkhorn": Sinkhorn(epsilon=0.5, iterations=30, debiased=True),
    "cramer-von-mises": CramerVonMises(),
    "kullback-leibler": NearestNeighbourKL(),
    "accuracy": Classifier("accuracy"),
    "log-ratio": Classifier("log-ratio"),
    "jensen-shannon": Classifier(),
}


class Sets(Simulator):
    """m points with p columns, normal about theta."""

    name = "sets"

    def __init__(self, m=40, p=1):
        self.event_shape, self.points = torch.Size([m * p]), m
        self.parameter_names = tuple(f"mean_{i}" for i in range(p))
        self.prior = Independent(Uniform(torch.full((p,), -3.0), torch.full((p,), 3.0)), 1)

    def _simulate(self, theta, stream):
        return theta.repeat(1, self.points) + torch.randn(len(theta), *self.event_shape, generator=stream.torch())


class Plain(Simulator):
    name = "plain"
    event_shape = torch.Size([1])
    parameter_names = ("theta",)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def rows(sets):
    """Features of sets (n, m, p)."""
    return torch.cat([torch.full((len(sets), 1), float(sets.shape[2])), sets.flatten(1)], dim=1)


def measured(distance, sets, observed):
    """Distances of sets (n, m, p) from the observed (m, p), and both in the units that they are compared in."""
    features = rows(torch.cat([sets, observed[None]]))
    found = distance.fit(features)(features[:-1], features[-1])
    centre, scale = observed.median(0).values, robust_scale(observed)
    return found, (sets - centre) / scale, (observed - centre) / scale


@pytest.fixture(params=list(DISTANCES.values()), ids=list(DISTANCES))
def distance(request):
    return request.param


@pytest.mark.parametrize("p", [1, 2])
def test_many_sets_are_measured_as_one_and_whatever_is_held(distance, p, monkeypatch):
    sets, observed = normal(7, 30, p) * 2, normal(30, p, seed=1)
    together, _, _ = measured(distance, sets, observed)
    # the simulations' scale is used only where the observation has none: here it has
    alone = torch.cat([measured(distance, one[None], observed)[0] for one in sets])
    assert torch.allclose(together, alone, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(sets_base, "HELD", 1)
    assert torch.allclose(measured(distance, sets, observed)[0], together, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("p", [1, 2])
def test_farther_laws_are_farther(distance, p):
    # shifts of 0, 1.5 and 4 standard deviations of 100 points: 0, 10 and 28 standard errors of a mean
    observed = normal(100, p, seed=1)
    sets = torch.stack([normal(100, p, seed=2) + shift for shift in (0.0, 1.5, 4.0)])
    found = measured(distance, sets, observed)[0]
    assert found[0] < found[1]
    assert found[1] < found[2] or DISTANCES["accuracy"] == distance  # accuracy cannot be more than one


@pytest.mark.parametrize("p", [1, 2])
def test_order_of_points_and_units_do_not_matter(distance, p):
    sets, observed = normal(4, 40, p, seed=3) + 0.5, normal(40, p, seed=4)
    plain = measured(distance, sets, observed)[0]
    scaled = measured(distance, sets * 1000 + 7, observed * 1000 + 7)[0]
    assert torch.allclose(plain, scaled, rtol=2e-3, atol=2e-3)
    if not isinstance(distance, Classifier):  # whose folds are of places
        shuffled = sets[:, torch.randperm(40, generator=torch.Generator().manual_seed(5))]
        assert torch.allclose(plain, measured(distance, shuffled, observed)[0], rtol=1e-4, atol=1e-5)


def test_failed_sets_are_infinitely_far(distance):
    sets, observed = normal(5, 20, 1), normal(20, 1, seed=1)
    whole = measured(distance, sets, observed)[0]
    features = rows(torch.cat([sets, observed[None]]))
    features[2] = torch.nan
    found = distance.fit(features)(features[:5], features[5])
    assert found[2] == torch.inf
    keep = [0, 1, 3, 4]
    assert torch.allclose(found[keep], whole[keep], rtol=1e-5)


def test_energy_is_that_of_scipy_and_of_the_estimators():
    sets, observed = normal(3, 25, 1) * 1.5, normal(25, 1, seed=1)
    found, ours, target = measured(Energy(), sets, observed)
    scipy = [stats.energy_distance(one[:, 0].numpy(), target[:, 0].numpy()) for one in ours]
    assert np.allclose(found.numpy(), scipy, rtol=1e-5)
    sets, observed = normal(3, 25, 3), normal(25, 3, seed=1)
    found, ours, target = measured(Energy(), sets, observed)
    squared = torch.stack([EnergyDistance(unbiased=False).squared(one, target) for one in ours])
    assert torch.allclose(found.square(), squared, rtol=1e-4)


def test_wasserstein_is_that_of_scipy_and_of_the_best_assignment():
    sets, observed = normal(3, 25, 1) * 1.5, normal(25, 1, seed=1)
    found, ours, target = measured(Wasserstein(), sets, observed)
    scipy = [stats.wasserstein_distance(one[:, 0].numpy(), target[:, 0].numpy()) for one in ours]
    assert np.allclose(found.numpy(), scipy, rtol=1e-5)
    assert torch.allclose(measured(Hilbert(), sets, observed)[0], found, rtol=1e-5)
    second = measured(Wasserstein(p=2.0), sets, observed)[0]
    best = (ours.sort(1).values - target.sort(0).values).square().mean((1, 2)).sqrt()
    assert torch.allclose(second, best, rtol=1e-5)


def test_hilbert_and_sinkhorn_bound_the_exact_distance_in_the_plane():
    ot = pytest.importorskip("ot")
    sets, observed = normal(3, 40, 2) + 0.7, normal(40, 2, seed=1)
    hilbert, ours, target = measured(Hilbert(), sets, observed)
    exact = torch.tensor([ot.emd2([], [], torch.cdist(one, target).numpy()) for one in ours])
    # any assignment costs at least as much as the best; the curve's is of its order
    assert (hilbert >= exact * (1 - 1e-5)).all()
    assert (hilbert <= 2.5 * exact).all()
    sinkhorn = measured(Sinkhorn(epsilon=0.01, iterations=300), sets, observed)[0]
    # the plan's cost exceeds the best by at most epsilon times log(m), with epsilon 0.01 of a median cost of about 1.5
    assert (sinkhorn >= exact * (1 - 1e-3)).all()
    assert (sinkhorn <= exact + 0.02 * math.log(40)).all()


def test_sinkhorn_is_that_of_pot():
    ot = pytest.importorskip("ot")
    costs = torch.cdist(normal(2, 30, 2), normal(30, 2, seed=1).expand(2, -1, -1)).double()
    ours = transport_cost(costs, 0.1, 500)
    uniform = np.full(30, 1 / 30)
    theirs = [
        float((ot.sinkhorn(uniform, uniform, cost.numpy(), 0.1, numItermax=5000, stopThr=1e-12) * cost.numpy()).sum())
        for cost in costs
    ]
    assert np.allclose(ours.numpy(), theirs, rtol=1e-5)


def test_sinkhorn_survives_costs_a_thousand_times_epsilon():
    costs = torch.tensor([[[0.0, 1000.0], [1000.0, 0.0]], [[1e5, 0.0], [1e5, 1e5]]])
    # each row and column of the second must give up its whole weight: one assignment costs 1e5 a half, the other 1e5
    found = transport_cost(costs, 1.0, 200)
    assert float(found[0]) == pytest.approx(0, abs=1e-4)
    assert 5e4 * (1 - 1e-4) <= float(found[1]) <= 6e4


def test_debiased_sinkhorn_of_a_set_from_itself_is_zero():
    observed = normal(30, 2)
    found = measured(Sinkhorn(epsilon=0.5, debiased=True), observed[None], observed)[0]
    assert float(found) == pytest.approx(0, abs=1e-3)
    assert float(measured(Sinkhorn(epsilon=0.5), observed[None], observed)[0]) > 0.1


@pytest.mark.parametrize("unbiased", [False, True])
def test_mmd_is_that_of_the_estimators_at_the_median_distance(unbiased):
    sets, observed = normal(3, 25, 2) * 2, normal(25, 2, seed=1)
    found, ours, target = measured(KernelMMD(unbiased=unbiased), sets, observed)
    bandwidth = median_distance(target, target[:0])
    squared = torch.stack([MMD((bandwidth,), unbiased=unbiased).squared(one, target) for one in ours])
    assert torch.allclose(found.sign() * found.square(), squared, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("unbiased", [False, True])
def test_random_features_approach_the_exact_discrepancy(unbiased):
    sets, observed = normal(5, 50, 2) + 0.5, normal(50, 2, seed=1)
    exact = measured(KernelMMD(unbiased=unbiased), sets, observed)[0].square()
    near = measured(KernelMMD(unbiased=unbiased, random_features=20_000), sets, observed)[0].square()
    # a mean of 20,000 products of cosines, each of variance below 4 times 2 / 20,000: 5 of its standard errors
    assert torch.allclose(near, exact, atol=5 * math.sqrt(4 / 20_000))


def test_cramer_von_mises_is_that_of_scipy_with_and_without_ties():
    for sets, observed in (
        (normal(3, 25, 1) * 1.5, normal(25, 1, seed=1)),
        ((normal(3, 25, 1) * 2).round(), (normal(25, 1, seed=1) * 2).round()),
    ):
        found, ours, target = measured(CramerVonMises(), sets, observed)
        for value, one in zip(found, ours, strict=True):
            points = np.sort(np.concatenate([one[:, 0].numpy(), target[:, 0].numpy()]))
            gaps = [
                np.searchsorted(np.sort(values[:, 0].numpy()), points, side="right") / 25 for values in (one, target)
            ]
            assert float(value) == pytest.approx(np.sqrt(np.mean((gaps[0] - gaps[1]) ** 2)), abs=1e-6)
    # scipy's statistic, without ties, is n m / (n + m)^2 times the sum of squared gaps
    found, ours, target = measured(CramerVonMises(), normal(1, 25, 1), normal(25, 1, seed=1))
    scipy = stats.cramervonmises_2samp(ours[0, :, 0].numpy(), target[:, 0].numpy()).statistic
    assert float(found) ** 2 * 50 * 25 * 25 / 50**2 == pytest.approx(scipy, rel=1e-5)


@pytest.mark.parametrize(("p", "neighbours"), [(1, 1), (1, 3), (2, 1)])
def test_nearest_neighbour_divergence_is_its_formula(p, neighbours):
    sets, observed = normal(3, 25, p) * 1.5, normal(25, p, seed=1)
    found, ours, target = measured(NearestNeighbourKL(neighbours), sets, observed)
    for value, one in zip(found, ours, strict=True):
        among, other = torch.cdist(target, target), torch.cdist(target, one)
        rho = among.sort(1).values[:, neighbours]  # the nearest is the point itself
        nu = other.sort(1).values[:, neighbours - 1]
        expected = p * (nu / rho).log().mean() + math.log(25 / 24)
        assert float(value) == pytest.approx(float(expected), abs=1e-3)


def test_nearest_neighbour_divergence_is_about_right():
    observed, sets = normal(4000, 1, seed=1), normal(1, 4000, 1) * 2
    found = measured(NearestNeighbourKL(), sets, observed)[0]
    # KL(N(0,1) || N(0,4)) = log 2 + 1/8 - 1/2; log-distances of neighbours vary by pi / sqrt(6) each, twice
    assert float(found) == pytest.approx(
        math.log(2) + 1 / 8 - 1 / 2, abs=4 * math.pi / math.sqrt(6) * math.sqrt(2 / 4000)
    )


def test_classifiers_score_held_out_points_only():
    """Of equal laws, few points and many terms, a score on the training points would be far above chance."""
    sets, observed = normal(400, 30, 3), normal(30, 3, seed=1)
    for distance, chance in ((Classifier("accuracy", penalty=0.01), 0.5), (Classifier(penalty=0.01), 0.0)):
        found = measured(distance, sets, observed)[0]
        spread = float(found.std())
        # one observed set is in all 400: its own luck does not average out, and is of the spread of one
        assert float(found.mean()) <= chance + 2 * spread
        assert float(found.mean()) < chance + 0.02


def test_log_ratio_score_is_the_divergence():
    # of normal laws one apart: KL = 1/2; the log-ratio of 2,000 points has standard deviation 1, so 4 standard errors,
    # and as much for what the regression, of two terms, does not know
    observed, sets = normal(2000, 1, seed=1) + 1, normal(1, 2000, 1)
    found = measured(Classifier("log-ratio", degree=2), sets, observed)[0]
    assert float(found) == pytest.approx(0.5, abs=8 / math.sqrt(2000))


def test_accuracy_is_that_of_the_best_classifier():
    observed, sets = normal(2000, 1, seed=1) + 2, normal(1, 2000, 1)
    best = float(torch.special.ndtr(torch.tensor(1.0)))
    # two points per row of 2,000: four standard errors
    assert float(measured(Classifier("accuracy", degree=1), sets, observed)[0]) == pytest.approx(
        best, abs=4 * math.sqrt(best * (1 - best) / 4000)
    )


def test_one_network_tells_sets_apart_that_it_has_not_seen():
    theta = torch.linspace(-3, 3, 300)[torch.randperm(300, generator=torch.Generator().manual_seed(0))]
    sets = normal(300, 60, 1) + theta[:, None, None]
    distance = AmortisedClassifier("log-ratio", steps=400, hidden=(32,))
    measure = distance.fit(rows(sets))
    fresh = torch.tensor([0.0, 0.5, 1.0, 1.5])
    observed = rows(normal(1, 60, 1, seed=7))[0]
    found = measure(rows(normal(4, 60, 1, seed=8) + fresh[:, None, None]), observed)
    assert (found.diff() > 0).all()
    # KL of unit normals: shift^2 / 2 = 0, 1/8, 1/2, 9/8; the mean of 60 log-ratios of standard deviation `shift` has
    # standard error 0.2 at 1.5, and the training as much again
    assert torch.allclose(found, fresh.square() / 2, atol=0.6)
    failed = rows(normal(2, 60, 1))
    failed[0] = torch.nan
    assert measure(failed, observed)[0] == torch.inf


def test_hilbert_curve_visits_each_cell_once_and_only_neighbours():
    for p, bits in ((1, 3), (2, 3), (3, 2)):
        cells = torch.tensor(list(itertools.product(range(2**bits), repeat=p)))
        index = hilbert_index(cells, bits)
        assert sorted(index.tolist()) == list(range(2 ** (bits * p)))
        steps = cells[index.argsort()].diff(dim=0).abs().sum(1)
        assert (steps == 1).all()
    with pytest.raises(ValueError, match="bits: expected between 1 and 62 over the 4 columns; got 16"):
        hilbert_index(torch.zeros(1, 4, dtype=torch.int64), 16)


@settings(max_examples=30)
@given(st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=12), st.integers(0, 2**31))
def test_metrics_are_zero_at_the_observation_and_symmetric_in_order(values, seed):
    observed = torch.tensor(values)[:, None]
    shuffled = observed[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]
    features = rows(torch.stack([shuffled, observed]))
    for distance in (Energy(), Wasserstein(), Hilbert(), CramerVonMises()):
        assert float(distance.fit(features)(features[:1], features[1])) == pytest.approx(0, abs=1e-5)


def test_what_a_set_is():
    simulator = Sets(m=5, p=2)
    x = simulator.simulate(simulator.sample_prior(3, seed=0), seed=1)
    features = Energy().features(simulator, x)
    assert features.shape == (3, 11)
    assert torch.equal(sets_base.as_sets(features), x.reshape(3, 5, 2))
    x[1, 3] = torch.nan
    assert Energy().features(simulator, x)[1].isnan().all()
    plain = Plain()
    with pytest.raises(ValueError, match=r"expected data sets, x of event shape \(m,\) or \(m, p\)"):
        Energy().features(plain, torch.zeros(3, 1))


def test_lags_embed_a_series():
    series = torch.arange(6.0).expand(2, -1)[:, :, None]
    assert torch.equal(sets_base.delayed(series, (1, 3))[0], torch.tensor([[3.0, 2, 0], [4.0, 3, 1], [5.0, 4, 2]]))
    # a walk and its values in another order have equal marginals; their steps differ
    walk = normal(200, seed=1).cumsum(0)
    mixed = walk[torch.randperm(200, generator=torch.Generator().manual_seed(0))]
    plain = Plain()
    for distance, seen in ((Energy(), False), (Energy(lags=(1,)), True)):
        features = distance.features(plain, torch.stack([mixed, walk]))
        assert (float(distance.fit(features)(features[:1], features[1])) > 0.1) == seen
    with pytest.raises(ValueError, match="lags: expected less than the series' length of 3 less one; got 5"):
        sets_base.delayed(series[:, :3], (5,))


def test_adjustment_regresses_on_octiles(distance):
    sets = normal(6, 101, 2)
    features = rows(sets)
    regressors = distance.fit(features).regressors(features)
    assert regressors.shape == (6, 15)
    octiles = torch.quantile(sets, torch.arange(1, 8) / 8, dim=1).movedim(0, 1).flatten(1)
    assert torch.allclose(regressors[:, :14], octiles, atol=1e-5)


def test_rejection_with_a_set_distance_finds_the_mean():
    simulator = Sets(m=40)
    observed = normal(40, seed=9) + 1
    posterior = RejectionABC(keep=50, distance=Energy(), adjust="ridge").infer(
        Question(simulator, observed, 2000, 0, progress=False)
    )
    # the posterior is N(mean, 1/40) but for the prior's bounds; 50 draws, and what a tolerance adds
    draws = posterior.particles()
    mean = float(draws.weights @ draws.theta[:, 0].double())
    assert mean == pytest.approx(float(observed.mean()), abs=4 * math.sqrt(1 / 40 / 20) + 0.05)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Energy(lags=(0,)), r"lags: expected positive ints, at least one; got \(0,\)"),
        (lambda: KernelMMD(bandwidths=(0.0,)), "bandwidths: expected positive numbers"),
        (lambda: KernelMMD(random_features=0), "random_features: expected a positive int; got 0"),
        (lambda: Wasserstein(p=0.5), "p: expected a number of at least 1; got 0.5"),
        (lambda: Wasserstein(projections=0), "projections: expected a positive int; got 0"),
        (lambda: Hilbert(p=0.5), "p: expected a number of at least 1; got 0.5"),
        (lambda: Sinkhorn(p=0.5), "p: expected a number of at least 1; got 0.5"),
        (lambda: Sinkhorn(epsilon=0.0), "epsilon: expected a positive number; got 0.0"),
        (lambda: Sinkhorn(iterations=0), "iterations: expected a positive int; got 0"),
        (lambda: NearestNeighbourKL(0), "neighbours: expected a positive int; got 0"),
        (
            lambda: measured(NearestNeighbourKL(9), normal(2, 5, 1), normal(5, 1)),
            "neighbours: expected less than the 5",
        ),
        (lambda: Classifier("auc"), "score: expected 'accuracy', 'log-ratio' or 'jensen-shannon'; got 'auc'"),
        (lambda: Classifier(degree=0), "degree: expected a positive int; got 0"),
        (lambda: Classifier(folds=1), "folds: expected an int of at least 2; got 1"),
        (lambda: Classifier(penalty=0.0), "penalty: expected a positive number; got 0.0"),
        (lambda: measured(Classifier(folds=9), normal(2, 5, 1), normal(5, 1)), "folds: expected at most the number of"),
        (lambda: AmortisedClassifier("auc"), "score: expected"),
        (lambda: AmortisedClassifier(steps=0), "steps, learning_rate: expected positive numbers; got 0"),
        (lambda: AmortisedClassifier(near=2.0), r"near: expected a number in \[0, 1\]; got 2.0"),
        (lambda: AmortisedClassifier().fit(rows(normal(1, 5, 1))), "features: expected at least two simulations"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_set_distance_must_say_how_it_compares():
    with pytest.raises(NotImplementedError, match="SetDistance must write against"):
        measured(SetDistance(), normal(2, 5, 1), normal(5, 1))
