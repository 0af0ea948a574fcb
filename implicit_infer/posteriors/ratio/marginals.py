r"""Marginal posteriors by ratio: one network for each parameter or pair of parameters, all trained in one program.

.. math:: h_J(\theta_J, x) \approx \log \frac{p(\theta_J \mid x)}{p(\theta_J)}, \quad J \subset \{1, \dots, d\}

The parameters that are not in J are integrated out by the simulations themselves, whatever their number. Members of one
:class:`~implicit_estimators.networks.ratio_network.RatioNetwork` see other columns of theta, and nothing else differs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from implicit_estimators.networks.ratio_network import RatioNetwork
from implicit_simulators import Seed, Stream


@dataclass(frozen=True)
class Marginal:
    """The posterior of one or two parameters: weighted draws of their prior.

    Attributes:
        names: The parameters.
        draws: Draws of their prior, with shape (m, k).
        weights: The ratios there, which sum to 1, with shape (m,).
    """

    names: tuple[str, ...]
    draws: Tensor
    weights: Tensor

    @property
    def mean(self) -> Tensor:
        """The posterior means, with shape (k,)."""
        return self.weights @ self.draws

    @property
    def std(self) -> Tensor:
        """The posterior standard deviations, with shape (k,)."""
        return (self.weights @ (self.draws - self.mean).square()).sqrt()

    @property
    def effective(self) -> float:
        """Effective number of the draws."""
        return float(1 / self.weights.square().sum())

    def sample(self, n: int, seed: Seed = None) -> Tensor:
        """N draws of these parameters, resampled by their weights, with shape (n, k)."""
        generator = Stream.of(seed, role="sample").torch()
        return self.draws[torch.multinomial(self.weights, n, replacement=True, generator=generator)]

    def histogram(self, bins: int = 40) -> tuple[Tensor, list[Tensor]]:
        """The posterior density in cells of equal width.

        Args:
            bins: Cells of each parameter, between its least and its largest draw.

        Returns:
            Densities with shape (bins,) or (bins, bins), which integrate to 1, and the edges of each parameter's cells.

        Raises:
            ValueError: If ``bins`` is not positive.
        """
        if bins < 1:
            raise ValueError(f"bins: expected a positive int; got {bins}")
        ranges = [bound for column in self.draws.double().T for bound in (float(column.min()), float(column.max()))]
        found = torch.histogramdd(
            self.draws.double(), [bins] * len(self.names), range=ranges, weight=self.weights.double(), density=True
        )
        return found.hist.float(), [edges.float() for edges in found.bin_edges]


def columns_of(z: Tensor, subsets: Sequence[tuple[int, ...]]) -> Tensor:
    """What each member sees of z with shape (n, d): its own columns, with shape (K, n, k)."""
    return torch.stack([z[:, list(subset)] for subset in subsets])


@torch.no_grad()
def log_ratios(network: RatioNetwork, z: Tensor, s: Tensor, subsets: Sequence[tuple[int, ...]]) -> Tensor:
    """Each member's log-ratio of rows of z (n, d) at one s (k,), with shape (K, n)."""
    return network(columns_of(z, subsets)[:, None], s[None])[:, 0]


def truncate(draws: Tensor, log_ratio: Tensor, low: Tensor, high: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    r"""The hull of where a one-dimensional marginal has mass worth keeping.

    .. math:: \{ \theta_j : r_j(\theta_j, x) \ge \epsilon \max_{\theta_j} r_j(\theta_j, x) \}

    Each end is moved out to the next draw where the ratio is too small, so that the box errs on the wide side.

    Args:
        draws: Draws of the parameters' prior within the old bounds, with shape (m, d).
        log_ratio: The marginal log-ratios there, with shape (d, m).
        low: The old lower bounds, with shape (d,).
        high: The old upper bounds.
        epsilon: The share of the largest ratio from which on a parameter is kept.

    Returns:
        The new bounds, within the old ones.
    """
    lower, upper = low.clone(), high.clone()
    for j, column in enumerate(draws.T):
        order = column.argsort()
        place, value = column[order], log_ratio[j][order]
        kept = (value >= value.max() + torch.tensor(epsilon).log()).nonzero()[:, 0]
        first, last = int(kept[0]), int(kept[-1])
        if first > 0:
            lower[j] = place[first - 1]
        if last < len(place) - 1:
            upper[j] = place[last + 1]
    return lower, upper
