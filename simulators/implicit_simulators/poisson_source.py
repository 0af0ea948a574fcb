r"""A Poisson source: the smallest simulator with discrete data, whose posterior is known.

.. math:: x_i \mid \lambda \sim \mathrm{Poisson}(\lambda), \quad i = 1, \ldots, n

Counts have no derivative in :math:`\lambda`, which is why adversarial variational optimization began with them. A gamma
prior is conjugate:

.. math:: \lambda \sim \Gamma(s, r) \quad\Rightarrow\quad
    \lambda \mid x \sim \Gamma\left(s + \textstyle\sum_i x_i,\ r + n\right).

References:
    | Adversarial variational optimization of non-differentiable simulators, section 4 (Louppe, Hermans & Cranmer, 2019)
    | https://arxiv.org/abs/1707.07113
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Gamma, Independent

from implicit_simulators.base import Simulator
from implicit_simulators.streams import Stream


class PoissonSource(Simulator):
    r"""Independent counts from a source of unknown strength.

    The parameter is the mean count :math:`\lambda`, with a gamma prior (mean 10 and standard deviation 7 by default).
    Simulations have shape (events,). Rows of theta with a negative mean are NaN.

    Args:
        events: Counts in one simulation, n. As published one theta gives one count, and a data set is a sample of them.
        prior_shape: Shape s of the prior.
        prior_rate: Rate r of the prior.

    Raises:
        ValueError: If a number is not positive.
    """

    name = "poisson-source"
    parameter_names = ("mean",)
    reference_theta = (7.0,)

    def __init__(self, events: int = 1, prior_shape: float = 2.0, prior_rate: float = 0.2) -> None:
        if not (events == int(events) and events > 0):
            raise ValueError(f"events: expected a positive int; got {events}")
        for argument, value in (("prior_shape", prior_shape), ("prior_rate", prior_rate)):
            if not 0 < value < math.inf:
                raise ValueError(f"{argument}: expected a positive number; got {value}")
        self.events, self.prior_shape, self.prior_rate = int(events), float(prior_shape), float(prior_rate)
        self.event_shape = torch.Size([self.events])
        self.prior = _gamma(self.prior_shape, self.prior_rate)

    def _simulate(self, theta: Tensor, stream: Stream) -> Tensor:
        from implicit_simulators.engines.counts import fill_poisson

        means = np.repeat(theta.detach().cpu().double().numpy(), self.events, axis=1)
        counts = np.empty(means.shape)
        fill_poisson(means, stream.key & 0xFFFFFFFF, stream.key >> 32, 0, counts)
        return torch.as_tensor(counts, dtype=theta.dtype).to(theta.device)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        r"""Log P(x | theta) for theta with shape (n, 1) and x with shape (events,) or (n, events); result (n,).

        .. math:: \log P(x \mid \lambda) = \sum_i x_i \log\lambda - \lambda - \log x_i!
        """
        theta = self.check_theta(theta)
        x = x.to(theta)
        return (torch.xlogy(x, theta) - theta - torch.lgamma(x + 1)).sum(1)

    def posterior(self, x: Any) -> Distribution:
        """The exact posterior, a gamma distribution over vectors of length 1.

        Raises:
            ValueError: If ``x`` has another shape, is not finite, or holds a negative count.
        """
        x = self.check_observation(x)
        if (x < 0).any():
            raise ValueError(f"observed: expected counts; the least is {float(x.min()):g}")
        return _gamma(self.prior_shape + float(x.sum()), self.prior_rate + self.events)

    def summarize(self, x: Tensor) -> Tensor:
        """The mean count, which is sufficient, with shape (n, 1)."""
        return x.reshape(len(x), -1).mean(1, keepdim=True)

    def settings(self) -> dict[str, Any]:
        """Events and the prior."""
        return {"events": self.events, "prior_shape": self.prior_shape, "prior_rate": self.prior_rate}


def _gamma(shape: float, rate: float) -> Distribution:
    return Independent(Gamma(torch.tensor([shape]), torch.tensor([rate])), 1)
