"""Conditional ratios against linear normals, where p(x | c)/q(x | c) is known."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal

from implicit_estimators.ratio import LogisticRatio
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.conditional import ConditionalRatio


class PlugIn(RatioEstimator):
    """Normal densities fitted to both sets: the answer is there at once, so that tests can repeat it."""

    name = "plug-in"

    def _fit(self, p, q, seed, device, progress) -> None:
        self.fits = [normal(side.double()) for side in (p, q)]
        self.held_out = (p.cpu(), q.cpu())

    def _log_ratio(self, x):
        first, second = (fit.log_prob(x.double()) for fit in self.fits)
        return (first - second).float()


def normal(x: torch.Tensor) -> MultivariateNormal:
    return MultivariateNormal(x.mean(0), torch.atleast_2d(x.T.cov()) + 1e-9 * torch.eye(x.shape[1]).double())


def linear(n: int, seed: int, slope: float, place: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """C ~ N(place, 1) and x | c ~ N(slope c, 1)."""
    noise, c = torch.randn(2, n, 1, generator=torch.Generator().manual_seed(seed))
    return slope * (c + place) + noise, c + place


def truth(x: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """For slopes 1 and -0.5."""
    return (Normal(c, 1.0).log_prob(x) - Normal(-0.5 * c, 1.0).log_prob(x))[:, 0]


@pytest.mark.parametrize("place", [0.0, 1.5])
def test_linear_normals_whose_conditions_may_differ(place: float) -> None:
    """A normal density's parameters have errors near 1/sqrt(n) = 0.01; log r has a few such terms."""
    (x_p, c_p), (x_q, c_q) = linear(10_000, 0, 1.0), linear(10_000, 1, -0.5, place)
    ratio = ConditionalRatio(PlugIn()).fit(x_p, x_q, condition=(c_p, c_q), seed=0)
    assert ratio.conditions is not None
    x, c = linear(500, 2, 0.2)
    assert (ratio.log_ratio(x, c) - truth(x, c)).abs().mean() < 0.1
    assert ratio.ratio(x, c).log().mean() == pytest.approx(float(ratio.log_ratio(x, c).mean()), abs=1e-5)
    # where the laws of c differ, the joint ratio alone is wrong
    wrong = ConditionalRatio(PlugIn()).fit(x_p, x_q, condition=(c_p, c_q), same_conditions=True, seed=0)
    assert wrong.conditions is None
    error = (wrong.log_ratio(x, c) - truth(x, c)).abs().mean()
    assert error > 0.5 if place else error < 0.1


def test_without_q_it_is_the_marginal() -> None:
    """x | c ~ N(c, 1) against x ~ N(0, 2)."""
    x_p, c_p = linear(10_000, 0, 1.0)
    ratio = ConditionalRatio(PlugIn()).fit(x_p, condition=c_p, seed=0)
    assert ratio.conditions is None
    x, c = linear(500, 2, 1.0)
    expected = (Normal(c, 1.0).log_prob(x) - Normal(0.0, 2**0.5).log_prob(x))[:, 0]
    assert (ratio.log_ratio(x, c) - expected).abs().mean() < 0.1


def test_the_same_conditions_need_no_second_fit() -> None:
    (x_p, c), (x_q, _) = linear(200, 0, 1.0), linear(200, 1, 1.0)
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    for other in (c, c[order]):
        assert ConditionalRatio(PlugIn()).fit(x_p, x_q, condition=(c, other), seed=0).conditions is None


def test_one_condition_meets_many_points_and_one_point_many_conditions() -> None:
    draw = torch.Generator().manual_seed(0)
    x, c = torch.randn(300, 2, generator=draw), torch.randn(300, 3, generator=draw)
    ratio = ConditionalRatio(PlugIn()).fit(x, x.flip(0), condition=(c, c.flip(0) + 0.5), seed=0)
    many = ratio.log_ratio(x, c[:1].expand(300, 3))
    assert torch.allclose(ratio.log_ratio(x, c[:1]), many)
    assert torch.allclose(ratio.log_ratio(x, c[0]), many)
    assert torch.allclose(ratio.log_ratio(x.numpy(), c[0].tolist()), many)
    assert torch.allclose(ratio.log_ratio(x[0], c), ratio.log_ratio(x[:1].expand(300, 2), c))
    with pytest.raises(
        ValueError, match="x, condition: expected as many rows in both, or one in either; got 300 and 2"
    ):
        ratio.log_ratio(x, c[:2])
    with pytest.raises(ValueError, match="condition: expected 3 columns; got 2"):
        ratio.log_ratio(x, c[:, :2])


@pytest.mark.parametrize("place", [0.0, 1.0])
def test_files(tmp_path, place: float) -> None:
    (x_p, c_p), (x_q, c_q) = linear(300, 0, 1.0), linear(300, 1, -0.5, place)
    base = LogisticRatio(hidden=(8,), epochs=3)
    condition = (c_p, c_q) if place else (c_p, c_p)
    ratio = ConditionalRatio(base).fit(x_p, x_q, condition=condition, seed=0)
    ratio.save(tmp_path / "ratio.safetensors")
    again = ConditionalRatio.load(tmp_path / "ratio.safetensors")
    assert torch.equal(again.log_ratio(x_q, c_q), ratio.log_ratio(x_q, c_q))
    assert (again.conditions is None) == (not place)
    assert again.check().verdict == ratio.check().verdict
    assert repr(again) == repr(ratio)
    with pytest.raises(ValueError, match="expected a saved logistic; got a conditional"):
        LogisticRatio.load(tmp_path / "ratio.safetensors")


def test_bad_questions_are_refused() -> None:
    (x, c), ratio = linear(20, 0, 1.0), ConditionalRatio(PlugIn())
    with pytest.raises(RuntimeError, match="call fit"):
        ratio.log_ratio(x, c)
    with pytest.raises(TypeError, match="condition: expected a tuple of the conditions of p and of q; got Tensor"):
        ratio.fit(x, x, condition=c)
    with pytest.raises(ValueError, match="condition: expected one row for each of the 20 samples of q; got 19"):
        ratio.fit(x, x, condition=(c, c[1:]))
    with pytest.raises(TypeError, match="base: expected a RatioEstimator; got str"):
        ConditionalRatio("logistic")
