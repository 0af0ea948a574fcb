"""Mutual information: closed forms, zero where there is none, errors that are true, rows not seen twice."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from implicit_estimators.ratio import LogisticRatio
from implicit_estimators.ratio.base import RatioEstimator
from implicit_estimators.ratio.mutual_information import mutual_information, paired_kl


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


def pairs(n: int, rho: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    x, noise = torch.randn(2, n, generator=torch.Generator().manual_seed(seed))
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def log_ratio(x: torch.Tensor, y: torch.Tensor, rho: float) -> torch.Tensor:
    rest = 1 - rho**2
    return -0.5 * ((y - rho * x) ** 2 / rest - y**2 + math.log(rest)).double()


@pytest.mark.slow
@pytest.mark.parametrize("rho", [0.3, 0.75, 0.99, 0.99999])
def test_the_error_is_that_of_repeats(rho: float) -> None:
    """With the true ratio: z scores of 150 repeats have mean 0 and variance 1, within five standard errors."""
    scores = []
    for seed in range(150):
        x, y = pairs(400, rho, seed)
        product = torch.stack([log_ratio(x, y.roll(k), rho) for k in range(1, 17)])
        value, error = paired_kl(log_ratio(x, y, rho), product)
        scores.append((value + 0.5 * math.log(1 - rho**2)) / error)
    z = torch.tensor(scores)
    assert abs(z.mean()) < 5 / math.sqrt(150)
    assert z.var() == pytest.approx(1, abs=5 * math.sqrt(2 / 150))


@pytest.mark.parametrize("rho", [0.0, 0.6, -0.95])
def test_bivariate_normals(rho: float) -> None:
    x, y = pairs(8000, rho, 1)
    found = mutual_information(x, y, PlugIn(), seed=0)
    assert abs(found + 0.5 * math.log(1 - rho**2)) < 4 * found.standard_error + 1e-3
    turned = mutual_information(y, x, PlugIn(), seed=0)
    assert abs(found - turned) < 4 * math.hypot(found.standard_error, turned.standard_error) + 1e-3


def test_a_network_finds_it_and_gives_the_pointwise_ratio() -> None:
    x, y = pairs(4000, 0.8, 2)
    found = mutual_information(x, y, LogisticRatio(hidden=(32, 32), epochs=25), seed=0)
    assert abs(found + 0.5 * math.log(1 - 0.64)) < 4 * found.standard_error
    near, far = found.ratio.log_ratio([[1.0, 1.0], [1.0, -1.0]])
    assert near > 0 > far
    again = copy.deepcopy(found)
    assert (again, again.standard_error) == (found, found.standard_error)


def test_independent_variables_have_none() -> None:
    """Over 20 repeats: z scores within four, their mean within five standard errors of 0."""
    scores = []
    for seed in range(20):
        x, y = pairs(400, 0.0, seed)
        found = mutual_information(x, y, PlugIn(), seed=seed)
        scores.append(float(found) / found.standard_error)
    assert max(map(abs, scores)) < 4
    assert abs(sum(scores)) / 20 < 5 / math.sqrt(20)


def test_no_value_that_was_learned_from_is_judged_by() -> None:
    class Spy(PlugIn):
        def log_ratio(self, x):
            self.judged = [*getattr(self, "judged", []), x]
            return super().log_ratio(x)

        def _fit(self, p, q, *rest) -> None:
            self.learned = torch.cat([p, q])
            assert not (p[:, 1] == q[:, 1]).any()  # every y was moved
            assert torch.equal(p.sort(0).values, q.sort(0).values)  # and the marginals are those of the pairs
            super()._fit(p, q, *rest)

    x, y = pairs(200, 0.5, 0)
    spy = Spy()
    mutual_information(x, y, spy, seed=0)
    for column in (0, 1):
        judged = torch.cat(spy.judged)[:, column]
        assert not torch.isin(judged, spy.learned[:, column]).any()
    assert len(spy.judged[0]) == 50


def test_widths_and_kinds_may_differ() -> None:
    x, y = pairs(300, 0.9, 0)
    found = mutual_information(torch.stack([x, -(x**2)], 1).double().numpy(), (y > 0).long(), PlugIn(), seed=0)
    assert found > 0.1
    assert found.ratio.width == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": torch.zeros(9)}, "x, y: expected as many rows in both; got 10 and 9"),
        ({"x": torch.zeros(7)}, "x: expected at least 8 rows; got 7"),
        ({"share": 0}, r"share: expected a share inside \(0, 1\); got 0"),
        ({"share": 0.95}, "share: expected one that leaves 2 rows"),
        ({"x": torch.full((10,), math.nan)}, "x: expected finite values"),
    ],
)
def test_bad_questions_are_refused(change, message: str) -> None:
    good = {"x": torch.randn(10), "y": torch.randn(10), "estimator": PlugIn(), "seed": 0}
    with pytest.raises(ValueError, match=message):
        mutual_information(**{**good, **change})
