r"""Summaries that are not normal: a kernel density for each, tied together by the copula of a normal law.

.. math:: \hat p(s_o \mid \theta) = c_{\hat R}(u) \prod_{j=1}^k \hat g_j(s_{o,j}), \qquad u_j = \hat G_j(s_{o,j}), \\
    \log c_R(u) = -\tfrac12 \log\det R - \tfrac12 \eta^\top (R^{-1} - I) \eta, \qquad \eta_j = \Phi^{-1}(u_j)

with Gaussian kernel estimates :math:`\hat g_j, \hat G_j` of m simulations, of the bandwidth
:math:`0.9 \min(\hat\sigma_j, \text{IQR}_j / 1.34)\, m^{-1/5}` (Silverman), and the correlation of normal scores of
ranks r (Boudt et al., 2012),

.. math:: \hat R_{ij} = \frac{\sum_l \Phi^{-1}\left(\frac{r(s_{l,i})}{m+1}\right)
    \Phi^{-1}\left(\frac{r(s_{l,j})}{m+1}\right)}{\sum_{l=1}^m \Phi^{-1}\left(\frac{l}{m+1}\right)^2}.

A kernel estimate widens each marginal by its bandwidth, and has thin tails: an observation far from every simulation is
judged by the nearest ones.

References:
    | Robust Bayesian synthetic likelihood via a semi-parametric approach (An, Nott & Drovandi, 2020)
    | https://arxiv.org/abs/1809.05800
    | The Gaussian rank correlation estimator (Boudt, Cornelissen & Croux, 2012)
    | https://doi.org/10.1007/s11222-011-9237-0
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from implicit_infer.abc.synthetic.base import LikelihoodEstimate
from implicit_infer.abc.synthetic.covariance import Sample, Shrinkage, standardised
from implicit_infer.abc.synthetic.normal import _quadratic

FAR = -650.0
"""Log probability below which its quantile is taken from the tail's expansion."""


@dataclass(frozen=True)
class SemiParametricEstimate(LikelihoodEstimate):
    """Kernel densities of each summary and a Gaussian copula by rank correlation.

    Args:
        shrinkage: What is made of the rank correlations.
    """

    shrinkage: Shrinkage = field(default_factory=Sample)

    def least(self, summaries: int) -> int:
        """One more than the correlation needs to be of full rank, and no fewer than 10 for the kernel densities."""
        return max(10, summaries + 2)

    def _estimate(self, summaries: Tensor, observed: Tensor) -> Tensor:
        z, valid, mean, scale = standardised(summaries)
        at = (observed - mean) / scale
        log_density, eta = _marginals(z, valid, at)
        scores = _normal_scores(z, valid)
        # scaled so that the shrinkage's divisor, m - 1, gives the rank correlation
        count = (valid.sum(1) - 1).clamp_min(1)[:, None, None]
        scores = scores * (count / scores.square().sum(1, keepdim=True).clamp_min(1e-300)).sqrt()
        square, log_det = _quadratic(self.shrinkage(scores, valid), eta)
        return (log_density - scale.log()).sum(1) - 0.5 * (log_det + square - eta.square().sum(1))


def _marginals(z: Tensor, valid: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
    """Log kernel densities and normal quantiles of their distribution functions, at (n, k); both of shape (n, k)."""
    count = valid.sum(1).to(z.dtype)[:, None]
    missing = torch.where(valid[..., None], z, torch.nan)
    quartiles = torch.nanquantile(missing, torch.tensor([0.25, 0.75], dtype=z.dtype, device=z.device), dim=1)
    robust = (quartiles[1] - quartiles[0]) / 1.34
    # standardised: the standard deviation is one; a summary with many ties may have quartiles that coincide
    spread = torch.where(robust > 0, robust.clamp_max(1.0), torch.ones_like(robust))
    bandwidth = 0.9 * spread * count.pow(-0.2)
    t = (at[:, None] - z) / bandwidth[:, None]
    outside = torch.where(valid, 0.0, -torch.inf)[..., None]
    kernel = -0.5 * t.square() - 0.5 * math.log(2 * math.pi) + outside
    log_density = kernel.logsumexp(1) - count.log() - bandwidth.log()
    below = (torch.special.log_ndtr(t) + outside).logsumexp(1) - count.log()
    above = (torch.special.log_ndtr(-t) + outside).logsumexp(1) - count.log()
    return log_density, torch.where(below < above, _quantile(below), -_quantile(above))


def _quantile(log_probability: Tensor) -> Tensor:
    """Normal quantile of a probability of at most one half that is given by its logarithm, however small."""
    near = torch.special.ndtri(log_probability.clamp_min(FAR).exp())
    square = -2 * log_probability.clamp_max(FAR)
    far = -(square - math.log(2 * math.pi) - (square - square.log()).log()).sqrt()
    return torch.where(log_probability > FAR, near, far)


def _normal_scores(z: Tensor, valid: Tensor) -> Tensor:
    """Normal quantiles of ranks over the number of valid rows and one, zero where not valid; ties share their rank."""
    missing = torch.where(valid[..., None], z, torch.inf).transpose(1, 2).contiguous()
    order = missing.sort(dim=2).values
    first = torch.searchsorted(order, missing, right=False)
    last = torch.searchsorted(order, missing, right=True)
    rank = 0.5 * (first + 1 + last)
    scores = torch.special.ndtri((rank / (valid.sum(1) + 1)[:, None, None]).clamp(1e-9, 1 - 1e-9)).transpose(1, 2)
    return torch.where(valid[..., None], scores, 0.0)
