r"""Bridges of fitted normal densities, so that they and a telescoping ratio can be judged on the same waymarks.

If p and q are normal, so is every waymark :math:`x_k = \alpha_k x_p + \beta_k x_q`, with

.. math:: m_k = \alpha_k m_p + \beta_k m_q, \qquad \Sigma_k = \alpha_k^2 \Sigma_p + \beta_k^2 \Sigma_q

and a pair of fitted normal densities says what the log-ratio of neighbouring waymarks is. The log loss of telling
neighbours apart is a proper score however far p and q are from each other.

References:
    | Telescoping Density-Ratio Estimation (Rhodes, Xu and Gutmann, 2020), for the waymarks
    | https://arxiv.org/abs/2006.12204
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from implicit_estimators.divergences import softplus
from implicit_estimators.estimate import Estimate
from implicit_estimators.ratio.bridges.telescoping import TelescopingRatio
from implicit_estimators.ratio.densities.gaussian import TwoNormals
from implicit_estimators.ratio.densities.normal import Normal

LogRatio = Callable[[int, Tensor], Tensor]
"""``log_ratio(k, x)``: log p_k(x) / p_{k+1}(x) at points of shape (n, d), with shape (n,)."""


def can_judge(telescoping: TelescopingRatio) -> bool:
    """Whether its waymarks are mixtures of whole rows in the units of the samples, as the formula above has it."""
    weights = torch.cat([telescoping.waymarks.weights_p, telescoping.waymarks.weights_q])
    return not telescoping.robust and bool((weights == weights[:, :1]).all())


def normal_bridges(normals: TwoNormals, telescoping: TelescopingRatio) -> LogRatio:
    """The bridges between the waymarks of ``telescoping`` if p and q are the fitted ``normals``."""
    marks = telescoping.waymarks
    shares = torch.stack([marks.weights_p[:, 0], marks.weights_q[:, 0]], 1).cpu().double().tolist()
    origin = normals.coordinates(telescoping._standardiser.get_buffer("location")[None])[0]
    laws = [_waymark(normals, alpha, beta, origin) for alpha, beta in shares]

    def log_ratio(k: int, x: Tensor) -> Tensor:
        u = normals.coordinates(x)
        return laws[k].log_density(u) - laws[k + 1].log_density(u)

    return log_ratio


def _waymark(normals: TwoNormals, alpha: float, beta: float, origin: Tensor) -> Normal:
    """The law of a waymark; samples are mixed as distances from ``origin``."""
    if beta == 0 or alpha == 0:
        return normals.p if beta == 0 else normals.q
    mean = alpha * normals.p.mean + beta * normals.q.mean + (1 - alpha - beta) * origin
    covariance = alpha**2 * _covariance(normals.p) + beta**2 * _covariance(normals.q)
    root = torch.linalg.cholesky(covariance)
    identity = torch.eye(len(root), dtype=root.dtype, device=root.device)
    factor = torch.linalg.solve_triangular(root, identity, upper=False).T
    return Normal(mean, factor, -root.diagonal().log().sum(), torch.zeros_like(root[0, 0]))


def _covariance(normal: Normal) -> Tensor:
    inverse = torch.linalg.inv(normal.factor)
    return inverse.T @ inverse


def paired_excess(telescoping: TelescopingRatio, log_ratio: LogRatio) -> Estimate:
    r"""How much worse other bridges are than those of ``telescoping``, in nats.

    .. math:: \sum_k \tfrac12 \log(1 + e^{-f_k(x_k)}) + \tfrac12 \log(1 + e^{f_k(x_{k+1})})

    for each held-out pair of samples and its waymarks, less the same sum by ``telescoping``; the error is that of the
    mean over pairs.

    Args:
        telescoping: Whose held-out rows, waymarks and bridges are taken.
        log_ratio: The other bridges, which must not have learned from those rows either.
    """
    marks = telescoping.held_out_waymarks()
    own = torch.stack([telescoping.log_ratios(mark).double().cpu() for mark in marks])
    total = torch.zeros(marks.shape[1], dtype=torch.float64)
    for k in range(len(marks) - 1):
        here, there = (log_ratio(k, mark).double().cpu() for mark in (marks[k], marks[k + 1]))
        total += softplus(-here) + softplus(there) - softplus(-own[k, :, k]) - softplus(own[k + 1, :, k])
    return Estimate.mean(0.5 * total)
