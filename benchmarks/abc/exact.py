"""Exact posterior moments where the likelihood is known: adaptive importance sampling by a t law."""

from __future__ import annotations

import torch
from torch import Tensor

from implicit_infer.abc.space import UnconstrainedPrior
from implicit_simulators import Simulator

ROUNDS, POINTS, FREEDOM = 8, 1_000, 5.0


def moments(simulator: Simulator, x: Tensor, start: Tensor, seed: int) -> tuple[Tensor, Tensor, float]:
    """Mean and standard deviation of theta given x, both with shape (d,), and the effective sample size behind them.

    Args:
        simulator: One with ``log_likelihood(theta, x)``.
        x: The observation.
        start: Where to look first, with shape (d,).
        seed: Seed of the draws.

    Returns:
        Mean, standard deviation, and effective sample size of the last round.
    """
    prior = UnconstrainedPrior(simulator)
    random = torch.Generator().manual_seed(seed)
    centre = prior.to(start[None])[0]
    factor = 0.3 * torch.eye(len(start), dtype=torch.float64)
    for _ in range(ROUNDS):
        normal = torch.randn((POINTS, len(start)), generator=random, dtype=torch.float64)
        heavy = (
            torch.randn((POINTS, int(FREEDOM)), generator=random, dtype=torch.float64).square().mean(1, keepdim=True)
        )
        white = normal / heavy.sqrt()
        phi = centre + white @ factor.T
        proposal = -0.5 * (FREEDOM + len(start)) * (white.square().sum(1) / FREEDOM).log1p()
        theta = prior.back(phi)
        value = prior.log_prob(phi) + simulator.log_likelihood(theta, x).double()  # type: ignore[attr-defined]  # the two problems have it
        log_weight = (value - proposal).nan_to_num(nan=-torch.inf)
        # as much of the target as leaves some points their say: all of it in the end
        power = 1.0
        while power > 1e-4 and _worth(power * log_weight) < 50:
            power *= 0.7
        weight = (power * log_weight).softmax(0)
        centre = weight @ phi
        spread = ((phi - centre) * weight[:, None]).T @ (phi - centre)
        factor = torch.linalg.cholesky(1.2 * spread + 1e-10 * torch.eye(len(start), dtype=torch.float64))
    weight = log_weight.softmax(0)
    mean = weight @ theta.double()
    sd = (weight @ (theta.double() - mean).square()).sqrt()
    return mean, sd, _worth(log_weight)


def _worth(log_weight: Tensor) -> float:
    return float(1 / log_weight.softmax(0).square().sum())
