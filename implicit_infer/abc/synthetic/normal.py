r"""Summaries taken for normal: the plug-in estimate of their density, and one without bias.

The plug-in estimate is the normal density at the sample mean and covariance of m simulations,
:math:`N(s_o; \hat\mu, \hat\Sigma)`. Its expectation depends on m, and so does the posterior of a chain that uses it,
though little as long as summaries are nearly normal (Price et al., 2018). The estimate of Ghurye & Olkin (1969) has the
normal density as its expectation for every m: a chain that uses it targets the same posterior for all m.

References:
    | Bayesian synthetic likelihood (Price, Drovandi, Lee & Nott, 2018)
    | https://doi.org/10.1080/10618600.2017.1302882
    | Unbiased estimation of some multivariate probability densities (Ghurye & Olkin, 1969)
    | https://doi.org/10.1214/aoms/1177697501
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_infer.abc.synthetic.base import LikelihoodEstimate
from implicit_infer.abc.synthetic.covariance import Sample, Shrinkage, standardised


@dataclass(frozen=True)
class NormalEstimate(LikelihoodEstimate):
    r"""The normal density at the sample mean and (shrunk) covariance.

    .. math:: \log \hat p = -\tfrac12 (s_o - \hat\mu)^\top \hat\Sigma^{-1} (s_o - \hat\mu) - \tfrac12 \log\det\hat\Sigma
        - \tfrac{k}{2} \log 2\pi, \qquad \hat\Sigma = D^{1/2} \hat R D^{1/2}

    with the sample variances D (divisor m - 1) and a correlation matrix by ``shrinkage``.

    Args:
        shrinkage: What is made of the sample correlations.
    """

    shrinkage: Shrinkage = field(default_factory=Sample)

    def least(self, summaries: int) -> int:
        """One more than the covariance needs to be of full rank; 3 where it is shrunk."""
        return max(3, summaries + 2) if isinstance(self.shrinkage, Sample) else 3

    def _estimate(self, summaries: Tensor, observed: Tensor) -> Tensor:
        z, valid, mean, scale = standardised(summaries)
        square, log_det = _quadratic(self.shrinkage(z, valid), (observed - mean) / scale)
        k = summaries.shape[2]
        return -0.5 * (square + log_det + k * math.log(2 * math.pi)) - scale.log().sum(1)


@dataclass(frozen=True)
class UnbiasedEstimate(LikelihoodEstimate):
    r"""The estimate of a normal density that is right on average, whatever the number of simulations.

    With :math:`M = (m - 1) \hat\Sigma` and m > k + 3,

    .. math:: \hat p = (2\pi)^{-k/2} \frac{c(k, m - 2)}{c(k, m - 1)\,(1 - 1/m)^{k/2}} \, |M|^{-(m - k - 2)/2}
        \, \psi\!\left(M - \frac{(s_o - \hat\mu)(s_o - \hat\mu)^\top}{1 - 1/m}\right)^{(m - k - 3)/2},
        \quad c(k, v) = \frac{2^{-kv/2} \pi^{-k(k-1)/4}}{\prod_{i=1}^k \Gamma\left(\frac{v - i + 1}{2}\right)},

    where :math:`\psi(A) = \det A` if A is positive definite, and 0 otherwise: an observation that is far from the
    simulations has an estimate of exactly zero, where a chain cannot go.
    """

    def least(self, summaries: int) -> int:
        """The formula needs m > k + 3."""
        return summaries + 4

    def _estimate(self, summaries: Tensor, observed: Tensor) -> Tensor:
        z, valid, mean, scale = standardised(summaries)
        k = summaries.shape[2]
        m = valid.sum(1).double()
        square, log_det = _quadratic(Sample()(z, valid), (observed - mean) / scale)
        # |M - u u' / (1 - 1/m)| = |M| (1 - u' M^-1 u / (1 - 1/m))
        inside = 1 - square / ((m - 1) * (1 - 1 / m))
        log_m = log_det + 2 * scale.log().sum(1) + k * (m - 1).log()
        value = (
            -0.5 * k * math.log(2 * math.pi)
            + _log_c(k, m - 2)
            - _log_c(k, m - 1)
            - 0.5 * k * (1 - 1 / m).log()
            - 0.5 * log_m
            + 0.5 * (m - k - 3) * inside.clamp_min(1e-300).log()
        )
        return torch.where(inside > 0, value, -torch.inf)


def _log_c(k: int, v: Tensor) -> Tensor:
    i = torch.arange(k, device=v.device)
    gammas = torch.lgamma((v[:, None] - i) / 2).sum(1)
    return -0.5 * k * v * math.log(2) - 0.25 * k * (k - 1) * math.log(math.pi) - gammas


def _quadratic(correlation: Tensor, away: Tensor) -> tuple[Tensor, Tensor]:
    """The squared Mahalanobis length of ``away`` (n, k) and the log determinant; NaN where not positive definite."""
    factor, failed = torch.linalg.cholesky_ex(correlation)
    white = torch.linalg.solve_triangular(factor, away[..., None], upper=False)[..., 0]
    log_det = 2 * factor.diagonal(dim1=1, dim2=2).log().sum(1)
    bad = failed != 0
    return torch.where(bad, torch.nan, white.square().sum(1)), torch.where(bad, torch.nan, log_det)
