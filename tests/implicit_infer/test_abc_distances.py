"""Distances are what their formulas say, whatever the scale of the summaries and whatever failed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from implicit_infer.abc import Distance, Mahalanobis, PNorm
from implicit_infer.abc.distances import robust_scale
from implicit_simulators.benchmark.gaussian_linear import GaussianLinear


def normal(n=2000, k=3, seed=0):
    return torch.randn(n, k, generator=torch.Generator().manual_seed(seed))


DISTANCES = {"euclidean": PNorm(), "city-block": PNorm(p=1), "mahalanobis": Mahalanobis()}


@pytest.fixture(params=list(DISTANCES.values()), ids=list(DISTANCES))
def distance(request):
    return request.param


def test_robust_scale_is_the_standard_deviation_of_normal_columns():
    sd = torch.tensor([0.01, 1.0, 1000.0])
    # the MAD of n normal draws has standard error 1.17 / sqrt(n) times sd: 4 of them
    assert torch.allclose(robust_scale(normal(4000) * sd) / sd, torch.ones(3), atol=4 * 1.17 / 4000**0.5)


def test_robust_scale_shrugs_off_outliers_and_sees_rare_values():
    x = normal(1000)
    wild = x.clone()
    wild[:100, 0] = 1e30
    assert robust_scale(wild)[0] == pytest.approx(float(robust_scale(x)[0]), rel=0.3)
    rare = torch.zeros(1000, 1)
    rare[:100] = 1.0
    assert robust_scale(rare)[0] == pytest.approx(1.2533 * 0.1)  # mostly zero: the mean deviation, not the median one
    assert robust_scale(torch.full((10, 1), 3.0))[0] == 0


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_p_norm_is_its_formula(p):
    x, observed, weights = normal(), torch.tensor([0.5, -1.0, 2.0]), (1.0, 0.0, 4.0)
    measured = PNorm(p=p, weights=weights).fit(x)(x[:20], observed)
    z = ((x[:20] - observed) / robust_scale(x)).abs()
    assert torch.allclose(measured, (z**p * torch.tensor(weights)).sum(1) ** (1 / p), rtol=1e-5)


def test_mahalanobis_whitens():
    mixing = torch.tensor([[1.0, 0.0, 0.0], [5.0, 0.1, 0.0], [0.0, 2.0, 30.0]])
    x = normal(20_000) @ mixing.T
    observed = torch.zeros(3)
    expected = torch.linalg.vector_norm(normal(20_000)[:200], dim=1)
    # covariance from 20,000 draws: each distance is right within some standard errors, 1 / sqrt(20,000) = 0.007
    assert torch.allclose(Mahalanobis().fit(x)(x[:200], observed), expected, rtol=0.05)


def test_mahalanobis_leaves_out_directions_that_do_not_vary():
    x = normal(500, 2)
    doubled = torch.cat([x, x[:, :1]], 1)
    plain = Mahalanobis().fit(x)(x, torch.zeros(2))
    assert torch.allclose(Mahalanobis().fit(doubled)(doubled, torch.zeros(3)), plain, rtol=1e-3)


def test_units_do_not_matter(distance):
    x, units = normal(), torch.tensor([1e-6, 1.0, 1e6])
    plain = distance.fit(x)(x, x[0])
    assert torch.allclose(distance.fit(x * units)(x * units, x[0] * units), plain, rtol=1e-3, atol=1e-5)
    assert plain[0] == 0


def test_a_constant_summary_does_not_count(distance):
    x = torch.cat([normal(), torch.full((2000, 1), 7.0)], 1)
    observed = torch.tensor([0.0, 0.0, 0.0, 1e6])
    assert torch.allclose(distance.fit(x)(x, observed), distance.fit(x[:, :3])(x[:, :3], observed[:3]), rtol=1e-5)


def test_rows_that_are_not_finite_are_infinitely_far_and_move_no_scale(distance):
    x = normal()
    holes = torch.cat([x, torch.full((3, 3), torch.nan), torch.full((2, 3), torch.inf)])
    measure = distance.fit(holes)
    assert torch.equal(measure(x, x[0]), distance.fit(x)(x, x[0]))
    assert (measure(holes, x[0])[-5:] == torch.inf).all()
    with pytest.raises(ValueError, match="none of 5 simulations has finite summaries"):
        distance.fit(holes[-5:])


def test_features_are_summaries_and_failed_rows_are_never_summarised():
    class Summarised(GaussianLinear):
        def summarize(self, x):
            assert torch.isfinite(x).all()
            return torch.stack([x.sum(1), x.prod(1)], 1)

    simulator, x = Summarised(dim=3), normal(10)
    x[4, 0] = torch.inf
    features = PNorm().features(simulator, x)
    assert features[4].isnan().all()
    keep = torch.arange(10) != 4
    assert torch.equal(features[keep], simulator.summarize(x[keep]))


def test_summaries_of_a_wrong_shape_are_refused():
    class Wrong(GaussianLinear):
        def summarize(self, x):
            return x.sum(1)

    with pytest.raises(ValueError, match=r"expected summarize\(x\) of shape \(10, k\); got \(10,\)"):
        PNorm().features(Wrong(dim=3), normal(10))


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=30),
    st.floats(-1e6, 1e6, width=32),
    st.sampled_from([1.0, 2.0, 7.0]),
)
def test_distances_in_one_dimension_order_like_absolute_differences(values, observed, p):
    x = torch.tensor(values)[:, None]
    measured = PNorm(p=p).fit(x)(x, torch.tensor([observed]))
    assert (measured >= 0).all()
    assert not measured.isnan().any()
    order = measured.argsort(stable=True)
    assert (measured[order].diff() >= 0).all()
    if robust_scale(x) > 0:
        # monotone, except for differences that float32 cannot tell apart
        differences = (x[:, 0].double() - observed).abs()[order]
        assert (differences.diff() >= -1e-6 * (1 + differences[1:] + x.abs().max())).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PNorm(p=0.5), "p: expected a number of at least 1; got 0.5"),
        (lambda: PNorm(weights=(1.0, -1.0)), "weights: expected non-negative numbers"),
        (lambda: PNorm(weights=(1.0,)).fit(normal()), "weights: expected 3, one per summary; got 1"),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_distance_must_say_how_it_measures():
    with pytest.raises(NotImplementedError, match="Distance must write _fit"):
        Distance().fit(normal())
