r"""The benchmark's reference samples are draws from the posteriors of these simulators.

Where the posterior is known, it is compared with the samples. Where the likelihood is known, Stein's identity must hold
for draws from the posterior in unconstrained coordinates u, in which the density vanishes at the boundary:

.. math:: E[\partial_j \log p(u, x)] = 0, \qquad E[1 + (u_j - c)\, \partial_j \log p(u, x)] = 0 \text{ for any } c.

The samples are independent (closed forms and rejection) or thinned so far that they are as good as that (the GLM),
which is tested too: standard errors are those of independent draws.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from scipy.stats import chi2, kstest, norm, truncnorm
from torch import Tensor

from implicit_simulators import Stream, simulators, unconstrained
from implicit_simulators.benchmark import (
    GaussianLinear,
    GaussianLinearUniform,
    GaussianMixture,
    Published,
    TwoMoons,
    gaussian_linear_uniform,
    gaussian_mixture,
    published,
    slcp,
)
from implicit_simulators.benchmark.publication import DIMENSIONS, OBSERVATIONS, SAME_POSTERIOR
from implicit_simulators.benchmark.two_moons import SHIFT, _image

pytest.importorskip("sbibm", reason="pip install --no-deps sbibm==1.1.0")

OWN = [
    name for name in DIMENSIONS if name not in SAME_POSTERIOR
]  # the others are held to these in test_benchmark_tasks
SMOOTH = [name for name in OWN if name != "two-moons"]  # the ends of the moons are a jump, where Stein's identity fails
THINNED = {"benchmark-sir": 20, "benchmark-lotka-volterra": 20}  # what differential equations cost
FALSE_ALARM = 1e-5


def stein(name: str, one: Published, samples: Tensor) -> Tensor:
    """z-scores of both identities along whitened axes, with shape (2, d).

    In whitened coordinates the second identity says that the posterior is as wide as the samples; along the parameters,
    whose gradients are large where they are correlated, it would say little. That mean and axes come from the samples
    too shifts the z-scores by about one over the root of their number.
    """
    task: Any = simulators()[name]()
    to_theta = unconstrained(task.prior)
    u = to_theta.inv(samples.double()).detach().requires_grad_()
    theta = to_theta(u)
    density = task.log_likelihood(theta, one.observation.double()) + task.prior.log_prob(theta)
    (slope,) = torch.autograd.grad((density + to_theta.log_abs_det_jacobian(u, theta)).sum(), u)
    u = u.detach()
    axes = torch.linalg.cholesky(u.T.cov())
    white = torch.linalg.solve_triangular(axes, (u - u.mean(0)).T, upper=False).T
    slope = slope @ axes
    terms = torch.stack((slope, 1 + white * slope))
    return terms.mean(1) / terms.std(1) * terms.shape[1] ** 0.5


@pytest.mark.parametrize("name", SMOOTH)
def test_reference_samples_fit_the_likelihood(name: str) -> None:
    every = THINNED.get(name, 1)
    z = torch.stack([stein(name, p, p.reference_samples[::every]) for p in all_published(name)])
    assert z.abs().max() < norm.isf(FALSE_ALARM / 2 / z.numel())
    # the ten observations are independent: together they see what each alone does not
    assert z.square().sum(0).max() < chi2.isf(FALSE_ALARM / z[0].numel(), len(OBSERVATIONS))


@pytest.mark.parametrize("name", SMOOTH)
def test_samples_of_another_observation_do_not(name: str) -> None:
    first, second = published(name, 1), published(name, 2)
    z = stein(name, first, second.reference_samples[::50])
    assert not (z.abs() < 5).all()


@pytest.mark.parametrize(
    ("name", "module", "constant", "value"),
    [
        ("slcp", slcp, "EPSILON", 1e-4),
        ("gaussian-mixture", gaussian_mixture, "SCALES", (1.05, 0.1)),
        ("gaussian-linear-uniform", gaussian_linear_uniform, "VARIANCE", 0.105),
    ],
)
def test_a_small_change_of_the_model_is_seen(
    name: str, module: Any, constant: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, constant, value)
    z = torch.stack([stein(name, p, p.reference_samples) for p in all_published(name)])
    assert z.square().sum(0).max() > chi2.isf(FALSE_ALARM / z[0].numel(), len(OBSERVATIONS))


@functools.cache
def all_published(name: str) -> list[Any]:
    return [published(name, observation) for observation in OBSERVATIONS]


@pytest.mark.parametrize("name", OWN)
def test_reference_samples_are_as_good_as_independent(name: str) -> None:
    """Batch means vary as those of independent draws do, and no row occurs twice.

    The ratio of the two variances is one, plus twice the sum of all autocorrelations. Of 100 batches its relative
    standard error is sqrt(2 / 99); observations are independent, and so are coordinates, nearly.
    """
    ratios = []
    for one in all_published(name):
        samples = one.reference_samples.double()
        assert len({row.tobytes() for row in samples.numpy()}) == len(samples) == 10_000
        means = samples.unflatten(0, (100, 100)).mean(1)
        ratios.append(100 * means.var(0) / samples.var(0))
    assert torch.stack(ratios).mean() < 1 + 4 * (2 / 99 / torch.stack(ratios).numel()) ** 0.5


def ks(values: Tensor, reference: Any) -> float:
    return float(kstest(values.double().numpy(), reference, method="asymp").pvalue)


@pytest.mark.parametrize("name", ["gaussian-linear", "gaussian-linear-uniform"])
def test_reference_samples_of_independent_parameters_fit_the_exact_posterior(name: str) -> None:
    """Each coordinate against its distribution function, and all pairs uncorrelated; the bounds are Bonferroni's."""
    for one in all_published(name):
        samples = one.reference_samples
        if name == "gaussian-linear":
            posterior: Any = GaussianLinear().posterior(one.observation)
            marginals = [norm(float(m), 0.05**0.5) for m in posterior.mean]
            torch.testing.assert_close(posterior.variance, torch.full((10,), 0.05))
        else:
            posterior = GaussianLinearUniform().posterior(one.observation)
            sigma = 0.1**0.5
            marginals = [truncnorm((-1 - m) / sigma, (1 - m) / sigma, m, sigma) for m in one.observation.tolist()]
        densities = [torch.from_numpy(m.logpdf(c.numpy())) for m, c in zip(marginals, samples.T, strict=True)]
        expected = torch.stack(densities).sum(0).float()
        torch.testing.assert_close(posterior.log_prob(samples), expected, rtol=1e-4, atol=1e-4)
        values = [ks(column, marginal.cdf) for column, marginal in zip(samples.T, marginals, strict=True)]
        assert min(values) > FALSE_ALARM / 100
        correlations = torch.corrcoef(samples.T) - torch.eye(10)
        assert correlations.abs().max() < norm.isf(FALSE_ALARM / 2 / 450) / 100


@pytest.mark.parametrize("kind", [GaussianMixture, TwoMoons])
def test_reference_samples_in_the_plane_fit_the_exact_posterior(kind: Any) -> None:
    """Both coordinates, and distance and angle of the noise behind the data, against as many exact draws."""
    task = kind()

    def features(theta: Tensor, x: Tensor) -> Tensor:
        noise = x - theta if kind is GaussianMixture else x - _image(theta) - torch.tensor([SHIFT, 0.0])
        polar = torch.stack((noise.norm(dim=1), torch.atan2(noise[:, 1], noise[:, 0])), 1)
        return torch.cat((theta, polar), 1)

    found = []
    for i, one in enumerate(all_published(task.name)):
        with Stream.of(i).forked():
            exact = task.posterior(one.observation).sample((10_000,))
        pairs = zip(features(one.reference_samples, one.observation).T, features(exact, one.observation).T, strict=True)
        found += [ks(a, b.double().numpy()) for a, b in pairs]
    assert min(found) > FALSE_ALARM / len(found)
