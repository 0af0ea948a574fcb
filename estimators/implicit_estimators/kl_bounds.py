r"""KL(p || q) from samples by a critic T, which need not be good: bounds and near-bounds, each with its standard error.

All hold for any T (an estimated log-ratio, above all) in expectation over fresh samples, and are tight at
:math:`T = \log r`; those of Donsker and Varadhan and SMILE also at any T that differs from it by a constant:

.. math::
    \text{nwj} &= \mathbb{E}_p[T] - \mathbb{E}_q[e^T] + 1 \\
    \text{donsker-varadhan} &= \mathbb{E}_p[T] - \log \mathbb{E}_q[e^T] \ge \text{nwj} \\
    \text{smile} &= \mathbb{E}_p[T] - \log \mathbb{E}_q[\operatorname{clip}(e^T, e^{-\tau}, e^\tau)]

Nguyen, Wainwright and Jordan write T + 1 for T. At T = log r the variance of the first two grows like :math:`e^{KL}`,
and the logarithm of a sample mean is too small on average, so that Donsker and Varadhan's *estimate* errs upwards;
SMILE's variance stays bounded, and it is a bound no longer. Where p and q lie far apart, a bound from m samples of q is
rarely larger than about log m, whatever the truth.

References:
    | Estimating Divergence Functionals and the Likelihood Ratio by Convex Risk Minimization (Nguyen et al., 2010)
    | https://arxiv.org/abs/0809.0853
    | Mutual Information Neural Estimation (Belghazi et al., 2018)
    | https://arxiv.org/abs/1801.04062
    | Understanding the Limitations of Variational Mutual Information Estimators (Song and Ermon, 2020)
    | https://arxiv.org/abs/1910.06222
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from implicit_estimators.estimate import Estimate

KL_BOUNDS = ("nwj", "donsker-varadhan", "smile")
"""Names that :func:`kl_bound` knows."""


def kl_bound(name: str, critic_p: Tensor, critic_q: Tensor, *, tau: float = 5.0) -> Estimate:
    r"""The bound called ``name`` on :math:`KL(p \| q)`, in nats.

    Args:
        name: A name in ``KL_BOUNDS``.
        critic_p: Values of T (log-ratios, say) at fresh samples of p, with shape (n,).
        critic_q: The same at samples of q, with shape (m,).
        tau: Where SMILE clips.

    Returns:
        A float with ``standard_error`` (by the delta method, which is too small where :math:`e^T` has heavy tails).
        Minus infinity where :math:`e^T` leaves the range of float64, for "nwj" alone.

    Raises:
        ValueError: If there is no such bound, a set is empty or ``tau`` is not positive.

    Example:
        >>> kl_bound("donsker-varadhan", torch.tensor([1.0, 3.0]), torch.zeros(5))
        2 ± 1
    """
    if name not in KL_BOUNDS:
        raise ValueError(f"name: expected one of {', '.join(KL_BOUNDS)}; got {name!r}")
    if not tau > 0:
        raise ValueError(f"tau: expected a positive number; got {tau}")
    for side, values in (("p", critic_p), ("q", critic_q)):
        if values.numel() == 0:
            raise ValueError(f"critic_{side}: expected values of at least one sample; got shape {tuple(values.shape)}")
    at_p, at_q = critic_p.detach().double().flatten(), critic_q.detach().double().flatten()
    if name == "smile":
        at_q = at_q.clamp(-tau, tau)
    first = Estimate.mean(at_p)
    log_mean = at_q.logsumexp(0) - math.log(len(at_q))
    relative = Estimate.mean((at_q - log_mean).exp()).standard_error  # of the mean of exp T, as a share of it
    if name == "nwj":
        mean = float(torch.exp(log_mean))
        return Estimate(first - mean + 1, math.hypot(first.standard_error, mean * relative))
    return Estimate(first - float(log_mean), math.hypot(first.standard_error, relative))
