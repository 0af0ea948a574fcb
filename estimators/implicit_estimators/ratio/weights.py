r"""Importance weights from log-ratios, and Pareto smoothing for the few that would outweigh all others.

Means over p from samples of q: :math:`\mathbb{E}_p[h] \approx \frac1n \sum_i w_i h(x_i)`, with weights
:math:`w_i \propto r(x_i)` that are scaled to mean 1, so that a factor on r does not matter.

References:
    | Improving predictive inference under covariate shift by weighting the log-likelihood function (Shimodaira, 2000)
    | https://doi.org/10.1016/S0378-3758(00)00115-4
    | Pareto Smoothed Importance Sampling (Vehtari, Simpson, Gelman, Yao and Gabry, 2024)
    | https://arxiv.org/abs/1507.02646
    | A New and Efficient Estimation Method for the Generalized Pareto Distribution (Zhang and Stephens, 2009)
    | https://doi.org/10.1198/tech.2009.08017
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def importance_weights(log_ratio: Tensor, smooth: bool = False) -> Tensor:
    r"""Weights with mean 1, proportional to r.

    Args:
        log_ratio: log r at samples of q, with shape (n,).
        smooth: Replace the largest weights by the quantiles of a generalised Pareto distribution fitted to them
            (never above the largest), which trades a little bias for a lot of variance.

    Returns:
        Weights in float64, with shape (n,).

    Raises:
        ValueError: If there are no samples.

    Example:
        >>> importance_weights(torch.tensor([0.0, 0.0]))
        tensor([1., 1.], dtype=torch.float64)
    """
    if log_ratio.numel() == 0:
        raise ValueError(f"log_ratio: expected log-ratios of at least one sample; got shape {tuple(log_ratio.shape)}")
    log_weights = log_ratio.double() - log_ratio.double().max()
    if smooth:
        log_weights, _ = pareto_smoothed(log_weights)
    return (log_weights - log_weights.logsumexp(0) + math.log(len(log_weights))).exp()


def pareto_smoothed(log_weights: Tensor) -> tuple[Tensor, float]:
    r"""Log-weights whose largest :math:`\min(n / 5, 3 \sqrt n)` are Pareto smoothed, and the shape k of their tail.

    Args:
        log_weights: Logarithms of weights, up to a constant, with shape (n,).

    Returns:
        Smoothed log-weights of the same order with shape (n,), and k: means are to be relied on below about 0.7. With
        fewer than 25 samples (5 in the tail), or a tail of one value, the log-weights as they were and infinity.
    """
    n = len(log_weights)
    tail = min(n // 5, math.ceil(3 * math.sqrt(n)))
    if tail < 5:
        return log_weights, math.inf
    largest = log_weights.max()
    values, order = (log_weights - largest).sort()
    cut = float(values[-tail - 1].exp())
    excess = values[-tail:].exp() - cut
    if not float(excess[0]) > 0 and not float(excess[-1]) > 0:
        return log_weights, math.inf
    shape, scale = fit_pareto(excess.clamp(min=torch.finfo(torch.float64).tiny))
    if not (math.isfinite(shape) and scale > 0):
        return log_weights, math.inf
    places = (torch.arange(tail, dtype=torch.float64) + 0.5) / tail
    quantiles = -torch.log1p(-places) if abs(shape) < 1e-12 else torch.expm1(-shape * torch.log1p(-places)) / shape
    smoothed = (cut + scale * quantiles).clamp(max=1.0).log()
    values = torch.cat([values[:-tail], smoothed.to(values.device)])
    return torch.empty_like(values).scatter_(0, order, values) + largest, shape


def fit_pareto(excess: Tensor) -> tuple[float, float]:
    r"""Shape k and scale :math:`\sigma` of a generalised Pareto distribution, by Zhang and Stephens' posterior mean.

    .. math:: P(X > x) = (1 + k x / \sigma)^{-1 / k}

    The shape is drawn to 1/2 with the weight of ten observations, as Vehtari et al. (2024) do. (Zhang and Stephens
    write k for minus our k.)

    Args:
        excess: Positive values in increasing order, in float64, with shape (n,).

    Returns:
        k and the scale.
    """
    n = len(excess)
    candidates = 30 + math.isqrt(n)
    quartile = excess[max(0, round(n / 4 + 0.5) - 1)]
    steps = torch.arange(1, candidates + 1, dtype=torch.float64, device=excess.device)
    theta = 1 / excess[-1] + (1 - (candidates / (steps - 0.5)).sqrt()) / (3 * quartile)
    shapes = torch.log1p(-theta[:, None] * excess).mean(1)
    profile = n * ((-theta / shapes).log() - shapes - 1)
    mean = float((profile.softmax(0) * theta).sum())
    shape = float(torch.log1p(-mean * excess).mean())
    scale = -shape / mean if mean else float(excess.mean())
    return (n * shape + 10 * 0.5) / (n + 10), scale
