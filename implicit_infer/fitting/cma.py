r"""The evolution strategy with an adapted covariance (CMA-ES): minimises what can only be evaluated, from ranks alone.

Points of a generation are drawn from :math:`N(m, \sigma^2 C)`. The :math:`\mu` best pull the mean towards them; the
paths of past steps tell how long the next one should be (:math:`p_\sigma`) and in which direction steps repeat
themselves (:math:`p_c`), and C learns from those directions and from the spread of the best points, and unlearns that
of the worst. Only the order of the values counts, so that any increasing function of the objective is searched alike;
and nothing depends on the coordinates but the start, so that a rotated problem is searched as the problem itself.

References:
    | The CMA Evolution Strategy: A Tutorial (Hansen, 2016)
    | https://arxiv.org/abs/1604.00772
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class EvolutionStrategy:
    r"""CMA-ES as in figure 6 of the tutorial, with its default parameters (table 1) and negative weights.

    It draws nothing itself: :meth:`ask` is given standard normal noise. Steps are :math:`y = C^{1/2} z` with the
    symmetric root (the tutorial writes :math:`B D z`, which has the same law), so that rotated noise gives rotated
    steps.

    Args:
        mean: Where the search begins, with shape (d,).
        sigma: The first step size, positive: the standard deviation of the first points in every direction.
        population: Points of a generation; :math:`4 + \lfloor 3 \ln d \rfloor` if None.

    Raises:
        ValueError: If ``sigma`` is not positive, or ``population`` is below 4.

    Attributes:
        mean: m, with shape (d,), float64.
        sigma: The step size.
        covariance: C, with shape (d, d).
        generation: Generations so far.

    Example:
        >>> random = torch.Generator().manual_seed(0)
        >>> search = EvolutionStrategy(torch.ones(2), 0.5)
        >>> for _ in range(60):
        ...     points = search.ask(torch.randn(search.population, 2, generator=random, dtype=torch.float64))
        ...     search.tell(points.square().sum(1))
        >>> bool(search.mean.norm() < 1e-3)
        True
    """

    def __init__(self, mean: Tensor, sigma: float, population: int | None = None) -> None:
        d = len(mean)
        if not sigma > 0:
            raise ValueError(f"sigma: expected a positive number; got {sigma}")
        self.population = 4 + int(3 * math.log(d)) if population is None else population
        if self.population < 4:
            raise ValueError(f"population: expected an int of at least 4; got {population}")
        self.mean, self.sigma = mean.detach().double().clone(), float(sigma)
        self.covariance = torch.eye(d, dtype=torch.float64)
        self.path_sigma, self.path_c = torch.zeros(2, d, dtype=torch.float64)
        self.generation = 0
        self._choose_rates(d)
        self._take_roots()

    def _choose_rates(self, d: int) -> None:
        """Equations 49 to 58."""
        raw = math.log((self.population + 1) / 2) - torch.arange(1, self.population + 1, dtype=torch.float64).log()
        best = self.population // 2
        # sums of the positive and of the negative weights, and how many points each is worth
        mu = float(raw[:best].sum() ** 2 / raw[:best].square().sum())
        mu_negative = float(raw[best:].sum() ** 2 / raw[best:].square().sum())
        self.mu = mu
        self.c_sigma = (mu + 2) / (d + mu + 5)
        self.damping = 1 + 2 * max(0.0, math.sqrt((mu - 1) / (d + 1)) - 1) + self.c_sigma
        self.c_c = (4 + mu / d) / (d + 4 + 2 * mu / d)
        self.c_1 = 2 / ((d + 1.3) ** 2 + mu)
        self.c_mu = min(1 - self.c_1, 2 * (0.25 + mu + 1 / mu - 2) / ((d + 2) ** 2 + mu))
        negative = min(
            1 + self.c_1 / self.c_mu,
            1 + 2 * mu_negative / (mu_negative + 2),
            (1 - self.c_1 - self.c_mu) / (d * self.c_mu),
        )
        positive_sum, negative_sum = raw[raw > 0].sum(), -raw[raw < 0].sum()
        self.weights = torch.where(raw >= 0, raw / positive_sum, negative * raw / negative_sum)
        self.expected_norm = math.sqrt(d) * (1 - 1 / (4 * d) + 1 / (21 * d**2))

    def _take_roots(self) -> None:
        values, vectors = torch.linalg.eigh(self.covariance)
        # rounding may leave a direction that was forgotten at a negative variance
        values = values.clamp_min(1e-14 * float(values.max()))
        self.root = (vectors * values.sqrt()) @ vectors.T
        self.inverse_root = (vectors / values.sqrt()) @ vectors.T

    @property
    def spread(self) -> Tensor:
        """Standard deviation of the next points in each coordinate, with shape (d,)."""
        return self.sigma * self.covariance.diagonal().sqrt()

    def ask(self, noise: Tensor) -> Tensor:
        """The points to evaluate next.

        Args:
            noise: Standard normal, with shape (population, d).

        Returns:
            Points with shape (population, d), float64.

        Raises:
            ValueError: If the noise has another shape.
        """
        if noise.shape != (self.population, len(self.mean)):
            expected = f"({self.population}, {len(self.mean)})"
            raise ValueError(f"noise: expected shape {expected}; got {tuple(noise.shape)}")
        self.steps = noise.double() @ self.root
        return self.mean + self.sigma * self.steps

    def tell(self, values: Tensor) -> None:
        """Learn from the values of the points that were asked for last.

        Args:
            values: With shape (population,); what is NaN ranks last.

        Raises:
            ValueError: If there are more or fewer values than points.
        """
        if values.shape != (self.population,):
            raise ValueError(f"values: expected shape ({self.population},); got {tuple(values.shape)}")
        d = len(self.mean)
        self.generation += 1
        order = torch.nan_to_num(values.double(), nan=math.inf, posinf=math.inf).argsort(stable=True)
        steps = self.steps[order]
        positive = self.weights.clamp_min(0)
        step = positive @ steps
        self.mean = self.mean + self.sigma * step
        whitened = self.inverse_root @ step
        c = self.c_sigma
        self.path_sigma = (1 - c) * self.path_sigma + math.sqrt(c * (2 - c) * self.mu) * whitened
        length = float(self.path_sigma.norm())
        settled = math.sqrt(1 - (1 - c) ** (2 * self.generation))
        going = length / settled < (1.4 + 2 / (d + 1)) * self.expected_norm
        c = self.c_c
        self.path_c = (1 - c) * self.path_c + going * math.sqrt(c * (2 - c) * self.mu) * step
        # a bad step counts for its direction, not for its length
        lengths = (steps @ self.inverse_root).square().sum(1)
        weights = torch.where(self.weights >= 0, self.weights, self.weights * d / lengths.clamp_min(1e-300))
        kept = 1 - self.c_1 * (going + (1 - going) * (1 - c * (2 - c))) - self.c_mu * float(self.weights.sum())
        self.covariance = (
            kept * self.covariance
            + self.c_1 * torch.outer(self.path_c, self.path_c)
            + self.c_mu * (steps.T * weights) @ steps
        )
        self.covariance = 0.5 * (self.covariance + self.covariance.T)
        self.sigma *= math.exp(min(1.0, self.c_sigma / self.damping * (length / self.expected_norm - 1)))
        self._take_roots()
